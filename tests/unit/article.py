"""The article's cloud, both hosts of it, as the tracer sees it: compiled, without a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import clouds

from trunkline.core.compile import compile_host
from trunkline.hoststate import HostState
from trunkline.model import FloatingIpId, HostName, PortId, Rule
from trunkline.snapshot import FloatingView, HostSnapshot, NetworkView, PortView
from trunkline.trace.cloud import Cloud, Internet, TracedHost
from trunkline.trace.steps import Trace
from trunkline.trace.walk import Flow, trace, trace_lease

LEFT, RIGHT = "compute1", "compute2"
WIRE = Internet(
    name="inet",
    device="br-ext",
    routers=(IPv4Interface("91.207.15.1/24"), IPv4Interface("91.208.23.1/24")),
    answers=frozenset({IPv4Address("8.8.8.8")}),
)
VM4 = clouds.port(4, 100, "10.0.0.6", clouds.GROUP1)
VM5 = clouds.port(5, 100, "10.0.0.7", clouds.GROUP1)
VM6 = clouds.port(6, 102, "10.1.0.4", clouds.GROUP2)
PORTS = {
    "VM_1": clouds.VM1,
    "VM_2": clouds.VM2,
    "VM_4": VM4,
    "VM_5": VM5,
    "VM_3": clouds.VM3,
    "VM_6": VM6,
}
NAMES = {port.id: name for name, port in PORTS.items()}
ICMP1 = clouds.allow("icmp1", 1, "10.1.0.0/24")
ICMP2 = clouds.allow("icmp2", 1, "10.0.0.0/24")
TCP1 = clouds.allow("tcp1", 6, "10.1.0.0/24", port_min=1, port_max=65535)
TCP2 = clouds.allow("tcp2", 6, "10.0.0.0/24", port_min=1, port_max=65535)
SELF1 = clouds.allow("self1", None, remote_group_id=clouds.GROUP1)
POOL1 = clouds.allow("pool1", 1, "91.208.23.0/24")
FLOAT6 = FloatingView(
    FloatingIpId("float6"),
    clouds.TENANT2,
    IPv4Address("91.208.23.16"),
    IPv4Address("10.1.0.4"),
    VM6.id,
    clouds.DOMAIN,
)
RULES = ((ICMP1, TCP1, SELF1), (ICMP2, TCP2))


def snapshots(
    *,
    without: Iterable[str] = (),
    rules: tuple[tuple[Rule, ...], tuple[Rule, ...]] = RULES,
    floating: bool = True,
) -> tuple[HostSnapshot, HostSnapshot]:
    """Return what both hosts must know.

    Args:
        without: Instances that are not there.
        rules: Ingress rules of tenant1's and of tenant2's group.
        floating: Whether VM_1 and VM_6 have their floating IPs.
    """
    here = [p for name, p in PORTS.items() if name in ("VM_1", "VM_2", "VM_3")]
    there = [p for name, p in PORTS.items() if name in ("VM_4", "VM_5", "VM_6")]
    gone = {PORTS[name].id for name in without}
    base = replace(
        clouds.ARTICLE,
        groups=(clouds.group(clouds.GROUP1, *rules[0]), clouds.group(clouds.GROUP2, *rules[1])),
        members={
            (clouds.GROUP1, clouds.DOMAIN): tuple(
                sorted(p.fixed_ips[0].address for p in PORTS.values() if p.id not in gone)
            )
        },
    )
    floats = ((clouds.FLOAT1,), (FLOAT6,)) if floating else ((), ())
    return (
        _of_host(base, LEFT, here, floats[0], gone),
        _of_host(base, RIGHT, there, floats[1], gone),
    )


def _of_host(
    base: HostSnapshot,
    host: str,
    ports: list[PortView],
    floating: tuple[FloatingView, ...],
    gone: set[PortId],
) -> HostSnapshot:
    present = tuple(p for p in ports if p.id not in gone)
    served = {p.network_id for p in present}
    last = 1 if host == LEFT else 5
    networks = tuple(_served(n, last) for n in base.networks if n.id in served)
    return replace(
        base,
        host=HostName(host),
        networks=networks,
        ports=present,
        floating_ips=tuple(f for f in floating if f.port_id not in gone),
    )


def _served(network: NetworkView, last: int) -> NetworkView:
    subnet = network.subnets[0]
    gateway = subnet.cidr.network_address + last
    return replace(network, subnets=(replace(subnet, gateway=gateway),))


Change = Callable[[HostState], HostState]


def cloud(
    *snapshot: HostSnapshot,
    guard: bool = True,
    change: dict[str, Change] | None = None,
    route_ipv6: bool = False,
) -> Cloud:
    """Return the cloud of these snapshots; ``change`` plants faults in hosts' states."""
    hosts = []
    for number, one in enumerate(snapshot or snapshots()):
        address = IPv4Address("91.207.15.105") + number
        config = replace(
            clouds.CONFIG,
            host=one.host,
            routing_source=address,
            guard_absent_prefixes=guard,
            route_ipv6=route_ipv6,
        )
        facts = replace(
            clouds.FACTS,
            uplink_address=address,
            foreign_prefixes=((IPv4Network("91.207.15.0/24"), "eth1"),),
        )
        state, problems = compile_host(one, config, facts)
        # As overlapping subnets have it, in one family and the other.
        assert all("exempt" in p.text or "route_ipv6" in p.text for p in problems)
        state = (change or {}).get(one.host, lambda same: same)(state)
        hosts.append(TracedHost(one, config, facts, state))
    return Cloud(tuple(hosts), WIRE, NAMES)


def ping(where: Cloud, source: str, to: str, **more: object) -> Trace:
    """Return the trace of a ping from an instance to an instance's fixed IP or an address."""
    address = PORTS[to].fixed_ips[0].address if to in PORTS else IPv4Address(to)
    return trace(where, Flow(PORTS[source].id, address, **more))  # type: ignore[arg-type]


def boot(where: Cloud, instance: str) -> Trace:
    """Return the trace of an instance's DHCP."""
    return trace_lease(where, PORTS[instance].id)
