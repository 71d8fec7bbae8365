"""The scripts in ``examples``, as a reader runs them, by the clients' own packages.

All of them work at the same server at the same time, as the clients take longest to start.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import pytest
import real_ansible
import real_novaclient
from running import Cloud

from trunkline.lab.waiting import limit_s

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT = 900  # of seconds; at rest, all of it takes one minute
GREET_EVERY_S = 5

pytestmark = pytest.mark.timeout(limit_s(LIMIT))


@dataclass
class Run:
    """A script that runs, and where its output goes."""

    process: subprocess.Popen[bytes]
    output: Path

    def finish(self) -> str:
        """Wait for its success and return what it printed."""
        code = self.process.wait(limit_s(LIMIT))
        printed = self.output.read_text()
        assert code == 0, printed
        return printed


@dataclass
class Desk:
    """Somebody's desk, with a clouds.yaml on it."""

    cloud: Cloud
    auth: Mapping[str, str]

    def start(self, name: str, *command: str | Path, **variables: str) -> Run:
        """Start a script."""
        environment: Mapping[str, str] = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore",  # what other people's packages deprecate is theirs to mend
            **variables,
            "OS_CLIENT_CONFIG_FILE": str(self.cloud.directory / "clouds.yaml"),
            "OS_CLOUD": "trunkline",
        }
        output = self.cloud.directory / f"{name}.out"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, env=environment, cwd=EXAMPLES.parent, stdout=file, stderr=file
            )
        return Run(process, output)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Lend a desk at a cloud with one host and an external network."""
    cloud = Cloud(tmp_path_factory.mktemp("examples"))
    cloud.write_files()
    config = cloud.directory / "server.toml"
    config.write_text(config.read_text().replace("[100, 3999]", "[300, 399]"))
    cloud.listen_on_tcp()
    cloud.start()
    auth = cloud.bootstrap()["auth"]
    network = cloud.admin.create("networks", {"name": "outside", "router:external": True})
    cloud.subnet(network, "admin", cidr="198.51.100.0/25")
    stop = Event()
    host = Thread(target=keep_alive, args=(cloud, stop))
    host.start()
    yield Desk(cloud, auth)
    stop.set()
    host.join()
    cloud.end()


def keep_alive(cloud: Cloud, stop: Event) -> None:
    """Be the agent of a host, which asks from time to time."""
    with cloud.agent("compute1") as agent:
        agent.snapshot(None, 0)
        while not stop.wait(GREET_EVERY_S):
            agent.snapshot(None, 0)


def an_instance(cloud: Cloud) -> str:
    """Make an instance in the administrator's project; return its name."""
    answer = cloud.admin.request("GET", "/identity/v3/projects?name=admin")
    network = cloud.network("admin", name="aside")
    project_id = answer["projects"][0]["id"]
    cloud.instance(network, "compute1", project_id, name="old1", device_owner="compute:aside")
    return "old1"


@pytest.fixture(scope="module")
def runs(desk: Desk) -> Iterator[dict[str, Run]]:
    """Lend the running scripts."""
    scripts = EXAMPLES / "openstack"
    started = {
        "tenant": desk.start("tenant", scripts / "tenant.sh", "outside"),
        "administrator": desk.start("administrator", scripts / "administrator.sh"),
        "sdk": desk.start("sdk", sys.executable, EXAMPLES / "openstacksdk_tour.py", "outside"),
        "nova": desk.start(
            "nova",
            EXAMPLES / "nova" / "network.sh",
            an_instance(desk.cloud),
            **real_novaclient.variables(desk.auth),
        ),
    }
    yield started
    for run in started.values():
        run.process.kill()
        run.process.wait()


def test_ansible_builds_the_articles_cloud(desk: Desk, runs: dict[str, Run]) -> None:
    """The first run of the playbook makes everything, the second one changes nothing."""
    assert runs
    command = ("ansible-playbook", "-i", "examples/ansible/tenants.yaml")
    variables = real_ansible.environment()

    for changes in (True, False):
        run = desk.start("ansible", *command, "examples/ansible/article.yaml", **variables)
        recap = re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+) ", run.finish(), re.MULTILINE)
        assert [host for host, _ in recap] == ["localhost", "tenant1", "tenant2"]
        assert all((changed != "0") is changes for _, changed in recap), recap
    ports = desk.cloud.admin.list("ports", device_owner="compute:nova")
    assert {port["name"]: port["fixed_ips"][0]["ip_address"] for port in ports} == {
        "VM_1": "10.0.0.3", "VM_2": "10.0.0.4", "VM_4": "10.0.0.6", "VM_5": "10.0.0.7",
        "VM_3": "10.1.0.3", "VM_6": "10.1.0.4",
    }  # fmt: skip
    (network,) = desk.cloud.admin.list("networks", name="tenant2")
    assert network["provider:segmentation_id"] == 102


@pytest.mark.parametrize("name", ["sdk", "administrator", "tenant", "nova"])
def test_a_script_runs_to_its_end(runs: dict[str, Run], name: str) -> None:
    """Each step of the script finds what it expects."""
    assert re.search("made, used and removed|administrator's day", runs[name].finish())


def test_nothing_is_left(desk: Desk, runs: dict[str, Run]) -> None:
    """The scripts have taken away what they made."""
    for name in ("sdk", "administrator", "tenant", "nova"):
        runs[name].finish()
    left = {network["name"] for network in desk.cloud.admin.list("networks")}
    assert left <= {"outside", "public", "tenant1", "tenant2", "aside"}
    floating = {f["floating_ip_address"] for f in desk.cloud.admin.list("floatingips")}
    assert floating <= {"91.208.23.11", "91.208.23.16"}, "but for those of the article's cloud"
    assert desk.cloud.admin.list("subnetpools") == []
