"""Floating IPs whose ports are forwarded: on which host each is, and whether all of them work.

No host forwards for another: a floating IP is on one, which is the host that its oldest forwarding
to a bound port leads to. What leads to other hosts works on none; such a floating IP is DOWN. On a
placed router it is on the router's hosts, and leads to instances anywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, exists, select, union_all, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import (
    floating_ips,
    networks,
    port_forwardings,
    ports,
    router_hosts,
)
from trunkline.model import HostName
from trunkline.service.collections import Record
from trunkline.service.provisioning import placed

ACTIVE, DOWN = "ACTIVE", "DOWN"

LED_TO = union_all(
    select(
        floating_ips.c.ip_address,
        floating_ips.c.network_id,
        floating_ips.c.port_id,
        floating_ips.c.fixed_ip_address,
    ).where(floating_ips.c.port_id.is_not(None)),
    select(
        floating_ips.c.ip_address,
        floating_ips.c.network_id,
        port_forwardings.c.internal_port_id,
        port_forwardings.c.internal_ip_address,
    ).join(port_forwardings, port_forwardings.c.floatingip_id == floating_ips.c.id),
).subquery("led_to")
"""Which addresses of which ports floating IPs lead to: as a whole, or by single ports."""

_FLOATING: Any = bindparam("floating_ids", expanding=True)
_LEADING = (
    select(
        port_forwardings,
        ports.c.host,
        ports.c.network_id,
        networks.c.router_id,
        exists().where(router_hosts.c.router_id == networks.c.router_id).label("is_placed"),
    )
    .join(ports, ports.c.id == port_forwardings.c.internal_port_id)
    .join(networks, networks.c.id == ports.c.network_id)
    .where(port_forwardings.c.floatingip_id.in_(_FLOATING))
    .order_by(port_forwardings.c.place)
)
_BY_PORT = (
    select(port_forwardings.c.floatingip_id)
    .where(port_forwardings.c.internal_port_id == bindparam("of_port"))
    .distinct()
)


def leading(tx: Transaction, floating_ids: Collection[str]) -> list[Record]:
    """Return the forwardings of some floating IPs, the oldest first.

    Each has, beside its columns, ``host``, ``network_id`` and ``router_id`` of its port, and
    ``is_placed`` of the router.
    """
    if not floating_ids:
        return []
    rows = tx.connection.execute(_LEADING, {"floating_ids": sorted(floating_ids)}).mappings()
    return [dict(row) for row in rows]


def by_port(tx: Transaction, port_id: str) -> set[str]:
    """Return the ids of the floating IPs that have forwardings to a port."""
    return set(tx.connection.execute(_BY_PORT, {"of_port": port_id}).scalars())


def serving(forwardings: Iterable[Record]) -> str:
    """Return the host that a floating IP is on, given its forwardings; empty: none yet."""
    return next((one["host"] for one in forwardings if one["host"]), "")


def concern(tx: Transaction, floating_ids: Collection[str]) -> None:
    """Move the hosts that some floating IPs are on, and those of the ports that they lead to."""
    for one in leading(tx, floating_ids):
        if one["host"]:
            tx.moved |= placed(tx, one["network_id"]) or {HostName(one["host"])}


def settle(tx: Transaction, floating_ids: Collection[str]) -> None:
    """Note what a change of forwardings, or of their ports, makes of floating IPs, and move hosts.

    Only of those that lead to no port as a whole.
    """
    concern(tx, floating_ids)
    found = leading(tx, floating_ids)
    for floating_id in sorted(floating_ids):
        mine = [one for one in found if one["floatingip_id"] == floating_id]
        status = ACTIVE if mine and is_whole(mine) else DOWN
        tx.connection.execute(
            update(floating_ips)
            .where(
                floating_ips.c.id == floating_id,
                floating_ips.c.port_id.is_(None),
                floating_ips.c.status != status,
            )
            .values(
                status=status,
                updated_at=tx.now,
                revision_number=floating_ips.c.revision_number + 1,
            )
        )


def is_whole(forwardings: Sequence[Record]) -> bool:
    """Return whether all of a floating IP's forwardings can work on one host."""
    hosts = {one["host"] for one in forwardings} - {""}
    return len(hosts) <= 1 or all(one["is_placed"] for one in forwardings)


def keep(tx: Transaction, port_id: str, addresses: Collection[str]) -> None:
    """Delete the forwardings to addresses that a port has no more."""
    concerned = by_port(tx, port_id)
    if concerned:
        concern(tx, concerned)
        tx.connection.execute(
            delete(port_forwardings).where(
                port_forwardings.c.internal_port_id == port_id,
                port_forwardings.c.internal_ip_address.not_in(sorted(addresses)),
            )
        )
        settle(tx, concerned)
