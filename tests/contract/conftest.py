"""Runs each contract test against both hosts."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import worlds

from trunkline.hoststate import VlanMaking


@pytest.fixture(params=["fake", "linux"])
def world(request: pytest.FixtureRequest) -> Iterator[worlds.World]:
    """Give a fresh host with a trunk eth0 and an uplink eth1."""
    if request.param == "linux" and os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    with worlds.fake_world() if request.param == "fake" else worlds.linux_world() as given:
        yield given


@pytest.fixture
def linux() -> Iterator[worlds.World]:
    """Give the real host, for what a host in memory has not: wires, crashes, daemons."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    with worlds.linux_world() as given:
        yield given


@pytest.fixture
def making(world: worlds.World) -> VlanMaking:
    """Give the making of VLAN devices that this host has."""
    found = world.kernel.facts(world.config).vlan_making
    assert found is not None, "this kernel can make no VLAN devices at all"
    return found
