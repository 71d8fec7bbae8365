"""What a router that is placed on some hosts is there, and what is left of it elsewhere."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

import clouds

from trunkline.core.compile import compile_host
from trunkline.hoststate import Address, HostState
from trunkline.model import HostName
from trunkline.ownership import space_name
from trunkline.snapshot import HostSnapshot

INET = ("inet", "trunkline")
SPACE = space_name(clouds.DOMAIN, HostName("compute1"))


def compiled(snapshot: HostSnapshot) -> HostState:
    """Return the state of a snapshot that can be honoured in full."""
    state, problems = compile_host(snapshot, clouds.CONFIG, clouds.FACTS)
    assert problems == ()
    return state


def test_elsewhere_there_are_bridges_and_nothing_more() -> None:
    """No address, no DHCP server, no translation and no route; ports are plugged in."""
    state = compiled(clouds.ELSEWHERE)

    assert set(state.bridges) == {"br100", "br102"}
    assert {plug.bridge for plug in state.plugs.values()} == {"br100", "br102"}
    assert (state.addresses, state.routes, state.spaces, state.dhcp) == (
        frozenset(),
        frozenset(),
        {},
        {},
    )
    assert state.sysctls["net.ipv4.conf.br100.forwarding"] == "0"
    assert state.tables[INET].sets["bridges"].elements == {}


def test_elsewhere_the_router_serves_dhcp_and_dns_over_the_trunk() -> None:
    """Groups let a gateway's answers pass, though it is on another host."""
    table = compiled(clouds.ELSEWHERE).tables[INET]

    assert '"br100" . 10.0.0.1' in table.sets["gateways"].elements
    assert (
        "oifname . ip saddr @gateways udp sport 67 udp dport 68 accept"
        in table.chains["ingress"].rules
    )


def test_elsewhere_each_bridge_is_tracked_by_itself() -> None:
    """A packet that the router's host turns round passes here twice, on two bridges."""
    table = compiled(clouds.ELSEWHERE).tables[INET]

    assert table.sets["zones"].elements == {'"br100"': "100", '"br102"': "102"}
    assert "zones" in table.chains


def test_here_a_space_is_the_gateway_for_instances_on_all_hosts() -> None:
    """Even of the default router: its DHCP server knows who lives elsewhere, too."""
    state = compiled(clouds.PLACED_HERE)
    inside = state.spaces[SPACE]

    gateways = {a for a in inside.addresses if a.link == "br100"}
    assert gateways == {Address("br100", IPv4Interface("10.0.0.1/24"))}
    assert sorted(inside.dhcp["br100"].leases) == [
        "fa:16:3e:00:00:01,10.0.0.3,host-10-0-0-3",
        "fa:16:3e:00:00:02,10.0.0.4,host-10-0-0-4",
    ]
    assert Address("eth1", IPv4Interface("91.208.23.11")) in state.proxies
    assert {a.link for a in state.addresses} == {
        next(iter(state.cables.keys() - {"gw100", "gw102"}))
    }


def test_guests_are_plugged_in_nowhere() -> None:
    """Their taps are other hosts', and so are their groups."""
    state = compiled(clouds.PLACED_HERE)

    assert len(state.plugs) == len(clouds.PLACED_HERE.ports)
    assert '"br100" . 10.0.0.4' not in state.tables[INET].sets["ingress"].elements


def test_a_gateways_mac_stays_where_its_router_comes() -> None:
    """As for other routers: the space has it, and the bridge gets another."""
    before, after = compiled(clouds.ARTICLE), compiled(clouds.PLACED_HERE)

    assert after.cables["gw100"].mac == before.bridges["br100"].mac


def test_floating_ips_are_the_routers_hosts() -> None:
    """They are translated in its space, wherever the instance lives."""
    inside = compiled(clouds.PLACED_HERE).spaces[SPACE]
    found = inside.tables[INET].sets["fixed_by_floating"].elements

    assert found == {str(IPv4Address("91.208.23.11")): "10.0.0.3"}
