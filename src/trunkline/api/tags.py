"""``/v2.0/COLLECTION/ID/tags``: the tags of one object, all at once or one by one."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api import convert
from trunkline.api.audit import Audited
from trunkline.api.body import read_json, unwrap
from trunkline.api.resources import Resource
from trunkline.api.routes import NetworkingApi, Store, object_id
from trunkline.errors import Invalid, NotFound
from trunkline.service import tags
from trunkline.service.caller import Caller


class TagsApi:
    """Reads and sets tags of whatever collection has them."""

    def __init__(self, store: Store, api: NetworkingApi) -> None:
        self._store = store
        self._api = api

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [*self._routes("/v2.0/{collection:qos}"), *self._routes("/v2.0/{collection}")]

    def _routes(self, all_: str) -> list[Route]:
        base = f"{all_}/{{object_id}}/tags"
        return [
            Route(base, self.list, methods=["GET"]),
            Route(base, self.replace, methods=["PUT"]),
            Route(base, self.add, methods=["POST"]),
            Route(base, self.clear, methods=["DELETE"]),
            Route(base + "/{tag}", self.show, methods=["GET"]),
            Route(base + "/{tag}", self.add_one, methods=["PUT"]),
            Route(base + "/{tag}", self.remove_one, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer all tags of an object."""
        caller, resource = await self._accept(request, "get")
        collection = resource.collection
        found = await self._store.read(
            lambda tx: tags.read(tx, caller, collection, object_id(request))
        )
        return JSONResponse({"tags": found})

    async def show(self, request: Request) -> Response:
        """Answer whether an object has a tag."""
        caller, resource = await self._accept(request, "get")
        collection, tag = resource.collection, _tag(request)
        found = await self._store.read(
            lambda tx: tags.read(tx, caller, collection, object_id(request))
        )
        tags.require(found, tag)
        return Response(status_code=204)

    async def replace(self, request: Request) -> Response:
        """Set all tags of an object."""
        return JSONResponse({"tags": await self._set(request, tags.replace, await _body(request))})

    async def add(self, request: Request) -> Response:
        """Add tags to an object; the answer has these and no others, as Neutron's."""
        added = await _body(request)
        await self._set(request, tags.add, added)
        return JSONResponse({"tags": added})

    async def add_one(self, request: Request) -> Response:
        """Add one tag to an object."""
        await self._set(request, tags.add, [_tag(request)])
        return Response(status_code=201)

    async def clear(self, request: Request) -> Response:
        """Take all tags off an object."""
        await self._set(request, tags.replace, [])
        return Response(status_code=204)

    async def remove_one(self, request: Request) -> Response:
        """Take one tag off an object."""
        await self._set(request, tags.remove, _tag(request))
        return Response(status_code=204)

    async def _set(self, request: Request, change: Any, wanted: Any) -> Any:
        caller, resource = await self._accept(request, "update")
        audited, collection, one = (
            Audited(request, caller, resource),
            resource.collection,
            object_id(request),
        )
        return await self._store.write(
            lambda tx: audited.changed(tx, one, lambda: change(tx, caller, collection, one, wanted))
        )

    async def _accept(self, request: Request, verb: str) -> tuple[Caller, Resource]:
        caller, resource = await self._api.accept(request, verb)
        if "tags" not in resource.table.by_name:
            raise NotFound(
                f"{request.scope['path']}: {resource.plural} have no tags.", "HTTPNotFound"
            )
        return caller, resource


async def _body(request: Request) -> list[str]:
    wanted: list[str] = _checked(convert.tags, unwrap(await read_json(request), "tags"))
    return wanted


def _tag(request: Request) -> str:
    tag: str = _checked(convert.tag, request.path_params["tag"])
    return tag


def _checked(converter: convert.Converter, given: Any) -> Any:
    try:
        return converter(given)
    except ValueError as error:
        raise Invalid(f"Invalid input for tags. Reason: {error}.", "InvalidInput") from None
