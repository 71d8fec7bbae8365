"""Subnet pools: prefixes that projects' subnets are cut from, by size or by choice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import collapse_addresses, ip_network

from sqlalchemy import delete, exists, insert, or_, select, update

from trunkline.core.allocate import BITS, next_prefix, within
from trunkline.db.engine import Transaction
from trunkline.db.tables import networks, subnetpools, subnets
from trunkline.errors import Conflict, Invalid
from trunkline.model import IpNetwork, by_family
from trunkline.service import address_scopes, domains
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
from trunkline.service.sharing import add_borrowers, follow_columns, lent_to_caller, shared_filter

MIN_PREFIXLEN = {4: 8, 6: 64}  # of a pool that names none, as in Neutron
QUOTA_BITS = {4: 32, 6: 64}  # a quota counts addresses, or of IPv6 /64 prefixes


COLLECTION = Collection(
    "subnet pool",
    "SubnetPool",
    subnetpools,
    or_(subnetpools.c.project_id == OWN_PROJECT, lent_to_caller(subnetpools)),
    add_borrowers,
    {"shared": shared_filter(subnetpools)},
)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a pool; ``values`` has ``prefixes`` as networks, and may lack the lengths.

    Raises:
        Invalid: The lengths contradict each other, prefixes are of two IP versions, or there is a
            default pool already.
        NotFound, Conflict: The address scope is none the caller knows, or has such prefixes.
    """
    prefixes = _texts(values["prefixes"])
    version = ip_network(prefixes[0]).version
    lengths = {"min_prefixlen": MIN_PREFIXLEN[version], "max_prefixlen": BITS[version]}
    record = new_record(tx, {"ip_version": version, **lengths, **values, "prefixes": prefixes})
    record.setdefault("default_prefixlen", record["min_prefixlen"])
    _require_sense(tx, record)
    _require_scope(tx, caller, record)
    tx.connection.execute(insert(subnetpools), record)
    follow_columns(tx, "subnetpool", {}, record)
    return {**record, "borrowers": []}


def update_(tx: Transaction, caller: Caller, pool_id: str, values: Record) -> Record:
    """Change a pool; what it once held it goes on to hold.

    Raises:
        Invalid: As in ``create``; or a prefix of the pool is missing among the new ones.
    """
    record = fetch_own(tx, caller, COLLECTION, pool_id)
    changed = {**values, **touched(tx, record)}
    if "prefixes" in values:
        changed["prefixes"] = _texts(values["prefixes"]) if values["prefixes"] else []
        for held in map(ip_network, record["prefixes"]):
            if not any(within(held, ip_network(new)) for new in changed["prefixes"]):
                raise Invalid(
                    "Illegal update to prefixes: Existing prefixes must be a subset of the new"
                    f" prefixes, and {held} is in none of them (prefixes).",
                    "IllegalSubnetPoolPrefixUpdate",
                )
    after = {**record, **changed}
    _require_sense(tx, after)
    if after["address_scope_id"] != record["address_scope_id"] or "prefixes" in values:
        _require_scope(tx, caller, after)
    tx.connection.execute(update(subnetpools).where(subnetpools.c.id == pool_id), changed)
    return after


def delete_(tx: Transaction, caller: Caller, pool_id: str) -> None:
    """Delete a pool.

    Raises:
        Invalid: Subnets are of it (400, as in Neutron).
    """
    fetch_own(tx, caller, COLLECTION, pool_id)
    if tx.connection.scalar(select(exists().where(subnets.c.subnetpool_id == pool_id))):
        raise Invalid(
            f"Unable to delete subnet pool: Subnet pool {pool_id} has existing allocations; delete"
            " its subnets first.",
            "SubnetPoolDeleteError",
        )
    tx.connection.execute(delete(subnetpools).where(subnetpools.c.id == pool_id))


def cut(tx: Transaction, caller: Caller, network: Record, wish: Record) -> Record:
    """Return ``cidr`` and ``subnetpool_id`` of a new subnet of a network.

    Args:
        tx: The transaction, which has claimed the prefixes.
        caller: Must see the pool.
        network: The subnet's.
        wish: Has ``ip_version``; may have ``cidr``, ``prefixlen``, ``subnetpool_id``,
            ``use_default_subnetpool`` and ``allocation_pools``.

    Raises:
        Invalid: The wish contradicts itself or the pool, or names neither prefix nor pool.
        Conflict: The pool, or the project's share of it, is exhausted.
    """
    cidr, length = wish.get("cidr"), wish.get("prefixlen")
    if cidr is not None and length is not None:
        raise Invalid("cidr and prefixlen must not be supplied together.", "BadRequest")
    if cidr is None and wish.get("allocation_pools"):
        raise Invalid(
            "allocation_pools allowed only for specific subnet requests: give cidr, too, as nobody"
            " knows yet which addresses the pool will cut.",
            "BadRequest",
        )
    pool = _pool(tx, caller, wish)
    if pool is not None:
        address_scopes.require_one(tx, pool, [network["id"]])
    _require_affinity(tx, network, wish["ip_version"], pool)
    if pool is None:
        if cidr is None:
            raise Invalid(
                "a subnetpool must be specified in the absence of a cidr: give cidr,"
                " subnetpool_id or use_default_subnetpool.",
                "BadRequest",
            )
        return {"cidr": cidr, "subnetpool_id": None}
    if pool["ip_version"] != wish["ip_version"]:
        raise Invalid(
            f"Cannot allocate IPv{wish['ip_version']} subnet from IPv{pool['ip_version']} subnet"
            " pool (ip_version).",
            "BadRequest",
        )
    if length is None:
        length = pool["default_prefixlen"] if cidr is None else cidr.prefixlen
    _require_length(pool, length)
    _require_quota(tx, pool, network["project_id"], length)
    return {"cidr": _prefix(tx, pool, network, cidr, length), "subnetpool_id": pool["id"]}


def _pool(tx: Transaction, caller: Caller, wish: Record) -> Record | None:
    pool_id, by_default = wish.get("subnetpool_id"), wish.get("use_default_subnetpool")
    if by_default and pool_id:
        raise Invalid(
            "subnetpool_id and use_default_subnetpool cannot both be specified.", "BadRequest"
        )
    if by_default:
        version = wish["ip_version"]
        default = subnetpools.c.is_default & (subnetpools.c.ip_version == version)
        pool_id = tx.connection.scalar(select(subnetpools.c.id).where(default))
        if pool_id is None:
            raise Invalid(
                f"No default subnetpool found for IPv{version} (use_default_subnetpool).",
                "BadRequest",
            )
    return fetch(tx, caller, COLLECTION, pool_id) if pool_id else None


def _prefix(
    tx: Transaction, pool: Record, network: Record, wanted: IpNetwork | None, length: int
) -> IpNetwork:
    prefixes = [ip_network(text) for text in pool["prefixes"]]
    if wanted is not None:
        if not any(within(wanted, prefix) for prefix in prefixes):
            raise Conflict(
                f"Failed to allocate subnet: cidr {wanted} is in no prefix of subnet pool"
                f" {pool['id']}, which has {', '.join(pool['prefixes'])}.",
                "SubnetAllocationError",
            )
        return wanted
    found = next_prefix(prefixes, length, _taken(tx, pool, network))
    if found is None:
        raise Conflict(
            "Failed to allocate subnet: Insufficient prefix space to allocate subnet size"
            f" /{length} in subnet pool {pool['id']}; add prefixes to it.",
            "SubnetAllocationError",
        )
    return found


def _taken(tx: Transaction, pool: Record, network: Record) -> list[IpNetwork]:
    """Return what a new subnet of a network may not overlap, wherever it is."""
    router_id = network["router_id"]
    if router_id is None and tx.limits.default_router:
        router_id = domains.default_router(tx)
    found = (
        select(subnets.c.cidr)
        .join(networks, networks.c.id == subnets.c.network_id)
        .where(
            or_(
                subnets.c.subnetpool_id == pool["id"],
                subnets.c.network_id == network["id"],
                networks.c.external,
                networks.c.router_id == router_id,
            )
        )
    )
    taken = [ip_network(cidr) for cidr in tx.connection.execute(found).scalars()]
    return [*taken, *tx.limits.reserved_prefixes]


def _require_affinity(tx: Transaction, network: Record, version: int, pool: Record | None) -> None:
    """Raise Invalid unless a network's subnets of a version are of one pool, or of one scope's."""
    found = (
        select(subnets.c.id, subnets.c.subnetpool_id, subnetpools.c.address_scope_id)
        .outerjoin(subnetpools, subnets.c.subnetpool_id == subnetpools.c.id)
        .where(subnets.c.network_id == network["id"], subnets.c.ip_version == version)
    )
    for subnet_id, pool_id, scope_id in tx.connection.execute(found):
        if pool_id == (pool and pool["id"]) or (pool and scope_id):
            continue  # of one scope, or not, has been looked at
        raise Invalid(
            f"Subnets hosted on the same network must be allocated from the same subnet pool:"
            f" subnet {subnet_id} of network {network['id']} is of {pool_id or 'none'}.",
            "NetworkSubnetPoolAffinityError",
        )


def _require_length(pool: Record, length: int) -> None:
    for bound, kind, wrong in (
        ("min", "minimum", length < pool["min_prefixlen"]),
        ("max", "maximum", length > pool["max_prefixlen"]),
    ):
        if wrong:
            raise Invalid(
                f"Unable to allocate subnet with prefix length {length}, {kind} allowed prefix is"
                f" {pool[f'{bound}_prefixlen']} ({bound}_prefixlen of subnet pool {pool['id']}).",
                f"{bound.capitalize()}PrefixSubnetAllocationError",
            )


def _require_quota(tx: Transaction, pool: Record, project_id: str, length: int) -> None:
    if pool["default_quota"] is None:
        return
    mine = select(subnets.c.cidr).where(
        subnets.c.subnetpool_id == pool["id"], subnets.c.project_id == project_id
    )
    cidrs = map(ip_network, tx.connection.execute(mine).scalars())
    bits = QUOTA_BITS[pool["ip_version"]]
    used = sum(1 << max(0, bits - cidr.prefixlen) for cidr in cidrs)
    if used + (1 << max(0, bits - length)) > pool["default_quota"]:
        unit = "addresses" if bits == BITS[pool["ip_version"]] else f"/{bits} prefixes"
        raise Conflict(
            f"Per-project subnet pool prefix quota exceeded: project {project_id} has {used} of"
            f" {pool['default_quota']} {unit} of subnet pool {pool['id']}, and a /{length} is"
            " more than what is left.",
            "SubnetPoolQuotaExceeded",
        )


def _require_sense(tx: Transaction, record: Record) -> None:
    """Raise Invalid if a pool contradicts itself, or there would be two default ones."""
    low, high = record["min_prefixlen"], record["max_prefixlen"]
    if high > BITS[record["ip_version"]]:
        raise Invalid(
            f"Illegal prefix bounds: max_prefixlen={high}, an IPv{record['ip_version']} address has"
            f" {BITS[record['ip_version']]} bits.",
            "IllegalSubnetPoolPrefixBounds",
        )
    for name, wrong, other in (
        ("min_prefixlen", low > high, "max_prefixlen"),
        ("default_prefixlen", record["default_prefixlen"] < low, "min_prefixlen"),
        ("default_prefixlen", record["default_prefixlen"] > high, "max_prefixlen"),
    ):
        if wrong:
            raise Invalid(
                f"Illegal prefix bounds: {name}={record[name]}, {other}={record[other]}.",
                "IllegalSubnetPoolPrefixBounds",
            )
    others = exists().where(
        subnetpools.c.is_default,
        subnetpools.c.ip_version == record["ip_version"],
        subnetpools.c.id != record["id"],
    )
    if record["is_default"] and tx.connection.scalar(select(others)):
        raise Invalid(
            "Invalid input for is_default. Reason: A default subnetpool for this IP family has"
            " already been set. Only one default may exist per IP family.",
            "InvalidInput",
        )


def _require_scope(tx: Transaction, caller: Caller, record: Record) -> None:
    """Raise unless a pool may be in its address scope, with the subnets that are of it."""
    if record["address_scope_id"] is not None:
        address_scopes.require_room(tx, caller, record)
    mine = select(subnets.c.network_id).where(subnets.c.subnetpool_id == record["id"]).distinct()
    address_scopes.require_one(tx, record, tx.connection.execute(mine).scalars().all())


def _texts(prefixes: Sequence[IpNetwork]) -> list[str]:
    """Return prefixes as texts, merged where they meet."""
    if not prefixes:
        raise Invalid("Empty subnet pool prefix list (prefixes).", "EmptySubnetPoolPrefixList")
    versions = {prefix.version for prefix in prefixes}
    if len(versions) > 1:
        raise Invalid(
            "Cannot mix IPv4 and IPv6 prefixes in a subnet pool (prefixes).",
            "PrefixVersionMismatch",
        )
    merged: Iterable[IpNetwork] = collapse_addresses(prefixes)  # type: ignore[type-var]  # of one
    return [str(prefix) for prefix in sorted(merged, key=by_family)]
