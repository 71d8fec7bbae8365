"""The standalone identity's tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the tables, referents first; ``trunkline bootstrap`` fills them."""
    _create_directory()
    _create_assignments()
    _create_credentials()
    _create_tokens()


def _create_directory() -> None:
    op.create_table(
        "domains",
        _id("id"),
        _name("name"),
        _name("description"),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_domains"),
        sa.UniqueConstraint("name", name="uq_domains_name"),
    )
    op.create_table(
        "roles",
        _id("id"),
        _name("name"),
        _name("description"),
        sa.PrimaryKeyConstraint("id", name="pk_roles"),
        sa.UniqueConstraint("name", name="uq_roles_name"),
    )
    more = (
        _name("email", nullable=True),
        _name("default_project_id", nullable=True),
        _name("password_hash", nullable=True),
    )
    for table, columns in (("projects", ()), ("users", more)):
        op.create_table(
            table,
            _id("id"),
            _id("domain_id"),
            _name("name"),
            _name("description"),
            sa.Column("enabled", sa.Boolean(), nullable=False),
            *columns,
            _owned(table, "domain_id", "domains"),
            sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
            sa.UniqueConstraint("domain_id", "name", name=f"uq_{table}_domain_id_name"),
        )


def _create_assignments() -> None:
    table = "role_assignments"
    keys = {"user_id": "users", "project_id": "projects", "role_id": "roles"}
    op.create_table(
        table,
        *(_id(column) for column in keys),
        *(_owned(table, column, owner) for column, owner in keys.items()),
        sa.PrimaryKeyConstraint(*keys, name=f"pk_{table}"),
    )
    _index(table, "project_id", "role_id")


def _create_credentials() -> None:
    table = "application_credentials"
    op.create_table(
        table,
        _id("id"),
        _id("user_id"),
        _id("project_id"),
        _name("name"),
        _name("description"),
        _name("secret_hash"),
        sa.Column("expires_at", sa.String(length=20), nullable=True),
        sa.Column("unrestricted", sa.Boolean(), nullable=False),
        _owned(table, "user_id", "users"),
        _owned(table, "project_id", "projects"),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.UniqueConstraint("user_id", "name", name=f"uq_{table}_user_id_name"),
    )
    _index(table, "project_id")
    table = "credential_roles"
    op.create_table(
        table,
        _id("application_credential_id"),
        _id("role_id"),
        _owned(table, "application_credential_id", "application_credentials"),
        _owned(table, "role_id", "roles"),
        sa.PrimaryKeyConstraint("application_credential_id", "role_id", name=f"pk_{table}"),
    )
    _index(table, "role_id")


def _create_tokens() -> None:
    table = "tokens"
    op.create_table(
        table,
        sa.Column("digest", sa.String(length=64), nullable=False),
        _id("user_id"),
        _id("project_id", nullable=True),
        _id("application_credential_id", nullable=True),
        sa.Column("methods", sa.JSON(), nullable=False),
        sa.Column("audit_ids", sa.JSON(), nullable=False),
        sa.Column("issued_at", sa.String(length=20), nullable=False),
        sa.Column("expires_at", sa.String(length=20), nullable=False),
        _owned(table, "user_id", "users"),
        _owned(table, "project_id", "projects"),
        _owned(table, "application_credential_id", "application_credentials"),
        sa.PrimaryKeyConstraint("digest", name=f"pk_{table}"),
    )
    _index(table, "user_id", "project_id", "application_credential_id", "expires_at")


def _id(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=36), nullable=nullable)


def _name(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=255), nullable=nullable)


def _owned(table: str, column: str, owner: str) -> sa.ForeignKeyConstraint:
    """Return the constraint by which a row goes when its owner does."""
    name = f"fk_{table}_{column}_{owner}"[:63]  # PostgreSQL takes no longer one
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=name, ondelete="CASCADE")


def _index(table: str, *columns: str) -> None:
    for column in columns:
        op.create_index(f"ix_{table}_{column}", table, [column])
