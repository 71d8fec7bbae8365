"""The audit: each change with its author, and nothing that did not happen."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from running import Cloud, UnixConnection

from trunkline.errors import Conflict, Forbidden, Invalid
from trunkline.lab.waiting import until


def events(cloud: Cloud, **filters: Any) -> list[dict[str, Any]]:
    """Return audit events, oldest first."""
    return cloud.admin.list("audit-events", **filters)


def test_a_life_of_an_object(cloud: Cloud) -> None:
    """Creation, changes and deletion: by whom, of what, from what to what."""
    network = cloud.alice.create("networks", {"name": "old"})
    cloud.admin.update("networks", network["id"], {"name": "new", "mtu": 1400})
    cloud.alice.request("PUT", f"/v2.0/networks/{network['id']}/tags", {"tags": ["x"]})
    cloud.alice.delete("networks", network["id"])

    made, changed, tagged, deleted = events(cloud, resource_id=network["id"])

    assert made["action"] == "create"
    assert made["changes"]["name"] == {"after": "old"}
    assert made["changes"]["provider:segmentation_id"]["after"] >= 100
    assert (made["user_name"], made["project_id"], made["resource_project_id"]) == (
        "alice",
        "p1",
        "p1",
    )
    assert (changed["action"], changed["user_name"], changed["project_id"]) == (
        "update",
        "admin",
        "padmin",
    )
    assert changed["changes"] == {
        "mtu": {"before": 1500, "after": 1400},
        "name": {"before": "old", "after": "new"},
    }
    assert tagged["changes"] == {"tags": {"before": [], "after": ["x"]}}
    assert (deleted["action"], deleted["changes"]["name"]) == ("delete", {"before": "new"})
    assert {event["resource_type"] for event in (made, changed, tagged, deleted)} == {"network"}
    assert made["created_at"] == network["created_at"]


def test_every_object_of_a_bulk_request(cloud: Cloud) -> None:
    """Each is told of, in order, under the one request."""
    wish = {"networks": [{"name": f"bulk{n}"} for n in range(5)]}
    made = cloud.alice.request("POST", "/v2.0/networks", wish)["networks"]

    found = events(cloud, resource_id=[network["id"] for network in made])

    assert [event["changes"]["name"]["after"] for event in found] == [f"bulk{n}" for n in range(5)]
    assert len({event["request_id"] for event in found}) == 1


def test_what_does_not_happen_is_not_told(cloud: Cloud) -> None:
    """A refused request leaves no event, a change of nothing neither."""
    network = cloud.network()
    cloud.alice.create("ports", {"network_id": network["id"]})
    before = events(cloud)

    with pytest.raises(Conflict):
        cloud.alice.delete("networks", network["id"])
    with pytest.raises(Invalid):
        cloud.alice.request("POST", "/v2.0/networks", {"networks": [{}, {"mtu": 1}]})
    cloud.alice.update("networks", network["id"], {"name": network["name"]})
    assert events(cloud) == before


def test_the_request_is_found_by_its_id(cloud: Cloud) -> None:
    """What the client was given as the request's id is in the audit and in the log."""
    connection = UnixConnection(f"{cloud.directory}/api.sock")
    connection.request("POST", "/v2.0/networks", b'{"network": {}}', {"X-Auth-Token": "alice"})
    response = connection.getresponse()
    response.read()
    connection.close()
    request_id = response.headers["X-Openstack-Request-Id"]

    (found,) = events(cloud, request_id=request_id)

    assert found["action"] == "create"
    until("the line is written", lambda: f"user=alice {request_id}" in cloud.log)


def test_quotas_are_told_of(cloud: Cloud) -> None:
    """Under the project's id."""
    cloud.admin.request("PUT", "/v2.0/quotas/p2", {"quota": {"network": 7}})
    cloud.admin.request("DELETE", "/v2.0/quotas/p2")

    found = events(cloud, resource_type="quota", resource_id="p2")

    assert [event["changes"] for event in found] == [
        {"network": {"before": -1, "after": 7}},
        {"network": {"before": 7, "after": -1}},
    ]


def test_reading_the_audit(cloud: Cloud) -> None:
    """Filters, order and pages as in every list; for administrators only; nobody writes it."""
    made = [cloud.bob.create("security-groups", {"name": f"g{n}"}) for n in range(3)]
    query = "resource_type=security_group&user_name=bob&action=create"

    newest = cloud.admin.request(
        "GET", f"/v2.0/audit-events?{query}&limit=2&sort_key=id&sort_dir=desc"
    )

    ids = [event["resource_id"] for event in newest["audit_events"]]
    assert ids == [made[2]["id"], made[1]["id"]]
    assert [link["rel"] for link in newest["audit_events_links"]] == ["next", "previous"]
    assert events(cloud, changed_since="2999-01-01T00:00:00Z") == []
    assert len(events(cloud, resource_id=made[0]["id"], changed_since="2026-01-01T00:00:00Z")) == 1
    with pytest.raises(Forbidden):
        cloud.alice.list("audit-events")
    event = events(cloud, resource_id=made[0]["id"])[0]
    assert cloud.admin.show("audit-events", event["id"]) == event
    assert cloud.raw("DELETE", f"/v2.0/audit-events/{event['id']}", None)[0] == 404


def test_old_events_go(own_cloud: Cloud) -> None:
    """What is older than the configuration says is deleted, what is younger stays."""
    network = own_cloud.alice.create("networks", {})
    own_cloud.alice.update("networks", network["id"], {"name": "x"})
    first, second = events(own_cloud, resource_id=network["id"])
    own_cloud.end()
    config = own_cloud.directory / "server.toml"
    config.write_text(f"audit_retention_days = 30\n{config.read_text()}")
    day_ms = 24 * 3600 * 1000
    aged = f"{int(first['id'].replace('-', '')[:12], 16) - 31 * day_ms:012x}"
    younger = f"{int(second['id'].replace('-', '')[:12], 16) - 29 * day_ms:012x}"
    with sqlite3.connect(own_cloud.directory / "trunkline.db") as database:
        for event, stamp in ((first, aged), (second, younger)):
            database.execute(
                "UPDATE audit_events SET id = ? WHERE id = ?",
                (f"{stamp[:8]}-{stamp[8:]}{event['id'][13:]}", event["id"]),
            )
    database.close()
    own_cloud.start()

    until("the old event is gone", lambda: len(events(own_cloud, resource_id=network["id"])) == 1)
    assert events(own_cloud, resource_id=network["id"])[0]["action"] == "update"
