"""Which caller a request's token stands for: asked in one place, by every route.

One order: the users file's tokens are looked up first, as that costs no I/O.
"""

from __future__ import annotations

from starlette.requests import Request

from trunkline.api.users import Users
from trunkline.errors import Unauthorized
from trunkline.service.caller import Caller

TOKEN_MAX = 1024


class Auth:
    """Resolves tokens."""

    def __init__(self, users: Users) -> None:
        self._users = users

    async def caller(self, request: Request) -> Caller:
        """Return who sent a request, and note the name for the log.

        Raises:
            Unauthorized: No token, or one that stands for nobody (any more).
        """
        token = request.headers.get("x-auth-token")
        if not token:
            raise Unauthorized("The request needs a token in the header X-Auth-Token.")
        caller = self._users.caller(token) if len(token) <= TOKEN_MAX else None
        if caller is None:
            raise Unauthorized(
                "The token in X-Auth-Token is none that the server knows; see its users file."
            )
        request.scope["trunkline.user"] = caller.user
        return caller
