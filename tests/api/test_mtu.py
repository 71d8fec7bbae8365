"""The MTU of a network against what the hosts' trunks take."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import running

from trunkline.errors import Invalid
from trunkline.hoststate import HostConfig, HostFacts, VlanMaking

FACTS = HostFacts(vlan_making=VlanMaking.KERNEL, trunk_mtus={"eth0": 1600})
CONFIG = HostConfig("any", {"physnet1": "eth0"}, "eth1", None, (), "/var/lib/trunkline")


def test_an_mtu_above_a_trunks_is_refused_by_the_hosts_name(tmp_path: Path) -> None:
    """Once agents tell of their trunks, no network gets what one of them cannot carry."""
    with running(tmp_path) as cloud:
        before = cloud.alice.create("networks", {"mtu": 9000})
        with cloud.agent("h1") as agent:
            agent.report(1, {}, [], FACTS, config=CONFIG, full=True)

        with pytest.raises(Invalid, match=r"mtu.*9000 exceeds the 1600 of eth0.*host h1"):
            cloud.alice.create("networks", {"mtu": 9000})
        fitting = cloud.alice.create("networks", {"mtu": 1600})
        with pytest.raises(Invalid, match="choose at most 1600"):
            cloud.alice.update("networks", fitting["id"], {"mtu": 1601})
        assert cloud.alice.show("networks", fitting["id"])["mtu"] == 1600
        cloud.alice.update("networks", before["id"], {"name": "it stays as it was"})
        away = {"provider:physical_network": "physnet2", "provider:segmentation_id": 10}
        assert cloud.admin.create("networks", {"mtu": 9000, **away})["mtu"] == 9000
        assert cloud.admin.create("networks", {"mtu": 9000, "router:external": True})
