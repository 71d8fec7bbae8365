"""Which networks a host serves: those of its instances, and those that are provisioned there.

``on_demand``: where an instance of the network lives. ``router``: also where any other network of
its router is served. ``everywhere``: also on every host whose agent has ever reported. Whatever a
network says, it is where its router is placed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    and_,
    bindparam,
    exists,
    not_,
    or_,
    select,
)

from trunkline.db.engine import Transaction
from trunkline.db.tables import hosts, networks, port_bindings, ports, router_hosts
from trunkline.model import GATEWAY_OWNER, HostName, Provisioning

SERVICE_OWNERS = "network:%"  # routers, DHCP servers, floating IPs: no instances

_HOST: BindParameter[str] = bindparam("of_host")
_NETWORK: BindParameter[str] = bindparam("of_network")
_EVERYWHERE = networks.c.provisioning == Provisioning.EVERYWHERE
_BY_ROUTER = networks.c.provisioning == Provisioning.ROUTER


def is_instance_owner(device_owner: str) -> bool:
    """Return whether a port of this ``device_owner`` is plugged into an instance."""
    return device_owner != GATEWAY_OWNER and not device_owner.startswith("network:")


def instance_ports() -> ColumnElement[bool]:
    """Return the same as a condition on ``ports``."""
    owner = ports.c.device_owner
    return and_(owner != GATEWAY_OWNER, not_(owner.like(SERVICE_OWNERS)))


def _served_with(plugged: BindParameter[Any] | CompoundSelect[Any]) -> ColumnElement[bool]:
    """Return the condition that ``of_host`` serves a network, given those of its instances."""
    has_agent = exists().where(hosts.c.host == _HOST, hosts.c.heartbeat_at.is_not(None))
    by_itself = or_(networks.c.id.in_(plugged), and_(_EVERYWHERE, has_agent))
    present = select(networks.c.router_id).where(not_(networks.c.external), by_itself)
    placed = select(router_hosts.c.router_id).where(router_hosts.c.host == _HOST)
    return and_(
        not_(networks.c.external),
        or_(
            by_itself,
            networks.c.router_id.in_(placed),
            and_(_BY_ROUTER, networks.c.router_id.in_(present)),
        ),
    )


_STANDBY = ports.join(port_bindings, port_bindings.c.port_id == ports.c.id)
"""Where an instance is about to come, or has just left: its network is there as well."""

SERVED = select(networks).where(_served_with(bindparam("plugged", expanding=True)))
"""The networks that ``of_host`` serves, its instances being on those of ``plugged``."""

_SERVED_IDS = select(networks.c.id).where(
    _served_with(
        select(ports.c.network_id)
        .where(ports.c.host == _HOST, instance_ports())
        .union(
            select(ports.c.network_id).select_from(_STANDBY).where(port_bindings.c.host == _HOST)
        )
    )
)
_PLUGGED = (
    select(ports.c.host)
    .where(ports.c.network_id == _NETWORK, ports.c.host != "", instance_ports())
    .union(select(port_bindings.c.host).select_from(_STANDBY).where(ports.c.network_id == _NETWORK))
)
_WITH_AGENT = select(hosts.c.host).where(hosts.c.heartbeat_at.is_not(None))
_OF_ROUTER: ColumnElement[bool] = networks.c.router_id == bindparam("of_router")
_ON_ROUTER = select(hosts.c.host).where(
    or_(
        exists().where(
            ports.c.host == hosts.c.host,
            networks.c.id == ports.c.network_id,
            _OF_ROUTER,
            instance_ports(),
        ),
        exists().where(
            port_bindings.c.host == hosts.c.host,
            ports.c.id == port_bindings.c.port_id,
            networks.c.id == ports.c.network_id,
            _OF_ROUTER,
        ),
        exists().where(
            router_hosts.c.host == hosts.c.host,
            router_hosts.c.router_id == bindparam("of_router"),
        ),
        and_(
            hosts.c.heartbeat_at.is_not(None),
            exists().where(_OF_ROUTER, _EVERYWHERE),
        ),
    )
)
_LINKED = select(networks.c.id).where(
    or_(
        networks.c.id == _NETWORK,
        and_(
            _BY_ROUTER,
            networks.c.router_id
            == select(networks.c.router_id).where(networks.c.id == _NETWORK).scalar_subquery(),
        ),
    )
)


_PLACED = (
    select(router_hosts.c.host)
    .join(networks, networks.c.router_id == router_hosts.c.router_id)
    .where(networks.c.id == _NETWORK)
)


def served(tx: Transaction, host: HostName) -> set[str]:
    """Return the ids of the networks that a host serves."""
    return set(tx.connection.execute(_SERVED_IDS, {"of_host": host}).scalars())


def plugged(tx: Transaction, network_id: str) -> set[HostName]:
    """Return the hosts that an instance of the network lives on."""
    return set(tx.connection.execute(_PLUGGED, {"of_network": network_id}).scalars())


def placed(tx: Transaction, network_id: str) -> set[HostName]:
    """Return the hosts that a network's router is placed on; none where it is on every host.

    They serve DHCP to, and translate for, the network's instances on all hosts.
    """
    return set(tx.connection.execute(_PLACED, {"of_network": network_id}).scalars())


def serving(tx: Transaction, network_id: str) -> set[HostName]:
    """Return the hosts that serve a network."""
    network = tx.connection.execute(
        select(networks.c.provisioning, networks.c.router_id, networks.c.external).where(
            networks.c.id == network_id
        )
    ).first()
    if network is None or network.external:
        return set()
    found = plugged(tx, network_id) | placed(tx, network_id)
    if network.provisioning == Provisioning.EVERYWHERE:
        found |= set(tx.connection.execute(_WITH_AGENT).scalars())
    elif network.provisioning == Provisioning.ROUTER and network.router_id is not None:
        there = {"of_router": network.router_id}
        found |= set(tx.connection.execute(_ON_ROUTER, there).scalars())
    return found


def linked(tx: Transaction, network_id: str) -> set[str]:
    """Return a network, and those that a host serves because it serves this one: their ids."""
    return set(tx.connection.execute(_LINKED, {"of_network": network_id}).scalars())


def network_changed(tx: Transaction, network_id: str) -> None:
    """Move the hosts that serve a network."""
    tx.moved |= serving(tx, network_id)


def router_changed(tx: Transaction, router_id: str) -> None:
    """Move the hosts that serve a network of a router."""
    tx.moved |= set(tx.connection.execute(_ON_ROUTER, {"of_router": router_id}).scalars())
