"""All flows that are translated, every service, counted exactly.

Ports to floating IPs, ports to the Internet, and the Internet to floating IPs. On this side of a
translation only prefixes and "anybody" match, since nobody's fixed address is seen. So senders
are counted by what their groups let out, by host where that matters, and by the part of the
address space that their public face is in; floating IPs by theirs and by what their groups let
in. The Internet is as many ends as rules can tell apart.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from ipaddress import IPv4Address
from operator import and_

import numpy as np

from trunkline.model import Direction
from trunkline.trace.reach import Counts, Reach, Tally
from trunkline.trace.reach_policy import (
    ANYBODY,
    Bools,
    Clauses,
    Ints,
    Peer,
    prefix_edges,
    prefix_span,
    rules_of_version,
)
from trunkline.trace.verify_cloud import Cloud
from trunkline.trace.verify_flow import way_in

NOWHERE = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")  # RFC 6890: no unicast host is there


@dataclass(frozen=True)
class Public:
    """How far translated flows come, a tally per service.

    Attributes:
        outside: One address of the Internet of each part that rules tell apart.
        to_floating: Of every port to every floating IP.
        to_internet, from_internet: Of every port, floating IP, and part of the Internet.
        open_to_all: Per floating IP, in the cloud's order, the services (as bits) that the whole
            Internet reaches.
    """

    outside: tuple[IPv4Address, ...]
    to_floating: list[Tally]
    to_internet: list[Tally]
    from_internet: list[Tally]
    open_to_all: tuple[int, ...]


def reach_public(reach: Reach) -> Public:
    """Return who reaches whom by translated IPv4 addresses."""
    return _Counting(reach).public()


def outside_parts(edges: Sequence[int], inside: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return one address that is not inside, of each part between edges that has one.

    Args:
        edges: Where parts begin, sorted; the first part begins at 0.
        inside: First and last address of what is not meant; spans that do not overlap.
    """
    spans = sorted(inside)
    found, at = {}, 0
    for part, (first, end) in enumerate(zip([0, *edges], [*edges, 1 << 32], strict=True)):
        while at < len(spans) and spans[at][1] < first:
            at += 1
        candidate, look = first, at
        while look < len(spans) and spans[look][0] <= candidate:
            candidate = max(candidate, spans[look][1] + 1)
            look += 1
        if candidate < end:
            found[part] = candidate
    return found


def outside_of(*clouds: Cloud) -> tuple[IPv4Address, ...]:
    """Return one address of each part of the Internet that rules of these clouds tell apart."""
    edges: set[int] = set()
    for cloud in clouds:
        exempt = (p for host in cloud.hosts.values() for p in host.settings.exempt)
        spans = [prefix_span(str(prefix)) for prefix in exempt]
        edges |= {edge for first, last in spans for edge in (first, last + 1)}
        edges |= set(prefix_edges(rules_of_version(cloud, 4)))
    inside = _merged(span for cloud in clouds for span in _inside(cloud))
    return tuple(map(IPv4Address, outside_parts(sorted(edges), inside).values()))


def _inside(cloud: Cloud) -> list[tuple[int, int]]:
    """Return what is not the Internet, as spans of addresses that do not overlap."""
    settings = [host.settings for host in cloud.hosts.values()]
    sources = [s for one in settings for s in (one.source, *dict(one.sources).values()) if s]
    single = [*(f.address for f in cloud.floating), *cloud.forwarding, *sources]
    prefixes = [*map(str, cloud.tenant_prefixes), *NOWHERE]
    return _merged([*((int(a), int(a)) for a in single), *map(prefix_span, prefixes)])


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans that cover the same and do not touch, sorted."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


@dataclass(frozen=True)
class _Table:
    """Of each kind of groups, the services (as bits) allowed with each part of some addresses.

    Attributes:
        kind: The kind of each profile.
        rows: By kind: those allowed with anybody, and those of the parts that have more, by part.
    """

    kind: Ints
    rows: tuple[tuple[int, Mapping[int, int]], ...]

    def bits(self, service: int, parts: int) -> Counts:
        """Return kind x part: 1.0 where a service is allowed."""
        bits = np.empty((len(self.rows), parts))
        for index, (base, more) in enumerate(self.rows):
            bits[index] = base >> service & 1
            for part, mask in more.items():
                bits[index, part] = mask >> service & 1
        return bits

    def times(self, kind: int, parts: int) -> Mapping[int, int]:
        """Return with how many parts a kind allows which services."""
        base, more = self.rows[kind]
        return Counter(more.values()) + Counter({base: parts - len(more)})


def _tabulate(
    kinds_of_groups: Sequence[Clauses],
    direction: Direction,
    edges: Sequence[int],
    parts: Sequence[int],
) -> _Table:
    """Return what profiles allow with the parts of these numbers, sorted."""
    rows: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}
    kinds = []
    for clauses in kinds_of_groups:
        base = clauses.get((direction, ANYBODY), 0)
        more: dict[int, int] = {}
        for (looks, (kind, name)), mask in clauses.items():
            if looks == direction and kind == "prefix":
                first, last = (bisect_right(edges, edge) for edge in prefix_span(name))
                for index in range(bisect_left(parts, first), bisect_right(parts, last)):
                    more[index] = more.get(index, base) | mask
        kinds.append(rows.setdefault((base, tuple(sorted(more.items()))), len(rows)))
    return _Table(np.array(kinds, np.int64), tuple((base, dict(more)) for base, more in rows))


def _alike_outside(allowed: Sequence[Clauses]) -> tuple[list[Clauses], Ints]:
    """Return what profiles allow without groups, each once, and which of these each has."""
    kinds: dict[frozenset[tuple[tuple[Direction, Peer], int]], int] = {}
    of_profile = np.empty(len(allowed), np.int64)
    for index, clauses in enumerate(allowed):
        outside = frozenset([item for item in clauses.items() if item[0][1][0] != "group"])
        of_profile[index] = kinds.setdefault(outside, len(kinds))
    return [dict(kind) for kind in kinds], of_profile


class _Counting:
    """One count of all translated flows."""

    def __init__(self, reach: Reach) -> None:
        self._reach, self._cloud, self._classes = reach, reach.cloud, reach.classes
        hosts = self._cloud.hosts.values()
        exempt = {p for host in hosts for p in host.settings.exempt}
        spans = [prefix_span(str(prefix)) for prefix in exempt]
        self._edges = sorted(
            {*self._classes.edges, *(edge for a, b in spans for edge in (a, b + 1))}
        )
        self._kinds, self._kind = _alike_outside(reach.allowed)
        self._floating = [f for f in self._cloud.floating if f.end.seat.up]
        self._outside = outside_parts(self._edges, _inside(self._cloud))
        self._place = self._classes.place[self._classes.of_end]
        self._routers = [self._cloud.segments[p.network].router for p in self._classes.places]
        self._leaves = reach.ways.gateway & self._outward()
        self._profile = self._kind[self._classes.profile[self._classes.of_end]]
        self._of_end = {
            (end.seat.port.id, end.address): index for index, end in enumerate(self._classes.ends)
        }
        self._enters = np.array([way_in(self._cloud, f) is None for f in self._floating], np.bool_)
        self._face = self._faces()

    def public(self) -> Public:
        """Return all tallies."""
        from_internet, open_to_all = self._from_internet()
        return Public(
            tuple(map(IPv4Address, self._outside.values())),
            self._to_floating(),
            self._to_internet(),
            from_internet,
            open_to_all,
        )

    def _part(self, address: IPv4Address) -> int:
        return bisect_right(self._edges, int(address))

    def _outward(self) -> Bools:
        """Return of each end whether its host and its router have a way to the outside."""
        hosts = self._cloud.hosts.values()
        uplinks = np.array([host.settings.uplink for host in hosts], np.bool_)
        routers = np.array([bool(r and r.has_gateway) for r in self._routers], np.bool_)
        return uplinks[self._reach.ways.host] & routers[self._place]

    def _faces(self) -> Ints:
        """Return the part that each end's public face is in, -1 for an end without one."""
        sources = [host.settings.source for host in self._cloud.hosts.values()]
        parts = [-1 if source is None else self._part(source) for source in sources]
        shared = np.array([bool(r and r.enable_snat) for r in self._routers], np.bool_)
        by_host = np.array(parts, np.int64)[self._reach.ways.host]
        faces: Ints = np.where(shared[self._place], by_host, -1)
        for key, address in self._cloud.faces.items():
            if key in self._of_end:
                faces[self._of_end[key]] = self._part(address)
        return faces

    # --- the Internet ---------------------------------------------------------------------------

    def _to_internet(self) -> list[Tally]:
        """Count ports times parts of the Internet."""
        numbers = list(self._outside)
        table = _tabulate(self._kinds, Direction.EGRESS, self._edges, numbers)
        kind = table.kind[self._profile]
        count = len(table.rows)
        everybody = np.bincount(kind, minlength=count)
        leaving = np.bincount(kind[self._leaves], minlength=count)
        returning = self._leaves & (self._face >= 0)
        with_face = np.bincount(kind[returning], minlength=count)
        sums = [
            _weigh(table, people, len(numbers), len(self._reach.services))
            for people in (everybody, leaving, with_face)
        ]
        exempt = self._answered_without_face(table, kind, numbers)
        pairs = len(self._classes.ends) * len(numbers)
        return [
            Tally(pairs, out, left, left, back + more, left)
            for out, left, back, more in zip(*sums, exempt, strict=True)
        ]

    def _answered_without_face(
        self, table: _Table, kind: Ints, numbers: Sequence[int]
    ) -> list[int]:
        """Count what is answered since the destination may see private addresses."""
        sums = [0] * len(self._reach.services)
        hosts = list(self._cloud.hosts.values())
        addresses = list(self._outside.values())
        for end in np.flatnonzero(self._leaves & (self._face < 0)):
            base, more = table.rows[kind[end]]
            prefixes = hosts[self._reach.ways.host[end]].settings.exempt
            for index in range(len(numbers)):
                if any(IPv4Address(addresses[index]) in prefix for prefix in prefixes):
                    mask = more.get(index, base)
                    sums = [total + (mask >> s & 1) for s, total in enumerate(sums)]
        return sums

    def _from_internet(self) -> tuple[list[Tally], tuple[int, ...]]:
        """Count parts of the Internet times floating IPs, and say what is open to all of it."""
        numbers = list(self._outside)
        table = _tabulate(self._kinds, Direction.INGRESS, self._edges, numbers)
        kind = table.kind[self._profile[self._floating_ends()]]
        entered = np.bincount(kind[self._enters], minlength=len(table.rows))
        width = len(self._reach.services)
        pairs = len(self._floating) * len(numbers)
        routed = int(self._enters.sum()) * len(numbers)
        delivered = _weigh(table, entered, len(numbers), width)
        open_to = [_everywhere(*row, len(numbers)) for row in table.rows]
        return (
            [Tally(pairs, pairs, routed, count, count, count) for count in delivered],
            tuple(
                open_to[k] if enters else 0
                for k, enters in zip(kind.tolist(), self._enters.tolist(), strict=True)
            ),
        )

    def _floating_ends(self) -> Ints:
        ends = [self._of_end[f.end.seat.port.id, f.end.address] for f in self._floating]
        return np.array(ends, np.int64)

    # --- floating IPs ---------------------------------------------------------------------------

    def _to_floating(self) -> list[Tally]:
        """Count ports times floating IPs, each port's own included."""
        at = np.array([self._part(f.address) for f in self._floating], np.int64)
        targets, target = np.unique(at, return_inverse=True)
        faces, face = np.unique(self._face, return_inverse=True)
        out = _tabulate(self._kinds, Direction.EGRESS, self._edges, targets.tolist())
        into = _tabulate(self._kinds, Direction.INGRESS, self._edges, faces.tolist())
        crossing = _Crossing(
            out.kind[self._profile],
            face,
            target,
            into.kind[self._profile[self._floating_ends()]],
            (len(out.rows), len(faces), len(targets), len(into.rows)),
        )
        going = self._leaves & (self._face >= 0)
        groups = self._meetings(going, self._enters)
        everybody = np.ones(len(going), np.bool_), np.ones(len(self._floating), np.bool_)
        tallies = []
        for service in range(len(self._reach.services)):
            allowed = out.bits(service, len(targets)), into.bits(service, len(faces))
            let_out = crossing.count(*everybody, allowed)[0]
            routed = delivered = 0
            for sign, senders, receivers in groups:
                more = crossing.count(senders, receivers, allowed)
                routed, delivered = routed + sign * more[0], delivered + sign * more[1]
            pairs = len(going) * len(self._floating)
            tallies.append(Tally(pairs, let_out, routed, delivered, delivered, delivered))
        return tallies

    def _meetings(self, going: Bools, entered: Bools) -> list[tuple[int, Bools, Bools]]:
        """Return who can meet, as signed products of senders and floating IPs.

        All with all, less what is lost because a host keeps its instances' own addresses towards
        a floating IP elsewhere.
        """
        found = [(1, going, entered)]
        own_host = np.array(
            [self._reach.ways.hosts[self._cloud.gate(f.end).name] for f in self._floating]
        )
        for number, host in enumerate(self._cloud.hosts.values()):
            exempt = (
                np.array(
                    [any(f.address in p for p in host.settings.exempt) for f in self._floating],
                    np.bool_,
                )
                if host.settings.exempt
                else np.zeros(len(self._floating), np.bool_)
            )
            lost = exempt & entered & (own_host != number)
            if lost.any():
                found.append((-1, going & (self._reach.ways.host == number), lost))
        return found


@dataclass(frozen=True)
class _Crossing:
    """Senders and floating IPs by what decides about them.

    Attributes:
        out, face: Of each sender: the kind of its groups, and the part its face is in.
        target, into: Of each floating IP: the part it is in, and the kind of its groups.
        shape: How many there are of each of these four.
    """

    out: Ints
    face: Ints
    target: Ints
    into: Ints
    shape: tuple[int, int, int, int]

    def count(
        self, senders: Bools, receivers: Bools, allowed: tuple[Counts, Counts]
    ) -> tuple[int, int]:
        """Return the pairs that are let out, and those that are let in as well."""
        outs, faces, targets, intos = self.shape
        by_face = np.bincount(
            self.face[senders] * outs + self.out[senders], minlength=faces * outs
        ).reshape(faces, outs)
        by_target = np.bincount(
            self.target[receivers] * intos + self.into[receivers], minlength=targets * intos
        ).reshape(targets, intos)
        let_out = by_face.astype(np.float64) @ allowed[0]
        let_in = by_target.astype(np.float64) @ allowed[1]
        return int((let_out.sum(0) @ by_target).sum()), int((let_out * let_in.T).sum())


def _weigh(table: _Table, people: Ints, parts: int, width: int) -> list[int]:
    """Return per service the sum over kinds of people times parts allowed."""
    weights: Counter[int] = Counter()
    for kind in np.flatnonzero(people).tolist():
        for mask, times in table.times(kind, parts).items():
            weights[mask] += times * int(people[kind])
    return [sum(n for mask, n in weights.items() if mask >> s & 1) for s in range(width)]


def _everywhere(base: int, more: Mapping[int, int], parts: int) -> int:
    """Return the services that are allowed with every part."""
    return reduce(and_, more.values(), base if len(more) < parts else -1)
