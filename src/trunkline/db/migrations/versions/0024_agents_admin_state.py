"""Hosts that take no more ports, and descriptions of agents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add the columns; every host takes ports."""
    for column in (
        sa.Column[bool]("admin_state_up", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column[str]("description", sa.String(255), nullable=False, server_default=""),
    ):
        op.add_column("hosts", column)
