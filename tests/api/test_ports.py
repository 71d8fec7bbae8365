"""Ports over the API: addresses, MACs, groups, bindings."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid, NotFound
from trunkline.model import FLOATING_OWNER, GATEWAY_OWNER


def address(network: dict[str, Any], last: int) -> str:
    """Return an address of a network's first subnet."""
    base: str = network["subnet"]["cidr"].removesuffix("0/24")
    return f"{base}{last}"


def addresses_of(port: dict[str, Any]) -> list[str]:
    """Return a port's addresses."""
    return [fixed["ip_address"] for fixed in port["fixed_ips"]]


def test_a_port_gets_all_it_needs(cloud: Cloud) -> None:
    """Address, MAC and the default group are chosen; the rest has Neutron's defaults."""
    network = cloud.network()

    port = cloud.alice.create("ports", {"network_id": network["id"]})

    assert addresses_of(port) == [address(network, 2)]
    assert re.fullmatch(r"fa:16:3e(:[0-9a-f]{2}){3}", port["mac_address"])
    default = cloud.alice.list("security-groups", name="default")[0]
    assert port["security_groups"] == [default["id"]]
    assert (port["status"], port["admin_state_up"], port["device_id"]) == ("DOWN", True, "")
    assert [key for key in port if key.startswith("binding:")] == ["binding:vnic_type"]
    assert cloud.alice.show("ports", port["id"]) == port


def test_a_port_gets_what_it_asks_for(cloud: Cloud) -> None:
    """Given address, MAC and name come back, in their usual spelling."""
    network = cloud.network()
    wish = {
        "network_id": network["id"],
        "fixed_ips": [{"subnet_id": network["subnet"]["id"], "ip_address": address(network, 77)}],
        "mac_address": "FA-16-3E-00-00-01",
        "dns_name": "Web-1",
    }

    port = cloud.alice.create("ports", wish)

    assert addresses_of(port) == [address(network, 77)]
    assert (port["mac_address"], port["dns_name"]) == ("fa:16:3e:00:00:01", "web-1")


def test_an_address_outside_the_pools_may_be_asked_for(cloud: Cloud) -> None:
    """Pools limit what is chosen, not what is given."""
    network = cloud.network()
    pools = [{"start": address(network, 100), "end": address(network, 101)}]
    cloud.alice.update("subnets", network["subnet"]["id"], {"allocation_pools": pools})

    given = cloud.alice.create(
        "ports",
        {"network_id": network["id"], "fixed_ips": [{"ip_address": address(network, 9)}]},
    )
    chosen = cloud.alice.create("ports", {"network_id": network["id"]})

    assert addresses_of(given) == [address(network, 9)]
    assert addresses_of(chosen) == [address(network, 100)]


@pytest.mark.parametrize(
    ("fixed_ip", "kind"),
    [
        ({"ip_address": "203.0.113.7"}, "InvalidIpForNetwork"),
        ({"ip_address": "10.0.0.256"}, "HTTPBadRequest"),
        ({"ip_address": 7}, "HTTPBadRequest"),
        ({"ip_address": "2001:db8::1"}, "InvalidIpForNetwork"),
        ({"ip_address": "fd00::%eth0"}, "HTTPBadRequest"),
        ({"ip_address": "::ffff:10.0.0.3"}, "HTTPBadRequest"),
        ({"subnet_id": "nonsense"}, "HTTPBadRequest"),
        ({}, "HTTPBadRequest"),
        ({"address": "10.0.0.1"}, "HTTPBadRequest"),
    ],
)
def test_a_wrong_address_names_the_field(cloud: Cloud, fixed_ip: object, kind: str) -> None:
    """What is no address of the network is refused with the name of the field."""
    network = cloud.network()

    with pytest.raises(Invalid, match="fixed_ips") as refusal:
        cloud.alice.create("ports", {"network_id": network["id"], "fixed_ips": [fixed_ip]})
    assert refusal.value.kind == kind
    assert cloud.alice.list("ports", network_id=network["id"]) == []


@pytest.mark.parametrize("last", [0, 255])
def test_network_and_broadcast_address_are_nobodys(cloud: Cloud, last: int) -> None:
    """No port gets the first or the last address of a subnet."""
    network = cloud.network()
    fixed = {"subnet_id": network["subnet"]["id"], "ip_address": address(network, last)}

    with pytest.raises(Invalid, match="fixed_ips") as refusal:
        cloud.alice.create("ports", {"network_id": network["id"], "fixed_ips": [fixed]})
    assert refusal.value.kind == "InvalidIpForSubnet"


def test_a_taken_address_or_mac_is_refused(cloud: Cloud) -> None:
    """Each is in use once per network."""
    network = cloud.network()
    first = cloud.alice.create("ports", {"network_id": network["id"]})

    with pytest.raises(Conflict) as refusal:
        cloud.alice.create(
            "ports",
            {"network_id": network["id"], "fixed_ips": [{"ip_address": address(network, 2)}]},
        )
    assert refusal.value.kind == "IpAddressAlreadyAllocated"
    with pytest.raises(Conflict) as refusal:
        cloud.alice.create(
            "ports", {"network_id": network["id"], "mac_address": first["mac_address"]}
        )
    assert refusal.value.kind == "MacAddressInUse"


def test_an_address_is_wanted_once(cloud: Cloud) -> None:
    """Twice the same is malformed."""
    network = cloud.network()
    twice = [{"ip_address": address(network, 7)}] * 2

    with pytest.raises(Invalid, match="Duplicate IP address") as refusal:
        cloud.alice.create("ports", {"network_id": network["id"], "fixed_ips": twice})
    assert refusal.value.kind == "HTTPBadRequest"


def test_a_subnet_that_is_not_seen_is_missing(cloud: Cloud) -> None:
    """An unknown one and another project's alike; one of another own network does not fit."""
    network, other, bobs = cloud.network(), cloud.network(), cloud.network("bob")
    port = cloud.alice.create("ports", {"network_id": network["id"]})

    for subnet_id in (network["id"], bobs["subnet"]["id"]):
        wish = {"fixed_ips": [{"subnet_id": subnet_id}]}
        with pytest.raises(NotFound, match=subnet_id) as refusal:
            cloud.alice.create("ports", {"network_id": network["id"], **wish})
        assert refusal.value.kind == "SubnetNotFound"
        with pytest.raises(NotFound, match=subnet_id):
            cloud.alice.update("ports", port["id"], wish)
    wish = {"fixed_ips": [{"subnet_id": other["subnet"]["id"]}]}
    with pytest.raises(Invalid, match="not one of the port's network"):
        cloud.alice.update("ports", port["id"], wish)


def test_a_mac_is_changed_by_those_who_run_the_cloud(cloud: Cloud) -> None:
    """A project chooses it when it makes a port, and no more."""
    network = cloud.network()
    port = cloud.alice.create(
        "ports", {"network_id": network["id"], "mac_address": "fa:16:3e:0c:0d:0e"}
    )

    with pytest.raises(Forbidden, match="mac_address"):
        cloud.alice.update("ports", port["id"], {"mac_address": "fa:16:3e:0c:0d:0f"})
    changed = cloud.admin.update("ports", port["id"], {"mac_address": "fa:16:3e:0c:0d:0f"})
    assert changed["mac_address"] == "fa:16:3e:0c:0d:0f"


def test_what_is_malformed_is_said_before_what_is_forbidden(cloud: Cloud) -> None:
    """Whatever the order in which a request has them."""
    network = cloud.network()

    for wish in (
        {"shared": True, "admin_state_up": "x"},
        {"admin_state_up": "x", "shared": True},
    ):
        with pytest.raises(Invalid, match="admin_state_up"):
            cloud.alice.update("networks", network["id"], wish)


def test_addresses_are_looked_at_before_pairs(cloud: Cloud) -> None:
    """Of two faults, Neutron names that of the addresses."""
    network = cloud.network()
    wish = {
        "network_id": network["id"],
        "port_security_enabled": False,
        "allowed_address_pairs": [{"ip_address": address(network, 9)}],
    }

    with pytest.raises(Conflict, match="allowed_address_pairs"):
        cloud.alice.create("ports", wish)
    with pytest.raises(Invalid, match="fixed_ips"):
        cloud.alice.create("ports", {**wish, "fixed_ips": [{"ip_address": "203.0.113.9"}]})


def test_a_full_network_says_so(cloud: Cloud) -> None:
    """When every address of the pools is taken there is a 409, and none is invented."""
    network = cloud.network()
    pools = [{"start": address(network, 10), "end": address(network, 12)}]
    cloud.alice.update("subnets", network["subnet"]["id"], {"allocation_pools": pools})
    ports = [cloud.alice.create("ports", {"network_id": network["id"]}) for _ in range(3)]

    with pytest.raises(Conflict) as refusal:
        cloud.alice.create("ports", {"network_id": network["id"]})
    assert refusal.value.kind == "IpAddressGenerationFailure"
    cloud.alice.delete("ports", ports[1]["id"])
    freed = cloud.alice.create("ports", {"network_id": network["id"]})
    assert addresses_of(freed) == addresses_of(ports[1])


def test_a_freed_address_rests(cloud: Cloud) -> None:
    """The address given back last is not the next one given."""
    network = cloud.network()
    port = cloud.alice.create("ports", {"network_id": network["id"]})
    cloud.alice.delete("ports", port["id"])

    following = cloud.alice.create("ports", {"network_id": network["id"]})

    assert addresses_of(following) == [address(network, 3)]


def test_a_long_taken_stretch_is_skipped(cloud: Cloud) -> None:
    """A free address is found behind more taken ones than are looked up at once."""
    network = cloud.network()
    wish = [
        {"network_id": network["id"], "fixed_ips": [{"ip_address": address(network, last)}]}
        for last in range(2, 60)
    ]
    cloud.alice.request("POST", "/v2.0/ports", {"ports": wish})

    port = cloud.alice.create("ports", {"network_id": network["id"]})

    assert addresses_of(port) == [address(network, 60)]


def test_a_port_without_addresses(cloud: Cloud) -> None:
    """An empty list asks for none, and a network without subnets has none."""
    network = cloud.network()
    bare = cloud.alice.create("networks", {})

    asked = cloud.alice.create("ports", {"network_id": network["id"], "fixed_ips": []})
    given = cloud.alice.create("ports", {"network_id": bare["id"]})

    assert asked["fixed_ips"] == given["fixed_ips"] == []


def test_new_addresses_keep_what_is_named_again(cloud: Cloud) -> None:
    """A PUT of fixed_ips is the whole new list; a subnet alone keeps the address on it."""
    network = cloud.network()
    second = cloud.subnet(network)
    port = cloud.alice.create("ports", {"network_id": network["id"]})
    held = port["fixed_ips"][0]

    wish = [{"subnet_id": second["id"]}, {"subnet_id": held["subnet_id"]}]
    changed = cloud.alice.update("ports", port["id"], {"fixed_ips": wish})

    assert held in changed["fixed_ips"]
    assert {fixed["subnet_id"] for fixed in changed["fixed_ips"]} == {
        held["subnet_id"],
        second["id"],
    }
    moved = cloud.alice.update(
        "ports", port["id"], {"fixed_ips": [{"ip_address": address(network, 200)}]}
    )
    assert addresses_of(moved) == [address(network, 200)]
    assert cloud.alice.show("ports", port["id"]) == moved


def test_groups_are_the_callers_own(cloud: Cloud) -> None:
    """Another project's group is unknown; an empty list means none at all."""
    network = cloud.network()
    theirs = cloud.bob.create("security-groups", {"name": "theirs"})
    mine = cloud.alice.create("security-groups", {"name": "mine"})

    with pytest.raises(NotFound) as refusal:
        cloud.alice.create(
            "ports", {"network_id": network["id"], "security_groups": [theirs["id"]]}
        )
    assert refusal.value.kind == "SecurityGroupNotFound"
    port = cloud.alice.create("ports", {"network_id": network["id"], "security_groups": []})
    assert port["security_groups"] == []
    changed = cloud.alice.update("ports", port["id"], {"security_groups": [mine["id"]]})
    assert changed["security_groups"] == [mine["id"]]
    assert cloud.alice.show("ports", port["id"]) == changed


def test_no_port_security_no_groups(cloud: Cloud) -> None:
    """A port without security has no groups, and does not lose them silently."""
    network = cloud.network()

    port = cloud.alice.create(
        "ports", {"network_id": network["id"], "port_security_enabled": False}
    )
    guarded = cloud.alice.create("ports", {"network_id": network["id"]})

    assert port["security_groups"] == []
    with pytest.raises(Conflict, match="port_security_enabled"):
        cloud.alice.update("ports", guarded["id"], {"port_security_enabled": False})
    off = {"port_security_enabled": False, "security_groups": []}
    assert cloud.alice.update("ports", guarded["id"], off)["security_groups"] == []


def test_binding_is_for_administrators(cloud: Cloud) -> None:
    """Only an administrator says on which host a port is, and sees it."""
    network = cloud.network()
    port = cloud.alice.create("ports", {"network_id": network["id"]})

    with pytest.raises(Forbidden, match="binding:host_id"):
        cloud.alice.update("ports", port["id"], {"binding:host_id": "h1"})
    bound = cloud.admin.update("ports", port["id"], {"binding:host_id": "h1"})
    assert (bound["binding:host_id"], bound["binding:vif_type"]) == ("h1", "tap")
    assert bound["binding:vif_details"]["port_filter"] is True
    unbound = cloud.admin.update("ports", port["id"], {"binding:host_id": None})
    assert (unbound["binding:host_id"], unbound["binding:vif_type"]) == ("", "unbound")


@pytest.mark.parametrize("owner", [GATEWAY_OWNER, FLOATING_OWNER, "network:dhcp"])
def test_members_do_not_make_the_networks_own_ports(cloud: Cloud, owner: str) -> None:
    """What marks a port as the network's own is refused to members."""
    network = cloud.network()

    with pytest.raises(Forbidden, match="device_owner"):
        cloud.alice.create("ports", {"network_id": network["id"], "device_owner": owner})


def test_no_instances_on_external_networks(cloud: Cloud) -> None:
    """Hosts have no bridge for an external network."""
    external = cloud.external()

    with pytest.raises(Forbidden, match="external"):
        cloud.alice.create("ports", {"network_id": external["id"]})
    with pytest.raises(Invalid, match="binding:host_id"):
        cloud.instance(external, "h1")


@pytest.mark.parametrize(
    "attributes",
    [
        {"mac_address": "01:00:5e:00:00:01"},
        {"mac_address": "00:00:00:00:00:00"},
        {"mac_address": "fa:16:3e"},
        {"mac_address": 5},
        {"dns_name": "under_score"},
        {"dns_name": "a.b"},
        {"dns_name": "x" * 64},
        {"name": "x" * 256},
        {"name": "a\x00b"},
        {"name": "\ud800"},
        {"admin_state_up": "perhaps"},
        {"binding:host_id": "a/b"},
        {"binding:profile": []},
        {"binding:vnic_type": "direct"},
        {"security_groups": "default"},
        {"fixed_ips": {"ip_address": "10.0.0.1"}},
        {"allowed_address_pairs": [{"ip_address": "10.0.0.999"}]},
        {"status": "ACTIVE"},
        {"id": "6f2f2d0e-0000-4000-8000-000000000000"},
    ],
)
def test_a_wrong_port_names_the_field(cloud: Cloud, attributes: dict[str, Any]) -> None:
    """Each malformed value is refused with the name of its field."""
    network = cloud.network()

    with pytest.raises(Invalid, match=next(iter(attributes))):
        cloud.admin.create("ports", {"network_id": network["id"], **attributes})


def test_generated_macs_differ(cloud: Cloud) -> None:
    """A hundred ports have a hundred MACs and addresses."""
    network = cloud.network()
    wish = [{"network_id": network["id"]}] * 100

    made = cloud.alice.request("POST", "/v2.0/ports", {"ports": wish})["ports"]

    assert len({port["mac_address"] for port in made}) == 100
    assert len({addresses_of(port)[0] for port in made}) == 100
    assert all(IPv4Address(addresses_of(port)[0]) for port in made)


def test_a_network_says_how_its_new_ports_are_protected(cloud: Cloud) -> None:
    """Ports follow their network unless they say otherwise; those there stay as they are."""
    network = cloud.network(port_security_enabled=False)
    wish = {"network_id": network["id"]}
    free = cloud.alice.create("ports", wish)
    assert (free["port_security_enabled"], free["security_groups"]) == (False, [])
    guarded = cloud.alice.create("ports", {**wish, "port_security_enabled": True})
    assert guarded["security_groups"] != []
    cloud.alice.update("networks", network["id"], {"port_security_enabled": True})
    assert cloud.alice.create("ports", wish)["port_security_enabled"] is True
    assert cloud.alice.show("ports", free["id"])["port_security_enabled"] is False
