"""Captures IP packets that carry a number, on every device of a namespace at once (packet(7)).

The number is looked for where a shot has it (``trace.live``): TCP's sequence or acknowledgement
number, the first word of an ICMP or UDP payload, or either in the quotation of an ICMP error. The
kernel looks, so a busy host hands over next to nothing. All of it ends with the socket.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from trunkline.errors import Interrupted, Rejected
from trunkline.kernel.wire import (
    BUFFER_BYTES,
    ETH_P_ALL,
    FRAME_BYTES_MAX,
    JUMP_EQUAL,
    LOAD_HALF,
    PACKET_AUXDATA,
    PACKET_OUTGOING,
    RETURN,
    SO_RCVBUFFORCE,
    SOL_PACKET,
    Instruction,
    attach_filter,
    hear_all,
    require_complete,
    tag_of,
)

ETH_P_IP, ETH_P_8021Q, ETH_P_IPV6 = 0x0800, 0x8100, 0x86DD
PLACES = (38, 42, 66, 70)  # in bytes from the start of an untagged frame without IP options
PLACES6 = (58, 62, 106, 110)  # likewise of IPv6, without extension headers

# linux/bpf_common.h: load an index, load at a place from it, jump always
INDEX, LOAD_HALF_FROM, LOAD_WORD_FROM, JUMP = 0x01, 0x48, 0x40, 0x05


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame on a device, ``in`` or ``out``; its VLAN id, if that is not in its bytes."""

    device: str
    direction: str
    tag: int | None
    frame: bytes


class Capture:
    """Captures from the moment of construction."""

    def __init__(self, number: int, bridges: Iterable[str]) -> None:
        """Capture what carries a number, or its successor.

        Args:
            number: 32 bits.
            bridges: Devices that show what they forward only to who asks for all of it.

        Raises:
            Rejected: This process may not (it needs CAP_NET_RAW).
        """
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            attach_filter(self._socket, _carrying(number))
        except OSError as error:
            raise Rejected(f"capturing: {error.strerror}") from error
        self._socket.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        for bridge in bridges:
            with suppress(OSError):  # it went meanwhile
                hear_all(self._socket, socket.if_nametoindex(bridge))

    def frames(self, seconds: float) -> Iterator[Captured]:
        """Yield what has come and what comes in the time.

        Raises:
            Interrupted: The buffer overflowed.
        """
        end = time.monotonic() + seconds
        while select.select([self._socket], [], [], max(0.0, end - time.monotonic()))[0]:
            try:
                data, ancillary, _, (device, _, kind, *_) = self._socket.recvmsg(
                    FRAME_BYTES_MAX, 256
                )
            except BlockingIOError:
                continue  # it was for nobody: a frame of before the filter
            except OSError as error:
                raise Interrupted(f"capturing: {error.strerror}") from error
            direction = "out" if kind == PACKET_OUTGOING else "in"
            yield Captured(device, direction, tag_of(ancillary), data)
        require_complete(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()


def _carrying(number: int) -> list[Instruction]:
    """Return the filter: an IP packet, tagged or not, with the number at one of the places."""
    four, six = _search(number, PLACES), _search(number, PLACES6)
    return [
        (LOAD_HALF, 0, 0, 12),
        (JUMP_EQUAL, 0, 2, ETH_P_8021Q),
        (INDEX, 0, 0, 4),
        (JUMP, 0, 0, 1),
        (INDEX, 0, 0, 0),
        (LOAD_HALF_FROM, 0, 0, 12),
        (JUMP_EQUAL, 0, len(four), ETH_P_IP),
        *four,
        (JUMP_EQUAL, 0, len(six), ETH_P_IPV6),
        *six,
        (RETURN, 0, 0, 0),
    ]


def _search(number: int, places: Sequence[int]) -> list[Instruction]:
    """Return what ends with yes if a number, or its successor, is at one of the places, or no."""
    after = (number + 1) & 0xFFFFFFFF
    tests = len(places) * 3
    program: list[Instruction] = []
    for place in places:
        left = tests - len(program)  # instructions from here to the refusal
        program += [
            (LOAD_WORD_FROM, 0, 0, place),
            (JUMP_EQUAL, left - 1, 0, number),
            (JUMP_EQUAL, left - 2, 0, after),
        ]
    return [*program, (RETURN, 0, 0, 0), (RETURN, 0, 0, FRAME_BYTES_MAX)]
