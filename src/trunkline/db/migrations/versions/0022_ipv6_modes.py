"""IPv6 subnets: what is advertised on them, and how instances get addresses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Add the two modes; IPv4 subnets have none."""
    for name in ("ipv6_ra_mode", "ipv6_address_mode"):
        op.add_column("subnets", sa.Column(name, sa.String(length=16), nullable=True))
