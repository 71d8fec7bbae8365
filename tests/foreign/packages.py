"""Foreign packages, taken from PyPI once: an environment of its own under .cache for each set."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trunkline.lab.waiting import limit_s

CACHE = Path(__file__).parents[2] / ".cache"
INSTALL_S = 240
KEYSTONE_AND_NOVA = ("keystone-30-nova-34", "keystone>=30,<31", "nova>=34,<35")
"""One environment for both, as they share a hundred packages."""


def environment(name: str, *packages: str) -> Path:
    """Return the directory of an environment with these packages; skip if PyPI is out of reach.

    The name says which packages, and their versions: an environment that is there is not changed.
    """
    venv = CACHE / name
    with alone(name):
        if not (venv / "ready").exists():
            shutil.rmtree(venv, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
            pip(venv, "install", *packages)
            (venv / "ready").touch()
    return venv


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Keep other processes from setting up the same meanwhile: tests run on all cores."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def pip(venv: Path, *words: str) -> None:
    """Run pip on an environment; skip if it fails, which says that PyPI is out of reach."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    done = subprocess.run(
        [*command, "--python", venv / "bin" / "python", *words],
        capture_output=True,
        text=True,
        timeout=limit_s(INSTALL_S),
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"not to be had from PyPI: {done.stderr.strip()[-300:]}")
