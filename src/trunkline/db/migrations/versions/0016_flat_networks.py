"""One flat tenant network at most on each physical network."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the constraint; before it, no tenant network could be flat."""
    flat = sa.text("network_type = 'flat' AND NOT external")
    op.create_index(
        "uq_networks_flat",
        "networks",
        ["physical_network"],
        unique=True,
        sqlite_where=flat,
        postgresql_where=flat,
    )
