"""What agents send each other to see what the switches between them carry: orders and frames.

A probe frame is a broadcast, as ARP is, so one frame asks the way to all other hosts. It has an
ethertype that is nobody's (IEEE 802, local experimental) and never enters a bridge: the rules
drop it there, so no instance sees or forges one. When frames are sent, and what is made of what
was heard, is decided elsewhere.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ETHERTYPE = 0x88B5  # IEEE 802: local experimental ethertype 1
TPID = 0x8100  # IEEE 802.1Q
BROADCAST = b"\xff" * 6
MAGIC = b"trunkline\0"
COPIES = 2  # one frame may be lost and is no finding

_TAG, _KIND = struct.Struct(">HH"), struct.Struct(">H")  # TPID and tag; ethertype
_BODY = struct.Struct(">10s16sHHH")  # magic, nonce, sender, lane, size
SIZE_MIN = 46  # bytes: IEEE 802.3's shortest payload
SIZES = (SIZE_MIN, 576, 1280, 1400, 1450, 1496, 1500, 4000, 8996)
"""Payloads in bytes, up to a network's MTU, which is tried as well. Such as 1496: what a switch
carries that counts the tag's four bytes as payload."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One segment of one physical network, and the payload sizes to try on it, in bytes.

    Attributes:
        vlan_id: None: its frames have no tag (a flat network's).
        network: Whose segment it is; several of one network's are to be joined somewhere. Empty:
            that does not matter, as to a host that sends.
    """

    physical_network: str
    vlan_id: int | None
    sizes: tuple[int, ...]
    network: str = ""


@dataclass(frozen=True, slots=True)
class ProbeOrder:
    """What one host's agent is to do in a probe.

    Attributes:
        nonce: 16 bytes that tell this probe's frames from all others.
        sender: The host's number in this probe.
        lanes: What to send on; a frame names its lane by its place in here.
        frames_per_s: The most that this host may send.
    """

    nonce: bytes
    sender: int
    lanes: tuple[Lane, ...]
    frames_per_s: float


@dataclass(frozen=True, slots=True)
class ProbeFrame:
    """What a probe frame says of itself."""

    sender: int
    lane: int
    size: int


@dataclass(frozen=True, slots=True)
class Heard:
    """Equal probe frames that came in by a NIC.

    Attributes:
        nic: The NIC.
        tag: The VLAN id with which they came; None is untagged.
        times: How many.
    """

    nic: str
    tag: int | None
    frame: ProbeFrame
    times: int


def sizes_up_to(mtu: int) -> tuple[int, ...]:
    """Return the payload sizes to try on a network, ascending; the last is its MTU."""
    return (*(size for size in SIZES if size < mtu), max(mtu, SIZE_MIN))


def encode_frame(order: ProbeOrder, lane: int, size: int, mac: bytes) -> bytes:
    """Return a frame, tagged as its lane is, with this many bytes behind the ethertype."""
    body = _BODY.pack(MAGIC, order.nonce, order.sender, lane, size)
    vlan_id = order.lanes[lane].vlan_id
    tag = b"" if vlan_id is None else _TAG.pack(TPID, vlan_id)
    return BROADCAST + mac + tag + _KIND.pack(ETHERTYPE) + body.ljust(size, b"\0")


def decode_frame(nonce: bytes, payload: bytes) -> ProbeFrame | None:
    """Return what the bytes behind a frame's ethertype say; None if they are no part of a probe."""
    if len(payload) < _BODY.size:
        return None
    magic, theirs, sender, lane, size = _BODY.unpack_from(payload)
    if magic != MAGIC or theirs != nonce or len(payload) < size:
        return None
    return ProbeFrame(sender, lane, size)


def order_out(order: ProbeOrder) -> dict[str, Any]:
    """Return an order as plain data."""
    return {
        "nonce": order.nonce.hex(),
        "sender": order.sender,
        "lanes": [[one.physical_network, one.vlan_id, list(one.sizes)] for one in order.lanes],
        "frames_per_s": order.frames_per_s,
    }


def order_in(data: Mapping[str, Any]) -> ProbeOrder:
    """Return the order that ``order_out`` made this of.

    Raises:
        KeyError, TypeError, ValueError: It is none.
    """
    lanes = tuple(
        Lane(str(name), None if vlan_id is None else int(vlan_id), tuple(map(int, sizes)))
        for name, vlan_id, sizes in data["lanes"]
    )
    return ProbeOrder(
        bytes.fromhex(data["nonce"]), int(data["sender"]), lanes, float(data["frames_per_s"])
    )


def heard_out(heard: Heard) -> list[Any]:
    """Return what was heard as plain data."""
    frame = heard.frame
    return [heard.nic, heard.tag, frame.sender, frame.lane, frame.size, heard.times]


def heard_in(data: Any) -> Heard:
    """Return what ``heard_out`` made this of.

    Raises:
        TypeError, ValueError: It is nothing of the kind.
    """
    nic, tag, *numbers = data
    sender, lane, size, times = map(int, numbers)
    return Heard(str(nic), None if tag is None else int(tag), ProbeFrame(sender, lane, size), times)
