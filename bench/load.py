"""Port creations per second through the API, and the same rows by hand in plain SQLite."""

from __future__ import annotations

import sqlite3
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from uuid import uuid4

from stage import Stage

ROWS = """
CREATE TABLE port (id TEXT PRIMARY KEY, network TEXT, mac TEXT UNIQUE, host TEXT, project TEXT);
CREATE TABLE address (port TEXT REFERENCES port (id), address TEXT UNIQUE);
CREATE TABLE membership (port TEXT REFERENCES port (id), grp TEXT, PRIMARY KEY (port, grp));
CREATE TABLE host (name TEXT PRIMARY KEY, revision INTEGER);
INSERT INTO host VALUES ('host', 1);
"""


def create_ports(
    scene: Stage, user: str, networks: list[str], host: str, count: int, clients: int
) -> float:
    """Create ports by several clients at once; return how many came about per second.

    Each client is a process with one kept connection, and sends its next request when the
    last one was answered.
    """
    context = get_context("fork")
    barrier = context.Barrier(clients + 1)
    share = [count // clients + (c < count % clients) for c in range(clients)]
    processes = [
        context.Process(target=_client, args=(scene, user, networks, host, n, barrier))
        for n in share
    ]
    for process in processes:
        process.start()
    barrier.wait(60)
    start = time.monotonic()
    for process in processes:
        process.join()
    taken = time.monotonic() - start
    if any(process.exitcode for process in processes):
        raise RuntimeError("a client failed; its words are above")
    return count / taken


def _client(
    scene: Stage, user: str, networks: list[str], host: str, count: int, barrier: Barrier
) -> None:
    api = scene.api(user)
    api.list("ports", limit=1)
    barrier.wait(60)
    for number in range(count):
        network = networks[number % len(networks)]
        api.create("ports", {"network_id": network, "binding:host_id": host})


def by_hand(directory: Path, count: int) -> float:
    """Insert as many ports' rows, each port in a durable transaction; return ports per second."""
    path = directory / "by-hand.db"
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {ROWS}")
    start = time.monotonic()
    for number in range(count):
        _insert(database, str(uuid4()), number)
    taken = time.monotonic() - start
    database.close()
    return count / taken


def _insert(database: sqlite3.Connection, port: str, number: int) -> None:
    values = (port, "network", f"mac {number}", "host", "project")
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO port VALUES (?, ?, ?, ?, ?)", values)
    database.execute("INSERT INTO address VALUES (?, ?)", (port, f"address {number}"))
    database.execute("INSERT INTO membership VALUES (?, ?)", (port, "default"))
    database.execute("UPDATE host SET revision = revision + 1 WHERE name = 'host'")
    database.execute("COMMIT")
