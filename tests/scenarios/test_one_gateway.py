"""One gateway for all hosts: the article's scenarios, and what would break without the walls."""

from __future__ import annotations

import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from trunkline.kernel import netns
from trunkline.lab import build
from trunkline.lab.scenarios import SCENARIOS, play
from trunkline.lab.stage import Stage
from trunkline.lab.verdict import Report
from trunkline.lab.waiting import until

pytestmark = pytest.mark.scenario

ARTICLE = [key for key in SCENARIOS if key[0].isdigit()]
BROADCAST = "ff:ff:ff:ff:ff:ff"


def failed(report: Report) -> list[str]:
    """Return the checks of a report that did not pass, with their evidence."""
    checks = [(act.title, check) for act in report.acts for check in act.checks]
    return [f"{title}: {c.text} [{c.evidence}]" for title, c in checks if not c.passed]


@pytest.mark.parametrize("key", ARTICLE)
def test_scenario(anycast: Stage, key: str) -> None:
    """The gateway's MAC and address are on no frame of the trunk, in no scenario."""
    report = play(anycast, SCENARIOS[key])

    assert failed(report) == []
    assert any("no anycast gateway" in c.text for act in report.acts for c in act.checks)


@pytest.fixture
def frozen(anycast: Stage) -> Iterator[Stage]:
    """The lab with its left agent frozen; afterwards a new one repairs what the test broke."""
    label = "agent-compute1"
    agent = anycast.lab.process(label)
    assert agent
    agent.signal(signal.SIGSTOP)
    yield anycast
    agent.signal(signal.SIGCONT)
    anycast.lab.stop(label)
    build.start_agent(anycast.lab, "compute1")
    until("all is well again", lambda: play(anycast, SCENARIOS["6"]).passed)


def test_without_the_walls(frozen: Stage) -> None:
    """Without the rules on the way to the trunk, the gateway is a source there: red."""
    host = frozen.lab.namespace("compute1")
    netns.run(host, ["nft", "flush", "chain", "bridge", "trunkline", "out-of-anycast"])

    assert any("no anycast gateway" in text for text in failed(play(frozen, SCENARIOS["6"])))


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _claim(source: str, sender: bytes, operation: int) -> bytes:
    """Return an ARP message to everybody: ``sender`` is at ``source``."""
    head = struct.pack(">HHHBBH", 0x0806, 1, 0x0800, 6, 4, operation)
    return _mac(BROADCAST) + _mac(source) + head + _mac(source) + sender + bytes(6) + sender


def test_a_claim_stays_on_its_host(anycast: Stage) -> None:
    """Not even an instance without port security tells other hosts that it is the gateway."""
    me, tenant = anycast.seats["VM_1"], anycast.cloud.as_project("tenant1")
    gateway = anycast.gateway("VM_1").packed
    groups = anycast.cloud.admin.show("ports", me.port_id)["security_groups"]
    tenant.update("ports", me.port_id, {"port_security_enabled": False, "security_groups": []})
    anycast.settle()
    control = _claim(me.mac, me.address.packed, 1)
    try:
        with (
            netns.socket(anycast.lab.namespace("VM_1"), socket.AF_PACKET, socket.SOCK_RAW) as sock,
            anycast.capture() as capture,
        ):
            sock.bind(("eth0", 0))
            for operation in (1, 2):
                sock.send(_claim(me.mac, gateway, operation))
            sock.send(control)
            while not any(f.node == "VM_5" and control[14:] in f.data for f in capture.frames()):
                assert capture.wait(5), "the control frame did not arrive"
            frames = capture.frames()
    finally:
        security = {"port_security_enabled": True, "security_groups": groups}
        tenant.update("ports", me.port_id, security)
        anycast.settle()

    claims = {(f.node, f.device) for f in frames if f.arp and f.arp.sender.packed == gateway}
    beside = anycast.seats["VM_2"].tap
    local = {("compute1", link) for link in ("br100", me.tap, beside)}
    assert claims == {("VM_1", "eth0"), ("VM_2", "eth0")} | local
