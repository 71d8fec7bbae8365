"""The contract between server and agent: all that one host must know, at one revision.

A snapshot is complete. The agent needs no history and no second question; a notification only
makes it ask sooner. ``encode`` and ``decode`` are each other's inverse, and the JSON is sorted
so that equal snapshots are equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, ip_network
from operator import attrgetter
from typing import Any

from trunkline.model import (
    Direction,
    FixedIp,
    FloatingIpId,
    GroupId,
    HostName,
    HostRoute,
    NetworkId,
    PortId,
    ProjectId,
    Rule,
    SubnetId,
)


@dataclass(frozen=True, slots=True)
class SubnetView:
    """A subnet as one host serves it.

    Attributes:
        gateway: This host's own address on the subnet: what its bridge carries, what its
            instances use as router and DHCP server.
        dns_servers: Handed out as they are; empty means the gateway answers DNS itself.
    """

    id: SubnetId
    cidr: IPv4Network
    gateway: IPv4Address | None
    enable_dhcp: bool = True
    dns_servers: tuple[IPv4Address, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network that the host must serve, sorted by id in its snapshot."""

    id: NetworkId
    project_id: ProjectId
    name: str
    physical_network: str
    vlan_id: int
    mtu: int
    subnets: tuple[SubnetView, ...]


@dataclass(frozen=True, slots=True)
class PortView:
    """An instance port bound to this host.

    Attributes:
        hostname: What DHCP tells the instance it is called; a valid DNS label.
        group_ids: Sorted. Empty with ``port_security`` means nothing comes in or goes out.
        admin_up: False unplugs the port.
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


@dataclass(frozen=True, slots=True)
class GroupView:
    """A security group that a port of this host is in, with its rules sorted by id."""

    id: GroupId
    project_id: ProjectId
    name: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class FloatingView:
    """A floating IP whose port lives on this host."""

    id: FloatingIpId
    project_id: ProjectId
    address: IPv4Address
    fixed_address: IPv4Address
    port_id: PortId


@dataclass(frozen=True, slots=True)
class HostSnapshot:
    """Everything one host must know at one revision.

    Attributes:
        members: Fixed addresses, on any host, of the ports of each group that a rule in
            ``groups`` names as its remote group. Sorted.
        tenant_prefixes: Every subnet of every tenant network of the cloud, on this host or
            not: what must never leave by the uplink, and what is source-translated. Sorted.
    """

    host: HostName
    revision: int
    networks: tuple[NetworkView, ...] = ()
    ports: tuple[PortView, ...] = ()
    groups: tuple[GroupView, ...] = ()
    members: dict[GroupId, tuple[IPv4Address, ...]] = field(default_factory=dict)
    floating_ips: tuple[FloatingView, ...] = ()
    tenant_prefixes: tuple[IPv4Network, ...] = ()


# --- sections -------------------------------------------------------------------------------
#
# A snapshot travels in sections, so that one more port costs one small section and not the whole.
# ``networks``, ``tenant_prefixes``, ``ports/<2 hex>`` and ``floating_ips/<2 hex>`` by the start of
# the object's id, ``group/<id>``, ``members/<group id>/<hex>`` by the address's last four bits.

Part = tuple[Any, ...]
"""One decoded section: the values of one kind that it holds, sorted."""


def encode(snapshot: HostSnapshot) -> dict[str, str]:
    """Return the snapshot's sections by name, each as canonical JSON.

    Host and revision are not in there: they change when nothing else does. Sections without
    content do not exist, except that ``members/<id>/`` (no digit) stands for a group that is
    named by a rule and has no member.
    """
    sections: dict[str, list[Any]] = {
        "networks": [_network_out(network) for network in snapshot.networks],
        "tenant_prefixes": [str(prefix) for prefix in snapshot.tenant_prefixes],
    }
    for port in snapshot.ports:
        sections.setdefault(f"ports/{port.id[:2]}", []).append(_port_out(port))
    for floating in snapshot.floating_ips:
        sections.setdefault(f"floating_ips/{floating.id[:2]}", []).append(_floating_out(floating))
    for group in snapshot.groups:
        sections[f"group/{group.id}"] = [_group_out(group)]
    for group_id, addresses in snapshot.members.items():
        if not addresses:
            sections[f"members/{group_id}/"] = []
        for address in addresses:
            name = f"members/{group_id}/{int(address) & 15:x}"
            sections.setdefault(name, []).append(str(address))
    return {name: _canonical(values) for name, values in sections.items() if values or "/" in name}


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


def assemble(host: HostName, revision: int, parts: Mapping[str, Part]) -> HostSnapshot:
    """Return the snapshot that consists of these decoded sections, keyed by their names."""
    by_kind: dict[str, list[Any]] = {kind: [] for kind in _DECODERS}
    members: dict[GroupId, list[IPv4Address]] = {}
    for name, part in parts.items():
        kind, _, rest = name.partition("/")
        if kind == "members":
            members.setdefault(GroupId(rest.partition("/")[0]), []).extend(part)
        else:
            by_kind[kind].extend(part)
    return HostSnapshot(
        host=host,
        revision=revision,
        networks=tuple(sorted(by_kind["networks"], key=_id)),
        ports=tuple(sorted(by_kind["ports"], key=_id)),
        groups=tuple(sorted(by_kind["group"], key=_id)),
        members={group: tuple(sorted(members[group])) for group in sorted(members)},
        floating_ips=tuple(sorted(by_kind["floating_ips"], key=_id)),
        tenant_prefixes=tuple(sorted(by_kind["tenant_prefixes"])),
    )


def decode(host: HostName, revision: int, sections: Mapping[str, str]) -> HostSnapshot:
    """Return the snapshot whose sections ``encode`` made."""
    parts = {name: decode_section(name, json.loads(text)) for name, text in sections.items()}
    return assemble(host, revision, parts)


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


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
    }


def _network_in(data: Mapping[str, Any]) -> NetworkView:
    return NetworkView(**{**data, "subnets": tuple(map(_subnet_in, data["subnets"]))})


def _subnet_out(subnet: SubnetView) -> dict[str, Any]:
    return {
        "id": subnet.id,
        "cidr": str(subnet.cidr),
        "gateway": None if subnet.gateway is None else str(subnet.gateway),
        "enable_dhcp": subnet.enable_dhcp,
        "dns_servers": [str(server) for server in subnet.dns_servers],
        "host_routes": [[str(r.destination), str(r.nexthop)] for r in subnet.host_routes],
    }


def _subnet_in(data: Mapping[str, Any]) -> SubnetView:
    return SubnetView(
        id=data["id"],
        cidr=IPv4Network(data["cidr"]),
        gateway=None if data["gateway"] is None else IPv4Address(data["gateway"]),
        enable_dhcp=data["enable_dhcp"],
        dns_servers=tuple(map(IPv4Address, data["dns_servers"])),
        host_routes=tuple(
            HostRoute(IPv4Network(destination), IPv4Address(nexthop))
            for destination, nexthop in data["host_routes"]
        ),
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
    }


def _port_in(data: Mapping[str, Any]) -> PortView:
    fixed_ips = tuple(
        FixedIp(SubnetId(subnet_id), IPv4Address(address))
        for subnet_id, address in data["fixed_ips"]
    )
    return PortView(**{**data, "fixed_ips": fixed_ips, "group_ids": tuple(data["group_ids"])})


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
        "fixed_address": str(floating.fixed_address),
        "port_id": floating.port_id,
    }


def _floating_in(data: Mapping[str, Any]) -> FloatingView:
    return FloatingView(
        **{
            **data,
            "address": IPv4Address(data["address"]),
            "fixed_address": IPv4Address(data["fixed_address"]),
        }
    )


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "networks": _network_in,
    "ports": _port_in,
    "group": _group_in,
    "members": IPv4Address,
    "floating_ips": _floating_in,
    "tenant_prefixes": IPv4Network,
}
