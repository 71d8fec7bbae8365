"""Tells Nova what becomes of its servers' ports, until Nova has heard it. Holds up nobody.

The section ``[nova]`` of the server's configuration:

[nova]
auth_url = "https://cloud.example:5000"
username = "trunkline"                 # a user whom Nova lets tell it: with the role service
password = "…"
project_name = "service"               # and whatever else [identity.keystone] may have
url = "https://nova.example:8774/v2.1" # optional: else the compute endpoint of the catalog

What to tell is in the database (``service.nova``). Several servers may tell the same twice, which
Nova does not mind; and that it does not know a server is no fault.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from trunkline.api.identity.config import KeystoneConfig, credentials
from trunkline.api.routes import Store
from trunkline.client import ApiClient, Trust, log_in
from trunkline.errors import (
    Invalid,
    NotFound,
    RequestError,
    ServerUnavailable,
    TrunklineError,
    Unauthorized,
)
from trunkline.service import nova as events

LOOK_EVERY_S = 0.25
AGAIN_FIRST_S, AGAIN_AT_LAST_S = 1.0, 30.0  # the pauses after failures
PATH = "/os-server-external-events"

log = logging.getLogger("trunkline.server")


@dataclass(frozen=True, slots=True)
class NovaConfig:
    """How to reach Nova.

    Attributes:
        keystone: Where to log in, and as whom.
        url: Nova's API; None: the catalog says.
    """

    keystone: KeystoneConfig
    url: str | None


def parse(values: Any) -> NovaConfig:
    """Check the section.

    Raises:
        Invalid: A key is unknown, missing or malformed; the message names it.
    """
    if not isinstance(values, dict):
        raise Invalid(f"nova must be a table, not {values!r}")
    rest = {key: value for key, value in values.items() if key != "url"}
    url = values.get("url")
    if url is not None and (not isinstance(url, str) or not urlsplit(url).hostname):
        raise Invalid(f"nova.url: {url!r} is no URL of Nova's API, such as http://nova:8774/v2.1")
    return NovaConfig(credentials(rest, "nova"), url)


class Nova:
    """Nova's API, logged in when need be. Used by one thread at a time."""

    def __init__(self, config: NovaConfig) -> None:
        self._config = config
        self._trust = Trust(config.keystone.cafile)
        self._client: ApiClient | None = None

    def deliver(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Tell Nova of events.

        Raises:
            RequestError: Nova, or the Keystone, does not want to hear it.
            ServerUnavailable: One of them did not answer.
        """
        told = [
            {
                "name": event["name"],
                "server_uuid": event["server_id"],
                "tag": event["port_id"],
                "status": "completed",
            }
            for event in found
        ]
        held = self._client is not None
        try:
            self._post(told)
        except Unauthorized:
            if not held:
                raise
            self._post(told)  # the token had expired

    def _post(self, told: Sequence[Mapping[str, Any]]) -> None:
        if self._client is None:
            self._client = self._log_in()
        try:
            self._client.request("POST", PATH, {"events": told})
        except NotFound:
            log.info("Nova knows none of the servers of %d events", len(told))
        except TrunklineError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, and forget the token."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _log_in(self) -> ApiClient:
        known = self._config.keystone
        user = {"name": known.username, "domain": {"name": known.user_domain_name}}
        scope = {"name": known.project_name, "domain": {"name": known.project_domain_name}}
        auth = {
            "identity": {
                "methods": ["password"],
                "password": {"user": {**user, "password": known.password}},
            },
            "scope": {"project": scope},
        }
        token, body = log_in(known.auth_url, auth, self._trust)
        return ApiClient(self._config.url or _endpoint(body, known.interface), token, self._trust)


def _endpoint(token: Mapping[str, Any], interface: str) -> str:
    """Return the compute endpoint of a token's catalog."""
    for service in token.get("catalog", ()):
        for endpoint in service["endpoints"] if service["type"] == "compute" else ():
            if endpoint["interface"] == interface:
                return str(endpoint["url"])
    raise ServerUnavailable(
        f"the catalog has no compute endpoint with the interface {interface}; set nova.url in the"
        " server's configuration."
    )


async def tell(store: Store, config: NovaConfig) -> None:
    """Deliver events for ever."""
    nova, thread = Nova(config), ThreadPoolExecutor(1, "nova")
    pause_s = AGAIN_FIRST_S
    try:
        while True:
            try:
                if not await _tell_some(store, nova, thread):
                    await asyncio.sleep(LOOK_EVERY_S)
                pause_s = AGAIN_FIRST_S
            except (RequestError, ServerUnavailable, SQLAlchemyError) as error:
                log.warning("Nova was not told, again in %.0f s: %s", pause_s, error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, AGAIN_AT_LAST_S)
    finally:
        thread.shutdown()
        nova.close()


async def _tell_some(store: Store, nova: Nova, thread: ThreadPoolExecutor) -> bool:
    """Deliver the oldest events; return whether there were any."""
    found = await store.read(events.pending)
    if not found:
        return False
    gone = await store.write(events.forget_old)
    if gone:
        log.warning("%d events are too old to tell Nova of them", gone)
        return True
    await asyncio.get_running_loop().run_in_executor(thread, nova.deliver, found)
    await store.write(lambda tx: events.forget(tx, [event["id"] for event in found]))
    return True
