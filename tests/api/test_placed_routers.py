"""Routers that an administrator places on some hosts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from running import Cloud
from test_routers import act, add, at, default_router, remove, snapshot

from trunkline.errors import Conflict, Forbidden, Invalid
from trunkline.model import GATEWAY_OWNER
from trunkline.snapshot import HostSnapshot, NetworkView

NET, LEFT, RIGHT = "network1", "compute1", "compute2"
NUMBERS = itertools.count()


@pytest.fixture
def trio(cloud: Cloud) -> tuple[str, str, str]:
    """Return three hosts that no other test has, whose agents have been heard of."""
    number = next(NUMBERS)
    hosts = (f"network-{number}", f"left-{number}", f"right-{number}")
    report(cloud, *hosts)
    return hosts


def report(cloud: Cloud, *hosts: str) -> None:
    """Let the agents of hosts be heard of."""
    for host in hosts:
        snapshot(cloud, host)


def router_on(cloud: Cloud, *hosts: str) -> dict[str, Any]:
    """Return a new router of alice's on these hosts, with a way out."""
    outside = cloud.external()
    body = {
        "project_id": "p1",
        "external_gateway_info": {"network_id": outside["id"]},
        "trunkline:hosts": list(hosts),
    }
    return {**cloud.admin.create("routers", body), "outside": outside}


def view(found: HostSnapshot, network: Mapping[str, Any]) -> NetworkView | None:
    """Return a network as a snapshot has it."""
    return next((n for n in found.networks if n.id == network["id"]), None)


def holders(cloud: Cloud, network: Mapping[str, Any]) -> set[str]:
    """Return the hosts that have gateway ports of their own."""
    found = cloud.admin.list("ports", network_id=network["id"], device_owner=GATEWAY_OWNER)
    return {port["binding:host_id"] for port in found}


def test_only_the_routers_host_is_the_gateway(cloud: Cloud, trio: tuple[str, str, str]) -> None:
    """It has the network without an instance, and knows the instances of all others."""
    net, left, right = trio
    router, network = router_on(cloud, net), cloud.network()
    add(cloud, router, network)
    port = cloud.instance(network, left)

    there, here = snapshot(cloud, net), snapshot(cloud, left)

    for found in (there, here):
        (one,) = found.routers
        seen = view(found, network)
        assert one.hosts == (net,)
        assert seen is not None
        assert str(seen.subnets[0].gateway) == at(network, 1)
    assert [guest.id for guest in there.guests] == [port["id"]]
    assert there.guests[0].group_ids == ()
    assert there.ports == here.guests == ()
    assert view(snapshot(cloud, right), network) is None
    assert holders(cloud, network) == set()


def test_floating_ips_are_where_the_router_is(cloud: Cloud, trio: tuple[str, str, str]) -> None:
    """They lead there from wherever the instance lives, and the router's host is told."""
    net, left, _ = trio
    router, network = router_on(cloud, net), cloud.network()
    add(cloud, router, network)
    port = cloud.instance(network, left)
    before = snapshot(cloud, net).revision
    body = {"floating_network_id": router["outside"]["id"], "port_id": port["id"]}
    floating = cloud.alice.create("floatingips", body)

    there = snapshot(cloud, net)

    assert [f.id for f in there.floating_ips] == [floating["id"]]
    assert there.revision > before
    assert snapshot(cloud, left).floating_ips == ()
    cloud.alice.delete("floatingips", floating["id"])
    assert snapshot(cloud, net).floating_ips == ()


def test_the_routers_host_follows_instances_elsewhere(
    cloud: Cloud, trio: tuple[str, str, str]
) -> None:
    """One that comes, moves or goes moves its revision: DHCP must know."""
    net, left, _ = trio
    router, network = router_on(cloud, net), cloud.network()
    add(cloud, router, network)
    seen = [snapshot(cloud, net)]
    port = cloud.instance(network, left)
    seen.append(snapshot(cloud, net))
    cloud.admin.update("ports", port["id"], {"binding:host_id": net})
    seen.append(snapshot(cloud, net))
    cloud.admin.delete("ports", port["id"])
    seen.append(snapshot(cloud, net))

    assert [(len(s.guests), len(s.ports)) for s in seen] == [(0, 0), (1, 0), (0, 1), (0, 0)]
    revisions = [s.revision for s in seen]
    assert revisions == sorted(set(revisions))


def test_a_router_moves_with_its_address(cloud: Cloud, trio: tuple[str, str, str]) -> None:
    """From host to host while instances run: their gateway stays what it was."""
    net, left, right = trio
    router, network = router_on(cloud, net), cloud.network()
    add(cloud, router, network)
    cloud.instance(network, left)

    cloud.admin.update("routers", router["id"], {"trunkline:hosts": [right]})

    moved = view(snapshot(cloud, right), network)
    assert moved is not None
    assert str(moved.subnets[0].gateway) == at(network, 1)
    assert view(snapshot(cloud, net), network) is None
    assert cloud.admin.show("routers", router["id"])["trunkline:hosts"] == [right]


def test_the_default_router_may_be_placed(own_cloud: Cloud) -> None:
    """That is nova's single-host mode: each network comes there by itself; and back again."""
    report(own_cloud, NET)
    router = default_router(own_cloud)
    before = own_cloud.network()
    own_cloud.admin.update("routers", router["id"], {"trunkline:hosts": [NET]})
    after = own_cloud.network()
    port = own_cloud.instance(after, LEFT)

    assert {n.id for n in snapshot(own_cloud, NET).networks} == {before["id"], after["id"]}
    assert holders(own_cloud, after) == {""}
    own_cloud.admin.delete("ports", port["id"])
    own_cloud.admin.update("routers", router["id"], {"trunkline:hosts": []})
    own_cloud.instance(after, LEFT)
    assert holders(own_cloud, after) == {LEFT}
    assert snapshot(own_cloud, NET).networks == ()


def test_bad_places_are_refused(cloud: Cloud, trio: tuple[str, str, str]) -> None:
    """By name, for a new router and for one that is there, and nothing is changed."""
    net, _, _ = trio
    router = cloud.alice.create("routers", {})
    bad = {
        "no agent has ever reported from host nowhere": ["nowhere"],
        "is there twice": [net, net],
        "a host must be named": [""],
        "is not a list": net,
        "is not a host name": [7],
    }
    for said, hosts in bad.items():
        with pytest.raises(Invalid, match=said):
            cloud.admin.create("routers", {"trunkline:hosts": hosts})
        with pytest.raises(Invalid, match=said):
            cloud.admin.update("routers", router["id"], {"trunkline:hosts": hosts})

    assert cloud.admin.show("routers", router["id"])["trunkline:hosts"] == []


def test_placing_is_the_administrators(cloud: Cloud, trio: tuple[str, str, str]) -> None:
    """A member may neither place a router nor see where it is."""
    net, _, _ = trio
    report(cloud, net)
    router = cloud.alice.create("routers", {})

    assert "trunkline:hosts" not in router
    with pytest.raises(Forbidden, match="trunkline:hosts"):
        cloud.alice.create("routers", {"trunkline:hosts": [net]})
    with pytest.raises(Forbidden, match="trunkline:hosts"):
        cloud.alice.update("routers", router["id"], {"trunkline:hosts": [net]})


def test_no_network_changes_sides_under_its_instances(
    cloud: Cloud, trio: tuple[str, str, str]
) -> None:
    """Their leases name the gateway: neither the router nor the network moves then."""
    net, left, _ = trio
    router, network = router_on(cloud), cloud.network()
    placed, other = router_on(cloud, net), cloud.network()
    add(cloud, router, network)
    cloud.instance(network, left)
    cloud.instance(other, left)

    with pytest.raises(Conflict, match="instances are plugged in"):
        cloud.admin.update("routers", router["id"], {"trunkline:hosts": [net]})
    with pytest.raises(Conflict, match="instances are plugged in"):
        add(cloud, placed, other)

    assert cloud.admin.show("routers", router["id"])["trunkline:hosts"] == []
    empty = cloud.network()
    add(cloud, placed, empty)
    cloud.instance(empty, left)
    with pytest.raises(Conflict, match="instances are plugged in"):
        remove(cloud, placed, empty)


def test_an_anycast_gateway_is_on_every_host(cloud: Cloud, trio: tuple[str, str, str]) -> None:
    """So no placed router can be it, whichever comes first."""
    net, _, _ = trio
    placed, network = router_on(cloud, net), cloud.network()
    free, later = router_on(cloud), cloud.network()
    for one in (network, later):
        cloud.admin.update("networks", one["id"], {"trunkline:gateway": "anycast"})
    act(cloud.admin, free, "add_router_interface", subnet_id=later["subnet"]["id"])
    per_host = cloud.network()
    add(cloud, placed, per_host)

    with pytest.raises(Conflict, match="anycast"):
        add(cloud, placed, network)
    with pytest.raises(Conflict, match="anycast"):
        cloud.admin.update("routers", free["id"], {"trunkline:hosts": [net]})
    with pytest.raises(Conflict, match="anycast"):
        cloud.admin.update("networks", per_host["id"], {"trunkline:gateway": "anycast"})


def test_several_hosts_have_one_number(cloud: Cloud, trio: tuple[str, str, str]) -> None:
    """Each knows the others, the address and all that it needs to act; one host needs no number."""
    net, left, right = trio
    router, network = router_on(cloud, net, right), cloud.network()
    other = router_on(cloud, right, net)
    add(cloud, router, network)
    add(cloud, other, cloud.network())
    port = cloud.instance(network, left)
    body = {"floating_network_id": router["outside"]["id"], "port_id": port["id"]}
    floating = cloud.alice.create("floatingips", body)

    found = {host: snapshot(cloud, host) for host in (net, right)}

    numbers = {r.id: r.number for s in found.values() for r in s.routers}
    assert len({*numbers.values(), None}) == 3
    for one in found.values():
        assert [f.id for f in one.floating_ips] == [floating["id"]]
        assert [guest.id for guest in one.guests] == [port["id"]]
        seen = view(one, network)
        assert seen is not None
        assert str(seen.subnets[0].gateway) == at(network, 1)
    cloud.admin.update("routers", router["id"], {"trunkline:hosts": [right]})
    (alone,) = (r for r in snapshot(cloud, right).routers if r.id == router["id"])
    assert (alone.hosts, alone.number) == ((right,), None)


def test_too_many_hosts_are_refused(cloud: Cloud) -> None:
    """By number, before anybody looks whether they exist."""
    hosts = [f"host-{number}" for number in range(17)]

    with pytest.raises(Invalid, match="17 hosts are named, at most 16"):
        cloud.admin.create("routers", {"trunkline:hosts": hosts})
