"""All pairs of ports by their fixed addresses, every service, request and reply, counted exactly.

Whether a packet finds its way depends on the sender and on the receiver's place alone, and so
does its answer the other way round. So for any set of senders and any set of receivers the
answered pairs between two places are a product: senders that find the way there, times receivers
that find the way back. What rules allow is cut into such sets (``reach_policy``); what is left
is a matrix product per set and a sum. No pair of ports is ever looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trunkline.trace.reach_policy import (
    LARGE,
    WORD,
    Bools,
    Classes,
    Clauses,
    Ints,
    Masks,
    Word,
    clauses_of,
    clauses_of_groups,
    cut_word,
    read_policy,
    rules_of_version,
    sort_into_classes,
)
from trunkline.trace.verify_cloud import Cloud
from trunkline.trace.verify_flow import has_gateway
from trunkline.trace.verify_services import Service, services

Counts = NDArray[np.float64]
"""Counts as the matrix product wants them: exact up to 2**53."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How far the pairs of one service come; each number is part of the one before.

    Attributes:
        pairs: Of ends of different ports that are plugged in, each direction counted.
        let_out: The sender's groups allow it.
        routed: The request finds the receiver's segment.
        delivered: The receiver's groups allow it too.
        answered: The reply finds its way back.
        possible: Let out, let in, and answered if the hosts had all bridges of their routers.
    """

    pairs: int = 0
    let_out: int = 0
    routed: int = 0
    delivered: int = 0
    answered: int = 0
    possible: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, n) + getattr(other, n) for n in self.__slots__))


class Ways:
    """Which ends find which places, by host and bridge; counted by class and by place."""

    def __init__(self, cloud: Cloud, classes: Classes) -> None:
        self.classes = classes
        places = classes.places
        self.hosts = {name: index for index, name in enumerate(cloud.hosts)}
        self.host = np.array([self.hosts[cloud.gate(e).name] for e in classes.ends], np.int64)
        self.routes = self._routes(cloud)
        self.gateway = self._gateways(cloud)
        domains = [cloud.segments[place.network].domain for place in places]
        _, codes = np.unique(np.array(domains, dtype=object).astype(str), return_inverse=True)
        self.same_domain: Bools = codes[:, None] == codes[None, :]
        self.one_domain = bool(self.same_domain.all())
        self.routes_of_single = self.routes.astype(np.float32)
        self.on_link = self._on_link()
        self.size = np.bincount(classes.of_end, minlength=classes.count)
        self.with_gateway = np.bincount(
            classes.of_end, self.gateway, minlength=classes.count
        ).astype(np.int64)
        self._order = np.argsort(classes.of_end, kind="stable")
        self._first = np.cumsum(self.size) - self.size

    def _routes(self, cloud: Cloud) -> Bools:
        """Return host x place: whether the host has a route to the place's subnet."""
        by_subnet: dict[str, list[int]] = {}
        for index, place in enumerate(self.classes.places):
            by_subnet.setdefault(place.subnet, []).append(index)
        routes = np.zeros((len(cloud.hosts), len(self.classes.places)), np.bool_)
        for host in cloud.hosts.values():
            found = [i for subnet in host.routes for i in by_subnet.get(subnet, ())]
            routes[self.hosts[host.name], found] = True
        return routes

    def _gateways(self, cloud: Cloud) -> Bools:
        """Return of each end whether its host is a router for it."""
        places = self.classes.places
        place = self.classes.place[self.classes.of_end]
        gateway = self.routes[self.host, place]
        ends = self.classes.ends
        for index in np.flatnonzero(~gateway):
            if len(places[place[index]].subnets) > 1:
                gateway[index] = has_gateway(cloud, ends[index])
        for number, end in enumerate(ends):
            if end.seat.unrouted:
                gateway[number] = has_gateway(cloud, end)
        return gateway

    def _on_link(self) -> Bools:
        """Return place x place: whether ends of the first ask for the second's MACs."""
        places = self.classes.places
        by_subnet: dict[str, list[int]] = {}
        for index, place in enumerate(places):
            by_subnet.setdefault(place.subnet, []).append(index)
        on_link = np.zeros((len(places), len(places)), np.bool_)
        for index, place in enumerate(places):
            on_link[index, [i for s in set(place.subnets) for i in by_subnet.get(s, ())]] = True
        return on_link

    def from_set(self, chosen: Bools) -> Crowd:
        """Return the ends of the chosen classes, with their ways."""
        members = chosen[self.classes.of_end]
        place = self.classes.place[self.classes.of_end[members]]
        count = len(self.classes.places)
        size = np.bincount(place, minlength=count).astype(np.float64)
        routing = members & self.gateway
        place = self.classes.place[self.classes.of_end[routing]]
        hosts = len(self.hosts)
        flat = np.bincount(place * hosts + self.host[routing], minlength=count * hosts)
        by_host = flat.reshape(count, hosts).astype(np.float32)
        there = np.flatnonzero(size)
        some = there if there.size < count else slice(None)
        return Crowd(self, some, size[some], by_host[some])

    def of_ends(self, senders: Ints, receivers: Ints) -> Bools:
        """Return of pairs of ends whether the first finds the second's place."""
        place = self.classes.place[self.classes.of_end]
        start, target = place[senders], place[receivers]
        routed = self.gateway[senders] & self.routes[self.host[senders], target]
        found: Bools = self.on_link[start, target] | (routed & self.same_domain[start, target])
        return found

    def possible_of_ends(self, senders: Ints, receivers: Ints) -> Bools:
        """Return the same, if every host had the bridges of all networks of its routers."""
        place = self.classes.place[self.classes.of_end]
        start, target = place[senders], place[receivers]
        routed = self.gateway[senders] & self.same_domain[start, target]
        found: Bools = self.on_link[start, target] | routed
        return found

    def of_pairs(self, senders: Ints, receivers: Ints) -> Ints:
        """Return how many ends of each sending class find the receiving class's place."""
        place, count = self.classes.place, len(self.classes.places)
        target = place[receivers]
        keys, back = np.unique(senders * count + target, return_inverse=True)
        sender, target = keys // count, keys % count
        size = self.size[sender]
        total = np.cumsum(size)
        at = np.arange(total[-1] if total.size else 0) - np.repeat(total - size, size)
        ends = self._order[np.repeat(self._first[sender], size) + at]
        finds = self.gateway[ends] & self.routes[self.host[ends], np.repeat(target, size)]
        found = np.add.reduceat(finds.astype(np.int64), total - size) if keys.size else size
        found = found * self.same_domain[place[sender], target]
        all_found: Ints = np.where(self.on_link[place[sender], target], size, found)
        return all_found[back]

    def possible_of_pairs(self, senders: Ints, receivers: Ints) -> Ints:
        """Return the same, if every host had the bridges of all networks of its routers."""
        a, b = self.classes.place[senders], self.classes.place[receivers]
        routed = self.with_gateway[senders] * self.same_domain[a, b]
        return np.where(self.on_link[a, b], self.size[senders], routed)


@dataclass(frozen=True)
class Crowd:
    """Ends of chosen classes, by place.

    Attributes:
        there: The places that have any of them.
        size: How many each of those has.
        by_host: Those with a gateway, by place and host.
    """

    ways: Ways
    there: Ints | slice
    size: Counts
    by_host: NDArray[np.float32]

    @cached_property
    def finding(self) -> Counts:
        """Return place (of ``there``) x place: how many find the way.

        Single precision is exact for counts below 2**24, which no place comes near.
        """
        return self._with_neighbours((self.by_host @ self.ways.routes_of_single).astype(np.float64))

    @cached_property
    def possible(self) -> Counts:
        """Return the same, if every host had the bridges of all networks of its routers."""
        routed = self.by_host.sum(1, dtype=np.float64)[:, None]
        return self._with_neighbours(np.repeat(routed, len(self.ways.classes.places), 1))

    def _with_neighbours(self, found: Counts) -> Counts:
        """Correct counts of routed packets by domains, and for those that need no router."""
        if not self.ways.one_domain:
            found *= self.ways.same_domain[self.there]
        place, other = np.nonzero(self.ways.on_link[self.there])
        found[place, other] = self.size[place]
        return found


@dataclass
class Reach:
    """Who reaches whom by fixed addresses of one IP version.

    Attributes:
        allowed: What each profile allows.
        delivered, answered, possible: Pairs x services that come so far, place x place; as in
            ``Tally``.
    """

    cloud: Cloud
    version: int
    classes: Classes
    services: tuple[Service, ...]
    allowed: tuple[Clauses, ...]
    ways: Ways
    words: tuple[Word, ...]
    tallies: list[Tally]
    delivered: Counts
    answered: Counts
    possible: Counts

    def between(self, sender: int, receiver: int) -> int:
        """Return the services, as bits, that one end gets answered by another.

        Args:
            sender: Its number in ``classes.ends``; that of an end of another port than
            receiver: the number of the one that answers.
        """
        found = self.answers(np.array([sender]), np.array([receiver]))
        return sum(int(mask[0]) << (WORD * index) for index, mask in enumerate(found))

    def answers(self, senders: Ints, receivers: Ints) -> list[Masks]:
        """Return the same for pairs of ends, in words of 64 services."""
        there = self.ways.of_ends(senders, receivers)
        there &= self.ways.of_ends(receivers, senders)
        kinds = self.classes.of_end
        return [
            np.where(there, np.bitwise_and(*word.masks(kinds[senders], kinds[receivers])), 0)
            for word in self.words
        ]


def reach(
    cloud: Cloud,
    version: int = 4,
    large: int = LARGE,
    found: tuple[Service, ...] | None = None,
) -> Reach:
    """Return who reaches whom by fixed addresses of one IP version.

    Args:
        cloud: The cloud.
        version: 4 or 6.
        large: Pairs of classes from which on a rectangle is not listed.
        found: The services to tell apart, if not those that this cloud's rules do.
    """
    if found is None:
        found = services(rules_of_version(cloud, version))
    classes = sort_into_classes(cloud, version)
    of_groups = clauses_of_groups(cloud, version, found)
    every = (1 << len(found)) - 1
    allowed = tuple(clauses_of(profile, of_groups, every) for profile in classes.profiles)
    policy = read_policy(classes, cloud, allowed)
    words = tuple(cut_word(policy, word, large) for word in range(-(-len(found) // WORD)))
    count = len(classes.places)
    nothing = [np.zeros((count, count)) for _ in range(3)]
    ways = Ways(cloud, classes)
    result = Reach(cloud, version, classes, found, allowed, ways, words, [], *nothing)
    for number, word in enumerate(words):
        width = min(WORD, len(found) - number * WORD)
        result.tallies += _Counting(result, word, width).tallies()
    return result


class _Counting:
    """Counts the pairs of one word of services."""

    def __init__(self, reach: Reach, word: Word, width: int) -> None:
        self._reach = reach
        self._ways = reach.ways
        self._word = word
        self._width = width
        self._crowds: dict[bytes, Crowd] = {}

    def tallies(self) -> list[Tally]:
        """Return a tally per service, and add to the matrices between places."""
        ends = len(self._reach.classes.ends)
        listed, same = self._listed(), self._same_port()
        everybody = np.ones(self._reach.classes.count, np.bool_)
        return [
            self._of_blocks(service, everybody)
            + listed[service]
            + same[service]
            + Tally(pairs=ends * ends)
            for service in range(self._width)
        ]

    def _of_blocks(self, service: int, everybody: Bools) -> Tally:
        """Count what is not listed: anybody and the large rectangles."""
        out, both = self._blocks(service, everybody)
        total = Tally()
        for senders, receivers in out:
            a, b = self._crowd(senders), self._crowd(receivers)
            routed = int((a.finding[:, b.there] @ b.size).sum())
            total += Tally(let_out=int(a.size.sum() * b.size.sum()), routed=routed)
        for senders, receivers in both:
            total += self._deliver(self._crowd(senders), self._crowd(receivers))
        return total

    def _deliver(self, a: Crowd, b: Crowd) -> Tally:
        to, back = a.finding[:, b.there], b.finding[:, a.there].T
        delivered, answered = to * b.size, to * back
        box = _box(a.there, b.there)
        self._reach.delivered[box] += delivered
        self._reach.answered[box] += answered
        possible = a.possible[:, b.there] * b.possible[:, a.there].T
        self._reach.possible[box] += possible
        sums = (int(matrix.sum()) for matrix in (delivered, answered, possible))
        return Tally(0, 0, 0, *sums)

    def _crowd(self, chosen: Bools) -> Crowd:
        key = chosen.tobytes()
        if key not in self._crowds:
            self._crowds[key] = self._ways.from_set(chosen)
        return self._crowds[key]

    def _blocks(
        self, service: int, everybody: Bools
    ) -> tuple[list[tuple[Bools, Bools]], list[tuple[Bools, Bools]]]:
        """Return disjoint blocks of senders and receivers: let out; let out and in."""
        bit = np.uint64(1 << service)
        word = self._word
        out, into = (word.out & bit) > 0, (word.into & bit) > 0
        large = [box for box in word.large if (box.owners & bit).any()]
        if not large:
            return [(out, everybody)], [(out, into)]
        columns = [out, into, *((b.owners & bit) > 0 for b in large), *(b.peers for b in large)]
        alike, firsts = _alike(columns)
        count = len(firsts)
        lets_out, lets_in = word.unlisted(np.repeat(firsts, count), np.tile(firsts, count))
        table = ((lets_out & bit) > 0).reshape(count, count)
        both = table & ((lets_in & bit) > 0).reshape(count, count)
        return _cut(table, alike), _cut(both, alike)

    def _listed(self) -> list[Tally]:
        """Count what the listed pairs of classes add."""
        word, ways = self._word, self._ways
        senders, receivers = np.divmod(word.keys, max(word.classes.count, 1))
        out, into = word.unlisted(senders, receivers)
        more_out = word.listed_out & ~out
        more = (out | word.listed_out) & (into | word.listed_into) & ~(out & into)
        any_more = (more_out | more) > 0
        senders, receivers = senders[any_more], receivers[any_more]
        more_out, more = more_out[any_more], more[any_more]
        to, back = ways.of_pairs(senders, receivers), ways.of_pairs(receivers, senders)
        size, peers = ways.size[senders], ways.size[receivers]
        possible = ways.possible_of_pairs(senders, receivers)
        possible *= ways.possible_of_pairs(receivers, senders)
        late = (to * peers, to * back, possible)
        self._add_listed(senders, receivers, more, late)
        columns = (size * peers, to * peers, *late)
        return self._sum(more_out, more, columns)

    def _add_listed(
        self, senders: Ints, receivers: Ints, more: Masks, late: Sequence[Ints]
    ) -> None:
        """Add pairs of classes to the matrices: weights times services."""
        place, count = self._reach.classes.place, len(self._reach.classes.places)
        flat = place[senders] * count + place[receivers]
        times = np.bitwise_count(more)
        matrices = (self._reach.delivered, self._reach.answered, self._reach.possible)
        for matrix, weights in zip(matrices, late, strict=True):
            matrix.ravel()[:] += np.bincount(flat, weights * times, count * count)

    def _sum(self, more_out: Masks, more: Masks, columns: Sequence[Ints]) -> list[Tally]:
        """Return per service the sums over the pairs that have its bit.

        Args:
            more_out: Pairs' services that are let out.
            more: Those that are let in as well.
            columns: The weights of a tally's fields after ``pairs``.
        """
        tallies = []
        for service in range(self._width):
            bit = np.uint64(1 << service)
            out, both = (more_out & bit) > 0, (more & bit) > 0
            early = (int(column[out].sum()) for column in columns[:2])
            late = (int(column[both].sum()) for column in columns[2:])
            tallies.append(Tally(0, *early, *late))
        return tallies

    def _same_port(self) -> list[Tally]:
        """Count, negative, what the blocks and lists hold of a port and itself."""
        senders, receivers, times = same_port_pairs(self._reach.classes)
        out, into = self._word.masks(senders, receivers)
        self._add_listed(senders, receivers, out & into, (-times,) * 3)
        pairs = Tally(pairs=-int(times.sum()))
        return [pairs + tally for tally in self._sum(out, out & into, (-times,) * 5)]


def _box(rows: Ints | slice, columns: Ints | slice) -> tuple[Ints | slice, Ints | slice]:
    """Return the index of the rows and columns of a matrix."""
    if isinstance(rows, slice) or isinstance(columns, slice):
        return rows, columns
    return rows[:, None], columns


def same_port_pairs(classes: Classes) -> tuple[Ints, Ints, Ints]:
    """Return pairs of classes that ends of one port make up, and how many each.

    What a port sends to its own fixed address never leaves the instance.
    """
    by_port: dict[str, list[int]] = {}
    several = []
    for index, end in enumerate(classes.ends):
        if len(end.seat.port.fixed_ips) > 1:
            by_port.setdefault(end.seat.port.id, []).append(int(classes.of_end[index]))
    several = [(a, b) for own in by_port.values() for i, a in enumerate(own) for b in own[:i]]
    both = np.array([*several, *((b, a) for a, b in several)], np.int64).reshape(-1, 2)
    themselves = np.arange(classes.count)
    size = np.bincount(classes.of_end, minlength=classes.count)
    return (
        np.concatenate([themselves, both[:, 0]]),
        np.concatenate([themselves, both[:, 1]]),
        np.concatenate([size, np.ones(len(both), np.int64)]),
    )


def _alike(columns: Iterable[Bools]) -> tuple[Ints, Ints]:
    """Return a number per class, equal where all columns are, and a class of each number."""
    codes: Ints = np.zeros(0, np.int64)
    for column in columns:
        codes = column.astype(np.int64) if not codes.size else codes * 2 + column
        _, codes = np.unique(codes, return_inverse=True)
    _, firsts = np.unique(codes, return_index=True)
    return codes, firsts


def _cut(table: Bools, alike: Ints) -> list[tuple[Bools, Bools]]:
    """Return disjoint blocks of classes, given which kind of sender goes with which receiver."""
    rows: dict[bytes, list[int]] = {}
    for kind, row in enumerate(table):
        if row.any():
            rows.setdefault(row.tobytes(), []).append(kind)
    return [(np.isin(alike, kinds), table[kinds[0]][alike]) for kinds in rows.values()]
