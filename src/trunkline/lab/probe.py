"""Real packets sent from inside an instance, and what came back.

Each probe carries a nonce in its payload, which survives new MACs, tags and translation, so a
capture can tell its frames from all others. Knows nothing of what the answer ought to be.
"""

from __future__ import annotations

import http.client
import secrets
import select
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

import dpkt

from trunkline.kernel import netns
from trunkline.lab.packets import (
    ECHO6_REPLY,
    ECHO6_REQUEST,
    ECHO_REPLY,
    ECHO_REQUEST,
    UNREACHABLE,
    UNREACHABLE6,
)
from trunkline.model import IpAddress

SO_RCVBUFFORCE = 33  # asm-generic/socket.h
HEADERS = 24  # of IPv4, and the first half of ICMP's
PING_SIZE = HEADERS + 20  # what a nonce needs
DNS_PORT = 53
OFFERED_KBPS, RATE_PORT, RATE_SIZE, UDP_HEADERS = 24_000, 5202, 1200, 28
SETTLING_S, MEASURED_S, TICK_S = 1.0, 2.0, 0.002
NONCE_BYTES = 16
PORT = 5201  # what the listening side of a TCP or UDP probe listens on


@dataclass(frozen=True, slots=True)
class _Version:
    """How sockets of one version of IP are used.

    Attributes:
        level: Of its options (linux/in.h, linux/in6.h): errors are told, and packets are sent
            whole, without heed of what was learned of the path.
        header: Its bytes that a raw socket hands over with a message.
        echo: Types of echo request, echo reply and destination unreachable.
    """

    family: int
    level: int
    recverr: int
    mtu_discover: int
    any: str
    icmp: int
    header: int
    echo: tuple[int, int, int]


PMTUDISC_PROBE = 3
_VERSIONS = {
    4: _Version(
        socket.AF_INET,
        0,
        11,
        10,
        "0.0.0.0",  # noqa: S104 - an instance's every address
        1,
        20,
        (ECHO_REQUEST, ECHO_REPLY, UNREACHABLE),
    ),
    6: _Version(
        socket.AF_INET6, 41, 25, 23, "::", 58, 0, (ECHO6_REQUEST, ECHO6_REPLY, UNREACHABLE6)
    ),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe met.

    Attributes:
        kind: ``reply``, ``error`` (an ICMP error, or a refused connection), or ``silence``.
        nonce: What the probe's payload carried.
        by: Who answered, as its sender saw it.
        icmp: Type and code of the ICMP error.
        after_s: How long the answer took.
    """

    kind: str
    nonce: bytes
    by: IpAddress | None = None
    icmp: tuple[int, int] | None = None
    after_s: float = 0.0


def ping(
    namespace: str,
    destination: IpAddress,
    timeout_s: float,
    size: int = PING_SIZE,
    nonce: bytes | None = None,
) -> Answer:
    """Send one ICMP echo request that nobody may fragment, and wait for what comes back.

    Args:
        namespace: Whence.
        destination: Whither.
        timeout_s: How long to wait for an answer.
        size: Of the whole IP packet, in bytes, if it had an IPv4 header.
        nonce: 16 bytes; None makes one up.

    Raises:
        OSError: The namespace's own routing has no way to the destination.
    """
    nonce = nonce or secrets.token_bytes(NONCE_BYTES)
    number = secrets.randbits(16)
    ip = _VERSIONS[destination.version]
    with netns.socket(namespace, ip.family, socket.SOCK_RAW, ip.icmp) as sock:
        sock.setsockopt(ip.level, ip.mtu_discover, PMTUDISC_PROBE)
        start = time.monotonic()
        sock.sendto(_echo_request(ip.echo[0], number, nonce, size), (str(destination), 0))
        while (left_s := timeout_s - (time.monotonic() - start)) > 0:
            if not select.select([sock], [], [], left_s)[0]:
                break
            packet, sender = sock.recvfrom(2048)
            found = _answers(packet[ip.header :], nonce, ip.echo)
            if found:
                kind, icmp = found
                after_s = time.monotonic() - start
                by = ip_address(sender[0].partition("%")[0])
                return Answer(kind, nonce, by, icmp, after_s)
    return Answer("silence", nonce, after_s=timeout_s)


def _echo_request(kind: int, number: int, nonce: bytes, size: int) -> bytes:
    """Return the message; of ICMPv6 the kernel fills in another checksum."""
    body = struct.pack(">HH", number, 1) + nonce
    body += bytes(size - HEADERS - len(body))
    check = checksum(struct.pack(">BBH", kind, 0, 0) + body)
    return struct.pack(">BBH", kind, 0, check) + body


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _answers(
    icmp: bytes, nonce: bytes, echo: tuple[int, int, int]
) -> tuple[str, tuple[int, int] | None] | None:
    """Return what an ICMP message says about the probe; None if it is about something else."""
    if nonce not in icmp:
        return None
    if icmp[0] == echo[1]:
        return "reply", None
    if icmp[0] == echo[2]:
        return "error", (icmp[0], icmp[1])
    return None


def tcp(
    namespace: str,
    peer: str,
    destination: IpAddress,
    timeout_s: float,
    port: int = PORT,
    *,
    listening: int | None = None,
) -> Answer:
    """Connect by TCP to a listener in the namespace ``peer``, and have the nonce sent back.

    Args:
        namespace: Whence.
        peer: Where somebody listens.
        destination: Whither.
        timeout_s: How long to wait for an answer.
        port: Likewise.
        listening: The listener's port; None: that one.
    """
    nonce = secrets.token_bytes(16)
    ip = _VERSIONS[destination.version]
    with ExitStack() as stack:
        listener = stack.enter_context(netns.socket(peer, ip.family, socket.SOCK_STREAM))
        client = stack.enter_context(netns.socket(namespace, ip.family, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ip.any, listening or port))
        listener.listen()
        start = time.monotonic()
        client.settimeout(0)
        client.connect_ex((str(destination), port))
        if not select.select([], [client], [], timeout_s)[1]:
            return Answer("silence", nonce, after_s=timeout_s)
        after_s = time.monotonic() - start
        if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return Answer("error", nonce, after_s=after_s)
        client.settimeout(timeout_s)
        client.sendall(nonce)
        return _sent_back(listener, client, nonce, timeout_s)


def _sent_back(
    listener: socket.socket, client: socket.socket, nonce: bytes, timeout_s: float
) -> Answer:
    listener.settimeout(timeout_s)
    start = time.monotonic()
    with suppress(TimeoutError):
        server, _ = listener.accept()
        with server:
            server.settimeout(timeout_s)
            server.sendall(server.recv(len(nonce)))
            if client.recv(len(nonce)) == nonce:
                peer = ip_address(client.getpeername()[0])
                return Answer("reply", nonce, peer, after_s=time.monotonic() - start)
    return Answer("silence", nonce, after_s=timeout_s)


def udp(  # noqa: PLR0913 - what a probe is
    namespace: str,
    peer: str,
    destination: IpAddress,
    timeout_s: float,
    port: int = PORT,
    nonce: bytes | None = None,
    *,
    at: IpAddress | None = None,
    listening: int | None = None,
) -> Answer:
    """Send the nonce by UDP to a socket in the namespace ``peer``, and have it sent back.

    Args:
        namespace: Whence.
        peer: Where somebody listens.
        destination: Whither.
        timeout_s: How long to wait for an answer.
        port: Likewise.
        nonce: 16 bytes; None makes them up.
        at: The address to listen at, and so to answer from; None: any, which answers from the
            one that is nearest.
        listening: The listener's port; None: that one.
    """
    nonce = nonce or secrets.token_bytes(NONCE_BYTES)
    ip = _VERSIONS[destination.version]
    with ExitStack() as stack:
        server = stack.enter_context(netns.socket(peer, ip.family, socket.SOCK_DGRAM))
        client = stack.enter_context(netns.socket(namespace, ip.family, socket.SOCK_DGRAM))
        client.setsockopt(ip.level, ip.recverr, 1)
        server.bind((str(at or ip.any), listening or port))
        client.connect((str(destination), port))
        start = time.monotonic()
        client.send(nonce)
        try:
            for end in (server, client):
                end.settimeout(timeout_s)
                data, sender = end.recvfrom(64)
                if end is server:
                    end.sendto(data, sender)
        except TimeoutError:
            return Answer("silence", nonce, after_s=timeout_s)
        except OSError:
            return Answer("error", nonce, after_s=time.monotonic() - start)
        return Answer("reply", nonce, destination, after_s=time.monotonic() - start)


def resolve(namespace: str, server: IPv4Address, name: str, timeout_s: float) -> list[str]:
    """Return what a DNS server answers: addresses, or names for ``4.0.0.10.in-addr.arpa``.

    Sorted; empty where the name does not exist.

    Raises:
        TimeoutError: The server is silent.
    """
    kind = dpkt.dns.DNS_PTR if name.endswith(".arpa") else dpkt.dns.DNS_A
    question = dpkt.dns.DNS.Q(name=name, type=kind)
    query = dpkt.dns.DNS(id=secrets.randbits(16), qd=[question])
    with netns.socket(namespace, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        sock.sendto(bytes(query), (str(server), DNS_PORT))
        answer = dpkt.dns.DNS(sock.recv(4096))
    found = [record for record in answer.an if record.type == kind]
    return sorted(str(IPv4Address(r.ip)) if kind == dpkt.dns.DNS_A else r.ptrname for r in found)


def fetch(
    namespace: str,
    server: tuple[IPv4Address, int],
    path: str,
    source: IPv4Address,
    headers: Mapping[str, str],
    timeout_s: float,
) -> tuple[int, str]:
    """Ask a web server from one of an instance's addresses; return status and body.

    Raises:
        OSError: Nobody answers.
    """
    address = (str(server[0]), server[1])
    with netns.socket(namespace, socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        sock.bind((str(source), 0))
        sock.connect(address)
        connection = http.client.HTTPConnection(*address)
        connection.sock = sock
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def rate_kbps(sender: str, receiver: str, ends: tuple[IPv4Address, IPv4Address]) -> float:
    """Return what arrives of a stream of UDP at ``OFFERED_KBPS``, in kilobits per second of IP.

    What arrives at first is not counted: a bucket that is full lets a burst pass.

    Args:
        sender: Namespace.
        receiver: Namespace.
        ends: The address to send from, and that to send to as the sender knows it.
    """
    with (
        netns.socket(receiver, socket.AF_INET, socket.SOCK_DGRAM) as into,
        netns.socket(sender, socket.AF_INET, socket.SOCK_DGRAM) as out,
    ):
        into.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 2**24)
        into.bind(("0.0.0.0", RATE_PORT))  # noqa: S104 - the instance's every address
        into.setblocking(False)  # noqa: FBT003 - as the method has it
        out.bind((str(ends[0]), 0))
        out.connect((str(ends[1]), RATE_PORT))
        _stream(out, into, SETTLING_S)
        arrived, passed_s = _stream(out, into, MEASURED_S)
    return arrived * RATE_SIZE / 125 / passed_s


def _stream(out: socket.socket, into: socket.socket, for_s: float) -> tuple[int, float]:
    """Send at the offered rate; return how many packets arrived in how long a time."""
    start, sent, arrived, passed_s = time.monotonic(), 0, 0, 0.0
    while passed_s < for_s:
        due = int(passed_s * OFFERED_KBPS * 125 / RATE_SIZE)
        while sent < due:
            with suppress(ConnectionRefusedError):
                out.send(bytes(RATE_SIZE - UDP_HEADERS))
            sent += 1
        arrived += _waiting(into)
        select.select([into], [], [], TICK_S)
        passed_s = time.monotonic() - start
    return arrived + _waiting(into), passed_s


def _waiting(sock: socket.socket) -> int:
    """Take what waits in a socket, and return how many packets it was."""
    count = 0
    with suppress(BlockingIOError):
        while sock.recv(2048):
            count += 1
    return count
