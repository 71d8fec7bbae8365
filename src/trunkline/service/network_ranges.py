"""Many networks cut from one range in one request: VlanManager's way to set up a cloud.

Networks without a project wait until a project needs one (``service.auto_allocation``).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from sqlalchemy import or_, select

from trunkline.core.allocate import BITS, next_prefix, next_vlan
from trunkline.db.engine import Transaction
from trunkline.db.tables import networks as networks_table
from trunkline.db.tables import subnets as subnets_table
from trunkline.errors import Conflict, Invalid
from trunkline.model import VLAN_ID_MAX, IpNetwork
from trunkline.service import domains, networks, subnets
from trunkline.service.caller import Caller
from trunkline.service.collections import Record
from trunkline.service.segments import taken_vlans

UNOWNED = ""
"""``project_id`` of a network that no project has yet."""

NETWORKS_MAX = 256  # in one request: others wait for it

_OF_NETWORK = ("admin_state_up", "description", "mtu", "project_id", "shared", "tags")
_OF_SUBNET = ("dns_nameservers", "enable_dhcp", "host_routes", "service_types")


def create(tx: Transaction, caller: Caller, wish: Record) -> tuple[list[Record], list[Record]]:
    """Make networks with a subnet each; return networks and subnets, in the range's order.

    A prefix that something else has already is left out, and so is a VLAN id.

    Args:
        tx: The transaction.
        caller: Somebody who may make networks for others.
        wish: ``cidr`` as IPv4Network; ``network_size`` in addresses; ``num_networks`` (None: as
            many as fit); ``vlan_start`` (None: from the configured ranges); ``physical_network``;
            and what all networks and subnets get.

    Raises:
        Invalid: The sizes do not fit.
        Conflict: Prefixes or VLAN ids do not suffice.
    """
    length = BITS[4] - (wish["network_size"].bit_length() - 1)
    _require_sense(wish, length)
    whole = wish["num_networks"] is None
    count = 1 << (length - wish["cidr"].prefixlen) if whole else wish["num_networks"]
    made: tuple[list[Record], list[Record]] = ([], [])
    vlans = _vlans(tx, wish)
    for number, cidr in enumerate(_prefixes(tx, wish, length, count)):
        name = wish["name"] if count == 1 else f"{wish['name']}_{number}"
        network = networks.create(tx, caller, _network(wish, name, next(vlans)))
        made[0].append(network)
        made[1].append(subnets.create(tx, caller, _subnet(wish, network, name, cidr)))
        network["subnets"] = [made[1][-1]["id"]]
    return made


def _require_sense(wish: Record, length: int) -> None:
    size, cidr = wish["network_size"], wish["cidr"]
    if size != 1 << (BITS[4] - length) or length < cidr.prefixlen:
        raise Invalid(
            f"Invalid input for network_size. Reason: {size} is no power of two within {cidr}'s"
            f" {cidr.num_addresses} addresses.",
            "InvalidInput",
        )
    fitting = cidr.num_addresses // size
    wanted = wish["num_networks"] or fitting
    if wanted > min(fitting, NETWORKS_MAX):
        raise Invalid(
            f"Invalid input for num_networks. Reason: {wanted} networks of {size} addresses are too"
            f" many: {cidr} holds {fitting}, and one request makes {NETWORKS_MAX} at most.",
            "InvalidInput",
        )


def _network(wish: Record, name: str, vlan_id: int | None) -> Record:
    segment = {} if vlan_id is None else {"segmentation_id": vlan_id, "network_type": "vlan"}
    return {
        **{key: wish[key] for key in _OF_NETWORK},
        **segment,
        "name": name,
        "external": False,
        "physical_network": wish["physical_network"],
    }


def _subnet(wish: Record, network: Record, name: str, cidr: IpNetwork) -> Record:
    return {
        **{key: wish[key] for key in _OF_SUBNET},
        "description": "",
        "tags": [],
        "name": name,
        "network_id": network["id"],
        "ip_version": 4,
        "ipv6_ra_mode": None,
        "ipv6_address_mode": None,
        "cidr": cidr,
    }


def _prefixes(tx: Transaction, wish: Record, length: int, count: int) -> Iterator[IpNetwork]:
    """Yield free prefixes of the range, lowest first."""
    taken = _taken(tx)
    for number in range(count):
        found = next_prefix([wish["cidr"]], length, taken)
        if found is None:
            raise Conflict(
                f"cidr {wish['cidr']} has room for {number} networks of {wish['network_size']}"
                f" addresses, not for {count}: others or the administrator have the rest.",
                "CidrConflict",
            )
        taken.append(found)
        yield found


def _taken(tx: Transaction) -> list[IpNetwork]:
    """Return what networks to come may not overlap: of the default router, and what is outside."""
    router_id = domains.default_router(tx) if tx.limits.default_router else None
    found = (
        select(subnets_table.c.cidr)
        .join(networks_table, networks_table.c.id == subnets_table.c.network_id)
        .where(or_(networks_table.c.external, networks_table.c.router_id == router_id))
    )
    taken = [ip_network(cidr) for cidr in tx.connection.execute(found).scalars()]
    return [*taken, *tx.limits.reserved_prefixes]


def _vlans(tx: Transaction, wish: Record) -> Iterator[int | None]:
    """Yield VLAN ids from ``vlan_start`` on that are free; or None, and the ranges decide."""
    start, physical = wish["vlan_start"], wish["physical_network"]
    if start is None:
        while True:
            yield None
    taken = taken_vlans(tx, physical or next(iter(tx.limits.vlan_ranges), ""))
    while True:
        found = next_vlan([(start, VLAN_ID_MAX)], taken)
        if found is None:
            raise Conflict(
                f"vlan_start {start}: no VLAN id up to {VLAN_ID_MAX} is free any more.",
                "NoNetworkAvailable",
            )
        taken.add(found)
        yield found
