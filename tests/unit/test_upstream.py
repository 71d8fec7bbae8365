"""Networks whose router is upstream: what a host is for them, and what the tracer says."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import article
import clouds

from trunkline.core.compile import compile_host
from trunkline.model import GatewayMode
from trunkline.snapshot import HostSnapshot, NetworkView
from trunkline.trace.steps import Disposition

ROUTER, OWN = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.9")


def upstream(network: NetworkView) -> NetworkView:
    """Return a network with its router upstream."""
    subnet = replace(network.subnets[0], gateway=OWN, upstream=ROUTER)
    mode = GatewayMode.UPSTREAM
    return replace(network, router_id=None, gateway_mode=mode, subnets=(subnet,))


def snapshot(whole: HostSnapshot = clouds.ARTICLE) -> HostSnapshot:
    """Return a snapshot in which tenant1's network is so."""
    networks = (upstream(n) if n.vlan_id == 100 else n for n in whole.networks)
    return replace(whole, networks=tuple(networks), floating_ips=(), members={})


def test_a_host_serves_dhcp_and_routes_nothing() -> None:
    """Leases name the router upstream, and the host's own address forwards no packet."""
    state, problems = compile_host(snapshot(), clouds.CONFIG, clouds.FACTS)

    assert problems == ()
    (space,) = state.spaces.values()
    assert f"option:router,{ROUTER}\n" in space.dhcp["br100"].config
    assert f"listen-address={OWN}\n" in space.dhcp["br100"].config
    assert space.sysctls["net.ipv4.conf.br100.forwarding"] == "0"
    assert space.routes == frozenset()


def test_host_routes_repeat_the_router_upstream() -> None:
    """A client that gets option 121 has its default route from there."""
    plain = snapshot()
    network = plain.networks[0]
    route = clouds.HostRoute(clouds.PREFIXES[1], IPv4Address("10.0.0.8"))
    subnet = replace(network.subnets[0], host_routes=(route,))
    routed = replace(plain, networks=(replace(network, subnets=(subnet,)), *plain.networks[1:]))

    state, _ = compile_host(routed, clouds.CONFIG, clouds.FACTS)

    (space,) = state.spaces.values()
    assert f"0.0.0.0/0,{ROUTER}\n" in space.dhcp["br100"].config


def test_the_tracer_does_not_know_what_is_behind_that_router() -> None:
    """It says so, instead of calling the router absent."""
    here, there = article.snapshots(floating=False)
    cloud = article.cloud(snapshot(here), snapshot(there))

    trace = article.ping(cloud, "VM_1", "VM_6")

    assert trace.disposition is Disposition.UNKNOWN
    assert f"{ROUTER} is an upstream router" in trace.sentence
