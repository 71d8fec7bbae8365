"""``/v2.0/floatingips/ID/port_forwardings``: which ports of a floating IP lead where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api import convert as c
from trunkline.api.attributes import Attribute, Default, Table
from trunkline.api.audit import Audited
from trunkline.api.auth import Auth
from trunkline.api.body import read_json, unwrap
from trunkline.api.query import parse
from trunkline.api.resources import PORT_NUMBER_MAX, RESOURCES
from trunkline.api.routes import Store, page, plain
from trunkline.db.engine import Transaction
from trunkline.errors import Invalid
from trunkline.service import port_forwardings
from trunkline.service.caller import Caller
from trunkline.service.collections import Record

PLURAL = "port_forwardings"
_PORT_NUMBER = c.integer(1, PORT_NUMBER_MAX)

PORT_FORWARDING = Table(
    "port_forwarding",
    (
        Attribute("id"),
        Attribute(  # may be sent, and is the floating IP's
            "project_id", c.project_id, Default.OWN_PROJECT, shown=False, filter=None
        ),
        Attribute(
            "external_port", _PORT_NUMBER, Default.REQUIRED, put=True, filter=c.filter_number
        ),
        Attribute("protocol", c.one_of("tcp", "udp"), Default.REQUIRED, put=True),
        Attribute("internal_port_id", c.uuid, Default.REQUIRED, put=True),
        Attribute("internal_ip_address", c.ipv4_text, Default.REQUIRED, put=True, filter=None),
        Attribute("internal_port", _PORT_NUMBER, Default.REQUIRED, put=True, filter=None),
        Attribute("description", c.text(255), "", put=True),
    ),
)


class PortForwardingApi:
    """The forwardings of a floating IP, whose attribute they are: the audit tells of that."""

    def __init__(self, store: Store, auth: Auth) -> None:
        self._store = store
        self._auth = auth

    def routes(self) -> list[Route]:
        """Return the routes."""
        all_ = "/v2.0/floatingips/{floating_id}/port_forwardings"
        one = f"{all_}/{{forwarding_id}}"
        return [
            Route(all_, self.list, methods=["GET"]),
            Route(all_, self.create, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer the forwardings of a floating IP that the query wants."""
        caller, floating_id = await self._accept(request, "get")
        query = parse(PORT_FORWARDING, caller, request.query_params)
        records = await self._store.read(
            lambda tx: port_forwardings.all_of(tx, caller, floating_id, query)
        )
        fields = request.query_params.getlist("fields")
        views = [PORT_FORWARDING.view(record, caller, fields) for record in records]
        return page(request, query, PLURAL, views, [record["id"] for record in records])

    async def show(self, request: Request) -> Response:
        """Answer one forwarding."""
        caller, floating_id = await self._accept(request, "get")
        wanted = _forwarding_id(request)
        record = await self._store.read(
            lambda tx: port_forwardings.fetch_one(tx, caller, floating_id, wanted)
        )
        fields = request.query_params.getlist("fields")
        view = PORT_FORWARDING.view(record, caller, fields)
        return JSONResponse({PORT_FORWARDING.singular: view})

    async def create(self, request: Request) -> Response:
        """Forward one port, or several at once: all of them or none."""
        caller, floating_id = await self._accept(request, "create")
        given, is_bulk = _given(await read_json(request))
        wanted = [PORT_FORWARDING.accept(one, caller, update=False) for one in given]

        def work(tx: Transaction) -> Sequence[Record]:
            return [port_forwardings.create(tx, caller, floating_id, values) for values in wanted]

        records = await self._change(request, caller, work)
        views = [PORT_FORWARDING.view(record, caller) for record in records]
        return JSONResponse(
            {PLURAL: views} if is_bulk else {PORT_FORWARDING.singular: views[0]}, 201
        )

    async def update(self, request: Request) -> Response:
        """Change one forwarding."""
        caller, floating_id = await self._accept(request, "update")
        given = unwrap(await read_json(request), PORT_FORWARDING.singular)
        values = PORT_FORWARDING.accept(given, caller, update=True)
        wanted = _forwarding_id(request)
        (record,) = await self._change(
            request,
            caller,
            lambda tx: [port_forwardings.update_(tx, caller, floating_id, wanted, dict(values))],
        )
        return JSONResponse({PORT_FORWARDING.singular: PORT_FORWARDING.view(record, caller)})

    async def delete(self, request: Request) -> Response:
        """End one forwarding."""
        caller, floating_id = await self._accept(request, "delete")
        wanted = _forwarding_id(request)

        def work(tx: Transaction) -> Sequence[Record]:
            port_forwardings.delete_(tx, caller, floating_id, wanted)
            return []

        await self._change(request, caller, work)
        return Response(status_code=204)

    async def _accept(self, request: Request, verb: str) -> tuple[Caller, str]:
        caller = await self._auth.caller(request)
        caller.require(f"{verb}_floatingip_port_forwarding")
        return caller, str(request.path_params["floating_id"])

    async def _change(
        self, request: Request, caller: Caller, work: Callable[[Transaction], Sequence[Record]]
    ) -> Sequence[Record]:
        """Change a floating IP's forwardings, which to the audit is a change of that."""
        audited = Audited(request, caller, RESOURCES["floatingips"])
        floating_id = request.path_params["floating_id"]
        return await self._store.write(
            lambda tx: audited.changed(tx, floating_id, lambda: work(tx))
        )


def _given(body: Any) -> tuple[Sequence[Any], bool]:
    """Return what a body wants to be made, and whether it is a list."""
    if not isinstance(body, dict) or PLURAL not in body:
        return [unwrap(body, PORT_FORWARDING.singular)], False
    given = unwrap(body, PLURAL)
    if not isinstance(given, list):
        raise Invalid(f"{PLURAL} must be a list.", "HTTPBadRequest")
    return given, True


def _forwarding_id(request: Request) -> str:
    return plain(request.path_params["forwarding_id"])
