"""What a snapshot's sections make one by one, put together: cost follows the change.

A section that did not change is the same object as before, and what it made is kept. Sections are
put together in bundles first, by the first digit of what they hold, so that one of many that
changes costs its bundle, and the others are as many questions as there are bundles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import groupby
from typing import Any, TypeVar

from trunkline.joined import FAN, digit
from trunkline.kept import kept
from trunkline.snapshot import parts_of

NOTHING: tuple[tuple[Any, ...], ...] = ((),)

T = TypeVar("T")
K = TypeVar("K", bound=str)
V = TypeVar("V")
R = TypeVar("R")


def gather(
    join: Callable[[Iterable[R]], R],
    make: Callable[..., R],
    values: tuple[T, ...],
    *context: object,
) -> R:
    """Return what the sections of ``values`` make together; a value of its own, free to change.

    Args:
        join: Puts together what several sections made, into something new.
        make: Called with the context and one section; its answers are to be ``kept``.
        values: As in a snapshot.
        context: What the answer depends on besides, by identity.
    """
    return join(_of_bundle(join, make, bundle, *context) for bundle in _bundles(values))


def pieces(
    make: Callable[..., tuple[dict[K, V], ...]], values: tuple[T, ...], *context: object
) -> tuple[tuple[dict[K, V], ...], ...]:
    """Return what the bundles of ``values`` make: of each dictionary that ``make`` makes, all.

    What has not changed is the same objects as before, which ``Joined`` is made of. Of ports,
    each is in the place where ``Fanned`` has it.
    """
    made = (_of_bundle(unions, make, bundle, *context) for bundle in _bundles(values))
    return tuple(zip(*made, strict=True))


@kept(1024)
def _of_bundle(
    join: Callable[[Iterable[R]], R],
    make: Callable[..., R],
    bundle: tuple[tuple[Any, ...], ...],
    *context: object,
) -> R:
    return join([make(*context, part) for part in bundle])


@kept(16)
def _bundles(values: tuple[T, ...]) -> list[tuple[tuple[T, ...], ...]]:
    """Return the sections of ports, names or addresses in ``FAN`` bundles."""
    bundles: list[list[tuple[T, ...]]] = [[] for _ in range(FAN)]
    parts = parts_of(values)
    if len(parts) > 1:
        for part in filter(None, parts):
            bundles[_place(part[0])].append(part)
    else:
        for place, some in groupby(sorted(values, key=_place), key=_place):
            bundles[place].append(tuple(some))
    return [_bundle(*parts) if parts else NOTHING for parts in bundles]


def _place(value: Any) -> int:
    return int(value) % FAN if isinstance(value, IPv4Address | IPv6Address) else digit(value.id)


@kept(256)
def _bundle(*parts: tuple[T, ...]) -> tuple[tuple[T, ...], ...]:
    """Return sections as one object, which is the same again for the same sections."""
    return parts


def union(parts: Iterable[dict[K, V]]) -> dict[K, V]:
    """Join dictionaries."""
    joined: dict[K, V] = {}
    for part in parts:
        joined |= part
    return joined


def unions(parts: Iterable[tuple[dict[K, V], ...]]) -> tuple[dict[K, V], ...]:
    """Join the first of each, the second of each, and so on."""
    return tuple(map(union, zip(*parts, strict=True)))


def unions_by_key(parts: Iterable[dict[str, dict[str, V]]]) -> dict[str, dict[str, V]]:
    """Join dictionaries of dictionaries; a union of the same ones is the same object."""
    found: dict[str, list[dict[str, V]]] = {}
    for part in parts:
        for key, values in part.items():
            found.setdefault(key, []).append(values)
    return {key: _union(*values) for key, values in found.items()}


@kept()
def _union(*parts: dict[str, V]) -> dict[str, V]:
    return union(parts)


def unique(values: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return a dictionary of small dictionaries, equal ones of which are the same object."""
    return {key: _unique(frozenset(items.items())) for key, items in values.items()}


@lru_cache(4096)
def _unique(items: frozenset[tuple[str, str]]) -> dict[str, str]:
    return dict(items)
