"""Which of the networks with one VLAN id, on several physical networks, each is."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"

NETWORKS = sa.table(
    "networks",
    *map(sa.column, ("id", "created_at", "segmentation_id", "external", "namesake")),
)


def upgrade() -> None:
    """Add the column; where VLAN ids are there twice, the older network comes first."""
    op.add_column(
        "networks",
        sa.Column[int]("namesake", sa.Integer(), nullable=False, server_default="0"),
    )
    _number()
    inside = sa.text("NOT external")
    op.create_index(
        "uq_networks_namesake",
        "networks",
        ["segmentation_id", "namesake"],
        unique=True,
        sqlite_where=inside,
        postgresql_where=inside,
    )


def _number() -> None:
    tenants = sa.select(NETWORKS.c.id, NETWORKS.c.segmentation_id).where(
        NETWORKS.c.segmentation_id.is_not(None), sa.not_(NETWORKS.c.external)
    )
    seen: Counter[int] = Counter()
    connection = op.get_bind()
    for network_id, vlan_id in connection.execute(
        tenants.order_by(NETWORKS.c.created_at, NETWORKS.c.id)
    ).all():
        if seen[vlan_id]:
            number = sa.update(NETWORKS).where(NETWORKS.c.id == network_id)
            connection.execute(number.values(namesake=seen[vlan_id]))
        seen[vlan_id] += 1
