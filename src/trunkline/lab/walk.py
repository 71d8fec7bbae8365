"""Captured frames told as a walk: which node took a packet where, and what it did to it.

Pure. A step is one node's passage of one packet; all of it is read off frames: the devices, the
tag, the MACs, and what differs between the first and the last of them. Nothing is predicted.
Devices of one node come in the order in which its kernel passes them, because a bridge shows
some packets to a capture only after it has forwarded them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from trunkline.lab.packets import (
    BROADCAST,
    ECHO_REPLY,
    ECHO_REQUEST,
    HOST_UNREACHABLE,
    UNREACHABLE,
    Frame,
)

INSTANCE, HOST, SWITCH, INTERNET = "instance", "host", "switch", "internet"

Select = Callable[[Frame], str | None]
"""Names the packet that a frame is a sighting of; None for a frame of no interest."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is who.

    Attributes:
        roles: Of each node: instance, host, switch or internet.
        cables: The neighbours of each node.
        macs: Whose a MAC is: ``VM_1``, ``compute1's br100``.
        taps: Whose a tap is, by its name.
    """

    roles: Mapping[str, str]
    cables: Mapping[str, tuple[str, ...]]
    macs: Mapping[str, str]
    taps: Mapping[str, str]

    def owner(self, mac: str) -> str:
        """Return whose a MAC is; of an unknown one, itself."""
        return "everybody" if mac == BROADCAST else self.macs.get(mac, mac)

    def device(self, frame: Frame) -> str:
        """Return a device's name that is the same in every run: a tap goes by its owner."""
        owner = self.taps.get(frame.device)
        return f"tap({owner})" if owner else frame.device


@dataclass(frozen=True, slots=True)
class Step:
    """One node's passage of one packet.

    Attributes:
        packet: What the packet is, the same text at every node.
        frames: Its sightings, in the order of the kernel's path; at least one.
        text: The passage as a sentence.
    """

    packet: str
    node: str
    frames: tuple[Frame, ...]
    text: str

    @property
    def changes(self) -> tuple[str, ...]:
        """Return what the node did to the packet's IP header."""
        return tuple(_changes(self.frames[0], self.frames[-1]))

    def data(self, cast: Cast) -> dict[str, Any]:
        """Return the step as plain data, the same in every run of the same scenario."""
        first, last = self.frames[0], self.frames[-1]
        return {
            "packet": self.packet,
            "node": self.node,
            "path": [
                {"device": cast.device(f), "direction": f.direction, "tag": f.vlan_id}
                for f in self.frames
            ],
            "from": cast.owner(first.source_mac),
            "to": cast.owner(last.destination_mac),
            "addresses": _addresses(last),
            "changes": list(self.changes),
        }


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
        [Step(packet, path[0].node, path, _tell(packet, path, cast)) for path in _paths(seen, cast)]
        for packet, seen in packets.items()
    ]
    steps: list[Step] = []
    while pending:
        steps += _unfold(pending.pop(0), pending)
    return tuple(steps)


def _paths(seen: list[Frame], cast: Cast) -> Iterator[tuple[Frame, ...]]:
    """Yield one packet's sightings node by node, by distance.

    An instance that speaks to itself sends first, and receives when all others are through.
    """
    distance = _distances(seen[0].node, cast)
    sent = {f.node for f in seen if f.direction == "out" and cast.roles[f.node] == INSTANCE}
    returned = []
    for node in sorted({f.node for f in seen}, key=distance.__getitem__):
        here = [f for f in seen if f.node == node]
        if node in sent:
            returned += [f for f in here if f.direction == "in"]
            here = [f for f in here if f.direction == "out"]
        yield _path(here, cast)
    if returned:
        yield _path(returned, cast)


def _unfold(steps: list[Step], pending: list[list[Step]]) -> Iterator[Step]:
    """Yield a packet's steps, each after the packets that the node had to wait for."""
    for step in steps:
        while pending and _waits_for(step, pending[0]):
            yield from _unfold(pending.pop(0), pending)
        yield step


def _waits_for(step: Step, other: list[Step]) -> bool:
    """Return whether a node sent or got another packet while it held this one."""
    came = [f.at_ns for f in step.frames if f.direction == "in"]
    left = [f.at_ns for f in step.frames if f.direction == "out"]
    if not came or not left or step.node not in (other[0].node, other[-1].node):
        return False
    return min(came) < other[0].frames[0].at_ns < min(left)


def _is_told(frame: Frame, cast: Cast) -> bool:
    """Leave out what a making of a VLAN device has and another has not, and the switch's bridge."""
    if cast.roles[frame.node] == SWITCH:
        return not frame.device.startswith("br")
    return not (frame.device.startswith("vlan") and frame.device.endswith("t"))


def _distances(start: str, cast: Cast) -> dict[str, tuple[int, int]]:
    """Return every node's distance from a node, in cables; ties in the cast's order."""
    distance = {start: 0}
    edge = [start]
    while edge:
        around = [n for node in edge for n in cast.cables[node] if n not in distance]
        distance |= dict.fromkeys(around, distance[edge[0]] + 1)
        edge = list(dict.fromkeys(around))
    order = {node: number for number, node in enumerate(cast.roles)}
    return {node: (distance.get(node, len(order)), order[node]) for node in order}


def _path(frames: Iterable[Frame], cast: Cast) -> tuple[Frame, ...]:
    """Return one sighting per device and direction, in the order of the kernel's path."""
    once: dict[tuple[str, str], Frame] = {}
    for frame in frames:
        once.setdefault((frame.device, frame.direction), frame)
    return tuple(sorted(once.values(), key=lambda f: (_place(f), cast.device(f))))


def _place(frame: Frame) -> int:
    """Return where on its way through a host a packet passes a device.

    NIC, VLAN device or tap, bridge, and out again: bridge, VLAN device or tap, NIC.
    """
    depth = 2 if frame.device.startswith("br") else 1
    if frame.device.startswith("eth"):
        depth = 0
    return depth if frame.direction == "in" else 5 - depth


def _changes(before: Frame, after: Frame) -> Iterator[str]:
    if not before.ip or not after.ip:
        return
    if before.ip.ttl != after.ip.ttl:
        yield f"TTL {before.ip.ttl} -> {after.ip.ttl}"
    if before.ip.source != after.ip.source:
        yield f"source {before.ip.source} -> {after.ip.source}"
    if before.ip.destination != after.ip.destination:
        yield f"destination {before.ip.destination} -> {after.ip.destination}"


def _addresses(frame: Frame) -> str:
    if frame.arp:
        return f"{frame.arp.sender} > {frame.arp.target}"
    return f"{frame.ip.source} > {frame.ip.destination}" if frame.ip else ""


def _tell(packet: str, path: tuple[Frame, ...], cast: Cast) -> str:
    """Return a passage as a sentence."""
    node, role = path[0].node, cast.roles[path[0].node]
    ins = [f for f in path if f.direction == "in"]
    outs = [f for f in path if f.direction == "out"]
    if role == INSTANCE:
        return _tell_instance(packet, path[0], cast)
    parts = []
    if ins:
        name = packet.partition(":")[0]
        parts.append(f"takes the {name} in by {_devices(ins, cast)}")
    parts += _tell_changes(path)
    if outs:
        start = "sends it out by" if ins else f"sends {_packet(packet, outs[0], cast)}, out by"
        parts.append(f"{start} {_devices(outs, cast)}")
    elif role == HOST:
        parts.append("it goes no further")
    elif role == INTERNET:
        parts.append("it is for the Internet itself")
    return f"{node} {'; '.join(parts)}."


def _tell_instance(packet: str, frame: Frame, cast: Cast) -> str:
    what = _packet(packet, frame, cast)
    if frame.direction == "out":
        return f"{frame.node} sends {what}, out of {frame.device}."
    return f"{frame.node} receives {what}, on {frame.device}."


def _packet(packet: str, frame: Frame, cast: Cast) -> str:
    """Return what a packet is, with its addresses here and the MAC at the cable's other end."""
    peer = f"to {_mac(frame.destination_mac, cast)}"
    if frame.direction == "in":
        peer = f"from {_mac(frame.source_mac, cast)}"
    if frame.ip and not frame.dhcp:
        return f"{packet} {frame.ip.source} > {frame.ip.destination} {peer}"
    return f"{packet}, {peer}"


def _mac(mac: str, cast: Cast) -> str:
    owner = cast.owner(mac)
    return f"MAC {mac}" if owner == mac else f"{owner} ({mac})"


def _tell_changes(path: tuple[Frame, ...]) -> Iterator[str]:
    before, after = path[0], path[-1]
    changes = list(_changes(before, after))
    ttl = [c for c in changes if c.startswith("TTL")]
    translated = [c for c in changes if not c.startswith("TTL")]
    if ttl:
        yield f"routes it ({ttl[0]}, new MACs)"
    if translated:
        how = "connection tracking translates it back" if _is_answer(before) else "translates"
        yield f"{how}: {', '.join(translated)}"


def _is_answer(frame: Frame) -> bool:
    ip = frame.ip
    if ip is None:
        return False
    if ip.icmp:
        return ip.icmp[0] != ECHO_REQUEST
    return "A" in ip.flags and "S" in ip.flags


def _devices(frames: Iterable[Frame], cast: Cast) -> str:
    """Return devices in order, each with the tag that its frames carry."""
    words = []
    for frame in frames:
        owner = cast.taps.get(frame.device)
        tag = f" with tag {frame.vlan_id}" if frame.vlan_id is not None else ""
        words.append(f"{frame.device}{f' ({owner})' if owner else ''}{tag}")
    return ", ".join(words)


def carrying(nonce: bytes) -> Select:
    """Select a probe's packets: its echo request, the reply, and errors about it; TCP, UDP."""

    def select(frame: Frame) -> str | None:
        ip = frame.ip
        if ip is None or nonce not in ip.payload:
            return None
        if ip.icmp is None:
            return "TCP or UDP data"
        names = {
            (ECHO_REQUEST, 0): "ICMP echo request",
            (ECHO_REPLY, 0): "ICMP echo reply",
            (UNREACHABLE, HOST_UNREACHABLE): "ICMP host unreachable",
        }
        return names.get(ip.icmp, f"ICMP type {ip.icmp[0]} code {ip.icmp[1]}")

    return select


def connecting(address: IPv4Address, port: int) -> Select:
    """Select the packets that open a TCP connection to a server's own address and port."""

    def select(frame: Frame) -> str | None:
        ip = frame.ip
        if ip is None or ip.ports is None:
            return None
        ends = zip((ip.source, ip.destination), ip.ports, strict=True)
        if (address, port) not in ends:
            return None
        return {"S": "TCP SYN", "SA": "TCP SYN-ACK"}.get(ip.flags)

    return select


def asking_for(addresses: Iterable[IPv4Address]) -> Select:
    """Select ARP requests and replies about these addresses."""
    wanted = frozenset(addresses)

    def select(frame: Frame) -> str | None:
        arp = frame.arp
        if arp is None:
            return None
        if arp.is_reply:
            return f"ARP reply: {arp.sender} is here" if arp.sender in wanted else None
        question = f"ARP request: who has {arp.target}? tell {arp.sender}"
        return question if arp.target in wanted else None

    return select


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


def first_of(*selects: Select) -> Select:
    """Select what any of these selects, named by the first that does."""

    def select(frame: Frame) -> str | None:
        return next((name for one in selects if (name := one(frame))), None)

    return select
