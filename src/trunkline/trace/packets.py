"""What travels in a walk: IPv4 packets, ARP messages and DHCP messages, in frames, as values.

Decides how an answer to a packet looks. Knows no node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address

BROADCAST = "ff:ff:ff:ff:ff:ff"
EVERYBODY = IPv4Address(2**32 - 1)
NOBODY = IPv4Address(0)
ICMP, TCP, UDP = 1, 6, 17
ECHO_REPLY, UNREACHABLE, ECHO_REQUEST, TIME_EXCEEDED = 0, 3, 8, 11  # RFC 792
NET_UNREACHABLE, HOST_UNREACHABLE = (UNREACHABLE, 0), (UNREACHABLE, 1)
FRAGMENTATION_NEEDED = (UNREACHABLE, 4)
TTL = 64
DHCP_CLIENT, DHCP_SERVER = 68, 67
EPHEMERAL_PORT = 40000  # any port that no service has

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "icmpv6": 58, "sctp": 132, "udplite": 136}
"""Protocol numbers by the names that nft prints."""

REJECTIONS = {
    "net-unreachable": NET_UNREACHABLE,
    "host-unreachable": HOST_UNREACHABLE,
    "port-unreachable": (UNREACHABLE, 3),
    "admin-prohibited": (UNREACHABLE, 13),
}
"""ICMP type and code by the names that nft's reject statement has."""


@dataclass(frozen=True, slots=True)
class Packet:
    """An IPv4 packet.

    Attributes:
        name: What a story calls it, the same at every node: ``ICMP echo request``.
        role: ``request``, ``reply``, ``confirm`` (the third packet of TCP's handshake) or
            ``error``.
        source_port, destination_port: With ICMP queries, the id and nothing.
        icmp: Type and code.
        flags: TCP flags as letters, such as ``SA``.
        about: With an ICMP error, the packet it quotes, as it was where it met its end.
        size: Of the whole packet, in bytes; with "don't fragment" set.
    """

    name: str
    role: str
    protocol: int
    source: IPv4Address
    destination: IPv4Address
    ttl: int = TTL
    source_port: int | None = None
    destination_port: int | None = None
    icmp: tuple[int, int] | None = None
    flags: str = ""
    about: Packet | None = None
    size: int = 84


@dataclass(frozen=True, slots=True)
class Arp:
    """An ARP message (RFC 826)."""

    is_reply: bool
    sender_mac: str
    sender: IPv4Address
    target: IPv4Address

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
    if packet.protocol == TCP:
        return replace(back, name="TCP SYN-ACK", flags="SA", size=60)
    return replace(back, name=f"{packet.name} answer")


def confirmation(reply: Packet) -> Packet:
    """Return the third packet of TCP's handshake, given the second as its receiver got it."""
    return replace(answer(reply), name="TCP ACK", role="confirm", flags="A", size=52)


def error(packet: Packet, source: IPv4Address, icmp: tuple[int, int]) -> Packet:
    """Return the ICMP error that a node sends about a packet."""
    names = {
        HOST_UNREACHABLE: "ICMP host unreachable",
        FRAGMENTATION_NEEDED: "ICMP fragmentation needed",
        (TIME_EXCEEDED, 0): "ICMP time exceeded",
    }
    return Packet(
        name=names.get(icmp, f"ICMP type {icmp[0]} code {icmp[1]}"),
        role="error",
        protocol=ICMP,
        source=source,
        destination=packet.source,
        icmp=icmp,
        about=packet,
    )
