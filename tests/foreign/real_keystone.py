"""A real Keystone on SQLite: installed from PyPI once, kept in .cache, served on a free port."""

from __future__ import annotations

import grp
import http.client
import json
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import packages

from trunkline.lab.waiting import limit_s, until

PASSWORD = "keystone's own"

SETTINGS = """\
[database]
connection = sqlite:///{0}/keystone.db
[fernet_tokens]
key_repository = {0}/fernet
[credential]
key_repository = {0}/credential
[DEFAULT]
log_file = {0}/keystone.log
"""

SERVE = """\
import os, sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

directory, port = sys.argv.pop(1), int(sys.argv.pop(1))
os.environ["OS_KEYSTONE_CONFIG_FILES"] = directory + "/keystone.conf"
from keystone.server.wsgi import initialize_public_application

class Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True

make_server("127.0.0.1", port, initialize_public_application(), Threads).serve_forever()
"""
"""Keystone reads sys.argv by itself, so it gets none."""


@dataclass
class RealKeystone:
    """A Keystone that runs, and its administrator's token."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]
    token: str = ""
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.port}/v3"

    def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[Any, http.client.HTTPMessage]:
        """Send a request, which has to succeed, and return the answer's JSON and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=limit_s(30))
        sent = {"X-Auth-Token": self.token, "Content-Type": "application/json"}
        sent |= {key.replace("_", "-"): value for key, value in headers.items()}
        data = None if body is None else json.dumps(body)
        connection.request(method, f"/v3/{path}", data, sent)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        assert response.status < 400, text
        return (json.loads(text) if text else None), response.headers

    def log_in(self, user: str, password: str, project: str | None) -> str:
        """Return a token of a user of the default domain."""
        named = {"name": user, "domain": {"id": "default"}, "password": password}
        identity = {"methods": ["password"], "password": {"user": named}}
        scope = {"project": {"name": project, "domain": {"id": "default"}}}
        auth = {"identity": identity, "scope": scope if project else "unscoped"}
        return str(self.call("POST", "auth/tokens", {"auth": auth})[1]["X-Subject-Token"])

    def person(self, name: str, project: str, role: str) -> str:
        """Make a user with a role in a project, if need be; return a token and note the ids."""
        for kind, wanted in (("project", project), ("user", name)):
            found = self.call("GET", f"{kind}s?name={wanted}")[0][f"{kind}s"]
            wish = {"name": wanted, "password": name} if kind == "user" else {"name": wanted}
            made = found[0] if found else self.call("POST", f"{kind}s", {kind: wish})[0][kind]
            self.ids[wanted] = made["id"]
        role_id = self.call("GET", f"roles?name={role}")[0]["roles"][0]["id"]
        path = f"projects/{self.ids[project]}/users/{self.ids[name]}/roles/{role_id}"
        self.call("PUT", path)
        return self.log_in(name, name, project)

    def end(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(limit_s(20))


@contextmanager
def real_keystone(directory: Path) -> Iterator[RealKeystone]:
    """Lend a fresh Keystone; skip if PyPI is out of reach."""
    python = _installed()
    shutil.copytree(python.parents[1] / "keystone", directory, dirs_exist_ok=True)
    (directory / "keystone.conf").write_text(SETTINGS.format(directory))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [python, "-c", SERVE, directory, str(port)], stdout=output, stderr=output
        )
    keystone = RealKeystone(directory, port, process)
    try:
        until("Keystone answers", lambda: _answers(keystone), 60)
        keystone.token = keystone.log_in("admin", PASSWORD, "admin")
        url = keystone.url
        service = {"service": {"type": "identity"}}
        made = keystone.call("POST", "services", service)[0]["service"]["id"]
        endpoint = {"service_id": made, "interface": "internal", "url": url}
        keystone.call("POST", "endpoints", {"endpoint": endpoint})
        yield keystone
    finally:
        keystone.end()


def _answers(keystone: RealKeystone) -> bool:
    assert keystone.process.poll() is None, (keystone.directory / "output").read_text()
    try:
        keystone.call("GET", "")
    except OSError:
        return False
    return True


def _installed() -> Path:
    """Return the Python of an environment with Keystone; its first state is made beside it."""
    venv = packages.environment(*packages.KEYSTONE_AND_NOVA)
    python, state = venv / "bin" / "python", venv / "keystone"
    if (state / "ready").exists():
        return python
    shutil.rmtree(state, ignore_errors=True)
    for directory in (state, state / "fernet", state / "credential"):
        directory.mkdir(mode=0o700)
    (state / "keystone.conf").write_text(SETTINGS.format(state))
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    owner = ("--keystone-user", user, "--keystone-group", group)
    for command in (
        ("db_sync",),
        ("fernet_setup", *owner),
        ("credential_setup", *owner),
        ("bootstrap", "--bootstrap-password", PASSWORD),
    ):
        manage = [venv / "bin" / "keystone-manage", "--config-file", state / "keystone.conf"]
        subprocess.run([*manage, *command], check=True, capture_output=True, timeout=limit_s(60))
    (state / "ready").touch()
    return python
