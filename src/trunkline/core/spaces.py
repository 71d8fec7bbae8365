"""Routing domains of their own: a network namespace per router that is not the default one.

Addresses of two routers may overlap, and one namespace has one table of local addresses, one
connection tracking table per zone and one set of DHCP sockets. So what routes, translates and
serves a domain lives in a space; bridges, VLAN devices, taps and security groups stay with the
host. A space has one way to the outside, its transit, over which it shows the host nothing but
floating IPs and one link-local address that is its own.

Decides which spaces there are, what is in them, and how the host leads to them. Knows nothing of
ports: a port is judged on its bridge, wherever its packets go from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network, ip_interface

from trunkline import ownership
from trunkline.core.family import V4, V6, Family
from trunkline.core.filter import (
    EGRESS_PRIORITY,
    forward_chain,
    gateway_set,
    input_chains,
    leaving_chain,
    name_set,
    prefix_set,
)
from trunkline.core.ipv6 import (
    compile_space_ipv6_sets,
    forward6_chain,
    space_chains,
    with_ipv6,
)
from trunkline.core.links import (
    NO_ADDRESS,
    ROUTES_NO_IPV6,
    UPLINK_SYSCTLS,
    Served,
    advertiser,
    bridge_ipv6_sysctls,
    bridge_sysctls,
    compile_gateways,
    gateway_mac,
    transit_ipv6_sysctls,
)
from trunkline.core.nat import (
    TRANSITS,
    Source,
    compile_metadata_chains,
    compile_nat_chains,
    compile_nat_sets,
)
from trunkline.hoststate import (
    Address,
    Cable,
    Chain,
    DhcpServer,
    Hook,
    HostConfig,
    HostFacts,
    HostState,
    Problem,
    Route,
    Table,
)
from trunkline.kept import kept
from trunkline.model import LINK_LOCAL, DomainId, HostRoute, IpNetwork, SubnetId
from trunkline.ownership import TABLE
from trunkline.snapshot import FloatingView, HostSnapshot, RouterView, SubnetView

TRANSIT = "transit"
"""The name, in a space, of its way to the outside."""
TRANSIT_MTU = 65535  # so that the links behind it decide, as without it
DEFAULT_ROUTE, DEFAULT_ROUTE6 = IPv4Network("0.0.0.0/0"), IPv6Network("::/0")


@dataclass(frozen=True, slots=True)
class Space:
    """A routing domain with a namespace of its own on this host.

    Attributes:
        router: None: a network that is on no router; it gets DHCP and nothing else.
        transit: Its two addresses, the host's end first; None: nothing gets out.
        lets_ipv6_out: Whether the host has a way on for IPv6, which is not translated.
        acting: Of several hosts that the router is on, this is the one that acts.
    """

    name: str
    domain: DomainId
    router: RouterView | None
    served: tuple[Served, ...]
    transit: IPv4Network | None
    lets_ipv6_out: bool
    floating: tuple[FloatingView, ...]
    acting: bool = True

    @property
    def number(self) -> int | None:
        """Return by which number several hosts settle who acts; None: this one alone does."""
        return self.router.number if self.router else None

    @property
    def routed(self) -> bool:
        """Return whether its networks reach each other."""
        return self.router is not None and self.router.admin_up

    @property
    def link(self) -> str:
        """Return the name of the host's end of its transit."""
        return ownership.transit_name(self.domain)

    @property
    def transit6(self) -> IPv6Network | None:
        """Return what goes with its transit in IPv6: link-local, and each on one link only."""
        if self.transit is None or not self.lets_ipv6_out or not self.dual:
            return None
        return IPv6Network((LINK_LOCAL[int(self.transit[0])], 127))

    @property
    def dual(self) -> tuple[Served, ...]:
        """Return its networks that have IPv6."""
        return tuple(s for s in self.served if s.has_ipv6)


def choose_spaces(
    snapshot: HostSnapshot, served: Iterable[Served], config: HostConfig, facts: HostFacts
) -> tuple[Space, ...]:
    """Return the spaces that these networks need, sorted by name."""
    routers = {DomainId(r.id): r for r in snapshot.routers}
    inside: dict[DomainId, list[Served]] = {}
    for s in served:
        if s.space:
            inside.setdefault(s.network.domain, []).append(s)
    leaving = [d for d in inside if config.uplink and _gets_out(routers.get(d))]
    transits = number_transits(map(ownership.transit_name, leaving), facts)
    floating: dict[DomainId, list[FloatingView]] = {}
    for f in snapshot.floating_ips if inside else ():
        floating.setdefault(f.domain, []).append(f)
    by_ipv6 = config.route_ipv6 and facts.has_ipv6 and facts.ipv6_forwarding is not None
    spaces = (
        Space(
            name=places[0].space,
            domain=domain,
            router=routers.get(domain),
            served=tuple(places),
            transit=transits.get(ownership.transit_name(domain)),
            lets_ipv6_out=by_ipv6,
            floating=tuple(floating.get(domain, ())),
            acting=_acts(routers.get(domain), facts),
        )
        for domain, places in inside.items()
    )
    return tuple(sorted(spaces, key=lambda space: space.name))


def _acts(router: RouterView | None, facts: HostFacts) -> bool:
    return router is None or router.number is None or router.number in facts.acting


def _gets_out(router: RouterView | None) -> bool:
    return router is not None and router.admin_up and router.has_gateway


def number_transits(links: Iterable[str], facts: HostFacts) -> dict[str, IPv4Network]:
    """Return the /31 of each transit by its link.

    What is there keeps its numbers, and a new one gets those that its name hashes to, or the next
    that nobody has: others' connections are translated to addresses that must not move.
    """
    wanted = sorted(links)
    here = dict(facts.transits)
    numbers: dict[str, IPv4Network] = {}
    for link in wanted:
        prefix = here[link].network if link in here else None
        if prefix and prefix.subnet_of(TRANSITS) and prefix not in numbers.values():
            numbers[link] = prefix
    taken = set(numbers.values())
    foreign = [p for p, _ in facts.foreign_prefixes if p.overlaps(TRANSITS)]
    for link in wanted:
        if link not in numbers:
            numbers[link] = next(p for p in _candidates(link) if _is_free(p, taken, foreign))
            taken.add(numbers[link])
    return numbers


def _candidates(link: str) -> Iterator[IPv4Network]:
    """Yield all transit prefixes, beginning where a link's name hashes to."""
    size = TRANSITS.num_addresses // 2
    first = int.from_bytes(sha256(link.encode()).digest()[:4])
    for number in range(size):
        yield IPv4Network((TRANSITS[2 * ((first + number) % size)], 31))


def _is_free(prefix: IPv4Network, taken: set[IPv4Network], foreign: list[IPv4Network]) -> bool:
    return prefix not in taken and not any(prefix.overlaps(other) for other in foreign)


# --- what is in a space ---------------------------------------------------------------------


def compile_space(
    space: Space,
    config: HostConfig,
    facts: HostFacts,
    face: IPv4Address | None,
    prefixes: tuple[IpNetwork, ...],
    dhcp: Mapping[str, DhcpServer],
) -> HostState:
    """Return what a space must be.

    Args:
        space: Which.
        config: The host's.
        facts: The same.
        face: What instances without a floating IP look like outside.
        prefixes: Those of all tenants.
        dhcp: The DHCP servers of all bridges.
    """
    bridges = [s.bridge for s in space.served]
    table = _table(space, config, face, prefixes)
    return HostState(
        addresses=compile_gateways(space.served)
        | _advertisers(space, config.host)
        | _transit_address(space, TRANSIT, 1),
        sysctls=_sysctls(space) | (_ipv6_sysctls(space) if facts.has_ipv6 else {}),
        tables={(table.family, table.name): table},
        dhcp={b: dhcp[b] for b in bridges if b in dhcp},
        routes=frozenset(_inner_routes(space)),
    )


def _advertisers(space: Space, host: str) -> set[Address]:
    """Return the addresses that instances have as their router in IPv6, which nobody makes here."""
    return {
        Address(s.bridge, ip_interface((own, LINK_LOCAL.prefixlen)))
        for s in space.dual
        for own in [advertiser(s.network, host, placed=s.placed)]
    }


def _transit_address(space: Space, link: str, end: int) -> set[Address]:
    prefixes = (prefix for prefix in (space.transit, space.transit6) if prefix is not None)
    return {Address(link, ip_interface((prefix[end], prefix.prefixlen))) for prefix in prefixes}


def _sysctls(space: Space) -> dict[str, str]:
    wanted = bridge_sysctls(space.served, routed=space.routed)
    if space.transit is not None:
        wanted |= {f"net.ipv4.conf.{TRANSIT}.{key}": value for key, value in UPLINK_SYSCTLS.items()}
    return wanted


def _ipv6_sysctls(space: Space) -> dict[str, str]:
    """Return what has IPv6 spoken where a subnet is of it, and nowhere else in here.

    All links of the namespace are ours, so that the switch for all of them may be set, which
    every kernel has.
    """
    silent = [s.bridge for s in space.served if not s.has_ipv6]
    silent += [TRANSIT] if space.transit is not None and space.transit6 is None else []
    wanted = {f"net.ipv6.conf.{link}.disable_ipv6": "1" for link in silent}
    if space.dual:
        routes = "1" if space.routed else "0"
        own = {"addr_gen_mode": NO_ADDRESS, "forwarding": routes}
        wanted |= {"net.ipv6.conf.all.forwarding": routes, **bridge_ipv6_sysctls(space.dual, own)}
    if space.transit6 is not None:
        wanted |= transit_ipv6_sysctls(TRANSIT, "forwarding")
    return wanted


def _inner_routes(space: Space) -> Iterator[Route]:
    """Yield the extra routes, and the default route unless one of them is that."""
    extra = extra_routes(space.router, space.served)
    yield from extra
    if space.transit is not None and all(r.destination != DEFAULT_ROUTE for r in extra):
        yield Route(DEFAULT_ROUTE, space.transit[0], TRANSIT)
    if space.transit6 is not None:
        yield Route(DEFAULT_ROUTE6, space.transit6[0], TRANSIT)


def extra_routes(router: RouterView | None, served: Iterable[Served]) -> tuple[Route, ...]:
    """Return a router's own routes; one whose next hop's network is not here leads nowhere."""
    if router is None or not router.admin_up:
        return ()
    places = [(subnet.cidr, s.bridge) for s in served for subnet in s.network.subnets]
    return tuple(_extra_route(route, places) for route in router.routes)


def _extra_route(route: HostRoute, places: list[tuple[IpNetwork, str]]) -> Route:
    for cidr, bridge in places:
        if route.nexthop in cidr:
            return Route(route.destination, route.nexthop, bridge)
    return Route(route.destination)


def _table(
    space: Space, config: HostConfig, face: IPv4Address | None, prefixes: tuple[IpNetwork, ...]
) -> Table:
    gate = TRANSIT if space.transit is not None else None
    source = None
    if space.transit is not None and face and space.router and space.router.enable_snat:
        source = Source(space.transit[1], face)
    sets = [
        name_set("bridges", [s.bridge for s in space.served]),
        gateway_set(space.served),
        prefix_set("tenant_prefixes", prefixes),
        *compile_nat_sets(space.floating, config),
    ]
    chains = [
        *input_chains(f'iifname "{gate}"' if gate else "", metadata=config.metadata),
        _forward_chain(gate, config),
        *([_arriving_chain(gate)] if gate else []),
        leaving_chain(gate),
        *compile_nat_chains(gate, source),
        *compile_metadata_chains(metadata=config.metadata),
    ]
    if space.dual:
        sets += compile_space_ipv6_sets(space.dual, prefixes, config.host)
        gate6 = gate if space.transit6 is not None else None
        guard = config.guard_absent_prefixes
        forward = forward6_chain(gate6, guard=guard, routed=True, spaces=False)
        way = f'iifname "{gate6}"' if gate6 else ""
        chains = with_ipv6(chains, space_chains(forward, gate6), way)
    return Table("inet", TABLE, {s.name: s for s in sets}, {c.name: c for c in chains})


def _forward_chain(gate: str | None, config: HostConfig) -> Chain:
    """Return the chain on what passes; what came in by the way out does not leave by it.

    It is for a port of a floating IP that leads nowhere: host and space would hand it to each
    other until its time to live is over.
    """
    chain = forward_chain(gate, guard=config.guard_absent_prefixes)
    turned = (f'iifname "{gate}" oifname "{gate}" drop',) if gate else ()
    return replace(chain, rules=(*turned, *chain.rules))


def _arriving_chain(gate: str) -> Chain:
    """Return the chain on what comes in by the way out.

    What connection tracking calls invalid is not translated, so it would be sent back out by the
    default route, and in again by the host's, until its time to live is over.
    """
    rules = (
        f'iifname "{gate}" ip saddr @tenant_prefixes drop',
        f'iifname "{gate}" ct state invalid drop',
    )
    return Chain("arriving", rules, Hook("filter", "prerouting", EGRESS_PRIORITY))


# --- how the host leads to its spaces -------------------------------------------------------


def default_routes(
    router: RouterView | None, here: Iterable[Served], facts: HostFacts
) -> tuple[frozenset[Route], tuple[Problem, ...]]:
    """Return the default router's extra routes, which are the host's own, and what cannot be.

    None may lead the host's own traffic astray.
    """
    routes, problems = set(), []
    for route in extra_routes(router, here):
        foreign = [
            link for prefix, link in facts.foreign_prefixes if prefix.overlaps(route.destination)
        ]
        if foreign or route.destination == DEFAULT_ROUTE:
            whose = f"that of {foreign[0]}" if foreign else "its default route"
            text = (
                f"would take the place of the host's own route, {whose}; remove it, or put the"
                " networks on a router of their own"
            )
            problems.append(Problem(f"route {route.destination} of the default router", text))
        else:
            routes.add(route)
    return frozenset(routes), tuple(problems)


def compile_cables(spaces: Iterable[Space], host: str) -> dict[str, Cable]:
    """Return the cables between the host and its spaces, by the host's end."""
    cables = [
        Cable(
            name=ownership.cable_name(s.bridge),
            space=space.name,
            peer=s.bridge,
            mac=gateway_mac(s.network, host),
            mtu=s.network.mtu,
            bridge=s.bridge,
            alias=ownership.alias(s.network.id),
        )
        for space in spaces
        for s in space.served
    ]
    cables += [_transit(space, host) for space in spaces if space.transit is not None]
    return {cable.name: cable for cable in cables}


def _transit(space: Space, host: str) -> Cable:
    digest = sha256(f"{host}/{space.domain}/{TRANSIT}".encode()).digest()
    return Cable(
        name=space.link,
        space=space.name,
        peer=TRANSIT,
        mac=":".join(f"{octet:02x}" for octet in (0x0A, *digest[:5])),
        mtu=TRANSIT_MTU,
        bridge=None,
        alias=f"trunkline router={space.domain}",
    )


def transit_addresses(spaces: Iterable[Space]) -> frozenset[Address]:
    """Return the address of the host's end of each transit."""
    return frozenset(a for space in spaces for a in _transit_address(space, space.link, 0))


def floating_routes(spaces: Iterable[Space]) -> frozenset[Route]:
    """Return a route to the space of each floating IP that lives in one."""
    return frozenset(
        Route(IPv4Network(f.address), space.transit[1], space.link)
        for space in spaces
        if space.transit is not None
        for f in space.floating
    )


def floating_proxies(spaces: Iterable[Space], uplink: str | None) -> frozenset[Address]:
    """Return the floating IPs that the uplink must answer ARP for, though they live in a space."""
    return frozenset(
        Address(uplink, IPv4Interface(f.address))
        for space in spaces
        if uplink and space.transit is not None
        for f in space.floating
    )


def exempt_routes(
    spaces: Iterable[Space], served: tuple[Served, ...], config: HostConfig
) -> tuple[frozenset[Route], tuple[Problem, ...]]:
    """Return the ways back to instances that exempt destinations know by their own addresses.

    The host has one way to an address. Where another domain has the same addresses here, neither
    gets one: answers to one tenant must not reach another.
    """
    if not config.snat_exempt:
        return frozenset(), ()
    routes, problems = set(), []
    for space, subnet in _subnets_that_get_out(spaces, V4):
        if subnet.id in _contested(served):
            text = (
                "is also another router's on this host: its instances get no answer from"
                " destinations that are exempt from translation; renumber one of them"
            )
            problems.append(Problem(f"subnet {subnet.id} ({subnet.cidr})", text))
        elif space.transit is not None and isinstance(subnet.cidr, IPv4Network):
            routes.add(Route(subnet.cidr, space.transit[1], space.link))
    return frozenset(routes), tuple(problems)


def ipv6_ways(
    spaces: tuple[Space, ...], served: tuple[Served, ...], config: HostConfig, facts: HostFacts
) -> tuple[frozenset[Route], tuple[Problem, ...]]:
    """Return the ways to instances whose IPv6 leaves, and comes, by their own addresses.

    The host has one way to an address. Where another domain or the host itself has the same ones
    here, they stay inside.
    """
    routes, problems = set(), []
    for space, subnet in _subnets_that_get_out(spaces, V6):
        foreign = [n for prefix, n in facts.foreign_prefixes6 if prefix.overlaps(subnet.cidr)]
        whose = f"on {foreign[0]}" if foreign else "another router's"
        if space.transit6 is None:
            continue
        if foreign or subnet.id in _contested(served):
            text = (
                f"is also {whose} on this host: IPv6 does not get out from there, although"
                " route_ipv6 is set; renumber one of them"
            )
            problems.append(Problem(f"subnet {subnet.id} ({subnet.cidr})", text))
        else:
            routes.add(Route(subnet.cidr, space.transit6[1], space.link))
    wanting = config.route_ipv6 and facts.ipv6_forwarding is None
    if wanting and any(_subnets_that_get_out(spaces, V6)):
        problems.append(Problem("route_ipv6", f"has no effect: {ROUTES_NO_IPV6}"))
    return frozenset(routes), tuple(problems)


def compile_transit_ipv6_sysctls(
    spaces: tuple[Space, ...], config: HostConfig, facts: HostFacts
) -> dict[str, str]:
    """Return the sysctls of the host's ends of the ways that IPv6 takes, or took, and beyond."""
    switch = facts.ipv6_forwarding or "forwarding"
    wanted: dict[str, str] = {}
    for space in spaces:
        if space.transit6 is not None:
            wanted |= transit_ipv6_sysctls(space.link, switch)
        elif space.transit is not None and facts.has_ipv6 and (space.dual or config.route_ipv6):
            wanted[f"net.ipv6.conf.{space.link}.disable_ipv6"] = "1"
    if any(space.transit6 for space in spaces) and switch == "force_forwarding":
        wanted[f"net.ipv6.conf.{config.uplink}.{switch}"] = "1"
    return wanted


def _subnets_that_get_out(
    spaces: Iterable[Space], family: Family
) -> Iterator[tuple[Space, SubnetView]]:
    for space in spaces:
        for s in space.served if space.transit is not None else ():
            mine = (n for n in s.network.subnets if n.cidr.version == family.version)
            yield from ((space, subnet) for subnet in mine)


@kept()
def _contested(served: tuple[Served, ...]) -> frozenset[SubnetId]:
    """Return the subnets that overlap one of another domain."""
    everything = [(s.network.domain, n) for s in served for n in s.network.subnets]
    return frozenset(
        subnet.id
        for domain, subnet in everything
        if any(subnet.cidr.overlaps(other.cidr) for d, other in everything if d != domain)
    )


def compile_space_sysctls(
    segments: Iterable[Served], spaces: tuple[Space, ...], uplink: str | None
) -> dict[str, str]:
    """Return the host's sysctls on bridges that only switch, and on the ways to its spaces."""
    places = tuple(segments)
    links = {s.bridge: {"forwarding": "0", "arp_ignore": "8"} for s in places}
    links |= {space.link: UPLINK_SYSCTLS for space in spaces if space.transit is not None}
    wanted = {
        f"net.ipv4.conf.{link}.{key}": value
        for link, of in links.items()
        for key, value in of.items()
    }
    # The gateway is elsewhere; with a bridge that asks for no IPv6, the kernel speaks none anyway.
    wanted |= {f"net.ipv6.conf.{s.bridge}.disable_ipv6": "1" for s in places if s.has_ipv6}
    if uplink and any(space.transit is not None for space in spaces):
        wanted |= {f"net.ipv4.conf.{uplink}.{key}": value for key, value in UPLINK_SYSCTLS.items()}
        # The kernel answers for others after up to 0.8 s, to let them be first (arp(7)).
        wanted[f"net.ipv4.neigh.{uplink}.proxy_delay"] = "0"
    return wanted
