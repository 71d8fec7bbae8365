"""Plays scenarios on a lab and tells them.

Brings the lab up where it is not, and leaves the machine as it was. Knows no scenario's content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trunkline.errors import Conflict, Invalid
from trunkline.lab import life, state
from trunkline.lab.capture import write_pcap
from trunkline.lab.cloud import Segment
from trunkline.lab.scenarios import ALL, SCENARIOS, Scenario, play
from trunkline.lab.stage import Stage
from trunkline.lab.state import Lab
from trunkline.lab.topology import load, read
from trunkline.lab.verdict import Act, Report
from trunkline.trace.tell import prose

Say = Callable[[str], None]


def chosen(keys: Sequence[str]) -> tuple[Scenario, ...]:
    """Return the scenarios of these keys; without a key, none.

    Raises:
        Invalid: There is no such scenario.
    """
    for key in keys:
        if key not in ALL:
            raise Invalid(f"scenario {key}: there is none; choose from {', '.join(ALL)}")
    return tuple(ALL[key] for key in keys)


def run(
    text: str | None,
    name: str | None,
    scenarios: Sequence[Scenario],
    *,
    pcap: Path | None,
    say: Say,
) -> tuple[Report, ...]:
    """Play scenarios one after the other, and say each as soon as it is over.

    Args:
        text: The topology; None is that of the lab of this name, or the article's.
        name: The lab's name; None is the topology's.
        scenarios: In the order in which to play them; none: those of the topology.
        pcap: Directory for the evidence, one file per device of each act.
        say: What to do with a line of the story.

    Raises:
        Conflict: A lab of this name is up, and has another topology.
    """
    if pcap:
        _check_writable(pcap)
    reports = []
    with living(text, name, say) as lab:
        stage = Stage(lab)
        say(_cast_table(stage))
        for scenario in scenarios or chosen(lab.topology.scenarios or tuple(SCENARIOS)):
            with lab.disturbed():
                report = play(stage, scenario)
            reports.append(report)
            say(tell(report))
            if pcap:
                _keep(pcap, report)
    say(_summary(reports))
    return tuple(reports)


@contextmanager
def living(asked: str | None, name: str | None, say: Say) -> Iterator[Lab]:
    """Give a lab that is up, and locked: one that is already, or one for this run alone.

    Raises:
        Conflict: A lab of this name is up, and has another topology.
    """
    text = asked or read("article")
    lab = Lab(load(text, name))
    with state.locked(lab.topology.name):
        stays = lab.wanted
        if stays:
            lab = state.find(lab.topology.name)
            text = lab.text()
            _check_same(lab, asked, text)
        if not lab.complete:
            say(f"bringing up lab {lab.topology.name}")
        try:
            life.ensure_up(lab, text, temporary=not stays)
            yield lab
        finally:
            if not stays:
                state.remove(lab.topology.name)


def _check_same(lab: Lab, asked: str | None, text: str) -> None:
    if asked not in {None, text}:
        name = lab.topology.name
        raise Conflict(
            f"lab {name} is up with another topology than --file; leave --file out to play that"
            f" one, take it down ('trunkline lab down --name {name}'), or choose another --name",
        )


def _check_writable(directory: Path) -> None:
    """Make the directory for the evidence before anything is played."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError("not writable")
    except OSError as error:
        raise Invalid(f"--pcap {directory}: {error.strerror or error}") from error


def _keep(directory: Path, report: Report) -> None:
    for number, act in enumerate(report.acts, start=1):
        write_pcap(directory / f"scenario-{report.key}-act-{number}", act.frames)


def _cast_table(stage: Stage) -> str:
    lines = ["", "The cast:"]
    for seat in stage.seats.values():
        segment = stage.segment(seat.instance)
        lines.append(
            f"  {seat.instance:6} {seat.project}, {seat.address} on {seat.host}'s"
            f" {segment.bridge} ({_segment_name(segment)}), MAC {seat.mac}, {seat.tap}"
        )
    return "\n".join(lines)


def _segment_name(segment: Segment) -> str:
    return "untagged" if segment.vlan_id is None else f"VLAN {segment.vlan_id}"


def tell(report: Report) -> str:
    """Return a scenario's story: walks, checks, verdict."""
    lines = ["", f"Scenario {report.key}: {report.title}"]
    for act in report.acts:
        lines += _act_lines(act)
    verdict = "as expected" if report.passed else "NOT as expected"
    lines += ["", f"  Scenario {report.key}: {verdict}"]
    return "\n".join(lines)


def _act_lines(act: Act) -> Iterator[str]:
    yield from ("", f"  {act.title[0].upper()}{act.title[1:]}", "")
    for number, step in enumerate(act.steps, start=1):
        yield f"    {number:2}. {prose(step)}"
    yield ""
    for prediction in act.predictions:
        yield f"    predicted: {prediction.trace.sentence}"
        yield from (f"      deviates: {one.text}" for one in prediction.deviations)
    for check in act.checks:
        evidence = f"  [{check.evidence}]" if check.evidence else ""
        yield f"    {'ok  ' if check.passed else 'FAIL'}  {check.text}{evidence}"
    for remark in act.remarks:
        yield f"    note  {remark}"


def _summary(reports: Sequence[Report]) -> str:
    checks = [c for report in reports for act in report.acts for c in act.checks]
    passed = sum(check.passed for check in checks)
    bad = [report.key for report in reports if not report.passed]
    end = f"; not as expected: {', '.join(bad)}" if bad else ""
    return f"\n{len(reports)} scenarios, {passed} of {len(checks)} checks passed{end}"
