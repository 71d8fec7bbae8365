"""Reads all that one host must know, in one consistent transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from json import loads
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, and_, bindparam, cast, func, or_, select

from trunkline.core.allocate import uncovered
from trunkline.db.engine import Transaction
from trunkline.db.tables import (
    address_pairs,
    fixed_ips,
    floating_ips,
    networks,
    port_bindings,
    port_forwardings,
    port_groups,
    ports,
    qos_bandwidth_limit_rules,
    router_hosts,
    routers,
    security_group_rules,
    security_groups,
    subnets,
)
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
    RuleId,
    SubnetId,
    by_family,
    host_label,
)
from trunkline.service import forwarding, gateways, placement, segments
from trunkline.service.hosts import revision
from trunkline.service.provisioning import SERVED, instance_ports
from trunkline.service.security_groups import PROTOCOLS, VERSIONS, protocol_number
from trunkline.snapshot import (
    FloatingView,
    ForwardingView,
    GroupDomain,
    GroupView,
    HostSnapshot,
    NameView,
    NetworkView,
    Parted,
    PortView,
    RouterView,
    SubnetView,
)

_BY_ID = attrgetter("id")
Limits = dict[str | None, tuple[Bandwidth, ...]]
"""Limits by QoS policy."""

KEPT = 2**16
"""How much of what was read is made once only: as good as all that the hosts of one server ask."""

_address = lru_cache(KEPT)(ip_address)

_DOMAIN = func.coalesce(networks.c.router_id, networks.c.id).label("domain")
_TENANT_SUBNETS = (
    select(subnets.c.id, subnets.c.cidr, _DOMAIN)
    .join(networks, networks.c.id == subnets.c.network_id)
    .where(networks.c.external.is_(False))
)


def read(tx: Transaction, host: HostName) -> HostSnapshot:
    """Return a host's snapshot; one of a host never heard of is empty but for the prefixes."""
    port_views = _ports(tx, host)
    group_ids = frozenset(group for port in port_views for group in port.group_ids)
    groups = tx.once(("groups", group_ids), partial(_groups, tx, group_ids))
    network_views = _networks(tx, host, {port.network_id for port in port_views})
    domains, prefixes = tx.once("tenant subnets", partial(_tenant_subnets, tx))
    return HostSnapshot(
        host=host,
        revision=revision(tx, host) or 0,
        networks=network_views,
        routers=_routers(tx, {view.router_id for view in network_views if view.router_id}),
        ports=port_views,
        guests=_guests(tx, host),
        names=_names(tx, network_views),
        groups=groups,
        members=_members(tx, _named(network_views, port_views, groups), domains),
        floating_ips=_floating_ips(tx, host),
        tenant_prefixes=prefixes,
    )


def _tenant_subnets(tx: Transaction) -> tuple[dict[SubnetId, DomainId], tuple[IpNetwork, ...]]:
    """Return the domain of each tenant subnet, and what all of them cover."""
    rows = _rows(tx, _TENANT_SUBNETS)
    prefixes = uncovered(ip_network(cidr) for _, cidr, _ in rows)
    return {SubnetId(subnet_id): DomainId(domain) for subnet_id, _, domain in rows}, prefixes


def _rows(tx: Transaction, statement: Select[Any]) -> Sequence[Any]:
    return tx.connection.execute(statement).all()


_PORTS = (
    select(
        ports.c.id,
        ports.c.network_id,
        ports.c.project_id,
        ports.c.mac_address,
        ports.c.dns_name,
        ports.c.port_security_enabled,
        cast(ports.c.extra_dhcp_opts, Text),
        ports.c.device_id,
        func.coalesce(ports.c.qos_policy_id, networks.c.qos_policy_id).label("qos_policy_id"),
        (ports.c.admin_state_up & networks.c.admin_state_up).label("is_up"),
    )
    .join(networks, networks.c.id == ports.c.network_id)
    .where(instance_ports())
)


def _ports(tx: Transaction, host: HostName) -> tuple[PortView, ...]:
    bound = select(port_bindings.c.port_id).where(port_bindings.c.host == host)
    standby = frozenset(tx.connection.execute(bound).scalars())
    here = ports.c.host == host
    if standby:
        here = or_(here, ports.c.id.in_(sorted(standby)))
    fixed, groups, pairs = _fixed_ips(tx, here), _groups_of(tx, host, standby), _pairs(tx, here)
    rows = _rows(tx, _PORTS.where(here))
    limits = _limits(tx, {row.qos_policy_id for row in rows})
    views = [
        _port(
            tuple(row),
            tuple(fixed[row[0]]),
            tuple(groups[row[0]]),
            pairs.get(row[0], ()),
            limits.get(row.qos_policy_id, ()),
        )
        for row in rows
    ]
    views = [replace(view, active=False) if view.id in standby else view for view in views]
    return tuple(sorted(views, key=_BY_ID))


_PLACED_HERE = select(router_hosts.c.router_id).where(router_hosts.c.host == bindparam("of_host"))
_GUESTS = _PORTS.where(
    networks.c.router_id.in_(_PLACED_HERE), ports.c.host.not_in(("", bindparam("of_host")))
)


def _guests(tx: Transaction, host: HostName) -> tuple[PortView, ...]:
    """Return the ports elsewhere whose router is placed here: what DHCP must know of them."""
    rows = tx.connection.execute(_GUESTS, {"of_host": host}).all()
    if not rows:
        return ()
    fixed = _fixed_ips(tx, ports.c.network_id.in_({row.network_id for row in rows}))
    views = (_port(tuple(row), tuple(fixed[row[0]]), (), (), ()) for row in rows)
    return tuple(sorted(views, key=_BY_ID))


def _limits(tx: Transaction, policy_ids: Collection[str | None]) -> Limits:
    """Return the limits of bandwidth of some QoS policies."""
    wanted = sorted(policy_id for policy_id in policy_ids if policy_id is not None)
    if not wanted:
        return {}
    table = qos_bandwidth_limit_rules
    found = select(table).where(table.c.qos_policy_id.in_(wanted)).order_by(table.c.direction)
    limits: Limits = {}
    for row in _rows(tx, found):
        one = Bandwidth(Direction(row.direction), row.max_kbps, row.max_burst_kbps)
        limits[row.qos_policy_id] = (*limits.get(row.qos_policy_id, ()), one)
    return limits


def _groups_of(
    tx: Transaction, host: HostName, standby: Collection[str]
) -> dict[str, list[GroupId]]:
    here = port_groups.c.host == host
    if standby:
        here = or_(here, port_groups.c.port_id.in_(sorted(standby)))
    groups: dict[str, list[GroupId]] = defaultdict(list)
    of_host = select(port_groups.c.port_id, port_groups.c.security_group_id).where(here)
    for port_id, group_id in _rows(tx, of_host):
        groups[port_id].append(GroupId(group_id))
    return groups


def _pairs(tx: Transaction, here: ColumnElement[bool]) -> dict[str, tuple[AddressPair, ...]]:
    found = (
        select(address_pairs.c.port_id, address_pairs.c.mac_address, address_pairs.c.ip_address)
        .join(ports, ports.c.id == address_pairs.c.port_id)
        .where(here)
        .order_by(address_pairs.c.mac_address, address_pairs.c.ip_address)
    )
    pairs: dict[str, tuple[AddressPair, ...]] = {}
    for port_id, mac, prefix in _rows(tx, found):
        pairs[port_id] = (*pairs.get(port_id, ()), AddressPair(mac, ip_network(prefix)))
    return pairs


def _fixed_ips(tx: Transaction, here: ColumnElement[bool]) -> dict[str, list[tuple[str, str]]]:
    """Return the subnets and addresses of ports, as texts, by the port's id."""
    found = (
        select(fixed_ips.c.port_id, fixed_ips.c.subnet_id, fixed_ips.c.ip_address)
        .join(ports, ports.c.id == fixed_ips.c.port_id)
        .where(here)
    )
    fixed: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for port_id, *one in _rows(tx, found):
        fixed[port_id].append(tuple(one))
    return fixed


@lru_cache(KEPT)
def _port(
    row: tuple[Any, ...],
    fixed: tuple[tuple[str, str], ...],
    groups: tuple[GroupId, ...],
    pairs: tuple[AddressPair, ...],
    limits: tuple[Bandwidth, ...],
) -> PortView:
    """Return a port as its host sees it; the same object as long as nothing of it changes."""
    port_id, network_id, project_id, mac, dns_name, port_security, options, device, _, admin_up = (
        row
    )
    fixed_ips = [FixedIp(SubnetId(subnet_id), _address(address)) for subnet_id, address in fixed]
    fixed_ips.sort(key=lambda one: by_family(one.address))
    return PortView(
        id=PortId(port_id),
        network_id=NetworkId(network_id),
        project_id=ProjectId(project_id),
        mac=mac,
        fixed_ips=tuple(fixed_ips),
        hostname=host_label(dns_name, fixed_ips[0].address) if fixed_ips else dns_name,
        group_ids=tuple(sorted(groups)),
        port_security=port_security,
        admin_up=admin_up,
        pairs=pairs,
        device_id=device,
        bandwidth=limits,
        dhcp_options=tuple(DhcpOption(o["opt_name"], o["opt_value"]) for o in loads(options)),
    )


_NAMES = (
    select(ports.c.id, ports.c.dns_name, fixed_ips.c.ip_address)
    .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
    .where(ports.c.network_id == bindparam("of_network"), ports.c.host != "", instance_ports())
)


def _names(tx: Transaction, network_views: Sequence[NetworkView]) -> tuple[NameView, ...]:
    """Return the names on some networks, of instances that live anywhere."""
    ids = [view.id for view in network_views]
    parts = [tx.once(("names", of), partial(_names_on, tx, of)) for of in ids]
    return Parted.of(filter(None, parts), _BY_ID, ())


def _names_on(tx: Transaction, network_id: NetworkId) -> tuple[NameView, ...]:
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for port_id, *record in tx.connection.execute(_NAMES, {"of_network": network_id}):
        found[port_id].append(tuple(record))
    return tuple(_name(port_id, network_id, tuple(found[port_id])) for port_id in sorted(found))


@lru_cache(KEPT)
def _name(port_id: str, network_id: str, records: tuple[tuple[str, str], ...]) -> NameView:
    """Return what DNS says of a port that has a name, maybe an empty one, at some addresses."""
    addresses = [(dns_name, _address(text)) for dns_name, text in records]
    labels = [(host_label(dns_name, address), address) for dns_name, address in addresses]
    labels.sort(key=lambda one: (one[0], by_family(one[1])))
    return NameView(PortId(port_id), NetworkId(network_id), tuple(labels))


def _networks(
    tx: Transaction, host: HostName, plugged: Collection[NetworkId]
) -> tuple[NetworkView, ...]:
    where = {"of_host": host, "plugged": sorted(plugged)}
    rows = tx.connection.execute(SERVED, where).all()
    served = {row.id for row in rows}
    anycast = {row.id for row in rows if row.gateway == GatewayMode.ANYCAST}
    placed = placement.hosts_of(tx, {row.router_id for row in rows if row.router_id})
    on_placed = {row.id for row in rows if placed.get(row.router_id)}
    own_addresses = gateways.held(tx, host, anycast | on_placed)
    upstream = {row.id for row in rows if row.gateway == GatewayMode.UPSTREAM}
    further = segments.further(tx, sorted(served))
    by_network: dict[str, list[SubnetView]] = defaultdict(list)
    for row in _rows(tx, select(subnets).where(subnets.c.network_id.in_(sorted(served)))):
        router = row.gateway_ip if row.network_id in upstream else None
        by_network[row.network_id].append(_subnet(row, own_addresses.get(row.id), router))
    views = [
        NetworkView(
            id=NetworkId(row.id),
            project_id=ProjectId(row.project_id),
            name=row.name,
            physical_network=row.physical_network,
            vlan_id=row.segmentation_id,
            mtu=row.mtu,
            subnets=tuple(sorted(by_network[row.id], key=_BY_ID)),
            router_id=row.router_id and RouterId(row.router_id),
            gateway_mode=GatewayMode(row.gateway),
            dns_domain=row.dns_domain.rstrip(".") or DNS_DOMAIN,
            namesake=row.namesake,
            further=further[row.id],
        )
        for row in rows
    ]
    return tuple(sorted(views, key=_BY_ID))


def _subnet(row: Any, gateway: str | None, upstream: str | None) -> SubnetView:
    return SubnetView(
        id=SubnetId(row.id),
        cidr=ip_network(row.cidr),
        gateway=None if gateway is None else ip_address(gateway),
        enable_dhcp=row.enable_dhcp,
        dns_servers=tuple(map(ip_address, row.dns_nameservers)),
        host_routes=tuple(map(_route, row.host_routes)),
        upstream=None if upstream is None else IPv4Address(upstream),
        address_mode=row.ipv6_address_mode and AddressMode(row.ipv6_address_mode),
        routed=row.gateway_ip is not None or row.ip_version != 4,  # noqa: PLR2004 - the IP version
    )


def _route(route: Mapping[str, str]) -> HostRoute:
    return HostRoute(IPv4Network(route["destination"]), IPv4Address(route["nexthop"]))


def _routers(tx: Transaction, ids: Collection[RouterId]) -> tuple[RouterView, ...]:
    if not ids:
        return ()
    placed = placement.hosts_of(tx, ids)
    views = [
        RouterView(
            id=RouterId(row.id),
            project_id=ProjectId(row.project_id),
            name=row.name,
            is_default=row.is_default,
            has_gateway=row.is_default or row.external_network_id is not None,
            enable_snat=row.enable_snat,
            admin_up=row.admin_state_up,
            routes=tuple(map(_route, row.routes)),
            hosts=tuple(map(HostName, placed[row.id])),
            number=row.number,
        )
        for row in _rows(tx, select(routers).where(routers.c.id.in_(sorted(ids))))
    ]
    return tuple(sorted(views, key=_BY_ID))


def _groups(tx: Transaction, ids: Collection[GroupId]) -> tuple[GroupView, ...]:
    if not ids:
        return ()
    rules: dict[str, list[Rule]] = defaultdict(list)
    of_groups = security_group_rules.c.security_group_id.in_(sorted(ids))
    for row in _rows(tx, select(security_group_rules).where(of_groups)):
        rules[row.security_group_id].append(_rule(row))
    views = [
        GroupView(
            id=GroupId(row.id),
            project_id=ProjectId(row.project_id),
            name=row.name,
            rules=tuple(sorted(rules[row.id], key=_BY_ID)),
        )
        for row in _rows(tx, select(security_groups).where(security_groups.c.id.in_(sorted(ids))))
    ]
    return tuple(sorted(views, key=_BY_ID))


def _rule(row: Any) -> Rule:
    prefix = row.remote_ip_prefix
    return Rule(
        id=RuleId(row.id),
        direction=Direction(row.direction),
        ethertype=VERSIONS[row.ethertype],
        protocol=protocol_number(row.protocol, row.ethertype),
        port_min=row.port_range_min,
        port_max=row.port_range_max,
        remote_prefix=None if prefix is None else ip_network(prefix),
        remote_group_id=None if row.remote_group_id is None else GroupId(row.remote_group_id),
    )


def _named(
    network_views: Sequence[NetworkView],
    port_views: Sequence[PortView],
    groups: Sequence[GroupView],
) -> set[GroupDomain]:
    """Return the groups that rules name as their peers, each in the domains where they apply."""
    named = {
        group.id: {rule.remote_group_id for rule in group.rules if rule.remote_group_id is not None}
        for group in groups
    }
    domains = {view.id: view.domain for view in network_views}
    combinations = {(port.network_id, port.group_ids) for port in port_views}
    return {
        (peer, domains[network_id])
        for network_id, group_ids in combinations
        for group_id in group_ids
        for peer in named[group_id]
    }


def _members(
    tx: Transaction, wanted: Collection[GroupDomain], domains: Mapping[SubnetId, DomainId]
) -> dict[GroupDomain, tuple[IpAddress, ...]]:
    members: dict[GroupDomain, tuple[IpAddress, ...]] = {}
    for group_id, domain in sorted(wanted):
        read_group = partial(_members_of, tx, group_id, domains)
        found = tx.once(("members", group_id), read_group)
        members[group_id, domain] = found.get(domain, ())
    return members


_ADDRESSES_IN = (
    select(fixed_ips.c.subnet_id, fixed_ips.c.ip_address)
    .join(port_groups, fixed_ips.c.port_id == port_groups.c.port_id)
    .where(port_groups.c.security_group_id == bindparam("of_group"))
)
_PAIRS_IN = (
    select(_DOMAIN, address_pairs.c.ip_address)
    .join(port_groups, port_groups.c.port_id == address_pairs.c.port_id)
    .join(ports, ports.c.id == address_pairs.c.port_id)
    .join(networks, networks.c.id == ports.c.network_id)
    .where(port_groups.c.security_group_id == bindparam("of_group"))
)


def _members_of(
    tx: Transaction, group_id: GroupId, domains: Mapping[SubnetId, DomainId]
) -> dict[DomainId, tuple[IpAddress, ...]]:
    """Return the addresses of a group's ports, and what else they may use, by domain.

    Prefixes are left out: one wide pair would let whole networks be a group's peer (LP#1793029).
    """
    of_group = {"of_group": group_id}
    found: dict[DomainId, set[str]] = defaultdict(set)
    for subnet_id, address in tx.connection.execute(_ADDRESSES_IN, of_group):
        if subnet_id in domains:  # others are on an external network
            found[domains[subnet_id]].add(address)
    for domain, address in tx.connection.execute(_PAIRS_IN, of_group):
        if "/" not in address:
            found[domain].add(address)
    return {key: tuple(sorted(map(_address, who), key=int)) for key, who in found.items()}


_PLACED = networks.c.router_id.in_(select(router_hosts.c.router_id))
_FLOATING = (
    select(floating_ips, _DOMAIN)
    .join(ports, ports.c.id == floating_ips.c.port_id)
    .join(networks, networks.c.id == ports.c.network_id)
    .where(
        or_(
            and_(
                ports.c.host == bindparam("of_host"), or_(networks.c.router_id.is_(None), ~_PLACED)
            ),
            and_(ports.c.host != "", networks.c.router_id.in_(_PLACED_HERE)),
        )
    )
)


def _floating_ips(tx: Transaction, host: HostName) -> tuple[FloatingView, ...]:
    """Return the floating IPs that a host translates: its ports', or its placed routers'."""
    rows = tx.connection.execute(_FLOATING, {"of_host": host}).all()
    forwarding_rows = tx.connection.execute(_FORWARDING, {"of_host": host}).all()
    limits = _limits(tx, {row.qos_policy_id for row in (*rows, *forwarding_rows)})
    views = [
        FloatingView(
            id=FloatingIpId(row.id),
            project_id=ProjectId(row.project_id),
            address=IPv4Address(row.ip_address),
            fixed_address=IPv4Address(row.fixed_ip_address),
            port_id=PortId(row.port_id),
            domain=DomainId(row.domain),
            bandwidth=limits.get(row.qos_policy_id, ()),
        )
        for row in rows
    ]
    views += _forwarding_ips(tx, host, forwarding_rows, limits)
    return tuple(sorted(views, key=_BY_ID))


_FORWARDING = select(floating_ips).where(
    floating_ips.c.id.in_(
        select(port_forwardings.c.floatingip_id)
        .join(ports, ports.c.id == port_forwardings.c.internal_port_id)
        .join(networks, networks.c.id == ports.c.network_id)
        .where(
            or_(
                and_(ports.c.host == bindparam("of_host"), ~_PLACED),
                and_(ports.c.host != "", networks.c.router_id.in_(_PLACED_HERE)),
            )
        )
    )
)
"""Floating IPs that forward single ports, and at least one to where this host may translate."""


def _forwarding_ips(
    tx: Transaction, host: HostName, rows: Sequence[Any], limits: Limits
) -> Iterator[FloatingView]:
    """Yield those of some floating IPs with forwardings that are on a host."""
    leading: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in forwarding.leading(tx, {row.id for row in rows}):
        if one["host"]:
            leading[one["floatingip_id"]].append(one)
    for row in rows:
        mine = leading[row.id]
        if not mine[0]["is_placed"] and mine[0]["host"] != host:
            continue
        yield FloatingView(
            id=FloatingIpId(row.id),
            project_id=ProjectId(row.project_id),
            address=IPv4Address(row.ip_address),
            fixed_address=None,
            port_id=None,
            domain=DomainId(mine[0]["router_id"]),
            bandwidth=limits.get(row.qos_policy_id, ()),
            forwardings=tuple(sorted((_forwarding(one, host) for one in mine), key=_BY_PORT)),
        )


_BY_PORT = attrgetter("protocol", "port")


def _forwarding(row: Mapping[str, Any], host: HostName) -> ForwardingView:
    return ForwardingView(
        protocol=PROTOCOLS[row["protocol"]],
        port=row["external_port"],
        fixed_address=IPv4Address(row["internal_ip_address"]),
        fixed_port=row["internal_port"],
        port_id=PortId(row["internal_port_id"]),
        reached=row["is_placed"] or row["host"] == host,
    )
