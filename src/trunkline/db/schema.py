"""Brings a database to the schema that this program speaks, or refuses it."""

from __future__ import annotations

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from trunkline.db.engine import Database
from trunkline.errors import Conflict


def upgrade(database: Database, to: str = "head") -> None:
    """Migrate an empty or older database to a schema, usually the newest, in one transaction.

    Raises:
        Conflict: A newer Trunkline made this database; going back would lose data.
    """
    config = Config()
    config.set_main_option("script_location", str(files("trunkline.db") / "migrations"))
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    with database.connection() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise Conflict(
                f"The database is at schema {current}, which this version of Trunkline does not"
                f" know (its newest is {max(known)}). Start the version that wrote it, or a"
                " newer one, or restore an older backup."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, to)
