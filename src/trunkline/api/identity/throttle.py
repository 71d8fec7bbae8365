"""How often a log-in may fail: some times at once, then now and then (GCRA).

Per user and address, so that nobody locks others out, and per address, so that nobody tries many
names. In memory only: each server counts for itself, and a restart forgives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable

from trunkline.errors import TooManyRequests

FAILURES, EVERY_S = 10, 6.0  # one user from one address: ten at once, then ten a minute
KEYS_MAX = 20_000


class Throttle:
    """Failures by key; a key costs a little memory until its failures are forgotten."""

    def __init__(
        self,
        failures: int = FAILURES,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_s = every_s
        self._burst_s = failures * every_s
        self._clock = clock
        self._forgiven_at: dict[Hashable, float] = {}

    def charge(self, key: Hashable) -> None:
        """Count an attempt as failed, before it is made: many at once count, too.

        Raises:
            TooManyRequests: Too many have failed; it says when the next may be made.
        """
        now = self._clock()
        forgiven = max(self._forgiven_at.pop(key, now), now) + self._every_s
        wait_s = forgiven - now - self._burst_s
        if wait_s > 0:
            self._forgiven_at[key] = forgiven - self._every_s
            seconds = int(wait_s) + 1
            raise TooManyRequests(
                f"Too many log-ins have failed; the next may be tried in {seconds} s.", seconds
            )
        self._make_room(now)
        self._forgiven_at[key] = forgiven

    def succeeded(self, key: Hashable) -> None:
        """Take one attempt back: it did not fail."""
        if key in self._forgiven_at:
            self._forgiven_at[key] -= self._every_s

    def _make_room(self, now: float) -> None:
        """Forget what is forgiven, and if that is not enough, the key charged longest ago."""
        if len(self._forgiven_at) < KEYS_MAX:
            return
        kept: Iterable[tuple[Hashable, float]] = (
            (key, at) for key, at in self._forgiven_at.items() if at > now
        )
        self._forgiven_at = dict(list(kept)[-KEYS_MAX + 1 :])
