"""Spaces: network namespaces of a host's own, on the fake and on Linux alike."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from worlds import World, read_for

from trunkline.agent.reconcile import reconcile
from trunkline.core.compile import compile_host
from trunkline.core.diff import diff_host
from trunkline.hoststate import HostState
from trunkline.snapshot import HostSnapshot

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
import clouds


def settle(world: World, snapshot: HostSnapshot) -> None:
    """Make a host what a snapshot says, as an agent does."""
    outcome = reconcile(world.kernel, world.config, snapshot, judge=True)
    assert outcome.failures == ()


def due(world: World, snapshot: HostSnapshot) -> list[str]:
    """Return what differs on a host, as commands: by memory, and after a full reading."""
    desired, _ = compile_host(snapshot, world.config, world.kernel.facts(world.config))
    return [o.command() for o in diff_host(desired, read_for(world, desired))]


CHANGES = [
    ("one router", "closed router"),
    ("routers", "router down"),
    ("article", "article on a router"),
    ("article on a router", "routers"),
    ("routers", "article"),
    ("both families", "both families on routers"),
    ("both families on routers", "article on a router"),
    ("both families on routers", "both families"),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_spaces_come_change_and_go(world: World, before: str, after: str) -> None:
    """Each state arrives in one cycle and reads back as it was made; in the end nothing is left."""
    for name in (before, after):
        settle(world, clouds.STATES[name])
        assert due(world, clouds.STATES[name]) == [], name

    settle(world, clouds.EMPTY)
    assert replace(world.kernel.read(world.config, ()), plugs={}) == HostState()
