"""``/v3/{domains,projects,users,roles}``: the same methods for all of them, by their tables."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api.address import root
from trunkline.api.audit import Audited
from trunkline.api.auth import Auth
from trunkline.api.body import read_json, unwrap
from trunkline.api.convert import text
from trunkline.api.identity import bodies
from trunkline.api.identity.hashing import Hashing
from trunkline.api.identity.resources import RESOURCES
from trunkline.api.query import parse
from trunkline.api.resources import Resource
from trunkline.api.routes import Store
from trunkline.db.engine import Transaction
from trunkline.errors import Invalid, NotFound
from trunkline.service.caller import Caller
from trunkline.service.collections import Record, fetch, listed

PASSWORD_MAX = 4096


class DirectoryApi:
    """Who and what there is."""

    def __init__(self, store: Store, auth: Auth, hashing: Hashing) -> None:
        self._store = store
        self._auth = auth
        self._hashing = hashing

    def routes(self) -> list[Route]:
        """Return the routes; as they match much, they come last."""
        one, all_ = "/v3/{collection}/{object_id}", "/v3/{collection}"
        return [
            Route(all_, self.list, methods=["GET"]),
            Route(all_, self.create, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.update, methods=["PATCH"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer the records that the caller sees and the query wants."""
        caller, resource = await self._accept(request, "get")
        query = parse(resource.table, caller, request.query_params)
        found = await self._store.read(lambda tx: listed(tx, caller, resource.collection, query))
        views = [view(request, resource, record, caller) for record in found]
        return JSONResponse(bodies.collection(resource.plural, views, _base(request, resource)))

    async def show(self, request: Request) -> Response:
        """Answer one record."""
        caller, resource = await self._accept(request, "get")
        object_id = request.path_params["object_id"]
        record = await self._store.read(
            lambda tx: fetch(tx, caller, resource.collection, object_id)
        )
        return _answer(request, resource, record, caller)

    async def create(self, request: Request) -> Response:
        """Make one."""
        caller, resource = await self._accept(request, "create")
        values = await self._values(request, caller, resource, update=False)
        make, audited = resource.create, Audited(request, caller, resource)
        assert make is not None

        def work(tx: Transaction) -> Record:
            record = make(tx, caller, dict(values))
            audited.made(tx, record)
            return record

        record = await self._store.write(work)
        return _answer(request, resource, record, caller, 201)

    async def update(self, request: Request) -> Response:
        """Change one."""
        caller, resource = await self._accept(request, "update")
        values = await self._values(request, caller, resource, update=True)
        change, object_id = resource.update, request.path_params["object_id"]
        assert change is not None
        audited = Audited(request, caller, resource)
        record = await self._store.write(
            lambda tx: audited.changed(
                tx, object_id, lambda: change(tx, caller, object_id, dict(values))
            )
        )
        self._auth.forget()
        return _answer(request, resource, record, caller)

    async def delete(self, request: Request) -> Response:
        """Delete one."""
        caller, resource = await self._accept(request, "delete")
        remove, object_id = resource.delete, request.path_params["object_id"]
        assert remove is not None
        audited = Audited(request, caller, resource)
        await self._store.write(
            lambda tx: audited.deleted(tx, object_id, lambda: remove(tx, caller, object_id))
        )
        self._auth.forget()
        return Response(status_code=204)

    async def _accept(self, request: Request, verb: str) -> tuple[Caller, Resource]:
        caller = await self._auth.caller(request)
        resource = RESOURCES.get(request.path_params["collection"])
        if resource is None:
            raise NotFound(
                f"{request.scope['path']}: Trunkline's own identity has domains, projects, users,"
                " roles, role assignments, application credentials and tokens, and nothing else of"
                " Keystone's API."
            )
        caller.require(f"{verb}_{resource.table.singular}")
        return caller, resource

    async def _values(
        self, request: Request, caller: Caller, resource: Resource, *, update: bool
    ) -> Record:
        """Return what a body sets; of a password, what is kept of it."""
        given = unwrap(await read_json(request), resource.table.singular)
        password = None
        if resource.plural == "users" and isinstance(given, dict):
            given = dict(given)
            password = given.pop("password", None)
        values = resource.table.accept(given, caller, update=update)
        if password is not None:
            values["password_hash"] = await self._hashing.hashed(checked_password(password))
        return values


def checked_password(given: Any) -> str:
    """Return a password that may be set.

    Raises:
        Invalid: It is none.
    """
    try:
        password = str(text(PASSWORD_MAX)(given))
    except ValueError:
        password = ""
    if not password:
        raise Invalid(
            f"password must be a string of 1 to {PASSWORD_MAX} characters, without control"
            " characters."
        )
    return password


def _answer(
    request: Request, resource: Resource, record: Record, caller: Caller, status: int = 200
) -> Response:
    shown = view(request, resource, record, caller)
    return JSONResponse({resource.table.singular: shown}, status)


def view(request: Request, resource: Resource, record: Record, caller: Caller) -> Record:
    """Return a record as the identity shows it to a caller."""
    links = {"self": f"{_base(request, resource)}/{record['id']}"}
    return {**resource.view(record, caller), "links": links}


def _base(request: Request, resource: Resource) -> str:
    return f"{root(request)}/identity/v3/{resource.plural}"
