"""Traces as a resource: who is meant, what is answered, and what a project may see of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from running import Cloud

from trunkline.cli.main import main
from trunkline.errors import Conflict, Invalid, NotFound, RequestError
from trunkline.hoststate import HostConfig, HostFacts, VlanMaking
from trunkline.model import PortId, PortStatus

_numbers = itertools.count()
LINKS = frozenset({"eth0", "eth1"})


@dataclass
class Stage:
    """Two hosts, an instance of each of two projects on each, and what they are called."""

    cloud: Cloud
    hosts: tuple[str, str]
    ports: dict[str, dict[str, Any]]

    def address(self, name: str) -> str:
        """Return an instance's fixed IP."""
        return str(self.ports[name]["fixed_ips"][0]["ip_address"])

    def trace(self, who: str, source: str, destination: str, **more: Any) -> dict[str, Any]:
        """Ask for a trace as a user."""
        wish = {"source": source, "destination": destination, **more}
        return self.cloud.user(who).create("traces", wish)

    def report(self, host: str) -> None:
        """Report for a host that all its ports are plugged in."""
        number = self.hosts.index(host) + 1
        config = HostConfig(host, {"physnet1": "eth0", "physnet2": "eth0"}, "eth1", None, (), "/x")
        facts = HostFacts(
            VlanMaking.KERNEL,
            LINKS,
            IPv4Address(f"192.168.9.{number}"),
            ((IPv4Network("192.168.9.0/24"), "eth1"),),
            ipv6_forwarding="force_forwarding",
        )
        bound = [p for p in self.ports.values() if p["binding:host_id"] == host]
        status = {PortId(port["id"]): PortStatus.ACTIVE for port in bound}
        with self.cloud.agent(host) as agent:
            agent.report(1, status, [], facts, config=config, full=True)


@pytest.fixture(scope="module")
def stage(cloud: Cloud) -> Stage:
    """Alice's one and two, bob's three and four; odd ones left, even ones right."""
    left, right = "trace-left", "trace-right"
    mine, theirs = cloud.network("alice"), cloud.network("bob")
    ports = {}
    for name, network, host, project in (
        ("one", mine, left, "p1"),
        ("two", mine, right, "p1"),
        ("three", theirs, left, "p2"),
        ("four", theirs, right, "p2"),
    ):
        ports[name] = cloud.instance(network, host, project, name=name)
    found = Stage(cloud, (left, right), ports)
    for host in found.hosts:
        found.report(host)
    return found


def test_a_trace_is_kept(stage: Stage) -> None:
    """POST answers with the whole trace; GET reads it again; DELETE ends it."""
    made = stage.trace("admin", "one", "two")
    admin = stage.cloud.admin

    assert made["disposition"] == "delivered"
    assert made["answer"]["sentence"].startswith("one reaches two at ")
    assert [s["node"] for s in made["answer"]["steps"] if s["packet"] == "ICMP echo request"] == [
        "one",
        "trace-left",
        "switch physnet1",
        "trace-right",
        "two",
    ]
    assert set(made["answer"]["revisions"]) == set(stage.hosts)
    assert admin.show("traces", made["id"]) == made
    admin.delete("traces", made["id"])
    with pytest.raises(NotFound):
        admin.show("traces", made["id"])


def test_ends_by_name_id_and_address(stage: Stage) -> None:
    """Who is meant can be written in several ways."""
    for source in ("one", stage.ports["one"]["id"], stage.address("one")):
        for destination in ("two", stage.ports["two"]["id"], stage.address("two")):
            assert stage.trace("alice", source, destination)["disposition"] == "delivered"
    assert stage.trace("alice", "one", "internet")["disposition"] == "delivered"
    assert stage.trace("alice", "internet", "one")["disposition"] != "delivered"


def test_ipv6(cloud: Cloud) -> None:
    """Ends by their IPv6 addresses: walked by neighbour discovery; no version is mixed."""
    hosts = ("trace6-left", "trace6-right")
    network = cloud.network("alice")
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    subnet = {"network_id": network["id"], "ip_version": 6, "cidr": "fd00:9::/64", **modes}
    cloud.alice.create("subnets", subnet)
    ports = {
        n: cloud.instance(network, host, "p1", name=n) for n, host in zip("ab", hosts, strict=True)
    }
    stage = Stage(cloud, hosts, ports)
    for host in hosts:
        stage.report(host)
    own = {n: p["fixed_ips"][1]["ip_address"] for n, p in ports.items()}

    made = stage.trace("admin", "a", own["b"])
    assert made["disposition"] == "delivered"
    steps = made["answer"]["steps"]
    assert any(s["packet"].startswith("neighbour solicitation: who has fd00:9::") for s in steps)
    assert {s["node"] for s in steps if s["packet"] == "ICMPv6 echo reply"} >= {"a", *hosts}
    assert stage.trace("alice", own["a"], "b")["disposition"] == "delivered"
    refused = stage.trace("admin", "a", "2001:4860::8888")["answer"]
    assert refused["disposition"] == "not forwarded"
    with pytest.raises(Invalid, match="a packet has one version"):
        stage.trace("admin", own["a"], ports["b"]["fixed_ips"][0]["ip_address"])


def test_the_rule_that_refuses_is_named(stage: Stage) -> None:
    """An administrator is told the receiver's group; so is the receiver's own project."""
    found = stage.trace("admin", "one", "three", protocol="tcp", port=80)["answer"]

    assert found["disposition"] == "denied ingress"
    kinds = {o["kind"] for r in found["reasons"] for o in r["objects"]}
    assert kinds == {"security group", "port"}
    assert {o["project_id"] for r in found["reasons"] for o in r["objects"]} == {"p2"}


def test_others_objects_stay_hidden(stage: Stage) -> None:
    """A project learns of another's instance that it is out of reach, and nothing else."""
    own = stage.trace("alice", "one", "two")
    others = stage.trace("alice", "one", stage.address("three"), protocol="tcp", port=80)

    assert (own["answer"]["steps"], own["answer"]["revisions"]) == ([], {})
    assert others["answer"]["sentence"] == f"one to {stage.address('three')}: denied."
    text = repr(others)
    assert not [
        word
        for word in ("trace-left", "three'", stage.ports["three"]["id"], "group", "p2")
        if word in text
    ]
    with pytest.raises(NotFound):
        stage.trace("alice", "one", "three")
    with pytest.raises(NotFound):
        stage.trace("alice", stage.address("three"), "one")
    with pytest.raises(NotFound):
        stage.cloud.bob.show("traces", own["id"])


def test_what_to_do(stage: Stage) -> None:
    """On request, the rule that would open it; a project hears of its own groups only."""
    wish = {"protocol": "tcp", "port": 80, "advise": True}
    (advice,) = stage.trace("admin", "one", "three", **wish)["answer"]["advice"]
    theirs = stage.trace("alice", "one", stage.address("three"), **wish)

    assert "ingress rule for tcp 80 from" in advice["text"]
    assert advice["object"]["project_id"] == "p2"
    assert advice["opens"] == []  # four is on a host that has no bridge for one's network
    assert theirs["answer"]["advice"] == []
    assert stage.trace("admin", "one", "three")["answer"]["advice"] == []


def test_own_rules_are_told(stage: Stage) -> None:
    """What its own objects decide a project is told, without the hosts."""
    found = stage.trace("alice", "one", "two", source_address="10.250.0.1")["answer"]

    assert found["disposition"] == "spoofed"
    assert [o["id"] for r in found["reasons"] for o in r["objects"]] == [stage.ports["one"]["id"]]
    assert found["reasons"][0]["kernel"] == ""


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        ({"source": "nobody"}, NotFound, "Port nobody could not be found"),
        ({"source": ""}, NotFound, "could not be found"),
        ({"source": "10.99.0.1"}, NotFound, "10.99.0.1"),
        ({"protocol": "tcp"}, Invalid, "port is needed"),
        ({"port": 80}, Invalid, "ICMP has none"),
        ({"protocol": "any"}, Invalid, "one protocol"),
        ({"protocol": "tcp", "port": 0}, Invalid, "port"),
        ({"size": 10}, Invalid, "size"),
        ({"source_address": "2001:db8::1"}, Invalid, "is IPv6 and destination"),
        ({"source_address": "somewhere"}, Invalid, "source_address"),
        ({"colour": "red"}, Invalid, "colour"),
    ],
)
def test_bad_input(
    stage: Stage, wish: dict[str, Any], error: type[RequestError], words: str
) -> None:
    """Each contradiction is refused by name."""
    with pytest.raises(error, match=words):
        stage.trace("alice", **{"source": "one", "destination": "two", **wish})


def test_several_of_a_name_and_none_bound(stage: Stage) -> None:
    """A name that does not tell one port from another is refused, and so is a port in no host."""
    network = stage.cloud.network("carol")
    for _ in range(2):
        stage.cloud.user("carol").create("ports", {"network_id": network["id"], "name": "twin"})
    stage.cloud.user("carol").create("ports", {"network_id": network["id"], "name": "loose"})

    with pytest.raises(Conflict, match="2 ports are called twin"):
        stage.trace("carol", "twin", "internet")
    with pytest.raises(Conflict, match="bound to no host"):
        stage.trace("carol", "loose", "internet")


def test_a_host_that_has_not_reported(stage: Stage) -> None:
    """A host whose agent never said how it is cabled is named."""
    network = stage.cloud.network("carol")
    stage.cloud.instance(network, "trace-silent", "p3", name="silent")

    with pytest.raises(Conflict, match="Host trace-silent: its agent has not reported"):
        stage.trace("admin", "silent", "internet")


def test_a_port_that_is_down(stage: Stage) -> None:
    """An instance whose interface is missing sends nothing, and that is said."""
    number = next(_numbers)
    network = {"id": stage.ports["one"]["network_id"]}
    stage.cloud.instance(network, stage.hosts[0], "p1", name=f"down{number}")

    found = stage.trace("admin", f"down{number}", "two")["answer"]

    assert found["disposition"] == "not plugged in"
    assert "its port is DOWN" in found["sentence"]


def test_the_oldest_are_forgotten(own_cloud: Cloud) -> None:
    """A project keeps so many traces, and the database no more."""
    network = own_cloud.network()
    port = own_cloud.instance(network, "only", name="only")
    stage = Stage(own_cloud, ("only", "none"), {"only": port})
    stage.report("only")

    for _ in range(102):
        stage.trace("alice", "only", "internet")

    assert len(own_cloud.alice.list("traces")) == 100


def test_the_command(stage: Stage, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    """The command shows the answer in each form; its exit code is the answer."""
    server = ["--server", stage.cloud.url, "--token", "admin"]

    assert main(["trace", "one", "two", *server, "--why"]) == 0
    assert "one reaches two at " in capsys.readouterr().out
    assert main(["trace", "one", "three", "--proto", "tcp", "--port", "80", *server]) == 1
    assert main(["trace", "one", "two", "--terse", "--svg", f"{tmp_path}/x.svg", *server]) == 0
    assert capsys.readouterr().out.count("ICMP echo reply") == 5
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    assert main(["trace", "--from-internet", stage.address("one"), *server]) == 1
    assert main(["trace", "one", *server]) == 2
    assert main(["trace", "nobody", "two", *server]) == 2
    assert "Port nobody could not be found" in capsys.readouterr().err
    assert main(["trace", "one", "two", "--server", f"unix:{tmp_path}/none", "--token", "x"]) == 3


def test_a_forwarded_port(stage: Stage) -> None:
    """Traced to the instance that this very port leads to; its project sees what is its own."""
    cloud, port = stage.cloud, stage.ports["two"]
    external = cloud.external()["id"]
    floating = cloud.alice.create("floatingips", {"floating_network_id": external})
    wish = {
        "internal_port_id": port["id"],
        "internal_ip_address": stage.address("two"),
        "internal_port": 80,
        "external_port": 8080,
        "protocol": "tcp",
    }
    path = f"/v2.0/floatingips/{floating['id']}/port_forwardings"
    cloud.alice.request("POST", path, {"port_forwarding": wish})
    group = cloud.alice.list("security-groups", name="default")[0]["id"]
    rule = {"security_group_id": group, "direction": "ingress", "protocol": "tcp"}
    opened = cloud.alice.create("security-group-rules", rule)
    to = floating["floating_ip_address"]

    whole, narrowed = (
        stage.trace(who, "internet", to, protocol="tcp", port=8080)["answer"]
        for who in ("admin", "alice")
    )
    assert (whole["disposition"], narrowed["disposition"]) == ("delivered", "delivered")
    assert f"two at {to} by tcp 8080" in whole["sentence"]
    lost = stage.trace("admin", "internet", to, protocol="tcp", port=80)["answer"]
    assert lost["disposition"] == "not translated"
    cloud.alice.delete("security-group-rules", opened["id"])
