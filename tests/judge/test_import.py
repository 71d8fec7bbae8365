"""``trunkline import-neutron`` from a real Neutron: what it has is here, as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from both import ADMIN, ALICE, Who
from real_neutron import RealNeutron, real_neutron
from running import Cloud, running

from trunkline.api.config import load
from trunkline.api.serve import open_database
from trunkline.api.takeover import COLLECTIONS, Report, take_over


@pytest.fixture(scope="module")
def neutron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNeutron]:
    """Lend a Neutron with a cloud in it."""
    with real_neutron(tmp_path_factory.mktemp("theirs")) as neutron:
        furnish(neutron)
        yield neutron


def make(neutron: RealNeutron, who: Who, path: str, key: str, **wish: Any) -> dict[str, Any]:
    """Make an object in Neutron."""
    status, answer = neutron.call(who, "POST", f"/v2.0/{path}", {key: wish})
    assert status == 201, answer
    made: dict[str, Any] = answer[key]
    return made


def furnish(neutron: RealNeutron) -> None:
    """Make an article's tenant: a network on a router, two instances, groups, a floating IP."""
    vlan = {"provider:network_type": "vlan", "provider:physical_network": "physnet1"}
    flat = {"provider:network_type": "flat", "provider:physical_network": "out"}
    outside = make(neutron, ADMIN, "networks", "network", **flat, **{"router:external": True})
    four = {"ip_version": 4, "network_id": outside["id"], "cidr": "203.0.113.0/24"}
    make(neutron, ADMIN, "subnets", "subnet", **four)
    network = make(
        neutron, ADMIN, "networks", "network", name="blue", project_id=ALICE[0], **vlan,
        **{"provider:segmentation_id": 100},
    )  # fmt: skip
    four |= {"network_id": network["id"], "cidr": "10.0.0.0/24"}
    subnet = make(neutron, ALICE, "subnets", "subnet", **four)
    group = make(neutron, ALICE, "security-groups", "security_group", name="web")
    tcp = {"direction": "ingress", "protocol": "tcp", "port_range_min": 80, "port_range_max": 80}
    path = "security-group-rules"
    make(neutron, ALICE, path, "security_group_rule", security_group_id=group["id"], **tcp)
    way = {"external_gateway_info": {"network_id": outside["id"]}}
    router = make(neutron, ALICE, "routers", "router", name="r", **way)
    status, answer = neutron.call(
        ALICE, "PUT", f"/v2.0/routers/{router['id']}/add_router_interface",
        {"subnet_id": subnet["id"]},
    )  # fmt: skip
    assert status == 200, answer
    for host in ("compute1", "compute2"):
        port = make(
            neutron, ADMIN, "ports", "port", network_id=network["id"], project_id=ALICE[0],
            device_owner="compute:nova", device_id=host, security_groups=[group["id"]],
            **{"binding:host_id": host},
        )  # fmt: skip
    way = {"floating_network_id": outside["id"], "port_id": port["id"]}
    make(neutron, ALICE, "floatingips", "floatingip", **way)


def read(neutron: RealNeutron) -> dict[str, list[dict[str, Any]]]:
    """Return what the command reads."""
    found = {}
    for name in (*COLLECTIONS, "quotas"):
        status, answer = neutron.call(ADMIN, "GET", f"/v2.0/{name}")
        assert status == 200, answer
        found[name] = answer[name.replace("-", "_")]
    return found


def taken(target: Cloud, found: dict[str, list[dict[str, Any]]]) -> Report:
    """Take it over into a cloud whose server does not run."""
    database = open_database(load(target.directory / "server.toml"))
    try:
        return take_over(database, found, apply=True, leave_out=False)
    finally:
        database.close()


def test_a_neutron_is_taken_over(neutron: RealNeutron, tmp_path: Path) -> None:
    """Ids, MACs, addresses, hosts and the VLAN id are those that it had."""
    target = Cloud(tmp_path)
    target.write_files()
    found = read(neutron)
    report = taken(target, found)
    assert report.refused == []
    assert taken(target, found).taken.total() == 0

    with running(tmp_path) as here:
        (blue,) = here.admin.list("networks", name="blue")
        assert blue["id"] in {one["id"] for one in found["networks"]}
        assert blue["provider:segmentation_id"] == 100
        keys = ("id", "mac_address", "fixed_ips", "security_groups", "device_id")
        mine = here.admin.list("ports", device_owner="compute:nova")
        theirs = [p for p in found["ports"] if p["device_owner"] == "compute:nova"]
        assert sorted([port[key] for key in (*keys, "binding:host_id")] for port in mine) == sorted(
            [port[key] for key in (*keys, "binding:host_id")] for port in theirs
        )
        (floating,) = here.admin.list("floatingips")
        (theirs_floating,) = found["floatingips"]
        for key in ("id", "floating_ip_address", "port_id", "fixed_ip_address", "router_id"):
            assert floating[key] == theirs_floating[key]


def test_an_overlay_is_refused_by_name(neutron: RealNeutron, tmp_path: Path) -> None:
    """Nothing is taken over while one network is no VLAN."""
    target = Cloud(tmp_path)
    target.write_files()
    found = read(neutron)
    overlay = {**found["networks"][0], "id": "0" * 8 + "-0000-4000-8000-" + "0" * 12}
    overlay |= {"provider:network_type": "vxlan", "name": "overlay", "subnets": []}
    found["networks"].append(overlay)
    report = taken(target, found)
    assert len(report.refused) == 1
    assert "'overlay'" in report.refused[0]
    assert "vxlan" in report.refused[0]
    with running(tmp_path) as here:
        assert here.admin.list("networks") == []
