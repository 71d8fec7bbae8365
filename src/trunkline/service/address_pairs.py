"""Allowed address pairs: what a port may use besides its own MAC and addresses.

Who may have them is the network's owner: on a lent network a pair could claim a neighbour's
address.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

from sqlalchemy import bindparam, delete, insert, select

from trunkline.db.engine import Transaction
from trunkline.db.tables import address_pairs
from trunkline.errors import Conflict, Forbidden, Invalid
from trunkline.service.caller import Caller
from trunkline.service.collections import Record

_OF_PORTS = select(
    address_pairs.c.port_id, address_pairs.c.mac_address, address_pairs.c.ip_address
).where(address_pairs.c.port_id.in_(bindparam("port_ids", expanding=True)))


def of_ports(tx: Transaction, port_ids: Collection[str]) -> dict[str, list[Record]]:
    """Return the pairs of each of a few ports, as the API has them, sorted."""
    found: dict[str, list[Record]] = defaultdict(list)
    for port_id, mac, address in tx.connection.execute(_OF_PORTS, {"port_ids": list(port_ids)}):
        found[port_id].append({"ip_address": address, "mac_address": mac})
    for pairs in found.values():
        pairs.sort(key=_order)
    return found


def checked(
    caller: Caller, network: Record, port: Record, wanted: Iterable[Record]
) -> list[Record]:
    """Return a port's pairs, complete and sorted; without a MAC a pair has the port's.

    Raises:
        Conflict: The port has no port security, so nothing is to be allowed.
        Forbidden: The network is another project's.
        Invalid: A pair is there twice.
    """
    pairs = sorted(({"mac_address": port["mac_address"], **pair} for pair in wanted), key=_order)
    require_secured(port, pairs)
    if pairs and not caller.is_admin and network["project_id"] != caller.project_id:
        raise Forbidden(
            f"allowed_address_pairs: network {network['id']} belongs to another project; only that"
            " project or an administrator allows addresses on it.",
            "PolicyNotAuthorized",
        )
    for first, second in pairwise(pairs):
        if first == second:
            raise Invalid(
                "Request contains duplicate address pair: mac_address"
                f" {first['mac_address']} ip_address {first['ip_address']}"
                " (allowed_address_pairs).",
                "DuplicateAddressPairInRequest",
            )
    return pairs


def require_secured(port: Record, pairs: Sequence[Record]) -> None:
    """Raise Conflict if a port has pairs and no port security."""
    if pairs and not port["port_security_enabled"]:
        raise Conflict(
            "Port Security must be enabled in order to have allowed address pairs on a port"
            " (allowed_address_pairs, port_security_enabled).",
            "AddressPairAndPortSecurityRequired",
        )


def store(tx: Transaction, port_id: str, pairs: Sequence[Record]) -> None:
    """Give a new port its pairs."""
    if pairs:
        rows = [{**pair, "port_id": port_id} for pair in pairs]
        tx.connection.execute(insert(address_pairs), rows)


def replace(tx: Transaction, port_id: str, pairs: Sequence[Record]) -> None:
    """Give a port other pairs."""
    tx.connection.execute(delete(address_pairs).where(address_pairs.c.port_id == port_id))
    store(tx, port_id, pairs)


def _order(pair: Record) -> tuple[str, str]:
    return pair["mac_address"], pair["ip_address"]
