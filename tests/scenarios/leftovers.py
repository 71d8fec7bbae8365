"""What labs could leave on a machine; a module, as a second ``conftest`` cannot be imported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from trunkline.kernel import netns
from trunkline.lab import life, state

PREFIX = f"scn{os.getpid()}"  # another run of these tests may be under way
"""How the labs of this folder's tests are called."""


def remove_dead_labs() -> None:
    """Take down what runs of these tests have left that were killed."""
    for name in state.living():
        run = re.match(r"scn(\d+)", name)
        if run and not Path("/proc", run[1]).exists():
            life.down(name)


def leftovers() -> dict[str, list[str]]:
    """Return what the labs of these tests could leave; other labs on the machine are not ours."""
    return {
        "namespaces": [name for name in netns.names() if name.startswith(PREFIX)],
        "directories": [name for name in state.living() if name.startswith(PREFIX)],
        "resolv": [name for name in names_in(state.RESOLV) if name.startswith(PREFIX)],
        "processes": sorted(_processes()),
        "locks": [name for name in names_in(state.ROOT) if name.startswith(PREFIX)],
        "links": [name for name in names_in(Path("/sys/class/net")) if name.startswith("tap")],
    }


def names_in(directory: Path) -> list[str]:
    """Return the names of a directory's entries, sorted; none where there is no directory."""
    return sorted(entry.name for entry in directory.iterdir()) if directory.exists() else []


def _processes() -> Iterator[str]:
    """Yield the command lines of processes that speak of these tests' labs."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(state.ROOT / PREFIX) in line:
            yield line
