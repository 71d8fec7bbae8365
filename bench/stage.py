"""Where the bench plays: a host and its bare twin, in namespaces of their own, and a server.

Every namespace is called ``tlbench-PID-…``, so that leftovers of a bench that was killed are
known and removed by the next one. Nothing here measures.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from trunkline.client import ApiClient
from trunkline.errors import ServerUnavailable
from trunkline.model import PortId
from trunkline.ownership import LINK_GROUP, tap_name

MARK = "tlbench"
HOST, BARE, IDLE = "host", "bare", "idle"
PROJECTS = ("bench", "other")
TRUNKLINE = Path(__file__).parents[1] / ".venv/bin/trunkline"
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Stage:
    """The directory of one bench run, whose name all else follows from."""

    directory: Path

    @property
    def server(self) -> str:
        """Return the server's URL."""
        return f"unix:{self.directory}/api.sock"

    def api(self, user: str = PROJECTS[0]) -> ApiClient:
        """Return the API as an admin of a project, by whose name its token goes."""
        return ApiClient(self.server, user)

    def namespace(self, host: str) -> str:
        """Return a host's namespace; its instances' ends are in one named ``…-vm``."""
        return f"{MARK}-{os.getpid()}-{host}"

    def log(self, host: str) -> Path:
        """Return where a host's agent writes what it does."""
        return self.directory / f"{host}.log"


@contextmanager
def stage() -> Iterator[Stage]:
    """Set up server and hosts; take everything away at the end, whatever happened."""
    remove_leftovers()
    directory = Path(tempfile.mkdtemp(prefix=f"{MARK}-{os.getpid()}-"))
    directory.chmod(0o711)  # dnsmasq reads its hosts as nobody
    scene = Stage(directory)
    server = None
    try:
        for host in (HOST, BARE, IDLE):
            _make_host(scene, host)
        server = _start_server(scene)
        yield scene
    finally:
        if server is not None:
            end(server)
        for host in (HOST, BARE, IDLE):
            _remove_namespace(scene.namespace(host))
            _remove_namespace(f"{scene.namespace(host)}-vm")
        shutil.rmtree(directory)


def remove_leftovers() -> None:
    """Remove namespaces of benches that are no more."""
    for path in Path("/run/netns").glob(f"{MARK}-*"):
        pid = path.name.split("-")[1]
        if not Path("/proc", pid).exists():
            _remove_namespace(path.name)


def _remove_namespace(name: str) -> None:
    for pid in _processes(name):
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _processes(namespace: str) -> list[str]:
    """Return the process ids in a namespace; none if it is gone."""
    command = ["ip", "netns", "pids", namespace]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def _make_host(scene: Stage, host: str) -> None:
    name = scene.namespace(host)
    for namespace in (name, f"{name}-vm"):
        subprocess.run(["ip", "netns", "add", namespace], check=True)
    batch(
        name,
        [
            "link set lo up",
            *(f"link add {nic} type veth peer name {nic} netns {name}-vm" for nic in _NICS),
            *(f"link set {nic} up" for nic in _NICS),
            "addr add 192.0.2.10/24 dev eth1",
            "route add default via 192.0.2.1",
        ],
    )
    batch(f"{name}-vm", [f"link set {nic} up" for nic in _NICS])


_NICS = ("eth0", "eth1")


def batch(namespace: str, lines: Iterable[str]) -> None:
    """Run ip(8) commands in a namespace."""
    command = ["ip", "-n", namespace, "-batch", "-"]
    subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True)


def _start_server(scene: Stage) -> subprocess.Popen[bytes]:
    users = {
        "projects": [{"id": name * 4, "name": name} for name in PROJECTS],
        "users": [
            _user("agent", PROJECTS[0], "agent"),
            *(_user(name, name, "admin") for name in PROJECTS),
        ],
    }
    (scene.directory / "users.yaml").write_text(yaml.safe_dump(users))
    config = scene.directory / "server.toml"
    config.write_text(
        f'listen = ["{scene.server}"]\n'
        f'database = "sqlite:///{scene.directory}/trunkline.db"\n'
        f'users = "{scene.directory}/users.yaml"\n'
        "quotas = {port = -1}\n"
        "[vlan_ranges]\nphysnet1 = [100, 199]\n"
    )
    with (scene.directory / "server.log").open("wb") as log:
        process = subprocess.Popen([TRUNKLINE, "server", "--config", config], stderr=log)
    until("the server answers", lambda: _answers(scene))
    return process


def _user(name: str, project: str, role: str) -> dict[str, object]:
    return {"name": name, "tokens": [{"token": name, "project": project, "roles": [role]}]}


def _answers(scene: Stage) -> bool:
    try:
        scene.api().list("networks")
    except ServerUnavailable:
        return False
    return True


def agent_config(scene: Stage, host: str) -> Path:
    """Write and return a host's agent's configuration."""
    path = scene.directory / f"{host}.toml"
    path.write_text(
        f'host = "{host}"\nserver = "{scene.server}"\ntoken = "agent"\nuplink = "eth1"\n'
        f'state_dir = "{scene.directory}/{host}"\n[trunks]\nphysnet1 = "eth0"\n'
    )
    return path


def start_agent(scene: Stage, host: str) -> subprocess.Popen[bytes]:
    """Start a host's agent."""
    command = [str(TRUNKLINE), "agent", "--config", str(agent_config(scene, host))]
    with scene.log(host).open("wb") as log:
        return subprocess.Popen(
            ["ip", "netns", "exec", scene.namespace(host), *command], stderr=log
        )


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """End a process, by force if it takes long."""
    process.send_signal(number)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def add_taps(scene: Stage, host: str, port_ids: Iterable[PortId]) -> None:
    """Do the hypervisor's part: an interface for each port, the other end for the instance."""
    name = scene.namespace(host)
    lines = [
        f"link add {tap_name(i)} type veth peer name {i[:11]} netns {name}-vm" for i in port_ids
    ]
    batch(name, lines)


def wipe(scene: Stage, host: str, port_ids: Iterable[PortId]) -> None:
    """Make a host's networking as it was before any agent came; the taps stay."""
    name = scene.namespace(host)
    pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True)
    for pid in pids.stdout.split():
        if Path("/proc", pid, "comm").read_text().strip() == "dnsmasq":
            os.kill(int(pid), signal.SIGKILL)
    run = ["ip", "netns", "exec", name]
    subprocess.run([*run, "nft", "flush", "ruleset"], check=True)
    subprocess.run(
        [*run, "tc", "qdisc", "del", "dev", "eth0", "clsact"], capture_output=True, check=False
    )
    batch(
        name, [f"link del group {LINK_GROUP}", *(f"link set {tap_name(i)} down" for i in port_ids)]
    )
    shutil.rmtree(scene.directory / host, ignore_errors=True)


def forget_reports(scene: Stage) -> None:
    """Make the server forget what its agents said, so that what they say next is seen."""
    with sqlite3.connect(scene.directory / "trunkline.db", timeout=30) as database:
        database.execute("UPDATE hosts SET applied_revision = 0")
        database.execute("UPDATE ports SET status = 'DOWN'")


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def until(what: str, condition: Callable[[], bool], interval_s: float = 0.002) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: It did not come true.
    """
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {LIMIT_S:.0f} s: {what}")
        time.sleep(interval_s)
