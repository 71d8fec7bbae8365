"""Intent judged against host states walked: the verifier's judge and the tracer agree."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import product
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_clouds import SEEDS, CompilableMaker, pairs

from trunkline.core.compile import compile_host
from trunkline.hoststate import HostConfig, HostFacts, VlanMaking
from trunkline.snapshot import HostSnapshot
from trunkline.trace.cloud import Cloud, Internet, TracedHost
from trunkline.trace.steps import Disposition
from trunkline.trace.verify_cloud import End, HostSettings, gather
from trunkline.trace.verify_flow import (
    Ruling,
    Verdict,
    from_internet,
    to_floating,
    to_internet,
    to_port,
)
from trunkline.trace.verify_services import Service, Span
from trunkline.trace.walk import Flow, trace

SERVICES = [
    Service((Span(protocol, port, port),), protocol, port)
    for protocol, port in ((6, 22), (6, 443), (17, 53), (1, 8))
]
WIRE = Internet(routers=(IPv4Interface("91.207.15.254/24"), IPv4Interface("91.208.23.254/24")))
OUTSIDE = (IPv4Address("8.8.8.8"), IPv4Address("203.0.113.7"))


def traced(snapshot: HostSnapshot, own: HostSettings, number: int) -> TracedHost:
    """Return a host as the compiler makes it."""
    address = own.source or IPv4Address(f"91.207.16.{number}")
    config = HostConfig(
        host=snapshot.host,
        trunks={"physnet1": "eth0"},
        uplink="eth1" if own.uplink else None,
        routing_source=own.source,
        snat_exempt=own.exempt,
        state_dir="/var/lib/trunkline",
        guard_absent_prefixes=own.guard,
        routing_sources=dict(own.sources),
    )
    facts = HostFacts(
        vlan_making=VlanMaking.KERNEL,
        links=frozenset({"lo", "eth0", "eth1"}),
        uplink_address=address if own.uplink else None,
        foreign_prefixes=((IPv4Network("91.207.15.0/24"), "eth1"),),
    )
    state, _ = compile_host(snapshot, config, facts)
    return TracedHost(snapshot, config, facts, state)


def flow(source: End | IPv4Address, destination: IPv4Address, service: Service) -> Flow:
    """Return what the tracer is asked."""
    port = None if service.protocol == 1 else service.port
    if isinstance(source, End):
        return Flow(source.seat.port.id, destination, service.protocol, port, source.address)
    return Flow(None, destination, service.protocol, port, source)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(0, 3))
@example(1, 1)  # one of its hosts has no uplink
@example(5, 1)  # and here a floating IP's instance answers
def test_the_tracer_agrees(seed: int, number: int) -> None:
    """What is said from intent to be answered is delivered and answered in the host states.

    Where instances keep their own source towards the outside, the answer depends on the operator's
    routes: the judge takes them for granted and says so, the tracer does not know.
    """
    maker = CompilableMaker(Random(seed))
    snapshots = maker.snapshots()
    told = {s.host: maker.compilable_settings(n) for n, s in enumerate(snapshots)}
    intent = gather(snapshots, told)
    hosts = tuple(traced(s, told[s.host], n) for n, s in enumerate(snapshots))
    walked = Cloud(hosts, WIRE)
    service = SERVICES[number]
    judged: list[tuple[Flow, Ruling]] = [
        *(
            (flow(a, b.address, service), to_port(intent, a, b, service))
            for a, b in pairs(intent.ends)
        ),
        *(
            (flow(e, f.address, service), to_floating(intent, e, f, service))
            for e, f in product(intent.ends, intent.floating)
        ),
        *(
            (flow(e, x, service), to_internet(intent, e, x, service))
            for e, x in product(intent.ends, OUTSIDE)
        ),
        *(
            (flow(x, f.address, service), from_internet(intent, x, f, service))
            for x, f in product(OUTSIDE, intent.floating)
        ),
    ]
    for one, ruling in Random(seed).sample(judged, min(len(judged), 60)):
        found = trace(walked, one)
        is_answered = ruling.verdict == Verdict.ANSWERED
        if is_answered and is_exempt(walked, one):
            assert found.disposition is Disposition.UNKNOWN, (one, found.sentence)
        else:
            assert found.disposition is not Disposition.UNKNOWN, (one, found.sentence)
            delivered = found.disposition is Disposition.DELIVERED
            assert delivered == is_answered, (one, ruling, found.sentence)


def is_exempt(cloud: Cloud, one: Flow) -> bool:
    """Return whether a flow goes out with an instance's own source."""
    if one.source is None or one.destination not in OUTSIDE:
        return False
    host, _ = cloud.seats[one.source]
    return any(one.destination in prefix for prefix in host.config.snat_exempt)
