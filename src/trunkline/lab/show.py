"""A lab as a person sees it: its inventory, frames as they pass, who can ping whom."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trunkline.errors import Invalid, NotFound
from trunkline.kernel import netns
from trunkline.lab import probe
from trunkline.lab.capture import Capture
from trunkline.lab.cloud import Cloud
from trunkline.lab.packets import Frame
from trunkline.lab.stage import SILENCE_S
from trunkline.lab.state import Lab, node_namespace
from trunkline.lab.waiting import limit_s
from trunkline.lab.walk import leasing


def facts(lab: Lab) -> dict[str, Any]:
    """Return a lab's nodes, processes and instances as plain data."""
    cloud = Cloud(lab)
    agents = {agent["host"]: agent for agent in cloud.admin.list("agents")}
    ports = {port["name"]: port for port in cloud.admin.list("ports")}
    floating = {
        address["fixed_ip_address"]: address["floating_ip_address"]
        for address in cloud.admin.list("floatingips")
    }
    return {
        "name": lab.topology.name,
        "complete": lab.complete,
        "fault": lab.fault or None,
        "api": lab.api,
        "processes": {label: bool(lab.process(label)) for label in lab.labels()},
        "nodes": lab.namespaces(),
        "hosts": {host: _host(agents.get(host)) for host in lab.topology.hosts},
        "instances": {
            seat.instance: {
                "project": seat.project,
                "host": seat.host,
                "network": seat.network,
                "address": str(seat.address),
                "floating_ip": floating.get(str(seat.address)),
                "mac": seat.mac,
                "tap": seat.tap,
                "status": ports[seat.instance]["status"],
            }
            for seat in cloud.seats().values()
        },
    }


def _host(agent: Mapping[str, Any] | None) -> dict[str, Any]:
    if agent is None:
        return {"alive": False}
    said = agent["configurations"]
    return {
        "alive": agent["alive"],
        "in_sync": said["revision"] == said["applied_revision"],
        "problems": said["problems"],
    }


def inventory(lab: Lab) -> str:
    """Return the facts as tables."""
    all_facts = facts(lab)
    hosts = [
        (host, lab.namespace(host), str(lab.topology.hosts[host].external), _state(said))
        for host, said in all_facts["hosts"].items()
    ]
    instances = [
        (
            name,
            lab.namespace(name),
            i["project"],
            i["host"],
            i["address"],
            i["floating_ip"] or "-",
            i["mac"],
            i["tap"],
            i["status"],
        )
        for name, i in all_facts["instances"].items()
    ]
    host_head = ("HOST", "NAMESPACE", "EXTERNAL", "AGENT")
    head = ("INSTANCE", "NAMESPACE", "PROJECT", "HOST", "ADDRESS", "FLOATING", "MAC", "TAP", "PORT")
    api = f"API {lab.api}, tokens in {lab.directory}/users.yaml"
    if lab.fault:
        api += f"\nfault {lab.fault} stands; 'trunkline lab fault --heal' ends it"
    return f"{api}\n\n{_table((host_head, *hosts))}\n\n{_table((head, *instances))}"


def _state(host: Mapping[str, Any]) -> str:
    if not host["alive"]:
        return "not alive"
    return f"{len(host['problems'])} problems" if host["problems"] else "in sync"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def follow(lab: Lab, places: Iterable[str], say: Callable[[str], None]) -> None:
    """Say each frame that passes at these places, until interrupted.

    Args:
        lab: The lab.
        places: ``NODE`` or ``NODE:DEVICE``.
        say: What to do with a line.
    """
    wanted: dict[str, set[str]] = {}
    for place in places:
        node, _, device = place.partition(":")
        wanted.setdefault(node, set()).add(device)
        _check_device(node_namespace(lab, node), node, device)
    with Capture({node: node_namespace(lab, node) for node in wanted}) as capture:
        while True:
            capture.wait(1)
            for frame in capture.take():
                if wanted[frame.node] & {"", frame.device}:
                    say(line(frame))


def _check_device(namespace: str, node: str, device: str) -> None:
    with netns.enter(namespace):
        devices = [name for _, name in socket.if_nameindex()]
    if device and device not in devices:
        raise NotFound(f"interface {device}: {node} has {', '.join(devices)}")


def line(frame: Frame) -> str:
    """Return a frame as one line."""
    seconds, nanoseconds = divmod(frame.at_ns, 10**9)
    place = f"{frame.node}:{frame.device}"
    tag = f" tag {frame.vlan_id}" if frame.vlan_id is not None else ""
    macs = f"{frame.source_mac} > {frame.destination_mac}{tag}"
    when = f"{seconds % 60:02}.{nanoseconds // 1000:06}"
    return f"{when} {place:24} {frame.direction:3} {macs} {_what(frame)}"


def _what(frame: Frame) -> str:
    if frame.arp:
        verb = "reply" if frame.arp.is_reply else "request"
        return f"ARP {verb} {frame.arp.sender} > {frame.arp.target}"
    if frame.dhcp:
        return leasing(frame.dhcp.client_mac)(frame) or "DHCP"
    ip = frame.ip
    if ip is None:
        return f"ethertype 0x{frame.data[12:14].hex()}, {len(frame.data)} bytes"
    if ip.icmp:
        return f"{ip.source} > {ip.destination} ICMP type {ip.icmp[0]} code {ip.icmp[1]}"
    if ip.ports:
        ends = f"{ip.source}:{ip.ports[0]} > {ip.destination}:{ip.ports[1]}"
        return f"{ends} protocol {ip.protocol} {ip.flags}".rstrip()
    return f"{ip.source} > {ip.destination} protocol {ip.protocol}"


def pingall(lab: Lab) -> str:
    """Return who can ping whom by fixed IP: a row per sender, ``X`` where nothing came back."""
    seats = Cloud(lab).seats()
    lines, answered, sent = [], 0, 0
    for sender in seats:
        cells = []
        for receiver, seat in seats.items():
            if receiver != sender:
                namespace = lab.namespace(sender)
                answer = probe.ping(namespace, seat.address, limit_s(SILENCE_S))
                sent += 1
                answered += answer.kind == "reply"
                cells.append(receiver if answer.kind == "reply" else "X".ljust(len(receiver)))
        lines.append(f"{sender:8} -> {' '.join(cells)}".rstrip())
    if not sent:
        raise Invalid(f"lab {lab.topology.name} has no two instances; nothing to ping")
    lost = 100 * (sent - answered) // sent
    lines.append(f"{lost} % dropped ({answered}/{sent} received)")
    return "\n".join(lines)
