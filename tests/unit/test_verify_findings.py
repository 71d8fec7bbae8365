"""What is found in a cloud, and what a plan changes: against single flows, one by one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address
from itertools import product
from random import Random

import clouds
from hypothesis import given, settings
from hypothesis import strategies as st
from random_clouds import SEEDS, Maker, is_possible, pairs, random_cloud

from trunkline.model import AddressPair, HostRoute, RuleId
from trunkline.trace.reach import reach
from trunkline.trace.reach_policy import rules_of_version
from trunkline.trace.reach_public import outside_of
from trunkline.trace.verify_cloud import Cloud, HostSettings, gather
from trunkline.trace.verify_data import changed, cloud_in, cloud_out
from trunkline.trace.verify_diff import describe, differences
from trunkline.trace.verify_findings import (
    ACROSS,
    ONE_WAY,
    PLACEMENT,
    covers,
    not_covered,
    pair_findings,
    rule_findings,
)
from trunkline.trace.verify_flow import Verdict, from_internet, to_floating, to_internet, to_port
from trunkline.trace.verify_services import services

ARRIVES = {Verdict.ANSWERED, Verdict.ONE_WAY}


def test_forwarded_ports_are_not_judged_and_not_the_internet() -> None:
    """The report says so; the floating IP is nobody's as a whole, and no part of the Internet."""
    cloud = gather([clouds.FORWARDING], {})
    plain = gather([clouds.ARTICLE], {})
    address = IPv4Address("91.208.23.12")

    assert cloud.floating == plain.floating
    assert not_covered(cloud) == [
        *not_covered(plain),
        "floating IP 91.208.23.12: where its port forwardings lead is not judged",
    ]
    only = [clouds.allow("one", 6, "91.208.23.12/32")]
    named = replace(clouds.FORWARDING, groups=(clouds.group(clouds.GROUP1, *only), clouds.OPEN2))
    assert address not in outside_of(gather([named], {}))
    assert address in outside_of(gather([replace(named, floating_ips=())], {}))


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_pairs_found_are_those_that_single_flows_show(seed: int) -> None:
    """Flows across projects, one-way and stranded ones are all found, with a true witness."""
    cloud = random_cloud(Random(seed))
    found = reach(cloud)
    want: dict[str, int] = {ACROSS: 0, ONE_WAY: 0, PLACEMENT: 0}
    for (a, b), service in product(pairs(found.classes.ends), found.services):
        verdict = to_port(cloud, a, b, service).verdict
        across = a.seat.port.project_id != b.seat.port.project_id
        want[ACROSS] += verdict in ARRIVES and across
        want[ONE_WAY] += verdict == Verdict.ONE_WAY
        want[PLACEMENT] += verdict != Verdict.ANSWERED and is_possible(cloud, a, b, service)
    findings = pair_findings(found)
    assert {kind: sum(f.flows for f in findings if f.kind == kind) for kind in want} == want
    for finding in findings:
        assert finding.witness is not None
        assert is_shown(cloud, finding.kind, finding.witness)


def is_shown(cloud: Cloud, kind: str, witness) -> bool:  # noqa: ANN001 - its type is long
    """Return whether a witness is an example of what it is said to be one of."""
    a, b, service = witness.source, witness.target, witness.service
    verdict = to_port(cloud, a, b, service).verdict
    assert witness.ruling.verdict == verdict
    if kind == ACROSS:
        return verdict in ARRIVES and a.seat.port.project_id != b.seat.port.project_id
    if kind == ONE_WAY:
        return verdict == Verdict.ONE_WAY
    return verdict != Verdict.ANSWERED and is_possible(cloud, a, b, service)


@settings(max_examples=250, deadline=None)
@given(SEEDS)
def test_a_rule_without_effect_can_go(seed: int) -> None:
    """Taking a rule away that is said to have no effect opens and closes nothing."""
    cloud = random_cloud(Random(seed))
    for finding in rule_findings(cloud)[:2]:
        rules = tuple(r for r in finding.group.rules if r.id != finding.rule.id)
        groups = {**cloud.groups, finding.group.id: replace(finding.group, rules=rules)}
        assert not list(differences(cloud, replace(cloud, groups=groups)))


@settings(max_examples=250, deadline=None)
@given(SEEDS, st.integers(0, 4))
def test_differences_are_those_that_single_flows_show(seed: int, kind: int) -> None:
    """What a change opens and closes is what judging every flow before and after says."""
    random = Random(seed)
    before = random_cloud(random)
    after = change(before, kind, random)
    found = {(d.opened, d.source, d.target, str(d.service)) for d in differences(before, after)}
    assert found == by_judging_all(before, after)


def change(cloud: Cloud, kind: int, random: Random) -> Cloud:
    """Return a cloud in which one thing is another."""
    if kind == 0 and cloud.groups:
        group = random.choice(list(cloud.groups.values()))
        fewer = replace(group, rules=group.rules[1:])
        return replace(cloud, groups={**cloud.groups, group.id: fewer})
    if kind == 1 and cloud.groups:
        group = random.choice(list(cloud.groups.values()))
        extra = replace(Maker(random).rule(), id=RuleId("new"))
        more = replace(group, rules=(*group.rules, extra))
        return replace(cloud, groups={**cloud.groups, group.id: more})
    if kind == 2:
        gone = random.choice(cloud.ends).seat.port.id
        floating = tuple(f for f in cloud.floating if f.end.seat.port.id != gone)
        ends = tuple(e for e in cloud.ends if e.seat.port.id != gone)
        return replace(cloud, ends=ends, floating=floating)
    if kind == 3:
        host = random.choice(list(cloud.hosts.values()))
        routes = frozenset(sorted(host.routes)[1:])
        other = replace(host, routes=routes, settings=replace(host.settings, uplink=False))
        return replace(cloud, hosts={**cloud.hosts, host.name: other})
    faces = {key: face for key, face in cloud.faces.items() if random.random() < 0.5}
    kept = tuple(f for f in cloud.floating if (f.end.seat.port.id, f.end.address) in faces)
    return replace(cloud, floating=kept, faces=faces)


def by_judging_all(before: Cloud, after: Cloud) -> set[tuple[bool, str, str, str]]:
    """Return the differences, found flow by flow."""
    found = set()
    for version in (4, 6):
        kinds = services([*rules_of_version(before, version), *rules_of_version(after, version)])
        outside = outside_of(before, after) if version == 4 else ()
        old, new = (passing(cloud, version, kinds, outside) for cloud in (before, after))
        found |= {(flow in new, *flow) for flow in old ^ new}
    return found


def passing(cloud: Cloud, version: int, kinds, outside) -> set[tuple[str, str, str]]:  # noqa: ANN001
    """Return all flows that are answered, as people are told of them."""
    ends = [(describe(e), e) for e in cloud.ends if e.address.version == version]
    floats = [(f"floating IP {f.address}", f) for f in cloud.floating if version == 4]
    internet = [(f"the Internet ({x} and alike)", x) for x in outside]
    flows = (
        (to_port, ((a, b) for a, b in product(ends, ends) if a[1].seat != b[1].seat)),
        (to_floating, product(ends, floats)),
        (to_internet, product(ends, internet)),
        (from_internet, product(internet, floats)),
    )
    return {
        (source, target, str(service))
        for judge, both in flows
        for ((source, a), (target, b)), service in product(both, kinds)
        if judge(cloud, a, b, service).verdict == Verdict.ANSWERED
    }


def test_a_rule_that_another_one_covers() -> None:
    """Wider peers and wider services cover narrower ones, and not the other way round."""
    wide = clouds.allow("wide", 6, "10.0.0.0/8", port_min=1, port_max=1000)
    narrow = clouds.allow("narrow", 6, "10.1.0.0/24", port_min=80, port_max=80)
    low = clouds.allow("low", 6, "10.0.0.0/8", port_min=1, port_max=79)
    other = clouds.allow("other", 17, "10.1.0.0/24", port_min=80, port_max=80)
    anything = clouds.allow("anything", None)
    assert covers(wide, narrow)
    assert not covers(narrow, wide)
    assert not covers(low, narrow)
    assert not covers(wide, other)
    assert covers(anything, other)


def test_the_article_without_the_right_bridge() -> None:
    """Scenario 6b is found as depending on placement, and VM_3's flows across tenants are found."""
    right = replace(
        clouds.ARTICLE,
        host="compute2",  # type: ignore[arg-type]
        networks=(clouds.NET102,),
        ports=(clouds.port(6, 102, "10.1.0.4", clouds.GROUP2),),
        floating_ips=(),
    )
    left = replace(
        clouds.ARTICLE, networks=(clouds.NET100,), ports=(clouds.VM1, clouds.VM2), floating_ips=()
    )
    settings = HostSettings(source=IPv4Address("91.207.15.105"))
    kinds = {
        (f.kind, f.source, f.target)
        for f in pair_findings(reach(gather([left, right], {"compute1": settings})))  # type: ignore[dict-item]
    }
    assert kinds == {
        (PLACEMENT, "network100", "network102"),
        (PLACEMENT, "network102", "network100"),
    }


def test_what_is_not_judged_is_said() -> None:
    """A silent host, a subnet that hands out routes and a port with address pairs are named."""
    route = HostRoute(IPv4Network("172.16.0.0/16"), IPv4Address("10.0.0.9"))
    subnet = replace(clouds.NET100.subnets[0], host_routes=(route,))
    paired = replace(clouds.VM1, pairs=(AddressPair(clouds.VM1.mac, IPv4Network("10.0.0.9/32")),))
    snapshot = replace(
        clouds.ONE_PORT, networks=(replace(clouds.NET100, subnets=(subnet,)),), ports=(paired,)
    )
    odd = HostSettings(exempt=(IPv4Network("172.16.0.0/12"),), told=False)
    cloud = gather([snapshot], {snapshot.host: odd})
    assert [sentence.split(":")[0] for sentence in not_covered(cloud)] == [
        "host compute1",
        "host compute1",
        f"port {clouds.VM1.id}",
        "subnet subnet100",
    ]


def test_a_host_that_cannot_serve_ipv6() -> None:
    """Where a host leaves a network's IPv6 out, nothing is delivered by it; IPv4 is as it was."""
    host = clouds.DUAL.host
    tallies = {}
    for only in (frozenset(), frozenset({clouds.NET100.id})):
        cloud = gather([clouds.DUAL], {host: HostSettings(ipv4_only=only)})
        ends = {end.address: end for end in cloud.ends}
        web = next(
            s for s in services(rules_of_version(cloud, 6)) if (s.protocol, s.port) == (6, 80)
        )
        for pair in (("10.0.0.3", "10.0.0.4"), (clouds.DUAL3.fixed_ips[1].address, clouds.SLAAC1)):
            a, b = (ends[ip_address(str(one))] for one in pair)
            tallies[bool(only), a.address.version] = to_port(cloud, a, b, web).verdict
        assert "IPv6 between instances and the outside is not judged" in not_covered(cloud)

    assert tallies[False, 6] == Verdict.ANSWERED
    assert tallies[True, 6] not in ARRIVES
    assert tallies[True, 4] == tallies[False, 4]


def test_a_cloud_survives_its_way_as_data() -> None:
    """What the server tells is what the command line reads, sections told once."""
    known = replace(clouds.ARTICLE, floating_ips=(replace(clouds.FLOAT1, id="f1"),))  # type: ignore[arg-type]
    told = [
        (known, HostSettings(exempt=(IPv4Network("172.16.0.0/12"),))),
        (
            replace(known, host="compute2"),  # type: ignore[arg-type]
            HostSettings(source=IPv4Address("1.2.3.4"), ipv4_only=frozenset({clouds.NET102.id})),
        ),
    ]
    data = cloud_out(told)
    assert cloud_in(data) == told
    assert len(data["sections"]) < sum(len(host["sections"]) for host in data["hosts"])
    assert changed(told, told[1:]) == told
