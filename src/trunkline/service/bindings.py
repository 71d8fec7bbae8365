"""A port's bindings: the host where it is active, and others where its instance is to come.

The active one is the port's own ``binding:host_id``. A host with another one has all of the
port but what only one host may have: its floating IPs, its DHCP and the way out by its gateway.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, delete, insert, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import port_bindings, ports
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.model import HostName, PortStatus
from trunkline.service import forwarding
from trunkline.service.caller import Caller
from trunkline.service.collections import Record, fetch, fetch_own, touched
from trunkline.service.networks import COLLECTION as NETWORKS
from trunkline.service.ports import COLLECTION as PORTS
from trunkline.service.ports import (
    UNBOUND,
    arrived,
    left,
    require_bindable,
    require_open,
    update_,
    vif,
)

ACTIVE, INACTIVE = "ACTIVE", "INACTIVE"
INSTANCE_OWNER = "compute:"

Binding = dict[str, Any]
"""``host``, ``status``, ``vnic_type``, ``profile``, ``vif_type`` and ``vif_details``."""


def listed(tx: Transaction, caller: Caller, port_id: str) -> list[Binding]:
    """Return a port's bindings, the active one first.

    Raises:
        Invalid: It is no instance's port.
    """
    return _all(tx, _of_instance(fetch(tx, caller, PORTS, port_id)))


def shown(tx: Transaction, caller: Caller, port_id: str, host: str) -> Binding:
    """Return a port's binding to a host.

    Raises:
        Invalid: It is no instance's port.
        NotFound: It has none.
    """
    return _one(tx, _of_instance(fetch(tx, caller, PORTS, port_id)), host)


def create(tx: Transaction, caller: Caller, port_id: str, values: Binding) -> Binding:
    """Bind a port to another host, where it is not active yet.

    Raises:
        Invalid: It is no instance's port.
        Conflict: It is bound to that host already, or the host finds no address of its own.
    """
    record, host = _of_instance(fetch_own(tx, caller, PORTS, port_id)), values["host"]
    require_bindable(fetch(tx, caller, NETWORKS, record["network_id"]), host)
    require_open(tx, host)
    if host in {binding["host"] for binding in _all(tx, record)}:
        raise Conflict(
            f"Binding for port {port_id} on host {host} already exists.",
            "PortBindingAlreadyExists",
        )
    tx.connection.execute(insert(port_bindings), {**values, "port_id": port_id})
    _touch(tx, record)
    arrived(tx, {**record, "host": host})
    return {**values, "status": INACTIVE, **vif(record)}


def change(tx: Transaction, caller: Caller, port_id: str, host: str, values: Record) -> Binding:
    """Change a binding's ``vnic_type`` and ``profile``, which no host is told of.

    Raises:
        NotFound: The port is not bound to that host.
    """
    record = _of_instance(fetch_own(tx, caller, PORTS, port_id))
    before = _one(tx, record, host)
    if values and before["status"] == ACTIVE:
        update_(tx, caller, port_id, dict(values))
    elif values:
        tx.connection.execute(update(port_bindings).where(_is(port_id, host)).values(values))
        _touch(tx, record)
    return {**before, **values}


def activate(tx: Transaction, caller: Caller, port_id: str, host: str) -> Binding:
    """Make a binding the active one; the one that was stays, inactive.

    The port is DOWN until the host reports that it is there.

    Raises:
        NotFound: The port is not bound to that host.
        Conflict: The binding is active.
    """
    record = _of_instance(fetch_own(tx, caller, PORTS, port_id))
    chosen = _one(tx, record, host)
    if chosen["status"] == ACTIVE:
        raise Conflict(
            f"Binding for port {port_id} on host {host} is already active.",
            "PortBindingAlreadyActive",
        )
    tx.connection.execute(delete(port_bindings).where(_is(port_id, host)))
    former = {name: record[name] for name in ("host", "vnic_type", "profile")}
    if record["host"]:
        tx.connection.execute(insert(port_bindings), {**former, "port_id": port_id})
    changed = {name: chosen[name] for name in former}
    tx.connection.execute(
        update(ports)
        .where(ports.c.id == port_id)
        .values({**changed, **touched(tx, record), "status": PortStatus.DOWN.value})
    )
    tx.moved |= {HostName(name) for name in (record["host"], host) if name}
    forwarding.settle(tx, forwarding.by_port(tx, port_id))
    return {**chosen, "status": ACTIVE}


def delete_(tx: Transaction, caller: Caller, port_id: str, host: str) -> None:
    """End a binding that is not active.

    Raises:
        NotFound: The port is not bound to that host.
        Conflict: The binding is active.
    """
    record = _of_instance(fetch_own(tx, caller, PORTS, port_id))
    if _one(tx, record, host)["status"] == ACTIVE:
        raise Conflict(
            f"Binding for port {port_id} on host {host} is active; activate another one first, or"
            " set the port's binding:host_id.",
            "PortBindingInUse",
        )
    tx.connection.execute(delete(port_bindings).where(_is(port_id, host)))
    _touch(tx, record)
    left(tx, {**record, "host": host})


def _all(tx: Transaction, record: Record) -> list[Binding]:
    others = select(port_bindings.c.host, port_bindings.c.vnic_type, port_bindings.c.profile).where(
        port_bindings.c.port_id == record["id"]
    )
    found = [dict(row) for row in tx.connection.execute(others).mappings()]
    found.sort(key=lambda row: row["host"])
    inactive = [{**row, "status": INACTIVE, **vif(record)} for row in found]
    active = {name: record[name] for name in ("host", "vnic_type", "profile")}
    return [{**active, "status": ACTIVE, **(vif(record) if record["host"] else UNBOUND)}, *inactive]


def _of_instance(record: Record) -> Record:
    """Return a port; raise Invalid unless it is an instance's, whose hypervisor binds it."""
    if not record["device_owner"].startswith(INSTANCE_OWNER):
        raise Invalid(
            f"Port {record['id']} has device_owner {record['device_owner']!r}: only ports of"
            f" instances ({INSTANCE_OWNER}...) are bound to several hosts.",
            "BadRequest",
        )
    return record


def _one(tx: Transaction, record: Record, host: str) -> Binding:
    for binding in _all(tx, record):
        if binding["host"] == host:
            return binding
    raise NotFound(
        f"Binding for port {record['id']} for host {host} could not be found.",
        "PortBindingNotFound",
    )


def _is(port_id: str, host: str) -> Any:
    return and_(port_bindings.c.port_id == port_id, port_bindings.c.host == host)


def _touch(tx: Transaction, record: Record) -> None:
    tx.connection.execute(
        update(ports).where(ports.c.id == record["id"]).values(touched(tx, record))
    )
