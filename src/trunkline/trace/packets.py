"""What travels in a walk: IP packets, ARP and neighbour discovery, DHCP, in frames, as values.

Decides how an answer to a packet looks. Knows no node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from trunkline.model import IpAddress

BROADCAST = "ff:ff:ff:ff:ff:ff"
EVERYBODY = IPv4Address(2**32 - 1)
NOBODY, NOBODY6 = IPv4Address(0), IPv6Address(0)
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
ECHO_REPLY, UNREACHABLE, ECHO_REQUEST, TIME_EXCEEDED = 0, 3, 8, 11  # RFC 792
ECHO6_REQUEST, ECHO6_REPLY = 128, 129  # RFC 4443
SOLICIT, ADVERTISE = 135, 136  # RFC 4861
NET_UNREACHABLE, HOST_UNREACHABLE = (UNREACHABLE, 0), (UNREACHABLE, 1)
FRAGMENTATION_NEEDED = (UNREACHABLE, 4)
TTL_OVER = (TIME_EXCEEDED, 0)
NO_ROUTE6, PROHIBITED6 = (1, 0), (1, 1)
IN_V6 = {
    NET_UNREACHABLE: NO_ROUTE6,
    HOST_UNREACHABLE: (1, 3),
    FRAGMENTATION_NEEDED: (2, 0),
    TTL_OVER: (3, 0),
}
"""What ICMPv6 says instead (RFC 4443, 3)."""
TTL = 64
DHCP_CLIENT, DHCP_SERVER = 68, 67
EPHEMERAL_PORT = 40000  # any port that no service has

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "icmpv6": 58, "sctp": 132, "udplite": 136}
"""Protocol numbers by the names that nft prints."""

ERRORS = {
    HOST_UNREACHABLE: "host unreachable",
    FRAGMENTATION_NEEDED: "fragmentation needed",
    TTL_OVER: "time exceeded",
}
ERRORS6 = {NO_ROUTE6: "no route", PROHIBITED6: "prohibited"}
"""What stories call ICMP errors."""

REJECTIONS = {
    "net-unreachable": NET_UNREACHABLE,
    "host-unreachable": HOST_UNREACHABLE,
    "port-unreachable": (UNREACHABLE, 3),
    "admin-prohibited": (UNREACHABLE, 13),
}
"""ICMP type and code by the names that nft's reject statement has."""
REJECTIONS6 = {"no-route": NO_ROUTE6, "admin-prohibited": PROHIBITED6}
"""Likewise of ICMPv6."""


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet.

    Attributes:
        name: What a story calls it, the same at every node: ``ICMP echo request``.
        role: ``request``, ``reply``, ``confirm`` (the third packet of TCP's handshake), ``error``,
            ``dhcp``, or ``arp``, which neighbour discovery is in IPv6.
        source_port, destination_port: With ICMP queries, the id and nothing.
        icmp: Type and code.
        flags: TCP flags as letters, such as ``SA``.
        about: With an ICMP error, the packet it quotes, as it was where it met its end.
        size: Of the whole packet, in bytes; with "don't fragment" set.
        target: With neighbour discovery, the address that it is about (RFC 4861, 4.3 and 4.4).
    """

    name: str
    role: str
    protocol: int
    source: IpAddress
    destination: IpAddress
    ttl: int = TTL
    source_port: int | None = None
    destination_port: int | None = None
    icmp: tuple[int, int] | None = None
    flags: str = ""
    about: Packet | None = None
    size: int = 84
    target: IpAddress | None = None

    @property
    def version(self) -> int:
        """Return the version of IP."""
        return self.destination.version


@dataclass(frozen=True, slots=True)
class Arp:
    """An ARP message (RFC 826)."""

    is_reply: bool
    sender_mac: str
    sender: IpAddress
    target: IpAddress

    @property
    def name(self) -> str:
        """Return what a story calls it."""
        if self.is_reply:
            return f"ARP reply to {self.target}: {self.sender} is here"
        return f"ARP request: who has {self.target}? tell {self.sender}"


@dataclass(frozen=True, slots=True)
class Frame:
    """What is on a wire.

    Attributes:
        tag: VLAN id of its 802.1Q tag.
        zone: The connection tracking zone in which the namespace that it is in looks it up.
    """

    source_mac: str
    destination_mac: str
    payload: Packet | Arp
    tag: int | None = None
    zone: int = 0

    @property
    def is_for_many(self) -> bool:
        """Return whether it is for everybody."""
        return is_for_many(self.destination_mac)


def is_for_many(mac: str) -> bool:
    """Return whether a MAC is the broadcast's, or of IPv6's multicast (RFC 2464, 7)."""
    return mac == BROADCAST or mac.startswith("33:33:")


def solicitation(mac: str, source: IpAddress, target: IPv6Address) -> Frame:
    """Return the question for a neighbour's MAC (RFC 4861, 4.3; RFC 4291, 2.7.1)."""
    low = int(target) & 0xFFFFFF
    group = IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | low)
    packet = _discovery(asking(source, target), source, group, SOLICIT, target)
    return Frame(mac, "33:33:ff:" + ":".join(f"{octet:02x}" for octet in low.to_bytes(3)), packet)


def advertisement(mac: str, to_mac: str, target: IpAddress, to: IpAddress) -> Frame:
    """Return the answer to it."""
    packet = _discovery(telling(to, target), target, to, ADVERTISE, target)
    return Frame(mac, to_mac, packet)


def asking(source: IpAddress, target: IpAddress) -> str:
    """Return what a story calls a neighbour solicitation."""
    return f"neighbour solicitation: who has {target}? tell {source}"


def telling(to: IpAddress, target: IpAddress) -> str:
    """Return what a story calls a neighbour advertisement."""
    return f"neighbour advertisement to {to}: {target} is here"


def _discovery(
    name: str, source: IpAddress, destination: IpAddress, kind: int, target: IpAddress
) -> Packet:
    return Packet(
        name=name,
        role="arp",
        protocol=ICMPV6,
        source=source,
        destination=destination,
        ttl=255,
        icmp=(kind, 0),
        size=72,
        target=target,
    )


def answer(packet: Packet) -> Packet:
    """Return what a willing receiver answers."""
    back = replace(
        packet,
        role="reply",
        source=packet.destination,
        destination=packet.source,
        source_port=packet.destination_port,
        destination_port=packet.source_port,
        ttl=TTL,
    )
    if packet.protocol == ICMP:
        return replace(
            back, name="ICMP echo reply", icmp=(ECHO_REPLY, 0), source_port=packet.source_port
        )
    if packet.protocol == ICMPV6:
        return replace(
            back, name="ICMPv6 echo reply", icmp=(ECHO6_REPLY, 0), source_port=packet.source_port
        )
    if packet.protocol == TCP:
        return replace(back, name="TCP SYN-ACK", flags="SA", size=60)
    return replace(back, name=f"{packet.name} answer")


def confirmation(reply: Packet) -> Packet:
    """Return the third packet of TCP's handshake, given the second as its receiver got it."""
    return replace(answer(reply), name="TCP ACK", role="confirm", flags="A", size=52)


def error(packet: Packet, source: IpAddress, icmp: tuple[int, int]) -> Packet:
    """Return the ICMP error that a node sends about a packet.

    Args:
        packet: Which.
        source: The node's address.
        icmp: Type and code; ICMP's are put into ICMPv6's where the packet is of IPv6.
    """
    is_v6 = packet.version == IPv6Address(0).version
    code = IN_V6.get(icmp, icmp) if is_v6 else icmp
    word, names = ("ICMPv6", ERRORS6) if is_v6 else ("ICMP", ERRORS)
    return Packet(
        name=f"{word} {names.get(code, f'type {code[0]} code {code[1]}')}",
        role="error",
        protocol=ICMPV6 if is_v6 else ICMP,
        source=source,
        destination=packet.source,
        icmp=code,
        about=packet,
    )
