"""Application credentials: a user's roles in one project, or some of them, for a program."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import delete, insert, select

from trunkline.db.engine import Transaction
from trunkline.db.identity import application_credentials as table
from trunkline.db.identity import credential_roles, roles
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.service.collections import Record
from trunkline.service.identity.tokens import Ref, Token, find_user


def create(tx: Transaction, token: Token, values: Record, wanted: Sequence[Ref] | None) -> Record:
    """Make a credential of a token's user, for its project.

    ``values`` has name, description, secret_hash, expires_at and unrestricted; ``wanted`` are
    roles, all of the token's if None.

    Raises:
        Invalid: The token has no project, or not one of the roles; or the end is past.
        Conflict: The user has a credential of this name.
    """
    if token.project is None:
        raise Invalid("An application credential is for a project; get a token for one first.")
    if values["expires_at"] is not None and values["expires_at"] <= tx.now:
        raise Invalid(f"expires_at {values['expires_at']} is in the past.")
    chosen = token.roles if wanted is None else [_role(token, ref) for ref in wanted]
    same = (table.c.user_id == token.user.id) & (table.c.name == values["name"])
    if tx.connection.scalar(select(table.c.id).where(same)) is not None:
        raise Conflict(f"You have an application credential named {values['name']!a} already.")
    record = {
        "id": uuid4().hex,
        "user_id": token.user.id,
        "project_id": token.project.id,
        **values,
    }
    tx.connection.execute(insert(table), record)
    for role_id in dict(chosen):
        pair = {"application_credential_id": record["id"], "role_id": role_id}
        tx.connection.execute(insert(credential_roles), pair)
    return _with_roles(tx, record)


def listed(tx: Transaction, user_id: str, name: str | None) -> list[Record]:
    """Return a user's credentials, or the one of this name."""
    statement = select(table).where(table.c.user_id == user_id).order_by(table.c.name)
    if name is not None:
        statement = statement.where(table.c.name == name)
    rows = tx.connection.execute(statement).mappings().all()
    return [_with_roles(tx, dict(row)) for row in rows]


def fetch(tx: Transaction, user_id: str, credential_id: str) -> Record:
    """Return one credential of a user.

    Raises:
        NotFound: The user has none of this id.
    """
    statement = select(table).where(table.c.user_id == user_id, table.c.id == credential_id)
    row = tx.connection.execute(statement).mappings().first()
    if row is None:
        raise NotFound(f"Application credential {credential_id} could not be found.")
    return _with_roles(tx, dict(row))


def delete_(tx: Transaction, user_id: str, credential_id: str) -> Record:
    """Delete a credential, end the tokens got by it, and return what it was.

    Raises:
        NotFound: The user has none of this id.
    """
    record = fetch(tx, user_id, credential_id)
    tx.connection.execute(delete(table).where(table.c.id == credential_id))
    return record


def find(tx: Transaction, ref: Ref, owner: Ref | None) -> Record | None:
    """Return a credential by id, or by name and owner; its owner must be enabled."""
    if ref.id is not None:
        wanted = table.c.id == ref.id
    else:
        user = None if owner is None else find_user(tx, owner)
        if user is None:
            return None
        wanted = (table.c.name == ref.name) & (table.c.user_id == user["id"])
    found = tx.connection.execute(select(table).where(wanted)).mappings().first()
    if found is None or (found["expires_at"] is not None and found["expires_at"] <= tx.now):
        return None
    return dict(found)


def _role(token: Token, ref: Ref) -> tuple[str, str]:
    for role in token.roles:
        if ref.id == role[0] or (ref.id is None and ref.name == role[1]):
            return role
    raise Invalid(
        f"Role {ref.id or ref.name!a} is none that this token has in its project; a credential can"
        " have no more than its maker."
    )


def _with_roles(tx: Transaction, record: Record) -> Record:
    """Return a credential with its roles as (id, name) pairs."""
    mine = credential_roles.c.application_credential_id == record["id"]
    join = credential_roles.c.role_id == roles.c.id
    statement = select(roles.c.id, roles.c.name).join(credential_roles, join).where(mine)
    found = tx.connection.execute(statement.order_by(roles.c.name)).all()
    return {**record, "roles": [tuple(row) for row in found]}
