"""Starting programs: what a daemon keeps of whoever started it."""

from __future__ import annotations

import os
import select

from trunkline.kernel import exec as programs
from trunkline.lab.waiting import limit_s


def test_a_daemon_keeps_nothing_open_of_its_caller() -> None:
    """A pipe or lock that the caller inherited ends with the caller, not with the daemon."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # noqa: FBT003 - the standard library's signature
    daemon = programs.spawn(["sleep", "60"], os.devnull)
    os.close(writing)
    try:
        ended = select.select([reading], [], [], limit_s(10))[0]  # nobody can write any more
    finally:
        daemon.signal(9)
        daemon.wait(5)
        os.close(reading)

    assert ended
