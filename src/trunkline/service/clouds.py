"""The whole cloud, every host of it, for questions about all flows at once."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from trunkline.core.links import choose_served
from trunkline.core.nat import routing_source
from trunkline.db.engine import Transaction
from trunkline.db.tables import hosts
from trunkline.model import HostName
from trunkline.report import HostReport, decode, decode_reading
from trunkline.service import snapshots
from trunkline.service.hosts import alive_since
from trunkline.snapshot import HostSnapshot, digest
from trunkline.trace.verify_cloud import HostSettings
from trunkline.trace.verify_data import Told
from trunkline.trace.verify_kernel import KernelTold


def names(tx: Transaction) -> list[HostName]:
    """Return all hosts."""
    return [HostName(name) for name in tx.connection.execute(select(hosts.c.host)).scalars()]


def marks(tx: Transaction) -> dict[HostName, str]:
    """Return what tells one state of a host's part of the cloud from another."""
    rows = tx.connection.execute(select(hosts.c.host, hosts.c.revision, hosts.c.facts)).all()
    return {
        HostName(row.host): digest(f"{row.revision} {decode(row.host, row.facts or {})}")
        for row in rows
    }


def read(tx: Transaction, wanted: Iterable[HostName]) -> list[Told]:
    """Return hosts' snapshots, and what their agents last said of how they are cabled."""
    rows = tx.connection.execute(select(hosts.c.host, hosts.c.facts)).all()
    facts = {row.host: row.facts or {} for row in rows}
    found = []
    for host in sorted(wanted):
        snapshot = snapshots.read(tx, host)
        found.append((snapshot, _settings(snapshot, decode(host, facts.get(host, {})))))
    return found


def kernels(tx: Transaction, wanted: Iterable[HostName]) -> list[KernelTold]:
    """Return what hosts' agents last said of their kernels, by host."""
    rows = tx.connection.execute(
        select(hosts).where(hosts.c.host.in_(sorted(wanted))).order_by(hosts.c.host)
    )
    since = alive_since(tx)
    return [
        KernelTold(
            row.host,
            (row.heartbeat_at or "") > since,
            row.revision,
            row.applied_revision,
            tuple(f"{problem['subject']}: {problem['text']}" for problem in row.problems),
            decode_reading(row.facts or {}),
        )
        for row in rows
    ]


def _settings(snapshot: HostSnapshot, report: HostReport | None) -> HostSettings:
    if report is None:
        return HostSettings(told=False)
    served, _ = choose_served(snapshot, report.config, report.facts)
    present = {one.network.id for one in served}
    dual = {one.network.id for one in served if one.has_ipv6}
    uplink = report.config.uplink in report.facts.links
    return HostSettings(
        uplink=uplink,
        source=routing_source(report.config, report.facts) if uplink else None,
        sources=tuple(report.config.routing_sources.items()) if uplink else (),
        exempt=report.config.snat_exempt,
        guard=report.config.guard_absent_prefixes,
        acting=report.facts.acting,
        unserved=frozenset(n.id for n in snapshot.networks if n.id not in present),
        ipv4_only=frozenset(present - dual),
    )
