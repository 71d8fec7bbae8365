"""Address scopes: within one, no two prefixes of subnet pools overlap.

That is all that a scope decides here. Whether addresses are translated is a matter of routers and
their gateways alone, so what Neutron also makes of scopes, ways out without translation, is
refused: an external network's subnet cannot be of a pool that is in a scope.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from uuid import uuid4

from sqlalchemy import delete, insert, or_, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import address_scopes, networks, subnetpools, subnets
from trunkline.errors import Conflict, Invalid
from trunkline.service.caller import Caller
from trunkline.service.collections import OWN_PROJECT, Collection, Record, fetch, fetch_own
from trunkline.service.sharing import add_borrowers, follow_columns, lent_to_caller, shared_filter

COLLECTION = Collection(
    "address scope",
    "AddressScope",
    address_scopes,
    or_(address_scopes.c.project_id == OWN_PROJECT, lent_to_caller(address_scopes)),
    add_borrowers,
    {"shared": shared_filter(address_scopes)},
)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a scope."""
    del caller  # anybody who may write; which attributes is the edge's business
    record = {"id": str(uuid4()), **values}
    tx.connection.execute(insert(address_scopes), record)
    follow_columns(tx, "address_scope", {}, record)
    return {**record, "borrowers": []}


def update_(tx: Transaction, caller: Caller, scope_id: str, values: Record) -> Record:
    """Rename a scope, or share it.

    Raises:
        Invalid: It would be shared no longer (400, as in Neutron).
    """
    record = fetch_own(tx, caller, COLLECTION, scope_id)
    after = {**record, **values}
    if record["shared"] and not after["shared"]:
        raise Invalid(
            f"Unable to update address scope {scope_id} : Shared address scope can't be unshared"
            " (shared).",
            "AddressScopeUpdateError",
        )
    if values:
        where = address_scopes.c.id == scope_id
        tx.connection.execute(update(address_scopes).where(where), values)
    follow_columns(tx, "address_scope", record, after)
    return after


def delete_(tx: Transaction, caller: Caller, scope_id: str) -> None:
    """Delete a scope.

    Raises:
        Conflict: Subnet pools are in it.
    """
    fetch_own(tx, caller, COLLECTION, scope_id)
    pool = select(subnetpools.c.id).where(subnetpools.c.address_scope_id == scope_id).limit(1)
    found = tx.connection.scalar(pool)
    if found is not None:
        raise Conflict(
            f"Unable to complete operation on address scope {scope_id}. There are one or more"
            f" subnet pools in use on the address scope, {found} for one; take them out first.",
            "AddressScopeInUse",
        )
    tx.connection.execute(delete(address_scopes).where(address_scopes.c.id == scope_id))


def require_room(tx: Transaction, caller: Caller, pool: Record) -> None:
    """Check that a pool may be in the scope that it names.

    Raises:
        NotFound: The scope is none the caller knows.
        Invalid: It is of the other IP version.
        Conflict: Another pool of the scope has an overlapping prefix.
    """
    scope = fetch(tx, caller, COLLECTION, pool["address_scope_id"])
    if scope["ip_version"] != pool["ip_version"]:
        raise Invalid(
            f"Illegal subnetpool association: subnetpool {pool['id']} cannot associate with address"
            f" scope {scope['id']} because subnetpool ip_version is not {scope['ip_version']}.",
            "IllegalSubnetPoolIpVersionAssociationToAddressScope",
        )
    others = select(subnetpools.c.id, subnetpools.c.prefixes).where(
        subnetpools.c.address_scope_id == scope["id"], subnetpools.c.id != pool["id"]
    )
    mine = [ip_network(prefix) for prefix in pool["prefixes"]]
    for other_id, prefixes in tx.connection.execute(others):
        for prefix in map(ip_network, prefixes):
            if any(prefix.overlaps(one) for one in mine):
                raise Conflict(
                    f"Failed to associate address scope: subnetpools within address scope"
                    f" {scope['id']} must have unique prefixes, and subnet pool {other_id} has"
                    f" {prefix}.",
                    "AddressScopePrefixConflict",
                )


def require_one(tx: Transaction, pool: Record, network_ids: Sequence[str]) -> None:
    """Check that networks with subnets of a pool are in no other scope, nor external in one.

    Raises:
        Invalid: One is.
    """
    scope_id = pool["address_scope_id"]
    if scope_id is not None:
        _require_internal(tx, pool, network_ids)
    other = subnetpools.c.address_scope_id
    found = (
        select(subnets.c.network_id, other)
        .join(subnetpools, subnets.c.subnetpool_id == subnetpools.c.id)
        .where(subnets.c.network_id.in_(network_ids), subnetpools.c.id != pool["id"])
        .where(other.is_not(None), other.is_distinct_from(scope_id))
    )
    for network_id, other_id in tx.connection.execute(found):
        raise Invalid(
            f"Subnets hosted on network {network_id} must be of subnet pools in one address scope:"
            f" it has one of {other_id}, and subnet pool {pool['id']} is in {scope_id or 'none'}.",
            "NetworkAddressScopeAffinityError",
        )


def _require_internal(tx: Transaction, pool: Record, network_ids: Sequence[str]) -> None:
    external = select(networks.c.id).where(networks.c.id.in_(network_ids), networks.c.external)
    network_id = tx.connection.scalar(external.limit(1))
    if network_id is not None:
        raise Invalid(
            f"Network {network_id} is external, and subnet pool {pool['id']} is in address scope"
            f" {pool['address_scope_id']}: a scope leads nowhere without translation here. Use a"
            " pool in no scope; enable_snat of a router is what turns translation off.",
            "BadRequest",
        )
