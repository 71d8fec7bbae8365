"""A predicted flow sent for real on hosts: its first packet, how it is known again, what was seen.

The packet carries a nonce that outlives new MACs, tags and translation: in the payload, or as
TCP's sequence number. What hosts saw, and the routers on them, is compared with what was predicted
of them; of instances, switches and the Internet nothing is seen but what hosts exchange with them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from trunkline.model import IpAddress
from trunkline.trace.compare import Comparison, compare
from trunkline.trace.packets import ECHO6_REPLY, ECHO6_REQUEST, ICMP, ICMPV6, TCP, UDP
from trunkline.trace.passage import kernel_order
from trunkline.trace.steps import HOST, INSTANCE, Header, Sighting, Step, Trace

ETH_P_IP, ETH_P_8021Q, ETH_P_IPV6 = 0x0800, 0x8100, 0x86DD
ECHO_REPLY, UNREACHABLE, ECHO_REQUEST, TIME_EXCEEDED = 0, 3, 8, 11  # RFC 792
SYN, RST, ACK = 0x02, 0x04, 0x10  # RFC 9293
SOURCE_PORTS = 61000, 65535  # above those that Linux chooses from by itself
NONCE_BYTES = 16
TTL = 64
ERRORS = {
    *((ICMP, kind) for kind in (UNREACHABLE, TIME_EXCEEDED)),
    *((ICMPV6, kind) for kind in (1, 2, 3)),  # RFC 4443: unreachable, too big, time exceeded
}
ECHOES = {
    (ICMP, ECHO_REQUEST): "request",
    (ICMP, ECHO_REPLY): "reply",
    (ICMPV6, ECHO6_REQUEST): "request",
    (ICMPV6, ECHO6_REPLY): "reply",
}
PARTS = ("request", "reply", "confirm", "error")

_IP, _IP6 = struct.Struct(">BBHHHBBH4s4s"), struct.Struct(">IHBB16s16s")
_TCP = struct.Struct(">HHIIBBHHH")
_UDP = struct.Struct(">HHHH")
_ICMP = struct.Struct(">BBHHH")


@dataclass(frozen=True, slots=True)
class Shot:
    """What is sent, and by what it is known again.

    Attributes:
        nonce: 16 bytes.
        protocol: ICMP, ICMPv6, TCP or UDP.
        port: The destination port; None with ICMP of either kind.
    """

    nonce: bytes
    protocol: int
    port: int | None

    @property
    def number(self) -> int:
        """Return the nonce's first 32 bits, which are TCP's sequence number."""
        return int.from_bytes(self.nonce[:4], "big")

    @property
    def source_port(self) -> int:
        """Return where TCP and UDP come from."""
        low, high = SOURCE_PORTS
        return low + self.number % (high - low + 1)


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet of a shot on a device.

    Attributes:
        part: What it is to the flow: ``request``, ``reply``, ``confirm`` or ``error``.
        direction: ``in`` or ``out``, as a sighting has it.
        space: The router's network namespace in which the device is; empty: the host's own.
    """

    part: str
    device: str
    direction: str
    tag: int | None
    header: Header
    space: str = ""


def first_step(trace: Trace) -> Step | None:
    """Return an instance's own step of the request: what it sends; None if it sends nothing."""
    found = (s for s in trace.steps if s.part == "request" and s.node_role == INSTANCE)
    step = next(found, None)
    return step if step is not None and step.path[0].direction == "out" else None


def frame_of(shot: Shot, step: Step, size: int) -> bytes:
    """Return the Ethernet frame that an instance would send, with IP packet of this size."""
    assert step.before is not None
    source, destination = step.before.source, step.before.destination
    macs = _mac(step.receiver_mac) + _mac(step.sender_mac)
    if isinstance(source, IPv4Address):
        body = _body(shot, source, destination, size - _IP.size)
        kind, head = ETH_P_IP, _ip(shot, source, destination, _IP.size + len(body))
    else:
        body = _body(shot, source, destination, size - _IP6.size)
        ends = source.packed, destination.packed
        kind, head = ETH_P_IPV6, _IP6.pack(6 << 28, len(body), shot.protocol, TTL, *ends)
    return macs + struct.pack(">H", kind) + head + body


def _body(shot: Shot, source: IpAddress, destination: IpAddress, size: int) -> bytes:
    """Return what comes behind the IP header, checksum included."""
    if shot.protocol == TCP:
        plain = _TCP.pack(
            shot.source_port, shot.port, shot.number, 0, (_TCP.size // 4) << 4, SYN, 64240, 0, 0
        )
        return _summed(plain, 16, _pseudo(TCP, source, destination, len(plain)))
    if shot.protocol == UDP:
        length = max(size, _UDP.size + NONCE_BYTES)
        plain = _UDP.pack(shot.source_port, shot.port, length, 0) + shot.nonce
        return _summed(plain.ljust(length, b"\0"), 6, _pseudo(UDP, source, destination, length))
    kind, before = ECHO_REQUEST, b""
    if shot.protocol == ICMPV6:  # whose checksum is of addresses, too (RFC 4443, 2.3)
        length = max(size, _ICMP.size + NONCE_BYTES)
        kind, before = ECHO6_REQUEST, _pseudo(ICMPV6, source, destination, length)
    plain = _ICMP.pack(kind, 0, 0, shot.number >> 16, 1) + shot.nonce
    return _summed(plain.ljust(size, b"\0"), 2, before)


def _ip(shot: Shot, source: IpAddress, destination: IpAddress, length: int) -> bytes:
    ends, number = (source.packed, destination.packed), shot.number & 0xFFFF
    return _summed(_IP.pack(0x45, 0, length, number, 0, TTL, shot.protocol, 0, *ends), 10, b"")


def _pseudo(protocol: int, source: IpAddress, destination: IpAddress, length: int) -> bytes:
    """Return what a checksum is of besides; as a sum, IPv6's form is IPv4's (RFC 8200, 8.1)."""
    return source.packed + destination.packed + struct.pack(">BBH", 0, protocol, length)


def _summed(data: bytes, at: int, before: bytes) -> bytes:
    """Return data with the Internet checksum at its place (RFC 1071)."""
    padded = before + data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total > 0xFFFF:  # noqa: PLR2004 - sixteen bits
        total = (total & 0xFFFF) + (total >> 16)
    return data[:at] + struct.pack(">H", ~total & 0xFFFF or 0xFFFF) + data[at + 2 :]


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def recognise(
    shot: Shot, device: str, direction: str, tag: int | None, frame: bytes
) -> Seen | None:
    """Return what a captured frame is to a shot; None if it is none of its packets.

    Args:
        shot: What was sent.
        device: Where the frame was captured.
        direction: ``in`` or ``out``.
        tag: The VLAN id, if it is not in the bytes any more.
        frame: From the MAC addresses on.
    """
    kind, at = int.from_bytes(frame[12:14], "big"), 14
    if kind == ETH_P_8021Q:
        tag, kind, at = int.from_bytes(frame[14:16], "big") & 0xFFF, frame[16] << 8 | frame[17], 18
    opened = _opened(kind, frame[at:])
    part = _part(shot, kind, opened[0], opened[2]) if opened else None
    if opened is None or part is None:
        return None
    return Seen(part, device, direction, tag, opened[1])


def _opened(kind: int, packet: bytes) -> tuple[int, Header, bytes] | None:
    """Return protocol, header and body of an IP packet; None if it is none."""
    if kind == ETH_P_IP and len(packet) >= _IP.size:
        one = _IP.unpack_from(packet)
        header = Header(IPv4Address(one[8]), IPv4Address(one[9]), one[5])
        return one[6], header, packet[(packet[0] & 0xF) * 4 :]
    if kind == ETH_P_IPV6 and len(packet) >= _IP6.size:
        _, _, protocol, limit, source, destination = _IP6.unpack_from(packet)
        ends = IPv6Address(source), IPv6Address(destination)
        return protocol, Header(*ends, limit), packet[_IP6.size :]
    return None


def _part(shot: Shot, kind: int, protocol: int, body: bytes) -> str | None:
    """Return what the body of an IP packet is to a shot."""
    if body[:1] and (protocol, body[0]) in ERRORS:
        quoted = _opened(kind, body[_ICMP.size :])
        mine = quoted and quoted[0] == shot.protocol and _is_request(shot, quoted[2])
        return "error" if mine else None
    if protocol != shot.protocol:
        return None
    if protocol == TCP:
        return _tcp_part(shot, body)
    if protocol == UDP:
        answers = len(body) >= _UDP.size and _UDP.unpack_from(body)[0] == shot.port
        back = answers and _UDP.unpack_from(body)[1] == shot.source_port
        mine = body[_UDP.size :].startswith(shot.nonce)
        return "request" if mine and not back else "reply" if mine else None
    if not body[_ICMP.size :].startswith(shot.nonce):
        return None
    return ECHOES.get((protocol, body[0]))


def _tcp_part(shot: Shot, body: bytes) -> str | None:
    """Return what a TCP segment is to a shot; the sender's own RST stands for its next word."""
    if len(body) < _TCP.size:
        return None
    _, _, number, acknowledged, _, flags, *_ = _TCP.unpack_from(body)
    after = (shot.number + 1) & 0xFFFFFFFF
    if flags & (SYN | ACK) == SYN and number == shot.number:
        return "request"
    if flags & ACK and acknowledged == after:
        return "reply"
    return "confirm" if flags & RST and number == after else None


def _is_request(shot: Shot, body: bytes) -> bool:
    """Return whether what an ICMP error quotes behind the header is the request's (RFC 792)."""
    if shot.protocol == TCP:
        return body[4:8] == shot.nonce[:4]
    if shot.protocol == UDP:
        return int.from_bytes(body[2:4], "big") == shot.port and body[8:24] == shot.nonce
    return body[8:24] == shot.nonce


def seen_out(seen: Seen) -> list[Any]:
    """Return a sighting as plain data."""
    header = seen.header
    ends = str(header.source), str(header.destination), header.ttl
    return [seen.part, seen.device, seen.direction, seen.tag, *ends, seen.space]


def seen_in(data: Any) -> Seen:
    """Return the sighting that ``seen_out`` made this of.

    Raises:
        TypeError, ValueError: It is none.
    """
    part, device, direction, tag, source, destination, ttl, *more = data
    if part not in PARTS or direction not in ("in", "out"):
        raise ValueError(f"{part} {direction} is no sighting")
    header = Header(ip_address(str(source)), ip_address(str(destination)), int(ttl))
    space = str(more[0]) if more else ""  # an agent of before has none
    return Seen(part, str(device), direction, None if tag is None else int(tag), header, space)


def shot_out(shot: Shot) -> dict[str, Any]:
    """Return a shot as plain data."""
    return {"nonce": shot.nonce.hex(), "protocol": shot.protocol, "port": shot.port}


def shot_in(data: Mapping[str, Any]) -> Shot:
    """Return the shot that ``shot_out`` made this of.

    Raises:
        KeyError, TypeError, ValueError: It is none.
    """
    port = data["port"]
    nonce = bytes.fromhex(data["nonce"])
    return Shot(nonce, int(data["protocol"]), None if port is None else int(port))


@dataclass(frozen=True, slots=True)
class Labels:
    """What devices are to a comparison.

    Attributes:
        taps: Whose a tap is, by its name.
        segments: By host and device, a trunk with a tag as ``eth0#110``: the bridge that it
            belongs to, where that bridge's gateway is a router in a namespace.
    """

    taps: Mapping[str, str]
    segments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def leg(self, node: str, place: Sighting, header: Header | None) -> Leg:
        """Return which of a packet's passages of a node it is: before a router, or behind it."""
        label = place.device if place.tag is None else f"{place.device}#{place.tag}"
        bridge = self.segments.get(node, {}).get(label, "")
        return bridge, header.ttl if bridge and header else None


Leg = tuple[str, int | None]
Key = tuple[str, str, Leg]
"""A part, a node, and which of its passages."""


def held_against(
    trace: Trace, seen: Mapping[str, Iterable[Seen]], labels: Labels, parts: Iterable[str]
) -> tuple[Comparison, ...]:
    """Return how what hosts saw relates to what was predicted of them, node by node.

    Args:
        trace: What was predicted.
        seen: By node: a host, or a router on one. Those that are not in here are not compared.
        labels: Of the devices.
        parts: Which packets of the flow are compared.
    """
    wanted = set(parts)
    predicted = _by_place((s for s in trace.steps if s.node in seen and s.part in wanted), labels)
    observed = _observed(predicted, seen, labels, wanted)
    return compare(predicted.values(), observed)


def _by_place(steps: Iterable[Step], labels: Labels) -> dict[Key, Step]:
    """Return one step for each part and passage of a node: one that is made twice is made once."""
    found: dict[Key, Step] = {}
    for step in steps:
        key = step.part, step.node, labels.leg(step.node, step.path[0], step.before)
        earlier = found.get(key)
        if earlier is None:
            found[key] = replace(step, decisions=())
        else:
            path = sorted({*earlier.path, *step.path}, key=kernel_order)
            found[key] = replace(earlier, path=tuple(path), after=step.after)
    return found


def _observed(
    predicted: Mapping[Key, Step],
    seen: Mapping[str, Iterable[Seen]],
    labels: Labels,
    wanted: set[str],
) -> list[Step]:
    """Return what was seen as steps, in the order of the predicted ones, then the others."""
    places: dict[Key, list[tuple[Sighting, Header]]] = {}
    for node, sightings in seen.items():
        for one in sightings:
            if one.part in wanted:
                owner = labels.taps.get(one.device, "")
                place = Sighting(one.device, one.direction, one.tag, owner)
                key = one.part, node, labels.leg(node, place, one.header)
                places.setdefault(key, []).append((place, one.header))
    ordered = [*(k for k in predicted if k in places), *(k for k in places if k not in predicted)]
    names = {part: step.packet for (part, _, _), step in predicted.items()}
    return [_step(key, places[key], predicted.get(key), names) for key in ordered]


def _step(
    key: Key,
    found: list[tuple[Sighting, Header]],
    predicted: Step | None,
    names: Mapping[str, str],
) -> Step:
    """Return sightings on one node as a step; who is who by MAC is not told by hosts."""
    part, node, _ = key
    first_seen: dict[Sighting, Header] = {}
    for sighting, header in found:
        first_seen.setdefault(sighting, header)
    path = sorted(first_seen, key=kernel_order)
    return Step(
        packet=names.get(part, part),
        part=part,
        node=node,
        node_role=predicted.node_role if predicted else HOST,
        path=tuple(path),
        sender=predicted.sender if predicted else "",
        sender_mac="",
        receiver=predicted.receiver if predicted else "",
        receiver_mac="",
        before=first_seen[path[0]],
        after=first_seen[path[-1]],
    )
