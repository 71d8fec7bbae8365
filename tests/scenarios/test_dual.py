"""IPv6 beside IPv4 in the lab, and what would be seen without the rules that it needs."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator

import pytest

from trunkline.cli.main import main
from trunkline.kernel import netns
from trunkline.lab import probe
from trunkline.lab.diagnose import HostsReadBack, unsound
from trunkline.lab.question import Question, shoot
from trunkline.lab.scenarios import ALL, play
from trunkline.lab.scenarios.ipv6 import finding
from trunkline.lab.stage import Stage
from trunkline.lab.verdict import Report, Seen
from trunkline.lab.waiting import until
from trunkline.trace.layers import Place

pytestmark = pytest.mark.scenario


def failed(report: Report) -> str:
    """Return the checks of a report that did not pass, with their evidence."""
    checks = [(act.title, check) for act in report.acts for check in act.checks]
    return "\n".join(f"{title}: {c.text} [{c.evidence}]" for title, c in checks if not c.passed)


@pytest.mark.parametrize("key", ["ipv6", "6"])
def test_both_families(dual: Stage, key: str) -> None:
    """The article's scenarios in IPv6, and IPv4 as the tracer predicts it on the same hosts."""
    assert failed(play(dual, ALL[key])) == ""


@pytest.mark.parametrize("key", ["ipv6", "routers6"])
def test_on_routers_of_their_own(routers6: Stage, key: str) -> None:
    """The same in network namespaces, and next to others with the same addresses."""
    assert failed(play(routers6, ALL[key])) == ""


def test_live_on_routers_of_their_own(routers6: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Routers' namespaces are watched as hosts are; of two equal addresses the own one is meant."""
    lab, twin = routers6.lab, str(routers6.seats["BLUE_2"].address6)
    to_server = ["--server", lab.api, "--token", lab.tokens()["admin"], "--json"]
    assert twin == str(routers6.seats["VM_3"].address6)
    for sender, router in (("VM_1", "both"), ("BLUE_1", "blue")):
        capsys.readouterr()
        assert main(["trace", sender, twin, "--live", *to_server]) == 0
        seen = json.loads(capsys.readouterr().out)["observed"]
        assert (seen["deviation"], seen["silent_hosts"]) == (None, [])
        assert f"ICMPv6 echo request on compute1/{router}: agree" in seen["comparison"]


def test_a_router_that_moves_is_the_same_to_instances(placed6: Stage) -> None:
    """It keeps its link-local address, which has another MAC at once: no router is given up."""
    router, target = placed6.segment("VM_1").router6("compute1"), placed6.seats["VM_6"].address6
    namespace = placed6.lab.namespace("VM_1")
    assert target
    for host in ("network2", "network1"):
        placed6.cloud.place("main", host)
        placed6.settle()
        until("it is reached again", lambda: probe.ping(namespace, target, 1).kind == "reply", 5)
        routes = placed6.routes("VM_1", version=6)
        assert [r.split()[2] for r in routes if r.startswith("default")] == [str(router)]


def test_live(dual: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Sent from the tap and watched by agents, IPv6 passes hosts as predicted; so do refusals."""
    to_server = ["--server", dual.lab.api, "--token", dual.lab.tokens()["admin"], "--json"]
    six = str(dual.seats["VM_6"].address6)
    closed = ("--proto", "udp", "--port", "53")
    for words, code in (([], 0), (["--proto", "tcp", "--port", "80"], 0), (closed, 1)):
        capsys.readouterr()
        assert main(["trace", "VM_1", six, *words, "--live", *to_server]) == code, words
        seen = json.loads(capsys.readouterr().out)["observed"]
        assert (seen["deviation"], seen["silent_hosts"]) == (None, []), words
        assert seen["comparison"]


def _rule_dropped(stage: Stage) -> tuple[str, str, str]:
    (group,) = stage.traced().seats[stage.seats["VM_6"].port_id][1].group_ids
    return "compute2", "inet", f"group6-{group}-ingress"


def _advertisements_let_through(_: Stage) -> tuple[str, str, str]:
    return "compute1", "bridge", "from-instance6"


@pytest.mark.parametrize("plant", [_rule_dropped, _advertisements_let_through])
def test_faults_are_located(dual: Stage, plant: Callable[[Stage], tuple[str, str, str]]) -> None:
    """A group without its rules, and a tap that lets routers' words pass: named by a live trace."""
    host, family, name = plant(dual)
    agent = dual.lab.process(f"agent-{host}")
    assert agent
    with HostsReadBack(dual.lab) as hosts:
        sound = shoot(dual, hosts, Question("VM_1", "VM_6", "icmpv6"))
        assert (sound.diagnosis.faults, sound.prediction.deviations) == ((), ())
        agent.signal(signal.SIGSTOP)
        try:
            flush = ["nft", "flush", "chain", family, "trunkline", name]
            assert netns.run(dual.lab.namespace(host), flush).returncode == 0
            found = shoot(dual, hosts, Question("VM_1", "VM_6", "icmpv6"))
        finally:
            agent.signal(signal.SIGCONT)
        until("the agent has repaired it", lambda: not unsound(dual.traced(), hosts))

    assert found.diagnosis.faults[0].place == Place(host, f"{family} trunkline {name}")


@pytest.fixture
def open_trunk(dual: Stage) -> Iterator[Stage]:
    """Let routers be found across the trunk: the agents are frozen, and their rules are gone."""
    agents = [dual.lab.process(f"agent-{host}") for host in dual.topology.hosts]
    for agent in agents:
        assert agent
        agent.signal(signal.SIGSTOP)
    for host in dual.topology.hosts:
        for chain in (("bridge", "trunkline", "at-trunk6"), ("inet", "trunkline", "ingress6")):
            flush = ["nft", "flush", "chain", *chain]
            assert netns.run(dual.lab.namespace(host), flush).returncode == 0
    yield dual
    for agent in agents:
        assert agent
        agent.signal(signal.SIGCONT)


def test_without_its_rules_other_hosts_are_routers_too(open_trunk: Stage) -> None:
    """An instance that asks is answered by every host: the walls are at the trunk and the tap."""
    namespace, segment = open_trunk.lab.namespace("VM_1"), open_trunk.segment("VM_1")
    wanted = {segment.router6(host) for host in open_trunk.topology.hosts}
    with open_trunk.capture() as capture:
        netns.down(namespace, "eth0")
        netns.up(namespace, "eth0")

        def heard() -> bool:
            told = Seen(capture.frames()).on("VM_1", "eth0", "in")
            found = told.of(finding, "router advertisement")
            return {f.ip.source for f in found if f.ip} == wanted

        until("both hosts are heard of", heard)
