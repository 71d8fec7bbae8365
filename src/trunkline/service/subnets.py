"""Subnets: a prefix of a network, with the pools that addresses are chosen from.

A tenant prefix may overlap others on other routers, but no external subnet, and nothing that the
administrator reserved: those mean the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from itertools import pairwise

from sqlalchemy import delete, exists, insert, or_, select, update

from trunkline.core.allocate import BITS, Pool, default_pools, is_usable, usable
from trunkline.db.engine import Transaction
from trunkline.db.tables import fixed_ips, networks, ports, subnets
from trunkline.errors import Conflict, Invalid
from trunkline.model import GATEWAY_OWNER, GatewayMode, IpAddress, IpNetwork
from trunkline.service import domains, gateways, ipv6, slaac, subnetpools
from trunkline.service.addresses import is_automatic
from trunkline.service.caller import Caller
from trunkline.service.collections import (
    OWN_PROJECT,
    Collection,
    Record,
    fetch,
    fetch_own,
    new_record,
    touched,
)
from trunkline.service.concern import claim_prefixes, differs
from trunkline.service.networks import COLLECTION as NETWORKS
from trunkline.service.provisioning import network_changed, plugged
from trunkline.service.sharing import lent_ids

SHOWN = {"enable_dhcp", "dns_nameservers", "host_routes"}  # columns in hosts' snapshots
HOST_BITS_MIN = 2  # fewer leave no room for a gateway and an instance

_CIDRS = {
    True: select(subnets.c.cidr),
    False: select(subnets.c.cidr)
    .join(networks, networks.c.id == subnets.c.network_id)
    .where(networks.c.external),
}
"""What a prefix may not overlap wherever it is, by whether it is an external one."""


_VISIBLE = or_(
    subnets.c.project_id == OWN_PROJECT,
    subnets.c.network_id.in_(lent_ids()),
)


def _complete(_tx: Transaction, records: list[Record]) -> None:
    for record in records:
        del record["cursor"]


COLLECTION = Collection("subnet", "Subnet", subnets, _VISIBLE, _complete)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a subnet; hosts that serve its network already get their addresses on it.

    ``values`` has what ``subnetpools.cut`` wants, ``gateway_ip`` as address or None (absent:
    the first address), ``allocation_pools`` as address pairs (absent: all but the gateway).

    Raises:
        Invalid: The prefix, gateway, pools or routes contradict each other or other subnets.
        Conflict: The pools are too small for the hosts' gateways, or hold the gateway.
    """
    network = fetch_own(tx, caller, NETWORKS, values["network_id"])
    claim_prefixes(tx, network)
    values |= subnetpools.cut(tx, caller, network, values)
    cidr = values["cidr"]
    ipv6.require_family(cidr, values)
    ipv6.require_sense(cidr, values)
    _require_prefix(tx, cidr, network)
    gateway = values.get("gateway_ip", usable(cidr)[0])
    pools = values.get("allocation_pools") or default_pools(cidr, gateway)
    _require_pools(cidr, gateway, pools)
    _require_inside(cidr, gateway)
    if values["ip_version"] == ipv6.IPV6:
        ipv6.require_carried(tx, network, values)
    for wish in ("prefixlen", "use_default_subnetpool"):
        values.pop(wish, None)
    record = new_record(tx, {**values, "project_id": network["project_id"], "cidr": str(cidr)})
    record |= {"gateway_ip": _text(gateway), "allocation_pools": _pool_texts(pools)}
    record["cursor"] = None
    tx.connection.execute(insert(subnets), record)
    if not network["external"]:
        domains.settle(tx, network["id"])
        gateways.ensure_everywhere(tx, network["id"])
        slaac.give(tx, record)
    del record["cursor"]
    return record


def update_(tx: Transaction, caller: Caller, subnet_id: str, values: Record) -> Record:
    """Change a subnet; its prefix stays.

    A new ``gateway_ip`` is for hosts to come: those that have an address keep it.

    Raises:
        Invalid, Conflict: As in ``create``.
    """
    record = fetch_own(tx, caller, COLLECTION, subnet_id)
    cidr = ip_network(record["cidr"])
    ipv6.require_family(cidr, {"ip_version": record["ip_version"], **values})
    ipv6.require_sense(cidr, {**record, **values})
    gateway = values.get("gateway_ip", record["gateway_ip"] and ip_address(record["gateway_ip"]))
    pools = values.get("allocation_pools") or _pools(record)
    _require_pools(cidr, gateway, pools)
    _require_inside(cidr, gateway)
    changed = {**values, **touched(tx, record)}
    changed |= {"gateway_ip": _text(gateway), "allocation_pools": _pool_texts(pools)}
    after = {**record, **changed}
    network = fetch(tx, caller, NETWORKS, record["network_id"])
    if not network["external"]:
        _require_gateway_free(tx, network, record, after)
    tx.connection.execute(update(subnets).where(subnets.c.id == subnet_id), changed)
    if not network["external"]:
        _move_gateways(tx, network, record, after)
    if differs(record, after, SHOWN):
        network_changed(tx, network["id"])
    return after


def _require_gateway_free(tx: Transaction, network: Record, before: Record, after: Record) -> None:
    """Raise Conflict if ``gateway_ip`` would change while somebody relies on that very address."""
    if before["gateway_ip"] == after["gateway_ip"]:
        return
    holder = gateways.lender(tx, before)
    anycast = network["gateway"] == GatewayMode.ANYCAST
    if holder is None and anycast and plugged(tx, network["id"]):
        holder = "the gateway of every host, which instances use"
    if holder is not None:
        raise Conflict(
            f"Current gateway ip {before['gateway_ip']} of subnet {before['id']} already in use by"
            f" {holder}. Unable to update gateway_ip.",
            "GatewayIpInUse",
        )


def _move_gateways(tx: Transaction, network: Record, before: Record, after: Record) -> None:
    """Let router and gateway addresses of a network follow a change of a subnet."""
    if (before["gateway_ip"] is None) != (after["gateway_ip"] is None):
        claim_prefixes(tx, network)
        domains.settle(tx, network["id"])
    if before["gateway_ip"] != after["gateway_ip"] and network["gateway"] == GatewayMode.ANYCAST:
        gateways.drop_subnet(tx, network["id"], after["id"])
    gateways.ensure_everywhere(tx, network["id"])


def delete_(tx: Transaction, caller: Caller, subnet_id: str) -> None:
    """Delete a subnet, and the hosts' own addresses on it.

    Raises:
        Conflict: A port of an instance or a floating IP has an address on it that it did not
            make itself.
    """
    record = fetch_own(tx, caller, COLLECTION, subnet_id)
    in_use = exists().where(
        fixed_ips.c.subnet_id == subnet_id,
        ports.c.id == fixed_ips.c.port_id,
        ports.c.device_owner != GATEWAY_OWNER,
    )
    if not is_automatic(record) and tx.connection.scalar(select(in_use)):
        raise Conflict(
            f"Unable to complete operation on subnet {subnet_id}: One or more ports have an IP"
            " allocation from this subnet; delete them first.",
            "SubnetInUse",
        )
    network = fetch(tx, caller, NETWORKS, record["network_id"])
    claim_prefixes(tx, network)
    gateways.drop_subnet(tx, record["network_id"], subnet_id)
    slaac.take(tx, record)
    tx.connection.execute(delete(subnets).where(subnets.c.id == subnet_id))
    if not network["external"]:
        domains.settle(tx, network["id"])


def _require_prefix(tx: Transaction, cidr: IpNetwork, network: Record) -> None:
    """Raise Invalid unless the prefix is of a usable size and overlaps nothing it must not."""
    longest = BITS[cidr.version] - HOST_BITS_MIN
    if cidr.prefixlen > longest:
        raise Invalid(
            f"Invalid input for cidr. Reason: {cidr} has no room for a gateway and an instance;"
            f" use a /{longest} or larger.",
            "InvalidInput",
        )
    for reserved in tx.limits.reserved_prefixes:
        if cidr.overlaps(reserved) and not network["external"]:
            raise Invalid(
                f"Invalid input for cidr. Reason: {cidr} overlaps {reserved}, which the"
                " administrator has reserved; choose another prefix.",
                "InvalidInput",
            )
    for other in tx.connection.execute(_CIDRS[bool(network["external"])]).scalars():
        if cidr.overlaps(ip_network(other)):
            kind = "a subnet" if network["external"] else "an external subnet"
            raise Invalid(
                f"Invalid input for operation: Requested subnet with cidr: {cidr} for network:"
                f" {network['id']} overlaps with another subnet: {other} is {kind} of this cloud."
                " Choose a prefix that no one uses.",
                "InvalidInput",
            )


def _require_inside(cidr: IpNetwork, gateway: IpAddress | None) -> None:
    if gateway is not None and not is_usable(gateway, cidr):
        raise Invalid(
            f"Invalid input for gateway_ip. Reason: {gateway} is no usable address of {cidr}.",
            "InvalidInput",
        )


def _require_pools(cidr: IpNetwork, gateway: IpAddress | None, pools: Sequence[Pool]) -> None:
    first, last = usable(cidr)
    for low, high in pools:
        if {low.version, high.version} != {cidr.version} or int(low) > int(high):
            raise Invalid(
                f"The allocation pool {low}-{high} is not valid: it starts behind its end, or is"
                f" not of {cidr}'s IP version (allocation_pools).",
                "InvalidAllocationPool",
            )
        if not (is_usable(low, cidr) and is_usable(high, cidr)):
            raise Invalid(
                f"The allocation pool {low}-{high} spans beyond the subnet cidr {cidr}, whose"
                f" usable addresses are {first}-{last} (allocation_pools).",
                "OutOfBoundsAllocationPool",
            )
        if gateway is not None and int(low) <= int(gateway) <= int(high):
            raise Conflict(
                f"Gateway ip {gateway} conflicts with allocation pool {low}-{high}: leave"
                " gateway_ip out of allocation_pools.",
                "GatewayConflictWithAllocationPools",
            )
    ordered = sorted(pools, key=lambda pool: int(pool[0]))
    for (_, high), (low, end) in pairwise(ordered):
        if int(low) <= int(high):
            raise Conflict(
                f"Found overlapping allocation pools for subnet {cidr}: {low}-{end} begins inside"
                " another one (allocation_pools).",
                "OverlappingAllocationPools",
            )


def _pools(record: Record) -> list[Pool]:
    return [
        (ip_address(pool["start"]), ip_address(pool["end"])) for pool in record["allocation_pools"]
    ]


def _pool_texts(pools: Sequence[Pool]) -> list[dict[str, str]]:
    return [{"start": str(first), "end": str(last)} for first, last in pools]


def _text(gateway: IpAddress | None) -> str | None:
    return None if gateway is None else str(gateway)
