"""The first domain, project, administrator and roles: what nobody could make through the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from sqlalchemy import Table, insert, select, update

from trunkline.db.engine import Transaction
from trunkline.db.identity import domains, projects, role_assignments, roles, users
from trunkline.service.identity.directory import DEFAULT_DOMAIN, end_tokens

ROLES = ("admin", "member", "reader", "service", "agent")
ADMIN = "admin"


def bootstrap(tx: Transaction, password_hash: str | None) -> bool:
    """Make what is missing, and let the administrator in again; leave the rest as it is.

    Returns:
        Whether the administrator has a password: this one, or an earlier one if none was given.
    """
    state = {"description": "", "enabled": True}
    blank = {"email": None, "default_project_id": None, "password_hash": None}
    within = {"domain_id": DEFAULT_DOMAIN, "name": ADMIN}
    _ensure(tx, domains, {"name": "Default"}, {"id": DEFAULT_DOMAIN, **state})
    project = _ensure(tx, projects, within, {"id": uuid4().hex, **state})
    user = _ensure(tx, users, within, {"id": uuid4().hex, **state, **blank})
    for name in ROLES:
        role = _ensure(tx, roles, {"name": name}, {"id": uuid4().hex, "description": ""})
        if name == ADMIN:
            assignment = {"user_id": user, "project_id": project, "role_id": role}
            _ensure(tx, role_assignments, assignment, {})
    if password_hash is not None:
        end_tokens(tx, user)
        values = {"password_hash": password_hash}
        tx.connection.execute(update(users).where(users.c.id == user), values)
    kept = tx.connection.scalar(select(users.c.password_hash).where(users.c.id == user))
    return kept is not None


def _ensure(tx: Transaction, table: Table, key: Mapping[str, str], rest: Mapping[str, Any]) -> str:
    """Return the id of the row with this key; made if it is missing, enabled if it is not."""
    wanted = [table.c[column] == value for column, value in key.items()]
    row = tx.connection.execute(select(table).where(*wanted)).mappings().first()
    if row is None:
        tx.connection.execute(insert(table), {**key, **rest})
        return str(rest.get("id", ""))
    if "enabled" in rest:
        tx.connection.execute(update(table).where(*wanted), {"enabled": True})
    return str(row.get("id", ""))
