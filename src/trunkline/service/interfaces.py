"""Router interfaces: how a subnet's network comes on a router of a project's own, and off it.

An interface is a port that holds the subnet's ``gateway_ip``. All subnets of one network share a
wire, so they are on one router: the first interface brings the network there, and the last one
that goes lets it return to the default router, where there is one and its prefixes are free.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from secrets import randbits

from sqlalchemy import delete, insert, select, update

from trunkline.core.allocate import mac_address
from trunkline.db.engine import Transaction
from trunkline.db.tables import fixed_ips, port_groups, ports, routers
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.model import ROUTER_INTERFACE_OWNER, GatewayMode
from trunkline.service import addresses, domains, gateways
from trunkline.service.caller import Caller
from trunkline.service.collections import Record, fetch, fetch_own, new_record, touched
from trunkline.service.concern import claim_domains, membership_changed
from trunkline.service.forwarding import LED_TO
from trunkline.service.networks import COLLECTION as NETWORKS
from trunkline.service.ports import COLLECTION as PORTS
from trunkline.service.routers import COLLECTION as ROUTERS
from trunkline.service.subnets import COLLECTION as SUBNETS

Wish = dict[str, str]
"""``subnet_id``, ``port_id`` or, to remove, both."""


def add(tx: Transaction, caller: Caller, router_id: str, wish: Wish) -> Record:
    """Put a subnet, or the subnet of a port that holds its ``gateway_ip``, on a router.

    Raises:
        Invalid: The subnet has no gateway, is there already, or overlaps one that is.
        Conflict: Its network is on another router, or floating IPs would be cut off.
    """
    router = _own_router(tx, caller, router_id)
    if len(wish) != 1:
        either = "Cannot specify both subnet-id and port-id" if wish else _MISSING
        raise Invalid(f"Invalid input: {either}.", "BadRequest")
    claim_domains(tx)
    port = fetch_own(tx, caller, PORTS, wish["port_id"]) if "port_id" in wish else None
    subnet = fetch(tx, caller, SUBNETS, _subnet_of(port) if port else wish["subnet_id"])
    network = fetch_own(tx, caller, NETWORKS, subnet["network_id"])
    _require_free(tx, router, network, subnet)
    port_id = _take(tx, router, subnet, port) if port else _make(tx, router, subnet)
    domains.settle(tx, network["id"], "BadRequest")
    gateways.ensure_everywhere(tx, network["id"])
    return _changed(tx, router, subnet, port_id)


def remove(tx: Transaction, caller: Caller, router_id: str, wish: Wish) -> Record:
    """Take a subnet, or that of an interface port, off a router.

    Raises:
        NotFound: There is no such subnet, or the router has no such interface.
        Conflict: A route or a floating IP depends on it.
    """
    router = _own_router(tx, caller, router_id)
    if not wish:
        raise Invalid(f"Invalid input: {_MISSING}.", "BadRequest")
    claim_domains(tx)
    if "subnet_id" in wish:
        fetch(tx, caller, SUBNETS, wish["subnet_id"])
    port_id, subnet_id = _interface(tx, router, wish)
    subnet = fetch(tx, caller, SUBNETS, subnet_id)
    _require_unused(tx, router, subnet)
    tx.connection.execute(delete(ports).where(ports.c.id == port_id))
    domains.leave(tx, subnet["network_id"])
    gateways.ensure_everywhere(tx, subnet["network_id"])
    return _changed(tx, router, subnet, port_id)


def subnets_on(tx: Transaction, router_id: str) -> list[str]:
    """Return the ids of the subnets that a router has interfaces on, sorted."""
    return sorted(_interfaces(tx, router_id).values())


def _interfaces(tx: Transaction, router_id: str) -> dict[str, str]:
    """Return the subnet of each interface port of a router."""
    found = (
        select(ports.c.id, fixed_ips.c.subnet_id)
        .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
        .where(ports.c.device_id == router_id, ports.c.device_owner == ROUTER_INTERFACE_OWNER)
    )
    return dict(tuple(row) for row in tx.connection.execute(found))


_MISSING = "Either subnet_id or port_id must be specified"


def _own_router(tx: Transaction, caller: Caller, router_id: str) -> Record:
    router = fetch_own(tx, caller, ROUTERS, router_id)
    if router["is_default"]:
        raise Conflict(
            f"Router {router_id} is the default router: networks come on it by themselves, and"
            " leave it when they are added to another router.",
            "RouterPolicyViolation",
        )
    return router


def _subnet_of(port: Record) -> str:
    """Return the subnet whose router a port becomes."""
    if port["device_id"]:
        raise Conflict(
            f"Unable to complete operation on port {port['id']} for network {port['network_id']}."
            f" Port already has an attached device {port['device_id']}.",
            "PortInUse",
        )
    if len(port["fixed_ips"]) != 1:
        raise Invalid(
            f"Port {port['id']} has {len(port['fixed_ips'])} fixed IPs; a router interface has one,"
            " the gateway_ip of its subnet.",
            "BadRequest",
        )
    subnet_id: str = port["fixed_ips"][0]["subnet_id"]
    return subnet_id


def _require_free(tx: Transaction, router: Record, network: Record, subnet: Record) -> None:
    """Raise unless a subnet may become the router's."""
    if network["external"]:
        raise Invalid(
            f"Subnet {subnet['id']} is on an external network; set that as the router's gateway"
            " (external_gateway_info).",
            "BadRequest",
        )
    if network["gateway"] == GatewayMode.UPSTREAM:
        raise Invalid(
            f"Subnet {subnet['id']} is on network {network['id']}, whose router is upstream"
            " (trunkline:gateway); it can be on no router of this cloud.",
            "BadRequest",
        )
    if subnet["gateway_ip"] is None:
        raise Invalid(
            f"Subnet {subnet['id']} for router interface must have a gateway IP (gateway_ip).",
            "BadRequest",
        )
    if subnet["id"] in subnets_on(tx, router["id"]):
        raise Invalid(f"Router already has a port on subnet {subnet['id']}.", "BadRequest")
    other = domains.own_router(tx, network["id"])
    if other not in (None, router["id"]):
        raise Conflict(
            f"Subnet {subnet['id']} cannot come on router {router['id']}: its network"
            f" {network['id']} is on router {other}, and all subnets of a network are on one"
            " router. Remove it there first.",
            "RouterInterfaceAttachmentConflict",
        )


def _make(tx: Transaction, router: Record, subnet: Record) -> str:
    """Make the interface port for a subnet, and let it have the ``gateway_ip``."""
    columns = {
        **gateways.port_columns(subnet["network_id"], gateways.EVERY_HOST),
        "project_id": router["project_id"],
        "mac_address": mac_address(randbits(24)),  # never on a wire: a host's bridge answers
        "status": "ACTIVE",
        "device_id": router["id"],
        "device_owner": ROUTER_INTERFACE_OWNER,
        "name": "",
        "description": "",
    }
    port = new_record(tx, columns)
    tx.connection.execute(insert(ports), port)
    if not gateways.hand_over(tx, subnet, port["id"]):
        wish = {"subnet_id": subnet["id"], "ip_address": subnet["gateway_ip"]}
        addresses.store(tx, port["id"], addresses.resolve(tx, [subnet], [wish]))
    return str(port["id"])


def _take(tx: Transaction, router: Record, subnet: Record, port: Record) -> str:
    """Make a user's port the interface; it is no instance's any more, and in no group."""
    address = port["fixed_ips"][0]["ip_address"]
    if address != subnet["gateway_ip"]:
        raise Invalid(
            f"Port {port['id']} has the fixed IP {address}; the router's interface on subnet"
            f" {subnet['id']} must have its gateway_ip, {subnet['gateway_ip']}.",
            "BadRequest",
        )
    membership_changed(tx, port["security_groups"])
    tx.connection.execute(delete(port_groups).where(port_groups.c.port_id == port["id"]))
    tx.connection.execute(
        update(ports)
        .where(ports.c.id == port["id"])
        .values(
            device_id=router["id"],
            device_owner=ROUTER_INTERFACE_OWNER,
            port_security_enabled=False,
            host=gateways.EVERY_HOST,
            status="ACTIVE",
            **touched(tx, port),
        )
    )
    return str(port["id"])


def _interface(tx: Transaction, router: Record, wish: Wish) -> tuple[str, str]:
    """Return the interface port that a request means, and its subnet."""
    subnet_of = _interfaces(tx, router["id"])
    if "port_id" not in wish:
        port_of = {subnet_id: port_id for port_id, subnet_id in subnet_of.items()}
        if wish["subnet_id"] not in port_of:
            raise NotFound(
                f"Router {router['id']} has no interface on subnet {wish['subnet_id']}.",
                "RouterInterfaceNotFoundForSubnet",
            )
        return port_of[wish["subnet_id"]], wish["subnet_id"]
    if wish["port_id"] not in subnet_of:
        raise NotFound(
            f"Router {router['id']} does not have an interface with id {wish['port_id']}.",
            "RouterInterfaceNotFound",
        )
    subnet_id = subnet_of[wish["port_id"]]
    if wish.get("subnet_id", subnet_id) != subnet_id:
        raise Conflict(
            f"Subnet on port {wish['port_id']} does not match the requested subnet"
            f" {wish['subnet_id']}.",
            "SubnetMismatchForPort",
        )
    return wish["port_id"], subnet_id


def _require_unused(tx: Transaction, router: Record, subnet: Record) -> None:
    """Raise Conflict if a route or a floating IP depends on an interface."""
    cidr = ip_network(subnet["cidr"])
    cannot = (
        f"Router interface for subnet {subnet['id']} on router {router['id']} cannot be deleted"
    )
    for route in router["routes"]:
        if ip_address(route["nexthop"]) in cidr:
            raise Conflict(
                f"{cannot}, as it is required by one or more routes: {route['destination']} via"
                f" {route['nexthop']}.",
                "RouterInterfaceInUseByRoute",
            )
    led_to = (
        select(LED_TO.c.ip_address)
        .join(fixed_ips, fixed_ips.c.port_id == LED_TO.c.port_id)
        .where(
            fixed_ips.c.subnet_id == subnet["id"],
            fixed_ips.c.ip_address == LED_TO.c.fixed_ip_address,
        )
        .limit(1)
    )
    address = tx.connection.scalar(led_to)
    if address is not None:
        raise Conflict(
            f"{cannot}, as it is required by one or more floating IPs: disassociate {address},"
            " or end its port forwardings, first.",
            "RouterInterfaceInUseByFloatingIP",
        )


def _changed(tx: Transaction, router: Record, subnet: Record, port_id: str) -> Record:
    """Note the change on the router, and return what the API answers."""
    tx.connection.execute(update(routers).where(routers.c.id == router["id"]), touched(tx, router))
    return {
        "id": router["id"],
        "project_id": router["project_id"],
        "tenant_id": router["project_id"],
        "network_id": subnet["network_id"],
        "port_id": port_id,
        "subnet_id": subnet["id"],
        "subnet_ids": [subnet["id"]],
    }
