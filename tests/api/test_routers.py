"""Routers and routing domains over the API."""

from __future__ import annotations

import pytest
from running import Cloud

from trunkline.errors import Invalid
from trunkline.snapshot import HostSnapshot

HOST = "compute1"


def snapshot(cloud: Cloud, host: str = HOST) -> HostSnapshot:
    """Return a host's snapshot as its agent gets it."""
    with cloud.agent(host) as agent:
        found = agent.snapshot(None, 0)
        assert found is not None
        return found


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
