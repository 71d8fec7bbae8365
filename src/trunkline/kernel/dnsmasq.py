"""DHCP servers: one dnsmasq daemon per bridge, and its files.

    STATE_DIR/dhcp/BRIDGE/
        dnsmasq-DIGEST.conf   named after its content, so the command line says what is run
        hosts/                a file per static entry; new ones are noticed without a signal
        pid, leases

A daemon outlives its agent. It is ours if its pid file, its command line and its network
namespace agree; nothing is ever ended by name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from trunkline.errors import Rejected
from trunkline.hoststate import DhcpServer
from trunkline.kernel import exec as programs
from trunkline.operations import ChangeDhcpHosts, StartDhcp, StopDhcp

SIGHUP = 1
START_S = 20.0
OUR_KEYS = ("dhcp-hostsdir=", "pid-file=", "dhcp-leasefile=")


@dataclass
class Dnsmasq:
    """Memory of what the directories hold, valid while nobody else writes to them.

    Attributes:
        hosts: Static entries by bridge, with the directory's time of change when read.
    """

    hosts: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)

    def forget(self) -> None:
        """Make the next ``read`` read all files."""
        self.hosts.clear()

    def read(self, state_dir: str) -> dict[str, DhcpServer]:
        """Return our servers, by bridge; one that is not running has an empty configuration."""
        servers = {}
        for place in _places(state_dir):
            running = _running(place)
            config = "" if running is None else _config_of(running[1])
            servers[place.name] = DhcpServer(place.name, config, self._hosts(place))
        return servers

    def _hosts(self, place: Path) -> dict[str, str]:
        try:
            changed = (place / "hosts").stat().st_mtime_ns
        except FileNotFoundError:
            return {}
        known = self.hosts.get(place.name)
        if known is None or known[0] != changed:
            known = changed, dict(_host_files(place))
            self.hosts[place.name] = known
        return known[1]

    def start(self, state_dir: str, operation: StartDhcp) -> None:
        """Write a server's files and start it, in place of one that may be running.

        Raises:
            Rejected: dnsmasq did not start; the message has its own words.
            MissingFeature: It is not installed.
        """
        server = operation.server
        place = _place(state_dir, server.bridge)
        _end(place)
        for old in place.glob("dnsmasq-*.conf"):
            old.unlink()
        _make(place / "hosts")
        for name in {p.name for p in (place / "hosts").iterdir()} - server.hosts.keys():
            (place / "hosts" / name).unlink()
        for name, line in server.hosts.items():
            _write(place / "hosts" / name, line + "\n")
        config = place / f"dnsmasq-{sha256(server.config.encode()).hexdigest()[:16]}.conf"
        _write(config, server.config + _our_lines(place))
        done = programs.run(("dnsmasq", f"--conf-file={config}"), START_S)
        if done.returncode:
            raise Rejected(f"dnsmasq on {server.bridge}: {done.stderr.strip()}")
        self.hosts.pop(server.bridge, None)

    def stop(self, state_dir: str, operation: StopDhcp) -> None:
        """End a server and remove its files.

        Raises:
            Rejected: There is none on this bridge.
        """
        place = _place(state_dir, operation.bridge)
        if not place.is_dir():
            raise Rejected(f"dnsmasq on {operation.bridge}: there is none of ours")
        _end(place)
        shutil.rmtree(place)
        self.hosts.pop(operation.bridge, None)
        with suppress(OSError):  # the last one takes the directory with it
            place.parent.rmdir()

    def change_hosts(self, state_dir: str, operation: ChangeDhcpHosts) -> None:
        """Write and remove static entries; signal the server if it must read them all anew.

        Raises:
            Rejected: There is no server of ours on this bridge.
        """
        place = _place(state_dir, operation.bridge)
        running = _running(place)
        if running is None:
            raise Rejected(f"dnsmasq on {operation.bridge}: none of ours runs")
        hosts = dict(self._hosts(place))
        for name, line in operation.write:
            _write(place / "hosts" / name, line + "\n")
            hosts[name] = line
        for name in operation.remove:
            (place / "hosts" / name).unlink(missing_ok=True)
            hosts.pop(name, None)
        if operation.reload:
            running[0].signal(SIGHUP)
        self.hosts[operation.bridge] = (place / "hosts").stat().st_mtime_ns, hosts


def _places(state_dir: str) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from (p for p in sorted((Path(state_dir) / "dhcp").iterdir()) if p.is_dir())


def _place(state_dir: str, bridge: str) -> Path:
    return Path(state_dir) / "dhcp" / bridge


def _make(directory: Path) -> None:
    """Make a directory that dnsmasq, which gives root up, can read."""
    directory.mkdir(parents=True, exist_ok=True)
    for each in (directory, directory.parent, directory.parent.parent):
        each.chmod(0o755)


def _write(path: Path, text: str) -> None:
    """Write a file in one step; dnsmasq passes over names that begin with a dot."""
    new = path.with_name(f".{path.name}")
    new.write_text(text)
    new.rename(path)


def _our_lines(place: Path) -> str:
    values = (place / "hosts", place / "pid", place / "leases")
    return "".join(f"{key}{value}\n" for key, value in zip(OUR_KEYS, values, strict=True))


def _host_files(place: Path) -> Iterator[tuple[str, str]]:
    for entry in os.scandir(place / "hosts"):
        if not entry.name.startswith("."):
            with suppress(FileNotFoundError):
                yield entry.name, Path(entry.path).read_text().rstrip("\n")


def _running(place: Path) -> tuple[programs.Process, Path] | None:
    """Return the server's process and the configuration that it runs; None if it does not."""
    try:
        process = programs.process(int((place / "pid").read_text()))
    except (FileNotFoundError, ValueError):
        return None
    if process is None:
        return None
    with suppress(OSError):  # it ended meanwhile
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        namespace = Path(f"/proc/{process.pid}/ns/net").stat().st_ino
        config = next((w for w in words if w.startswith(f"--conf-file={place}/".encode())), None)
        if config and namespace == Path("/proc/thread-self/ns/net").stat().st_ino:
            return process, Path(config.decode().partition("=")[2])
    return None


def _config_of(path: Path) -> str:
    """Return a configuration without the lines that are ours."""
    try:
        lines = path.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return ""
    return "".join(line for line in lines if not line.startswith(OUR_KEYS))


def _end(place: Path) -> None:
    running = _running(place)
    if running:
        running[0].stop()
