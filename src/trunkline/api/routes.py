"""The Networking API's methods: authenticate, check, one transaction, answer.

Reads share a few threads; writes have one, because the database takes one writer at a time, and
waiting in line there costs nobody a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api.address import root
from trunkline.api.audit import Audited
from trunkline.api.auth import Auth
from trunkline.api.body import read_json, unwrap
from trunkline.api.precondition import expected_revision
from trunkline.api.query import parse
from trunkline.api.resources import RESOURCES, Resource
from trunkline.db.engine import Database, Transaction
from trunkline.errors import Invalid, NotFound
from trunkline.service.caller import Caller
from trunkline.service.collections import Query, Record, fetch, listed, require_revision
from trunkline.service.quotas import charge

Result = TypeVar("Result")
READERS = 4


class _Qos(Convertor[str]):
    """The one collection whose path has two parts."""

    regex = "qos/policies"

    def convert(self, value: str) -> str:
        """Return the collection's path."""
        return value

    def to_string(self, value: str) -> str:
        """Return it in a URL."""
        return value


register_url_convertor("qos", _Qos())


class Store:
    """The database, reached from the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._agents_reader = ThreadPoolExecutor(1, "agents' reader")
        self._writer = ThreadPoolExecutor(1, "writer")

    async def read(self, work: Callable[[Transaction], Result]) -> Result:
        """Return what ``work`` returns, run in a consistent transaction."""
        return await self._read(self._readers, work)

    async def read_for_agents(self, work: Callable[[Transaction], Result]) -> Result:
        """Return the same, one after the other.

        A change may wake hundreds of agents at once; people's requests do not wait behind them,
        and threads that all want the interpreter would only take it from each other.
        """
        return await self._read(self._agents_reader, work)

    async def _read(
        self, readers: ThreadPoolExecutor, work: Callable[[Transaction], Result]
    ) -> Result:
        def run() -> Result:
            with self._database.read() as tx:
                return work(tx)

        return await asyncio.get_running_loop().run_in_executor(readers, run)

    async def write(self, work: Callable[[Transaction], Result]) -> Result:
        """Return what ``work`` returns, once it is durable."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, self._database.write, work)

    def close(self) -> None:
        """Let what runs end, then close the database."""
        self._readers.shutdown()
        self._agents_reader.shutdown()
        self._writer.shutdown()
        self._database.close()


class NetworkingApi:
    """What ``/v2.0/COLLECTION`` and ``/v2.0/COLLECTION/ID`` do."""

    def __init__(self, store: Store, auth: Auth) -> None:
        self._store = store
        self._auth = auth

    def routes(self) -> list[Route]:
        """Return the routes, most frequent first."""
        return [*self._routes("/v2.0/{collection:qos}"), *self._routes("/v2.0/{collection}")]

    def _routes(self, all_: str) -> list[Route]:
        one = f"{all_}/{{object_id}}"
        return [
            Route(all_, self.create, methods=["POST"]),
            Route(all_, self.list, methods=["GET"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer a collection's records that the caller sees and the query wants."""
        caller, resource = await self.accept(request, "get")
        query = parse(resource.table, caller, request.query_params)

        def work(tx: Transaction) -> Sequence[dict[str, Any]]:
            if resource.prepare is not None and caller.may(f"create_{resource.table.singular}"):
                resource.prepare(tx, caller)
            return listed(tx, caller, resource.collection, query)

        run = self._store.read if resource.prepare is None else self._store.write
        records = await run(work)
        fields = request.query_params.getlist("fields")
        views = [resource.view(r, caller, fields) for r in records]
        return page(request, query, resource.plural, views, [r["id"] for r in records])

    async def show(self, request: Request) -> Response:
        """Answer one record."""
        caller, resource = await self.accept(request, "get")
        wanted = object_id(request)
        record = await self._store.read(lambda tx: fetch(tx, caller, resource.collection, wanted))
        fields = request.query_params.getlist("fields")
        return JSONResponse({resource.table.singular: resource.view(record, caller, fields)})

    async def create(self, request: Request) -> Response:
        """Make one object, or several at once: all of them or none."""
        caller, resource = await self.accept(request, "create")
        make = _method(resource.create, request)
        audited = Audited(request, caller, resource)
        body = await read_json(request)
        table = resource.table
        is_bulk = isinstance(body, dict) and resource.plural in body
        given = unwrap(body, resource.plural if is_bulk else table.singular)
        if is_bulk and not isinstance(given, list):
            raise Invalid(f"{resource.plural} must be a list.", "HTTPBadRequest")
        wanted = [
            table.accept(item, caller, update=False) for item in (given if is_bulk else [given])
        ]

        def work(tx: Transaction) -> list[Record]:
            made = [make(tx, caller, dict(values)) for values in wanted]
            charge(tx, table.singular, made)
            for record in made:
                audited.made(tx, record)
            return made

        records = await self._store.write(work)
        views = [resource.view(record, caller) for record in records]
        answer = {resource.plural: views} if is_bulk else {table.singular: views[0]}
        return JSONResponse(answer, 201)

    async def update(self, request: Request) -> Response:
        """Change one object."""
        caller, resource = await self.accept(request, "update")
        change = _method(resource.update, request)
        require = _condition(request, caller, resource)
        given = unwrap(await read_json(request), resource.table.singular)
        values = resource.table.accept(given, caller, update=True)
        audited, wanted = Audited(request, caller, resource), object_id(request)

        def work(tx: Transaction) -> Record:
            require(tx)
            return audited.changed(tx, wanted, lambda: change(tx, caller, wanted, dict(values)))

        record = await self._store.write(work)
        return JSONResponse({resource.table.singular: resource.view(record, caller)})

    async def delete(self, request: Request) -> Response:
        """Delete one object."""
        caller, resource = await self.accept(request, "delete")
        remove = _method(resource.delete, request)
        require = _condition(request, caller, resource)
        audited, wanted = Audited(request, caller, resource), object_id(request)

        def work(tx: Transaction) -> None:
            require(tx)
            audited.deleted(tx, wanted, lambda: remove(tx, caller, wanted))

        await self._store.write(work)
        return Response(status_code=204)

    async def accept(self, request: Request, verb: str) -> tuple[Caller, Resource]:
        """Return who asks and for what; raise if the policy does not allow it."""
        caller = await self._auth.caller(request)
        resource = RESOURCES.get(plain(request.path_params["collection"]))
        if resource is None:
            raise NotFound(f"{request.scope['path']}: there is no such collection.", "HTTPNotFound")
        if verb != "get":
            _method(getattr(resource, verb), request)  # what does not exist needs no right
        caller.require(f"{verb}_{resource.table.singular}")
        return caller, resource


def plain(name: str) -> str:
    """Return a path's last part without the suffix that old clients put there."""
    return name.removesuffix(".json")


def object_id(request: Request) -> str:
    """Return the id in a request's path."""
    return plain(request.path_params["object_id"])


def _condition(
    request: Request, caller: Caller, resource: Resource
) -> Callable[[Transaction], None]:
    """Return the check that ``If-Match`` demands of the object in the path, if it does."""
    expected = expected_revision(request)
    if expected is None:
        return lambda _tx: None
    wanted, collection = object_id(request), resource.collection
    return lambda tx: require_revision(tx, caller, collection, wanted, expected)


def _method(function: Callable[..., Result] | None, request: Request) -> Callable[..., Result]:
    if function is None:
        raise NotFound(
            f"{request.method} {request.scope['path']}: this collection has no such method.",
            "HTTPNotFound",
        )
    return function


def page(
    request: Request,
    query: Query,
    plural: str,
    views: Sequence[dict[str, Any]],
    ids: Sequence[str],
) -> Response:
    """Return the answer to a list request, with links if it asked for a page."""
    body: dict[str, Any] = {plural: views}
    if query.limit is not None:
        body[f"{plural}_links"] = _links(request, query, ids)
    return JSONResponse(body)


def _links(request: Request, query: Query, ids: Sequence[str]) -> Sequence[dict[str, str]]:
    """Return where the neighbouring pages are, as Neutron does: also where they may be empty."""
    full = len(ids) == query.limit
    links = []
    if full or query.reverse:
        links.append(_link(request, "next", ids[-1:]))
    if full or not query.reverse:
        links.append(_link(request, "previous", ids[:1]))
    return links


def _link(request: Request, rel: str, marker: Sequence[str]) -> dict[str, str]:
    kept = [
        (name, value)
        for name, value in request.query_params.multi_items()
        if name not in ("marker", "page_reverse")
    ]
    kept += [("marker", one) for one in marker]
    if rel == "previous":
        kept.append(("page_reverse", "True"))
    return {"rel": rel, "href": f"{root(request)}{request.scope['path']}?{urlencode(kept)}"}
