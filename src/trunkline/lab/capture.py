"""Frames from all devices of many nodes at once, with the kernel's clock, direction and tag.

One AF_PACKET socket per namespace, bound to no device: it sees devices that come later too.
Frames wait in the socket's buffer and are read when somebody asks, so nothing runs beside the
scenario; a buffer that overflowed is an error and never a silent gap (packet(7)).
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Self

import dpkt

from trunkline.errors import Interrupted
from trunkline.kernel import netns
from trunkline.lab.packets import Frame, frame

ETH_P_ALL = 3  # linux/if_ether.h
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS, PACKET_AUXDATA = 1, 6, 8  # linux/if_packet.h
PACKET_MR_PROMISC = 1
PACKET_OUTGOING = 4
TP_STATUS_VLAN_VALID = 0x10
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 16 << 20
FRAME_BYTES_MAX = 1 << 17
AUXDATA = struct.Struct("IIIHHHH")
TIMESPEC = struct.Struct("qq")


class Capture:
    """What passes on every device of some nodes, from the moment of construction."""

    def __init__(self, namespaces: Mapping[str, str]) -> None:
        """Open one socket per node.

        Args:
            namespaces: Namespace by node.
        """
        self._sockets: dict[str, socket.socket] = {}
        self._frames: list[Frame] = []
        try:
            for node, namespace in namespaces.items():
                self._sockets[node] = _listen(namespace)
        except BaseException:
            self.close()
            raise

    def frames(self) -> tuple[Frame, ...]:
        """Return all frames since the construction, in the order of the kernel's clock.

        Raises:
            Interrupted: A buffer overflowed: what was seen is not all there was.
        """
        for node, sock in self._sockets.items():
            self._frames += _drain(node, sock)
        self._frames.sort(key=lambda f: f.at_ns)  # stable: equal times stay in queue order
        return tuple(self._frames)

    def wait(self, timeout_s: float) -> bool:
        """Return whether a frame came within the time."""
        ready, _, _ = select.select(list(self._sockets.values()), [], [], timeout_s)
        return bool(ready)

    def take(self) -> tuple[Frame, ...]:
        """Return the frames since the last ``take`` and forget them."""
        frames = self.frames()
        self._frames.clear()
        return frames

    def close(self) -> None:
        """Stop capturing."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _listen(namespace: str) -> socket.socket:
    sock = netns.socket(namespace, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.settimeout(0)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    # A bridge shows what it forwards between its ports only to who asks for all of it, as
    # ``tcpdump -i br100`` does.
    with netns.enter(namespace):
        bridges = [index for index, name in socket.if_nameindex() if name.startswith("br")]
    for index in bridges:
        membership = struct.pack("IHH8s", index, PACKET_MR_PROMISC, 0, b"")
        with suppress(OSError):  # it went meanwhile
            sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
    return sock


def _drain(node: str, sock: socket.socket) -> list[Frame]:
    frames = []
    while True:
        try:
            data, ancillary, _, (device, _, kind, *_) = sock.recvmsg(FRAME_BYTES_MAX, 256)
        except BlockingIOError:
            break
        direction = "out" if kind == PACKET_OUTGOING else "in"
        at_ns, tag = _ancillary(ancillary)
        frames.append(frame(at_ns, node, device, direction, tag, data))
    _, lost = struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    if lost:
        raise Interrupted(f"capture in {node}: {lost} frames lost, its buffer was full; try again")
    return frames


def _ancillary(messages: Iterable[tuple[int, int, bytes]]) -> tuple[int, int | None]:
    """Return the time in nanoseconds, and the tag (TCI) if the kernel holds one."""
    at_ns, tag = 0, None
    for level, kind, data in messages:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = TIMESPEC.unpack(data[: TIMESPEC.size])
            at_ns = seconds * 10**9 + nanoseconds
        elif (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, _ = AUXDATA.unpack(data[: AUXDATA.size])
            tag = tci if status & TP_STATUS_VLAN_VALID else None
    return at_ns, tag


def write_pcap(directory: Path, frames: Iterable[Frame]) -> None:
    """Write one file per device, ``NODE-DEVICE.pcap``, tags back in the bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    by_device: dict[str, list[Frame]] = {}
    for one in frames:
        by_device.setdefault(f"{one.node}-{one.device}", []).append(one)
    for name, seen in by_device.items():
        with (directory / f"{name}.pcap").open("wb") as file:
            writer = dpkt.pcap.Writer(file, nano=True, snaplen=FRAME_BYTES_MAX)
            for one in seen:
                writer.writepkt(one.tagged, ts=Decimal(one.at_ns) / 10**9)
