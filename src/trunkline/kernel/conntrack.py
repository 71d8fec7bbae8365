"""The connection tracking table of both families, by netlink (nfnetlink_conntrack.h)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from trunkline.errors import MissingFeature
from trunkline.hoststate import Connection
from trunkline.kernel import netlink
from trunkline.kernel.netlink import Attributes, attribute, attributes
from trunkline.model import IpAddress

# nfnetlink.h, nfnetlink_conntrack.h
GET, DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET, _DELETE
TUPLE_ORIG, TUPLE_REPLY, ZONE = 1, 2, 18  # CTA_*
TUPLE_IP, TUPLE_PROTO = 1, 2
IP4_SOURCE, IP4_DESTINATION, IP6_SOURCE, IP6_DESTINATION = 1, 2, 3, 4
NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3
QUERIES = {1: (4, 5, 6), 58: (7, 8, 9)}  # ICMP and ICMPv6: CTA_PROTO_*_ID, _TYPE, _CODE
NESTED = 0x8000  # NLA_F_NESTED
IPV6 = 6
FAMILIES = {4: socket.AF_INET, IPV6: socket.AF_INET6}

HEADER = struct.Struct("=BBH")  # struct nfgenmsg


def read() -> Iterator[Connection]:
    """Yield the table's entries.

    Raises:
        MissingFeature: This kernel has no connection tracking by netlink.
        Interrupted: The table changed under each of several readings. Retryable.
    """
    try:
        bodies = netlink.dump(netlink.NETFILTER, GET, _header(socket.AF_UNSPEC))
    except OSError as error:
        raise MissingFeature(
            f"connection tracking: {error.strerror}; load it: modprobe nf_conntrack_netlink"
        ) from error
    for body in bodies:
        found = attributes(body, HEADER.size)
        if TUPLE_ORIG in found and TUPLE_REPLY in found:
            zone = int.from_bytes(found.get(ZONE, b""))
            yield _connection(_tuple(found[TUPLE_ORIG]), _tuple(found[TUPLE_REPLY]), zone)


def cut(connections: Iterable[Connection]) -> None:
    """Remove entries; one that has ended by itself meanwhile is fine.

    Raises:
        Rejected: The kernel refuses.
    """
    for connection in connections:
        with netlink.refusals(f"conntrack -D -s {connection.source} -d {connection.destination}"):
            body = _header(FAMILIES[connection.source.version])
            body += attribute(TUPLE_ORIG | NESTED, _encoded(connection))
            body += attribute(ZONE, connection.zone.to_bytes(2)) if connection.zone else b""
            with suppress(FileNotFoundError):
                netlink.order(netlink.NETFILTER, DELETE, 0, body)


def _header(family: int) -> bytes:
    return HEADER.pack(family, 0, 0)


def _tuple(data: bytes) -> tuple[Attributes, Attributes]:
    parts = attributes(data)
    return attributes(parts[TUPLE_IP]), attributes(parts[TUPLE_PROTO])


def _connection(
    first: tuple[Attributes, Attributes], reply: tuple[Attributes, Attributes], zone: int
) -> Connection:
    (ip, proto), (reply_ip, reply_proto) = first, reply
    source, destination = _addresses(ip)
    reply_source, reply_destination = _addresses(reply_ip)
    source_port, destination_port = _ports(proto)
    reply_source_port, reply_destination_port = _ports(reply_proto)
    return Connection(
        protocol=proto[NUMBER][0],
        source=source,
        destination=destination,
        source_port=source_port,
        destination_port=destination_port,
        reply_source=reply_source,
        reply_destination=reply_destination,
        reply_source_port=reply_source_port,
        reply_destination_port=reply_destination_port,
        zone=zone,
    )


def _addresses(ip: Attributes) -> tuple[IpAddress, IpAddress]:
    if IP6_SOURCE in ip:
        return IPv6Address(ip[IP6_SOURCE]), IPv6Address(ip[IP6_DESTINATION])
    return IPv4Address(ip[IP4_SOURCE]), IPv4Address(ip[IP4_DESTINATION])


def _ports(proto: Attributes) -> tuple[int, int]:
    """Return (source, destination) port; for ICMP (id, type), see ``Connection``."""
    if proto[NUMBER][0] in QUERIES:
        number, kind, _ = QUERIES[proto[NUMBER][0]]
        return int.from_bytes(proto[number]), proto[kind][0]
    source, destination = proto.get(SOURCE_PORT, b""), proto.get(DESTINATION_PORT, b"")
    return int.from_bytes(source), int.from_bytes(destination)


def _encoded(c: Connection) -> bytes:
    """Return the first packet's tuple, by which the kernel finds an entry."""
    ends = (
        (IP6_SOURCE, IP6_DESTINATION) if c.source.version == IPV6 else (IP4_SOURCE, IP4_DESTINATION)
    )
    ip = attribute(ends[0], c.source.packed) + attribute(ends[1], c.destination.packed)
    proto = attribute(NUMBER, bytes([c.protocol]))
    if c.protocol in QUERIES:
        number, kind, code = QUERIES[c.protocol]
        proto += attribute(number, c.source_port.to_bytes(2))
        proto += attribute(kind, bytes([c.destination_port]))
        proto += attribute(code, b"\0")
    else:
        proto += attribute(SOURCE_PORT, c.source_port.to_bytes(2))
        proto += attribute(DESTINATION_PORT, c.destination_port.to_bytes(2))
    return attribute(TUPLE_IP | NESTED, ip) + attribute(TUPLE_PROTO | NESTED, proto)
