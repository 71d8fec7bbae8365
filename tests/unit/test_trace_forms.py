"""One step list, several forms; and what was predicted against what was seen."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import article
import pytest
from article import ping

from trunkline.trace import data, draw, tell
from trunkline.trace.compare import Finding, compare, deviations
from trunkline.trace.steps import Sighting, Trace

SIX = ping(article.cloud(), "VM_1", "VM_6")
GUARDED = ping(article.cloud(*article.snapshots(without=["VM_3"])), "VM_1", "VM_6")


@pytest.mark.parametrize("found", [SIX, GUARDED], ids=["6", "6b"])
def test_json_and_back(found: Trace) -> None:
    """A trace survives JSON whole, and names its schema."""
    text = json.dumps(data.trace_out(found))

    assert data.trace_in(json.loads(text)) == found
    assert json.loads(text)["schema"] == data.SCHEMA


def test_another_schema_is_refused() -> None:
    """A reader does not guess at what it does not know."""
    with pytest.raises(ValueError, match="schema 2"):
        data.trace_in({**data.trace_out(SIX), "schema": 2})


def test_the_story() -> None:
    """The article's prose: one sentence first, numbered steps, reasons on demand."""
    told = tell.story(SIX, why=False).splitlines()
    why = tell.story(SIX, why=True)

    assert told[0] == "VM_1 reaches VM_6 at 10.1.0.4 by icmp, and the answer comes back."
    assert any(
        line.endswith(
            "compute1 takes the ICMP echo request in by tap00000001-aa (VM_1), br100; routes it"
            " (TTL 64 -> 63, new MACs); sends it out by br102, vlan102, eth0 with tag 102."
        )
        for line in told
    )
    assert told[-1] == "This holds at revision: compute1 3, compute2 3."
    assert "which is security group rule icmp2 (a rule of group default)" in why
    assert "next best: default dev eth1: failed at less specific than 10.1.0.0/24" in why


def test_terse() -> None:
    """A line per hop, ARP left out."""
    lines = tell.terse(SIX).splitlines()

    assert len(lines) == 11
    assert lines[2].endswith(">tap(VM_1) >br100 <br102 <vlan102 <eth0#102  [TTL 64 -> 63]")


def test_mermaid() -> None:
    """A participant per node and an arrow per hop; a packet's end is a cross."""
    lines = draw.mermaid(SIX).splitlines()

    assert [line.split()[-1] for line in lines if "participant" in line] == [
        "VM_1",
        "compute1",
        "switch",
        "compute2",
        "VM_6",
    ]
    assert sum("->>" in line for line in lines) == 8
    assert any("n1--xn1" in line for line in draw.mermaid(GUARDED).splitlines())


@pytest.mark.parametrize("found", [SIX, GUARDED], ids=["6", "6b"])
def test_svg(found: Trace) -> None:
    """A drawing that is well-formed, has each hop, and loads nothing from elsewhere."""
    root = ET.fromstring(draw.svg(found))

    marks = root.findall("{*}polygon") + root.findall("{*}circle")
    assert len(marks) == len(draw.arrows(found))
    assert not [e for e in root.iter() if any("href" in key for key in e.attrib)]


def test_equal_walks_agree() -> None:
    """Nothing deviates from itself."""
    assert deviations(compare(SIX.steps, SIX.steps)) == ()


def test_deviations_name_step_and_field() -> None:
    """A tag that differs, a step that is missing, one that is extra, one in another place."""
    at = next(i for i, s in enumerate(SIX.steps) if s.packet == "ICMP echo request") + 1
    step = SIX.steps[at]
    wrong = replace(
        step, path=tuple(replace(s, tag=s.tag and 103) for s in step.path), decisions=()
    )
    seen = [*SIX.steps[:at], wrong, *SIX.steps[at + 1 :]]
    (tag,) = deviations(compare(SIX.steps, seen))
    (missing,) = deviations(compare(SIX.steps, SIX.steps[:-1]))
    (extra,) = deviations(compare(SIX.steps[:-1], SIX.steps))
    swapped = [*SIX.steps[:-2], SIX.steps[-1], SIX.steps[-2]]
    (order,) = deviations(compare(SIX.steps, swapped))

    assert (tag.finding, tag.field) == (Finding.DIFFERS, "path")
    assert "eth0:out#102, seen" in tag.text
    assert tag.observed.endswith("eth0:out#103")
    assert (missing.finding, missing.node) == (Finding.MISSING, "VM_1")
    assert (extra.finding, extra.node) == (Finding.EXTRA, "VM_1")
    assert order.finding is Finding.ORDER


def test_a_tap_goes_by_its_owner() -> None:
    """Tap names are new in every run; labels are not."""
    assert Sighting("tap3f2a", "in", owner="VM_1").label == "tap(VM_1)"
    assert Sighting("br100", "in").label == "br100"
