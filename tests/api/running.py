"""A real server process for tests: started, asked over real HTTP, ended."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml

from trunkline.client import AgentClient, ApiClient
from trunkline.core.allocate import QUOTAS
from trunkline.errors import ServerUnavailable
from trunkline.lab.waiting import limit_s, until

TOKENS = {
    "admin": ("padmin", "admin"),
    "alice": ("p1", "member"),
    "bob": ("p2", "member"),
    "carol": ("p3", "member"),
    "eve": ("p1", "reader"),
    "nova": ("padmin", "service"),
    "agent": (None, "agent"),
}
"""Project and role by user; a user's token is the user's name."""

PROJECTS = ("padmin", "p1", "p2", "p3")


def users_document() -> dict[str, Any]:
    """Return a users file's content."""
    users = [
        {"name": user, "tokens": [{"token": user, "project": project, "roles": [role]}]}
        for user, (project, role) in TOKENS.items()
    ]
    return {"projects": [{"id": project} for project in PROJECTS], "users": users}


class UnixConnection(http.client.HTTPConnection):
    """HTTP without a client's good manners, for requests that no client sends."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=limit_s(20))
        self._path = path

    def connect(self) -> None:
        """Connect to the server's socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Cloud:
    """A server and its users; prefixes are handed out so that tests do not overlap."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    prefixes: Iterator[IPv4Network] = field(
        default_factory=lambda: IPv4Network("10.0.0.0/8").subnets(new_prefix=24)
    )
    clients: dict[str, ApiClient] = field(default_factory=dict)
    database: str = ""  # SQLAlchemy's URL; empty: SQLite, in the directory

    @property
    def url(self) -> str:
        """Return where the server is."""
        return f"unix:{self.directory}/api.sock"

    @property
    def log(self) -> str:
        """Return what the server wrote."""
        return (self.directory / "log").read_text()

    def write_files(self) -> None:
        """Write the users file and the configuration."""
        self.write_users(users_document())
        (self.directory / "server.toml").write_text(
            dedent(f"""\
            listen = ["{self.url}"]
            database = "{self.database or f"sqlite:///{self.directory}/trunkline.db"}"
            users = "{self.directory}/users.yaml"
            reserved_prefixes = ["192.168.0.0/16"]
            quotas = {{ {", ".join(f"{name} = -1" for name in QUOTAS)} }}
            [vlan_ranges]
            physnet1 = [100, 3999]
            physnet2 = [[10, 10], [20, 20]]
            """)
        )

    def listen_on_tcp(self) -> str:
        """Have the server, before it starts, listen on a free TCP port, too; return the URL."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        config = self.directory / "server.toml"
        config.write_text(config.read_text().replace("listen = [", f'listen = ["{url}", '))
        return url

    def bootstrap(self) -> dict[str, Any]:
        """Write the clouds.yaml that ``trunkline bootstrap`` prints; return its one cloud."""
        command = [sys.executable, "-m", "trunkline.cli.main", "bootstrap", "--config"]
        config = self.directory / "server.toml"
        done = subprocess.run([*command, config], capture_output=True, text=True, check=True)
        (self.directory / "clouds.yaml").write_text(done.stdout)
        found: dict[str, Any] = yaml.safe_load(done.stdout)["clouds"]["trunkline"]
        return found

    def write_users(self, document: dict[str, Any]) -> None:
        """Write the users file; a running server notices."""
        (self.directory / "users.yaml").write_text(yaml.safe_dump(document))

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start a server process with the cloud's configuration."""
        config = str(self.directory / "server.toml")
        code = "import sys; from trunkline.cli.main import main; sys.exit(main())"
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", code, "server", "--config", config], stderr=log
            )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.process = self.spawn()
        until("the server answers", self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            self.admin.request("GET", "/")
        except ServerUnavailable:
            return False
        return True

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the server by a signal and return its exit code."""
        assert self.process is not None
        for client in self.clients.values():
            client.close()
        self.process.send_signal(number)
        code = self.process.wait(limit_s(20))
        self.process = None
        return code

    def user(self, name: str) -> ApiClient:
        """Return the API as a user sees it."""
        if name not in self.clients:
            self.clients[name] = ApiClient(self.url, name)
        return self.clients[name]

    @property
    def admin(self) -> ApiClient:
        """Return the API as the administrator sees it."""
        return self.user("admin")

    @property
    def alice(self) -> ApiClient:
        """Return the API as a member of project p1 sees it."""
        return self.user("alice")

    @property
    def bob(self) -> ApiClient:
        """Return the API as a member of project p2 sees it."""
        return self.user("bob")

    @contextmanager
    def agent(self, host: str) -> Iterator[AgentClient]:
        """Lend a host's agent's side of the server."""
        client = AgentClient(self.url, "agent", host)
        try:
            yield client
        finally:
            client.close()

    def network(self, who: str = "alice", **attributes: Any) -> dict[str, Any]:
        """Make a network with one /24 subnet, as a user; its key ``subnet`` is the subnet."""
        network = self.user(who).create("networks", {"name": "net", **attributes})
        subnet = self.subnet(network, who)
        return {**network, "subnet": subnet}

    def subnet(
        self, network: dict[str, Any], who: str = "alice", **attributes: Any
    ) -> dict[str, Any]:
        """Make a subnet with the next prefix."""
        wish = {"network_id": network["id"], "ip_version": 4, "cidr": str(next(self.prefixes))}
        return self.user(who).create("subnets", {**wish, **attributes})

    def instance(
        self, network: dict[str, Any], host: str, project: str = "p1", **attributes: Any
    ) -> dict[str, Any]:
        """Make an instance port of a project, bound to a host."""
        wish = {
            "network_id": network["id"],
            "project_id": project,
            "binding:host_id": host,
            "device_owner": "compute:nova",
            "device_id": "vm",
        }
        return self.admin.create("ports", {**wish, **attributes})

    def external(self) -> dict[str, Any]:
        """Make an external network with one /24 subnet."""
        return self.network("admin", **{"router:external": True})

    def raw(self, method: str, path: str, body: bytes | None, **headers: str) -> tuple[int, Any]:
        """Send bytes as the administrator and return the status and the answer's JSON."""
        connection = UnixConnection(f"{self.directory}/api.sock")
        try:
            connection.request(method, path, body, {"X-Auth-Token": "admin", **headers})
            response = connection.getresponse()
            data = response.read()
            return response.status, json.loads(data) if data else None
        finally:
            connection.close()


@contextmanager
def running(directory: Path, database: str = "") -> Iterator[Cloud]:
    """Lend a cloud whose server runs."""
    cloud = Cloud(directory, database=database)
    cloud.write_files()
    cloud.start()
    try:
        yield cloud
    finally:
        if cloud.process is not None:
            cloud.end()
        for client in cloud.clients.values():
            client.close()
