"""The contract between server and agent: all that one host must know, at one revision.

A snapshot is complete. The agent needs no history and no second question; a notification only
makes it ask sooner. ``encode`` and ``decode`` are each other's inverse, and the JSON is sorted
so that equal snapshots are equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from itertools import chain
from operator import attrgetter, is_
from typing import Any, TypeVar

from trunkline.kept import kept
from trunkline.model import (
    DNS_DOMAIN,
    AddressMode,
    AddressPair,
    Bandwidth,
    DhcpOption,
    Direction,
    DomainId,
    FixedIp,
    FloatingIpId,
    GatewayMode,
    GroupId,
    HostName,
    HostRoute,
    IpAddress,
    IpNetwork,
    NetworkId,
    PortId,
    ProjectId,
    RouterId,
    Rule,
    SubnetId,
    by_family,
)

GroupDomain = tuple[GroupId, DomainId]
"""A security group, in one routing domain."""


T = TypeVar("T")


class Parted(tuple[T, ...]):  # noqa: SLOT001 - a tuple's subclass can have no slots with content
    """Values in order, with the sections they came in; what did not change is the same object.

    Equal to the plain tuple of the same values.
    """

    parts: tuple[tuple[T, ...], ...]

    @classmethod
    def of(
        cls, parts: Iterable[tuple[T, ...]], key: Callable[[T], Any], before: tuple[T, ...]
    ) -> Parted[T]:
        """Return the values of all parts, sorted by a key; ``before`` if they are its own."""
        kept = tuple(parts)
        if isinstance(before, Parted) and _are_same(kept or ((),), before.parts):
            return before
        values = cls(sorted(chain.from_iterable(kept), key=key))
        values.parts = kept or ((),)
        return values


def _are_same(ones: tuple[object, ...], others: tuple[object, ...]) -> bool:
    return len(ones) == len(others) and all(map(is_, ones, others))


def parts_of(values: tuple[T, ...]) -> tuple[tuple[T, ...], ...]:
    """Return the sections that values came in, or all of them as one."""
    return values.parts if isinstance(values, Parted) else (values,)


@dataclass(frozen=True, slots=True)
class SubnetView:
    """A subnet as one host serves it.

    Attributes:
        gateway: This host's own address on the subnet: what its bridge carries, what its
            instances use as router and DHCP server. Where the router is placed elsewhere, the
            address that its hosts have there. In IPv6 they use the link-local address of
            the bridge's MAC as router instead (RFC 4861, 4.2), and this one for DNS.
        upstream: What they use as router instead, where that is not the host. IPv4 only.
        dns_servers: Handed out as they are, of the family of ``cidr``; empty means the gateway
            answers DNS itself.
        host_routes: IPv4 only.
        routed: False: instances get no router on it, though the network is on one. IPv4 only.
        address_mode: What is advertised; all IPv6 subnets of a network that have one have the
            same. None in IPv4, and where addresses are set by hand: no advertisement.
    """

    id: SubnetId
    cidr: IpNetwork
    gateway: IpAddress | None
    enable_dhcp: bool = True
    dns_servers: tuple[IpAddress, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()
    upstream: IPv4Address | None = None
    address_mode: AddressMode | None = None
    routed: bool = True


@dataclass(frozen=True, slots=True)
class SegmentView:
    """Where a network is, besides its first segment: a VLAN of a physical network."""

    physical_network: str
    vlan_id: int


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network that the host must serve, sorted by id in its snapshot.

    Attributes:
        vlan_id: None: it is flat, its frames have no tag on the trunk.
        router_id: None: it is on no router. Its instances get addresses by DHCP, and no gateway
            is offered to them.
        dns_domain: What names are in; without the last dot.
        namesake: Which of the cloud's networks with its VLAN id it is: its links' names say so.
        further: Its segments on further physical networks. A host is on the first of all whose
            trunk it has; links are called by the first of all on every host.
        subnets: Of both families; IPv6 ones where a router on one host or on all, or none, and
            a gateway ``per_host`` serve it.
    """

    id: NetworkId
    project_id: ProjectId
    name: str
    physical_network: str
    vlan_id: int | None
    mtu: int
    subnets: tuple[SubnetView, ...]
    router_id: RouterId | None
    gateway_mode: GatewayMode = GatewayMode.PER_HOST
    dns_domain: str = DNS_DOMAIN
    namesake: int = 0
    further: tuple[SegmentView, ...] = ()

    @property
    def domain(self) -> DomainId:
        """Return where the network's addresses are unique."""
        return DomainId(self.router_id or self.id)

    def router_of(self, subnet: SubnetView) -> IpAddress | None:
        """Return what instances have as their router on a subnet: upstream, this host, or none."""
        return subnet.upstream or (subnet.gateway if self.router_id and subnet.routed else None)


@dataclass(frozen=True, slots=True)
class RouterView:
    """A router that a network of this host is on.

    Attributes:
        is_default: It is the one that all projects share.
        has_gateway: Its networks reach the outside.
        enable_snat: They do so from any address; False: by floating IPs and to destinations
            that are exempt from translation only.
        admin_up: False stops all routing between its networks and to the outside.
        hosts: Where it is placed: there it is gateway, DHCP server and translator for the
            instances of its networks on all hosts, and elsewhere nothing. Empty: each host is
            all that for its own instances.
        number: Its virtual router id (RFC 5798) on the external wire, by which several hosts
            settle which of them acts; None: there is nothing to settle.
    """

    id: RouterId
    project_id: ProjectId
    name: str
    is_default: bool
    has_gateway: bool
    enable_snat: bool
    admin_up: bool
    routes: tuple[HostRoute, ...] = ()
    hosts: tuple[HostName, ...] = ()
    number: int | None = None


@dataclass(frozen=True, slots=True)
class PortView:
    """An instance port bound to this host.

    Attributes:
        fixed_ips: Of both families, IPv4 first. Who has one of IPv6 may use the link-local
            address of its MAC, too (RFC 4291, appendix A).
        hostname: What DHCP tells the instance it is called; a valid DNS label.
        group_ids: Sorted. Empty with ``port_security`` means nothing comes in or goes out.
        admin_up: False unplugs the port.
        pairs: What it may use besides its own MAC and addresses. Sorted by MAC and prefix.
        device_id: The instance's id; empty where nobody has said.
        bandwidth: At most one limit each way, sorted by direction.
        active: False: bound here as a second host while its instance moves. All is prepared
            for it here, but what only one host may do for it.
    """

    id: PortId
    network_id: NetworkId
    project_id: ProjectId
    mac: str
    fixed_ips: tuple[FixedIp, ...]
    hostname: str
    group_ids: tuple[GroupId, ...] = ()
    port_security: bool = True
    admin_up: bool = True
    pairs: tuple[AddressPair, ...] = ()
    dhcp_options: tuple[DhcpOption, ...] = ()
    device_id: str = ""
    bandwidth: tuple[Bandwidth, ...] = ()
    active: bool = True


@dataclass(frozen=True, slots=True)
class NameView:
    """What DNS says of a port, here or on another host, of a network that this host serves.

    Attributes:
        id: The port's.
        records: (label, address) pairs; a valid DNS label, in the network's domain.
    """

    id: PortId
    network_id: NetworkId
    records: tuple[tuple[str, IpAddress], ...]


@dataclass(frozen=True, slots=True)
class GroupView:
    """A security group that a port of this host is in, with its rules sorted by id."""

    id: GroupId
    project_id: ProjectId
    name: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class ForwardingView:
    """A port of a floating IP, and the address and port that it leads to.

    Attributes:
        protocol: Its number.
        reached: False: the port is on another host, so nothing is forwarded to it.
    """

    protocol: int
    port: int
    fixed_address: IPv4Address
    fixed_port: int
    port_id: PortId
    reached: bool = True


@dataclass(frozen=True, slots=True)
class FloatingView:
    """A floating IP that is on this host: its port lives here, or ports that it forwards to do.

    Attributes:
        fixed_address, port_id: None where only single ports of it lead anywhere.
        domain: Where fixed addresses are unique.
        forwardings: Those ports, sorted.
    """

    id: FloatingIpId
    project_id: ProjectId
    address: IPv4Address
    fixed_address: IPv4Address | None
    port_id: PortId | None
    domain: DomainId
    bandwidth: tuple[Bandwidth, ...] = ()
    forwardings: tuple[ForwardingView, ...] = ()

    @property
    def forwarded(self) -> tuple[ForwardingView, ...]:
        """Return the forwardings that lead somewhere."""
        return tuple(one for one in self.forwardings if one.reached)

    @property
    def port_ids(self) -> frozenset[PortId]:
        """Return the ports that it leads to."""
        whole = frozenset() if self.port_id is None else frozenset({self.port_id})
        return whole | {one.port_id for one in self.forwarded}


@dataclass(frozen=True, slots=True)
class HostSnapshot:
    """Everything one host must know at one revision.

    Attributes:
        routers: Those that ``networks`` are on. Sorted.
        guests: Ports bound to other hosts whose router is placed here, and so their DHCP server;
            without groups, limits and pairs, which are their own hosts' business.
        members: Fixed addresses, on any host, of the ports of a group in a domain, sorted as
            numbers: IPv4 first. There is an entry, maybe an empty one, where a port of this host
            in the domain is in a group that names the group as its remote group.
        tenant_prefixes: What the subnets of all tenant networks of the cloud cover, on this host
            or not: what must never leave by the uplink, and what is source-translated. Domains
            may overlap, these do not. IPv4 first, sorted. IPv6 is translated nowhere.
    """

    host: HostName
    revision: int
    networks: tuple[NetworkView, ...] = ()
    routers: tuple[RouterView, ...] = ()
    ports: tuple[PortView, ...] = ()
    guests: tuple[PortView, ...] = ()
    names: tuple[NameView, ...] = ()
    groups: tuple[GroupView, ...] = ()
    members: dict[GroupDomain, tuple[IpAddress, ...]] = field(default_factory=dict)
    floating_ips: tuple[FloatingView, ...] = ()
    tenant_prefixes: tuple[IpNetwork, ...] = ()


# --- sections -------------------------------------------------------------------------------
#
# A snapshot travels in sections, so that one more port costs one small section and not the whole.
# ``networks``, ``routers``, ``tenant_prefixes``, ``ports/<0..63>``, ``guests/<0..63>`` and
# ``floating_ips/<0..63>`` by the first six bits of the object's id (a balance: 1,000 ports are 64
# sections of 16, and a poll names each), ``group/<id>``, and what many hosts are told alike:
# ``names/<network id>/<hex>`` by the first digit of the port's id, and
# ``members/<group id>/<domain id>/<hex>`` by the address's last four bits.

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

KEPT = 2**16
"""Whose text is found again, of each kind: what was made of the same rows is the same object."""

Part = tuple[Any, ...]
"""One decoded section: the values of one kind that it holds, sorted."""


def encode(snapshot: HostSnapshot) -> dict[str, str]:
    """Return the snapshot's sections by name, each as canonical JSON.

    Host and revision are not in there: they change when nothing else does. Sections without
    content do not exist, except that ``members/<group id>/<domain id>/`` (no digit) stands for a
    group that is named by a rule and has no member in a domain.
    """
    sections: dict[str, list[str]] = {
        "networks": [_canonical(_network_out(network)) for network in snapshot.networks],
        "routers": [_canonical(_router_out(router)) for router in snapshot.routers],
        "tenant_prefixes": [_canonical(str(prefix)) for prefix in snapshot.tenant_prefixes],
    }
    for kind, ports in (("ports", snapshot.ports), ("guests", snapshot.guests)):
        for port in ports:
            sections.setdefault(f"{kind}/{_bucket(port.id)}", []).append(_port_text(port))
    for part in parts_of(snapshot.names):
        for name, texts in _name_texts(part).items():
            sections.setdefault(name, []).extend(texts)
    for floating in snapshot.floating_ips:
        text = _canonical(_floating_out(floating))
        sections.setdefault(f"floating_ips/{_bucket(floating.id)}", []).append(text)
    for group in snapshot.groups:
        sections[f"group/{group.id}"] = [_canonical(_group_out(group))]
    for (group_id, domain), addresses in snapshot.members.items():
        start = f"members/{group_id}/{domain}"
        by_digit = _member_texts(addresses)
        sections |= {f"{start}/{d}": some for d, some in by_digit.items()} or {f"{start}/": []}
    return {
        name: f"[{','.join(texts)}]" for name, texts in sections.items() if texts or "/" in name
    }


@kept(KEPT)
def _port_text(port: PortView) -> str:
    return _canonical(_port_out(port))


@kept(KEPT)
def _name_text(name: NameView) -> str:
    return _canonical(_name_out(name))


@kept(1024)
def _name_texts(names: tuple[NameView, ...]) -> dict[str, list[str]]:
    """Return what stands in the sections of some names: all hosts are told the same."""
    texts: dict[str, list[str]] = {}
    for name in names:
        texts.setdefault(f"names/{name.network_id}/{name.id[:1]}", []).append(_name_text(name))
    return texts


@kept(1024)
def _member_texts(addresses: tuple[IpAddress, ...]) -> dict[str, list[str]]:
    """Return the same of a group's addresses, by the last digit of their sections' names."""
    texts: dict[str, list[str]] = {}
    for address in addresses:
        texts.setdefault(f"{int(address) & 15:x}", []).append(_canonical(str(address)))
    return texts


def _bucket(uuid: str) -> int:
    return int(uuid[:2], 16) >> 2


@lru_cache(4096)
def digest(section: str) -> str:
    """Return the digest by which both sides know that they hold the same section."""
    return sha256(section.encode()).hexdigest()[:16]


def decode_section(name: str, data: Sequence[Any]) -> Part:
    """Return the values of one section, given its name and its parsed JSON.

    Raises:
        ValueError, KeyError, TypeError: The data is no section that ``encode`` made.
    """
    kind = name.partition("/")[0]
    return tuple(_DECODERS[kind](item) for item in data)


def assemble(
    host: HostName, revision: int, parts: Mapping[str, Part], before: HostSnapshot | None = None
) -> HostSnapshot:
    """Return the snapshot that consists of these decoded sections, keyed by their names.

    What is made of the same sections as ``before`` is the same object as there.
    """
    old = before or HostSnapshot(host, revision)
    by_kind: dict[str, list[Part]] = {kind: [] for kind in _DECODERS}
    members: dict[GroupDomain, list[Part]] = {}
    for name, part in parts.items():
        kind, _, rest = name.partition("/")
        if kind == "members":
            group_id, domain, _ = rest.split("/")
            members.setdefault((GroupId(group_id), DomainId(domain)), []).append(part)
        else:
            by_kind[kind].append(part)
    return HostSnapshot(
        host=host,
        revision=revision,
        networks=Parted.of(by_kind["networks"], _id, old.networks),
        routers=Parted.of(by_kind["routers"], _id, old.routers),
        ports=Parted.of(by_kind["ports"], _id, old.ports),
        guests=Parted.of(by_kind["guests"], _id, old.guests),
        names=Parted.of(by_kind["names"], _id, old.names),
        groups=Parted.of(by_kind["group"], _id, old.groups),
        members={
            key: Parted.of(members[key], int, old.members.get(key, ())) for key in sorted(members)
        },
        floating_ips=Parted.of(by_kind["floating_ips"], _id, old.floating_ips),
        tenant_prefixes=tuple(
            sorted(chain.from_iterable(by_kind["tenant_prefixes"]), key=by_family)
        ),
    )


def decode(host: HostName, revision: int, sections: Mapping[str, str]) -> HostSnapshot:
    """Return the snapshot whose sections ``encode`` made."""
    parts = {name: decode_section(name, json.loads(text)) for name, text in sections.items()}
    return assemble(host, revision, parts)


_id = attrgetter("id")


def _network_out(network: NetworkView) -> dict[str, Any]:
    return {
        "id": network.id,
        "project_id": network.project_id,
        "name": network.name,
        "physical_network": network.physical_network,
        "vlan_id": network.vlan_id,
        "mtu": network.mtu,
        "subnets": [_subnet_out(subnet) for subnet in network.subnets],
        "router_id": network.router_id,
        "gateway_mode": network.gateway_mode.value,
        "dns_domain": network.dns_domain,
        "namesake": network.namesake,
        "further": [[one.physical_network, one.vlan_id] for one in network.further],
    }


def _network_in(data: Mapping[str, Any]) -> NetworkView:
    return NetworkView(
        **{
            **data,
            "subnets": tuple(map(_subnet_in, data["subnets"])),
            "gateway_mode": GatewayMode(data["gateway_mode"]),
            "further": tuple(SegmentView(*one) for one in data.get("further", ())),
        }
    )


def _router_out(router: RouterView) -> dict[str, Any]:
    return {
        "id": router.id,
        "project_id": router.project_id,
        "name": router.name,
        "is_default": router.is_default,
        "has_gateway": router.has_gateway,
        "enable_snat": router.enable_snat,
        "admin_up": router.admin_up,
        "routes": _routes_out(router.routes),
        "hosts": list(router.hosts),
        "number": router.number,
    }


def _router_in(data: Mapping[str, Any]) -> RouterView:
    more = {"routes": _routes_in(data["routes"]), "hosts": tuple(data["hosts"])}
    return RouterView(**{**data, **more})


def _routes_out(routes: tuple[HostRoute, ...]) -> list[list[str]]:
    return [[str(route.destination), str(route.nexthop)] for route in routes]


def _routes_in(data: Sequence[Sequence[str]]) -> tuple[HostRoute, ...]:
    return tuple(
        HostRoute(IPv4Network(destination), IPv4Address(nexthop)) for destination, nexthop in data
    )


def _subnet_out(subnet: SubnetView) -> dict[str, Any]:
    return {
        "id": subnet.id,
        "cidr": str(subnet.cidr),
        "gateway": None if subnet.gateway is None else str(subnet.gateway),
        "enable_dhcp": subnet.enable_dhcp,
        "dns_servers": [str(server) for server in subnet.dns_servers],
        "host_routes": _routes_out(subnet.host_routes),
        "upstream": None if subnet.upstream is None else str(subnet.upstream),
        "address_mode": subnet.address_mode and subnet.address_mode.value,
        "routed": subnet.routed,
    }


def _subnet_in(data: Mapping[str, Any]) -> SubnetView:
    return SubnetView(
        id=data["id"],
        cidr=ip_network(data["cidr"]),
        gateway=None if data["gateway"] is None else ip_address(data["gateway"]),
        enable_dhcp=data["enable_dhcp"],
        dns_servers=tuple(map(ip_address, data["dns_servers"])),
        host_routes=_routes_in(data["host_routes"]),
        upstream=None if data["upstream"] is None else IPv4Address(data["upstream"]),
        address_mode=data["address_mode"] and AddressMode(data["address_mode"]),
        routed=data.get("routed", True),
    )


def _port_out(port: PortView) -> dict[str, Any]:
    return {
        "id": port.id,
        "network_id": port.network_id,
        "project_id": port.project_id,
        "mac": port.mac,
        "fixed_ips": [[fixed.subnet_id, str(fixed.address)] for fixed in port.fixed_ips],
        "hostname": port.hostname,
        "group_ids": list(port.group_ids),
        "port_security": port.port_security,
        "admin_up": port.admin_up,
        "pairs": [[pair.mac, str(pair.prefix)] for pair in port.pairs],
        "device_id": port.device_id,
        "bandwidth": _bandwidth_out(port.bandwidth),
        "dhcp_options": [[option.name, option.value] for option in port.dhcp_options],
        "active": port.active,
    }


def _port_in(data: Mapping[str, Any]) -> PortView:
    fixed_ips = tuple(
        FixedIp(SubnetId(subnet_id), ip_address(address))
        for subnet_id, address in data["fixed_ips"]
    )
    more = {
        "fixed_ips": fixed_ips,
        "group_ids": tuple(data["group_ids"]),
        "bandwidth": _bandwidth_in(data["bandwidth"]),
        "pairs": tuple(AddressPair(mac, ip_network(prefix)) for mac, prefix in data["pairs"]),
        "dhcp_options": tuple(DhcpOption(name, value) for name, value in data["dhcp_options"]),
    }
    return PortView(**{**data, **more})


def _bandwidth_out(limits: tuple[Bandwidth, ...]) -> list[list[Any]]:
    return [[one.direction.value, one.max_kbps, one.max_burst_kbps] for one in limits]


def _bandwidth_in(data: Sequence[Sequence[Any]]) -> tuple[Bandwidth, ...]:
    return tuple(Bandwidth(Direction(way), rate, burst) for way, rate, burst in data)


def _name_out(name: NameView) -> list[Any]:
    records = [[label, str(address)] for label, address in name.records]
    return [name.id, name.network_id, records]


def _name_in(data: Sequence[Any]) -> NameView:
    port_id, network_id, records = data
    pairs = tuple((label, ip_address(address)) for label, address in records)
    return NameView(PortId(port_id), NetworkId(network_id), pairs)


def _group_out(group: GroupView) -> dict[str, Any]:
    return {
        "id": group.id,
        "project_id": group.project_id,
        "name": group.name,
        "rules": [_rule_out(rule) for rule in group.rules],
    }


def _group_in(data: Mapping[str, Any]) -> GroupView:
    return GroupView(**{**data, "rules": tuple(map(_rule_in, data["rules"]))})


def _rule_out(rule: Rule) -> dict[str, Any]:
    prefix = rule.remote_prefix
    return {
        "id": rule.id,
        "direction": rule.direction.value,
        "ethertype": rule.ethertype,
        "protocol": rule.protocol,
        "port_min": rule.port_min,
        "port_max": rule.port_max,
        "remote_prefix": None if prefix is None else str(prefix),
        "remote_group_id": rule.remote_group_id,
    }


def _rule_in(data: Mapping[str, Any]) -> Rule:
    prefix = data["remote_prefix"]
    return Rule(
        **{
            **data,
            "direction": Direction(data["direction"]),
            "remote_prefix": None if prefix is None else ip_network(prefix),
        }
    )


def _floating_out(floating: FloatingView) -> dict[str, Any]:
    return {
        "id": floating.id,
        "project_id": floating.project_id,
        "address": str(floating.address),
        "fixed_address": floating.fixed_address and str(floating.fixed_address),
        "port_id": floating.port_id,
        "domain": floating.domain,
        "bandwidth": _bandwidth_out(floating.bandwidth),
        "forwardings": [_forwarding_out(one) for one in floating.forwardings],
    }


def _floating_in(data: Mapping[str, Any]) -> FloatingView:
    return FloatingView(
        **{
            **data,
            "address": IPv4Address(data["address"]),
            "fixed_address": data["fixed_address"] and IPv4Address(data["fixed_address"]),
            "bandwidth": _bandwidth_in(data["bandwidth"]),
            "forwardings": tuple(map(_forwarding_in, data.get("forwardings", ()))),
        }
    )


def _forwarding_out(one: ForwardingView) -> list[Any]:
    to = str(one.fixed_address), one.fixed_port
    return [one.protocol, one.port, *to, one.port_id, one.reached]


def _forwarding_in(data: Sequence[Any]) -> ForwardingView:
    protocol, port, address, *rest = data
    return ForwardingView(protocol, port, IPv4Address(address), *rest)


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "networks": _network_in,
    "routers": _router_in,
    "ports": _port_in,
    "guests": _port_in,
    "names": _name_in,
    "group": _group_in,
    "members": ip_address,
    "floating_ips": _floating_in,
    "tenant_prefixes": ip_network,
}
