"""``/v2.0/availability_zones``: one zone, which is there while a host's agent is alive.

Where a network is served follows from where its instances are, so zones decide nothing here;
clients list them all the same.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api.attributes import Attribute, Table
from trunkline.api.auth import Auth
from trunkline.api.query import parse
from trunkline.api.resources import ZONE
from trunkline.api.routes import Store
from trunkline.service.hosts import any_alive

ZONES = Table("availability_zone", (Attribute("name"), Attribute("resource"), Attribute("state")))


class ZoneApi:
    """Lists the availability zones."""

    def __init__(self, store: Store, auth: Auth) -> None:
        self._store = store
        self._auth = auth

    def routes(self) -> list[Route]:
        """Return the routes, which go before those of any collection."""
        return [
            Route("/v2.0/availability_zones", self.list, methods=["GET"]),
            Route("/v2.0/availability_zones.json", self.list, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer the zone, once for what it has: networks and routers."""
        caller = await self._auth.caller(request)
        caller.require("get_availability_zone")
        query = parse(ZONES, caller, request.query_params)
        alive = await self._store.read(any_alive)
        zones = [
            {"name": ZONE, "resource": resource, "state": "available"}
            for resource in ("network", "router")
            if alive
        ]
        wanted = [z for z in zones if all(z[k] in values for k, values in query.filters.items())]
        fields = request.query_params.getlist("fields")
        return JSONResponse(
            {"availability_zones": [ZONES.view(zone, caller, fields) for zone in wanted]}
        )
