"""Instances that move and hosts that die, under load."""

from __future__ import annotations

import pytest
from leftovers import PREFIX

from trunkline.cli.main import main
from trunkline.lab.scenarios import MOVES, SCENARIOS, play
from trunkline.lab.stage import Stage

pytestmark = pytest.mark.scenario


@pytest.mark.parametrize("key", MOVES)
def test_move(anycast: Stage, key: str) -> None:
    """Little is lost, what is established lives on, and the lab is as before."""
    report = play(anycast, MOVES[key])

    checks = [(act.title, check) for act in report.acts for check in act.checks]
    assert [f"{title}: {c.text} [{c.evidence}]" for title, c in checks if not c.passed] == []
    assert report.passed
    assert play(anycast, SCENARIOS["7"]).passed


@pytest.mark.usefixtures("machine")
def test_gateways_that_stay_behind(capsys: pytest.CaptureFixture[str]) -> None:
    """Where each host has a gateway of its own, a move is not played, and why is said."""
    code = main(["lab", "run", "move", "--name", f"{PREFIX}stay"])

    assert code == 2
    assert "scenario move needs networks with 'gateway: anycast'" in capsys.readouterr().err
