"""A PostgreSQL of one's own, from Debian's package: a cluster in a directory, on a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trunkline.lab.waiting import limit_s

PROGRAMS = Path("/usr/lib/postgresql")
OWNER = "postgres"  # whom Debian's package makes; PostgreSQL does not run as root
UNSAFE = "-c fsync=off -c full_page_writes=off -c listen_addresses="
"""What a test does without: safety at power cuts, and the network."""


@contextmanager
def postgresql(directory: Path) -> Iterator[str]:
    """Lend an empty database, as SQLAlchemy's URL; skip if PostgreSQL or its driver is missing."""
    pytest.importorskip("psycopg", reason="psycopg, of trunkline[postgresql], is not installed")
    found = sorted(PROGRAMS.glob("*/bin/initdb"))
    if not found:
        pytest.skip("Debian's package postgresql is not installed")
    programs = found[-1].parent
    owner = OWNER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    base = directory / "pg"
    base.mkdir()
    if os.geteuid() == 0:
        shutil.chown(base, owner)
    data, where = base / "data", f"-k {base} {UNSAFE}"
    _run(owner, programs / "initdb", "-D", data, "-A", "trust", "-U", "trunkline", "-N")
    control = (programs / "pg_ctl", "-D", data, "-w")
    try:
        _run(owner, *control, "-l", base / "log", "-o", where, "start")
        yield f"postgresql+psycopg://trunkline@/postgres?host={base}"
    finally:
        _run(owner, *control, "-m", "immediate", "stop")


def _run(owner: str, *words: str | Path) -> None:
    """Run a program as the cluster's owner; its output goes nowhere, or it would hold a pipe."""
    changed = {"user": owner, "group": owner, "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run(  # type: ignore[call-overload]  # the keywords are those of subprocess.Popen
        words,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        timeout=limit_s(60),
        **changed,
    )
