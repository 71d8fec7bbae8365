"""Has a host take a frame in as if it had come from a tap: from the instance, without the instance.

A test run of an XDP program that lets its frame pass (bpf(2), BPF_PROG_TEST_RUN with live frames,
Linux 5.18): the kernel receives the frame by the device that the test run names, as it would have
from the driver. Nothing is attached or made, so nothing can be left behind.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from trunkline.errors import MissingFeature, Rejected
from trunkline.kernel import bpf

PROG_TEST_RUN = 10  # linux/bpf.h
LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES
FRAME_BYTES_MAX = 3500  # a page less headroom and tail (net/bpf/test_run.c)

_CONTEXT = struct.Struct("=IIIIII")  # struct xdp_md
_TEST = "=IIIIQQIIIIQQIII"  # union bpf_attr, test


def receive(tap: str, frame: bytes) -> None:
    """Have the kernel receive a frame by a tap of the calling thread's namespace.

    Raises:
        MissingFeature: This kernel cannot do it.
        Rejected: There is no such tap, or it did not take the frame.
    """
    if len(frame) > FRAME_BYTES_MAX:
        raise Rejected(f"a frame of {len(frame)} bytes by {tap}: at most {FRAME_BYTES_MAX}")
    try:
        index = socket.if_nametoindex(tap)
        program = bpf.load_xdp_pass()
    except OSError as error:
        raise Rejected(f"a frame by {tap}: {error.strerror or error}") from error
    try:
        _run(program, index, frame)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise MissingFeature(
                "sending as from an instance needs test runs of XDP with live frames: Linux 5.18"
            ) from error
        raise Rejected(f"a frame by {tap}: {error.strerror}") from error
    finally:
        os.close(program)


def _run(program: int, index: int, frame: bytes) -> None:
    data = ctypes.create_string_buffer(frame, len(frame))
    context = ctypes.create_string_buffer(
        _CONTEXT.pack(0, len(frame), 0, index, 0, 0), _CONTEXT.size
    )
    data_at, context_at = ctypes.addressof(data), ctypes.addressof(context)
    once = 1
    bpf.call(
        PROG_TEST_RUN,
        _TEST,
        *(program, 0, len(frame), 0, data_at, 0, once, 0),
        *(_CONTEXT.size, 0, context_at, 0, LIVE_FRAMES, 0, 0),
    )
