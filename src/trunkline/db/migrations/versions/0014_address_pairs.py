"""Addresses and MACs that ports may use besides their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "address_pairs",
        sa.Column("port_id", sa.String(length=36), nullable=False),
        sa.Column("mac_address", sa.String(length=17), nullable=False),
        sa.Column("ip_address", sa.String(length=43), nullable=False),
        sa.ForeignKeyConstraint(
            ["port_id"], ["ports.id"], name="fk_address_pairs_port_id_ports", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("port_id", "mac_address", "ip_address", name="pk_address_pairs"),
    )
