"""Which caller a request's token stands for: asked in one place, by every route.

One order: first the users file's tokens, which costs no I/O; then the identity's, own or Keystone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.requests import Request

from trunkline.api.users import Users, digest
from trunkline.errors import Unauthorized
from trunkline.service.caller import Caller

TOKEN_MAX = 16_384  # a Keystone's token may be a signed document
CALLERS_MAX = 10_000

LookUp = Callable[[str], Awaitable[Caller | None]]


class Auth:
    """Resolves tokens.

    Args:
        users: The users file; None: there is none.
        look_up: Asks the identity whom a token stands for; None: it does not know it.
        keep_s: Seconds for which its answer is good.
    """

    def __init__(self, users: Users | None, look_up: LookUp, keep_s: float) -> None:
        self._users = users
        self._look_up = look_up
        self._keep_s = keep_s
        self._found: dict[str, tuple[Caller, float]] = {}
        self._asked: dict[str, asyncio.Task[Caller | None]] = {}

    async def caller(self, request: Request) -> Caller:
        """Return who sent a request, and note the name for the log.

        Raises:
            Unauthorized: No token, or one that stands for nobody (any more).
        """
        token = request.headers.get("x-auth-token")
        if not token:
            raise Unauthorized("The request needs a token in the header X-Auth-Token.")
        caller = await self._resolve(token) if len(token) <= TOKEN_MAX else None
        if caller is None:
            raise Unauthorized(
                "The token in X-Auth-Token is unknown, expired or revoked; get a new one."
            )
        request.scope["trunkline.user"] = caller.user
        return caller

    def forget(self) -> None:
        """Ask again for every token: something that they stand on has changed."""
        self._found, self._asked = {}, {}

    async def _resolve(self, token: str) -> Caller | None:
        caller = None if self._users is None else self._users.caller(token)
        if caller is not None:
            return caller
        key = digest(token)
        caller, until = self._found.get(key, (None, 0.0))
        if caller is not None and until > time.monotonic():
            return caller
        if key not in self._asked:  # whoever asks for the same token meanwhile waits with us
            self._asked[key] = asyncio.create_task(self._ask(key, token))
        return await asyncio.shield(self._asked[key])

    async def _ask(self, key: str, token: str) -> Caller | None:
        found, asked = self._found, self._asked  # an answer from before a change is not kept
        until = time.monotonic() + self._keep_s
        try:
            caller = await self._look_up(token)
        finally:
            with suppress(KeyError):
                del asked[key]
        if len(found) >= CALLERS_MAX:
            found.clear()
        if caller is not None:
            found[key] = (caller, until)
        return caller
