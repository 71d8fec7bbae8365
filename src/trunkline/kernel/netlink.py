"""Netlink as bytes: dumps, questions and notifications, and how a refusal is worded.

Requests that change something go through pyroute2, which knows their many attributes. Reading
is done here, because a host has thousands of links, addresses and connections: decoding a link
takes pyroute2 0.3 ms, and 9 µs here, where only the attributes that somebody asks for are
decoded. Knows the framing (RFC 3549, netlink(7)), not what the messages mean.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyroute2.netlink.exceptions import NetlinkError

from trunkline.errors import Interrupted, MissingFeature, Rejected

ROUTE, NETFILTER = socket.NETLINK_ROUTE, 12  # netlink.h: NETLINK_ROUTE, NETLINK_NETFILTER
REQUEST, ACK, DUMP, DUMP_INTERRUPTED = 0x1, 0x4, 0x300, 0x10  # NLM_F_*
ERROR, DONE = 2, 3  # NLMSG_*
RECEIVE_BUFFER = 8 << 20  # bytes of notifications that may wait while an operation runs
DATAGRAM = 1 << 18  # the kernel fills up to 32 KiB of what is offered
DUMP_ATTEMPTS = 10

SOL_NETLINK, ADD_MEMBERSHIP, GET_STRICT_CHK = 270, 1, 12  # netlink(7)

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_ERROR = struct.Struct("=i")  # struct nlmsgerr: a negative errno, then the request
_NESTED = 0x3FFF  # masks NLA_F_NESTED and NLA_F_NET_BYTEORDER off a type

Attributes = dict[int, bytes]


def attributes(data: bytes, start: int = 0) -> Attributes:
    """Split a chain of attributes into raw values by type; a repeated type's last one wins."""
    found: Attributes = {}
    end = len(data)
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _NESTED] = data[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def number(value: bytes | None, default: int = 0) -> int:
    """Decode an integer of any size in the host's byte order."""
    return default if value is None else int.from_bytes(value, sys.byteorder)


def text(value: bytes | None) -> str:
    """Decode a string that the kernel ends with a zero byte."""
    return "" if value is None else value.rstrip(b"\0").decode(errors="replace")


def dump(protocol: int, kind: int, body: bytes, *, strict: bool = False) -> list[bytes]:
    """Ask for a table and return the bodies of its messages.

    Args:
        protocol: Netlink protocol.
        kind: Message type.
        body: The request; with ``strict`` the kernel leaves out what does not fit it.
        strict: Whether the kernel takes the request's fields for conditions.

    Raises:
        OSError: The kernel refuses to dump this.
        Interrupted: The table changed under each of several readings. Retryable.
    """
    for _ in range(DUMP_ATTEMPTS):
        bodies = _dump_once(protocol, kind, body, strict=strict)
        if bodies is not None:
            return bodies
    raise Interrupted(f"netlink dump {kind}: torn {DUMP_ATTEMPTS} times by changes; try again")


def ask(protocol: int, kind: int, body: bytes) -> bytes:
    """Ask a question that has one message for an answer and return its body.

    Raises:
        OSError: The kernel's errno, such as ENODEV.
    """
    with _open(protocol) as sock:
        _send(sock, kind, REQUEST, body)
        for answer, _, content in _messages(sock.recv(DATAGRAM)):
            if answer == ERROR:
                _raise_errno(content)
            return content
    raise OSError(errno.EPROTO, "netlink gave no answer")


def order(protocol: int, kind: int, flags: int, body: bytes) -> None:
    """Send a request that changes something and wait for its acknowledgement.

    Raises:
        OSError: The kernel's errno.
    """
    with _open(protocol) as sock:
        _send(sock, kind, REQUEST | ACK | flags, body)
        for answer, _, content in _messages(sock.recv(DATAGRAM)):
            if answer == ERROR:
                _raise_errno(content)


def listen(groups: int) -> socket.socket:
    """Open a socket that receives these rtnetlink groups (a mask of RTMGRP_*) of the namespace."""
    sock = _open(ROUTE)
    with suppress(PermissionError):  # who is not root may look, and reads anew more often
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    sock.bind((0, groups))
    return sock


def listen_to_group(protocol: int, group: int) -> socket.socket:
    """Open a socket that receives one multicast group of a netlink protocol, by its number."""
    sock = _open(protocol)
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    sock.bind((0, 0))  # without a port id of its own the kernel takes it for itself
    with suppress(PermissionError):  # who is not root may look, and is told nothing
        sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
    return sock


def notifications(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield (type, body) of what has arrived on a listening socket, without waiting.

    Raises:
        OSError: ENOBUFS: the kernel dropped some; what is known must be read anew.
    """
    while True:
        try:
            datagram = sock.recv(DATAGRAM)
        except BlockingIOError:
            return
        for kind, _, body in _messages(datagram):
            yield kind, body


@contextmanager
def refusals(command: str) -> Iterator[None]:
    """Turn the kernel's refusals into Rejected or MissingFeature that carry the command."""
    try:
        yield
    except NetlinkError as error:
        words = str(error.args[1])
        if error.code == errno.EOPNOTSUPP:
            raise MissingFeature(f"{command}: {words}; this kernel lacks it") from error
        raise Rejected(f"{command}: {words}") from error
    except OSError as error:
        raise Rejected(f"{command}: {error.strerror or error}") from error


_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; beyond net.core.rmem_max, needs CAP_NET_ADMIN


def _open(protocol: int) -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)


def _send(sock: socket.socket, kind: int, flags: int, body: bytes) -> None:
    sock.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)


def _dump_once(protocol: int, kind: int, body: bytes, *, strict: bool) -> list[bytes] | None:
    """Return the bodies of one dump; None if it was torn by a concurrent change."""
    bodies: list[bytes] = []
    torn = False
    with _open(protocol) as sock:
        if strict:
            sock.setsockopt(SOL_NETLINK, GET_STRICT_CHK, 1)
        _send(sock, kind, REQUEST | DUMP, body)
        while True:
            for answer, flags, content in _messages(sock.recv(DATAGRAM)):
                torn = torn or bool(flags & DUMP_INTERRUPTED)
                if answer == ERROR:
                    _raise_errno(content)
                if answer == DONE:
                    return None if torn else bodies
                bodies.append(content)


def _messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, flags and body of each message of a datagram."""
    start = 0
    while start + _HEADER.size <= len(datagram):
        length, kind, flags, _, _ = _HEADER.unpack_from(datagram, start)
        if length < _HEADER.size:
            return
        yield kind, flags, datagram[start + _HEADER.size : start + length]
        start += (length + 3) & ~3


def _raise_errno(content: bytes) -> None:
    """Raise the errno of an NLMSG_ERROR; zero is an acknowledgement."""
    code = -_ERROR.unpack_from(content)[0]
    if code:
        raise OSError(code, os.strerror(code))
