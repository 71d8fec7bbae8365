"""The article's commands, typed as printed there, and what they do to packets."""

from __future__ import annotations

import subprocess
from functools import partial
from typing import Any

import pytest
from real_novaclient import variables
from sqlalchemy import insert

from trunkline.api.bootstrap import first_administrator
from trunkline.api.config import load
from trunkline.api.serve import open_database
from trunkline.client import ApiClient
from trunkline.db.identity import projects
from trunkline.lab.build import SERVER_ADDRESS, SERVER_PORT
from trunkline.lab.scenarios.other_tenant import closed_act, tcp_only_act
from trunkline.lab.stage import Stage
from trunkline.lab.topology import CONTROLLER
from trunkline.lab.waiting import limit_s
from trunkline.service.identity.directory import DEFAULT_DOMAIN

pytestmark = pytest.mark.scenario

PASSWORD = "typed by hand"
LINES = {
    "tenant1": "nova secgroup-add-rule default tcp 1 65535 10.1.0.0/24",
    "tenant2": "nova secgroup-add-rule default tcp 1 65535 10.0.0.0/24",
}


def give_passwords(stage: Stage) -> None:
    """Let the tenants log in: a lab's projects are in its users file, and have static tokens."""
    config = load(stage.lab.directory / "server.toml")
    first_administrator(config, PASSWORD)
    ids = stage.lab.project_ids()
    rows = [
        {
            "id": ids[name],
            "name": name,
            "domain_id": DEFAULT_DOMAIN,
            "description": "",
            "enabled": True,
        }
        for name in LINES
    ]
    database = open_database(config)
    database.write(lambda tx: tx.connection.execute(insert(projects), rows))
    database.close()
    request = partial(ask, stage.cloud.admin)
    (role,) = request("GET", "roles?name=member")["roles"]
    for name in LINES:
        user = request("POST", "users", {"user": {"name": name, "password": PASSWORD}})["user"]
        request("PUT", f"projects/{ids[name]}/users/{user['id']}/roles/{role['id']}")


def ask(client: ApiClient, method: str, path: str, body: Any = None) -> Any:
    """Send a request to the lab's identity."""
    return client.request(method, f"/identity/v3/{path}", body)


def type_at_a_shell(stage: Stage, project: str, line: str) -> str:
    """Run a command of a tenant's beside the server; return what it printed."""
    server = f"http://{SERVER_ADDRESS}:{SERVER_PORT}"
    auth = {
        "auth_url": f"{server}/identity",
        "username": project,
        "password": PASSWORD,
        "project_name": project,
        "user_domain_id": DEFAULT_DOMAIN,
        "project_domain_id": DEFAULT_DOMAIN,
    }
    command = ["ip", "netns", "exec", stage.lab.namespace(CONTROLLER), *line.split()]
    done = subprocess.run(
        command,
        env=variables(auth),
        capture_output=True,
        text=True,
        timeout=limit_s(60),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_articles_two_lines(stage: Stage) -> None:
    """Nothing passes between the tenants; each types its line; TCP passes, and nothing else."""
    with stage.rules():
        give_passwords(stage)
        before = closed_act(stage)

        printed = {
            project: type_at_a_shell(stage, project, line) for project, line in LINES.items()
        }

        stage.settle()
        after = tcp_only_act(stage)
    checks = (*before.checks, *after.checks)
    assert [f"{check.text} [{check.evidence}]" for check in checks if not check.passed] == []
    assert all(line.split()[-1] in printed[project] for project, line in LINES.items())
