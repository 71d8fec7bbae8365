"""The whole cloud as reachability sees it: every host's snapshot and settings, joined.

Decides which ports are plugged in at all and which host has a route to which subnet. Knows
nothing of rules' meaning, of single flows, or of how the snapshots came here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from trunkline.model import (
    DomainId,
    FloatingIpId,
    GroupId,
    HostName,
    HostRoute,
    IpNetwork,
    NetworkId,
    ProjectId,
    RouterId,
    SubnetId,
)
from trunkline.snapshot import (
    GroupView,
    HostSnapshot,
    NetworkView,
    PortView,
    RouterView,
    SubnetView,
)

IPV4 = 4

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What a host's administrator and its machine add to the snapshot.

    Attributes:
        uplink: Whether there is an external NIC.
        source: What instances without a floating IP look like outside; None is no translation.
        sources: The same for routers that have one of their own here, by id.
        exempt: Destinations for which instances keep their own source.
        guard: Tenant prefixes that the host does not serve are refused, and do not leak.
        unserved: Networks of the snapshot that the host cannot serve.
        ipv4_only: Those whose IPv6 subnets it cannot serve.
        told: Whether its agent has said so; otherwise a usual host is assumed.
        acting: Numbers of the routers on several hosts that this one acts for.
    """

    uplink: bool = True
    source: IPv4Address | None = None
    sources: tuple[tuple[RouterId, IPv4Address], ...] = ()
    exempt: tuple[IPv4Network, ...] = ()
    guard: bool = True
    unserved: frozenset[NetworkId] = frozenset()
    ipv4_only: frozenset[NetworkId] = frozenset()
    told: bool = True
    acting: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Host:
    """A host: its settings, the networks that it has a bridge for, the subnets it routes to."""

    name: HostName
    settings: HostSettings
    networks: frozenset[NetworkId]
    routes: frozenset[SubnetId]


@dataclass(frozen=True, slots=True)
class Segment:
    """A tenant network, with its prefixes and the routing domain that it is part of.

    Attributes:
        domain: Networks of one domain are routed to each other where a host serves both.
        router: What routes; None is a network of its own, without a gateway.
        host_routes: Routes handed to instances, by subnet; where they lead is not modelled.
        upstream: Its instances' router is not ours; where it leads is not modelled.
    """

    id: NetworkId
    project_id: ProjectId
    name: str
    domain: DomainId
    router: RouterView | None
    subnets: Mapping[SubnetId, IpNetwork]
    host_routes: Mapping[SubnetId, tuple[HostRoute, ...]]
    upstream: bool = False


@dataclass(frozen=True, slots=True)
class Seat:
    """A port on its host.

    Attributes:
        up: Plugged into its network's bridge, as far as the intent goes.
        gate: The host that routes for it: its own, or the first of its router's, all of which
            have the same routes.
        unrouted: Those of its subnets on which its instance gets no router.
    """

    port: PortView
    host: HostName
    up: bool
    gate: HostName
    unrouted: frozenset[SubnetId] = frozenset()


@dataclass(frozen=True, slots=True)
class End:
    """One address of a port: what a flow begins or ends at."""

    seat: Seat
    address: Address
    subnet_id: SubnetId


@dataclass(frozen=True, slots=True)
class Floating:
    """A floating IP and the end that it stands for."""

    id: FloatingIpId
    project_id: ProjectId
    address: IPv4Address
    end: End


@dataclass(frozen=True, slots=True)
class Cloud:
    """All that decides who reaches whom.

    Attributes:
        faces: What an end looks like outside that has a floating IP, or whose router has a source
            of its own on its host, by end's port id and address.
        forwarding: Floating IPs of which single ports lead somewhere.
        revisions: The revision of each host's snapshot at which answers hold.
    """

    hosts: Mapping[HostName, Host]
    segments: Mapping[NetworkId, Segment]
    ends: tuple[End, ...]
    groups: Mapping[GroupId, GroupView]
    floating: tuple[Floating, ...]
    tenant_prefixes: tuple[IPv4Network, ...]
    faces: Mapping[tuple[str, Address], IPv4Address] = field(default_factory=dict)
    forwarding: tuple[IPv4Address, ...] = ()
    revisions: Mapping[HostName, int] = field(default_factory=dict)

    def face(self, end: End) -> IPv4Address | None:
        """Return what an end looks like outside its routing domain; None is as it is."""
        own = self.faces.get((end.seat.port.id, end.address))
        router = self.router(end)
        shared = router is not None and router.enable_snat
        return own or (self.gate(end).settings.source if shared else None)

    def gate(self, end: End) -> Host:
        """Return the host that routes and translates for an end: its own, or its router's.

        Where several are the router's, the one that acts; the first where none has said so.
        """
        router = self.router(end)
        placed = [self.hosts[h] for h in router.hosts if h in self.hosts] if router else []
        acting = [host for host in placed if router and router.number in host.settings.acting]
        return next(iter((*acting, *placed)), self.hosts[end.seat.host])

    def router(self, end: End) -> RouterView | None:
        """Return the router that an end's network is on."""
        return self.segments[end.seat.port.network_id].router

    def domain(self, end: End) -> DomainId:
        """Return where an end's address is unique."""
        return self.segments[end.seat.port.network_id].domain


def gather(snapshots: Iterable[HostSnapshot], settings: Mapping[HostName, HostSettings]) -> Cloud:
    """Join the snapshots of all hosts, read at one moment, into the cloud.

    Args:
        snapshots: One per host.
        settings: By host; a host without any has the defaults.
    """
    held = sorted(snapshots, key=lambda snapshot: snapshot.host)
    hosts = {s.host: _host(s, settings.get(s.host, HostSettings())) for s in held}
    ends = tuple(end for s in held for end in _ends(s, hosts[s.host]))
    floating = _floating(held, ends)
    segments = {n.id: _segment(n, s.routers) for s in held for n in s.networks}
    faces: dict[tuple[str, Address], IPv4Address] = dict(_own_sources(ends, hosts, segments))
    faces |= {(f.end.seat.port.id, f.end.address): f.address for f in floating}
    return Cloud(
        hosts=hosts,
        segments=segments,
        ends=ends,
        groups={group.id: group for s in held for group in s.groups},
        floating=floating,
        tenant_prefixes=tuple(
            p for s in held[:1] for p in s.tenant_prefixes if isinstance(p, IPv4Network)
        ),
        faces=faces,
        forwarding=tuple(
            sorted({f.address for s in held for f in s.floating_ips if f.forwardings})
        ),
        revisions={s.host: s.revision for s in held},
    )


def _own_sources(
    ends: Iterable[End], hosts: Mapping[HostName, Host], segments: Mapping[NetworkId, Segment]
) -> Iterator[tuple[tuple[str, Address], IPv4Address]]:
    """Yield what ends look like outside whose router has a source of its own on their host."""
    sources = {name: dict(host.settings.sources) for name, host in hosts.items()}
    for end in ends if any(sources.values()) else ():
        router = segments[end.seat.port.network_id].router
        if router and router.enable_snat and router.id in sources.get(end.seat.gate, {}):
            yield (end.seat.port.id, end.address), sources[end.seat.gate][router.id]


def _host(snapshot: HostSnapshot, settings: HostSettings) -> Host:
    served = [n for n in snapshot.networks if n.id not in settings.unserved]
    routing = {
        router.id
        for router in snapshot.routers
        if router.admin_up and (not router.hosts or snapshot.host in router.hosts)
    }
    routed = [s for n in served if n.router_id in routing for s in _subnets(n, settings)]
    return Host(
        snapshot.host,
        settings,
        frozenset(n.id for n in served),
        frozenset(subnet.id for subnet in routed if subnet.gateway is not None),
    )


def _subnets(network: NetworkView, settings: HostSettings) -> Iterator[SubnetView]:
    """Yield what of a network's subnets a host serves."""
    for subnet in network.subnets:
        if subnet.cidr.version == IPV4 or network.id not in settings.ipv4_only:
            yield subnet


def _segment(network: NetworkView, routers: Iterable[RouterView]) -> Segment:
    return Segment(
        network.id,
        network.project_id,
        network.name,
        network.domain,
        next((router for router in routers if router.id == network.router_id), None),
        {s.id: s.cidr for s in network.subnets},
        {s.id: s.host_routes for s in network.subnets if s.host_routes},
        any(s.upstream is not None for s in network.subnets),
    )


def _ends(snapshot: HostSnapshot, host: Host) -> Iterable[End]:
    gates = {router.id: router.hosts[0] for router in snapshot.routers if router.hosts}
    routers = {network.id: network.router_id for network in snapshot.networks}
    unrouted = frozenset(s.id for n in snapshot.networks for s in n.subnets if not s.routed)
    for port in snapshot.ports:
        if not port.active:
            continue
        router_id = routers.get(port.network_id)
        gate = gates.get(router_id, host.name) if router_id else host.name
        is_up = port.admin_up and port.network_id in host.networks
        own = unrouted and unrouted & {fixed.subnet_id for fixed in port.fixed_ips}
        seat = Seat(port, host.name, is_up, gate, own)
        mute = replace(seat, up=seat.up and port.network_id not in host.settings.ipv4_only)
        for fixed in port.fixed_ips:
            at = seat if fixed.address.version == IPV4 else mute
            yield End(at, fixed.address, fixed.subnet_id)


def _floating(snapshots: Iterable[HostSnapshot], ends: Iterable[End]) -> tuple[Floating, ...]:
    views = {view.id: view for s in snapshots for view in s.floating_ips}.values()
    wanted = {(v.port_id, v.fixed_address) for v in views}
    by_address = {key: e for e in ends if (key := (e.seat.port.id, e.address)) in wanted}
    return tuple(
        Floating(v.id, v.project_id, v.address, by_address[v.port_id, v.fixed_address])
        for v in sorted(views, key=lambda view: view.id)
        if v.port_id is not None
        and v.fixed_address is not None
        and (v.port_id, v.fixed_address) in by_address
    )
