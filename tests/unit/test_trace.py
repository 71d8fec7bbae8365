"""The article's walks fall out of the tracer, and so do all the ways in which a flow fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import article
import clouds
import pytest
from article import LEFT, PORTS, RIGHT, boot, ping, snapshots

from trunkline.hoststate import Chain, HostState
from trunkline.model import GatewayMode, SubnetId
from trunkline.snapshot import HostSnapshot
from trunkline.trace.cloud import Cloud, Internet
from trunkline.trace.steps import Disposition, Stage, Step, Trace
from trunkline.trace.walk import Flow, trace

INET, BRIDGE = ("inet", "trunkline"), ("bridge", "trunkline")
TCP = {"protocol": 6, "port": 80}


def hops(found: Trace, packet: str) -> list[str]:
    """Return one packet's hops: the node, and the devices with their tags."""
    return [_hop(step) for step in found.steps if step.packet.startswith(packet)]


def _hop(step: Step) -> str:
    path = " ".join(f"{s.label}{'' if s.tag is None else f'#{s.tag}'}" for s in step.path)
    return f"{step.node}: {path}"


def rules(change: Callable[[str, tuple[str, ...]], tuple[str, ...]], chain: str) -> article.Change:
    """Return a fault: a chain of the inet table with other rules."""

    def plant(state: HostState) -> HostState:
        table = state.tables[INET]
        one = table.chains[chain]
        chains = {**table.chains, chain: Chain(one.name, change(chain, one.rules), one.hook)}
        return replace(state, tables={**state.tables, INET: replace(table, chains=chains)})

    return plant


def test_walk_1() -> None:
    """The DISCOVER floods the VLAN; only the instance's own host offers, with its own router."""
    cloud = article.cloud()
    here, there = boot(cloud, "VM_1"), boot(cloud, "VM_4")

    assert hops(here, "DHCPDISCOVER") == [
        "VM_1: eth0",
        "compute1: tap(VM_1) br100 tap(VM_2) vlan100 eth0#100",
        "switch: compute1#100 compute2#100",
        "VM_2: eth0",
        "compute2: eth0#100 vlan100 br100 tap(VM_4) tap(VM_5)",
        "VM_4: eth0",
        "VM_5: eth0",
    ]
    assert hops(here, "DHCPOFFER: 10.0.0.3, router 10.0.0.1, server 10.0.0.1") == [
        "compute1: br100 tap(VM_1)",
        "VM_1: eth0",
    ]
    assert there.sentence == (
        "VM_4 is offered 10.0.0.6, router 10.0.0.5, server 10.0.0.5, by compute2 and nobody else."
    )
    silent = [d for s in here.steps for d in s.decisions if "stays silent" in d.text]
    assert len(silent) == 1


def test_walk_2() -> None:
    """To the Internet: by the default route, from the routing source, and translated back."""
    found = ping(article.cloud(*snapshots(floating=False)), "VM_1", "8.8.8.8")

    assert found.disposition is Disposition.DELIVERED
    request, reply = (s for s in found.steps if s.node == LEFT and s.part in ("request", "reply"))
    assert request.changes == ("TTL 64 -> 63", "source 10.0.0.3 -> 91.207.15.105")
    assert reply.changes == ("TTL 64 -> 63", "destination 91.207.15.105 -> 10.0.0.3")
    assert "on compute2" not in found.sentence
    assert hops(found, "ICMP echo request") == [
        "VM_1: eth0",
        "compute1: tap(VM_1) br100 eth1",
        "inet: compute1 br-ext",
    ]


def test_walk_3() -> None:
    """Same tenant, same host: bridged; the ARP broadcast is heard on the other host too."""
    found = ping(article.cloud(), "VM_1", "VM_2")

    assert hops(found, "ICMP echo") == [
        "VM_1: eth0",
        "compute1: tap(VM_1) br100 tap(VM_2)",
        "VM_2: eth0",
        "VM_2: eth0",
        "compute1: tap(VM_2) br100 tap(VM_1)",
        "VM_1: eth0",
    ]
    assert {"VM_4: eth0", "VM_5: eth0"} < set(hops(found, "ARP request: who has 10.0.0.4"))


def test_walk_4() -> None:
    """Same tenant, other host: with tag 100 on the trunk, back by the same path."""
    found = ping(article.cloud(), "VM_1", "VM_5")

    there = hops(found, "ICMP echo request")
    assert there == [
        "VM_1: eth0",
        "compute1: tap(VM_1) br100 vlan100 eth0#100",
        "switch: compute1#100 compute2#100",
        "compute2: eth0#100 vlan100 br100 tap(VM_5)",
        "VM_5: eth0",
    ]
    back = [step.node for step in found.steps if step.packet == "ICMP echo reply"]
    assert back == [hop.partition(":")[0] for hop in there][::-1]


def test_walk_5() -> None:
    """Other tenant, same host: routed between the bridges, nothing on the trunk but ARP."""
    found = ping(article.cloud(), "VM_1", "VM_3")

    assert hops(found, "ICMP echo request") == [
        "VM_1: eth0",
        "compute1: tap(VM_1) br100 br102 tap(VM_3)",
        "VM_3: eth0",
    ]
    routed = [d for s in found.steps for d in s.decisions if d.stage is Stage.ROUTE]
    assert routed[0].kernel == "10.1.0.0/24 dev br102"
    assert routed[0].objects[0].id == "network102"
    assert [lost.rule for lost in routed[0].passed_over] == ["default dev eth1"]


def test_walk_6() -> None:
    """Other tenant, other host: out with tag 102, back with tag 100."""
    found = ping(article.cloud(), "VM_1", "VM_6", **TCP)

    assert hops(found, "TCP SYN")[2] == "switch: compute1#102 compute2#102"
    assert hops(found, "TCP SYN-ACK") == [
        "VM_6: eth0",
        "compute2: tap(VM_6) br102 br100 vlan100 eth0#100",
        "switch: compute2#100 compute1#100",
        "compute1: eth0#100 vlan100 br100 tap(VM_1)",
        "VM_1: eth0",
    ]
    assert len(hops(found, "TCP ACK")) == 5


def test_walk_6_with_anycast() -> None:
    """The host asks on the trunk by its own MAC and for nobody, and gets the answer."""
    hosts = (
        replace(
            one,
            networks=tuple(replace(n, gateway_mode=GatewayMode.ANYCAST) for n in one.networks),
        )
        for one in snapshots()
    )
    found = ping(article.cloud(*hosts), "VM_1", "VM_6")

    assert found.disposition is Disposition.DELIVERED
    assert hops(found, "ARP request: who has 10.0.0.1?") == [
        "VM_1: eth0",
        "compute1: tap(VM_1) br100 tap(VM_2)",
        "VM_2: eth0",
    ]
    assert hops(found, "ARP request: who has 10.1.0.4? tell 0.0.0.0") == [
        "compute1: vlan102 eth0#102",
        "switch: compute1#102 compute2#102",
        "compute2: eth0#102 vlan102 br102 tap(VM_6)",
        "VM_6: eth0",
    ]
    reply = [s for s in found.steps if s.packet == "ARP reply to 0.0.0.0: 10.1.0.4 is here"]
    assert reply[0].receiver == "compute1's br102"
    assert reply[-1].node == "compute1"


def test_walk_6b_leaks_without_the_guard() -> None:
    """Without br102 the packet follows the default route, and only the provider refuses it."""
    cloud = article.cloud(*snapshots(without=["VM_3"], floating=False), guard=False)
    found = ping(cloud, "VM_1", "VM_6")

    assert found.disposition is Disposition.LEAKED
    assert hops(found, "ICMP host unreachable") == [
        "inet: br-ext compute1",
        "compute1: eth1 br100 tap(VM_1)",
        "VM_1: eth0",
    ]


def test_walk_6b_is_answered_by_the_guard() -> None:
    """With the guard the host answers at once, and nothing leaves."""
    found = ping(article.cloud(*snapshots(without=["VM_3"])), "VM_1", "VM_6")

    assert found.disposition is Disposition.NO_BRIDGE
    assert "on compute1, there is no bridge for network net102" in found.sentence
    assert hops(found, "ICMP host unreachable") == ["compute1: br100 tap(VM_1)", "VM_1: eth0"]
    assert not [step for step in found.steps if step.node == "inet"]
    refused = next(s for s in found.steps if s.node == LEFT and s.part == "request")
    assert refused.changes == ()  # what no device shows is no change that a capture could see


POOL = (*article.RULES[0], article.POOL1), (*article.RULES[1], article.POOL1)


def test_walk_7() -> None:
    """By floating IPs: translated once on either host, and back by connection tracking alone."""
    cloud = article.cloud(*snapshots(without=["VM_3"], rules=POOL))
    found = ping(cloud, "VM_1", "91.208.23.16")

    assert found.disposition is Disposition.DELIVERED
    changes = [
        c
        for s in found.steps
        for c in s.changes
        if s.part in ("request", "reply") and not c.startswith("TTL")
    ]
    assert changes == [
        "source 10.0.0.3 -> 91.208.23.11",
        "destination 91.208.23.16 -> 10.1.0.4",
        "source 10.1.0.4 -> 91.208.23.16",
        "destination 91.208.23.11 -> 10.0.0.3",
    ]
    translated = [o for s in found.steps for d in s.decisions for o in d.objects]
    assert {"float1", "float6"} <= {o.id for o in translated if o.kind == "floating IP"}


def test_a_floating_ip_of_ones_own() -> None:
    """To one's own floating IP the frame turns round on its bridge, translated both ways."""
    found = ping(article.cloud(*snapshots(rules=POOL)), "VM_1", "91.208.23.11")

    assert found.disposition is Disposition.DELIVERED
    assert hops(found, "ICMP echo request") == [
        "VM_1: eth0",
        "compute1: tap(VM_1) br100 br100 tap(VM_1)",
        "VM_1: eth0",
    ]


def test_a_denied_flow_names_the_groups_and_what_lost() -> None:
    """A floating source is not of the fixed prefix: the rules that it failed at are listed."""
    found = ping(article.cloud(), "VM_1", "91.208.23.16")

    assert found.disposition is Disposition.DENIED_INGRESS
    assert found.sentence == (
        "VM_1 does not reach VM_6 at 91.208.23.16 by icmp:"
        " on compute2, no rule of group default lets it in."
    )
    lost = [(lost.rule, lost.failed) for lost in found.reasons[0].passed_over]
    assert lost[0][1] == "ip saddr 10.0.0.0/24"
    assert 'comment "rule=icmp2"' in lost[0][0]


def test_an_allowed_flow_names_the_rules() -> None:
    """Each end's verdict names the API's rule behind it."""
    found = ping(article.cloud(), "VM_1", "VM_3")

    named = {(d.stage, o.id) for s in found.steps for d in s.decisions for o in d.objects}
    assert (Stage.EGRESS, "1111aaaa-group-out") in named
    assert (Stage.INGRESS, "icmp2") in named


def test_egress_is_denied() -> None:
    """Without an egress rule the packet ends on its own host, before any routing."""
    left, right = snapshots()
    closed = tuple(replace(g, rules=g.rules[1:]) for g in left.groups)
    found = ping(article.cloud(replace(left, groups=closed), right), "VM_1", "8.8.8.8")

    assert found.disposition is Disposition.DENIED_EGRESS
    assert hops(found, "ICMP echo request") == ["VM_1: eth0", "compute1: tap(VM_1)"]


def test_from_the_internet() -> None:
    """From outside: a floating IP's group decides; a fixed IP is out of reach."""
    anybody = (*article.RULES[0], clouds.allow("web", 6, None, port_min=80, port_max=80))
    cloud = article.cloud(*snapshots(rules=(anybody, article.RULES[1])))
    public = IPv4Address("91.208.23.11")

    assert trace(cloud, Flow(None, public, 6, 80)).disposition is Disposition.DELIVERED
    assert trace(cloud, Flow(None, public, 6, 22)).disposition is Disposition.DENIED_INGRESS
    assert (
        trace(cloud, Flow(None, IPv4Address("10.0.0.3"), 6, 80)).disposition is Disposition.NOBODY
    )


def test_a_spoofed_source() -> None:
    """Another's address from one's own port ends at the bridge."""
    found = ping(article.cloud(), "VM_1", "VM_2", source_address=IPv4Address("10.0.0.9"))

    assert found.disposition is Disposition.SPOOFED
    assert found.reasons[0].objects[0].id == PORTS["VM_1"].id


def test_no_lease() -> None:
    """An instance that its host's DHCP server does not know has no address to send from."""
    strip = lambda state: replace(  # noqa: E731 - a fault in one line
        state, dhcp={b: replace(server, files={}) for b, server in state.dhcp.items()}
    )
    cloud = article.cloud(change={LEFT: strip})

    assert boot(cloud, "VM_1").disposition is Disposition.NO_LEASE
    assert ping(cloud, "VM_1", "VM_2").disposition is Disposition.NO_LEASE


def test_unplugged() -> None:
    """A port that is administratively down, or whose interface is missing, sends nothing."""
    left, right = snapshots()
    down = tuple(replace(p, admin_up=p.id != PORTS["VM_1"].id) for p in left.ports)
    cloud = article.cloud(replace(left, ports=down), right)
    missing = replace(article.cloud(), unplugged=frozenset({PORTS["VM_2"].id}))

    assert ping(cloud, "VM_1", "VM_2").disposition is Disposition.UNPLUGGED
    assert "administratively down" in ping(cloud, "VM_1", "VM_2").sentence
    assert ping(missing, "VM_1", "VM_2").disposition is Disposition.NOBODY


def test_too_big() -> None:
    """A packet that fits the sender's network and not the receiver's is refused by the host."""
    left, right = snapshots()
    small = [
        replace(s, networks=(s.networks[0], replace(s.networks[1], mtu=1400)))
        for s in (left, right)
    ]
    found = ping(article.cloud(*small), "VM_1", "VM_3", size=1450)

    assert found.disposition is Disposition.MTU
    assert hops(found, "ICMP fragmentation needed") == ["compute1: br100 tap(VM_1)", "VM_1: eth0"]
    assert ping(article.cloud(*small), "VM_1", "VM_2", size=1501).disposition is Disposition.MTU


def test_a_bridge_hidden_from_connection_tracking() -> None:
    """With nf_call_iptables off on br100, the left host never sees the SYN-ACK: one way only."""

    def hide(state: HostState) -> HostState:
        bridge = replace(state.bridges["br100"], nf_call_iptables=False)
        return replace(state, bridges={**state.bridges, "br100": bridge})

    found = ping(article.cloud(change={LEFT: hide}), "VM_1", "VM_6", **TCP)

    assert found.disposition is Disposition.ONE_WAY
    assert "on compute1, it belongs to no connection" in found.sentence


@pytest.mark.parametrize(
    ("host", "chain", "change", "to", "disposition"),
    [
        (LEFT, "nat-postrouting", lambda *_: (), "8.8.8.8", Disposition.NOT_TRANSLATED),
        (RIGHT, "nat-prerouting", lambda *_: (), "91.208.23.16", Disposition.NOT_TRANSLATED),
        (LEFT, "forward", lambda *_: ("drop",), "VM_3", Disposition.NOT_FORWARDED),
        (LEFT, "to-host", lambda *_: ("drop",), "10.0.0.1", Disposition.CLOSED_HOST),
    ],
)
def test_planted_faults_in_rules(
    host: str,
    chain: str,
    change: Callable[[str, tuple[str, ...]], tuple[str, ...]],
    to: str,
    disposition: Disposition,
) -> None:
    """A rule that is missing or too much is what the walk meets: it reads the state itself."""
    cloud = article.cloud(change={host: rules(change, chain)})

    assert ping(cloud, "VM_1", to).disposition is disposition


@pytest.mark.parametrize(
    ("plant", "disposition"),
    [
        (lambda s: replace(s, vlans={}), Disposition.NOBODY),
        (
            lambda s: replace(s, sysctls=dict.fromkeys(s.sysctls, "0")),
            Disposition.ONE_WAY,
        ),
    ],
)
def test_planted_faults_in_links(plant: article.Change, disposition: Disposition) -> None:
    """A VLAN device that is missing, forwarding that is off: on the far host."""
    cloud = article.cloud(change={RIGHT: plant})

    assert ping(cloud, "VM_1", "VM_6").disposition is disposition


def test_a_tag_that_the_switch_does_not_carry() -> None:
    """What a probe of the switch found out is believed."""
    cloud = replace(article.cloud(), pruned={RIGHT: frozenset({102})})

    found = ping(cloud, "VM_1", "VM_6")
    assert found.disposition is Disposition.NO_VLAN
    assert "nobody on br102 answers for 10.1.0.4: the switch does not carry" in found.sentence
    assert "switch: compute1#102" in hops(found, "ARP request")
    assert ping(cloud, "VM_1", "VM_5").disposition is Disposition.DELIVERED


def test_what_is_not_understood_is_unknown() -> None:
    """A rule beyond the grammar makes the answer UNKNOWN, with the rule's text: never 'fine'."""
    strange = rules(lambda _, lines: ("meta mark 0x17 accept", *lines), "forward")
    found = ping(article.cloud(change={LEFT: strange}), "VM_1", "VM_3")

    assert found.disposition is Disposition.UNKNOWN
    assert "rule 'meta mark 0x17 accept'" in found.sentence


def test_assumptions_and_revisions() -> None:
    """An answer says at which revisions it holds and what it takes for granted."""
    cloud = replace(article.cloud(*snapshots(floating=False)), internet=Internet())
    found = ping(cloud, "VM_1", "1.1.1.1")

    assert found.disposition is Disposition.DELIVERED
    assert found.revisions == {LEFT: 3, RIGHT: 3}
    assert any("default route" in text for text in found.assumptions)
    assert not [step for step in found.steps if step.node == "Internet" and step.part == "arp"]


def test_two_physical_networks() -> None:
    """Hosts whose trunks are on different switches have no segment in common."""

    def elsewhere(cloud: Cloud) -> Cloud:
        left, right = cloud.hosts
        config = replace(right.config, trunks={"physnet2": "eth0"})
        return replace(cloud, hosts=(left, replace(right, config=config)))

    found = ping(elsewhere(article.cloud()), "VM_1", "VM_5")

    assert found.disposition is Disposition.NOBODY
    assert {s.node for s in found.steps if s.node_role == "switch"} == {"switch physnet1"}


def test_same_cloud_same_trace() -> None:
    """The tracer is a function: asked twice it says the same."""
    prefix = IPv4Network("10.1.0.0/24")
    assert ping(article.cloud(), "VM_1", str(prefix[4])) == ping(article.cloud(), "VM_1", "VM_6")


def test_on_a_crowded_host() -> None:
    """Whom nobody asks about is left out of floods, and that is said; ends never are."""
    crowd = frozenset(port.id for name, port in PORTS.items() if name != "VM_1")
    found = ping(replace(article.cloud(), left_out=crowd), "VM_1", "VM_5")

    assert found.disposition is Disposition.DELIVERED
    assert {s.node for s in found.steps if s.node_role == "instance"} == {"VM_1", "VM_5"}
    assert "5 other instances hear broadcasts, and are silent" in found.assumptions


@pytest.mark.parametrize("left", clouds.STATES.values(), ids=clouds.STATES)
def test_every_flow_of_every_cloud_has_an_answer(left: HostSnapshot) -> None:
    """The tracer is total: any flow in any of the named clouds ends in a disposition it knows."""
    right = snapshots()[1]
    cloud = article.cloud(left, right)
    ends = [None, *cloud.seats]
    addresses = [f.address for _, p in cloud.seats.values() for f in p.fixed_ips]
    addresses += [IPv4Address("8.8.8.8"), IPv4Address("91.208.23.11"), IPv4Address("10.0.0.1")]

    for source in ends:
        for address in addresses:
            for service in ({}, {"protocol": 6, "port": 22}, {"protocol": 17, "port": 53}):
                found = trace(cloud, Flow(source, address, **service))
                assert found.disposition in Disposition
                assert found.sentence.endswith(".")
                assert found.reasons


def test_to_oneself() -> None:
    """A packet to one's own fixed IP never leaves the instance."""
    found = ping(article.cloud(), "VM_1", "VM_1", **TCP)

    assert found.disposition is Disposition.DELIVERED
    assert {_hop(step) for step in found.steps} == {"VM_1: lo"}


def test_what_only_the_operator_knows() -> None:
    """The host's own services, and prefixes that are exempt from translation: UNKNOWN, said so."""
    for address in ("91.207.15.105", "172.16.0.9"):
        found = ping(article.cloud(), "VM_6", address)

        assert found.disposition is Disposition.UNKNOWN
        assert found.sentence.startswith(f"Whether VM_6 reaches {address}")


def test_no_way_back_out_of_a_port() -> None:
    """Without hairpin an instance cannot reach itself by a floating IP, and the bridge is named."""
    left = replace(clouds.FLOAT_MOVED, groups=snapshots(rules=POOL)[0].groups)
    found = ping(article.cloud(left, snapshots()[1]), "VM_2", "91.208.23.11")

    assert found.disposition is Disposition.NOT_FORWARDED
    assert "br100 sends nothing back out of tap00000002-aa" in found.sentence


def test_a_bridge_answers_for_its_own_address_only() -> None:
    """An address of another bridge, asked for on the wrong segment, is nobody's (arp_ignore)."""
    left, right = snapshots()
    wide = replace(left.networks[0].subnets[0], cidr=IPv4Network("10.0.0.0/15"))
    networks = (replace(left.networks[0], subnets=(wide,)), left.networks[1])
    found = ping(article.cloud(replace(left, networks=networks), right), "VM_1", "10.1.0.1")

    assert found.disposition is Disposition.NOBODY


def test_the_second_subnet_has_its_own_router() -> None:
    """Of a network with two subnets an instance gets the router of its own."""
    left, right = snapshots()
    first = left.networks[0].subnets[0]
    second = replace(
        first,
        id=SubnetId("another"),
        cidr=IPv4Network("10.7.0.0/24"),
        gateway=IPv4Address("10.7.0.1"),
    )
    networks = (replace(left.networks[0], subnets=(second, first)), left.networks[1])
    found = boot(article.cloud(replace(left, networks=networks), right), "VM_1")

    assert "offered 10.0.0.3, router 10.0.0.1, server 10.0.0.1" in found.sentence


FORWARDED = IPv4Address("91.208.23.12")


def forwarding() -> Cloud:
    """Return the article's cloud with a floating IP whose ports are forwarded on the left."""
    anybody = (*article.RULES[0], clouds.allow("web", 6, None, port_min=80, port_max=80))
    left, right = snapshots(rules=(anybody, article.RULES[1]))
    return article.cloud(replace(left, floating_ips=(clouds.FLOAT1, clouds.FORWARDED)), right)


def test_a_forwarded_port() -> None:
    """The port changes with the address, and back; groups judge the one that it leads to."""
    found = trace(forwarding(), Flow(None, FORWARDED, 6, 8080))

    assert found.disposition is Disposition.DELIVERED
    assert found.sentence == (
        "The Internet reaches VM_2 at 91.208.23.12 by tcp 8080, and the answer comes back."
    )
    texts = [d.text for s in found.steps for d in s.decisions]
    assert (
        "destination becomes 10.0.0.4 port 80: floating IP 91.208.23.12 forwards tcp 8080" in texts
    )
    assert "connection tracking makes the source 91.208.23.12" in texts
    objects = {o.id for s in found.steps for d in s.decisions for o in d.objects}
    assert {"float2", "web"} <= objects


def test_a_port_that_is_not_forwarded() -> None:
    """Another port, and the same of another protocol, lead nowhere."""
    cloud = forwarding()

    for flow in (Flow(None, FORWARDED, 6, 80), Flow(None, FORWARDED, 17, 8080)):
        found = trace(cloud, flow)
        assert found.disposition is Disposition.NOT_TRANSLATED
        assert "VM_2" not in found.sentence
        assert "floating IP 91.208.23.12 is not translated" in found.sentence


def test_a_forwarded_port_from_the_same_host_and_from_oneself() -> None:
    """It turns round on the bridge, and the receiver sees a public face."""
    left, right = snapshots(rules=POOL)
    opened = clouds.allow("all", None, None)
    left = replace(left, groups=tuple(replace(g, rules=(*g.rules, opened)) for g in left.groups))
    cloud = article.cloud(replace(left, floating_ips=(clouds.FLOAT1, clouds.FORWARDED)), right)

    for sender in ("VM_1", "VM_2"):
        found = trace(cloud, Flow(PORTS[sender].id, FORWARDED, 6, 8080))
        assert found.disposition is Disposition.DELIVERED
        assert not [s for s in found.steps if s.node == "inet" and s.part == "request"]
