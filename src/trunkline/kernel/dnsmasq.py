"""DHCP servers: one dnsmasq per bridge, its files, and which running ones are ours.

Layout under the agent's state directory::

    dhcp/br100/dnsmasq-<digest of the text>.conf    pid    leases
               hosts/  options/  names/             one file per port in each
               instances/                           one file per address of an instance

A server is a daemon and outlives the agent. It is ours if its command line names a file in
there and it lives in this network namespace; the text of that file is its configuration, since
another text would be another file. Nothing is ever looked for by the program's name alone.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from sys import intern

from inotify_simple import INotify, flags

from trunkline.errors import Interrupted, Rejected
from trunkline.hoststate import DhcpServer
from trunkline.kernel import exec as programs
from trunkline.kernel import netns
from trunkline.operations import ChangeDhcpFiles, StartDhcp, StopDhcp

PATHS = "dhcp-hostsdir="  # the first of the lines that are added to the configuration
DIRECTORIES = {"hosts": "dhcp-hostsdir", "options": "dhcp-optsdir", "names": "hostsdir"}
"""What dnsmasq reads where; a missing directory would keep it from starting."""
INSTANCES = "instances"  # what the metadata proxy reads
FLAG = "--conf-file="
LOOK_S = 1.0  # for so long one look at all processes serves all namespaces
NEW = ".new"  # dnsmasq reads no file whose name starts with a dot
FILE_EVENTS = flags.CREATE | flags.CLOSE_WRITE | flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE
UNPRIVILEGED = "nobody"  # who dnsmasq becomes, and reads hosts as (dnsmasq(8), --user)


@dataclass(frozen=True, slots=True)
class _Running:
    """A server as last seen.

    Attributes:
        pidfd: Becomes readable with the process's end.
    """

    server: DhcpServer
    process: programs.Process
    pidfd: int


class Daemons:
    """What a host and its spaces know together: all processes, and whose files were touched.

    One inotify instance serves all: a user may have 128 of them (inotify(7)).
    """

    def __init__(self) -> None:
        self._found: list[tuple[programs.Process, int, Path]] = []
        self._looked_at_s = -LOOK_S
        self._events = INotify(nonblocking=True)
        self._watched: dict[int, Path] = {}
        self._touched: set[Path] = set()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a watched file or its name changes."""
        return int(self._events.fileno())

    def watch(self, directory: Path) -> None:
        """Have ``touched`` tell from now on of files in a directory; none is no error."""
        with suppress(OSError):
            self._watched[self._events.add_watch(directory, FILE_EVENTS)] = directory

    def close(self) -> None:
        """Give the descriptor back."""
        self._events.close()

    def touched(self, root: Path) -> bool:
        """Return whether something changed in or under ``root`` since it was settled."""
        for event in self._events.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                self._touched |= set(self._watched.values())
            elif event.wd in self._watched:
                self._touched.add(self._watched[event.wd])
            if event.mask & flags.IGNORED:  # the directory is gone, and its number free
                self._watched.pop(event.wd, None)
        return any(place == root or root in place.parents for place in self._touched)

    def settle(self, *places: Path) -> None:
        """Forget what changed in directories: it was written, or is read next, by ourselves."""
        self.touched(places[0])
        self._touched.difference_update(places)

    def forget(self) -> None:
        """Make the next question look again."""
        self._looked_at_s = -LOOK_S

    def of(self, root: Path) -> Iterator[tuple[programs.Process, Path]]:
        """Yield our servers in this namespace, and the configuration each was started with."""
        now = time.monotonic()
        if now - self._looked_at_s >= LOOK_S:
            self._found, self._looked_at_s = list(_processes()), now
        here = netns.here()
        for process, place, conf in self._found:
            if place == here and root in conf.parents:
                yield process, conf


class Dnsmasq:
    """Memory of our servers, checked at each reading without opening a file."""

    def __init__(self, daemons: Daemons) -> None:
        self._daemons = daemons
        self._running: dict[str, _Running] = {}
        self._servers: dict[str, DhcpServer] | None = None
        self._root: Path | None = None
        self._ends = select.poll()

    def forget(self) -> None:
        """Make the next ``read`` look at all processes and files."""
        for running in self._running.values():
            self._ends.unregister(running.pidfd)
            os.close(running.pidfd)
        self._running.clear()
        self._servers = None

    def is_quiet(self) -> bool:
        """Return whether none of the servers has ended, nor any of their files changed."""
        return self._root is None or not self._changed(self._root)

    def read(self, state_dir: str) -> Mapping[str, DhcpServer]:
        """Return our servers by bridge; the same object as before while nothing changed.

        One that died and left files, and one that runs twice, has an empty configuration.
        """
        root = _root(state_dir)
        if self._servers is None or self._changed(root):
            if self._servers is not None:
                self._daemons.forget()
            self.forget()
            self._root = root
            self._servers = self._read_all(root)
        return self._servers

    def start(self, state_dir: str, operation: StartDhcp) -> None:
        """Write a server's files and start it, in place of one that runs.

        Raises:
            Rejected: dnsmasq refuses; the message has its words.
            MissingFeature: dnsmasq is not installed.
        """
        server = operation.server
        home = _root(state_dir) / server.bridge
        try:
            self._end(home)
            conf = _write_files(home, server)
            _drop_leases_of_others(home, server)
            done = programs.run(("dnsmasq", f"{FLAG}{conf}"))
        except OSError as error:
            raise Rejected(f"{operation.command()}: {error}") from error
        if done.returncode != 0:
            raise Rejected(f"dnsmasq {FLAG}{conf}: {done.stderr.strip()}")
        self._note(home, server)

    def stop(self, state_dir: str, operation: StopDhcp) -> None:
        """Stop a server and remove its files.

        Raises:
            Rejected: There is none on this bridge.
        """
        home = _root(state_dir) / operation.bridge
        if not self._end(home):
            raise Rejected(f"{operation.command()}: no DHCP server of ours is on this bridge")
        shutil.rmtree(home, ignore_errors=True)
        with suppress(OSError):  # the last one takes the directory with it
            home.parent.rmdir()
        self._note(home, None)

    def change_files(self, state_dir: str, operation: ChangeDhcpFiles) -> None:
        """Write and remove leases, options and names of a running server.

        Raises:
            Rejected: There is no such server, or no such entry to remove.
        """
        home = _root(state_dir) / operation.bridge
        if self._servers is None:
            self.read(state_dir)
        running = self._running.get(operation.bridge)
        if running is None or not running.process.alive():
            raise Rejected(f"{operation.command()}: no DHCP server of ours runs on this bridge")
        files = {**running.server.files}
        try:
            for name, text in operation.write:
                new = f"{home}/{name.partition('/')[0]}/{NEW}"
                _write(new, f"{text}\n")
                os.rename(new, f"{home}/{name}")  # noqa: PTH104 - one more port, two files
                files[name] = text
            for name in operation.remove:
                (home / name).unlink()
                files.pop(name, None)
        except OSError as error:
            self._servers = None
            raise Rejected(f"{operation.command()}: {error}") from error
        server = replace(running.server, files=files)
        if _is_leased_to_others(home, dict(operation.write)):
            self.start(state_dir, StartDhcp(server))
            return
        if operation.reload:
            running.process.signal(signal.SIGHUP)
        self._keep(home, replace(running, server=server))

    def _end(self, home: Path) -> bool:
        """Stop what runs on a bridge; return whether anything of ours was there.

        All processes are looked at only where what is there is not one healthy server.
        """
        known = self.read(str(home.parent.parent))
        if home.name not in known:
            return False
        running = self._running.get(home.name)
        _stop([running.process] if running else self._servers_of(home), home.name)
        return True

    def _servers_of(self, home: Path) -> list[programs.Process]:
        self._daemons.forget()
        return [process for process, conf in self._daemons.of(home.parent) if conf.parent == home]

    def _changed(self, root: Path) -> bool:
        return bool(self._ends.poll(0) or self._daemons.touched(root))

    def _read_all(self, root: Path) -> dict[str, DhcpServer]:
        self._daemons.watch(root)
        self._daemons.settle(root)
        processes = dict(self._daemons.of(root))
        bridges = {path.name for path in root.iterdir()} if root.is_dir() else set()
        servers = {}
        for bridge in sorted(bridges | {conf.parent.name for conf in processes.values()}):
            mine = [(p, conf) for p, conf in processes.items() if conf.parent.name == bridge]
            servers[bridge] = DhcpServer(bridge, "", {})
            if len(mine) == 1:
                process, conf = mine[0]
                self._watch_files(conf.parent)
                servers[bridge] = _read_server(conf)
                self._watch(servers[bridge], process)
        return servers

    def _watch_files(self, home: Path) -> None:
        """Have changes noticed from now on."""
        for directory in _directories(home):
            self._daemons.watch(directory)
        self._daemons.settle(*_directories(home))

    def _watch(self, server: DhcpServer, process: programs.Process) -> None:
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(process.pid)
            self._ends.register(pidfd, select.POLLIN)
            self._running[server.bridge] = _Running(server, process, pidfd)

    def _note(self, home: Path, server: DhcpServer | None) -> None:
        """Take our own start or stop of a server into memory."""
        self._daemons.forget()
        old = self._running.pop(home.name, None)
        if old is not None:
            self._ends.unregister(old.pidfd)
            os.close(old.pidfd)
        if self._servers is None:
            return
        self._servers = {b: s for b, s in self._servers.items() if b != home.name}
        self._daemons.watch(home.parent)
        self._daemons.settle(home.parent)
        self._watch_files(home)
        process = programs.process(_read_pid(home)) if server else None
        if server is not None and process is not None:
            self._servers[home.name] = server
            self._watch(server, process)
        elif server is not None:
            self._servers = None

    def _keep(self, home: Path, running: _Running) -> None:
        """Take our own change of files into memory."""
        self._daemons.settle(*_directories(home))
        self._running[home.name] = running
        if self._servers is not None:
            self._servers = {**self._servers, home.name: running.server}


def _root(state_dir: str) -> Path:
    return Path(state_dir) / "dhcp"


def _directories(home: Path) -> list[Path]:
    return [home / directory for directory in (*DIRECTORIES, INSTANCES)]


def stop_all(state_dir: str) -> None:
    """Stop every server with a configuration in a directory, whichever namespace it is in."""
    for process, _, conf in _processes():
        if _root(state_dir) in conf.parents:
            _stop([process], conf.parent.name)


def _processes() -> Iterator[tuple[programs.Process, int, Path]]:
    """Yield every process that has a configuration as ours have, with its network namespace."""
    flag = FLAG.encode()
    for entry in os.listdir("/proc"):  # noqa: PTH208 - thousands of processes, only names needed
        if not entry.isdigit():
            continue
        with suppress(OSError):  # it ended meanwhile
            arguments = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            confs = [a.removeprefix(flag) for a in arguments[1:] if a.startswith(flag)]
            process = programs.process(int(entry)) if confs else None
            if process is not None:
                place = Path("/proc", entry, "ns/net").stat().st_ino
                yield process, place, Path(os.fsdecode(confs[0]))


def _stop(processes: list[programs.Process], bridge: str) -> None:
    for process in processes:
        process.stop()
        if process.alive():
            raise Interrupted(f"dnsmasq on {bridge}: pid {process.pid} does not end; try again")


def _is_leased_to_others(home: Path, written: Mapping[str, str]) -> bool:
    """Return whether an address is leased to another MAC than it is now configured for.

    dnsmasq keeps a lease until it runs out, a day, whatever becomes of the port, and would give
    the address to nobody else meanwhile.
    """
    hosts = [text.split(",") for name, text in written.items() if name.startswith("hosts/")]
    if not hosts:
        return False
    leased = _leases(home)
    return any(leased.get(address, mac) != mac for mac, address, *_ in hosts)


def _leases(home: Path) -> dict[str, str]:
    """Return the MAC that each address is leased to; a line has time, MAC, address and names."""
    with suppress(OSError):
        lines = (home / "leases").read_text().splitlines()
        return {words[2]: words[1] for line in lines if len(words := line.split()) > 2}  # noqa: PLR2004 - the address's place
    return {}


def _drop_leases_of_others(home: Path, server: DhcpServer) -> None:
    """Forget the leases of addresses that are configured for another MAC by now."""
    owners = {address: mac for mac, address, *_ in (line.split(",") for line in server.leases)}
    path = home / "leases"
    with suppress(OSError):
        kept = []
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) < 3 or owners.get(words[2], words[1]) == words[1]:  # noqa: PLR2004 - as above
                kept.append(f"{line}\n")
        path.write_text("".join(kept))


def _read_pid(home: Path) -> int:
    """Return the pid that dnsmasq has written, once its sockets were bound; 0 if it has not."""
    try:
        return int((home / "pid").read_text())
    except (OSError, ValueError):
        return 0


def _read_server(conf: Path) -> DhcpServer:
    files = {}
    for directory in (*DIRECTORIES, INSTANCES):
        with suppress(FileNotFoundError):
            for path in (conf.parent / directory).iterdir():
                if not path.name.startswith("."):
                    name = intern(f"{directory}/{path.name}")
                    files[name] = intern(path.read_text().removesuffix("\n"))
    text = ""
    with suppress(FileNotFoundError):
        text = conf.read_text().partition(PATHS)[0]
    return DhcpServer(conf.parent.name, text, files)


def _write_files(home: Path, server: DhcpServer) -> Path:
    """Write all files of a server that is not running and return its configuration's path."""
    read = {home / directory: option for directory, option in DIRECTORIES.items()}
    for directory in (home.parent, home, home / INSTANCES, *read):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
    _check_readable(home)
    for path in (*home.glob("*/*"), *home.glob("*.conf")):
        path.unlink()
    for name, text in server.files.items():
        _write(home / name, f"{text}\n")
    lines = [f"{option}={directory}" for directory, option in read.items()]
    lines += [f"pid-file={home}/pid", f"dhcp-leasefile={home}/leases", ""]
    paths = "\n".join(lines)
    digest = sha256(server.config.encode()).hexdigest()[:12]
    conf = home / f"dnsmasq-{digest}.conf"
    _write(conf, server.config + paths)
    return conf


def _write(path: Path | str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - one of thousands
        os.fchmod(file.fileno(), 0o644)
        file.write(text)


def _check_readable(directory: Path) -> None:
    """Refuse a place that dnsmasq cannot read: it would start, and know no host."""
    for place in (directory, *directory.parents):
        if not place.stat().st_mode & 0o001:
            raise Rejected(
                f"state_dir: {place} is closed to user {UNPRIVILEGED}, as whom dnsmasq reads"
                f" its hosts; run: chmod o+x {place}, or choose another state_dir"
            )
