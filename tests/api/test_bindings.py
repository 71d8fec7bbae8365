"""A port bound to two hosts while its instance moves, in Neutron's shapes."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid, NotFound
from trunkline.hoststate import HostConfig, HostFacts, VlanMaking
from trunkline.model import PortId, PortStatus
from trunkline.snapshot import HostSnapshot, PortView

_numbers = count(1)
FACTS = HostFacts(vlan_making=VlanMaking.KERNEL)
CONFIG = HostConfig("any", {"physnet1": "eth0"}, "eth1", None, (), "/var/lib/trunkline")


@pytest.fixture
def ends() -> tuple[str, str]:
    """Return the names of two hosts that no other test uses."""
    number = next(_numbers)
    return f"from{number}", f"to{number}"


def snapshot(cloud: Cloud, host: str) -> HostSnapshot:
    """Return a host's snapshot as its agent gets it."""
    with cloud.agent(host) as agent:
        found = agent.snapshot(None, 0)
        assert found is not None
        return found


def port_at(cloud: Cloud, host: str) -> PortView | None:
    """Return the one port that a host knows of, if any."""
    ports = snapshot(cloud, host).ports
    return ports[0] if ports else None


def ask(cloud: Cloud, method: str, port: dict[str, Any], rest: str = "", **binding: Any) -> Any:
    """Send a request about a port's bindings as the administrator."""
    body = {"binding": binding} if binding else None
    return cloud.admin.request(method, f"/v2.0/ports/{port['id']}/bindings{rest}", body)


def hosts(cloud: Cloud, port: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a port's hosts and whether each is active."""
    return [(b["host"], b["status"]) for b in ask(cloud, "GET", port)["bindings"]]


def test_a_move(cloud: Cloud, ends: tuple[str, str]) -> None:
    """Bound to a second host, activated there, gone from the first: both know what they must."""
    here, there = ends
    network, external = cloud.network(), cloud.external()
    port = cloud.instance(network, here)
    wish = {"floating_network_id": external["id"], "port_id": port["id"], "project_id": "p1"}
    floating = cloud.admin.create("floatingips", wish)

    made = ask(cloud, "POST", port, host=there, profile={"migrating_to": there})["binding"]

    assert made == {
        "host": there,
        "status": "INACTIVE",
        "vnic_type": "normal",
        "profile": {"migrating_to": there},
        "vif_type": "tap",
        "vif_details": {"port_filter": True, "connectivity": "l2"},
    }
    assert hosts(cloud, port) == [(here, "ACTIVE"), (there, "INACTIVE")]
    active, waiting = port_at(cloud, here), port_at(cloud, there)
    assert active
    assert waiting
    assert (active.active, waiting.active) == (True, False)
    assert waiting.group_ids == active.group_ids
    assert waiting.fixed_ips == active.fixed_ips
    (view,) = snapshot(cloud, there).networks
    assert view.subnets[0].gateway is not None
    assert snapshot(cloud, there).groups == snapshot(cloud, here).groups
    assert snapshot(cloud, there).floating_ips == ()

    assert ask(cloud, "PUT", port, f"/{there}/activate")["status"] == "ACTIVE"

    assert hosts(cloud, port) == [(there, "ACTIVE"), (here, "INACTIVE")]
    shown = cloud.admin.show("ports", port["id"])
    assert (shown["binding:host_id"], shown["status"]) == (there, "DOWN")
    assert shown["binding:profile"] == {"migrating_to": there}
    assert [f.id for f in snapshot(cloud, there).floating_ips] == [floating["id"]]
    assert snapshot(cloud, here).floating_ips == ()
    left = port_at(cloud, here)
    assert left
    assert not left.active

    ask(cloud, "DELETE", port, f"/{here}")

    assert hosts(cloud, port) == [(there, "ACTIVE")]
    assert (snapshot(cloud, here).ports, snapshot(cloud, here).networks) == ((), ())


def test_what_changes_reaches_both_hosts(cloud: Cloud, ends: tuple[str, str]) -> None:
    """Rules, members and attributes of a port that is moving show on either host."""
    here, there = ends
    network = cloud.network()
    group = cloud.alice.create("security-groups", {"name": "moving"})
    port = cloud.instance(network, here, security_groups=[group["id"]])
    ask(cloud, "POST", port, host=there)

    before = snapshot(cloud, there).revision
    rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"}
    cloud.alice.create("security-group-rules", {**rule, "remote_group_id": group["id"]})
    assert snapshot(cloud, there).revision > before

    before = snapshot(cloud, there).revision
    cloud.admin.update("ports", port["id"], {"admin_state_up": False})
    assert snapshot(cloud, there).revision > before
    assert [p.admin_up for p in snapshot(cloud, there).ports] == [False]

    before = snapshot(cloud, there).revision
    cloud.instance(network, f"{there}-beside", security_groups=[group["id"]])
    assert snapshot(cloud, there).revision > before


def test_deleting_or_binding_the_port_ends_it(cloud: Cloud, ends: tuple[str, str]) -> None:
    """A port that goes, goes from both hosts; bound outright, it is bound to one."""
    here, there = ends
    network = cloud.network()
    port = cloud.instance(network, here)
    ask(cloud, "POST", port, host=there)

    cloud.admin.update("ports", port["id"], {"binding:host_id": there})
    assert hosts(cloud, port) == [(there, "ACTIVE")]
    assert snapshot(cloud, here).networks == ()

    ask(cloud, "POST", port, host=here)
    cloud.admin.delete("ports", port["id"])
    for host in ends:
        assert (snapshot(cloud, host).ports, snapshot(cloud, host).networks) == ((), ())


def test_only_the_active_host_says_how_the_port_is(cloud: Cloud, ends: tuple[str, str]) -> None:
    """What the other host's agent reports of it has no effect."""
    here, there = ends
    port = cloud.instance(cloud.network(), here)
    ask(cloud, "POST", port, host=there)

    for host, status in ((here, PortStatus.ACTIVE), (there, PortStatus.DOWN)):
        with cloud.agent(host) as agent:
            seen = {PortId(port["id"]): status}
            agent.report(1, seen, [], FACTS, config=CONFIG, full=True)

    assert cloud.admin.show("ports", port["id"])["status"] == "ACTIVE"


def test_an_unbound_port_is_active_nowhere(cloud: Cloud, ends: tuple[str, str]) -> None:
    """Its first binding waits to be activated, like any other; then it is on that host alone."""
    port = cloud.instance(cloud.network(), "")

    assert ask(cloud, "GET", port)["bindings"] == [
        {
            "host": "", "status": "ACTIVE", "vnic_type": "normal", "profile": {},
            "vif_type": "unbound", "vif_details": {},
        }
    ]  # fmt: skip
    assert ask(cloud, "POST", port, host=ends[0])["binding"]["status"] == "INACTIVE"
    assert hosts(cloud, port) == [("", "ACTIVE"), (ends[0], "INACTIVE")]
    waiting = port_at(cloud, ends[0])
    assert waiting
    assert not waiting.active

    ask(cloud, "PUT", port, f"/{ends[0]}/activate")

    assert hosts(cloud, port) == [(ends[0], "ACTIVE")]
    assert cloud.admin.show("ports", port["id"])["binding:host_id"] == ends[0]
    active = port_at(cloud, ends[0])
    assert active
    assert active.active


def test_only_an_instances_port_has_bindings(cloud: Cloud, ends: tuple[str, str]) -> None:
    """A port that says of nobody that it is an instance's is bound by its host_id only."""
    port = cloud.instance(cloud.network(), ends[0], device_owner="")

    for method, rest, binding in (
        ("GET", "", {}),
        ("GET", f"/{ends[0]}", {}),
        ("POST", "", {"host": ends[1]}),
        ("PUT", f"/{ends[0]}", {"profile": {}}),
        ("PUT", f"/{ends[0]}/activate", {}),
        ("DELETE", f"/{ends[0]}", {}),
    ):
        with pytest.raises(Invalid, match="device_owner ''") as refusal:
            ask(cloud, method, port, rest, **binding)
        assert refusal.value.kind == "BadRequest"


def test_a_binding_can_be_looked_at_and_changed(cloud: Cloud, ends: tuple[str, str]) -> None:
    """Its profile is the hypervisor's to use, on either host."""
    port = cloud.instance(cloud.network(), ends[0])
    ask(cloud, "POST", port, host=ends[1])

    for host in ends:
        changed = ask(cloud, "PUT", port, f"/{host}", profile={"os_vif_delegation": True})
        assert changed["binding"]["profile"] == {"os_vif_delegation": True}
        assert ask(cloud, "GET", port, f"/{host}") == changed


def test_refusals(cloud: Cloud, ends: tuple[str, str]) -> None:
    """What cannot be is named, and changes nothing."""
    here, there = ends
    network = cloud.network()
    port = cloud.instance(network, here)

    with pytest.raises(Conflict, match="already exists"):
        ask(cloud, "POST", port, host=here)
    with pytest.raises(NotFound, match=f"Binding for port {port['id']} for host {there}"):
        ask(cloud, "PUT", port, f"/{there}/activate")
    with pytest.raises(Conflict, match="already active"):
        ask(cloud, "PUT", port, f"/{here}/activate")
    with pytest.raises(Conflict, match="is active; activate another"):
        ask(cloud, "DELETE", port, f"/{here}")
    with pytest.raises(Invalid, match="Invalid input for host"):
        ask(cloud, "POST", port, host="")
    with pytest.raises(Invalid, match="'state'"):
        ask(cloud, "POST", port, host=there, state="ACTIVE")
    with pytest.raises(NotFound):
        ask(cloud, "GET", {"id": network["id"]})
    gateway = cloud.admin.list("ports", network_id=network["id"], device_owner="trunkline:gateway")
    with pytest.raises(Invalid, match="only ports of instances"):
        ask(cloud, "POST", gateway[0], host=there)
    with pytest.raises(Forbidden):
        cloud.alice.request("GET", f"/v2.0/ports/{port['id']}/bindings", None)
    assert hosts(cloud, port) == [(here, "ACTIVE")]
