"""What routers of projects' own become on a host: spaces, ways to them, and groups by domain."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import clouds
import pytest

from trunkline.core.compile import compile_host
from trunkline.core.connections import unwanted
from trunkline.core.nat import TRANSITS
from trunkline.core.spaces import number_transits
from trunkline.hoststate import Address, Connection, HostConfig, HostState, Route
from trunkline.model import HostName, HostRoute
from trunkline.ownership import space_name
from trunkline.snapshot import HostSnapshot

INET = ("inet", "trunkline")
RED, BLUE, ALONE = (
    space_name(network.domain, HostName("compute1"))
    for network in (clouds.NET200, clouds.NET201, clouds.NET203)
)
CONFIG = replace(clouds.CONFIG, snat_exempt=())


def compiled(snapshot: HostSnapshot, config: HostConfig = CONFIG) -> HostState:
    """Return the state of a snapshot that can be honoured in full."""
    state, problems = compile_host(snapshot, config, clouds.FACTS)
    assert problems == ()
    return state


def test_each_router_and_each_lone_network_has_a_space() -> None:
    """The host itself is the default router; the others' gateways are in namespaces."""
    state = compiled(clouds.ROUTERS)

    assert set(state.spaces) == {RED, BLUE, ALONE}
    assert {a.link for a in state.addresses if a.link.startswith("br")} == {"br100", "br102"}
    assert {a.link for a in state.spaces[RED].addresses} == {"br200", "br202", "transit"}
    assert set(state.dhcp) == {"br100", "br102"}
    assert set(state.spaces[BLUE].dhcp) == {"br201"}


def test_a_host_without_routers_has_none_of_it() -> None:
    """The article's host has no space, no cable, no route and no zone."""
    state = compiled(clouds.ARTICLE)

    assert (state.spaces, state.cables, state.routes, state.proxies) == (
        {},
        {},
        frozenset(),
        frozenset(),
    )
    assert not {"zones", "segments", "transits"} & state.tables[INET].sets.keys()


def test_a_gateway_in_a_space_has_the_mac_that_its_bridge_had() -> None:
    """A network that changes routers keeps its gateway's MAC, and its bridge gets another one."""
    before, after = compiled(clouds.ARTICLE), compiled(clouds.ON_A_ROUTER)

    assert after.cables["gw100"].mac == before.bridges["br100"].mac
    assert after.bridges["br100"].mac != before.bridges["br100"].mac


def test_a_floating_ip_is_routed_to_its_space_and_translated_there_only() -> None:
    """The host has a route and answers for it; the map is the space's."""
    state = compiled(clouds.ONE_ROUTER)
    address = IPv4Address("91.208.23.21")
    (route,) = state.routes

    assert route.destination == IPv4Network(address)
    assert route.link == "traaaaaaaa-11"
    assert state.proxies == {Address("eth1", IPv4Interface(address))}
    assert state.tables[INET].sets["fixed_by_floating"].elements == {}
    inside = state.spaces[RED].tables[INET].sets["fixed_by_floating"].elements
    assert inside == {str(address): "10.0.0.3"}
    arriving = state.spaces[RED].tables[INET].chains["arriving"].rules
    assert 'iifname "transit" ct state invalid drop' in arriving, "it would go round and round"


@pytest.mark.parametrize("change", [{"has_gateway": False}, {"admin_up": False}])
def test_a_router_without_a_way_out_has_no_transit(change: dict[str, bool]) -> None:
    """No transit, no default route, no floating IP."""
    closed = replace(clouds.ONE_ROUTER, routers=(replace(clouds.RED, **change),))
    state = compiled(closed)

    assert set(state.cables) == {"gw200"}
    assert state.spaces[RED].routes == frozenset()
    assert state.routes == state.proxies == frozenset()


def test_what_does_not_route_does_not_forward() -> None:
    """A router that is down, and a network on none, have forwarding off; the others have it on."""
    state = compiled(clouds.DOWN_ROUTER)

    found = {
        name: state.spaces[name].sysctls[f"net.ipv4.conf.{bridge}.forwarding"]
        for name, bridge in ((RED, "br200"), (BLUE, "br201"), (ALONE, "br203"))
    }
    assert found == {RED: "0", BLUE: "1", ALONE: "0"}


def test_without_a_router_no_gateway_is_offered() -> None:
    """DHCP's router option is there and empty: without it dnsmasq would offer itself."""
    lines = compiled(clouds.ROUTERS).spaces[ALONE].dhcp["br203"].config.splitlines()

    assert "dhcp-option=tag:subnet-subnet20,option:router" in lines


def test_snat_off_keeps_the_private_inside() -> None:
    """Nothing is translated to the transit's address, and what still is private is dropped."""
    chains = {
        on: compiled(replace(clouds.ONE_ROUTER, routers=(replace(clouds.RED, enable_snat=on),)))
        .spaces[RED]
        .tables[INET]
        .chains
        for on in (True, False)
    }

    assert any("snat ip to 169.254" in rule for rule in chains[True]["nat-postrouting"].rules)
    assert not any("snat ip to 169" in rule for rule in chains[False]["nat-postrouting"].rules)
    leak = 'oifname "transit" ip saddr @tenant_prefixes ip daddr != @snat_exempt drop'
    assert leak in chains[False]["leaving"].rules


def test_members_and_group_chains_are_per_domain() -> None:
    """An address that is a member in one domain is a stranger in another."""
    table = compiled(clouds.ROUTERS).tables[INET]
    red = f"members-{clouds.GROUP1}-in-{clouds.RED.id}"

    assert set(table.sets[red].elements) == {"10.0.0.3", "10.2.0.3"}
    assert "10.0.0.6" in table.sets[f"members-{clouds.GROUP1}"].elements
    verdicts = table.sets["ingress"].elements
    assert verdicts['"br100" . 10.0.0.3'] != verdicts['"br200" . 10.0.0.3']
    chain = table.chains[f"group-{clouds.GROUP1}-in-{clouds.RED.id}-ingress"]
    assert any(f"@{red} " in rule for rule in chain.rules)


def test_bridges_of_spaces_have_zones_of_their_own() -> None:
    """Each has another one; the default router's bridges have none."""
    zones = compiled(clouds.ROUTERS).tables[INET].sets["zones"].elements

    assert set(zones) == {'"br200"', '"br201"', '"br202"', '"br203"'}
    assert len(set(zones.values())) == 4


def test_a_transit_that_is_there_keeps_its_numbers() -> None:
    """Whoever comes later makes way, also if the names would have it the other way round."""
    links = [f"tr{number:011d}" for number in range(40)]
    numbers = number_transits(links, clouds.FACTS)
    assert len(set(numbers.values())) == len(links)
    assert all(prefix.subnet_of(TRANSITS) for prefix in numbers.values())

    taken = numbers[links[0]]
    late = replace(clouds.FACTS, transits=((links[1], IPv4Interface((taken[0], 31))),))
    moved = number_transits(links, late)
    assert moved[links[1]] == taken
    assert moved[links[0]] != taken
    assert len(set(moved.values())) == len(links)


def test_a_prefix_that_the_host_has_is_no_transits() -> None:
    """Somebody's link-local address on the host is stepped over."""
    free = number_transits(["trone"], clouds.FACTS)["trone"]
    facts = replace(clouds.FACTS, foreign_prefixes=((free, "eth9"),))

    assert not number_transits(["trone"], facts)["trone"].overlaps(free)


def test_extra_routes_are_in_the_space() -> None:
    """One whose next hop's network is here leads there; any other answers, and leaks nowhere."""
    near, far = (IPv4Network("172.20.0.0/16"), IPv4Network("172.21.0.0/16"))
    routes = (
        HostRoute(near, IPv4Address("10.0.0.9")),
        HostRoute(far, IPv4Address("10.9.0.9")),
    )
    one = replace(clouds.ONE_ROUTER, routers=(replace(clouds.RED, routes=routes),))

    found = compiled(one).spaces[RED].routes
    assert Route(near, IPv4Address("10.0.0.9"), "br200") in found
    assert Route(far) in found


def test_the_default_routers_routes_never_replace_the_hosts() -> None:
    """One that would is left out and named; another is the host's own."""
    nexthop = IPv4Address("10.0.0.9")
    wanted = [IPv4Network(p) for p in ("172.20.0.0/16", "91.207.0.0/16", "0.0.0.0/0")]
    router = replace(clouds.ROUTER, routes=tuple(HostRoute(p, nexthop) for p in wanted))
    snapshot = replace(clouds.ARTICLE, routers=(router,))

    state, problems = compile_host(snapshot, CONFIG, clouds.FACTS)

    assert state.routes == {Route(wanted[0], nexthop, "br100")}
    assert [p.subject for p in problems] == [f"route {p} of the default router" for p in wanted[1:]]


def test_exempt_destinations_need_addresses_of_ones_own() -> None:
    """The host leads back to a subnet that is its only one; of two alike neither gets an answer."""
    alone = compiled(clouds.ONE_ROUTER, clouds.CONFIG)
    both, problems = compile_host(clouds.ROUTERS, clouds.CONFIG, clouds.FACTS)

    assert IPv4Network("10.0.0.0/24") in {r.destination for r in alone.routes}
    prefixes = {r.destination for r in both.routes if r.destination.prefixlen < 32}
    assert prefixes == {IPv4Network("10.2.0.0/24")}
    assert {p.subject for p in problems} == {
        "subnet subnet200 (10.0.0.0/24)",
        "subnet subnet201 (10.0.0.0/24)",
    }


def tcp(source: str, to: str, zone: int = 0, behind: str = "", face: str = "") -> Connection:
    """Return a connection to port 22; ``behind`` is who answers, ``face`` the source shown."""
    a, b, c, d = map(IPv4Address, (source, to, behind or to, face or source))
    return Connection(6, a, b, 40000, 22, c, d, 22, 40000, zone)


def ended(
    space: str, *flows: Connection, before: HostSnapshot = clouds.ROUTERS
) -> list[Connection]:
    """Return which connections of a table must end in the cloud with routers."""
    change = compiled(clouds.ROUTERS), compiled(before)
    faces = frozenset({IPv4Address("91.207.15.105")})
    return list(unwanted(clouds.ROUTERS, faces, change, {space: flows}).get(space, ()))


def test_a_connection_is_judged_by_the_groups_of_its_zone() -> None:
    """In red's zone 10.2.0.3 is a member of its group; in blue's it is a stranger."""
    fine, stranger = tcp("10.2.0.3", "10.0.0.3", 200), tcp("10.2.0.3", "10.0.0.3", 201)

    assert ended("", fine, stranger) == [stranger]


def test_zones_that_are_not_ours_are_left_alone() -> None:
    """One that no bridge has, or had, is somebody else's; one that a bridge had is over."""
    other, over = tcp("10.9.0.3", "10.0.0.3", 4000), tcp("10.9.0.3", "10.0.0.3", 300)
    before = replace(clouds.ROUTERS, networks=(replace(clouds.NET200, vlan_id=300),), ports=())

    assert ended("", other, over) == []
    assert ended("", other, over, before=before) == [over]


def test_translations_are_judged_in_the_space() -> None:
    """A floating IP of today and the transit's address live on; one of another domain ends."""
    transit = next(
        str(a.address.ip)
        for a in compiled(clouds.ROUTERS).spaces[RED].addresses
        if a.link == "transit"
    )
    out = tcp("10.0.0.3", "8.8.8.8", face=transit)
    public = tcp("10.0.0.3", "8.8.8.8", face="91.208.23.21")
    others = tcp("10.0.0.3", "8.8.8.8", face="91.208.23.22")

    assert ended(RED, out, public, others) == [others]
