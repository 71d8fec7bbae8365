"""Puts the API together: routes, errors, one log line per request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline.api import discovery
from trunkline.api.agents import AgentApi
from trunkline.api.auth import Auth
from trunkline.api.errors import HANDLERS
from trunkline.api.quotas import QuotaApi
from trunkline.api.routes import NetworkingApi, Store
from trunkline.api.tags import TagsApi
from trunkline.api.wakeups import Wakeups
from trunkline.db.engine import Database
from trunkline.model import HostName
from trunkline.service.hosts import revisions

log = logging.getLogger("trunkline.server")


def build(database: Database, auth: Auth, wakeups: Wakeups) -> Starlette:
    """Return the API as an ASGI application, on a database whose schema is up to date."""
    store = Store(database)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def on_moved(hosts: set[HostName]) -> None:
            loop.call_soon_threadsafe(wakeups.moved, hosts)

        database.on_moved = on_moved
        looking = loop.create_task(wakeups.look(lambda: store.read(revisions)))
        yield
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        store.close()

    networking = NetworkingApi(store, auth)
    routes = [
        *QuotaApi(store, auth).routes(),
        *networking.routes(),
        *TagsApi(store, networking).routes(),
        *AgentApi(store, auth, wakeups).routes(),
    ]
    return Starlette(
        routes=[*discovery.routes(), *routes],
        exception_handlers=HANDLERS,
        middleware=[Middleware(RequestLog)],
        lifespan=lifespan,
    )


class RequestLog:
    """Writes a line per request: method, path, status, milliseconds, user."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            milliseconds = (time.perf_counter() - started) * 1000
            user = scope.get("trunkline.user", "-")
            path = scope["path"].encode("ascii", "backslashreplace").decode()
            log.info("%s %s %d %.1fms user=%s", scope["method"], path, status, milliseconds, user)
