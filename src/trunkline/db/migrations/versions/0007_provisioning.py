"""Where a network is provisioned, and which address its instances have as their gateway."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the columns; what exists stays as it was, which was the article's way."""
    for name, usual in (("provisioning", "on_demand"), ("gateway", "per_host")):
        column = sa.Column(name, sa.String(length=16), nullable=False, server_default=usual)
        op.add_column("networks", column)
    op.create_index("ix_networks_provisioning", "networks", ["provisioning"])
