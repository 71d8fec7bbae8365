"""Which user has which role in which project."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, delete, insert, select

from trunkline.db.engine import Transaction
from trunkline.db.identity import domains, projects, role_assignments, roles, users
from trunkline.errors import NotFound
from trunkline.service.caller import Caller
from trunkline.service.collections import Record, fetch
from trunkline.service.identity.directory import PROJECTS, ROLES, USERS

_IN_PROJECT = (
    select(roles.c.id, roles.c.name)
    .join(role_assignments, role_assignments.c.role_id == roles.c.id)
    .where(
        role_assignments.c.user_id == bindparam("user"),
        role_assignments.c.project_id == bindparam("project"),
    )
    .order_by(roles.c.name)
)

_user_domain, _project_domain = domains.alias(), domains.alias()
_ALL = (
    select(
        role_assignments,
        roles.c.name.label("role_name"),
        users.c.name.label("user_name"),
        projects.c.name.label("project_name"),
        _user_domain.c.id.label("user_domain_id"),
        _user_domain.c.name.label("user_domain_name"),
        _project_domain.c.id.label("project_domain_id"),
        _project_domain.c.name.label("project_domain_name"),
    )
    .join(roles, roles.c.id == role_assignments.c.role_id)
    .join(users, users.c.id == role_assignments.c.user_id)
    .join(projects, projects.c.id == role_assignments.c.project_id)
    .join(_user_domain, _user_domain.c.id == users.c.domain_id)
    .join(_project_domain, _project_domain.c.id == projects.c.domain_id)
    .order_by(users.c.name, projects.c.name, roles.c.name)
)


def roles_of(tx: Transaction, user_id: str, project_id: str) -> list[tuple[str, str]]:
    """Return the (id, name) of the roles that a user has in a project."""
    found = tx.connection.execute(_IN_PROJECT, {"user": user_id, "project": project_id})
    return [(role_id, name) for role_id, name in found]


def projects_of(tx: Transaction, user_id: str) -> list[Record]:
    """Return the enabled projects in which a user has a role."""
    mine = select(role_assignments.c.project_id).where(role_assignments.c.user_id == user_id)
    wanted = select(projects).where(projects.c.id.in_(mine), projects.c.enabled)
    return [dict(row) for row in tx.connection.execute(wanted.order_by(projects.c.name)).mappings()]


def assigned(tx: Transaction, filters: Mapping[str, str]) -> list[Record]:
    """Return assignments with the names of all they concern, by ids of user, project and role."""
    statement = _ALL
    for column, value in filters.items():
        statement = statement.where(role_assignments.c[column] == value)
    return [dict(row) for row in tx.connection.execute(statement).mappings()]


def grant(tx: Transaction, caller: Caller, assignment: Mapping[str, str]) -> bool:
    """Give a user a role in a project; return whether it is new.

    Raises:
        NotFound: One of the three does not exist.
    """
    fetch(tx, caller, PROJECTS, assignment["project_id"])
    fetch(tx, caller, USERS, assignment["user_id"])
    fetch(tx, caller, ROLES, assignment["role_id"])
    if assigned(tx, assignment):
        return False
    tx.connection.execute(insert(role_assignments), dict(assignment))
    return True


def revoke(tx: Transaction, assignment: Mapping[str, str]) -> None:
    """Take a role in a project from a user; tokens that stand on it lose it, too.

    Raises:
        NotFound: The user does not have it.
    """
    require(tx, assignment)
    statement = delete(role_assignments)
    for column, value in assignment.items():
        statement = statement.where(role_assignments.c[column] == value)
    tx.connection.execute(statement)


def require(tx: Transaction, assignment: Mapping[str, str]) -> None:
    """Raise NotFound unless a user has a role in a project."""
    if not assigned(tx, assignment):
        raise NotFound(
            f"User {assignment['user_id']} does not have the role {assignment['role_id']} in"
            f" project {assignment['project_id']}."
        )
