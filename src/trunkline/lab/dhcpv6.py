"""An instance's DHCPv6 client, as small as one can be (RFC 8415, 18.2).

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
SOLICIT, ADVERTISE, REQUEST, REPLY, INFORMATION_REQUEST = 1, 2, 3, 7, 11
CLIENT_ID, SERVER_ID, IA_NA, IA_ADDRESS, REQUESTED, ELAPSED, RESOLVERS = 1, 2, 3, 5, 6, 8, 23
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
    end, duid = time.monotonic() + timeout_s, _duid(mac)
    with netns.socket(namespace, socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        scope = _scope(namespace, link)
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
        return Lease(address, answer[1], _resolvers(answer[0]))


def inform(namespace: str, link: str, mac: str, timeout_s: float) -> tuple[IPv6Address, ...] | None:
    """Return the resolvers that an instance is told of which makes its address itself.

    Arguments as for ``ask``; None: nobody answered.
    """
    end = time.monotonic() + timeout_s
    options = _option(CLIENT_ID, _duid(mac)) + _option(ELAPSED, bytes(2))
    options += _option(REQUESTED, struct.pack(">H", RESOLVERS))
    with netns.socket(namespace, socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        scope = _scope(namespace, link)
        if not _bound(sock, link_local(mac), scope, end):
            return None
        answer = _exchange(sock, scope, (INFORMATION_REQUEST, REPLY), options, end)
    return _resolvers(answer[0]) if answer else None


def _duid(mac: str) -> bytes:
    return struct.pack(">HH", DUID_LL, ETHERNET) + bytes.fromhex(mac.replace(":", ""))


def _scope(namespace: str, link: str) -> int:
    with netns.enter(namespace):
        return socket.if_nametoindex(link)


def _resolvers(options: dict[int, bytes]) -> tuple[IPv6Address, ...]:
    packed = options.get(RESOLVERS, b"")
    named = (packed[start : start + 16] for start in range(0, len(packed), 16))
    return tuple(map(IPv6Address, named))


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
