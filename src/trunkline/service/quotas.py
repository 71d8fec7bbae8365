"""Quotas: how many objects of a kind a project may have.

Objects are counted where they are, by an index and no further than the quota reaches, so no
counter can drift. What a project has beyond a quota that was lowered by force stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    BindParameter,
    Select,
    Table,
    bindparam,
    delete,
    func,
    insert,
    not_,
    select,
    update,
)

from trunkline.db import tables
from trunkline.db.engine import Transaction
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.service.collections import Record

UNLIMITED = -1

COUNTED = {
    "floatingip": tables.floating_ips,
    "network": tables.networks,
    "port": tables.ports,
    "rbac_policy": tables.rbac_policies,
    "router": tables.routers,
    "security_group": tables.security_groups,
    "security_group_rule": tables.security_group_rules,
    "subnet": tables.subnets,
    "subnetpool": tables.subnetpools,
}

_PROJECT: BindParameter[str] = bindparam("of_project")
_RESOURCE: BindParameter[str] = bindparam("of_resource")
_AT_MOST: BindParameter[int] = bindparam("at_most")

_QUOTA = select(tables.quotas.c.hard_limit).where(
    tables.quotas.c.project_id == _PROJECT, tables.quotas.c.resource == _RESOURCE
)
_LOCK_QUOTA = _QUOTA.with_for_update()  # SQLite has one writer, and needs and knows no such thing


def _count(table: Table, *, bounded: bool) -> Select[Any]:
    mine = select(table.c.id).where(table.c.project_id == _PROJECT)
    if "auto_assigned" in table.c:
        mine = mine.where(not_(table.c.auto_assigned))
    return select(func.count()).select_from((mine.limit(_AT_MOST) if bounded else mine).subquery())


_COUNT = {name: _count(table, bounded=False) for name, table in COUNTED.items()}
_COUNT_SOME = {name: _count(table, bounded=True) for name, table in COUNTED.items()}


def charge(tx: Transaction, resource: str, made: Iterable[Mapping[str, Any]]) -> None:
    """Raise Conflict if a project has more of a resource than it may, with what was just made.

    The caller's transaction ends with the error, and what was made with it.
    """
    if resource not in COUNTED:
        return
    for project_id in sorted({record["project_id"] for record in made} - {""}):
        limit = _locked_limit(tx, project_id, resource)
        if limit == UNLIMITED:
            continue
        some = {"of_project": project_id, "at_most": limit + 1}
        if tx.connection.execute(_COUNT_SOME[resource], some).scalar_one() > limit:
            raise Conflict(
                f"Quota exceeded for resources: ['{resource}']. Project {project_id} may have"
                f" {limit}; delete some, or ask an administrator for more.",
                "OverQuota",
            )


def of_project(tx: Transaction, project_id: str) -> dict[str, int]:
    """Return a project's quota by resource."""
    return {**tx.limits.quotas, **_own(tx).get(project_id, {})}


def of_all(tx: Transaction) -> list[Record]:
    """Return the quotas of all projects that have some of their own."""
    return [
        {**tx.limits.quotas, **own, "project_id": project_id, "tenant_id": project_id}
        for project_id, own in sorted(_own(tx).items())
    ]


def usage(tx: Transaction, project_id: str) -> dict[str, Record]:
    """Return, by resource, what a project may have and what it has."""
    limits = of_project(tx, project_id)
    return {
        name: {"limit": limits[name], "used": _used(tx, project_id, name), "reserved": 0}
        for name in sorted(COUNTED)
    }


def change(
    tx: Transaction, project_id: str, wanted: Mapping[str, int], *, force: bool
) -> dict[str, int]:
    """Set some of a project's quotas and return all.

    Raises:
        Invalid: The project has more already, and ``force`` is not given (400, as in Neutron).
    """
    for resource, limit in wanted.items():
        used = _used(tx, project_id, resource)
        if not force and limit != UNLIMITED and used > limit:
            raise Invalid(
                f"Quota limit {limit} for {resource} must be greater than or equal to already used"
                f" {used}: delete some of project {project_id}, or set force.",
                "HTTPBadRequest",
            )
        _locked_limit(tx, project_id, resource)  # and thereby make the row
        where = {"project_id": project_id, "resource": resource}
        tx.connection.execute(
            update(tables.quotas)
            .where(*(tables.quotas.c[key] == value for key, value in where.items()))
            .values(hard_limit=limit)
        )
    return of_project(tx, project_id)


def reset(tx: Transaction, project_id: str) -> None:
    """Give a project the default quotas again.

    Raises:
        NotFound: It has none of its own.
    """
    if project_id not in _own(tx):
        raise NotFound(
            f"Quota for project {project_id} could not be found: it has the defaults.",
            "TenantQuotaNotFound",
        )
    tx.connection.execute(delete(tables.quotas).where(tables.quotas.c.project_id == project_id))


def _own(tx: Transaction) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    own = select(tables.quotas).where(tables.quotas.c.hard_limit.is_not(None))
    for project_id, resource, limit in tx.connection.execute(own):
        found[project_id][resource] = limit
    return found


def _used(tx: Transaction, project_id: str, resource: str) -> int:
    found: int = tx.connection.execute(_COUNT[resource], {"of_project": project_id}).scalar_one()
    return found


def _locked_limit(tx: Transaction, project_id: str, resource: str) -> int:
    """Return a quota, and keep others from counting until this transaction has ended."""
    key = {"of_project": project_id, "of_resource": resource}
    row = tx.connection.execute(_LOCK_QUOTA, key).first()
    if row is None:
        values = {"project_id": project_id, "resource": resource, "hard_limit": None}
        tx.connection.execute(insert(tables.quotas), values)
    default = tx.limits.quotas[resource]
    return default if row is None or row[0] is None else int(row[0])
