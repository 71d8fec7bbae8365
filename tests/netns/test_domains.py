"""Routers of projects' own: the same addresses twice on one host, and what passes between them."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network

import pytest

from trunkline.cli.main import main
from trunkline.kernel import netns
from trunkline.lab import build, life, probe
from trunkline.lab.scenarios.services import metadata_act, port_with
from trunkline.lab.stage import Stage
from trunkline.lab.topology import read
from trunkline.lab.verdict import Seen, is_private, on_wire
from trunkline.lab.waiting import limit_s, until
from trunkline.model import HostName
from trunkline.ownership import space_name

pytestmark = pytest.mark.netns

GOOGLE = IPv4Address("8.8.8.8")
ROUTED = ("RED_1", "RED_2", "RED_3", "RED_4", "BLUE_1", "BLUE_2", "GREEN_1")
SIGINT, SIGKILL, SIGSTOP, SIGCONT = 2, 9, 19, 18


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A lab with two routers that have the same addresses, and a network on none."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    name = f"spaces{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    lab, _ = life.up(read("routers"), name)
    try:
        yield Stage(lab)
    finally:
        life.down(name)


def met(stage: Stage, source: str, to: IPv4Address, *, hope: bool = True) -> str:
    """Ping from an instance; return ``reply``, ``error`` or ``silence``."""
    return probe.ping(stage.lab.namespace(source), to, limit_s(3 if hope else 0.5)).kind


def told(stage: Stage, source: str, to: IPv4Address) -> str:
    """Ping likewise, and see every step as it was predicted, also in routers' namespaces."""
    shot = stage.ping(source, to)
    assert [one.text for one in shot.prediction.deviations] == []
    return shot.answer.kind


def floating(stage: Stage) -> dict[str, IPv4Address]:
    """Return the floating IP of each instance that has one."""
    return {f.instance: f.address for f in stage.topology.floating_ips}


def space(stage: Stage, router: str, host: str = "compute1") -> str:
    """Return the namespace of a router on a host."""
    return space_name(stage.cloud.one("routers", router)["id"], HostName(host))


def inside(stage: Stage, router: str, *argv: str) -> str:
    """Run a command in a router's namespace on the left host and return what it printed."""
    done = netns.run(space(stage, router), argv, limit_s(10))
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


def check(stage: Stage, host: str = "compute1") -> tuple[int, str]:
    """Run ``trunkline check`` on a host; return exit code and output."""
    config = stage.lab.directory / "hosts" / host / "agent.toml"
    argv = [sys.executable, "-m", "trunkline.cli.main", "check", "--config", str(config)]
    done = netns.run(stage.lab.namespace(host), argv, limit_s(30))
    return done.returncode, done.stdout + done.stderr


def restart(stage: Stage, host: str = "compute1") -> None:
    """Kill a host's agent, start another, and wait until the host is as it must be."""
    process = stage.lab.process(f"agent-{host}")
    assert process is not None
    process.signal(SIGKILL)
    process.wait(5)
    build.start_agent(stage.lab, host)
    until("the host is in sync", lambda: check(stage, host)[0] == 0)


def test_everybody_gets_out(stage: Stage) -> None:
    """Every instance on a router reaches the Internet, whoever else has its address."""
    assert {i: told(stage, i, GOOGLE) for i in ROUTED} == dict.fromkeys(ROUTED, "reply")


@pytest.mark.parametrize(
    ("source", "peer"),
    [("RED_1", "RED_2"), ("RED_1", "RED_4"), ("RED_1", "RED_3"), ("BLUE_1", "BLUE_2")],
)
def test_networks_of_one_router_reach_each_other(stage: Stage, source: str, peer: str) -> None:
    """By ping, TCP and UDP: same network, same host, and across hosts with asymmetric routes."""
    to = stage.seats[peer].address
    one, other = stage.lab.namespace(source), stage.lab.namespace(peer)

    assert told(stage, source, to) == "reply"
    shot = stage.tcp(source, peer)
    assert (shot.answer.kind, shot.prediction.deviations) == ("reply", ())
    assert probe.udp(one, other, to, limit_s(3)).kind == "reply"


@pytest.mark.parametrize(
    ("source", "to"),
    [
        ("BLUE_1", "10.1.0.14"),  # another router's, here
        ("BLUE_2", "10.3.0.11"),  # the default router's, on the other host
        ("BLUE_1", "10.3.0.11"),
        ("GREEN_1", "10.0.0.11"),  # two routers' at once
        ("RED_1", "10.3.0.11"),
    ],
)
def test_fixed_ips_of_other_routers_are_out_of_reach(stage: Stage, source: str, to: str) -> None:
    """Groups that let everybody in do not matter: the sender is told that there is no way."""
    assert told(stage, source, IPv4Address(to)) == "error"


def test_an_address_that_others_have_too_is_the_own_networks(stage: Stage) -> None:
    """Three instances have 10.0.0.11 on one host: each network's peers reach their own one."""
    for peer in ("RED_2", "BLUE_2", "ALONE_2"):
        twin = peer.replace("2", "1")
        with stage.capture() as capture:
            assert met(stage, peer, IPv4Address("10.0.0.11")) == "reply"
            seen = Seen(capture.frames())
        nodes = seen.where(lambda f: f.ip is not None).nodes()
        assert nodes & {"RED_1", "BLUE_1", "ALONE_1"} == {twin}


def exchange(stage: Stage, client: str, server: str, wait_s: float) -> bool:
    """Send a datagram from port 40000 to 5555 and one back; return whether both arrived."""
    kind = socket.AF_INET, socket.SOCK_DGRAM
    with (
        netns.socket(stage.lab.namespace(client), *kind) as near,
        netns.socket(stage.lab.namespace(server), *kind) as far,
    ):
        near.bind(("0.0.0.0", 40000))
        far.bind(("0.0.0.0", 5555))
        near.sendto(b"x", (str(stage.seats[server].address), 5555))
        if not select.select([far], [], [], wait_s)[0]:
            return False
        far.sendto(b"y", far.recvfrom(1)[1])
        return bool(select.select([near], [], [], wait_s)[0])


def test_one_connection_in_two_domains_is_two(stage: Stage) -> None:
    """Equal addresses and ports: what is established in one domain opens nothing in another."""
    with port_with(stage, "ALONE_1", security_groups=[]):
        assert exchange(stage, "RED_2", "RED_1", limit_s(5))
        assert not exchange(stage, "ALONE_2", "ALONE_1", limit_s(0.5))
    assert exchange(stage, "ALONE_2", "ALONE_1", limit_s(5))


def test_floating_ips_join_what_routers_separate(stage: Stage) -> None:
    """From every router to every floating IP, on one host and across, to oneself included."""
    found = {
        (source, owner): met(stage, source, address)
        for source in ROUTED
        for owner, address in floating(stage).items()
    }

    assert {pair: kind for pair, kind in found.items() if kind != "reply"} == {}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("RED_1", "BLUE_1"),
        ("BLUE_1", "RED_1"),
        ("RED_3", "BLUE_1"),
        ("GREEN_1", "RED_1"),
        ("RED_1", "GREEN_1"),
        ("RED_1", "RED_1"),
        ("RED_1", "RED_3"),
        ("BLUE_2", "RED_1"),
        ("RED_4", "GREEN_1"),
        ("BLUE_2", "BLUE_1"),
    ],
)
def test_a_peer_sees_the_public_face(stage: Stage, source: str, target: str) -> None:
    """The receiver sees the sender's floating IP, or its host's own; placement is no matter."""
    public = {"compute1": IPv4Address("91.207.15.105"), "compute2": IPv4Address("91.207.15.106")}
    face = floating(stage).get(source, public[stage.seats[source].host])
    shot = stage.ping(source, floating(stage)[target])

    assert [one.text for one in shot.prediction.deviations] == []
    answer = shot.answer
    probed = shot.seen.where(lambda f: f.ip is not None and answer.nonce in f.data)
    inward = probed.on(target, "eth0", "in").where(lambda f: f.source_mac != "")
    pairs = {(f.ip.source, f.ip.destination) for f in inward if f.ip}
    assert answer.kind == "reply"
    assert (face, stage.seats[target].address) in pairs
    wire = on_wire(probed, stage.ground, stage.cast)
    shown = {a for f in wire if f.ip for a in (f.ip.source, f.ip.destination)}
    assert not any(map(is_private, shown))
    assert not any(a in IPv4Network("169.254.0.0/16") for a in shown)


def test_a_live_trace_looks_into_routers(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Sent from the tap and watched by agents, in routers' namespaces too: all as predicted."""
    to_server = ["--server", stage.lab.api, "--token", stage.lab.tokens()["admin"]]
    capsys.readouterr()
    code = main(["trace", "RED_1", str(floating(stage)["BLUE_1"]), "--live", "--json", *to_server])
    seen = json.loads(capsys.readouterr().out)["observed"]

    assert (code, seen["deviation"], seen["silent_hosts"], seen["problems"]) == (0, None, [], [])
    assert seen["comparison"] == [
        "ICMP echo request on compute1: agree",
        "ICMP echo request on compute1/red: agree",
        "ICMP echo request on compute1: agree",
        "ICMP echo request on compute1/blue: agree",
        "ICMP echo request on compute1: agree",
        "ICMP echo reply on compute1: agree",
        "ICMP echo reply on compute1/blue: agree",
        "ICMP echo reply on compute1: agree",
        "ICMP echo reply on compute1/red: agree",
        "ICMP echo reply on compute1: agree",
    ]
    assert main(["trace", "10.0.0.11", "8.8.8.8", *to_server]) != 0
    assert "ports on different routers have this address" in capsys.readouterr().err


def test_a_network_on_no_router_has_addresses_and_nothing_else(stage: Stage) -> None:
    """Its instances have leases and each other; no gateway is offered, none routes or answers."""
    routes = netns.run(stage.lab.namespace("ALONE_1"), ["ip", "route"]).stdout.split("\n")

    assert [line.split()[0] for line in routes if line] == ["10.0.0.0/24"]
    assert met(stage, "ALONE_1", stage.seats["ALONE_2"].address) == "reply"
    for gateway in stage.segment("ALONE_1").gateways.values():
        assert met(stage, "ALONE_1", gateway, hope=False) == "silence"


def test_a_restarted_agent_disturbs_nobody(stage: Stage) -> None:
    """SIGKILL and restart: no ping of any router is lost, and no rule is written again."""
    list_rules = ["nft", "-a", "list", "table", "inet", "trunkline"]
    before = inside(stage, "red", *list_rules)
    streams = [
        (stage.lab.namespace("RED_1"), str(stage.seats["RED_3"].address)),
        (stage.lab.namespace("BLUE_1"), str(floating(stage)["RED_1"])),
        (stage.lab.namespace("BLUE_2"), str(GOOGLE)),
    ]
    logs = [stage.lab.directory / "logs" / f"stream-{n}" for n in range(len(streams))]
    pings = [
        netns.spawn(ns, ["ping", "-i", "0.02", "-W", "1", to], str(log))
        for (ns, to), log in zip(streams, logs, strict=True)
    ]
    restart(stage)
    for process in pings:
        process.signal(SIGINT)
        process.wait(5)

    assert ["100% packet loss" in log.read_text() for log in logs] == [False] * len(logs)
    assert [" 0% packet loss" in log.read_text() for log in logs] == [True] * len(logs)
    assert inside(stage, "red", *list_rules) == before


DRIFT = {
    "a rule of a space is gone": ("nft", "flush", "chain", "inet", "trunkline", "forward"),
    "its table is gone": ("nft", "delete", "table", "inet", "trunkline"),
    "its gateway's address is gone": ("ip", "addr", "flush", "dev", "br110"),
    "its default route is gone": ("ip", "route", "del", "default"),
    "its end of a cable is down": ("ip", "link", "set", "br110", "down"),
    "its end of a cable is gone": ("ip", "link", "del", "br110"),
    "its way out is gone": ("ip", "link", "del", "transit"),
    "forwarding is off": ("sysctl", "-qw", "net.ipv4.conf.br110.forwarding=0"),
}
HOST_DRIFT = {
    "the host's end is unplugged": ("ip", "link", "set", "gw110", "nomaster"),
    "nobody answers for a floating IP": (
        *("ip", "neigh", "del", "proxy"),
        *("91.208.23.31", "dev", "eth1"),
    ),
    "the route to a floating IP is gone": ("ip", "route", "del", "91.208.23.31"),
}


@pytest.mark.parametrize("name", [*DRIFT, *HOST_DRIFT])
def test_drift_in_a_space_is_seen_and_repaired(stage: Stage, name: str) -> None:
    """``check`` names it while the agent is frozen; a new agent repairs it."""
    process = stage.lab.process("agent-compute1")
    assert process is not None
    process.signal(SIGSTOP)
    where = space(stage, "red") if name in DRIFT else stage.lab.namespace("compute1")
    done = netns.run(where, DRIFT.get(name) or HOST_DRIFT[name], limit_s(10))
    assert done.returncode == 0, done.stderr
    code, words = check(stage)
    assert code == 1, words
    restart(stage)

    assert met(stage, "RED_1", GOOGLE) == "reply"
    assert met(stage, "BLUE_1", floating(stage)["RED_1"]) == "reply"


def test_a_space_without_a_name_is_made_anew(stage: Stage) -> None:
    """Somebody deleted the namespace's name, or an agent died over it: another one serves."""
    name = space(stage, "red")
    process = stage.lab.process("agent-compute1")
    assert process is not None
    process.signal(SIGSTOP)
    netns.delete(name)
    (netns.RUN / name).touch()  # as one leaves it who is killed before the namespace is there
    restart(stage)

    assert met(stage, "RED_1", GOOGLE) == "reply"
    assert met(stage, "RED_1", stage.seats["RED_3"].address) == "reply"


def test_a_namespace_of_somebody_elses_stays(stage: Stage) -> None:
    """One that is called like ours and carries no mark of ours is neither entered nor removed."""
    name = space_name("12345678-12-none", HostName("compute1"))  # type: ignore[arg-type]
    netns.create(name)
    try:
        restart(stage)
        assert name in netns.names()
    finally:
        netns.delete(name)


class Stream:
    """A TCP connection by which single bytes go both ways."""

    def __init__(self, stage: Stage, client: str, server: str, to: IPv4Address, port: int) -> None:
        stream = socket.SOCK_STREAM
        with netns.socket(stage.lab.namespace(server), socket.AF_INET, stream) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", port))
            listener.listen()
            self.near = netns.socket(stage.lab.namespace(client), socket.AF_INET, stream)
            self.near.settimeout(limit_s(5))
            self.near.connect((str(to), port))
            self.far, _ = listener.accept()

    def carries(self, within_s: float) -> bool:
        """Send a byte each way and return whether both arrived."""
        for sender, receiver in ((self.near, self.far), (self.far, self.near)):
            with suppress(BrokenPipeError, ConnectionResetError):
                sender.send(b"x")
            if not select.select([receiver], [], [], within_s)[0] or receiver.recv(1) != b"x":
                return False
        return True

    def close(self) -> None:
        """End both sides."""
        self.near.close()
        self.far.close()


def test_what_is_taken_away_ends_in_its_domain_only(stage: Stage) -> None:
    """A floating IP that is taken away, then rules: each ends its connections, in one domain."""
    public = stage.floating("RED_1")
    cut = Stream(stage, "BLUE_1", "RED_1", public.address, 5401)
    kept = Stream(stage, "RED_2", "RED_1", stage.seats["RED_1"].address, 5402)
    twin = Stream(stage, "BLUE_2", "BLUE_1", stage.seats["BLUE_1"].address, 5402)
    assert cut.carries(limit_s(5))

    with stage.fixed_only("RED_1"):
        assert not cut.carries(1)
        assert kept.carries(limit_s(5))
    again = Stream(stage, "BLUE_1", "RED_1", public.address, 5403)
    with stage.rules(*(r for r in stage.topology.rules if r.project != "red")):
        assert not again.carries(1)
        assert kept.carries(limit_s(5))  # of one group
        assert twin.carries(limit_s(5))
    for stream in (cut, again, kept, twin):
        stream.close()


def test_without_snat_only_floating_ips_get_out(stage: Stage) -> None:
    """``enable_snat`` false: an instance with a floating IP gets out, another does not."""
    router = stage.cloud.one("routers", "red")
    gateway = {"network_id": router["external_gateway_info"]["network_id"]}
    set_gateway(stage, "red", {**gateway, "enable_snat": False})
    try:
        assert met(stage, "RED_1", GOOGLE) == "reply"
        assert met(stage, "RED_4", GOOGLE, hope=False) != "reply"
        assert met(stage, "RED_4", floating(stage)["BLUE_1"], hope=False) != "reply"
        assert met(stage, "RED_4", floating(stage)["RED_1"], hope=False) != "reply"
        assert met(stage, "RED_4", stage.seats["RED_1"].address) == "reply"
    finally:
        set_gateway(stage, "red", {**gateway, "enable_snat": True})
    assert met(stage, "RED_4", GOOGLE) == "reply"


def set_gateway(stage: Stage, router: str, gateway: dict[str, object]) -> None:
    """Change a router's way out, as the administrator, and wait until it is so."""
    router_id = stage.cloud.one("routers", router)["id"]
    stage.cloud.admin.update("routers", router_id, {"external_gateway_info": gateway})
    stage.settle()


def test_a_router_that_is_down_routes_nothing(stage: Stage) -> None:
    """``admin_state_up`` false: neighbours are reached, other networks and the outside are not."""
    router_id = stage.cloud.one("routers", "red")["id"]
    stage.cloud.admin.update("routers", router_id, {"admin_state_up": False})
    stage.settle()
    try:
        assert met(stage, "RED_1", stage.seats["RED_2"].address) == "reply"
        assert met(stage, "RED_1", stage.seats["RED_4"].address, hope=False) != "reply"
        assert met(stage, "RED_1", GOOGLE, hope=False) != "reply"
    finally:
        stage.cloud.admin.update("routers", router_id, {"admin_state_up": True})
        stage.settle()
    assert met(stage, "RED_1", GOOGLE) == "reply"


def test_equal_addresses_of_two_routers_get_their_own_metadata(stage: Stage) -> None:
    """Both ask by 10.0.0.11 on one host, and the service believes each what it is."""
    with stage.metadata():
        for instance in ("RED_1", "BLUE_1", "GREEN_1"):
            act = metadata_act(stage, instance)

            assert [check for check in act.checks if not check.passed] == []
