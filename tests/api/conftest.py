"""One server for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Cloud, running


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Lend a cloud of the module's own."""
    with running(tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture
def own_cloud(tmp_path: Path) -> Iterator[Cloud]:
    """Lend a cloud of the test's own, which it may break."""
    with running(tmp_path) as cloud:
        yield cloud
