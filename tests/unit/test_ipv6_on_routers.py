"""IPv6 on routers of their own: in their spaces, told apart by domain, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import article
import clouds
import pytest
from test_trace import hops

from trunkline.core.compile import compile_host
from trunkline.hoststate import HostConfig, HostFacts, HostState, Route
from trunkline.model import HostName, link_local
from trunkline.ownership import anycast_mac, gateway_mac, space_name
from trunkline.snapshot import HostSnapshot, RouterView
from trunkline.trace.cloud import Cloud
from trunkline.trace.steps import Disposition, Trace
from trunkline.trace.walk import Flow, trace

INET = ("inet", "trunkline")
RED, BLUE, ALONE = (
    space_name(network.domain, HostName("compute1"))
    for network in (replace(clouds.NET100, router_id=clouds.RED.id), clouds.NET201, clouds.NET203)
)
NAMES = {
    clouds.DUAL1.id: "VM_1",
    clouds.DUAL2.id: "VM_2",
    clouds.DUAL3.id: "VM_3",
    clouds.DUAL_BLUE.id: "BLUE_1",
    clouds.DUAL_ALONE.id: "ALONE_1",
}
PORTS = {name: port_id for port_id, name in NAMES.items()}
TWIN = "2001:db8:102::33"  # VM_3's, and BLUE_1's


def compiled(snapshot: HostSnapshot = clouds.DUAL_ROUTERS) -> HostState:
    """Return the state of a host whose snapshot can be honoured but for exempt destinations."""
    state, problems = compile_host(snapshot, replace(clouds.CONFIG, snat_exempt=()), clouds.FACTS)
    assert problems == ()
    return state


def cloud(snapshot: HostSnapshot = clouds.DUAL_ROUTERS) -> Cloud:
    """Return the cloud of one host."""
    return replace(article.cloud(snapshot), names=NAMES)


def ping(source: str, to: str, where: Cloud | None = None) -> Trace:
    """Return the trace of a ping by IPv6."""
    return trace(where or cloud(), Flow(PORTS[source], IPv6Address(to)))


def test_gateways_are_in_the_spaces_alone() -> None:
    """The host's bridges show IPv6 to groups, and speak none."""
    state = compiled()
    inside = {
        name: {a.link for a in s.addresses if a.address.version == 6}
        for name, s in state.spaces.items()
    }

    assert inside == {RED: {"br100", "br102"}, BLUE: {"br201"}, ALONE: {"br203"}}
    assert not [a for a in state.addresses if a.address.version == 6]
    assert all(bridge.nf_call_ip6tables for bridge in state.bridges.values())
    ways = {name for name in state.cables if name.startswith("tr")}
    assert {k: v for k, v in state.sysctls.items() if ".ipv6." in k} == {
        f"net.ipv6.conf.{link}.disable_ipv6": "1" for link in state.bridges.keys() | ways
    }


def test_who_routes_switches_it_on_for_its_namespace() -> None:
    """A kernel of any age does so; a network on no router is told of none."""
    spaces = compiled().spaces
    routing = {name: s.sysctls["net.ipv6.conf.all.forwarding"] for name, s in spaces.items()}
    told = {
        server.bridge: next(line for line in server.config.splitlines() if "ra-param" in line)
        for s in spaces.values()
        for server in s.dhcp.values()
    }

    assert routing == {RED: "1", BLUE: "1", ALONE: "0"}
    assert told["br100"] == "ra-param=br100,mtu:1500,600"
    assert told["br203"] == "ra-param=br203,mtu:1500,600,0"


def test_without_a_switch_of_the_hosts_spaces_route() -> None:
    """What the host's kernel cannot, or must be told to, is no matter in a namespace of ours."""
    facts = replace(clouds.FACTS, ipv6_forwarding=None)
    config = replace(clouds.CONFIG, snat_exempt=())

    assert compile_host(clouds.DUAL_ROUTERS, config, facts) == (compiled(), ())


def test_a_network_without_ipv6_speaks_none_in_its_space() -> None:
    """Of two networks on a router, one may have it."""
    one, two, *others = clouds.DUAL_ROUTERS.networks
    half = replace(
        clouds.DUAL_ROUTERS, networks=(one, replace(two, subnets=two.subnets[:1]), *others)
    )
    state = compiled(half)
    silent = {
        name: s.sysctls.get("net.ipv6.conf.br102.disable_ipv6") for name, s in state.spaces.items()
    }

    assert silent == {RED: "1", BLUE: None, ALONE: None}
    assert not state.bridges["br102"].nf_call_ip6tables
    assert state.spaces[RED].sysctls["net.ipv6.conf.br100.disable_ipv6"] == "0"


def test_equal_addresses_are_judged_by_their_own_groups() -> None:
    """By bridge and address, in chains of the domain; members are the domain's."""
    table = compiled().tables[INET]
    found = {
        key: table.sets["ingress6"].elements[key]
        for key in (f'"br102" . {TWIN}', f'"br201" . {TWIN}')
    }

    assert len(set(found.values())) == len(found)
    members = {n: set(s.elements) for n, s in table.sets.items() if n.startswith("members6-")}
    assert members[f"members6-{clouds.GROUP1}-in-{clouds.RED.id}"] == {clouds.SLAAC1}
    assert members[f"members6-{clouds.GROUP1}-in-{clouds.BLUE.id}"] == set()
    assert table.sets["zones"].elements == {f'"br{n}"': str(n) for n in (100, 102, 201, 203)}


def test_between_networks_of_one_router() -> None:
    """By the link-local router behind the bridge's cable, and out by another bridge."""
    found = ping("VM_1", TWIN)

    assert found.disposition is Disposition.DELIVERED
    router = link_local(gateway_mac(HostName("compute1"), clouds.NET100.id))
    asked = hops(found, f"neighbour solicitation: who has {router}?")
    assert f"compute1/{clouds.RED.name}: br100" in asked
    assert hops(found, "ICMPv6 echo request") == [
        "VM_1: eth0",
        "compute1: tap(VM_1) br100 gw100",
        f"compute1/{clouds.RED.name}: br100 br102",
        "compute1: gw102 br102 tap(VM_3)",
        "VM_3: eth0",
    ]


def test_between_routers_there_is_no_way() -> None:
    """An address that only another router has is behind no route; an equal one is one's own."""
    found = ping("BLUE_1", clouds.SLAAC1)

    assert found.disposition is Disposition.NO_ROUTE
    assert hops(found, "ICMPv6 no route")[-1] == "BLUE_1: eth0"
    assert not [s for s in found.steps if s.node in ("VM_1", "VM_2")]


def test_on_no_router() -> None:
    """An instance has an address, its neighbours, and no way further."""
    found = ping("ALONE_1", TWIN)

    assert found.disposition is Disposition.NO_ROUTE
    assert "ALONE_1 has no route to" in found.sentence


@pytest.mark.parametrize("change", [{"admin_up": False}, {"name": "red"}])
def test_a_router_that_is_down_forwards_no_ipv6(change: dict[str, object]) -> None:
    """Its instances still have addresses and neighbours."""
    red = replace(clouds.RED, **change)  # type: ignore[arg-type]
    down = cloud(replace(clouds.DUAL_ROUTERS, routers=(red, clouds.BLUE)))
    routed, near = (
        ping("VM_1", TWIN, down),
        ping("VM_1", str(clouds.DUAL2.fixed_ips[1].address), down),
    )

    assert near.disposition is Disposition.DELIVERED
    assert (routed.disposition is Disposition.DELIVERED) is red.admin_up


ONE = replace(clouds.DUAL_ROUTERS, networks=clouds.DUAL_ROUTERS.networks[:2], routers=(clouds.RED,))
OPEN = replace(clouds.CONFIG, snat_exempt=(), route_ipv6=True)


def test_out_by_the_uplink_go_addresses_that_are_one_tenants() -> None:
    """With ``route_ipv6``, by a way of link-local ends; what two routers have stays inside."""
    state, problems = compile_host(clouds.DUAL_ROUTERS, OPEN, clouds.FACTS)
    (way,) = (r for r in state.routes if r.destination.version == 6)
    (out,) = (r for r in state.spaces[RED].routes if r.destination.version == 6)
    ends = [a for a in state.addresses if a.address.version == 6]
    (near,) = (a for a in ends if a.link == way.link)

    assert (str(way.destination), way.link) == ("2001:db8:100::/64", "traaaaaaaa-11")
    assert (str(out.destination), out.via) == ("::/0", near.address.ip)
    assert near.address.is_link_local
    assert len({a.address.ip for a in ends}) == len(ends) == 2, "the host has each on one link"
    assert way.via in near.address.network
    outward = state.tables[INET].sets["outward6"].elements
    assert set(outward) == {'"traaaaaaaa-11" . 2001:db8:100::/64'}
    assert {p.subject for p in problems} == {
        "subnet subnet6-102 (2001:db8:102::/64)",
        "subnet subnet6-201 (2001:db8:102::/64)",
    }
    assert all("also another router's" in p.text for p in problems)


@pytest.mark.parametrize(
    ("router", "config", "facts"),
    [
        (replace(clouds.RED, has_gateway=False), OPEN, clouds.FACTS),
        (replace(clouds.RED, admin_up=False), OPEN, clouds.FACTS),
        (clouds.RED, replace(OPEN, route_ipv6=False), clouds.FACTS),
        (clouds.RED, OPEN, replace(clouds.FACTS, ipv6_forwarding=None)),
    ],
)
def test_who_gets_nowhere(router: RouterView, config: HostConfig, facts: HostFacts) -> None:
    """A router without a way out, one that is down, a host that may not or cannot route."""
    state, problems = compile_host(replace(ONE, routers=(router,)), config, facts)

    assert not [r for place in (state, state.spaces[RED]) for r in place.routes if is_ipv6(r)]
    wanting = [p.subject for p in problems]
    assert wanting == ([] if facts.ipv6_forwarding else ["route_ipv6"])
    assert "outward6" not in state.tables[INET].sets
    assert not any(
        "iifname @transits icmpv6" in r for r in state.tables[INET].chains["input"].rules
    )


def is_ipv6(route: Route) -> bool:
    """Return whether a route is of IPv6."""
    return route.destination.version == 6


def test_what_two_routers_have_does_not_leave_the_host() -> None:
    """The answer would have one way on the host; the packet ends there, and nothing is told."""
    where = replace(article.cloud(clouds.DUAL_ROUTERS, route_ipv6=True), names=NAMES)
    found = ping("BLUE_1", "2001:4860::8888", where)

    assert found.disposition is Disposition.NOT_FORWARDED
    assert found.steps[-1].node == "compute1"
    assert ping("VM_1", "2001:4860::8888", where).disposition is Disposition.UNKNOWN


def test_a_walk_out_of_a_router() -> None:
    """It leaves the router's namespace, then the host, with its own source."""
    where = replace(article.cloud(ONE, route_ipv6=True), names=NAMES)
    found = ping("VM_1", "2001:4860::8888", where)

    assert found.disposition is Disposition.UNKNOWN
    assert "leaves by eth1 with its own source" in found.sentence
    assert hops(found, "ICMPv6 echo request")[2] == f"compute1/{clouds.RED.name}: br100 transit"
    refused = ping("VM_1", "2001:4860::8888", replace(article.cloud(ONE), names=NAMES))
    assert refused.disposition is Disposition.NO_ROUTE
    assert ping("VM_1", "2001:db8:104::4", where).disposition is Disposition.NO_BRIDGE


# Placed on compute1, for instances of both hosts.
HERE = replace(
    clouds.DUAL,
    routers=(replace(clouds.ROUTER, hosts=(HostName("compute1"),)),),
    ports=(clouds.DUAL1, clouds.DUAL3),
    guests=(clouds.DUAL2,),
)
THERE = replace(HERE, host=HostName("compute2"), ports=(clouds.DUAL2,), guests=(), floating_ips=())


def test_a_placed_router_is_found_across_the_trunk() -> None:
    """Its host's words pass there, and are known by its link-local address elsewhere, too."""
    router = link_local(anycast_mac(clouds.NET100.id))
    states = [
        compile_host(one, replace(OPEN, host=one.host), clouds.FACTS)[0] for one in (HERE, THERE)
    ]

    for state in states:
        assert state.tables["bridge", "trunkline"].sets["trunks6"].elements == {}
        assert f'"br100" . {router}' in state.tables[INET].sets["gateways6"].elements
        assert state.sysctls["net.ipv6.conf.br100.disable_ipv6"] == "1"
    assert [bool(state.spaces) for state in states] == [True, False]
    (space,) = states[0].spaces.values()
    assert f"hosts/{clouds.DUAL2.id}" in space.dhcp["br100"].files


def test_a_walk_by_a_placed_router() -> None:
    """Both ways by its host, over the trunk with the tag of each network."""
    where = replace(article.cloud(HERE, THERE), names=NAMES)
    found = ping("VM_2", TWIN, where)

    assert found.disposition is Disposition.DELIVERED
    assert hops(found, "ICMPv6 echo request") == [
        "VM_2: eth0",
        "compute2: tap(VM_2) br100 vlan100 eth0#100",
        "switch: compute2#100 compute1#100",
        "compute1: eth0#100 vlan100 br100 gw100",
        f"compute1/{clouds.ROUTER.name}: br100 br102",
        "compute1: gw102 br102 tap(VM_3)",
        "VM_3: eth0",
    ]
