"""Security groups, QoS policies, subnet pools and address scopes are lent like networks."""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"

REFERRED = (
    ("network", "networks"),
    ("security_group", "security_groups"),
    ("qos_policy", "qos_policies"),
    ("subnetpool", "subnetpools"),
    ("address_scope", "address_scopes"),
)
COLUMNS = ("id", "project_id", "object_id", "action", "target_project")


def upgrade() -> None:
    """Make the scopes, and policies anew: no database adds and drops references alike."""
    _make_scopes()
    old = op.get_bind().execute(sa.select(_policies(*COLUMNS))).mappings().all()
    op.drop_table("rbac_policies")
    _make_policies()
    rows = [{**row, "object_type": "network", "network_id": row["object_id"]} for row in old]
    for kind, table in (("qos_policy", "qos_policies"), ("subnetpool", "subnetpools")):
        rows += _published(kind, table)
    for row in rows:
        op.get_bind().execute(sa.insert(_policies(*row)), dict(row))


def _policies(*names: str) -> sa.TableClause:
    return sa.table("rbac_policies", *(sa.column(name) for name in names))


def _published(kind: str, table: str) -> list[dict[str, str]]:
    """Return policies that say what the column shared of other objects said until now."""
    objects = sa.table(table, sa.column("id"), sa.column("project_id"), sa.column("shared"))
    found = sa.select(objects.c.id, objects.c.project_id).where(objects.c.shared == sa.true())
    return [
        {
            "id": str(uuid4()),
            "project_id": project_id,
            "object_type": kind,
            "object_id": object_id,
            f"{kind}_id": object_id,
            "action": "access_as_shared",
            "target_project": "*",
        }
        for object_id, project_id in op.get_bind().execute(found).all()
    ]


def _make_scopes() -> None:
    op.create_table(
        "address_scopes",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("ip_version", sa.Integer(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_address_scopes"),
    )
    op.create_index("ix_address_scopes_project_id", "address_scopes", ["project_id"])
    # As SQL: Alembic would copy the whole table on SQLite, which what refers to it forbids.
    op.execute(
        "ALTER TABLE subnetpools ADD COLUMN address_scope_id VARCHAR(36) CONSTRAINT"
        " fk_subnetpools_address_scope_id_address_scopes REFERENCES address_scopes (id)"
    )
    op.create_index("ix_subnetpools_address_scope_id", "subnetpools", ["address_scope_id"])


def _make_policies() -> None:
    op.create_table(
        "rbac_policies",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("object_type", sa.String(length=32), nullable=False),
        sa.Column("object_id", sa.String(length=36), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("target_project", sa.String(length=255), nullable=False),
        *(sa.Column(f"{kind}_id", sa.String(length=36), nullable=True) for kind, _ in REFERRED),
        *(
            sa.ForeignKeyConstraint(
                [f"{kind}_id"],
                [f"{table}.id"],
                name=f"fk_rbac_policies_{kind}_id_{table}",
                ondelete="CASCADE",
            )
            for kind, table in REFERRED
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
