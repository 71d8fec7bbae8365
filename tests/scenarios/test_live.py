"""Flows that the hosts of a lab send and watch themselves, asked of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trunkline.cli.main import main
from trunkline.kernel import netns
from trunkline.lab.stage import Stage

pytestmark = pytest.mark.scenario

TCP_80 = ("--proto", "tcp", "--port", "80")


def live(
    stage: Stage, capsys: pytest.CaptureFixture[str], *flow: str
) -> tuple[int, dict[str, Any]]:
    """Run ``trunkline trace --live`` against the lab's server; return code and what was seen."""
    capsys.readouterr()
    token = stage.lab.tokens()["admin"]
    code = main(["trace", *flow, "--live", "--json", "--server", stage.lab.api, "--token", token])
    seen: dict[str, Any] = json.loads(capsys.readouterr().out)["observed"]
    return code, seen


@contextmanager
def foreign_rule(stage: Stage, host: str, rule: str) -> Iterator[None]:
    """Have somebody else's table drop packets that a host forwards."""
    namespace = stage.lab.namespace(host)
    text = (
        f"table inet foreign {{\nchain f {{\ntype filter hook forward priority 50\n{rule}\n}}\n}}\n"
    )
    done = netns.run(namespace, ["nft", "-f", "-"], stdin=text)
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        netns.run(namespace, ["nft", "delete", "table", "inet", "foreign"])


def test_a_sound_cloud(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Scenario 6, sent from the tap without the instance's doing, is seen as predicted."""
    code, seen = live(stage, capsys, "VM_1", "VM_6", *TCP_80)

    assert (code, seen["deviation"], seen["drops"]) == (0, None, [])
    assert seen["comparison"] == [
        "TCP SYN on compute1: agree",
        "TCP SYN on compute2: agree",
        "TCP SYN-ACK on compute2: agree",
        "TCP SYN-ACK on compute1: agree",
    ]
    code, seen = live(stage, capsys, "VM_1", "8.8.8.8")
    assert (code, seen["deviation"]) == (0, None)


def test_a_refused_flow_is_refused_where_predicted(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """What groups forbid goes no further than predicted: nothing deviates, and the answer is no."""
    code, seen = live(stage, capsys, "VM_1", "VM_3", "--proto", "udp", "--port", "53")

    assert (code, seen["deviation"]) == (1, None)
    assert seen["comparison"]


def test_somebody_elses_rule(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """A drop that is in no state of ours shows in the packets, at the host where it happens."""
    with foreign_rule(stage, "compute1", "tcp dport 80 drop"):
        code, seen = live(stage, capsys, "VM_1", "VM_6", *TCP_80)

    assert code == 1
    assert seen["deviation"].startswith("packets against prediction: TCP SYN on compute1: path")
    assert "br102:out" in seen["deviation"]
    assert seen["layers"][0] == {"layer": "kernel against desired state", "deviations": []}
    (drop,) = seen["drops"]
    assert drop.startswith("compute1: the kernel dropped a packet of it on br10")
    assert "NETFILTER_DROP" in drop


def test_what_cannot_be_sent(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """A flow from outside and one of no known protocol are refused; nothing is sent."""
    to_server = ["--server", stage.lab.api, "--token", stage.lab.tokens()["admin"]]

    assert main(["trace", "--from-internet", "91.208.23.16", "--live", *to_server]) == 2
    assert "what a port itself would send" in capsys.readouterr().err
    assert main(["trace", "VM_1", "VM_6", "--proto", "47", "--live", *to_server]) == 2
    assert "probes are icmp, tcp and udp" in capsys.readouterr().err


def test_a_frozen_agent(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """A host that does not answer is named in time, and the code says that not all was seen."""
    agent = stage.lab.process("agent-compute2")
    assert agent
    agent.signal(19)  # SIGSTOP
    try:
        code, seen = live(stage, capsys, "VM_1", "VM_6", *TCP_80)
    finally:
        agent.signal(18)  # SIGCONT

    assert code == 3
    assert seen["silent_hosts"] == ["compute2"]
    assert {line.split(":")[0] for line in seen["comparison"]} == {
        "TCP SYN on compute1",
        "TCP SYN-ACK on compute1",
    }


def test_a_frozen_sender(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing was sent, nothing that was not seen elsewhere is held against anybody."""
    agent = stage.lab.process("agent-compute1")
    assert agent
    agent.signal(19)  # SIGSTOP
    try:
        code, seen = live(stage, capsys, "VM_1", "VM_6", *TCP_80)
    finally:
        agent.signal(18)  # SIGCONT

    assert code == 3
    assert seen["silent_hosts"] == ["compute1"]
    assert (seen["comparison"], seen["deviation"]) == ([], None)


def test_nothing_is_left_behind(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """After a live trace the agent holds no packet socket, and the host has no new link or rule."""
    namespace = stage.lab.namespace("compute1")

    def there() -> list[str]:
        links = netns.run(namespace, ["ip", "-br", "link"]).stdout
        rules = netns.run(namespace, ["nft", "list", "tables"]).stdout
        qdiscs = netns.run(namespace, ["tc", "qdisc"]).stdout
        with netns.enter(namespace):
            sockets = Path("/proc/thread-self/net/packet").read_text(encoding="ascii")
        return [links, rules, qdiscs, sockets]

    before = there()
    live(stage, capsys, "VM_1", "VM_6", *TCP_80)

    assert there() == before
