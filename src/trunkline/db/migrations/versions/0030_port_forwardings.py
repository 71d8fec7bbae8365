"""Single ports of floating IPs that lead to ports of instances."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "port_forwardings",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("revision_number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=20), nullable=False),
        sa.Column("updated_at", sa.String(length=20), nullable=False),
        sa.Column("floatingip_id", sa.String(length=36), nullable=False),
        sa.Column("protocol", sa.String(length=8), nullable=False),
        sa.Column("external_port", sa.Integer(), nullable=False),
        sa.Column("internal_port_id", sa.String(length=36), nullable=False),
        sa.Column("internal_ip_address", sa.String(length=39), nullable=False),
        sa.Column("internal_port", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["floatingip_id"],
            ["floating_ips.id"],
            name="fk_port_forwardings_floatingip_id_floating_ips",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["internal_port_id"],
            ["ports.id"],
            name="fk_port_forwardings_internal_port_id_ports",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_port_forwardings"),
        sa.UniqueConstraint(
            "floatingip_id",
            "protocol",
            "external_port",
            name="uq_port_forwardings_floatingip_id_protocol_external_port",
        ),
        sa.UniqueConstraint(
            "internal_port_id",
            "internal_ip_address",
            "protocol",
            "internal_port",
            name="uq_port_forwardings_internal",
        ),
    )
    op.create_index("ix_port_forwardings_project_id", "port_forwardings", ["project_id"])
