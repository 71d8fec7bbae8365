"""The standalone identity from a client's side, for tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from running import Cloud, UnixConnection

from trunkline.cli.main import main

PASSWORD = "correct horse"
AUTH = "/identity/v3/auth/tokens"


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def token(self) -> str:
        """Return the token that was issued."""
        assert self.status == 201, self
        return self.headers["x-subject-token"]


@dataclass(frozen=True)
class Person:
    """Somebody with a password, and perhaps a project."""

    id: str
    name: str
    project_id: str = ""


@dataclass
class Keystone:
    """The identity of a cloud, and its administrator's token."""

    cloud: Cloud
    admin: str = ""

    def call(
        self, method: str, path: str, body: Any = None, token: str = "", **headers: str
    ) -> Answer:
        """Send a request and return the answer."""
        connection = UnixConnection(f"{self.cloud.directory}/api.sock")
        data = None if body is None else json.dumps(body)
        try:
            sent = {"X-Auth-Token": token, **{k.replace("_", "-"): v for k, v in headers.items()}}
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            text = response.read()
            received = {key.lower(): value for key, value in response.getheaders()}
            return Answer(response.status, received, json.loads(text) if text else None)
        finally:
            connection.close()

    def do(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """Send a request below /identity/v3, as the administrator unless told; return the body."""
        answer = self.call(method, f"/identity/v3/{path}", body, token or self.admin)
        assert answer.status < 300, answer
        return answer.body

    def log_in(self, user: str, password: str, **scope: Any) -> Answer:
        """Log in by a user's name, for a project by its name (``project``) or ``scope``."""
        named = {"name": user, "domain": {"id": "default"}, "password": password}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": named}}}
        if "project" in scope:
            project = {"name": scope["project"], "domain": {"name": "Default"}}
            auth["scope"] = {"project": project}
        elif scope:
            auth["scope"] = scope["scope"]
        return self.call("POST", AUTH, {"auth": auth})

    def by_token(self, token: str, scope: Any = None) -> Answer:
        """Get a token by a token."""
        auth = {"identity": {"methods": ["token"], "token": {"id": token}}}
        return self.call("POST", AUTH, {"auth": auth if scope is None else auth | {"scope": scope}})

    def by_credential(self, secret: str, **named: Any) -> Answer:
        """Get a token by an application credential."""
        method = "application_credential"
        given = {"secret": secret, **named}
        return self.call("POST", AUTH, {"auth": {"identity": {"methods": [method], method: given}}})

    def check(self, token: str) -> int:
        """Return how the Networking API answers a token."""
        return self.call("GET", "/v2.0/networks", token=token).status

    def project(self, name: str) -> str:
        """Make a project and return its id."""
        return str(self.do("POST", "projects", {"project": {"name": name}})["project"]["id"])

    def person(self, name: str, role: str = "", project: str = "") -> Person:
        """Make a user, whose password is the name, with a role in a new project."""
        made = self.do("POST", "users", {"user": {"name": name, "password": name}})["user"]
        if not role:
            return Person(made["id"], name)
        project_id = self.project(project or f"of-{name}")
        self.grant(made["id"], project_id, role)
        return Person(made["id"], name, project_id)

    def role(self, name: str) -> str:
        """Return a role's id."""
        return str(self.do("GET", f"roles?name={name}")["roles"][0]["id"])

    def grant(self, user: str, project: str, role: str) -> None:
        """Give a user a role in a project."""
        self.do("PUT", f"projects/{project}/users/{user}/roles/{self.role(role)}")


def bootstrapped(cloud: Cloud) -> Keystone:
    """Make the first administrator, with ``PASSWORD``, and log in."""
    config = str(cloud.directory / "server.toml")
    url = ("--public-url", "http://localhost")
    assert main(["bootstrap", "--config", config, *url, "--password", PASSWORD]) == 0
    keystone = Keystone(cloud)
    keystone.admin = keystone.log_in("admin", PASSWORD, project="admin").token
    return keystone
