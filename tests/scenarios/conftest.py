"""Labs for the tests of this folder, each under a name of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from trunkline.kernel import netns
from trunkline.lab import life, state
from trunkline.lab.stage import Stage
from trunkline.lab.topology import read

PROGRAMS = ("busybox", "dnsmasq", "ip", "nft")


@pytest.fixture(scope="session", autouse=True)
def _able() -> None:
    """Skip, naming what is missing, where no lab can be built."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture(scope="session")
def stage(_able: None) -> Iterator[Stage]:
    """The article's lab, up for the whole session."""
    lab, _ = life.up(read("article"), "scn")
    yield Stage(lab)
    life.down("scn")


@pytest.fixture(scope="module")
def faulty(_able: None) -> Iterator[Stage]:
    """A lab to break things in, without floating IPs: its scenarios need no working agent."""
    data = yaml.safe_load(read("article"))
    for tenant in data["tenants"].values():
        del tenant["floating_ips"]
    lab, _ = life.up(yaml.safe_dump(data), "scnfault")
    yield Stage(lab)
    life.down("scnfault")


@pytest.fixture
def machine(_able: None) -> Iterator[None]:
    """Compare what is on the machine before and after: nothing of a lab may stay."""
    before = leftovers()
    yield
    assert leftovers() == before


def leftovers() -> dict[str, list[str]]:
    """Return what a lab could leave on a machine."""
    return {
        "namespaces": list(netns.names()),
        "directories": list(state.living()),
        "resolv": names_in(state.RESOLV),
        "processes": sorted(_processes()),
        "links": names_in(Path("/sys/class/net")),
    }


def names_in(directory: Path) -> list[str]:
    """Return the names of a directory's entries, sorted; none where there is no directory."""
    return sorted(entry.name for entry in directory.iterdir()) if directory.exists() else []


def _processes() -> Iterator[str]:
    """Yield the command lines of the kinds of process that labs start."""
    words = ("dnsmasq", "udhcpc", "trunkline.cli.main")
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(word in line for word in words) and "/run/trunkline/lab" in line:
            yield line
