"""QoS policies: what is accepted, who may, and which hosts keep them."""

from __future__ import annotations

from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid, NotFound
from trunkline.model import Bandwidth, Direction

POLICIES = "/v2.0/qos/policies"


def policy(cloud: Cloud, **attributes: Any) -> str:
    """Make a policy as the administrator and return its id."""
    body = {"policy": {"name": "slow", "shared": True, **attributes}}
    return str(cloud.admin.request("POST", POLICIES, body)["policy"]["id"])


def limit(cloud: Cloud, policy_id: str, direction: str, **rates: int) -> dict[str, Any]:
    """Add a limit to a policy."""
    body = {"bandwidth_limit_rule": {"direction": direction, **rates}}
    path = f"{POLICIES}/{policy_id}/bandwidth_limit_rules"
    found: dict[str, Any] = cloud.admin.request("POST", path, body)["bandwidth_limit_rule"]
    return found


def kept(cloud: Cloud, host: str) -> list[tuple[Bandwidth, ...]]:
    """Return the limits of a host's ports, then of its floating IPs."""
    with cloud.agent(host) as agent:
        snapshot = agent.snapshot(None, 0)
    assert snapshot is not None
    return [view.bandwidth for view in (*snapshot.ports, *snapshot.floating_ips)]


@pytest.fixture
def slow(cloud: Cloud) -> str:
    """Return a policy that everybody sees, with a limit each way."""
    policy_id = policy(cloud)
    limit(cloud, policy_id, "egress", max_kbps=8000)
    limit(cloud, policy_id, "ingress", max_kbps=4000, max_burst_kbps=100)
    return policy_id


def test_a_policy_is_shown_with_its_rules(cloud: Cloud, slow: str) -> None:
    """Rules are part of the policy, and resources below it."""
    found = cloud.alice.request("GET", f"{POLICIES}/{slow}")["policy"]

    assert [(r["type"], r["direction"], r["max_kbps"]) for r in found["rules"]] == [
        ("bandwidth_limit", "egress", 8000),
        ("bandwidth_limit", "ingress", 4000),
    ]
    rules = f"{POLICIES}/{slow}/bandwidth_limit_rules"
    listed = cloud.alice.request("GET", rules)["bandwidth_limit_rules"]
    assert [r["max_burst_kbps"] for r in listed] == [0, 100]
    one = cloud.alice.request("GET", f"{rules}/{listed[0]['id']}")["bandwidth_limit_rule"]
    assert one == listed[0]
    assert slow in {p["id"] for p in cloud.alice.request("GET", POLICIES)["policies"]}
    types = cloud.alice.request("GET", "/v2.0/qos/rule-types")["rule_types"]
    details = cloud.alice.request("GET", f"/v2.0/qos/rule-types/{types[0]['type']}")["rule_type"]
    (driver,) = details["drivers"]
    told = {one["parameter_name"] for one in driver["supported_parameters"]}
    assert told == {"max_kbps", "max_burst_kbps", "direction"}
    with pytest.raises(NotFound, match="dscp"):
        cloud.alice.request("GET", "/v2.0/qos/rule-types/dscp_marking")
    assert types == [{"type": "bandwidth_limit"}]


def test_a_port_keeps_its_own_policy_or_its_networks(cloud: Cloud, slow: str) -> None:
    """Each change of who has a policy, and of its rules, reaches the host."""
    egress = Bandwidth(Direction.EGRESS, 8000)
    ingress = Bandwidth(Direction.INGRESS, 4000, 100)
    network = cloud.network(qos_policy_id=slow)
    port = cloud.instance(network, "h-qos")
    assert kept(cloud, "h-qos") == [(egress, ingress)]

    other = policy(cloud)
    rule = limit(cloud, other, "egress", max_kbps=1)
    cloud.alice.update("ports", port["id"], {"qos_policy_id": other})
    assert kept(cloud, "h-qos") == [(Bandwidth(Direction.EGRESS, 1),)]

    path = f"{POLICIES}/{other}/bandwidth_limit_rules/{rule['id']}"
    with cloud.agent("h-qos") as agent:
        before = agent.snapshot(None, 0)
        assert before is not None
        cloud.admin.request("PUT", path, {"bandwidth_limit_rule": {"max_kbps": 2}})
        after = agent.snapshot(before.revision, 5)
    assert after is not None
    assert after.ports[0].bandwidth == (Bandwidth(Direction.EGRESS, 2),)
    cloud.admin.request("DELETE", path)
    assert kept(cloud, "h-qos") == [()]


def test_a_floating_ip_has_a_policy(cloud: Cloud, slow: str) -> None:
    """It goes where the floating IP goes."""
    port = cloud.instance(cloud.network(), "h-qos-float")
    wish = {"floating_network_id": cloud.external()["id"], "port_id": port["id"]}
    floating = cloud.alice.create("floatingips", {**wish, "qos_policy_id": slow})

    assert floating["qos_policy_id"] == slow
    assert [len(limits) for limits in kept(cloud, "h-qos-float")] == [0, 2]
    cloud.alice.update("floatingips", floating["id"], {"qos_policy_id": None})
    assert [len(limits) for limits in kept(cloud, "h-qos-float")] == [0, 0]


def test_a_project_has_one_default_for_its_new_networks(cloud: Cloud) -> None:
    """A network that names no policy gets the project's default; one that names none has none."""
    default = policy(cloud, project_id="p3", is_default=True, shared=False)

    with pytest.raises(Conflict, match="default QoS policy already"):
        policy(cloud, project_id="p3", is_default=True)
    carol = cloud.user("carol")
    assert carol.create("networks", {})["qos_policy_id"] == default
    assert carol.create("networks", {"qos_policy_id": None})["qos_policy_id"] is None
    assert cloud.alice.create("networks", {})["qos_policy_id"] is None


def test_an_administrators_limit_is_the_administrators(cloud: Cloud) -> None:
    """A tenant neither sees a policy that is not shared, nor gets rid of it."""
    hidden = policy(cloud, shared=False)
    port = cloud.instance(cloud.network(), "h-hidden")
    cloud.admin.update("ports", port["id"], {"qos_policy_id": hidden})

    with pytest.raises(Conflict, match="who alone takes it away"):
        cloud.alice.update("ports", port["id"], {"qos_policy_id": None})
    cloud.alice.update("ports", port["id"], {"name": "kept"})
    assert cloud.admin.show("ports", port["id"])["qos_policy_id"] == hidden
    mine = cloud.alice.create("ports", {"network_id": port["network_id"]})
    with pytest.raises(NotFound, match="QoS policy"):
        cloud.alice.update("ports", mine["id"], {"qos_policy_id": hidden})
    with pytest.raises(Forbidden):
        cloud.alice.request("POST", POLICIES, {"policy": {"name": "x"}})
    with pytest.raises(Conflict, match="is used by port"):
        cloud.admin.request("DELETE", f"{POLICIES}/{hidden}")
    cloud.admin.update("ports", port["id"], {"qos_policy_id": None})
    cloud.admin.request("DELETE", f"{POLICIES}/{hidden}")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"max_kbps": 0}, "max_kbps"),
        ({"max_kbps": 2**31}, "max_kbps"),
        ({}, "max_kbps"),
        ({"max_kbps": 1, "max_burst_kbps": -1}, "max_burst_kbps"),
        ({"max_kbps": 1, "direction": "any"}, "direction"),
        ({"max_kbps": 1, "min_kbps": 1}, "min_kbps"),
    ],
)
def test_a_malformed_limit_is_refused(cloud: Cloud, rule: dict[str, Any], words: str) -> None:
    """The field is named, and the policy stays as it is."""
    policy_id = policy(cloud)
    path = f"{POLICIES}/{policy_id}/bandwidth_limit_rules"

    with pytest.raises(Invalid, match=words):
        cloud.admin.request("POST", path, {"bandwidth_limit_rule": rule})
    assert cloud.admin.request("GET", path)["bandwidth_limit_rules"] == []


def test_what_no_host_can_keep_is_refused(cloud: Cloud, slow: str) -> None:
    """A guaranteed minimum and a second limit one way are refused; unknown rules are not there."""
    with pytest.raises(Conflict, match="for egress already"):
        limit(cloud, slow, "egress", max_kbps=1)
    for kind in ("minimum_bandwidth_rules", "bandwidth_limit_rules/nothing"):
        with pytest.raises(NotFound):
            cloud.admin.request("GET", f"{POLICIES}/{slow}/{kind}")
