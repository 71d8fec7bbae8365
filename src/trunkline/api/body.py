"""Reads a request's body: bounded, strict JSON, or a refusal that says which and why."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from trunkline.errors import Invalid, TooLarge

BODY_MAX = 1_000_000
DEPTH_MAX = 32  # deeper than anything here, far from where Python's own recursion ends
DIGITS_MAX = 1000  # more than any value has; what converters refuse is named by its attribute
KIND = "HTTPBadRequest"


async def read_json(request: Request) -> Any:
    """Return the body's JSON.

    Raises:
        TooLarge: It is larger than the server reads; what was announced so is not read at all.
        Invalid: It is no UTF-8, no JSON, or nested too deep.
    """
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > BODY_MAX:
        raise _too_large()
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_MAX:
                raise _too_large()
    except ClientDisconnect:
        raise Invalid("The request ended in the middle of its body.", KIND) from None
    return parse(bytes(body))


def parse(body: bytes) -> Any:
    """Return the JSON of a body; see ``read_json``."""
    try:
        content = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except UnicodeDecodeError as error:
        raise Invalid(f"The body is no UTF-8: {error.reason} at {error.start}.", KIND) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Invalid(f"The body is no JSON: {error}.", KIND) from None
    if not _is_shallow(content):
        raise _too_deep()
    return content


def unwrap(body: Any, key: str) -> Any:
    """Return what a body wraps under its one key.

    Raises:
        Invalid: It is no object with this key and no other.
    """
    if not isinstance(body, dict) or key not in body:
        raise Invalid(f"Unable to find {key} in the body.", KIND)
    if len(body) > 1:
        other = min(body.keys() - {key})
        raise Invalid(f"The body has {other[:80]!a} beside {key}.", KIND)
    return body[key]


def _is_shallow(content: Any) -> bool:
    """Return whether the values nest no deeper than allowed; walks them level by level."""
    level = [content]
    for _ in range(DEPTH_MAX):
        inner = [item for item in level if isinstance(item, dict | list)]
        if not inner:
            return True
        level = [v for item in inner for v in (item.values() if isinstance(item, dict) else item)]
    return False


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _bounded(text: str) -> int:
    if len(text) > DIGITS_MAX:
        raise ValueError(f"{text[:20]}... is a number of {len(text)} digits, which is too large")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _too_deep() -> Invalid:
    return Invalid(f"The body's JSON is nested deeper than {DEPTH_MAX} levels.", KIND)


def _too_large() -> TooLarge:
    return TooLarge(
        f"The body is larger than {BODY_MAX} bytes; split the request.", "HTTPRequestEntityTooLarge"
    )
