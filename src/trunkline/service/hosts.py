"""Hosts as their agents report them, and the revision at which each host's snapshot is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, exists, false, not_, or_, select, update

from trunkline.db.engine import Transaction, add_host, format_time
from trunkline.db.tables import hosts, port_bindings, ports
from trunkline.errors import Conflict
from trunkline.model import HostName, PortStatus
from trunkline.service import gateways, nova, probes
from trunkline.service.addresses import CHUNK
from trunkline.service.caller import Caller
from trunkline.service.collections import Collection, Record, fetch
from trunkline.service.provisioning import instance_ports, served

log = logging.getLogger("trunkline.server")

DOWN_AFTER_S = 75  # as in Neutron's agent_down_time
BEAT_AT_MOST_EVERY_S = 30  # a long poll is a sign of life, but not worth a write each time


_HEARTBEAT = select(hosts.c.heartbeat_at).where(hosts.c.host == bindparam("of_host"))


def _complete(tx: Transaction, records: list[Record]) -> None:
    """Turn hosts into agents as the Networking API has them."""
    probed_at, faults = probes.faults_by_host(tx)
    for record in records:
        record["alive"] = record["heartbeat_at"] > alive_since(tx)
        record["configurations"] = {
            "revision": record.pop("revision"),
            "applied_revision": record.pop("applied_revision"),
            "problems": record.pop("problems"),
            "facts": record.pop("facts"),
            "wire": {"probed_at": probed_at or None, "faults": faults.get(record["host"], [])},
        }


def _is_alive(values: Sequence[Any]) -> ColumnElement[bool]:
    alive = hosts.c.heartbeat_at > format_time(datetime.now(UTC) - timedelta(seconds=DOWN_AFTER_S))
    return or_(*(alive if value else not_(alive) for value in values))


COLLECTION = Collection(
    "agent",
    "Agent",
    hosts,
    false(),
    _complete,
    {"alive": _is_alive},
    exists=hosts.c.heartbeat_at.is_not(None),
)


def revision(tx: Transaction, host: HostName) -> int | None:
    """Return the revision of a host's snapshot; None for a host never heard of."""
    return tx.connection.scalar(select(hosts.c.revision).where(hosts.c.host == host))


def revisions(tx: Transaction) -> dict[HostName, int]:
    """Return the revision of every host's snapshot."""
    rows = tx.connection.execute(select(hosts.c.host, hosts.c.revision))
    return {HostName(host): number for host, number in rows}


def greet(tx: Transaction, host: HostName) -> None:
    """Note that a host's agent lives, and make the host known if it is not."""
    if revision(tx, host) is None:
        add_host(tx, host)
    last = tx.connection.scalar(_HEARTBEAT, {"of_host": host})
    tx.connection.execute(update(hosts).where(hosts.c.host == host).values(heartbeat_at=tx.now))
    if last is None:
        _enlist(tx, host)


def update_(tx: Transaction, caller: Caller, agent_id: str, values: Record) -> Record:
    """Describe an agent, or let its host take no more ports; those that are there stay."""
    record = fetch(tx, caller, COLLECTION, agent_id)
    if values:
        tx.connection.execute(update(hosts).where(hosts.c.id == agent_id).values(values))
    return {**record, **values}


def delete_(tx: Transaction, caller: Caller, agent_id: str) -> None:
    """Forget a host's agent: what is everywhere is there no more, until it reports again."""
    record = fetch(tx, caller, COLLECTION, agent_id)
    host = HostName(record["host"])
    before = served(tx, host)
    tx.connection.execute(update(hosts).where(hosts.c.host == host).values(heartbeat_at=None))
    gateways.settle(tx, host, before)


def _enlist(tx: Transaction, host: HostName) -> None:
    """Let a host serve the networks that are everywhere, from its agent's first word on.

    One whose subnet is exhausted is there without an address; the log says so, as there is
    nobody to refuse it to.
    """
    for network_id in sorted(served(tx, host)):
        try:
            gateways.ensure(tx, network_id, host)
        except Conflict as error:
            log.warning("host %s: %s", host, error)
    tx.moved.add(host)


def needs_greeting(tx: Transaction, host: HostName) -> bool:
    """Return whether the last sign of life is missing or getting old."""
    last = tx.connection.scalar(_HEARTBEAT, {"of_host": host})
    return last is None or last < _before(tx, BEAT_AT_MOST_EVERY_S)


def report(tx: Transaction, host: HostName, applied: int, details: Mapping[str, Any]) -> None:
    """Record what an agent saw.

    Args:
        tx: The transaction.
        host: The host that the agent works on.
        applied: The revision that the host is at now.
        details: ``ports`` (status by id; those bound elsewhere meanwhile are ignored), ``full``
            (ports that are bound here and not named are DOWN), ``problems`` and ``facts``.
    """
    greet(tx, host)
    tx.connection.execute(
        update(hosts)
        .where(hosts.c.host == host)
        .values(
            applied_revision=applied,
            problems=list(details["problems"]),
            facts=dict(details["facts"]),
        )
    )
    active = sorted(p for p, s in details["ports"].items() if s == PortStatus.ACTIVE)
    down = sorted(details["ports"].keys() - set(active))
    if details["full"]:
        here = select(ports.c.id).where(
            ports.c.host == host, ports.c.status == PortStatus.ACTIVE, instance_ports()
        )
        down = sorted(set(tx.connection.execute(here).scalars()) - set(active))
    _set_status(tx, host, active, PortStatus.ACTIVE)
    _set_status(tx, host, down, PortStatus.DOWN)


def _set_status(tx: Transaction, host: HostName, ids: Sequence[str], status: PortStatus) -> None:
    """Set the status of those ports that are bound to the host and have a status at all."""
    is_up = status is PortStatus.ACTIVE
    opposite = PortStatus.DOWN if is_up else PortStatus.ACTIVE
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        changed = tx.connection.execute(
            update(ports)
            .where(ports.c.id.in_(chunk), ports.c.host == host, ports.c.status == opposite)
            .values(status=status.value)
            .returning(ports.c.id)
        )
        nova.tell_of(tx, nova.PLUGGED if is_up else nova.UNPLUGGED, changed.scalars().all())
        if is_up:
            nova.tell_of(tx, nova.PLUGGED, _awaited(tx, host, chunk))


def _awaited(tx: Transaction, host: HostName, ids: Sequence[str]) -> Sequence[str]:
    """Return which ports' instances are about to come to the host: Nova waits for them there."""
    if not tx.limits.tells_nova:
        return ()
    here = port_bindings.c.host == host
    found = select(port_bindings.c.port_id).where(here, port_bindings.c.port_id.in_(ids))
    return tx.connection.execute(found).scalars().all()


def any_alive(tx: Transaction) -> bool:
    """Return whether any host's agent has been heard of lately."""
    alive = exists().where(hosts.c.heartbeat_at > alive_since(tx))
    return bool(tx.connection.scalar(select(alive)))


def alive_since(tx: Transaction) -> str:
    """Return the time since which a living agent has been heard of."""
    return _before(tx, DOWN_AFTER_S)


def _before(tx: Transaction, seconds: int) -> str:
    return format_time(datetime.fromisoformat(tx.now) - timedelta(seconds=seconds))
