"""Answers kept by the identity of the question: cost follows the change.

A snapshot's unchanged sections are the same objects as before. What is made of one is found
again here by its address in memory, which costs the same however much the section holds, where
``functools.lru_cache`` would hash and compare all of it. For pure functions of immutable values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def kept(maximum: int = 4096) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that keeps a function's answers, and the arguments, so ids stay theirs.

    Answers are shared between callers: they are not to be changed.

    Args:
        maximum: After so many new answers, those are forgotten that were not asked for again
            since the last time; it costs working them out anew.
    """

    def keeping(function: Callable[P, R]) -> Callable[P, R]:
        young: dict[tuple[int, ...], tuple[tuple[object, ...], R]] = {}
        old: dict[tuple[int, ...], tuple[tuple[object, ...], R]] = {}

        @wraps(function)
        def ask(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal young, old
            key = tuple(map(id, args))
            found = young.get(key)
            if found is None:
                found = old.get(key) or (args, function(*args, **kwargs))
                if len(young) >= maximum:
                    young, old = {}, young
                young[key] = found
            return found[1]

        return ask

    return keeping
