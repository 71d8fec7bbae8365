"""What was predicted against what was seen, step by step: agree, missing, extra, or differs.

Steps are paired by packet, node and how many times that packet was there before. The first
deviation is where to look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from trunkline.trace.steps import Step


class Finding(StrEnum):
    """How a predicted and an observed step relate."""

    AGREE = "agree"
    MISSING = "missing"  # predicted, not seen
    EXTRA = "extra"  # seen, not predicted
    DIFFERS = "differs"
    ORDER = "order"  # seen, but not in this place


@dataclass(frozen=True, slots=True)
class Comparison:
    """One step of either side or of both.

    Attributes:
        field: What differs, if something does.
        expected, seen: The steps themselves, as far as they are there.
    """

    finding: Finding
    packet: str
    node: str
    field: str = ""
    predicted: str = ""
    observed: str = ""
    expected: Step | None = None
    seen: Step | None = None

    @property
    def text(self) -> str:
        """Return the comparison as a line."""
        where = f"{self.packet} on {self.node}"
        if self.finding is Finding.DIFFERS:
            return f"{where}: {self.field}: predicted {self.predicted}, seen {self.observed}"
        return f"{where}: {self.finding}"


FIELDS: dict[str, Callable[[Step], str]] = {
    "path": lambda step: " ".join(
        f"{s.label}:{s.direction}{'' if s.tag is None else f'#{s.tag}'}" for s in step.path
    ),
    "from": lambda step: step.sender,
    "to": lambda step: step.receiver,
    "addresses": lambda step: step.addresses,
    "changes": lambda step: ", ".join(step.changes),
}

Key = tuple[str, str, int]


def compare(predicted: Iterable[Step], observed: Iterable[Step]) -> tuple[Comparison, ...]:
    """Return how two walks relate, in the order of the predicted one; what is extra comes last."""
    first, second = _keyed(predicted), _keyed(observed)
    found = [_pair(key, step, second.get(key)) for key, step in first.items()]
    extra = [
        Comparison(Finding.EXTRA, key[0], key[1], observed=FIELDS["path"](step), seen=step)
        for key, step in second.items()
        if key not in first
    ]
    if not extra and list(first) != list(second) and _all_agree(found):
        key = next(a for a, b in zip(first, second, strict=True) if a != b)
        found.append(Comparison(Finding.ORDER, key[0], key[1]))
    return (*found, *extra)


def deviations(found: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """Return what does not agree."""
    return tuple(one for one in found if one.finding is not Finding.AGREE)


def _all_agree(found: Iterable[Comparison]) -> bool:
    return all(one.finding is Finding.AGREE for one in found)


def _keyed(steps: Iterable[Step]) -> dict[Key, Step]:
    times: Counter[tuple[str, str]] = Counter()
    keyed = {}
    for step in steps:
        place = step.packet, step.node
        times[place] += 1
        keyed[*place, times[place]] = step
    return keyed


def _pair(key: Key, predicted: Step, observed: Step | None) -> Comparison:
    packet, node, _ = key
    if observed is None:
        path = FIELDS["path"](predicted)
        return Comparison(Finding.MISSING, packet, node, predicted=path, expected=predicted)
    steps = predicted, observed
    for name, read in FIELDS.items():
        texts = read(predicted), read(observed)
        if texts[0] != texts[1]:
            return Comparison(Finding.DIFFERS, packet, node, name, *texts, *steps)
    return Comparison(Finding.AGREE, packet, node, "", "", "", *steps)
