"""The fast engine against the plain judge of one flow, and against z3."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Network
from itertools import product
from random import Random

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st
from random_clouds import SEEDS, is_possible, pairs, random_cloud

from trunkline.model import Direction, Rule, RuleId
from trunkline.trace.reach import Tally, reach
from trunkline.trace.reach_policy import LARGE
from trunkline.trace.reach_public import NOWHERE, outside_parts, reach_public
from trunkline.trace.verify_cloud import Cloud, End
from trunkline.trace.verify_flow import (
    Verdict,
    from_internet,
    has_gateway,
    rules_of,
    to_floating,
    to_internet,
    to_port,
    way,
)
from trunkline.trace.verify_services import Service, fits, services

STAGE = {
    Verdict.DENIED_EGRESS: 1,
    Verdict.DENIED_INGRESS: 3,
    Verdict.ONE_WAY: 4,
    Verdict.ANSWERED: 5,
}
"""How many of a tally's numbers a flow is part of; what is let out and finds no way, of two."""


def counted(verdicts: Iterable[Verdict]) -> tuple[int, ...]:
    """Return a tally's first five numbers."""
    stages = [STAGE.get(verdict, 2) for verdict in verdicts]
    return tuple(sum(stage > number for stage in stages) for number in range(5))


def numbers(tally: Tally) -> tuple[int, ...]:
    """Return the same of what the engine counted."""
    return (tally.pairs, tally.let_out, tally.routed, tally.delivered, tally.answered)


@settings(max_examples=3000, deadline=None)
@given(SEEDS, st.sampled_from([4, 6]), st.sampled_from([0, 3, LARGE]))
def test_every_pair_by_fixed_addresses(seed: int, version: int, large: int) -> None:
    """Every tally equals the count of single flows, however rules are stored."""
    cloud = random_cloud(Random(seed))
    result = reach(cloud, version, large)
    want = [
        counted(to_port(cloud, a, b, service).verdict for a, b in pairs(result.classes.ends))
        for service in result.services
    ]
    assert [numbers(tally) for tally in result.tallies] == want
    assert result.delivered.sum() == sum(tally[3] for tally in want)
    assert result.answered.sum() == sum(tally[4] for tally in want)


@settings(max_examples=2000, deadline=None)
@given(SEEDS)
def test_every_translated_flow(seed: int) -> None:
    """Floating IPs and the Internet, both ways: every tally equals the count of single flows."""
    cloud = random_cloud(Random(seed))
    result = reach(cloud)
    public = reach_public(result)
    ends = result.classes.ends
    floating = [f for f in cloud.floating if f.end.seat.up]
    for index, service in enumerate(result.services):
        to_each_other = (to_floating(cloud, e, f, service) for e, f in product(ends, floating))
        out = (to_internet(cloud, e, x, service) for e, x in product(ends, public.outside))
        into = [
            [from_internet(cloud, x, f, service).verdict for x in public.outside] for f in floating
        ]
        assert numbers(public.to_floating[index]) == counted(r.verdict for r in to_each_other)
        assert numbers(public.to_internet[index]) == counted(r.verdict for r in out)
        assert numbers(public.from_internet[index]) == counted(v for row in into for v in row)
        open_to_all = [bool(bits >> index & 1) for bits in public.open_to_all]
        assert open_to_all == [set(row) == {Verdict.ANSWERED} for row in into]


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.sampled_from([4, 6]), st.sampled_from([0, LARGE]))
def test_each_pair(seed: int, version: int, large: int) -> None:
    """What the engine says of one pair is what the judge says, service by service."""
    cloud = random_cloud(Random(seed))
    result = reach(cloud, version, large)
    ends = list(enumerate(result.classes.ends))
    for (i, a), (j, b) in product(ends, ends):
        if a.seat.port.id != b.seat.port.id:
            want = sum(
                1 << n
                for n, service in enumerate(result.services)
                if to_port(cloud, a, b, service).verdict == Verdict.ANSWERED
            )
            assert result.between(i, j) == want


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_possible_is_what_bridges_everywhere_would_give(seed: int) -> None:
    """Possible is what groups allow between ends that have gateways, wherever bridges are."""
    cloud = random_cloud(Random(seed))
    result = reach(cloud)
    for service, tally in zip(result.services, result.tallies, strict=True):
        flows = pairs(result.classes.ends)
        assert tally.possible == sum(is_possible(cloud, a, b, service) for a, b in flows)


# --- z3: another way to say what a rule means ------------------------------------------------


def meaning(rule: Rule, protocol: z3.BitVecRef, port: z3.BitVecRef) -> z3.BoolRef:
    """Return which protocol and port a rule covers, written from nft(8) and not from our code."""
    if rule.protocol is None:
        return z3.BoolVal(True)  # noqa: FBT003 - z3's way
    same = protocol == rule.protocol
    if rule.port_min is None or rule.protocol == 47:
        return same
    if rule.protocol in {1, 58}:
        code_fits = rule.port_max is None or rule.port_max == 0
        return z3.And(same, port == rule.port_min, code_fits)
    last = rule.port_min if rule.port_max is None else rule.port_max
    return z3.And(same, z3.UGE(port, rule.port_min), z3.ULE(port, last))


def begins_a_connection(protocol: z3.BitVecRef, port: z3.BitVecRef) -> z3.BoolRef:
    """Return what of protocol and port is a service: ICMP by its queries, no port without ports."""
    queries = z3.Or([port == kind for kind in (8, 13, 15, 17)])
    ported = z3.Or([protocol == p for p in (6, 17, 33, 132, 136)])
    return z3.And(
        z3.UGE(protocol, 1),
        z3.ULE(protocol, 254),
        z3.Implies(protocol == 1, queries),
        z3.Implies(protocol == 58, port == 128),
        z3.Implies(z3.And(protocol != 1, protocol != 58, z3.Not(ported)), port == 0),
    )


def lets(
    cloud: Cloud,
    end: End,
    peer: End,
    direction: Direction,
    service: tuple[z3.BitVecRef, z3.BitVecRef],
) -> z3.BoolRef:
    """Return for which services the groups of an end let a peer pass."""
    if not end.seat.port.port_security:
        return z3.BoolVal(True)  # noqa: FBT003 - z3's way
    found = []
    for rule in rules_of(cloud, end.seat.port):
        prefix = rule.remote_prefix
        is_peer = (
            rule.remote_group_id in peer.seat.port.group_ids
            and cloud.domain(end) == cloud.domain(peer)
            if rule.remote_group_id
            else prefix is None
            or int(peer.address) >> (prefix.max_prefixlen - prefix.prefixlen)
            == int(prefix.network_address) >> (prefix.max_prefixlen - prefix.prefixlen)
        )
        if rule.direction == direction and rule.ethertype == end.address.version and is_peer:
            found.append(meaning(rule, *service))
    return z3.Or(found)


def spans(
    found: Iterable[Service], protocol: z3.BitVecRef, port: z3.BitVecRef
) -> dict[Service, z3.BoolRef]:
    """Return the services that the engine names, as what they are said to cover."""
    every = list(found)
    named = {s.protocol for service in every for s in service.spans if s.protocol is not None}
    terms = []
    for service in every:
        for span in service.spans:
            if span.protocol is None:
                terms.append((service, z3.And([protocol != p for p in named])))
            else:
                within = z3.And(z3.UGE(port, span.first), z3.ULE(port, span.last))
                terms.append((service, z3.And(protocol == span.protocol, within)))
    return {service: z3.Or([t for s, t in terms if s is service]) for service in every}


@pytest.mark.parametrize("seed", range(25))
def test_z3_finds_no_service_that_is_judged_wrong(seed: int) -> None:
    """No protocol and port whatever passes between two ports that the engine refuses, or v.v."""
    cloud = random_cloud(Random(seed))
    result = reach(cloud)
    ends = list(enumerate(result.classes.ends))
    protocol, port = z3.BitVec("protocol", 8), z3.BitVec("port", 16)
    said = spans(result.services, protocol, port)
    solver = z3.Solver()
    solver.add(begins_a_connection(protocol, port))
    for (i, a), (j, b) in product(ends, ends):
        if a.seat.port.id == b.seat.port.id:
            continue
        both = z3.And(
            lets(cloud, a, b, Direction.EGRESS, (protocol, port)),
            lets(cloud, b, a, Direction.INGRESS, (protocol, port)),
            way(cloud, a, b) is None and way(cloud, b, a) is None,
        )
        bits = result.between(i, j)
        claimed = z3.Or([said[s] for n, s in enumerate(result.services) if bits >> n & 1])
        assert solver.check(both != claimed) == z3.unsat, solver.model()


@pytest.mark.parametrize("seed", range(25))
def test_z3_finds_no_address_of_the_internet_that_is_judged_wrong(seed: int) -> None:
    """A floating IP is open to all where no outside address whatever is refused."""
    cloud = random_cloud(Random(seed))
    result = reach(cloud)
    public = reach_public(result)
    x = z3.BitVec("x", 32)
    inside = [*cloud.tenant_prefixes, *map(IPv4Network, NOWHERE)]
    single = {int(f.address) for f in cloud.floating}
    single |= {int(s) for h in cloud.hosts.values() if (s := h.settings.source)}
    solver = z3.Solver()
    solver.add([z3.Not(within(x, prefix)) for prefix in inside])
    solver.add([x != address for address in single])
    floating = [f for f in cloud.floating if f.end.seat.up]
    for f, bits in zip(floating, public.open_to_all, strict=True):
        host, router = cloud.hosts[f.end.seat.host], cloud.router(f.end)
        routed = f.end.subnet_id in host.routes and has_gateway(cloud, f.end)
        has_ways = host.settings.uplink and routed
        enters = has_ways and router is not None and router.has_gateway
        for index, service in enumerate(result.services):
            allowed = let_in(cloud, f.end, x, service)
            refused_one = solver.check(z3.Not(allowed)) == z3.sat
            assert bool(bits >> index & 1) == (enters and not refused_one)


def within(x: z3.BitVecRef, prefix: IPv4Network) -> z3.BoolRef:
    """Return which addresses a prefix has."""
    shift = 32 - prefix.prefixlen
    return z3.LShR(x, shift) == int(prefix.network_address) >> shift


def let_in(cloud: Cloud, end: End, x: z3.BitVecRef, service: Service) -> z3.BoolRef:
    """Return which outside addresses an end's groups let in."""
    if not end.seat.port.port_security:
        return z3.BoolVal(True)  # noqa: FBT003 - z3's way
    return z3.Or(
        [
            z3.And(
                True if rule.remote_prefix is None else within(x, rule.remote_prefix),
                z3.simplify(
                    meaning(rule, z3.BitVecVal(service.protocol, 8), z3.BitVecVal(service.port, 16))
                ),
            )
            for rule in rules_of(cloud, end.seat.port)
            if rule.direction == Direction.INGRESS
            and rule.ethertype == 4
            and rule.remote_group_id is None
        ]
    )


# --- the parts that the engine is made of -----------------------------------------------------


def test_services_are_cut_where_rules_cut_them() -> None:
    """Overlapping ranges give one class per set of rules, and ports that no rule names are one."""
    rules = [
        Rule(RuleId("a"), Direction.INGRESS, protocol=6, port_min=10, port_max=20),
        Rule(RuleId("b"), Direction.INGRESS, protocol=6, port_min=15, port_max=30),
        Rule(RuleId("c"), Direction.INGRESS, protocol=1, port_min=3),
    ]
    assert [str(service) for service in services(rules)] == [
        (
            "icmp type 8, icmp type 13, icmp type 15, icmp type 17, "
            "tcp 0-9, tcp 31-65535, any other protocol"
        ),
        "tcp 10-14",
        "tcp 15-20",
        "tcp 21-30",
    ]


def test_parts_of_the_internet_are_never_empty() -> None:
    """A part whose addresses are all inside is none; the others give an address that is not."""
    edges = [100, 200, 300]
    inside = [(0, 99), (100, 149), (200, 299)]
    assert outside_parts(edges, inside) == {1: 150, 3: 300}


@pytest.mark.parametrize("seed", [9, 26, 27])
def test_more_than_sixty_four_services(seed: int) -> None:
    """Services beyond one word are counted like the first."""
    cloud = random_cloud(Random(seed))
    extra = [
        Rule(RuleId(f"many{n}"), Direction.INGRESS, 4, 17, 10 * n, 10 * n) for n in range(1, 70)
    ]
    groups = {
        name: replace(group, rules=(*group.rules, *extra[:: index + 1]))
        for index, (name, group) in enumerate(cloud.groups.items())
    }
    many = replace(cloud, groups=groups)
    result = reach(many)
    assert len(result.words) == 2
    for service, tally in zip(result.services, result.tallies, strict=True):
        flows = pairs(result.classes.ends)
        assert numbers(tally) == counted(to_port(many, a, b, service).verdict for a, b in flows)


def test_a_rule_for_another_icmp_code_covers_no_query() -> None:
    """Queries have code 0: a rule for code 3 of type 8 covers none, one for code 0 does."""
    rules = [Rule(RuleId("r"), Direction.INGRESS, 4, 1, 8, code) for code in (3, 0, None)]
    assert [fits(rule, 1, 8) for rule in rules] == [False, True, True]
