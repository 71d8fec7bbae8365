"""Addresses that nobody is given."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "reserved_addresses",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("revision_number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=20), nullable=False),
        sa.Column("updated_at", sa.String(length=20), nullable=False),
        sa.Column("subnet_id", sa.String(length=36), nullable=False),
        sa.Column("ip_address", sa.String(length=39), nullable=False),
        sa.ForeignKeyConstraint(
            ["subnet_id"],
            ["subnets.id"],
            name="fk_reserved_addresses_subnet_id_subnets",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reserved_addresses"),
        sa.UniqueConstraint(
            "subnet_id", "ip_address", name="uq_reserved_addresses_subnet_id_ip_address"
        ),
    )
    op.create_index("ix_reserved_addresses_project_id", "reserved_addresses", ["project_id"])
