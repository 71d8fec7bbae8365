"""How an act of a scenario is put together: its walk, its checks, and the laws."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from trunkline.lab.evidence import as_predicted
from trunkline.lab.stage import Shot, Stage, Take
from trunkline.lab.verdict import Act, Check, Seen, laws
from trunkline.lab.walk import Select, asking_for, carrying, first_of, walk

LEFT, RIGHT = "compute1", "compute2"
ECHO, REPLY = "ICMP echo request", "ICMP echo reply"


def act(
    stage: Stage,
    title: str,
    takes: Iterable[Take],
    select: Select,
    checks: Iterable[Check],
    *remarks: str,
    leak: bool = False,
) -> Act:
    """Return an act: its walk, its checks, the prediction's, and the laws over all captured."""
    takes = tuple(takes)
    seen = together(takes)
    steps = walk(seen, select, stage.cast)
    predicted = tuple(take.prediction for take in takes)
    all_checks = (
        *checks,
        *map(as_predicted, predicted),
        *laws(seen, stage.ground, stage.cast, leak=leak),
    )
    return Act(title, steps, all_checks, seen.frames, predicted, remarks)


def witnessed(
    stage: Stage,
    title: str,
    seen: Seen,
    select: Select,
    checks: Iterable[Check],
    *,
    leak: bool = False,
) -> Act:
    """Return an act of which nothing is predicted: its walk, its checks, and the laws."""
    steps = walk(seen, select, stage.cast)
    all_checks = (*checks, *laws(seen, stage.ground, stage.cast, leak=leak))
    return Act(title, steps, all_checks, seen.frames)


def present(stage: Stage) -> Check:
    """Return whether the left host has the other tenant's network, without an instance on it."""
    segment = stage.segments[stage.topology.instances["VM_6"].network]
    here = [s for s in stage.seats.values() if (s.network, s.host) == (segment.network, LEFT)]
    links = {segment.bridge, segment.wire}
    passed = not here and links <= stage.links(LEFT)
    return Check(f"{LEFT} has {segment.bridge}, and no instance on it", passed)


def told(shot: Shot, *asked: IPv4Address) -> Select:
    """Select a probe's packets, and the ARP about these addresses."""
    return first_of(carrying(shot.answer.nonce), asking_for(asked))


def absent(stage: Stage) -> Check:
    """Return whether the other tenant's network is missing on the left host."""
    segment = stage.segments[stage.topology.instances["VM_6"].network]
    links = stage.links(LEFT) & {segment.bridge, segment.wire}
    return Check(f"{LEFT} has no {segment.bridge} and no {segment.wire}", not links)


def together(takes: Iterable[Take]) -> Seen:
    """Return the frames of several takes, in order."""
    return Seen(tuple(frame for take in takes for frame in take.seen))
