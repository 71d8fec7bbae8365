"""Reserved addresses: what allocation neither chooses nor grants, such as a printer's.

One that a port has already may be reserved as well: it is not given again once the port is gone.
"""

from __future__ import annotations

from sqlalchemy import delete, exists, insert, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import reserved_addresses
from trunkline.errors import Conflict
from trunkline.service import addresses
from trunkline.service.caller import Caller
from trunkline.service.collections import (
    Collection,
    Record,
    fetch_own,
    new_record,
    own,
    touched,
)
from trunkline.service.subnets import COLLECTION as SUBNETS


def _complete(_tx: Transaction, _records: list[Record]) -> None:
    pass


COLLECTION = Collection(
    "reserved address",
    "ReservedAddress",
    reserved_addresses,
    own(reserved_addresses),
    _complete,
)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Reserve one address of a subnet of the caller's.

    Raises:
        NotFound, Forbidden: The subnet is none of the caller's.
        Invalid: The address is not the subnet's.
        Conflict: It is the gateway's, or reserved already.
    """
    subnet = fetch_own(tx, caller, SUBNETS, values["subnet_id"])
    address = str(values["ip_address"])
    addresses.require_inside(subnet, address, "ip_address")
    if address == subnet["gateway_ip"]:
        raise Conflict(
            f"ip_address {address} is the gateway_ip of subnet {subnet['id']}, which hosts need;"
            " give the subnet another gateway first.",
            "IpAddressAlreadyAllocated",
        )
    same = exists().where(
        reserved_addresses.c.subnet_id == subnet["id"],
        reserved_addresses.c.ip_address == address,
    )
    if tx.connection.scalar(select(same)):
        raise Conflict(
            f"ip_address {address} of subnet {subnet['id']} is reserved already.",
            "IpAddressAlreadyAllocated",
        )
    record = new_record(tx, {**values, "project_id": subnet["project_id"], "ip_address": address})
    tx.connection.execute(insert(reserved_addresses), record)
    return record


def update_(tx: Transaction, caller: Caller, reservation_id: str, values: Record) -> Record:
    """Describe a reservation."""
    record = fetch_own(tx, caller, COLLECTION, reservation_id)
    changed = {**values, **touched(tx, record)}
    where = reserved_addresses.c.id == reservation_id
    tx.connection.execute(update(reserved_addresses).where(where), changed)
    return {**record, **changed}


def delete_(tx: Transaction, caller: Caller, reservation_id: str) -> None:
    """Let the address be given again."""
    fetch_own(tx, caller, COLLECTION, reservation_id)
    where = reserved_addresses.c.id == reservation_id
    tx.connection.execute(delete(reserved_addresses).where(where))
