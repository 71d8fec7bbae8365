"""Networks lent to single projects."""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table, and say in it what networks' own columns said until now."""
    op.create_table(
        "rbac_policies",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("object_id", sa.String(length=36), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("target_project", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["object_id"],
            ["networks.id"],
            name="fk_rbac_policies_object_id_networks",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_rbac_policies"),
        sa.UniqueConstraint(
            "object_id",
            "action",
            "target_project",
            name="uq_rbac_policies_object_id_action_target_project",
        ),
    )
    op.create_index("ix_rbac_policies_project_id", "rbac_policies", ["project_id"])
    op.create_index("ix_rbac_policies_target_project", "rbac_policies", ["target_project"])
    _publish("shared", "access_as_shared")
    _publish("external", "access_as_external")


def _publish(column: str, action: str) -> None:
    networks = sa.table("networks", sa.column("id"), sa.column("project_id"), sa.column(column))
    policies = sa.table(
        "rbac_policies",
        *(sa.column(name) for name in ("id", "project_id", "object_id", "action")),
        sa.column("target_project"),
    )
    connection = op.get_bind()
    found = sa.select(networks.c.id, networks.c.project_id).where(networks.c[column] == sa.true())
    for network_id, project_id in connection.execute(found).all():
        row = {"id": str(uuid4()), "project_id": project_id, "object_id": network_id}
        connection.execute(sa.insert(policies), {**row, "action": action, "target_project": "*"})
