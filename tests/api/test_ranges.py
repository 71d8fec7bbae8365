"""Networks for projects that make none: a range at once, and one on first use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from running import Cloud
from test_races import at_once

from trunkline.client import ApiClient
from trunkline.errors import Conflict, Forbidden, Invalid, NotFound

TOPOLOGY = "/v2.0/auto-allocated-topology"


def make(cloud: Cloud, **wish: Any) -> dict[str, list[dict[str, Any]]]:
    """Make the networks of a range as the administrator."""
    answer = cloud.admin.request("POST", "/v2.0/network-ranges", {"network_range": wish})
    made: dict[str, list[dict[str, Any]]] = answer["network_range"]
    return made


def get_me_a_network(client: ApiClient, project: str) -> str:
    """Return the id of a project's automatic network."""
    answer = client.request("GET", f"{TOPOLOGY}/{project}")["auto_allocated_topology"]
    assert answer["tenant_id"] == project
    network_id: str = answer["id"]
    return network_id


@pytest.fixture
def leaves_no_unowned(cloud: Cloud) -> Iterator[None]:
    """Delete what belongs to nobody after the test."""
    yield
    for network in cloud.admin.list("networks"):
        if not network["project_id"]:
            cloud.admin.delete("networks", network["id"])


@pytest.mark.usefixtures("leaves_no_unowned")
def test_a_range_of_networks(cloud: Cloud) -> None:
    """Each with a prefix and a VLAN of its own, in order, past what others have."""
    vlan = {"provider:segmentation_id": 3001, "provider:network_type": "vlan"}
    other = cloud.admin.create("networks", {**vlan, "provider:physical_network": "physnet1"})
    wish = {"network_id": other["id"], "ip_version": 4, "cidr": "172.16.1.0/25"}
    cloud.admin.create("subnets", wish)

    made = make(
        cloud,
        name="pool",
        cidr="172.16.0.0/22",
        network_size=256,
        num_networks=3,
        vlan_start=3000,
        dns_nameservers=["8.8.8.8"],
        mtu=1400,
    )

    networks, subnets = made["networks"], made["subnets"]
    assert [network["name"] for network in networks] == ["pool_0", "pool_1", "pool_2"]
    assert [n["provider:segmentation_id"] for n in networks] == [3000, 3002, 3003]
    assert [s["cidr"] for s in subnets] == ["172.16.0.0/24", "172.16.2.0/24", "172.16.3.0/24"]
    assert [s["network_id"] for s in subnets] == [n["id"] for n in networks]
    assert {n["project_id"] for n in (*networks, *subnets)} == {""}
    assert (subnets[0]["dns_nameservers"], networks[0]["mtu"]) == (["8.8.8.8"], 1400)
    assert cloud.admin.show("networks", networks[1]["id"]) == networks[1]
    with pytest.raises(NotFound):
        cloud.alice.show("networks", networks[0]["id"])
    told = cloud.admin.list("audit-events", resource_id=[n["id"] for n in networks])
    assert [event["resource_type"] for event in told] == ["network"] * 3


def test_a_range_for_a_project(cloud: Cloud) -> None:
    """As many as fit, the project's own from the start, counted by its quota."""
    made = make(cloud, name="mine", cidr="172.17.0.0/28", network_size="4", project_id="p2")

    assert [subnet["cidr"] for subnet in made["subnets"]] == [
        f"172.17.0.{start}/30" for start in (0, 4, 8, 12)
    ]
    assert {cloud.bob.show("networks", n["id"])["tenant_id"] for n in made["networks"]} == {"p2"}
    cloud.admin.request("PUT", "/v2.0/quotas/p3", {"quota": {"subnet": 3}})
    with pytest.raises(Conflict, match="subnet"):
        make(cloud, name="mine", cidr="172.17.1.0/28", network_size=4, project_id="p3")
    assert cloud.user("carol").list("networks", shared=False) == []


@pytest.mark.parametrize(
    ("wish", "error", "message"),
    [
        ({"network_size": 100}, Invalid, "network_size"),
        ({"network_size": 8192}, Invalid, "network_size"),
        ({"network_size": 2}, Invalid, "network_size"),
        ({"network_size": 4}, Invalid, "num_networks"),
        ({"num_networks": 17}, Invalid, "num_networks"),
        ({"num_networks": 0}, Invalid, "num_networks"),
        ({"vlan_start": 4095}, Invalid, "vlan_start"),
        ({"vlan_start": 4090, "num_networks": 16}, Conflict, "vlan_start"),
        ({"cidr": "192.168.0.0/20"}, Conflict, "cidr"),
        ({"cidr": "172.18.0.1/20"}, Invalid, "cidr"),
        ({"provider:physical_network": "nowhere"}, Invalid, "physical_network"),
        ({"colour": "blue"}, Invalid, "colour"),
        ({"name": None}, Invalid, "name"),
    ],
)
def test_a_range_that_does_not_fit(
    cloud: Cloud, wish: dict[str, Any], error: type[Exception], message: str
) -> None:
    """It is refused by name, and not one of its networks is made."""
    before = cloud.admin.list("networks")

    with pytest.raises(error, match=message):
        make(cloud, **{"name": "x", "cidr": "172.18.0.0/20", **wish})
    assert cloud.admin.list("networks") == before


def test_ranges_are_the_administrators(cloud: Cloud) -> None:
    """A project makes its networks one by one."""
    with pytest.raises(Forbidden):
        cloud.alice.request("POST", "/v2.0/network-ranges", {"network_range": {}})


@pytest.mark.usefixtures("leaves_no_unowned")
def test_a_project_is_given_a_network_on_first_use(cloud: Cloud) -> None:
    """The lowest that nobody has, the same one from then on; released, it waits again."""
    made = make(cloud, name="pool", cidr="172.19.0.0/23", vlan_start=3100)
    first, second = (network["id"] for network in made["networks"])

    dry = cloud.alice.request("GET", f"{TOPOLOGY}/p1?fields=dry-run")["auto_allocated_topology"]
    assert dry["id"] == "dry-run=pass"
    assert cloud.admin.show("networks", first)["project_id"] == ""
    assert get_me_a_network(cloud.alice, "p1") == first
    assert get_me_a_network(cloud.alice, "p1") == first
    assert get_me_a_network(cloud.admin, "p2") == second
    port = cloud.alice.create("ports", {"network_id": first, "device_owner": "compute:nova"})
    assert cloud.alice.list("subnets", network_id=first)[0]["project_id"] == "p1"
    with pytest.raises(NotFound):
        cloud.bob.show("networks", first)
    with pytest.raises(Forbidden):
        cloud.bob.request("GET", f"{TOPOLOGY}/p1")
    with pytest.raises(Conflict, match=first):
        cloud.alice.request("DELETE", f"{TOPOLOGY}/p1")
    cloud.alice.delete("ports", port["id"])
    cloud.alice.request("DELETE", f"{TOPOLOGY}/p1")
    assert cloud.admin.show("networks", first)["project_id"] == ""
    with pytest.raises(NotFound, match="p1"):
        cloud.alice.request("DELETE", f"{TOPOLOGY}/p1")
    cloud.bob.request("DELETE", f"{TOPOLOGY}/p2")


def test_a_network_from_the_default_pool(cloud: Cloud) -> None:
    """Where no network waits, one is cut from the default pool, and goes when it is released."""
    for query in ("", "?fields=dry-run"):
        with pytest.raises(Conflict, match="subnetpool") as refusal:
            cloud.alice.request("GET", f"{TOPOLOGY}/p1{query}")
        assert refusal.value.kind == "AutoAllocationFailure"
    pool = {"name": "default", "prefixes": ["172.20.0.0/16"], "default_prefixlen": 26}
    cloud.admin.create("subnetpools", {**pool, "is_default": True, "shared": True})

    network = cloud.alice.show("networks", get_me_a_network(cloud.alice, "p1"))
    again = cloud.alice.request("GET", f"{TOPOLOGY}/None")["auto_allocated_topology"]
    assert again["id"] == network["id"]

    assert network["project_id"] == "p1"
    (subnet,) = cloud.alice.list("subnets", network_id=network["id"])
    assert subnet["cidr"] == "172.20.0.0/26"
    told = cloud.admin.list("audit-events", resource_type="auto_allocated_topology")
    assert told[-1]["changes"]["network_id"] == {"after": network["id"]}
    cloud.alice.request("DELETE", f"{TOPOLOGY}/p1")
    assert cloud.alice.list("networks", id=network["id"]) == []


@pytest.mark.usefixtures("leaves_no_unowned")
def test_fifty_first_uses_at_once(cloud: Cloud) -> None:
    """One project gets one network however often it asks."""
    make(cloud, name="pool", cidr="172.21.0.0/22", vlan_start=3200)

    found = at_once(cloud, lambda client, _: get_me_a_network(client, "padmin"))

    assert len(set(found)) == 1
    cloud.admin.request("DELETE", f"{TOPOLOGY}/padmin")
