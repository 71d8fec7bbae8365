"""Puts the compute API's routes together, under ``/compute``, and tells its one version.

That is 2.1, which has all of the network commands; 2.36 took them away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from trunkline.api.address import root
from trunkline.api.auth import Auth
from trunkline.api.body import read_json
from trunkline.api.compute import floating_ips, networks, quotas, security_groups, servers
from trunkline.api.compute.call import Call
from trunkline.api.routes import Store

VERSION = "2.1"
UPDATED = "2026-11-25T00:00:00Z"
MEDIA = f"application/vnd.openstack.compute+json;version={VERSION}"

Work = Callable[[Call], Any]
READ, WRITE = "read", "write"

TABLE: tuple[tuple[str, str, str, Work, int], ...] = (
    ("GET", "/servers", READ, servers.listed, 200),
    ("GET", "/servers/detail", READ, servers.detailed, 200),
    ("GET", "/servers/{id}", READ, servers.shown, 200),
    ("GET", "/servers/{id}/os-security-groups", READ, servers.groups, 200),
    ("POST", "/servers/{id}/action", WRITE, servers.act, 202),
    ("GET", "/os-security-groups", WRITE, security_groups.listed, 200),
    ("POST", "/os-security-groups", WRITE, security_groups.create, 200),
    ("GET", "/os-security-groups/{id}", READ, security_groups.shown, 200),
    ("PUT", "/os-security-groups/{id}", WRITE, security_groups.update, 200),
    ("DELETE", "/os-security-groups/{id}", WRITE, security_groups.delete, 202),
    ("POST", "/os-security-group-rules", WRITE, security_groups.create_rule, 200),
    ("DELETE", "/os-security-group-rules/{id}", WRITE, security_groups.delete_rule, 202),
    ("GET", "/os-networks", READ, networks.listed, 200),
    ("POST", "/os-networks", WRITE, networks.create, 200),
    ("POST", "/os-networks/add", WRITE, networks.add, 202),
    ("GET", "/os-networks/{id}", READ, networks.shown, 200),
    ("DELETE", "/os-networks/{id}", WRITE, networks.delete, 202),
    ("POST", "/os-networks/{id}/action", WRITE, networks.act, 202),
    ("GET", "/os-floating-ip-pools", READ, floating_ips.pools, 200),
    ("GET", "/os-floating-ips", READ, floating_ips.listed, 200),
    ("POST", "/os-floating-ips", WRITE, floating_ips.create, 200),
    ("GET", "/os-floating-ips/{id}", READ, floating_ips.shown, 200),
    ("DELETE", "/os-floating-ips/{id}", WRITE, floating_ips.delete, 202),
    ("GET", "/os-floating-ips-bulk", READ, floating_ips.ranges, 200),
    ("POST", "/os-floating-ips-bulk", WRITE, floating_ips.add_range, 200),
    ("PUT", "/os-floating-ips-bulk/delete", WRITE, floating_ips.remove_range, 200),
    ("GET", "/os-quota-sets/{id}", READ, quotas.shown, 200),
    ("PUT", "/os-quota-sets/{id}", WRITE, quotas.update, 200),
    ("DELETE", "/os-quota-sets/{id}", WRITE, quotas.delete, 202),
    ("GET", "/os-quota-sets/{id}/defaults", READ, quotas.defaults, 200),
    ("GET", "/os-quota-sets/{id}/detail", READ, quotas.detail, 200),
)
"""Method, path, kind of transaction, what is done in it, and the status that Nova has for it."""


def compute_routes(store: Store, auth: Auth) -> list[BaseRoute]:
    """Return all of ``/compute``."""

    def route(method: str, path: str, transaction: str, work: Work, status: int) -> Route:
        run = store.read if transaction == READ else store.write

        async def endpoint(request: Request) -> Response:
            caller = await auth.caller(request)
            body = await read_json(request) if method in ("POST", "PUT") else None
            answer = await run(lambda tx: work(Call(request, caller, tx, body)))
            return Response(status_code=status) if answer is None else JSONResponse(answer, status)

        return Route(f"/v2.1{path}", endpoint, methods=[method])

    table = [route(*row) for row in TABLE]
    open_to_all: list[tuple[str, Callable[[Request], Awaitable[Response]]]] = [
        ("/", versions), ("/v2.1", version), ("/v2.1/", version),
    ]  # fmt: skip
    told = [Route(path, endpoint) for path, endpoint in open_to_all]
    return [Route("/compute", versions), Mount("/compute", routes=[*told, *table])]


async def versions(request: Request) -> Response:
    """Answer the versions that there are."""
    return JSONResponse({"versions": [_version(request)]})


async def version(request: Request) -> Response:
    """Answer version 2.1."""
    return JSONResponse({"version": _version(request)})


def _version(request: Request) -> dict[str, Any]:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": VERSION,
        "min_version": VERSION,
        "updated": UPDATED,
        "links": [{"rel": "self", "href": f"{root(request)}/compute/v2.1/"}],
        "media-types": [{"base": "application/json", "type": MEDIA}],
    }
