"""Domains, projects, users and roles: made, changed, deleted, found.

Whoever loses the right to be let in loses the tokens in the same transaction.
"""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import Table, delete, insert, or_, select, true, update

from trunkline.db.engine import Transaction
from trunkline.db.identity import domains, projects, role_assignments, roles, tokens, users
from trunkline.errors import Conflict, Forbidden
from trunkline.service.caller import Caller
from trunkline.service.collections import OWN_PROJECT, OWN_USER, Collection, Record, fetch

DEFAULT_DOMAIN = "default"
"""The id of the domain that is meant where a request names none."""


def _nothing_more(_tx: Transaction, _records: list[Record]) -> None:
    pass


_my_projects = select(role_assignments.c.project_id).where(role_assignments.c.user_id == OWN_USER)
_my_domain = select(users.c.domain_id).where(users.c.id == OWN_USER)

DOMAINS = Collection("domain", "Domain", domains, domains.c.id.in_(_my_domain), _nothing_more)
PROJECTS = Collection(
    "project",
    "Project",
    projects,
    or_(projects.c.id == OWN_PROJECT, projects.c.id.in_(_my_projects)),
    _nothing_more,
)
USERS = Collection("user", "User", users, users.c.id == OWN_USER, _nothing_more)
ROLES = Collection("role", "Role", roles, true(), _nothing_more)


def create_domain(tx: Transaction, _caller: Caller, values: Record) -> Record:
    """Make a domain.

    Raises:
        Conflict: Its name is taken.
    """
    return _create(tx, DOMAINS, values)


def update_domain(tx: Transaction, caller: Caller, domain_id: str, values: Record) -> Record:
    """Change a domain; to disable it ends the tokens of its users and for its projects.

    Raises:
        NotFound, Conflict: There is none, or its new name is taken.
    """
    record = _update(tx, caller, DOMAINS, domain_id, values)
    if not record["enabled"]:
        inside = select(users.c.id).where(users.c.domain_id == domain_id)
        within = select(projects.c.id).where(projects.c.domain_id == domain_id)
        ended = or_(tokens.c.user_id.in_(inside), tokens.c.project_id.in_(within))
        tx.connection.execute(delete(tokens).where(ended))
    return record


def delete_domain(tx: Transaction, caller: Caller, domain_id: str) -> None:
    """Delete a domain with its projects and users.

    Raises:
        NotFound: There is none.
        Forbidden: It is enabled, or the default domain: too much would go by mistake.
    """
    record = fetch(tx, caller, DOMAINS, domain_id)
    if record["enabled"] or domain_id == DEFAULT_DOMAIN:
        raise Forbidden(
            f"Domain {record['name']} goes with all its projects and users, so it must be disabled"
            f" first; the domain {DEFAULT_DOMAIN} stays."
        )
    _delete(tx, caller, DOMAINS, domain_id)


def create_project(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a project.

    Raises:
        NotFound, Conflict: The domain does not exist, or has a project of this name.
    """
    fetch(tx, caller, DOMAINS, values["domain_id"])
    return _create(tx, PROJECTS, values)


def update_project(tx: Transaction, caller: Caller, project_id: str, values: Record) -> Record:
    """Change a project; to disable it ends its tokens.

    Raises:
        NotFound, Conflict: There is none, or its new name is taken.
    """
    record = _update(tx, caller, PROJECTS, project_id, values)
    if not record["enabled"]:
        tx.connection.execute(delete(tokens).where(tokens.c.project_id == project_id))
    return record


def delete_project(tx: Transaction, caller: Caller, project_id: str) -> None:
    """Delete a project with its role assignments. Its networks and ports stay, as in OpenStack.

    Raises:
        NotFound: There is none.
    """
    _delete(tx, caller, PROJECTS, project_id)


def create_user(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a user; ``password_hash`` may be absent.

    Raises:
        NotFound, Conflict: The domain does not exist, or has a user of this name.
    """
    fetch(tx, caller, DOMAINS, values["domain_id"])
    return _create(tx, USERS, {"password_hash": None, **values})


def update_user(tx: Transaction, caller: Caller, user_id: str, values: Record) -> Record:
    """Change a user; a new password and to be disabled end all tokens of the user.

    Raises:
        NotFound, Conflict: There is none, or the new name is taken.
    """
    record = _update(tx, caller, USERS, user_id, values)
    if not record["enabled"] or "password_hash" in values:
        end_tokens(tx, user_id)
    return record


def delete_user(tx: Transaction, caller: Caller, user_id: str) -> None:
    """Delete a user with all assignments, credentials and tokens.

    Raises:
        NotFound: There is none.
    """
    _delete(tx, caller, USERS, user_id)


def create_role(tx: Transaction, _caller: Caller, values: Record) -> Record:
    """Make a role; what it may do is the policy's matter.

    Raises:
        Conflict: Its name is taken.
    """
    return _create(tx, ROLES, values)


def update_role(tx: Transaction, caller: Caller, role_id: str, values: Record) -> Record:
    """Change a role.

    Raises:
        NotFound, Conflict: There is none, or its new name is taken.
    """
    return _update(tx, caller, ROLES, role_id, values)


def delete_role(tx: Transaction, caller: Caller, role_id: str) -> None:
    """Delete a role, wherever it is assigned.

    Raises:
        NotFound: There is none.
    """
    _delete(tx, caller, ROLES, role_id)


def end_tokens(tx: Transaction, user_id: str) -> None:
    """End all tokens of a user."""
    tx.connection.execute(delete(tokens).where(tokens.c.user_id == user_id))


def _create(tx: Transaction, collection: Collection, values: Record) -> Record:
    record = {"id": uuid4().hex, **values}
    _require_free_name(tx, collection, record)
    tx.connection.execute(insert(collection.table), record)
    return record


def _update(
    tx: Transaction, caller: Caller, collection: Collection, object_id: str, values: Record
) -> Record:
    record = {**fetch(tx, caller, collection, object_id), **values}
    if "name" in values:
        _require_free_name(tx, collection, record)
    if values:
        tx.connection.execute(
            update(collection.table).where(collection.table.c.id == object_id), values
        )
    return record


def _delete(tx: Transaction, caller: Caller, collection: Collection, object_id: str) -> None:
    fetch(tx, caller, collection, object_id)
    table: Table = collection.table
    tx.connection.execute(delete(table).where(table.c.id == object_id))


def _require_free_name(tx: Transaction, collection: Collection, record: Record) -> None:
    columns = collection.table.c
    twin = (columns.name == record["name"]) & (columns.id != record["id"])
    if "domain_id" in columns:
        twin &= columns.domain_id == record["domain_id"]
    if tx.connection.scalar(select(columns.id).where(twin)) is not None:
        raise Conflict(
            f"There is a {collection.noun} named {record['name']!a} already; choose another name."
        )
