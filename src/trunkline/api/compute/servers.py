"""``/servers``: instances as their ports tell of them, and what changes their ports.

A server is what ports with the same ``device_id`` are plugged into. It is called as its first port
is, or else by that id. Whether it runs, nobody here knows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trunkline.api.compute.call import Call, only
from trunkline.api.compute.security_groups import view as group_view
from trunkline.errors import Invalid, NotFound
from trunkline.service.collections import Record
from trunkline.service.provisioning import is_instance_owner
from trunkline.service.security_groups import ensure_default

ACTIVE, UNKNOWN = "ACTIVE", "UNKNOWN"
IPV6_MARK = ":"
RUNNING, NO_STATE = 1, 0  # Nova's power states


@dataclass(frozen=True)
class Server:
    """The ports of one instance, the oldest first."""

    id: str
    project_id: str
    ports: list[Record]

    @property
    def name(self) -> str:
        """Return what it is called."""
        return self.ports[0]["name"] or self.id

    @property
    def group_ids(self) -> list[str]:
        """Return the ids of the groups that its ports are in."""
        return sorted({group_id for port in self.ports for group_id in port["security_groups"]})


def listed(call: Call) -> Any:
    """Answer the servers by name and id."""
    return {"servers": [_short(server) for server in _wanted(call)]}


def detailed(call: Call) -> Any:
    """Answer the servers with their addresses and groups."""
    names = _names(call)
    return {"servers": [_view(call, server, names) for server in _wanted(call)]}


def shown(call: Call) -> Any:
    """Answer one server."""
    return {"server": _view(call, _server(call), _names(call))}


def groups(call: Call) -> Any:
    """Answer the security groups of a server."""
    found = [call.fetch("security-groups", group_id) for group_id in _server(call).group_ids]
    return {"security_groups": [group_view(call, group) for group in found]}


def act(call: Call) -> Any:
    """Change what a server's ports have.

    Raises:
        Invalid: Nothing here does what is asked: it is no matter of the network.
    """
    body = call.body
    if not isinstance(body, dict) or len(body) != 1 or not body.keys() <= ACTIONS.keys():
        raise Invalid(f"The action is none of {', '.join(ACTIONS)}; there are no others here.")
    ((name, values),) = body.items()
    if not isinstance(values, dict):
        raise Invalid(f"{name} must be an object.")
    ACTIONS[name](call, _server(call), values)


def _add_floating_ip(call: Call, server: Server, values: Mapping[str, Any]) -> None:
    floating = _floating_ip(call, values)
    fixed = values.get("fixed_address")
    ports = [p for p in server.ports if fixed is None or fixed in _addresses_of(p)]
    usual = [a for port in ports[:1] for a in _addresses_of(port) if IPV6_MARK not in a]
    if not usual:
        raise Invalid(f"Server {server.id} does not have the fixed address {fixed or ''!s:.80}.")
    body = {"port_id": ports[0]["id"], "fixed_ip_address": fixed or usual[0]}
    call.update("floatingips", floating["id"], body)


def _remove_floating_ip(call: Call, server: Server, values: Mapping[str, Any]) -> None:
    floating = _floating_ip(call, values)
    if floating["port_id"] not in {port["id"] for port in server.ports}:
        raise Invalid(
            f"Floating IP {floating['ip_address']} is not associated with server {server.id}."
        )
    call.update("floatingips", floating["id"], {"port_id": None})


def _add_group(call: Call, server: Server, values: Mapping[str, Any]) -> None:
    group_id = _group_id(call, values)
    for port in server.ports:
        if group_id not in port["security_groups"]:
            wish = {"security_groups": [*port["security_groups"], group_id]}
            call.update("ports", port["id"], wish)


def _remove_group(call: Call, server: Server, values: Mapping[str, Any]) -> None:
    group_id = _group_id(call, values)
    if group_id not in server.group_ids:
        raise NotFound(f"Security group {group_id} is not associated with server {server.id}.")
    for port in server.ports:
        kept = [other for other in port["security_groups"] if other != group_id]
        if kept != port["security_groups"]:
            call.update("ports", port["id"], {"security_groups": kept})


ACTIONS: Mapping[str, Callable[[Call, Server, Mapping[str, Any]], None]] = {
    "addFloatingIp": _add_floating_ip,
    "removeFloatingIp": _remove_floating_ip,
    "addSecurityGroup": _add_group,
    "removeSecurityGroup": _remove_group,
}


def _floating_ip(call: Call, values: Mapping[str, Any]) -> Record:
    address = str(values.get("address"))
    return only(call.all("floatingips", ip_address=address), f"Floating IP {address:.80}")


def _group_id(call: Call, values: Mapping[str, Any]) -> str:
    ensure_default(call.tx, call.caller)
    wanted = str(values.get("name"))
    own = call.all("security-groups", project_id=call.caller.project_id)
    found = [group for group in own if wanted in (group["id"], group["name"])]
    return str(only(found, f"Security group {wanted:.80}")["id"])


def _wanted(call: Call) -> list[Server]:
    """Return the servers that a list request asks for.

    ``name`` narrows it to those with this in their names; other filters are of Nova's own.
    """
    name = call.request.query_params.get("name", "")
    found = [server for server in _servers(call.own("ports")) if name in server.name]
    page = {one["id"] for one in call.page([{"id": server.id} for server in found])}
    return [server for server in found if server.id in page]


def _server(call: Call) -> Server:
    """Return the server in the path; of several projects' with one id, the caller's own."""
    server_id = call.path("id")
    found = _servers(call.all("ports", device_id=server_id))
    found.sort(key=lambda server: server.project_id != call.caller.project_id)
    if not found:
        raise NotFound(f"Instance {server_id:.80} could not be found: no port has it as device_id.")
    return found[0]


def _servers(ports: list[Record]) -> list[Server]:
    plugged: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for port in sorted(ports, key=lambda port: (port["created_at"], port["name"])):
        if port["device_id"] and is_instance_owner(port["device_owner"]):
            plugged[port["device_id"], port["project_id"]].append(port)
    return [Server(*key, ports) for key, ports in plugged.items()]


def _short(server: Server) -> Record:
    return {"id": server.id, "name": server.name, "links": []}


def _view(call: Call, server: Server, names: Names) -> Record:
    is_up = any(port["status"] == ACTIVE for port in server.ports)
    first = server.ports[0]
    shown = {
        **_short(server),
        "tenant_id": server.project_id,
        "status": ACTIVE if is_up else UNKNOWN,
        "OS-EXT-STS:vm_state": ACTIVE.lower() if is_up else None,
        "OS-EXT-STS:power_state": RUNNING if is_up else NO_STATE,
        "OS-EXT-STS:task_state": None,
        "addresses": _addresses(server, names),
        "security_groups": [{"name": names.groups.get(found)} for found in server.group_ids],
        "metadata": {},
        "image": "",
        "flavor": {"id": ""},
        "created": first["created_at"],
        "updated": max(port["updated_at"] for port in server.ports),
    }
    if call.caller.may_attribute("get_port:binding:host_id"):
        shown["OS-EXT-SRV-ATTR:host"] = first["host"] or None
    return shown


@dataclass(frozen=True)
class Names:
    """What ports name by ids: networks and groups by name, floating IPs by port."""

    networks: Mapping[str, str]
    groups: Mapping[str, str]
    floating: Mapping[str, list[str]]


def _names(call: Call) -> Names:
    floating: dict[str, list[str]] = defaultdict(list)
    for one in call.all("floatingips"):
        floating[one["port_id"]].append(one["ip_address"])
    networks, groups = (
        {record["id"]: record["name"] for record in call.all(collection)}
        for collection in ("networks", "security-groups")
    )
    return Names(networks, groups, floating)


def _addresses(server: Server, names: Names) -> Record:
    """Return a server's addresses by the name of their network, floating ones behind fixed ones."""
    told: dict[str, list[Record]] = defaultdict(list)
    for port in server.ports:
        here = told[names.networks.get(port["network_id"], port["network_id"])]
        here += [_address(port, address, "fixed") for address in _addresses_of(port)]
        floating = names.floating.get(port["id"], [])
        here += [_address(port, address, "floating") for address in floating]
    return told


def _address(port: Record, address: str, kind: str) -> Record:
    return {
        "addr": address,
        "version": 6 if IPV6_MARK in address else 4,
        "OS-EXT-IPS:type": kind,
        "OS-EXT-IPS-MAC:mac_addr": port["mac_address"],
    }


def _addresses_of(port: Record) -> list[str]:
    return [row["ip_address"] for row in port["fixed_ips"]]
