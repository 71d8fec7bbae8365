"""Walks of IPv6: neighbour discovery for ARP, advertisements for leases, no translation."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import article
import clouds
import pytest
from article import LEFT, RIGHT
from test_trace import hops

from trunkline.advice import advise
from trunkline.hoststate import HostFacts
from trunkline.model import HostName, PortId, link_local
from trunkline.ownership import gateway_mac
from trunkline.snapshot import HostSnapshot
from trunkline.trace.cloud import Cloud
from trunkline.trace.data import trace_in, trace_out
from trunkline.trace.draw import mermaid, svg
from trunkline.trace.live import Seen, Shot, first_step, frame_of, recognise, seen_in, seen_out
from trunkline.trace.packets import ICMPV6
from trunkline.trace.steps import Disposition, Header, Stage, Trace
from trunkline.trace.tell import story, terse
from trunkline.trace.walk import Flow, trace

VM_1, VM_2, VM_3 = clouds.DUAL1, clouds.DUAL2, clouds.DUAL3
VM_6 = clouds.dual(article.VM6, "2001:db8:102::66")
NAMES = {VM_1.id: "VM_1", VM_2.id: "VM_2", VM_3.id: "VM_3", VM_6.id: "VM_6"}
ADDRESS = {name: article.PORTS[name].id for name in ("VM_1", "VM_2", "VM_3", "VM_6")}
SIX, ADDRESS1 = "2001:db8:102::66", IPv6Address(clouds.SLAAC1)


def snapshots() -> tuple[HostSnapshot, HostSnapshot]:
    """Return two hosts of the article's cloud in both families; VM_6 is on the right one."""
    left = replace(clouds.DUAL, host=HostName(LEFT))
    right = replace(left, host=HostName(RIGHT), ports=(VM_6,), floating_ips=())
    subnets = ((replace(s, gateway=s.gateway + 4) for s in n.subnets) for n in right.networks)  # type: ignore[operator] - all have one
    networks = (replace(n, subnets=tuple(s)) for n, s in zip(right.networks, subnets, strict=True))
    return left, replace(right, networks=tuple(networks))


def cloud(*hosts: HostSnapshot, **more: object) -> Cloud:
    """Return the cloud of these hosts, or of both."""
    return replace(article.cloud(*(hosts or snapshots())), names=NAMES, **more)  # type: ignore[arg-type]


def ping(source: PortId, to: str, where: Cloud | None = None, **more: object) -> Trace:
    """Return the trace of a ping by IPv6."""
    return trace(where or cloud(), Flow(source, IPv6Address(to), **more))  # type: ignore[arg-type]


def test_neighbours_on_one_host() -> None:
    """A solicitation floods the VLAN, the advertisement comes back, then the echo is bridged."""
    found = ping(VM_1.id, str(VM_2.fixed_ips[1].address))

    assert found.disposition is Disposition.DELIVERED
    assert hops(found, "neighbour solicitation: who has 2001:db8:100:0:f816:3eff:fe00:2?") == [
        "VM_1: eth0",
        "compute1: tap(VM_1) br100 tap(VM_2) vlan100 eth0#100",
        "switch: compute1#100 compute2#100",
        "VM_2: eth0",
        "compute2: eth0#100 vlan100 br100",
    ]
    assert hops(found, "ICMPv6 echo request") == [
        "VM_1: eth0",
        "compute1: tap(VM_1) br100 tap(VM_2)",
        "VM_2: eth0",
    ]


def test_across_tenants_and_hosts() -> None:
    """By the link-local router of one's own host, with tag 102 out and tag 100 back."""
    found = ping(VM_1.id, SIX)

    assert found.disposition is Disposition.DELIVERED
    router = link_local(gateway_mac(HostName(LEFT), clouds.NET100.id))
    assert hops(found, f"neighbour solicitation: who has {router}?")[1].startswith("compute1: tap")
    assert hops(found, "ICMPv6 echo request")[1:4] == [
        "compute1: tap(VM_1) br100 br102 vlan102 eth0#102",
        "switch: compute1#102 compute2#102",
        "compute2: eth0#102 vlan102 br102 tap(VM_6)",
    ]
    assert hops(found, "ICMPv6 echo reply")[2] == "switch: compute2#100 compute1#100"
    assert not [c for s in found.steps for c in s.changes if not c.startswith("TTL")]
    allowed = [o.id for s in found.steps for d in s.decisions for o in d.objects]
    assert {"out6", "self6"} <= set(allowed)


def test_what_groups_say_of_ipv6() -> None:
    """Rules of the other family are no rules; the groups and what would help are named."""
    found = ping(VM_3.id, str(VM_2.fixed_ips[1].address), protocol=6, port=81)

    assert found.disposition is Disposition.DENIED_INGRESS
    assert {o.id for o in found.reasons[0].objects} == {clouds.GROUP1, VM_2.id}
    one = Flow(VM_3.id, IPv6Address(VM_2.fixed_ips[1].address), 6, 81)
    (advice,) = advise(cloud(), one)
    assert "--ethertype IPv6 --protocol tcp --dst-port 81" in advice.command
    assert "--remote-ip 2001:db8:102::33/128" in advice.command
    assert ping(VM_3.id, clouds.SLAAC1, protocol=6, port=80).disposition is Disposition.DELIVERED


def test_a_prefix_that_is_absent_and_the_outside() -> None:
    """Tenants' prefixes of elsewhere have no route here; what is outside is refused, or unknown."""
    absent = ping(VM_1.id, "2001:db8:104::4")
    assert absent.disposition is Disposition.NO_BRIDGE
    assert hops(absent, "ICMPv6 no route")[-1] == "VM_1: eth0"

    outside = ping(VM_1.id, "2001:4860::8888")
    assert outside.disposition is Disposition.NOT_FORWARDED
    assert hops(outside, "ICMPv6 prohibited")[-1] == "VM_1: eth0"
    assert not [s for s in outside.steps if s.node == "inet"]


def test_routed_out_by_the_uplink() -> None:
    """With ``route_ipv6`` it leaves as it is, and what becomes of it is not Trunkline's."""
    open_ = article.cloud(*snapshots(), route_ipv6=True)
    found = ping(VM_1.id, "2001:4860::8888", open_)

    assert found.disposition is Disposition.UNKNOWN
    assert "leaves by eth1 with its own source" in found.sentence
    inward = trace(open_, Flow(None, IPv6Address(SIX)))
    assert "how it comes to a host is the operator's routing" in inward.sentence


def test_a_spoofed_source() -> None:
    """An address that is not the port's does not pass its tap."""
    found = ping(VM_1.id, SIX, source_address=IPv6Address("2001:db8:100::99"))

    assert found.disposition is Disposition.SPOOFED
    assert found.reasons[0].stage is Stage.ANTI_SPOOFING


def test_an_instance_that_is_told_no_address() -> None:
    """Where DHCPv6 has no entry for it, it has no address to send from."""
    left, right = snapshots()
    where = cloud(left, right)
    state = where.hosts[1].state
    server = state.dhcp["br102"]
    mute = replace(server, files={k: v for k, v in server.files.items() if "hosts/" not in k})
    broken = replace(where.hosts[1], state=replace(state, dhcp={**state.dhcp, "br102": mute}))
    found = ping(VM_6.id, clouds.SLAAC1, replace(where, hosts=(where.hosts[0], broken)))

    assert found.disposition is Disposition.NO_LEASE
    assert "no IPv6 address" in found.sentence


def test_forwarding_off() -> None:
    """Where the kernel routes IPv6 on no link, it goes nowhere, and IPv4 all the same."""
    facts: HostFacts = replace(cloud().hosts[0].facts, ipv6_forwarding="forwarding")
    left = replace(cloud().hosts[0], facts=facts)
    off = {k: "0" for k in left.state.sysctls if k.startswith("net.ipv6.conf.br100.")}
    left = replace(left, state=replace(left.state, sysctls={**left.state.sysctls, **off}))
    found = ping(VM_1.id, SIX, replace(cloud(), hosts=(left, cloud().hosts[1])))

    assert found.disposition is Disposition.NO_ROUTE
    assert "forwarding is off on br100" in found.sentence


def test_a_bridge_answers_for_its_own_addresses_only() -> None:
    """Who asks on one network for the gateway of another is answered by nobody."""
    left = cloud().hosts[0]
    first, second = left.snapshot.networks[0].subnets
    subnets = (first, replace(second, cidr=IPv6Network("2001:db8::/32")))
    network = replace(left.snapshot.networks[0], subnets=subnets)
    wide = replace(left.snapshot, networks=(network, *left.snapshot.networks[1:]))
    hosts = (replace(left, snapshot=wide), cloud().hosts[1])
    found = ping(VM_1.id, "2001:db8:102::1", replace(cloud(), hosts=hosts))

    assert found.disposition is Disposition.NOBODY
    assert "nobody answers for 2001:db8:102::1" in found.sentence


def test_a_tag_that_the_switch_does_not_carry() -> None:
    """A solicitation that it loses is why nobody answers."""
    where = cloud(pruned={RIGHT: frozenset({102})})
    found = ping(VM_1.id, SIX, where)

    assert found.disposition is Disposition.NO_VLAN
    assert "does not carry tag 102" in found.sentence


@pytest.mark.parametrize("to", [SIX, "2001:db8:104::4", str(link_local(VM_2.mac))])
def test_all_forms(to: str) -> None:
    """Prose, terse, JSON and drawings know IPv6; neighbour discovery is in the prose only."""
    found = ping(VM_1.id, to)

    assert trace_in(trace_out(found)) == found
    assert "neighbour solicitation" in story(found, why=True)
    assert "neighbour" not in terse(found) + mermaid(found) + svg(found)


SHOTS = [Shot(bytes(range(16)), *what) for what in ((ICMPV6, None), (6, 80), (17, 53))]


def total(data: bytes) -> int:
    """Return the Internet checksum's sum of what has its checksum in it: all ones."""
    words = sum(int.from_bytes(data[n : n + 2].ljust(2, b"\0")) for n in range(0, len(data), 2))
    return words % 0xFFFF


@pytest.mark.parametrize("shot", SHOTS, ids=["icmpv6", "tcp", "udp"])
def test_a_live_packet_is_sent_and_known_again(shot: Shot) -> None:
    """Checksums hold, also that of addresses; request, answer and error are told apart."""
    step = first_step(ping(VM_1.id, SIX))
    assert step is not None
    frame = frame_of(shot, step, 120)
    head, body = frame[14:54], frame[54:]
    assert (frame[12:14].hex(), len(body)) == ("86dd", int.from_bytes(head[4:6]))
    assert total(head[8:40] + len(body).to_bytes(4) + shot.protocol.to_bytes(4) + body) == 0

    tagged = frame[:12] + bytes.fromhex("81000066") + frame[12:]
    for one, tag in ((frame, None), (tagged, 102)):
        seen = recognise(shot, "eth0", "out", None, one)
        assert seen == Seen("request", "eth0", "out", tag, Header(ADDRESS1, IPv6Address(SIX), 64))
        assert seen_in(seen_out(seen)) == seen
    quoting = bytes([1, 0]) + bytes(6) + head + body
    error = head[:6] + bytes([ICMPV6]) + head[7:] + quoting
    told = recognise(shot, "br100", "out", None, frame[:14] + error)
    assert told is not None
    assert told.part == "error"
    assert recognise(replace(shot, nonce=bytes(16)), "eth0", "out", None, frame) is None
    assert recognise(shot, "eth0", "out", None, frame[:50]) is None


def test_every_pair_has_an_answer() -> None:
    """Whoever asks whom, by whichever protocol, the tracer understands every rule on the way."""
    where = cloud()
    targets = [a for p in (VM_1, VM_2, VM_3, VM_6) for a in (p.fixed_ips[1].address,)]
    targets += [link_local(VM_1.mac), IPv6Address("2001:db8:102::1"), IPv6Network("fe80::/64")[9]]
    for port in (VM_1, VM_2, VM_3, VM_6):
        for to in targets:
            for protocol, number in ((58, None), (6, 80), (17, 53)):
                found = trace(where, Flow(port.id, to, protocol, number))
                assert "the tracer" not in found.sentence, (port.id, to, found.sentence)
