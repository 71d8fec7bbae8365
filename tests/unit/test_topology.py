"""What a topology file may say, and how a mistake in it is named."""

from __future__ import annotations

from copy import deepcopy
from ipaddress import IPv4Address
from typing import Any

import pytest
import yaml

from trunkline.errors import Invalid
from trunkline.lab.topology import HERE, load, parse, read

ARTICLE: dict[str, Any] = yaml.safe_load(read("article"))


def test_article_is_the_article() -> None:
    """The shipped default has the addresses of the article's cast."""
    topology = load(read("article"))

    gateways = {n.name: n.gateways for n in topology.networks.values()}
    assert gateways["net1"] == {
        "compute1": IPv4Address("10.0.0.1"),
        "compute2": IPv4Address("10.0.0.5"),
    }
    assert topology.instances["VM_6"].address == IPv4Address("10.1.0.4")
    assert {str(f.address): f.instance for f in topology.floating_ips} == {
        "91.208.23.11": "VM_1",
        "91.208.23.16": "VM_6",
    }


@pytest.mark.parametrize("path", sorted(HERE.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_topology_loads(path: Any) -> None:
    """Each file that ships is a topology, and goes by its own name."""
    assert load(read(str(path))).name == path.stem


def test_another_name() -> None:
    """A lab can be given another name, so that two of one topology can run."""
    assert load(read("article"), "other").name == "other"


def test_no_such_file() -> None:
    """A file that is not there is named, beside the topologies that ship."""
    with pytest.raises(Invalid, match=r"topology nowhere: .*article, dual, five"):
        read("nowhere")


def _set(path: str, value: Any) -> dict[str, Any]:
    """Return the article's topology with one field changed."""
    data = deepcopy(ARTICLE)
    *parents, key = path.split(".")
    target: Any = data
    for parent in parents:
        target = target[parent]
    target[key] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("name", "no spaces please", "topology.name"),
        ("name", "../etc", "topology.name"),
        ("colour", "blue", "topology.colour: unknown field"),
        ("hosts.compute1.external", "91.207.15.300", r"hosts\.compute1\.external"),
        ("hosts.compute1.external", "8.8.4.4/24", "no router of the internet is in 8.8.4.0/24"),
        ("hosts.a_much_too_long_name", {"external": "91.207.15.9/24"}, "at most 15"),
        ("hosts.compute1.trunk_vlans", [4095], "4095 is no VLAN id"),
        ("hosts.compute1.trunks", ["physnet9"], "'physnet9' is not in the topology"),
        ("tenants.tenant1.networks.net1.trunk", "physnet9", "it has physnet1"),
        ("tenants.tenant1.networks.net1.further", {"physnet9": 1}, "'physnet9' is not in"),
        ("tenants.tenant1.networks.net1.further", {"physnet1": 1}, "two trunks to join"),
        ("tenants.tenant1.networks.net1.further", {"physnet1": 4095}, "4095 is no VLAN id"),
        ("further_trunks", {"physnet2": [1]}, r"topology\.further_trunks"),
        ("further_trunks", {"physnet1": [1, 2]}, "physnet1 is there twice"),
        ("hosts", [], r"topology\.hosts: expected a mapping"),
        ("vlans", [100], r"topology\.vlans"),
        ("internet", None, "internet: expected a mapping"),
        ("tenants.tenant1.networks.net1.vlan", 0, r"net1\.vlan: 0 is no VLAN id"),
        ("tenants.tenant1.networks.net1.cidr", "10.0.0.1/24", r"net1\.cidr: .*host bits"),
        ("tenants.tenant1.networks.net1.gateways", {"c9": "10.0.0.1"}, "'c9' is not in"),
        ("tenants.tenant1.networks.net1.provisioning", "nowhere", r"net1\.provisioning"),
        ("default_router", "yes", r"topology\.default_router: expected true or false"),
        ("routers", {"r": {"project": "tenant9", "networks": []}}, "'tenant9' is not in"),
        ("routers", {"r": {"project": "tenant1", "networks": ["net9"]}}, "'net9' is not in"),
        ("routers", {"r": {"project": "tenant1", "networks": "net1"}}, r"routers\.r\.networks"),
        (
            "routers",
            {name: {"project": "tenant1", "networks": ["net1"]} for name in "rs"},
            "router s: network net1 is on router r",
        ),
        (
            "routers",
            {"r": {"project": "tenant1", "networks": [], "routes": {"10.9.0.1/24": "x"}}},
            "host bits",
        ),
        ("tenants.tenant1.instances.VM_1.host", "compute9", "host 'compute9' is not in"),
        ("tenants.tenant1.instances.VM_1.network", "net9", "network 'net9' is not in"),
        ("tenants.tenant1.instances.switch", {"network": "net1", "host": "compute1"}, "two things"),
        ("tenants.tenant1.floating_ips", {"91.208.23.11": "VM_9"}, "'VM_9' is not in"),
        ("tenants.tenant2.instances.VM_1", {"network": "net2", "host": "compute1"}, "twice"),
    ],
)
def test_mistakes_are_named(path: str, value: Any, complaint: str) -> None:
    """A mistake is refused with the field that it is in, and what was expected there."""
    with pytest.raises(Invalid, match=complaint):
        parse(_set(path, value))


def test_missing_field_is_named() -> None:
    """A field that must be there and is not is named with its place."""
    data = deepcopy(ARTICLE)
    del data["hosts"]["compute2"]["external"]

    with pytest.raises(Invalid, match=r"hosts\.compute2\.external: missing"):
        parse(data)


def test_no_yaml() -> None:
    """A text that is no YAML is refused, with the place of the fault."""
    with pytest.raises(Invalid, match="no YAML"):
        load("name: [")


def test_anycast_leaves_no_gateways_to_choose() -> None:
    """A network has hosts' own addresses, or one address of all hosts, and not both."""
    with pytest.raises(Invalid, match="network net1: with 'gateway: anycast' no host has"):
        parse(_set("tenants.tenant1.networks.net1.gateway", "anycast"))
