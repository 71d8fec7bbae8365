"""The loop round the cycle: when to reconcile, and what to tell the server.

One thread works; a second only waits for the server and hands over what comes. A cycle runs
when a snapshot arrives, when a link or an address changes, when something failed and its time
has come, and once a minute with all memory dropped, so that drift nobody announced is found.
A server that is away changes nothing on the host; the agent says so and keeps asking.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Lock, Thread

from trunkline.agent.drift import Readings
from trunkline.agent.probe import Probes
from trunkline.agent.reconcile import Compiler, Outcome, reconcile
from trunkline.client import AgentClient
from trunkline.errors import KernelError, RequestError, ServerUnavailable
from trunkline.hoststate import HostConfig
from trunkline.joined import changed
from trunkline.kernel.interface import Kernel
from trunkline.model import PortId, PortStatus
from trunkline.report import Reading
from trunkline.snapshot import HostSnapshot

log = logging.getLogger("trunkline.agent")

RESYNC_S = 60.0
HEARTBEAT_S = 20.0
LONG_POLL_S = 25.0
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.5, 30.0


class Inbox:
    """Where the listener leaves the newest snapshot; older ones are of no use to anybody.

    ``fileno`` is readable while something new is there.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._snapshot: HostSnapshot | None = None
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.online = False

    def put(self, snapshot: HostSnapshot) -> None:
        """Leave a snapshot and wake the loop."""
        with self._lock:
            self._snapshot = snapshot
        self.wake()

    def take(self) -> HostSnapshot | None:
        """Return the newest snapshot since the last call, or None."""
        with suppress(BlockingIOError):
            os.read(self._read, 4096)
        with self._lock:
            snapshot, self._snapshot = self._snapshot, None
        return snapshot

    def wake(self) -> None:
        """Make ``fileno`` readable; safe in a signal handler."""
        with suppress(BlockingIOError):
            os.write(self._write, b".")

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._read


def backoff_s() -> Iterator[float]:
    """Yield waiting times that double up to half a minute."""
    wait = BACKOFF_MIN_S
    while True:
        yield wait
        wait = min(wait * 2, BACKOFF_MAX_S)


def listen(client: AgentClient, inbox: Inbox, stop: Event, probes: Probes) -> None:
    """Fetch snapshots into the inbox until told to stop; runs in a thread of its own.

    Orders to take part in a probe come with them.
    """
    revision: int | None = None
    waits = backoff_s()
    while not stop.is_set():
        try:
            snapshot = client.snapshot(revision, LONG_POLL_S)
        except (ServerUnavailable, RequestError) as error:
            wait = next(waits)
            inbox.online = False
            log.warning("no snapshot, keeping the host as it is, retry in %.1f s: %s", wait, error)
            stop.wait(wait)
            continue
        waits = backoff_s()
        if not inbox.online:
            inbox.online = True
            inbox.wake()
        if snapshot is not None:
            revision = snapshot.revision
            inbox.put(snapshot)
            probes.begin(client.orders)


@dataclass
class Reporter:
    """Tells the server what changed since it was last told; all of it after a silence."""

    client: AgentClient
    config: HostConfig
    told: Mapping[PortId, PortStatus] = field(default_factory=dict)
    told_rest: object = None
    tried_at: float = 0.0
    complete: bool = False

    def report(self, revision: int, outcome: Outcome, reading: Reading | None) -> None:
        """Report a cycle's outcome if it is news, or a sign of life is due.

        A server that does not answer is told everything once it is back.
        """
        drift = None if reading is None else reading.drift
        rest = (revision, outcome.failures, outcome.problems, outcome.facts, drift)
        news, _ = changed(outcome.ports, self.told)
        now = time.monotonic()
        due = now - self.tried_at >= HEARTBEAT_S
        if self.complete and not (news or due or rest != self.told_rest):
            return
        self.tried_at = now
        try:
            self.client.report(
                revision,
                ports=news if self.complete else outcome.ports,
                problems=(*outcome.failures, *outcome.problems),
                facts=outcome.facts,
                config=self.config,
                full=not self.complete,
                reading=reading,
            )
        except (ServerUnavailable, RequestError) as error:
            self.complete = False
            log.warning("report of revision %d not delivered: %s", revision, error)
            return
        self.told, self.told_rest, self.complete = outcome.ports, rest, True


@dataclass
class Loop:
    """What the working thread carries from cycle to cycle: nothing that a cycle depends on."""

    kernel: Kernel
    config: HostConfig
    reporter: Reporter
    inbox: Inbox
    snapshot: HostSnapshot | None = None
    compiler: Compiler = field(default_factory=Compiler)
    judge: bool = True
    cycles: int = 0
    resync_at: float = 0.0
    retry_at: float | None = None
    waits: Iterator[float] = field(default_factory=backoff_s)
    readings: Readings = field(default_factory=Readings)

    def run(self, stop: Event) -> None:
        """Work until told to stop."""
        while not stop.is_set():
            self.kernel.wait(self._timeout_s(), self.inbox.fileno())
            self.snapshot = self.inbox.take() or self.snapshot
            if self.snapshot is not None and not stop.is_set():
                self._cycle(self.snapshot)

    def _timeout_s(self) -> float:
        now = time.monotonic()
        times = [self.resync_at]
        if self.inbox.online:
            times.append(self.reporter.tried_at + HEARTBEAT_S)
        if self.retry_at is not None:
            times.append(self.retry_at)
        return max(0.0, min(times) - now) if self.snapshot is not None else RESYNC_S

    def _cycle(self, snapshot: HostSnapshot) -> None:
        started = time.monotonic()
        full = started >= self.resync_at
        if full:
            self.kernel.forget()
            self.resync_at = started + RESYNC_S
        try:
            outcome = reconcile(
                self.kernel, self.config, snapshot, judge=self.judge, compiler=self.compiler
            )
        except KernelError as error:
            log.error("revision=%d could not read the host: %s", snapshot.revision, error)  # noqa: TRY400 - the message says it all
            self.kernel.forget()
            self.retry_at = started + next(self.waits)
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.readings.note(snapshot, outcome, now, full=full)
        self.judge = not outcome.judged
        self._schedule_retry(outcome, started)
        self.cycles += 1
        if self.cycles == 1:
            for lack in outcome.facts.missing:
                log.warning("this machine lacks %s", lack)
        if self.cycles == 1 or outcome.operations or outcome.failures:
            _log(snapshot.revision, outcome, started)
        if self.inbox.online:
            self.reporter.report(snapshot.revision, outcome, self.readings.reading())
        if full:
            gc.collect()  # when nobody waits, and no more often

    def _schedule_retry(self, outcome: Outcome, now: float) -> None:
        if outcome.failures:
            self.retry_at = now + next(self.waits)
        else:
            self.retry_at, self.waits = now if outcome.more else None, backoff_s()


def _log(revision: int, outcome: Outcome, started: float) -> None:
    for operation in outcome.operations:
        log.debug("%s", operation.command())
    for problem in (*outcome.failures, *outcome.problems):
        log.warning("%s: %s", problem.subject, problem.text)
    log.info(
        "revision=%d operations=%d failed=%d ms=%.1f",
        revision,
        len(outcome.operations),
        len(outcome.failures),
        (time.monotonic() - started) * 1000,
    )


@contextmanager
def listening(client: AgentClient, inbox: Inbox, stop: Event, probes: Probes) -> Iterator[None]:
    """Run the listener beside the caller; on leaving, it is told to stop and left to end.

    It is a daemon thread: a long poll under way must not hold up the end of the program.
    """
    thread = Thread(target=listen, args=(client, inbox, stop, probes), name="listener", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        inbox.wake()
