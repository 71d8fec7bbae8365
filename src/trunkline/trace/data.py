"""Traces as JSON and back. The schema's version moves when a reader would have to know.

``SCHEMA`` 1: ``disposition``, ``sentence``, ``reasons`` (decisions), ``steps``, ``assumptions``,
``revisions`` (by host), ``advice`` (text, command, object, opens, unexamined).

A step has ``packet``, ``part``, ``node``, ``role``, ``path`` (device, direction, tag, owner),
``from``, ``to``, ``macs``, ``before``, ``after``, ``changes``, ``decisions``. A decision has
``stage``, ``device``, ``text``, ``kernel``, ``objects`` (kind, id, project_id, text) and
``passed_over`` (chain, rule, failed).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any

from trunkline.trace.cloud import ApiObject
from trunkline.trace.nft import PassedOver
from trunkline.trace.steps import (
    Advice,
    Decision,
    Disposition,
    Header,
    Sighting,
    Stage,
    Step,
    Trace,
)

SCHEMA = 1
PASSED_OVER_MAX = 20
"""How many of the rules that lost go into the JSON, the last ones: a group may have a thousand."""


def trace_out(trace: Trace) -> dict[str, Any]:
    """Return a trace as plain data."""
    return {
        "schema": SCHEMA,
        "disposition": trace.disposition.value,
        "sentence": trace.sentence,
        "reasons": [decision_out(d) for d in trace.reasons],
        "steps": [step_out(s) for s in trace.steps],
        "assumptions": list(trace.assumptions),
        "revisions": dict(trace.revisions),
        "advice": [asdict(one) for one in trace.advice],
    }


def trace_in(data: Mapping[str, Any]) -> Trace:
    """Return the trace that ``trace_out`` made this of.

    Raises:
        KeyError, ValueError, TypeError: It is no trace of this schema.
    """
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']} is not {SCHEMA}")
    return Trace(
        disposition=Disposition(data["disposition"]),
        sentence=data["sentence"],
        reasons=tuple(map(_decision_in, data["reasons"])),
        steps=tuple(map(step_in, data["steps"])),
        assumptions=tuple(data["assumptions"]),
        revisions=dict(data["revisions"]),
        advice=tuple(map(_advice_in, data["advice"])),
    )


def _advice_in(data: Mapping[str, Any]) -> Advice:
    values = {**data, "object": ApiObject(**data["object"]), "opens": tuple(data["opens"])}
    return Advice(**values)


def step_out(step: Step) -> dict[str, Any]:
    """Return a step as plain data."""
    return {
        "packet": step.packet,
        "part": step.part,
        "node": step.node,
        "role": step.node_role,
        "path": [asdict(sighting) for sighting in step.path],
        "from": step.sender,
        "to": step.receiver,
        "macs": [step.sender_mac, step.receiver_mac],
        "before": _header_out(step.before),
        "after": _header_out(step.after),
        "changes": list(step.changes),
        "decisions": [decision_out(d) for d in step.decisions],
    }


def outline(step: Step) -> dict[str, Any]:
    """Return what of a step is the same in every run: no MACs, taps by their owners."""
    return {
        "packet": step.packet,
        "node": step.node,
        "path": [{"device": s.label, "direction": s.direction, "tag": s.tag} for s in step.path],
        "from": step.sender,
        "to": step.receiver,
        "addresses": step.addresses,
        "changes": list(step.changes),
    }


def step_in(data: Mapping[str, Any]) -> Step:
    """Return the step that ``step_out`` made this of."""
    return Step(
        packet=data["packet"],
        part=data["part"],
        node=data["node"],
        node_role=data["role"],
        path=tuple(Sighting(**sighting) for sighting in data["path"]),
        sender=data["from"],
        sender_mac=data["macs"][0],
        receiver=data["to"],
        receiver_mac=data["macs"][1],
        before=_header_in(data["before"]),
        after=_header_in(data["after"]),
        decisions=tuple(map(_decision_in, data["decisions"])),
    )


def _header_out(header: Header | None) -> dict[str, Any] | None:
    if header is None:
        return None
    return {"source": str(header.source), "destination": str(header.destination), "ttl": header.ttl}


def _header_in(data: Mapping[str, Any] | None) -> Header | None:
    if data is None:
        return None
    source, destination = ip_address(data["source"]), ip_address(data["destination"])
    return Header(source, destination, data["ttl"])


def decision_out(decision: Decision) -> dict[str, Any]:
    """Return a decision as plain data."""
    return {
        "stage": decision.stage.value,
        "device": decision.device,
        "text": decision.text,
        "kernel": decision.kernel,
        "objects": [asdict(one) for one in decision.objects],
        "passed_over": [asdict(one) for one in decision.passed_over[-PASSED_OVER_MAX:]],
    }


def _decision_in(data: Mapping[str, Any]) -> Decision:
    return Decision(
        stage=Stage(data["stage"]),
        device=data["device"],
        text=data["text"],
        kernel=data["kernel"],
        objects=tuple(ApiObject(**one) for one in data["objects"]),
        passed_over=tuple(PassedOver(**one) for one in data["passed_over"]),
    )
