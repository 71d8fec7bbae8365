"""Waiting for conditions, with a limit that suits the machine. Knows no condition itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from trunkline.errors import Interrupted, Invalid

T = TypeVar("T")

PATIENCE = "TRUNKLINE_PATIENCE"
STEP_S = 0.01


def limit_s(seconds: float) -> float:
    """Return a limit for this machine: times ``TRUNKLINE_PATIENCE``, for slow ones.

    Raises:
        Invalid: The variable is no number.
    """
    text = os.environ.get(PATIENCE, "1")
    try:
        return seconds * float(text)
    except ValueError as error:
        raise Invalid(f"{PATIENCE}={text}: expected a number, such as 10") from error


def until(what: str, condition: Callable[[], T], seconds: float = 20) -> T:
    """Return the condition's value as soon as it is true.

    Args:
        what: What is waited for, as a sentence's subject and verb: ``VM_1 has a lease``.
        condition: Asked again and again.
        seconds: Limit before patience.

    Raises:
        Interrupted: It did not become true within the limit.
    """
    end = time.monotonic() + limit_s(seconds)
    while not (value := condition()):
        if time.monotonic() > end:
            message = f"gave up after {limit_s(seconds):g} s waiting until {what}"
            raise Interrupted(f"{message}; a slow machine needs {PATIENCE}=10 or so")
        time.sleep(STEP_S)
    return value
