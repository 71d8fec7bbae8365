"""What a planned change opens and closes, exactly.

Whether a flow passes depends on its two ends and on nothing else: their groups' rules, addresses,
places, and hosts. So only flows of an end for which one of these changes can change, and only
those are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from trunkline.trace.reach import Reach, reach
from trunkline.trace.reach_policy import WORD, Ints, rules_of_version
from trunkline.trace.reach_public import outside_of
from trunkline.trace.verify_cloud import Address, Cloud, End, Floating
from trunkline.trace.verify_flow import Verdict, from_internet, to_floating, to_internet
from trunkline.trace.verify_services import Service, services

Key = tuple[str, Address]
"""Port id and address: an end, in both clouds."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A flow that passes in one of the two clouds only.

    Attributes:
        opened: It passes in the planned one.
        source, target: For people: an address and whose it is, or the Internet.
    """

    opened: bool
    source: str
    target: str
    service: Service


def differences(before: Cloud, after: Cloud) -> Iterator[Difference]:
    """Yield the flows that a plan opens or closes: request and reply, or not at all."""
    for version in (4, 6):
        rules = [*rules_of_version(before, version), *rules_of_version(after, version)]
        found = services(rules)
        yield from _between_ports(
            reach(before, version, found=found), reach(after, version, found=found)
        )
        if version == 4:  # noqa: PLR2004 - floating IPs are IPv4
            yield from _translated(before, after, found)


def describe(end: End) -> str:
    """Return an end as people know it."""
    port = end.seat.port
    return f"{end.address} ({port.hostname}, port {port.id}, project {port.project_id})"


# --- fixed addresses --------------------------------------------------------------------------


def _between_ports(before: Reach, after: Reach) -> Iterator[Difference]:
    olds, news = _by_key(before.classes.ends), _by_key(after.classes.ends)
    touched = _touched(before.cloud, after.cloud)
    keys = sorted(olds.keys() | news.keys(), key=str)
    few = [key for key in keys if key in touched]
    for sender in keys:
        receivers = [r for r in (keys if sender in touched else few) if r[0] != sender[0]]
        old = _row(before, olds, sender, receivers)
        new = _row(after, news, sender, receivers)
        for index in np.flatnonzero((old != new).any(0)):
            yield from _differing(
                (before, olds, old), (after, news, new), (sender, receivers[index]), int(index)
            )


Side = tuple[Reach, Mapping[Key, int], Ints]


def _differing(
    before: Side, after: Side, pair: tuple[Key, Key], index: int
) -> Iterator[Difference]:
    source, target = (_name(before, after, key) for key in pair)
    for word, (old, new) in enumerate(zip(before[2][:, index], after[2][:, index], strict=True)):
        changed = int(old) ^ int(new)
        for bit in range(WORD):
            if changed >> bit & 1:
                service = after[0].services[WORD * word + bit]
                yield Difference(bool(int(new) >> bit & 1), source, target, service)


def _name(before: Side, after: Side, key: Key) -> str:
    for reached, numbers, _ in (after, before):
        if key in numbers:
            return describe(reached.classes.ends[numbers[key]])
    raise AssertionError("a key is of one of the two clouds")


def _row(found: Reach, numbers: Mapping[Key, int], sender: Key, receivers: list[Key]) -> Ints:
    """Return words x receivers: the services that a sender gets answered by each."""
    row = np.zeros((len(found.words), len(receivers)), np.uint64)
    at = [index for index, key in enumerate(receivers) if key in numbers]
    if sender in numbers and at:
        targets = np.array([numbers[receivers[index]] for index in at])
        answers = found.answers(np.full(len(at), numbers[sender]), targets)
        row[:, at] = np.array(answers, np.uint64).reshape(len(found.words), len(at))
    return row.astype(np.uint64)


def _by_key(ends: Iterable[End]) -> dict[Key, int]:
    return {_key(e): index for index, e in enumerate(ends)}


def _touched(before: Cloud, after: Cloud) -> set[Key]:
    """Return the ends for which something that decides about flows is not the same."""
    olds, news = _natures(before), _natures(after)
    return {key for key in olds.keys() | news.keys() if olds.get(key) != news.get(key)}


def _natures(cloud: Cloud) -> dict[Key, object]:
    """Return what decides about each end's flows."""
    return {
        _key(e): (
            e.seat,
            e.subnet_id,
            cloud.gate(e),
            cloud.domain(e),
            cloud.router(e),
            cloud.face(e),
            tuple(cloud.groups.get(group) for group in e.seat.port.group_ids),
        )
        for e in cloud.ends
    }


# --- translated addresses ---------------------------------------------------------------------


def _translated(before: Cloud, after: Cloud, found: tuple[Service, ...]) -> Iterator[Difference]:
    touched = _touched(before, after)
    outside = outside_of(before, after)
    old, new = (_passing(c, touched, outside, found) for c in (before, after))
    for flow in sorted(old ^ new, key=lambda flow: (flow[0], flow[1], found.index(flow[2]))):
        yield Difference(flow in new, *flow)


def _passing(
    cloud: Cloud, touched: set[Key], outside: Iterable[Address], found: tuple[Service, ...]
) -> set[tuple[str, str, Service]]:
    """Return the translated flows of touched ends that pass."""
    ends = [e for e in cloud.ends if e.address.version == 4]  # noqa: PLR2004 - the IP version
    own = [e for e in ends if _key(e) in touched]
    moved = [f for f in cloud.floating if _key(f.end) in touched]
    others = [f for f in cloud.floating if _key(f.end) not in touched]
    judged = [
        *((e, f, s, to_floating(cloud, e, f, s)) for e, f, s in product(ends, moved, found)),
        *((e, f, s, to_floating(cloud, e, f, s)) for e, f, s in product(own, others, found)),
        *((e, x, s, to_internet(cloud, e, x, s)) for e, x, s in product(own, outside, found)),
        *((x, f, s, from_internet(cloud, x, f, s)) for x, f, s in product(outside, moved, found)),
    ]
    passing = (flow for flow in judged if flow[3].verdict == Verdict.ANSWERED)
    return {(_public(a), _public(b), s) for a, b, s, _ in passing}


def _key(end: End) -> Key:
    return end.seat.port.id, end.address


def _public(one: End | Floating | Address) -> str:
    if isinstance(one, End):
        return describe(one)
    if isinstance(one, Floating):
        return f"floating IP {one.address}"
    return f"the Internet ({one} and alike)"
