"""``/v2.0/ports/ID/bindings``: the hosts that a port is bound to while its instance moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api import convert as c
from trunkline.api.attributes import Attribute, Default, Table
from trunkline.api.audit import Audited
from trunkline.api.body import read_json, unwrap
from trunkline.api.resources import RESOURCES
from trunkline.api.routes import NetworkingApi, Store, object_id
from trunkline.db.engine import Transaction
from trunkline.service import bindings
from trunkline.service.bindings import Binding
from trunkline.service.caller import Caller

PORTS = RESOURCES["ports"]
BINDING = Table(
    "binding",
    (
        Attribute("host", c.bound_host, Default.REQUIRED),
        Attribute("status"),
        Attribute("vnic_type", c.one_of("normal"), "normal", put=True),
        Attribute("profile", c.profile, default={}, put=True),
        Attribute("vif_type"),
        Attribute("vif_details"),
    ),
)


class BindingApi:
    """What a port's bindings can do."""

    def __init__(self, store: Store, api: NetworkingApi) -> None:
        self._store = store
        self._api = api

    def routes(self) -> list[Route]:
        """Return the routes."""
        every, one = "/v2.0/ports/{object_id}/bindings", "/v2.0/ports/{object_id}/bindings/{host}"
        return [
            Route(every, self.list, methods=["GET"]),
            Route(every, self.create, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/activate", self.activate, methods=["PUT"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer all bindings of a port."""
        caller, port_id = await self._accept(request, "get")
        found = await self._store.read(lambda tx: bindings.listed(tx, caller, port_id))
        return JSONResponse({"bindings": [BINDING.view(one, caller) for one in found]})

    async def show(self, request: Request) -> Response:
        """Answer one binding."""
        caller, port_id = await self._accept(request, "get")
        host = _host(request)
        found = await self._store.read(lambda tx: bindings.shown(tx, caller, port_id, host))
        return _answer(found, caller)

    async def create(self, request: Request) -> Response:
        """Bind a port to another host."""
        caller, port_id = await self._accept(request, "create")
        values = await _body(request, caller, update=False)
        made = await self._change(
            request, caller, lambda tx: bindings.create(tx, caller, port_id, values)
        )
        return _answer(made, caller, 201)

    async def update(self, request: Request) -> Response:
        """Change a binding's ``vnic_type`` and ``profile``."""
        caller, port_id = await self._accept(request, "create")
        values, host = await _body(request, caller, update=True), _host(request)
        changed = await self._change(
            request, caller, lambda tx: bindings.change(tx, caller, port_id, host, values)
        )
        return _answer(changed, caller)

    async def activate(self, request: Request) -> Response:
        """Make a binding the active one; the answer does not wrap it, as Neutron's."""
        caller, port_id = await self._accept(request, "activate")
        host = _host(request)
        active = await self._change(
            request, caller, lambda tx: bindings.activate(tx, caller, port_id, host)
        )
        return JSONResponse(BINDING.view(active, caller))

    async def delete(self, request: Request) -> Response:
        """End a binding."""
        caller, port_id = await self._accept(request, "delete")
        host = _host(request)
        await self._change(request, caller, lambda tx: bindings.delete_(tx, caller, port_id, host))
        return Response(status_code=204)

    async def _accept(self, request: Request, verb: str) -> tuple[Caller, str]:
        request.path_params["collection"] = "ports"
        caller, _ = await self._api.accept(request, "get")
        caller.require(f"{verb}_port_binding")
        return caller, object_id(request)

    async def _change(
        self, request: Request, caller: Caller, work: Callable[[Transaction], Any]
    ) -> Any:
        audited, port_id = Audited(request, caller, PORTS), object_id(request)

        def run(tx: Transaction) -> Any:
            return audited.changed(
                tx,
                port_id,
                lambda: work(tx),
                lambda: {"bindings": bindings.listed(tx, caller, port_id)},
            )

        return await self._store.write(run)


def _host(request: Request) -> str:
    host: str = request.path_params["host"]
    return host


async def _body(request: Request, caller: Caller, *, update: bool) -> Binding:
    return BINDING.accept(unwrap(await read_json(request), "binding"), caller, update=update)


def _answer(binding: Binding, caller: Caller, status: int = 200) -> Response:
    return JSONResponse({"binding": BINDING.view(binding, caller)}, status)
