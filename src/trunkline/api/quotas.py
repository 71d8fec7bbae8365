"""``/v2.0/quotas``: what projects may have, and what they have of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api import convert
from trunkline.api.audit import actor
from trunkline.api.auth import Auth
from trunkline.api.body import read_json, unwrap
from trunkline.api.routes import Store, plain
from trunkline.db.engine import Transaction
from trunkline.errors import Forbidden, Invalid, NotFound
from trunkline.service import audit, quotas
from trunkline.service.caller import Caller

LIMIT_MAX = 2**31 - 1
LIMIT = convert.integer(quotas.UNLIMITED, LIMIT_MAX)
KINDS = {"default": "PolicyNotAuthorized", "details": "AdminRequired"}
"""Which error Neutron has for whoever looks at another project's, by view."""


class QuotaApi:
    """Reads and sets quotas; a project reads its own, an administrator everybody's."""

    def __init__(self, store: Store, auth: Auth) -> None:
        self._store = store
        self._auth = auth

    def routes(self) -> list[Route]:
        """Return the routes, which go before those of any collection."""
        one = "/v2.0/quotas/{project_id}"
        return [
            Route("/v2.0/quotas", self.list, methods=["GET"]),
            Route("/v2.0/quotas.json", self.list, methods=["GET"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(one + "/{view}", self.view, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer the quotas of projects that have some of their own."""
        caller = await self._caller(request, "get_quota")
        require_own(caller, None)
        return JSONResponse({"quotas": await self._store.read(quotas.of_all)})

    async def show(self, request: Request) -> Response:
        """Answer a project's quotas; or, as ``project`` or ``tenant``, who the caller is."""
        caller = await self._caller(request, "get_quota")
        project_id = _project_id(request)
        if project_id in ("project", "tenant"):
            return JSONResponse({project_id: {f"{project_id}_id": caller.project_id}})
        require_own(caller, project_id)
        found = await self._store.read(lambda tx: quotas.of_project(tx, project_id))
        return JSONResponse({"quota": found})

    async def view(self, request: Request) -> Response:
        """Answer a project's defaults, or its usage."""
        caller = await self._caller(request, "get_quota")
        project_id = _project_id(request)
        views: dict[str, Callable[[Transaction], Any]] = {
            "default": lambda tx: dict(tx.limits.quotas),
            "details": lambda tx: quotas.usage(tx, project_id),
        }
        wanted = plain(request.path_params["view"])
        if wanted not in views:
            raise NotFound(
                f"{request.scope['path']}: quotas have the views {', '.join(views)}.",
                "HTTPNotFound",
            )
        require_own(caller, project_id, KINDS[wanted])
        return JSONResponse({"quota": await self._store.read(views[wanted])})

    async def update(self, request: Request) -> Response:
        """Set some of a project's quotas."""
        who = actor(request, await self._caller(request, "update_quota"))
        project_id = _project_id(request)
        wanted, force = _accept(unwrap(await read_json(request), "quota"))

        def work(tx: Transaction) -> dict[str, int]:
            return changed(
                tx, who, project_id, lambda: quotas.change(tx, project_id, wanted, force=force)
            )

        return JSONResponse({"quota": await self._store.write(work)})

    async def delete(self, request: Request) -> Response:
        """Give a project the default quotas again."""
        who = actor(request, await self._caller(request, "delete_quota"))
        project_id = _project_id(request)

        def work(tx: Transaction) -> None:
            changed(tx, who, project_id, lambda: quotas.reset(tx, project_id))

        await self._store.write(work)
        return Response(status_code=204)

    async def _caller(self, request: Request, action: str) -> Caller:
        caller = await self._auth.caller(request)
        caller.require(action)
        return caller


def changed(
    tx: Transaction, who: audit.Actor, project_id: str, change: Callable[[], object]
) -> dict[str, int]:
    """Change a project's quotas, tell the audit, and return all of them."""
    before = quotas.of_project(tx, project_id)
    change()
    after = quotas.of_project(tx, project_id)
    audit.note(tx, who, "quota", _known(project_id, before), _known(project_id, after))
    return after


def require_own(caller: Caller, project_id: str | None, kind: str = "PolicyNotAuthorized") -> None:
    """Raise Forbidden unless a caller may see a project's quotas; None: everybody's."""
    if project_id != caller.project_id and not caller.is_admin:
        raise Forbidden(
            f"Only an administrator may see quotas of other projects than {caller.project_id}.",
            kind,
        )


def _project_id(request: Request) -> str:
    given = plain(request.path_params["project_id"])
    try:
        project_id: str = convert.project_id(given)
    except ValueError as error:
        raise Invalid(f"Invalid input for project_id. Reason: {error}.", "InvalidInput") from None
    return project_id


def _known(project_id: str, limits: dict[str, int]) -> dict[str, Any]:
    return {**limits, "id": project_id, "project_id": project_id}


def _accept(given: Any) -> tuple[dict[str, int], bool]:
    """Return the limits that a request sets, and whether even below what is used."""
    if not isinstance(given, dict):
        raise Invalid(f"quota must be an object, not {convert.quoted(given)}.", "BadRequest")
    wanted: dict[str, int] = {}
    force = False
    for name, value in given.items():
        try:
            if name == "force":
                force = convert.boolean(value)
            elif name in quotas.COUNTED:
                wanted[name] = LIMIT(value)
            elif name != "check_limit":  # what has become the rule is sent by older clients
                raise Invalid(
                    f"Unrecognized attribute(s) {convert.quoted(name)} in quota; known are"
                    f" {', '.join(quotas.COUNTED)}.",
                    "HTTPBadRequest",
                )
        except ValueError as error:
            raise Invalid(f"Invalid input for {name}. Reason: {error}.", "HTTPBadRequest") from None
    return wanted, force
