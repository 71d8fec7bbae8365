"""Where hosts' kernels are not what is intended: what agents have read back, beside the intent.

All other answers here are from intent. They hold on a host if its agent lives, is at the revision
asked for, has no problem, and has repaired what it found changed; this says where one of these
is not so. Knows nothing of how the agents came to their findings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trunkline.report import Drift, Reading, decode_reading


@dataclass(frozen=True, slots=True)
class KernelTold:
    """What is known of a host's kernel.

    Attributes:
        alive: Whether its agent has been heard of lately.
        revision: What its snapshot is at.
        applied: What its agent has brought it to.
        problems: What the agent could not do, as ``subject: text``.
        reading: None if its agent has told none.
    """

    host: str
    alive: bool
    revision: int
    applied: int | None
    problems: tuple[str, ...]
    reading: Reading | None


@dataclass(frozen=True, slots=True)
class KernelFinding:
    """One way in which a kernel differs, or differed, from what it must be.

    Attributes:
        lasts: Whether it does so as far as is known; otherwise it has been repaired.
    """

    host: str
    lasts: bool
    text: str

    def __str__(self) -> str:
        """Return it as a sentence for people."""
        kind = "drift" if self.lasts else "repaired"
        return f"{kind}: host {self.host}: {self.text}"


def kernels_out(kernels: Iterable[KernelTold]) -> list[dict[str, Any]]:
    """Return what is known of kernels as plain data."""
    return [asdict(kernel) for kernel in kernels]


def kernels_in(data: Iterable[Mapping[str, Any]]) -> list[KernelTold]:
    """Return what ``kernels_out`` made this of.

    Raises:
        KeyError, TypeError, ValueError: It made it of nothing.
    """
    return [
        KernelTold(
            str(told["host"]),
            bool(told["alive"]),
            int(told["revision"]),
            None if told["applied"] is None else int(told["applied"]),
            tuple(map(str, told["problems"])),
            decode_reading(told),
        )
        for told in data
    ]


def kernel_findings(kernels: Iterable[KernelTold]) -> list[KernelFinding]:
    """Return where the kernels of living agents' hosts differ from what they must be."""
    return [finding for kernel in kernels if kernel.alive for finding in _of_host(kernel)]


def _of_host(kernel: KernelTold) -> list[KernelFinding]:
    found = [KernelFinding(kernel.host, True, problem) for problem in kernel.problems]  # noqa: FBT003 - it lasts
    if kernel.applied != kernel.revision:
        text = f"it is at revision {kernel.applied} of what is wanted, not yet {kernel.revision}"
        found.append(KernelFinding(kernel.host, True, text))  # noqa: FBT003 - it lasts
    drift = None if kernel.reading is None else kernel.reading.drift
    if drift is not None:
        found.append(KernelFinding(kernel.host, not drift.repaired, _told(drift)))
    return found


def _told(drift: Drift) -> str:
    more = drift.operations - len(drift.commands)
    commands = "; ".join(drift.commands) + (f"; and {more} more" if more else "")
    return f"{drift.at}: its kernel had been changed; to be as it must it took: {commands}"


def unread(kernels: Iterable[KernelTold]) -> list[str]:
    """Return the hosts of whose kernels nothing is known now, as sentences."""
    return [
        f"host {kernel.host}: whether its kernel is as it must be; "
        + ("its agent is silent" if not kernel.alive else "its agent does not tell; update it")
        for kernel in kernels
        if not kernel.alive or kernel.reading is None
    ]
