"""Whatever a host was, it ends as its snapshot says; and then nothing is done again."""

from __future__ import annotations

import itertools
import random
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address

import clouds
import pytest

from trunkline.agent.reconcile import reconcile
from trunkline.core.compile import compile_host
from trunkline.core.diff import diff_host
from trunkline.hoststate import HostState
from trunkline.kernel.fake import FakeKernel
from trunkline.model import PortStatus
from trunkline.operations import AnnouncePort, ChangeLink, RemoveAddress, RunNft
from trunkline.ownership import tap_name
from trunkline.snapshot import HostSnapshot

PAIRS = list(itertools.permutations(clouds.STATES, 2))


def host(*ports: object) -> FakeKernel:
    """Return a host on which the interfaces of all named clouds' ports are there."""
    kernel = FakeKernel(uplink_address=IPv4Address("91.207.15.105"))
    for port in ports or clouds.INSTANCES:
        kernel.plug_in(tap_name(port.id))  # type: ignore[attr-defined]
    return kernel


def cycle(kernel: FakeKernel, snapshot: HostSnapshot) -> int:
    """Run one cycle and return how many operations it took."""
    return len(reconcile(kernel, clouds.CONFIG, snapshot, judge=False).operations)


def is_as(kernel: FakeKernel, snapshot: HostSnapshot) -> bool:
    """Return whether a host is exactly what a snapshot compiles to, taps of others aside."""
    desired, _ = compile_host(snapshot, clouds.CONFIG, kernel.facts(clouds.CONFIG))
    inner = {name: space.sysctls for name, space in desired.spaces.items()}
    actual = kernel.read(clouds.CONFIG, desired.sysctls, inner)
    plugged = {t: p for t, p in actual.plugs.items() if p.bridge is not None}
    wanted = {t: p for t, p in desired.plugs.items() if t in actual.plugs}
    return replace(actual, plugs={}) == replace(desired, plugs={}) and plugged == wanted


def test_every_change_between_named_clouds_arrives_and_settles() -> None:
    """For all pairs, in random order: the host becomes the state, the second run is empty."""
    kernel = host()
    order = random.Random(20).sample(PAIRS, len(PAIRS))
    for name in itertools.chain.from_iterable(order):
        cycle(kernel, clouds.STATES[name])

        assert is_as(kernel, clouds.STATES[name]), name
        assert cycle(kernel, clouds.STATES[name]) == 0, name


def test_an_empty_cloud_leaves_nothing() -> None:
    """After the last network is gone the host has nothing of ours."""
    kernel = host()
    cycle(kernel, clouds.ROUTERS)
    cycle(kernel, clouds.EMPTY)

    actual = kernel.read(clouds.CONFIG, ())
    assert replace(actual, plugs={}) == HostState()
    assert {plug.bridge for plug in actual.plugs.values()} == {None}


def length(before: HostSnapshot, after: HostSnapshot) -> int:
    """Return how many operations a change takes."""
    kernel = host()
    cycle(kernel, before)
    return cycle(kernel, after)


FAULTS = [
    (before, after, at, effect)
    for before, after in (
        ("empty", "article"),
        ("article", "empty"),
        ("article", "closed"),
        ("article", "other VLAN and MTU"),
        ("float moved", "one port"),
        ("empty", "routers"),
        ("routers", "empty"),
        ("article", "article on a router"),
        ("article on a router", "article"),
        ("router down", "one router"),
    )
    for at in range(length(clouds.STATES[before], clouds.STATES[after]))
    for effect in (False, True)
]


@pytest.mark.parametrize(("before", "after", "at", "effect"), FAULTS)
def test_a_fault_at_any_operation_heals_in_the_next_cycle(
    before: str, after: str, at: int, *, effect: bool
) -> None:
    """A refused operation, done or not, is reported once and made good in the next cycle."""
    kernel = host()
    cycle(kernel, clouds.STATES[before])
    kernel.fail_at(at, after_effect=effect)

    outcome = reconcile(kernel, clouds.CONFIG, clouds.STATES[after], judge=False)
    cycle(kernel, clouds.STATES[after])

    assert outcome.failures
    assert is_as(kernel, clouds.STATES[after])


class Killed(BaseException):
    """The agent's process ends here."""


class DyingKernel(FakeKernel):
    """A kernel under an agent that is killed before its n-th operation."""

    lives = -1

    def run(self, config: object, operation: object) -> None:
        """Run the operation, unless the agent is dead by now."""
        if self.lives == 0:
            raise Killed
        self.lives -= 1
        super().run(config, operation)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", range(length(clouds.EMPTY, clouds.ROUTERS)))
def test_an_agent_killed_anywhere_ends_in_the_same_place(at: int) -> None:
    """A new agent with an empty memory finishes what a dead one began, forth and back."""
    kernel = DyingKernel(uplink_address=IPv4Address("91.207.15.105"))
    for port in clouds.INSTANCES:
        kernel.plug_in(tap_name(port.id))
    for snapshot in (clouds.ROUTERS, clouds.EMPTY):
        kernel.lives = at
        with suppress(Killed):
            cycle(kernel, snapshot)

        kernel.lives = -1
        cycle(kernel, snapshot)

        assert is_as(kernel, snapshot)


def test_no_instance_is_on_a_bridge_without_its_rules() -> None:
    """If the rules cannot be set, nothing is plugged in, and the port is DOWN."""
    kernel = host(clouds.VM1)
    kernel.fail_at(0)

    outcome = reconcile(kernel, clouds.CONFIG, clouds.ONE_PORT, judge=False)

    assert isinstance(kernel_first_due(clouds.ONE_PORT), RunNft)
    assert outcome.ports == {clouds.VM1.id: PortStatus.DOWN}
    assert kernel.taps[tap_name(clouds.VM1.id)].bridge is None


def kernel_first_due(snapshot: HostSnapshot) -> object:
    """Return the first operation on an empty host."""
    kernel = host(clouds.VM1)
    cycle(kernel, snapshot)
    return kernel.operations[0]


def test_an_instance_is_unplugged_before_its_rules_go() -> None:
    """The operation before the rules change takes the leaving instance off its bridge."""
    kernel = host()
    cycle(kernel, clouds.ARTICLE)
    kernel.operations.clear()

    cycle(kernel, clouds.ONE_PORT)

    rules = next(i for i, o in enumerate(kernel.operations) if isinstance(o, RunNft))
    unplugged = {o.name for o in kernel.operations[:rules] if isinstance(o, ChangeLink)}
    assert unplugged == {tap_name(clouds.VM2.id), tap_name(clouds.VM3.id)}


def test_a_tap_is_wired_when_it_appears() -> None:
    """A port waits, DOWN, for its interface; it is plugged in and announced; then it is ACTIVE."""
    kernel = FakeKernel(uplink_address=IPv4Address("91.207.15.105"))
    before = reconcile(kernel, clouds.CONFIG, clouds.ONE_PORT, judge=False)
    kernel.plug_in(tap_name(clouds.VM1.id))
    after = reconcile(kernel, clouds.CONFIG, clouds.ONE_PORT, judge=False)

    assert before.ports == {clouds.VM1.id: PortStatus.DOWN}
    assert [type(o) for o in after.operations] == [ChangeLink, AnnouncePort]
    assert after.ports == {clouds.VM1.id: PortStatus.ACTIVE}


def crowd(size: int) -> HostSnapshot:
    """Return a host with many ports on one network."""
    base = IPv4Address("10.0.4.0")
    ports = tuple(
        clouds.port(number, 100, str(base + number), clouds.GROUP1) for number in range(size)
    )
    network = clouds.network(100, "10.0.0.0/20", "10.0.0.1", clouds.TENANT1)
    members = {(clouds.GROUP1, clouds.DOMAIN): tuple(p.fixed_ips[0].address for p in ports)}
    return replace(clouds.ONE_PORT, networks=(network,), ports=ports, members=members)


def cost_of_one_more(size: int) -> tuple[list[type], list[int]]:
    """Return the operations for one more port, and the elements of each line of rules."""
    kernel = FakeKernel(uplink_address=IPv4Address("91.207.15.105"))
    more = crowd(size + 1)
    for port in more.ports:
        kernel.plug_in(tap_name(port.id))
    cycle(kernel, crowd(size))
    kernel.operations.clear()
    cycle(kernel, more)
    rules = next(o for o in kernel.operations if isinstance(o, RunNft))
    return [type(o) for o in kernel.operations], [line.count(",") for line in rules.script]


def test_one_more_port_costs_the_same_on_a_crowded_host() -> None:
    """With 1,000 ports a port takes the operations and rule lines that it takes with 10."""
    few, many = cost_of_one_more(10), cost_of_one_more(1000)

    assert few == many
    assert len(few[0]) <= 4  # rules, DHCP, plug, announcement
    assert sum(few[1]) == 0  # one element a line


def test_a_floating_ip_is_withdrawn_before_its_translation() -> None:
    """In between, the host's own stack would reset connections of an instance that has moved."""
    with_it, _ = compile_host(clouds.ARTICLE, clouds.CONFIG, clouds.FACTS)
    without, _ = compile_host(replace(clouds.ARTICLE, floating_ips=()), clouds.CONFIG, clouds.FACTS)

    kinds = [type(operation) for operation in diff_host(without, with_it)]

    assert RemoveAddress in kinds
    assert kinds.index(RunNft) > max(n for n, k in enumerate(kinds) if k is RemoveAddress)
