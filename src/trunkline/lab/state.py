"""What a living lab keeps on the machine, and how a later command finds it again.

    /run/trunkline/lab/NAME/
        namespaces      every namespace of the lab, written before the first is made
        topology        the file or the shipped topology it was built from
        complete        there once ``up`` has finished
        temporary       there if the lab was brought up for one run, which takes it down
        fault           the name of the fault that is planted in it, if one is
        disturbed       there while a scenario has changed what ``up`` made
        pids/           a file per process: pid and start time
        hosts/ instances/ logs/ and the server's files

The directory is the mark of ownership: a namespace that it does not list, and a process that
neither it records nor lives in such a namespace, is not ours and is never touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.hoststate import HostConfig
from trunkline.kernel import exec as programs
from trunkline.kernel import netns, spaces
from trunkline.lab.topology import NAME, Topology, load
from trunkline.model import HostName
from trunkline.ownership import is_space_of

ROOT = Path("/run/trunkline/lab")
RESOLV = Path("/etc/netns")  # ip-netns(8): /etc files of a namespace
SIGKILL = 9
LAST_WORDS = 4  # lines


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab, living or about to live."""

    topology: Topology

    @property
    def directory(self) -> Path:
        """Return where the lab keeps its files."""
        return ROOT / self.topology.name

    @property
    def complete(self) -> bool:
        """Return whether ``up`` finished and nothing has been left disturbed since."""
        return self._mark("complete").exists() and not self._mark("disturbed").exists()

    @property
    def api(self) -> str:
        """Return the server's address for clients outside of the lab."""
        return f"unix:{self.directory / 'api.sock'}"

    def agent_state(self, host: str) -> str:
        """Return the directory of a host's agent's own files."""
        return str(self.directory / "hosts" / host / "state")

    def agent_config(self, told: HostConfig) -> HostConfig:
        """Return what an agent told of its configuration, with what it keeps to itself."""
        return replace(told, state_dir=self.agent_state(told.host))

    def namespace(self, node: str) -> str:
        """Return the name of a node's namespace."""
        return f"{self.topology.name}-{node}"

    def namespaces(self) -> dict[str, str]:
        """Return the namespace of every node of the topology."""
        return {node: self.namespace(node) for node in self.topology.nodes()}

    @property
    def wanted(self) -> bool:
        """Return whether somebody brought it up to stay, whatever has become of it since."""
        return self._mark("complete").exists() and not self._mark("temporary").exists()

    def begin(self, text: str, *, temporary: bool) -> None:
        """Write down what will be made, before the first of it is.

        Raises:
            Conflict: A namespace of that name is there and not ours.
        """
        taken = sorted(set(self.namespaces().values()) & set(netns.names()))
        if taken:
            raise Conflict(
                f"namespace {taken[0]} exists and belongs to no lab;"
                f" delete it with 'ip netns del {taken[0]}', or choose another --name"
            )
        for part in ("pids", "logs"):
            (self.directory / part).mkdir(parents=True)
        # Passable for dnsmasq, which reads its files as nobody; what is secret has 0600.
        self.directory.chmod(0o711)
        self._mark("topology").write_text(text)
        if temporary:
            self._mark("temporary").touch()
        # Last: without it the directory is a beginning that made nothing yet.
        self._mark("namespaces").write_text("\n".join(self.namespaces().values()))

    def claim(self, node: str) -> str:
        """Write down one more namespace than the topology has nodes, and return its name."""
        name = self.namespace(node)
        with self._mark("namespaces").open("a") as listed:
            listed.write(f"\n{name}")
        return name

    def text(self) -> str:
        """Return the topology that it was built from."""
        return self._mark("topology").read_text()

    def set_complete(self) -> None:
        """Note that ``up`` has finished."""
        self._mark("complete").touch()

    @property
    def fault(self) -> str:
        """Return the name of the fault that stands in it, or the empty string."""
        with suppress(FileNotFoundError):
            return self._mark("fault").read_text()
        return ""

    def set_fault(self, name: str) -> None:
        """Note which fault stands; none is the empty string."""
        if name:
            self._mark("fault").write_text(name)
        else:
            self._mark("fault").unlink(missing_ok=True)

    @contextmanager
    def disturbed(self) -> Iterator[None]:
        """Note that a scenario changes what ``up`` made; the note stays if it dies half-way."""
        self._mark("disturbed").touch()
        yield
        self._mark("disturbed").unlink()

    def spawn(self, label: str, node: str, argv: list[str]) -> programs.Process:
        """Start a process on a node, recorded under a label, its output in ``logs/LABEL``."""
        log = self.directory / "logs" / f"{label}.log"
        process = netns.spawn(self.namespace(node), argv, str(log))
        record = self.directory / "pids" / label
        record.write_text(f"{process.pid} {process.started}")
        return process

    def process(self, label: str) -> programs.Process | None:
        """Return the process recorded under a label, if it lives."""
        record = self.directory / "pids" / label
        try:
            pid, started = record.read_text().split()
        except (FileNotFoundError, ValueError):  # never started, or killed while noting it
            return None
        process = programs.Process(int(pid), int(started))
        return process if process.alive() else None

    def labels(self) -> tuple[str, ...]:
        """Return the labels of all processes that are to run, sorted."""
        with suppress(FileNotFoundError):
            return tuple(sorted(p.name for p in (self.directory / "pids").iterdir()))
        return ()

    def stop(self, label: str) -> None:
        """End a recorded process and wait for its end."""
        process = self.process(label)
        if process:
            process.stop()

    def retire(self, label: str) -> None:
        """End a recorded process for good: the lab is whole without it."""
        self.stop(label)
        (self.directory / "pids" / label).unlink(missing_ok=True)

    def last_words(self, *labels: str) -> str:
        """Return the last lines that processes wrote, for the end of an error message."""
        text = ""
        for label in labels:
            with suppress(FileNotFoundError):
                log = (self.directory / "logs" / f"{label}.log").read_text(errors="replace")
                text += "".join(f"\n  {label}: {line}" for line in log.splitlines()[-LAST_WORDS:])
        return text

    def tokens(self) -> dict[str, str]:
        """Return the token of ``admin``, of each project, and of each host's agent."""
        return self._identity()["tokens"]

    def project_ids(self) -> dict[str, str]:
        """Return each project's id, by name."""
        return self._identity()["projects"]

    def write_identity(self, tokens: dict[str, str], projects: dict[str, str]) -> None:
        """Keep tokens and project ids for later commands."""
        text = json.dumps({"tokens": tokens, "projects": projects}, indent=1)
        write_secret(self.directory / "identity.json", text)

    def _identity(self) -> dict[str, dict[str, str]]:
        text = (self.directory / "identity.json").read_text()
        identity: dict[str, dict[str, str]] = json.loads(text)
        return identity

    def _mark(self, name: str) -> Path:
        return self.directory / name


def write_secret(path: Path, text: str) -> None:
    """Write a file that only root may read: it holds tokens."""
    path.touch(mode=0o600)
    path.write_text(text)


def find(name: str) -> Lab:
    """Return a lab that ``up`` began.

    Raises:
        NotFound: There is none of that name.
    """
    checked(name)
    try:
        text = (ROOT / name / "topology").read_text()
    except FileNotFoundError as error:
        known = ", ".join(living()) or "none is up"
        raise NotFound(f"lab {name}: not up ({known}); 'trunkline lab up' starts one") from error
    return Lab(load(text, name))


def find_complete(name: str) -> Lab:
    """Return a lab that is up as a whole.

    Raises:
        NotFound: There is none of that name.
        Conflict: It is there in part: what built or changed it was killed half-way.
    """
    lab = find(name)
    if not lab.complete:
        raise Conflict(
            f"lab {name}: not complete, what built or changed it did not finish;"
            f" 'trunkline lab up --name {name}' builds it anew, 'down' removes it"
        )
    return lab


def checked(name: str) -> str:
    """Return a lab's name, which becomes part of paths.

    Raises:
        Invalid: It is no name.
    """
    if not NAME.fullmatch(name):
        raise Invalid(f"lab {name!r}: no name; it must be a letter and then letters and digits")
    return name


def node_namespace(lab: Lab, node: str) -> str:
    """Return a node's namespace.

    Raises:
        NotFound: The lab has no such node.
    """
    nodes = lab.namespaces()
    if node not in nodes:
        raise NotFound(f"node {node}: lab {lab.topology.name} has {', '.join(nodes)}")
    return nodes[node]


def living() -> tuple[str, ...]:
    """Return the names of all labs that have a directory, sorted."""
    if not ROOT.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in ROOT.iterdir() if entry.is_dir()))


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other commands from changing the same lab meanwhile; the lock dies with us."""
    checked(name)
    path = ROOT / f"{name}.lock"
    while True:
        ROOT.mkdir(parents=True, exist_ok=True)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # another lab's command has just removed the directory as empty
        fcntl.flock(fd, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(fd).st_ino:
                break
        os.close(fd)  # whoever had the lock removed the file with it
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)
        _remove_empty(ROOT)
        _remove_empty(ROOT.parent)


def remove(name: str) -> bool:
    """End and delete everything of a lab; return whether there was anything of it."""
    directory = ROOT / checked(name)
    was_there = directory.exists()
    namespaces = _listed(directory)
    (directory / "complete").unlink(missing_ok=True)  # from here on it is not
    _kill(_recorded(directory))
    namespaces += (*spaces.found_under(directory), *_dead_spaces(directory))
    kill_inside(*namespaces)
    for namespace in namespaces:
        netns.delete(namespace)
        shutil.rmtree(RESOLV / namespace, ignore_errors=True)
    _remove_empty(RESOLV)
    if directory.exists():
        shutil.rmtree(directory)
    return was_there or bool(namespaces)


def kill_inside(*namespaces: str) -> None:
    """Kill all that lives in these namespaces."""
    while _kill(_inside(namespaces)):
        pass  # one that was killed may have started another just before


def _kill(processes: Iterable[programs.Process]) -> int:
    """Kill processes and wait for their end; return how many there were."""
    doomed = list(processes)
    for process in doomed:
        process.signal(SIGKILL)
        process.wait(5)
    return len(doomed)


def _listed(directory: Path) -> tuple[str, ...]:
    with suppress(FileNotFoundError):
        return tuple((directory / "namespaces").read_text().split())
    return ()


def _dead_spaces(directory: Path) -> Iterator[str]:
    """Yield what agents that were killed half-way have left under the names of spaces."""
    with suppress(FileNotFoundError):
        hosts = [HostName(path.name) for path in (directory / "hosts").iterdir()]
        for name in netns.names():
            if netns.is_dead(name) and any(is_space_of(name, host) for host in hosts):
                yield name


def _recorded(directory: Path) -> Iterator[programs.Process]:
    for record in sorted((directory / "pids").glob("*")):
        words = record.read_text().split()
        if len(words) == 2:  # noqa: PLR2004 - pid and start time; less was killed while noting it
            yield programs.Process(int(words[0]), int(words[1]))


def _inside(namespaces: tuple[str, ...]) -> Iterator[programs.Process]:
    """Yield the processes that live in these namespaces: daemons, clients, a user's shell."""
    inodes = set()
    for namespace in namespaces:
        with suppress(FileNotFoundError):
            inodes.add((netns.RUN / namespace).stat().st_ino)
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if (entry / "ns/net").stat().st_ino in inodes:
                process = programs.process(int(entry.name))
                if process and process.pid != os.getpid():
                    yield process


def _remove_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()
