"""Port forwardings: single ports of a floating IP, each lent to a port of an instance's address."""

from __future__ import annotations

from sqlalchemy import delete, exists, func, insert, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import floating_ips, port_forwardings
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.service import forwarding
from trunkline.service.caller import Caller
from trunkline.service.collections import (
    OWN_PROJECT,
    Collection,
    Query,
    Record,
    fetch,
    fetch_own,
    listed,
    missing,
    new_record,
    touched,
)
from trunkline.service.floating_ips import COLLECTION as FLOATING_IPS
from trunkline.service.floating_ips import leads_to, require_reached, require_routed
from trunkline.service.networks import COLLECTION as NETWORKS
from trunkline.service.ports import COLLECTION as PORTS

BAD = "Bad port_forwarding request: "

COLLECTION = Collection(
    "port forwarding",
    "PortForwarding",
    port_forwardings,
    exists().where(
        floating_ips.c.id == port_forwardings.c.floatingip_id,
        floating_ips.c.project_id == OWN_PROJECT,
    ),
    lambda _tx, _records: None,
)


def all_of(tx: Transaction, caller: Caller, floating_id: str, query: Query) -> list[Record]:
    """Return the forwardings of a floating IP that a query wants."""
    fetch(tx, caller, FLOATING_IPS, floating_id)
    filters = {**query.filters, "floatingip_id": [floating_id]}
    mine = Query(filters, query.sort, query.limit, query.marker, query.reverse)
    return listed(tx, caller, COLLECTION, mine)


def fetch_one(tx: Transaction, caller: Caller, floating_id: str, forwarding_id: str) -> Record:
    """Return a forwarding of a floating IP.

    Raises:
        NotFound: It is none of this floating IP's, or the caller sees neither.
    """
    fetch(tx, caller, FLOATING_IPS, floating_id)
    record = fetch(tx, caller, COLLECTION, forwarding_id)
    if record["floatingip_id"] != floating_id:
        raise missing(COLLECTION, forwarding_id)
    return record


def create(tx: Transaction, caller: Caller, floating_id: str, values: Record) -> Record:
    """Forward a port of a floating IP.

    Raises:
        Invalid: The port is forwarded already, is led to already, or does not fit.
        NotFound: There is no such floating IP or port.
        Conflict: One of the two has its counterpart as a whole, or the port is on another host.
    """
    floating = fetch_own(tx, caller, FLOATING_IPS, floating_id)
    values = {**values, "project_id": floating["project_id"], "floatingip_id": floating_id}
    record = new_record(tx, {**values, "place": _next_place(tx, floating_id)})
    _require_free(tx, floating, record)
    _require_unled(tx, record)
    _require_unassociated(floating, record)
    _require_leading(tx, caller, floating, record)
    tx.connection.execute(insert(port_forwardings), record)
    _changed(tx, floating)
    return record


def _next_place(tx: Transaction, floating_id: str) -> int:
    mine = port_forwardings.c.floatingip_id == floating_id
    last = tx.connection.scalar(select(func.max(port_forwardings.c.place)).where(mine))
    return 0 if last is None else last + 1


def update_(
    tx: Transaction, caller: Caller, floating_id: str, forwarding_id: str, values: Record
) -> Record:
    """Change where a forwarding begins or leads to.

    A new port without an address means its first one.

    Raises:
        Invalid, NotFound, Conflict: As in ``create``.
    """
    floating = fetch_own(tx, caller, FLOATING_IPS, floating_id)
    record = fetch_one(tx, caller, floating_id, forwarding_id)
    moves = values.get("internal_port_id", record["internal_port_id"]) != record["internal_port_id"]
    if moves and "internal_ip_address" not in values:
        port = fetch_own(tx, caller, PORTS, values["internal_port_id"])
        values = {**values, "internal_ip_address": next(iter(leads_to(port)), "")}
    after = {**record, **values, **touched(tx, record)}
    _require_free(tx, floating, after)
    if "internal_port_id" in values:
        _require_unled(tx, after)
    if moves or after["internal_ip_address"] != record["internal_ip_address"]:
        _require_leading(tx, caller, floating, after)
    forwarding.concern(tx, [floating_id])
    mine = port_forwardings.c.id == forwarding_id
    tx.connection.execute(update(port_forwardings).where(mine), {**values, **touched(tx, record)})
    _changed(tx, floating)
    return after


def delete_(tx: Transaction, caller: Caller, floating_id: str, forwarding_id: str) -> None:
    """End a forwarding; its connections end with it."""
    floating = fetch_own(tx, caller, FLOATING_IPS, floating_id)
    fetch_one(tx, caller, floating_id, forwarding_id)
    forwarding.concern(tx, [floating_id])
    tx.connection.execute(delete(port_forwardings).where(port_forwardings.c.id == forwarding_id))
    _changed(tx, floating)


def _changed(tx: Transaction, floating: Record) -> None:
    """Note a change on the floating IP, whose attribute the forwardings are, and move hosts."""
    mine = floating_ips.c.id == floating["id"]
    tx.connection.execute(update(floating_ips).where(mine), touched(tx, floating))
    forwarding.settle(tx, [floating["id"]])


def _require_leading(tx: Transaction, caller: Caller, floating: Record, record: Record) -> None:
    """Raise if there is no way from a floating IP to where a forwarding leads."""
    port = fetch_own(tx, caller, PORTS, record["internal_port_id"])
    _require_own_address(port, record["internal_ip_address"])
    network = fetch(tx, caller, NETWORKS, port["network_id"])
    _require_reached(tx, network, port, floating)
    require_routed(tx, port, record["internal_ip_address"])
    others = [one for one in forwarding.leading(tx, [floating["id"]]) if one["id"] != record["id"]]
    _require_same_router(network, port, floating, others)
    _require_same_host(caller, port, floating, others)


def _require_unassociated(floating: Record, record: Record) -> None:
    """Raise Conflict if a floating IP leads to a port as a whole."""
    if floating["port_id"] is not None:
        raise Conflict(
            f"Cannot associate floating IP {floating['ip_address']} ({floating['id']}) with port"
            f" {record['internal_port_id']} (internal_port_id) using fixed IP"
            f" {record['internal_ip_address']}, as that floating IP leads to port"
            f" {floating['port_id']} as a whole; disassociate it first.",
            "FloatingIPPortAlreadyAssociated",
        )


def _require_free(tx: Transaction, floating: Record, record: Record) -> None:
    """Raise Invalid if either end of a forwarding is that of another."""
    table = port_forwardings.c
    ends = {
        "external": (table.floatingip_id, table.protocol, table.external_port),
        "internal": (
            table.internal_port_id,
            table.internal_ip_address,
            table.protocol,
            table.internal_port,
        ),
    }
    for which, columns in ends.items():
        same = [column == record[column.name] for column in columns]
        other = tx.connection.scalar(select(table.id).where(table.id != record["id"], *same))
        if other is not None:
            number = record[f"{which}_port"]
            whose = (
                f"floating IP {floating['ip_address']}"
                if which == "external"
                else f"port {record['internal_port_id']}"
            )
            raise Invalid(
                f"{BAD}There is a port collision with the {which}_port: {record['protocol']}"
                f" {number} of {whose} has the port forwarding {other} already; change that one.",
                "BadRequest",
            )


def _require_unled(tx: Transaction, record: Record) -> None:
    """Raise Conflict if a floating IP leads to a forwarding's port as a whole."""
    port_id = record["internal_port_id"]
    columns = (floating_ips.c.id, floating_ips.c.ip_address)
    other = tx.connection.execute(select(*columns).where(floating_ips.c.port_id == port_id)).first()
    if other is not None:
        raise Conflict(
            f"Cannot create port forwarding to floating IP {other.ip_address} ({other.id}) with"
            f" port {port_id} (internal_port_id) using fixed IP {record['internal_ip_address']},"
            " as that port already has a binding floating IP; disassociate that first.",
            "PortHasBindingFloatingIP",
        )


def _require_own_address(port: Record, wanted: str) -> None:
    held = leads_to(port)
    if not held:
        raise Invalid(
            f"{BAD}Requested internal port {port['id']} must allocate an IPv4 address at least.",
            "BadRequest",
        )
    if wanted not in held:
        raise Invalid(
            f"{BAD}Requested internal IP address {wanted} (internal_ip_address) is not suitable"
            f" for internal neutron port {port['id']}; it has {', '.join(held)} in IPv4.",
            "BadRequest",
        )


def _require_reached(tx: Transaction, network: Record, port: Record, floating: Record) -> None:
    """Raise Invalid if no router leads from the floating IP's network to the port's."""
    try:
        require_reached(tx, network, port, floating["network_id"])
    except NotFound as error:
        raise Invalid(f"{BAD}{error}", "BadRequest") from None


def _require_same_router(
    network: Record, port: Record, floating: Record, others: list[Record]
) -> None:
    """Raise Invalid if the other forwardings lead to another router's networks."""
    for other in others:
        if other["router_id"] != network["router_id"]:
            raise Invalid(
                f"{BAD}The Floating IP {floating['id']} had been set on router"
                f" {other['router_id']}, the internal Neutron port {port['id']} can not reach it:"
                f" its network is on router {network['router_id']}.",
                "BadRequest",
            )


def _require_same_host(
    caller: Caller, port: Record, floating: Record, others: list[Record]
) -> None:
    """Raise Conflict if the floating IP is on another host than the port."""
    here = forwarding.serving(others)
    if not port["host"] or here in ("", port["host"]) or others[0]["is_placed"]:
        return
    there = next(other for other in others if other["host"])["internal_port_id"]
    is_told = caller.may_attribute("get_port:binding:host_id")
    near, far = (f"host {here}", f"host {port['host']}") if is_told else ("its host", "another one")
    raise Conflict(
        f"Floating IP {floating['ip_address']} leads to port {there} on {near}, and port"
        f" {port['id']} (internal_port_id) is on {far}: a floating IP is on one host. Use another"
        " floating IP for it, or one router that is placed (trunkline:hosts) for both.",
        "PortForwardingOnOtherHost",
    )
