"""Routers, and the default one that all tenant networks with a gateway have been on so far."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table and the default router, and put today's networks on it."""
    op.create_table(
        "routers",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("revision_number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=20), nullable=False),
        sa.Column("updated_at", sa.String(length=20), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False, server_default=""),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("external_network_id", sa.String(length=36), nullable=True),
        sa.Column("enable_snat", sa.Boolean(), nullable=False),
        sa.Column("routes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["external_network_id"],
            ["networks.id"],
            name="fk_routers_external_network_id_networks",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_routers"),
    )
    op.create_index("ix_routers_project_id", "routers", ["project_id"])
    op.create_index("ix_routers_external_network_id", "routers", ["external_network_id"])
    # As SQL: Alembic would copy the whole table on SQLite, which what refers to it forbids.
    op.execute(
        "ALTER TABLE networks ADD COLUMN router_id VARCHAR(36)"
        " CONSTRAINT fk_networks_router_id_routers REFERENCES routers (id)"
    )
    op.create_index("ix_networks_router_id", "networks", ["router_id"])
    _hang_on_default_router()


def _hang_on_default_router() -> None:
    router_id = str(uuid4())
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    routers = sa.table(
        "routers",
        *(sa.column(name, sa.String) for name in ("id", "project_id", "description", "name")),
        sa.column("revision_number", sa.Integer),
        *(sa.column(name, sa.String) for name in ("created_at", "updated_at")),
        *(sa.column(name, sa.Boolean) for name in ("admin_state_up", "is_default", "enable_snat")),
        sa.column("routes", sa.JSON),
    )
    row = {
        "id": router_id,
        "project_id": "",
        "description": "Networks that are on no other router are on this one.",
        "name": "default",
        "revision_number": 0,
        "created_at": now,
        "updated_at": now,
        "admin_state_up": True,
        "is_default": True,
        "enable_snat": True,
        "routes": [],
    }
    op.bulk_insert(routers, [row])
    op.get_bind().execute(
        sa.text(
            "UPDATE networks SET router_id = :id WHERE NOT external AND id IN"
            " (SELECT network_id FROM subnets WHERE gateway_ip IS NOT NULL)"
        ),
        {"id": router_id},
    )
