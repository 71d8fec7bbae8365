"""Which tracked connections must end: those that today's groups or floating IPs do not allow.

A rule that is taken away stops new connections by itself; one that is established passes by
connection tracking until its entry is removed. Each entry is judged by the same snapshot that
the rules come from, so that only what is no longer allowed is cut, and everything else lives.

An address means nothing without its domain. The default router's connections are the host's in
no zone; another router's are judged by groups in the zone of each bridge, and for translation in
its space.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address, ip_address
from itertools import chain

from trunkline.core.family import V4, V6
from trunkline.core.filter import PROTOCOLS_WITH_PORTS, own_addresses
from trunkline.core.links import advertiser
from trunkline.core.nat import METADATA_ADDRESS, METADATA_SERVICE
from trunkline.core.pairs import paired_ports, shared
from trunkline.core.spaces import TRANSIT
from trunkline.hoststate import Connection, HostState
from trunkline.model import (
    Direction,
    DomainId,
    IpAddress,
    IpNetwork,
    NetworkId,
    RouterId,
    Rule,
)
from trunkline.ownership import TABLE, bridge_name
from trunkline.snapshot import HostSnapshot, NetworkView, PortView

UDP = 17
DHCP_SERVER_PORTS, DNS_PORT = (67, 547), 53
GATEWAY_SERVICES = {*((UDP, port) for port in (*DHCP_SERVER_PORTS, DNS_PORT)), (6, DNS_PORT)}


Service = tuple[int, IpAddress, int]
"""A protocol, an address and a port there."""

Zone = tuple[str, int]
"""The space of a connection tracking table, empty for the host's own, and a zone of it."""


def unwanted(
    snapshot: HostSnapshot,
    faces: frozenset[IPv4Address],
    change: tuple[HostState, HostState],
    tables: Mapping[str, Iterable[Connection]],
) -> dict[str, tuple[Connection, ...]]:
    """Return the connections that must end, by space; the host's own are those of no name.

    Args:
        snapshot: By which connections are judged.
        faces: What instances without a floating IP may look like outside.
        change: What the host is to be, and what it was before.
        tables: The connection tracking tables by space.
    """
    desired, actual = change
    gone = {key: frozenset(found) for key, found in _gone(desired, actual).items()}
    judges = {
        key: Judge(snapshot, _sources(desired, key[0], faces), gone.get(key, frozenset()), networks)
        for key, networks in _networks(snapshot, desired).items()
    }
    abandoned = {("", zone) for zone in _zones(actual).values()} - judges.keys()
    found = {}
    for space, connections in tables.items():
        found[space] = tuple(
            c
            for c in connections
            if (space, c.zone) in abandoned
            or ((space, c.zone) in judges and not judges[space, c.zone].wants(c))
        )
    return {space: connections for space, connections in found.items() if connections}


def _networks(snapshot: HostSnapshot, desired: HostState) -> dict[Zone, frozenset[NetworkId]]:
    """Return whose connections are where; the host's own zone is judged in any case."""
    zones = _zones(desired)
    spaces = {c.bridge: c.space for c in desired.cables.values() if c.bridge}
    found: dict[Zone, set[NetworkId]] = {("", 0): set()}
    for network in snapshot.networks:
        bridge = bridge_name(network.vlan_id, network.physical_network, network.namesake)
        found.setdefault(("", zones.get(bridge, 0)), set()).add(network.id)
        if bridge in spaces:
            found.setdefault((spaces[bridge], 0), set()).add(network.id)
    return {key: frozenset(networks) for key, networks in found.items()}


def _zones(state: HostState) -> dict[str, int]:
    """Return the zone of each bridge that has one of its own."""
    table = state.tables.get(("inet", TABLE))
    zones = table.sets.get("zones") if table else None
    return {b.strip('"'): int(zone) for b, zone in zones.elements.items()} if zones else {}


def _gone(desired: HostState, actual: HostState) -> dict[Zone, set[IpAddress]]:
    """Return the addresses that instances of this host had, and have no more, by zone."""
    gone: dict[Zone, set[IpAddress]] = {}
    before, after = _guarded(actual), _guarded(desired)
    for key in before:
        gone[key] = before[key] - after.get(key, set())
    return gone


def _guarded(state: HostState) -> dict[Zone, set[IpAddress]]:
    """Return the instance addresses that a state's ingress rules know of, by zone."""
    table = state.tables.get(("inet", TABLE))
    names = (f"ingress{family.suffix}" for family in (V4, V6))
    found_sets = (table.sets[name] for name in names if name in table.sets) if table else ()
    elements = chain.from_iterable(found.elements for found in found_sets)
    zones = _zones(state)
    spaces = {c.bridge: c.space for c in state.cables.values() if c.bridge}
    found: dict[Zone, set[IpAddress]] = {}
    for key in elements:
        link, _, text = key.partition(" . ")
        bridge, address = link.strip('"'), ip_address(text)
        found.setdefault(("", zones.get(bridge, 0)), set()).add(address)
        if bridge in spaces:
            found.setdefault((spaces[bridge], 0), set()).add(address)
    return found


def _sources(
    desired: HostState, space: str, faces: frozenset[IPv4Address]
) -> frozenset[IpAddress | None]:
    """Return what a table's translations may give instances that have no floating IP."""
    own = desired.spaces[space].addresses if space in desired.spaces else ()
    return faces | {a.address.ip for a in own if a.link == TRANSIT}


@dataclass(frozen=True)
class Judge:
    """A snapshot prepared for judging the connections of one table or zone.

    Attributes:
        sources: What translation may make of instances' addresses, beside floating IPs.
        gone: Addresses that instances of this host had and have no more.
        networks: Whose addresses these are; None is all.
    """

    snapshot: HostSnapshot
    sources: frozenset[IpAddress | None]
    gone: frozenset[IpAddress] = frozenset()
    networks: frozenset[NetworkId] | None = None

    def wants(self, connection: Connection) -> bool:
        """Return whether a connection may live on."""
        c = connection
        if c.source in self.gone or c.reply_source in self.gone:
            return False
        if not self._translated_as_now(c):
            return False
        sender, receiver = self._port_at(c.source), self._port_at(c.reply_source)
        return self._permits(sender, Direction.EGRESS, c.destination, c) and self._permits(
            receiver, Direction.INGRESS, c.reply_destination, c
        )

    @cached_property
    def _here(self) -> tuple[NetworkView, ...]:
        every = self.snapshot.networks
        return tuple(n for n in every if self.networks is None or n.id in self.networks)

    @cached_property
    def _domains(self) -> frozenset[DomainId]:
        return frozenset(network.domain for network in self._here)

    @cached_property
    def _ports(self) -> dict[IpAddress, PortView]:
        here = {network.id for network in self._here}
        ports = (port for port in self.snapshot.ports if port.network_id in here)
        every = ((address, port) for port in ports for address in _addresses(port))
        return dict(every)

    @cached_property
    def _paired(self) -> list[PortView]:
        here = {network.id for network in self._here}
        return [p for p in paired_ports(self.snapshot.ports) if p.network_id in here]

    @cached_property
    def _pairs(self) -> list[tuple[IpNetwork, PortView]]:
        return [(pair.prefix, p) for p in self._paired for pair in p.pairs]

    def _port_at(self, address: IpAddress) -> PortView | None:
        """Return the port whose groups judge for an address: its own, or one of its pairs."""
        port = self._ports.get(address)
        if port is not None or not self._pairs:
            return port
        for prefix, claimant in self._pairs:
            if address in prefix:
                groups = shared(port.group_ids, claimant.group_ids) if port else claimant.group_ids
                port = replace(claimant, group_ids=groups)
        return port

    @cached_property
    def _rules(self) -> dict[str, tuple[Rule, ...]]:
        return {group.id: group.rules for group in self.snapshot.groups}

    @cached_property
    def _members(self) -> dict[str, set[IpAddress]]:
        members: dict[str, set[IpAddress]] = {}
        for (group_id, domain), addresses in self.snapshot.members.items():
            if domain in self._domains:
                members.setdefault(group_id, set()).update(addresses)
        return members

    @cached_property
    def _gateways(self) -> frozenset[IpAddress]:
        """Return this host's own addresses, those that the kernel gives it included."""
        held = ((n, s.gateway) for n in self._here for s in n.subnets if s.gateway is not None)
        found: set[IpAddress] = set()
        for network, address in held:
            found.add(address)
            if address.version == V6.version:
                placed = network.router_id in self._placed
                found.add(advertiser(network, self.snapshot.host, placed=placed))
        return frozenset(found)

    @cached_property
    def _placed(self) -> frozenset[RouterId | None]:
        return frozenset(router.id for router in self.snapshot.routers if router.hosts)

    @cached_property
    def _floating(self) -> dict[IpAddress, IpAddress]:
        floating = (f for f in self.snapshot.floating_ips if f.domain in self._domains)
        return {f.address: f.fixed_address for f in floating if f.fixed_address}

    @cached_property
    def _forwarded(self) -> dict[Service, Service]:
        """Return what ports of floating IPs lead to."""
        return {
            (one.protocol, f.address, one.port): (one.protocol, one.fixed_address, one.fixed_port)
            for f in self.snapshot.floating_ips
            if f.domain in self._domains
            for one in f.forwarded
        }

    @cached_property
    def _behind(self) -> frozenset[IpAddress]:
        return frozenset(self._floating.values())

    @cached_property
    def _behind_ports(self) -> frozenset[Service]:
        return frozenset(self._forwarded.values())

    def _is_tenant(self, address: IpAddress) -> bool:
        return address in self._ports or any(
            address in prefix for prefix in self.snapshot.tenant_prefixes
        )

    def _translated_as_now(self, c: Connection) -> bool:
        """Return whether translations of tenant addresses are still today's.

        Translations of anybody else's addresses are not ours to judge. In IPv6 there are none.
        """
        if c.source.version == V6.version:
            return True
        if _is_metadata(c):
            return c.reply_source in self._gateways
        if c.destination != c.reply_source and self._is_tenant(c.reply_source):
            return self._leads(c)
        if c.reply_destination not in {c.source, *self.sources} and self._is_tenant(c.source):
            return self._floating.get(c.reply_destination) == c.source
        return not self._missed_translation(c)

    def _leads(self, c: Connection) -> bool:
        """Return whether a floating IP, or a port of one, leads where a connection goes."""
        asked = c.protocol, c.destination, c.destination_port
        answering = c.protocol, c.reply_source, c.reply_source_port
        whole = self._floating.get(c.destination) == c.reply_source
        return whole or self._forwarded.get(asked) == answering

    def _missed_translation(self, c: Connection) -> bool:
        """Return whether it came from outside to an address behind a floating IP of this host.

        It was translated by another host and bridged here, before the floating IP came along. A
        bridge with a zone of its own never has a part in translation.
        """
        untranslated = c.destination == c.reply_source and c.zone == 0
        service = c.protocol, c.destination, c.destination_port
        led_to = c.destination in self._behind or service in self._behind_ports
        return untranslated and led_to and not self._is_tenant(c.source)

    def _permits(
        self, port: PortView | None, direction: Direction, peer: IpAddress, c: Connection
    ) -> bool:
        """Return whether a port's groups allow a connection; nobody's port allows all."""
        if port is None or not port.port_security or self._is_service(direction, peer, c):
            return True
        return any(
            self._matches(rule, direction, peer, c)
            for group_id in port.group_ids
            for rule in self._rules.get(group_id, ())
        )

    def _is_service(self, direction: Direction, peer: IpAddress, c: Connection) -> bool:
        """Return whether this is DHCP or DNS of the own gateway, which groups do not govern."""
        if direction is Direction.EGRESS:
            service = (c.protocol, c.destination_port)
            return _is_metadata(c) or (peer in self._gateways and service in GATEWAY_SERVICES)
        answered = c.protocol == UDP and c.source_port in DHCP_SERVER_PORTS
        return peer in self._gateways and answered

    def _matches(self, rule: Rule, direction: Direction, peer: IpAddress, c: Connection) -> bool:
        return (
            rule.direction == direction
            and rule.ethertype == peer.version
            and self._is_peer(rule, peer)
            and _is_service_of(rule, direction, c)
        )

    def _is_peer(self, rule: Rule, peer: IpAddress) -> bool:
        if rule.remote_group_id is not None:
            return peer in self._members.get(rule.remote_group_id, ())
        return rule.remote_prefix is None or peer in rule.remote_prefix


def _addresses(port: PortView) -> list[IpAddress]:
    """Return the addresses of a port alone; a link-local one is one only on its own segment."""
    return [*own_addresses(port, V4), *own_addresses(port, V6)]


def _is_metadata(c: Connection) -> bool:
    return (
        c.destination == METADATA_ADDRESS and (c.protocol, c.destination_port) == METADATA_SERVICE
    )


def _is_service_of(rule: Rule, direction: Direction, c: Connection) -> bool:
    """Return whether a rule's protocol and ports, or ICMP type and code, fit a connection."""
    if rule.protocol is None:
        return True
    if rule.protocol != c.protocol:
        return False
    if rule.port_min is None:
        return True
    if c.protocol in (V4.icmp, V6.icmp):
        return _icmp_fits(rule, c)
    if c.protocol not in PROTOCOLS_WITH_PORTS:
        return True
    port = c.destination_port if direction is Direction.EGRESS else c.reply_source_port
    return rule.port_min <= port <= (rule.port_min if rule.port_max is None else rule.port_max)


def _icmp_fits(rule: Rule, c: Connection) -> bool:
    """Connection tracking knows queries only (echo, timestamp, ...), whose code is 0."""
    return c.destination_port == rule.port_min and rule.port_max in {None, 0}
