"""The contract between server and agent: all that one host must know, at one revision.

A snapshot is complete. The agent needs no history and no second question; a notification only
makes it ask sooner. ``encode`` and ``decode`` are each other's inverse, and the JSON is sorted
so that equal snapshots are equal bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from trunkline.model import (
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
