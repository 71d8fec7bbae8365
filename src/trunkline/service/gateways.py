"""Hosts' own addresses on the networks they serve, each held by a port.

A host serves a network while an instance port of the network is bound to it. Its gateway port
then has an address on every subnet of the network that needs one: the subnet's ``gateway_ip`` for
the host that comes first, one of the pools for the others, or what an administrator chose by
making the port beforehand.
"""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import BindParameter, and_, bindparam, delete, exists, insert, select

from trunkline.db.engine import Transaction
from trunkline.db.tables import fixed_ips, ports, subnets
from trunkline.model import GATEWAY_OWNER, HostName, NetworkId
from trunkline.ownership import gateway_mac
from trunkline.service import addresses
from trunkline.service.collections import Record, new_record
from trunkline.service.concern import instance_ports, serving_network

_OF_NETWORK: BindParameter[str] = bindparam("of_network")
_OF_HOST: BindParameter[str] = bindparam("of_host")
_LACKING = select(subnets).where(
    subnets.c.network_id == _OF_NETWORK,
    ~exists().where(
        fixed_ips.c.subnet_id == subnets.c.id,
        fixed_ips.c.port_id == ports.c.id,
        ports.c.network_id == _OF_NETWORK,
        ports.c.host == _OF_HOST,
        ports.c.device_owner == GATEWAY_OWNER,
    ),
)


def ensure(tx: Transaction, network_id: str, host: HostName) -> None:
    """Give a host that serves a network the gateway addresses it lacks.

    Raises:
        Conflict: A subnet is exhausted.
    """
    lacking = _lacking(tx, network_id, host)
    if not lacking:
        return
    port_id = _port_id(tx, network_id, host) or _add_port(tx, network_id, host)
    rows = [choose(tx, subnet) for subnet in lacking]
    addresses.store(tx, port_id, rows)
    tx.moved.add(host)


def release(tx: Transaction, network_id: str, host: HostName) -> None:
    """Take a host's gateway port away if no instance port of the network is left there."""
    here = and_(ports.c.network_id == network_id, ports.c.host == host)
    if not tx.connection.scalar(select(exists().where(here, instance_ports()))):
        tx.connection.execute(delete(ports).where(here, ports.c.device_owner == GATEWAY_OWNER))
        tx.moved.add(host)


def ensure_everywhere(tx: Transaction, network_id: str) -> None:
    """Give all hosts that serve a network the gateway addresses they lack."""
    for host in sorted(serving_network(tx, network_id)):
        ensure(tx, network_id, host)


def drop_subnet(tx: Transaction, network_id: str, subnet_id: str) -> None:
    """Take the hosts' addresses on a subnet away, and the ports that had no other."""
    gateways = select(ports.c.id).where(
        ports.c.network_id == network_id, ports.c.device_owner == GATEWAY_OWNER
    )
    tx.connection.execute(
        delete(fixed_ips).where(
            fixed_ips.c.subnet_id == subnet_id, fixed_ips.c.port_id.in_(gateways)
        )
    )
    addressed = exists().where(fixed_ips.c.port_id == ports.c.id)
    tx.connection.execute(delete(ports).where(ports.c.id.in_(gateways), ~addressed))


def needed(subnet: Record) -> bool:
    """Return whether hosts need an address on a subnet: as its router, or as its DHCP server."""
    return subnet["gateway_ip"] is not None or bool(subnet["enable_dhcp"])


def held(tx: Transaction, host: HostName) -> dict[str, str]:
    """Return a host's own address by subnet id."""
    found = (
        select(fixed_ips.c.subnet_id, fixed_ips.c.ip_address)
        .join(ports, ports.c.id == fixed_ips.c.port_id)
        .where(ports.c.host == host, ports.c.device_owner == GATEWAY_OWNER)
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
        "tags": [],
    }


def _lacking(tx: Transaction, network_id: str, host: HostName) -> list[Record]:
    where = {"of_network": network_id, "of_host": host}
    rows = (dict(row) for row in tx.connection.execute(_LACKING, where).mappings())
    return [subnet for subnet in rows if needed(subnet)]


def _port_id(tx: Transaction, network_id: str, host: HostName) -> str | None:
    return tx.connection.scalar(
        select(ports.c.id).where(
            ports.c.network_id == network_id,
            ports.c.host == host,
            ports.c.device_owner == GATEWAY_OWNER,
        )
    )


def _add_port(tx: Transaction, network_id: str, host: HostName) -> str:
    named = {"name": f"gateway-{host}"[:255], "description": ""}
    record = new_record(tx, {**port_columns(network_id, host), **named})
    tx.connection.execute(insert(ports), record)
    return str(record["id"])


def choose(tx: Transaction, subnet: Record) -> addresses.FixedIpRow:
    """Return the address on a subnet that its next host gets.

    Raises:
        Conflict: The subnet is exhausted.
    """
    usual = subnet["gateway_ip"]
    if usual is not None and not addresses.taken(tx, subnet, [usual]):
        return {"subnet_id": subnet["id"], "ip_address": usual}
    return addresses.resolve(tx, [subnet], [{"subnet_id": subnet["id"]}])[0]
