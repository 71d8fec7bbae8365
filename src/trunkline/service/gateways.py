"""The addresses of a network's gateways: of each host that serves it, or one for all of them.

With ``per_host`` each host that serves a network has a gateway port there, with an address on
every subnet that needs one: the subnet's ``gateway_ip`` for the host that comes first, one of the
pools for the others, or what an administrator chose by making the port beforehand. With
``anycast`` one port without a host has the ``gateway_ip`` of every subnet, for all hosts. With
``upstream`` the ``gateway_ip`` is somebody else's, and hosts have an address for DHCP alone. Where
a network's router is placed, one port without a host has the address too, for the hosts that the
router is on.

Where a router's interface port holds the ``gateway_ip``, that port stands in: it is bound to the
host that carries the address, or with ``anycast`` to none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)

from trunkline.db.engine import Transaction
from trunkline.db.tables import fixed_ips, networks, ports, router_hosts, subnets
from trunkline.errors import Conflict
from trunkline.model import (
    GATEWAY_OWNER,
    ROUTER_INTERFACE_OWNER,
    GatewayMode,
    HostName,
    NetworkId,
)
from trunkline.ownership import gateway_mac
from trunkline.service import addresses
from trunkline.service.collections import Record, new_record
from trunkline.service.provisioning import linked, served, serving

EVERY_HOST = HostName("")
"""Who holds the gateway addresses of an anycast network, or one with a placed router."""

_OF_NETWORK: BindParameter[str] = bindparam("of_network")
_OF_HOST: BindParameter[str] = bindparam("of_host")
_CARRIES = ports.c.device_owner.in_((GATEWAY_OWNER, ROUTER_INTERFACE_OWNER))
_PLACED = networks.c.router_id.in_(select(router_hosts.c.router_id))
_COMMON = or_(networks.c.gateway == GatewayMode.ANYCAST, _PLACED)
_HOLDER = case((_COMMON, str(EVERY_HOST)), else_=_OF_HOST)
_LACKING = (
    select(subnets, _HOLDER.label("holder"), networks.c.gateway.label("mode"))
    .join(networks, networks.c.id == subnets.c.network_id)
    .where(
        subnets.c.network_id == _OF_NETWORK,
        ~exists().where(
            fixed_ips.c.subnet_id == subnets.c.id,
            fixed_ips.c.port_id == ports.c.id,
            ports.c.network_id == _OF_NETWORK,
            ports.c.host == _HOLDER,
            _CARRIES,
        ),
    )
)
_INTERFACE = (
    select(ports.c.id)
    .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
    .where(ports.c.device_owner == ROUTER_INTERFACE_OWNER)
)


def ensure(tx: Transaction, network_id: str, host: HostName) -> None:
    """Give a host that serves a network the gateway addresses that it lacks.

    Raises:
        Conflict: A subnet is exhausted.
    """
    lacking = _lacking(tx, network_id, host)
    if not lacking:
        return
    holder = HostName(lacking[0]["holder"])
    rows = [
        choose(tx, subnet, holder, subnet["mode"])
        for subnet in lacking
        if not _lent(tx, subnet["id"], holder)
    ]
    if rows:
        port_id = _port_id(tx, network_id, holder) or _add_port(tx, network_id, holder)
        addresses.store(tx, port_id, rows)
    if host != EVERY_HOST:
        tx.moved.add(host)


def ensure_everywhere(tx: Transaction, network_id: str) -> None:
    """Give all hosts that serve a network, or the one holder, the gateway addresses they lack.

    Raises:
        Conflict: A subnet is exhausted.
    """
    common = is_common(tx, network_id)
    for host in [EVERY_HOST] if common else sorted(serving(tx, network_id)):
        ensure(tx, network_id, host)


def settle(tx: Transaction, host: HostName, network_ids: Collection[str]) -> None:
    """Give a host its addresses on those of the networks that it serves; take the others away.

    Raises:
        Conflict: A subnet is exhausted.
    """
    there = served(tx, host)
    for network_id in sorted(network_ids):
        if network_id in there:
            ensure(tx, network_id, host)
        else:
            _release(tx, network_id, host)
    tx.moved.add(host)


@contextmanager
def resettled(tx: Transaction, network_id: str) -> Iterator[None]:
    """Wrap a change of where a network is, or of its router: what hosts serve follows.

    Raises:
        Conflict: A subnet is exhausted.
    """
    hosts, network_ids = serving(tx, network_id), linked(tx, network_id)
    yield
    network_ids |= linked(tx, network_id)
    for host in sorted(hosts | serving(tx, network_id)):
        settle(tx, host, network_ids)


def mode(tx: Transaction, network_id: str) -> GatewayMode:
    """Return a network's gateway mode."""
    found = select(networks.c.gateway).where(networks.c.id == network_id)
    return GatewayMode(tx.connection.execute(found).scalar_one())


def is_common(tx: Transaction, network_id: str) -> bool:
    """Return whether all hosts that a network has a gateway on have the same address there."""
    common = exists().where(networks.c.id == network_id, _COMMON)
    return bool(tx.connection.scalar(select(common)))


def drop_subnet(tx: Transaction, network_id: str, subnet_id: str) -> None:
    """Take the hosts' addresses on a subnet away, and the ports that had no other."""
    gateways = _gateway_ids(network_id)
    tx.connection.execute(
        delete(fixed_ips).where(
            fixed_ips.c.subnet_id == subnet_id, fixed_ips.c.port_id.in_(gateways)
        )
    )
    _drop_empty(tx, network_id)


def drop_all(tx: Transaction, network_id: str) -> None:
    """Take all gateway addresses of a network away; interfaces keep theirs, on no host."""
    tx.connection.execute(delete(ports).where(ports.c.id.in_(_gateway_ids(network_id))))
    _unbind_interfaces(tx, ports.c.network_id == network_id)


def renew(tx: Transaction, network_id: str) -> None:
    """Give a network's gateways new addresses, as who holds them has changed.

    Raises:
        Conflict: A subnet is exhausted.
    """
    drop_all(tx, network_id)
    ensure_everywhere(tx, network_id)


def hand_over(tx: Transaction, subnet: Record, interface_id: str) -> bool:
    """Give the ``gateway_ip`` that a gateway port holds to a router's interface port.

    The host that carries it goes on to, so that its instances notice nothing.

    Returns:
        Whether there was such a gateway port.
    """
    held = (
        select(ports.c.host)
        .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
        .where(_is_gateway_ip(subnet), ports.c.device_owner == GATEWAY_OWNER)
    )
    host = tx.connection.scalar(held)
    if host is None:
        return False
    tx.connection.execute(
        update(fixed_ips).where(_is_gateway_ip(subnet)).values(port_id=interface_id)
    )
    tx.connection.execute(update(ports).where(ports.c.id == interface_id).values(host=host))
    _drop_empty(tx, subnet["network_id"])
    return True


def lender(tx: Transaction, subnet: Record) -> str | None:
    """Return the router's interface port that holds a subnet's ``gateway_ip``, for a message."""
    found = tx.connection.scalar(_INTERFACE.where(_is_gateway_ip(subnet)))
    return None if found is None else f"port {found}, a router's interface"


def needed(subnet: Record, gateway: str) -> bool:
    """Return whether hosts need an address on a subnet: as its router, or as its DHCP server."""
    routes = subnet["gateway_ip"] is not None and gateway != GatewayMode.UPSTREAM
    return routes or bool(subnet["enable_dhcp"])


def held(tx: Transaction, host: HostName, common: Collection[str] = ()) -> dict[str, str]:
    """Return the address that a host has on each subnet, by subnet id.

    Args:
        tx: The transaction.
        host: The host.
        common: Ids of the networks whose gateway addresses no host has for itself.
    """
    here = ports.c.host == host
    if common:
        shared = and_(ports.c.network_id.in_(sorted(common)), ports.c.host == EVERY_HOST)
        here = or_(here, shared)
    found = (
        select(fixed_ips.c.subnet_id, fixed_ips.c.ip_address)
        .join(ports, ports.c.id == fixed_ips.c.port_id)
        .where(here, _CARRIES)
    )
    by_subnet: dict[str, list[str]] = defaultdict(list)
    for subnet_id, address in tx.connection.execute(found):
        by_subnet[subnet_id].append(address)
    return {subnet_id: min(found) for subnet_id, found in by_subnet.items()}


def port_columns(network_id: str, host: HostName) -> Record:
    """Return what is so of every gateway port, whoever makes it."""
    return {
        "project_id": "",
        "network_id": network_id,
        "mac_address": gateway_mac(host, NetworkId(network_id)),
        "admin_state_up": True,
        "status": "N/A",
        "device_id": "",
        "device_owner": GATEWAY_OWNER,
        "dns_name": "",
        "port_security_enabled": False,
        "host": host,
        "vnic_type": "normal",
        "profile": {},
        "extra_dhcp_opts": [],
        "qos_policy_id": None,
        "tags": [],
    }


def choose(tx: Transaction, subnet: Record, host: HostName, gateway: str) -> addresses.FixedIpRow:
    """Return the address on a subnet that its next host gets.

    Raises:
        Conflict: The subnet is exhausted.
    """
    usual = None if gateway == GatewayMode.UPSTREAM else subnet["gateway_ip"]
    if usual is not None and not addresses.taken(tx, subnet, [usual]):
        return {"subnet_id": subnet["id"], "ip_address": usual}
    found = addresses.next_free(tx, subnet)
    if found is None:
        raise Conflict(
            f"No more IP addresses available on network {subnet['network_id']}: host {host} needs"
            f" an address of its own on subnet {subnet['id']} ({subnet['cidr']}), and every address"
            " of its allocation pools is taken; widen the pools, or delete ports.",
            "IpAddressGenerationFailure",
        )
    return {"subnet_id": subnet["id"], "ip_address": found}


def _lent(tx: Transaction, subnet_id: str, host: HostName) -> bool:
    """Let a host carry the address of a subnet's interface port, if nobody does."""
    free = _INTERFACE.where(fixed_ips.c.subnet_id == subnet_id, ports.c.host == EVERY_HOST)
    interface_id = tx.connection.scalar(free)
    if interface_id is None:
        return False
    tx.connection.execute(update(ports).where(ports.c.id == interface_id).values(host=host))
    return True


def _release(tx: Transaction, network_id: str, host: HostName) -> None:
    """Take a host's gateway addresses on a network away."""
    tx.connection.execute(
        delete(ports).where(ports.c.id.in_(_gateway_ids(network_id)), ports.c.host == host)
    )
    _unbind_interfaces(tx, and_(ports.c.network_id == network_id, ports.c.host == host))


def _unbind_interfaces(tx: Transaction, which: ColumnElement[bool]) -> None:
    tx.connection.execute(
        update(ports)
        .where(which, ports.c.device_owner == ROUTER_INTERFACE_OWNER)
        .values(host=EVERY_HOST)
    )


def _gateway_ids(network_id: str) -> Select[tuple[str]]:
    return select(ports.c.id).where(
        ports.c.network_id == network_id, ports.c.device_owner == GATEWAY_OWNER
    )


def _is_gateway_ip(subnet: Record) -> ColumnElement[bool]:
    return and_(
        fixed_ips.c.subnet_id == subnet["id"], fixed_ips.c.ip_address == subnet["gateway_ip"]
    )


def _drop_empty(tx: Transaction, network_id: str) -> None:
    """Delete a network's gateway ports that have no address."""
    addressed = exists().where(fixed_ips.c.port_id == ports.c.id)
    tx.connection.execute(delete(ports).where(ports.c.id.in_(_gateway_ids(network_id)), ~addressed))


def _lacking(tx: Transaction, network_id: str, host: HostName) -> list[Record]:
    where = {"of_network": network_id, "of_host": host}
    rows = (dict(row) for row in tx.connection.execute(_LACKING, where).mappings())
    return [subnet for subnet in rows if needed(subnet, subnet["mode"])]


def _port_id(tx: Transaction, network_id: str, host: HostName) -> str | None:
    return tx.connection.scalar(
        select(ports.c.id).where(
            ports.c.network_id == network_id,
            ports.c.host == host,
            ports.c.device_owner == GATEWAY_OWNER,
        )
    )


def _add_port(tx: Transaction, network_id: str, host: HostName) -> str:
    named = {"name": f"gateway-{host}"[:255] if host else "gateway", "description": ""}
    record = new_record(tx, {**port_columns(network_id, host), **named})
    tx.connection.execute(insert(ports), record)
    return str(record["id"])
