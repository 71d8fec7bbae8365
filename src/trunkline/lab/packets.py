"""Captured frames taken apart. Pure: bytes in, values out.

Decides what of a frame a walk and a verdict may speak of. A frame that cannot be taken apart
stays a frame with its MACs; nothing here raises for what came off a wire.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address

import dpkt

from trunkline.model import IpAddress

BROADCAST = "ff:ff:ff:ff:ff:ff"
VLAN_TPID = 0x8100  # IEEE 802.1Q
VLAN_ID_MASK = 0x0FFF
ECHO_REPLY, UNREACHABLE, ECHO_REQUEST = 0, 3, 8  # RFC 792
HOST_UNREACHABLE = 1
ECHO6_REQUEST, ECHO6_REPLY, UNREACHABLE6 = 128, 129, 1  # RFC 4443
SOLICIT_ROUTER, ADVERTISE_ROUTER, SOLICIT, ADVERTISE = 133, 134, 135, 136  # RFC 4861
NO_ROUTE, PROHIBITED = 0, 1
ICMP, ICMPV6 = 1, 58


@dataclass(frozen=True, slots=True)
class Arp:
    """An ARP message (RFC 826)."""

    is_reply: bool
    sender_mac: str
    sender: IPv4Address
    target: IPv4Address


@dataclass(frozen=True, slots=True)
class Ip:
    """An IP header, and what the walk needs of the layer above.

    Attributes:
        ttl: Or hop limit.
        ports: Source and destination, with TCP and UDP.
        flags: TCP flags as letters, such as ``SA``.
        icmp: Type and code, of either family's.
        quoted: With an ICMP error, source and destination of the packet it is about.
    """

    source: IpAddress
    destination: IpAddress
    ttl: int
    protocol: int
    payload: bytes
    ports: tuple[int, int] | None = None
    flags: str = ""
    icmp: tuple[int, int] | None = None
    quoted: tuple[IpAddress, IpAddress] | None = None


@dataclass(frozen=True, slots=True)
class Dhcp:
    """A DHCP message (RFC 2131).

    Attributes:
        message: Its type's name, such as ``DISCOVER``.
        offered: ``yiaddr``, the address that the client gets.
    """

    message: str
    client_mac: str
    offered: IPv4Address
    server: IPv4Address | None
    router: IPv4Address | None


@dataclass(frozen=True)
class Frame:
    """One frame as it passed one device.

    Attributes:
        at_ns: The kernel's clock, nanoseconds since the epoch.
        direction: ``in`` came from outside of the device into its host, ``out`` left by it.
        vlan_id: Of its 802.1Q tag, wherever the kernel kept that; None without one.
        data: The frame's bytes without the tag.
    """

    at_ns: int
    node: str
    device: str
    direction: str
    vlan_id: int | None
    data: bytes

    @property
    def source_mac(self) -> str:
        """Return the sender's MAC."""
        return self.data[6:12].hex(":")

    @property
    def destination_mac(self) -> str:
        """Return the receiver's MAC."""
        return self.data[:6].hex(":")

    @property
    def tagged(self) -> bytes:
        """Return the frame's bytes as they are on the wire, tag included."""
        if self.vlan_id is None:
            return self.data
        return self.data[:12] + struct.pack(">HH", VLAN_TPID, self.vlan_id) + self.data[12:]

    @cached_property
    def arp(self) -> Arp | None:
        """Return its ARP message, if it is one."""
        arp = self._parsed
        if not isinstance(arp, dpkt.arp.ARP):
            return None
        return Arp(
            is_reply=arp.op == dpkt.arp.ARP_OP_REPLY,
            sender_mac=arp.sha.hex(":"),
            sender=IPv4Address(arp.spa),
            target=IPv4Address(arp.tpa),
        )

    @cached_property
    def ip(self) -> Ip | None:
        """Return its IP header, if it has one."""
        ip = self._parsed
        if isinstance(ip, dpkt.ip6.IP6):
            return _ip6(ip)
        return _ip(ip) if isinstance(ip, dpkt.ip.IP) else None

    @cached_property
    def dhcp(self) -> Dhcp | None:
        """Return its DHCP message, if it is one."""
        ip = self._parsed
        if not isinstance(ip, dpkt.ip.IP) or not isinstance(ip.data, dpkt.udp.UDP):
            return None
        if {ip.data.sport, ip.data.dport} != {67, 68}:
            return None
        with suppress(dpkt.UnpackError, ValueError, IndexError):
            return _dhcp(dpkt.dhcp.DHCP(ip.data.data))
        return None

    @cached_property
    def _parsed(self) -> object:
        with suppress(dpkt.UnpackError, ValueError, IndexError):
            return dpkt.ethernet.Ethernet(self.data).data
        return None


def frame(
    at_ns: int, node: str, device: str, direction: str, tag: int | None, data: bytes
) -> Frame:
    """Return a frame, its tag taken from ``tag`` (TCI) or, where it is inline, from the bytes."""
    if tag is None and data[12:14] == struct.pack(">H", VLAN_TPID):
        tag = int.from_bytes(data[14:16], "big")
        data = data[:12] + data[16:]
    vlan_id = None if tag is None else tag & VLAN_ID_MASK
    return Frame(at_ns, node, device, direction, vlan_id, data)


def _ip(ip: dpkt.ip.IP) -> Ip:
    ports: tuple[int, int] | None = None
    icmp: tuple[int, int] | None = None
    quoted = None
    flags = ""
    match ip.data:
        case dpkt.tcp.TCP() as tcp:
            ports, flags = (tcp.sport, tcp.dport), "".join(_flags(tcp.flags))
        case dpkt.udp.UDP() as udp:
            ports = (udp.sport, udp.dport)
        case dpkt.icmp.ICMP() as message:
            icmp, quoted = (message.type, message.code), _quoted(bytes(message)[8:], message.type)
    return Ip(
        source=IPv4Address(ip.src),
        destination=IPv4Address(ip.dst),
        ttl=ip.ttl,
        protocol=ip.p,
        payload=bytes(ip.data),
        ports=ports,
        flags=flags,
        icmp=icmp,
        quoted=quoted,
    )


def _ip6(ip: dpkt.ip6.IP6) -> Ip:
    ports: tuple[int, int] | None = None
    icmp: tuple[int, int] | None = None
    quoted = None
    flags = ""
    data = bytes(ip.data)
    match ip.data:
        case dpkt.tcp.TCP() as tcp:
            ports, flags = (tcp.sport, tcp.dport), "".join(_flags(tcp.flags))
        case dpkt.udp.UDP() as udp:
            ports = (udp.sport, udp.dport)
        case dpkt.icmp6.ICMP6() as message:
            icmp, quoted = (message.type, message.code), _quoted6(data[8:], message.type)
    return Ip(
        source=IPv6Address(ip.src),
        destination=IPv6Address(ip.dst),
        ttl=ip.hlim,
        protocol=ip.p,
        payload=data,
        ports=ports,
        flags=flags,
        icmp=icmp,
        quoted=quoted,
    )


def _quoted6(data: bytes, icmp_type: int) -> tuple[IPv6Address, IPv6Address] | None:
    """Return source and destination of the packet that an ICMPv6 error is about."""
    if icmp_type >= ECHO6_REQUEST or len(data) < dpkt.ip6.IP6.__hdr_len__:
        return None
    return IPv6Address(data[8:24]), IPv6Address(data[24:40])


def _flags(flags: int) -> Iterator[str]:
    for letter, bit in (("S", 0x02), ("A", 0x10), ("F", 0x01), ("R", 0x04), ("P", 0x08)):
        if flags & bit:
            yield letter


def _quoted(data: bytes, icmp_type: int) -> tuple[IPv4Address, IPv4Address] | None:
    """Return source and destination of the packet that an ICMP error is about."""
    if icmp_type not in (UNREACHABLE, 11, 12) or len(data) < dpkt.ip.IP.__hdr_len__:
        return None
    return IPv4Address(data[12:16]), IPv4Address(data[16:20])


def _dhcp(dhcp: dpkt.dhcp.DHCP) -> Dhcp:
    options = dict(dhcp.opts)
    number = options.get(dpkt.dhcp.DHCP_OPT_MSGTYPE, b"\0")[0]
    names = ("?", "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM")
    return Dhcp(
        message=names[number] if number < len(names) else "?",
        client_mac=dhcp.chaddr[:6].hex(":"),
        offered=IPv4Address(dhcp.yiaddr),
        server=_option(options, dpkt.dhcp.DHCP_OPT_SERVER_ID),
        router=_option(options, dpkt.dhcp.DHCP_OPT_ROUTER),
    )


def _option(options: dict[int, bytes], number: int) -> IPv4Address | None:
    value = options.get(number)
    return IPv4Address(value[:4]) if value else None
