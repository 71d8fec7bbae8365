"""One cycle: compile, read, diff, apply, read back. It remembers nothing of earlier cycles."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from trunkline.core.arrivals import arrivals
from trunkline.core.compile import compile_host
from trunkline.core.connections import unwanted
from trunkline.core.diff import diff_host, misplaced
from trunkline.core.gather import pieces
from trunkline.core.nat import routing_source
from trunkline.errors import KernelError
from trunkline.hoststate import HostConfig, HostFacts, HostState, Plug, Problem
from trunkline.joined import Joined, fan
from trunkline.kept import kept
from trunkline.kernel.interface import Kernel
from trunkline.model import PortId, PortStatus
from trunkline.operations import (
    AnnounceAddress,
    CreateCable,
    CutConnections,
    InSpace,
    Operation,
    RunNft,
)
from trunkline.ownership import TAP_ID, tap_name
from trunkline.snapshot import HostSnapshot, PortView

HERE = ""
"""The host itself, among the names of its spaces."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a host is, what it must be, and the way from one to the other."""

    facts: HostFacts
    desired: HostState
    actual: HostState
    operations: tuple[Operation, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one cycle did and what it left.

    Attributes:
        failures: One problem per operation that the kernel refused, or that took no effect.
        problems: What the snapshot asks and this host cannot honour.
        ports: The state of every port of the snapshot, as read back.
        judged: Whether established connections have been compared with the rules.
        more: Something changed on the host meanwhile, and there is more to do at once.
    """

    facts: HostFacts
    operations: tuple[Operation, ...]
    failures: tuple[Problem, ...]
    problems: tuple[Problem, ...]
    ports: Mapping[PortId, PortStatus]
    judged: bool
    more: bool


@dataclass
class Compiler:
    """``compile_host`` with its last answer at hand: most cycles ask the same again.

    A tap that appears changes neither the snapshot nor the facts. Not state about the host: it
    says what the host must be, and is forgotten without loss.
    """

    asked: tuple[HostSnapshot, HostConfig, HostFacts] | None = None
    answer: tuple[HostState, tuple[Problem, ...]] = (HostState(), ())

    def __call__(
        self, snapshot: HostSnapshot, config: HostConfig, facts: HostFacts
    ) -> tuple[HostState, tuple[Problem, ...]]:
        """Return what ``compile_host`` returns."""
        last = self.asked
        if last is None or last[0] is not snapshot or last[1:] != (config, facts):
            self.answer = compile_host(snapshot, config, facts)
            self.asked = snapshot, config, facts
        return self.answer


def plan(
    kernel: Kernel,
    config: HostConfig,
    snapshot: HostSnapshot,
    compiler: Compiler | None = None,
) -> Plan:
    """Return what would have to change on this host; changes nothing.

    Raises:
        KernelError: The host could not be read.
    """
    facts = kernel.facts(config)
    desired, problems = (compiler or compile_host)(snapshot, config, facts)
    actual = _read(kernel, config, desired)
    operations = diff_host(desired, actual)
    if operations:
        operations += tuple(arrivals(snapshot, desired, actual))
    return Plan(facts, desired, actual, operations, problems)


def _read(kernel: Kernel, config: HostConfig, desired: HostState) -> HostState:
    inner = {name: space.sysctls for name, space in desired.spaces.items()}
    return kernel.read(config, desired.sysctls, inner)


def reconcile(
    kernel: Kernel,
    config: HostConfig,
    snapshot: HostSnapshot,
    *,
    judge: bool,
    compiler: Compiler | None = None,
) -> Outcome:
    """Make the host what the snapshot says, as far as it can be done.

    Args:
        kernel: The host.
        config: How it is cabled.
        snapshot: What it must be.
        judge: Compare established connections with the rules even if no rule was taken away
            in this cycle: for the first cycle, and after one in which it failed.
        compiler: Kept by the caller from cycle to cycle; None compiles anew.

    Raises:
        KernelError: The host could not be read. Failed operations do not raise.
    """
    way = plan(kernel, config, snapshot, compiler)
    failures = _apply(kernel, config, way.operations)
    judged = True
    lessened = _lessened(way.operations)
    if judge or lessened:
        failed = _cut(kernel, config, snapshot, way, None if judge else lessened - {HERE})
        judged = not failed
        failures += failed
    actual, more = way.actual, False
    if way.operations:
        actual = _read(kernel, config, way.desired)
        remaining = diff_host(way.desired, actual)
        failures = failures or _without_effect(o for o in remaining if o in way.operations)
        more = bool(remaining) and not failures
    return Outcome(
        facts=way.facts,
        operations=way.operations,
        failures=failures,
        problems=way.problems,
        ports=_port_states(snapshot, way.desired, actual),
        judged=judged,
        more=more,
    )


def _apply(
    kernel: Kernel, config: HostConfig, operations: Iterable[Operation]
) -> tuple[Problem, ...]:
    """Run operations in order; return a problem for each that failed.

    One failure does not keep the others from being done, except that of the rules: what comes
    after them plugs instances in, which must not happen without the rules that bind them. A
    space without its rules is left without ways in.
    """
    failures = []
    shut: set[str] = set()
    for operation in operations:
        if _place(operation) in shut:
            continue
        try:
            kernel.run(config, operation)
        except KernelError as error:
            failures.append(Problem(_kind(operation), str(error)))
            if isinstance(operation, RunNft):
                break
            if isinstance(operation, InSpace) and isinstance(operation.operation, RunNft):
                shut.add(operation.space)
    return tuple(failures)


def _place(operation: Operation) -> str:
    """Return the space that an operation opens or changes, or that it is the host itself."""
    match operation:
        case InSpace(space, _):
            return space
        case CreateCable(cable):
            return cable.space
    return HERE


def _kind(operation: Operation) -> str:
    inner = operation.operation if isinstance(operation, InSpace) else operation
    return type(inner).__name__


def _lessened(operations: Iterable[Operation]) -> set[str]:
    """Return where, on the host or in spaces, a rule, member, floating IP or port went away.

    Or a floating IP came, whose connections may have begun without it.
    """
    return {_place(operation) for operation in operations if _takes_away(operation)}


def _takes_away(operation: Operation) -> bool:
    inner = operation.operation if isinstance(operation, InSpace) else operation
    if isinstance(inner, AnnounceAddress):
        return True
    lines = inner.script if isinstance(inner, RunNft) else ()
    return any(line.startswith(("delete", "flush")) for line in lines)


def _cut(
    kernel: Kernel,
    config: HostConfig,
    snapshot: HostSnapshot,
    way: Plan,
    spaces: Collection[str] | None,
) -> tuple[Problem, ...]:
    """End the connections that the snapshot does not allow; return what went wrong.

    Groups are judged on the host's bridges, so what they forbid ends there; of the spaces, only
    those need a look whose own translations have changed. None: all.
    """
    faces = _faces(config, way.facts)
    try:
        tables = kernel.connections(spaces)
        found = unwanted(snapshot, faces, (way.desired, way.actual), tables)
        for space, connections in found.items():
            cut = CutConnections(connections)
            kernel.run(config, InSpace(space, cut) if space else cut)
    except KernelError as error:
        return (Problem("connections", str(error)),)
    return ()


def _faces(config: HostConfig, facts: HostFacts) -> frozenset[IPv4Address]:
    common = routing_source(config, facts)
    return frozenset({common, *config.routing_sources.values()} if common else ())


def _without_effect(operations: Iterable[Operation]) -> tuple[Problem, ...]:
    """Return a problem for each operation that was run and is due again."""
    return tuple(
        Problem(_kind(operation), f"ran and took no effect: {operation.command()}")
        for operation in operations
    )


def _port_states(
    snapshot: HostSnapshot, desired: HostState, actual: HostState
) -> Joined[PortId, PortStatus]:
    (taps,) = pieces(_taps, snapshot.ports)
    sides = (fan(state.plugs, TAP_ID).pieces for state in (desired, actual))
    return Joined(map(_states, taps, *sides))


@kept(256)
def _states(
    taps: Mapping[str, PortId], desired: Mapping[str, Plug], actual: Mapping[str, Plug]
) -> dict[PortId, PortStatus]:
    """Return the states of the ports of one piece."""
    unplugged = taps.keys() - (desired.keys() & actual.keys())
    unplugged |= {plug.tap for plug, _ in misplaced(desired, actual)} & taps.keys()
    states = dict.fromkeys(taps.values(), PortStatus.ACTIVE)
    return states | {taps[tap]: PortStatus.DOWN for tap in unplugged}


@kept()
def _taps(ports: tuple[PortView, ...]) -> tuple[dict[str, PortId]]:
    """Return the ports that this host speaks for, by interface."""
    return ({tap_name(port.id): port.id for port in ports if port.active},)
