"""Clients that people have, from their own packages: python-openstackclient and openstacksdk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import Cloud

from trunkline.cli.main import main
from trunkline.lab.waiting import limit_s

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other people's packages deprecate is theirs to mend
    import openstack

OPENSTACK = Path(sys.executable).with_name("openstack")


@dataclass(frozen=True)
class Desk:
    """Somebody's desk: a clouds.yaml, and the ``openstack`` command."""

    directory: Path
    auth: dict[str, Any]

    def run(self, *words: str, **cloud: str) -> Any:
        """Run the ``openstack`` command and return what it printed as JSON."""
        environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(self.directory / "clouds.yaml")}
        done = subprocess.run(
            [OPENSTACK, "--os-cloud", cloud.get("cloud", "trunkline"), *words],
            cwd=self.directory, env=environment, capture_output=True, text=True, check=False,
            timeout=limit_s(60),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def json(self, *words: str, **cloud: str) -> Any:
        """Likewise, for commands that have a format."""
        return self.run(*words, "-f", "json", **cloud)

    def add_cloud(self, name: str, **cloud: Any) -> None:
        """Add a cloud to the file."""
        path = self.directory / "clouds.yaml"
        document = yaml.safe_load(path.read_text())
        document["clouds"][name] = {"region_name": "RegionOne", **cloud}
        path.write_text(yaml.safe_dump(document))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Lend the administrator's desk: the clouds.yaml is what bootstrap printed."""
    cloud = Cloud(tmp_path_factory.mktemp("desk"))
    cloud.write_files()
    cloud.listen_on_tcp()
    cloud.start()
    yield Desk(cloud.directory, cloud.bootstrap()["auth"])
    cloud.end()


@pytest.mark.timeout(600)
def test_the_openstack_command(desk: Desk) -> None:
    """A new user logs in, makes a network, and an application credential that works likewise."""
    assert desk.json("token", "issue")["project_id"]
    project = desk.json("project", "create", "--description", "blue's", "blue")
    user = desk.json("user", "create", "--password", "pw", "--email", "a@example.org", "amy")
    assert user["enabled"] is True
    desk.run("role", "add", "--user", "amy", "--project", "blue", "member")
    (given,) = desk.json("role", "assignment", "list", "--names", "--project", "blue")
    assert (given["Role"], given["User"]) == ("member", "amy@Default")
    assert {p["Name"] for p in desk.json("project", "list")} == {"admin", "blue"}
    auth = {**desk.auth, "username": "amy", "password": "pw", "project_name": "blue"}
    desk.add_cloud("amy", auth=auth)

    network = desk.json("network", "create", "n1", cloud="amy")
    made = desk.json("application", "credential", "create", "backup", cloud="amy")
    auth = {
        "auth_url": desk.auth["auth_url"],
        "application_credential_id": made["ID"],
        "application_credential_secret": made["Secret"],
    }
    desk.add_cloud("program", auth=auth, auth_type="v3applicationcredential")

    assert network["project_id"] == project["id"]
    assert [n["Name"] for n in desk.json("network", "list", cloud="program")] == ["n1"]
    assert [p["Name"] for p in desk.json("project", "list", "--my-projects", cloud="amy")] == [
        "blue"
    ]
    desk.run("role", "remove", "--user", "amy", "--project", "blue", "member")
    with pytest.raises(AssertionError, match="401"):
        desk.json("network", "list", cloud="program")


@pytest.mark.filterwarnings("ignore")  # the SDK warns of what it will drop by itself
def test_openstacksdk(desk: Desk) -> None:
    """The SDK's identity proxy makes, finds, changes and deletes; its network proxy follows."""
    with openstack.connect(**desk.auth, region_name="RegionOne", load_yaml_config=False) as cloud:
        domain = cloud.identity.find_domain("Default", ignore_missing=False)
        project = cloud.identity.create_project(name="red", domain_id=domain.id)
        user = cloud.identity.create_user(name="rob", password="pw", default_project_id=project.id)
        reader = cloud.identity.find_role("reader", ignore_missing=False)
        cloud.identity.assign_project_role_to_user(project.id, user.id, reader.id)
        cloud.identity.update_user(user.id, description="reads")
        assert cloud.identity.find_user("rob").description == "reads"
        assert [p.name for p in cloud.identity.user_projects(user)] == ["red"]
        auth = {**desk.auth, "username": "rob", "password": "pw", "project_name": "red"}
        with openstack.connect(**auth, region_name="RegionOne", load_yaml_config=False) as robs:
            assert list(robs.network.networks()) == []
            with pytest.raises(openstack.exceptions.ForbiddenException):
                robs.network.create_network(name="n")
        network = cloud.network.create_network(name="reds", project_id=project.id)
        assert network.project_id == project.id
        cloud.network.delete_network(network)
        cloud.identity.delete_user(user)
        cloud.identity.delete_project(project)
        assert cloud.identity.find_project("red") is None


def test_bootstrap_is_a_command(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Run again it says that the password is as it was."""
    assert main(["bootstrap", "--config", str(desk.directory / "server.toml")]) == 0
    assert "# password: " in capsys.readouterr().out
