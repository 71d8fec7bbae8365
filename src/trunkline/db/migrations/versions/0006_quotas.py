"""Quotas of projects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table; until somebody sets a quota, the server's defaults hold."""
    op.create_table(
        "quotas",
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("hard_limit", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("project_id", "resource", name="pk_quotas"),
    )
