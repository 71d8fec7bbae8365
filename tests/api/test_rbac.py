"""Networks lent to other projects: what they may do with them, and what they may not."""

from __future__ import annotations

from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid, NotFound

SHARED, EXTERNAL = "access_as_shared", "access_as_external"


def lend(
    cloud: Cloud, network: dict[str, Any], target: str, action: str = SHARED, who: str = "alice"
) -> dict[str, Any]:
    """Lend a network to a project."""
    wish = {"object_type": "network", "object_id": network["id"], "action": action}
    return cloud.user(who).create("rbac-policies", {**wish, "target_tenant": target})


def sees(cloud: Cloud, who: str, network: dict[str, Any]) -> bool:
    """Return whether a user finds a network, and its subnet with it."""
    found = [n["id"] for n in cloud.user(who).list("networks", id=network["id"])]
    subnets = cloud.user(who).list("subnets", network_id=network["id"])
    assert bool(found) == bool(subnets)
    return bool(found)


def test_a_network_lent_to_one_project(cloud: Cloud) -> None:
    """That project uses it, others do not see it, and only its owner changes it."""
    network = cloud.network()
    assert not sees(cloud, "bob", network)
    policy = lend(cloud, network, "p2")

    assert policy["tenant_id"] == policy["project_id"] == "p1"
    assert sees(cloud, "bob", network)
    assert not sees(cloud, "carol", network)
    assert cloud.bob.show("networks", network["id"])["shared"] is True
    assert cloud.alice.show("networks", network["id"])["shared"] is False
    assert [n["id"] for n in cloud.bob.list("networks", shared=True)] == [network["id"]]
    assert network["id"] in [n["id"] for n in cloud.alice.list("networks", shared=False)]
    port = cloud.bob.create("ports", {"network_id": network["id"]})
    assert port["project_id"] == "p2"
    with pytest.raises(Forbidden):
        cloud.bob.update("networks", network["id"], {"name": "mine"})
    with pytest.raises(Forbidden):
        cloud.bob.create("subnets", {"network_id": network["id"], "ip_version": 4,
                                     "cidr": str(next(cloud.prefixes))})  # fmt: skip


def test_a_policy_that_is_relied_on_stays(cloud: Cloud) -> None:
    """Neither deleted nor moved to another project while the borrower has ports there."""
    network = cloud.network()
    policy = lend(cloud, network, "p2")
    port = cloud.bob.create("ports", {"network_id": network["id"]})

    with pytest.raises(Conflict, match="p2") as refusal:
        cloud.alice.delete("rbac-policies", policy["id"])
    assert refusal.value.kind == "RbacPolicyInUse"
    with pytest.raises(Conflict, match="p2"):
        cloud.alice.update("rbac-policies", policy["id"], {"target_tenant": "p3"})
    cloud.bob.delete("ports", port["id"])
    moved = cloud.alice.update("rbac-policies", policy["id"], {"target_tenant": "p3"})
    assert moved["target_tenant"] == "p3"
    assert not sees(cloud, "bob", network)
    assert sees(cloud, "carol", network)
    cloud.alice.delete("rbac-policies", policy["id"])
    assert not sees(cloud, "carol", network)


def test_two_policies_allow_what_one_does(cloud: Cloud) -> None:
    """A policy may go when another one still allows what is there."""
    network = cloud.network()
    first = lend(cloud, network, "p2")
    everybody = lend(cloud, network, "*", who="admin")
    cloud.bob.create("ports", {"network_id": network["id"]})

    cloud.alice.delete("rbac-policies", first["id"])
    with pytest.raises(Conflict, match="p2"):
        cloud.admin.delete("rbac-policies", everybody["id"])


def test_shared_and_its_policy_are_one(cloud: Cloud) -> None:
    """Each follows the other."""
    network = cloud.network("admin", shared=True)
    (policy,) = cloud.admin.list("rbac-policies", object_id=network["id"])

    assert (policy["target_tenant"], policy["action"]) == ("*", SHARED)
    cloud.admin.delete("rbac-policies", policy["id"])
    assert cloud.admin.show("networks", network["id"])["shared"] is False
    assert not sees(cloud, "bob", network)
    lend(cloud, network, "*", who="admin")
    assert cloud.admin.show("networks", network["id"])["shared"] is True
    port = cloud.bob.create("ports", {"network_id": network["id"]})
    with pytest.raises(Conflict, match="p2") as refusal:
        cloud.admin.update("networks", network["id"], {"shared": False})
    assert refusal.value.kind == "InvalidSharedSetting"
    cloud.bob.delete("ports", port["id"])
    cloud.admin.update("networks", network["id"], {"shared": False})
    assert cloud.admin.list("rbac-policies", object_id=network["id"]) == []


def test_an_external_network_for_one_project(cloud: Cloud) -> None:
    """Only the named project takes floating IPs there."""
    network = cloud.external()
    (everybody,) = cloud.admin.list("rbac-policies", object_id=network["id"])
    assert everybody["action"] == EXTERNAL
    cloud.admin.update("rbac-policies", everybody["id"], {"target_tenant": "p2"})

    assert not sees(cloud, "alice", network)
    floating = cloud.bob.create("floatingips", {"floating_network_id": network["id"]})
    assert cloud.bob.show("networks", network["id"])["router:external"] is True
    with pytest.raises(NotFound, match="Network"):
        cloud.alice.create("floatingips", {"floating_network_id": network["id"]})
    with pytest.raises(Conflict, match="p2"):
        cloud.admin.delete("rbac-policies", everybody["id"])
    cloud.bob.delete("floatingips", floating["id"])
    with pytest.raises(Conflict, match="router:external"):
        cloud.admin.delete("rbac-policies", everybody["id"])
    cloud.admin.delete("networks", network["id"])
    assert cloud.admin.list("rbac-policies", object_id=network["id"]) == []


def test_an_empty_network_becomes_external_by_policy(cloud: Cloud) -> None:
    """As in Neutron; and tenant's again with its last policy."""
    network = cloud.admin.create("networks", {})
    policy = lend(cloud, network, "p2", EXTERNAL, "admin")

    assert cloud.admin.show("networks", network["id"])["router:external"] is True
    cloud.admin.delete("rbac-policies", policy["id"])
    assert cloud.admin.show("networks", network["id"])["router:external"] is False


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"target_tenant": "*"}, Forbidden),
        ({"action": EXTERNAL}, Forbidden),
        ({"action": "access_as_friend"}, Invalid),
        ({"object_type": "trunk"}, Invalid),
        ({"object_id": "6f2f2d0e-0000-4000-8000-000000000000"}, NotFound),
        ({"target_tenant": ""}, Invalid),
    ],
)
def test_what_is_refused(cloud: Cloud, change: dict[str, Any], error: type[Exception]) -> None:
    """Lending to everybody is the administrator's; nonsense is named."""
    network = cloud.network()
    wish = {"object_type": "network", "object_id": network["id"], "action": SHARED}
    wish = {**wish, "target_tenant": "p2", **change}

    with pytest.raises(error):
        cloud.alice.create("rbac-policies", wish)
    assert cloud.admin.list("rbac-policies", object_id=network["id"]) == []


def test_whose_policies(cloud: Cloud) -> None:
    """One's own are listed and deleted, others' are not there; the same one twice is refused."""
    network = cloud.network()
    policy = lend(cloud, network, "p2")

    assert policy in cloud.alice.list("rbac-policies", object_type="network", action=SHARED)
    with pytest.raises(NotFound):
        cloud.bob.delete("rbac-policies", policy["id"])
    with pytest.raises(NotFound):
        lend(cloud, cloud.network("bob"), "p3")
    with pytest.raises(Conflict, match="already exists"):
        lend(cloud, network, "p2")


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "security_group": ("security-groups", {"name": "lent"}),
    "qos_policy": ("qos/policies", {"name": "lent"}),
    "subnetpool": ("subnetpools", {"name": "lent", "prefixes": ["10.250.0.0/16"]}),
    "address_scope": ("address-scopes", {"name": "lent", "ip_version": 4}),
}


def use(cloud: Cloud, kind: str, object_id: str) -> tuple[str, str]:
    """Let bob have something that uses what was lent to him; return what and where."""
    wishes: dict[str, tuple[str, dict[str, Any]]] = {
        "security_group": ("ports", {"security_groups": [object_id]}),
        "qos_policy": ("ports", {"qos_policy_id": object_id}),
        "subnetpool": ("subnets", {"subnetpool_id": object_id, "prefixlen": 26, "ip_version": 4}),
        "address_scope": (
            "subnetpools",
            {"name": "cuts", "prefixes": ["10.251.0.0/16"], "address_scope_id": object_id},
        ),
    }
    collection, wish = wishes[kind]
    if collection != "subnetpools":
        network = cloud.bob.create("networks", {})
        wish["network_id"] = network["id"]
    if collection == "ports":
        cloud.subnet(network, "bob")
    return collection, cloud.bob.create(collection, wish)["id"]


@pytest.mark.parametrize("kind", OTHERS)
def test_other_objects_are_lent_likewise(cloud: Cloud, kind: str) -> None:
    """Only the borrower sees and uses it, cannot change it, and it stays lent while in use."""
    collection, wish = OTHERS[kind]
    lent = cloud.admin.create(collection, wish)
    with pytest.raises(NotFound):
        use(cloud, kind, lent["id"])
    policy = lend_any(cloud, kind, lent, "p2")
    assert cloud.bob.show(collection, lent["id"])["shared"] is True
    assert lent["id"] in [one["id"] for one in cloud.bob.list(collection, shared=True)]
    with pytest.raises(NotFound):
        cloud.user("carol").show(collection, lent["id"])
    with pytest.raises(Forbidden):
        cloud.bob.update(collection, lent["id"], {"name": "mine"})

    where, used = use(cloud, kind, lent["id"])
    with pytest.raises(Conflict, match="p2") as refusal:
        cloud.admin.delete("rbac-policies", policy["id"])
    assert refusal.value.kind == "RbacPolicyInUse"
    cloud.bob.delete(where, used)
    cloud.admin.delete(collection, lent["id"])
    assert cloud.admin.list("rbac-policies", object_id=lent["id"]) == []


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if kind != "security_group"])
def test_what_is_shared_has_a_policy(cloud: Cloud, kind: str) -> None:
    """To share with everybody by attribute or by policy is the same, seen from both sides."""
    collection, wish = OTHERS[kind]
    shared = cloud.admin.create(collection, {**wish, "shared": True})
    (policy,) = cloud.admin.list("rbac-policies", object_id=shared["id"], object_type=kind)
    assert (policy["target_tenant"], policy["action"]) == ("*", SHARED)
    assert cloud.user("carol").show(collection, shared["id"])["shared"] is True
    cloud.admin.delete("rbac-policies", policy["id"])
    assert cloud.admin.show(collection, shared["id"])["shared"] is False
    with pytest.raises(NotFound):
        cloud.user("carol").show(collection, shared["id"])
    cloud.admin.delete(collection, shared["id"])


def test_only_networks_are_lent_as_external(cloud: Cloud) -> None:
    """What has no outside is not lent as one."""
    group = cloud.admin.create("security-groups", {"name": "inner"})
    with pytest.raises(Invalid) as refusal:
        lend_any(cloud, "security_group", group, "p2", action=EXTERNAL)
    assert refusal.value.kind == "InvalidActionForType"


def lend_any(
    cloud: Cloud, kind: str, lent: dict[str, Any], target: str, action: str = SHARED
) -> dict[str, Any]:
    """Lend an object of any type, as an administrator."""
    wish = {"object_type": kind, "object_id": lent["id"], "action": action}
    return cloud.admin.create("rbac-policies", {**wish, "target_tenant": target})


def test_nobody_turns_protection_off_on_what_is_lent(cloud: Cloud) -> None:
    """On a network that is another's, only its owner makes ports that may use any address."""
    network = cloud.network()
    lend(cloud, network, "p2")
    off = {"port_security_enabled": False, "security_groups": []}
    port = cloud.bob.create("ports", {"network_id": network["id"]})
    with pytest.raises(Forbidden, match="port_security_enabled"):
        cloud.bob.create("ports", {"network_id": network["id"], **off})
    with pytest.raises(Forbidden, match="port_security_enabled"):
        cloud.bob.update("ports", port["id"], off)
    assert cloud.alice.create("ports", {"network_id": network["id"], **off})["id"]
