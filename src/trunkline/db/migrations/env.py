"""Alembic's entry: runs the migrations on the connection that ``db.schema`` brings."""

from __future__ import annotations

from alembic import context

from trunkline.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
