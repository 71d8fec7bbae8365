"""Reserved addresses: not chosen, not granted, given again when released."""

from __future__ import annotations

from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid, NotFound
from trunkline.model import GATEWAY_OWNER


def address(network: dict[str, Any], last: int) -> str:
    """Return an address of a network's /24."""
    return f"{network['subnet']['cidr'].removesuffix('0/24')}{last}"


def reserve(cloud: Cloud, network: dict[str, Any], last: int, who: str = "alice") -> dict[str, Any]:
    """Reserve an address of a network's /24."""
    wish = {"subnet_id": network["subnet"]["id"], "ip_address": address(network, last)}
    return cloud.user(who).create("reserved-addresses", wish)


def test_a_reserved_address_is_nobodys(cloud: Cloud) -> None:
    """Neither chosen nor granted on request; after its release it is both."""
    network = cloud.network()
    reserved = reserve(cloud, network, 2)
    port = {"network_id": network["id"]}

    made = cloud.alice.create("ports", port)

    assert made["fixed_ips"][0]["ip_address"] == address(network, 3)
    asked = {**port, "fixed_ips": [{"ip_address": address(network, 2)}]}
    with pytest.raises(Conflict, match="reserved") as refusal:
        cloud.alice.create("ports", asked)
    assert refusal.value.kind == "IpAddressAlreadyAllocated"
    assert cloud.alice.list("reserved-addresses", subnet_id=network["subnet"]["id"]) == [reserved]
    cloud.alice.delete("reserved-addresses", reserved["id"])
    assert cloud.alice.create("ports", asked)["fixed_ips"][0]["ip_address"] == address(network, 2)


def test_a_pool_of_reserved_addresses_is_exhausted(cloud: Cloud) -> None:
    """All at once, and the refusal says so."""
    network = cloud.network()
    pools = [{"start": address(network, 10), "end": address(network, 11)}]
    cloud.alice.update("subnets", network["subnet"]["id"], {"allocation_pools": pools})
    wish = [
        {"subnet_id": network["subnet"]["id"], "ip_address": address(network, last)}
        for last in (10, 11)
    ]
    cloud.alice.request("POST", "/v2.0/reserved-addresses", {"reserved_addresses": wish})

    with pytest.raises(Conflict, match="No more IP addresses"):
        cloud.alice.create("ports", {"network_id": network["id"]})


def test_an_address_in_use_may_be_reserved(cloud: Cloud) -> None:
    """Its port keeps it, and nobody gets it afterwards."""
    network = cloud.network()
    port = cloud.alice.create("ports", {"network_id": network["id"]})
    taken = port["fixed_ips"][0]["ip_address"]
    reserve(cloud, network, 2)

    changed = cloud.alice.update("ports", port["id"], {"fixed_ips": [{"ip_address": taken}]})
    assert changed["fixed_ips"] == port["fixed_ips"]
    cloud.alice.delete("ports", port["id"])
    with pytest.raises(Conflict, match="reserved"):
        cloud.alice.create(
            "ports", {"network_id": network["id"], "fixed_ips": [{"ip_address": taken}]}
        )


def test_hosts_are_given_none_either(cloud: Cloud) -> None:
    """The second host's gateway address is not a reserved one."""
    network = cloud.network()
    reserve(cloud, network, 2)
    ports = [cloud.instance(network, host) for host in ("r1", "r2")]
    gateways = cloud.admin.list("ports", network_id=network["id"], device_owner=GATEWAY_OWNER)

    given = {ip["ip_address"] for port in (*ports, *gateways) for ip in port["fixed_ips"]}
    assert len(given) == 4
    assert address(network, 2) not in given


def test_what_is_refused(cloud: Cloud) -> None:
    """Another's subnet, an address outside of it, the gateway, the same one twice."""
    network, shared = cloud.network(), cloud.network("admin", shared=True)
    reserve(cloud, network, 9)

    with pytest.raises(NotFound, match="Subnet"):
        reserve(cloud, network, 10, "bob")
    with pytest.raises(Forbidden):
        reserve(cloud, shared, 10)
    with pytest.raises(Conflict, match="already"):
        reserve(cloud, network, 9)
    with pytest.raises(Conflict, match="gateway_ip"):
        reserve(cloud, network, 1)
    for last in (0, 255):
        with pytest.raises(Invalid, match="ip_address"):
            reserve(cloud, network, last)
    assert len(cloud.alice.list("reserved-addresses", subnet_id=network["subnet"]["id"])) == 1
    cloud.alice.delete("networks", network["id"])
    assert cloud.alice.list("reserved-addresses", subnet_id=network["subnet"]["id"]) == []
