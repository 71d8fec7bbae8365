"""Which hosts' snapshots a change shows in: exactly those whose revision must move."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import BindParameter, Select, bindparam, exists, or_, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import (
    counters,
    hosts,
    port_bindings,
    port_groups,
    ports,
    security_group_rules,
)


def _hosts_with_ports_in(groups: BindParameter[Any] | Select[Any]) -> Select[Any]:
    """Ask each host for one port, by index, instead of every port for its host."""
    in_group = port_groups.c.security_group_id.in_(groups)
    return select(hosts.c.host).where(
        or_(
            exists().where(in_group, port_groups.c.host == hosts.c.host),
            exists().where(
                in_group,
                port_bindings.c.port_id == port_groups.c.port_id,
                port_bindings.c.host == hosts.c.host,
            ),
        )
    )


_GROUPS: BindParameter[Any] = bindparam("group_ids", expanding=True)
_IN_GROUP = _hosts_with_ports_in(_GROUPS)
_NAMING_GROUP = _hosts_with_ports_in(
    select(security_group_rules.c.security_group_id).where(
        security_group_rules.c.remote_group_id.in_(_GROUPS)
    )
)


_WITH_PORT_ON = select(hosts.c.host).where(
    exists().where(ports.c.network_id == bindparam("of_network"), ports.c.host == hosts.c.host)
)


def differs(before: Mapping[str, Any], after: Mapping[str, Any], columns: Collection[str]) -> bool:
    """Return whether a change is one of these columns'; the others show in no snapshot."""
    return any(before[column] != after[column] for column in columns)


def names_changed(tx: Transaction, port: Mapping[str, Any]) -> None:
    """Move the hosts that have a port of the network, and so tell its instances of a name.

    Only an instance that lives somewhere has a name.
    """
    if port["host"]:
        where = {"of_network": port["network_id"]}
        tx.moved |= set(tx.connection.execute(_WITH_PORT_ON, where).scalars())


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
    claim_domains(tx)
    if not network["external"]:
        tx.all_moved = True


def claim_domains(tx: Transaction) -> None:
    """Begin a change of which prefixes are in which routing domain: wait for others at it."""
    tx.connection.execute(
        update(counters).where(counters.c.name == "prefixes").values(value=counters.c.value + 1)
    )
