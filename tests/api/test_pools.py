"""Several pools of floating IPs, a default one, and floating IPs that come with their port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid


@pytest.fixture(scope="module")
def automatic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Lend a cloud that assigns floating IPs, with a default external network."""
    directory: Path = tmp_path_factory.mktemp("automatic")
    cloud = Cloud(directory)
    cloud.write_files()
    config = directory / "server.toml"
    config.write_text(f"auto_assign_floating_ip = true\n{config.read_text()}")
    cloud.start()
    with pytest.raises(Conflict, match="is_default"):
        cloud.alice.create("ports", {"network_id": cloud.network()["id"]})
    cloud.admin.update("networks", cloud.external()["id"], {"is_default": True})
    yield cloud
    cloud.end()


def test_the_default_pool(cloud: Cloud) -> None:
    """A floating IP is of the default external network, unless another is named."""
    first, second = cloud.external(), cloud.external()
    with pytest.raises(Invalid, match="floating_network_id"):
        cloud.alice.create("floatingips", {})
    with pytest.raises(Forbidden):
        cloud.alice.create("networks", {"is_default": True})
    cloud.admin.update("networks", second["id"], {"is_default": True})

    assert cloud.alice.create("floatingips", {})["floating_network_id"] == second["id"]
    named = cloud.alice.create("floatingips", {"floating_network_id": first["id"]})
    assert named["floating_network_id"] == first["id"]
    assert [n["id"] for n in cloud.alice.list("networks", is_default=True)] == [second["id"]]
    with pytest.raises(Conflict, match=second["id"]) as refusal:
        cloud.admin.update("networks", first["id"], {"is_default": True})
    assert refusal.value.kind == "DefaultExternalNetworkExists"
    cloud.admin.update("networks", second["id"], {"is_default": False})
    cloud.admin.update("networks", first["id"], {"is_default": True})


def test_only_an_external_network_is_the_default(cloud: Cloud) -> None:
    """A tenant's is refused, at its creation and later."""
    with pytest.raises(Invalid, match="is_default"):
        cloud.admin.create("networks", {"is_default": True})
    network = cloud.admin.create("networks", {})
    with pytest.raises(Invalid, match="is_default"):
        cloud.admin.update("networks", network["id"], {"is_default": True})


def floating_ips(cloud: Cloud, port: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the floating IPs that lead to a port."""
    return cloud.admin.list("floatingips", port_id=port["id"])


def test_a_floating_ip_comes_and_goes_with_its_port(automatic: Cloud) -> None:
    """It is there with the port, leads to it, and is given back with it."""
    cloud = automatic
    (external,) = cloud.admin.list("networks", is_default=True)
    network = cloud.network()
    port = cloud.instance(network, "h1")

    (floating,) = floating_ips(cloud, port)

    assert floating["floating_network_id"] == external["id"]
    assert (floating["project_id"], floating["fixed_ip_address"]) == (
        "p1",
        port["fixed_ips"][0]["ip_address"],
    )
    assert floating["trunkline:auto_assigned"] is True
    cloud.alice.delete("ports", port["id"])
    assert cloud.admin.list("floatingips") == []
    assert cloud.admin.list("ports", network_id=external["id"]) == []


def test_who_gets_none(automatic: Cloud) -> None:
    """Ports of the network itself, and ports that no router leads to."""
    cloud = automatic
    network = cloud.network()
    lonely = cloud.alice.create("networks", {})
    cloud.subnet(lonely, gateway_ip=None)
    owner = {"network_id": network["id"], "device_owner": "network:dhcp"}

    for port in (
        cloud.admin.create("ports", owner),
        cloud.alice.create("ports", {"network_id": lonely["id"]}),
        cloud.alice.create("ports", {"network_id": network["id"], "fixed_ips": []}),
    ):
        assert floating_ips(cloud, port) == []


def test_an_automatic_one_stays_with_its_port(automatic: Cloud) -> None:
    """It counts against no quota, so a project keeps none of them without its port."""
    cloud = automatic
    cloud.admin.request("PUT", "/v2.0/quotas/p1", {"quota": {"floatingip": 0}})
    port = cloud.alice.create("ports", {"network_id": cloud.network()["id"]})
    (floating,) = floating_ips(cloud, port)

    def used() -> int:
        quota = cloud.alice.request("GET", "/v2.0/quotas/p1/details")["quota"]
        counted: int = quota["floatingip"]["used"]
        return counted

    assert used() == 0
    with pytest.raises(Conflict, match="port_id") as refusal:
        cloud.alice.update("floatingips", floating["id"], {"port_id": None})
    assert refusal.value.kind == "FloatingIPAutoAssigned"
    cloud.alice.update("floatingips", floating["id"], {"description": "mine"})
    freed = cloud.admin.update("floatingips", floating["id"], {"port_id": None})
    assert freed["trunkline:auto_assigned"] is False
    assert used() == 1
    cloud.alice.delete("floatingips", floating["id"])
    cloud.alice.delete("ports", port["id"])


def test_a_pool_that_is_empty(automatic: Cloud) -> None:
    """The port is refused, and the reason names the external network."""
    cloud = automatic
    network = cloud.network()
    (external,) = cloud.admin.list("networks", is_default=True)
    (subnet,) = cloud.admin.list("subnets", network_id=external["id"])
    base = subnet["cidr"].removesuffix("0/24")
    pools = [{"start": f"{base}9", "end": f"{base}9"}]
    cloud.admin.update("subnets", subnet["id"], {"allocation_pools": pools})
    cloud.alice.create("ports", {"network_id": network["id"]})
    before = cloud.alice.list("ports")

    with pytest.raises(Conflict, match=external["id"]):
        cloud.alice.create("ports", {"network_id": network["id"]})
    assert cloud.alice.list("ports") == before
