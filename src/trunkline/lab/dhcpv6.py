"""An instance's DHCPv6 client, as small as one can be: four messages (RFC 8415, 18.2).

Of Debian 12's clients, busybox has none built in, dhclient is kept out of a lab's directories by
its AppArmor profile, and dhcpcd has one state for each interface name, which here all instances
share. Asks for one address, and puts it to no use.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address

from trunkline.kernel import netns
from trunkline.model import link_local

SERVERS, SERVER_PORT, CLIENT_PORT = "ff02::1:2", 547, 546
SOLICIT, ADVERTISE, REQUEST, REPLY = 1, 2, 3, 7
CLIENT_ID, SERVER_ID, IA_NA, IA_ADDRESS, ELAPSED, RESOLVERS = 1, 2, 3, 5, 8, 23
DUID_LL, ETHERNET = 3, 1
RESEND_S = 1.0  # RFC 8415, SOL_TIMEOUT


@dataclass(frozen=True, slots=True)
class Lease:
    """What a server gave, and who it is.

    Attributes:
        server: The link-local address that its answers came from.
        resolvers: DNS servers.
    """

    address: IPv6Address
    server: IPv6Address
    resolvers: tuple[IPv6Address, ...]


def ask(namespace: str, link: str, mac: str, timeout_s: float) -> Lease | None:
    """Return what an instance is given; None: nobody answered, or had an address for it.

    Args:
        namespace: The instance's.
        link: Its interface, whose link-local address is waited for.
        mac: Of the interface.
        timeout_s: How long to go on asking.
    """
    end = time.monotonic() + timeout_s
    duid = struct.pack(">HH", DUID_LL, ETHERNET) + bytes.fromhex(mac.replace(":", ""))
    with netns.socket(namespace, socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        with netns.enter(namespace):
            scope = socket.if_nametoindex(link)
        if not _bound(sock, link_local(mac), scope, end):
            return None
        offer = _exchange(sock, scope, (SOLICIT, ADVERTISE), _options(duid, None), end)
        if offer is None or _address(offer[0]) is None:
            return None
        given = _options(duid, offer[0])
        answer = _exchange(sock, scope, (REQUEST, REPLY), given, end)
        address = _address(answer[0]) if answer else None
        if answer is None or address is None:
            return None
        packed = answer[0].get(RESOLVERS, b"")
        named = (packed[start : start + 16] for start in range(0, len(packed), 16))
        return Lease(address, answer[1], tuple(map(IPv6Address, named)))


def _bound(sock: socket.socket, address: IPv6Address, scope: int, end: float) -> bool:
    """Bind to a link-local address as soon as the kernel has found that nobody else has it."""
    while time.monotonic() < end:
        with suppress(OSError):
            sock.bind((str(address), CLIENT_PORT, 0, scope))
            return True
        time.sleep(0.01)
    return False


def _options(duid: bytes, offer: dict[int, bytes] | None) -> bytes:
    """Return a message's options: those of a question, or what takes an offer."""
    options = _option(CLIENT_ID, duid) + _option(ELAPSED, bytes(2))
    if offer is None:
        return options + _option(IA_NA, bytes([0, 0, 0, 1]) + bytes(8))
    return options + _option(SERVER_ID, offer[SERVER_ID]) + _option(IA_NA, offer[IA_NA])


def _exchange(
    sock: socket.socket, scope: int, kinds: tuple[int, int], options: bytes, end: float
) -> tuple[dict[int, bytes], IPv6Address] | None:
    """Send a message until its answer comes; return the answer's options, and whose it is."""
    number = secrets.token_bytes(3)
    message = bytes([kinds[0]]) + number + options
    while (left_s := end - time.monotonic()) > 0:
        sock.sendto(message, (SERVERS, SERVER_PORT, 0, scope))
        sock.settimeout(min(left_s, RESEND_S))
        with suppress(TimeoutError):
            data, sender = sock.recvfrom(2048)
            if data[0] == kinds[1] and data[1:4] == number:
                return dict(_split(data[4:])), IPv6Address(sender[0].partition("%")[0])
    return None


def _address(options: dict[int, bytes]) -> IPv6Address | None:
    found = dict(_split(options.get(IA_NA, b"")[12:]))
    return IPv6Address(found[IA_ADDRESS][:16]) if IA_ADDRESS in found else None


def _option(kind: int, value: bytes) -> bytes:
    return struct.pack(">HH", kind, len(value)) + value


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= struct.calcsize(">HH"):
        kind, length = struct.unpack_from(">HH", data)
        yield kind, data[4 : 4 + length]
        data = data[4 + length :]
