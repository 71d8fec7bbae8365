"""Flat networks: a NIC as it is in a bridge, and what must not come in by it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import article
import clouds
import pytest

from trunkline.core.compile import compile_host
from trunkline.hoststate import HostConfig, HostFacts, HostState
from trunkline.ownership import LINK_NAME_MAX, alias, bridge_name, plugged_trunk
from trunkline.trace.steps import Disposition

BRIDGE = "br-physnet1"


def test_a_flat_network_has_the_nic_itself_in_its_bridge() -> None:
    """No VLAN device for it; the other network's is on the same NIC, as ever."""
    state, problems = compile_host(clouds.FLAT, clouds.CONFIG, clouds.FACTS)

    assert problems == ()
    assert state.untagged == {"eth0": BRIDGE}
    assert {v.name: v.bridge for v in state.vlans.values()} == {"vlan102": "br102"}
    assert state.bridges.keys() == {BRIDGE, "br102"}


def test_tags_neither_come_in_nor_go_out() -> None:
    """Both kinds of tag are dropped both ways on that NIC, and nowhere without a flat network."""

    def rules(state: HostState) -> set[str]:
        chains = state.tables["bridge", "trunkline"].chains.values()
        return {rule for chain in chains for rule in chain.rules if "untagged" in rule}

    assert rules(compile_host(clouds.FLAT, clouds.CONFIG, clouds.FACTS)[0]) == {
        f"{side} @untagged_trunks ether type {kind} drop"
        for side in ("iifname", "oifname")
        for kind in ("8021q", "8021ad")
    }
    assert rules(compile_host(clouds.ARTICLE, clouds.CONFIG, clouds.FACTS)[0]) == set()


@pytest.mark.parametrize(
    ("facts", "config", "words"),
    [
        ({"foreign_prefixes": ((IPv4Network("192.0.2.0/24"), "eth0"),)}, {}, "192.0.2.0/24"),
        ({"foreign_masters": (("eth0", "virbr0"),)}, {}, "virbr0"),
        ({}, {"uplink": "eth0"}, "is the uplink too"),
        ({"links": frozenset({"eth0", "eth1", BRIDGE})}, {}, f"a link {BRIDGE} exists"),
        ({"bridge_netfilter": False}, {}, "br_netfilter"),
    ],
)
def test_a_nic_that_others_need_is_left_alone(
    facts: dict[str, object], config: dict[str, object], words: str
) -> None:
    """The flat network is not served, the problem names why, and the VLAN beside it is."""
    here: HostFacts = replace(clouds.FACTS, **facts)  # type: ignore[arg-type]
    cabled: HostConfig = replace(clouds.CONFIG, **config)  # type: ignore[arg-type]

    state, problems = compile_host(clouds.FLAT, cabled, here)

    assert state.untagged == {}
    assert words in next(p.text for p in problems if p.subject == "network network100")
    if "bridge_netfilter" not in facts:
        assert state.bridges.keys() == {"br102"}


def test_without_a_making_of_vlan_devices_it_works() -> None:
    """It needs none."""
    state, _ = compile_host(clouds.FLAT, clouds.CONFIG, replace(clouds.FACTS, vlan_making=None))

    assert state.bridges.keys() == {BRIDGE}


@pytest.mark.parametrize(
    "name", ["physnet1", "a-long-physical-network", "the other one", "a/b", "x" * 12, "x" * 13]
)
def test_every_physical_network_has_a_bridge_of_its_own_name(name: str) -> None:
    """Whatever it is called, it fits into a link's name, and another's is another."""
    found = bridge_name(None, name, 0)

    assert len(found) <= LINK_NAME_MAX
    assert not set(found) & set("/ :")
    assert found != bridge_name(None, f"{name}2", 0)


def test_a_bridge_says_which_nic_is_its() -> None:
    """An agent with an empty memory, and another NIC in its configuration, finds the old one."""
    assert plugged_trunk(alias(clouds.NET100.id, "eth0")) == "eth0"
    assert plugged_trunk(alias(clouds.NET100.id)) == ""


def test_it_crosses_the_wire_without_a_tag() -> None:
    """The tracer walks it by the NIC as it is, bridged all the way."""
    here, there = article.snapshots()
    flat = [replace(s, networks=tuple(map(_flat, s.networks))) for s in (here, there)]

    trace = article.ping(article.cloud(*flat), "VM_1", "VM_5")

    assert trace.disposition is Disposition.DELIVERED
    request = [s for s in trace.steps if s.packet == "ICMP echo request"]
    devices = [[f"{d.device} {d.tag}" for d in s.path] for s in request if s.node != "VM_1"]
    tap1, tap5 = (f"tap{article.PORTS[n].id[:11]}" for n in ("VM_1", "VM_5"))
    assert devices[0] == [f"{tap1} None", f"{BRIDGE} None", "eth0 None"]
    assert devices[2] == ["eth0 None", f"{BRIDGE} None", f"{tap5} None"]


def _flat(network: clouds.NetworkView) -> clouds.NetworkView:
    return replace(network, vlan_id=None) if network.vlan_id == 100 else network
