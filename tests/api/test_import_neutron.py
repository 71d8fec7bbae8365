"""``trunkline import-neutron``, from a server that speaks the same API: all arrives as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import Cloud, running

ALIKE = ("networks", "subnets", "security-groups", "routers", "ports", "floatingips")
# Which host holds a router's address is a matter of who comes first.
UNALIKE = {"created_at", "updated_at", "revision_number", "status", "security_group_rules"}
OWN = ("network:floatingip", "trunkline:gateway")


def command(target: Cloud, source: Cloud, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the target's configuration."""
    program = [sys.executable, "-m", "trunkline.cli.main", "import-neutron"]
    where = ["--config", str(target.directory / "server.toml"), "--server", source.url]
    return subprocess.run(
        [*program, *where, "--token", "admin", *words], capture_output=True, text=True, check=False
    )


@pytest.fixture
def target(tmp_path: Path) -> Cloud:
    """Return a cloud without anything, and without a server that runs."""
    directory = tmp_path / "target"
    directory.mkdir()
    cloud = Cloud(directory)
    cloud.write_files()
    return cloud


def furnish(source: Cloud) -> dict[str, Any]:
    """Make a cloud with something of everything; return an instance's port."""
    outside = source.external()
    network = source.network(dns_domain="a.org.")
    group = source.alice.create("security-groups", {"name": "web"})
    rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"}
    source.alice.create(
        "security-group-rules", {**rule, "port_range_min": 80, "port_range_max": 80}
    )
    gateway = {"external_gateway_info": {"network_id": outside["id"]}}
    router = source.alice.create("routers", {"name": "r", **gateway})
    wish = {"subnet_id": network["subnet"]["id"]}
    source.alice.request("PUT", f"/v2.0/routers/{router['id']}/add_router_interface", wish)
    port = source.instance(network, "h1", security_groups=[group["id"]], name="vm")
    other = source.instance(network, "h2", tags=["red"])
    floating = {"floating_network_id": outside["id"], "port_id": port["id"]}
    source.alice.create("floatingips", floating)
    led = source.alice.create("floatingips", {"floating_network_id": outside["id"]})
    for number in (80, 443):
        forwarding = {
            "internal_port_id": other["id"],
            "internal_ip_address": other["fixed_ips"][0]["ip_address"],
            "internal_port": number,
            "external_port": number,
            "protocol": "tcp",
        }
        where = f"/v2.0/floatingips/{led['id']}/port_forwardings"
        source.alice.request("POST", where, {"port_forwarding": forwarding})
    rbac = {"object_type": "network", "object_id": network["id"], "target_tenant": "p2"}
    source.alice.create("rbac-policies", {**rbac, "action": "access_as_shared"})
    places = ("physnet1", "physnet2")
    segments = [
        {"provider:physical_network": place, "provider:segmentation_id": vlan_id}
        for vlan_id, place in enumerate(places, start=4010)
    ]
    source.admin.create("networks", {"segments": segments, "project_id": "p1"})
    source.admin.request("PUT", "/v2.0/quotas/p1", {"quota": {"port": 77}})
    return port


def shown(cloud: Cloud) -> dict[str, list[dict[str, Any]]]:
    """Return what there is, without what differs from server to server."""
    return {
        name: sorted(
            (
                {
                    key: value
                    for key, value in one.items()
                    if key not in UNALIKE and (key != "binding:host_id" or one["device_id"] == "vm")
                }
                for one in cloud.admin.list(name)
                if one.get("device_owner") not in OWN and one["project_id"] != "padmin"
                and one["project_id"]
            ),
            key=lambda one: str(one["id"]),
        )
        for name in ALIKE
    }  # fmt: skip


def test_everything_arrives_as_it_was(own_cloud: Cloud, target: Cloud) -> None:
    """A report first, that changes nothing; then all of it, once."""
    port = furnish(own_cloud)
    before = command(target, own_cloud)
    assert before.returncode == 0, before.stdout + before.stderr
    assert "ports: 3 to take over" in before.stdout
    assert "Nothing was changed" in before.stdout
    assert command(target, own_cloud).stdout == before.stdout

    done = command(target, own_cloud, "--apply")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ports: 3 taken over" in done.stdout
    again = command(target, own_cloud, "--apply")
    assert "ports: 0 taken over, 3 here already" in again.stdout
    with running(target.directory) as there:
        for name, found in shown(there).items():
            assert found == shown(own_cloud)[name]
        assert there.admin.request("GET", "/v2.0/quotas/p1")["quota"]["port"] == 77
        assert there.bob.show("networks", port["network_id"])["shared"] is True
        with there.agent("h1") as agent:
            snapshot = agent.snapshot(None, 0)
        assert snapshot is not None
        (view,) = snapshot.ports
        assert (view.id, view.mac) == (port["id"], port["mac_address"])
        assert [f.port_id for f in snapshot.floating_ips] == [port["id"]]
        with there.agent("h2") as agent:
            snapshot = agent.snapshot(None, 0)
        assert snapshot is not None
        assert [len(f.forwarded) for f in snapshot.floating_ips] == [2]


def test_what_cannot_be_taken_over_is_refused_by_name(own_cloud: Cloud, target: Cloud) -> None:
    """Nothing is taken then, unless it may be left out with what needs it."""
    odd = own_cloud.network("admin", **{"provider:physical_network": "physnet2"})
    own_cloud.network()
    config = target.directory / "server.toml"
    config.write_text(config.read_text().replace("physnet2 = [[10, 10], [20, 20]]", ""))

    refused = command(target, own_cloud, "--apply")
    assert refused.returncode == 1
    assert f"refused: network {odd['id']} 'net': Invalid input for provider:phys" in refused.stdout
    assert f"refused: subnet {odd['subnet']['id']}: Network {odd['id']}" in refused.stdout
    assert "networks: 1 to take over" in refused.stdout
    done = command(target, own_cloud, "--apply", "--leave-out")
    assert done.returncode == 0
    assert "networks: 1 taken over" in done.stdout
