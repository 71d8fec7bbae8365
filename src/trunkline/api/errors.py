"""From exceptions to answers, in the Networking API's shape. The only place that knows statuses."""

from __future__ import annotations

import logging
from http import HTTPStatus

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
    errors.TooManyRequests: 429,
}
IDENTITY = "/identity"
"""Below this path, errors have Keystone's shape."""

COMPUTE = "/compute"
"""Below this one, Nova's."""

COMPUTE_KINDS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    503: "serviceUnavailable",
}

HTTP_KINDS = {404: "HTTPNotFound", 405: "HTTPMethodNotAllowed"}


def answer(request: Request, status: int, kind: str, message: str) -> Response:
    """Return an error body that every OpenStack client understands."""
    headers = {"connection": "close"} if status == STATUS[errors.TooLarge] else None
    if request.scope["path"].startswith(IDENTITY):
        title = HTTPStatus(status).phrase
        return JSONResponse(
            {"error": {"code": status, "title": title, "message": message}}, status, headers
        )
    if request.scope["path"].startswith(COMPUTE):
        fault = {"code": status, "message": message}
        return JSONResponse({COMPUTE_KINDS.get(status, "computeFault"): fault}, status, headers)
    body = {"NeutronError": {"type": kind, "message": message, "detail": ""}}
    return JSONResponse(body, status, headers)


async def request_error(request: Request, error: Exception) -> Response:
    """Answer what the caller did wrong."""
    assert isinstance(error, errors.RequestError)
    status = STATUS[type(error)]
    if error.kind == "OverQuota" and request.scope["path"].startswith(COMPUTE):
        status = 403  # as in Nova
    response = answer(request, status, error.kind, str(error))
    if isinstance(error, errors.TooManyRequests):
        response.headers["retry-after"] = str(error.after_s)
    return response


async def http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refused."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.scope['path']}: {error.detail}"
    kind = HTTP_KINDS.get(error.status_code, "HTTPError")
    return answer(request, error.status_code, kind, message)


async def database_error(request: Request, error: Exception) -> Response:
    """Answer that the database is locked, full or away: retryable, and not the caller's fault."""
    log.error("database: %s", error)
    message = "The database did not answer; send it again later."
    return answer(request, 503, "ServiceUnavailable", message)


async def unavailable(request: Request, error: Exception) -> Response:
    """Answer that a server which this one depends on is silent: retryable, too."""
    log.error("%s", error)
    return answer(request, 503, "ServiceUnavailable", str(error))


async def crash(request: Request, _error: Exception) -> Response:
    """Answer a fault of ours; the server logs its traceback."""
    return answer(
        request,
        500,
        "HTTPInternalServerError",
        f"{request.method} {request.scope['path']} met a fault of the server; its log says more.",
    )


HANDLERS = {
    errors.RequestError: request_error,
    HTTPException: http_error,
    OperationalError: database_error,
    errors.ServerUnavailable: unavailable,
    Exception: crash,
}
