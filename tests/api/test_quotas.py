"""Quotas: what a project may have, counted where it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from running import Cloud
from test_races import at_once

from trunkline.client import ApiClient
from trunkline.core.allocate import QUOTAS
from trunkline.errors import Conflict, Forbidden, Invalid, NotFound


def set_quota(cloud: Cloud, project: str, **limits: Any) -> dict[str, int]:
    """Set a project's quotas as the administrator; return all of them."""
    answer = cloud.admin.request("PUT", f"/v2.0/quotas/{project}", {"quota": limits})
    quota: dict[str, int] = answer["quota"]
    return quota


def details(cloud: Cloud, project: str, who: str = "admin") -> dict[str, dict[str, int]]:
    """Return a project's usage."""
    answer = cloud.user(who).request("GET", f"/v2.0/quotas/{project}/details.json")
    quota: dict[str, dict[str, int]] = answer["quota"]
    return quota


def test_a_projects_quotas(cloud: Cloud) -> None:
    """They are set, shown beside what is used, and given up for the defaults again."""
    network = cloud.network("carol")
    cloud.user("carol").create("ports", {"network_id": network["id"]})

    assert set_quota(cloud, "p3", network=3, port="4", check_limit=True)["network"] == 3
    shown = cloud.user("carol").request("GET", "/v2.0/quotas/p3")["quota"]
    assert (shown["port"], shown["subnet"], set(shown)) == (4, -1, set(QUOTAS))
    found = details(cloud, "p3", "carol")
    assert found["network"] == {"limit": 3, "used": 1, "reserved": 0}
    assert (found["subnet"]["used"], found["security_group_rule"]["used"]) == (1, 4)
    all_projects = cloud.admin.request("GET", "/v2.0/quotas")["quotas"]
    assert [(q["tenant_id"], q["network"]) for q in all_projects] == [("p3", 3)]
    default = cloud.user("carol").request("GET", "/v2.0/quotas/p3/default")["quota"]
    assert default == dict.fromkeys(QUOTAS, -1)
    cloud.admin.request("DELETE", "/v2.0/quotas/p3")
    assert cloud.admin.request("GET", "/v2.0/quotas/p3")["quota"] == default
    assert cloud.admin.request("GET", "/v2.0/quotas")["quotas"] == []


def a_rule(cloud: Cloud) -> dict[str, Any]:
    """Return a rule to be made in bob's default group."""
    (group,) = cloud.bob.list("security-groups", name="default")
    used = details(cloud, "p2")["security_group_rule"]["used"]
    wish = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"}
    return {**wish, "port_range_min": used + 1, "port_range_max": used + 1}


def a_policy(cloud: Cloud) -> dict[str, Any]:
    """Return an RBAC policy to be made by bob."""
    network = cloud.bob.create("networks", {})
    wish = {"object_type": "network", "object_id": network["id"], "target_tenant": "p1"}
    return {**wish, "action": "access_as_shared"}


WISHES: dict[str, Callable[[Cloud], dict[str, Any]]] = {
    "networks": lambda _: {},
    "subnets": lambda cloud: {
        "network_id": cloud.bob.create("networks", {})["id"],
        "ip_version": 4,
        "cidr": str(next(cloud.prefixes)),
    },
    "ports": lambda cloud: {"network_id": cloud.bob.create("networks", {})["id"]},
    "security-groups": lambda _: {"name": "g"},
    "security-group-rules": a_rule,
    "floatingips": lambda cloud: {"floating_network_id": cloud.external()["id"]},
    "subnetpools": lambda _: {"name": "s", "prefixes": ["10.0.0.0/8"]},
    "rbac-policies": a_policy,
}


@pytest.mark.parametrize("collection", WISHES)
def test_every_resource_is_counted(cloud: Cloud, collection: str) -> None:
    """One more than the quota is refused by name, unlimited is not."""
    first, second = WISHES[collection](cloud), WISHES[collection](cloud)
    made = cloud.bob.create(collection, first)
    name = collection.replace("-", "_").removesuffix("s").replace("policie", "policy")
    used = details(cloud, "p2")[name]["used"]
    set_quota(cloud, "p2", **{name: used})

    if collection == "security-group-rules":
        second = a_rule(cloud)
    with pytest.raises(Conflict, match=name) as refusal:
        cloud.bob.create(collection, second)
    assert refusal.value.kind == "OverQuota"
    assert details(cloud, "p2")[name]["used"] == used
    set_quota(cloud, "p2", **{name: used + 1})
    cloud.bob.create(collection, second)
    cloud.bob.delete(collection, made["id"])
    set_quota(cloud, "p2", **{name: -1})


def test_bulk_creation_counts_all(cloud: Cloud) -> None:
    """Three at once do not fit where two do, and none is made."""
    used = details(cloud, "p1")["network"]["used"]
    set_quota(cloud, "p1", network=used + 2)
    three = {"networks": [{}, {}, {}]}

    with pytest.raises(Conflict, match="network"):
        cloud.alice.request("POST", "/v2.0/networks", three)
    assert details(cloud, "p1")["network"]["used"] == used
    set_quota(cloud, "p1", network=used + 3)
    cloud.alice.request("POST", "/v2.0/networks", three)
    with pytest.raises(Conflict, match="p1"):
        cloud.admin.create("networks", {"project_id": "p1"})
    cloud.admin.create("networks", {})
    set_quota(cloud, "p1", network=-1)


def test_a_groups_rules_are_counted_as_it_is_made(cloud: Cloud) -> None:
    """It comes with two, which need room as those that are asked for."""
    used = details(cloud, "p2")["security_group_rule"]["used"]
    set_quota(cloud, "p2", security_group_rule=used + 1)

    with pytest.raises(Conflict, match="security_group_rule") as refusal:
        cloud.bob.create("security-groups", {"name": "two"})
    assert refusal.value.kind == "OverQuota"
    set_quota(cloud, "p2", security_group_rule=used + 2)
    cloud.bob.create("security-groups", {"name": "two"})
    set_quota(cloud, "p2", security_group_rule=-1)


def test_what_is_not_there_cannot_be_given_up(cloud: Cloud) -> None:
    """A project with the defaults has no quotas of its own."""
    with pytest.raises(NotFound, match="p8") as refusal:
        cloud.admin.request("DELETE", "/v2.0/quotas/p8")
    assert refusal.value.kind == "TenantQuotaNotFound"


def test_a_quota_below_use_is_refused_by_name(cloud: Cloud) -> None:
    """Unless it is forced; then what is there stays, and nothing comes to it."""
    network = cloud.alice.create("networks", {})
    used = details(cloud, "p1")["network"]["used"]

    with pytest.raises(Invalid, match=f"network .*already used {used}"):
        set_quota(cloud, "p1", network=used - 1, port=5)
    assert details(cloud, "p1")["port"]["limit"] == -1
    set_quota(cloud, "p1", network=0, force=True)
    assert cloud.alice.show("networks", network["id"]) == network
    with pytest.raises(Conflict):
        cloud.alice.create("networks", {})
    set_quota(cloud, "p1", network=-1)


@pytest.mark.parametrize(
    ("quota", "message"),
    [
        ({"network": -2}, "network"),
        ({"network": 2**31}, "network"),
        ({"network": "many"}, "network"),
        ({"network": None}, "network"),
        ({"networks": 5}, "networks"),
        ({"force": "perhaps"}, "force"),
        ([], "quota"),
        (None, "quota"),
    ],
)
def test_a_wrong_quota_is_refused(cloud: Cloud, quota: object, message: str) -> None:
    """By the name of what is wrong."""
    before = cloud.admin.request("GET", "/v2.0/quotas")

    with pytest.raises(Invalid, match=message) as refusal:
        cloud.admin.request("PUT", "/v2.0/quotas/p9", {"quota": quota})
    assert refusal.value.kind in ("HTTPBadRequest", "BadRequest")
    assert cloud.admin.request("GET", "/v2.0/quotas") == before


def test_whose_quotas(cloud: Cloud) -> None:
    """A project reads its own; all else is the administrator's."""
    ask = cloud.alice.request

    assert ask("GET", "/v2.0/quotas/tenant") == {"tenant": {"tenant_id": "p1"}}
    assert ask("GET", "/v2.0/quotas/project.json") == {"project": {"project_id": "p1"}}
    for method, path in (
        ("GET", "/v2.0/quotas"),
        ("GET", "/v2.0/quotas/p2"),
        ("GET", "/v2.0/quotas/p2/details"),
        ("GET", "/v2.0/quotas/p2/default"),
        ("DELETE", "/v2.0/quotas/p1"),
        ("PUT", "/v2.0/quotas/p1"),
    ):
        with pytest.raises(Forbidden) as refusal:
            ask(method, path)
        details_too = path.endswith("details")
        assert refusal.value.kind == ("AdminRequired" if details_too else "PolicyNotAuthorized")
    with pytest.raises(NotFound, match="details"):
        ask("GET", "/v2.0/quotas/p1/colour")


def test_fifty_at_once_for_a_quota_of_ten(cloud: Cloud) -> None:
    """Ten are made, forty are refused."""
    used = details(cloud, "padmin")["network"]["used"]
    set_quota(cloud, "padmin", network=used + 10)

    def create(client: ApiClient, _number: int) -> Any:
        return client.create("networks", {})

    found = at_once(cloud, create)

    assert Counter(one for one in found if isinstance(one, str)) == {"OverQuota": 40}
    assert details(cloud, "padmin")["network"]["used"] == used + 10
