"""What a snapshot becomes on a host, and what a host cannot honour."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network

import clouds
import pytest

from trunkline.core.compile import compile_host
from trunkline.core.filter import rule_text
from trunkline.core.nat import SRCNAT
from trunkline.hoststate import Address, HostFacts, HostState
from trunkline.model import Direction, GroupId, HostRoute, Rule, RuleId, SubnetId

INET, BRIDGE = ("inet", "trunkline"), ("bridge", "trunkline")


def compiled(snapshot: object = clouds.ARTICLE, facts: HostFacts = clouds.FACTS) -> HostState:
    """Return the state of a snapshot that can be honoured in full."""
    state, problems = compile_host(snapshot, clouds.CONFIG, facts)  # type: ignore[arg-type]
    assert problems == ()
    return state


def test_the_articles_left_host() -> None:
    """The left host has br100 and br102 with its own addresses, and the floating IP on eth1."""
    state = compiled()

    assert set(state.bridges) == {"br100", "br102"}
    assert {v.name: (v.trunk, v.vlan_id, v.bridge) for v in state.vlans.values()} == {
        "vlan100": ("eth0", 100, "br100"),
        "vlan102": ("eth0", 102, "br102"),
    }
    assert state.addresses == {
        Address("br100", IPv4Interface("10.0.0.1/24")),
        Address("br102", IPv4Interface("10.1.0.1/24")),
        Address("eth1", IPv4Interface("91.208.23.11/32")),
    }


def test_a_host_without_instances_has_nothing_of_ours() -> None:
    """No network, no table, no sysctl: an idle host is left alone."""
    assert compiled(clouds.EMPTY) == HostState()


def test_one_more_port_adds_elements_and_no_rule() -> None:
    """A port with a known combination of groups changes no chain."""
    before = compiled(replace(clouds.ARTICLE, ports=(clouds.VM1, clouds.VM3)))
    after = compiled(clouds.ARTICLE)

    assert before.tables[INET].chains == after.tables[INET].chains
    assert before.tables[BRIDGE].chains == after.tables[BRIDGE].chains
    added = [
        len(after.tables[t].sets[s].elements) - len(before.tables[t].sets[s].elements)
        for t in (INET, BRIDGE)
        for s in after.tables[t].sets
    ]
    assert sum(added) == 5  # egress, ingress, ports, macs, addresses


def test_a_port_without_port_security_is_not_filtered() -> None:
    """Port security off means no anti-spoofing and no groups, and the port is still plugged."""
    state = compiled(clouds.NO_SECURITY)

    assert '"tap00000001-aa"' not in state.tables[BRIDGE].sets["ports"].elements
    assert '"br100" . 10.0.0.3' not in state.tables[INET].sets["ingress"].elements
    assert "tap00000001-aa" in state.plugs


def test_a_port_in_an_unknown_group_is_closed() -> None:
    """A group that the snapshot lacks lets nothing through: there is no jump to it."""
    lost = replace(clouds.VM1, group_ids=(GroupId("lost"),))
    state = compiled(replace(clouds.ONE_PORT, ports=(lost,)))

    verdict = state.tables[INET].sets["ingress"].elements['"br100" . 10.0.0.3']
    chain = state.tables[INET].chains[verdict.removeprefix("goto ")]
    assert chain.rules == ("ct state invalid drop", "drop")


def test_guard_off_is_the_articles_behaviour() -> None:
    """Without the guard nothing answers for absent prefixes; with it one rule does."""
    unguarded, _ = compile_host(
        clouds.ARTICLE, replace(clouds.CONFIG, guard_absent_prefixes=False), clouds.FACTS
    )

    def rejects(state: HostState) -> list[str]:
        return [r for r in state.tables[INET].chains["forward"].rules if "reject" in r]

    assert len(rejects(compiled())) == 1
    assert rejects(unguarded) == []


def test_dhcp_serves_only_ports_of_this_host_with_its_own_router() -> None:
    """The static leases are this host's ports, the router option is this host's bridge."""
    server = compiled().dhcp["br100"]

    assert server.files == {
        f"hosts/{clouds.VM1.id}": "fa:16:3e:00:00:01,10.0.0.3,host-10-0-0-3",
        f"hosts/{clouds.VM2.id}": "fa:16:3e:00:00:02,10.0.0.4,host-10-0-0-4",
    }
    assert "option:router,10.0.0.1" in server.config
    assert "dhcp-ignore=tag:!known" in server.config


def test_a_subnet_without_a_router_beside_one_with() -> None:
    """Its instances are told that there is none; their network's others have the host."""
    (first,) = clouds.NET100.subnets
    prefix = IPv4Network("10.9.0.0/24")
    second = replace(first, id=SubnetId("second"), cidr=prefix, gateway=prefix[1], routed=False)
    network = replace(clouds.NET100, subnets=(first, second))

    config = compiled(replace(clouds.ARTICLE, networks=(network,))).dhcp["br100"].config

    assert f"dhcp-option=tag:subnet-{first.id[:8]},option:router,10.0.0.1\n" in config
    assert "dhcp-option=tag:subnet-second,option:router\n" in config


def test_dns_knows_the_networks_names_wherever_they_live() -> None:
    """Names of other hosts' ports are files beside the leases; another network has none of it."""
    servers = compiled(clouds.NAMED).dhcp

    files = servers["br100"].files
    assert files["names/00000009-aa-port"] == "10.0.0.9 far"
    assert "hosts/00000009-aa-port" not in files
    assert "domain=corp.example\nlocal=/corp.example/\n" in servers["br100"].config
    assert not any(name.startswith("names/") for name in servers["br102"].files)
    assert "local=/internal/\n" in servers["br102"].config


def test_a_ports_options_are_tagged_for_it_alone() -> None:
    """The tag is the port's MAC's, and the option asks for the tag."""
    server = compiled(clouds.NAMED).dhcp["br100"]

    tag = f"port-{clouds.VM1.id}"
    assert server.config.endswith(f"dhcp-mac=set:{tag},{clouds.VM1.mac}\n")
    options = {n: text for n, text in server.files.items() if n.startswith("options/")}
    assert options == {f"options/{clouds.VM1.id}": f"tag:{tag},option:mtu,1400"}


def test_an_mtu_that_the_trunk_does_not_take_is_lowered_and_reported() -> None:
    """A trunk with a smaller MTU cuts nobody off; every device and DHCP have what it takes."""
    facts = replace(clouds.FACTS, trunk_mtus={"eth0": 1400})

    state, problems = compile_host(clouds.ARTICLE, clouds.CONFIG, facts)

    assert {b.mtu for b in state.bridges.values()} == {1400}
    assert {v.mtu for v in state.vlans.values()} == {1400}
    assert {p.mtu for p in state.plugs.values()} == {1400}
    assert "dhcp-option=option:mtu,1400\n" in state.dhcp["br100"].config
    assert [p.subject for p in problems] == ["network network100", "network network102"]
    assert "1500 does not fit eth0's 1400" in problems[0].text


def test_what_translation_missed_does_not_leave_with_a_private_source() -> None:
    """Such as a connection that is picked up half-way, of an instance that has just moved here."""
    chain = compiled(clouds.ONE_PORT).tables[INET].chains["leaving"]

    assert chain.hook is not None
    assert chain.hook.priority > SRCNAT
    assert 'oifname "eth1" ip saddr @tenant_prefixes ip daddr != @snat_exempt drop' in chain.rules


def test_what_is_not_translated_for_a_floating_ip_is_not_the_hosts_to_answer() -> None:
    """Such as an invalid packet; nothing else of the host's own traffic is touched."""
    table = compiled().tables[INET]

    assert set(table.sets["floating_ips"].elements) == {"91.208.23.11"}
    assert "ip daddr @floating_ips drop" in table.chains["input"].rules


def test_metadata_leads_to_the_hosts_proxy_where_there_is_one() -> None:
    """Instances reach it by 169.254.169.254 alone, others not at all; it knows who is who."""
    instance = replace(clouds.VM1, device_id="vm-1")
    snapshot = replace(clouds.ARTICLE, ports=(instance, clouds.VM2, clouds.VM3))
    config = replace(clouds.CONFIG, metadata=True)

    state, _ = compile_host(snapshot, config, clouds.FACTS)

    chains = state.tables[INET].chains
    asked = "ip daddr 169.254.169.254 tcp dport 80"
    assert chains["nat-metadata"].rules == (f"iifname @bridges {asked} redirect to :9697",)
    assert f"iifname @bridges {asked} accept" in chains["egress"].rules
    assert chains["input"].rules[-1] == "tcp dport 9697 drop"
    known = {n: t for n, t in state.dhcp["br100"].files.items() if n.startswith("instances/")}
    assert known == {"instances/10.0.0.3": '{"device_id": "vm-1", "project_id": "tenant1"}'}
    assert "9697" not in str(compiled().tables)


def test_host_routes_repeat_the_default_route() -> None:
    """A client that gets classless routes ignores the router option (RFC 3442)."""
    route = HostRoute(IPv4Network("172.20.0.0/16"), clouds.NET100.subnets[0].gateway)  # type: ignore[arg-type]
    subnet = replace(clouds.NET100.subnets[0], host_routes=(route,))
    network = replace(clouds.NET100, subnets=(subnet,))

    config = compiled(replace(clouds.ONE_PORT, networks=(network,))).dhcp["br100"].config

    assert "classless-static-route,172.20.0.0/16,10.0.0.1,0.0.0.0/0,10.0.0.1" in config


@pytest.mark.parametrize(
    ("facts", "subject", "words"),
    [
        (replace(clouds.FACTS, vlan_making=None), "network network100", "no VLAN devices"),
        (replace(clouds.FACTS, bridge_netfilter=False), "network network100", "br_netfilter"),
        (
            replace(clouds.FACTS, links=frozenset({"eth1"})),
            "network network100",
            "trunk eth0 does not exist",
        ),
        (
            replace(clouds.FACTS, links=clouds.FACTS.links | {"br100"}),
            "network network100",
            "a link br100 exists that is not Trunkline's",
        ),
        (
            replace(clouds.FACTS, foreign_prefixes=((IPv4Network("10.0.0.0/16"), "mgmt0"),)),
            "network network100",
            "overlaps 10.0.0.0/16 on mgmt0",
        ),
        (
            replace(clouds.FACTS, links=frozenset({"eth0"})),
            "uplink eth1",
            "does not exist",
        ),
    ],
)
def test_what_a_host_cannot_honour_is_left_out_and_named(
    facts: HostFacts, subject: str, words: str
) -> None:
    """The problem names the object and says what to do; nothing half-made is left in."""
    state, problems = compile_host(clouds.ARTICLE, clouds.CONFIG, facts)

    assert any(p.subject == subject and words in p.text for p in problems)
    assert ("br100" in state.bridges) == (subject == "uplink eth1")
    assert set(state.plugs) >= ({"tap00000001-aa"} if "br100" in state.bridges else set())


def test_two_networks_with_one_vlan_id_do_not_share_a_bridge() -> None:
    """The same VLAN id on two trunks: the second network is refused, not merged."""
    twin = replace(clouds.NET102, vlan_id=100)

    state, problems = compile_host(
        replace(clouds.ARTICLE, networks=(clouds.NET100, twin)), clouds.CONFIG, clouds.FACTS
    )

    assert [p.subject for p in problems] == ["network network102"]
    assert "tap00000003-aa" not in state.plugs


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule(RuleId("r"), Direction.EGRESS), ""),
        (
            clouds.allow("r", 6, "10.1.0.0/24", port_min=1, port_max=65535),
            "ip saddr 10.1.0.0/24 tcp dport 1-65535 ",
        ),
        (
            clouds.allow("r", 17, "10.1.0.7/32", port_min=53, port_max=53),
            "ip saddr 10.1.0.7 udp dport 53 ",
        ),
        (clouds.allow("r", 6, "0.0.0.0/0"), "meta l4proto tcp "),
        (clouds.allow("r", 1), "meta l4proto icmp "),
        (clouds.allow("r", 1, port_min=8), "icmp type 8 "),
        (clouds.allow("r", 1, port_min=3, port_max=1), "icmp type 3 icmp code 1 "),
        (clouds.allow("r", 89), "meta l4proto 89 "),
        (clouds.allow("r", None, remote_group_id=GroupId("g")), "ip saddr @members-g "),
        (
            Rule(
                RuleId("r"),
                Direction.EGRESS,
                protocol=6,
                port_min=80,
                port_max=80,
                remote_prefix=IPv4Network("10.1.0.0/24"),
            ),
            "ip daddr 10.1.0.0/24 tcp dport 80 ",
        ),
    ],
)
def test_rules_as_nft_text(rule: Rule, text: str) -> None:
    """Each form of a group rule becomes one nft rule that carries the API object's id."""
    assert rule_text(rule) == f'{text}accept comment "rule=r"'


def test_a_forwarded_port_is_an_element() -> None:
    """The address is on the uplink; only the ports named are translated, each to its own place."""
    before, after = compiled(), compiled(clouds.FORWARDING)

    table = after.tables[INET]
    assert table.chains == before.tables[INET].chains
    assert table.sets["forwarded"].elements == {
        "91.208.23.12 . 6 . 8080": "10.0.0.4 . 80",
        "91.208.23.12 . 17 . 5300": "10.0.0.3 . 53",
    }
    for name in ("fixed_by_floating", "floating_by_fixed"):
        assert table.sets[name] == before.tables[INET].sets[name]
    assert "91.208.23.12" in table.sets["floating_ips"].elements
    assert after.addresses - before.addresses == {Address("eth1", IPv4Interface("91.208.23.12/32"))}


def test_who_is_forwarded_to_may_reach_itself() -> None:
    """Its interface gets frames back, as with a floating IP of its own."""
    state = compiled(clouds.FORWARDING)

    assert {plug.tap for plug in state.plugs.values() if plug.hairpin} == {
        "tap00000001-aa",
        "tap00000002-aa",
    }
    assert len(state.tables[BRIDGE].sets["hairpins"].elements) == 2


def test_a_forwarding_to_another_host_is_a_problem() -> None:
    """It is left out, and named; the others of its floating IP work."""
    led = clouds.FORWARDED.forwardings
    split = replace(clouds.FORWARDED, forwardings=(replace(led[0], reached=False), led[1]))
    snapshot = replace(clouds.ARTICLE, floating_ips=(split,))

    state, (problem,) = compile_host(snapshot, clouds.CONFIG, clouds.FACTS)

    assert list(state.tables[INET].sets["forwarded"].elements) == ["91.208.23.12 . 17 . 5300"]
    assert problem.subject == "floating IP 91.208.23.12"
    assert "tcp 8080 leads to port 00000002-aa-port" in problem.text
