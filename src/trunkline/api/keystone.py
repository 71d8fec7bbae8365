"""Tokens of an OpenStack cloud's Keystone, validated by keystonemiddleware in threads of its own.

Keystonemiddleware is WSGI, and this server is not: so one request after another is passed through
it to an application that only hands back what was found out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from trunkline.api.identity.config import KeystoneConfig
from trunkline.api.policy import Policy
from trunkline.errors import Invalid, ServerUnavailable
from trunkline.service.caller import Caller

THREADS = 4
TIMEOUT_S = 10
UNAUTHORIZED, UNAVAILABLE = 401, 500
FOUND = "keystone.token_info"
"""Where keystonemiddleware puts the body of a valid token."""


class KeystoneTokens:
    """Asks a Keystone whom tokens stand for.

    Raises:
        Invalid: keystonemiddleware is not installed.
    """

    def __init__(self, config: KeystoneConfig, policy: Policy) -> None:
        self._url = config.auth_url
        self._policy = policy
        self._middleware, self._request = _load(config)
        self._threads = ThreadPoolExecutor(THREADS, "keystone")

    async def caller(self, token: str) -> Caller | None:
        """Return whom a token stands for; None: Keystone says that it is not valid.

        Raises:
            ServerUnavailable: Keystone did not say anything.
        """
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(self._threads, self._validated, token)
        if body is None:
            return None
        project = body.get("project")
        # Roles in a domain or in the system say nothing of networks, which projects have.
        given = body.get("roles", []) if project else []
        roles = frozenset(str(role["name"]) for role in given)
        user, project_id = body["user"], str(project["id"]) if project else ""
        return Caller(
            str(user["name"]), project_id, roles, self._policy.rights(roles), str(user["id"])
        )

    def _validated(self, token: str) -> dict[str, Any] | None:
        request = self._request("/", headers={"X-Auth-Token": token})
        try:
            response = request.get_response(self._middleware)
        except Exception as error:  # its own and keystoneauth1's, requests' and urllib3's
            raise self._silent(str(error) or type(error).__name__) from error
        if response.status_code == UNAUTHORIZED:
            return None
        if response.status_code >= UNAVAILABLE:
            raise self._silent(f"it answered {response.status}")
        found: dict[str, Any] = request.environ[FOUND]["token"]
        return found

    def _silent(self, reason: str) -> ServerUnavailable:
        return ServerUnavailable(
            f"The Keystone at {self._url} did not validate the token: {reason}. Send the request"
            " again later; if it stays so, see identity.keystone in the server's configuration."
        )

    def close(self) -> None:
        """Let what runs end."""
        self._threads.shutdown()


def _load(config: KeystoneConfig) -> tuple[Any, Any]:
    """Return keystonemiddleware for a Keystone, and what makes a request for it."""
    try:
        from keystonemiddleware.auth_token import AuthProtocol  # noqa: PLC0415  an extra
        from webob import Request  # noqa: PLC0415  comes with it
    except ImportError as error:
        raise Invalid(
            "identity.keystone needs keystonemiddleware: pip install 'trunkline[keystone]'"
        ) from error
    # It warns of every option of the plug-in for passwords, and of the cache that is turned off.
    logging.getLogger("keystonemiddleware").setLevel(logging.ERROR)
    options = {
        "auth_type": "v3password",
        "auth_url": config.auth_url,
        "username": config.username,
        "password": config.password,
        "project_name": config.project_name,
        "user_domain_name": config.user_domain_name,
        "project_domain_name": config.project_domain_name,
        "cafile": config.cafile,
        "interface": config.interface,
        "www_authenticate_uri": config.auth_url,
        "include_service_catalog": False,
        "http_connect_timeout": TIMEOUT_S,
        "token_cache_time": -1,  # api.auth keeps callers, for a shorter time
    }
    return AuthProtocol(_nothing, options), Request.blank


def _nothing(
    _environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]
) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []
