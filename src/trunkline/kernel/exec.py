"""Starts processes; the single place that does. Knows nothing of what they are for.

A child inherits the network namespace of the thread that starts it, so running something in
another namespace is ``with netns.enter(name): exec.run(...)``.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trunkline.errors import Interrupted, MissingFeature

PACKAGES = {
    "busybox": "busybox",
    "conntrack": "conntrack",
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "keepalived": "keepalived",
    "modprobe": "kmod",
    "nft": "nftables",
    "ping": "iputils-ping",
    "tcpdump": "tcpdump",
}
"""Debian package by program, for the sentence that says what to install."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A process that has ended. A negative ``returncode`` is the signal that ended it."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def run(argv: Sequence[str], timeout_s: float = 10, stdin: str = "") -> Completed:
    """Run a program to its end.

    Raises:
        MissingFeature: The program is not installed.
        Interrupted: It did not end within ``timeout_s`` and was killed.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise _missing(argv[0]) from error
    except subprocess.TimeoutExpired as error:
        message = f"{' '.join(argv)}: not done after {timeout_s:g} s, killed; try again"
        raise Interrupted(message) from error
    return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Process:
    """A process that may outlive this one.

    Attributes:
        started: Start time in clock ticks since boot (proc(5), stat field 22). Together with
            the pid it names one process for good: a pid alone is used again.
    """

    pid: int
    started: int

    def alive(self) -> bool:
        """Return whether it still runs; a zombie does not."""
        return _start_time(self.pid) == self.started

    def signal(self, number: int) -> None:
        """Send a signal; a process that has ended is left alone."""
        if not self.alive():
            return
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive():  # the pid was not used again before the pidfd held it
                signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(fd)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; return whether it has ended. Reaps it if it is our child."""
        ended = not self.alive() or _ends(self.pid, timeout_s)
        if ended:
            _reap(self.pid)
        return ended

    def stop(self, timeout_s: float = 5) -> None:
        """Ask it to end by SIGTERM, and make it end by SIGKILL after ``timeout_s``."""
        self.signal(signal.SIGTERM)
        if not self.wait(timeout_s):
            self.signal(signal.SIGKILL)
            self.wait(timeout_s)


def process(pid: int) -> Process | None:
    """Return the running process with this pid; None if there is none."""
    started = _start_time(pid)
    return None if started is None else Process(pid, started)


def _inherited() -> list[int]:
    """Return what this process was given open beside its standard files.

    A daemon must not keep a caller's lock or pipe open for as long as it lives.
    """
    found = []
    for fd in (int(entry.name) for entry in Path("/proc/self/fd").iterdir()):
        with suppress(OSError):  # the listing's own descriptor is closed by now
            if fd > 2 and os.get_inheritable(fd):  # noqa: PLR2004 - standard input, output, errors
                found.append(fd)
    return found


def spawn(argv: Sequence[str], stdout: str, env: Mapping[str, str] | None = None) -> Process:
    """Start a program in a session of its own, so that it survives this process.

    Args:
        argv: Program, found on PATH, and its arguments.
        stdout: File that its output and its errors are appended to.
        env: Its environment; None is this process's own.

    Raises:
        MissingFeature: The program is not installed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, stdout, flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()),
    ]
    try:
        pid = os.posix_spawnp(
            argv[0],
            list(argv),
            os.environ if env is None else env,
            file_actions=actions,
            setsid=True,
            setsigdef=[signal.SIGPIPE],  # Python ignores it; programs expect the default
        )
    except FileNotFoundError as error:
        raise _missing(argv[0]) from error
    return Process(pid, _start_time(pid, zombie=True) or 0)


def _missing(program: str) -> MissingFeature:
    package = PACKAGES.get(program, program)
    return MissingFeature(f"{program}: not found; install it, such as: apt install {package}")


def _start_time(pid: int, *, zombie: bool = False) -> int | None:
    """Return a process's start time in clock ticks; None if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name is in parentheses and may contain anything, even ") ".
    state, *fields = stat.rpartition(")")[2].split()
    if state in "ZX" and not zombie:
        return None
    return int(fields[18])


def _ends(pid: int, timeout_s: float) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(fd)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except OSError as error:
        if error.errno != errno.ECHILD:
            raise
