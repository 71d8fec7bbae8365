"""Where networks are provisioned, and which addresses their gateways have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid
from trunkline.model import GATEWAY_OWNER, GatewayMode
from trunkline.snapshot import HostSnapshot, NetworkView

LEFT, RIGHT = "compute1", "compute2"


def snapshot(cloud: Cloud, host: str) -> HostSnapshot:
    """Return a host's snapshot as its agent gets it."""
    with cloud.agent(host) as agent:
        found = agent.snapshot(None, 0)
        assert found is not None
        return found


def served(cloud: Cloud, host: str) -> dict[str, NetworkView]:
    """Return the networks that a host serves, by id."""
    return {view.id: view for view in snapshot(cloud, host).networks}


def placed(cloud: Cloud, network: Mapping[str, Any], **wish: str) -> None:
    """Change where a network is, or its gateway mode."""
    cloud.admin.update("networks", network["id"], {f"trunkline:{k}": v for k, v in wish.items()})


def gateways(cloud: Cloud, network: Mapping[str, Any]) -> dict[str, str]:
    """Return the addresses of a network's gateway ports by host."""
    found = cloud.admin.list("ports", network_id=network["id"], device_owner=GATEWAY_OWNER)
    return {p["binding:host_id"]: p["fixed_ips"][0]["ip_address"] for p in found}


def at(network: Mapping[str, Any], last: int) -> str:
    """Return an address of a network's subnet."""
    base: str = network["subnet"]["cidr"].removesuffix("0/24")
    return f"{base}{last}"


def test_on_demand_is_where_instances_are(own_cloud: Cloud) -> None:
    """The article's default: no bridge without an instance."""
    network = own_cloud.network()
    port = own_cloud.instance(network, LEFT)

    assert own_cloud.admin.show("networks", network["id"])["trunkline:provisioning"] == "on_demand"
    assert set(served(own_cloud, LEFT)) == {network["id"]}
    assert served(own_cloud, RIGHT) == {}
    own_cloud.admin.delete("ports", port["id"])
    assert served(own_cloud, LEFT) == {}
    assert gateways(own_cloud, network) == {}


def test_router_is_wherever_a_network_of_the_router_is(own_cloud: Cloud) -> None:
    """A host that could route to it has it, with a gateway address, and loses both again."""
    here, there, alone = own_cloud.network(), own_cloud.network(), own_cloud.network()
    placed(own_cloud, there, provisioning="router")
    own_cloud.instance(there, RIGHT)
    port = own_cloud.instance(here, LEFT)

    assert set(served(own_cloud, LEFT)) == {here["id"], there["id"]}
    assert set(served(own_cloud, RIGHT)) == {there["id"]}
    assert gateways(own_cloud, there) == {RIGHT: at(there, 1), LEFT: at(there, 3)}
    assert gateways(own_cloud, alone) == {}
    own_cloud.admin.delete("ports", port["id"])
    assert served(own_cloud, LEFT) == {}
    assert gateways(own_cloud, there) == {RIGHT: at(there, 1)}


def test_router_needs_the_same_router(own_cloud: Cloud) -> None:
    """A network on no router is nowhere but where its instances are."""
    routed, island = own_cloud.network(), own_cloud.alice.create("networks", {})
    own_cloud.subnet(island, gateway_ip=None)
    placed(own_cloud, island, provisioning="router")
    placed(own_cloud, routed, provisioning="router")
    own_cloud.instance(routed, LEFT)
    own_cloud.instance(island, RIGHT)

    assert set(served(own_cloud, LEFT)) == {routed["id"]}
    assert set(served(own_cloud, RIGHT)) == {island["id"]}


def test_everywhere_is_on_every_host_that_has_an_agent(own_cloud: Cloud) -> None:
    """On those that are known at once, and on a new one with its agent's first word."""
    snapshot(own_cloud, LEFT)
    wish = {"name": "n", "trunkline:provisioning": "everywhere", "project_id": "p1"}
    network = own_cloud.admin.create("networks", wish)

    assert set(served(own_cloud, LEFT)) == {network["id"]}
    network["subnet"] = own_cloud.subnet(network)
    assert gateways(own_cloud, network) == {LEFT: at(network, 1)}
    assert set(served(own_cloud, RIGHT)) == {network["id"]}
    assert gateways(own_cloud, network) == {LEFT: at(network, 1), RIGHT: at(network, 2)}
    own_cloud.admin.delete("networks", network["id"])
    assert served(own_cloud, LEFT) == {}


def test_a_change_of_provisioning_moves_the_hosts_concerned(own_cloud: Cloud) -> None:
    """Those that get or lose the network, and no others."""
    here, there = own_cloud.network(), own_cloud.network()
    own_cloud.instance(there, RIGHT)
    own_cloud.instance(here, LEFT)
    before = {host: snapshot(own_cloud, host).revision for host in (LEFT, RIGHT, "compute3")}

    placed(own_cloud, there, provisioning="router")

    after = {host: snapshot(own_cloud, host).revision for host in before}
    assert after[LEFT] > before[LEFT]
    assert after["compute3"] == before["compute3"]
    assert set(served(own_cloud, LEFT)) == {here["id"], there["id"]}
    placed(own_cloud, there, provisioning="everywhere")
    assert set(served(own_cloud, "compute3")) == {there["id"]}
    placed(own_cloud, there, provisioning="on_demand")
    assert set(served(own_cloud, LEFT)) == {here["id"]}
    assert served(own_cloud, "compute3") == {}
    assert gateways(own_cloud, there) == {RIGHT: at(there, 1)}


def test_a_chosen_gateway_address_waits_for_its_host(own_cloud: Cloud) -> None:
    """A gateway port that was made beforehand outlives what happens on other networks."""
    first, second = own_cloud.network(), own_cloud.network()
    own_cloud.admin.create(
        "ports",
        {
            "network_id": second["id"],
            "device_owner": GATEWAY_OWNER,
            "binding:host_id": LEFT,
            "fixed_ips": [{"ip_address": at(second, 77)}],
        },
    )
    port = own_cloud.instance(first, LEFT)
    own_cloud.admin.delete("ports", port["id"])
    placed(own_cloud, second, provisioning="router")
    own_cloud.instance(first, LEFT)

    assert gateways(own_cloud, second) == {LEFT: at(second, 77)}


def test_a_subnet_full_of_gateways_names_itself(own_cloud: Cloud) -> None:
    """A port elsewhere that would need one more address is refused for that reason."""
    here, small = own_cloud.network(), own_cloud.alice.create("networks", {})
    subnet = own_cloud.subnet(small, cidr="10.250.0.0/30")
    placed(own_cloud, small, provisioning="router")
    own_cloud.instance(here, "h1")
    own_cloud.instance(here, "h2")

    with pytest.raises(Conflict, match=f"h3 .*{subnet['id']}") as refusal:
        own_cloud.instance(here, "h3")
    assert refusal.value.kind == "IpAddressGenerationFailure"
    for host in ("h1", "h2", "h3"):
        snapshot(own_cloud, host)
    with pytest.raises(Conflict, match=subnet["id"]):
        placed(own_cloud, small, provisioning="everywhere")
    assert own_cloud.admin.show("networks", small["id"])["trunkline:provisioning"] == "router"


def test_a_full_subnet_locks_no_agent_out(own_cloud: Cloud) -> None:
    """A host that comes too late for an address gets its snapshot, and the log says so."""
    wish = {"trunkline:provisioning": "everywhere", "project_id": "p1"}
    small = own_cloud.admin.create("networks", wish)
    subnet = own_cloud.subnet(small, cidr="10.250.0.0/30")

    views = [served(own_cloud, host)[small["id"]] for host in ("h1", "h2", "h3")]

    assert [view.subnets[0].gateway is None for view in views] == [False, False, True]
    assert f"host h3: No more IP addresses available on network {small['id']}" in own_cloud.log
    assert subnet["id"] in own_cloud.log


def test_a_forgotten_agent_gives_its_addresses_back(own_cloud: Cloud) -> None:
    """A host that is gone for good holds none, unless an instance is bound to it."""
    network, busy = own_cloud.network(), own_cloud.network()
    for one in (network, busy):
        placed(own_cloud, one, provisioning="everywhere")
    snapshot(own_cloud, LEFT)
    own_cloud.instance(busy, LEFT)
    (agent,) = own_cloud.admin.list("agents", host=LEFT)

    own_cloud.admin.delete("agents", agent["id"])

    assert gateways(own_cloud, network) == {}
    assert set(gateways(own_cloud, busy)) == {LEFT}
    assert own_cloud.admin.list("agents", host=LEFT) == []
    assert set(served(own_cloud, LEFT)) == {network["id"], busy["id"]}
    assert set(gateways(own_cloud, network)) == {LEFT}


def test_anycast_is_one_address_on_every_host(own_cloud: Cloud) -> None:
    """All hosts have the subnet's gateway_ip, and one port without a host holds it."""
    network = own_cloud.network()
    placed(own_cloud, network, gateway="anycast")
    for host in (LEFT, RIGHT):
        own_cloud.instance(network, host)

    for host in (LEFT, RIGHT):
        view = served(own_cloud, host)[network["id"]]
        assert view.gateway_mode is GatewayMode.ANYCAST
        assert str(view.subnets[0].gateway) == at(network, 1)
    assert gateways(own_cloud, network) == {"": at(network, 1)}


def test_anycast_without_gateway_ip_has_one_dhcp_server_address(own_cloud: Cloud) -> None:
    """DHCP needs an address on the subnet, which is then every host's too."""
    network = own_cloud.alice.create("networks", {})
    placed(own_cloud, network, gateway="anycast")
    network["subnet"] = own_cloud.subnet(network, gateway_ip=None)

    assert gateways(own_cloud, network) == {"": at(network, 1)}
    own_cloud.alice.update(
        "subnets",
        network["subnet"]["id"],
        {"gateway_ip": at(network, 254)}
        | {"allocation_pools": [{"start": at(network, 1), "end": at(network, 99)}]},
    )
    assert gateways(own_cloud, network) == {"": at(network, 254)}


def test_the_gateway_mode_stays_while_instances_use_it(own_cloud: Cloud) -> None:
    """Their leases name the old gateway; without them it changes both ways."""
    network = own_cloud.network()
    port = own_cloud.instance(network, LEFT)

    with pytest.raises(Conflict, match=f"trunkline:gateway.*{LEFT}"):
        placed(own_cloud, network, gateway="anycast")
    own_cloud.admin.delete("ports", port["id"])
    placed(own_cloud, network, gateway="anycast", provisioning="everywhere")
    snapshot(own_cloud, RIGHT)
    assert gateways(own_cloud, network) == {"": at(network, 1)}
    placed(own_cloud, network, gateway="per_host")
    assert set(gateways(own_cloud, network)) == {RIGHT}


def test_an_anycast_gateway_is_nobodys_to_change(own_cloud: Cloud) -> None:
    """Its port follows the subnet, and the subnet's gateway stays under instances."""
    network = own_cloud.network()
    placed(own_cloud, network, gateway="anycast")
    (port,) = own_cloud.admin.list("ports", device_owner=GATEWAY_OWNER)
    own_cloud.instance(network, LEFT)
    wish = {"network_id": network["id"], "device_owner": GATEWAY_OWNER, "binding:host_id": LEFT}

    with pytest.raises(Conflict, match="anycast"):
        own_cloud.admin.create("ports", wish)
    with pytest.raises(Conflict, match="every host"):
        own_cloud.admin.delete("ports", port["id"])
    with pytest.raises(Conflict, match="fixed_ips"):
        own_cloud.admin.update("ports", port["id"], {"fixed_ips": []})
    with pytest.raises(Conflict, match="gateway_ip") as refusal:
        own_cloud.alice.update("subnets", network["subnet"]["id"], {"gateway_ip": None})
    assert refusal.value.kind == "GatewayIpInUse"


@pytest.mark.parametrize("attribute", ["provisioning", "gateway"])
def test_placement_is_the_administrators(cloud: Cloud, attribute: str) -> None:
    """Members neither see nor set it, and what it is not is refused by name."""
    name = f"trunkline:{attribute}"
    network = cloud.network()
    usual = cloud.admin.show("networks", network["id"])[name]

    assert name not in cloud.alice.show("networks", network["id"])
    with pytest.raises(Forbidden, match=name):
        cloud.alice.update("networks", network["id"], {name: usual})
    with pytest.raises(Invalid, match=name):
        cloud.admin.update("networks", network["id"], {name: "nowhere"})
    with pytest.raises(Invalid, match=f"{name}.*external"):
        cloud.admin.create("networks", {"router:external": True, name: usual})


def test_the_configuration_has_the_defaults(own_cloud: Cloud) -> None:
    """Networks that do not say so are where, and how, the server's configuration wants."""
    own_cloud.end()
    config = own_cloud.directory / "server.toml"
    usual = 'provisioning = "everywhere"\ngateway = "anycast"\n'
    config.write_text(usual + config.read_text())
    own_cloud.start()
    network = own_cloud.network()
    external = own_cloud.external()

    assert network["id"] in served(own_cloud, LEFT)
    assert gateways(own_cloud, network) == {"": at(network, 1)}
    assert gateways(own_cloud, external) == {}
    assert external["id"] not in served(own_cloud, LEFT)
