"""Routers and routing domains over the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from running import Cloud

from trunkline.client import ApiClient
from trunkline.errors import Conflict, Forbidden, Invalid, NotFound, RequestError
from trunkline.model import GATEWAY_OWNER, ROUTER_INTERFACE_OWNER
from trunkline.snapshot import HostSnapshot, NetworkView

HOST = "compute1"


def snapshot(cloud: Cloud, host: str = HOST) -> HostSnapshot:
    """Return a host's snapshot as its agent gets it."""
    with cloud.agent(host) as agent:
        found = agent.snapshot(None, 0)
        assert found is not None
        return found


def views(cloud: Cloud, host: str = HOST) -> dict[str, NetworkView]:
    """Return the networks that a host serves, by id."""
    return {view.id: view for view in snapshot(cloud, host).networks}


def act(
    client: ApiClient, router: Mapping[str, Any], action: str, /, **body: Any
) -> dict[str, Any]:
    """Ask for an action of a router."""
    answer: dict[str, Any] = client.request("PUT", f"/v2.0/routers/{router['id']}/{action}", body)
    return answer


def add(cloud: Cloud, router: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, Any]:
    """Put a network's subnet on a router, as alice."""
    return act(cloud.alice, router, "add_router_interface", subnet_id=network["subnet"]["id"])


def remove(cloud: Cloud, router: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, Any]:
    """Take a network's subnet off a router, as alice."""
    return act(cloud.alice, router, "remove_router_interface", subnet_id=network["subnet"]["id"])


def default_router(cloud: Cloud) -> dict[str, Any]:
    """Return the router that all projects share."""
    (found,) = cloud.admin.list("routers", name="default", project_id="")
    return found


def at(network: Mapping[str, Any], last: int) -> str:
    """Return an address of a network's subnet."""
    base: str = network["subnet"]["cidr"].removesuffix("0/24")
    return f"{base}{last}"


def kind_of(act: Callable[[], Any]) -> str:
    """Return the type of the error that an act ends in."""
    with pytest.raises(RequestError) as refusal:
        act()
    return refusal.value.kind


def test_a_network_without_gateway_is_on_no_router(own_cloud: Cloud) -> None:
    """Its prefix means something in it alone, so another network may have the same one."""
    routed = own_cloud.network()
    cidr = routed["subnet"]["cidr"]
    twin = own_cloud.alice.create("networks", {})
    own_cloud.subnet(twin, cidr=cidr, gateway_ip=None)
    for network in (routed, twin):
        own_cloud.instance(network, HOST)

    found = snapshot(own_cloud)

    (router,) = found.routers
    views = {view.id: view for view in found.networks}
    assert views[routed["id"]].router_id == router.id
    assert views[twin["id"]].router_id is None
    assert [str(prefix) for prefix in found.tenant_prefixes] == [cidr]
    (group,) = {group.id for group in found.groups}
    assert {key: len(who) for key, who in found.members.items()} == {
        (group, view.domain): 1 for view in views.values()
    }


def test_a_gateway_puts_a_network_on_the_default_router(own_cloud: Cloud) -> None:
    """Not where its prefix is taken; once it is on, it comes off with the gateway."""
    routed, twin = own_cloud.network(), own_cloud.alice.create("networks", {})
    same = {key: routed["subnet"][key] for key in ("cidr", "allocation_pools")}
    subnet = own_cloud.subnet(twin, **same, gateway_ip=None)
    wish = {"gateway_ip": routed["subnet"]["gateway_ip"]}

    with pytest.raises(Invalid, match="overlaps"):
        own_cloud.alice.update("subnets", subnet["id"], wish)
    own_cloud.alice.update("subnets", routed["subnet"]["id"], {"gateway_ip": None})
    own_cloud.alice.update("subnets", subnet["id"], wish)
    own_cloud.instance(routed, HOST)
    own_cloud.instance(twin, HOST)

    on_router = {view.id: view.router_id is not None for view in snapshot(own_cloud).networks}
    assert on_router == {routed["id"]: False, twin["id"]: True}


def test_subnets_of_one_network_never_overlap(own_cloud: Cloud) -> None:
    """They share a wire, with or without a router."""
    network = own_cloud.alice.create("networks", {})
    subnet = own_cloud.subnet(network, gateway_ip=None)

    with pytest.raises(Invalid, match="overlaps"):
        own_cloud.subnet(network, cidr=subnet["cidr"], gateway_ip=None)


def test_without_a_default_router_networks_are_on_none(own_cloud: Cloud) -> None:
    """The configuration's word holds for networks from then on."""
    old = own_cloud.network()
    own_cloud.end()
    config = own_cloud.directory / "server.toml"
    config.write_text(f"default_router = false\n{config.read_text()}")
    own_cloud.start()
    new = own_cloud.alice.create("networks", {})
    own_cloud.subnet(new, cidr=old["subnet"]["cidr"])
    for network in (old, new):
        own_cloud.instance(network, HOST)

    on_router = {view.id: view.router_id is not None for view in snapshot(own_cloud).networks}
    assert on_router == {old["id"]: True, new["id"]: False}


def test_a_router_as_clients_expect_it(cloud: Cloud) -> None:
    """Every attribute that they read is there, and what is for administrators is not."""
    made = cloud.alice.create("routers", {"name": "r", "description": "d"})

    assert made == {
        **made,
        "project_id": "p1",
        "tenant_id": "p1",
        "name": "r",
        "description": "d",
        "status": "ACTIVE",
        "admin_state_up": True,
        "external_gateway_info": None,
        "routes": [],
        "flavor_id": None,
        "availability_zones": [],
        "tags": [],
    }
    assert made.keys().isdisjoint({"ha", "distributed"})
    seen = cloud.admin.show("routers", made["id"])
    assert (seen["ha"], seen["distributed"]) == (False, False)
    changed = cloud.alice.update("routers", made["id"], {"name": "s", "admin_state_up": False})
    assert (changed["name"], changed["admin_state_up"]) == ("s", False)
    assert [r["id"] for r in cloud.alice.list("routers", name="s", status="ACTIVE")] == [made["id"]]
    cloud.alice.delete("routers", made["id"])
    with pytest.raises(NotFound):
        cloud.alice.show("routers", made["id"])


def test_everybody_sees_the_default_router_and_administrators_change_it(cloud: Cloud) -> None:
    """It is shared, stays, and leads to all external networks anyhow."""
    router = default_router(cloud)

    assert cloud.bob.show("routers", router["id"])["name"] == "default"
    with pytest.raises(Forbidden):
        cloud.bob.update("routers", router["id"], {"name": "mine"})
    with pytest.raises(Forbidden):
        cloud.bob.delete("routers", router["id"])
    assert kind_of(lambda: cloud.admin.delete("routers", router["id"])) == "RouterInUse"
    info = {"external_gateway_info": {"network_id": cloud.external()["id"]}}
    with pytest.raises(Conflict, match="external_gateway_info"):
        cloud.admin.update("routers", router["id"], info)
    network = cloud.network()
    with pytest.raises(Conflict, match="default router"):
        act(cloud.admin, router, "add_router_interface", subnet_id=network["subnet"]["id"])
    changed = cloud.admin.update("routers", router["id"], {"description": "shared"})
    assert changed["description"] == "shared"


def test_an_interface_brings_a_network_on_a_router_and_back(own_cloud: Cloud) -> None:
    """The first interface takes it off the default router; the last one that goes returns it."""
    network, other = own_cloud.network(), own_cloud.network()
    router = own_cloud.alice.create("routers", {"name": "mine"})
    own_cloud.instance(network, HOST)
    own_cloud.instance(other, "compute2")
    before = {host: snapshot(own_cloud, host).revision for host in (HOST, "compute2")}

    answer = add(own_cloud, router, network)

    port = own_cloud.alice.show("ports", answer["port_id"])
    assert answer == {
        "id": router["id"],
        "project_id": "p1",
        "tenant_id": "p1",
        "network_id": network["id"],
        "port_id": port["id"],
        "subnet_id": network["subnet"]["id"],
        "subnet_ids": [network["subnet"]["id"]],
    }
    assert (port["device_owner"], port["device_id"]) == (ROUTER_INTERFACE_OWNER, router["id"])
    assert port["fixed_ips"] == [
        {"subnet_id": network["subnet"]["id"], "ip_address": network["subnet"]["gateway_ip"]}
    ]
    (view,) = snapshot(own_cloud).routers
    assert (view.id, view.name, view.is_default, view.has_gateway) == (
        router["id"],
        "mine",
        False,
        False,
    )
    after = {host: snapshot(own_cloud, host).revision for host in before}
    assert after[HOST] > before[HOST]
    assert after["compute2"] == before["compute2"]
    event = own_cloud.admin.list("audit-events", resource_id=router["id"], action="update")[0]
    assert event["changes"] == {"interfaces": {"before": [], "after": [network["subnet"]["id"]]}}
    assert remove(own_cloud, router, network) == answer
    assert views(own_cloud)[network["id"]].router_id == default_router(own_cloud)["id"]
    with pytest.raises(NotFound):
        own_cloud.alice.show("ports", port["id"])


@pytest.mark.parametrize("gateway", ["per_host", "anycast"])
def test_instances_notice_nothing_of_an_interface(own_cloud: Cloud, gateway: str) -> None:
    """Each host keeps its address, also the one that the interface then holds."""
    network = own_cloud.network()
    wish = {"trunkline:gateway": gateway}
    own_cloud.admin.update("networks", network["id"], wish)
    hosts = ("h1", "h2")
    for host in hosts:
        own_cloud.instance(network, host)
    router = own_cloud.alice.create("routers", {})

    def addresses() -> list[str]:
        found = [views(own_cloud, host)[network["id"]].subnets[0].gateway for host in hosts]
        return [str(address) for address in found]

    before = addresses()
    assert before[0] == network["subnet"]["gateway_ip"]
    answer = add(own_cloud, router, network)
    assert addresses() == before
    assert own_cloud.admin.show("ports", answer["port_id"])["binding:host_id"] == (
        "h1" if gateway == "per_host" else ""
    )
    remove(own_cloud, router, network)
    assert addresses() == before
    own_cloud.alice.delete("routers", router["id"])


def test_the_first_host_carries_the_interfaces_address(own_cloud: Cloud) -> None:
    """As without a router of one's own; when it leaves, the next host that comes does."""
    network = own_cloud.network()
    router = own_cloud.alice.create("routers", {})
    answer = add(own_cloud, router, network)

    def carrier() -> str:
        found: str = own_cloud.admin.show("ports", answer["port_id"])["binding:host_id"]
        return found

    assert carrier() == ""
    first = own_cloud.instance(network, "h1")
    assert carrier() == "h1"
    assert own_cloud.admin.list("ports", device_owner=GATEWAY_OWNER) == []
    own_cloud.instance(network, "h2")
    assert str(views(own_cloud, "h2")[network["id"]].subnets[0].gateway) == at(network, 4)
    own_cloud.admin.delete("ports", first["id"])
    assert carrier() == ""
    own_cloud.instance(network, "h3")
    assert carrier() == "h3"


def test_a_report_does_not_touch_an_interface(own_cloud: Cloud) -> None:
    """The agent of the host that carries its address knows nothing of the port."""
    network = own_cloud.network()
    answer = add(own_cloud, own_cloud.alice.create("routers", {}), network)
    own_cloud.instance(network, HOST)
    body = {"revision": 1, "full": True, "ports": {}, "problems": [], "facts": {}}

    own_cloud.user("agent").request("POST", f"/agent/v1/hosts/{HOST}/report", body)

    assert own_cloud.alice.show("ports", answer["port_id"])["status"] == "ACTIVE"


def test_a_port_that_has_the_gateways_address_becomes_an_interface(cloud: Cloud) -> None:
    """Any other address would be none that the network's instances use."""
    network, router = cloud.network(), cloud.alice.create("routers", {})
    wish = {"network_id": network["id"], "fixed_ips": [{"ip_address": at(network, 1)}]}
    right = cloud.alice.create("ports", wish)
    wrong = cloud.alice.create("ports", {"network_id": network["id"]})
    used = cloud.alice.create("ports", {"network_id": network["id"], "device_id": "vm"})

    with pytest.raises(Invalid, match="gateway_ip"):
        act(cloud.alice, router, "add_router_interface", port_id=wrong["id"])
    with pytest.raises(Conflict, match="attached"):
        act(cloud.alice, router, "add_router_interface", port_id=used["id"])
    act(cloud.alice, router, "add_router_interface", port_id=right["id"])

    port = cloud.alice.show("ports", right["id"])
    assert (port["device_id"], port["device_owner"]) == (router["id"], ROUTER_INTERFACE_OWNER)
    assert (port["security_groups"], port["port_security_enabled"]) == ([], False)
    assert kind_of(lambda: cloud.alice.delete("ports", right["id"])) == "ServicePortInUse"
    act(cloud.alice, router, "remove_router_interface", port_id=right["id"])


def test_what_is_no_interface_is_refused(cloud: Cloud) -> None:
    """By Neutron's error types, which clients tell apart."""
    network, router = cloud.network(), cloud.alice.create("routers", {})
    second, foreign = cloud.network(), cloud.network("bob")
    island, outside = cloud.alice.create("networks", {}), cloud.external()
    bare = cloud.subnet(island, gateway_ip=None)
    answer = add(cloud, router, network)

    def kind(action: str, **body: Any) -> str:
        return kind_of(lambda: act(cloud.alice, router, f"{action}_router_interface", **body))

    assert kind("add") == kind("remove") == "BadRequest"
    assert kind("add", subnet_id=second["subnet"]["id"], port_id=answer["port_id"]) == "BadRequest"
    assert kind("add", subnet_id=network["subnet"]["id"]) == "BadRequest"
    assert kind("add", subnet_id=bare["id"]) == "BadRequest"
    assert kind("add", subnet_id=foreign["subnet"]["id"]) == "SubnetNotFound"
    assert kind("add", subnet_id=outside["subnet"]["id"]) == "PolicyNotAuthorized"
    assert kind("add", subnet_id="x") == kind("add", colour="blue") == "BadRequest"
    missing = {"subnet_id": second["subnet"]["id"]}
    assert kind("remove", **missing) == "RouterInterfaceNotFoundForSubnet"
    assert kind("remove", port_id=second["id"]) == "RouterInterfaceNotFound"
    both = {"port_id": answer["port_id"], "subnet_id": second["subnet"]["id"]}
    assert kind("remove", **both) == "SubnetMismatchForPort"
    assert kind_of(lambda: cloud.alice.delete("routers", router["id"])) == "RouterInUse"
    assert kind_of(lambda: cloud.alice.delete("networks", network["id"])) == "NetworkInUse"
    assert kind_of(lambda: cloud.alice.delete("subnets", network["subnet"]["id"])) == "SubnetInUse"
    wish = {"gateway_ip": None}
    subnet_id = network["subnet"]["id"]
    assert kind_of(lambda: cloud.alice.update("subnets", subnet_id, wish)) == "GatewayIpInUse"
    assert kind_of(lambda: act(cloud.alice, network, "add_router_interface")) == "RouterNotFound"


def test_all_subnets_of_a_network_are_on_one_router(cloud: Cloud) -> None:
    """They share a wire; a second router is refused by name."""
    network = cloud.network()
    second = cloud.subnet(network)
    router, other = cloud.alice.create("routers", {}), cloud.alice.create("routers", {})
    add(cloud, router, network)

    with pytest.raises(Conflict, match=router["id"]):
        act(cloud.alice, other, "add_router_interface", subnet_id=second["id"])
    act(cloud.alice, router, "add_router_interface", subnet_id=second["id"])


def test_a_shared_network_is_its_owners_to_move(cloud: Cloud) -> None:
    """Others' instances on it would move along."""
    network = cloud.network()
    cloud.admin.update("networks", network["id"], {"shared": True})
    router = cloud.bob.create("routers", {})

    with pytest.raises(Forbidden):
        act(cloud.bob, router, "add_router_interface", subnet_id=network["subnet"]["id"])


def twins(cloud: Cloud) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make two networks with one prefix, in a cloud without a default router."""
    cloud.end()
    config = cloud.directory / "server.toml"
    config.write_text(f"default_router = false\n{config.read_text()}")
    cloud.start()
    first, second = cloud.network(), cloud.alice.create("networks", {})
    second["subnet"] = cloud.subnet(second, cidr=first["subnet"]["cidr"])
    return first, second


def test_prefixes_overlap_across_routers_and_not_on_one(own_cloud: Cloud) -> None:
    """Also on one host: each domain has its own members of a group."""
    first, second = twins(own_cloud)
    router, other = (own_cloud.alice.create("routers", {"name": n}) for n in "ab")
    add(own_cloud, router, first)

    assert kind_of(lambda: add(own_cloud, router, second)) == "BadRequest"
    assert own_cloud.alice.list("ports", network_id=second["id"]) == []
    add(own_cloud, other, second)
    for network in (first, second):
        own_cloud.instance(network, HOST)
    found = snapshot(own_cloud)
    assert {view.id for view in found.routers} == {router["id"], other["id"]}
    assert [str(prefix) for prefix in found.tenant_prefixes] == [first["subnet"]["cidr"]]
    assert {domain: list(map(str, who)) for (_, domain), who in found.members.items()} == {
        router["id"]: [at(first, 2)],
        other["id"]: [at(first, 2)],
    }


def test_a_new_subnet_may_not_overlap_on_its_networks_router(own_cloud: Cloud) -> None:
    """A network that is on a router brings its new subnets there."""
    first, second = twins(own_cloud)
    router = own_cloud.alice.create("routers", {})
    third = own_cloud.network()
    add(own_cloud, router, first)
    add(own_cloud, router, third)

    with pytest.raises(Invalid, match=f"overlaps.*{router['id']}"):
        own_cloud.subnet(third, cidr=second["subnet"]["cidr"])


def test_an_interface_can_be_removed_although_the_default_router_has_the_prefix(
    own_cloud: Cloud,
) -> None:
    """The network is then on no router: nobody is locked in."""
    network, taken = own_cloud.network(), own_cloud.network()
    router = own_cloud.alice.create("routers", {})
    add(own_cloud, router, network)
    own_cloud.subnet(network, cidr=taken["subnet"]["cidr"])
    own_cloud.instance(network, HOST)

    remove(own_cloud, router, network)

    assert views(own_cloud)[network["id"]].router_id is None


def test_a_gateway_leads_floating_ips_in(cloud: Cloud) -> None:
    """Association needs a way from the external network to the port, and keeps it."""
    network, outside, elsewhere = cloud.network(), cloud.external(), cloud.external()
    router = cloud.alice.create("routers", {})
    add(cloud, router, network)
    port = cloud.alice.create("ports", {"network_id": network["id"]})
    floating = cloud.alice.create("floatingips", {"floating_network_id": outside["id"]})

    def associate() -> dict[str, Any]:
        return cloud.alice.update("floatingips", floating["id"], {"port_id": port["id"]})

    def gateway(info: dict[str, Any]) -> Any:
        wish = {"external_gateway_info": info}
        return cloud.alice.update("routers", router["id"], wish)["external_gateway_info"]

    assert kind_of(associate) == "ExternalGatewayForFloatingIPNotFound"
    gateway({"network_id": elsewhere["id"]})
    assert kind_of(associate) == "ExternalGatewayForFloatingIPNotFound"
    assert gateway({"network_id": outside["id"]}) == {
        "network_id": outside["id"],
        "enable_snat": True,
        "external_fixed_ips": [],
    }
    assert associate()["router_id"] == router["id"]
    assert [f["id"] for f in cloud.alice.list("floatingips", router_id=router["id"])] == [
        floating["id"]
    ]
    in_use = "RouterExternalGatewayInUseByFloatingIp"
    assert kind_of(lambda: gateway({})) == in_use
    assert kind_of(lambda: gateway({"network_id": elsewhere["id"]})) == in_use
    assert kind_of(lambda: remove(cloud, router, network)) == "RouterInterfaceInUseByFloatingIP"
    freed = cloud.alice.update("floatingips", floating["id"], {"port_id": None})
    assert freed["router_id"] is None
    assert gateway({}) is None
    remove(cloud, router, network)
    assert associate()["router_id"] == default_router(cloud)["id"]


def test_a_network_does_not_leave_its_floating_ips(cloud: Cloud) -> None:
    """A router without a gateway, or none, would cut them off."""
    network, outside = cloud.network(), cloud.external()
    port = cloud.alice.create("ports", {"network_id": network["id"]})
    wish = {"floating_network_id": outside["id"], "port_id": port["id"]}
    address = cloud.alice.create("floatingips", wish)["floating_ip_address"]
    router = cloud.alice.create("routers", {})

    with pytest.raises(Conflict, match=address):
        add(cloud, router, network)
    with pytest.raises(Conflict, match=address):
        cloud.alice.update("subnets", network["subnet"]["id"], {"gateway_ip": None})
    info = {"external_gateway_info": {"network_id": outside["id"]}}
    cloud.alice.update("routers", router["id"], info)
    add(cloud, router, network)


def test_a_gateway_keeps_its_external_network(cloud: Cloud) -> None:
    """It is in use, although no port says so."""
    outside = cloud.external()
    info = {"external_gateway_info": {"network_id": outside["id"]}}
    router = cloud.alice.create("routers", info)

    assert kind_of(lambda: cloud.admin.delete("networks", outside["id"])) == "NetworkInUse"
    cloud.alice.delete("routers", router["id"])
    cloud.admin.delete("networks", outside["id"])


def test_only_administrators_do_without_translation(cloud: Cloud) -> None:
    """enable_snat is theirs, as in Neutron; the hosts are told."""
    outside = cloud.external()["id"]
    network, router = cloud.network(), cloud.alice.create("routers", {})
    add(cloud, router, network)
    cloud.instance(network, HOST)
    info = {"external_gateway_info": {"network_id": outside, "enable_snat": False}}

    with pytest.raises(Forbidden, match="enable_snat"):
        cloud.alice.update("routers", router["id"], info)
    cloud.admin.update("routers", router["id"], info)

    (view,) = [view for view in snapshot(cloud).routers if view.id == router["id"]]
    assert (view.has_gateway, view.enable_snat) == (True, False)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("external_gateway_info", {"enable_snat": True}),
        ("external_gateway_info", {"network_id": "x"}),
        ("external_gateway_info", "out"),
        ("external_gateway_info", {"network_id": "x", "colour": "blue"}),
        ("ha", True),
        ("distributed", "yes"),
        ("routes", [{"destination": "10.9.0.0/24"}]),
        ("routes", [{"destination": "10.9.0.0/24", "nexthop": "10.250.0.1"}]),
        ("colour", "blue"),
    ],
)
def test_a_wrong_router_names_the_field(cloud: Cloud, attribute: str, value: Any) -> None:
    """Each malformed or impossible value is refused with the name of its field."""
    with pytest.raises(Invalid, match=attribute):
        cloud.alice.create("routers", {"name": "wrong", attribute: value})
    assert cloud.alice.list("routers", name="wrong") == []


def test_an_address_of_its_own_is_not_to_be_had(cloud: Cloud) -> None:
    """Each host translates to its own address, so a router's would be nowhere."""
    outside = cloud.external()
    fixed = [{"ip_address": at(outside, 9)}]
    info = {"network_id": outside["id"], "external_fixed_ips": fixed}

    with pytest.raises(Invalid, match="external_fixed_ips"):
        cloud.alice.create("routers", {"external_gateway_info": info})
    info = {"network_id": cloud.network()["id"]}
    with pytest.raises(Invalid, match="external_gateway_info"):
        cloud.alice.create("routers", {"external_gateway_info": info})


def test_extra_routes(own_cloud: Cloud) -> None:
    """They lead by instances on the router's subnets, and hosts are told; PUT sets them all."""
    network, router = own_cloud.network(), own_cloud.alice.create("routers", {})
    answer = add(own_cloud, router, network)
    own_cloud.instance(network, HOST)
    first = {"destination": "172.16.0.0/16", "nexthop": at(network, 9)}
    second = {"destination": "172.17.0.0/16", "nexthop": at(network, 9)}

    def change(verb: str, *routes: Any) -> Any:
        body = {"routes": list(routes)}
        answer = act(own_cloud.alice, router, f"{verb}_extraroutes", router=body)
        return answer["router"]["routes"]

    assert change("add", first) == [first]
    assert change("add", first, second) == [first, second]
    (view,) = snapshot(own_cloud).routers
    assert [str(route.destination) for route in view.routes] == ["172.16.0.0/16", "172.17.0.0/16"]
    in_use = "RouterInterfaceInUseByRoute"
    assert kind_of(lambda: remove(own_cloud, router, network)) == in_use
    assert change("remove", second, second) == [first]
    for nexthop in (network["subnet"]["gateway_ip"], "172.16.0.1"):
        wrong = {**first, "nexthop": nexthop}
        assert kind_of(lambda route=wrong: change("add", route)) == "InvalidRoutes"
    assert own_cloud.alice.update("routers", router["id"], {"routes": []})["routes"] == []
    act(own_cloud.alice, router, "remove_router_interface", port_id=answer["port_id"])


def test_interface_ports_are_not_made_by_hand(cloud: Cloud) -> None:
    """A port that only claims to be an interface would put its network on any router."""
    network = cloud.network()
    wish = {"network_id": network["id"], "device_owner": ROUTER_INTERFACE_OWNER, "device_id": "x"}

    with pytest.raises(Invalid, match="add_router_interface"):
        cloud.admin.create("ports", wish)
    port = cloud.admin.create("ports", {"network_id": network["id"]})
    with pytest.raises(Invalid, match="device_owner"):
        cloud.admin.update("ports", port["id"], {"device_owner": ROUTER_INTERFACE_OWNER})


def test_a_routers_project_sees_its_interfaces(cloud: Cloud) -> None:
    """Clients list the ports of a router by its id."""
    network, router = cloud.network(), cloud.alice.create("routers", {})
    answer = add(cloud, router, network)

    found = cloud.alice.list("ports", device_id=router["id"])

    assert [port["id"] for port in found] == [answer["port_id"]]
    assert cloud.bob.list("ports", device_id=router["id"]) == []
