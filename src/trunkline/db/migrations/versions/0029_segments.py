"""Further segments of networks that are on several physical networks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Make the table; each network had one segment, which stays in its own row."""
    op.create_table(
        "network_segments",
        sa.Column[str](
            "network_id",
            sa.String(36),
            sa.ForeignKey("networks.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column[int]("place", sa.Integer(), primary_key=True),
        sa.Column[str]("physical_network", sa.String(64), nullable=False),
        sa.Column[int]("segmentation_id", sa.Integer(), nullable=False),
        sa.UniqueConstraint("physical_network", "segmentation_id"),
    )
