"""Many requests at once: nothing twice, nothing lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from running import Cloud

from trunkline.client import ApiClient
from trunkline.errors import Conflict
from trunkline.lab.waiting import limit_s
from trunkline.model import GATEWAY_OWNER

CLIENTS = 50


def at_once(cloud: Cloud, request: Callable[[ApiClient, int], Any]) -> list[Any]:
    """Return what 50 clients of the administrator's get or are refused with, all at once."""
    barrier = Barrier(CLIENTS)

    def run(number: int) -> Any:
        client = ApiClient(cloud.url, "admin")
        try:
            client.list("networks", limit=1)  # connected before the start
            barrier.wait(limit_s(20))
            return request(client, number)
        except Conflict as refusal:
            return refusal.kind
        finally:
            client.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(run, range(CLIENTS)))


def test_fifty_ports_at_once(cloud: Cloud) -> None:
    """Each gets an address of both families and a MAC of its own, and is there afterwards."""
    network = cloud.network()
    six = {"network_id": network["id"], "ip_version": 6, "cidr": "fd00:50::/64"}
    cloud.alice.create("subnets", six)

    def create(client: ApiClient, number: int) -> Any:
        wish = {"network_id": network["id"], "project_id": "p1", "device_owner": "compute:nova"}
        return client.create("ports", {**wish, "binding:host_id": f"h{number % 5}"})

    made = at_once(cloud, create)

    assert [len(port["fixed_ips"]) for port in made] == [2] * CLIENTS
    assert len({ip["ip_address"] for port in made for ip in port["fixed_ips"]}) == 2 * CLIENTS
    assert len({port["mac_address"] for port in made}) == CLIENTS
    stored = cloud.admin.list("ports", network_id=network["id"], device_owner="compute:nova")
    assert {port["id"] for port in stored} == {port["id"] for port in made}
    gateways = cloud.admin.list("ports", network_id=network["id"], device_owner=GATEWAY_OWNER)
    assert sorted(port["binding:host_id"] for port in gateways) == [f"h{n}" for n in range(5)]
    everything = [ip["ip_address"] for port in (*stored, *gateways) for ip in port["fixed_ips"]]
    assert max(Counter(everything).values()) == 1


def test_fifty_networks_at_once(cloud: Cloud) -> None:
    """Each gets a VLAN of its own."""
    made = at_once(cloud, lambda client, _: client.create("networks", {"name": "race"}))

    assert len({network["provider:segmentation_id"] for network in made}) == CLIENTS
    assert len(cloud.admin.list("networks", name="race")) == CLIENTS


def test_fifty_for_ten_addresses(cloud: Cloud) -> None:
    """Ten get one, forty are told that there is none."""
    network = cloud.network()
    base = network["subnet"]["cidr"].removesuffix("0/24")
    pools = [{"start": f"{base}10", "end": f"{base}19"}]
    cloud.alice.update("subnets", network["subnet"]["id"], {"allocation_pools": pools})

    found = at_once(cloud, lambda client, _: client.create("ports", {"network_id": network["id"]}))

    refused = [kind for kind in found if isinstance(kind, str)]
    given = {port["fixed_ips"][0]["ip_address"] for port in found if not isinstance(port, str)}
    assert Counter(refused) == {"IpAddressGenerationFailure": 40}
    assert given == {f"{base}{last}" for last in range(10, 20)}


def test_fifty_for_one_address_mac_vlan_and_prefix(cloud: Cloud) -> None:
    """Of fifty who ask for the same, one gets it."""
    network = cloud.network()
    bare = [cloud.admin.create("networks", {})["id"] for _ in range(CLIENTS)]
    address = [{"ip_address": network["subnet"]["cidr"].removesuffix("0/24") + "77"}]
    mac, vlan = (
        "fa:16:3e:00:00:07",
        {
            "provider:network_type": "vlan",
            "provider:physical_network": "physnet1",
            "provider:segmentation_id": 4090,
        },
    )
    requests: list[Callable[[ApiClient, int], Any]] = [
        lambda c, _: c.create("ports", {"network_id": network["id"], "fixed_ips": address}),
        lambda c, _: c.create("ports", {"network_id": network["id"], "mac_address": mac}),
        lambda c, _: c.create("networks", vlan),
    ]

    for request in requests:
        found = at_once(cloud, request)
        assert len([one for one in found if not isinstance(one, str)]) == 1

    cidr = str(next(cloud.prefixes))
    at_once(cloud, lambda c, n: _try_subnet(c, bare[n], cidr))
    assert len(cloud.admin.list("subnets", cidr=cidr)) == 1


def _try_subnet(client: ApiClient, network_id: str, cidr: str) -> str:
    wish = {"subnet": {"network_id": network_id, "ip_version": 4, "cidr": cidr}}
    try:
        client.request("POST", "/v2.0/subnets", wish)
    except Exception as refusal:  # noqa: BLE001  whichever it is, the subnets are counted
        return type(refusal).__name__
    return "made"


def test_fifty_floating_ips_for_one_port(cloud: Cloud) -> None:
    """One is associated; the others are refused and reserve nothing."""
    network, external = cloud.network(), cloud.external()
    port = cloud.alice.create("ports", {"network_id": network["id"]})
    wish = {"floating_network_id": external["id"], "port_id": port["id"]}

    found = at_once(cloud, lambda client, _: client.create("floatingips", wish))

    assert Counter(map(type, found)) == {dict: 1, str: CLIENTS - 1}
    assert len(cloud.admin.list("floatingips", port_id=port["id"])) == 1
    assert len(cloud.admin.list("ports", network_id=external["id"])) == 1


def test_one_default_group_for_many_first_requests(own_cloud: Cloud) -> None:
    """A project's default group is made once, whoever comes first."""
    at_once(own_cloud, lambda client, _: client.list("security-groups"))

    assert len(own_cloud.admin.list("security-groups", project_id="padmin")) == 1


def test_creating_and_deleting_leaves_what_was_there(cloud: Cloud) -> None:
    """Ports that come and go at once leave no address, gateway or group behind."""
    network = cloud.network()

    def churn(client: ApiClient, number: int) -> Any:
        wish = {"network_id": network["id"], "device_owner": "compute:nova"}
        for _ in range(3):
            port = client.create("ports", {**wish, "binding:host_id": f"c{number % 3}"})
            client.delete("ports", port["id"])

    at_once(cloud, churn)

    assert cloud.admin.list("ports", network_id=network["id"]) == []
    cloud.alice.delete("networks", network["id"])
