"""Segments: what a network is on each physical network that it is on.

A VLAN, given by an administrator or taken from the physical network's range; or, of a flat
network, no tag at all, so that a physical network has one such network at most. Most networks
have one segment. One that spans several groups of hosts, each behind switches of its own, has
one on each physical network; something of the operator's joins them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from sqlalchemy import BindParameter, bindparam, insert, not_, select, union_all

from trunkline.core.allocate import next_vlan
from trunkline.db.engine import Transaction
from trunkline.db.tables import network_segments, networks
from trunkline.errors import Conflict, Invalid
from trunkline.ownership import bridge_name
from trunkline.service.collections import Record
from trunkline.service.concern import claim_domains
from trunkline.snapshot import SegmentView

EXTERNAL_NETWORK = "external"  # physical network of external networks that name none
COLUMNS = ("network_type", "physical_network", "segmentation_id")
"""Of a segment, in a network's row and in what the API shows."""

_NETWORK_IDS: BindParameter[Any] = bindparam("network_ids", expanding=True)
_FURTHER = (
    select(network_segments)
    .where(network_segments.c.network_id.in_(_NETWORK_IDS))
    .order_by(network_segments.c.place)
)


def choose(tx: Transaction, values: Record) -> tuple[Record, tuple[SegmentView, ...]]:
    """Return the provider columns of a new network, and its further segments.

    Takes ``segments`` out of the wishes.

    Raises:
        Invalid: The wishes contradict each other.
        Conflict: A VLAN is taken, or all ranges are.
    """
    wishes = values.pop("segments", None) or []
    claim_domains(tx)  # of two networks at once, neither sees the other's further segments
    if not wishes:
        return _choose_one(tx, values), ()
    _require_alone(values)
    if len(wishes) > 1:
        _require_spanning(values, wishes)
    first, *others = (_choose_one(tx, {**values, **wish}) for wish in wishes)
    return first, tuple(SegmentView(o["physical_network"], o["segmentation_id"]) for o in others)


def _require_alone(values: Record) -> None:
    given = [column for column in COLUMNS if values.get(column) is not None]
    if given:
        raise Invalid(
            f"Invalid input for segments. Reason: provider:{given[0]} is given too, and may say"
            " otherwise; give each segment's inside segments only.",
            "InvalidInput",
        )


def _require_spanning(values: Record, wishes: Sequence[Record]) -> None:
    """Raise Invalid unless a host can tell by its trunks which of the segments is its own."""
    places = [wish.get("physical_network") or "" for wish in wishes]
    if values["external"]:
        reason = "an external network (router:external) is on no trunk; give it one segment"
    elif any(wish.get("network_type") == "flat" for wish in wishes):
        reason = "a flat network has one segment; give each of several a VLAN"
    elif not all(places):
        reason = "each of several segments must name its provider:physical_network"
    elif len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        reason = (
            f"{twice} has more than one of them, and a host could not tell which is its own; one"
            " per provider:physical_network"
        )
    else:
        return
    raise Invalid(f"Invalid input for segments. Reason: {reason}.", "InvalidInput")


def add(tx: Transaction, network_id: str, others: Sequence[SegmentView]) -> None:
    """Store a new network's further segments."""
    rows = [
        {
            "network_id": network_id,
            "physical_network": one.physical_network,
            "segmentation_id": one.vlan_id,
            "place": place,
        }
        for place, one in enumerate(others, start=1)
    ]
    if rows:
        tx.connection.execute(insert(network_segments), rows)


def further(tx: Transaction, network_ids: Sequence[str]) -> Mapping[str, tuple[SegmentView, ...]]:
    """Return the segments of networks besides their first ones, in order; () if there are none."""
    found: dict[str, tuple[SegmentView, ...]] = defaultdict(tuple)
    if network_ids:
        for row in tx.connection.execute(_FURTHER, {"network_ids": list(network_ids)}):
            found[row.network_id] += (SegmentView(row.physical_network, row.segmentation_id),)
    return found


def shown(network: Record, others: Sequence[SegmentView]) -> list[dict[str, Any]]:
    """Return what the API says of all segments; nothing of a network that has only one."""
    if not others:
        return []
    first = {column: network[column] for column in COLUMNS}
    rest = (_vlan(one.physical_network, one.vlan_id) for one in others)
    return [{f"provider:{key}": one[key] for key in COLUMNS} for one in (first, *rest)]


def require_inside(network: Record) -> None:
    """Raise Invalid if a network with several segments would become external."""
    if network["external"] and network["segments"]:
        raise Invalid(
            "Invalid input for router:external. Reason: the network has several segments, and an"
            " external one is on no trunk.",
            "InvalidInput",
        )


def _choose_one(tx: Transaction, values: Record) -> Record:
    """Return the provider columns of one segment."""
    vlan_id = values.get("segmentation_id")
    network_type = values.get("network_type") or (
        "flat" if values["external"] and vlan_id is None else "vlan"
    )
    ranges = tx.limits.vlan_ranges
    physical = values.get("physical_network")
    if network_type == "flat":
        return _flat(tx, values)
    _require_known(tx, physical)
    if vlan_id is not None:
        return _given(tx, physical or next(iter(ranges), ""), vlan_id)
    for candidate in [physical] if physical else ranges:
        taken = taken_vlans(tx, candidate)
        vlan_id = next_vlan(ranges.get(candidate, ()), taken)
        if vlan_id is not None:
            return _vlan(candidate, vlan_id)
    raise Conflict(
        "Unable to create the network. No VLAN of the ranges for"
        f" {physical or 'any physical network'} is free; widen vlan_ranges in the server's"
        " configuration, or delete a network.",
        "NoNetworkAvailable",
    )


def _require_known(tx: Transaction, physical: str | None) -> None:
    """Raise Invalid if the configuration has physical networks, and not this one."""
    ranges = tx.limits.vlan_ranges
    if ranges and physical and physical not in ranges:
        raise Invalid(
            f"Invalid input for provider:physical_network. Reason: {physical!r} is not one of"
            f" {', '.join(ranges)}, which the server's configuration has under vlan_ranges.",
            "InvalidInput",
        )


def _require_named(physical: str) -> None:
    if not physical:
        raise Invalid(
            "Invalid input for provider:physical_network. Reason: it must be given, as the"
            " server's configuration names none in vlan_ranges.",
            "InvalidInput",
        )


def _flat(tx: Transaction, values: Record) -> Record:
    vlan_id, physical = values.get("segmentation_id"), values.get("physical_network")
    if vlan_id is not None:
        raise Invalid(
            f"Invalid input for provider:segmentation_id. Reason: a flat network has no VLAN, and"
            f" {vlan_id} is one; leave it out, or use provider:network_type vlan.",
            "InvalidInput",
        )
    if values["external"]:
        physical = physical or EXTERNAL_NETWORK
    else:
        _require_known(tx, physical)
        physical = physical or next(iter(tx.limits.vlan_ranges), "")
        _require_named(physical)
        require_flat_free(tx, physical)
    return {"network_type": "flat", "physical_network": physical, "segmentation_id": None}


def require_flat_free(tx: Transaction, physical: str) -> None:
    """Raise Conflict if a physical network has its one network without a tag already."""
    other = tx.connection.scalar(
        select(networks.c.id).where(
            networks.c.physical_network == physical,
            networks.c.network_type == "flat",
            not_(networks.c.external),
        )
    )
    if other is not None:
        raise Conflict(
            f"Unable to create the flat network. Physical network {physical} is in use by network"
            f" {other}, whose frames have no tag either; give one of them a VLAN, or choose another"
            " provider:physical_network.",
            "FlatNetworkInUse",
        )


def _given(tx: Transaction, physical: str, vlan_id: int) -> Record:
    _require_named(physical)
    if vlan_id in taken_vlans(tx, physical):
        raise Conflict(
            f"Unable to create the network. The VLAN {vlan_id} (provider:segmentation_id) on"
            f" physical network {physical} is in use.",
            "VlanIdInUse",
        )
    return _vlan(physical, vlan_id)


def _vlan(physical: str, vlan_id: int) -> Record:
    return {
        "network_type": "vlan",
        "physical_network": physical,
        "segmentation_id": vlan_id,
    }


def namesake(tx: Transaction, network: Record) -> int:
    """Return the first number that none of the tenants' networks with this VLAN id has.

    Two physical networks may have one VLAN id each on the same host, and links go by that.
    """
    vlan_id = network["segmentation_id"]
    if vlan_id is None or network["external"]:
        return 0
    others = select(networks.c.namesake).where(
        networks.c.segmentation_id == vlan_id, not_(networks.c.external)
    )
    taken = set(tx.connection.execute(others).scalars())
    return next(number for number in count() if number not in taken)


def bridge_of(network: Record) -> str | None:
    """Return what a tenants' network's bridge is called on every host that serves it."""
    if network["external"]:
        return None
    columns = ("segmentation_id", "physical_network", "namesake")  # of its first segment
    return bridge_name(*(network[column] for column in columns))


def taken_vlans(tx: Transaction, physical: str) -> set[int]:
    """Return the VLAN ids that networks have on a physical network."""
    found = union_all(
        *(
            select(table.c.segmentation_id).where(table.c.physical_network == physical)
            for table in (networks, network_segments)
        )
    )
    return set(tx.connection.execute(found).scalars())
