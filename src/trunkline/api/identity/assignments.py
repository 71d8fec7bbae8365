"""``/v3/role_assignments`` and ``/v3/projects/ID/users/ID/roles``: who has which role where."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api.address import root
from trunkline.api.audit import actor
from trunkline.api.auth import Auth
from trunkline.api.convert import quoted
from trunkline.api.identity import bodies
from trunkline.api.routes import Store
from trunkline.db.engine import Transaction
from trunkline.errors import Invalid
from trunkline.service import audit
from trunkline.service.identity import assignments

FILTERS = {"user.id": "user_id", "scope.project.id": "project_id", "role.id": "role_id"}
NOBODYS = {"group.id", "scope.domain.id", "scope.system"}
"""Filters by what this identity does not have: nothing matches."""
WAYS = {"effective", "include_names", "include_subtree"}


class AssignmentsApi:
    """Roles given and taken."""

    def __init__(self, store: Store, auth: Auth) -> None:
        self._store = store
        self._auth = auth

    def routes(self) -> list[Route]:
        """Return the routes."""
        roles = "/v3/projects/{project_id}/users/{user_id}/roles"
        return [
            Route("/v3/role_assignments", self.list, methods=["GET"]),
            Route(roles, self.roles, methods=["GET"]),
            Route(f"{roles}/{{role_id}}", self.check, methods=["GET"]),
            Route(f"{roles}/{{role_id}}", self.grant, methods=["PUT"]),
            Route(f"{roles}/{{role_id}}", self.revoke, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer the assignments that the query wants."""
        caller = await self._auth.caller(request)
        caller.require("get_role_assignment")
        params = request.query_params
        for key in sorted(params.keys() - FILTERS.keys() - NOBODYS - WAYS):
            raise Invalid(f"{quoted(key)} cannot be filtered by.")
        filters = {FILTERS[key]: params[key] for key in params.keys() & FILTERS.keys()}
        found = await self._store.read(lambda tx: assignments.assigned(tx, filters))
        rows = [] if params.keys() & NOBODYS else found
        names = params.get("include_names", "false").lower() not in ("false", "0")
        views = [bodies.assignment(row, root(request), names=names) for row in rows]
        where = f"{root(request)}/identity/v3/role_assignments"
        return JSONResponse(bodies.collection("role_assignments", views, where))

    async def roles(self, request: Request) -> Response:
        """Answer the roles of a user in a project."""
        caller = await self._auth.caller(request)
        caller.require("get_role_assignment")
        ids = request.path_params
        found = await self._store.read(
            lambda tx: assignments.roles_of(tx, ids["user_id"], ids["project_id"])
        )
        body = bodies.collection(
            "roles", bodies.roles(found), f"{root(request)}{request.scope['path']}"
        )
        return JSONResponse(body)

    async def check(self, request: Request) -> Response:
        """Answer whether a user has a role in a project."""
        caller = await self._auth.caller(request)
        caller.require("get_role_assignment")
        wanted = dict(request.path_params)
        await self._store.read(lambda tx: assignments.require(tx, wanted))
        return Response(status_code=204)

    async def grant(self, request: Request) -> Response:
        """Give a user a role in a project."""
        caller = await self._auth.caller(request)
        caller.require("create_role_assignment")
        wanted, who = dict(request.path_params), actor(request, caller)

        def work(tx: Transaction) -> None:
            if assignments.grant(tx, caller, wanted):
                audit.note(tx, who, "role_assignment", None, _told(wanted))

        await self._store.write(work)
        self._auth.forget()
        return Response(status_code=204)

    async def revoke(self, request: Request) -> Response:
        """Take a role in a project from a user."""
        caller = await self._auth.caller(request)
        caller.require("delete_role_assignment")
        wanted, who = dict(request.path_params), actor(request, caller)

        def work(tx: Transaction) -> None:
            assignments.revoke(tx, wanted)
            audit.note(tx, who, "role_assignment", _told(wanted), None)

        await self._store.write(work)
        self._auth.forget()
        return Response(status_code=204)


def _told(assignment: dict[str, str]) -> dict[str, str]:
    """Return an assignment as the audit has it: an object that belongs to a user."""
    return {"id": assignment["user_id"], **assignment}
