"""Subnet pools, subnets for some ports only, and how full networks are."""

from __future__ import annotations

from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid, NotFound, RequestError


def pool(cloud: Cloud, who: str = "alice", **attributes: Any) -> dict[str, Any]:
    """Make a pool of a /22 of its own."""
    first = next(cloud.prefixes)
    while first.supernet(new_prefix=22).network_address != first.network_address:
        first = next(cloud.prefixes)
    for _ in range(3):
        next(cloud.prefixes)
    wish = {"name": "pool", "prefixes": [str(first.supernet(new_prefix=22))]}
    return cloud.user(who).create("subnetpools", {**wish, "default_prefixlen": 24, **attributes})


def cut(cloud: Cloud, who: str = "alice", **wish: Any) -> dict[str, Any]:
    """Make a subnet on a network of its own."""
    network = cloud.user(who).create("networks", {})
    return cloud.user(who).create("subnets", {"network_id": network["id"], "ip_version": 4, **wish})


def made_on(subnet: dict[str, Any]) -> dict[str, Any]:
    """Return the beginning of a wish for another subnet of a subnet's network."""
    return {"network_id": subnet["network_id"], "ip_version": 4}


def test_subnets_are_cut_from_a_pool(cloud: Cloud) -> None:
    """By the default size, by a given one, by choice; never twice, and again when free."""
    one = pool(cloud)
    base = one["prefixes"][0].rpartition(".0/22")[0]
    third = base.rpartition(".")
    second, last = f"{third[0]}.{int(third[2]) + 1}", f"{third[0]}.{int(third[2]) + 3}"

    first = cut(cloud, subnetpool_id=one["id"])
    small = cut(cloud, subnetpool_id=one["id"], prefixlen=26)
    chosen = cut(cloud, subnetpool_id=one["id"], cidr=f"{last}.0/24")
    half = cut(cloud, subnetpool_id=one["id"], prefixlen="25")

    assert (first["cidr"], first["gateway_ip"]) == (f"{base}.0/24", f"{base}.1")
    assert first["subnetpool_id"] == one["id"]
    assert (small["cidr"], half["cidr"]) == (f"{second}.0/26", f"{second}.128/25")
    assert chosen["cidr"] == f"{last}.0/24"
    assert len(cloud.alice.list("subnets", subnetpool_id=one["id"])) == 4
    with pytest.raises(RequestError, match="overlaps"):
        cut(cloud, subnetpool_id=one["id"], cidr=f"{last}.0/25")
    cloud.alice.delete("subnets", first["id"])
    assert cut(cloud, subnetpool_id=one["id"])["cidr"] == first["cidr"]


def test_a_pool_avoids_what_others_have(cloud: Cloud) -> None:
    """A prefix that a subnet without a pool, or the administrator, has taken is not given."""
    one = pool(cloud)
    base = one["prefixes"][0].removesuffix("/22")
    cut(cloud, "bob", cidr=f"{base}/25")
    reserved = cloud.alice.create("subnetpools", {"name": "r", "prefixes": ["192.168.0.0/16"]})

    assert cut(cloud, subnetpool_id=one["id"], prefixlen=25)["cidr"].endswith(".128/25")
    with pytest.raises(Conflict, match="Insufficient prefix space") as refusal:
        cut(cloud, subnetpool_id=reserved["id"], prefixlen=24)
    assert refusal.value.kind == "SubnetAllocationError"


def test_a_pool_that_is_full(cloud: Cloud) -> None:
    """The fifth quarter is refused; more prefixes help, fewer are refused."""
    one = pool(cloud)
    for _ in range(4):
        cut(cloud, subnetpool_id=one["id"])

    with pytest.raises(Conflict, match="Insufficient prefix space"):
        cut(cloud, subnetpool_id=one["id"])
    more = str(next(cloud.prefixes))
    with pytest.raises(Invalid, match="subset") as refusal:
        cloud.alice.update("subnetpools", one["id"], {"prefixes": [more]})
    assert refusal.value.kind == "IllegalSubnetPoolPrefixUpdate"
    with pytest.raises(Invalid) as refusal:
        cloud.alice.update("subnetpools", one["id"], {"prefixes": []})
    assert refusal.value.kind == "IllegalSubnetPoolPrefixUpdate"
    cloud.alice.update("subnetpools", one["id"], {"prefixes": [*one["prefixes"], more]})
    assert cut(cloud, subnetpool_id=one["id"])["cidr"] == more


def test_one_projects_share_of_a_pool(cloud: Cloud) -> None:
    """``default_quota`` counts addresses, for each project on its own."""
    one = pool(cloud, "admin", shared=True, default_quota=300)
    cut(cloud, subnetpool_id=one["id"])

    with pytest.raises(Conflict, match="project p1") as refusal:
        cut(cloud, subnetpool_id=one["id"], prefixlen=26)
    assert refusal.value.kind == "SubnetPoolQuotaExceeded"
    cut(cloud, subnetpool_id=one["id"], prefixlen=27)
    cut(cloud, "bob", subnetpool_id=one["id"])
    cloud.admin.update("subnetpools", one["id"], {"default_quota": None})
    cut(cloud, subnetpool_id=one["id"], prefixlen=26)


def test_a_networks_subnets_are_of_one_pool(cloud: Cloud) -> None:
    """Of each IP version; or of pools in one address scope."""
    first, second = pool(cloud), pool(cloud)
    made = cut(cloud, subnetpool_id=first["id"])
    wish = made_on(made)

    for other in ({"subnetpool_id": second["id"]}, {"cidr": str(next(cloud.prefixes))}):
        with pytest.raises(Invalid, match=f"{made['id']} of network") as refusal:
            cloud.alice.create("subnets", {**wish, **other})
        assert refusal.value.kind == "NetworkSubnetPoolAffinityError"
    cloud.alice.create("subnets", {**wish, "subnetpool_id": first["id"]})
    six = {**wish, "ip_version": 6, "cidr": "fd00:116::/64"}
    assert cloud.alice.create("subnets", six)["subnetpool_id"] is None

    scope = cloud.alice.create("address-scopes", {"name": "one", "ip_version": 4})["id"]
    ours = [pool(cloud, address_scope_id=scope)["id"] for _ in range(2)]
    made = cut(cloud, subnetpool_id=ours[0])
    cloud.alice.create("subnets", {**made_on(made), "subnetpool_id": ours[1]})
    with pytest.raises(Invalid) as refusal:
        cloud.alice.create("subnets", {**made_on(made), "cidr": str(next(cloud.prefixes))})
    assert refusal.value.kind == "NetworkSubnetPoolAffinityError"


def test_allocation_pools_need_a_prefix(cloud: Cloud) -> None:
    """What a pool will cut, nobody knows yet."""
    one = pool(cloud)
    base = one["prefixes"][0].removesuffix("0/22")
    wish = {"allocation_pools": [{"start": f"{base}5", "end": f"{base}9"}]}

    with pytest.raises(Invalid, match="allocation_pools") as refusal:
        cut(cloud, subnetpool_id=one["id"], **wish)
    assert refusal.value.kind == "BadRequest"
    made = cut(cloud, subnetpool_id=one["id"], cidr=f"{base}0/24", **wish)
    assert made["allocation_pools"] == wish["allocation_pools"]


def test_the_default_pool(cloud: Cloud) -> None:
    """There is one at most, the administrator's to choose."""
    with pytest.raises(Invalid, match="No default subnetpool"):
        cut(cloud, use_default_subnetpool=True)
    one = pool(cloud, "admin", shared=True, is_default=True)
    with pytest.raises(Invalid, match="is_default"):
        pool(cloud, "admin", is_default=True)
    with pytest.raises(Forbidden):
        pool(cloud, is_default=True)

    made = cut(cloud, use_default_subnetpool=True)
    assert made["subnetpool_id"] == one["id"]
    with pytest.raises(Invalid, match="both"):
        cut(cloud, use_default_subnetpool=True, subnetpool_id=one["id"])
    cloud.admin.update("subnetpools", one["id"], {"is_default": False})
    with pytest.raises(Invalid, match="existing allocations") as refusal:
        cloud.admin.delete("subnetpools", one["id"])
    assert refusal.value.kind == "SubnetPoolDeleteError"
    cloud.alice.delete("subnets", made["id"])
    cloud.admin.delete("subnetpools", one["id"])


@pytest.mark.parametrize(
    ("wish", "kind"),
    [
        ({"prefixes": []}, "EmptySubnetPoolPrefixList"),
        ({"prefixes": ["10.0.0.1/24"]}, "HTTPBadRequest"),
        ({"prefixes": ["fd00::/64", "10.0.0.0/8"]}, "PrefixVersionMismatch"),
        ({"prefixes": ["fe80::/10"]}, "HTTPBadRequest"),
        ({"min_prefixlen": 26, "max_prefixlen": 25}, "IllegalSubnetPoolPrefixBounds"),
        ({"default_prefixlen": 7}, "IllegalSubnetPoolPrefixBounds"),
        ({"max_prefixlen": 23}, "IllegalSubnetPoolPrefixBounds"),
        ({"max_prefixlen": 33}, "IllegalSubnetPoolPrefixBounds"),
        ({"max_prefixlen": 129}, "HTTPBadRequest"),
        ({"default_quota": -1}, "HTTPBadRequest"),
    ],
)
def test_a_pool_that_makes_no_sense(cloud: Cloud, wish: dict[str, Any], kind: str) -> None:
    """It is refused by name and not made."""
    before = cloud.alice.list("subnetpools")

    with pytest.raises(Invalid, match=min(wish)) as refusal:
        pool(cloud, **wish)
    assert refusal.value.kind == kind
    assert cloud.alice.list("subnetpools") == before


@pytest.mark.parametrize(
    ("wish", "error", "kind"),
    [
        ({"prefixlen": 23}, Invalid, "MinPrefixSubnetAllocationError"),
        ({"prefixlen": 27}, Invalid, "MaxPrefixSubnetAllocationError"),
        ({"prefixlen": 24, "cidr": "10.9.0.0/24"}, Invalid, "BadRequest"),
        ({"cidr": "11.9.0.0/24"}, Conflict, "SubnetAllocationError"),
        ({"prefixlen": 33}, Invalid, "MaxPrefixSubnetAllocationError"),
        ({"prefixlen": 129}, Invalid, "HTTPBadRequest"),
    ],
)
def test_a_subnet_that_the_pool_does_not_give(
    cloud: Cloud, wish: dict[str, Any], error: type[RequestError], kind: str
) -> None:
    """Outside of its prefixes or sizes nothing is cut."""
    one = pool(cloud, min_prefixlen=24, max_prefixlen=26)

    with pytest.raises(error) as refusal:
        cut(cloud, subnetpool_id=one["id"], **wish)
    assert refusal.value.kind == kind
    assert cloud.alice.list("subnets", subnetpool_id=one["id"]) == []


def test_whose_pools(cloud: Cloud) -> None:
    """A project's own pool is nobody else's; a shared one is everybody's to use only."""
    mine, everybody = pool(cloud), pool(cloud, "admin", shared=True)

    with pytest.raises(NotFound, match="Subnet pool"):
        cut(cloud, "bob", subnetpool_id=mine["id"])
    with pytest.raises(Forbidden):
        cloud.bob.update("subnetpools", everybody["id"], {"name": "x"})
    with pytest.raises(Forbidden):
        pool(cloud, shared=True)
    with pytest.raises(Invalid, match="absence of a cidr"):
        cut(cloud)


def test_subnets_for_some_ports_only(cloud: Cloud) -> None:
    """``service_types`` keep other ports away, unless an address is asked for."""
    network = cloud.alice.create("networks", {})
    routers = cloud.subnet(network, service_types=["network:router_gateway"])
    port = {"network_id": network["id"]}

    with pytest.raises(Conflict, match="service_types") as refusal:
        cloud.alice.create("ports", port)
    assert refusal.value.kind == "IpAddressGenerationFailureNoMatchingSubnet"
    vms = cloud.subnet(network, service_types=["compute:nova", "compute:az1"])
    made = cloud.alice.create("ports", {**port, "device_owner": "compute:nova"})
    assert made["fixed_ips"][0]["subnet_id"] == vms["id"]
    asked = cloud.alice.create("ports", {**port, "fixed_ips": [{"subnet_id": routers["id"]}]})
    assert asked["fixed_ips"][0]["subnet_id"] == routers["id"]
    with pytest.raises(Invalid, match="service_types"):
        cloud.alice.update("subnets", vms["id"], {"service_types": ["mine"]})
    cloud.alice.update("subnets", vms["id"], {"service_types": []})
    assert cloud.alice.create("ports", port)["fixed_ips"][0]["subnet_id"] == vms["id"]


def test_how_full_a_network_is(cloud: Cloud) -> None:
    """Addresses of the pools, and those given away, by network and subnet; for administrators."""
    network = cloud.network(name="counted")
    first, second = network["subnet"]["cidr"], cloud.subnet(network)["cidr"]
    for _ in range(3):
        cloud.alice.create("ports", {"network_id": network["id"]})

    (found,) = cloud.admin.list("network-ip-availabilities", network_name="counted")

    assert found == cloud.admin.show("network-ip-availabilities", network["id"])
    assert (found["network_id"], found["tenant_id"]) == (network["id"], "p1")
    assert (found["total_ips"], found["used_ips"]) == (506, 3)
    used = sorted((s["used_ips"], s["cidr"]) for s in found["subnet_ip_availability"])
    assert used in ([(0, second), (3, first)], [(0, first), (3, second)])
    of_six = cloud.admin.list("network-ip-availabilities", ip_version=6)
    assert network["id"] not in [one["network_id"] for one in of_six]
    with pytest.raises(Forbidden):
        cloud.alice.list("network-ip-availabilities")
