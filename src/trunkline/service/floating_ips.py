"""Floating IPs: an address of an external network, lent to a fixed address of a port."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, ip_address
from operator import itemgetter
from secrets import randbits
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, insert, or_, select, update

from trunkline.core.allocate import mac_address
from trunkline.db.engine import Transaction
from trunkline.db.tables import floating_ips, networks, port_forwardings, ports, subnets
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.model import FLOATING_OWNER, GatewayMode, HostName
from trunkline.service import addresses, domains, forwarding, nova, qos
from trunkline.service.caller import Caller
from trunkline.service.collections import (
    Collection,
    Record,
    fetch,
    fetch_own,
    new_record,
    own,
    touched,
)
from trunkline.service.networks import COLLECTION as NETWORKS
from trunkline.service.networks import default_external
from trunkline.service.ports import COLLECTION as PORTS
from trunkline.service.provisioning import placed

FREE = {"port_id": None, "fixed_ip_address": None, "status": "DOWN"}
FORWARDED = (
    "id",
    "protocol",
    "internal_ip_address",
    "internal_port_id",
    "internal_port",
    "external_port",
)
"""What a floating IP shows of its forwardings."""


_ROUTERS = (
    select(ports.c.id, networks.c.router_id)
    .join(networks, networks.c.id == ports.c.network_id)
    .where(ports.c.id.in_(bindparam("port_ids", expanding=True)))
)


def _complete(tx: Transaction, records: list[Record]) -> None:
    for record in records:
        del record["reserving_port_id"]
    _add_forwardings(tx, records)
    _add_routers(tx, records)


def _add_forwardings(tx: Transaction, records: list[Record]) -> None:
    """Add the forwardings of each floating IP, by protocol and port."""
    found: dict[str, list[Record]] = defaultdict(list)
    for start in range(0, len(records), addresses.CHUNK):
        chunk = records[start : start + addresses.CHUNK]
        for one in forwarding.leading(tx, {r["id"] for r in chunk if r["port_id"] is None}):
            found[one["floatingip_id"]].append(one)
    for record in records:
        mine = sorted(found[record["id"]], key=itemgetter("protocol", "external_port"))
        record["port_forwardings"] = [{name: one[name] for name in FORWARDED} for one in mine]
        record["forwarding_router_id"] = mine[0]["router_id"] if mine else None


def _add_routers(tx: Transaction, records: list[Record]) -> None:
    """Add the router by which each floating IP leads to its port, or to those of forwardings."""
    routers: dict[str, str] = {}
    for start in range(0, len(records), addresses.CHUNK):
        chunk = records[start : start + addresses.CHUNK]
        led_to = {"port_ids": [r["port_id"] for r in chunk if r["port_id"] is not None]}
        routers |= dict(tuple(row) for row in tx.connection.execute(_ROUTERS, led_to))
    for record in records:
        record["router_id"] = routers.get(record["port_id"], record.pop("forwarding_router_id"))


def _with_router(values: Sequence[Any]) -> ColumnElement[bool]:
    there = select(ports.c.id).join(networks, networks.c.id == ports.c.network_id)
    led_to = there.where(networks.c.router_id.in_(values))
    forwarded = select(port_forwardings.c.floatingip_id).where(
        port_forwardings.c.internal_port_id.in_(led_to)
    )
    return or_(floating_ips.c.port_id.in_(led_to), floating_ips.c.id.in_(forwarded))


COLLECTION = Collection(
    "floating IP",
    "FloatingIP",
    floating_ips,
    own(floating_ips),
    _complete,
    {"router_id": _with_router},
)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Reserve an address of an external network, and associate it if a port is named.

    Raises:
        Invalid: The network is not external, or the port has no such address.
        NotFound: No router leads from the network to the port.
        Conflict: The address is taken, the network exhausted, or the fixed address has one.
    """
    network = fetch(tx, caller, NETWORKS, values["network_id"] or _default(tx))
    values["network_id"] = network["id"]
    if not network["external"]:
        raise Invalid(
            f"Network {network['id']} is not a valid external network (floating_network_id).",
            "BadRequest",
        )
    qos.require_usable(tx, caller, None, values["qos_policy_id"])
    wanted = {key: values.pop(key, None) for key in ("ip_address", "subnet_id")}
    association = _association(tx, caller, values, network["id"], "")
    record = new_record(tx, {**values, **association})
    record |= _reserve(tx, record, wanted)
    tx.connection.execute(insert(floating_ips), record)
    _concern(tx, record)
    nova.tell_of(tx, nova.CHANGED, [record["port_id"]])
    _complete(tx, [record])
    return record


def update_(tx: Transaction, caller: Caller, floating_id: str, values: Record) -> Record:
    """Associate, move or (``port_id`` None) disassociate a floating IP.

    Raises:
        Invalid, NotFound, Conflict: As in ``create``.
    """
    record = fetch_own(tx, caller, COLLECTION, floating_id)
    had = record["qos_policy_id"]
    qos.require_usable(tx, caller, had, values.get("qos_policy_id", had))
    changed = {**values, **touched(tx, record)}
    if values.keys() & {"port_id", "fixed_ip_address"}:
        changed |= _reassociation(tx, caller, values, record)
    _concern(tx, record)
    tx.connection.execute(update(floating_ips).where(floating_ips.c.id == floating_id), changed)
    after = {**record, **changed}
    _concern(tx, after)
    if record["port_id"] != after["port_id"]:
        nova.tell_of(tx, nova.CHANGED, (record["port_id"], after["port_id"]))
    return fetch(tx, caller, COLLECTION, floating_id)


def delete_(tx: Transaction, caller: Caller, floating_id: str) -> None:
    """Give the address back.

    Raises:
        Conflict: It has port forwardings.
    """
    record = fetch_own(tx, caller, COLLECTION, floating_id)
    _require_unforwarded(record)
    _concern(tx, record)
    nova.tell_of(tx, nova.CHANGED, [record["port_id"]])
    tx.connection.execute(delete(floating_ips).where(floating_ips.c.id == floating_id))
    tx.connection.execute(
        delete(ports).where(
            ports.c.device_owner == FLOATING_OWNER, ports.c.device_id == floating_id
        )
    )


def _default(tx: Transaction) -> str:
    """Return the network of a floating IP for which none is named."""
    found = default_external(tx)
    if found is None:
        raise Invalid(
            "Failed to parse request. Required attribute floating_network_id of floatingip not"
            " specified, and no external network is the default one (is_default).",
            "HTTPBadRequest",
        )
    return found


def _reserve(tx: Transaction, record: Record, wanted: Mapping[str, str | None]) -> Record:
    """Make the port that holds a new floating IP's address; return the columns that name it."""
    wish = {key: value for key, value in wanted.items() if value is not None}
    available = addresses.subnets_of(tx, record["network_id"])
    if not available:
        raise Invalid(
            f"Network {record['network_id']} does not contain any IPv4 subnet"
            " (floating_network_id), so it has no address to give; make one.",
            "BadRequest",
        )
    rows = (
        addresses.resolve(tx, available, [wish])
        if wish
        else addresses.choose_any(tx, available, FLOATING_OWNER)
    )
    port = {
        "project_id": "",
        "description": "",
        "network_id": record["network_id"],
        "name": "",
        "mac_address": mac_address(randbits(24)),  # never on a wire
        "admin_state_up": True,
        "status": "N/A",
        "device_id": record["id"],
        "device_owner": FLOATING_OWNER,
        "dns_name": "",
        "port_security_enabled": False,
        "host": "",
        "vnic_type": "normal",
        "profile": {},
        "tags": [],
    }
    port = new_record(tx, port)
    tx.connection.execute(insert(ports), port)
    addresses.store(tx, port["id"], rows)
    return {"ip_address": rows[0]["ip_address"], "reserving_port_id": port["id"]}


def _reassociation(tx: Transaction, caller: Caller, values: Record, record: Record) -> Record:
    """Return the columns that tie a floating IP to another port, or to none.

    One with port forwardings is tied to none, and lives by them.
    """
    if values.get("port_id") is not None:
        _require_unforwarded(record)
    columns = _association(tx, caller, values, record["network_id"], record["id"])
    return {**columns, "status": record["status"]} if record["port_forwardings"] else columns


def _association(
    tx: Transaction, caller: Caller, values: Record, external_id: str, floating_id: str
) -> Record:
    """Return the columns that tie a floating IP to the port named in the request, or to none."""
    port_id, fixed = values.get("port_id"), values.get("fixed_ip_address")
    if port_id is None:
        if fixed is not None:
            raise Invalid("fixed_ip_address cannot be specified without a port_id.", "BadRequest")
        return dict(FREE)
    port = fetch_own(tx, caller, PORTS, port_id)
    require_reached(tx, fetch(tx, caller, NETWORKS, port["network_id"]), port, external_id)
    fixed = _fixed_address(port, fixed)
    require_routed(tx, port, fixed)
    taken = select(floating_ips.c.ip_address).where(
        floating_ips.c.port_id == port_id,
        floating_ips.c.fixed_ip_address == fixed,
        floating_ips.c.id != floating_id,
    )
    other = tx.connection.scalar(taken)
    if other is not None:
        raise Conflict(
            f"Cannot associate floating IP with port {port_id} (port_id) using fixed IP {fixed}, as"
            f" that fixed IP already has the floating IP {other}.",
            "FloatingIPPortAlreadyAssociated",
        )
    return {"port_id": port_id, "fixed_ip_address": fixed, "status": "ACTIVE"}


def _require_unforwarded(record: Record) -> None:
    """Raise Conflict if a floating IP has port forwardings."""
    if record["port_forwardings"]:
        raise Conflict(
            f"Floating IP {record['id']} in use by Port Forwarding resources; delete its"
            f" {len(record['port_forwardings'])} port_forwardings first.",
            "FipInUseByPortForwarding",
        )


def require_reached(tx: Transaction, network: Record, port: Record, external_id: str) -> None:
    """Raise if no router leads from the floating IP's network to the port's."""
    if network["external"]:
        raise Invalid(
            f"Port {port['id']} (port_id) is on an external network; a floating IP leads to a"
            " tenant network.",
            "BadRequest",
        )
    if network["gateway"] == GatewayMode.UPSTREAM:
        raise Invalid(
            f"Port {port['id']} (port_id) is on network {network['id']}, whose router is upstream"
            " (trunkline:gateway); no host translates addresses for it.",
            "BadRequest",
        )
    if not domains.reaches(tx, network["router_id"], external_id):
        subnet = port["fixed_ips"][0]["subnet_id"] if port["fixed_ips"] else "(none)"
        raise NotFound(
            f"External network {external_id} is not reachable from subnet {subnet}. Therefore,"
            f" cannot associate Port {port['id']} (port_id) with a Floating IP: network"
            f" {network['id']} is on {_described(network)} without a gateway there"
            " (external_gateway_info).",
            "ExternalGatewayForFloatingIPNotFound",
        )


def require_routed(tx: Transaction, port: Record, fixed: str) -> None:
    """Raise Invalid if the port's instance has no router on the subnet of an address."""
    subnet = next(row["subnet_id"] for row in port["fixed_ips"] if row["ip_address"] == fixed)
    routed = select(subnets.c.gateway_ip).where(subnets.c.id == subnet)
    if tx.connection.scalar(routed) is None:
        raise Invalid(
            f"Cannot add floating IP to port {port['id']}: subnet {subnet} of its"
            f" {fixed} has no gateway_ip, so it could not answer; give the subnet one.",
            "BadRequest",
        )


def _described(network: Record) -> str:
    return f"router {network['router_id']}" if network["router_id"] else "no router, and so"


def leads_to(port: Record) -> list[str]:
    """Return the addresses of a port that a floating IP can lead to: only IPv4 is translated."""
    held = [row["ip_address"] for row in port["fixed_ips"]]
    return [address for address in held if isinstance(ip_address(address), IPv4Address)]


def _fixed_address(port: Record, wanted: str | None) -> str:
    """Return the port's address that a floating IP leads to."""
    held = leads_to(port)
    if wanted is not None:
        if wanted not in held:
            raise Invalid(
                f"Port {port['id']} does not have fixed ip {wanted} (fixed_ip_address); it has"
                f" {', '.join(held) or 'none'} in IPv4.",
                "BadRequest",
            )
        return wanted
    if len(held) != 1:
        raise Invalid(
            f"Port {port['id']} (port_id) has {'multiple' if held else 'no'} fixed IPv4 addresses."
            " Name one of its own in fixed_ip_address.",
            "BadRequest",
        )
    return held[0]


def _concern(tx: Transaction, record: Record) -> None:
    """Move the hosts that translate a floating IP: its port's, or those of a placed router."""
    forwarding.concern(tx, [record["id"]])
    if record["port_id"] is not None:
        found = select(ports.c.host, ports.c.network_id).where(ports.c.id == record["port_id"])
        host, network_id = tx.connection.execute(found).one()
        if host:
            tx.moved |= placed(tx, network_id) or {HostName(host)}
