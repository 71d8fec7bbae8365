"""The same calls to Trunkline and to a real Neutron: answers agree, or the list says why not."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from both import PROJECTS, TOKENS, Both, Difference
from calls import OBJECTS, SCOPES, Author, Vocabulary
from calls_bindings import BINDINGS
from calls_ipv6 import IPV6
from calls_lists import LISTS
from calls_quotas import QUOTAS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_neutron import RealNeutron, real_neutron
from running import Cloud

EXAMPLES = int(os.environ.get("TRUNKLINE_JUDGE", "60"))
CALLS = 30  # of one example
LIST = Path(__file__).with_name("differences.toml")


VOCABULARIES = {
    "objects": OBJECTS,
    "ipv6": IPV6,
    "quotas": QUOTAS,
    "lists": LISTS,
    "bindings": BINDINGS,
    "scopes": SCOPES,
}


@pytest.fixture(scope="module")
def neutron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNeutron]:
    """Lend a real Neutron, which takes a while to start."""
    with real_neutron(tmp_path_factory.mktemp("theirs")) as running:
        yield running


@contextmanager
def trunkline(directory: Path, *, default_router: bool) -> Iterator[Cloud]:
    """Lend a Trunkline that knows the judge's people."""
    cloud = Cloud(directory)
    cloud.write_files()
    cloud.write_users(_users())
    config = directory / "server.toml"
    config.write_text(f"default_router = {str(default_router).lower()}\n" + config.read_text())
    cloud.start()
    try:
        yield cloud
    finally:
        cloud.end()


def _users() -> dict[str, Any]:
    """Return a users file of the judge's people."""
    users = [
        {
            "name": TOKENS[who],
            "tokens": [{"token": TOKENS[who], "project": who[0], "roles": [who[1]]}],
        }
        for who in TOKENS
    ]
    return {"projects": [{"id": project} for project in PROJECTS.values()], "users": users}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", VOCABULARIES)
def test_answers_agree(name: str, neutron: RealNeutron, tmp_path: Path) -> None:
    """Random sequences of calls are answered alike, but for differences that have a reason."""
    vocabulary = VOCABULARIES[name]
    with trunkline(tmp_path, default_router=vocabulary.default_router) as cloud:
        found = differences(Both(cloud, neutron), vocabulary)
    assert not found, "\n\n".join(map(str, found))


def differences(both: Both, vocabulary: Vocabulary) -> list[Difference]:
    """Return the differences that the list has not, one of each kind."""
    both.greet()
    known = tomllib.loads(LIST.read_text())["difference"]
    found: dict[tuple[str, str], Difference] = {}

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.randoms(use_true_random=True))  # what is called next depends on what servers answered
    def run(chance: Random) -> None:
        try:
            for _ in range(CALLS):
                call = Author(chance, both, vocabulary).call()
                for difference in both.send(call):
                    if not difference.is_listed(known):
                        found.setdefault((call.where, difference.what), difference)
                if both.diverged:
                    return
        finally:
            both.clear()

    run()
    return list(found.values())
