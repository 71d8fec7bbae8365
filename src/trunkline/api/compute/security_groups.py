"""``/os-security-groups`` and their rules, which are of ingress only and by prefix or group."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from trunkline.api import convert as c
from trunkline.api.attributes import Attribute, Default, Table
from trunkline.api.body import unwrap
from trunkline.api.compute.call import Call
from trunkline.service.collections import Record
from trunkline.service.security_groups import PROTOCOLS, ensure_default

ANY = -1
"""A port, an ICMP type or code, that the rule leaves open."""

PORT_MAX = 65535
EVERYWHERE = {"IPv4": "0.0.0.0/0", "IPv6": "::/0"}
WITH_ALL_PORTS = {PROTOCOLS["tcp"], PROTOCOLS["udp"]}

GROUP = Table(
    "security_group",
    (
        Attribute("name", c.name, Default.REQUIRED),
        Attribute("description", c.text_or_null(255), default=""),
    ),
)
_PORT = c.or_null(c.integer(ANY, PORT_MAX))
RULE = Table(
    "security_group_rule",
    (
        Attribute("parent_group_id", c.uuid, Default.REQUIRED),
        Attribute("ip_protocol", c.or_null(c.text(16)), None),
        Attribute("from_port", _PORT, None),
        Attribute("to_port", _PORT, None),
        Attribute("cidr", c.or_null(c.any_prefix), None),
        Attribute("group_id", c.or_null(c.uuid), None),
    ),
)


def listed(call: Call) -> Any:
    """Answer the project's groups."""
    ensure_default(call.tx, call.caller)
    groups = call.page(call.own("security-groups"))
    return {"security_groups": [view(call, group) for group in groups]}


def shown(call: Call) -> Any:
    """Answer one group."""
    return {"security_group": view(call, call.fetch("security-groups", call.path("id")))}


def create(call: Call) -> Any:
    """Make a group."""
    wish = GROUP.accept(unwrap(call.body, GROUP.singular), call.caller, update=False)
    return {"security_group": view(call, call.create("security-groups", wish))}


def update(call: Call) -> Any:
    """Rename and describe a group."""
    wish = GROUP.accept(unwrap(call.body, GROUP.singular), call.caller, update=False)
    return {"security_group": view(call, call.update("security-groups", call.path("id"), wish))}


def delete(call: Call) -> Any:
    """Delete a group."""
    call.delete("security-groups", call.path("id"))


def create_rule(call: Call) -> Any:
    """Let something in."""
    wish = RULE.accept(unwrap(call.body, RULE.singular), call.caller, update=False)
    prefix = wish["cidr"]
    if prefix is None and wish["group_id"] is None:
        prefix = EVERYWHERE["IPv4"]
    body = {
        "security_group_id": wish["parent_group_id"],
        "direction": "ingress",
        "ethertype": f"IPv{ip_network(prefix).version}" if prefix else "IPv4",
        "protocol": wish["ip_protocol"] and wish["ip_protocol"].lower(),
        "port_range_min": None if wish["from_port"] == ANY else wish["from_port"],
        "port_range_max": None if wish["to_port"] == ANY else wish["to_port"],
        "remote_ip_prefix": prefix,
        "remote_group_id": wish["group_id"],
    }
    return {"security_group_rule": _rule(call, call.create("security-group-rules", body))}


def delete_rule(call: Call) -> Any:
    """Let it in no more."""
    call.delete("security-group-rules", call.path("id"))


def view(call: Call, group: Record) -> Record:
    """Return a group as Nova shows it; what it lets out is not told."""
    ingress = [rule for rule in group["rules"] if rule["direction"] == "ingress"]
    return {
        "id": group["id"],
        "name": group["name"],
        "description": group["description"],
        "tenant_id": group["project_id"],
        "rules": [_rule(call, rule) for rule in ingress],
    }


def _rule(call: Call, rule: Record) -> Record:
    first, last = _ports(rule)
    return {
        "id": rule["id"],
        "parent_group_id": rule["security_group_id"],
        "ip_protocol": rule["protocol"],
        "from_port": first,
        "to_port": last,
        **_peer(call, rule),
    }


def _ports(rule: Record) -> tuple[int | None, int | None]:
    """Return first and last port, in the numbers that Nova has for all of them."""
    if rule["protocol"] is None:
        return None, None
    if rule["port_range_min"] is None and _number(rule["protocol"]) in WITH_ALL_PORTS:
        return 1, PORT_MAX
    first, last = rule["port_range_min"], rule["port_range_max"]
    return ANY if first is None else first, ANY if last is None else last


def _number(protocol: str) -> int:
    return int(protocol) if protocol.isdigit() else PROTOCOLS[protocol]


def _peer(call: Call, rule: Record) -> Record:
    if rule["remote_group_id"] is None:
        prefix = rule["remote_ip_prefix"] or EVERYWHERE[rule["ethertype"]]
        return {"ip_range": {"cidr": prefix}, "group": {}}
    known = call.all("security-groups", id=rule["remote_group_id"])
    groups = [{"name": group["name"], "tenant_id": group["project_id"]} for group in known]
    return {"ip_range": {}, "group": groups[0] if groups else {}}
