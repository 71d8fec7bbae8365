"""What IPv6 adds to a host: nothing to a cloud without it, and nothing where it cannot be."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import clouds
import pytest

from trunkline.core.compile import compile_host
from trunkline.core.connections import unwanted
from trunkline.core.links import gateway_mac
from trunkline.hoststate import Connection, HostFacts, HostState, Problem
from trunkline.model import GatewayMode, HostName, link_local
from trunkline.snapshot import HostSnapshot

INET, BRIDGE = ("inet", "trunkline"), ("bridge", "trunkline")
VM1, VM3 = IPv6Address(clouds.SLAAC1), IPv6Address("2001:db8:102::33")
MEMBER = IPv6Address("2001:db8:100::77")


def compiled(
    snapshot: HostSnapshot, facts: HostFacts = clouds.FACTS
) -> tuple[HostState, tuple[Problem, ...]]:
    """Return what the article's left host must be, and what it cannot."""
    return compile_host(snapshot, clouds.CONFIG, facts)


def words(state: HostState) -> set[str]:
    """Return what a host's tables and sysctls are made of, by name."""
    tables = state.tables.values()
    return {*state.sysctls, *(n for t in tables for n in (*t.sets, *t.chains))}


@pytest.mark.parametrize("name", clouds.STATES)
def test_a_cloud_without_ipv6_has_nothing_of_it(name: str) -> None:
    """No chain, set, sysctl or bridge of IPv4 knows of IPv6 until a network has such a subnet."""
    state, _ = compiled(clouds.STATES[name])
    has = any(s.cidr.version == 6 for n in clouds.STATES[name].networks for s in n.subnets)

    of_ipv6 = {w for w in words(state) if w.endswith("6") or w.startswith("net.ipv6.")}
    assert bool(of_ipv6) is has
    assert any(b.nf_call_ip6tables for b in state.bridges.values()) is has


def test_the_link_local_address_of_a_mac() -> None:
    """RFC 2464, section 4: the example there."""
    assert link_local("34:56:78:9a:bc:de") == IPv6Address("fe80::3656:78ff:fe9a:bcde")


def test_a_network_of_ipv6_alone_is_advertised() -> None:
    """It needs no IPv4 subnet to have a server."""
    (network, *_) = clouds.DUAL.networks
    six = tuple(s for s in network.subnets if s.cidr.version == 6)
    alone = replace(clouds.DUAL, networks=(replace(network, subnets=six),))

    state, problems = compiled(alone)

    (server,) = state.dhcp.values()
    assert "enable-ra" in server.config.splitlines()
    assert not problems


RED = replace(clouds.DUAL.networks[0], router_id=clouds.RED.id)
PLACED = replace(clouds.RED, hosts=(HostName("compute1"), HostName("network1")), number=255)
HINDRANCES = {
    "its router is placed on several hosts": (
        replace(clouds.DUAL, networks=(RED,), routers=(clouds.ROUTER, PLACED)),
        clouds.FACTS,
    ),
    "this kernel speaks no IPv6": (clouds.DUAL, replace(clouds.FACTS, has_ipv6=False)),
    "its gateway is anycast": (
        replace(
            clouds.DUAL,
            networks=(replace(clouds.DUAL.networks[0], gateway_mode=GatewayMode.ANYCAST),),
        ),
        clouds.FACTS,
    ),
    "set net.ipv6.conf.all.forwarding=1": (
        clouds.DUAL,
        replace(clouds.FACTS, ipv6_forwarding=None),
    ),
    "overlaps 2001:db8::/32 on eth1": (
        clouds.DUAL,
        replace(clouds.FACTS, foreign_prefixes6=((IPv6Network("2001:db8::/32"), "eth1"),)),
    ),
}


@pytest.mark.parametrize("text", HINDRANCES)
def test_ipv6_that_cannot_be_served_is_left_out_and_named(text: str) -> None:
    """The network keeps its IPv4; its instances have no IPv6 at all."""
    snapshot, facts = HINDRANCES[text]
    state, problems = compiled(snapshot, facts)

    assert any(text in p.text for p in problems)
    assert not {w for w in words(state) if w.endswith("6")}
    assert '"tap00000001-aa"' in state.tables[BRIDGE].sets["ports"].elements
    assert not any(a.address.version == 6 for a in state.addresses)


def test_one_more_port_adds_elements_and_no_rule() -> None:
    """An address of IPv6 is as many elements as one of IPv4, and its link-local one as many."""
    before, _ = compiled(replace(clouds.DUAL, ports=(clouds.DUAL1, clouds.DUAL3)))
    after, _ = compiled(clouds.DUAL)

    added = {}
    for table in (INET, BRIDGE):
        assert before.tables[table].chains == after.tables[table].chains
        for name, found in after.tables[table].sets.items():
            count = len(found.elements) - len(before.tables[table].sets[name].elements)
            if count and name.endswith("6"):
                added[name] = count
    assert added == {"egress6": 2, "ingress6": 2, "ports6": 1, "addresses6": 2, "targets6": 2}


def test_what_a_dhcp_server_is_told() -> None:
    """By SLAAC an instance makes its address itself; by DHCPv6 it is in its line."""
    state, _ = compiled(clouds.DUAL)

    slaac, stateful = state.dhcp["br100"], state.dhcp["br102"]
    assert "enable-ra\nra-param=br100,mtu:1500,600\n" in slaac.config
    assert "2001:db8:100::,ra-only,64,86400s\n" in slaac.config
    assert "2001:db8:102::,static,64,1800s\n" in stateful.config
    assert slaac.files["hosts/00000001-aa-port"] == f"{clouds.VM1.mac},10.0.0.3,host-10-0-0-3"
    stateless = compiled(clouds.DUAL_PAIRS)[0].dhcp["br100"]
    assert "2001:db8:100::,ra-stateless,64,86400s\n" in stateless.config
    assert f"{clouds.VM1.mac},10.0.0.3,[{VM1}],host-10-0-0-3" in stateless.leases
    assert stateful.leases == [f"{clouds.VM3.mac},10.1.0.3,[{VM3}],host-10-1-0-3"]


def tcp(source: IPv6Address, destination: IPv6Address, port: int) -> Connection:
    """Return a connection, which nothing has translated."""
    return Connection(6, source, destination, 40000, port, destination, source, port, 40000)


def ping(source: IPv6Address, destination: IPv6Address) -> Connection:
    """Return an echo exchange."""
    return Connection(58, source, destination, 77, 128, destination, source, 129, 77)


ROUTER1 = link_local(gateway_mac(clouds.NET100, "compute1"))
JUDGED = {
    "from a member of the group": (tcp(VM1, IPv6Address("2001:db8:100:0:f816:3eff:fe00:2"), 22), 1),
    "from a stranger": (tcp(MEMBER, VM1, 22), 0),
    "by prefix": (tcp(VM3, VM1, 80), 1),
    "by prefix, another port": (tcp(VM3, VM1, 81), 0),
    "an echo": (ping(MEMBER, VM1), 1),
    "to the link-local address": (tcp(MEMBER, link_local(clouds.VM1.mac), 22), 0),
    "names from the own host": (
        replace(tcp(link_local(clouds.VM1.mac), ROUTER1, 53), protocol=17),
        1,
    ),
    "somebody else's": (tcp(IPv6Address("2001:db9::1"), IPv6Address("2001:db9::2"), 22), 1),
}


@pytest.mark.parametrize("name", JUDGED)
def test_connections_are_judged_by_the_rules_of_their_family(name: str) -> None:
    """What the groups allow in IPv6 lives on; nothing else does."""
    connection, lives = JUDGED[name]
    state, _ = compiled(clouds.DUAL)

    found = unwanted(clouds.DUAL, frozenset(), (state, state), {"": [connection]})

    assert found == ({} if lives else {"": (connection,)})


def test_connections_of_an_address_that_is_gone_end() -> None:
    """A port that goes takes its connections of both its IPv6 addresses along."""
    before, _ = compiled(clouds.DUAL)
    gone = replace(clouds.DUAL, ports=(clouds.DUAL2, clouds.DUAL3))
    after, _ = compiled(gone)
    echo = ping(MEMBER, link_local(clouds.VM1.mac))

    assert unwanted(gone, frozenset(), (after, before), {"": [echo]}) == {"": (echo,)}
