"""Traces that are sent for real: hosts meet for them as for probes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add what a host is asked besides frames on the trunk, and what the answer is held against."""
    op.add_column(
        "probes", sa.Column("kind", sa.String(length=8), nullable=False, server_default="wire")
    )
    op.add_column("probe_hosts", sa.Column("order", sa.JSON(), nullable=True))
    op.add_column("traces", sa.Column("live", sa.JSON(), nullable=True))
