"""Nova hears what becomes of its servers' ports, whatever it answers first."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import pytest
from nova_receiver import Receiver, receiving
from packages import KEYSTONE_AND_NOVA, environment
from running import Cloud

from trunkline.api.config import parse
from trunkline.client import ApiClient
from trunkline.errors import Invalid
from trunkline.lab.waiting import limit_s, until
from trunkline.model import PortStatus

PLUGGED, UNPLUGGED = "network-vif-plugged", "network-vif-unplugged"
WALK = Path(__file__).parents[1] / "foreign" / "nova_walk.py"
CHANGED, DELETED = "network-changed", "network-vif-deleted"


@dataclass
class Pair:
    """A cloud and the Nova that it tells."""

    cloud: Cloud
    nova: Receiver
    auth_url: str

    def server(self, host: str = "h1", **attributes: Any) -> dict[str, Any]:
        """Make a port of a server of Nova's, on a network of its own."""
        wish = {"device_id": str(uuid4()), **attributes}
        return self.cloud.instance(self.cloud.network(), host, **wish)

    def report(self, port: dict[str, Any], status: PortStatus, host: str = "h1") -> None:
        """Have a host's agent report a port's status."""
        body = {"ports": {port["id"]: status}}
        self.cloud.user("agent").request("POST", f"/agent/v1/hosts/{host}/report", body)

    def until_told(self, port: dict[str, Any], *names: str) -> None:
        """Wait until Nova was told exactly this of a port."""
        wanted = list(names)
        until(f"Nova is told {wanted}", lambda: self.nova.told(port["id"]) == wanted, 10)

    @contextmanager
    def agents(self, *hosts: str) -> Iterator[None]:
        """Have agents that report every port of their snapshots ACTIVE, as soon as it is there."""
        stop = Event()
        threads = [Thread(target=self._wire, args=(host, stop)) for host in hosts]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _wire(self, host: str, stop: Event) -> None:
        api = ApiClient(self.cloud.url, "agent")
        revision = None
        with self.cloud.agent(host) as agent:
            while not stop.is_set():
                snapshot = agent.snapshot(revision, 0.2)
                if snapshot is not None:
                    revision = snapshot.revision
                    body = {"ports": {port.id: PortStatus.ACTIVE for port in snapshot.ports}}
                    api.request("POST", f"/agent/v1/hosts/{host}/report", body)
        api.close()

    def person(self, name: str, role: str) -> dict[str, str]:
        """Make a user with a project and a role; return how to log in."""
        ask = partial(self.cloud.admin.request, "POST")
        project = ask("/identity/v3/projects", {"project": {"name": name}})["project"]
        user = ask("/identity/v3/users", {"user": {"name": name, "password": name}})["user"]
        roles = self.cloud.admin.request("GET", f"/identity/v3/roles?name={role}")["roles"]
        path = f"projects/{project['id']}/users/{user['id']}/roles/{roles[0]['id']}"
        self.cloud.admin.request("PUT", f"/identity/v3/{path}")
        return {"username": name, "password": name, "project_name": name, "id": project["id"]}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Lend a cloud that tells a Nova."""
    cloud = Cloud(tmp_path_factory.mktemp("nova"))
    cloud.write_files()
    server = cloud.listen_on_tcp()
    auth = cloud.bootstrap()["auth"]
    with receiving() as nova:
        with (cloud.directory / "server.toml").open("a") as config:
            config.write(
                f'[nova]\nurl = "{nova.url}"\nauth_url = "{server}/identity"\nusername = "admin"\n'
                f'password = "{auth["password"]}"\nproject_name = "admin"\n'
            )
        cloud.start()
        yield Pair(cloud, nova, f"{server}/identity/v3")
        cloud.end()


def test_the_life_of_a_port(pair: Pair) -> None:
    """Plugged, a floating IP comes and goes, another MAC, unplugged, deleted: in this order."""
    port = pair.server()
    external = pair.cloud.external()

    pair.report(port, PortStatus.ACTIVE)
    pair.report(port, PortStatus.ACTIVE)
    wish = {"floating_network_id": external["id"], "port_id": port["id"], "project_id": "p1"}
    floating = pair.cloud.admin.create("floatingips", wish)
    pair.cloud.admin.delete("floatingips", floating["id"])
    pair.cloud.admin.update("ports", port["id"], {"mac_address": "fa:16:3e:00:00:77"})
    pair.report(port, PortStatus.DOWN)
    pair.cloud.admin.delete("ports", port["id"])

    pair.until_told(port, PLUGGED, CHANGED, CHANGED, CHANGED, UNPLUGGED, DELETED)
    (event,) = [e for e in pair.nova.events if e["tag"] == port["id"] and e["name"] == PLUGGED]
    assert event["server_uuid"] == port["device_id"]
    assert event["status"] == "completed"


def test_only_what_is_novas(pair: Pair) -> None:
    """Of a port that is no server's, or whose device has no UUID, Nova hears nothing."""
    others = [
        pair.server(device_owner="container:podman"),
        pair.server(device_id="vm1"),
        pair.server(device_id=f"{{{uuid4()}}}"),
    ]
    last = pair.server()

    for port in (*others, last):
        pair.report(port, PortStatus.ACTIVE)

    pair.until_told(last, PLUGGED)
    assert [pair.nova.told(port["id"]) for port in others] == [[], [], []]


def test_where_an_instance_is_to_come(pair: Pair) -> None:
    """The host that it moves to is heard before the port is active there, and the move after."""
    port = pair.server()
    pair.report(port, PortStatus.ACTIVE)
    path = f"/v2.0/ports/{port['id']}/bindings"
    pair.cloud.admin.request("POST", path, {"binding": {"host": "h2"}})

    pair.report(port, PortStatus.ACTIVE, "h2")

    pair.until_told(port, PLUGGED, PLUGGED)
    pair.cloud.admin.request("PUT", f"{path}/h2/activate")
    pair.report(port, PortStatus.ACTIVE, "h2")
    pair.until_told(port, PLUGGED, PLUGGED, PLUGGED)


def test_another_host(pair: Pair) -> None:
    """A port that is bound elsewhere is unplugged, until the new host has it."""
    port = pair.server()
    pair.report(port, PortStatus.ACTIVE)

    pair.cloud.admin.update("ports", port["id"], {"binding:host_id": "h3"})

    pair.until_told(port, PLUGGED, UNPLUGGED)


@pytest.mark.parametrize("status", [401, 404, 503])
def test_nova_does_not_want_to_hear(pair: Pair, status: int) -> None:
    """An expired token is renewed; an unknown server is let go; a Nova in trouble hears later."""
    port, follower = pair.server(), pair.server()
    pair.nova.refusals.append(status)

    pair.report(port, PortStatus.ACTIVE)

    until("it was refused", lambda: not pair.nova.refusals, 10)
    pair.report(follower, PortStatus.ACTIVE)
    pair.until_told(follower, PLUGGED)
    assert pair.nova.told(port["id"]) == ([] if status == 404 else [PLUGGED])


def test_a_killed_server_tells_later(pair: Pair) -> None:
    """What Nova did not hear is told by the next process; nobody waited for it meanwhile."""
    port = pair.server()
    pair.nova.refusals.extend([503] * 3)

    pair.report(port, PortStatus.ACTIVE)

    until("it was refused", lambda: len(pair.nova.refusals) < 3, 10)
    assert pair.cloud.admin.show("ports", port["id"])["status"] == "ACTIVE"
    pair.cloud.end(signal.SIGKILL)
    pair.nova.refusals.clear()
    pair.cloud.start()
    pair.until_told(port, PLUGGED)


def test_novas_own_client(pair: Pair, tmp_path: Path) -> None:
    """Nova 34's network code boots, changes, moves and deletes an instance, and is told of it."""
    python = environment(*KEYSTONE_AND_NOVA) / "bin" / "python"
    user, service = pair.person("tina", "member"), pair.person("nova-service", "service")
    network = pair.cloud.network("admin", project_id=user["id"])
    pair.cloud.network("admin", name="pool", **{"router:external": True})
    pair.cloud.admin.request("PUT", f"/v2.0/quotas/{user['id']}", {"quota": {"port": 2}})
    settings = {
        "directory": str(tmp_path),
        "auth_url": pair.auth_url,
        "user": user,
        "service": service,
        "network": network["id"],
        "pool": "pool",
    }

    with pair.agents("compute1", "compute2"):
        done = subprocess.run(
            [python, WALK, json.dumps(settings)],
            env={"PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "ignore"},
            capture_output=True, text=True, timeout=limit_s(120), check=False,
        )  # fmt: skip

    assert done.returncode == 0, done.stderr[-5000:]
    (event, *_rest) = [e for e in pair.nova.events if e["server_uuid"] == done.stdout.strip()]
    told = pair.nova.told(event["tag"])
    assert told[0] == PLUGGED
    assert {CHANGED, DELETED} <= set(told)
    assert told.count(PLUGGED) >= 2, "on each host"


def test_nova_up_to_33_plugs_into_bridges(tmp_path: Path) -> None:
    """With ``vif_type`` bridge, bound ports and bindings name the bridge of their network."""
    cloud = Cloud(tmp_path)
    cloud.write_files()
    config = tmp_path / "server.toml"
    config.write_text(f'vif_type = "bridge"\n{config.read_text()}')
    cloud.start()
    network = cloud.network("admin", **{"provider:segmentation_id": 321,
                                        "provider:network_type": "vlan"})  # fmt: skip

    port = cloud.instance(network, "h1")

    path = f"/v2.0/ports/{port['id']}/bindings"
    other = cloud.admin.request("POST", path, {"binding": {"host": "h2"}})["binding"]
    for shown in (port, cloud.admin.show("ports", port["id"])):
        assert shown["binding:vif_type"] == "bridge"
        assert shown["binding:vif_details"]["bridge_name"] == "br321"
    assert (other["vif_type"], other["vif_details"]["bridge_name"]) == ("bridge", "br321")
    cloud.end()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"vif_type": "ovs"}, "vif_type must be one of tap, bridge"),
        ({"nova": {"url": "nova"}}, "nova.url"),
        ({"nova": {"auth_url": "http://k:5000", "username": "t", "password": "x"}},
         "nova.project_name is missing"),
        ({"nova": {"colour": "red"}}, "nova: unknown key 'colour'"),
        ({"nova": 1}, "nova must be a table"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be(more: dict[str, Any], said: str) -> None:
    """What is wrong in the configuration is named by its key."""
    with pytest.raises(Invalid, match=said):
        parse({"listen": ["http://127.0.0.1:1"], "database": "sqlite://", **more})
