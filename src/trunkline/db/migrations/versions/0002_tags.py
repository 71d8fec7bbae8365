"""Tags on what users may put tags on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; what exists has no tags."""
    for table in ("networks", "subnets", "ports", "security_groups", "floating_ips"):
        op.add_column(table, sa.Column("tags", sa.Text(), nullable=False, server_default=""))
