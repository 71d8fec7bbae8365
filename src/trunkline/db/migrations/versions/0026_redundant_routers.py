"""Routers on several hosts, one of which acts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Add the number by which a router's hosts settle who acts."""
    with op.batch_alter_table("routers") as batch:
        batch.add_column(sa.Column("number", sa.Integer(), nullable=True))
        batch.create_unique_constraint("uq_routers_number", ["number"])
