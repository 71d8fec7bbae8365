"""Probes of the switches between the hosts, and what each host heard."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "probes",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("revision_number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=20), nullable=False),
        sa.Column("updated_at", sa.String(length=20), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("nonce", sa.String(length=32), nullable=False),
        sa.Column("lanes", sa.JSON(), nullable=False),
        sa.Column("ready_by", sa.String(length=20), nullable=False),
        sa.Column("sent_by", sa.String(length=20), nullable=False),
        sa.Column("over_at", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_probes"),
        sa.UniqueConstraint("serial", name="uq_probes_serial"),
    )
    op.create_index("ix_probes_project_id", "probes", ["project_id"])
    op.create_table(
        "probe_hosts",
        sa.Column("probe_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("trunks", sa.JSON(), nullable=False),
        sa.Column("serves", sa.JSON(), nullable=False),
        sa.Column("stage", sa.String(length=8), nullable=False),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["probe_id"],
            ["probes.id"],
            name="fk_probe_hosts_probe_id_probes",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("probe_id", "host", name="pk_probe_hosts"),
    )
    op.create_index("ix_probe_hosts_host", "probe_hosts", ["host"])
