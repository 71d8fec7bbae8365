"""Subnet pools, and subnets for some kinds of ports only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table, and let subnets say which pool they are of and whom they are for."""
    op.create_table(
        "subnetpools",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("revision_number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=20), nullable=False),
        sa.Column("updated_at", sa.String(length=20), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False, server_default=""),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("prefixes", sa.JSON(), nullable=False),
        sa.Column("ip_version", sa.Integer(), nullable=False),
        sa.Column("default_prefixlen", sa.Integer(), nullable=False),
        sa.Column("min_prefixlen", sa.Integer(), nullable=False),
        sa.Column("max_prefixlen", sa.Integer(), nullable=False),
        sa.Column("default_quota", sa.BigInteger(), nullable=True),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_subnetpools"),
    )
    op.create_index("ix_subnetpools_project_id", "subnetpools", ["project_id"])
    op.create_index(
        "uq_subnetpools_default",
        "subnetpools",
        ["ip_version"],
        unique=True,
        sqlite_where=sa.text("is_default"),
        postgresql_where=sa.text("is_default"),
    )
    # As SQL: Alembic would copy the whole table on SQLite, which what refers to it forbids.
    op.execute(
        "ALTER TABLE subnets ADD COLUMN subnetpool_id VARCHAR(36)"
        " CONSTRAINT fk_subnets_subnetpool_id_subnetpools REFERENCES subnetpools (id)"
    )
    op.create_index("ix_subnets_subnetpool_id", "subnets", ["subnetpool_id"])
    op.add_column(
        "subnets", sa.Column("service_types", sa.JSON(), nullable=False, server_default="[]")
    )
