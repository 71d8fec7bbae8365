"""Compose a snapshot and a host's facts into the state that the host must have.

Total: whatever the snapshot says, the result is a state and a list of problems. What cannot be
honoured is left out, so that it fails closed, and is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from trunkline.core.anycast import compile_anycast_chains, compile_anycast_sets
from trunkline.core.arrivals import compile_standby_set
from trunkline.core.dhcp import compile_dhcp
from trunkline.core.elections import (
    compile_elections,
    compile_resting_chains,
    compile_resting_sets,
)
from trunkline.core.family import V6
from trunkline.core.filter import (
    compile_filter_chains,
    compile_group_chains,
    compile_hairpin_sets,
    compile_member_sets,
    compile_port_sets,
    compile_segment_sets,
    compile_spoof_chains,
    compile_spoof_sets,
    forward_chain,
    gateway_set,
    input_chains,
    leaving_chain,
    name_set,
    prefix_set,
    zone_chain,
)
from trunkline.core.flat import compile_flat_chains, compile_flat_sets
from trunkline.core.ipv6 import (
    compile_ipv6_sets,
    compile_ipv6_spoof_sets,
    forward6_chain,
    host_chains,
    outward_set,
    straight_set,
    with_ipv6,
    with_ipv6_spoofing,
)
from trunkline.core.limits import (
    compile_floating_limits,
    compile_port_limits,
    floating_limits,
    port_limits,
)
from trunkline.core.links import (
    Served,
    choose_served,
    compile_bridges,
    compile_gateways,
    compile_ipv6_sysctls,
    compile_plugs,
    compile_sysctls,
    compile_untagged,
    compile_vlans,
    same,
)
from trunkline.core.nat import (
    Source,
    compile_floating,
    compile_metadata_chains,
    compile_nat_chains,
    compile_nat_sets,
    face_set,
    floating_set,
    routing_source,
    unreached,
    with_spaces,
)
from trunkline.core.pairs import pair_combinations
from trunkline.core.spaces import (
    Space,
    choose_spaces,
    compile_cables,
    compile_space,
    compile_space_sysctls,
    compile_transit_ipv6_sysctls,
    default_routes,
    exempt_routes,
    floating_proxies,
    floating_routes,
    ipv6_ways,
    transit_addresses,
)
from trunkline.hoststate import (
    Chain,
    HostConfig,
    HostFacts,
    HostState,
    NftSet,
    Problem,
    Route,
    Table,
)
from trunkline.model import DomainId
from trunkline.ownership import TABLE
from trunkline.snapshot import FloatingView, HostSnapshot, RouterView


@dataclass(frozen=True, slots=True)
class Ground:
    """What a host's tables are made from.

    Attributes:
        config: The host's, without its uplink where that link is missing.
        served: All networks that this host serves.
        here: Those that the host itself routes, as the default router.
        segments: Those that its bridges only switch; a space or another host routes.
        ipv6: All that have an IPv6 subnet.
        router: The default router, if a network of it is here.
        spaces: The other routers.
        outward: The ways to those of their networks whose IPv6 leaves by the uplink.
        floating: Of ports on the default router.
        floating_elsewhere: Of ports on the other routers.
    """

    config: HostConfig
    facts: HostFacts
    served: tuple[Served, ...]
    here: tuple[Served, ...]
    segments: tuple[Served, ...]
    ipv6: tuple[Served, ...]
    router: RouterView | None
    spaces: tuple[Space, ...]
    outward: frozenset[Route]
    floating: tuple[FloatingView, ...]
    floating_elsewhere: tuple[FloatingView, ...]

    @property
    def routed(self) -> bool:
        """Return whether the default router routes."""
        return self.router is None or self.router.admin_up

    @property
    def gate(self) -> str | None:
        """Return the uplink, if the default router's networks may leave by it."""
        out = self.router is None or self.router.has_gateway
        return self.config.uplink if out else None

    @property
    def ipv6_gate(self) -> str | None:
        """Return the uplink, if their IPv6 may."""
        return self.gate if self.config.route_ipv6 and self.routed else None

    @property
    def face(self) -> IPv4Address | None:
        """Return what the default router's instances without a floating IP look like outside."""
        return routing_source(self.config, self.facts, self.router.id if self.router else None)

    @property
    def common_face(self) -> IPv4Address | None:
        """Return the same of routers that have no source of their own here."""
        return routing_source(self.config, self.facts)

    def face_of(self, space: Space) -> IPv4Address | None:
        """Return the same of a space's router."""
        return routing_source(self.config, self.facts, space.router.id if space.router else None)


def compile_host(
    snapshot: HostSnapshot, config: HostConfig, facts: HostFacts
) -> tuple[HostState, tuple[Problem, ...]]:
    """Return the desired state of a host, and what of the snapshot it cannot honour."""
    served, problems = choose_served(snapshot, config, facts)
    usable, uplink_problems = _usable_uplink(config, facts)
    present = same(tuple(s for s in served if not s.elsewhere))
    spaces = choose_spaces(snapshot, served, usable, facts)
    outward, outward_problems = ipv6_ways(spaces, present, usable, facts)
    ground = _ground(snapshot, served, usable, facts, spaces, outward)
    floating, floating_problems = compile_floating(ground.floating, usable)
    acting = tuple(space for space in ground.spaces if space.acting)
    exempt, exempt_problems = exempt_routes(acting, present, usable)
    elections, election_problems = compile_elections(ground.spaces, usable)
    extra, extra_problems = default_routes(ground.router, ground.here, facts)
    dhcp = compile_dhcp(
        present, snapshot.ports, snapshot.guests, snapshot.names, metadata=config.metadata
    )
    state = HostState(
        bridges=compile_bridges(served, config.host),
        vlans=compile_vlans(served, facts),
        untagged=compile_untagged(served),
        plugs=compile_plugs(served, snapshot.ports, ground.floating),
        addresses=compile_gateways(ground.here) | floating | transit_addresses(ground.spaces),
        sysctls=compile_sysctls(ground.here, usable.uplink, routed=ground.routed)
        | compile_space_sysctls(ground.segments, ground.spaces, usable.uplink)
        | compile_ipv6_sysctls(
            [s for s in ground.ipv6 if not s.switched],
            ground.ipv6_gate,
            facts,
            routed=ground.routed,
        )
        | compile_transit_ipv6_sysctls(ground.spaces, usable, facts),
        tables=_tables(snapshot, ground),
        dhcp={s.bridge: dhcp[s.bridge] for s in ground.here if s.bridge in dhcp},
        cables=compile_cables(ground.spaces, config.host),
        routes=exempt | extra | floating_routes(acting) | outward,
        proxies=floating_proxies(acting, usable.uplink),
        spaces={
            space.name: compile_space(
                space, usable, facts, ground.face_of(space), snapshot.tenant_prefixes, dhcp
            )
            for space in ground.spaces
        },
        elections=elections,
    )
    return state, (
        *problems,
        *uplink_problems,
        *floating_problems,
        *unreached(snapshot.floating_ips),
        *exempt_problems,
        *outward_problems,
        *election_problems,
        *extra_problems,
    )


def _usable_uplink(config: HostConfig, facts: HostFacts) -> tuple[HostConfig, tuple[Problem, ...]]:
    """Return the configuration without its uplink where that link is missing."""
    if config.uplink is None or config.uplink in facts.links:
        return config, ()
    text = "does not exist on this host: no instance reaches the outside; create or correct it"
    return replace(config, uplink=None, routing_source=None), (
        Problem(f"uplink {config.uplink}", text),
    )


def _ground(
    snapshot: HostSnapshot,
    served: tuple[Served, ...],
    config: HostConfig,
    facts: HostFacts,
    spaces: tuple[Space, ...],
    outward: frozenset[Route],
) -> Ground:
    router = next((r for r in snapshot.routers if r.is_default and not r.hosts), None)
    domain = DomainId(router.id) if router else None
    return Ground(
        config=config,
        facts=facts,
        served=served,
        here=same(tuple(s for s in served if not s.switched)),
        segments=tuple(s for s in served if s.switched),
        ipv6=same(tuple(s for s in served if s.has_ipv6)),
        router=router,
        spaces=spaces,
        outward=outward,
        floating=tuple(f for f in snapshot.floating_ips if f.domain == domain),
        floating_elsewhere=tuple(f for f in snapshot.floating_ips if f.domain != domain),
    )


def _tables(snapshot: HostSnapshot, ground: Ground) -> dict[tuple[str, str], Table]:
    if not ground.served:
        return {}
    tables = (_inet_table(snapshot, ground), _bridge_table(snapshot, ground))
    return {(table.family, table.name): table for table in tables}


def _inet_table(snapshot: HostSnapshot, ground: Ground) -> Table:
    sets = [
        name_set("bridges", [s.bridge for s in ground.here]),
        gateway_set(ground.served),
        prefix_set("tenant_prefixes", snapshot.tenant_prefixes),
        *compile_port_sets(ground.served, snapshot.ports),
        *compile_member_sets(snapshot.members, ground.served),
        *compile_nat_sets(ground.floating, ground.config),
        floating_set(ground.floating),
    ]
    chains = [
        *compile_filter_chains(ground.config.uplink, _asking(ground)),
        *_walls(ground),
        *_translations(ground),
        *compile_metadata_chains(metadata=ground.config.metadata),
        *compile_group_chains(
            snapshot.groups,
            ground.served,
            snapshot.ports,
            pair_combinations(ground.served, snapshot.ports),
        ),
    ]
    if ground.segments:
        ways = [space.link for space in ground.spaces if space.transit is not None]
        sets += [*compile_segment_sets(ground.served, ways), face_set(_own_faces(ground))]
        chains.append(zone_chain())
    if ground.ipv6:
        more, chains = _ipv6_rules(snapshot, ground, chains)
        sets += more
    limited = floating_limits(ground.floating, ground.floating_elsewhere)
    maps, limit_chains = compile_floating_limits(limited, ground.config.uplink)
    return _table("inet", [*sets, *maps], [*chains, *limit_chains], limited[0] if maps else {})


def _own_faces(ground: Ground) -> dict[IPv4Address, IPv4Address]:
    """Return by transit address what spaces look like outside whose source is their own."""
    faces = ((space.transit, ground.face_of(space)) for space in ground.spaces)
    return {
        transit[1]: face
        for transit, face in faces
        if transit and face and face != ground.common_face
    }


def _asking(ground: Ground) -> tuple[str, ...]:
    """Return the sets of bridges whose instances may ask the metadata proxy."""
    if not ground.config.metadata:
        return ()
    return ("bridges", "segments") if ground.segments else ("bridges",)


def _ipv6_rules(
    snapshot: HostSnapshot, ground: Ground, chains: list[Chain]
) -> tuple[list[NftSet], list[Chain]]:
    """Return the sets that IPv6 adds, and all chains."""
    served, ports = ground.ipv6, snapshot.ports
    sets = compile_ipv6_sets(
        served, ports, snapshot.members, snapshot.tenant_prefixes, ground.config.host
    )
    sets += [] if ground.routed else [straight_set(ground.here)]
    sets += [outward_set(ground.outward)] if ground.outward else []
    forward = forward6_chain(
        ground.ipv6_gate,
        guard=ground.config.guard_absent_prefixes,
        routed=ground.routed,
        spaces=bool(ground.segments),
        outside=ground.config.uplink if ground.outward else None,
    )
    pairs = pair_combinations(served, ports, V6)
    judging = compile_group_chains(snapshot.groups, served, ports, pairs, V6)
    way = "iifname @transits" if ground.outward else ""
    more = host_chains(ground.config.uplink, forward)
    return sets, [*with_ipv6(chains, more, way), *judging]


def _walls(ground: Ground) -> list[Chain]:
    """Return the chains on what passes between instances, the host itself and the outside."""
    uplink, guard = ground.config.uplink, ground.config.guard_absent_prefixes
    metadata = ground.config.metadata
    if not ground.segments:
        inward = input_chains(metadata=metadata, floating=True)
        return [*inward, forward_chain(ground.gate, guard=guard)]
    ways = "iifname @transits", "iifname @segments"
    inward = input_chains(*ways, metadata=metadata, floating=True)
    return [*inward, forward_chain(ground.gate, guard=guard, spaces=uplink or "")]


def _translations(ground: Ground) -> list[Chain]:
    uplink, face = ground.config.uplink, ground.face
    snat = ground.router is None or ground.router.enable_snat
    chains = compile_nat_chains(uplink, Source(face, face) if face and snat else None)
    chains += [leaving_chain(uplink)] if face or not snat else []
    return with_spaces(chains, uplink, ground.common_face) if ground.segments else chains


def _bridge_table(snapshot: HostSnapshot, ground: Ground) -> Table:
    sets = [
        *compile_spoof_sets(ground.served, snapshot.ports, ground.config.host),
        *compile_hairpin_sets(snapshot.ports, ground.floating),
        *compile_anycast_sets(ground.served, ground.config.host),
        *compile_flat_sets(ground.served),
        *compile_resting_sets(ground.spaces),
        compile_standby_set(ground.served, snapshot.ports, ground.config.host),
    ]
    chains = [
        *compile_spoof_chains(),
        *compile_anycast_chains(),
        *compile_flat_chains(ground.served),
        *compile_resting_chains(ground.spaces),
    ]
    if ground.ipv6:
        sets += compile_ipv6_spoof_sets(ground.ipv6, snapshot.ports)
        chains = with_ipv6_spoofing(chains)
    limited = port_limits(ground.served, snapshot.ports)
    maps, limit_chains = compile_port_limits(limited)
    return _table("bridge", [*sets, *maps], [*chains, *limit_chains], limited[0])


def _table(
    family: str, sets: Iterable[NftSet], chains: Iterable[Chain], limits: Mapping[str, str]
) -> Table:
    return Table(family, TABLE, {s.name: s for s in sets}, {c.name: c for c in chains}, limits)
