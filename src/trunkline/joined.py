"""Dictionaries in pieces, of which those that did not change are the same objects as before.

What is compared piece by piece costs what has changed, however much the whole holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from operator import is_
from typing import TypeVar

FAN = 16
HEX = "0123456789abcdef"

K = TypeVar("K", bound=str)
V = TypeVar("V")


class Joined(Mapping[K, V]):
    """A mapping made of dictionaries, none of which is ever changed.

    Equal to a plain dictionary of the same items; where a key is in several pieces, the last one
    counts.
    """

    def __init__(self, pieces: Iterable[dict[K, V]]) -> None:
        """Take dictionaries as they are, without a copy."""
        self.pieces = tuple(pieces)

    @cached_property
    def whole(self) -> dict[K, V]:
        """All items as one dictionary, not to be changed."""
        whole: dict[K, V] = {}
        for piece in self.pieces:
            whole |= piece
        return whole

    def __getitem__(self, key: K) -> V:
        """See ``Mapping``."""
        for piece in reversed(self.pieces):
            if key in piece:
                return piece[key]
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        """See ``Mapping``."""
        return any(key in piece for piece in self.pieces)

    def __iter__(self) -> Iterator[K]:
        """See ``Mapping``."""
        return iter(self.whole)

    def __len__(self) -> int:
        """See ``Mapping``."""
        return len(self.whole)

    __hash__ = None  # type: ignore[assignment] # like a dictionary

    def __eq__(self, other: object) -> bool:
        """Compare items, without a look at them where all pieces are the same objects."""
        if isinstance(other, Joined):
            return self.is_made_of(other.pieces) or self.whole == other.whole
        return self.whole == other

    def is_made_of(self, pieces: tuple[object, ...]) -> bool:
        """Return whether its pieces are these very objects."""
        return len(self.pieces) == len(pieces) and all(map(is_, self.pieces, pieces))

    def __repr__(self) -> str:
        """Return it as the dictionary that it is equal to."""
        return repr(self.whole)


class Fanned(Joined[K, V]):
    """A mapping by names that end in a port's id, in a piece for each first digit of that.

    Two of these have what is comparable in the same place.
    """

    def replaced(self, changes: Mapping[K, V | None], start: int) -> Fanned[K, V]:
        """Return one in which items differ; None is absent. See ``fan`` for ``start``."""
        pieces = list(self.pieces)
        for key, value in changes.items():
            place = digit(key[start:])
            piece = {k: v for k, v in pieces[place].items() if k != key}
            pieces[place] = piece if value is None else {**piece, key: value}
        return Fanned(pieces)


def digit(port_id: str) -> int:
    """Return where what belongs to a port is among ``FAN`` pieces."""
    return HEX.find(port_id[:1]) % FAN


def fan(values: Mapping[K, V], start: int) -> Fanned[K, V]:
    """Return a mapping in pieces.

    Args:
        values: The items.
        start: Where in a key the port's id begins.
    """
    if isinstance(values, Fanned):
        return values
    pieces: list[dict[K, V]] = [{} for _ in range(FAN)]
    for key, value in values.items():
        pieces[digit(key[start:])][key] = value
    return Fanned(pieces)


def pieces_of(values: Mapping[K, V]) -> tuple[Mapping[K, V], ...]:
    """Return the pieces of a mapping, or all of it as one."""
    return values.pieces if isinstance(values, Joined) else (values,)


def changed(wanted: Mapping[K, V], present: Mapping[K, V]) -> tuple[dict[K, V], dict[K, V]]:
    """Return (items to add, items to take away) from ``present`` to ``wanted``.

    A key with another value is in both. Pieces that both share are looked at only where a key of
    another piece differs; so a key that is in several has to keep the order of its pieces.
    """
    if isinstance(wanted, Joined) and wanted.is_made_of(pieces_of(present)):
        return {}, {}
    ours, theirs = _unshared(wanted, present), _unshared(present, wanted)
    if ours == theirs:
        return {}, {}
    suspects = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    new, gone = _items(wanted, suspects), _items(present, suspects)
    for key in [key for key in new.keys() & gone.keys() if new[key] == gone[key]]:
        del new[key], gone[key]
    return new, gone


def _unshared(values: Mapping[K, V], others: Mapping[K, V]) -> Mapping[K, V]:
    """Return the items of the pieces that the others do not have."""
    if not isinstance(values, Joined):
        return values
    if not isinstance(others, Joined):
        return values.whole
    theirs = set(map(id, others.pieces))
    return Joined(piece for piece in values.pieces if id(piece) not in theirs).whole


def _items(values: Mapping[K, V], keys: Iterable[K]) -> dict[K, V]:
    return {key: values[key] for key in keys if key in values}
