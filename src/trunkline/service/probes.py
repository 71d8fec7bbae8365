"""Probes of the switches: who takes part, how far each host is, what it all amounts to.

A probe has no process of its own: hosts wait for each other by their rows, times say until when,
and whoever reads it gets what is known by then.
"""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import and_, delete, func, insert, literal, select, union_all, update

from trunkline.db.engine import Transaction, format_time
from trunkline.db.tables import hosts, network_segments, networks, probe_hosts, probes
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.model import HostName
from trunkline.probe import COPIES, Lane, ProbeOrder, heard_in, order_out, sizes_up_to
from trunkline.report import decode
from trunkline.service.caller import Caller
from trunkline.service.collections import Collection, Record, fetch_own, new_record, own
from trunkline.service.provisioning import served
from trunkline.trace.wire import Carriage, Rank, Stray, WirePath, WireReport, judge, pruned

ASKED, READY, SENT, DONE = STAGES = ("asked", "ready", "sent", "done")
WIRE, TRACE = "wire", "trace"
READY_S = 8  # for an agent to hear of it, also by way of another server
TELL_S = 6
FRAMES_PER_S = 200  # that one host sends at most
FRAMES_PER_S_ALL = 1000  # that come out of each switch port at most
SEND_S_MAX = 120
PATHS_MAX = 20_000
IS_FLAT = and_(networks.c.network_type == "flat", networks.c.external.is_(False))
KEPT = {WIRE: 10, TRACE: 100}
_FIRST = select(
    networks.c.id,
    networks.c.physical_network,
    networks.c.segmentation_id,
    networks.c.mtu,
    literal(0).label("place"),
).where(networks.c.segmentation_id.is_not(None) | IS_FLAT)
_FURTHER = select(
    networks.c.id,
    network_segments.c.physical_network,
    network_segments.c.segmentation_id,
    networks.c.mtu,
    network_segments.c.place,
).join(network_segments, network_segments.c.network_id == networks.c.id)
_SEGMENTS = union_all(_FIRST, _FURTHER).order_by("place", "physical_network", "segmentation_id")


def _complete(tx: Transaction, records: list[Record]) -> None:
    for record in records:
        rows = _ranks(tx, record["id"])
        over = _is_over(tx, record, rows)
        report = _report(record, rows)
        record["hosts"] = [row["host"] for row in rows]
        record["status"] = "DONE" if over else "RUNNING"
        record["problems"] = [f"{row['host']}: {text}" for row in rows for text in _problems(row)]
        record.update(_result(report if over else WireReport((), (), ())))


def _problems(row: Mapping[str, Any]) -> Sequence[str]:
    return row["report"]["problems"] if row["report"] else ()


def _result(report: WireReport) -> dict[str, Any]:
    return {
        "paths": [{**asdict(path), "carriage": path.carriage.value} for path in report.paths],
        "strays": [asdict(stray) for stray in report.strays],
        "silent_hosts": list(report.silent),
        "faults": list(report.faults),
    }


COLLECTION = Collection(
    "probe", "Probe", probes, own(probes), _complete, exists=probes.c.kind == WIRE
)


def create(tx: Transaction, _caller: Caller, values: Record) -> Record:
    """Ask the hosts' agents for a probe.

    Args:
        tx: The transaction.
        _caller: Whom the policy has let in.
        values: ``hosts``: names, None is all whose agents live; ``vlan_ids``: None is all of the
            cloud's, and what its flat networks send without a tag.

    Raises:
        Invalid: A host or VLAN is unknown, or it is too much for one probe.
        Conflict: There are no two hosts, or no VLAN, or another probe is under way.
    """
    _require_none_under_way(tx)
    cabling = _cabling(tx, values.pop("hosts"))
    lanes = _lanes(tx, values.pop("vlan_ids"), cabling)
    rate = min(FRAMES_PER_S, FRAMES_PER_S_ALL / len(cabling))
    send_s = _duration_s(lanes, len(cabling), rate)
    times = _times(send_s)
    nonce = secrets.token_bytes(16)
    shown = [
        [lane.physical_network, lane.vlan_id, list(lane.sizes), lane.network] for lane in lanes
    ]
    known = {
        "kind": WIRE,
        "serial": _next_serial(tx),
        "nonce": nonce.hex(),
        "lanes": shown,
        **times,
    }
    record = new_record(tx, {**values, **known})
    tx.connection.execute(insert(probes), record)
    for number, (host, trunks) in enumerate(cabling.items()):
        here = served(tx, host)
        row = {
            "probe_id": record["id"],
            "host": host,
            "number": number,
            "trunks": dict(trunks),
            "serves": _own_lanes(lanes, here, trunks),
            "stage": ASKED,
        }
        tx.connection.execute(insert(probe_hosts), row)
        tx.moved.add(host)  # which is how its agent's long poll ends
    _forget_old(tx, WIRE)
    _complete(tx, [record])
    return record


def _next_serial(tx: Transaction) -> int:
    return int(tx.connection.scalar(select(func.max(probes.c.serial))) or 0) + 1


def ask(
    tx: Transaction, trace_id: str, orders: Mapping[HostName, Mapping[str, Any]], send_s: float
) -> None:
    """Ask hosts' agents to take part in a live trace, each by its order.

    Raises:
        Conflict: Another probe is under way.
    """
    _require_none_under_way(tx)
    values = {"id": trace_id, "project_id": "", "description": "", "revision_number": 0}
    times = {"created_at": tx.now, "updated_at": tx.now, **_times(send_s)}
    known = {"kind": TRACE, "serial": _next_serial(tx), "nonce": "", "lanes": []}
    tx.connection.execute(insert(probes), {**values, **times, **known})
    for number, (host, order) in enumerate(orders.items()):
        row = {"probe_id": trace_id, "host": host, "number": number, "order": dict(order)}
        more = {"trunks": {}, "serves": [], "stage": ASKED}
        tx.connection.execute(insert(probe_hosts), {**row, **more})
        tx.moved.add(host)
    _forget_old(tx, TRACE)


def reports(tx: Transaction, trace_id: str) -> tuple[str, dict[str, dict[str, Any] | None]]:
    """Return how far a live trace is, and each host's report; of a forgotten one, GONE."""
    row = tx.connection.execute(select(probes).where(probes.c.id == trace_id)).mappings().first()
    if row is None:
        return "GONE", {}
    rows = _ranks(tx, trace_id)
    status = "DONE" if _is_over(tx, dict(row), rows) else "RUNNING"
    return status, {one["host"]: one["report"] for one in rows}


def delete_(tx: Transaction, caller: Caller, probe_id: str) -> None:
    """Delete a probe; one that is under way ends."""
    fetch_own(tx, caller, COLLECTION, probe_id)
    tx.connection.execute(delete(probes).where(probes.c.id == probe_id))


def _require_none_under_way(tx: Transaction) -> None:
    """Raise unless all other probes are over: two at once would double the rate."""
    recent = select(probes).where(probes.c.over_at > tx.now)
    for record in map(dict, tx.connection.execute(recent).mappings()):
        if not _is_over(tx, record, _ranks(tx, record["id"])):
            raise Conflict(
                f"Probe {record['id']} is under way; wait for its end, or delete it.", "Conflict"
            )


def _cabling(tx: Transaction, wanted: Sequence[str] | None) -> dict[HostName, Mapping[str, str]]:
    """Return the trunks of the hosts that take part, NIC by physical network."""
    rows = tx.connection.execute(
        select(hosts.c.host, hosts.c.facts)
        .where(hosts.c.heartbeat_at.is_not(None))
        .order_by(hosts.c.host)
    ).all()
    known = {row.host: row.facts or {} for row in rows}
    for name in wanted or ():
        if name not in known:
            raise Invalid(f"hosts: no agent of a host {name} was ever heard of.", "InvalidInput")
    found = {}
    for name in known if wanted is None else sorted(set(wanted)):
        told = decode(name, known[name])
        if told is not None:
            found[HostName(name)] = told.config.trunks
    if len(found) < 2:  # noqa: PLR2004 - a wire has two ends
        raise Conflict(
            f"A probe needs two hosts whose agents have told how they are cabled; there are"
            f" {len(found)}.",
            "Conflict",
        )
    return found


def _lanes(
    tx: Transaction,
    vlan_ids: Sequence[int] | None,
    cabling: Mapping[HostName, Mapping[str, str]],
) -> tuple[Lane, ...]:
    """Return what to try: all segments of the networks that are wanted, their first ones first."""
    rows = tx.connection.execute(_SEGMENTS).all()
    there = {name for trunks in cabling.values() for name in trunks}
    known = {row.segmentation_id for row in rows}
    for vlan_id in vlan_ids or ():
        if vlan_id not in known:
            raise Invalid(f"vlan_ids: no network has VLAN {vlan_id}.", "InvalidInput")
    wanted = {row.id for row in rows if vlan_ids is None or row.segmentation_id in vlan_ids}
    chosen = [row for row in rows if row.physical_network in there and row.id in wanted]
    if not chosen:
        raise Conflict("No network has a segment on these hosts' trunks.", "Conflict")
    return tuple(
        Lane(row.physical_network, row.segmentation_id, sizes_up_to(row.mtu), row.id)
        for row in chosen
    )


def _own_lanes(
    lanes: Sequence[Lane], network_ids: Container[str], trunks: Mapping[str, str]
) -> list[int]:
    """Return the numbers of the segments that a host is on: one of each network it serves."""
    found: dict[str, int] = {}
    for number, lane in enumerate(lanes):
        if lane.network in network_ids and lane.physical_network in trunks:
            found.setdefault(lane.network, number)
    return sorted(found.values())


def _duration_s(lanes: Sequence[Lane], host_count: int, rate: float) -> float:
    """Return how long one host sends.

    Raises:
        Invalid: So long, or with so many answers, that it should be several probes.
    """
    seconds = COPIES * sum(len(lane.sizes) for lane in lanes) / rate
    paths = len(lanes) * host_count * (host_count - 1)
    if seconds > SEND_S_MAX or paths > PATHS_MAX:
        raise Invalid(
            f"{len(lanes)} VLANs between {host_count} hosts are {paths} paths and take"
            f" {seconds:.0f} s; a probe has at most {PATHS_MAX} and takes {SEND_S_MAX} s. Name"
            " fewer hosts or vlan_ids.",
            "InvalidInput",
        )
    return seconds


def _times(send_s: float) -> dict[str, str]:
    now = datetime.now(UTC)
    after = (READY_S, READY_S + send_s + 2, READY_S + send_s + 2 + TELL_S)
    keys = ("ready_by", "sent_by", "over_at")
    return {k: format_time(now + timedelta(seconds=s)) for k, s in zip(keys, after, strict=True)}


def _forget_old(tx: Transaction, kind: str) -> None:
    newest = select(probes.c.id).where(probes.c.kind == kind).order_by(probes.c.serial.desc())
    old = tx.connection.execute(newest.offset(KEPT[kind])).scalars().all()
    if old:
        tx.connection.execute(delete(probes).where(probes.c.id.in_(old)))


def _ranks(tx: Transaction, probe_id: str) -> list[Mapping[str, Any]]:
    rows = (
        select(probe_hosts).where(probe_hosts.c.probe_id == probe_id).order_by(probe_hosts.c.number)
    )
    return [dict(row) for row in tx.connection.execute(rows).mappings()]


def _lanes_in(data: Iterable[Sequence[Any]]) -> tuple[Lane, ...]:
    """Return the lanes of a stored probe; older ones do not tell whose each is."""
    return tuple(
        Lane(name, vlan_id, tuple(sizes), *network) for name, vlan_id, sizes, *network in data
    )


def _report(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> WireReport:
    lanes = _lanes_in(record["lanes"])
    return judge(lanes, tuple(_rank(row) for row in rows))


def _rank(row: Mapping[str, Any]) -> Rank:
    report = row["report"]
    heard = None if report is None else tuple(map(heard_in, report["heard"]))
    return Rank(row["host"], row["trunks"], frozenset(row["serves"]), heard)


def orders(tx: Transaction, host: HostName) -> dict[str, dict[str, Any]]:
    """Return the parts that a host is asked to take and has not begun, by the probe's id."""
    rows = tx.connection.execute(
        select(probes, probe_hosts.c.number, probe_hosts.c.order)
        .join(probe_hosts, probe_hosts.c.probe_id == probes.c.id)
        .where(
            probe_hosts.c.host == host,
            probe_hosts.c.stage == ASKED,
            probes.c.ready_by > tx.now,
        )
    ).all()
    return {row.id: row.order or order_out(_order(tx, row)) for row in rows}


def _order(tx: Transaction, row: Any) -> ProbeOrder:
    count = len(_ranks(tx, row.id))
    lanes = _lanes_in(row.lanes)
    rate = min(FRAMES_PER_S, FRAMES_PER_S_ALL / count)
    return ProbeOrder(bytes.fromhex(row.nonce), row.number, lanes, rate)


def advance(
    tx: Transaction, host: HostName, probe_id: str, stage: str, report: Mapping[str, Any] | None
) -> list[HostName]:
    """Note how far a host has come, with its report at the end; return all that take part.

    Raises:
        NotFound: There is no such probe with this host in it.
        Conflict: It is over.
    """
    record = _found(tx, probe_id, host)
    if tx.now >= record["ready_by" if stage == READY else "over_at"]:
        raise Conflict(f"Probe {probe_id} is over; host {host} came too late.", "Conflict")
    here = (probe_hosts.c.probe_id == probe_id, probe_hosts.c.host == host)
    tx.connection.execute(update(probe_hosts).where(*here).values(stage=stage, report=report))
    return [HostName(row["host"]) for row in _ranks(tx, probe_id)]


def may_go_on(tx: Transaction, host: HostName, probe_id: str, stage: str) -> bool:
    """Return whether all hosts have come as far as a host that is at a stage, or time is up.

    Raises:
        NotFound: The probe was deleted.
    """
    record = _found(tx, probe_id, host)
    until = record["ready_by"] if stage == READY else record["sent_by"]
    others = _ranks(tx, probe_id)
    if stage == SENT:  # who was never ready does not send
        others = [row for row in others if row["stage"] != ASKED]
    slowest = min(STAGES.index(row["stage"]) for row in others)
    return slowest >= STAGES.index(stage) or bool(tx.now >= until)


def _found(tx: Transaction, probe_id: str, host: HostName) -> Mapping[str, Any]:
    row = (
        tx.connection.execute(
            select(probes)
            .join(probe_hosts, probe_hosts.c.probe_id == probes.c.id)
            .where(probes.c.id == probe_id, probe_hosts.c.host == host)
        )
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"Probe {probe_id} with host {host} could not be found.", "ProbeNotFound")
    return dict(row)


def _known(tx: Transaction) -> tuple[str, tuple[WirePath, ...], tuple[Stray, ...]]:
    """Return the time of the last probe that is over, what is known of each path, and its strays.

    A probe may have asked for some hosts and VLANs only; of the others an older one tells.
    """
    at: str = ""
    strays: tuple[Stray, ...] = ()
    paths: dict[tuple[str, int | None, str, str], WirePath] = {}
    of_wires = select(probes).where(probes.c.kind == WIRE)
    newest_first = of_wires.order_by(probes.c.serial.desc())
    for record in map(dict, tx.connection.execute(newest_first).mappings()):
        rows = _ranks(tx, record["id"])
        if not _is_over(tx, record, rows):
            continue
        report = _report(record, rows)
        if not at:
            at, strays = record["created_at"], report.strays
        for path in report.paths:
            if path.carriage is not Carriage.UNKNOWN:
                key = path.physical_network, path.vlan_id, path.source, path.destination
                paths.setdefault(key, path)
    return at, tuple(paths.values()), strays


def _is_over(tx: Transaction, record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether nobody is waited for any more; who never came is not waited for long."""
    waited_for = {row["stage"] for row in rows if row["stage"] != ASKED}
    too_late = tx.now >= record["ready_by"]
    others_done = waited_for <= {DONE} and (too_late or all(r["stage"] != ASKED for r in rows))
    return others_done or bool(tx.now >= record["over_at"])


def faults_by_host(tx: Transaction) -> tuple[str, dict[str, list[str]]]:
    """Return when the last probe was, empty if never, and what is wrong, by the hosts concerned."""
    at, paths, strays = _known(tx)
    bad = [p for p in paths if p.needed and p.carriage is not Carriage.CARRIED]
    found: dict[str, list[str]] = {}
    wrong: list[WirePath | Stray] = [*bad, *strays]
    for one in wrong:
        for host in sorted({one.source, one.destination}):
            found.setdefault(host, []).append(one.text)
    return at, found


def of_the_switch(tx: Transaction) -> tuple[dict[str, frozenset[int | None]], str]:
    """Return the tags that switch ports are known not to carry, and the time of the last probe.

    The time is empty if there was none.
    """
    at, paths, _ = _known(tx)
    return pruned(paths), at
