"""Who may use what is another project's: what policies say, and who relies on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    bindparam,
    delete,
    insert,
    not_,
    or_,
    select,
    union,
)

from trunkline.db.engine import Transaction
from trunkline.db.tables import (
    floating_ips,
    networks,
    port_groups,
    ports,
    rbac_policies,
    subnetpools,
    subnets,
)
from trunkline.errors import Conflict
from trunkline.service.collections import OWN_PROJECT, Record

SHARED, EXTERNAL = "access_as_shared", "access_as_external"
EVERYBODY = "*"
COLUMNS = {
    "network": {"shared": SHARED, "external": EXTERNAL},
    "qos_policy": {"shared": SHARED},
    "subnetpool": {"shared": SHARED},
    "address_scope": {"shared": SHARED},
    "security_group": {},
}
"""By type of object: its columns, and the action that each allows to everybody."""

_LENT = rbac_policies.c.target_project.in_([EVERYBODY, OWN_PROJECT])


def lent_to_caller(table: Table, action: str | None = None) -> ColumnElement[bool]:
    """Return the condition that an object is lent to the caller's project, in one way or any."""
    conditions = [_LENT] if action is None else [_LENT, rbac_policies.c.action == action]
    return table.c.id.in_(select(rbac_policies.c.object_id).where(*conditions))


def lent_ids() -> ColumnElement[Any]:
    """Return the ids of what is lent to the caller's project, as a subquery."""
    return select(rbac_policies.c.object_id).where(_LENT).scalar_subquery()


def shared_filter(table: Table) -> Callable[[Sequence[Any]], ColumnElement[bool]]:
    """Return the condition for a list's filter by ``shared``, as the caller sees it."""
    shared = lent_to_caller(table, SHARED)
    return lambda values: or_(*(shared if value else not_(shared) for value in values))


_BORROWERS = select(rbac_policies.c.object_id, rbac_policies.c.target_project).where(
    rbac_policies.c.object_id.in_(bindparam("object_ids", expanding=True)),
    rbac_policies.c.action == SHARED,
)
CHUNK = 500


def add_borrowers(tx: Transaction, records: Sequence[Record]) -> None:
    """Add to records whom each is lent to, as ``borrowers``."""
    found: dict[str, list[str]] = defaultdict(list)
    for start in range(0, len(records), CHUNK):
        ids = {"object_ids": [record["id"] for record in records[start : start + CHUNK]]}
        for object_id, project_id in tx.connection.execute(_BORROWERS, ids):
            found[object_id].append(project_id)
    for record in records:
        record["borrowers"] = found[record["id"]]


def follow_columns(
    tx: Transaction, object_type: str, before: Mapping[str, Any], after: Record
) -> None:
    """Make policies say what an object's columns say, after a change of these.

    Raises:
        Conflict: The object was everybody's, and others use it.
    """
    for column, action in COLUMNS[object_type].items():
        if after[column] and not before.get(column):
            whose = {"project_id": after["project_id"], "target_project": EVERYBODY}
            row = new_policy(object_type, after["id"], {**whose, "action": action})
            tx.connection.execute(insert(rbac_policies), row)
        if before.get(column) and not after[column]:
            _require_nobody(tx, object_type, after, action)
            mine = rbac_policies.c.object_id == after["id"]
            doomed = mine if column == "external" else mine & _for_everybody(action)
            tx.connection.execute(
                delete(rbac_policies).where(doomed, rbac_policies.c.action == action)
            )


def new_policy(object_type: str, object_id: str, values: Record) -> Record:
    """Return a policy's row; the column that refers to its object takes it away with that."""
    columns = dict.fromkeys((f"{kind}_id" for kind in COLUMNS), None)
    named = {"object_type": object_type, "object_id": object_id, f"{object_type}_id": object_id}
    return {"id": str(uuid4()), **columns, **values, **named}


def _require_nobody(tx: Transaction, object_type: str, record: Record, action: str) -> None:
    users = strangers(tx, object_type, record, action, EVERYBODY)
    if users:
        noun = object_type.replace("_", " ")
        raise Conflict(
            f"Unable to reconfigure sharing settings for {noun} {record['id']}. Multiple"
            f" tenants are using it: {', '.join(users)} (router:external, shared).",
            "InvalidSharedSetting",
        )


def _for_everybody(action: str) -> ColumnElement[bool]:
    return (rbac_policies.c.action == action) & (rbac_policies.c.target_project == EVERYBODY)


def strangers(
    tx: Transaction, object_type: str, record: Mapping[str, Any], action: str, target: str
) -> list[str]:
    """Return the projects that use an object by one policy alone, without which they may not."""
    allowed = set(
        tx.connection.execute(
            select(rbac_policies.c.target_project).where(
                rbac_policies.c.object_id == record["id"], rbac_policies.c.action == action
            )
        ).scalars()
    )
    others = allowed - {target}
    if EVERYBODY in others:
        return []
    found = _USERS[object_type, action]
    ids = {"of_object": record["id"]}
    users = set(tx.connection.execute(found, ids).scalars()) - {"", record["project_id"]} - others
    return sorted(users if target == EVERYBODY else users & {target})


def _projects(table: Table, column: str) -> Select[Any]:
    return select(table.c.project_id).where(table.c[column] == bindparam("of_object")).distinct()


_USERS: Mapping[tuple[str, str], Any] = {
    ("network", SHARED): _projects(ports, "network_id"),
    ("network", EXTERNAL): _projects(floating_ips, "network_id"),
    ("security_group", SHARED): select(ports.c.project_id)
    .join(port_groups, port_groups.c.port_id == ports.c.id)
    .where(port_groups.c.security_group_id == bindparam("of_object"))
    .distinct(),
    ("qos_policy", SHARED): union(
        *(_projects(table, "qos_policy_id") for table in (networks, ports, floating_ips))
    ),
    ("subnetpool", SHARED): _projects(subnets, "subnetpool_id"),
    ("address_scope", SHARED): _projects(subnetpools, "address_scope_id"),
}
"""The projects that have something which uses an object, by its type and the way of use."""
