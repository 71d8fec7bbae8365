"""Probes as a resource, and the agents' meetings; the agents here are threads of the test."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from running import Cloud

from trunkline.client import AgentClient
from trunkline.errors import Conflict, Forbidden, Invalid, NotFound
from trunkline.hoststate import HostConfig, HostFacts, VlanMaking
from trunkline.lab.waiting import until
from trunkline.probe import Heard, ProbeFrame, heard_out, order_in

_numbers = itertools.count(1)
FACTS = HostFacts(VlanMaking.KERNEL, frozenset({"eth0"}))
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def pair(cloud: Cloud) -> tuple[str, str, int]:
    """Return two hosts with an instance of one network each, and the network's VLAN."""
    number = next(_numbers)
    left, right = f"probe-left{number}", f"probe-right{number}"
    network = cloud.network()
    for host in (left, right):
        cloud.instance(network, host)
        with cloud.agent(host) as agent:
            config = HostConfig(host, {"physnet1": "eth0"}, None, None, (), "/x")
            agent.report(1, {}, [], FACTS, config=config, full=True)
    vlan_id = cloud.admin.show("networks", network["id"])["provider:segmentation_id"]
    return left, right, vlan_id


def heard_all(order: dict[str, Any]) -> list[Any]:
    """Return the hearing of an agent on a perfect wire between two hosts."""
    mine = order_in(order)
    return [
        heard_out(Heard("eth0", lane.vlan_id, ProbeFrame(1 - mine.sender, number, size), 2))
        for number, lane in enumerate(mine.lanes)
        for size in lane.sizes
    ]


def take_part(cloud: Cloud, host: str, hear: Callable[[dict[str, Any]], list[Any]]) -> None:
    """Be an agent that takes part in the probe that it is asked for."""
    with cloud.agent(host) as agent:
        agent.snapshot(None, 0)
        ((probe_id, order),) = agent.orders.items()
        agent.meet(probe_id, "ready")
        agent.meet(probe_id, "sent")
        agent.deliver(probe_id, {"heard": hear(order), "problems": ["none to speak of"]})


def played(
    cloud: Cloud, pair: tuple[str, str, int], *hearing: Callable[[dict[str, Any]], list[Any]]
) -> dict[str, Any]:
    """Ask for a probe between two hosts, play their agents, and return what became of it."""
    left, right, vlan_id = pair
    made = cloud.admin.create("probes", {"hosts": [left, right], "vlan_ids": [vlan_id]})
    with ThreadPoolExecutor(2) as pool:
        parts = [
            pool.submit(take_part, cloud, h, f) for h, f in zip(pair[:2], hearing, strict=True)
        ]
        for part in parts:
            part.result()
    return cloud.admin.show("probes", made["id"])


def test_two_hosts_hear_each_other(cloud: Cloud, pair: tuple[str, str, int]) -> None:
    """Both ways are carried, in full size, and the agents' own problems are passed on."""
    left, right, vlan_id = pair

    found = played(cloud, pair, heard_all, heard_all)

    assert found["status"] == "DONE"
    assert [(p["source"], p["destination"], p["carriage"]) for p in found["paths"]] == [
        (left, right, "carried"),
        (right, left, "carried"),
    ]
    assert {(p["vlan_id"], p["largest"], p["needed"]) for p in found["paths"]} == {
        (vlan_id, 1500, True)
    }
    assert found["faults"] == []
    assert found["problems"] == [f"{left}: none to speak of", f"{right}: none to speak of"]


def test_a_finding_shows_in_traces_agents_and_on_the_host(
    cloud: Cloud, pair: tuple[str, str, int]
) -> None:
    """What a probe found is part of a trace's answer, of the agents' list and of the host's."""
    left, right, vlan_id = pair
    found = played(cloud, pair, heard_all, lambda _: [])
    (fault,) = found["faults"]
    assert fault.startswith(f"VLAN {vlan_id} on physnet1, {left} to {right}: not carried")

    (agent,) = cloud.admin.list("agents", host=left)
    assert agent["configurations"]["wire"]["faults"] == [fault]
    with cloud.agent(right) as host:
        assert host.wire() == (found["created_at"], [fault])

    played(cloud, pair, lambda _: [], lambda _: [])
    ports = cloud.admin.list("ports", **{"binding:host_id": [left, right], "status": "DOWN"})
    ids = {p["binding:host_id"]: p["id"] for p in ports if p["device_owner"] == "compute:nova"}
    for host, port_id in ids.items():
        with cloud.agent(host) as agent_of:
            config = HostConfig(host, {"physnet1": "eth0"}, None, None, (), "/x")
            agent_of.report(1, {port_id: "ACTIVE"}, [], FACTS, config=config, full=True)
    trace = cloud.admin.create("traces", {"source": ids[left], "destination": ids[right]})
    assert trace["disposition"] == "VLAN not carried"
    assert any("the probe of" in text for text in trace["answer"]["assumptions"])


def test_one_at_a_time(cloud: Cloud, pair: tuple[str, str, int]) -> None:
    """While a probe is under way there is no second one; deleting it ends it for its agents."""
    left, right, _ = pair
    made = cloud.admin.create("probes", {"hosts": [left, right]})
    try:
        assert made["status"] == "RUNNING"
        with pytest.raises(Conflict, match="under way"):
            cloud.admin.create("probes", {"hosts": [left, right]})
    finally:
        cloud.admin.delete("probes", made["id"])
    with cloud.agent(left) as agent:
        agent.snapshot(None, 0)
        assert agent.orders == {}
        with pytest.raises(NotFound):
            agent.meet(made["id"], "ready")


def test_a_deleted_probe_ends_a_meeting(cloud: Cloud, pair: tuple[str, str, int]) -> None:
    """An agent that waits for the others is let go when the probe is deleted."""
    left, right, _ = pair
    made = cloud.admin.create("probes", {"hosts": [left, right]})

    def wait() -> None:
        with cloud.agent(left) as agent:
            agent.meet(made["id"], "ready")

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        try:
            with cloud.agent(left) as again:  # taken up: no longer among the orders
                until("it waits", lambda: again.snapshot(None, 0) and not again.orders)
        finally:
            cloud.admin.delete("probes", made["id"])
        with pytest.raises(NotFound):
            waiting.result()


def test_a_silent_agent_is_named(cloud: Cloud, pair: tuple[str, str, int]) -> None:
    """An agent that does not take part holds nobody up for long, and is not taken for fine."""
    left, right, vlan_id = pair
    made = cloud.admin.create("probes", {"hosts": [left, right], "vlan_ids": [vlan_id]})
    take_part(cloud, left, heard_all)

    def over() -> bool:
        return cloud.admin.show("probes", made["id"])["status"] == "DONE"

    until("the probe is over", over, 30)
    found = cloud.admin.show("probes", made["id"])

    assert found["silent_hosts"] == [right]
    assert {path["carriage"] for path in found["paths"]} == {"unknown"}
    with cloud.agent(right) as late, pytest.raises(Conflict, match="too late"):
        late.meet(made["id"], "ready")
    assert cloud.admin.show("probes", made["id"])["status"] == "DONE"


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        ({"hosts": ["nowhere"]}, Invalid, "nowhere"),
        ({"hosts": "left"}, Invalid, "hosts"),
        ({"hosts": []}, Conflict, "two hosts"),
        ({"vlan_ids": [3998]}, Invalid, "VLAN 3998"),
        ({"vlan_ids": [4095]}, Invalid, "vlan_ids"),
        ({"speed": 9}, Invalid, "speed"),
    ],
)
def test_bad_wishes(
    cloud: Cloud,
    pair: tuple[str, str, int],
    wish: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    """What cannot be probed is refused by name, and no probe is there afterwards."""
    del pair
    before = cloud.admin.list("probes")

    with pytest.raises(error, match=words):
        cloud.admin.create("probes", wish)

    assert cloud.admin.list("probes") == before


def test_only_administrators(cloud: Cloud) -> None:
    """Members neither ask for probes nor read what was found; agents' doors are shut to them."""
    with pytest.raises(Forbidden):
        cloud.alice.create("probes", {})
    with pytest.raises(Forbidden):
        cloud.alice.list("probes")
    member = AgentClient(cloud.url, "alice", "left")
    with pytest.raises(Forbidden):
        member.meet(NOBODY, "ready")
    member.close()


@pytest.mark.parametrize(
    "body",
    [
        {"stage": "asked"},
        {"stage": 7},
        {},
        [],
        {"stage": "done"},
        {"stage": "done", "report": {"heard": [[1]]}},
        {"stage": "done", "report": {"heard": [["eth0", "x", 0, 0, 0, 1]]}},
        {"stage": "done", "report": {"heard": 7}},
        {"stage": "ready", "more": 1},
    ],
)
def test_bad_reports(cloud: Cloud, body: Any) -> None:
    """A report that makes no sense gets 400, whatever it is about."""
    status, _ = cloud.raw(
        "POST",
        f"/agent/v1/hosts/left/probes/{NOBODY}",
        json.dumps(body).encode(),
        **{"X-Auth-Token": "agent"},
    )
    assert status == 400


def test_a_live_trace_needs_an_administrator_and_a_plugged_port(
    cloud: Cloud, pair: tuple[str, str, int]
) -> None:
    """Members may not have hosts send; a port that is DOWN has nothing sent for it."""
    left, right, _ = pair
    ports = cloud.admin.list("ports", device_owner="compute:nova")
    ids = {p["binding:host_id"]: p["id"] for p in ports}
    wish = {"source": ids[left], "destination": ids[right], "live": True}
    before = cloud.admin.list("traces")

    with pytest.raises(Forbidden):
        cloud.alice.create("traces", wish)
    with pytest.raises(Conflict, match="would send nothing"):
        cloud.admin.create("traces", wish)
    with pytest.raises(Invalid, match="port itself"):
        cloud.admin.create("traces", {**wish, "source": "internet"})

    assert cloud.admin.list("traces") == before


@pytest.mark.parametrize(
    "report",
    [
        {"seen": [], "revisions": []},
        {"seen": [["request"]], "revisions": [1, 1]},
        {"seen": [["other", "eth0", "in", None, "10.0.0.1", "10.0.0.2", 64]], "revisions": [1, 1]},
        {"seen": [["reply", "eth0", "in", None, "x", "10.0.0.2", 64]], "revisions": [1, 1]},
        {"seen": [], "revisions": [1, None]},
    ],
)
def test_bad_live_reports(cloud: Cloud, report: dict[str, Any]) -> None:
    """Sightings that are none get 400."""
    status, _ = cloud.raw(
        "POST",
        f"/agent/v1/hosts/left/probes/{NOBODY}",
        json.dumps({"stage": "done", "report": report}).encode(),
        **{"X-Auth-Token": "agent"},
    )
    assert status == 400
