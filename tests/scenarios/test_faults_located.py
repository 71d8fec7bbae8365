"""Faults planted by the command: a live trace finds them, names the place, and cries no wolf."""

from __future__ import annotations

import subprocess
import sys

import pytest
from leftovers import PREFIX

from trunkline.cli.main import main
from trunkline.lab import state
from trunkline.lab.topology import load, read
from trunkline.lab.waiting import until

pytestmark = [pytest.mark.scenario, pytest.mark.usefixtures("machine")]

NAME = f"{PREFIX}planted"
LAB = state.Lab(load(read("article"), NAME))
SCORED = (
    "wrong-tag",
    "vlan-pruned",
    "snat-absent",
    "rule-widened",
    "arp-stale",
    "dhcp-second",
)


def _lab(*words: str) -> int:
    return main(["lab", words[0], "--name", NAME, *words[1:]])


def test_score(capsys: pytest.CaptureFixture[str]) -> None:
    """Faults of every kind are found and located exactly, one after the other, on one lab."""
    assert _lab("faults", *SCORED) == 0

    told = capsys.readouterr().out
    assert f"{len(SCORED)} of {len(SCORED)} found, {len(SCORED)} of {len(SCORED)} located" in told


def test_a_fault_stands_until_it_is_healed(capsys: pytest.CaptureFixture[str]) -> None:
    """What is planted stays, is found by a live trace, excludes another, and can be healed."""
    assert _lab("up") == 0
    assert _lab("fault", "bridge-absent") == 0
    assert "trunkline lab trace VM_1 VM_6 --live" in capsys.readouterr().out

    assert _lab("trace", "VM_1", "VM_6", "--live") == 1
    told = capsys.readouterr().out
    assert "The first layer that deviates: kernel state as read back." in told
    assert "The first place to look at: compute1: br102." in told
    assert "The packets went as the kernel state that was read back lets them." in told
    assert _lab("fault", "wrong-tag") == 2
    assert "fault bridge-absent stands" in capsys.readouterr().err

    assert _lab("fault", "--heal") == 0
    assert _lab("trace", "VM_1", "VM_6", "--live") == 0
    assert "Every layer is as the one above it says." in capsys.readouterr().out
    assert _lab("fault", "--heal") == 0
    assert "no fault stands" in capsys.readouterr().out
    assert _lab("down") == 0


def test_killed_while_planting() -> None:
    """What a killed command has planted in part is healed by a later one."""
    assert _lab("up") == 0
    argv = [sys.executable, "-m", "trunkline.cli.main", "lab", "fault", "--name", NAME]
    with subprocess.Popen([*argv, "missing-tag"]) as planting:
        until("the fault is noted", (LAB.directory / "fault").exists)
        planting.kill()

    assert _lab("fault", "--heal") == 0
    assert _lab("trace", "VM_1", "VM_5", "--live") == 0
    assert _lab("fault", "cable-pulled") == 0
    assert _lab("down") == 0


def test_no_false_alarms(capsys: pytest.CaptureFixture[str]) -> None:
    """Of random flows on a sound lab, none is said to be other than predicted."""
    assert _lab("faults", "--sound", "8", "--seed", "3") == 0

    assert "8 random flows (seed 3): 0 false alarms, 0 not predicted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fault", "no-such"), "fault no-such: there is none; 'trunkline lab fault --list'"),
        (("fault", "wrong-tag"), "planted: not up"),
        (("faults", "no-such"), "fault no-such: there is none"),
        (("faults", "wrong-tag", "--sound", "3"), "--sound plants nothing"),
        (("faults", "--sound", "0"), "--sound 0: give how many flows"),
    ],
)
def test_bad_input(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be done is said, and nothing is begun."""
    assert _lab(*words) == 2

    assert message in capsys.readouterr().err
