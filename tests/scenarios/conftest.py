"""Labs for the tests of this folder, each under a name of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
import yaml
from leftovers import PREFIX, leftovers, remove_dead_labs

from trunkline.lab import life
from trunkline.lab.matrix import Cell, topology
from trunkline.lab.stage import Stage
from trunkline.lab.topology import read

PROGRAMS = ("busybox", "dnsmasq", "ip", "keepalived", "nft")


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    """Skip, naming what is missing, where no lab can be built."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    remove_dead_labs()


@pytest.fixture(scope="session")
def stage(_able: None) -> Iterator[Stage]:
    """The article's lab, up for the whole session."""
    lab, _ = life.up(read("article"), f"{PREFIX}stage")
    yield Stage(lab)
    life.down(f"{PREFIX}stage")


@pytest.fixture(scope="module")
def anycast(_able: None) -> Iterator[Stage]:
    """The article's lab with one gateway for all hosts."""
    lab, _ = life.up(read("anycast"), f"{PREFIX}any")
    yield Stage(lab)
    life.down(f"{PREFIX}any")


@pytest.fixture(scope="module")
def flat(_able: None) -> Iterator[Stage]:
    """One untagged segment for all tenants, and a VLAN beside it."""
    lab, _ = life.up(read("flat"), f"{PREFIX}flat")
    yield Stage(lab)
    life.down(f"{PREFIX}flat")


@pytest.fixture(scope="module")
def dual(_able: None) -> Iterator[Stage]:
    """The article's lab with IPv6 beside IPv4."""
    lab, _ = life.up(read("dual"), f"{PREFIX}dual")
    yield Stage(lab)
    life.down(f"{PREFIX}dual")


@pytest.fixture(scope="module")
def routers6(_able: None) -> Iterator[Stage]:
    """Two routers of projects' own with IPv6, and the same addresses on both."""
    lab, _ = life.up(read("routers6"), f"{PREFIX}six")
    yield Stage(lab)
    life.down(f"{PREFIX}six")


@pytest.fixture(scope="module")
def placed6(_able: None) -> Iterator[Stage]:
    """A router with IPv6 on the first of two network hosts."""
    data = topology(Cell("per_host", "redundant", "ipv6", "on_demand"))
    data["routers"]["main"]["hosts"] = ["network1"]
    lab, _ = life.up(yaml.safe_dump(data), f"{PREFIX}place6")
    yield Stage(lab)
    life.down(f"{PREFIX}place6")


@pytest.fixture(scope="module")
def upstream(_able: None) -> Iterator[Stage]:
    """A router on the trunk as the gateway of both networks."""
    lab, _ = life.up(read("upstream"), f"{PREFIX}upstr")
    yield Stage(lab)
    life.down(f"{PREFIX}upstr")


@pytest.fixture(scope="module")
def placed(_able: None) -> Iterator[Stage]:
    """The router of both networks on a network host."""
    lab, _ = life.up(read("placed"), f"{PREFIX}placed")
    yield Stage(lab)
    life.down(f"{PREFIX}placed")


@pytest.fixture(scope="module")
def segments(_able: None) -> Iterator[Stage]:
    """Two hosts on trunks of their own, and networks that are a VLAN on each."""
    lab, _ = life.up(read("segments"), f"{PREFIX}segs")
    yield Stage(lab)
    life.down(f"{PREFIX}segs")


@pytest.fixture(scope="module")
def trunks(_able: None) -> Iterator[Stage]:
    """Two trunks, and a network with the same VLAN id on each."""
    lab, _ = life.up(read("trunks"), f"{PREFIX}trunks")
    yield Stage(lab)
    life.down(f"{PREFIX}trunks")


@pytest.fixture(scope="module")
def faulty(_able: None) -> Iterator[Stage]:
    """A lab to break things in, without floating IPs: its scenarios need no working agent."""
    data = yaml.safe_load(read("article"))
    for tenant in data["tenants"].values():
        del tenant["floating_ips"]
    lab, _ = life.up(yaml.safe_dump(data), f"{PREFIX}fault")
    yield Stage(lab)
    life.down(f"{PREFIX}fault")


@pytest.fixture
def machine(_able: None) -> Iterator[None]:
    """Compare what is on the machine before and after: nothing of a lab may stay."""
    before = leftovers()
    yield
    assert leftovers() == before
