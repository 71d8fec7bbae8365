"""Floating IPs that come and go with an instance's port: nova-network's auto_assign_floating_ip.

They are taken from the default external network and count against no quota, so a project can
neither keep one without its port nor move it to another.
"""

from __future__ import annotations

from sqlalchemy import select

from trunkline.db.engine import Transaction
from trunkline.db.tables import floating_ips as table
from trunkline.errors import Conflict, NotFound
from trunkline.service import floating_ips, ports
from trunkline.service.caller import Caller
from trunkline.service.collections import Record, fetch, fetch_own
from trunkline.service.networks import COLLECTION as NETWORKS
from trunkline.service.networks import default_external
from trunkline.service.provisioning import is_instance_owner


def create_port(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a port, with a floating IP if the server's configuration says so.

    Raises:
        Conflict: The default external network has no address left, or there is none.
        And what ``ports.create`` raises.
    """
    port = ports.create(tx, caller, values)
    if tx.limits.auto_assign_floating_ip and _deserves(tx, caller, port):
        _assign(tx, caller, port)
    return port


def delete_port(tx: Transaction, caller: Caller, port_id: str) -> None:
    """Delete a port, with the floating IPs that came with it."""
    fetch_own(tx, caller, ports.COLLECTION, port_id)
    mine = select(table.c.id).where(table.c.port_id == port_id, table.c.auto_assigned)
    for floating_id in tx.connection.execute(mine).scalars().all():
        floating_ips.delete_(tx, caller, floating_id)
    ports.delete_(tx, caller, port_id)


def update_floating_ip(tx: Transaction, caller: Caller, floating_id: str, values: Record) -> Record:
    """Change a floating IP; an automatic one stays with its port, or an administrator frees it.

    Raises:
        Conflict: A project would take it off its port.
        And what ``floating_ips.update_`` raises.
    """
    record = fetch_own(tx, caller, floating_ips.COLLECTION, floating_id)
    if record["auto_assigned"] and values.get("port_id", record["port_id"]) != record["port_id"]:
        if not caller.is_admin:
            raise Conflict(
                f"Floating IP {record['ip_address']} came with port {record['port_id']} and goes"
                " with it (port_id); delete it, or make one of your own.",
                "FloatingIPAutoAssigned",
            )
        values["auto_assigned"] = False
    return floating_ips.update_(tx, caller, floating_id, values)


def _deserves(tx: Transaction, caller: Caller, port: Record) -> bool:
    """Return whether a port is an instance's, with IPv4 on a network that has a router."""
    if not floating_ips.leads_to(port) or not is_instance_owner(port["device_owner"]):
        return False
    network = fetch(tx, caller, NETWORKS, port["network_id"])
    return not network["external"] and network["router_id"] is not None


def _assign(tx: Transaction, caller: Caller, port: Record) -> None:
    if default_external(tx) is None:
        raise Conflict(
            "The server's configuration has auto_assign_floating_ip, but no external network is"
            " the default one; an administrator must set is_default on one.",
            "DefaultExternalNetworkNotFound",
        )
    wish = {
        "project_id": port["project_id"],
        "description": "",
        "tags": [],
        "network_id": None,
        "port_id": port["id"],
        "fixed_ip_address": floating_ips.leads_to(port)[0],
        "auto_assigned": True,
        "qos_policy_id": None,
    }
    try:
        floating_ips.create(tx, caller, wish)
    except NotFound:
        return  # no way from the default external network to the port: its router has another
