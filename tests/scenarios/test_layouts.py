"""Other layouts than the article's, and what would break without their rules."""

from __future__ import annotations

import json

import pytest

from trunkline.cli.main import main
from trunkline.kernel import netns
from trunkline.lab import build
from trunkline.lab.scenarios import ALL, play
from trunkline.lab.scenarios.layouts import tagged_act
from trunkline.lab.stage import Stage
from trunkline.lab.topology import SWITCH
from trunkline.lab.verdict import Report
from trunkline.lab.waiting import until

pytestmark = pytest.mark.scenario


def failed(report: Report) -> list[str]:
    """Return the checks of a report that did not pass, with their evidence."""
    checks = [(act.title, check) for act in report.acts for check in act.checks]
    return [f"{title}: {c.text} [{c.evidence}]" for title, c in checks if not c.passed]


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "flat"])
def test_flat(flat: Stage, key: str) -> None:
    """One untagged segment for all tenants, from the first lease to the last wall."""
    assert failed(play(flat, ALL[key])) == []


def test_a_flat_network_is_probed_without_a_tag(
    flat: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """The switch is asked with untagged frames too, which no instance sees; losses are named."""
    hook = "type filter hook forward priority 0"
    lose = f"table bridge t {{ chain f {{ {hook}; ether type 0x88b5 drop; }}; }}"
    to_server = ("--server", flat.lab.api, "--token", flat.lab.tokens()["admin"])
    ends = ("--host", "compute1", "--host", "compute2", "--json")

    with flat.capture() as capture:
        assert main(["probe", *ends, *to_server]) == 0
        frames = [f for f in capture.frames() if f.tagged[12:14] == b"\x88\xb5"]
    found = json.loads(capsys.readouterr().out)
    assert ("carried", None) in {(p["carriage"], p["vlan_id"]) for p in found["paths"]}
    places = {(f.node, f.device) for f in frames}
    assert ("compute2", build.TRUNK) in places
    assert not {node for node, _ in places} & set(flat.topology.instances)
    assert not {d for n, d in places if n != SWITCH and d.startswith(("tap", "br"))}

    switch = flat.lab.namespace(SWITCH)
    assert netns.run(switch, ["nft", "-f", "-"], stdin=lose).returncode == 0
    try:
        assert main(["probe", *ends, *to_server]) == 1
    finally:
        netns.run(switch, ["nft", "delete", "table", "bridge", "t"])
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert "The untagged segment on physnet1, compute1 to compute2: not carried" in faults[0]


def test_flat_without_the_wall_between_tags(flat: Stage) -> None:
    """Without the rules, the tags of a VLAN that a host does not serve get into its flat bridge."""
    host = flat.lab.namespace("compute3")
    flat.lab.stop("agent-compute3")
    netns.run(host, ["nft", "flush", "chain", "bridge", "trunkline", "untagged-in"])
    try:
        wrong = [check.text for check in tagged_act(flat).checks if not check.passed]
        assert "no tag inside a bridge" in wrong
    finally:
        build.start_agent(flat.lab, "compute3")
    until("all is well again", lambda: all(c.passed for c in tagged_act(flat).checks))


def test_upstream(upstream: Stage) -> None:
    """A router on the trunk is the way between tenants, also where one's network is not."""
    assert failed(play(upstream, ALL["upstream"])) == []


def test_upstream_without_the_router(upstream: Stage) -> None:
    """Without its forwarding there is no other way: no host steps in."""
    router = upstream.lab.namespace("router")
    key = "net.ipv4.conf.br100.forwarding"
    netns.sysctl(router, key, "0")
    try:
        assert any("VM_1 is answered" in text for text in failed(play(upstream, ALL["upstream"])))
    finally:
        netns.sysctl(router, key, "1")
    assert play(upstream, ALL["upstream"]).passed


@pytest.mark.parametrize("key", ["1", "6b", "trunks"])
def test_trunks(trunks: Stage, key: str) -> None:
    """Networks with one VLAN id on two trunks are two networks, on one host too."""
    assert failed(play(trunks, ALL[key])) == []


def test_single(placed: Stage) -> None:
    """One host is gateway, DHCP and NAT; with it dies what it was, and nothing else."""
    assert failed(play(placed, ALL["single"])) == []


def test_redundant(placed: Stage) -> None:
    """A router on two hosts: one is lost, the other acts within three seconds of packets."""
    assert failed(play(placed, ALL["redundant"])) == []
