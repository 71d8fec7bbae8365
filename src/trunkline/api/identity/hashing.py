"""Password hashing beside the event loop: slow on purpose, so it has threads of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from trunkline.errors import TooManyRequests
from trunkline.service.identity import passwords

Result = TypeVar("Result")
THREADS = 2
WAITING_MAX = 64  # log-ins in line; each takes some 50 ms
RETRY_S = 2


class Hashing:
    """Hashes and verifies."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "password")
        self._waiting = 0

    async def hashed(self, password: str) -> str:
        """Return what is kept of a password."""
        return await self._run(lambda: passwords.hashed(password))

    async def verify(self, kept: str | None, password: str) -> bool:
        """Return whether a password is the one of which this was kept; None: never."""
        return await self._run(lambda: passwords.verify(kept, password))

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= WAITING_MAX:
            raise TooManyRequests(
                f"{WAITING_MAX} log-ins are in line already; send it again in {RETRY_S} s.", RETRY_S
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let what runs end."""
        self._threads.shutdown()
