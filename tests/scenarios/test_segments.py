"""Networks that span two switches, by packets, and by the probe that finds the joint missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from trunkline.cli.main import main
from trunkline.kernel import netns
from trunkline.lab.scenarios import ALL, play
from trunkline.lab.stage import Stage
from trunkline.lab.topology import JOINT
from trunkline.lab.waiting import until

pytestmark = pytest.mark.scenario


@contextmanager
def apart(stage: Stage) -> Iterator[None]:
    """Have nothing join the switches meanwhile."""
    where = stage.lab.namespace(JOINT)
    for state in ("down", "up"):
        done = netns.run(where, ["ip", "link", "set", stage.topology.switches()[1], state])
        assert done.returncode == 0, done.stderr
        if state == "down":
            yield


def probed(stage: Stage, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return what the command finds on the lab's switches."""
    capsys.readouterr()
    token = stage.lab.tokens()["admin"]
    main(["probe", "--json", "--server", stage.lab.api, "--token", token])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_from_switch_to_switch(segments: Stage) -> None:
    """Each switch sees its own tag; the groups hold; every step is as it was predicted."""
    report = play(segments, ALL["segments"])

    assert [c for act in report.acts for c in act.checks if not c.passed] == []


def test_the_joint_is_probed(segments: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames cross with their tags changed and are not astray; without the joint, it is named."""
    sound = probed(segments, capsys)
    with apart(segments):
        cut = probed(segments, capsys)

    assert sound["faults"] == sound["strays"] == []
    assert {p["carriage"] for p in sound["paths"]} == {"carried"}
    assert len(sound["paths"]) == 4
    assert len(cut["faults"]) == 4
    assert all(
        "segments on physnet1 and physnet2 are to be joined" in f
        or "segments on physnet2 and physnet1 are to be joined" in f
        for f in cut["faults"]
    )


def test_an_absent_network_is_no_matter_of_others(
    segments: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host without a network's trunk reports it; a live trace by that host is sound."""
    api = segments.cloud.admin
    near = {"provider:network_type": "vlan", "provider:physical_network": "physnet1"}
    network = api.create("networks", {**near, "name": "near"})
    port = api.create("ports", {"network_id": network["id"], "binding:host_id": "compute2"})

    def problems() -> str:
        agents = {agent["host"]: agent["configurations"] for agent in api.list("agents")}
        return str(agents["compute2"]["problems"])

    until("compute2 reports it", lambda: network["id"] in problems(), 10)
    to_server = ["--server", segments.lab.api, "--token", segments.lab.tokens()["admin"]]
    code = main(["trace", "VM_4", "VM_6", "--proto", "icmp", "--live", *to_server])
    api.delete("ports", port["id"])
    api.delete("networks", network["id"])
    segments.settle()

    assert code == 0, capsys.readouterr().out
