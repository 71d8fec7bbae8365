"""The IPv4 connection tracking table, read and cut by netlink (nfnetlink_conntrack.h)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address

from trunkline.errors import MissingFeature
from trunkline.hoststate import Connection
from trunkline.kernel import netlink
from trunkline.kernel.netlink import Attributes, attribute, attributes

# nfnetlink.h, nfnetlink_conntrack.h
GET, DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET, _DELETE
TUPLE_ORIG, TUPLE_REPLY, ZONE = 1, 2, 18  # CTA_*
TUPLE_IP, TUPLE_PROTO = 1, 2
IP_SOURCE, IP_DESTINATION = 1, 2
NUMBER, SOURCE_PORT, DESTINATION_PORT, ICMP_ID, ICMP_TYPE, ICMP_CODE = 1, 2, 3, 4, 5, 6
NESTED = 0x8000  # NLA_F_NESTED
ICMP = 1

HEADER = struct.pack("=BBH", socket.AF_INET, 0, 0)  # struct nfgenmsg


def read() -> Iterator[Connection]:
    """Yield the table's entries.

    Raises:
        MissingFeature: This kernel has no connection tracking by netlink.
        Interrupted: The table changed under each of several readings. Retryable.
    """
    try:
        bodies = netlink.dump(netlink.NETFILTER, GET, HEADER)
    except OSError as error:
        raise MissingFeature(
            f"connection tracking: {error.strerror}; load it: modprobe nf_conntrack_netlink"
        ) from error
    for body in bodies:
        found = attributes(body, len(HEADER))
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
            body = HEADER + attribute(TUPLE_ORIG | NESTED, _encoded(connection))
            body += attribute(ZONE, connection.zone.to_bytes(2)) if connection.zone else b""
            with suppress(FileNotFoundError):
                netlink.order(netlink.NETFILTER, DELETE, 0, body)


def _tuple(data: bytes) -> tuple[Attributes, Attributes]:
    parts = attributes(data)
    return attributes(parts[TUPLE_IP]), attributes(parts[TUPLE_PROTO])


def _connection(
    first: tuple[Attributes, Attributes], reply: tuple[Attributes, Attributes], zone: int
) -> Connection:
    (ip, proto), (reply_ip, reply_proto) = first, reply
    source_port, destination_port = _ports(proto)
    reply_source_port, reply_destination_port = _ports(reply_proto)
    return Connection(
        protocol=proto[NUMBER][0],
        source=IPv4Address(ip[IP_SOURCE]),
        destination=IPv4Address(ip[IP_DESTINATION]),
        source_port=source_port,
        destination_port=destination_port,
        reply_source=IPv4Address(reply_ip[IP_SOURCE]),
        reply_destination=IPv4Address(reply_ip[IP_DESTINATION]),
        reply_source_port=reply_source_port,
        reply_destination_port=reply_destination_port,
        zone=zone,
    )


def _ports(proto: Attributes) -> tuple[int, int]:
    """Return (source, destination) port; for ICMP (id, type), see ``Connection``."""
    if proto[NUMBER][0] == ICMP:
        return int.from_bytes(proto[ICMP_ID]), proto[ICMP_TYPE][0]
    source, destination = proto.get(SOURCE_PORT, b""), proto.get(DESTINATION_PORT, b"")
    return int.from_bytes(source), int.from_bytes(destination)


def _encoded(c: Connection) -> bytes:
    """Return the first packet's tuple, by which the kernel finds an entry."""
    ip = attribute(IP_SOURCE, c.source.packed) + attribute(IP_DESTINATION, c.destination.packed)
    proto = attribute(NUMBER, bytes([c.protocol]))
    if c.protocol == ICMP:
        proto += attribute(ICMP_ID, c.source_port.to_bytes(2))
        proto += attribute(ICMP_TYPE, bytes([c.destination_port]))
        proto += attribute(ICMP_CODE, b"\0")
    else:
        proto += attribute(SOURCE_PORT, c.source_port.to_bytes(2))
        proto += attribute(DESTINATION_PORT, c.destination_port.to_bytes(2))
    return attribute(TUPLE_IP | NESTED, ip) + attribute(TUPLE_PROTO | NESTED, proto)
