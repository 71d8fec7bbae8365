"""``/v2.0/routers/ID/ACTION``: a router's interfaces and extra routes, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api import convert
from trunkline.api.audit import Audited
from trunkline.api.body import read_json, unwrap
from trunkline.api.resources import ROUTER, Resource
from trunkline.api.routes import NetworkingApi, Store, object_id
from trunkline.db.engine import Transaction
from trunkline.errors import Invalid, NotFound
from trunkline.service import interfaces, routers
from trunkline.service.caller import Caller
from trunkline.service.collections import Record

Action = Callable[[Transaction, Caller, str, Any], Record]


class RouterActionsApi:
    """What a router does beyond what every resource does."""

    def __init__(self, store: Store, api: NetworkingApi) -> None:
        self._store = store
        self._api = api

    def routes(self) -> list[Route]:
        """Return the routes."""
        base = "/v2.0/{collection}/{object_id}"
        return [
            Route(f"{base}/add_router_interface", self.add_interface, methods=["PUT"]),
            Route(f"{base}/remove_router_interface", self.remove_interface, methods=["PUT"]),
            Route(f"{base}/add_extraroutes", self.add_routes, methods=["PUT"]),
            Route(f"{base}/remove_extraroutes", self.remove_routes, methods=["PUT"]),
        ]

    async def add_interface(self, request: Request) -> Response:
        """Put a subnet on the router."""
        return await self._change_interface(request, interfaces.add)

    async def remove_interface(self, request: Request) -> Response:
        """Take a subnet off the router."""
        return await self._change_interface(request, interfaces.remove)

    async def add_routes(self, request: Request) -> Response:
        """Add extra routes to those that the router has."""
        return await self._change_routes(request, routers.add_routes)

    async def remove_routes(self, request: Request) -> Response:
        """Take extra routes away."""
        return await self._change_routes(request, routers.remove_routes)

    async def _change_interface(self, request: Request, change: Action) -> Response:
        caller, resource = await self._accept(request)
        audited, wanted = Audited(request, caller, resource), object_id(request)
        try:
            wish = convert.interface(await read_json(request))
        except ValueError as error:
            raise Invalid(
                f"Invalid input for the interface. Reason: {error}.", "BadRequest"
            ) from None

        def work(tx: Transaction) -> Record:
            return audited.changed(
                tx,
                wanted,
                lambda: change(tx, caller, wanted, wish),
                lambda: {"interfaces": interfaces.subnets_on(tx, wanted)},
            )

        return JSONResponse(await self._store.write(work))

    async def _change_routes(self, request: Request, change: Action) -> Response:
        caller, resource = await self._accept(request)
        given = unwrap(await read_json(request), "router")
        if not isinstance(given, dict) or given.keys() != {"routes"}:
            raise Invalid("router must be an object with routes and nothing else.", "BadRequest")
        routes = ROUTER.accept(given, caller, update=True)["routes"]
        audited, wanted = Audited(request, caller, resource), object_id(request)

        def work(tx: Transaction) -> Record:
            return audited.changed(tx, wanted, lambda: change(tx, caller, wanted, routes))

        record = await self._store.write(work)
        return JSONResponse({"router": resource.view(record, caller)})

    async def _accept(self, request: Request) -> tuple[Caller, Resource]:
        caller, resource = await self._api.accept(request, "update")
        if resource.table is not ROUTER:
            raise NotFound(
                f"{request.scope['path']}: {resource.plural} have no interfaces and routes.",
                "HTTPNotFound",
            )
        return caller, resource
