"""``/v2.0/network-ranges``: many networks at once; ``/v2.0/auto-allocated-topology``: one of them.

The first is Trunkline's own, the second Neutron's "get me a network".
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api import convert as c
from trunkline.api.attributes import Attribute, Default, Table
from trunkline.api.audit import Audited, actor
from trunkline.api.auth import Auth
from trunkline.api.body import read_json, unwrap
from trunkline.api.resources import MTU_DEFAULT, RESOURCES
from trunkline.api.routes import Store, plain
from trunkline.db.engine import Transaction
from trunkline.errors import Forbidden, Invalid
from trunkline.model import MTU_MAX, MTU_MIN, VLAN_ID_MAX, VLAN_ID_MIN
from trunkline.service import audit, auto_allocation, network_ranges, quotas
from trunkline.service.caller import Caller
from trunkline.service.collections import Record

DRY_RUN = "dry-run"
TOPOLOGY = "auto_allocated_topology"

RANGE = Table(
    "network_range",
    (
        Attribute("name", c.name, Default.REQUIRED),
        Attribute("cidr", c.ipv4_tenant_prefix, Default.REQUIRED),
        Attribute("network_size", c.integer(4, 1 << 24), 256),
        Attribute("num_networks", c.or_null(c.integer(1, network_ranges.NETWORKS_MAX)), None),
        Attribute("vlan_start", c.or_null(c.integer(VLAN_ID_MIN, VLAN_ID_MAX)), None),
        Attribute("provider:physical_network", c.or_null(c.host), None, field="physical_network"),
        Attribute("project_id", c.or_null(c.project_id), None),
        Attribute("description", c.text_or_null(255), ""),
        Attribute("admin_state_up", c.boolean, default=True),
        Attribute("mtu", c.integer(MTU_MIN, MTU_MAX), MTU_DEFAULT),
        Attribute("shared", c.boolean, default=False),
        Attribute("tags", c.tags, default=()),
        Attribute("enable_dhcp", c.boolean, default=True),
        Attribute("dns_nameservers", c.list_of(c.ipv4_text), ()),
        Attribute("host_routes", c.list_of(c.host_route), ()),
        Attribute("service_types", c.list_of(c.service_type), ()),
    ),
)


class RangeApi:
    """Makes networks for projects that do not make their own."""

    def __init__(self, store: Store, auth: Auth) -> None:
        self._store = store
        self._auth = auth

    def routes(self) -> list[Route]:
        """Return the routes, which go before those of any collection."""
        topology = "/v2.0/auto-allocated-topology/{project_id}"
        return [
            Route("/v2.0/network-ranges", self.create, methods=["POST"]),
            Route(topology, self.show, methods=["GET"]),
            Route(topology, self.delete, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """Make the networks of one range, all of them or none."""
        caller = await self._auth.caller(request)
        caller.require("create_network_range")
        given = unwrap(await read_json(request), "network_range")
        wish = RANGE.accept(given, caller, update=False)
        wish["project_id"] = wish["project_id"] or network_ranges.UNOWNED

        def work(tx: Transaction) -> dict[str, list[Record]]:
            made = dict(
                zip(
                    ("networks", "subnets"),
                    network_ranges.create(tx, caller, dict(wish)),
                    strict=True,
                )
            )
            for collection, records in made.items():
                quotas.charge(tx, RESOURCES[collection].table.singular, records)
                audited = Audited(request, caller, RESOURCES[collection])
                for record in records:
                    audited.made(tx, record)
            return made

        made = await self._store.write(work)
        views = {
            name: [RESOURCES[name].view(record, caller) for record in records]
            for name, records in made.items()
        }
        return JSONResponse({"network_range": views}, 201)

    async def show(self, request: Request) -> Response:
        """Answer a project's network, made or taken first if need be; or whether that can be."""
        caller, project_id = await self._accept(request, "get")
        fields = request.query_params.getlist("fields")
        if DRY_RUN in fields:
            await self._store.read(lambda tx: auto_allocation.require_possible(tx, project_id))
            return _answer(f"{DRY_RUN}=pass", project_id)
        if fields:
            raise Invalid(f"fields: only {DRY_RUN} is known here.", "BadRequest")
        who = actor(request, caller)

        found = await self._store.write(lambda tx: allocated(tx, who, project_id))
        return _answer(found, project_id)

    async def delete(self, request: Request) -> Response:
        """Take a project's network away."""
        caller, project_id = await self._accept(request, "delete")
        who = actor(request, caller)

        def work(tx: Transaction) -> None:
            gone = auto_allocation.release(tx, caller, project_id)
            audit.note(tx, who, TOPOLOGY, _known(project_id, gone), None)

        await self._store.write(work)
        return Response(status_code=204)

    async def _accept(self, request: Request, verb: str) -> tuple[Caller, str]:
        caller = await self._auth.caller(request)
        caller.require(f"{verb}_{TOPOLOGY}")
        given = plain(request.path_params["project_id"])
        project_id = caller.project_id if given == "None" else given  # as clients spell it
        try:
            c.project_id(project_id)
        except ValueError as error:
            raise Invalid(
                f"Invalid input for project_id. Reason: {error}.", "InvalidInput"
            ) from None
        if project_id != caller.project_id and not caller.is_admin:
            raise Forbidden(
                f"The topology of project {project_id} is that project's and administrators'.",
                "PolicyNotAuthorized",
            )
        return caller, project_id


def allocated(tx: Transaction, who: audit.Actor, project_id: str) -> str:
    """Return the id of a project's network, made or taken first if need be, which is audited."""
    found, is_new = auto_allocation.get(tx, who.caller, project_id)
    if is_new:
        audit.note(tx, who, TOPOLOGY, None, _known(project_id, found))
    return found


def _known(project_id: str, network_id: str) -> dict[str, Any]:
    return {"id": project_id, "project_id": project_id, "network_id": network_id}


def _answer(network_id: str, project_id: str) -> Response:
    shown = {"id": network_id, "tenant_id": project_id, "project_id": project_id}
    return JSONResponse({TOPOLOGY: shown})
