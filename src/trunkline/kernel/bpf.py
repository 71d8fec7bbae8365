"""The bpf() system call: loads programs that push and pop a tag, or hear of drops, and their maps.

No compiler and no library: the programs are a dozen instructions each, written out below
(bpf(2), linux/bpf.h; the instruction set is RFC 9669). Where they are attached is not known here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from socket import htons

from trunkline.errors import MissingFeature
from trunkline.model import VLAN_ID_MAX

SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
ETH_P_8021Q = htons(0x8100)  # as helpers and contexts have it: in network byte order

# bpf.h: commands, types, flags
MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, PROG_LOAD = range(6)
PROG_GET_FD_BY_ID, MAP_GET_FD_BY_ID, OBJ_GET_INFO_BY_FD = 13, 14, 15
MAP_TYPE_HASH, PROG_TYPE_SCHED_CLS, NO_PREALLOCATION, PSEUDO_MAP_FD = 1, 3, 1, 1
PROG_TYPE_XDP, XDP_PASS = 6, 2
RAW_TRACEPOINT_OPEN, LOOKUP_AND_DELETE = 17, 21
MAP_TYPE_QUEUE, PROG_TYPE_RAW_TRACEPOINT, QUEUE_LENGTH = 22, 17, 256
MAP_PUSH_ELEMENT, PROBE_READ_KERNEL = 87, 113  # helpers
MAP_LOOKUP_ELEMENT, SKB_VLAN_PUSH, SKB_VLAN_POP, REDIRECT = 1, 18, 19, 23  # helpers
VLAN_PRESENT, VLAN_TCI, VLAN_PROTO = 20, 24, 28  # offsets in struct __sk_buff

# pkt_cls.h: verdicts. NEXT leaves the frame to whoever else has a filter there.
NEXT, DROP = -1, 2

# Operation codes: class | operation | source
MOVE, MOVE_NUMBER, ADD_NUMBER, AND_NUMBER = 0xBF, 0xB7, 0x07, 0x57
LOAD_32, STORE_32, LOAD_64_NUMBER = 0x61, 0x63, 0x18
JUMP_EQUAL, JUMP_NOT_EQUAL, CALL, EXIT = 0x15, 0x55, 0x85, 0x95
ADD, LOAD_64, STORE_64, STORE_NUMBER_64, JUMP, JUMP_EQUAL_32 = 0x0F, 0x79, 0x7B, 0x7A, 0x05, 0x16
R0, R1, R2, R3, R6, R7, R8, FRAME = 0, 1, 2, 3, 6, 7, 8, 10

_U32 = struct.Struct("=I")
_libc = ctypes.CDLL(None, use_errno=True)


def load_push(vlan_id: int, trunk: int) -> int:
    """Load the program that tags a frame and sends it out of the trunk; return its descriptor.

    A frame that carries a tag already is stacked, as the kernel's own VLAN device does it.
    """
    return _load(
        _op(MOVE_NUMBER, R2, number=ETH_P_8021Q),
        _op(MOVE_NUMBER, R3, number=vlan_id),
        _op(CALL, number=SKB_VLAN_PUSH),
        _op(JUMP_NOT_EQUAL, R0, offset=4),
        _op(MOVE_NUMBER, R1, number=trunk),
        _op(MOVE_NUMBER, R2),
        _op(CALL, number=REDIRECT),
        _op(EXIT),
        _op(MOVE_NUMBER, R0, number=DROP),
        _op(EXIT),
    )


def load_pop(map_fd: int) -> int:
    """Load the program that sends a tagged frame, tag off, to the link that the map says.

    The tag is never in the frame when a tc program sees it: the kernel has moved it to the
    packet's metadata (``skb_vlan_untag`` in ``__netif_receive_skb_core``). Frames without a
    tag, with priority tags (VLAN 0) and of VLANs that the map does not have go their way.
    """
    return _load(
        _op(LOAD_32, R2, R1, VLAN_PRESENT),
        _op(JUMP_EQUAL, R2, offset=20),
        _op(LOAD_32, R2, R1, VLAN_PROTO),
        _op(JUMP_NOT_EQUAL, R2, offset=18, number=ETH_P_8021Q),
        _op(MOVE, R6, R1),
        _op(LOAD_32, R2, R1, VLAN_TCI),
        _op(AND_NUMBER, R2, number=0xFFF),  # the priority bits are not part of the id
        _op(STORE_32, FRAME, R2, -4),
        _op(LOAD_64_NUMBER, R1, PSEUDO_MAP_FD, number=map_fd),
        _op(0),  # the upper half of the 64-bit number
        _op(MOVE, R2, FRAME),
        _op(ADD_NUMBER, R2, number=-4),
        _op(CALL, number=MAP_LOOKUP_ELEMENT),
        _op(JUMP_EQUAL, R0, offset=8),
        _op(LOAD_32, R7, R0),
        _op(MOVE, R1, R6),
        _op(CALL, number=SKB_VLAN_POP),
        _op(JUMP_NOT_EQUAL, R0, offset=6),
        _op(MOVE, R1, R7),
        _op(MOVE_NUMBER, R2),
        _op(CALL, number=REDIRECT),
        _op(EXIT),
        _op(MOVE_NUMBER, R0, number=NEXT),
        _op(EXIT),
        _op(MOVE_NUMBER, R0, number=DROP),
        _op(EXIT),
    )


def new_map() -> int:
    """Make a map from VLAN id to link index and return its descriptor."""
    return call(
        MAP_CREATE, "=IIIII", MAP_TYPE_HASH, _U32.size, _U32.size, VLAN_ID_MAX, NO_PREALLOCATION
    )


def map_of_program(program_id: int) -> int:
    """Return a descriptor of the one map that a loaded program uses.

    Raises:
        OSError: ENOENT: there is no such program, or it uses no map.
    """
    program = call(PROG_GET_FD_BY_ID, "=I", program_id)
    try:
        ids = (ctypes.c_uint32 * 1)()
        info = ctypes.create_string_buffer(struct.pack("=40xI4xQ", 0, 0), 80)
        # struct bpf_prog_info: nr_map_ids at 52, map_ids at 56
        struct.pack_into("=I", info, 52, 1)
        struct.pack_into("=Q", info, 56, ctypes.addressof(ids))
        call(OBJ_GET_INFO_BY_FD, "=IIQ", program, len(info), ctypes.addressof(info))
        if not ids[0]:
            raise OSError(errno.ENOENT, "the program uses no map")
        return call(MAP_GET_FD_BY_ID, "=I", ids[0])
    finally:
        os.close(program)


def entries(map_fd: int) -> dict[int, int]:
    """Return the map's content: link index by VLAN id."""
    found: dict[int, int] = {}
    key = None
    while (key := _next_key(map_fd, key)) is not None:
        with _u32s(key, 0) as (key_at, value_at, value):
            call(MAP_LOOKUP, "=I4xQQQ", map_fd, key_at, value_at, 0)
            found[key] = value.value
    return found


def put(map_fd: int, vlan_id: int, link: int) -> None:
    """Add or replace an entry."""
    with _u32s(vlan_id, link) as (key_at, value_at, _):
        call(MAP_UPDATE, "=I4xQQQ", map_fd, key_at, value_at, 0)


def remove(map_fd: int, vlan_id: int) -> None:
    """Remove an entry.

    Raises:
        OSError: ENOENT: there is none.
    """
    with _u32s(vlan_id, 0) as (key_at, _, _):
        call(MAP_DELETE, "=I4xQQQ", map_fd, key_at, 0, 0)


def _next_key(map_fd: int, key: int | None) -> int | None:
    with _u32s(key or 0, 0) as (key_at, next_at, following):
        try:
            call(MAP_NEXT_KEY, "=I4xQQQ", map_fd, 0 if key is None else key_at, next_at, 0)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return following.value


@contextmanager
def _u32s(first: int, second: int) -> Iterator[tuple[int, int, ctypes.c_uint32]]:
    """Give two numbers an address for the length of a call, and the second one to read."""
    a, b = ctypes.c_uint32(first), ctypes.c_uint32(second)
    yield ctypes.addressof(a), ctypes.addressof(b), b


def _op(code: int, target: int = 0, source: int = 0, offset: int = 0, number: int = 0) -> bytes:
    """Return one instruction (struct bpf_insn)."""
    return struct.pack("=BBhi", code, target | source << 4, offset, number)


def load_xdp_pass() -> int:
    """Load a program that lets every frame pass; return its descriptor."""
    return _load(_op(MOVE_NUMBER, R0, number=XDP_PASS), _op(EXIT), kind=PROG_TYPE_XDP)


@dataclass(frozen=True, slots=True)
class DropOffsets:
    """Where this kernel has what a drop is told by, in bytes.

    Attributes:
        head, network_header, device: In ``struct sk_buff``.
        index, net: In ``struct net_device``.
        inode: In ``struct net``.
    """

    head: int
    network_header: int
    device: int
    index: int
    net: int
    inode: int


# Where the program below has things, from its frame pointer.
_POINTER, _HALF, _EVENT, _PACKET = -8, -16, -48, -112
_LOCATION, _REASON, _DEVICE, _INODE = _EVENT, _EVENT + 8, _EVENT + 12, _EVENT + 16


def load_drops(queue: int, number: int, places: Sequence[int], at: DropOffsets) -> int:
    """Load the program for ``kfree_skb``: what carries a number, or its successor, is queued.

    Its arguments are the packet, the place in the kernel, and the reason. It may read the
    kernel's memory only as it is offered under the GPL, too.

    Args:
        queue: Takes location (64 bits), reason, device and namespace (32 each), and 32 unused.
        number: 32 bits.
        places: Where in a packet, from its network header on, below 64.
        at: Offsets of this kernel.
    """
    code: list[bytes | str | _Jump] = [
        _op(MOVE, R6, R1),
        _op(LOAD_64, R7, R1, 0),
        *(_op(STORE_NUMBER_64, FRAME, 0, at_) for at_ in range(_EVENT, 0, 8)),
        *_read(R7, at.head, _POINTER, 8),
        *_read(R7, at.network_header, _HALF, 2),
        _op(LOAD_64, R8, FRAME, _POINTER),
        _op(LOAD_64, R1, FRAME, _HALF),
        _op(ADD, R8, R1),
        *_read(R8, 0, _PACKET, 64),
        *_search(number, places),
        _to(JUMP, "out"),
        "found",
        *_described(at),
        *_queued(queue),
        "out",
        _op(MOVE_NUMBER, R0),
        _op(EXIT),
    ]
    return _load(*_placed(code), kind=PROG_TYPE_RAW_TRACEPOINT, licence=b"Dual MIT/GPL")


def _described(at: DropOffsets) -> tuple[bytes | str | _Jump, ...]:
    """Return what notes location, reason, device and namespace; a packet may have no device."""
    return (
        _op(LOAD_64, R1, R6, 8),
        _op(STORE_64, FRAME, R1, _LOCATION),
        _op(LOAD_64, R1, R6, 16),
        _op(STORE_32, FRAME, R1, _REASON),
        *_read(R7, at.device, _POINTER, 8),
        _op(LOAD_64, R8, FRAME, _POINTER),
        _to(JUMP_EQUAL, "tell", R8),
        *_read(R8, at.index, _DEVICE, 4),
        *_read(R8, at.net, _POINTER, 8),
        _op(LOAD_64, R8, FRAME, _POINTER),
        *_read(R8, at.inode, _INODE, 4),
        "tell",
    )


def _queued(queue: int) -> tuple[bytes, ...]:
    """Return what puts the event that was noted into the queue."""
    return (
        _op(LOAD_64_NUMBER, R1, PSEUDO_MAP_FD, number=queue),
        _op(0),
        _op(MOVE, R2, FRAME),
        _op(ADD_NUMBER, R2, number=_EVENT),
        _op(MOVE_NUMBER, R3),
        _op(CALL, number=MAP_PUSH_ELEMENT),
    )


@dataclass(frozen=True, slots=True)
class _Jump:
    code: int
    label: str
    target: int
    number: int


def _to(code: int, label: str, target: int = 0, number: int = 0) -> _Jump:
    return _Jump(code, label, target, number)


def _placed(code: Sequence[bytes | str | _Jump]) -> Iterator[bytes]:
    """Yield instructions; labels, which stand for the next one, become distances."""
    labels: dict[str, int] = {}
    lines: list[bytes | _Jump] = []
    for one in code:
        if isinstance(one, str):
            labels[one] = len(lines)
        else:
            lines.append(one)
    for number, line in enumerate(lines):
        if isinstance(line, bytes):
            yield line
        else:
            yield _op(line.code, line.target, 0, labels[line.label] - number - 1, line.number)


def _read(base: int, offset: int, into: int, size: int) -> tuple[bytes | _Jump, ...]:
    """Return what reads the kernel's memory into the stack; what cannot be read ends it all."""
    return (
        _op(MOVE, R1, FRAME),
        _op(ADD_NUMBER, R1, number=into),
        _op(MOVE_NUMBER, R2, number=size),
        _op(MOVE, R3, base),
        _op(ADD_NUMBER, R3, number=offset),
        _op(CALL, number=PROBE_READ_KERNEL),
        _to(JUMP_NOT_EQUAL, "out", R0),
    )


def _search(number: int, places: Sequence[int]) -> Iterator[bytes | _Jump]:
    """Yield what jumps to ``found`` if a number, or its successor, is at one of the places."""
    for place in places:
        yield _op(LOAD_32, R8, FRAME, _PACKET + place)
        for wanted in (number, number + 1):
            yield _to(JUMP_EQUAL_32, "found", R8, _signed(wanted & 0xFFFFFFFF))


def _signed(number: int) -> int:
    """Return 32 bits as they are in a packet's memory, as an instruction's number."""
    return int(struct.unpack("=i", struct.pack(">I", number))[0])


def new_queue(size: int) -> int:
    """Make a queue of values of some bytes and return its descriptor."""
    return call(MAP_CREATE, "=IIIII", MAP_TYPE_QUEUE, 0, size, QUEUE_LENGTH, 0)


def pop(queue: int, size: int) -> bytes | None:
    """Take the oldest value out of a queue; None if it is empty."""
    value = ctypes.create_string_buffer(size)
    try:
        call(LOOKUP_AND_DELETE, "=I4xQQQ", queue, 0, ctypes.addressof(value), 0)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return value.raw


def attach_raw(program: int, tracepoint: bytes) -> int:
    """Have a program called at a tracepoint, until the returned descriptor is closed."""
    name = ctypes.create_string_buffer(tracepoint)
    return call(RAW_TRACEPOINT_OPEN, "=QI", ctypes.addressof(name), program)


def _load(
    *instructions: bytes, kind: int = PROG_TYPE_SCHED_CLS, licence: bytes = b"Apache-2.0"
) -> int:
    program = ctypes.create_string_buffer(b"".join(instructions))
    terms = ctypes.create_string_buffer(licence)
    return call(
        PROG_LOAD,
        "=IIQQ",
        kind,
        len(instructions),
        ctypes.addressof(program),
        ctypes.addressof(terms),
    )


def call(command: int, form: str, *values: int) -> int:
    """Make the system call with these members of union bpf_attr.

    Raises:
        MissingFeature: This kernel has no bpf(), or its number is not known here.
        OSError: The kernel's errno.
    """
    number = SYSCALL.get(platform.machine())
    if number is None:
        raise MissingFeature(f"bpf(): not known for {platform.machine()}; load module 8021q")
    # Older kernels accept a longer union as long as what they do not know is zero.
    union = ctypes.create_string_buffer(struct.pack(form, *values), 128)
    result = int(_libc.syscall(number, command, union, len(union)))
    if result < 0:
        code = ctypes.get_errno()
        if code == errno.ENOSYS:
            raise MissingFeature("bpf(): this kernel was built without it; load module 8021q")
        raise OSError(code, os.strerror(code))
    return result
