"""Walks through routers of projects' own: namespaces, equal addresses, floating IPs between."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import article
import clouds
import pytest
from article import ICMP1
from test_trace import hops

from trunkline.hoststate import HostState
from trunkline.model import DomainId, FloatingIpId, HostRoute, PortId
from trunkline.ownership import tap_name
from trunkline.snapshot import FloatingView, ForwardingView, HostSnapshot, RouterView
from trunkline.trace import nft
from trunkline.trace.cloud import Cloud
from trunkline.trace.compare import Finding
from trunkline.trace.conntrack import Connections
from trunkline.trace.live import Labels, Seen, held_against
from trunkline.trace.packets import Frame, Packet
from trunkline.trace.steps import HOST, ROUTER, Disposition, Trace
from trunkline.trace.walk import Flow, trace, trace_lease

PORTS = {
    "VM_1": clouds.VM1,
    "RED_1": clouds.VM_RED,
    "RED_2": clouds.VM_RED2,
    "BLUE_1": clouds.VM_BLUE,
    "ALONE_1": clouds.VM_ALONE,
}
RED_FACE, BLUE_FACE = "91.208.23.21", "91.208.23.22"
WEB = clouds.allow("web", 1)
SNAPSHOT = replace(
    clouds.ROUTERS,
    tenant_prefixes=(*clouds.ROUTERS.tenant_prefixes, IPv4Network("10.2.0.0/24")),
    groups=(clouds.group(clouds.GROUP1, ICMP1, WEB), clouds.group(clouds.GROUP2, WEB)),
    routers=(clouds.ROUTER, replace(clouds.RED, name="red"), replace(clouds.BLUE, name="blue")),
)


def cloud(snapshot: HostSnapshot = SNAPSHOT, change: article.Change | None = None) -> Cloud:
    """Return one host with two routers that have the same addresses, and a network on none."""
    found = article.cloud(snapshot, change={snapshot.host: change} if change else None)
    return replace(found, names={port.id: name for name, port in PORTS.items()})


def ask(source: str, to: str, where: Cloud | None = None) -> Trace:
    """Return the trace of a ping."""
    port_id = PORTS[source].id if source else None
    return trace(where or cloud(), Flow(port_id, IPv4Address(to)))


def with_red(**more: object) -> Cloud:
    """Return the cloud with a red router that is otherwise."""
    red = replace(SNAPSHOT.routers[1], **more)  # type: ignore[arg-type]
    routers: tuple[RouterView, ...] = (SNAPSHOT.routers[0], red, SNAPSHOT.routers[2])
    return cloud(replace(SNAPSHOT, routers=routers))


def test_between_networks_of_one_router() -> None:
    """By the bridge's cable into the router's namespace, routed there, and out by another."""
    found = ask("RED_1", "10.2.0.3")

    assert found.disposition is Disposition.DELIVERED
    assert hops(found, "ICMP echo request") == [
        "RED_1: eth0",
        "compute1: tap(RED_1) br200 gw200",
        "compute1/red: br200 br202",
        "compute1: gw202 br202 tap(RED_2)",
        "RED_2: eth0",
    ]
    routed = next(s for s in found.steps if s.node_role == ROUTER and s.part == "request")
    assert routed.changes == ("TTL 64 -> 63",)
    assert {o.text for d in routed.decisions for o in d.objects} == {
        "network net202",
        "router red",
    }


def test_out_by_the_transit() -> None:
    """With a floating IP the router translates; without one host and router do, once each."""
    open_ = cloud(replace(SNAPSHOT, floating_ips=()))
    found = ask("RED_1", "8.8.8.8", open_)

    assert found.disposition is Disposition.DELIVERED
    sources = [c for s in found.steps if s.part == "request" for c in s.changes if "source" in c]
    transit = sources[0].rpartition(" ")[2]
    assert sources == [f"source 10.0.0.3 -> {transit}", f"source {transit} -> 91.207.15.105"]
    assert IPv4Address(transit).is_link_local
    assert hops(found, "ICMP echo reply")[1:4] == [
        "compute1: eth1 traaaaaaaa-11",
        "compute1/red: transit br200",
        "compute1: gw200 br200 tap(RED_1)",
    ]
    (floating,) = {c for s in ask("RED_1", "8.8.8.8").steps for c in s.changes if "source 1" in c}
    assert floating == f"source 10.0.0.3 -> {RED_FACE}"


def test_floating_ips_between_routers_with_equal_addresses() -> None:
    """Both are 10.0.0.3, and neither's connection is the other's: the peer sees a public face."""
    found = ask("RED_1", BLUE_FACE)

    assert found.disposition is Disposition.DELIVERED
    arrived = [s for s in found.steps if s.node == "BLUE_1" and s.part == "request"]
    assert [s.addresses for s in arrived] == [f"{RED_FACE} > 10.0.0.3"]
    assert [s.node for s in found.steps if s.part == "reply" and s.node_role == ROUTER] == [
        "compute1/blue",
        "compute1/red",
    ]
    assert ask("VM_1", RED_FACE).disposition is Disposition.DELIVERED
    assert ask("RED_1", "91.208.23.11").disposition is Disposition.DELIVERED
    assert ask("", BLUE_FACE).disposition is Disposition.DELIVERED


def test_to_ones_own_floating_ip() -> None:
    """It turns round in the router, and passes its bridge twice."""
    assert hops(ask("RED_1", RED_FACE), "ICMP echo request") == [
        "RED_1: eth0",
        "compute1: tap(RED_1) br200 gw200",
        "compute1/red: br200 br200",
        "compute1: gw200 br200 tap(RED_1)",
        "RED_1: eth0",
    ]


def test_equal_connections_in_two_zones_are_two() -> None:
    """The zones chain says which; each has its own entry in the host's table."""
    state = cloud().hosts[0].state
    ping = Packet("ping", "request", 1, *map(IPv4Address, ("10.0.0.3", "10.0.0.9")), icmp=(8, 0))
    table = state.tables["inet", "trunkline"]
    asked = (nft.Context(Frame("", "", ping), bridge) for bridge in ("br200", "br201", "br100"))
    found = [nft.evaluate(table, table.chains["zones"], one).frame for one in asked]
    zones = [frame.zone for frame in found if frame]
    assert zones == [200, 201, 0]

    connections = Connections()
    entries = []
    for zone in zones:
        tracked = connections.track(ping, zone)
        connections.confirm(tracked)
        assert connections.track(ping, zone).entry is tracked.entry
        entries.append(tracked.entry)
    assert len({id(entry) for entry in entries}) == len(zones)


def test_what_denies_is_the_right_domains() -> None:
    """Of two ports with one address the one on the bridge is named, with its groups."""
    closed = replace(SNAPSHOT, groups=(SNAPSHOT.groups[0], clouds.group(clouds.GROUP2)))
    found = ask("RED_1", BLUE_FACE, cloud(closed))

    assert found.disposition is Disposition.DENIED_INGRESS
    assert {o.id for o in found.reasons[0].objects} == {clouds.GROUP2, clouds.VM_BLUE.id}


def test_fixed_ips_of_other_routers() -> None:
    """The guard answers in the router's namespace, and says whose the address is."""
    found = ask("RED_1", "10.1.0.3")

    assert found.disposition is Disposition.NO_ROUTE
    assert "on compute1/red, 10.1.0.3 is on another router" in found.sentence
    assert hops(found, "ICMP host unreachable")[-1] == "RED_1: eth0"
    assert "VM_" not in ask("BLUE_1", "10.2.0.9").sentence


@pytest.mark.parametrize(
    ("change", "disposition", "text"),
    [
        ({"has_gateway": False}, Disposition.NO_ROUTE, "there is no route to 8.8.8.8"),
        ({"admin_up": False}, Disposition.NO_ROUTE, "forwarding is off on br202"),
        ({"enable_snat": False}, Disposition.NOT_TRANSLATED, "still a tenant's 10.2.0.3"),
        (
            {"routes": (HostRoute(IPv4Network("8.8.8.0/24"), IPv4Address("10.9.0.1")),)},
            Disposition.NO_ROUTE,
            "8.8.8.0/24 is unreachable",
        ),
    ],
)
def test_a_router_that_does_not_let_out(
    change: dict[str, object], disposition: Disposition, text: str
) -> None:
    """Without a gateway, down, without SNAT, with a route that leads nowhere: each has a reason."""
    where = with_red(**change)
    found = ask("RED_2", "8.8.8.8", where)

    assert found.disposition is disposition
    assert text in found.sentence
    assert "on compute1/red" in found.sentence
    assert found.reasons[0].objects[-1].text == "router red"


def test_leases_come_from_the_router() -> None:
    """Also where a network is on none, which offers no gateway."""
    red = trace_lease(cloud(), clouds.VM_RED.id)
    alone = trace_lease(cloud(), clouds.VM_ALONE.id)

    assert "by compute1/red and nobody else" in red.sentence
    assert "10.0.0.3, router None, server 10.0.0.1, by compute1/net203" in alone.sentence
    assert ask("ALONE_1", "8.8.8.8").disposition is Disposition.NO_ROUTE


def without_wall(state: HostState) -> HostState:
    """Return a host whose red router has lost the rules on what it passes on."""
    (name,) = (n for n in state.spaces if n.startswith("tl-aaaaaaaa"))
    space = state.spaces[name]
    table = space.tables["inet", "trunkline"]
    drop = replace(table.chains["forward"], rules=("drop",))
    tables = {("inet", "trunkline"): replace(table, chains={**table.chains, "forward": drop})}
    return replace(state, spaces={**state.spaces, name: replace(space, tables=tables)})


def test_a_fault_in_a_router_is_in_its_namespace() -> None:
    """What a router's own rules drop is said to be dropped there."""
    found = ask("RED_1", "10.2.0.3", cloud(change=without_wall))

    assert found.disposition is Disposition.NOT_FORWARDED
    assert "on compute1/red" in found.sentence


def sightings(found: Trace, where: Cloud) -> dict[str, list[Seen]]:
    """Return what hosts and their routers see when all is as predicted, in no order."""
    names = {where.names[PortId(p.id)]: tap_name(PortId(p.id)) for p in PORTS.values()}
    seen: dict[str, list[Seen]] = {}
    for step in found.steps:
        if step.node_role in (HOST, ROUTER) and step.part in ("request", "reply"):
            for place in reversed(step.path):
                device = names[place.owner] if place.owner else place.device
                header = step.before if place.direction == "in" else step.after
                assert header is not None
                one = Seen(step.part, device, place.direction, place.tag, header)
                seen.setdefault(step.node, []).append(one)
    return seen


@pytest.mark.parametrize("to", ["10.2.0.3", RED_FACE, BLUE_FACE, "8.8.8.8"])
def test_live_in_routers(to: str) -> None:
    """A packet that passes its host, a router and its host again agrees passage by passage."""
    where = cloud()
    found = ask("RED_1", to, where)
    taps = {tap_name(port.id): name for name, port in PORTS.items()}
    labels = Labels(taps, {host.name: host.segments for host in where.hosts})
    seen = sightings(found, where)

    compared = held_against(found, seen, labels, ("request", "reply"))
    assert {one.finding for one in compared} == {Finding.AGREE}
    assert {one.node for one in compared} == seen.keys()

    lost = {node: [s for s in all_ if s.direction == "in"] for node, all_ in seen.items()}
    first = next(
        c
        for c in held_against(
            found, {**seen, "compute1/red": lost["compute1/red"]}, labels, ["request"]
        )
        if c.finding is not Finding.AGREE
    )
    assert first.node == "compute1/red"


def test_forwarded_ports_of_a_router_and_one_that_is_not() -> None:
    """The router's namespace forwards, also to another router's instance; nothing goes round."""
    public = IPv4Address("91.208.23.30")
    led = ForwardingView(6, 8080, clouds.VM_RED.fixed_ips[0].address, 80, clouds.VM_RED.id)
    floating = FloatingView(
        FloatingIpId("float9"),
        clouds.TENANT1,
        public,
        None,
        None,
        DomainId(clouds.RED.id),
        forwardings=(led,),
    )
    web = clouds.allow("web", 6, None, port_min=80, port_max=80)
    groups = (clouds.group(clouds.GROUP1, web), clouds.group(clouds.GROUP2, web))
    where = cloud(replace(SNAPSHOT, floating_ips=(floating,), groups=groups))

    for sender in (None, PORTS["BLUE_1"].id, PORTS["RED_1"].id):
        assert trace(where, Flow(sender, public, 6, 8080)).disposition is Disposition.DELIVERED
    lost = trace(where, Flow(None, public, 6, 80))
    assert lost.disposition is Disposition.NOT_TRANSLATED
    assert [s.node for s in lost.steps if s.part == "request"] == [
        "inet",
        "compute1",
        "compute1/red",
    ]
