"""Who may use a network that is another project's: what policies say, and who relies on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, delete, insert, select

from trunkline.db.engine import Transaction
from trunkline.db.tables import floating_ips, networks, ports, rbac_policies
from trunkline.errors import Conflict
from trunkline.service.collections import OWN_PROJECT, Record

SHARED, EXTERNAL = "access_as_shared", "access_as_external"
EVERYBODY = "*"
COLUMNS = {"shared": SHARED, "external": EXTERNAL}
"""Columns of a network, and the action that each allows to everybody."""

_LENT = rbac_policies.c.target_project.in_([EVERYBODY, OWN_PROJECT])


def lent_to_caller(action: str | None = None) -> ColumnElement[bool]:
    """Return the condition that a network is lent to the caller's project, in one way or any."""
    conditions = [_LENT] if action is None else [_LENT, rbac_policies.c.action == action]
    return networks.c.id.in_(select(rbac_policies.c.object_id).where(*conditions))


def lent_networks() -> ColumnElement[Any]:
    """Return the ids of networks that are lent to the caller's project, as a subquery."""
    return select(rbac_policies.c.object_id).where(_LENT).scalar_subquery()


def follow_columns(tx: Transaction, before: Mapping[str, Any], after: Record) -> None:
    """Make policies say what a network's columns say, after a change of these.

    Raises:
        Conflict: The network was everybody's, and others use it.
    """
    for column, action in COLUMNS.items():
        if after[column] and not before.get(column):
            policy = {"id": str(uuid4()), "project_id": after["project_id"], "action": action}
            where = {"object_id": after["id"], "target_project": EVERYBODY}
            tx.connection.execute(insert(rbac_policies), {**policy, **where})
        if before.get(column) and not after[column]:
            users = strangers(tx, after, action, EVERYBODY)
            if users:
                raise Conflict(
                    f"Unable to reconfigure sharing settings for network {after['id']}. Multiple"
                    f" tenants are using it: {', '.join(users)} (router:external, shared).",
                    "InvalidSharedSetting",
                )
            mine = rbac_policies.c.object_id == after["id"]
            doomed = mine if column == "external" else mine & _for_everybody(action)
            tx.connection.execute(
                delete(rbac_policies).where(doomed, rbac_policies.c.action == action)
            )


def _for_everybody(action: str) -> ColumnElement[bool]:
    return (rbac_policies.c.action == action) & (rbac_policies.c.target_project == EVERYBODY)


def strangers(tx: Transaction, network: Mapping[str, Any], action: str, target: str) -> list[str]:
    """Return the projects that use a network by one policy alone, without which they may not."""
    allowed = set(
        tx.connection.execute(
            select(rbac_policies.c.target_project).where(
                rbac_policies.c.object_id == network["id"], rbac_policies.c.action == action
            )
        ).scalars()
    )
    others = allowed - {target}
    if EVERYBODY in others:
        return []
    table = floating_ips if action == EXTERNAL else ports
    found = select(table.c.project_id).distinct().where(table.c.network_id == network["id"])
    users = set(tx.connection.execute(found).scalars()) - {"", network["project_id"]} - others
    return sorted(users if target == EVERYBODY else users & {target})
