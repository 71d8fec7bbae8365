"""Our network namespaces: made, found again, left, and each with a kernel door of its own.

A namespace is ours if its loopback says so: group and alias are set before it has a name. A
name of ours without a namespace is what a crash has left; the next change removes it. Doors stay
open; one to which nothing has happened answers from memory without anybody going in.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pyroute2 import IPRoute

from trunkline.errors import Rejected
from trunkline.hoststate import HostConfig, HostState
from trunkline.kernel import dnsmasq, netns, sysctl
from trunkline.kernel.links import Links
from trunkline.model import HostName
from trunkline.ownership import LINK_GROUP, SPACE_PREFIX, is_space_of, space_mark

if TYPE_CHECKING:
    from trunkline.kernel.linux import LinuxKernel


@dataclass(slots=True)
class Door:
    """A namespace of ours.

    Attributes:
        kernel: Its own kernel door.
        state: What it was when last read; None if something of ours has happened since.
        keys: The sysctls that were read then.
    """

    kernel: LinuxKernel
    state: HostState | None = None
    keys: Collection[str] = ()


class Spaces:
    """The spaces of one agent.

    Attributes:
        version: Moves whenever one was read anew, came or went.
    """

    def __init__(self, open_door: Callable[[], LinuxKernel]) -> None:
        self.doors: dict[str, Door] = {}
        self.version = 0
        self._open = open_door
        self._touched = -1

    def close(self) -> None:
        """Give all sockets back."""
        for name in tuple(self.doors):
            self._drop(name)
        self._touched = -1

    def filenos(self) -> Iterator[int]:
        """Yield the descriptors that become readable when something changes in a space."""
        for door in self.doors.values():
            yield from door.kernel.filenos()

    def forget(self) -> None:
        """Make the next ``read`` look for spaces, and at everything in them."""
        self._touched = -1
        for door in self.doors.values():
            door.state = None
            door.kernel.forget()

    def read(
        self, config: HostConfig, inner: Mapping[str, Collection[str]]
    ) -> dict[str, HostState]:
        """Return the state of each space; the same object as before while nothing changed."""
        self._look(config)
        return {n: self._state(n, d, config, inner.get(n, ())) for n, d in self.doors.items()}

    def create(self, config: HostConfig, name: str) -> None:
        """Make a space.

        Raises:
            Rejected: There is a namespace of this name.
        """
        place = home(config.state_dir, name)
        dnsmasq.stop_all(str(place))  # of a namespace that has lost its name
        self._bury(config)
        netns.create(name, lambda: _furnish(config.state_dir))
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o755)  # dnsmasq reads its hosts there as nobody
        self._add(name, space_mark(config.state_dir))
        self._touched = touched()

    def delete(self, config: HostConfig, name: str) -> None:
        """End a space, with the DHCP servers that may still run for it, wherever they are.

        Raises:
            Rejected: There is none of ours of this name.
        """
        self._look(config)
        if name not in self.doors:
            raise Rejected(f"network namespace {name}: there is none of ours of this name")
        dnsmasq.stop_all(str(home(config.state_dir, name)))
        self._drop(name)
        self._bury(config)
        netns.delete(name)
        shutil.rmtree(home(config.state_dir, name), ignore_errors=True)
        self._touched = touched()

    @contextmanager
    def inside(self, name: str, config: HostConfig) -> Iterator[tuple[LinuxKernel, HostConfig]]:
        """Give the door of a space and its configuration, and be in there meanwhile.

        Raises:
            Rejected: There is none of ours of this name.
        """
        self._look(config)
        door = self.doors.get(name)
        if door is None:
            raise Rejected(f"network namespace {name}: there is none of ours of this name")
        door.state = None
        with netns.enter(name):
            try:
                yield door.kernel, _config(config, name)
            finally:
                door.kernel.hang_up()

    def _bury(self, config: HostConfig) -> None:
        """Remove the names of ours that a crash has left without a namespace."""
        for name in netns.names():
            if is_space_of(name, HostName(config.host)) and netns.is_dead(name):
                netns.delete(name)

    def _state(self, name: str, door: Door, config: HostConfig, keys: Collection[str]) -> HostState:
        if door.state is None or door.keys != keys or not door.kernel.is_quiet():
            with netns.enter(name):
                door.state = door.kernel.read(_config(config, name), keys)
            door.keys = keys
            self.version += 1
        return door.state

    def _look(self, config: HostConfig) -> None:
        """Open doors to new namespaces and close those of gone ones, if any came or went."""
        now = touched()
        if now == self._touched:
            return
        host = HostName(config.host)
        ours = (name for name in netns.names() if is_space_of(name, host))
        names = {name for name in ours if not netns.is_dead(name)}
        for name in self.doors.keys() - names:
            self._drop(name)
        for name in sorted(names):
            self._check(name, config)
        self._touched = now

    def _check(self, name: str, config: HostConfig) -> None:
        """Have the right door to what is there under a name of ours, or none."""
        door = self.doors.get(name)
        if door is not None and door.kernel.place == netns.inode(name):
            return
        self._drop(name)
        self._add(name, space_mark(config.state_dir))

    def _add(self, name: str, mark: str) -> None:
        """Open a door to a namespace, unless it is somebody else's."""
        with netns.enter(name):
            kernel = self._open()
            if kernel.is_marked(mark):
                self.doors[name] = Door(kernel)
                self.version += 1
            else:
                kernel.close()

    def _drop(self, name: str) -> None:
        door = self.doors.pop(name, None)
        self.version += 1
        if door is not None:
            door.kernel.close()


def found_under(directory: Path) -> tuple[str, ...]:
    """Return the spaces of agents whose state is under a directory, whoever runs them or did."""
    mark = space_mark(f"{directory}/")
    return tuple(name for name, says in _aliases() if says.startswith(mark))


def marked(mark: str) -> tuple[str, ...]:
    """Return the spaces that have a mark."""
    return tuple(name for name, says in _aliases() if says == mark)


def _aliases() -> Iterator[tuple[str, str]]:
    """Yield the namespaces that are called as spaces are, with their loopbacks' aliases."""
    called = (name for name in netns.names() if name.startswith(SPACE_PREFIX))
    yield from ((name, _alias(name)) for name in called)


def _alias(name: str) -> str:
    """Return the alias of a namespace's loopback; empty if it went meanwhile."""
    with suppress(Rejected), netns.enter(name), closing(Links()) as links:
        links.refresh()
        loopback = links.by_name.get("lo")
        return loopback.alias if loopback else ""
    return ""


def _furnish(state_dir: str) -> None:
    """Mark the namespace that the calling thread is in, and keep the kernel from using IPv6."""
    with IPRoute() as rtnl:
        mark = space_mark(state_dir)
        rtnl.link("set", index=1, group=LINK_GROUP, ifalias=mark, state="up")
    for which in ("all", "default"):
        with suppress(OSError):  # a kernel without IPv6
            sysctl.write(f"net.ipv6.conf.{which}.disable_ipv6", "1")


def _config(config: HostConfig, name: str) -> HostConfig:
    """Return what of a host's configuration holds in a space: where its files are."""
    return replace(config, state_dir=str(home(config.state_dir, name)), uplink=None, trunks={})


def home(state_dir: str, name: str) -> Path:
    """Return where the files of a space are, among those of its host."""
    return Path(state_dir) / name


def touched() -> int:
    """Return when a namespace last got or lost its name, in ns; 0 if none ever did."""
    try:
        return netns.RUN.stat().st_mtime_ns
    except OSError:
        return 0
