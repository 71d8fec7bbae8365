"""Where a client reached this server, as the client itself said it."""

from __future__ import annotations

from starlette.requests import Request


def root(request: Request) -> str:
    """Return the URL under which the request's client knows the server.

    That is the configured one, if any. Otherwise the Host header is repeated, never taken apart: it
    may be anything.
    """
    configured: str | None = request.app.state.public_url
    return configured or f"{request.scope['scheme']}://{request.headers.get('host', 'localhost')}"
