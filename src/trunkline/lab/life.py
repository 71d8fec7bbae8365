"""A lab's life: up, down, and an instance's birth and death in it.

``up`` is all or nothing: a lab that is complete is left alone, anything less is removed and
built anew, so there is no half-way state that a killed command could leave for good.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Interface
from typing import Any

from trunkline.errors import Interrupted, ServerUnavailable
from trunkline.hoststate import Bridge
from trunkline.kernel import netns
from trunkline.lab import build, state
from trunkline.lab.cloud import Cloud, Seat, Segment, write_users
from trunkline.lab.state import Lab
from trunkline.lab.topology import JOINT, ROUTER, load
from trunkline.lab.waiting import until
from trunkline.model import GatewayMode
from trunkline.ownership import alias


def up(text: str, name: str | None) -> tuple[Lab, bool]:
    """Bring a lab up; return it, and whether that took anything.

    Args:
        text: The topology, as YAML.
        name: Another name for the lab than the topology's.
    """
    lab = Lab(load(text, name))
    with state.locked(lab.topology.name):
        return lab, ensure_up(lab, text)


def ensure_up(lab: Lab, text: str, *, temporary: bool = False) -> bool:
    """Bring a lab up whose lock the caller holds; return whether that took anything."""
    if lab.complete and (lab.wanted or temporary) and lab.text() == text and _is_whole(lab):
        return False
    state.remove(lab.topology.name)
    lab.begin(text, temporary=temporary)
    _build(lab)
    lab.set_complete()
    return True


def down(name: str) -> bool:
    """End a lab and leave nothing of it; return whether there was anything."""
    with state.locked(name):
        return state.remove(name)


def _is_whole(lab: Lab) -> bool:
    """Return whether every namespace and every process of a complete lab is still there."""
    there = set(netns.names())
    return all(n in there for n in lab.namespaces().values()) and all(
        lab.process(label) for label in lab.labels()
    )


def _build(lab: Lab) -> None:
    write_users(lab)
    build.lay_cables(lab)
    build.start_server(lab)
    cloud = Cloud(lab)
    until("the server answers", lambda: _answers(lab, cloud), 30)
    for host in lab.topology.hosts:
        build.start_agent(lab, host)
    cloud.create()
    for segment in cloud.segments().values():
        _serve_upstream(lab, segment)
        network = lab.topology.networks[segment.network]
        if network.further:
            mac = segment.own_mac(JOINT)
            bridge = Bridge(segment.bridge, mac, build.MTU, alias(segment.network_id))
            build.join_segments(lab, bridge, network)
    seats = cloud.seats()
    for seat in seats.values():
        build.plug_instance(lab, seat.instance, seat.mac, seat.tap)
    wait_active(lab, cloud, seats)
    for instance in seats:
        build.boot_instance(lab, instance)
    for instance in seats:
        build.wait_for_lease(lab, instance)
    for seat in seats.values():
        wait_for_ipv6(lab, seat)
    settle(lab, cloud)


def _serve_upstream(lab: Lab, segment: Segment) -> None:
    """Have the upstream router serve a network whose gateway it is."""
    network = lab.topology.networks[segment.network]
    if network.gateway is GatewayMode.UPSTREAM and segment.vlan_id is not None:
        mac = segment.own_mac(ROUTER)
        bridge = Bridge(segment.bridge, mac, build.MTU, alias(segment.network_id))
        address = IPv4Interface((network.cidr[1], network.cidr.prefixlen))
        build.tag_router(lab, bridge, segment.vlan_id, address)


def _answers(lab: Lab, cloud: Cloud) -> bool:
    if not lab.process("server"):
        raise Interrupted(f"the server ended; its last words:{lab.last_words('server')}")
    try:
        cloud.admin.list("networks")
    except ServerUnavailable:
        return False
    return True


def wait_for_ipv6(lab: Lab, seat: Seat) -> None:
    """Wait until a booted instance has its IPv6 address, if it is to have one."""
    mode = lab.topology.networks[seat.network].ipv6_mode
    if seat.address6 is not None:
        build.wait_for_ipv6(lab, seat.instance, seat.mac, seat.address6, mode)


def start_instance(lab: Lab, cloud: Cloud, instance: str) -> Seat:
    """Plug in an instance whose port exists, and wait until its port is ACTIVE."""
    seat = cloud.seats()[instance]
    build.plug_instance(lab, instance, seat.mac, seat.tap)
    wait_active(lab, cloud, [instance])
    return seat


def wait_active(lab: Lab, cloud: Cloud, instances: Iterable[str]) -> None:
    """Wait until the agents have wired the ports of these instances.

    Raises:
        Interrupted: They have not; the message has the agents' last words.
    """
    wanted = set(instances)

    def all_active() -> bool:
        ports = cloud.admin.list("ports", status="ACTIVE")
        return wanted <= {port["name"] for port in ports} and _forwards(lab)

    _patiently(lab, f"the ports of {', '.join(sorted(wanted))} are ACTIVE", all_active)


def settle(lab: Lab, cloud: Cloud) -> None:
    """Wait until every host's agent has applied all that the server wants of it.

    Raises:
        Interrupted: One has not; the message has the agents' last words.
    """

    def settled() -> bool:
        agents = {agent["host"]: agent for agent in cloud.admin.list("agents")}
        return all(_in_sync(agents.get(host)) for host in lab.topology.hosts) and _forwards(lab)

    _patiently(lab, "every agent has applied what the server wants", settled)


def wait_until_forwarding(lab: Lab) -> None:
    """Wait until every bridge port with a carrier forwards."""
    until("every bridge port forwards", lambda: _forwards(lab))


def _forwards(lab: Lab) -> bool:
    """Return whether every bridge port with a carrier forwards.

    The kernel may let it do so up to a second after the carrier came (net/core/link_watch.c);
    until then it drops what comes in.
    """
    there = set(netns.names())  # a host may be dead
    nodes = [
        n
        for n in (*lab.topology.switches(), *lab.topology.routers_upstream(), *lab.topology.hosts)
        if lab.namespace(n) in there
    ]
    outputs = (netns.run(lab.namespace(node), ("bridge", "-j", "link")).stdout for node in nodes)
    ports = (port for output in outputs for port in json.loads(output or "[]"))
    return all(port["state"] == "forwarding" for port in ports if "LOWER_UP" in port["flags"])


def _in_sync(agent: Mapping[str, Any] | None) -> bool:
    if not agent:
        return False
    said = agent["configurations"]
    return said["applied_revision"] == said["revision"] and not said["problems"]


def _patiently(lab: Lab, what: str, condition: Callable[[], bool]) -> None:
    """Wait for something that is up to the agents; a failure has their last words."""
    try:
        until(what, condition, 30)
    except Interrupted as error:
        agents = (f"agent-{host}" for host in lab.topology.hosts)
        raise Interrupted(f"{error}{lab.last_words(*agents)}") from error
