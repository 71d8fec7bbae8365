"""The article's scenarios, played with real packets."""

from __future__ import annotations

import json
from pathlib import Path

import dpkt
import pytest
import yaml
from leftovers import PREFIX

from trunkline.cli.main import main
from trunkline.errors import Invalid
from trunkline.lab import life
from trunkline.lab.scenarios import ALL, SCENARIOS, play
from trunkline.lab.scenarios.other_tenant import play_6b_with
from trunkline.lab.stage import Stage
from trunkline.lab.topology import read
from trunkline.lab.verdict import Report
from trunkline.model import Provisioning

pytestmark = pytest.mark.scenario

FORWARD = list(SCENARIOS)
BACK = [key for key in reversed(FORWARD) if key != "qos"]  # which measures for a long time
ORDER = [*((key, "first") for key in FORWARD), *((key, "again") for key in BACK)]


def failed(report: Report) -> list[str]:
    """Return the checks of a report that did not pass, with their evidence."""
    checks = [(act.title, check) for act in report.acts for check in act.checks]
    return [f"{title}: {c.text} [{c.evidence}]" for title, c in checks if not c.passed]


@pytest.mark.parametrize(("key", "turn"), ORDER)
def test_scenario(stage: Stage, key: str, turn: str) -> None:
    """Every scenario goes as expected, in either order and twice: each restores its setting."""
    report = play(stage, SCENARIOS[key])

    assert failed(report) == [], f"the {turn} time"
    assert report.passed
    _, rebuilt = life.up(stage.lab.text(), stage.lab.topology.name)
    assert not rebuilt, "the scenario left a lab that is not whole"


def test_walk_of_scenario_6_is_asymmetric(stage: Stage) -> None:
    """The walk itself, as data, shows the request on VLAN 102 and the reply on VLAN 100."""
    (act,) = play(stage, SCENARIOS["6"]).acts

    tags = {
        (step.packet, sighting.tag)
        for step in act.steps
        if step.node == "switch" and step.packet.startswith("ICMP")
        for sighting in step.path
    }
    assert tags == {("ICMP echo request", 102), ("ICMP echo reply", 100)}


def test_a_question_is_answered_and_proved(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """``lab trace`` predicts; with ``--live`` a real probe is sent, and every step agrees."""
    name = ["--name", stage.topology.name]
    floating = str(stage.floating("VM_6").address)

    assert main(["lab", "trace", "VM_1", "VM_6", *name]) == 0
    assert main(["lab", "trace", "VM_1", "VM_6", "--live", *name]) == 0
    assert main(["lab", "trace", "VM_1", "VM_6", "--proto", "udp", "--port", "53", *name]) == 1
    capsys.readouterr()
    live = ["--proto", "udp", "--port", "53", "--live"]
    assert main(["lab", "trace", "VM_1", "VM_6", *live, *name]) == 1
    assert "steps were seen as predicted" in capsys.readouterr().out
    assert main(["lab", "trace", "VM_1", floating, "--live", *name]) == 1
    assert "A real probe met silence." in capsys.readouterr().out
    assert main(["lab", "trace", "VM_9", "VM_6", *name]) == 2
    assert main(["lab", "trace", "VM_1", "VM_6", "--proto", "tcp", *name]) == 2
    assert main(["lab", "trace", "internet", "VM_6", "--live", *name]) == 2


@pytest.mark.usefixtures("machine")
def test_run_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """``lab run`` alone brings a lab up, tells scenarios as data, keeps evidence, cleans up."""
    argv = ["lab", "run", "4", "3", "--name", f"{PREFIX}run", "--json", "--pcap", str(tmp_path)]

    code = main(argv)

    reports = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [r["scenario"] for r in reports] == ["4", "3"]
    assert all(r["passed"] for r in reports)
    with (tmp_path / "scenario-4-act-1" / "compute1-eth0.pcap").open("rb") as file:
        kinds = {dpkt.ethernet.Ethernet(data).vlan_tags[0].id for _, data in dpkt.pcap.Reader(file)}
    assert kinds == {100}


def test_on_demand_6b_does_not_turn_into_6(stage: Stage) -> None:
    """What the remedies are judged by is red when a network is left where its instances are."""
    (act,) = play_6b_with(Provisioning.ON_DEMAND, stage)

    complaints = {check.text for check in act.checks if not check.passed}
    assert "compute1 has br102, and no instance on it" in complaints
    assert "ping is answered by 10.1.0.4" in complaints


@pytest.mark.usefixtures("machine")
def test_a_router_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On a router that is not the default one, its networks and floating IPs reach each other."""
    topology = yaml.safe_load(read("article"))
    topology["default_router"] = False
    topology["routers"] = {"mine": {"project": "tenant1", "networks": ["net1", "net2"]}}
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(topology))

    keys = ["1", "2", "5", "6", "7", "forward"]
    code = main(["lab", "run", *keys, "--file", str(file), "--name", f"{PREFIX}own"])

    assert code == 0, capsys.readouterr().out


@pytest.mark.usefixtures("machine")
def test_five_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    """The larger topology plays the same scenarios: more hosts hear, and stay silent."""
    code = main(["lab", "run", "1", "3", "6", "--file", "five", "--name", f"{PREFIX}five"])

    story = capsys.readouterr().out
    assert code == 0, story
    assert "VM_8 on compute4 hears the ARP broadcast" in story


def test_unknown_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """A scenario that does not exist is named beside those that do, before anything starts."""
    code = main(["lab", "run", "8", "--name", f"{PREFIX}none"])

    assert code == 2
    assert "scenario 8: there is none; choose from 1, 2, 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "topology"),
    [("flat", "flat"), ("upstream", "upstream"), ("single", "placed"), ("redundant", "placed")],
)
def test_a_layout_needs_its_topology(stage: Stage, key: str, topology: str) -> None:
    """Played on the article's, it says which one has what it needs."""
    with pytest.raises(Invalid, match=f"--file {topology}"):
        play(stage, ALL[key])
