"""Elections: one keepalived per host, for the routers that are on several hosts (RFC 5798).

Layout under the agent's state directory::

    vrrp/keepalived.conf    pid  vrrp-pid
         255.json           of each router: what is done when this host begins or ends to act

keepalived is a daemon and outlives the agent, and whoever acts goes on when it is told of other
routers. It is ours if its command line names the file in there. What it holds for a router is an
address on the loopback, by which an agent knows that this host acts; the rest is ``takeover``'s.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from trunkline.errors import Interrupted, Rejected
from trunkline.hoststate import Address, Election, Route
from trunkline.kernel import exec as programs
from trunkline.kernel import netns, takeover
from trunkline.ownership import election_mark

FLAG = "--use-file="
ADVERT_S = 0.3
"""Between two words of who acts; a little more than three times as long a silence ends it."""
START_S = 10.0  # on an emulated machine; elsewhere it takes some hundredths
NOTICES = {"master": "acts", "backup": "rests", "fault": "rests", "stop": "rests"}


def read(state_dir: str) -> Mapping[int, Election]:
    """Return what our keepalived stands for; nothing if it does not run, or with other words."""
    home = _home(state_dir)
    if not _lives(home):
        return {}
    elections = {}
    with suppress(OSError, ValueError, KeyError):
        for path in sorted(home.glob("*.json")):
            elections[int(path.stem)] = _decode(json.loads(path.read_text()))
        if (home / "keepalived.conf").read_text() == _conf(home, elections):
            return elections
    return {}


def hold(state_dir: str, elections: Mapping[int, Election]) -> None:
    """Have keepalived stand for these, and no other; without any it ends.

    Raises:
        MissingFeature: keepalived is not installed.
        Rejected: It does not start; the message has its words.
    """
    home = _home(state_dir)
    for path in home.glob("*.json"):  # first: what becomes of these is not keepalived's any more
        if int(path.stem) not in elections:
            path.unlink()
    if not elections:
        _end(home)
        shutil.rmtree(home, ignore_errors=True)
        return
    home.mkdir(parents=True, exist_ok=True)
    for number, election in elections.items():
        _write(home / f"{number}.json", json.dumps(_encode(election), sort_keys=True))
    conf, text = home / "keepalived.conf", _conf(home, elections)
    is_new = not conf.exists() or conf.read_text() != text
    _write(conf, text)
    if not _lives(home):
        _end(home)  # a part of it may have been left
        _start(home)
    elif is_new:
        _running(home)[0].signal(signal.SIGHUP)


def _start(home: Path) -> None:
    argv = (
        *("keepalived", "--vrrp", "--log-detail", f"{FLAG}{home}/keepalived.conf"),
        *(f"--pid={home}/pid", f"--vrrp_pid={home}/vrrp-pid"),
    )
    for name in ("pid", "vrrp-pid"):  # of before a crash, where another process has the pid by now
        (home / name).unlink(missing_ok=True)
    done = programs.run(argv)
    if done.returncode != 0:
        raise Rejected(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    deadline = time.monotonic() + START_S
    while not _lives(home):  # it writes its pid once it is on its own
        if time.monotonic() > deadline:
            raise Rejected(f"{' '.join(argv)}: it ended at once; look into the system's log")
        time.sleep(0.01)


def _end(home: Path) -> None:
    for process in _running(home):
        process.stop()
        if process.alive():
            raise Interrupted(f"keepalived: pid {process.pid} does not end; try again")


def _lives(home: Path) -> bool:
    """Return whether the process that started last is there."""
    with suppress(OSError, ValueError):
        return _is_ours(int((home / "pid").read_text()), home)
    return False


def _is_ours(pid: int, home: Path) -> bool:
    flag = f"{FLAG}{home}/keepalived.conf".encode()
    with suppress(OSError):  # it ended meanwhile
        if flag in Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0"):
            return Path("/proc", str(pid), "ns/net").stat().st_ino == netns.here()
    return False


def _running(home: Path) -> list[programs.Process]:
    """Return our keepalived, its parent first; there is a process that speaks below it."""
    return [found for pid in sorted(_pids(home)) if (found := programs.process(pid)) is not None]


def _pids(home: Path) -> Iterator[int]:
    entries = os.listdir("/proc")  # noqa: PTH208 - thousands of processes, only names needed
    return (int(entry) for entry in entries if entry.isdigit() and _is_ours(int(entry), home))


def _home(state_dir: str) -> Path:
    return Path(state_dir) / "vrrp"


def _write(path: Path, text: str) -> None:
    """Write a file that keepalived or its program may read at any moment."""
    new = path.with_suffix(".new")
    new.write_text(f"{text}\n" if not text.endswith("\n") else text)
    new.rename(path)


def _conf(home: Path, elections: Mapping[int, Election]) -> str:
    """Return keepalived's configuration (keepalived.conf(5))."""
    head = ("global_defs {", "    vrrp_version 3", "    script_user root", "}")
    blocks = [_instance(home, number, elections[number]) for number in sorted(elections)]
    return "\n".join((*head, *(line for block in blocks for line in block), ""))


def _instance(home: Path, number: int, election: Election) -> list[str]:
    program = f"{sys.executable} -I {takeover.__file__}"
    notices = [
        f'    notify_{state} "{program} {verb} {home}/{number}.json"'
        for state, verb in NOTICES.items()
    ]
    tracked = ["    track_interface {", *(f"        {n}" for n in election.tracked), "    }"]
    return [
        f"vrrp_instance router-{number} {{",
        "    state BACKUP",
        "    nopreempt",
        f"    interface {election.link}",
        f"    virtual_router_id {number}",
        f"    priority {election.priority}",
        f"    advert_int {ADVERT_S}",
        *(tracked if election.tracked else ()),
        "    virtual_ipaddress {",
        f"        {election_mark(number)}/32 dev lo",
        "    }",
        *notices,
        "}",
    ]


def _encode(election: Election) -> dict[str, Any]:
    return {
        "priority": election.priority,
        "link": election.link,
        "tracked": list(election.tracked),
        "ways": list(election.ways),
        "routes": [
            {"destination": str(r.destination), "via": str(r.via), "link": r.link}
            for r in election.routes
        ],
        "space": election.space,
        "inside": [[a.link, str(a.address.ip)] for a in election.inside],
        "outside": [[a.link, str(a.address.ip)] for a in election.outside],
    }


def _decode(data: Mapping[str, Any]) -> Election:
    return Election(
        priority=data["priority"],
        link=data["link"],
        tracked=tuple(data["tracked"]),
        ways=tuple(data["ways"]),
        routes=tuple(
            Route(IPv4Network(r["destination"]), IPv4Address(r["via"]), r["link"])
            for r in data["routes"]
        ),
        space=data["space"],
        inside=_addresses(data["inside"]),
        outside=_addresses(data["outside"]),
    )


def _addresses(data: Any) -> tuple[Address, ...]:
    return tuple(Address(link, IPv4Interface(text)) for link, text in data)
