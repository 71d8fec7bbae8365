"""QoS policies, and who has them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Make the tables, and let networks, ports and floating IPs name a policy."""
    op.create_table(
        "qos_policies",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("revision_number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=20), nullable=False),
        sa.Column("updated_at", sa.String(length=20), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False, server_default=""),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_qos_policies"),
    )
    op.create_index("ix_qos_policies_project_id", "qos_policies", ["project_id"])
    op.create_table(
        "qos_bandwidth_limit_rules",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("qos_policy_id", sa.String(length=36), nullable=False),
        sa.Column("direction", sa.String(length=8), nullable=False),
        sa.Column("max_kbps", sa.Integer(), nullable=False),
        sa.Column("max_burst_kbps", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["qos_policy_id"],
            ["qos_policies.id"],
            name="fk_qos_bandwidth_limit_rules_qos_policy_id_qos_policies",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_qos_bandwidth_limit_rules"),
        sa.UniqueConstraint(
            "qos_policy_id",
            "direction",
            name="uq_qos_bandwidth_limit_rules_qos_policy_id_direction",
        ),
    )
    for table in ("networks", "ports", "floating_ips"):
        # As SQL: Alembic would copy the whole table on SQLite, which what refers to it forbids.
        op.execute(
            f"ALTER TABLE {table} ADD COLUMN qos_policy_id VARCHAR(36) CONSTRAINT"
            f" fk_{table}_qos_policy_id_qos_policies REFERENCES qos_policies (id)"
        )
        op.create_index(f"ix_{table}_qos_policy_id", table, ["qos_policy_id"])
