"""Puts the API together: routes, errors, one log line per request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline.api import discovery, nova, openapi
from trunkline.api.agents import AgentApi
from trunkline.api.auth import Auth
from trunkline.api.bindings import BindingApi
from trunkline.api.compute.routes import compute_routes
from trunkline.api.config import ServerConfig
from trunkline.api.errors import HANDLERS
from trunkline.api.identity.config import IdentityConfig
from trunkline.api.identity.hashing import Hashing
from trunkline.api.identity.routes import identity_routes
from trunkline.api.identity.tokens import Issued
from trunkline.api.keystone import KeystoneTokens
from trunkline.api.policy import Policy
from trunkline.api.port_forwardings import PortForwardingApi
from trunkline.api.qos import QosApi
from trunkline.api.quotas import QuotaApi
from trunkline.api.ranges import RangeApi
from trunkline.api.routers import RouterActionsApi
from trunkline.api.routes import NetworkingApi, Store
from trunkline.api.tags import TagsApi
from trunkline.api.users import Users
from trunkline.api.verify import VerifyApi
from trunkline.api.wakeups import Wakeups
from trunkline.api.zones import ZoneApi
from trunkline.db.engine import Database
from trunkline.errors import RequestError
from trunkline.model import HostName
from trunkline.service import audit
from trunkline.service.hosts import revisions

PRUNE_EVERY_S = 600

log = logging.getLogger("trunkline.server")

KEEP_S = 1.0  # for which a token that another server process revoked may still be let in
KEYSTONE_KEEP_S = 5.0  # likewise by Keystone, to which asking costs up to a second


def build(
    database: Database, config: ServerConfig, policy: Policy, users: Users | None, wakeups: Wakeups
) -> Starlette:
    """Return the API as an ASGI application, on a database whose schema is up to date."""
    store = Store(database)
    auth, identity, close = _identity(store, config.identity, policy, users)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def on_moved(hosts: set[HostName]) -> None:
            loop.call_soon_threadsafe(wakeups.moved, hosts)

        database.on_moved = on_moved
        tasks = [
            loop.create_task(wakeups.look(lambda: store.read(revisions))),
            loop.create_task(_prune(store, config.audit_retention_days)),
        ]
        if config.nova is not None:
            tasks.append(loop.create_task(nova.tell(store, config.nova)))
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        close()
        store.close()

    networking = NetworkingApi(store, auth)
    routes = [
        *QuotaApi(store, auth).routes(),
        *ZoneApi(store, auth).routes(),
        *RangeApi(store, auth).routes(),
        *QosApi(store, auth).routes(),
        *VerifyApi(store, auth).routes(),
        *networking.routes(),
        *TagsApi(store, networking).routes(),
        *RouterActionsApi(store, networking).routes(),
        *BindingApi(store, networking).routes(),
        *PortForwardingApi(store, auth).routes(),
        *AgentApi(store, auth, wakeups).routes(),
    ]
    app = Starlette(
        routes=[
            *discovery.routes(),
            *openapi.routes(),
            *routes,
            *compute_routes(store, auth),
            *identity,
        ],
        exception_handlers=HANDLERS,
        middleware=[Middleware(RequestLog)],
        lifespan=lifespan,
    )
    app.state.public_url = config.public_url
    return app


def _identity(
    store: Store, config: IdentityConfig, policy: Policy, users: Users | None
) -> tuple[Auth, Sequence[BaseRoute], Callable[[], None]]:
    """Return who resolves tokens, the identity's routes, and what ends it."""
    if config.keystone is not None:
        keystone = KeystoneTokens(config.keystone, policy)
        return Auth(users, keystone.caller, KEYSTONE_KEEP_S), (), keystone.close
    hashing = Hashing()
    auth = Auth(users, Issued(store, policy).caller, KEEP_S)
    return auth, identity_routes(store, auth, hashing, config.token_s), hashing.close


async def _prune(store: Store, retention_days: int) -> None:
    """Keep the audit within its bounds: now, and from time to time."""
    while True:
        try:
            while await store.write(lambda tx: audit.prune(tx, retention_days)):
                pass
        except (SQLAlchemyError, RequestError) as error:
            log.warning("old audit events stay until the next time: %s", error)
        await asyncio.sleep(PRUNE_EVERY_S)


class RequestLog:
    """Gives each request an id, and writes a line: method, path, status, milliseconds, user, id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500
        request_id = scope["trunkline.request_id"] = f"req-{uuid4()}"

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-openstack-request-id", request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            milliseconds = (time.perf_counter() - started) * 1000
            user = scope.get("trunkline.user", "-")
            path = scope["path"].encode("ascii", "backslashreplace").decode()
            log.info(
                "%s %s %d %.1fms user=%s %s",
                scope["method"], path, status, milliseconds, user, request_id,
            )  # fmt: skip
