"""The OpenAPI document: whole, well-formed, and true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from declared import Declared
from running import Cloud
from starlette.routing import Route
from test_fuzz import Known

from trunkline.api.app import build
from trunkline.api.config import parse
from trunkline.api.openapi import document
from trunkline.api.policy import load as load_policy
from trunkline.api.resources import RESOURCES
from trunkline.api.serve import open_database
from trunkline.api.wakeups import Wakeups
from trunkline.lab.waiting import limit_s

EXAMPLES = os.environ.get("TRUNKLINE_FUZZ", "2")
ADMINISTRATORS = ("agents", "audit-events", "network-ip-availabilities", "probes")
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance",
)  # fmt: skip


@pytest.fixture(scope="module")
def declared(cloud: Cloud) -> Declared:
    """Return the document of a server that has an object of each kind."""
    Known(cloud)
    network = cloud.network(name="of-alice")
    with cloud.agent("compute1") as agent:
        agent.snapshot(None, 0)
    cloud.instance(network, "compute1", tags=["a"])
    return Declared(cloud)


SHOWN = [("admin", path) for path in RESOURCES]
SHOWN += [("alice", path) for path in RESOURCES if path not in ADMINISTRATORS]


@pytest.mark.parametrize(("user", "path"), SHOWN)
def test_what_is_shown_is_declared(cloud: Cloud, declared: Declared, user: str, path: str) -> None:
    """Each object looks as the document says, to whoever sees it, in lists and by itself."""
    listed = cloud.user(user).request("GET", f"/v2.0/{path}?limit=1000")
    declared.judge("GET", f"/v2.0/{path}", 200, listed)
    for one in listed[RESOURCES[path].plural][:3]:
        object_id = one["id"] if "id" in one else one["network_id"]
        shown = cloud.user(user).request("GET", f"/v2.0/{path}/{object_id}")
        declared.judge("GET", f"/v2.0/{path}/{object_id}", 200, shown)


def test_every_path_is_declared(tmp_path: Path) -> None:
    """What the server routes below /v2.0 is in the document, by path and method."""
    url = f"sqlite:///{tmp_path}/x.db"
    config = parse({"listen": [f"unix:{tmp_path}/api.sock"], "database": url})
    database = open_database(config)
    app = build(database, config, load_policy(), None, Wakeups())
    declared = {
        (re.sub(r"\{[^}]*\}", "{}", path), method.upper())
        for path, methods in document()["paths"].items()
        for method in methods
    }
    general = ("{collection", "{view}", ".json")  # declared one by one; or another's spelling
    routed = {
        (re.sub(r"\{[^}]*\}", "{}", route.path), method)
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith("/v2.0/")
        if len(route.path) > len("/v2.0/") and not any(part in route.path for part in general)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert len(routed) > 20
    assert routed - declared == set()
    database.close()


def test_a_lie_is_found(declared: Declared) -> None:
    """An attribute or a status that the document does not have is noticed."""
    declared.judge("GET", "/v2.0/networks", 200, {"networks": [{"mtu": 1500}]})
    for wrong in ({"mtu": "1500"}, {"colour": "red"}, {"shared": None}):
        with pytest.raises(jsonschema_rs.ValidationError):
            declared.judge("GET", "/v2.0/networks", 200, {"networks": [wrong]})
    with pytest.raises(AssertionError, match="does not declare 201"):
        declared.judge("GET", "/v2.0/networks", 201, {})


@pytest.mark.timeout(limit_s(600))
def test_schemathesis(tmp_path: Path) -> None:
    """A fuzzer that is driven by the document finds no fault and no undeclared answer."""
    cloud = Cloud(tmp_path)
    cloud.write_files()
    url = cloud.listen_on_tcp()
    cloud.start()
    command: list[Any] = [Path(sys.executable).with_name("schemathesis"), "run"]
    options = ["--checks", ",".join(CHECKS), "--phases", "fuzzing", "--max-examples", EXAMPLES]
    options += ["--header", "X-Auth-Token: admin", "--seed", "1", "--no-color"]
    done = subprocess.run(
        [*command, f"{url}/openapi.json", *options], cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=limit_s(500),
    )  # fmt: skip
    cloud.end()
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in cloud.log
