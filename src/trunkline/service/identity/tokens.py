"""Tokens: issued, read, revoked. What somebody had to prove first is ``api.identity``'s matter.

A token is a row: it outlives a restart, every server reads it, and to delete it is to revoke it.
What it grants is looked up when it is read, so a role that was taken away is away at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, insert, select

from trunkline.db.engine import Transaction, format_time
from trunkline.db.identity import (
    application_credentials,
    credential_roles,
    domains,
    projects,
    tokens,
    users,
)
from trunkline.errors import Unauthorized
from trunkline.service.collections import Record
from trunkline.service.identity.assignments import roles_of

REFUSED = "The request you have made requires authentication."
"""All that a failed log-in is told, whatever was wrong, as Keystone does."""


@dataclass(frozen=True, slots=True)
class Named:
    """A user or a project by all its names."""

    id: str
    name: str
    domain_id: str
    domain_name: str


@dataclass(frozen=True, slots=True)
class Credential:
    """The application credential that a token was got by."""

    id: str
    name: str
    unrestricted: bool


@dataclass(frozen=True, slots=True)
class Token:
    """What a valid token stands for.

    Attributes:
        project: None: the token is unscoped.
        roles: (id, name) pairs; none without a project.
        methods: How it was got: ``password``, ``token``, ``application_credential``.
        audit_ids: Its own, and that of the first token of a chain.
        issued_at: RFC 3339 in UTC, like ``expires_at``.
    """

    user: Named
    project: Named | None
    roles: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]
    audit_ids: tuple[str, ...]
    issued_at: str
    expires_at: str
    credential: Credential | None


@dataclass(frozen=True, slots=True)
class Ref:
    """A user, project or credential as a request names it: by id, or by name and domain.

    Attributes:
        domain: Key ``id`` or ``name`` and its value; None with an id.
    """

    id: str | None
    name: str | None = None
    domain: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """Whom a request proved to come from.

    Attributes:
        password_hash: What the password was compared with; None: there was none.
        credential_id: The application credential whose secret was given.
        token_digest: The token that was given.
        methods: See ``Token``.
        audit_ids: Those of the token that proved it; empty: it was none.
        expires_at: No token got by this proof lives longer. None: there is no such bound.
    """

    user_id: str
    methods: tuple[str, ...]
    password_hash: str | None = None
    credential_id: str | None = None
    token_digest: str | None = None
    audit_ids: tuple[str, ...] = ()
    expires_at: str | None = None


_READ = select(
    tokens,
    application_credentials.c.name.label("credential_name"),
    application_credentials.c.unrestricted,
).outerjoin(
    application_credentials,
    application_credentials.c.id == tokens.c.application_credential_id,
).where(tokens.c.digest == bindparam("digest"), tokens.c.expires_at > bindparam("now"))  # fmt: skip


def _named(table: Any) -> Any:
    columns = (table.c.id, table.c.name, domains.c.id, domains.c.name)
    statement = select(*columns).join(domains, domains.c.id == table.c.domain_id)
    return statement.where(table.c.id == bindparam("wanted"))


_USER, _PROJECT = _named(users), _named(projects)
_CREDENTIAL_ROLES = select(credential_roles.c.role_id).where(
    credential_roles.c.application_credential_id == bindparam("credential")
)


def read(tx: Transaction, digest: str) -> Token | None:
    """Return what a token stands for; None: it is unknown, expired, revoked, or opens nothing."""
    found = tx.connection.execute(_READ, {"digest": digest, "now": tx.now})
    first = found.mappings().first()
    if first is None:
        return None
    row = dict(first)
    granted = _roles(tx, row)
    if row["project_id"] is not None and not granted:
        return None
    credential = None
    if row["application_credential_id"] is not None:
        credential = Credential(
            row["application_credential_id"], row["credential_name"], row["unrestricted"]
        )
    return Token(
        user=_one(tx, _USER, row["user_id"]),
        project=None if row["project_id"] is None else _one(tx, _PROJECT, row["project_id"]),
        roles=tuple(granted),
        methods=tuple(row["methods"]),
        audit_ids=tuple(row["audit_ids"]),
        issued_at=row["issued_at"],
        expires_at=row["expires_at"],
        credential=credential,
    )


def issue(
    tx: Transaction, digest: str, audit_id: str, proof: Proof, project: Ref | None, life_s: int
) -> Token:
    """Make a token, and forget those that have expired.

    Raises:
        Unauthorized: The proof has lost its worth meanwhile, or opens not this project.
    """
    project_id = None if project is None else find_project(tx, project)
    if (project is not None and project_id is None) or not _still_holds(tx, proof):
        raise Unauthorized(REFUSED)
    tx.connection.execute(delete(tokens).where(tokens.c.expires_at <= tx.now))
    until = format_time(datetime.now(UTC) + timedelta(seconds=life_s))
    tx.connection.execute(
        insert(tokens),
        {
            "digest": digest,
            "user_id": proof.user_id,
            "project_id": project_id,
            "application_credential_id": proof.credential_id,
            "methods": list(proof.methods),
            "audit_ids": [audit_id, *proof.audit_ids[-1:]],
            "issued_at": tx.now,
            "expires_at": min(until, proof.expires_at or until),
        },
    )
    made = read(tx, digest)
    if made is None:
        raise Unauthorized(REFUSED)
    return made


def revoke(tx: Transaction, digest: str) -> None:
    """End a token."""
    tx.connection.execute(delete(tokens).where(tokens.c.digest == digest))


def find_user(tx: Transaction, ref: Ref) -> Record | None:
    """Return the id, password hash and default project of an enabled user."""
    columns = (users.c.id, users.c.password_hash, users.c.default_project_id)
    return _find(tx, users, columns, ref)


def find_project(tx: Transaction, ref: Ref) -> str | None:
    """Return the id of an enabled project."""
    found = _find(tx, projects, (projects.c.id,), ref)
    return None if found is None else str(found["id"])


def usual_project(tx: Transaction, user: Mapping[str, Any]) -> str | None:
    """Return the project that a user's token is for who asks for none: the default one, if any."""
    default = user["default_project_id"]
    known = default and find_project(tx, Ref(default)) and roles_of(tx, user["id"], default)
    return str(default) if known else None


def _find(tx: Transaction, table: Any, columns: Sequence[Any], ref: Ref) -> Record | None:
    statement = select(*columns).join(domains, domains.c.id == table.c.domain_id)
    statement = statement.where(table.c.enabled, domains.c.enabled)
    if ref.id is not None:
        statement = statement.where(table.c.id == ref.id)
    elif ref.domain is not None:
        key, value = ref.domain
        statement = statement.where(table.c.name == ref.name, domains.c[key] == value)
    else:
        return None
    row = tx.connection.execute(statement).mappings().first()
    return None if row is None else dict(row)


def _still_holds(tx: Transaction, proof: Proof) -> bool:
    """Return whether nothing that the proof stands on went away before this transaction."""
    user = find_user(tx, Ref(proof.user_id))
    if user is None or proof.password_hash not in (None, user["password_hash"]):
        return False
    if proof.token_digest is not None and read(tx, proof.token_digest) is None:
        return False
    wanted = application_credentials.c.id == proof.credential_id
    if proof.credential_id and not tx.connection.scalar(select(1).where(wanted)):
        return False
    return proof.expires_at is None or proof.expires_at > tx.now


def _roles(tx: Transaction, row: Mapping[str, Any]) -> list[tuple[str, str]]:
    if row["project_id"] is None:
        return []
    has = roles_of(tx, row["user_id"], row["project_id"])
    credential = row["application_credential_id"]
    if credential is None:
        return has
    kept = set(tx.connection.execute(_CREDENTIAL_ROLES, {"credential": credential}).scalars())
    return [role for role in has if role[0] in kept]


def _one(tx: Transaction, statement: Any, wanted: str) -> Named:
    return Named(*tx.connection.execute(statement, {"wanted": wanted}).one())
