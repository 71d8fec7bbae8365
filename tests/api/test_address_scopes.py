"""Address scopes: pools in one have prefixes that are nobody else's."""

from __future__ import annotations

from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid, NotFound


def pool(cloud: Cloud, prefix: str, who: str = "alice", **attributes: Any) -> dict[str, Any]:
    """Make a pool of one prefix."""
    wish = {"name": "pool", "prefixes": [prefix], "default_prefixlen": 26, **attributes}
    return cloud.user(who).create("subnetpools", wish)


def scope(cloud: Cloud, who: str = "alice") -> str:
    """Make a scope and return its id."""
    return str(cloud.user(who).create("address-scopes", {"name": "s", "ip_version": 4})["id"])


def test_prefixes_of_a_scope_do_not_overlap(cloud: Cloud) -> None:
    """Neither by a new pool, nor by a pool that comes into the scope or grows."""
    mine = scope(cloud)
    first = pool(cloud, "10.200.0.0/16", address_scope_id=mine)
    outside = pool(cloud, "10.200.128.0/17")
    second = pool(cloud, "10.201.0.0/17", address_scope_id=mine)
    for overlapping in (
        lambda: pool(cloud, "10.200.0.0/20", address_scope_id=mine),
        lambda: cloud.alice.update("subnetpools", outside["id"], {"address_scope_id": mine}),
        lambda: cloud.alice.update(
            "subnetpools", second["id"], {"prefixes": ["10.201.0.0/17", "10.200.0.0/24"]}
        ),
    ):
        with pytest.raises(Conflict, match=first["id"]) as refusal:
            overlapping()
        assert refusal.value.kind == "AddressScopePrefixConflict"
    with pytest.raises(Conflict) as refusal:
        cloud.alice.delete("address-scopes", mine)
    assert refusal.value.kind == "AddressScopeInUse"


def test_a_network_shows_its_scope(cloud: Cloud) -> None:
    """A network is in the scope of the pools that its subnets are of, and in one only."""
    mine, other = scope(cloud), scope(cloud)
    network = cloud.alice.create("networks", {"name": "scoped"})
    assert (network["ipv4_address_scope"], network["ipv6_address_scope"]) == (None, None)
    first = pool(cloud, "10.210.0.0/16", address_scope_id=mine)
    wish = {"network_id": network["id"], "ip_version": 4}
    cloud.alice.create("subnets", {**wish, "subnetpool_id": first["id"]})
    assert cloud.alice.show("networks", network["id"])["ipv4_address_scope"] == mine
    second = pool(cloud, "10.211.0.0/16", address_scope_id=other)
    with pytest.raises(Invalid, match=other) as refusal:
        cloud.alice.create("subnets", {**wish, "subnetpool_id": second["id"]})
    assert refusal.value.kind == "NetworkAddressScopeAffinityError"


def test_an_external_network_is_in_no_scope(cloud: Cloud) -> None:
    """A scope would promise a way out without translation, so it is refused by name."""
    plain = pool(cloud, "10.212.0.0/16", "admin")
    network = cloud.admin.create("networks", {"router:external": True})
    wish = {"network_id": network["id"], "ip_version": 4, "subnetpool_id": plain["id"]}
    cloud.admin.create("subnets", wish)
    mine = scope(cloud, "admin")
    scoped = pool(cloud, "10.213.0.0/16", "admin", address_scope_id=mine)
    for refused in (
        lambda: cloud.admin.update("subnetpools", plain["id"], {"address_scope_id": mine}),
        lambda: cloud.admin.create("subnets", {**wish, "subnetpool_id": scoped["id"]}),
    ):
        with pytest.raises(Invalid, match="is external"):
            refused()
    assert cloud.admin.show("subnetpools", plain["id"])["address_scope_id"] is None


def test_who_may_use_and_share_a_scope(cloud: Cloud) -> None:
    """Others do not know it; an administrator shares it, for good."""
    mine = scope(cloud)
    with pytest.raises(NotFound) as missing:
        pool(cloud, "10.214.0.0/16", "bob", address_scope_id=mine)
    assert missing.value.kind == "AddressScopeNotFound"
    with pytest.raises(Forbidden):
        cloud.alice.update("address-scopes", mine, {"shared": True})
    cloud.admin.update("address-scopes", mine, {"shared": True, "name": "ours"})
    assert pool(cloud, "10.214.0.0/16", "bob", address_scope_id=mine)["address_scope_id"] == mine
    with pytest.raises(Invalid, match="unshared"):
        cloud.admin.update("address-scopes", mine, {"shared": False})
