"""Hears why the kernel drops packets that carry a number: the tracepoint ``skb:kfree_skb``.

A BPF program looks into each packet that the kernel frees as lost, in every namespace, and keeps
reason, place in the kernel and device of those that carry the number, so what is told is the
probe's own and nobody else's. Program, map and tracepoint are descriptors of this process: all of
it ends with the process, however that ends. Source: net/core/skbuff.c, linux/bpf.h; reasons came
with Linux 5.17.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

from trunkline.errors import MissingFeature
from trunkline.kernel import bpf, btf

KALLSYMS = Path("/proc/kallsyms")
TRACEPOINT = b"kfree_skb"
ENUMERATION, PREFIX = "skb_drop_reason", "SKB_DROP_REASON_"
LOOKED_AT = range(24, 64, 4)  # bytes of a packet, from its IP header on, or four before it
EVENT = struct.Struct("=QIII4x")


@dataclass(frozen=True, slots=True)
class Drop:
    """A packet that the kernel dropped.

    Attributes:
        reason: As the kernel calls it, such as ``NETFILTER_DROP``.
        location: The function that dropped it.
        namespace: The number of the network namespace of its device; 0: it had none.
        device: Its index there.
    """

    reason: str
    location: str
    namespace: int
    device: int


class Drops:
    """Hears drops from the moment of construction."""

    def __init__(self, number: int) -> None:
        """Begin to hear.

        Args:
            number: 32 bits, looked for likewise as its successor.

        Raises:
            MissingFeature: This kernel cannot tell.
        """
        offsets, self._reasons = _of_this_kernel()
        self._open: list[int] = []
        try:
            self._queue = self._keep(bpf.new_queue(EVENT.size))
            program = self._keep(bpf.load_drops(self._queue, number, LOOKED_AT, offsets))
            self._keep(bpf.attach_raw(program, TRACEPOINT))
        except OSError as error:
            self.close()
            raise MissingFeature(f"tracepoint kfree_skb: {error.strerror}") from error

    def _keep(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor

    def take(self) -> tuple[Drop, ...]:
        """Return what was dropped since, in order."""
        events = []
        while (data := bpf.pop(self._queue, EVENT.size)) is not None:
            events.append(EVENT.unpack(data))
        names = _symbols({location for location, *_ in events})
        return tuple(
            Drop(self._name(reason), names[location], namespace, device)
            for location, reason, device, namespace in events
        )

    def _name(self, reason: int) -> str:
        return self._reasons.get(reason, f"reason {reason}").removeprefix(PREFIX)

    def close(self) -> None:
        """Hear no more."""
        while self._open:
            os.close(self._open.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@lru_cache(maxsize=1)
def _of_this_kernel() -> tuple[bpf.DropOffsets, Mapping[int, str]]:
    """Return where this kernel has what is read, and the names of its reasons."""
    types = btf.running()
    offsets = bpf.DropOffsets(
        head=types.offset("sk_buff", "head"),
        network_header=types.offset("sk_buff", "network_header"),
        device=types.offset("sk_buff", "dev"),
        index=types.offset("net_device", "ifindex"),
        net=types.offset("net_device", "nd_net", "net"),
        inode=types.offset("net", "ns", "inum"),
    )
    return offsets, types.values(ENUMERATION)


def _symbols(addresses: Collection[int]) -> dict[int, str]:
    """Return the functions that addresses are in; addresses themselves where names are hidden."""
    if not addresses:
        return {}
    best = dict.fromkeys(addresses, (0, ""))
    with KALLSYMS.open(encoding="ascii") as lines:
        for line in lines:
            start, kind, name, *_ = line.split()
            place = int(start, 16)
            for address, (found, _) in best.items():
                if found < place <= address and kind in "tTwW":
                    best[address] = (place, name)
    return {address: name or f"{address:#x}" for address, (_, name) in best.items()}


def missing() -> str | None:
    """Return why drop reasons cannot be told here; None if they can."""
    try:
        Drops(0).close()
    except MissingFeature as error:
        return str(error)
    return None
