"""What classes of ends allow each other, while rules and classes change.

All classes that mean the same to everybody, as far as large sets of peers go, are of one
``Nature``; "anybody" is the largest. Small sets of peers (a group's members, a prefix) are looked
up when a class is asked about. Knows nothing of ways and of numbers of ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trunkline.model import Direction, GroupId
from trunkline.trace.reach_policy import ANYBODY, Peer
from trunkline.trace.reach_rules import EVERYTHING, Rulebook
from trunkline.trace.reach_seats import Numbers, Seats

Party = tuple[Peer, str]
"""A large set of peers, and the routing domain that it is meant in; prefixes mean all."""

Masks = tuple[int, int]
"""What the sender's, and the receiver's groups allow, as sets of kinds of rules."""

Pair = tuple[int, int]
"""A class asked about, and the other one."""

Listed = Mapping[Pair, Sequence[int]]
"""What small sets of peers are allowed on top: what the first class's groups say, the other's."""

OTHER = {Direction.EGRESS: Direction.INGRESS, Direction.INGRESS: Direction.EGRESS}


class Nature(NamedTuple):
    """What an end allows large sets of peers, by direction, and which of them it is part of."""

    allows: tuple[tuple[tuple[Party, int], ...], tuple[tuple[Party, int], ...]]
    member: frozenset[Party]

    def lets(self, direction: Direction, other: Nature) -> int:
        """Return what it allows another one, as a set of kinds of rules."""
        allowed = 0
        for party, mask in self.allows[direction == Direction.EGRESS]:
            if party in other.member:
                allowed |= mask
        return allowed


@dataclass(frozen=True, slots=True)
class Table:
    """What passes between one nature and each one, service x nature: let out; and let in."""

    out: Numbers
    both: Numbers


class Natures:
    """Classes' natures, and what of small sets of peers comes on top.

    Directions are those of the class asked about: it sends (egress), or receives.

    Attributes:
        large: The sets of peers that are large.
        nature: Of each class.
        count: How many natures there are.
    """

    def __init__(self, seats: Seats, book: Rulebook) -> None:
        self._seats, self._book = seats, book
        self._known: list[Nature] = []
        self._numbers: dict[Nature, int] = {}
        self._allowed: dict[tuple[int, int, Direction], int] = {}
        self._tables: dict[tuple[int, Direction], Table] = {}
        self._named = 0
        self.large: set[Peer] = {ANYBODY}
        self.nature = np.zeros(64, np.int64)

    @property
    def count(self) -> int:
        """Return how many natures there are."""
        return len(self._known)

    def find_large(self, most: int) -> None:
        """Find the sets of peers that mean more pairs of classes than can be looked up."""
        for (_, peer), groups in self._book.about.items():
            owners = sum(len(self._seats.members["group", group]) for group in groups)
            if owners * len(self._seats.of_peer(peer)) > most:
                self.large.add(peer)

    def name_classes(self) -> None:
        """Find the natures of new classes."""
        first, self._named = self._named, len(self._seats.classes)
        if self._named > self.nature.size:
            self.nature = np.pad(self.nature, (0, self._named))
        for number in range(first, self._named):
            self.nature[number] = self.number_of(number)

    def forget_services(self) -> None:
        """Take note that services are told apart otherwise."""
        self._tables.clear()

    def is_judged(self, number: int) -> bool:
        """Return whether groups judge a class at all."""
        return self._seats.classes[number].profile.port_security

    def number_of(self, number: int) -> int:
        """Return the nature that a class has by the rules as they are now."""
        nature = self._nature_of(number)
        found = self._numbers.setdefault(nature, len(self._known))
        if found == len(self._known):
            self._known.append(nature)
        return found

    def _nature_of(self, number: int) -> Nature:
        one = self._seats.classes[number]
        domain = one.place.domain
        member: set[Party] = {(ANYBODY, "")}
        member |= {_party(p, domain) for p in self._seats.peers(number) if p in self.large}
        if not one.profile.port_security:
            all_of_it = (((ANYBODY, ""), EVERYTHING),)
            return Nature((all_of_it, all_of_it), frozenset(member))
        allowed: dict[tuple[Direction, Party], int] = {}
        for group in one.profile.groups:
            for (direction, peer), mask in self._book.clauses.get(group, {}).items():
                if peer in self.large:
                    key = direction, _party(peer, domain)
                    allowed[key] = allowed.get(key, 0) | mask
        into, out = (
            tuple(sorted((party, mask) for (d, party), mask in allowed.items() if d == direction))
            for direction in (Direction.INGRESS, Direction.EGRESS)
        )
        return Nature((into, out), frozenset(member))

    def _lets(self, one: int, other: int, direction: Direction) -> int:
        """Return what a nature allows another one, leaving small sets of peers aside."""
        key = one, other, direction
        if key not in self._allowed:
            found = self._known[one].lets(direction, self._known[other])
            self._allowed[key] = found
        return self._allowed[key]

    def table(self, nature: int, direction: Direction) -> Table:
        """Return what passes between a nature, which sends (egress) or receives, and each one."""
        key = nature, direction
        known = self._tables.get(key)
        begun = 0 if known is None else known.out.shape[1]
        if known is None or begun < len(self._known):
            more = [self.masks(nature, n, direction) for n in range(begun, len(self._known))]
            out = np.array([self._book.columns(a) for a, _ in more]).T
            both = out * np.array([self._book.columns(b) for _, b in more]).T
            known = (
                Table(out, both)
                if known is None
                else Table(np.hstack([known.out, out]), np.hstack([known.both, both]))
            )
            self._tables[key] = known
        return known

    def masks(self, one: int, other: int, direction: Direction) -> tuple[int, int]:
        """Return what the sender of two natures lets out, and the receiver in."""
        own, back = self._lets(one, other, direction), self._lets(other, one, OTHER[direction])
        return (own, back) if direction == Direction.EGRESS else (back, own)

    # --- small sets of peers ------------------------------------------------------------------

    def listed(
        self,
        own: Collection[int],
        direction: Direction,
        others: Collection[int] | None = None,
    ) -> Listed:
        """Return what small sets of peers are allowed, by (own, other) class: own side's, other's.

        Args:
            own: The classes asked about.
            direction: Whether they send (egress) or receive.
            others: Which others are asked about; None is all.
        """
        found: dict[Pair, list[int]] = defaultdict(lambda: [0, 0])
        owners, members = self._roles(own)
        for group, numbers in owners.items():
            for (looks, peer), mask in self._book.clauses.get(group, {}).items():
                if looks == direction and peer not in self.large:
                    meant = self._chosen(self._seats.of_peer(peer), others)
                    self._note(found, (numbers, meant), peer, (mask, 0))
        for peer, numbers in members.items():
            for group, mask in self._book.about.get((OTHER[direction], peer), {}).items():
                meant = self._chosen(self._seats.members["group", group], others)
                judged = [number for number in meant if self.is_judged(number)]
                self._note(found, (numbers, judged), peer, (0, mask))
        return found

    def _roles(self, own: Iterable[int]) -> tuple[dict[GroupId, list[int]], dict[Peer, list[int]]]:
        """Return which of these classes are judged by which group, and are of which small peer."""
        owners: dict[GroupId, list[int]] = defaultdict(list)
        members: dict[Peer, list[int]] = defaultdict(list)
        for number in own:
            for peer in self._seats.peers(number):
                if peer not in self.large:
                    members[peer].append(number)
            if self.is_judged(number):
                for group in self._seats.classes[number].profile.groups:
                    owners[group].append(number)
        return owners, members

    def _chosen(self, classes: Collection[int], others: Collection[int] | None) -> Collection[int]:
        """Return those of classes that are asked about."""
        if others is None or not classes:
            return classes
        if len(classes) > len(others):
            classes, others = others, classes
        return [number for number in classes if number in others]

    def _note(
        self,
        found: dict[Pair, list[int]],
        classes: tuple[Iterable[int], Collection[int]],
        peer: Peer,
        masks: tuple[int, int],
    ) -> None:
        """Note what a clause allows pairs; groups mean members in the own routing domain."""
        known, (own, others) = self._seats.classes, classes
        for number in own:
            domain = known[number].place.domain
            for other in others:
                if peer[0] == "prefix" or known[other].place.domain == domain:
                    pair = found[number, other]
                    pair[0] |= masks[0]
                    pair[1] |= masks[1]


def _party(peer: Peer, domain: str) -> Party:
    return peer, domain if peer[0] == "group" else ""
