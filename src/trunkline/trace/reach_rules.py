"""Groups' rules while they change: which services they tell apart, and who is about whom.

What a clause allows is kept as a set of rules' kinds (protocol and ports) and not of services.
So a rule that cuts a service in two changes no clause, only the meaning of the sets. Knows nothing
of ports, networks or hosts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from trunkline.model import Direction, GroupId, Rule, RuleId
from trunkline.snapshot import GroupView
from trunkline.trace.reach_policy import Clauses, Peer, peer_of
from trunkline.trace.verify_services import Service, fits, services

Kind = tuple[int | None, int | None, int | None]
"""Protocol, first and last port, or ICMP type and code, of a rule."""

EVERYTHING = 1
"""The set of kinds that allows all services, those that no rule names as well: no security."""


class Rulebook:
    """The rules of one IP version.

    Attributes:
        services: What the rules tell apart.
        clauses: What each group allows whom, as sets of kinds.
        about: The groups that have a clause about a peer, and what it allows; by direction.
    """

    def __init__(self, groups: Iterable[GroupView], version: int) -> None:
        self._version = version
        self._bit: dict[Kind, int] = {}
        self._uses: Counter[Kind] = Counter()
        self._signatures: dict[tuple[bool, ...], int] = {}
        self._columns: dict[int, NDArray[np.float64]] = {}
        self._kinds: dict[GroupId, Counter[Kind]] = {}
        self.clauses: dict[GroupId, Clauses] = {}
        self.about: dict[tuple[Direction, Peer], dict[GroupId, int]] = defaultdict(dict)
        self._known: list[Kind] = []
        self.services: tuple[Service, ...] = ()
        for group in groups:
            kinds = self.kinds_of(group.rules)
            self._number(kinds)
            self.retire(group.id, kinds)
            self.write(group.id, self.read(group.rules))
        self._cut([*self._uses])

    def kinds_of(self, rules: Iterable[Rule]) -> Counter[Kind]:
        """Return how many rules of this version are of which kind."""
        return Counter(
            (r.protocol, r.port_min, r.port_max) for r in rules if r.ethertype == self._version
        )

    def admit(self, kinds: Counter[Kind]) -> list[int] | None:
        """Tell apart what rules of these kinds would; return of each service what it was part of.

        None is that nothing is new.
        """
        fresh = [kind for kind in kinds if kind not in self._uses]
        self._number(fresh)
        return self._cut([*self._uses, *fresh]) if fresh else None

    def retire(self, group: GroupId, kinds: Counter[Kind]) -> list[int] | None:
        """Note that a group's rules are of these kinds, and no others; return as ``admit`` does."""
        self._uses.update(kinds)
        self._uses.subtract(self._kinds.pop(group, {}))
        self._uses = +self._uses
        if kinds:
            self._kinds[group] = kinds
        gone = any(kind not in self._uses for kind in self._known)
        return self._cut([*self._uses]) if gone else None

    def _number(self, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            self._bit.setdefault(kind, 2 << len(self._bit))

    def _cut(self, kinds: list[Kind]) -> list[int]:
        """Tell services apart by these kinds; return of each one of the old ones that it meets."""
        found = services(map(_rule, kinds))
        old = [self._signatures.get(self._signature(s), 0) for s in found]
        self.services, self._known = found, kinds
        self._signatures = {self._signature(s): n for n, s in enumerate(found)}
        self._covering = [
            EVERYTHING | sum(self._bit[k] for k in kinds if fits(_rule(k), s.protocol, s.port))
            for s in found
        ]
        self._columns.clear()
        return old

    def _signature(self, service: Service) -> tuple[bool, ...]:
        """Return which of the known kinds cover a service."""
        return tuple(fits(_rule(kind), service.protocol, service.port) for kind in self._known)

    def columns(self, allowed: int) -> NDArray[np.float64]:
        """Return 1.0 per service that a set of kinds allows, else 0.0."""
        if allowed not in self._columns:
            bits = [bool(allowed & covering) for covering in self._covering]
            self._columns[allowed] = np.array(bits, np.float64)
        return self._columns[allowed]

    def read(self, rules: Iterable[Rule]) -> dict[tuple[Direction, Peer], int]:
        """Return a group's rules of this version, those about the same peer made one."""
        found: dict[tuple[Direction, Peer], int] = {}
        for rule in rules:
            if rule.ethertype == self._version:
                key = (rule.direction, peer_of(rule))
                bit = self._bit[rule.protocol, rule.port_min, rule.port_max]
                found[key] = found.get(key, 0) | bit
        return found

    def write(self, group: GroupId, clauses: Mapping[tuple[Direction, Peer], int]) -> None:
        """Set what a group allows whom."""
        for key in self.clauses.get(group, {}):
            del self.about[key][group]
        self.clauses[group] = clauses
        for key, allowed in clauses.items():
            self.about[key][group] = allowed


@cache
def _rule(kind: Kind) -> Rule:
    return Rule(RuleId(""), Direction.INGRESS, 4, *kind)
