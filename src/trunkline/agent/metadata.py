"""The metadata proxy of a host: who asks, and proof of it to the service that answers.

An instance's packet to 169.254.169.254:80 is turned to this proxy by the host's rules, and
anti-spoofing has bound its source address to its port. The agent keeps a file per address of this
host's instances, and those of a router's own namespace ask by a socket in there, so equal
addresses of two routers are told apart. An address that none or more than one of a domain has
gets no answer: nobody is ever taken for somebody else. Knows nothing of what metadata is.

The headers are Nova's (nova.conf, ``neutron.service_metadata_proxy``): the service trusts
``X-Instance-ID`` because of ``X-Instance-ID-Signature``, an HMAC-SHA256 of it.
"""

from __future__ import annotations

import hmac
import http.client
import json
import logging
import socket
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from trunkline.agent.config import AgentConfig, MetadataConfig
from trunkline.client import UnixConnection
from trunkline.errors import Invalid
from trunkline.kernel import netns, spaces
from trunkline.ownership import METADATA_PORT, space_mark

log = logging.getLogger("trunkline.metadata")

TIMEOUT_S = 30.0
BODY_MAX = 64 * 1024
CONNECTIONS_MAX = 256  # of all instances of a host; more are told to come back
PASSED_ON = ("accept", "content-type", "user-agent")  # nothing else that an instance says is
METHODS = ["GET", "HEAD", "POST", "PUT"]
EVERYWHERE = "0.0.0.0"  # noqa: S104 - on every gateway address; the rules admit instances only
LOOK_S = 0.5
SETTINGS: dict[str, Any] = {
    "proxy_headers": False,  # who asks is who the packet is from
    "server_header": False,
    "access_log": False,
    "log_config": None,
    "limit_concurrency": CONNECTIONS_MAX,
    "timeout_keep_alive": 5,
    "timeout_graceful_shutdown": 5,
}


@dataclass(frozen=True, slots=True)
class Instance:
    """Who has an address.

    Attributes:
        device_id: The instance's id, as the compute service chose it.
    """

    device_id: str
    project_id: str


def serve(config: AgentConfig) -> None:
    """Serve this host's instances until told to stop.

    Raises:
        Invalid: The configuration has no metadata service.
    """
    if config.metadata is None:
        raise Invalid("the agent's configuration names no metadata service; add [metadata] to it")
    stop = Event()
    following = Thread(target=_follow_spaces, args=(config, stop), name="spaces", daemon=True)
    following.start()
    uvicorn.run(
        application(config.metadata, Path(config.host.state_dir)),
        host=EVERYWHERE,
        port=METADATA_PORT,
        **SETTINGS,
    )
    stop.set()
    following.join()


def _follow_spaces(config: AgentConfig, stop: Event) -> None:
    """Have a server in each space of this host, until told to stop; a thread's whole life.

    A space ends with its sockets, so they go soon after its name does.
    """
    servers: dict[tuple[str, int], uvicorn.Server] = {}
    mark, seen = space_mark(config.host.state_dir), -1
    while not stop.wait(LOOK_S):
        touched = spaces.touched()
        if touched == seen:
            continue
        seen = touched
        here = {(name, netns.inode(name)) for name in spaces.marked(mark)}
        for place in servers.keys() - here:
            servers.pop(place).should_exit = True
        for place in here - servers.keys():
            servers[place] = _start_in(place[0], config)
    for server in servers.values():
        server.should_exit = True


def _start_in(space: str, config: AgentConfig) -> uvicorn.Server:
    """Start a server for a space's instances, which only its own socket can reach."""
    assert config.metadata is not None
    listening = netns.socket(space, socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((EVERYWHERE, METADATA_PORT))
    asked = application(config.metadata, spaces.home(config.host.state_dir, space))
    server = uvicorn.Server(uvicorn.Config(asked, **SETTINGS))
    run = partial(server.run, sockets=[listening])
    Thread(target=run, name=space, daemon=True).start()
    return server


def application(config: MetadataConfig, state_dir: Path) -> Starlette:
    """Return the proxy as an ASGI application."""

    async def answer(request: Request) -> Response:
        source = IPv4Address(request.client.host) if request.client else None
        instance = find(state_dir, source) if source else None
        if source is None or instance is None:
            log.warning("no instance of this host has the address %s; it gets no metadata", source)
            return PlainTextResponse("No instance has this address.\n", 404)
        body = await _body(request)
        if body is None:
            return PlainTextResponse(f"At most {BODY_MAX} bytes.\n", 413)
        headers = proof(config.secret, instance, source)
        headers |= {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        return await run_in_threadpool(_forward, config.service, request, headers, body)

    return Starlette(routes=[Route("/{path:path}", answer, methods=METHODS)])


async def _body(request: Request) -> bytes | None:
    """Return a request's body; None if it is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            return None
    return body


def find(state_dir: Path, source: IPv4Address) -> Instance | None:
    """Return the one instance of this host that has an address, as the agent wrote it down."""
    found = list(state_dir.glob(f"dhcp/*/instances/{source}"))
    if len(found) != 1:
        return None
    try:
        data = json.loads(found[0].read_text())
    except FileNotFoundError:  # it went this moment
        return None
    return Instance(data["device_id"], data["project_id"])


def proof(secret: str, instance: Instance, source: IPv4Address) -> dict[str, str]:
    """Return the headers that tell the service who asks, and prove that we say so."""
    signature = hmac.new(secret.encode(), instance.device_id.encode(), "sha256").hexdigest()
    return {
        "X-Forwarded-For": str(source),
        "X-Instance-ID": instance.device_id,
        "X-Tenant-ID": instance.project_id,
        "X-Instance-ID-Signature": signature,
    }


def _forward(service: str, request: Request, headers: dict[str, str], body: bytes) -> Response:
    """Return what the service answers."""
    path = request.scope["raw_path"].decode("ascii", "replace")
    query = request.scope["query_string"].decode("ascii", "replace")
    connection = _connection(service)
    try:
        connection.request(
            request.method, f"{path}?{query}" if query else path, body or None, headers
        )
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        log.warning("metadata service %s: %s", service, error or type(error).__name__)
        return PlainTextResponse("The metadata service does not answer.\n", 502)
    finally:
        connection.close()
    return Response(content, answer.status, media_type=answer.headers.get("Content-Type"))


def _connection(service: str) -> http.client.HTTPConnection:
    if service.startswith("unix:"):
        connection: http.client.HTTPConnection = UnixConnection(service.removeprefix("unix:"))
        connection.timeout = TIMEOUT_S
        return connection
    parts = urlsplit(service)
    return http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=TIMEOUT_S)
