"""Puts the identity's routes together, under ``/identity``, and tells versions."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from trunkline.api.address import root
from trunkline.api.auth import Auth
from trunkline.api.identity.assignments import AssignmentsApi
from trunkline.api.identity.directory import DirectoryApi
from trunkline.api.identity.hashing import Hashing
from trunkline.api.identity.own import OwnApi
from trunkline.api.identity.tokens import Prover, TokensApi
from trunkline.api.routes import Store

UPDATED = "2026-11-24T00:00:00Z"
MEDIA = "application/vnd.openstack.identity-v3+json"


def identity_routes(store: Store, auth: Auth, hashing: Hashing, token_s: int) -> list[BaseRoute]:
    """Return all of ``/identity``."""
    prover = Prover(store, hashing)
    routes = [
        Route("/", versions),
        Route("/v3", version),
        Route("/v3/", version),
        *TokensApi(store, auth, prover, token_s).routes(),
        *AssignmentsApi(store, auth).routes(),
        *OwnApi(store, auth, hashing, prover).routes(),
        *DirectoryApi(store, auth, hashing).routes(),
    ]
    return [Route("/identity", versions), Mount("/identity", routes=routes)]


async def versions(request: Request) -> Response:
    """Answer the versions that there are."""
    return JSONResponse({"versions": {"values": [_version(request)]}}, 300)


async def version(request: Request) -> Response:
    """Answer version 3."""
    return JSONResponse({"version": _version(request)})


def _version(request: Request) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": UPDATED,
        "links": [{"rel": "self", "href": f"{root(request)}/identity/v3/"}],
        "media-types": [{"base": "application/json", "type": MEDIA}],
    }
