"""PURE: the first layer that is not as the one above it says, and the place in it.

    desired state    what the compiler makes of intent; what it could not honour is a problem
    kernel           what was read back: links, addresses, sysctls, rules, leases, neighbours
    packets          what was seen on devices, held against a walk through the desired state

A place is a node and an object of it, named as on that node. Whoever reads a host back, and
whoever sends the packets, is elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from itertools import chain

from trunkline.hoststate import (
    Bridge,
    Cable,
    Chain,
    Connection,
    HostState,
    NftSet,
    Plug,
    Problem,
    Vlan,
)
from trunkline.trace.compare import Comparison, Finding, deviations
from trunkline.trace.steps import Step


class Layer(StrEnum):
    """Where something is not as it must be, from the top down."""

    DESIRED = "desired state"
    KERNEL = "kernel state as read back"
    PACKETS = "packets"


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look.

    Attributes:
        object: A device, a sysctl, ``inet trunkline forward``, ``10.0.0.1/24 on br100``.
    """

    node: str
    object: str

    def __str__(self) -> str:
        return f"{self.node}: {self.object}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not as it must be.

    Attributes:
        text: What is wrong with the object, to be read behind its name.
    """

    layer: Layer
    place: Place
    text: str


Named = Iterator[tuple[str, str]]
"""Objects with what is wrong with them."""

UNASKED = "is there, and nothing asks for it"

Links = Mapping[str, Bridge] | Mapping[str, Vlan] | Mapping[str, Plug] | Mapping[str, Cable]

Neighbours = Mapping[tuple[str, IPv4Address], str]
"""A node's neighbour table: MAC by device and address."""


def unmet(node: str, problems: Iterable[Problem]) -> Iterator[Fault]:
    """Yield what a host could not be made to be."""
    for problem in problems:
        yield Fault(Layer.DESIRED, Place(node, problem.subject), problem.text)


# --- what was read back ---------------------------------------------------------------------------


def drift(node: str, desired: HostState, actual: HostState) -> tuple[Fault, ...]:
    """Return where a host is not as it must be; what the rest hangs on comes first.

    What is in a space of the host's is named with the space's name before it.
    """
    found = [*_side(desired, actual)]
    for name, wanted in desired.spaces.items():
        present = actual.spaces.get(name)
        if present is None:
            found.append((name, "is not there"))
        else:
            found += ((f"{name} {what}", text) for what, text in _side(wanted, present))
    found += ((name, UNASKED) for name in actual.spaces if name not in desired.spaces)
    return tuple(Fault(Layer.KERNEL, Place(node, name), text) for name, text in found)


def _side(desired: HostState, actual: HostState) -> Named:
    """Yield what is not as it must be on a host itself, or in a space."""
    plugs = {tap: plug for tap, plug in actual.plugs.items() if tap in desired.plugs}
    links = (
        (desired.cables, actual.cables),
        (desired.vlans, actual.vlans),
        (desired.plugs, plugs),
        (desired.bridges, actual.bridges),  # a bridge takes after its ports: the smallest MTU
    )
    return chain(
        _absent(desired.bridges, actual.bridges),
        *(_absent(*pair) for pair in links[:-1]),
        *(_changed(*pair) for pair in links),
        _trunks(desired.untagged, actual.untagged),
        _addresses(desired, actual),
        _routes(desired, actual),
        _sysctls(desired, actual),
        _tables(desired, actual),
        _leases(desired, actual),
    )


def _absent(desired: Links, actual: Links) -> Named:
    for name in desired:
        if name not in actual:
            yield name, "is not there"


def _changed(desired: Links, actual: Links) -> Named:
    for name, wanted in desired.items():
        present = actual.get(name, wanted)
        if wanted != present:
            yield name, "; ".join(_fields(wanted, present))
    for name in actual:
        if name not in desired:
            yield name, UNASKED


def _fields(wanted: Bridge | Vlan | Plug | Cable, present: object) -> Iterator[str]:
    for name in wanted.__annotations__:
        values = getattr(wanted, name), getattr(present, name)
        if values[0] != values[1]:
            yield f"{name} must be {values[0]} and is {values[1]}"


def _addresses(desired: HostState, actual: HostState) -> Named:
    for address in sorted(desired.addresses - actual.addresses, key=str):
        yield f"{address.address} on {address.link}", "is not there"
    for address in sorted(actual.addresses - desired.addresses, key=str):
        yield f"{address.address} on {address.link}", UNASKED


def _trunks(desired: Mapping[str, str], actual: Mapping[str, str]) -> Named:
    for nic in desired.keys() | actual.keys():
        wanted, present = desired.get(nic, "none"), actual.get(nic, "none")
        if wanted != present:
            yield f"trunk {nic}", f"must be in bridge {wanted} and is in {present}"


def _routes(desired: HostState, actual: HostState) -> Named:
    for kind, wanted, present in (
        ("route to", _ways(desired), _ways(actual)),
        ("ARP answer for", _proxies(desired), _proxies(actual)),
    ):
        yield from ((f"{kind} {way}", "is not there") for way in sorted(wanted - present))
        yield from ((f"{kind} {way}", UNASKED) for way in sorted(present - wanted))


def _ways(state: HostState) -> set[str]:
    ways = ((r.destination, r.via or "nobody", r.link or "nothing") for r in state.routes)
    return {f"{destination} via {via} on {link}" for destination, via, link in ways}


def _proxies(state: HostState) -> set[str]:
    return {f"{address.address.ip} on {address.link}" for address in state.proxies}


def _sysctls(desired: HostState, actual: HostState) -> Named:
    for key, value in desired.sysctls.items():
        if actual.sysctls.get(key) != value:
            yield key, f"must be {value} and is {actual.sysctls.get(key, 'not there')}"


def _tables(desired: HostState, actual: HostState) -> Named:
    for key, table in desired.tables.items():
        where, present = " ".join(key), actual.tables.get(key)
        if present is None:
            yield where, "is not there"
            continue
        for name, wanted in table.chains.items():
            found = present.chains.get(name, Chain(name, (), wanted.hook))
            yield from ((f"{where} {name}", text) for text in _rules(wanted, found))
        for name, limit in table.limits.items():
            if present.limits.get(name) != limit:
                yield f"{where} {name}", f"must be '{limit}' and is {present.limits.get(name)}"
        for name, elements in table.sets.items():
            have = present.sets.get(name, NftSet(name, elements.key))
            yield from ((f"{where} {name}", text) for text in _elements(elements, have))


def _rules(wanted: Chain, present: Chain) -> Iterator[str]:
    if wanted.hook != present.hook:
        yield f"must hang on {wanted.hook} and hangs on {present.hook}"
    missing = [rule for rule in wanted.rules if rule not in present.rules]
    extra = [rule for rule in present.rules if rule not in wanted.rules]
    yield from (f"lacks the rule '{rule}'" for rule in missing)
    yield from (f"has a rule that nothing asks for, '{rule}'" for rule in extra)
    if not missing and not extra and wanted.rules != present.rules:
        pairs = zip(wanted.rules, present.rules, strict=False)
        first = next((pair for pair in pairs if pair[0] != pair[1]), ("no more", "no more"))
        yield f"has its rules in another order: '{first[1]}' is where '{first[0]}' must be"


def _elements(wanted: NftSet, present: NftSet) -> Iterator[str]:
    for key, value in wanted.elements.items():
        if present.elements.get(key) != value:
            yield f"lacks the element '{key}{' : ' * bool(value)}{value}'"
    for key in present.elements.keys() - wanted.elements.keys():
        yield f"has an element that nothing asks for, '{key}'"


def _leases(desired: HostState, actual: HostState) -> Named:
    for bridge, wanted in desired.dhcp.items():
        name, present = f"DHCP server on {bridge}", actual.dhcp.get(bridge)
        if present is None:
            yield name, "does not run"
        elif present.config != wanted.config:
            yield name, "runs with another configuration"
        elif present.files != wanted.files:
            yield from ((name, text) for text in _file_lines(wanted.files, present.files))
    for bridge in actual.dhcp.keys() - desired.dhcp.keys():
        yield f"DHCP server on {bridge}", "runs, and nothing asks for it"


def _file_lines(wanted: Mapping[str, str], present: Mapping[str, str]) -> Iterator[str]:
    for name, line in present.items():
        if wanted.get(name) != line:
            yield f"has {name.partition('/')[0]} that nothing asks for, '{line}'"
    for name, line in wanted.items():
        if name not in present:
            yield f"lacks {name.partition('/')[0]}, '{line}'"


def strangers(
    node: str, known: Mapping[tuple[str, IPv4Address], str], table: Neighbours
) -> Iterator[Fault]:
    """Yield a node's neighbours that have another MAC than they must have.

    Args:
        node: Whose table.
        known: MACs as the cloud has them, by device and address; others are nobody's business.
        table: As it was read.
    """
    for (device, address), mac in table.items():
        wanted = known.get((device, address))
        if wanted not in (None, mac):
            text = f"must have MAC {wanted} and has {mac}"
            yield Fault(Layer.KERNEL, Place(node, f"neighbour {address} on {device}"), text)


def untracked(step: Step, tracked: Iterable[Connection]) -> Iterator[Fault]:
    """Yield that a host forgot a connection that it has just passed on, if it did."""
    start = step.before
    if start is not None and not any(
        (c.source, c.destination) == (start.source, start.destination) for c in tracked
    ):
        text = f"has no entry for {start.source} > {start.destination}, which just passed"
        yield Fault(Layer.KERNEL, Place(step.node, "connection tracking"), text)


# --- packets --------------------------------------------------------------------------------------


def broken(comparison: Iterable[Comparison]) -> Iterator[Fault]:
    """Yield where packets first were not as predicted, if they were not."""
    every = tuple(comparison)
    first = next(iter(deviations(every)), None)
    if first is None:
        return
    first = _cause(first, every)
    device, text = _device_and_text(first, every)
    yield Fault(Layer.PACKETS, Place(first.node, device), f"{first.packet} {text}")


def _cause(first: Comparison, every: tuple[Comparison, ...]) -> Comparison:
    """Return, for a packet that a node never sent, the one that it would have sent it for.

    A host that drops a packet does not ask for its next hop either; the question is predicted
    first, as it comes before the packet is passed on.
    """
    if first.finding is not Finding.MISSING or _before(first, every) is not None:
        return first
    held = (c for c in deviations(every) if c.node == first.node and c.field == "path")
    return next(held, first)


def _before(one: Comparison, every: tuple[Comparison, ...]) -> Step | None:
    """Return the packet's last step before this one that was seen."""
    earlier = every[: every.index(one)]
    return next((c.seen for c in reversed(earlier) if c.packet == one.packet and c.seen), None)


def _device_and_text(one: Comparison, every: tuple[Comparison, ...]) -> tuple[str, str]:
    """Return the device at which something is not as it should be, and what."""
    if one.finding is Finding.EXTRA and one.seen:
        return one.seen.path[0].device, "was seen there and not predicted"
    if one.expected is None:
        return "", "is not in its place"
    if one.seen is None:
        last = _before(one, every)
        since = f"left {last.node} by {last.path[-1].device} and" if last else "was"
        return one.expected.path[0].device, f"{since} {'never came' if last else 'never sent'}"
    if one.field == "path":
        return _parting(one.expected, one.seen)
    text = f"has another {one.field}: predicted {one.predicted}, seen {one.observed}"
    return one.seen.path[-1].device, text


def _parting(expected: Step, seen: Step) -> tuple[str, str]:
    """Return the first device that a packet did not pass, or passed otherwise."""
    for sighting in expected.path:
        if sighting not in seen.path:
            here = (s for s in seen.path if s.device == sighting.device)
            same = next((s for s in here if s.direction == sighting.direction), None)
            if same:
                return sighting.device, f"had tag {same.tag} there instead of {sighting.tag}"
            way = "came in by" if sighting.direction == "in" else "went out by"
            return sighting.device, f"never {way} it; last seen on {seen.path[-1].device}"
    extra = next((s for s in seen.path if s not in expected.path), seen.path[-1])
    return extra.device, "was seen there and not predicted"
