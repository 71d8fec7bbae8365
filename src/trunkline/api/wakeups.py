"""Who waits for which host's revision to move. Lives in the event loop; holds no thread.

A wake-up only makes a waiter look. One that is lost costs time, never correctness.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from sqlalchemy.exc import OperationalError

from trunkline.model import HostName

log = logging.getLogger("trunkline.server")

LOOK_EVERY_S = 1.0  # another server process moves revisions without telling this one


class Wakeups:
    """The waiters of this process, by host."""

    def __init__(self) -> None:
        self._events: dict[HostName, asyncio.Event] = {}
        self._seen: dict[HostName, int] = {}
        self.closed = False

    def moved(self, hosts: Iterable[HostName]) -> None:
        """Wake whoever waits for one of these hosts. Call in the event loop."""
        for host in hosts:
            event = self._events.pop(host, None)
            if event is not None:
                event.set()

    def watch(self, host: HostName) -> asyncio.Event:
        """Return the event of the host's next move; take it before looking, then wait."""
        return self._events.setdefault(host, asyncio.Event())

    def close(self) -> None:
        """Wake everybody, and let nobody wait any more: the server ends."""
        self.closed = True
        self.moved(list(self._events))

    async def look(self, revisions: Callable[[], Awaitable[Mapping[HostName, int]]]) -> None:
        """Compare the database's revisions with those seen last, again and again."""
        while not self.closed:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._events:
                continue
            try:
                seen, self._seen = self._seen, dict(await revisions())
            except OperationalError as error:
                log.warning("database, looking for moved hosts: %s", error)
                continue
            self.moved([host for host, n in self._seen.items() if seen.get(host) != n])
