"""IPv6 subnets: where they can be, and which of the Networking API's combinations are served.

What a host carries of IPv6 it carries from addresses of its own: a network whose router is on
several hosts by name, or whose gateway is not the host's own, has IPv4 only, and a request that
would have it otherwise is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from sqlalchemy import bindparam, select

from trunkline.core.allocate import BITS, INTERFACE_BITS
from trunkline.db.engine import Transaction
from trunkline.db.tables import router_hosts, routers, subnets
from trunkline.errors import Conflict, Invalid
from trunkline.model import GatewayMode, IpNetwork
from trunkline.service.addresses import is_automatic
from trunkline.service.collections import Record

IPV6 = 6
PREFIX_MIN = 64  # what a router advertises and a DHCPv6 server takes is this long at least

_SUBNETS = select(subnets.c.id, subnets.c.ipv6_address_mode).where(
    subnets.c.network_id == bindparam("of_network"), subnets.c.ip_version == IPV6
)
_DEFAULT_ROUTER = select(routers.c.id).where(routers.c.is_default)
_PLACED_ON = select(router_hosts.c.host).where(router_hosts.c.router_id == bindparam("of_router"))


def require_family(cidr: IpNetwork, values: Record) -> None:
    """Raise Invalid if an attribute of a subnet is of the other IP version than its prefix.

    ``values`` has ``ip_version``, and may have what else has addresses.
    """
    for name, found in _addressed(cidr, values):
        if found.version != values["ip_version"]:
            raise Invalid(
                f"Invalid input for operation: {name} '{found}' does not match the ip_version"
                f" '{values['ip_version']}'.",
                "InvalidInput",
            )


def _addressed(cidr: IpNetwork, values: Record) -> Iterator[tuple[str, Any]]:
    yield "cidr", cidr
    if values.get("gateway_ip") is not None:
        yield "gateway_ip", values["gateway_ip"]
    for server in values.get("dns_nameservers") or ():
        yield "dns_nameservers", ip_address(server)
    for route in values.get("host_routes") or ():
        yield "host_routes", ip_network(route["destination"])


def require_sense(cidr: IpNetwork, subnet: Record) -> None:
    """Raise Invalid if a subnet's modes contradict each other, its prefix or its DHCP.

    Args:
        cidr: Its prefix.
        subnet: As it will be; ``gateway_ip`` may be absent.
    """
    modes = subnet["ipv6_ra_mode"], subnet["ipv6_address_mode"]
    reason = ""
    if subnet["ip_version"] != IPV6:
        reason = "they are not valid when ip_version is 4" if any(modes) else ""
    elif any(modes) and not subnet["enable_dhcp"]:
        reason = "they cannot be set when enable_dhcp is set to False"
    elif modes[0] != modes[1]:
        reason = (
            f"'{modes[0]}' with '{modes[1]}' is not valid: hosts send the advertisements and"
            " give the addresses, so both must be the same value, or neither be given"
        )
    if reason:
        raise Invalid(
            f"Invalid input for operation: ipv6_ra_mode or ipv6_address_mode: {reason}.",
            "InvalidInput",
        )
    if subnet["ip_version"] == IPV6:
        _require_prefix(cidr, subnet)


def _require_prefix(cidr: IpNetwork, subnet: Record) -> None:
    if is_automatic(subnet) and cidr.prefixlen != BITS[IPV6] - INTERFACE_BITS:
        raise Invalid(
            f"Invalid input for operation: Invalid CIDR {cidr} for IPv6 address mode. OpenStack"
            " uses the EUI-64 address format, which requires the prefix to be /64.",
            "InvalidInput",
        )
    if is_automatic(subnet) and subnet["service_types"]:
        raise Invalid(
            f"Invalid input for service_types. Reason: with {subnet['ipv6_address_mode']} every"
            " instance of the network makes itself an address of what is advertised to all; use"
            " dhcpv6-stateful, or another network.",
            "InvalidInput",
        )
    if cidr.prefixlen < PREFIX_MIN:
        raise Invalid(
            f"Invalid input for cidr. Reason: {cidr} is wider than a link has; use a"
            f" /{PREFIX_MIN} of it.",
            "InvalidInput",
        )
    if subnet.get("gateway_ip", cidr) is None:
        raise Invalid(
            f"Invalid input for gateway_ip. Reason: {cidr} is routed by the hosts that serve"
            " it, and the first of them has this address; leave it out, or give another one.",
            "InvalidInput",
        )


def require_carried(tx: Transaction, network: Record, subnet: Record) -> None:
    """Raise Invalid if no host would carry an IPv6 subnet on a network, or not as it says."""
    default = tx.connection.scalar(_DEFAULT_ROUTER) if tx.limits.default_router else None
    router_id = network["router_id"] or default
    reason = ""
    if network["external"]:
        reason = "is external: floating IPs are IPv4, and IPv6 is translated nowhere"
    elif network["gateway"] != GatewayMode.PER_HOST:
        reason = f"has trunkline:gateway {network['gateway']}; IPv6 needs per_host"
    elif len(tx.connection.execute(_PLACED_ON, {"of_router": router_id}).all()) > 1:
        reason = f"would be on router {router_id}, which is on several hosts (trunkline:hosts)"
    if reason:
        raise Invalid(
            f"Invalid input for ip_version. Reason: network {network['id']} {reason}.",
            "InvalidInput",
        )
    _require_one_mode(tx, network, subnet["ipv6_address_mode"])


def _require_one_mode(tx: Transaction, network: Record, mode: str | None) -> None:
    """Raise Invalid if a network's advertisements would have to say two things."""
    found = tx.connection.execute(_SUBNETS, {"of_network": network["id"]}).all()
    for subnet_id, other in found:
        if None not in (mode, other) and mode != other:
            raise Invalid(
                f"Invalid input for ipv6_address_mode. Reason: subnet {subnet_id} of the same"
                f" network has {other}, and instances get one router advertisement for all of"
                f" them; use {other} too, or another network.",
                "InvalidInput",
            )


def require_none(tx: Transaction, network_id: str, what: str) -> None:
    """Raise Conflict if a network has an IPv6 subnet, because of what is to become of it.

    Args:
        tx: The transaction.
        network_id: The network.
        what: The beginning of a sentence that the reason ends.
    """
    found = tx.connection.execute(_SUBNETS, {"of_network": network_id}).first()
    if found is not None:
        raise Conflict(
            f"{what}: its subnet {found.id} is IPv6, which hosts carry with trunkline:gateway"
            " per_host only, on routers that are on one host or on all (trunkline:hosts); delete"
            " that subnet first.",
            "SubnetInUse",
        )
