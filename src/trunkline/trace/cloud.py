"""What a walk walks through: hosts in their desired states, the wires, the Internet.

Also answers what API object stands behind something of the kernel's. That is the only use of a
snapshot here: what happens to a packet is read off the host states alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network
from typing import NamedTuple

from trunkline.hoststate import (
    Address,
    Cable,
    DhcpServer,
    HostConfig,
    HostFacts,
    HostState,
    Problem,
)
from trunkline.model import LINK_LOCAL, DomainId, HostName, IpAddress, IpNetwork, PortId, link_local
from trunkline.ownership import space_name, tap_name
from trunkline.snapshot import HostSnapshot, NetworkView, PortView

PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))  # RFC 1918
EVERYWHERE, EVERYWHERE6 = IPv4Network("0.0.0.0/0"), IPv6Network("::/0")


@dataclass(frozen=True, slots=True)
class ApiObject:
    """An object of the Networking API, to name what decided.

    Attributes:
        kind: As in messages: ``security group rule``.
        text: What it says, for people.
    """

    kind: str
    id: str
    project_id: str
    text: str


class Way(NamedTuple):
    """A route.

    Attributes:
        link: None: it answers 'host unreachable' (``ip route add unreachable``).
        via: The next hop; None: the destination itself is on the link.
    """

    prefix: IpNetwork
    link: str | None
    via: IpAddress | None = None


def ways(state: HostState, more: Mapping[IpNetwork, str]) -> Iterator[Way]:
    """Yield the ways of a namespace: connected ones, and its routes.

    Args:
        state: Of the namespace.
        more: Links by prefix, of addresses that are not ours.
    """
    connected: dict[IpNetwork, str] = {a.address.network: a.link for a in state.addresses}
    connected |= more
    for prefix, link in connected.items():
        if prefix.prefixlen < prefix.max_prefixlen:
            yield Way(prefix, link)
    for route in state.routes:
        yield Way(route.destination, route.link, route.via)


def speaks_ipv6(state: HostState, link: str) -> bool:
    """Return whether a link of a namespace of ours speaks IPv6."""
    return state.sysctls.get(f"net.ipv6.conf.{link}.disable_ipv6") == "0"


def _by_address(addresses: Iterable[Address]) -> dict[IpAddress, str]:
    """Return the link of each address, in order: those of IPv4 first."""
    ours = sorted(addresses, key=lambda a: (a.address.version, int(a.address.ip)))
    return {a.address.ip: a.link for a in ours}


def _longest_first(found: Mapping[IpNetwork, Way]) -> tuple[Way, ...]:
    return tuple(sorted(found.values(), key=lambda way: -way.prefix.prefixlen))


@dataclass(frozen=True)
class TracedHost:
    """A host: what it must be, and what of it is not ours to say.

    Attributes:
        state: As ``core.compile`` makes it from the snapshot, or as an agent read it back.
        problems: What of the snapshot could not be honoured.
    """

    snapshot: HostSnapshot
    config: HostConfig
    facts: HostFacts
    state: HostState
    problems: tuple[Problem, ...] = ()

    @property
    def name(self) -> str:
        """Return its name."""
        return self.config.host

    @cached_property
    def uplink(self) -> str | None:
        """Return its external NIC, if it has it."""
        return self.config.uplink if self.config.uplink in self.facts.links else None

    @cached_property
    def uplink_interface(self) -> IPv4Interface | None:
        """Return the uplink's own address with its prefix; a /32 where that is not known."""
        address = self.facts.uplink_address
        if self.uplink is None or address is None:
            return None
        for prefix, link in self.facts.foreign_prefixes:
            if link == self.uplink and address in prefix:
                return IPv4Interface((address, prefix.prefixlen))
        return IPv4Interface(address)

    @cached_property
    def own(self) -> dict[IpAddress, str]:
        """Return the link of each address of the host's that is known.

        Routing sources are its administrator's to put on the uplink, and taken to be there.
        """
        found: dict[IpAddress, str] = {}
        if self.uplink and self.facts.uplink_address:  # first: it is the uplink's usual source
            found[self.facts.uplink_address] = self.uplink
        if self.uplink:
            sources = (self.config.routing_source, *self.config.routing_sources.values())
            found |= {source: self.uplink for source in sources if source}
        return found | _by_address(self.state.addresses) | self._link_local

    @cached_property
    def _link_local(self) -> dict[IpAddress, str]:
        """Return the IPv6 addresses that bridges have by their MACs (``addr_gen_mode`` 0)."""
        bridges = (b for b in self.state.bridges.values() if speaks_ipv6(self.state, b.name))
        return {link_local(bridge.mac): bridge.name for bridge in bridges}

    @cached_property
    def routes(self) -> tuple[Way, ...]:
        """Return its routes, the longest prefix first; whither the default leads is its own."""
        foreign: dict[IpNetwork, str] = dict(self.facts.foreign_prefixes)
        foreign |= self.facts.foreign_prefixes6
        found = {way.prefix: way for way in ways(self.state, foreign)}
        if self.uplink:
            for everywhere in (EVERYWHERE, EVERYWHERE6):
                found.setdefault(everywhere, Way(everywhere, self.uplink))
        return _longest_first(found)

    @cached_property
    def dhcp(self) -> dict[str, DhcpServer]:
        """Return the DHCP server of each bridge, on the host itself or in a space."""
        spaces = self.state.spaces.values()
        return {**self.state.dhcp, **{b: d for space in spaces for b, d in space.dhcp.items()}}

    def advertiser(self, bridge: str) -> IpAddress | None:
        """Return what instances on a bridge have as their router in IPv6, if it is here."""
        places: tuple[Place, ...] = (self, *self.spaces)
        every = (own for place in places for own in place.own.items())
        return next((a for a, link in every if link == bridge and a in LINK_LOCAL), None)

    @cached_property
    def gates(self) -> dict[str, Cable]:
        """Return the way to the gateway of each bridge whose gateway is in a space."""
        return {c.bridge: c for c in self.state.cables.values() if c.bridge}

    @cached_property
    def domain(self) -> DomainId | None:
        """Return the domain that the host itself routes for, if a network of it is here."""
        routers = (r for r in self.snapshot.routers if r.is_default and not r.hosts)
        return next((DomainId(r.id) for r in routers), None)

    @cached_property
    def proxied(self) -> frozenset[tuple[str, IpAddress]]:
        """Return the addresses that live in a space, and for which a link answers."""
        return frozenset((a.link, a.address.ip) for a in self.state.proxies)

    def answers_for(self, address: IpAddress) -> bool:
        """Return whether the host answers for an address on its uplink."""
        mine = self.own.get(address) == self.uplink or (self.uplink, address) in self.proxied
        return self.uplink is not None and mine

    @cached_property
    def spaces(self) -> tuple[TracedSpace, ...]:
        """Return the network namespaces in which its other routers are."""
        owners = dict(self._owners())
        found = [(space, owners.get(space)) for space in sorted(self.state.spaces)]
        labels = [_label(owner) for _, owner in found]
        return tuple(
            TracedSpace(self, space, owner, label if labels.count(label) == 1 else space)
            for (space, owner), label in zip(found, labels, strict=True)
        )

    def _owners(self) -> Iterator[tuple[str, ApiObject]]:
        """Yield spaces by name, with the router, or the network on none, that each is for."""
        host = HostName(self.config.host)
        for network in self.snapshot.networks:
            yield space_name(network.domain, host), network_object(network)
        for router in self.snapshot.routers:
            owner = ApiObject("router", router.id, router.project_id, f"router {router.name}")
            yield space_name(DomainId(router.id), host), owner

    @cached_property
    def ports(self) -> dict[str, PortView]:
        """Return its ports by the names of their taps."""
        return {tap_name(port.id): port for port in self.snapshot.ports}

    @cached_property
    def rules(self) -> dict[str, ApiObject]:
        """Return its groups' rules by their ids."""
        return {
            rule.id: ApiObject(
                "security group rule", rule.id, group.project_id, f"a rule of group {group.name}"
            )
            for group in self.snapshot.groups
            for rule in group.rules
        }

    @cached_property
    def segments(self) -> dict[str, str]:
        """Return the bridge of each device that belongs to one whose gateway is in a space.

        A trunk with a tag goes as ``eth0#110``.
        """
        state = self.state
        found = {bridge: bridge for bridge in self.gates}
        found |= {c.name: c.bridge for c in self.gates.values() if c.bridge}
        found |= {p.tap: p.bridge for p in state.plugs.values() if p.bridge in self.gates}
        found |= {nic: bridge for nic, bridge in state.untagged.items() if bridge in self.gates}
        for vlan in state.vlans.values():
            if vlan.bridge in self.gates:
                found[vlan.name] = found[f"{vlan.trunk}#{vlan.vlan_id}"] = vlan.bridge
        return found

    def network_of(self, bridge: str) -> NetworkView | None:
        """Return the network that a bridge serves, by its alias."""
        found = self.state.bridges.get(bridge)
        marked = found.alias.rpartition("=")[2] if found else ""
        return next((n for n in self.snapshot.networks if n.id == marked), None)

    def groups_of(self, port: PortView) -> tuple[ApiObject, ...]:
        """Return the groups that a port is in."""
        return tuple(
            ApiObject("security group", g.id, g.project_id, f"group {g.name}")
            for g in self.snapshot.groups
            if g.id in port.group_ids
        )


def _label(owner: ApiObject | None) -> str:
    return owner.text.partition(" ")[2] if owner else ""


@dataclass(frozen=True)
class TracedSpace:
    """A router's network namespace on a host.

    Attributes:
        space: The namespace's name.
        owner: The router that it is, or the network on none that it serves.
        label: What it is called on its host: its owner's name where no other one is called so.
    """

    host: TracedHost
    space: str
    owner: ApiObject | None
    label: str

    @property
    def name(self) -> str:
        """Return what a story calls it: ``compute1/red``."""
        return f"{self.host.name}/{self.label}"

    @property
    def state(self) -> HostState:
        """Return what it must be, or is."""
        return self.host.state.spaces[self.space]

    @cached_property
    def domain(self) -> DomainId | None:
        """Return the domain that it routes for, if that is known."""
        return DomainId(self.owner.id) if self.owner else None

    @cached_property
    def cables(self) -> dict[str, Cable]:
        """Return its cables to the host, by their ends in here."""
        cables = self.host.state.cables.values()
        return {cable.peer: cable for cable in cables if cable.space == self.space}

    @cached_property
    def own(self) -> dict[IpAddress, str]:
        """Return the link of each of its addresses."""
        return _by_address(self.state.addresses)

    @cached_property
    def routes(self) -> tuple[Way, ...]:
        """Return its routes, the longest prefix first."""
        return _longest_first({way.prefix: way for way in ways(self.state, {})})


Place = TracedHost | TracedSpace
"""A network namespace that routes."""


@dataclass(frozen=True, slots=True)
class Internet:
    """What is behind the uplinks: one wire, the provider's router on it, and all else.

    Attributes:
        device: What the wire is called.
        routers: The provider's router's addresses; without them it is not known how a host
            finds its router, and no ARP is told on this wire.
        answers: Who answers; None is every address that is not private.
    """

    name: str = "Internet"
    device: str = "wire"
    routers: tuple[IPv4Interface, ...] = ()
    answers: frozenset[IPv4Address] | None = None

    @property
    def own(self) -> frozenset[IPv4Address]:
        """Return the addresses that are known to be the provider's router's."""
        return frozenset(router.ip for router in self.routers) | (self.answers or frozenset())

    def has(self, address: IpAddress) -> bool:
        """Return whether an address is there and answers; on the wire only the router does."""
        if any(address in router.network for router in self.routers):
            return address in {router.ip for router in self.routers}
        if self.answers is not None:
            return address in self.answers
        return not any(address in prefix for prefix in PRIVATE)


@dataclass(frozen=True)
class Cloud:
    """All that a walk can pass.

    Attributes:
        hosts: In the order in which a story takes them.
        names: What people call ports; one that has no name goes by its id.
        unplugged: Ports whose interface is not there.
        left_out: Ports of which a walk does not tell that they hear broadcasts, unless they are
            its ends: a host may have thousands.
        switches: What the wire between the trunks of a physical network is called, where not by
            that.
        pruned: By host, the tags that the switch's port is known not to carry; None stands for
            frames without one.
        probed_at: When that was last seen by a probe; empty if it is taken for granted.
    """

    hosts: tuple[TracedHost, ...]
    internet: Internet = Internet()
    names: Mapping[PortId, str] = field(default_factory=dict)
    unplugged: frozenset[PortId] = frozenset()
    left_out: frozenset[PortId] = frozenset()
    switches: Mapping[str, str] = field(default_factory=dict)
    pruned: Mapping[str, frozenset[int | None]] = field(default_factory=dict)
    probed_at: str = ""

    @cached_property
    def host(self) -> dict[str, TracedHost]:
        """Return the hosts by name."""
        return {host.name: host for host in self.hosts}

    @cached_property
    def seats(self) -> dict[PortId, tuple[TracedHost, PortView]]:
        """Return each port with the host that it is active on."""
        return {
            port.id: (host, port)
            for host in self.hosts
            for port in host.snapshot.ports
            if port.active
        }

    def domain_of(self, port_id: PortId | None) -> DomainId | None:
        """Return the routing domain that a port is in, if it is active on one of the hosts."""
        if port_id not in self.seats:
            return None
        host, port = self.seats[port_id]
        networks = (n for n in host.snapshot.networks if n.id == port.network_id)
        return next((network.domain for network in networks), None)

    def name(self, port_id: PortId) -> str:
        """Return what people call a port."""
        return self.names.get(port_id) or port_id

    def named(self) -> Iterator[tuple[str, PortId]]:
        """Yield ports by their names, those that people have named first, in their order."""
        order = {port_id: number for number, port_id in enumerate(self.names)}
        for port_id in sorted(self.seats, key=lambda p: order.get(p, len(order))):
            yield self.name(port_id), port_id

    @cached_property
    def tenant_prefixes(self) -> frozenset[IpNetwork]:
        """Return every tenant prefix that any of the hosts knows."""
        return frozenset(p for host in self.hosts for p in host.snapshot.tenant_prefixes)

    def is_tenant(self, address: IpAddress) -> bool:
        """Return whether an address is in a tenant's prefix."""
        return any(address in prefix for prefix in self.tenant_prefixes)

    def network_at(self, address: IpAddress, domain: DomainId | None) -> NetworkView | None:
        """Return the network of a domain that an address is on, if a host serves it."""
        for host in self.hosts:
            for network in host.snapshot.networks:
                mine = domain in (None, network.domain)
                if mine and any(address in subnet.cidr for subnet in network.subnets):
                    return network
        return None

    @cached_property
    def floating(self) -> dict[IpAddress, ApiObject]:
        """Return every floating IP by its address."""
        return {
            f.address: ApiObject("floating IP", f.id, f.project_id, f"floating IP {f.address}")
            for host in self.hosts
            for f in host.snapshot.floating_ips
        }


def port_object(port: PortView, name: str) -> ApiObject:
    """Return a port as an API object."""
    return ApiObject("port", port.id, port.project_id, f"port {name}")


def network_object(network: NetworkView) -> ApiObject:
    """Return a network as an API object."""
    return ApiObject("network", network.id, network.project_id, f"network {network.name}")
