"""How large a network's packets may be: no larger than any host's trunk takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from trunkline.db.engine import Transaction
from trunkline.db.tables import hosts
from trunkline.errors import Invalid
from trunkline.service.collections import Record
from trunkline.snapshot import SegmentView

_FACTS = select(hosts.c.host, hosts.c.facts).where(hosts.c.heartbeat_at.is_not(None))


def require_fitting(tx: Transaction, network: Record, further: Sequence[SegmentView]) -> None:
    """Raise Invalid if a tenant network's MTU exceeds that of a trunk which agents told of.

    The kernel makes no VLAN device with a larger MTU than its trunk has. A host that is heard of
    later says so as a problem of its own (core.links).
    """
    if network["external"]:
        return
    places = [network["physical_network"], *(one.physical_network for one in further)]
    found = min(_trunks(tx, places), default=None)
    if found is not None and network["mtu"] > found[0]:
        mtu, host, nic, place = found
        raise Invalid(
            f"Invalid input for mtu. Reason: {network['mtu']} exceeds the {mtu} of {nic}, the trunk"
            f" of host {host} for physical network {place}; choose at most"
            f" {mtu}, or have that trunk's raised.",
            "InvalidInput",
        )


def _trunks(tx: Transaction, places: Sequence[str]) -> Iterator[tuple[int, str, str, str]]:
    """Yield MTU, host, NIC and physical network of each trunk that agents reported."""
    for host, facts in tx.connection.execute(_FACTS):
        trunks = _part(_part(facts, "cabling"), "trunks")
        for place in places:
            mtu = _part(facts, "trunk_mtus").get(str(trunks.get(place)))
            if isinstance(mtu, int):
                yield mtu, host, str(trunks[place]), place


def _part(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a part of what an agent reported; one of another version may have none."""
    part = facts.get(key)
    return part if isinstance(part, dict) else {}
