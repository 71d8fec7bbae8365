"""One flow of each class of equal behaviour: what is counted for all pairs is what packets do."""

from __future__ import annotations

import json

import pytest

from trunkline.cli.main import main
from trunkline.lab import faults, sabotage, verify
from trunkline.lab.diagnose import HostsReadBack
from trunkline.lab.stage import Stage
from trunkline.lab.topology import INTERNET

pytestmark = pytest.mark.scenario


def test_a_sound_lab_does_what_is_counted(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Between instances, to floating IPs, to the Internet and from there; some must not pass."""
    assert main(["lab", "verify", "--name", stage.topology.name, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["wrong"] == found["unsent"] == []
    assert 0 < found["answered"] < found["flows"]
    flows, _ = verify.choose(stage, verify.cloud_of(stage))
    assert len(flows) == found["flows"]
    assert all(INTERNET in {getattr(f, end) for f in flows} for end in ("source", "listener"))
    assert {flow.protocol for flow in flows} == set(verify.PROTOCOLS) - {verify.ICMPV6}
    assert {flow.counted for flow in flows} == {True, False, None}


def test_what_is_let_in_too_much_is_seen(stage: Stage) -> None:
    """A group that lets in everything is seen by a flow that must be refused, and named."""
    with HostsReadBack(stage.lab) as hosts:
        scene = faults.scene(stage)
        fault = faults.find("rule-widened")
        with sabotage.planted(scene, fault, hosts):
            found = verify.verify(stage, lambda _: None)

    assert found.wrong
    for one in found.wrong:
        assert not one.flow.answered
        assert one.met == "reply"
        assert str(fault.spot(scene)) in one.place
