"""Transactions: how they begin, what they move on commit, and when they are tried again.

Knows nothing of what is read or written inside. SQLite's ways are confined to this file.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import (
    Connection,
    Engine,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from trunkline.core.allocate import Limits
from trunkline.db.tables import hosts
from trunkline.errors import Conflict
from trunkline.model import HostName

Result = TypeVar("Result")

ATTEMPTS = 10  # lost races in a row before a writer gives up
LOST_RACES = {"40001", "40P01"}  # PostgreSQL, appendix A: serialization failure, deadlock
_STATE = select(func.coalesce(func.sum(hosts.c.revision), 0))  # each move makes it more
BUSY_TIMEOUT_MS = 30_000  # how long another process may hold SQLite's write lock


@dataclass(slots=True)
class Transaction:
    """One transaction under way.

    Attributes:
        limits: What it may allocate.
        now: Its time, RFC 3339 in UTC.
        moved: Hosts whose revision moves when it commits: those whose snapshot it changes.
        all_moved: Every known host's revision moves.
        shared: What readers have in common; None in a transaction that may change it.
    """

    connection: Connection
    limits: Limits
    now: str
    moved: set[HostName] = field(default_factory=set)
    all_moved: bool = False
    shared: Shared | None = None
    _state: int | None = None

    def once(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """Return what ``make`` returns, read once only while no host's revision moves.

        Args:
            key: What it is; another key is another question.
            make: Reads what is in the snapshot of whatever host asks, and so moves its revision
                with each change. Its answer is shared between transactions, and not to be changed.
        """
        if self.shared is None:
            return make()
        if self._state is None:
            self._state = self.connection.execute(_STATE).scalar_one()
        return self.shared.once(self._state, key, make)


class Shared:
    """What was read at one state of all hosts' snapshots, for those who ask next.

    A change that many hosts are told of is read once, not once for each.
    """

    def __init__(self) -> None:
        self._held: tuple[int | None, dict[Hashable, Any], dict[Hashable, Any]] = (None, {}, {})

    def once(self, state: int, key: Hashable, make: Callable[[], Result]) -> Result:
        """Return what ``make`` returns; the same object as before where it is equal."""
        held = self._held
        if held[0] != state:
            held = self._held = (state, {}, held[1])
        _, present, past = held
        if key not in present:
            made = make()
            before = past.get(key)
            present[key] = before if before == made else made
        result: Result = present[key]
        return result


class Database:
    """The cloud's state in SQL."""

    def __init__(self, url: str, limits: Limits) -> None:
        self._limits = limits
        self._engine = create_engine(url, pool_size=8, max_overflow=8)
        if self._engine.dialect.name == "sqlite":
            _teach_sqlite(self._engine)
        self._writer = self._engine.execution_options(immediate=True)
        self._reader = self._engine
        if self._engine.dialect.name == "postgresql":
            self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ")
        self._lock = Lock()
        self._shared = Shared()
        self.on_moved: Callable[[set[HostName]], None] = _nobody
        """Called after a commit, in the writer's thread, with the hosts that moved."""

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a transaction in which everything read is of one moment."""
        with self._reader.begin() as connection:
            yield Transaction(connection, self._limits, timestamp(), shared=self._shared)

    def write(self, work: Callable[[Transaction], Result]) -> Result:
        """Return what ``work`` returns, once its changes are durable.

        ``work`` runs again from the start when another writer was faster (a unique or foreign
        key is violated, or two wait for each other), so it must keep nothing between runs.
        Writers of one process take turns.

        Raises:
            Conflict: The race was lost many times in a row; retrying later may help.
        """
        with self._lock:
            for _ in range(ATTEMPTS):
                try:
                    result, moved = self._attempt(work)
                except (IntegrityError, OperationalError) as error:
                    if _is_lost_race(error):
                        continue
                    raise
                if moved:
                    self.on_moved(moved)
                return result
        raise Conflict(
            f"Other requests took what this one had chosen {ATTEMPTS} times in a row;"
            " send it again.",
            "RetryRequest",
        )

    def _attempt(self, work: Callable[[Transaction], Result]) -> tuple[Result, set[HostName]]:
        with self._writer.begin() as connection:
            tx = Transaction(connection, self._limits, timestamp())
            result = work(tx)
            return result, _move_revisions(tx)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Open a write transaction for the migrations, which bring their own statements."""
        with self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _is_lost_race(error: IntegrityError | OperationalError) -> bool:
    """Return whether an error says that another writer was faster."""
    return isinstance(error, IntegrityError) or (
        getattr(error.orig, "sqlstate", None) in LOST_RACES
    )


def format_time(moment: datetime) -> str:
    """Return a moment in UTC in the form that the tables hold."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def timestamp() -> str:
    """Return the present time in the form that the tables hold."""
    return format_time(datetime.now(UTC))


def add_host(tx: Transaction, host: HostName) -> None:
    """Make a host known, at its first revision."""
    tx.connection.execute(
        insert(hosts),
        {
            "host": host,
            "id": str(uuid4()),
            "revision": 1,
            "created_at": tx.now,
            "problems": [],
            "facts": {},
        },
    )


_MOVE_ALL = update(hosts).values(revision=hosts.c.revision + 1).returning(hosts.c.host)
_MOVE = _MOVE_ALL.where(hosts.c.host.in_(bindparam("moved", expanding=True)))


def _move_revisions(tx: Transaction) -> set[HostName]:
    """Move the revisions that the transaction is to move; return the hosts concerned."""
    if not tx.moved and not tx.all_moved:
        return set()
    statement = _MOVE_ALL if tx.all_moved else _MOVE
    moved = set(tx.connection.execute(statement, {"moved": sorted(tx.moved)}).scalars())
    for host in tx.moved - moved:
        add_host(tx, host)
    return moved | tx.moved


def _nobody(_hosts: set[HostName]) -> None:
    pass


def _teach_sqlite(engine: Engine) -> None:
    """Make SQLite keep its promises: real transactions, foreign keys, fsync at each commit."""

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # or sqlite3 begins and commits by its own lights
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
