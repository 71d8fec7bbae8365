"""Probes on a lab's switch: what it does not carry is found by real frames, and named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from trunkline.cli.main import main
from trunkline.kernel import netns
from trunkline.lab.stage import Stage
from trunkline.lab.topology import SWITCH
from trunkline.probe import ETHERTYPE

pytestmark = pytest.mark.scenario

EXPERIMENTAL = ETHERTYPE.to_bytes(2, "big")


def probed(stage: Stage, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Run the command against the lab's server; return its exit code and what it found."""
    capsys.readouterr()
    token = stage.lab.tokens()["admin"]
    code = main(["probe", "--json", "--server", stage.lab.api, "--token", token])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


@contextmanager
def on_switch(stage: Stage, *rules: str) -> Iterator[None]:
    """Have the switch treat frames by these rules meanwhile."""
    namespace = stage.lab.namespace(SWITCH)
    head = ("table bridge fault {", "chain forward {", "type filter hook forward priority 10")
    text = "\n".join((*head, *rules, "}", "}", ""))
    done = netns.run(namespace, ["nft", "-f", "-"], stdin=text)
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        netns.run(namespace, ["nft", "delete", "table", "bridge", "fault"])


def carried(found: dict[str, Any]) -> dict[tuple[str, str, int], str]:
    """Return how each path is, by its ends and VLAN."""
    return {(p["source"], p["destination"], p["vlan_id"]): p["carriage"] for p in found["paths"]}


def test_a_sound_switch(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Every VLAN is carried both ways in full size; no instance and no bridge sees a frame of it.

    On the trunk's NICs they are seen, tagged: so the capture would have seen them elsewhere.
    """
    with stage.capture() as capture:
        code, found = probed(stage, capsys)
        frames = [f for f in capture.frames() if EXPERIMENTAL in f.tagged[12:18]]

    assert code == 0
    assert set(carried(found).values()) == {"carried"}
    assert len(found["paths"]) == 4
    trunk = {(f.node, f.device) for f in frames if f.node == SWITCH or f.device == "eth0"}
    assert {("compute1", "eth0"), ("compute2", "eth0")} <= trunk
    seen_by = {(f.node, f.device) for f in frames}
    assert not {node for node, _ in seen_by} & set(stage.topology.instances)
    assert not {device for _, device in seen_by if device.startswith(("tap", "br1"))}


def test_a_pruned_vlan(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """A VLAN that the switch's port does not carry is named, and the tracer believes it."""
    token = stage.lab.tokens()["admin"]
    to_server = ["--server", stage.lab.api, "--token", token]
    prune = ('iifname "compute2" vlan id 102 drop', 'oifname "compute2" vlan id 102 drop')
    with on_switch(stage, *prune):
        code, found = probed(stage, capsys)

        assert code == 1
        assert carried(found) == {
            ("compute1", "compute2", 100): "carried",
            ("compute2", "compute1", 100): "carried",
            ("compute1", "compute2", 102): "not carried",
            ("compute2", "compute1", 102): "not carried",
        }
        assert main(["trace", "VM_1", "VM_6", "--proto", "tcp", "--port", "80", *to_server]) == 1
        assert "the switch does not carry tag 102" in capsys.readouterr().out
    assert probed(stage, capsys)[0] == 0


def test_one_way_and_too_small(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """A VLAN lost in one direction, and frames lost above a size, are told apart and by way."""
    rules = (
        'iifname "compute1" vlan id 100 drop',
        'iifname "compute2" vlan id 102 meta length > 1496 drop',
    )
    with on_switch(stage, *rules):
        code, found = probed(stage, capsys)

    assert code == 1
    assert carried(found) == {
        ("compute1", "compute2", 100): "not carried",
        ("compute2", "compute1", 100): "carried",
        ("compute1", "compute2", 102): "carried",
        ("compute2", "compute1", 102): "too small",
    }
    (small,) = (p for p in found["paths"] if p["carriage"] == "too small")
    assert (small["largest"], small["wanted"]) == (1496, 1500)


def test_a_frame_on_a_vlan_where_it_should_not_be(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """A switch that puts one VLAN's frames into another is found out, with both tags."""
    with on_switch(stage, 'iifname "compute1" vlan id 100 vlan id set 102'):
        code, found = probed(stage, capsys)

    assert code == 1
    (stray,) = found["strays"]
    assert (stray["source"], stray["destination"]) == ("compute1", "compute2")
    assert (stray["vlan_id"], stray["tag"]) == (100, 102)


def test_a_frozen_agent(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """A host whose agent does not answer is named in time, with an exit code of its own."""
    agent = stage.lab.process("agent-compute2")
    assert agent
    agent.signal(19)  # SIGSTOP
    try:
        code, found = probed(stage, capsys)
    finally:
        agent.signal(18)  # SIGCONT

    assert code == 3
    assert found["silent_hosts"] == ["compute2"]
    assert probed(stage, capsys)[0] == 0
