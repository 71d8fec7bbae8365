"""Fixed addresses: which of a network's addresses a port gets, given, chosen or made of its MAC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Any

from sqlalchemy import BindParameter, bindparam, delete, insert, select, union_all, update

from trunkline.core.allocate import eui64, is_usable, next_address, walk
from trunkline.db.engine import Transaction
from trunkline.db.tables import fixed_ips, reserved_addresses, subnets
from trunkline.errors import Conflict, Invalid
from trunkline.model import AddressMode
from trunkline.service.collections import Record

WINDOW = 16  # candidates looked up at once; the search behind the cursor rarely needs a second
CHUNK = 500  # values in one IN list

FixedIpRow = dict[str, str]
"""``{"subnet_id": ..., "ip_address": ...}``, as in the API and in the table."""


_OF_NETWORK = select(subnets).where(subnets.c.network_id == bindparam("of_network"))
_NOT_FREE = tuple(
    select(table.c.ip_address).where(table.c.subnet_id == bindparam("of_subnet"))
    for table in (fixed_ips, reserved_addresses)
)
_AMONG: BindParameter[Any] = bindparam("among", expanding=True)
_TAKEN = union_all(*_NOT_FREE)
_TAKEN_AMONG = union_all(
    *(found.where(found.selected_columns.ip_address.in_(_AMONG)) for found in _NOT_FREE)
)
_MOVE_CURSOR = update(subnets).where(subnets.c.id == bindparam("of_subnet"))
_ADD = insert(fixed_ips)


def subnets_of(tx: Transaction, network_id: str) -> list[Record]:
    """Return a network's subnets, oldest first."""
    rows = tx.connection.execute(_OF_NETWORK, {"of_network": network_id}).mappings()
    return sorted((dict(row) for row in rows), key=lambda row: (row["created_at"], row["id"]))


def is_automatic(subnet: Record) -> bool:
    """Return whether instances make their address of a subnet themselves, of their MAC."""
    return subnet["ipv6_address_mode"] in (AddressMode.SLAAC, AddressMode.STATELESS)


def automatic(
    tx: Transaction,
    available: Sequence[Record],
    port: Record,
    held: Sequence[FixedIpRow] = (),
) -> list[FixedIpRow]:
    """Return the addresses that a port's interface makes for itself, given its MAC.

    Raises:
        Conflict: Somebody has one of them, or it is reserved.
    """
    mine = [subnet for subnet in available if is_automatic(subnet)]
    rows = [made_of_mac(subnet, port["mac_address"]) for subnet in mine]
    _require_free(tx, [row for row in rows if row not in held])
    return rows


def made_of_mac(subnet: Record, mac: str) -> FixedIpRow:
    """Return the address that a MAC makes of an automatic subnet."""
    return _row(subnet, eui64(IPv6Network(subnet["cidr"]), mac))


def without_automatic(
    available: Sequence[Record], wanted: Sequence[FixedIpRow], *macs: str
) -> list[FixedIpRow]:
    """Return the wishes of a request but those that come true by themselves.

    Args:
        available: The network's subnets.
        wanted: As in ``resolve``.
        macs: The port's, and what it had until now.

    Raises:
        Invalid: One names an address of an automatic subnet that none of the MACs makes.
    """
    rest = []
    for want in wanted:
        subnet = _subnet_for(available, want)
        if not is_automatic(subnet):
            rest.append(want)
            continue
        made = [made_of_mac(subnet, mac)["ip_address"] for mac in macs]
        if want.get("ip_address", made[0]) not in made:
            raise Invalid(
                f"IPv6 address {want['ip_address']} cannot be directly assigned to a port on subnet"
                f" {subnet['id']} as the subnet is configured for automatic addresses (fixed_ips):"
                f" MAC {macs[0]} makes it {made[0]}.",
                "AllocationOnAutoAddressSubnet",
            )
    return rest


def choose_any(tx: Transaction, available: Sequence[Record], device_owner: str) -> list[FixedIpRow]:
    """Return a free address of each IP version that the network has subnets of to choose from.

    It is of the first such subnet that has one. Subnets with ``service_types`` are only for ports
    with one of these as ``device_owner``.

    Raises:
        Conflict: All subnets of a version are exhausted, or none is for such a port.
    """
    suited = [s for s in available if not s["service_types"] or device_owner in s["service_types"]]
    if available and not suited:
        raise Conflict(
            f"No valid service subnet for the given device owner {device_owner!r}: all subnets of"
            f" network {available[0]['network_id']} have other service_types.",
            "IpAddressGenerationFailureNoMatchingSubnet",
        )
    by_version: dict[int, list[Record]] = {}
    for subnet in suited:
        if not is_automatic(subnet):
            by_version.setdefault(subnet["ip_version"], []).append(subnet)
    return [_choose(tx, by_version[version]) for version in sorted(by_version)]


def _choose(tx: Transaction, subnets: Sequence[Record]) -> FixedIpRow:
    for subnet in subnets:
        address = next_free(tx, subnet)
        if address is not None:
            return _row(subnet, address)
    raise exhausted(subnets[0])


def resolve(
    tx: Transaction,
    available: Sequence[Record],
    wanted: Sequence[FixedIpRow],
    held: Sequence[FixedIpRow] = (),
) -> list[FixedIpRow]:
    """Return full addresses for a request's ``fixed_ips``.

    Args:
        tx: The transaction.
        available: The network's subnets.
        wanted: Each with ``subnet_id``, ``ip_address`` or both, as texts.
        held: What the port has already; a wish for a subnet alone keeps such an address.

    Raises:
        Invalid: A subnet is not the network's, or an address not the subnet's.
        Conflict: An address is taken, or a subnet exhausted.
    """
    given = [
        _row(_subnet_for(available, want), want["ip_address"])
        for want in wanted
        if "ip_address" in want
    ]
    _require_distinct(given)
    _require_free(tx, [row for row in given if row not in held])
    chosen = list(given)
    for want in wanted:
        if "ip_address" not in want:
            chosen.append(_keep_or_choose(tx, _subnet_for(available, want), chosen, held))
    return chosen


def store(tx: Transaction, port_id: str, rows: Iterable[FixedIpRow]) -> None:
    """Record addresses as a port's."""
    values = [{**row, "port_id": port_id} for row in rows]
    if values:
        tx.connection.execute(_ADD, values)


def replace(
    tx: Transaction, port_id: str, held: Sequence[FixedIpRow], wanted: Sequence[FixedIpRow]
) -> None:
    """Make ``wanted`` a port's addresses instead of ``held``."""
    for row in held:
        if row not in wanted:
            tx.connection.execute(
                delete(fixed_ips).where(
                    fixed_ips.c.subnet_id == row["subnet_id"],
                    fixed_ips.c.ip_address == row["ip_address"],
                )
            )
    store(tx, port_id, [row for row in wanted if row not in held])


def taken(tx: Transaction, subnet: Record, among: Sequence[str] | None = None) -> set[str]:
    """Return the subnet's taken or reserved addresses: all, or those among the given few."""
    if among is None:
        return set(tx.connection.execute(_TAKEN, {"of_subnet": subnet["id"]}).scalars())
    few = {"of_subnet": subnet["id"], "among": list(among)}
    return set(tx.connection.execute(_TAKEN_AMONG, few).scalars())


def exhausted(subnet: Record) -> Conflict:
    """Return the error for a network without a free address."""
    return Conflict(
        f"No more IP addresses available on network {subnet['network_id']}: every address of the"
        f" allocation pools of subnet {subnet['cidr']} is taken.",
        "IpAddressGenerationFailure",
    )


def next_free(tx: Transaction, subnet: Record, also_taken: Iterable[str] = ()) -> str | None:
    """Return a free address of the pools and move the subnet's cursor there."""
    pools = [(ip_address(p["start"]), ip_address(p["end"])) for p in subnet["allocation_pools"]]
    cursor = subnet["cursor"] and ip_address(subnet["cursor"])
    window = [str(address) for address in islice(walk(pools, cursor), WINDOW)]
    occupied = taken(tx, subnet, window) | set(also_taken)
    address = next((text for text in window if text not in occupied), None)
    if address is None and len(window) == WINDOW:
        everything = set(map(ip_address, taken(tx, subnet) | occupied))
        found = next_address(walk(pools, cursor), everything)
        address = None if found is None else str(found)
    if address is not None:
        subnet["cursor"] = address
        moved = {"of_subnet": subnet["id"], "cursor": address}
        tx.connection.execute(_MOVE_CURSOR, moved)
    return address


def _keep_or_choose(
    tx: Transaction, subnet: Record, chosen: Sequence[FixedIpRow], held: Sequence[FixedIpRow]
) -> FixedIpRow:
    for row in held:
        if row["subnet_id"] == subnet["id"] and row not in chosen:
            return row
    address = next_free(tx, subnet, [row["ip_address"] for row in chosen])
    if address is None:
        raise exhausted(subnet)
    return _row(subnet, address)


def _subnet_for(available: Sequence[Record], want: FixedIpRow) -> Record:
    """Return the subnet that a wish means."""
    if "subnet_id" in want:
        subnet = next((s for s in available if s["id"] == want["subnet_id"]), None)
        if subnet is None:
            raise Invalid(
                f"Invalid input for fixed_ips. Reason: subnet {want['subnet_id']} is not one of"
                " the port's network.",
                "InvalidInput",
            )
        if "ip_address" in want:
            require_inside(subnet, want["ip_address"], "fixed_ips")
        return subnet
    subnet = next((s for s in available if _fits(s, want["ip_address"])), None)
    if subnet is None:
        raise Invalid(
            f"IP address {want['ip_address']} is not a valid IP for any of the subnets on the"
            " port's network (fixed_ips).",
            "InvalidIpForNetwork",
        )
    return subnet


def require_inside(subnet: Record, address: str, attribute: str) -> None:
    """Raise Invalid, which names the attribute, unless a subnet's interfaces may have this."""
    if not _fits(subnet, address):
        raise Invalid(
            f"IP address {address} is not a valid IP for the specified subnet {subnet['cidr']}"
            f" ({attribute}).",
            "InvalidIpForSubnet",
        )


def _fits(subnet: Record, address: str) -> bool:
    return is_usable(ip_address(address), ip_network(subnet["cidr"]))


def _require_distinct(rows: Sequence[FixedIpRow]) -> None:
    for i, row in enumerate(rows):
        if row in rows[:i]:
            raise Invalid(
                f"Invalid input for fixed_ips. Reason: {row['ip_address']} is given twice.",
                "InvalidInput",
            )


def _require_free(tx: Transaction, rows: Sequence[FixedIpRow]) -> None:
    for row in rows:
        if taken(tx, {"id": row["subnet_id"]}, [row["ip_address"]]):
            raise Conflict(
                f"Unable to complete operation: IP address {row['ip_address']} (fixed_ips) is"
                f" already allocated, or reserved, in subnet {row['subnet_id']}.",
                "IpAddressAlreadyAllocated",
            )


def _row(subnet: Record, address: Any) -> FixedIpRow:
    return {"subnet_id": subnet["id"], "ip_address": str(address)}
