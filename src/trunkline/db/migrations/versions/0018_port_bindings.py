"""Ports that are bound to a second host while their instance moves there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "port_bindings",
        sa.Column("port_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("vnic_type", sa.String(length=64), nullable=False),
        sa.Column("profile", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["port_id"], ["ports.id"], name="fk_port_bindings_port_id_ports", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("port_id", "host", name="pk_port_bindings"),
    )
    op.create_index("ix_port_bindings_host", "port_bindings", ["host"])
