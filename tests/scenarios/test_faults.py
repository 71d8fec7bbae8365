"""Faults planted in the kernel behind the agent's back: the scenarios must go red."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from trunkline.kernel import netns
from trunkline.lab import build
from trunkline.lab.scenarios import SCENARIOS, play
from trunkline.lab.stage import Stage
from trunkline.lab.verdict import Report
from trunkline.lab.waiting import until

pytestmark = pytest.mark.scenario


@pytest.fixture
def broken(faulty: Stage) -> Iterator[Stage]:
    """A lab whose left agent is frozen; afterwards a new one repairs what the test broke."""
    label = "agent-compute1"
    agent = faulty.lab.process(label)
    assert agent
    agent.signal(signal.SIGSTOP)
    yield faulty
    agent.signal(signal.SIGCONT)
    faulty.lab.stop(label)
    build.start_agent(faulty.lab, "compute1")
    until("all is well again", lambda: all(play(faulty, SCENARIOS[k]).passed for k in "246"))


def _on_left(stage: Stage, *argv: str) -> None:
    done = netns.run(stage.lab.namespace("compute1"), argv)
    assert done.returncode == 0, done.stderr


def _failed(report: Report) -> str:
    return "\n".join(c.text for act in report.acts for c in act.checks if not c.passed)


def test_lost_translation(broken: Stage) -> None:
    """Without the translation rules, scenario 2 is red: a private address is on the wire.

    Once the wall behind them is gone, too.
    """
    for chain in ("nat-postrouting", "leaving"):
        _on_left(broken, "nft", "flush", "chain", "inet", "trunkline", chain)

    report = play(broken, SCENARIOS["2"])

    assert not report.passed
    assert "it leaves by eth1 with source 91.207.15.105" in _failed(report)
    assert "no private address on the external wire" in _failed(report)
    (prediction,) = report.acts[0].predictions
    first = prediction.deviations[0]
    assert (first.packet, first.node, first.field) == ("ICMP echo request", "compute1", "addresses")
    assert (first.predicted, first.observed) == (
        "91.207.15.105 > 8.8.8.8",
        "10.0.0.3 > 8.8.8.8",
    )


def test_swapped_tags(broken: Stage) -> None:
    """With two VLAN devices in each other's bridges, scenario 4 is red: the wrong tag is seen."""
    _on_left(broken, "ip", "link", "set", "vlan100", "master", "br102")
    _on_left(broken, "ip", "link", "set", "vlan102", "master", "br100")

    report = play(broken, SCENARIOS["4"])

    assert not report.passed
    assert "ARP crosses the trunk with tag 100 and no other" in _failed(report)
    assert "no frame of one tenant on another's segment" in _failed(report)


def test_unfiltered_bridge(broken: Stage) -> None:
    """With a bridge hidden from connection tracking, scenario 6's TCP is red.

    The left host then routes a SYN and never sees the SYN-ACK, which it only bridges, so it
    takes the next segment for invalid.
    """
    _on_left(broken, "ip", "link", "set", "br100", "type", "bridge", "nf_call_iptables", "0")

    report = play(broken, SCENARIOS["6"])

    assert not report.passed
    assert "TCP is answered by 10.1.0.4" in _failed(report)
