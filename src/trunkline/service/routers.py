"""Routers: what makes networks reach each other by fixed IP, and the outside.

Unless an administrator places it (``service.placement``), a router is on no particular host: each
host routes for its own instances. It has no address outside of its own, and its interface on a
subnet is the subnet's ``gateway_ip``. The default router is everybody's to see and the
administrators' to change.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, ip_network
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, false, insert, or_, select, true, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import networks, ports, routers, subnets
from trunkline.errors import Conflict, Forbidden, Invalid
from trunkline.model import ROUTER_INTERFACE_OWNER
from trunkline.service import placement
from trunkline.service.caller import Caller
from trunkline.service.collections import (
    OWN_PROJECT,
    Collection,
    Record,
    fetch,
    fetch_own,
    new_record,
    touched,
)
from trunkline.service.concern import differs
from trunkline.service.forwarding import LED_TO
from trunkline.service.networks import COLLECTION as NETWORKS
from trunkline.service.provisioning import router_changed

STATUS = "ACTIVE"  # of every router; what hosts make of it, agents report
SHOWN = {"name", "admin_state_up", "external_network_id", "enable_snat", "routes"}
"""Columns in hosts' snapshots."""

Route = dict[str, str]
"""``{"destination": ..., "nexthop": ...}``, as in the API and in the table."""


def _complete(tx: Transaction, records: list[Record]) -> None:
    placed = placement.hosts_of(tx, [record["id"] for record in records])
    for record in records:
        record["hosts"] = placed[record["id"]]
        record["status"] = STATUS
        record["external_gateway_info"] = _gateway_info(record)


def _gateway_info(record: Record) -> Record | None:
    if record["external_network_id"] is None:
        return None
    return {
        "network_id": record["external_network_id"],
        "enable_snat": record["enable_snat"],
        "external_fixed_ips": [],
    }


def _with_status(values: Sequence[Any]) -> ColumnElement[bool]:
    return true() if STATUS in values else false()


COLLECTION = Collection(
    "router",
    "Router",
    routers,
    or_(routers.c.project_id == OWN_PROJECT, routers.c.is_default),
    _complete,
    {"status": _with_status},
)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a router, with ``external_gateway_info`` if it is to lead outside.

    Raises:
        Invalid: The network of the gateway is not external, or there are routes before there is
            an interface that they could go by, or a host has no agent.
        Forbidden: The policy does not let the caller do without translation.
    """
    info, hosts = values.pop("external_gateway_info", None), values.pop("hosts", ())
    columns = _gateway_columns(tx, caller, "create", info)
    record = new_record(tx, {**values, **columns, "is_default": False, "number": None})
    _require_routes(tx, record, record["routes"])
    tx.connection.execute(insert(routers), record)
    placement.place(tx, record["id"], hosts)
    _complete(tx, [record])
    return record


def update_(tx: Transaction, caller: Caller, router_id: str, values: Record) -> Record:
    """Change a router; ``external_gateway_info`` None or empty takes its gateway away.

    Raises:
        Invalid: The gateway's network is not external, or a route leads nowhere, or a host has no
            agent.
        Forbidden: The policy does not let the caller do without translation.
        Conflict: Floating IPs depend on the gateway, or it is the default router's; or networks
            have instances that know their gateways, or gateways that are anycast.
    """
    record = fetch_own(tx, caller, COLLECTION, router_id)
    if "external_gateway_info" in values:
        info = values.pop("external_gateway_info")
        values |= _gateway_columns(tx, caller, "update", info)
        _require_gateway_changeable(tx, record, values["external_network_id"])
    if "routes" in values:
        _require_routes(tx, record, values["routes"])
    if "hosts" in values:
        placement.place(tx, router_id, values.pop("hosts"))
    return _store(tx, record, values)


def delete_(tx: Transaction, caller: Caller, router_id: str) -> None:
    """Delete a router that has no interface.

    Raises:
        Conflict: It has one, or it is the default router.
    """
    record = fetch_own(tx, caller, COLLECTION, router_id)
    if record["is_default"]:
        raise Conflict(
            f"Router {router_id} is the default router, which networks are on that have no other;"
            " it cannot be deleted. default_router in the server's configuration is what keeps new"
            " networks off it.",
            "RouterInUse",
        )
    interface = exists().where(
        ports.c.device_id == router_id, ports.c.device_owner == ROUTER_INTERFACE_OWNER
    )
    if tx.connection.scalar(select(interface)):
        raise Conflict(
            f"Router {router_id} still has ports: remove its interfaces first"
            " (remove_router_interface).",
            "RouterInUse",
        )
    tx.connection.execute(delete(routers).where(routers.c.id == router_id))


def add_routes(tx: Transaction, caller: Caller, router_id: str, routes: Sequence[Route]) -> Record:
    """Add extra routes to a router's; those that it has are left alone.

    Raises:
        Invalid: A route leads nowhere.
    """
    record = fetch_own(tx, caller, COLLECTION, router_id)
    wanted = [*record["routes"], *(route for route in routes if route not in record["routes"])]
    _require_routes(tx, record, wanted)
    return _store(tx, record, {"routes": wanted})


def remove_routes(
    tx: Transaction, caller: Caller, router_id: str, routes: Sequence[Route]
) -> Record:
    """Take extra routes away from a router; those that it has not are ignored."""
    record = fetch_own(tx, caller, COLLECTION, router_id)
    kept = [route for route in record["routes"] if route not in routes]
    return _store(tx, record, {"routes": kept})


def _store(tx: Transaction, record: Record, values: Record) -> Record:
    changed = {**values, **touched(tx, record)}
    tx.connection.execute(update(routers).where(routers.c.id == record["id"]), changed)
    after = {**record, **changed}
    if differs(record, after, SHOWN):
        router_changed(tx, record["id"])
    _complete(tx, [after])
    return after


def _gateway_columns(tx: Transaction, caller: Caller, verb: str, info: Record | None) -> Record:
    """Return the columns for ``external_gateway_info`` as a request has it."""
    if not info:
        return {"external_network_id": None, "enable_snat": True}
    network = fetch(tx, caller, NETWORKS, info["network_id"])
    if not network["external"]:
        raise Invalid(
            f"Network {network['id']} is not an external network (external_gateway_info);"
            " an administrator makes it one by router:external.",
            "BadRequest",
        )
    enable_snat = info.get("enable_snat", True)
    action = f"{verb}_router:external_gateway_info:enable_snat"
    if not enable_snat and not caller.may(action):
        raise Forbidden(
            f"enable_snat (external_gateway_info): the policy does not let user {caller.user} turn"
            f" it off ({action}).",
            "PolicyNotAuthorized",
        )
    return {"external_network_id": network["id"], "enable_snat": enable_snat}


def _require_gateway_changeable(tx: Transaction, record: Record, becomes: str | None) -> None:
    if record["is_default"]:
        raise Conflict(
            f"Router {record['id']} is the default router, which leads to every external network;"
            " external_gateway_info is for routers of a project's own.",
            "RouterPolicyViolation",
        )
    before = record["external_network_id"]
    if before is None or before == becomes:
        return
    relying = (
        select(LED_TO.c.ip_address)
        .join(ports, ports.c.id == LED_TO.c.port_id)
        .join(networks, networks.c.id == ports.c.network_id)
        .where(networks.c.router_id == record["id"], LED_TO.c.network_id == before)
        .limit(1)
    )
    address = tx.connection.scalar(relying)
    if address is not None:
        raise Conflict(
            f"Gateway cannot be updated for router {record['id']}, since a gateway to external"
            f" network {before} is required by one or more floating IPs: disassociate {address},"
            " or end its port forwardings, first.",
            "RouterExternalGatewayInUseByFloatingIp",
        )


def _require_routes(tx: Transaction, record: Record, routes: Sequence[Route]) -> None:
    """Raise Invalid for a route that is there twice or whose next hop is not on the router."""
    found = (
        select(subnets.c.cidr, subnets.c.gateway_ip)
        .join(networks, networks.c.id == subnets.c.network_id)
        .where(networks.c.router_id == record["id"])
    )
    connected = [(ip_network(cidr), own) for cidr, own in tx.connection.execute(found)]
    for number, route in enumerate(routes):
        nexthop = IPv4Address(route["nexthop"])
        reason = ""
        if route in routes[:number]:
            reason = "it is there twice"
        elif not any(nexthop in cidr for cidr, _ in connected):
            reason = "the nexthop is not connected with router"
        elif any(own == route["nexthop"] for _, own in connected):
            reason = "the nexthop is used by router"
        if reason:
            raise Invalid(
                f"Invalid format for routes: {route['destination']} via {route['nexthop']},"
                f" {reason} {record['id']}.",
                "InvalidRoutes",
            )
