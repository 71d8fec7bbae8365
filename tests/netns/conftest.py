"""One lab of its own for each module of this folder: the article's cloud."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from trunkline.lab import life
from trunkline.lab.stage import Stage
from trunkline.lab.topology import read

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # two may be at it at once


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Bring the article's cloud up under a name of its own, and take it down at the end."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    name = f"walls{WORKER}"
    lab, _ = life.up(read("article"), name)
    try:
        yield Stage(lab)
    finally:
        life.down(name)
