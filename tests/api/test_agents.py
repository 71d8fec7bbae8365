"""The agents' side: snapshots, revisions, gateways, reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from typing import Any

import pytest
from running import Cloud

from trunkline.client import AgentClient
from trunkline.errors import Conflict, Invalid
from trunkline.hoststate import HostConfig, HostFacts, Problem, VlanMaking
from trunkline.lab.waiting import limit_s, until
from trunkline.model import GATEWAY_OWNER, PortId, PortStatus
from trunkline.ownership import gateway_mac
from trunkline.snapshot import HostSnapshot

_numbers = count(1)
FACTS = HostFacts(vlan_making=VlanMaking.KERNEL, missing=("nothing",))
CONFIG = HostConfig("any", {"physnet1": "eth0"}, "eth1", None, (), "/var/lib/trunkline")


@pytest.fixture
def hosts() -> tuple[str, str, str]:
    """Return the names of three hosts that no other test uses."""
    number = next(_numbers)
    return f"left{number}", f"right{number}", f"far{number}"


def snapshot(cloud: Cloud, host: str) -> HostSnapshot:
    """Return a host's snapshot as a new agent sees it."""
    with cloud.agent(host) as agent:
        found = agent.snapshot(None, 0)
        assert found is not None
        return found


@contextmanager
def moves(cloud: Cloud, *hosts: str, among: tuple[str, ...]) -> Iterator[None]:
    """Assert that exactly these hosts' revisions move meanwhile."""
    before = {host: snapshot(cloud, host).revision for host in among}
    yield
    after = {host: snapshot(cloud, host).revision for host in among}
    assert {host for host in among if after[host] != before[host]} == set(hosts)


def gateways(cloud: Cloud, network: dict[str, Any]) -> dict[str, list[str]]:
    """Return the hosts' own addresses on a network."""
    found = cloud.admin.list("ports", network_id=network["id"], device_owner=GATEWAY_OWNER)
    return {
        port["binding:host_id"]: [fixed["ip_address"] for fixed in port["fixed_ips"]]
        for port in found
    }


def at(network: dict[str, Any], last: int) -> str:
    """Return an address of a network's first subnet."""
    base: str = network["subnet"]["cidr"].removesuffix("0/24")
    return f"{base}{last}"


def test_a_snapshot_holds_all_that_a_host_must_know(
    cloud: Cloud, hosts: tuple[str, str, str]
) -> None:
    """Network, subnet, port, group, members and floating IP arrive as they were made."""
    left, right, _ = hosts
    network, external = cloud.network(), cloud.external()
    mine = cloud.instance(network, left, dns_name="vm-1")
    other = cloud.instance(network, right)
    floating = cloud.admin.create(
        "floatingips",
        {"floating_network_id": external["id"], "port_id": mine["id"], "project_id": "p1"},
    )

    found = snapshot(cloud, left)

    (view,) = found.networks
    assert (view.id, view.project_id, view.physical_network) == (network["id"], "p1", "physnet1")
    (router,) = found.routers
    assert router.is_default
    assert view.router_id == router.id
    (subnet,) = view.subnets
    assert subnet.gateway == IPv4Address(at(network, 1))
    assert subnet.enable_dhcp
    (port,) = found.ports
    assert (port.id, port.mac, port.hostname) == (mine["id"], mine["mac_address"], "vm-1")
    assert [str(fixed.address) for fixed in port.fixed_ips] == [at(network, 2)]
    (group,) = found.groups
    assert port.group_ids == (group.id,)
    assert group.name == "default"
    members = {str(address) for address in found.members[group.id, view.domain]}
    assert {at(network, 2), other["fixed_ips"][0]["ip_address"]} <= members
    (view_of_floating,) = found.floating_ips
    assert str(view_of_floating.address) == floating["floating_ip_address"]
    assert view_of_floating.port_id == mine["id"]
    assert IPv4Network(network["subnet"]["cidr"]) in found.tenant_prefixes
    assert IPv4Network(external["subnet"]["cidr"]) not in found.tenant_prefixes


def test_a_host_without_ports_knows_the_prefixes(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """What must not leave by the uplink is every host's business."""
    network = cloud.network()

    found = snapshot(cloud, hosts[0])

    assert found.networks == found.ports == ()
    assert IPv4Network(network["subnet"]["cidr"]) in found.tenant_prefixes


def test_a_port_without_a_name_is_called_by_its_address(
    cloud: Cloud, hosts: tuple[str, str, str]
) -> None:
    """DHCP needs a name for every instance."""
    network = cloud.network()
    cloud.instance(network, hosts[0])

    (port,) = snapshot(cloud, hosts[0]).ports

    assert port.hostname == "host-" + at(network, 2).replace(".", "-")


def test_a_network_that_is_down_takes_its_ports_down(
    cloud: Cloud, hosts: tuple[str, str, str]
) -> None:
    """admin_state_up of a port needs its network's."""
    network = cloud.network()
    port = cloud.instance(network, hosts[0])
    assert snapshot(cloud, hosts[0]).ports[0].admin_up

    cloud.alice.update("networks", network["id"], {"admin_state_up": False})
    assert not snapshot(cloud, hosts[0]).ports[0].admin_up
    cloud.alice.update("networks", network["id"], {"admin_state_up": True})
    cloud.alice.update("ports", port["id"], {"admin_state_up": False})
    assert not snapshot(cloud, hosts[0]).ports[0].admin_up


def test_each_host_takes_its_own_address(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """The first host gets the subnet's gateway, the others one of the pool, while they serve."""
    left, right, _ = hosts
    network = cloud.network()

    first = cloud.instance(network, left)
    second = cloud.instance(network, right)
    cloud.instance(network, right)

    found = gateways(cloud, network)
    assert found[left] == [at(network, 1)]
    assert found[right] == [at(network, 4)]
    (port,) = cloud.admin.list(
        "ports",
        network_id=network["id"],
        **{"binding:host_id": right, "device_owner": GATEWAY_OWNER},
    )
    assert port["mac_address"] == gateway_mac(right, network["id"])
    assert cloud.alice.list("ports", device_owner=GATEWAY_OWNER) == []
    cloud.admin.delete("ports", first["id"])
    cloud.admin.delete("ports", second["id"])
    assert set(gateways(cloud, network)) == {right}


def test_a_host_that_comes_back_first_gets_the_gateway_again(
    cloud: Cloud, hosts: tuple[str, str, str]
) -> None:
    """The subnet's gateway address is free once its host has left."""
    left, right, _ = hosts
    network = cloud.network()
    cloud.admin.delete("ports", cloud.instance(network, left)["id"])

    cloud.instance(network, right)

    assert gateways(cloud, network) == {right: [at(network, 1)]}


def test_an_administrator_chooses_the_gateways(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """Ports made beforehand give hosts the article's addresses, and go with the last instance."""
    left, right, _ = hosts
    network = cloud.network()
    for host, last in ((left, 1), (right, 5)):
        cloud.admin.create(
            "ports",
            {
                "network_id": network["id"],
                "device_owner": GATEWAY_OWNER,
                "binding:host_id": host,
                "fixed_ips": [{"ip_address": at(network, last)}],
            },
        )

    port = cloud.instance(network, right)

    assert snapshot(cloud, right).networks[0].subnets[0].gateway == IPv4Address(at(network, 5))
    assert gateways(cloud, network) == {left: [at(network, 1)], right: [at(network, 5)]}
    cloud.admin.delete("ports", port["id"])
    assert gateways(cloud, network) == {left: [at(network, 1)]}


def test_a_gateway_in_use_stays_but_may_move(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """Its port is not deleted under the instances; its address may be changed."""
    left, _, _ = hosts
    network = cloud.network()
    cloud.instance(network, left)
    (port,) = cloud.admin.list("ports", network_id=network["id"], device_owner=GATEWAY_OWNER)

    with pytest.raises(Conflict, match=left):
        cloud.admin.delete("ports", port["id"])
    with pytest.raises(Conflict, match="host"):
        cloud.admin.update("ports", port["id"], {"binding:host_id": "elsewhere"})
    with moves(cloud, left, among=hosts):
        cloud.admin.update("ports", port["id"], {"fixed_ips": [{"ip_address": at(network, 99)}]})
    assert snapshot(cloud, left).networks[0].subnets[0].gateway == IPv4Address(at(network, 99))


def test_one_gateway_port_per_host(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """A second gateway port of a host on a network, and one without a host, are refused."""
    network = cloud.network()
    wish = {"network_id": network["id"], "device_owner": GATEWAY_OWNER}
    cloud.admin.create("ports", {**wish, "binding:host_id": hosts[0]})

    with pytest.raises(Conflict):
        cloud.admin.create("ports", {**wish, "binding:host_id": hosts[0]})
    with pytest.raises(Invalid, match="binding:host_id"):
        cloud.admin.create("ports", wish)


def test_later_subnets_get_gateways_too(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """A subnet added to a served network is served at once, and leaves when deleted."""
    left, right, far = hosts
    network = cloud.network()
    cloud.instance(network, left)
    cloud.instance(network, right)
    snapshot(cloud, far)

    second = cloud.subnet(network)

    base = second["cidr"].removesuffix("0/24")
    found = gateways(cloud, network)
    assert {found[left][1], found[right][1]} == {f"{base}1", f"{base}2"}
    assert {subnet.id for subnet in snapshot(cloud, left).networks[0].subnets} == {
        network["subnet"]["id"],
        second["id"],
    }
    cloud.alice.delete("subnets", second["id"])
    assert {len(addresses) for addresses in gateways(cloud, network).values()} == {1}


def test_a_subnet_that_needs_no_gateway_has_none(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """Without a router and without DHCP, hosts keep off the subnet."""
    network = cloud.alice.create("networks", {})
    cloud.subnet(network, gateway_ip=None, enable_dhcp=False)

    cloud.instance(network, hosts[0])

    assert gateways(cloud, network) == {}
    assert snapshot(cloud, hosts[0]).networks[0].subnets[0].gateway is None


def test_a_subnet_without_gateway_beside_one_with(
    cloud: Cloud, hosts: tuple[str, str, str]
) -> None:
    """The host routes the network, and is nobody's router on that subnet; until it has one."""
    network = cloud.network()
    second = cloud.subnet(network, gateway_ip=None)
    cloud.instance(network, hosts[0])

    def routed() -> dict[str, bool]:
        return {s.id: s.routed for s in snapshot(cloud, hosts[0]).networks[0].subnets}

    assert routed() == {network["subnet"]["id"]: True, second["id"]: False}
    base = second["cidr"].removesuffix("0/24")
    pools = [{"start": f"{base}1", "end": f"{base}200"}]
    wish = {"gateway_ip": f"{base}254", "allocation_pools": pools}
    cloud.alice.update("subnets", second["id"], wish)
    assert set(routed().values()) == {True}


def test_a_full_subnet_has_no_room_for_another_host(
    cloud: Cloud, hosts: tuple[str, str, str]
) -> None:
    """A binding that cannot be served is refused, and nothing of it remains."""
    left, right, _ = hosts
    network = cloud.network()
    pools = [{"start": at(network, 10), "end": at(network, 11)}]
    cloud.alice.update("subnets", network["subnet"]["id"], {"allocation_pools": pools})
    cloud.instance(network, left)
    waiting = cloud.alice.create("ports", {"network_id": network["id"]})

    with pytest.raises(Conflict) as refusal:
        cloud.admin.update("ports", waiting["id"], {"binding:host_id": right})
    assert refusal.value.kind == "IpAddressGenerationFailure"
    assert cloud.admin.show("ports", waiting["id"])["binding:host_id"] == ""
    assert set(gateways(cloud, network)) == {left}


def test_exactly_the_hosts_concerned_move(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """Each kind of change moves the revisions of the hosts that it shows on, and no other's."""
    left, right, far = hosts
    network, elsewhere = cloud.network(), cloud.network("bob")
    cloud.instance(elsewhere, far, project="p2")
    group = cloud.alice.create("security-groups", {"name": "g"})
    peer = cloud.alice.create("security-groups", {"name": "peer"})
    grouped = {"security_groups": [group["id"]]}
    port = cloud.instance(network, left, **grouped)
    cloud.instance(network, right, security_groups=[peer["id"]])

    with moves(cloud, left, right, among=hosts):  # all are told of its name
        cloud.instance(network, left, **grouped)
    with moves(cloud, left, right, among=hosts):
        cloud.alice.update("ports", port["id"], {"dns_name": "renamed"})
    with moves(cloud, among=hosts):
        cloud.alice.update("ports", port["id"], {"name": "renamed"})
    with moves(cloud, left, among=hosts):
        rule = cloud.alice.create(
            "security-group-rules",
            {
                "security_group_id": group["id"],
                "direction": "ingress",
                "remote_group_id": peer["id"],
            },
        )
    with moves(cloud, left, right, among=hosts):
        extra = cloud.instance(network, right, security_groups=[peer["id"]])
    with moves(cloud, left, right, among=hosts):
        cloud.admin.update("ports", extra["id"], {"fixed_ips": []})
    with moves(cloud, left, right, among=hosts):
        cloud.alice.delete("ports", extra["id"])
    with moves(cloud, left, among=hosts):
        cloud.alice.delete("security-group-rules", rule["id"])
    with moves(cloud, left, right, among=hosts):
        cloud.instance(network, right, security_groups=[peer["id"]])
    with moves(cloud, left, right, among=hosts):
        cloud.alice.update("networks", network["id"], {"mtu": 1400})
    with moves(cloud, among=hosts):
        cloud.alice.update("networks", network["id"], {"description": "d"})
    with moves(cloud, left, right, among=hosts):
        cloud.alice.update("subnets", network["subnet"]["id"], {"dns_nameservers": ["8.8.8.8"]})
    with moves(cloud, left, right, far, among=hosts):
        other = cloud.network()
    with moves(cloud, left, right, far, among=hosts):
        cloud.alice.delete("subnets", other["subnet"]["id"])
    with moves(cloud, among=hosts):
        external = cloud.external()
    with moves(cloud, left, right, among=hosts):
        cloud.admin.update("ports", port["id"], {"binding:host_id": right})
    with moves(cloud, among=hosts):
        floating = cloud.alice.create("floatingips", {"floating_network_id": external["id"]})
    with moves(cloud, right, among=hosts):
        cloud.alice.update("floatingips", floating["id"], {"port_id": port["id"]})
    with moves(cloud, right, among=hosts):
        cloud.alice.delete("floatingips", floating["id"])


def test_a_moved_floating_ip_concerns_both_hosts(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """The host that had it must let go of it."""
    left, right, _ = hosts
    network, external = cloud.network(), cloud.external()
    ports = [cloud.instance(network, host) for host in (left, right)]
    floating = cloud.alice.create(
        "floatingips", {"floating_network_id": external["id"], "port_id": ports[0]["id"]}
    )

    with moves(cloud, left, right, among=hosts):
        cloud.alice.update("floatingips", floating["id"], {"port_id": ports[1]["id"]})
    assert snapshot(cloud, left).floating_ips == ()


def test_only_changed_sections_travel(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """A client that has everything gets one port's section, and keeps the other values."""
    left = hosts[0]
    network = cloud.network()
    for _ in range(3):
        cloud.instance(network, left, security_groups=[])

    with cloud.agent(left) as agent:
        before = agent.snapshot(None, 0)
        assert before is not None
        new = cloud.instance(network, left, security_groups=[])
        after = agent.snapshot(before.revision, 0)
        held = agent._held.digests
        section = f"ports/{int(new['id'][:2], 16) >> 2}"
        body = {"revision": None, "have": {**held, section: "other"}}
        answer = cloud.user("agent").request("POST", f"/agent/v1/hosts/{left}/snapshot", body)

    assert after is not None
    kept = {id(port) for port in before.ports}
    assert len([port for port in after.ports if id(port) in kept]) >= 1
    assert set(answer["sections"]) == {section}
    assert set(answer["digests"]) == set(held)
    assert after == snapshot(cloud, left)


def polled(agent: AgentClient, after: int | None) -> Callable[[], HostSnapshot | None]:
    """Return a long poll of an agent."""
    return lambda: agent.snapshot(after, limit_s(20))


def test_a_long_poll_ends_when_the_host_changes(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """A waiting agent is woken by its host's change, and not by another's."""
    left, right, _ = hosts
    network = cloud.network()
    cloud.instance(network, right, security_groups=[])
    start = snapshot(cloud, left)

    with cloud.agent(left) as agent, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(polled(agent, start.revision))
        cloud.instance(network, right, security_groups=[])
        assert not waiting.done()
        port = cloud.instance(network, left, security_groups=[])
        found = waiting.result(limit_s(20))

    assert found is not None
    assert [view.id for view in found.ports] == [port["id"]]


def test_a_long_poll_ends_with_nothing_when_nothing_changes(
    cloud: Cloud, hosts: tuple[str, str, str]
) -> None:
    """The same revision after the time is up is no snapshot."""
    start = snapshot(cloud, hosts[0])

    with cloud.agent(hosts[0]) as agent:
        assert agent.snapshot(start.revision, 0.2) is None
        assert agent.snapshot(start.revision + 5, 0) is not None


def test_long_polls_hold_no_thread(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """More agents wait than the server has threads, and it answers others meanwhile."""
    start = snapshot(cloud, hosts[0])
    agents = [AgentClient(cloud.url, "agent", hosts[0]) for _ in range(40)]

    with ThreadPoolExecutor(len(agents)) as pool:
        waiting = [pool.submit(polled(agent, start.revision)) for agent in agents]
        network = cloud.network()  # moves every host: a prefix is new
        found = [future.result(limit_s(20)) for future in waiting]

    for agent in agents:
        agent.close()
    prefix = IPv4Network(network["subnet"]["cidr"])
    assert all(one is not None and prefix in one.tenant_prefixes for one in found)


def test_a_report_sets_the_status_of_the_hosts_own_ports(
    cloud: Cloud, hosts: tuple[str, str, str]
) -> None:
    """ACTIVE and DOWN come from the agent of the host that a port is bound to, only."""
    left, right, _ = hosts
    network = cloud.network()
    mine, theirs = cloud.instance(network, left), cloud.instance(network, right)
    status = {PortId(port["id"]): PortStatus.ACTIVE for port in (mine, theirs)}

    with cloud.agent(left) as agent:
        agent.report(1, status, [], FACTS, config=CONFIG, full=False)
    assert cloud.alice.show("ports", mine["id"])["status"] == "ACTIVE"
    assert cloud.alice.show("ports", theirs["id"])["status"] == "DOWN"
    with cloud.agent(left) as agent:
        agent.report(1, {}, [], FACTS, config=CONFIG, full=False)
        assert cloud.alice.show("ports", mine["id"])["status"] == "ACTIVE"
        agent.report(1, {}, [], FACTS, config=CONFIG, full=True)
    assert cloud.alice.show("ports", mine["id"])["status"] == "DOWN"


def test_a_rebound_port_is_down_until_its_new_host_reports(
    cloud: Cloud, hosts: tuple[str, str, str]
) -> None:
    """What the old host said is true no more."""
    left, right, _ = hosts
    network = cloud.network()
    port = cloud.instance(network, left)
    active = {PortId(port["id"]): PortStatus.ACTIVE}
    with cloud.agent(left) as agent:
        agent.report(1, active, [], FACTS, config=CONFIG, full=True)

    moved = cloud.admin.update("ports", port["id"], {"binding:host_id": right})

    assert moved["status"] == "DOWN"
    with cloud.agent(left) as agent:
        agent.report(1, active, [], FACTS, config=CONFIG, full=True)
    assert cloud.alice.show("ports", port["id"])["status"] == "DOWN"
    with cloud.agent(right) as agent:
        agent.report(1, active, [], FACTS, config=CONFIG, full=True)
    assert cloud.alice.show("ports", port["id"])["status"] == "ACTIVE"
    assert set(gateways(cloud, network)) == {right}


def test_a_host_that_is_set_down_takes_no_more_ports(
    cloud: Cloud, hosts: tuple[str, str, str]
) -> None:
    """No port comes to a host whose agent is set down; those that are there stay as they are."""
    left, right, _ = hosts
    network = cloud.network()
    stays, other = cloud.instance(network, left), cloud.instance(network, right)
    snapshot(cloud, left)
    (agent,) = cloud.admin.list("agents", host=left)
    after = cloud.admin.update(
        "agents", agent["id"], {"admin_state_up": False, "description": "new disks"}
    )
    assert (after["admin_state_up"], after["description"]) == (False, "new disks")
    for refused in (
        lambda: cloud.instance(network, left),
        lambda: cloud.admin.update("ports", other["id"], {"binding:host_id": left}),
        lambda: cloud.admin.request(
            "POST", f"/v2.0/ports/{other['id']}/bindings", {"binding": {"host": left}}
        ),
    ):
        with pytest.raises(Conflict, match=f"{left} .* takes no more ports"):
            refused()
    cloud.admin.update("ports", stays["id"], {"name": "stays"})
    assert [port.id for port in snapshot(cloud, left).ports] == [stays["id"]]
    cloud.admin.update("agents", agent["id"], {"admin_state_up": True})
    assert cloud.instance(network, left)["binding:host_id"] == left


def test_hosts_are_agents(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """What a host reported is shown to administrators; a host never heard of is no agent."""
    left, right, _ = hosts
    cloud.instance(cloud.network(), right)
    with cloud.agent(left) as agent:
        agent.report(7, {}, [Problem("port x", "is odd")], FACTS, config=CONFIG, full=True)

    (found,) = cloud.admin.list("agents", host=left)

    assert (found["alive"], found["binary"]) == (True, "trunkline-agent")
    assert found["configurations"]["applied_revision"] == 7
    assert found["configurations"]["problems"] == [{"subject": "port x", "text": "is odd"}]
    assert found["configurations"]["facts"]["vlan_making"] == "8021q"
    assert cloud.admin.show("agents", found["id"]) == found
    assert [a["host"] for a in cloud.admin.list("agents", alive=True, host=left)] == [left]
    assert cloud.admin.list("agents", alive=False, host=left) == []
    assert cloud.admin.list("agents", host=right) == []


def test_a_poll_is_a_sign_of_life(cloud: Cloud, hosts: tuple[str, str, str]) -> None:
    """An agent that has only asked so far is alive."""
    snapshot(cloud, hosts[0])

    assert cloud.admin.list("agents", host=hosts[0])[0]["alive"]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"colour": 1},
        {"revision": "x"},
        {"revision": -1},
        {"revision": 2**70},
        {"revision": True},
        {"wait": "long"},
        {"have": []},
    ],
)
def test_a_wrong_poll_is_refused(cloud: Cloud, body: object) -> None:
    """Malformed polls get a 400."""
    with pytest.raises(Invalid):
        cloud.user("agent").request("POST", "/agent/v1/hosts/h/snapshot", body)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"colour": 1},
        {"ports": {"x": "ACTIVE"}},
        {"ports": {"6f2f2d0e-0000-4000-8000-000000000000": "UP"}},
        {"ports": {"\ud800": "ACTIVE"}},
        {"problems": [1]},
        {"problems": [{"subject": 1, "text": ""}]},
        {"full": 1},
        {"facts": []},
        {"revision": 2**64},
    ],
)
def test_a_wrong_report_is_refused(cloud: Cloud, body: object) -> None:
    """Malformed reports get a 400."""
    with pytest.raises(Invalid):
        cloud.user("agent").request("POST", "/agent/v1/hosts/h/report", body)


def test_another_servers_change_wakes_the_agent(
    own_cloud: Cloud, hosts: tuple[str, str, str]
) -> None:
    """Two servers on one database: what one writes, the other's waiting agents see."""
    left = hosts[0]
    start = snapshot(own_cloud, left)
    config = own_cloud.directory / "server.toml"
    text = config.read_text()
    config.write_text(text.replace("api.sock", "second.sock"))
    second = own_cloud.spawn()
    own_cloud.clients["second"] = client = type(own_cloud.admin)(
        f"unix:{own_cloud.directory}/second.sock", "admin"
    )
    try:
        until("the second server listens", (own_cloud.directory / "second.sock").exists)
        with own_cloud.agent(left) as agent, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(polled(agent, start.revision))
            network = client.create("networks", {})
            wish = {"network_id": network["id"], "ip_version": 4, "cidr": "10.9.9.0/24"}
            client.create("subnets", wish)
            found = waiting.result(limit_s(20))
    finally:
        second.terminate()
        code = second.wait(limit_s(20))

    assert code == 0
    assert found is not None
    assert found.tenant_prefixes == (IPv4Network("10.9.9.0/24"),)
