"""Routing domains: which router a network is on, and that no two prefixes there overlap.

A network is on the router that its interface ports name; without one it is on the default router
if one of its subnets has a gateway and the server's configuration wants so, else on none. Nor is
one on any whose gateway is upstream: a router that is not ours.
Decides nothing on routers themselves.
"""

from __future__ import annotations

from ipaddress import ip_network

from sqlalchemy import ColumnElement, exists, or_, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import networks, port_forwardings, ports, routers, subnets
from trunkline.errors import Conflict, Invalid
from trunkline.model import ROUTER_INTERFACE_OWNER, GatewayMode, IpNetwork
from trunkline.service import forwarding, gateways, placement
from trunkline.service.forwarding import LED_TO

_DEFAULT = select(routers.c.id).where(routers.c.is_default)


def default_router(tx: Transaction) -> str:
    """Return the id of the router that all projects share."""
    return str(tx.connection.execute(_DEFAULT).scalar_one())


def own_router(tx: Transaction, network_id: str) -> str | None:
    """Return the router that a network's interface ports name."""
    return tx.connection.scalar(
        select(ports.c.device_id)
        .where(
            ports.c.network_id == network_id,
            ports.c.device_owner == ROUTER_INTERFACE_OWNER,
        )
        .limit(1)
    )


def reaches(tx: Transaction, router_id: str | None, external_id: str) -> bool:
    """Return whether a router leads to an external network; the default one leads to all."""
    leads = or_(routers.c.is_default, routers.c.external_network_id == external_id)
    found = select(exists().where(routers.c.id == router_id, leads))
    return bool(tx.connection.scalar(found))


def settle(tx: Transaction, network_id: str, kind: str = "InvalidInput") -> None:
    """Put a network on the router that it belongs on; the caller has claimed the domains.

    Args:
        tx: The transaction.
        network_id: The network, whose subnets and interface ports are as they will be.
        kind: The error's type if prefixes overlap.

    Raises:
        Invalid: A subnet of the network overlaps another one there.
        Conflict: A floating IP would be cut off, or a host that then serves more networks finds
            a subnet exhausted.
    """
    router_id = _home(tx, network_id)
    overlap = _overlap(tx, network_id, router_id)
    if overlap:
        where = f"router {router_id}" if router_id else f"network {network_id}"
        raise Invalid(
            f"Invalid input for operation: Requested subnet with cidr: {overlap[0]} for network:"
            f" {network_id} overlaps with another subnet: {overlap[1]} is on {where} too. Choose"
            " another prefix, or another router.",
            kind,
        )
    _move(tx, network_id, router_id)


def leave(tx: Transaction, network_id: str) -> None:
    """Let a network that lost an interface go home, or on no router if it overlaps another there.

    Raises:
        Conflict: As in ``settle``.
    """
    router_id = _home(tx, network_id)
    _move(tx, network_id, None if _overlap(tx, network_id, router_id) else router_id)


def _home(tx: Transaction, network_id: str) -> str | None:
    """Return the router that a network belongs on, given its interface ports and subnets."""
    if gateways.mode(tx, network_id) == GatewayMode.UPSTREAM:
        return None
    own = own_router(tx, network_id)
    if own is not None or not tx.limits.default_router:
        return own
    routed = exists().where(subnets.c.network_id == network_id, subnets.c.gateway_ip.is_not(None))
    return default_router(tx) if tx.connection.scalar(select(routed)) else None


def _move(tx: Transaction, network_id: str, router_id: str | None) -> None:
    found = select(networks.c.router_id).where(networks.c.id == network_id)
    now = tx.connection.scalar(found)
    if now == router_id:
        return
    _require_reached(tx, network_id, router_id)
    placed = placement.is_placed(tx, router_id)
    crossing = placement.is_placed(tx, now) != placed
    if crossing:
        placement.require_changeable(tx, network_id, placed=placed)
    placement.require_carried(tx, network_id, router_id)
    with gateways.resettled(tx, network_id):
        tx.connection.execute(
            update(networks).where(networks.c.id == network_id).values(router_id=router_id)
        )
        if crossing:
            gateways.renew(tx, network_id)


def _require_reached(tx: Transaction, network_id: str, router_id: str | None) -> None:
    """Raise Conflict if a floating IP that leads to a network would not lead there any more."""
    leading = (
        select(LED_TO.c.ip_address, LED_TO.c.network_id)
        .join(ports, ports.c.id == LED_TO.c.port_id)
        .where(ports.c.network_id == network_id)
        .distinct()
    )
    for address, external_id in tx.connection.execute(leading).all():
        if not reaches(tx, router_id, external_id):
            where = f"router {router_id}, which has no gateway to" if router_id else "no router and"
            raise Conflict(
                f"Network {network_id} would be on {where} external network {external_id}, which"
                f" the floating IP {address} needs that leads to it; disassociate that first, or"
                " set the router's external_gateway_info.",
                "RouterInterfaceInUseByFloatingIP",
            )
    _require_together(tx, network_id, router_id)


def _require_together(tx: Transaction, network_id: str, router_id: str | None) -> None:
    """Raise Conflict if a floating IP would lead to ports on two routers."""
    here = (
        select(port_forwardings.c.floatingip_id)
        .join(ports, ports.c.id == port_forwardings.c.internal_port_id)
        .where(ports.c.network_id == network_id)
    )
    concerned = set(tx.connection.execute(here).scalars())
    for other in forwarding.leading(tx, concerned):
        if other["network_id"] != network_id and other["router_id"] != router_id:
            raise Conflict(
                f"Network {network_id} would be on another router than network"
                f" {other['network_id']}, and floating IP {other['floatingip_id']} forwards ports"
                " to both; delete its port_forwardings to one of them first.",
                "RouterInterfaceInUseByFloatingIP",
            )


def _overlap(
    tx: Transaction, network_id: str, router_id: str | None
) -> tuple[IpNetwork, str] | None:
    """Return a prefix of a network that overlaps another of it or of a router, and which one."""
    own = _prefixes(tx, networks.c.id == network_id)
    there = [] if router_id is None else _prefixes(tx, networks.c.router_id == router_id)
    for subnet_id, cidr in own:
        for other_id, other in (*own, *there):
            if subnet_id != other_id and cidr.overlaps(other):
                return cidr, f"{other} of subnet {other_id}"
    return None


def _prefixes(tx: Transaction, condition: ColumnElement[bool]) -> list[tuple[str, IpNetwork]]:
    found = (
        select(subnets.c.id, subnets.c.cidr)
        .join(networks, networks.c.id == subnets.c.network_id)
        .where(condition)
    )
    return [(subnet_id, ip_network(cidr)) for subnet_id, cidr in tx.connection.execute(found)]
