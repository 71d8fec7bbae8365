"""Routing domains: which router a network is on, and that no two prefixes there overlap.

A network is on the router that its interface ports name; without one it is on the default router
if one of its subnets has a gateway and the server's configuration wants so, else on none.
Decides nothing on routers themselves.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from sqlalchemy import ColumnElement, exists, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import networks, ports, routers, subnets
from trunkline.errors import Invalid
from trunkline.model import ROUTER_INTERFACE_OWNER
from trunkline.service import gateways

_DEFAULT = select(routers.c.id).where(routers.c.is_default)


def default_router(tx: Transaction) -> str:
    """Return the id of the router that all projects share."""
    return str(tx.connection.execute(_DEFAULT).scalar_one())


def home(tx: Transaction, network_id: str) -> str | None:
    """Return the router that a network belongs on, given its interface ports and subnets."""
    own = tx.connection.scalar(
        select(ports.c.device_id)
        .where(
            ports.c.network_id == network_id,
            ports.c.device_owner == ROUTER_INTERFACE_OWNER,
        )
        .limit(1)
    )
    if own is not None or not tx.limits.default_router:
        return own
    routed = exists().where(subnets.c.network_id == network_id, subnets.c.gateway_ip.is_not(None))
    return default_router(tx) if tx.connection.scalar(select(routed)) else None


def settle(tx: Transaction, network_id: str) -> None:
    """Put a network on the router that it belongs on; the caller has claimed the prefixes.

    Raises:
        Invalid: A subnet of the network overlaps another one there.
        Conflict: A host that then serves more networks finds a subnet exhausted.
    """
    router_id = home(tx, network_id)
    _require_disjoint(tx, network_id, router_id)
    now = select(networks.c.router_id).where(networks.c.id == network_id)
    if tx.connection.scalar(now) == router_id:
        return
    with gateways.resettled(tx, network_id):
        tx.connection.execute(
            update(networks).where(networks.c.id == network_id).values(router_id=router_id)
        )


def _require_disjoint(tx: Transaction, network_id: str, router_id: str | None) -> None:
    """Raise Invalid if a network's subnets overlap each other, or others on the router."""
    own = _prefixes(tx, networks.c.id == network_id)
    there = [] if router_id is None else _prefixes(tx, networks.c.router_id == router_id)
    for subnet_id, cidr in own:
        for other_id, other in (*own, *there):
            if subnet_id != other_id and cidr.overlaps(other):
                where = f"router {router_id}" if router_id else f"network {network_id}"
                raise Invalid(
                    f"Invalid input for operation: Requested subnet with cidr: {cidr} for network:"
                    f" {network_id} overlaps with another subnet: {other} of subnet {other_id} is"
                    f" on {where} too. Choose another prefix, or another router.",
                    "InvalidInput",
                )


def _prefixes(tx: Transaction, condition: ColumnElement[bool]) -> list[tuple[str, IPv4Network]]:
    found = (
        select(subnets.c.id, subnets.c.cidr)
        .join(networks, networks.c.id == subnets.c.network_id)
        .where(condition)
    )
    return [(subnet_id, IPv4Network(cidr)) for subnet_id, cidr in tx.connection.execute(found)]
