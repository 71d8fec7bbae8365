"""Which hosts' snapshots a change shows in: exactly those whose revision must move."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    and_,
    bindparam,
    exists,
    not_,
    select,
    update,
)

from trunkline.db.engine import Transaction
from trunkline.db.tables import counters, hosts, port_groups, ports, security_group_rules
from trunkline.model import GATEWAY_OWNER, HostName

SERVICE_OWNERS = "network:%"  # routers, DHCP servers, floating IPs: no instances


def is_instance_owner(device_owner: str) -> bool:
    """Return whether a port of this ``device_owner`` is plugged into an instance."""
    return device_owner != GATEWAY_OWNER and not device_owner.startswith("network:")


def instance_ports() -> ColumnElement[bool]:
    """Return the same as a condition on ``ports``."""
    owner = ports.c.device_owner
    return and_(owner != GATEWAY_OWNER, not_(owner.like(SERVICE_OWNERS)))


def _hosts_with_ports_in(groups: BindParameter[Any] | Select[Any]) -> Select[Any]:
    """Ask each host for one port, by index, instead of every port for its host."""
    return select(hosts.c.host).where(
        exists().where(
            port_groups.c.security_group_id.in_(groups), port_groups.c.host == hosts.c.host
        )
    )


_GROUPS: BindParameter[Any] = bindparam("group_ids", expanding=True)
_IN_GROUP = _hosts_with_ports_in(_GROUPS)
_NAMING_GROUP = _hosts_with_ports_in(
    select(security_group_rules.c.security_group_id).where(
        security_group_rules.c.remote_group_id.in_(_GROUPS)
    )
)


def serving_network(tx: Transaction, network_id: str) -> set[HostName]:
    """Return the hosts that an instance port of the network is bound to."""
    found = (
        select(ports.c.host)
        .distinct()
        .where(ports.c.network_id == network_id, ports.c.host != "", instance_ports())
    )
    return set(tx.connection.execute(found).scalars())


def differs(before: Mapping[str, Any], after: Mapping[str, Any], columns: Collection[str]) -> bool:
    """Return whether a change is one of these columns'; the others show in no snapshot."""
    return any(before[column] != after[column] for column in columns)


def network_changed(tx: Transaction, network_id: str) -> None:
    """Move the hosts that serve a network."""
    tx.moved |= serving_network(tx, network_id)


def group_changed(tx: Transaction, group_id: str) -> None:
    """Move the hosts with ports in a group."""
    tx.moved |= set(tx.connection.execute(_IN_GROUP, {"group_ids": [group_id]}).scalars())


def membership_changed(tx: Transaction, group_ids: Collection[str]) -> None:
    """Move the hosts with ports in any group that has a rule naming one of these as its peer."""
    if not group_ids:
        return
    peers = {"group_ids": sorted(group_ids)}
    tx.moved |= set(tx.connection.execute(_NAMING_GROUP, peers).scalars())


def claim_prefixes(tx: Transaction, network: Mapping[str, Any]) -> None:
    """Begin a change of a network's prefixes: wait for others who are at it.

    Every host must know every tenant prefix, so all of them move; an external network's prefix
    concerns none.
    """
    tx.connection.execute(
        update(counters).where(counters.c.name == "prefixes").values(value=counters.c.value + 1)
    )
    if not network["external"]:
        tx.all_moved = True
