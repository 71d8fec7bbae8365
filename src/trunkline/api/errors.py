"""From exceptions to answers, in the Networking API's shape. The only place that knows statuses."""

from __future__ import annotations

import logging

from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from trunkline import errors

log = logging.getLogger("trunkline.server")

STATUS: dict[type[errors.RequestError], int] = {
    errors.Invalid: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Outdated: 412,
    errors.TooLarge: 413,
}
HTTP_KINDS = {404: "HTTPNotFound", 405: "HTTPMethodNotAllowed"}


def answer(status: int, kind: str, message: str) -> Response:
    """Return an error body that every OpenStack client understands."""
    body = {"NeutronError": {"type": kind, "message": message, "detail": ""}}
    headers = {"connection": "close"} if status == STATUS[errors.TooLarge] else None
    return JSONResponse(body, status, headers)


async def request_error(_request: Request, error: Exception) -> Response:
    """Answer what the caller did wrong."""
    assert isinstance(error, errors.RequestError)
    return answer(STATUS[type(error)], error.kind, str(error))


async def http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refused."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.scope['path']}: {error.detail}"
    return answer(error.status_code, HTTP_KINDS.get(error.status_code, "HTTPError"), message)


async def database_error(_request: Request, error: Exception) -> Response:
    """Answer that the database is locked, full or away: retryable, and not the caller's fault."""
    log.error("database: %s", error)
    return answer(503, "ServiceUnavailable", "The database did not answer; send it again later.")


async def crash(request: Request, _error: Exception) -> Response:
    """Answer a fault of ours; the server logs its traceback."""
    return answer(
        500,
        "HTTPInternalServerError",
        f"{request.method} {request.scope['path']} met a fault of the server; its log says more.",
    )


HANDLERS = {
    errors.RequestError: request_error,
    HTTPException: http_error,
    OperationalError: database_error,
    Exception: crash,
}
