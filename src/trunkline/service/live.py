"""Live traces: asks the hosts at a flow's ends to send and to watch, and compares layer by layer.

Layers in their order: what the cloud wants made into a host's state, what the kernel has of it,
what packets do. The first that deviates is where to look.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from trunkline.db.engine import Transaction
from trunkline.errors import Conflict, Invalid
from trunkline.model import HostName
from trunkline.ownership import tap_name
from trunkline.service import probes
from trunkline.trace.cloud import Cloud
from trunkline.trace.compare import Comparison, deviations
from trunkline.trace.data import trace_in
from trunkline.trace.live import (
    Labels,
    Seen,
    Shot,
    first_step,
    frame_of,
    held_against,
    seen_in,
    shot_out,
)
from trunkline.trace.packets import ICMP, ICMPV6, TCP, UDP
from trunkline.trace.steps import Disposition, Trace
from trunkline.trace.walk import Flow

SEND_S = 1.0
COMPARED = dict.fromkeys((ICMP, ICMPV6, TCP), ("request", "reply", "error"))
"""Of UDP the request only: whether a service answers is not the network's to know."""


def begin(tx: Transaction, trace_id: str, cloud: Cloud, flow: Flow, found: Trace) -> dict[str, Any]:
    """Ask the hosts' agents, and return what the comparison will need.

    Raises:
        Invalid: The flow is none that a port can send.
        Conflict: The port is down or sends nothing, or agents are busy with another probe.
    """
    if flow.source is None or flow.source_address is not None:
        raise Invalid("live: a probe is what a port itself would send.", "InvalidInput")
    if flow.protocol not in (ICMP, ICMPV6, TCP, UDP):
        raise Invalid("live: probes are icmp, tcp and udp.", "InvalidInput")
    if found.disposition is Disposition.UNKNOWN:
        raise Conflict(
            f"live: there is no prediction to compare with: {found.sentence}", "Conflict"
        )
    step = first_step(found)
    if found.disposition is Disposition.UNPLUGGED or step is None:
        raise Conflict(f"live: the port would send nothing: {found.sentence}", "Conflict")
    shot = Shot(secrets.token_bytes(16), flow.in_its_version().protocol, flow.port)
    orders = {
        host.name: {"kind": "trace", "shot": shot_out(shot), "tap": None, "frame": None}
        for host in cloud.hosts
    }
    home = cloud.seats[flow.source][0].name
    frame = frame_of(shot, step, flow.size)
    orders[home] |= {"tap": tap_name(flow.source), "frame": frame.hex()}
    probes.ask(tx, trace_id, {HostName(name): order for name, order in orders.items()}, SEND_S)
    return {
        "taps": {tap_name(port_id): cloud.name(port_id) for port_id in cloud.seats},
        "segments": {host.name: dict(host.segments) for host in cloud.hosts},
        "routers": {h.name: {space.space: space.name for space in h.spaces} for h in cloud.hosts},
        "home": home,
        "parts": list(COMPARED.get(shot.protocol, ("request", "error"))),
    }


def outcome(tx: Transaction, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a live trace showed so far; None of a trace that was not live.

    Its keys: ``status`` (RUNNING, DONE, or GONE: too old), ``silent_hosts``, ``changed`` (hosts
    whose snapshot moved meanwhile), ``problems``, ``layers`` (name and deviations, in order),
    ``deviation`` (the first one as a sentence, or null), ``comparison`` (step by step), ``drops``
    (what the kernels said of packets of the probe that they dropped, as sentences).
    """
    if record["live"] is None:
        return None
    status, reports = probes.reports(tx, record["id"])
    told = {host: report for host, report in reports.items() if report is not None}
    trace = trace_in(record["answer"])
    over = status == "DONE"
    compared = _compared(trace, record["live"], told) if over else ()
    layers = _layers(told, compared) if over else []
    found = next((f"{one['layer']}: {t}" for one in layers for t in one["deviations"]), None)
    return {
        "status": status,
        "silent_hosts": sorted(reports.keys() - told.keys()) if over else [],
        "changed": sorted(h for h, r in told.items() if _moved(r, trace.revisions.get(h))),
        "problems": [f"{host}: {t}" for host, report in told.items() for t in report["problems"]],
        "layers": layers,
        "deviation": found,
        "comparison": [one.text for one in compared],
        "drops": list(chain.from_iterable(_drops(record["live"], *one) for one in told.items())),
    }


def _moved(report: Mapping[str, Any], predicted: int | None) -> bool:
    """Return whether a host's snapshot is another than the trace's; the asking moves it by one."""
    before, after = report["revisions"]
    return bool(before != after or (predicted is not None and before != predicted + 1))


def _compared(
    trace: Trace, live: Mapping[str, Any], told: Mapping[str, Any]
) -> Sequence[Comparison]:
    """Return the comparison; none where it is not known that anything was sent."""
    home = told.get(live["home"])
    if home is None or home["problems"]:
        return ()
    seen = dict(chain.from_iterable(_by_node(live, *one) for one in told.items()))
    labels = Labels(live["taps"], live.get("segments", {}))
    return held_against(trace, seen, labels, live["parts"])


def _by_node(
    live: Mapping[str, Any], host: str, report: Mapping[str, Any]
) -> Iterator[tuple[str, list[Seen]]]:
    """Yield what was seen on a host, and in those of its routers that its agent looked into."""
    every = [seen_in(one) for one in report["seen"]]
    yield host, [one for one in every if not one.space]
    routers = live.get("routers", {}).get(host, {})
    for space in report.get("spaces", ()):
        if space in routers:
            yield routers[space], [one for one in every if one.space == space]


def _drops(live: Mapping[str, Any], host: str, report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a host's kernel said of packets of the probe that it dropped."""
    drops = report.get("drops", [])
    if isinstance(drops, str):
        yield f"{host}: {drops}"
        return
    routers = live.get("routers", {}).get(host, {})
    for reason, function, device, space in drops:
        node = routers.get(space, space) if space else host
        yield f"{node}: the kernel dropped a packet of it on {device}: {reason}, in {function}"


def _layers(told: Mapping[str, Any], compared: Sequence[Comparison]) -> list[dict[str, Any]]:
    drift = [f"{host}: {line}" for host, report in told.items() for line in report["drift"]]
    packets = [one.text for one in deviations(compared)]
    return [
        {"layer": "kernel against desired state", "deviations": drift},
        {"layer": "packets against prediction", "deviations": packets},
    ]
