"""What the cloud consists of, as values. No behaviour beyond what a value knows of itself.

Ids are UUID strings in the Networking API's form. Addresses are ``ipaddress`` objects; text
becomes an address at the edge and nowhere else. Ingress and egress are seen from the instance.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, NewType

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
LINK_LOCAL = IPv6Network("fe80::/64")

NetworkId = NewType("NetworkId", str)
SubnetId = NewType("SubnetId", str)
PortId = NewType("PortId", str)
GroupId = NewType("GroupId", str)
RuleId = NewType("RuleId", str)
FloatingIpId = NewType("FloatingIpId", str)
ProjectId = NewType("ProjectId", str)
RouterId = NewType("RouterId", str)
HostName = NewType("HostName", str)
DomainId = NewType("DomainId", str)
"""Where an address means one thing: a router with its networks, or a network on no router.

The router's id, or the network's.
"""


def link_local(mac: str) -> IPv6Address:
    """Return the link-local address that is made of a MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    interface_id = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return LINK_LOCAL[int.from_bytes(interface_id)]


VLAN_ID_MIN, VLAN_ID_MAX = 1, 4094  # IEEE 802.1Q: 0 is priority-only, 4095 is reserved
MTU_MIN, MTU_MAX = 68, 65535  # RFC 791; the bridge device's own limit

GATEWAY_OWNER = "trunkline:gateway"
"""``device_owner`` of the port that holds one host's own address on one network.

Its ``binding:host_id`` names the host. Created when the first instance port of the network is
bound to the host, deleted with the last one; an administrator may create it first, to choose
the address.
"""

ROUTER_INTERFACE_OWNER = "network:router_interface"
"""``device_owner`` of the port by which a subnet is on a router; ``device_id`` is the router."""

FLOATING_OWNER = "network:floatingip"
"""``device_owner`` of the port that reserves a floating IP's address on its external network."""


DNS_DOMAIN = "internal"
"""The domain of a network that names none of its own: ICANN's for private use."""


class Provisioning(StrEnum):
    """Where a network is, besides the hosts that one of its instances lives on."""

    ON_DEMAND = "on_demand"  # nowhere else, as in the article
    ROUTER = "router"  # wherever a network of the same router is
    EVERYWHERE = "everywhere"  # on every host, as soon as the network exists


class GatewayMode(StrEnum):
    """Which address instances of a network have as their gateway."""

    PER_HOST = "per_host"  # each host takes an address of its own, as in the article
    ANYCAST = "anycast"  # every host has the subnet's gateway_ip, kept off the trunk
    UPSTREAM = "upstream"  # the subnet's gateway_ip is a router on the segment that is not ours


class VifType(StrEnum):
    """How Nova plugs an instance in."""

    TAP = "tap"  # it makes the tap, and the host's agent puts it on the bridge
    BRIDGE = "bridge"  # it puts the tap on the bridge by itself: Nova up to 33


class AddressMode(StrEnum):
    """How instances get their addresses of an IPv6 subnet, in the Networking API's words.

    Each is a way to set the flags of a router advertisement (RFC 4861, 4.2 and 4.6.2).
    """

    SLAAC = "slaac"  # by the prefix and their MAC alone; A
    STATELESS = "dhcpv6-stateless"  # the same, and the rest by DHCPv6; A and O
    STATEFUL = "dhcpv6-stateful"  # by DHCPv6; M and O


class Direction(StrEnum):
    """Which way a rule looks, as seen from the instance."""

    INGRESS = "ingress"
    EGRESS = "egress"


class PortStatus(StrEnum):
    """The Networking API's port states that Trunkline uses."""

    ACTIVE = "ACTIVE"
    DOWN = "DOWN"


@dataclass(frozen=True, slots=True)
class HostRoute:
    """A route handed out by DHCP (option 121)."""

    destination: IPv4Network
    nexthop: IPv4Address


@dataclass(frozen=True, slots=True)
class FixedIp:
    """One address of a port, on one subnet of the port's network."""

    subnet_id: SubnetId
    address: IpAddress


def by_family(value: IpAddress | IpNetwork) -> tuple[int, Any]:
    """Return the key that sorts addresses, or prefixes, of both families: IPv4 first.

    Addresses alone sort as numbers in the same way, and thousands of them faster.
    """
    return value.version, value


def host_label(dns_name: str, address: IpAddress) -> str:
    """Return what DNS calls a port at one of its addresses: its name, or one made of it.

    An IPv6 address is written in full: a label cannot end with the hyphens of a ``::``.
    """
    return dns_name or "host-" + address.exploded.replace(".", "-").replace(":", "-")


@dataclass(frozen=True, slots=True)
class AddressPair:
    """A MAC and a prefix that a port may send from and is reached at, besides its own."""

    mac: str
    prefix: IpNetwork


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """A limit of a QoS policy, one way.

    Attributes:
        max_kbps: In kilobits (1,000 bits) per second.
        max_burst_kbps: In kilobits; 0 leaves it to the host.
    """

    direction: Direction
    max_kbps: int
    max_burst_kbps: int = 0


@dataclass(frozen=True, slots=True)
class DhcpOption:
    """A DHCP option for one port: a name of dnsmasq's, or a number as text, and its value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One security group rule.

    Attributes:
        protocol: IP protocol number; None is any protocol.
        port_min: First destination port (TCP, UDP, SCTP, DCCP, UDP-Lite), or the ICMP type.
        port_max: Last destination port, or the ICMP code; None with ICMP is any code.
        remote_prefix: The peer's addresses; None is anybody.
        remote_group_id: The peer must be a port of this group; never set with a prefix.
        ethertype: 4 or 6.
    """

    id: RuleId
    direction: Direction
    ethertype: int = 4
    protocol: int | None = None
    port_min: int | None = None
    port_max: int | None = None
    remote_prefix: IpNetwork | None = None
    remote_group_id: GroupId | None = None
