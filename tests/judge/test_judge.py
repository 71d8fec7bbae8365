"""The same calls to Trunkline and to a real Neutron: answers agree, or the list says why not."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from both import ADMIN, ALICE, BOB, PROJECTS, TOKENS, Both, Difference
from calls import Author
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_neutron import real_neutron
from running import Cloud

EXAMPLES = int(os.environ.get("TRUNKLINE_JUDGE", "60"))
CALLS = 30  # of one example
LIST = Path(__file__).with_name("differences.toml")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Lend the two servers; ours has no default router, as Neutron knows none."""
    cloud = Cloud(tmp_path_factory.mktemp("ours"))
    cloud.write_files()
    cloud.write_users(_users())
    config = cloud.directory / "server.toml"
    config.write_text("default_router = false\n" + config.read_text())
    cloud.start()
    try:
        with real_neutron(tmp_path_factory.mktemp("theirs")) as neutron:
            yield Both(cloud, neutron)
    finally:
        cloud.end()


def _users() -> dict[str, Any]:
    """Return a users file of the judge's people."""
    users = [
        {
            "name": TOKENS[who],
            "tokens": [{"token": TOKENS[who], "project": who[0], "roles": [who[1]]}],
        }
        for who in (ADMIN, ALICE, BOB)
    ]
    return {"projects": [{"id": project} for project in PROJECTS.values()], "users": users}


@pytest.mark.timeout(3600)
def test_answers_agree(both: Both) -> None:
    """Random sequences of calls are answered alike, but for differences that have a reason."""
    known = tomllib.loads(LIST.read_text())["difference"]
    found: dict[tuple[str, str], Difference] = {}

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        try:
            for _ in range(CALLS):
                call = Author(data.draw, both).call()
                for difference in both.send(call):
                    if not difference.is_listed(known):
                        found.setdefault((call.where, difference.what), difference)
                if both.diverged:
                    return
        finally:
            both.clear()

    run()
    assert not found, "\n\n".join(map(str, found.values()))
