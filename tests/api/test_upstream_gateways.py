"""Networks whose router is upstream: not ours, so no host routes or translates for them."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Invalid
from trunkline.snapshot import HostSnapshot, NetworkView

UPSTREAM = {"trunkline:gateway": "upstream", "project_id": "p1"}


@pytest.fixture
def network(cloud: Cloud) -> Iterator[dict[str, Any]]:
    """A network of alice's with an upstream router and one subnet."""
    made = cloud.admin.create("networks", UPSTREAM)
    prefix = str(next(cloud.prefixes))
    wish = {"network_id": made["id"], "ip_version": 4, "cidr": prefix}
    yield {**made, "subnet": cloud.alice.create("subnets", wish)}
    for port in cloud.admin.list("ports", network_id=made["id"], device_owner="compute:x"):
        cloud.admin.delete("ports", port["id"])
    cloud.admin.delete("networks", made["id"])


def bind(cloud: Cloud, network_id: str, host: str) -> dict[str, Any]:
    """Make an instance's port on a host."""
    port = cloud.alice.create("ports", {"network_id": network_id})
    binding = {"binding:host_id": host, "device_owner": "compute:x"}
    return dict(cloud.admin.update("ports", port["id"], binding))


def view(cloud: Cloud, host: str, network_id: str) -> NetworkView:
    """Return a network as a host gets it."""
    with cloud.agent(host) as agent:
        snapshot = agent.snapshot(None, 0)
    assert isinstance(snapshot, HostSnapshot)
    return next(n for n in snapshot.networks if n.id == network_id)


def test_hosts_serve_dhcp_by_addresses_of_their_own(cloud: Cloud, network: dict[str, Any]) -> None:
    """The gateway_ip is the router's, and stays free of hosts, ports and routers of ours."""
    router = IPv4Address(network["subnet"]["gateway_ip"])
    for host in ("up-1", "up-2"):
        bind(cloud, network["id"], host)

    found = [view(cloud, host, network["id"]) for host in ("up-1", "up-2")]

    assert [n.router_id for n in found] == [None, None]
    assert [n.subnets[0].upstream for n in found] == [router, router]
    assert len({router, *(n.subnets[0].gateway for n in found)}) == 3


def test_without_dhcp_hosts_need_no_address(cloud: Cloud, network: dict[str, Any]) -> None:
    """The old FlatManager: addresses are handed out, and nothing serves them."""
    cloud.alice.update("subnets", network["subnet"]["id"], {"enable_dhcp": False})
    bind(cloud, network["id"], "up-3")

    assert view(cloud, "up-3", network["id"]).subnets[0].gateway is None


def test_the_routers_address_is_nobody_elses(cloud: Cloud, network: dict[str, Any]) -> None:
    """Neither a new port nor one that changes its addresses takes it; nor does a host."""
    fixed = {"fixed_ips": [{"ip_address": network["subnet"]["gateway_ip"]}]}
    port = cloud.alice.create("ports", {"network_id": network["id"]})
    host = {"device_owner": "trunkline:gateway", "binding:host_id": "up-4"}

    for wish in ({}, host):
        with pytest.raises(Conflict, match="upstream router's"):
            cloud.admin.create("ports", {"network_id": network["id"], **fixed, **wish})
    with pytest.raises(Conflict, match="upstream router's"):
        cloud.alice.update("ports", port["id"], fixed)
    cloud.alice.delete("ports", port["id"])


def test_no_router_of_this_cloud_beside_it(cloud: Cloud, network: dict[str, Any]) -> None:
    """An interface there is refused by name, and so is the mode where there is an interface."""
    router = cloud.alice.create("routers", {"name": "r"})
    path = f"/v2.0/routers/{router['id']}/"
    with pytest.raises(Invalid, match="upstream"):
        cloud.alice.request(
            "PUT", f"{path}add_router_interface", {"subnet_id": network["subnet"]["id"]}
        )
    other = cloud.network()
    interface = {"subnet_id": other["subnet"]["id"]}
    cloud.alice.request("PUT", f"{path}add_router_interface", interface)

    with pytest.raises(Conflict, match=router["id"]):
        cloud.admin.update("networks", other["id"], {"trunkline:gateway": "upstream"})

    cloud.alice.request("PUT", f"{path}remove_router_interface", interface)
    cloud.admin.update("networks", other["id"], {"trunkline:gateway": "upstream"})
    bind(cloud, other["id"], "up-5")
    assert view(cloud, "up-5", other["id"]).router_id is None


def test_no_floating_ip_leads_there(cloud: Cloud, network: dict[str, Any]) -> None:
    """No host translates for it, so it is refused, and says why."""
    port = bind(cloud, network["id"], "up-6")
    outside = cloud.external()

    with pytest.raises(Invalid, match="upstream"):
        cloud.alice.create(
            "floatingips", {"floating_network_id": outside["id"], "port_id": port["id"]}
        )


def test_it_may_become_the_hosts_business_again(cloud: Cloud, network: dict[str, Any]) -> None:
    """While no instance is plugged in the mode changes, and the network is on its router again."""
    cloud.admin.update("networks", network["id"], {"trunkline:gateway": "per_host"})
    bind(cloud, network["id"], "up-7")

    found = view(cloud, "up-7", network["id"])

    assert found.router_id is not None
    assert found.subnets[0].upstream is None
    assert str(found.subnets[0].gateway) == network["subnet"]["gateway_ip"]


def test_provisioning_by_a_router_that_is_not_there(cloud: Cloud, network: dict[str, Any]) -> None:
    """The two settings contradict each other, in one request or in two."""
    by_router = {"trunkline:provisioning": "router"}
    with pytest.raises(Invalid, match="trunkline:provisioning"):
        cloud.admin.create("networks", {**UPSTREAM, **by_router})
    with pytest.raises(Invalid, match="trunkline:provisioning"):
        cloud.admin.update("networks", network["id"], by_router)

    cloud.admin.update("networks", network["id"], {**by_router, "trunkline:gateway": "anycast"})
