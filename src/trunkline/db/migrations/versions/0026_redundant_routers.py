"""Routers on several hosts, one of which acts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Add the number by which a router's hosts settle who acts."""
    op.add_column("routers", sa.Column[int]("number", sa.Integer(), nullable=True))
    # An index: for a constraint, SQLite would copy the table, which what refers to it forbids.
    op.create_index("uq_routers_number", "routers", ["number"], unique=True)
