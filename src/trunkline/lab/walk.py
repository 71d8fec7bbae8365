"""Captured frames told as a walk: which node took a packet where, and what it did to it.

Pure. A step is of the same type as the tracer's, and all of it is read off frames: the devices, the
tag, the MACs, and what differs between the first and the last of them. Nothing is predicted.
Devices of one node come in the order in which its kernel passes them, because a bridge shows
some packets to a capture only after it has forwarded them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from trunkline.lab.packets import (
    ADVERTISE,
    ECHO6_REPLY,
    ECHO6_REQUEST,
    ECHO_REPLY,
    ECHO_REQUEST,
    HOST_UNREACHABLE,
    ICMP,
    ICMPV6,
    NO_ROUTE,
    PROHIBITED,
    SOLICIT,
    UNREACHABLE,
    UNREACHABLE6,
    Frame,
    Ip,
)
from trunkline.trace.packets import UDP, asking, is_for_many, telling
from trunkline.trace.packets import Arp as TracedArp
from trunkline.trace.passage import kernel_order
from trunkline.trace.steps import HOST, INSTANCE, ROUTER, SWITCH, Header, Sighting, Step

PARTS = {
    (ICMP, ECHO_REQUEST): "request",
    (ICMP, ECHO_REPLY): "reply",
    (ICMPV6, ECHO6_REQUEST): "request",
    (ICMPV6, ECHO6_REPLY): "reply",
}
NAMES = {
    ("ICMP", ECHO_REQUEST, 0): "echo request",
    ("ICMP", ECHO_REPLY, 0): "echo reply",
    ("ICMP", UNREACHABLE, HOST_UNREACHABLE): "host unreachable",
    ("ICMPv6", ECHO6_REQUEST, 0): "echo request",
    ("ICMPv6", ECHO6_REPLY, 0): "echo reply",
    ("ICMPv6", UNREACHABLE6, NO_ROUTE): "no route",
    ("ICMPv6", UNREACHABLE6, PROHIBITED): "prohibited",
}

Select = Callable[[Frame], str | None]
"""Names the packet that a frame is a sighting of; None for a frame of no interest."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is who.

    Attributes:
        roles: Of each node: instance, host, switch or internet.
        cables: The neighbours of each place.
        macs: Whose a MAC is: ``VM_1``, ``compute1's br100``.
        taps: Whose a tap is, by its name.
        segments: By node and device, a trunk with a tag as ``eth0#110``: which bridge it belongs
            to, where the host only switches there, and its gateway is a router in a namespace.
    """

    roles: Mapping[str, str]
    cables: Mapping[str, tuple[str, ...]]
    macs: Mapping[str, str]
    taps: Mapping[str, str]
    segments: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def place(self, frame: Frame) -> str:
        """Return where on its way a frame was seen: its node, or a part of it that switches."""
        tag = "" if frame.vlan_id is None else f"#{frame.vlan_id}"
        bridge = self.segments.get((frame.node, f"{frame.device}{tag}"))
        return frame.node if bridge is None else f"{frame.node} {bridge}"

    def owner(self, mac: str) -> str:
        """Return whose a MAC is; of an unknown one, itself."""
        return "everybody" if is_for_many(mac) else self.macs.get(mac, mac)


@dataclass(frozen=True, slots=True)
class _Passage:
    """One node's sightings of one packet, in the order of the kernel's path; at least one."""

    step: Step
    frames: tuple[Frame, ...]

    @property
    def node(self) -> str:
        return self.step.node


def walk(frames: Iterable[Frame], select: Select, cast: Cast) -> tuple[Step, ...]:
    """Return the walk of the packets that ``select`` names, in the order of their departure.

    Within a packet's walk, nodes come by their distance from where it was first seen, so that
    the branches of a flood are told in the same order every time. A host that must first ask
    for a MAC is told to ask before it passes the packet on.
    """
    packets: dict[str, list[Frame]] = {}
    for frame in frames:
        packet = select(frame)
        if packet and _is_told(frame, cast):
            packets.setdefault(packet, []).append(frame)
    pending = [
        [_Passage(_step(packet, path, cast), path) for path in _paths(seen, cast)]
        for packet, seen in packets.items()
    ]
    passages: list[_Passage] = []
    while pending:
        passages += _unfold(pending.pop(0), pending)
    return tuple(passage.step for passage in passages)


def _paths(seen: list[Frame], cast: Cast) -> Iterator[tuple[Frame, ...]]:
    """Yield one packet's sightings node by node, by distance.

    An instance that speaks to itself sends first, and receives when all others are through.
    """
    sent = {f.node for f in seen if f.direction == "out" and cast.roles[f.node] == INSTANCE}
    returned = []
    for here in _legs(seen, cast):
        own = here[0].node in sent
        returned += [f for f in here if own and f.direction == "in"]
        yield _path([f for f in here if not own or f.direction == "out"], cast)
    if returned:
        yield _path(returned, cast)


def _legs(seen: list[Frame], cast: Cast) -> list[list[Frame]]:
    """Return one packet's sightings by place, the nearest first.

    A bridge, or a switch, that a packet passes before and after its router shows two of it: what
    is routed has another TTL. Where a router in a namespace is on the way, the way is no shortest
    one, and its places come by their times; that is of no use for a flood, whose copies race.
    """
    legs: dict[tuple[str, int | None], list[Frame]] = {}
    for frame in seen:
        place = cast.place(frame)
        again = place != frame.node or cast.roles[frame.node] == SWITCH
        ttl = frame.ip.ttl if frame.ip and again else None
        legs.setdefault((place, ttl), []).append(frame)
    is_flood = is_for_many(seen[0].destination_mac)
    if not is_flood and any(cast.roles[f.node] == ROUTER for f in seen):
        return list(legs.values())
    distance, order = _distances(cast.place(seen[0]), cast), list(cast.roles)

    def far(leg: tuple[str, int | None]) -> tuple[int, int]:
        return distance.get(leg[0], len(order)), order.index(legs[leg][0].node)

    return [legs[leg] for leg in sorted(legs, key=far)]


def _unfold(passages: list[_Passage], pending: list[list[_Passage]]) -> Iterator[_Passage]:
    """Yield a packet's passages, each after the packets that the node had to wait for."""
    for passage in passages:
        while pending and (_waits_for(passage, pending[0]) or _waits_in_vain(passage, pending)):
            yield from _unfold(pending.pop(0), pending)
        yield passage


def _waits_for(passage: _Passage, other: list[_Passage]) -> bool:
    """Return whether a node sent or got another packet while it held this one."""
    came = [f.at_ns for f in passage.frames if f.direction == "in"]
    left = [f.at_ns for f in passage.frames if f.direction == "out"]
    if not came or not left or passage.node not in (other[0].node, other[-1].node):
        return False
    return min(came) < other[0].frames[0].at_ns < min(left)


def _waits_in_vain(passage: _Passage, pending: list[list[_Passage]]) -> bool:
    """Return whether a host held a packet for good, as nobody answered what it asks next."""
    first, asked = passage.frames[0], pending[0][0]
    question = asked.frames[0].arp
    may_hold = passage.step.node_role in (HOST, ROUTER) and passage.node == asked.node
    if not may_hold or first.ip is None:
        return False
    if any(f.direction == "out" for f in passage.frames) or question is None or question.is_reply:
        return False
    replies = (later[0].frames[0].arp for later in pending)
    answered = any(r and r.is_reply and r.sender == question.target for r in replies)
    return not answered and first.at_ns < asked.frames[0].at_ns


def _is_told(frame: Frame, cast: Cast) -> bool:
    """Leave out what a making of a VLAN device has and another has not, and the switch's bridge."""
    if cast.roles[frame.node] == SWITCH:
        return not frame.device.startswith("br")
    return not (frame.device.startswith("vlan") and frame.device.endswith("t"))


def _distances(start: str, cast: Cast) -> dict[str, int]:
    """Return the distance of every place that can be reached from a place, in cables."""
    distance = {start: 0}
    edge = [start]
    while edge:
        around = [n for node in edge for n in cast.cables[node] if n not in distance]
        distance |= dict.fromkeys(around, distance[edge[0]] + 1)
        edge = list(dict.fromkeys(around))
    return distance


def _path(frames: Iterable[Frame], cast: Cast) -> tuple[Frame, ...]:
    """Return one sighting per device and direction, in the order of the kernel's path."""
    once: dict[tuple[str, str], Frame] = {}
    for frame in frames:
        once.setdefault((frame.device, frame.direction), frame)
    return tuple(sorted(once.values(), key=lambda f: kernel_order(_sighting(f, cast))))


def _step(packet: str, path: tuple[Frame, ...], cast: Cast) -> Step:
    """Return a passage as a step: all of it is read off its first and its last frame."""
    first, last = path[0], path[-1]
    return Step(
        packet=packet,
        part=_part(first),
        node=first.node,
        node_role=cast.roles[first.node],
        path=tuple(_sighting(frame, cast) for frame in path),
        sender=cast.owner(first.source_mac),
        sender_mac=first.source_mac,
        receiver=cast.owner(last.destination_mac),
        receiver_mac=last.destination_mac,
        before=_header(first),
        after=_header(last),
    )


def _sighting(frame: Frame, cast: Cast) -> Sighting:
    return Sighting(frame.device, frame.direction, frame.vlan_id, cast.taps.get(frame.device, ""))


def _part(frame: Frame) -> str:
    """Return what a packet is to the flow, as far as it shows by itself."""
    if frame.arp or any_discovery(frame):
        return "arp"
    if frame.dhcp:
        return "dhcp"
    if frame.ip is None:
        return "request"
    if frame.ip.icmp:
        return PARTS.get((frame.ip.protocol, frame.ip.icmp[0]), "error")
    return "reply" if "A" in frame.ip.flags and "S" in frame.ip.flags else "request"


def _header(frame: Frame) -> Header | None:
    if frame.arp:
        return Header(frame.arp.sender, frame.arp.target)
    return Header(frame.ip.source, frame.ip.destination, frame.ip.ttl) if frame.ip else None


def carrying(nonce: bytes) -> Select:
    """Select a probe's packets: its echo request, the reply, and errors about it; TCP, UDP."""

    def select(frame: Frame) -> str | None:
        ip = frame.ip
        if ip is None or nonce not in ip.payload:
            return None
        if ip.icmp is None:
            return _data_name(ip)
        word = "ICMPv6" if ip.protocol == ICMPV6 else "ICMP"
        names = NAMES.get((word, *ip.icmp), "type {} code {}".format(*ip.icmp))
        return f"{word} {names}"

    return select


def _data_name(ip: Ip) -> str:
    """Return what a packet with data is called: a probe's answer comes from the lower port."""
    if ip.protocol != UDP or ip.ports is None:
        return "TCP data"
    return "UDP" if ip.ports[0] > ip.ports[1] else "UDP answer"


def connecting(address: IPv4Address | None, port: int) -> Select:
    """Select the packets that open a TCP connection to a server's own address and port.

    Without an address, to any address.
    """

    def select(frame: Frame) -> str | None:
        ip = frame.ip
        if ip is None or ip.ports is None:
            return None
        ends = zip((ip.source, ip.destination), ip.ports, strict=True)
        if not any(end[1] == port and address in (None, end[0]) for end in ends):
            return None
        return {"S": "TCP SYN", "SA": "TCP SYN-ACK"}.get(ip.flags)

    return select


def asking_for(addresses: Iterable[IPv4Address]) -> Select:
    """Select ARP requests and replies about these addresses."""
    wanted, every = frozenset(addresses), any_arp()

    def select(frame: Frame) -> str | None:
        arp = frame.arp
        if arp is None:
            return None
        about = arp.sender if arp.is_reply else arp.target
        return every(frame) if about in wanted else None

    return select


def any_arp(*except_on: str) -> Select:
    """Select every ARP message, but for those on some devices."""

    def select(frame: Frame) -> str | None:
        arp = frame.arp
        if arp is None or frame.device in except_on:
            return None
        return TracedArp(arp.is_reply, arp.sender_mac, arp.sender, arp.target).name

    return select


def any_discovery(frame: Frame) -> str | None:
    """Select neighbour discovery, but for who asks whether an address is taken (RFC 4862, 5.4)."""
    ip = frame.ip
    if ip is None or ip.protocol != ICMPV6 or ip.icmp is None or int(ip.source) == 0:
        return None
    target = IPv6Address(ip.payload[8:24].ljust(16, b"\0"))  # RFC 4861, 4.3 and 4.4
    if ip.icmp[0] == SOLICIT:
        return asking(ip.source, target)
    return telling(ip.destination, target) if ip.icmp[0] == ADVERTISE else None


def leasing(mac: str) -> Select:
    """Select the DHCP messages of one client, both ways."""

    def select(frame: Frame) -> str | None:
        dhcp = frame.dhcp
        if dhcp is None or dhcp.client_mac != mac:
            return None
        if dhcp.message not in ("OFFER", "ACK"):
            return f"DHCP{dhcp.message}"
        return f"DHCP{dhcp.message}: {dhcp.offered}, router {dhcp.router}, server {dhcp.server}"

    return select


def discovering(mac: str) -> Select:
    """Select one client's exchange up to the offer: what the article tells, and is predicted."""
    every = leasing(mac)

    def select(frame: Frame) -> str | None:
        name = every(frame)
        return name if name and name.startswith(("DHCPDISCOVER", "DHCPOFFER")) else None

    return select


def first_of(*selects: Select) -> Select:
    """Select what any of these selects, named by the first that does."""

    def select(frame: Frame) -> str | None:
        return next((name for one in selects if (name := one(frame))), None)

    return select
