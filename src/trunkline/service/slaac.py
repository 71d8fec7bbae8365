"""Addresses that instances make themselves: ports have them as soon as there is such a subnet.

Which address it is, ``addresses`` says; here, that all ports of the network get it, and lose it.
The caller has claimed the prefixes, so every host is told anyway.
"""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import fixed_ips, ports
from trunkline.service import addresses
from trunkline.service.collections import Record
from trunkline.service.ports import SERVICE_PORTS


def give(tx: Transaction, subnet: Record) -> None:
    """Give the ports of a new subnet's network the addresses that their MACs make.

    Raises:
        Conflict: The subnet's gateway has one of them.
    """
    if not addresses.is_automatic(subnet):
        return
    rows = []
    found = select(ports).where(
        ports.c.network_id == subnet["network_id"], ports.c.device_owner.not_in(SERVICE_PORTS)
    )
    for port in tx.connection.execute(found).mappings():
        made = addresses.automatic(tx, [subnet], dict(port))
        rows += [{**row, "port_id": port["id"]} for row in made]
    if rows:
        tx.connection.execute(insert(fixed_ips), rows)
        _touch(tx, subnet)


def take(tx: Transaction, subnet: Record) -> None:
    """Take the addresses of a subnet that is about to go away from the ports that made them."""
    if addresses.is_automatic(subnet):
        _touch(tx, subnet)
        tx.connection.execute(delete(fixed_ips).where(fixed_ips.c.subnet_id == subnet["id"]))


def _touch(tx: Transaction, subnet: Record) -> None:
    with_address = select(fixed_ips.c.port_id).where(fixed_ips.c.subnet_id == subnet["id"])
    tx.connection.execute(
        update(ports)
        .where(ports.c.id.in_(with_address))
        .values(updated_at=tx.now, revision_number=ports.c.revision_number + 1)
    )
