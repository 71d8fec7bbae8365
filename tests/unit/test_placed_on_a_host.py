"""What a router that is placed on some hosts is there, and what is left of it elsewhere."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import clouds

from trunkline.core.compile import compile_host
from trunkline.core.diff import diff_host
from trunkline.hoststate import Address, HostState
from trunkline.model import HostName
from trunkline.operations import AnnounceAddress, InSpace
from trunkline.ownership import space_name
from trunkline.snapshot import HostSnapshot

INET, BRIDGE = ("inet", "trunkline"), ("bridge", "trunkline")
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


def test_elsewhere_instances_may_ask_the_routers_host_for_metadata() -> None:
    """Whatever their groups say, as on their own host."""
    config = replace(clouds.CONFIG, metadata=True)
    state, _ = compile_host(clouds.ELSEWHERE, config, clouds.FACTS)
    rules = state.tables[INET].chains["egress"].rules

    assert "iifname @segments ip daddr 169.254.169.254 tcp dport 80 accept" in rules


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


def standing(*acting: int) -> HostState:
    """Return a host that has a router with another one, and acts for these numbers."""
    facts = replace(clouds.FACTS, acting=frozenset(acting))
    state, problems = compile_host(clouds.SEVERAL, clouds.CONFIG, facts)
    assert problems == ()
    return state


def test_who_stands_by_is_shut_out_and_answers_for_nothing() -> None:
    """All is ready, DHCP too; no way leads to it, and no floating IP."""
    state = standing()

    assert state.tables[BRIDGE].sets["resting"].elements == {'"gw100"': "", '"gw102"': ""}
    assert (state.proxies, state.routes) == (frozenset(), frozenset())
    assert set(state.spaces[SPACE].dhcp) == {"br100", "br102"}


def test_taking_over_is_what_an_election_says_and_nothing_more() -> None:
    """What keepalived's program does makes the very state that the agent then expects."""
    rests, acts = standing(), standing(255)
    (election,) = rests.elections.values()
    closed = rests.tables[BRIDGE].sets["resting"]
    opened = replace(closed, elements={})
    table = rests.tables[BRIDGE]
    taken_over = replace(
        rests,
        routes=rests.routes | set(election.routes),
        proxies=rests.proxies | set(election.outside),
        tables={**rests.tables, BRIDGE: replace(table, sets={**table.sets, "resting": opened})},
    )

    assert closed.elements.keys() == {f'"{way}"' for way in election.ways}
    assert taken_over == acts
    assert acts.elections == rests.elections


def test_the_first_host_begins() -> None:
    """If all start at once; and each minds the NICs without which it is no gateway."""
    (first,) = standing().elections.values()
    hosts = (HostName("network1"), HostName("compute1"))
    later = replace(clouds.SEVERAL, routers=(replace(clouds.SEVERAL.routers[0], hosts=hosts),))
    (second,) = compiled(later).elections.values()

    assert first.priority > second.priority
    assert (first.link, first.tracked) == ("eth1", ("eth0",))


def test_without_an_uplink_it_never_acts() -> None:
    """The others are not heard, so it stays shut, and is told what to do."""
    config = replace(clouds.CONFIG, uplink=None)
    state, problems = compile_host(clouds.SEVERAL, config, clouds.FACTS)

    assert state.elections == {}
    assert state.tables[BRIDGE].sets["resting"].elements.keys() == {'"gw100"', '"gw102"'}
    assert any("hear each other by their uplinks" in problem.text for problem in problems)


def test_a_gateway_that_comes_is_announced() -> None:
    """Instances learn its new MAC when its router moves here, and when nobody else has it."""

    def announced(desired: HostState, actual: HostState) -> set[str]:
        inner = (o.operation for o in diff_host(desired, actual) if isinstance(o, InSpace))
        return {str(o.address.address.ip) for o in inner if isinstance(o, AnnounceAddress)}

    alone = compiled(clouds.PLACED_HERE)
    gateways = {"10.0.0.1", "10.1.0.1"}

    assert announced(alone, compiled(clouds.ELSEWHERE)) == gateways
    assert announced(alone, standing()) == gateways
    assert announced(alone, alone) == announced(standing(), standing()) == set()
