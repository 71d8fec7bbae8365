"""How large a network's packets may be: no larger than any host's trunk takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select

from trunkline.db.engine import Transaction
from trunkline.db.tables import hosts
from trunkline.errors import Invalid
from trunkline.service.collections import Record

_FACTS = select(hosts.c.host, hosts.c.facts).where(hosts.c.heartbeat_at.is_not(None))


def require_fitting(tx: Transaction, network: Record) -> None:
    """Raise Invalid if a tenant network's MTU exceeds that of a trunk which agents told of.

    The kernel makes no VLAN device with a larger MTU than its trunk has. A host that is heard of
    later says so as a problem of its own (core.links).
    """
    if network["external"]:
        return
    found = min(_trunks(tx, network["physical_network"]), default=None)
    if found is not None and network["mtu"] > found[0]:
        mtu, host, nic = found
        raise Invalid(
            f"Invalid input for mtu. Reason: {network['mtu']} exceeds the {mtu} of {nic}, the trunk"
            f" of host {host} for physical network {network['physical_network']}; choose at most"
            f" {mtu}, or have that trunk's raised.",
            "InvalidInput",
        )


def _trunks(tx: Transaction, physical_network: str) -> Iterator[tuple[int, str, str]]:
    """Yield MTU, host and NIC of each trunk for a physical network that agents reported."""
    for host, facts in tx.connection.execute(_FACTS):
        nic = _part(_part(facts, "cabling"), "trunks").get(physical_network)
        mtu = _part(facts, "trunk_mtus").get(str(nic))
        if isinstance(mtu, int):
            yield mtu, host, str(nic)


def _part(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a part of what an agent reported; one of another version may have none."""
    part = facts.get(key)
    return part if isinstance(part, dict) else {}
