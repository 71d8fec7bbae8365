"""On PostgreSQL, where Debian's package and the driver are: migrations, and other files' tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from postgresql import postgresql
from running import Cloud, running

# Collected here once more: they run on this file's cloud.
from test_lists import *  # noqa: F403  as above
from test_port_forwardings import *  # noqa: F403  as above
from test_races import *  # noqa: F403  as above
from test_rbac import *  # noqa: F403  as above
from test_tags import *  # noqa: F403  as above

from trunkline.core.allocate import Limits
from trunkline.db import identity
from trunkline.db.engine import Database
from trunkline.db.schema import upgrade


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Lend an empty database."""
    directory = tmp_path_factory.mktemp("postgresql")
    for above in (directory, *directory.parents):
        if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 0o001:
            above.chmod(0o755)  # PostgreSQL runs as somebody else
    with postgresql(directory) as found:
        yield found


@pytest.fixture(scope="module")
def cloud(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Lend a cloud on PostgreSQL."""
    with running(tmp_path_factory.mktemp("cloud"), url) as cloud:
        yield cloud


def test_migrations_make_the_tables_there_too(cloud: Cloud, url: str) -> None:
    """What the migrations have built on PostgreSQL is what the code says; again changes nothing."""
    assert cloud.admin.list("routers", name="default")
    database = Database(url, Limits())
    try:
        upgrade(database)
        with database.connection() as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, identity.metadata) == []
    finally:
        database.close()
