"""How many addresses each network has and has given away. Only counts; decides nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, bindparam, false, func, select

from trunkline.db.engine import Transaction
from trunkline.db.tables import fixed_ips, networks, subnets
from trunkline.service.collections import Collection, Record

_NETWORKS: BindParameter[Any] = bindparam("network_ids", expanding=True)
_SUBNETS = (
    select(subnets, func.count(fixed_ips.c.ip_address).label("used_ips"))
    .join(fixed_ips, fixed_ips.c.subnet_id == subnets.c.id, isouter=True)
    .where(subnets.c.network_id.in_(_NETWORKS))
    .group_by(subnets.c.id)
    .order_by(subnets.c.created_at, subnets.c.id)
)


def _complete(tx: Transaction, records: list[Record]) -> None:
    """Add the counts of each network and each of its subnets."""
    by_network: dict[str, list[Record]] = defaultdict(list)
    ids = {"network_ids": [record["id"] for record in records]}
    for row in tx.connection.execute(_SUBNETS, ids).mappings() if records else ():
        by_network[row["network_id"]].append(
            {
                "subnet_id": row["id"],
                "subnet_name": row["name"],
                "cidr": row["cidr"],
                "ip_version": row["ip_version"],
                "total_ips": sum(_size(pool) for pool in row["allocation_pools"]),
                "used_ips": row["used_ips"],
            }
        )
    for record in records:
        found = by_network[record["id"]]
        record["subnet_ip_availability"] = found
        for count in ("total_ips", "used_ips"):
            record[count] = sum(subnet[count] for subnet in found)


def _size(pool: Record) -> int:
    return int(ip_address(pool["end"])) - int(ip_address(pool["start"])) + 1


def _with_version(values: Sequence[Any]) -> ColumnElement[bool]:
    return networks.c.id.in_(select(subnets.c.network_id).where(subnets.c.ip_version.in_(values)))


COLLECTION = Collection(
    "network", "Network", networks, false(), _complete, {"ip_version": _with_version}
)
