"""The whole cloud as data, as it is and as planned requests would make it.

``POST /v2.0/cloud`` with ``{"planned": [{"method": "POST", "path": "/v2.0/ports", "body": {…}}]}``.
With ``{"known": {"compute1": "0c5b…"}}``, the ``marks`` of an earlier answer, only hosts that
are not as they were then are told. Planned requests are carried out like any other, read, and
undone; nobody else ever sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api.auth import Auth
from trunkline.api.body import read_json, unwrap
from trunkline.api.resources import RESOURCES, Resource
from trunkline.api.routes import Store, plain
from trunkline.db.engine import Transaction
from trunkline.errors import Conflict, Invalid
from trunkline.model import HostName
from trunkline.service import clouds
from trunkline.service.caller import Caller
from trunkline.service.hosts import revisions
from trunkline.trace.verify_data import Told, cloud_out
from trunkline.trace.verify_kernel import KernelTold, kernels_out

VERBS = {"POST": "create", "PUT": "update", "DELETE": "delete"}
PLANNED_MAX = 1000  # they hold up other writers while they are tried

Work = Callable[[Transaction], object]


class _Undone(Exception):
    """Carries what was read, and lets the transaction be rolled back."""

    def __init__(self, told: list[Told]) -> None:
        super().__init__()
        self.told = told


class VerifyApi:
    """What ``/v2.0/cloud`` does."""

    def __init__(self, store: Store, auth: Auth) -> None:
        self._store = store
        self._auth = auth

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/v2.0/cloud", self.cloud, methods=["POST"])]

    async def cloud(self, request: Request) -> Response:
        """Answer every host's snapshot, cabling and kernel, and what planned requests change."""
        caller = await self._auth.caller(request)
        caller.require("get_cloud")
        body = _body(await read_json(request))
        works, known = _works(body.get("planned", []), caller), _known(body.get("known", {}))
        now, marks, told, kernels = await self._store.read(lambda tx: _read(tx, known))
        answer: dict[str, Any] = {
            "cloud": cloud_out(told),
            "kernels": kernels_out(kernels),
            "marks": marks,
        }
        if works:
            answer["planned"] = cloud_out(await self._try(works, now))
        return JSONResponse(answer)

    async def _try(self, works: list[Work], now: Mapping[Any, int]) -> list[Told]:
        """Return the hosts that planned requests change, as they would be.

        Raises:
            Conflict: The cloud is another one by now.
        """

        def work(tx: Transaction) -> None:
            if revisions(tx) != now:
                raise Conflict(
                    "The cloud changed while it was read; send the plan again.", "RetryRequest"
                )
            for planned in works:
                planned(tx)
            raise _Undone(clouds.read(tx, clouds.names(tx) if tx.all_moved else tx.moved))

        try:
            await self._store.write(work)
        except _Undone as undone:
            return undone.told
        raise AssertionError("a plan is never carried out")


Read = tuple[dict[HostName, int], dict[HostName, str], list[Told], list[KernelTold]]
"""All hosts' revisions and marks; the hosts that are not as known, and their kernels."""


def _read(tx: Transaction, known: Mapping[str, str]) -> Read:
    marks = clouds.marks(tx)
    names = [host for host, mark in marks.items() if known.get(host) != mark]
    return revisions(tx), marks, clouds.read(tx, names), clouds.kernels(tx, names)


def _body(body: Any) -> Mapping[str, Any]:
    if not isinstance(body, dict) or not body.keys() <= {"planned", "known"}:
        raise Invalid(
            "The body must be an object with at most the fields 'planned' and 'known'.",
            "HTTPBadRequest",
        )
    return body


def _known(known: Any) -> Mapping[str, str]:
    if not isinstance(known, dict) or not all(isinstance(mark, str) for mark in known.values()):
        raise Invalid("known must be the marks of an earlier answer, by host.", "InvalidInput")
    return known


def _works(planned: Any, caller: Caller) -> list[Work]:
    if not isinstance(planned, list) or len(planned) > PLANNED_MAX:
        raise Invalid(f"planned must be a list of at most {PLANNED_MAX} requests.", "InvalidInput")
    return [_work(item, number, caller) for number, item in enumerate(planned, 1)]


def _work(item: Any, number: int, caller: Caller) -> Work:
    """Return one planned request as work within a transaction, validated as the API does."""
    label = f"planned request {number}"
    if not isinstance(item, dict) or not item.keys() <= {"method", "path", "body"}:
        raise Invalid(f"{label} must have method, path, and maybe body.", "InvalidInput")
    verb, path = VERBS.get(str(item.get("method")).upper()), str(item.get("path"))
    parts = [part for part in path.removeprefix("/v2.0").split("/") if part]
    resource = RESOURCES.get(plain(parts[0])) if parts else None
    if verb is None or resource is None or len(parts) != (1 if verb == "create" else 2):
        raise Invalid(
            f"{label}: {item.get('method')} {path} cannot be planned; give POST to a collection"
            " of /v2.0, or PUT or DELETE to one object of it.",
            "InvalidInput",
        )
    caller.require(f"{verb}_{resource.table.singular}")
    return _carry_out(resource, verb, parts[1:], item.get("body"), caller)


def _carry_out(
    resource: Resource, verb: str, object_id: list[str], body: Any, caller: Caller
) -> Work:
    act = getattr(resource, verb)
    if act is None:
        raise Invalid(f"{resource.plural} cannot be planned to {verb}.", "InvalidInput")
    if verb == "delete":
        return lambda tx: act(tx, caller, *object_id)
    given = unwrap(body, resource.table.singular)
    values = resource.table.accept(given, caller, update=verb == "update")
    return lambda tx: act(tx, caller, *object_id, dict(values))
