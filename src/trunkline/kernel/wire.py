"""Sends frames by a trunk's NIC and hears those of one ethertype, below every bridge (packet(7)).

Leaves nothing behind: what listening changes on a NIC ends with the socket, also by SIGKILL.
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from trunkline.errors import Interrupted, Rejected

ETH_P_ALL = 3  # linux/if_ether.h
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS, PACKET_AUXDATA = 1, 6, 8  # linux/if_packet.h
PACKET_MR_PROMISC = 1
PACKET_OUTGOING = 4
TP_STATUS_VLAN_VALID = 0x10
AUXDATA = struct.Struct("IIIHHHH")
VLAN_ID_MASK = 0xFFF
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33  # asm-generic/socket.h
BUFFER_BYTES = 8 << 20
FRAME_BYTES_MAX = 1 << 17
HEADER_BYTES = 14

Instruction = tuple[int, int, int, int]
"""Of classic BPF: operation, jump if true, jump if not, number (struct sock_filter)."""

# linux/bpf_common.h: load a half word at a fixed offset, compare, return
LOAD_HALF, JUMP_EQUAL, RETURN = 0x28, 0x15, 0x06


@dataclass(frozen=True, slots=True)
class WireFrame:
    """A frame that came in: by which NIC, with which VLAN id, and what follows its ethertype."""

    nic: str
    tag: int | None
    payload: bytes


class Wire:
    """NICs of the namespace of the thread that makes it, for one ethertype.

    The tag is in the packet's metadata when it is heard, with either making of VLAN devices:
    sockets see a frame before tc and before the kernel's own VLAN device.
    """

    def __init__(self, nics: Iterable[str], ethertype: int) -> None:
        """Listen on NICs, all frames of theirs, whomever they are addressed to.

        Raises:
            Rejected: A NIC is not there, or this process may not (it needs CAP_NET_RAW).
        """
        self._sockets: dict[str, socket.socket] = {}
        with ExitStack() as undo:
            for nic in sorted(set(nics)):
                self._sockets[nic] = undo.enter_context(_listen(nic, ethertype))
            self._undo = undo.pop_all()

    def mac(self, nic: str) -> bytes:
        """Return a NIC's own MAC."""
        found: bytes = self._sockets[nic].getsockname()[4]
        return found

    def send(self, nic: str, frame: bytes) -> None:
        """Send a frame as it is.

        Raises:
            Rejected: The NIC is down or gone, or the frame is more than its MTU.
        """
        try:
            self._sockets[nic].send(frame)
        except OSError as error:
            raise Rejected(f"a frame of {len(frame)} bytes by {nic}: {error.strerror}") from error

    def hear(self, seconds: float) -> Iterator[WireFrame]:
        """Yield what has come and what comes in the time; frames that were sent here are none."""
        end = time.monotonic() + seconds
        while True:
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select(list(self._sockets.values()), [], [], left)
            if not ready:
                return
            for nic, one in self._sockets.items():
                if one in ready:
                    yield from _drain(nic, one)

    def require_complete(self) -> None:
        """Raise if a frame was lost here, so that what was not heard means something.

        Raises:
            Interrupted: A buffer overflowed.
        """
        for one in self._sockets.values():
            require_complete(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()


def _listen(nic: str, ethertype: int) -> socket.socket:
    """Return a socket that hears a NIC's frames of an ethertype, from now on and no earlier."""
    try:
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    except OSError as error:
        raise Rejected(f"listening on {nic}: {error.strerror}") from error
    try:
        one.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        one.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        attach_filter(one, _of_ethertype(ethertype))
        one.bind((nic, ETH_P_ALL))
        hear_all(one, socket.if_nametoindex(nic))
    except OSError as error:
        one.close()
        raise Rejected(f"listening on {nic}: {error.strerror}") from error
    return one


def _of_ethertype(ethertype: int) -> tuple[Instruction, ...]:
    return (
        (LOAD_HALF, 0, 0, HEADER_BYTES - 2),
        (JUMP_EQUAL, 0, 1, ethertype),
        (RETURN, 0, 0, FRAME_BYTES_MAX),
        (RETURN, 0, 0, 0),
    )


def attach_filter(one: socket.socket, program: Iterable[Instruction]) -> None:
    """Have the kernel hand over only what a classic BPF program lets pass (socket(7))."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    fprog = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


def hear_all(one: socket.socket, index: int) -> None:
    """Have a device hand over frames for others too, as long as the socket is open."""
    membership = struct.pack("IHH8s", index, PACKET_MR_PROMISC, 0, b"")
    one.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)


def _drain(nic: str, one: socket.socket) -> Iterator[WireFrame]:
    while True:
        try:
            data, ancillary, _, (_, _, kind, *_) = one.recvmsg(FRAME_BYTES_MAX, 256)
        except BlockingIOError:
            return
        except OSError as error:
            raise Interrupted(f"listening on {nic}: {error.strerror}") from error
        if kind != PACKET_OUTGOING:
            yield WireFrame(nic, tag_of(ancillary), data[HEADER_BYTES:])


def require_complete(one: socket.socket) -> None:
    """Raise if a socket's buffer overflowed; see ``Wire.require_complete``."""
    _, lost = struct.unpack("II", one.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    if lost:
        raise Interrupted(f"{lost} frames came faster than they were read; try again")


def tag_of(messages: Iterable[tuple[int, int, bytes]]) -> int | None:
    """Return the VLAN id that the kernel took out of a frame, from recvmsg's ancillary data."""
    for level, kind, data in messages:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, _ = AUXDATA.unpack(data[: AUXDATA.size])
            if status & TP_STATUS_VLAN_VALID:
                return int(tci) & VLAN_ID_MASK
    return None
