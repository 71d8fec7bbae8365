"""Starting programs: what a daemon keeps of whoever started it."""

from __future__ import annotations

import os
from pathlib import Path

from trunkline.kernel import exec as programs


def test_a_daemon_keeps_nothing_open_of_its_caller() -> None:
    """A pipe or lock that the caller inherited ends with the caller, not with the daemon."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # noqa: FBT003 - the standard library's signature
    daemon = programs.spawn(["sleep", "60"], os.devnull)
    try:
        open_there = {int(fd.name) for fd in Path("/proc", str(daemon.pid), "fd").iterdir()}
    finally:
        daemon.signal(9)
        daemon.wait(5)
        os.close(reading)
        os.close(writing)

    assert open_there <= {0, 1, 2}
