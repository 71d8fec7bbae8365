"""DNS domains of networks, and DHCP options of ports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the columns."""
    op.add_column(
        "networks",
        sa.Column("dns_domain", sa.String(length=255), nullable=False, server_default=""),
    )
    op.add_column(
        "ports", sa.Column("extra_dhcp_opts", sa.JSON(), nullable=False, server_default="[]")
    )
