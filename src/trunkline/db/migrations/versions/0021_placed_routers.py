"""Routers that are on some hosts only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Make the table; all routers go on being on every host."""
    op.create_table(
        "router_hosts",
        sa.Column("router_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["router_id"],
            ["routers.id"],
            name="fk_router_hosts_router_id_routers",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("router_id", "host", name="pk_router_hosts"),
    )
    op.create_index("ix_router_hosts_host", "router_hosts", ["host"])
