"""Floating IPs over the API."""

from __future__ import annotations

from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid, NotFound
from trunkline.model import FLOATING_OWNER


@pytest.fixture(scope="module")
def external(cloud: Cloud) -> dict[str, Any]:
    """Make the external network."""
    return cloud.external()


def floating(cloud: Cloud, external: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    """Reserve a floating IP as alice."""
    wish = {"floating_network_id": external["id"], **attributes}
    return cloud.alice.create("floatingips", wish)


def port(cloud: Cloud, who: str = "alice", **attributes: Any) -> dict[str, Any]:
    """Make a port on a network of its own."""
    network = cloud.network(who)
    return cloud.user(who).create("ports", {"network_id": network["id"], **attributes})


def test_reserve_associate_move_release(cloud: Cloud, external: dict[str, Any]) -> None:
    """A floating IP's whole life, each step as the API shows it."""
    first, second = port(cloud), port(cloud)
    reserved = floating(cloud, external)
    assert (reserved["port_id"], reserved["fixed_ip_address"], reserved["status"]) == (
        None,
        None,
        "DOWN",
    )

    associated = cloud.alice.update("floatingips", reserved["id"], {"port_id": first["id"]})
    moved = cloud.alice.update("floatingips", reserved["id"], {"port_id": second["id"]})
    freed = cloud.alice.update("floatingips", reserved["id"], {"port_id": None})

    assert associated["fixed_ip_address"] == first["fixed_ips"][0]["ip_address"]
    assert associated["status"] == "ACTIVE"
    assert moved["fixed_ip_address"] == second["fixed_ips"][0]["ip_address"]
    assert (freed["port_id"], freed["fixed_ip_address"]) == (None, None)
    assert freed["floating_ip_address"] == reserved["floating_ip_address"]
    cloud.alice.delete("floatingips", reserved["id"])
    with pytest.raises(NotFound):
        cloud.alice.show("floatingips", reserved["id"])


def test_an_update_of_something_else_disassociates_nothing(
    cloud: Cloud, external: dict[str, Any]
) -> None:
    """Only a port_id that is there changes the association."""
    made = floating(cloud, external, port_id=port(cloud)["id"])

    described = cloud.alice.update("floatingips", made["id"], {"description": "mine"})

    assert described["port_id"] == made["port_id"] is not None


def test_a_given_address(cloud: Cloud, external: dict[str, Any]) -> None:
    """A chosen address is reserved once, and by a port that stays."""
    wanted = external["subnet"]["cidr"].removesuffix("0/24") + "99"
    made = floating(cloud, external, floating_ip_address=wanted)

    assert made["floating_ip_address"] == wanted
    with pytest.raises(Conflict) as refusal:
        floating(cloud, external, floating_ip_address=wanted)
    assert refusal.value.kind == "IpAddressAlreadyAllocated"
    (reserving,) = cloud.admin.list("ports", device_id=made["id"])
    assert reserving["device_owner"] == FLOATING_OWNER
    with pytest.raises(Conflict, match="floating IP"):
        cloud.admin.delete("ports", reserving["id"])
    assert cloud.alice.list("ports", device_id=made["id"]) == []


def test_an_address_of_a_given_subnet(cloud: Cloud) -> None:
    """``subnet_id`` says of which of an external network's subnets a new floating IP is."""
    network = cloud.external()
    second = cloud.subnet(network, "admin")

    reserved = floating(cloud, network, subnet_id=second["id"])

    prefix = second["cidr"].rpartition(".")[0]
    assert reserved["floating_ip_address"].startswith(f"{prefix}.")
    with pytest.raises(Invalid):
        floating(cloud, network, subnet_id=cloud.network()["subnet"]["id"])


def test_one_fixed_address_one_floating_ip(cloud: Cloud, external: dict[str, Any]) -> None:
    """A second floating IP for the same fixed address is refused."""
    to = port(cloud)
    floating(cloud, external, port_id=to["id"])

    with pytest.raises(Conflict) as refusal:
        floating(cloud, external, port_id=to["id"])
    assert refusal.value.kind == "FloatingIPPortAlreadyAssociated"


def test_a_port_with_several_addresses_needs_a_choice(
    cloud: Cloud, external: dict[str, Any]
) -> None:
    """Which of two addresses is meant must be said, and must be the port's."""
    subnet = cloud.network()["subnet"]
    to = cloud.alice.create(
        "ports",
        {"network_id": subnet["network_id"], "fixed_ips": [{"subnet_id": subnet["id"]}] * 2},
    )

    with pytest.raises(Invalid, match="fixed_ip_address"):
        floating(cloud, external, port_id=to["id"])
    with pytest.raises(Invalid, match="fixed_ip_address"):
        floating(cloud, external, port_id=to["id"], fixed_ip_address="10.255.0.1")
    wanted = to["fixed_ips"][1]["ip_address"]
    made = floating(cloud, external, port_id=to["id"], fixed_ip_address=wanted)
    assert made["fixed_ip_address"] == wanted


def test_an_address_on_a_subnet_without_gateway(cloud: Cloud, external: dict[str, Any]) -> None:
    """Its instance could not answer; the address on the subnet beside it may have one."""
    network = cloud.network()
    second = cloud.subnet(network, gateway_ip=None)
    fixed_ips = [{"subnet_id": network["subnet"]["id"]}, {"subnet_id": second["id"]}]
    port = cloud.alice.create("ports", {"network_id": network["id"], "fixed_ips": fixed_ips})
    (mute,) = [f["ip_address"] for f in port["fixed_ips"] if f["subnet_id"] == second["id"]]
    (other,) = [f["ip_address"] for f in port["fixed_ips"] if f["subnet_id"] != second["id"]]
    wish = {"floating_network_id": external["id"], "port_id": port["id"]}

    with pytest.raises(Invalid, match=f"{second['id']} of its {mute} has no gateway_ip"):
        cloud.alice.create("floatingips", {**wish, "fixed_ip_address": mute})

    made = cloud.alice.create("floatingips", {**wish, "fixed_ip_address": other})
    assert made["fixed_ip_address"] == other


def test_an_address_that_carries_a_floating_ip_stays(
    cloud: Cloud, external: dict[str, Any]
) -> None:
    """Taking it off the port would leave the floating IP leading nowhere."""
    to = port(cloud)
    made = floating(cloud, external, port_id=to["id"])

    with pytest.raises(Conflict, match=made["floating_ip_address"]):
        cloud.alice.update("ports", to["id"], {"fixed_ips": []})


def test_deleting_the_port_disassociates(cloud: Cloud, external: dict[str, Any]) -> None:
    """The floating IP outlives the instance."""
    to = port(cloud)
    made = floating(cloud, external, port_id=to["id"])

    cloud.alice.delete("ports", to["id"])

    after = cloud.alice.show("floatingips", made["id"])
    assert (after["port_id"], after["fixed_ip_address"], after["status"]) == (None, None, "DOWN")


def test_wrong_partners(cloud: Cloud, external: dict[str, Any]) -> None:
    """Floating IPs come from external networks and lead to one's own ports."""
    tenant = cloud.network()
    theirs = port(cloud, "bob")
    outside = cloud.admin.create("ports", {"network_id": external["id"]})

    with pytest.raises(Invalid, match="floating_network_id"):
        floating(cloud, tenant)
    with pytest.raises(NotFound) as refusal:
        floating(cloud, external, port_id=theirs["id"])
    assert refusal.value.kind == "PortNotFound"
    with pytest.raises(Invalid, match="port_id"):
        cloud.admin.create(
            "floatingips", {"floating_network_id": external["id"], "port_id": outside["id"]}
        )
    with pytest.raises(Invalid, match="fixed_ip_address"):
        floating(cloud, external, fixed_ip_address="10.0.0.2")
    with pytest.raises(Invalid, match="floating_ip_address"):
        floating(cloud, external, floating_ip_address="nonsense")
    with pytest.raises(Forbidden, match="project_id"):
        floating(cloud, external, project_id="p2")


def test_an_exhausted_pool_says_so(cloud: Cloud) -> None:
    """When the external network is full there is a 409."""
    network = cloud.admin.create("networks", {"router:external": True})
    base = str(next(cloud.prefixes)).removesuffix("0/24")
    pools = [{"start": f"{base}10", "end": f"{base}10"}]
    with pytest.raises(Invalid, match="does not contain any IPv4 subnet"):
        floating(cloud, network)
    cloud.admin.create(
        "subnets",
        {
            "network_id": network["id"],
            "ip_version": 4,
            "cidr": f"{base}0/24",
            "allocation_pools": pools,
        },
    )
    first = floating(cloud, network)

    with pytest.raises(Conflict) as refusal:
        floating(cloud, network)
    assert refusal.value.kind == "IpAddressGenerationFailure"
    cloud.alice.delete("floatingips", first["id"])
    assert floating(cloud, network)["floating_ip_address"] == f"{base}10"
