"""Whether the ports that are made on a network are protected, if their request does not say."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Add the column; ports were protected."""
    protected = sa.Column[bool](
        "port_security_enabled", sa.Boolean(), nullable=False, server_default=sa.true()
    )
    op.add_column("networks", protected)
