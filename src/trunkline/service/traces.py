"""Traces: what becomes of a flow, answered from the state of the hosts at its ends.

Decides who is meant by what a caller writes, which hosts' snapshots the walk needs, and how much
of the answer the caller may see. The walk itself is ``trunkline.trace``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv4Network, ip_address
from typing import Any

from sqlalchemy import delete, insert, select

from trunkline.advice import advise
from trunkline.core.compile import compile_host
from trunkline.db.engine import Transaction
from trunkline.db.tables import fixed_ips, floating_ips, hosts, networks, ports, subnets, traces
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.model import HostName, IpAddress, PortId, PortStatus
from trunkline.report import decode
from trunkline.service import live, probes, snapshots
from trunkline.service.caller import Caller
from trunkline.service.clouds import kernels
from trunkline.service.collections import (
    Collection,
    Record,
    fetch_own,
    new_record,
    own,
)
from trunkline.service.forwarding import LED_TO
from trunkline.service.ports import COLLECTION as PORTS
from trunkline.service.provisioning import instance_ports, placed
from trunkline.trace.cloud import Cloud, Internet, TracedHost
from trunkline.trace.data import trace_out
from trunkline.trace.narrow import narrow
from trunkline.trace.packets import ICMP, ICMPV6, PROTOCOLS, TCP, UDP
from trunkline.trace.steps import Trace
from trunkline.trace.verdict import owners
from trunkline.trace.verify_kernel import kernel_findings, unread
from trunkline.trace.walk import ANYBODY, Flow, trace

INTERNET = "internet"
KEPT_PER_PROJECT = 100
BYSTANDERS_MAX = 40  # with more instances on the hosts, who hears a broadcast is not told


def _complete(tx: Transaction, records: list[Record]) -> None:
    for record in records:
        record["disposition"] = record["answer"]["disposition"]
        record["observed"] = live.outcome(tx, record)


COLLECTION = Collection("trace", "Trace", traces, own(traces), _complete)


@dataclass(frozen=True, slots=True)
class End:
    """Who is meant by an end of a flow; a port that is None is somewhere outside."""

    port: Mapping[str, Any] | None
    address: IpAddress | None


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Trace a flow and keep the answer.

    Raises:
        NotFound: An end is nothing that the caller knows.
        Conflict: A name is that of several ports, or a host has not said how it is cabled.
        Invalid: The flow contradicts itself.
    """
    is_live = values.pop("live")
    protocol = _protocol(values)
    source = _source(tx, caller, values["source"])
    claimed = _claimed(values, source)
    destination = _destination(tx, caller, values["destination"], claimed)
    flow = Flow(
        source=None if source.port is None else PortId(source.port["id"]),
        destination=destination,
        protocol=protocol,
        port=values["port"],
        source_address=claimed,
        size=values["size"],
    )
    receiver = _receivers(tx, destination)
    at_ends = [source.port, *receiver] if source.port is not None else receiver
    cloud = _cloud(tx, at_ends)
    found = trace(cloud, flow)
    if values.pop("advise"):
        found = replace(found, advice=advise(cloud, flow))
    found = replace(found, assumptions=(*found.assumptions, *_doubts(tx, cloud)))
    if not caller.is_admin:
        near = owners(cloud, flow.source, destination)  # equal addresses may be on other routers
        receiver = [port for port in receiver if port["id"] in near]
        found = _narrowed(found, caller, values, source, receiver)
    record = new_record(tx, {**values, "answer": trace_out(found), "live": None})
    if is_live:
        record["live"] = live.begin(tx, record["id"], cloud, flow, found)
    tx.connection.execute(insert(traces), record)
    _forget_old(tx, record["project_id"])
    _complete(tx, [record])
    return record


def _doubts(tx: Transaction, cloud: Cloud) -> list[str]:
    """Return why a kernel on the way may not do what was traced, which is from intent."""
    known = kernels(tx, [HostName(host.name) for host in cloud.hosts])
    doubts = [str(finding) for finding in kernel_findings(known) if finding.lasts]
    return doubts + [f"not known: {sentence}" for sentence in unread(known)]


def delete_(tx: Transaction, caller: Caller, trace_id: str) -> None:
    """Delete a trace."""
    fetch_own(tx, caller, COLLECTION, trace_id)
    tx.connection.execute(delete(traces).where(traces.c.id == trace_id))


def _forget_old(tx: Transaction, project_id: str) -> None:
    newest = (
        select(traces.c.id)
        .where(traces.c.project_id == project_id)
        .order_by(traces.c.created_at.desc(), traces.c.id)
        .offset(KEPT_PER_PROJECT)
    )
    old = tx.connection.execute(newest).scalars().all()
    if old:
        tx.connection.execute(delete(traces).where(traces.c.id.in_(old)))


def _protocol(values: Record) -> int:
    """Return the protocol's number, if it and the port go together."""
    name = values["protocol"]
    if name is None:
        raise Invalid("protocol must be one protocol; 'any' is not a flow.", "InvalidInput")
    number = PROTOCOLS.get(name) if not name.isdecimal() else int(name)
    if number is None:
        known = ", ".join(PROTOCOLS)
        raise Invalid(f"protocol {name}: give a number, or one of {known}.", "InvalidInput")
    if number in (TCP, UDP) and values["port"] is None:
        raise Invalid(f"port is needed with {name}.", "InvalidInput")
    if number in (ICMP, ICMPV6) and values["port"] is not None:
        raise Invalid("port: ICMP has none; leave it out.", "InvalidInput")
    return number


def _claimed(values: Record, source: End) -> IpAddress | None:
    """Return the source address that the flow is to have."""
    if values["source_address"] is None:
        return source.address
    claimed = _address(values["source_address"])
    if claimed is None:
        raise Invalid(f"source_address {values['source_address']} is no address.", "InvalidInput")
    return claimed


def _source(tx: Transaction, caller: Caller, text: str) -> End:
    """Return the sender: a port by id, name or address, or the Internet or an address there."""
    if text.lower() == INTERNET:
        return End(None, None)
    address = _address(text)
    if address is None:
        return End(_named(tx, caller, text), None)
    every = _receivers(tx, address)
    mine = [p for p in every if caller.is_admin or p["project_id"] == caller.project_id]
    if len(mine) > 1:
        text = (
            f"source {text}: {len(mine)} ports on different routers have this address; give an id."
        )
        raise Conflict(text, "Conflict")
    if mine:
        return End(mine[0], None if _is_floating(tx, address) else address)
    if address.is_private:
        raise NotFound(f"source {text}: no port that you may see has this address.", "PortNotFound")
    return End(None, address)


def _destination(tx: Transaction, caller: Caller, text: str, source: IpAddress | None) -> IpAddress:
    """Return the receiver's address: itself, or a port's first fixed IP, or somewhere outside.

    Raises:
        Invalid: It is of another version of IP than the source that was given.
    """
    found = _receiver(tx, caller, text, source)
    if source is not None and source.version != found.version:
        raise Invalid(
            f"source {source} is IPv{source.version} and destination {found} IPv{found.version};"
            " a packet has one version.",
            "InvalidInput",
        )
    return found


def _receiver(tx: Transaction, caller: Caller, text: str, source: IpAddress | None) -> IpAddress:
    if text.lower() == INTERNET:
        return ANYBODY
    address = _address(text)
    if address is not None:
        return address
    port = _named(tx, caller, text)
    found = select(fixed_ips.c.ip_address).where(fixed_ips.c.port_id == port["id"])
    addresses = map(ip_address, tx.connection.execute(found).scalars())
    like = 4 if source is None else source.version
    wanted = min(addresses, key=lambda a: (a.version != like, str(a)), default=None)
    if wanted is None:
        raise Conflict(f"destination {text}: the port has no address.", "Conflict")
    return wanted


def _address(text: str) -> IpAddress | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _named(tx: Transaction, caller: Caller, text: str) -> Mapping[str, Any]:
    """Return the bound instance port of an id or a name that the caller sees."""
    mine = PORTS.all_seen_by(caller).where(
        (ports.c.id == text) | (ports.c.name == text), instance_ports()
    )
    parameters = {"own_project": caller.project_id}
    found = tx.connection.execute(mine, parameters).mappings().all() if text else []
    if not found:
        raise NotFound(f"Port {text} could not be found.", "PortNotFound")
    if len(found) > 1:
        raise Conflict(f"{len(found)} ports are called {text}; give an id instead.", "Conflict")
    if not found[0]["host"]:
        raise Conflict(
            f"Port {text} is bound to no host (binding:host_id), so nothing can be traced.",
            "Conflict",
        )
    return dict(found[0])


def _receivers(tx: Transaction, address: IpAddress) -> list[Mapping[str, Any]]:
    """Return the bound instance ports that have an address, as a fixed or a floating IP.

    Or that have single ports of a floating IP.
    """
    text = str(address)
    fixed = (
        select(ports)
        .join(fixed_ips, fixed_ips.c.port_id == ports.c.id)
        .where(fixed_ips.c.ip_address == text, ports.c.host != "", instance_ports())
    )
    led_to = select(LED_TO.c.port_id).where(LED_TO.c.ip_address == text)
    floating = select(ports).where(ports.c.id.in_(led_to), ports.c.host != "")
    rows = [tx.connection.execute(one).mappings().all() for one in (fixed, floating)]
    return [dict(row) for many in rows for row in many]


def _is_floating(tx: Transaction, address: IpAddress) -> bool:
    found = select(floating_ips.c.id).where(floating_ips.c.ip_address == str(address))
    return tx.connection.execute(found).first() is not None


def _cloud(tx: Transaction, at_ends: Sequence[Mapping[str, Any]]) -> Cloud:
    """Return what the walk walks through: the hosts of the ports at its ends, and of their routers.

    And what is between them.
    """
    names = {HostName(port["host"]) for port in at_ends}
    names |= {host for port in at_ends for host in placed(tx, port["network_id"])}
    traced = tuple(_host(tx, name) for name in sorted(names))
    rows = tx.connection.execute(
        select(ports.c.id, ports.c.name, ports.c.status)
        .where(ports.c.host.in_(sorted(names)), instance_ports())
        .order_by(ports.c.created_at, ports.c.id)
    ).all()
    pruned, probed_at = probes.of_the_switch(tx)
    bystanders = {row.id for row in rows} - {port["id"] for port in at_ends}
    return Cloud(
        hosts=traced,
        internet=Internet(routers=_routers(tx)),
        names=_unique({row.id: row.name for row in rows}, names),
        unplugged=frozenset(PortId(row.id) for row in rows if row.status != PortStatus.ACTIVE),
        left_out=frozenset(bystanders if len(bystanders) > BYSTANDERS_MAX else ()),
        pruned=pruned,
        probed_at=probed_at,
    )


def _host(tx: Transaction, name: HostName) -> TracedHost:
    """Return a host as its agent last said it is cabled, with what it must be now.

    Raises:
        Conflict: Its agent has said nothing, or is too old to say it.
    """
    facts = tx.connection.scalar(select(hosts.c.facts).where(hosts.c.host == name))
    told = decode(name, facts or {})
    if told is None:
        raise Conflict(
            f"Host {name}: its agent has not reported how it is cabled; start it, or update it.",
            "Conflict",
        )
    snapshot = snapshots.read(tx, name)
    state, _ = compile_host(snapshot, told.config, told.facts)
    return TracedHost(snapshot, told.config, told.facts, state)


def _routers(tx: Transaction) -> tuple[IPv4Interface, ...]:
    """Return the routers of the external networks, as their subnets name them."""
    found = (
        select(subnets.c.gateway_ip, subnets.c.cidr)
        .join(networks, networks.c.id == subnets.c.network_id)
        .where(networks.c.external, subnets.c.gateway_ip.is_not(None), subnets.c.ip_version == 4)  # noqa: PLR2004 - the IP version
    )
    return tuple(
        IPv4Interface((gateway, IPv4Network(cidr).prefixlen))
        for gateway, cidr in tx.connection.execute(found).all()
    )


def _unique(names: Mapping[str, str], taken: Many[str]) -> dict[PortId, str]:
    """Return a name for each port that no other port, host or wire has."""
    times = Counter(name.lower() for name in (*names.values(), *taken, "switch", INTERNET))
    return {
        PortId(port_id): name
        if name and times[name.lower()] == 1
        else f"{name or 'port'} ({port_id[:13]})"
        for port_id, name in names.items()
    }


def _narrowed(
    found: Trace,
    caller: Caller,
    values: Record,
    source: End,
    receivers: list[Mapping[str, Any]],
) -> Trace:
    """Return what the caller's project may see of a trace."""
    mine = caller.project_id
    return narrow(
        found,
        mine,
        f"{values['source']} to {values['destination']}",
        own_sender=source.port is not None and source.port["project_id"] == mine,
        own_receiver=bool(receivers) and all(p["project_id"] == mine for p in receivers),
    )
