"""``trunkline verify`` against a real server: what it finds, what a plan changes, who may ask."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from running import Cloud, running

from trunkline.cli.main import main
from trunkline.errors import Conflict, Forbidden, Invalid, NotFound
from trunkline.hoststate import HostConfig, HostFacts, Problem, VlanMaking
from trunkline.report import Drift, Reading


@pytest.fixture(scope="module")
def own(own_server: Cloud) -> dict[str, dict[str, Any]]:
    """Return a cloud of its own: alice's and bob's instance on one host."""
    made = {}
    for user, project in (("alice", "p1"), ("bob", "p2")):
        network = own_server.network(user)
        made[user] = own_server.instance(network, "verify-host", project, name=user)
    return made


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Return a server that no other test fills."""
    with running(tmp_path_factory.mktemp("verify")) as cloud:
        yield cloud


def verify(cloud: Cloud, *arguments: str, token: str = "admin") -> int:
    """Run the command and return its exit code."""
    return main(["verify", "--server", cloud.url, "--token", token, *arguments])


def rule(port: dict[str, Any], protocol: str = "tcp") -> dict[str, Any]:
    """Return a planned request: a rule that lets everybody in."""
    values = {
        "security_group_id": port["security_groups"][0],
        "direction": "ingress",
        "protocol": protocol,
        "port_range_min": 80,
        "port_range_max": 80,
    }
    body = {"security_group_rule": values}
    return {"method": "POST", "path": "/v2.0/security-group-rules", "body": body}


def test_a_sound_cloud_is_well(
    own_server: Cloud, own: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two projects with their default groups: nothing is found, and what is assumed is said."""
    assert own
    assert verify(own_server, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pairs"] == report["rules"] == []
    assert [tally["pairs"] for tally in report["ports"]["ipv4"]] == [2]
    assert report["not_covered"] == [
        "host verify-host: its agent has not reported how it is cabled; a usual host is assumed",
        "host verify-host: whether its kernel is as it must be; its agent is silent",
    ]


@pytest.mark.parametrize("repaired", [True, False])
def test_drift_is_told(
    own_server: Cloud,
    own: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    *,
    repaired: bool,
) -> None:
    """What an agent found changed in its kernel is told; it is a finding while it lasts."""
    assert own
    drift = Drift("2026-01-02T03:04:05Z", 2, ("ip link set br100 up",), repaired)
    config = HostConfig("x", {"physnet1": "eth0"}, None, None, (), "/x")
    facts = HostFacts(VlanMaking.KERNEL, frozenset({"eth0"}))
    with own_server.agent("verify-drift") as agent:
        snapshot = agent.snapshot(None, 0)
        assert snapshot is not None
        reading = Reading("2026-01-02T03:05:00Z", drift)
        for applied, problems in (
            (snapshot.revision + 1, [Problem("bridge br1", "is foreign")]),
            (snapshot.revision, []),
        ):
            told = {"config": config, "full": True, "reading": reading}
            agent.report(applied, {}, problems, facts, **told)
            assert verify(own_server, "--json") == (1 if problems or not repaired else 0)
            found = [
                (one["lasts"], one["text"].split(":")[0])
                for one in json.loads(capsys.readouterr().out)["kernels"]
            ]
            late = f"it is at revision {applied} of what is wanted, not yet {snapshot.revision}"
            behind = [(True, "bridge br1"), (True, late)] if problems else []
            assert found == [*behind, (not repaired, "2026-01-02T03")]
    (host,) = own_server.admin.list("agents", host="verify-drift")
    assert host["configurations"]["facts"]["reading"]["drift"]["operations"] == 2
    assert verify(own_server) == (0 if repaired else 1)
    kind = "repaired" if repaired else "drift"
    assert f"{kind}: host verify-drift: 2026-01-02T03:04:05Z: " in (out := capsys.readouterr().out)
    assert "ip link set br100 up; and 1 more" in out


def test_a_plan_is_judged_and_not_carried_out(
    own_server: Cloud,
    own: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A planned rule opens alice's port 80 to bob, says so, and is not there afterwards."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps([rule(own["alice"])]))
    before = own_server.user("admin").list("security-group-rules")
    assert verify(own_server, "--json", "--diff", str(plan)) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(d["change"], d["service"]) for d in found] == [("opened", "tcp 80")]
    assert own["bob"]["id"] in found[0]["from"]
    assert own["alice"]["id"] in found[0]["to"]
    assert own_server.user("admin").list("security-group-rules") == before


def test_a_plan_that_changes_nothing(
    own_server: Cloud,
    own: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A new name for a port opens and closes nothing: exit code 0."""
    path = f"/v2.0/ports/{own['bob']['id']}"
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps([{"method": "PUT", "path": path, "body": {"port": {"name": "x"}}}]))
    assert verify(own_server, "--diff", str(plan)) == 0
    assert capsys.readouterr().out == "the plan opens and closes nothing\n"


def test_reach_across_projects_is_found(
    own_server: Cloud, own: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule for anybody lets the other project in: exit code 1, and a witness with its rules."""
    wanted = rule(own["alice"], "udp")["body"]["security_group_rule"]
    made = own_server.user("alice").create("security-group-rules", wanted)
    try:
        assert verify(own_server) == 1
        assert f"in by rule {made['id']}" in capsys.readouterr().out
        assert verify(own_server, "--json") == 1
        (finding,) = json.loads(capsys.readouterr().out)["pairs"]
        assert (finding["kind"], finding["from"], finding["to"]) == ("across projects", "p2", "p1")
        assert finding["witness"]["in_by"] == made["id"]
    finally:
        own_server.user("alice").delete("security-group-rules", made["id"])


@pytest.mark.parametrize(
    "plan",
    [
        "",
        "{}",
        "[]",
        "[7]",
        "[{method: GET, path: /v2.0/ports}]",
        "[{method: POST, path: /v2.0/unicorns, body: {}}]",
        "[{method: POST, path: /v2.0/ports/x, body: {}}]",
        "[{method: DELETE, path: /v2.0/ports}]",
        "[{method: POST, path: /v2.0/ports, body: {port: {vlan: 1}}}]",
        "[{method: DELETE, path: /v2.0/ports/nobody}]",
        "[{method: DELETE, path: /v2.0/ports/x, more: 1}]",
        ": : :",
    ],
)
def test_a_plan_that_is_none(
    own_server: Cloud, tmp_path: Path, plan: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan that cannot be tried is refused by name, with exit code 2."""
    path = tmp_path / "plan.yaml"
    path.write_text(plan)
    assert verify(own_server, "--diff", str(path)) == 2
    assert capsys.readouterr().err.startswith("trunkline: ")


def test_only_administrators_see_the_whole_cloud(own_server: Cloud) -> None:
    """A member is refused, and so is a plan among whose requests one is refused."""
    with pytest.raises(Forbidden):
        own_server.user("alice").request("POST", "/v2.0/cloud", {})
    assert verify(own_server, token="alice") == 2
    assert verify(own_server, "--diff", "/nonexistent") == 2


def test_each_change_is_told_while_it_is_watched(own_server: Cloud, own: dict[str, Any]) -> None:
    """A rule that lets bob in to alice is told as the pairs it opens, its removal as the same."""
    wanted = rule(own["alice"], "dccp")["body"]["security_group_rule"]
    with watching(own_server) as lines:
        made = own_server.user("alice").create("security-group-rules", wanted)
        opened = json.loads(next(lines))
        own_server.user("alice").delete("security-group-rules", made["id"])
        closed = json.loads(next(lines))
    (shift,), (back,) = opened["shifts"], closed["shifts"]
    assert opened["hosts"] == closed["hosts"] == ["verify-host"]
    assert (shift["service"], shift["ip_version"]) == ("dccp 80", 4)
    assert shift["after"]["answered"] == shift["before"]["answered"] + 1
    assert (back["before"], back["after"]) == (shift["after"], shift["before"])


@contextmanager
def watching(cloud: Cloud) -> Iterator[Iterator[str]]:
    """Lend the lines that a watch prints, once it has counted the cloud."""
    command = [sys.executable, "-m", "trunkline.cli.main", "verify", "--watch", "0.2", "--json"]
    process = subprocess.Popen(
        [*command, "--server", cloud.url, "--token", "admin"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stderr.readline().startswith("watching ")
        yield process.stdout
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
        process.stdout.close()
        process.stderr.close()
    assert code == 130


@pytest.mark.parametrize("arguments", [["--watch", "0"], ["--watch", "x"]])
def test_a_watch_that_is_none(own_server: Cloud, arguments: list[str]) -> None:
    """A wait that is none is refused with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        verify(own_server, *arguments)
    assert ended.value.code == 2


def test_a_plan_cannot_be_watched(own_server: Cloud) -> None:
    """A plan and a watch at once are refused."""
    assert verify(own_server, "--watch", "--diff", "plan.yaml") == 2


def test_only_hosts_that_changed_are_told(own_server: Cloud, own: dict[str, Any]) -> None:
    """With the marks of an answer, the next one tells of the hosts that are not as they were."""
    admin = own_server.user("admin")
    marks = admin.request("POST", "/v2.0/cloud", {})["marks"]
    assert admin.request("POST", "/v2.0/cloud", {"known": marks})["cloud"]["hosts"] == []
    port = f"/v2.0/ports/{own['bob']['id']}"
    admin.request("PUT", port, {"port": {"admin_state_up": False}})
    told = admin.request("POST", "/v2.0/cloud", {"known": marks})
    admin.request("PUT", port, {"port": {"admin_state_up": True}})
    assert [host["host"] for host in told["cloud"]["hosts"]] == ["verify-host"]
    assert told["marks"].keys() == marks.keys()


@pytest.mark.parametrize(
    "body",
    [
        {"known": 1},
        {"known": {"x": 1}},
        {"planned": 1},
        {"plan": []},
        [],
        7,
        {"planned": [{}] * 1001},
    ],
)
def test_bodies_that_are_none(own_server: Cloud, body: Any) -> None:
    """What is not of the form asked for is refused."""
    with pytest.raises(Invalid):
        own_server.user("admin").request("POST", "/v2.0/cloud", body)


def test_plans_meet_what_requests_meet(own_server: Cloud, own: dict[str, Any]) -> None:
    """A plan that the API would refuse is refused with the same error, and changes nothing."""
    admin = own_server.user("admin")
    gone = {"method": "DELETE", "path": "/v2.0/ports/00000000-0000-0000-0000-000000000000"}
    used = {"method": "DELETE", "path": f"/v2.0/networks/{own['bob']['network_id']}"}
    for planned, error in ((gone, NotFound), (used, Conflict)):
        with pytest.raises(error):
            admin.request("POST", "/v2.0/cloud", {"planned": [planned]})
    assert admin.show("ports", own["bob"]["id"])
