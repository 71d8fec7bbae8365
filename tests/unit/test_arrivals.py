"""An instance that comes to a host: what waits for it, what begins, and who is told."""

from __future__ import annotations

from dataclasses import replace

import clouds

from trunkline.core.arrivals import arrivals
from trunkline.core.compile import compile_host
from trunkline.hoststate import HostState, Plug
from trunkline.operations import AnnouncePort
from trunkline.ownership import anycast_mac, tap_name
from trunkline.snapshot import HostSnapshot

TAP = tap_name(clouds.VM1.id)
TOLD = [AnnouncePort(TAP, clouds.VM1.mac, "vlan100")]


def compiled(snapshot: HostSnapshot) -> HostState:
    """Return what a host must be."""
    return compile_host(snapshot, clouds.CONFIG, clouds.FACTS)[0]


def with_taps(snapshot: HostSnapshot, *, plugged: bool) -> HostState:
    """Return a host that is as it must be, and has VM1's interface, plugged in or not."""
    state = compiled(snapshot)
    bridge = state.plugs[TAP].bridge if plugged else None
    return replace(state, plugs={TAP: Plug(TAP, bridge, 1500)})


def told(snapshot: HostSnapshot, actual: HostState) -> list[AnnouncePort]:
    """Return what is announced on the way from a host as it is to what it must be."""
    return list(arrivals(snapshot, compiled(snapshot), actual))


def test_one_that_waits_has_all_but_what_one_host_may_have() -> None:
    """Groups, anti-spoofing and its place on the bridge are there; DHCP and the way out are not."""
    here, waiting = compiled(clouds.ANYCAST), compiled(clouds.STANDBY)
    table, key = ("bridge", "trunkline"), f'"{TAP}" . {anycast_mac(clouds.NET100.id)}'

    assert waiting.plugs[TAP].bridge == here.plugs[TAP].bridge
    for name in ("macs", "addresses", "ports"):
        assert waiting.tables[table].sets[name] == here.tables[table].sets[name]
    for name in ("egress", "ingress"):
        sets = [s.tables["inet", "trunkline"].sets[name] for s in (here, waiting)]
        assert sets[0] == sets[1]
    assert key in waiting.tables[table].sets["standby"].elements
    assert not here.tables[table].sets["standby"].elements
    assert f"hosts/{clouds.VM1.id}" in here.dhcp["br100"].files
    assert f"hosts/{clouds.VM1.id}" not in waiting.dhcp["br100"].files


def test_who_is_announced() -> None:
    """An instance that is plugged in, or becomes active where it is plugged in; nobody else."""
    assert told(clouds.ANYCAST, with_taps(clouds.ANYCAST, plugged=False)) == TOLD
    assert told(clouds.ANYCAST, with_taps(clouds.STANDBY, plugged=True)) == TOLD
    assert told(clouds.ANYCAST, with_taps(clouds.ANYCAST, plugged=True)) == []
    assert told(clouds.STANDBY, with_taps(clouds.STANDBY, plugged=False)) == []
    assert told(clouds.STANDBY, with_taps(clouds.ANYCAST, plugged=True)) == []


def test_one_that_is_not_there_yet_is_announced_when_it_comes() -> None:
    """To become active without an interface tells nobody anything."""
    nothing_there = replace(compiled(clouds.STANDBY), plugs={})

    assert told(clouds.ANYCAST, nothing_there) == []
