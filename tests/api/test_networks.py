"""Networks and subnets over the API."""

from __future__ import annotations

from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid, NotFound, RequestError
from trunkline.snapshot import SegmentView

VLAN = {"provider:network_type": "vlan", "provider:physical_network": "physnet1"}


def test_a_tenant_gets_a_vlan_of_the_range_and_does_not_see_it(cloud: Cloud) -> None:
    """A member's network has a segment, which only administrators are shown."""
    network = cloud.alice.create("networks", {"name": "blue"})

    assert network["project_id"] == network["tenant_id"] == "p1"
    assert network["status"] == "ACTIVE"
    assert not [key for key in network if key.startswith("provider:")]
    seen = cloud.admin.show("networks", network["id"])
    assert seen["provider:network_type"] == "vlan"
    assert 100 <= seen["provider:segmentation_id"] <= 3999


def test_given_vlan_as_text(cloud: Cloud) -> None:
    """The openstack command sends numbers as texts."""
    wish = {**VLAN, "provider:segmentation_id": "4000", "mtu": "9000", "project_id": "p1"}

    network = cloud.admin.create("networks", wish)

    assert network["provider:segmentation_id"] == 4000
    assert network["mtu"] == 9000


def test_a_taken_vlan_is_refused(cloud: Cloud) -> None:
    """Two networks never share a VLAN on one physical network."""
    cloud.admin.create("networks", {**VLAN, "provider:segmentation_id": 4001})

    with pytest.raises(Conflict, match="segmentation_id") as refusal:
        cloud.admin.create("networks", {**VLAN, "provider:segmentation_id": 4001})
    assert refusal.value.kind == "VlanIdInUse"


@pytest.mark.parametrize("vlan_id", [0, 4095, -1, "x", 1.5, True])
def test_vlan_out_of_bounds_names_the_field(cloud: Cloud, vlan_id: object) -> None:
    """What 802.1Q has no room for is refused with the field's name."""
    with pytest.raises(Invalid, match="provider:segmentation_id"):
        cloud.admin.create("networks", {**VLAN, "provider:segmentation_id": vlan_id})


def test_an_exhausted_range_says_so(cloud: Cloud) -> None:
    """When every VLAN of the ranges is taken, the network is refused, not given another one."""
    wish = {"provider:network_type": "vlan", "provider:physical_network": "physnet2"}
    found = [cloud.admin.create("networks", wish) for _ in range(2)]

    assert [network["provider:segmentation_id"] for network in found] == [10, 20]
    with pytest.raises(Conflict, match="vlan_ranges") as refusal:
        cloud.admin.create("networks", wish)
    assert refusal.value.kind == "NoNetworkAvailable"
    for network in found:
        cloud.admin.delete("networks", network["id"])


def test_one_vlan_id_on_two_physical_networks(cloud: Cloud) -> None:
    """Links go by VLAN id, so the second network's are called otherwise, on every host alike."""
    places = ("physnet1", "physnet2")
    wishes = [
        {**VLAN, "provider:segmentation_id": 4003, "provider:physical_network": place}
        for place in places
    ]
    networks = [cloud.admin.create("networks", wish) for wish in wishes]
    ports = [cloud.instance(network, "both") for network in networks]
    with cloud.agent("both") as agent:
        snapshot = agent.snapshot(None, 0)

    assert snapshot
    views = {view.id: view for view in snapshot.networks}
    assert [network["trunkline:bridge"] for network in networks] == ["br4003", "br4003-1"]
    assert [views[network["id"]].namesake for network in networks] == [0, 1]
    cloud.admin.delete("ports", ports[0]["id"])
    cloud.admin.delete("networks", networks[0]["id"])
    (kept,) = [cloud.admin.show("networks", networks[1]["id"])]
    assert kept["trunkline:bridge"] == "br4003-1", "its links are there"
    assert cloud.admin.create("networks", wishes[0])["trunkline:bridge"] == "br4003"
    assert "trunkline:bridge" not in cloud.alice.show("networks", cloud.network("alice")["id"])


def test_an_external_network_takes_nobodys_bridge_name(cloud: Cloud) -> None:
    """It is on no trunk; made a tenants' network, it gets a name that is free."""
    wish = {"provider:network_type": "vlan", "provider:segmentation_id": 4004}
    outside = {**wish, "provider:physical_network": "physnet2", "router:external": True}
    external = cloud.admin.create("networks", outside)
    assert external["trunkline:bridge"] is None
    inside = cloud.admin.create("networks", {**wish, "provider:physical_network": "physnet1"})
    assert inside["trunkline:bridge"] == "br4004"

    cloud.admin.update("networks", external["id"], {"router:external": False})

    assert cloud.admin.show("networks", external["id"])["trunkline:bridge"] == "br4004-1"


def test_a_freed_vlan_is_given_again(cloud: Cloud) -> None:
    """Deleting a network frees its VLAN."""
    wish = {**VLAN, "provider:segmentation_id": 4002}
    cloud.admin.delete("networks", cloud.admin.create("networks", wish)["id"])

    assert cloud.admin.create("networks", wish)["provider:segmentation_id"] == 4002


@pytest.mark.parametrize(
    "attributes",
    [{"provider:segmentation_id": 7}, {"shared": True}, {"router:external": True}],
)
def test_members_do_not_set_what_is_the_administrators(
    cloud: Cloud, attributes: dict[str, Any]
) -> None:
    """Segments and sharing are refused to members, by name."""
    with pytest.raises(Forbidden, match=next(iter(attributes))):
        cloud.alice.create("networks", attributes)


def test_an_update_changes_what_it_names(cloud: Cloud) -> None:
    """A PUT changes its attributes, moves the revision, and leaves the rest."""
    network = cloud.alice.create("networks", {"name": "old", "description": "d"})

    changed = cloud.alice.update("networks", network["id"], {"name": "new", "mtu": 1400})

    assert (changed["name"], changed["mtu"], changed["description"]) == ("new", 1400, "d")
    assert changed["revision_number"] == network["revision_number"] + 1
    assert cloud.alice.show("networks", network["id"]) == changed


def test_the_segment_of_a_network_stays(cloud: Cloud) -> None:
    """Frames are on the wire with it."""
    network = cloud.network()

    with pytest.raises(Invalid, match="provider:segmentation_id"):
        cloud.admin.update("networks", network["id"], {"provider:segmentation_id": 5})


def test_a_network_in_use_is_not_deleted(cloud: Cloud) -> None:
    """Ports keep their network; without them it goes with its subnets."""
    network = cloud.network()
    port = cloud.alice.create("ports", {"network_id": network["id"]})

    with pytest.raises(Conflict) as refusal:
        cloud.alice.delete("networks", network["id"])
    assert refusal.value.kind == "NetworkInUse"
    cloud.alice.delete("ports", port["id"])
    cloud.alice.delete("networks", network["id"])
    with pytest.raises(NotFound):
        cloud.alice.show("subnets", network["subnet"]["id"])


def test_a_used_network_does_not_become_external(cloud: Cloud) -> None:
    """Its prefixes would change their meaning under its ports."""
    network = cloud.network()

    with pytest.raises(Conflict, match="router:external"):
        cloud.admin.update("networks", network["id"], {"router:external": True})


def test_a_subnet_chooses_gateway_and_pools(cloud: Cloud) -> None:
    """Without a wish, the first address is the gateway and all others are given away."""
    network = cloud.network()
    base = network["subnet"]["cidr"].removesuffix("0/24")

    assert network["subnet"]["gateway_ip"] == f"{base}1"
    assert network["subnet"]["allocation_pools"] == [{"start": f"{base}2", "end": f"{base}254"}]
    assert network["subnet"]["dns_nameservers"] == network["subnet"]["host_routes"] == []
    assert cloud.alice.show("networks", network["id"])["subnets"] == [network["subnet"]["id"]]


def test_a_subnet_keeps_what_it_is_given(cloud: Cloud) -> None:
    """Gateway, pools, DNS servers and routes come back as they were sent."""
    network = cloud.alice.create("networks", {})
    base = str(next(cloud.prefixes)).removesuffix("0/24")
    wish = {
        "network_id": network["id"],
        "ip_version": "4",
        "cidr": f"{base}0/24",
        "gateway_ip": f"{base}254",
        "allocation_pools": [{"start": f"{base}10", "end": f"{base}20"}],
        "dns_nameservers": ["8.8.8.8"],
        "host_routes": [{"destination": "203.0.113.0/24", "nexthop": f"{base}9"}],
        "enable_dhcp": "False",
    }

    subnet = cloud.alice.create("subnets", wish)

    assert {key: subnet[key] for key in wish} == {**wish, "ip_version": 4, "enable_dhcp": False}
    assert cloud.alice.show("subnets", subnet["id"]) == subnet


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"cidr": "10.250.0.0/33"}, "cidr"),
        ({"cidr": "10.250.0.5/24"}, "cidr"),
        ({"cidr": "10.250.0.0"}, "cidr"),
        ({"cidr": "nonsense"}, "cidr"),
        ({"cidr": 10}, "cidr"),
        ({"cidr": "10.250.0.0/31"}, "cidr"),
        ({"cidr": "224.0.0.0/24"}, "cidr"),
        ({"cidr": "127.0.0.0/24"}, "cidr"),
        ({"cidr": "192.168.7.0/24"}, "cidr"),
        ({"cidr": "2001:db8::/64"}, "cidr"),
        ({"ip_version": 6}, "ip_version"),
        ({"ip_version": 5}, "ip_version"),
        ({"gateway_ip": "10.251.0.1"}, "gateway_ip"),
        ({"gateway_ip": "10.250.0.0"}, "gateway_ip"),
        ({"gateway_ip": "10.250.0.255"}, "gateway_ip"),
        ({"allocation_pools": [{"start": "10.250.0.9", "end": "10.250.0.8"}]}, "allocation_pools"),
        ({"allocation_pools": [{"start": "10.250.0.9", "end": "10.250.1.8"}]}, "allocation_pools"),
        ({"allocation_pools": [{"start": "10.250.0.9"}]}, "allocation_pools"),
        ({"allocation_pools": "all"}, "allocation_pools"),
        ({"dns_nameservers": ["dns"]}, "dns_nameservers"),
        ({"dns_nameservers": ["8.8.8.8", "8.8.8.8"]}, "dns_nameservers.*twice"),
        ({"host_routes": [{"destination": "10.0.0.0/8"}]}, "host_routes"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_wrong_subnet_names_the_field(
    cloud: Cloud, attributes: dict[str, Any], field: str
) -> None:
    """Each malformed or contradictory value is refused with the name of its field."""
    network = cloud.alice.create("networks", {})
    wish = {"network_id": network["id"], "ip_version": 4, "cidr": "10.250.0.0/24", **attributes}

    with pytest.raises(Invalid, match=field):
        cloud.alice.create("subnets", wish)
    assert cloud.alice.list("subnets", network_id=network["id"]) == []


def test_a_gateway_inside_a_pool_is_refused(cloud: Cloud) -> None:
    """The pools must leave the gateway's address alone, in POST and in PUT."""
    network = cloud.network()
    base = network["subnet"]["cidr"].removesuffix("0/24")
    pools = [{"start": f"{base}1", "end": f"{base}9"}]

    with pytest.raises(Conflict, match="gateway_ip") as refusal:
        cloud.alice.update("subnets", network["subnet"]["id"], {"allocation_pools": pools})
    assert refusal.value.kind == "GatewayConflictWithAllocationPools"
    assert cloud.alice.show("subnets", network["subnet"]["id"]) == network["subnet"]


def test_overlapping_pools_are_refused(cloud: Cloud) -> None:
    """An address is in one pool only."""
    network = cloud.network()
    base = network["subnet"]["cidr"].removesuffix("0/24")
    pools = [{"start": f"{base}2", "end": f"{base}9"}, {"start": f"{base}9", "end": f"{base}12"}]

    with pytest.raises(Conflict, match="allocation_pools"):
        cloud.alice.update("subnets", network["subnet"]["id"], {"allocation_pools": pools})


@pytest.mark.parametrize("who", ["alice", "bob", "admin"])
@pytest.mark.parametrize("length", [23, 24, 25])
def test_prefixes_on_the_default_router_overlap_nowhere(
    cloud: Cloud, who: str, length: int
) -> None:
    """All projects share it, so whose the other subnet is makes no difference."""
    cloud_wide = cloud.network("carol")["subnet"]["cidr"]
    base = cloud_wide.removesuffix("0/24")
    octets = base.split(".")
    even = f"{octets[0]}.{octets[1]}.{int(octets[2]) // 2 * 2}.0"
    network = cloud.user(who).create("networks", {})
    cidr = f"{even if length == 23 else base + '0'}/{length}"

    with pytest.raises(Invalid, match="overlaps"):
        cloud.user(who).create(
            "subnets", {"network_id": network["id"], "ip_version": 4, "cidr": cidr}
        )


def test_a_tenant_prefix_does_not_overlap_an_external_one(cloud: Cloud) -> None:
    """Floating IPs must lead to one place."""
    taken = cloud.external()["subnet"]["cidr"]
    network = cloud.alice.create("networks", {})

    with pytest.raises(Invalid, match="overlaps"):
        cloud.alice.create("subnets", {"network_id": network["id"], "ip_version": 4, "cidr": taken})


def test_a_subnet_with_addresses_in_use_stays(cloud: Cloud) -> None:
    """A port's address keeps its subnet."""
    network = cloud.network()
    cloud.alice.create("ports", {"network_id": network["id"]})

    with pytest.raises(Conflict) as refusal:
        cloud.alice.delete("subnets", network["subnet"]["id"])
    assert refusal.value.kind == "SubnetInUse"


def test_a_subnet_belongs_to_its_networks_project(cloud: Cloud) -> None:
    """The administrator who makes a subnet on a tenant's network makes it the tenant's."""
    network = cloud.alice.create("networks", {})

    subnet = cloud.subnet(network, "admin")

    assert subnet["project_id"] == "p1"
    assert cloud.alice.show("subnets", subnet["id"]) == subnet


def test_bulk_is_all_or_nothing(cloud: Cloud) -> None:
    """One wrong object of several refuses them all."""
    count = len(cloud.alice.list("networks"))
    good = cloud.alice.request("POST", "/v2.0/networks", {"networks": [{"name": "a"}, {}]})

    with pytest.raises(RequestError):
        cloud.admin.request(
            "POST",
            "/v2.0/networks",
            {"networks": [{"name": "b"}, {**VLAN, "provider:segmentation_id": 100}]},
        )
    assert len(good["networks"]) == 2
    assert len(cloud.alice.list("networks")) == count + 2
    assert cloud.admin.list("networks", name="b") == []


FLAT = {"provider:network_type": "flat", "provider:physical_network": "physnet2"}


def test_a_flat_network_is_everywhere_and_the_only_one_there(cloud: Cloud) -> None:
    """One network of a physical network has no tag; it is on every host unless told otherwise."""
    network = cloud.admin.create("networks", FLAT)

    assert network["provider:network_type"] == "flat"
    assert network["provider:physical_network"] == "physnet2"
    assert network["provider:segmentation_id"] is None
    assert network["trunkline:provisioning"] == "everywhere"
    with pytest.raises(Conflict, match=network["id"]) as refusal:
        cloud.admin.create("networks", FLAT)
    assert refusal.value.kind == "FlatNetworkInUse"
    cloud.admin.delete("networks", network["id"])
    again = cloud.admin.create("networks", {**FLAT, "trunkline:provisioning": "on_demand"})
    assert again["trunkline:provisioning"] == "on_demand"
    cloud.admin.delete("networks", again["id"])


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({**FLAT, "provider:segmentation_id": 4002}, "provider:segmentation_id"),
        ({**FLAT, "provider:physical_network": "physnet9"}, "provider:physical_network"),
    ],
)
def test_a_flat_network_with_a_vlan_is_refused(
    cloud: Cloud, wish: dict[str, Any], field: str
) -> None:
    """It has none, and its physical network is one that the server knows."""
    with pytest.raises(Invalid, match=field):
        cloud.admin.create("networks", wish)


def test_a_flat_network_is_for_administrators(cloud: Cloud) -> None:
    """Who may not choose a VLAN may not choose none."""
    with pytest.raises(Forbidden):
        cloud.alice.create("networks", {"provider:network_type": "flat"})


def test_a_flat_external_network_becomes_the_tenants_only_once(cloud: Cloud) -> None:
    """External ones share a physical network; as tenants' they would be two without a tag."""
    outside = [cloud.admin.create("networks", {**FLAT, "router:external": True}) for _ in range(2)]

    cloud.admin.update("networks", outside[0]["id"], {"router:external": False})
    with pytest.raises(Conflict) as refusal:
        cloud.admin.update("networks", outside[1]["id"], {"router:external": False})
    assert refusal.value.kind == "FlatNetworkInUse"
    for network in outside:
        cloud.admin.delete("networks", network["id"])


def test_an_instance_is_bound_on_a_flat_network(cloud: Cloud) -> None:
    """Its host's snapshot has the network without a VLAN id."""
    network = cloud.admin.create("networks", {**FLAT, "shared": True})
    prefix = str(next(cloud.prefixes))
    cloud.admin.create("subnets", {"network_id": network["id"], "ip_version": 4, "cidr": prefix})
    port = cloud.alice.create("ports", {"network_id": network["id"]})
    cloud.admin.update("ports", port["id"], {"binding:host_id": "flat-host"})

    with cloud.agent("flat-host") as agent:
        snapshot = agent.snapshot(None, 0)
    assert snapshot
    (view,) = (n for n in snapshot.networks if n.id == network["id"])

    assert view.vlan_id is None
    assert view.physical_network == "physnet2"
    cloud.admin.delete("ports", port["id"])
    cloud.admin.delete("networks", network["id"])


def span(first: int, second: int) -> list[dict[str, Any]]:
    """Return a wish for two segments with these VLAN ids."""
    places = {"physnet1": first, "physnet2": second}
    return [
        {"provider:physical_network": place, "provider:segmentation_id": vlan_id}
        for place, vlan_id in places.items()
    ]


SPAN = span(4010, 4020)


def test_a_network_on_two_physical_networks(cloud: Cloud) -> None:
    """All its segments are shown, and told to hosts; both VLAN ids are taken till it goes."""
    network = cloud.admin.create("networks", {"segments": SPAN})
    cloud.instance(network, "either")
    with cloud.agent("either") as agent:
        snapshot = agent.snapshot(None, 0)

    assert snapshot
    (view,) = [view for view in snapshot.networks if view.id == network["id"]]
    assert (view.physical_network, view.vlan_id) == ("physnet1", 4010)
    assert view.further == (SegmentView("physnet2", 4020),)
    assert network["segments"] == [{"provider:network_type": "vlan", **one} for one in SPAN]
    assert cloud.admin.show("networks", network["id"])["segments"] == network["segments"]
    assert network["trunkline:bridge"] == "br4010"
    for one in SPAN:
        with pytest.raises(Conflict, match=str(one["provider:segmentation_id"])) as refusal:
            cloud.admin.create("networks", one)
        assert refusal.value.kind == "VlanIdInUse"
    for port in cloud.admin.list("ports", network_id=network["id"]):
        if not port["device_owner"].startswith("network:"):
            cloud.admin.delete("ports", port["id"])
    cloud.admin.delete("networks", network["id"])
    assert [cloud.admin.create("networks", one)["segments"] for one in SPAN] == [[], []]


def test_segments_without_vlans_get_them_from_the_ranges(cloud: Cloud) -> None:
    """Each from its own physical network's; one segment alone is as by provider attributes."""
    places = [{"provider:physical_network": place} for place in ("physnet1", "physnet2")]

    network = cloud.admin.create("networks", {"segments": places})
    alone = cloud.admin.create("networks", {"segments": span(4013, 4023)[1:]})

    first, second = (one["provider:segmentation_id"] for one in network["segments"])
    assert 100 <= first <= 199
    assert second in (10, 20)
    assert alone["segments"] == []
    assert alone["provider:segmentation_id"] == 4023
    assert alone["provider:physical_network"] == "physnet2"


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"segments": SPAN, "provider:segmentation_id": 4010}, "inside segments only"),
        ({"segments": [SPAN[0], {**SPAN[1], **SPAN[0]}]}, "physnet1 has more than one"),
        ({"segments": [SPAN[0], {"provider:segmentation_id": 4021}]}, "must name"),
        (
            {"segments": [SPAN[0], {**SPAN[1], "provider:network_type": "flat"}]},
            "a flat network has one segment",
        ),
        ({"segments": SPAN, "router:external": True}, "on no trunk"),
        ({"segments": [{"provider:vlan": 3}]}, "unknown"),
        ({"segments": [{**SPAN[0], "provider:segmentation_id": 4095}]}, "segments"),
        ({"segments": "physnet1"}, "is not a list"),
    ],
    ids=["twice", "same trunk", "unnamed", "flat", "external", "key", "no VLAN", "no list"],
)
def test_segments_that_contradict_each_other(
    cloud: Cloud, wish: dict[str, Any], reason: str
) -> None:
    """Refused by name, and nothing is made."""
    before = len(cloud.admin.list("networks"))

    with pytest.raises(Invalid, match=reason):
        cloud.admin.create("networks", wish)

    assert len(cloud.admin.list("networks")) == before


def test_a_taken_vlan_in_a_further_segment(cloud: Cloud) -> None:
    """Of two wishes, the second has a VLAN that somebody has; the first one's stays free."""
    first, second = span(4011, 4021)
    cloud.admin.create("networks", second)

    with pytest.raises(Conflict, match="4021"):
        cloud.admin.create("networks", {"segments": [first, second]})

    assert cloud.admin.create("networks", first)["provider:segmentation_id"] == 4011


def test_segments_are_the_administrators(cloud: Cloud) -> None:
    """Members neither set nor see them; a network with several does not become external."""
    with pytest.raises(Forbidden, match="segments"):
        cloud.alice.create("networks", {"segments": SPAN})
    assert "segments" not in cloud.network("alice")
    network = cloud.admin.create("networks", {"segments": span(4012, 4022)})
    with pytest.raises(Invalid, match="several segments"):
        cloud.admin.update("networks", network["id"], {"router:external": True})
