"""The agents' side: long-polled snapshots, in sections, reports, and parts in probes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api.auth import Auth
from trunkline.api.body import read_json
from trunkline.api.convert import host as host_name
from trunkline.api.convert import one_of, quoted, uuid
from trunkline.api.routes import Store
from trunkline.api.wakeups import Wakeups
from trunkline.db.engine import Transaction
from trunkline.errors import Invalid
from trunkline.model import HostName, PortStatus
from trunkline.probe import heard_in, heard_out
from trunkline.service import hosts, probes, snapshots
from trunkline.snapshot import digest, encode
from trunkline.trace.live import seen_in, seen_out

WAIT_MAX_S = 60
MEETING_LOOK_S = 0.5
SENTENCE_MAX = 1000
DROP = ("reason", "function", "device", "space")
REPORT_KEYS = {"heard", "problems", "seen", "spaces", "drops", "drift", "revisions"}

status_name = one_of(*PortStatus)


class AgentApi:
    """What ``/agent/v1/hosts/HOST`` does."""

    def __init__(self, store: Store, auth: Auth, wakeups: Wakeups) -> None:
        self._store = store
        self._auth = auth
        self._wakeups = wakeups

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/agent/v1/hosts/{host}/snapshot", self.snapshot, methods=["POST"]),
            Route("/agent/v1/hosts/{host}/report", self.report, methods=["POST"]),
            Route("/agent/v1/hosts/{host}/probes/{probe}", self.probe, methods=["POST"]),
            Route("/agent/v1/hosts/{host}/wire", self.wire, methods=["GET"]),
        ]

    async def snapshot(self, request: Request) -> Response:
        """Answer a snapshot's changed sections as soon as there is one of another revision.

        304 when there is none within the time that the agent is willing to wait.
        """
        host = await self._accept(request, "get_host_snapshot")
        body = _Poll(await read_json(request))
        text = await self._news(host, body)
        if text is None:
            return Response(status_code=304)
        return Response(text, media_type="application/json")

    async def report(self, request: Request) -> Response:
        """Record what an agent saw."""
        host = await self._accept(request, "report_host")
        details = _checked_report(await read_json(request))
        await self._store.write(lambda tx: hosts.report(tx, host, details["revision"], details))
        return Response(status_code=204)

    async def probe(self, request: Request) -> Response:
        """Note how far a host is in a probe; answer when the others are as far, or time is up."""
        host = await self._accept(request, "probe_host")
        probe_id = request.path_params["probe"]
        stage, report = _checked_stage(await read_json(request))
        others = await self._store.write(
            lambda tx: probes.advance(tx, host, probe_id, stage, report)
        )
        self._wakeups.moved(others)
        if stage != probes.DONE:
            await self._met(host, probe_id, stage)
        return Response(status_code=204)

    async def wire(self, request: Request) -> Response:
        """Answer what the last probe found wrong that concerns a host."""
        host = await self._accept(request, "probe_host")
        at, faults = await self._store.read(probes.faults_by_host)
        return JSONResponse({"probed_at": at or None, "faults": faults.get(host, [])})

    async def _met(self, host: HostName, probe_id: str, stage: str) -> None:
        while not self._wakeups.closed:
            event = self._wakeups.watch(host)
            if await self._store.read(lambda tx: probes.may_go_on(tx, host, probe_id, stage)):
                return
            with suppress(TimeoutError):  # a host that is at another server wakes nobody here
                await asyncio.wait_for(event.wait(), MEETING_LOOK_S)

    async def _accept(self, request: Request, action: str) -> HostName:
        caller = await self._auth.caller(request)
        caller.require(action)
        try:
            host = host_name(request.path_params["host"])
        except ValueError as error:
            raise Invalid(f"Invalid input for host. Reason: {error}.", "InvalidInput") from None
        return HostName(host)

    async def _news(self, host: HostName, poll: _Poll) -> str | None:
        """Return what the agent has not; None if there is nothing new in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + poll.wait_s
        while True:
            event = self._wakeups.watch(host)
            is_awaited, text = await self._store.read_for_agents(lambda tx: _look(tx, host, poll))
            if not is_awaited:
                await self._store.write(lambda tx: hosts.greet(tx, host))
                continue
            left_s = end - loop.time()
            if text is not None or left_s <= 0 or self._wakeups.closed:
                return text
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), left_s)


def _checked_stage(body: Any) -> tuple[str, dict[str, Any] | None]:
    """Return how far a host says it is in a probe, and its report if that is the end."""
    values = _object(body, {"stage", "report"})
    stage = values.get("stage")
    if stage not in probes.STAGES[1:]:
        raise Invalid(
            f"Invalid input for stage. Reason: {quoted(stage)} is none of"
            f" {', '.join(probes.STAGES[1:])}.",
            "InvalidInput",
        )
    if stage != probes.DONE:
        return stage, None
    report = _object(values.get("report"), REPORT_KEYS)
    try:
        return stage, _live_report(report) if "seen" in report else _wire_report(report)
    except (TypeError, ValueError) as error:
        raise Invalid(f"Invalid input for report. Reason: {error}.", "InvalidInput") from None


def _wire_report(report: Mapping[str, Any]) -> dict[str, Any]:
    heard = [heard_out(heard_in(one)) for one in _field(report, "heard", list, [])]
    return {"heard": heard, "problems": _sentences(report, "problems")}


def _live_report(report: Mapping[str, Any]) -> dict[str, Any]:
    before, after = _field(report, "revisions", list, [])
    return {
        "seen": [seen_out(seen_in(one)) for one in _field(report, "seen", list, [])],
        "spaces": _sentences(report, "spaces"),
        "drops": _drops(report.get("drops", [])),
        "drift": _sentences(report, "drift"),
        "revisions": [int(before), int(after)],
        "problems": _sentences(report, "problems"),
    }


def _drops(told: Any) -> str | list[list[str]]:
    """Return why packets were dropped: reason, function, device, space; or why nobody knows."""
    if isinstance(told, str):
        return told[:SENTENCE_MAX]
    if not isinstance(told, list) or any(len(one) != len(DROP) for one in told):
        raise ValueError(f"drops is no list of {', '.join(DROP)}")
    return [[str(word)[:SENTENCE_MAX] for word in one] for one in told]


def _sentences(report: Mapping[str, Any], key: str) -> list[str]:
    return [str(one)[:SENTENCE_MAX] for one in _field(report, key, list, [])]


class _Poll:
    """A snapshot request's body, checked."""

    def __init__(self, body: Any) -> None:
        values = _object(body, {"revision", "wait", "have"})
        self.revision = _field(values, "revision", int, None)
        self.wait_s = min(float(_field(values, "wait", (int, float), 0) or 0), WAIT_MAX_S)
        self.have: Mapping[str, Any] = _field(values, "have", dict, {}) or {}


def _look(tx: Transaction, host: HostName, poll: _Poll) -> tuple[bool, str | None]:
    """Return whether the host has been heard of lately, and, if so, what its agent has not.

    That is nothing at the revision that it has. Another one counts, not only a higher one: a
    database that came from a backup starts lower.
    """
    if hosts.needs_greeting(tx, host):
        return False, None
    if poll.revision is not None and hosts.revision(tx, host) == poll.revision:
        return True, None
    return True, changed_sections(tx, host, poll.have)


def changed_sections(tx: Transaction, host: HostName, have: Mapping[str, Any]) -> str:
    """Return the body of a snapshot: what the agent has not, and the digests of all."""
    snapshot = snapshots.read(tx, host)
    sections = encode(snapshot)
    digests = {name: digest(text) for name, text in sections.items()}
    changed = ",".join(
        f"{json.dumps(name)}:{text}"
        for name, text in sections.items()
        if have.get(name) != digests[name]
    )
    head = f'"revision":{snapshot.revision},"digests":{json.dumps(digests)}'
    orders = probes.orders(tx, host)
    if orders:
        head += f',"orders":{json.dumps(orders)}'
    return f'{{{head},"sections":{{{changed}}}}}'


def _checked_report(body: Any) -> dict[str, Any]:
    values = _object(body, {"revision", "full", "ports", "problems", "facts"})
    ports = _field(values, "ports", dict, {})
    _check_statuses(ports)
    problems = _field(values, "problems", list, [])
    _check_problems(problems)
    return {
        "revision": _field(values, "revision", int, 0),
        "full": _field(values, "full", bool, default=False),
        "ports": ports,
        "problems": problems,
        "facts": _field(values, "facts", dict, {}),
    }


def _check_statuses(ports: Mapping[str, Any]) -> None:
    try:
        for port_id, status in ports.items():
            uuid(port_id)
            status_name(status)
    except ValueError as error:
        raise Invalid(f"Invalid input for ports. Reason: {error}.", "InvalidInput") from None


def _check_problems(problems: Sequence[Any]) -> None:
    for problem in problems:
        texts = _object(problem, {"subject", "text"})
        if not all(isinstance(texts.get(key), str) for key in ("subject", "text")):
            raise Invalid("problems: each needs subject and text, as strings.", "InvalidInput")


def _object(body: Any, known: set[str]) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Invalid(f"The body must be an object, not {quoted(body)}.", "HTTPBadRequest")
    for key in sorted(body.keys() - known):
        raise Invalid(f"The body has the unknown key {quoted(key)}.", "HTTPBadRequest")
    return body


def _field(values: Mapping[str, Any], key: str, kind: Any, default: Any) -> Any:
    """Return a field of a kind; null is the default."""
    value = values.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Invalid(
            f"Invalid input for {key}. Reason: {quoted(value)} is of the wrong type.",
            "InvalidInput",
        )
    if isinstance(value, int) and not 0 <= value < 2**63:
        raise Invalid(
            f"Invalid input for {key}. Reason: {quoted(value)} is out of bounds.", "InvalidInput"
        )
    return value
