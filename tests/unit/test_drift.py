"""What counts as drift: a change that neither the server nor a new interface asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

import clouds
import pytest

from trunkline.agent.drift import Readings
from trunkline.agent.reconcile import reconcile
from trunkline.kernel.fake import FakeKernel
from trunkline.ownership import tap_name
from trunkline.report import COMMANDS_MAX
from trunkline.snapshot import HostSnapshot

BRIDGE, TAP = "br100", tap_name(clouds.VM1.id)


@dataclass
class Host:
    """A host in its kernel, and what its cycles have noted."""

    snapshot: HostSnapshot = clouds.ONE_PORT
    kernel: FakeKernel = field(
        default_factory=lambda: FakeKernel(uplink_address=IPv4Address("91.207.15.105"))
    )
    readings: Readings = field(default_factory=Readings)
    cycles: int = 0

    def cycle(self) -> None:
        """Run one cycle; times count up."""
        self.cycles += 1
        outcome = reconcile(self.kernel, clouds.CONFIG, self.snapshot, judge=False)
        self.readings.note(self.snapshot, outcome, str(self.cycles), full=self.cycles % 2 == 1)


@pytest.fixture
def host() -> Host:
    """Return a host that is as it must be, with its instance plugged in."""
    found = Host()
    found.kernel.plug_in(TAP)
    found.cycle()
    found.cycle()
    assert found.readings.drift is None
    return found


CHANGES: dict[str, Callable[[FakeKernel], object]] = {
    "a bridge is gone": lambda kernel: kernel.bridges.pop(BRIDGE),
    "all rules are gone": lambda kernel: kernel.tables.clear(),
    "an address is gone": lambda kernel: kernel.addresses.clear(),
    "an instance is unplugged": lambda kernel: kernel.plug_in(TAP),
    "a DHCP server is gone": lambda kernel: kernel.dhcp.clear(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_somebody_changed_is_drift(host: Host, name: str) -> None:
    """It is told with the time, with what repaired it, and that it is repaired."""
    CHANGES[name](host.kernel)
    host.cycle()
    drift = host.readings.drift
    assert drift is not None
    assert (drift.at, drift.repaired) == ("3", True)
    assert drift.operations >= len(drift.commands) > 0
    host.cycle()
    assert host.readings.drift == drift


def test_what_cannot_be_repaired_lasts(host: Host) -> None:
    """It is told as lasting until a cycle leaves the host as it must be."""
    host.kernel.bridges.clear()
    host.kernel.fail_at(0)
    host.cycle()
    assert host.readings.drift is not None
    assert not host.readings.drift.repaired
    host.cycle()
    assert host.readings.drift.repaired
    assert host.readings.drift.at == "3"


def test_what_the_server_asked_for_is_none(host: Host) -> None:
    """Another snapshot makes the host another one; nobody has changed anything."""
    host.snapshot = replace(host.snapshot, networks=(), ports=(), groups=())
    host.cycle()
    assert not host.kernel.bridges
    assert host.readings.drift is None


def test_an_interface_that_comes_is_none(host: Host) -> None:
    """Instances stop and start: their interfaces go, come, and are plugged in."""
    host.kernel.plug_out(TAP)
    host.cycle()
    host.kernel.plug_in(TAP)
    host.cycle()
    assert host.kernel.taps[TAP].bridge == BRIDGE
    assert host.readings.drift is None


def test_what_was_wrong_before_is_none() -> None:
    """The first cycle cannot know who left the host as it is."""
    host = Host()
    host.cycle()
    assert host.kernel.operations
    assert host.readings.drift is None


def test_much_is_told_in_part(host: Host) -> None:
    """An emptied host is a long list: all is counted, the first commands are named."""
    kernel = host.kernel
    for things in (kernel.bridges, kernel.vlans, kernel.tables, kernel.dhcp, kernel.addresses):
        things.clear()
    host.cycle()
    drift = host.readings.drift
    assert drift is not None
    assert drift.operations >= 4
    assert len(drift.commands) == min(drift.operations, COMMANDS_MAX)


def test_a_full_reading_has_its_time(host: Host) -> None:
    """Cycles from memory are no full readings; without one there is nothing to report."""
    assert Readings().reading() is None
    reading = host.readings.reading()
    assert reading is not None
    assert reading.at == "1"
    host.cycle()
    reading = host.readings.reading()
    assert reading is not None
    assert reading.at == "3"
