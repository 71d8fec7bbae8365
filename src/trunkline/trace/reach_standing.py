"""Who reaches whom by fixed addresses, kept true while the cloud changes.

What ``reach`` counts at once, this counts on: a port, a host's routes or a group's rules change,
and only pairs that have a part in it are weighed, before and after. Pairs of classes are weighed
as products. All classes that mean the same to everybody, as far as large sets of peers go, are of
one ``Nature``, and weighed as one; the few pairs whose groups or prefixes are about each other are
corrected one by one.

Knows nothing of how changes are found: that is in ``reach_follow``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trunkline.model import Direction, DomainId, GroupId, HostName, IpNetwork, Rule, SubnetId
from trunkline.trace.reach import Tally, reach
from trunkline.trace.reach_natures import OTHER, Listed, Masks, Natures, Pair
from trunkline.trace.reach_policy import LARGE, Clauses
from trunkline.trace.reach_rules import Rulebook
from trunkline.trace.reach_seats import Crowd, Numbers, Seated, Seats
from trunkline.trace.verify_cloud import Cloud, End
from trunkline.trace.verify_services import Service

STAGES = ("let_out", "routed", "delivered", "answered", "possible")


@dataclass(frozen=True, slots=True)
class _Allowing:
    """The natures of some classes, and what of small sets of peers comes on top."""

    nature: Mapping[int, int]
    listed: Listed


class Standing:
    """A running count of all pairs, every service.

    Attributes:
        version: The IP version that is counted.
    """

    def __init__(self, cloud: Cloud, version: int = 4) -> None:
        self.version = version
        self._seats = Seats(version)
        self._book = Rulebook(cloud.groups.values(), version)
        self._natures = Natures(self._seats, self._book)
        self._everybody: Numbers = np.zeros(64)
        self._gated: dict[DomainId, Numbers] = {}
        self._ports: dict[str, tuple[End, ...]] = {}
        self._ends = self._within_ports = 0
        self._values: Numbers = np.zeros((len(self._book.services), len(STAGES)))
        self._fill(cloud)

    def _fill(self, cloud: Cloud) -> None:
        """Count the cloud as it is at first: all at once."""
        for segment in cloud.segments.values():
            for subnet, cidr in segment.subnets.items():
                self.learn(subnet, cidr, segment.domain)
        for prefix in {p for _, (kind, p) in self._book.about if kind == "prefix"}:
            self._seats.know(prefix)
        for host in cloud.hosts.values():
            self._seats.start_routes(host.name, host.routes)
        ports = [
            [self._seats.seat(end, cloud.domain(end)) for end in port]
            for port in ports_of(cloud, self.version).values()
        ]
        self._seats.start(ports)
        self._natures.find_large(LARGE)
        self._name_classes()
        for port in ports:
            self._count(port, 1)
        counted = reach(cloud, self.version).tallies
        self._values = np.array([[getattr(t, n) for n in STAGES] for t in counted], np.float64)

    # --- what is known --------------------------------------------------------------------------

    @property
    def services(self) -> tuple[Service, ...]:
        """Return the services that the rules tell apart."""
        return self._book.services

    def tallies(self) -> list[Tally]:
        """Return how far the pairs of each service come, as ``reach`` does."""
        pairs = self._ends**2 - self._within_ports
        rows = np.rint(self._values).astype(np.int64).tolist()
        return [Tally(pairs, *row) for row in rows]

    # --- changes --------------------------------------------------------------------------------

    def learn(self, subnet: SubnetId, cidr: IpNetwork, domain: DomainId) -> None:
        """Have a subnet counted, or in another domain; no end is on it, no host has a route."""
        if cidr.version == self.version:
            self._seats.learn(subnet, cidr, domain)

    def plug(self, ends: Sequence[End], domain: DomainId) -> None:
        """Count a port that was not: all its ends of this IP version, on subnets learnt."""
        port = [self._seats.seat(end, domain) for end in ends]
        self._name_classes()
        self._values += self._share(port)
        self._seats.sit(port, 1)
        self._count(port, 1)

    def unplug(self, port_id: str) -> None:
        """Count a port no longer, if it was."""
        if port_id in self._ports:
            port = [self._seats.seated(end) for end in self._ports[port_id]]
            self._seats.sit(port, -1)
            self._count(port, -1)
            self._values -= self._share(port)

    def set_route(self, host: HostName, subnet: SubnetId, *, served: bool) -> None:
        """Let a host have a route to a subnet, or have none."""
        if not self._seats.knows(subnet) or self._seats.served(host, subnet) == served:
            return
        replugged = [
            (self._ports[end.seat.port.id], self._seats.domain(subnet))
            for end in self._seats.ends_on(host, subnet)
        ]
        for ends, _ in replugged:
            self.unplug(ends[0].seat.port.id)
        sign = 1 if served else -1
        seekers = self._seats.seekers(host, subnet)
        self._values += sign * self._gain(seekers, subnet)
        self._seats.route(host, subnet, seekers, sign)
        for ends, domain in replugged:
            if ends[0].seat.port.id not in self._ports:
                self.plug(ends, domain)

    def set_rules(self, group: GroupId, rules: Iterable[Rule]) -> None:
        """Let a group have these rules and no others."""
        own = [rule for rule in rules if rule.ethertype == self.version]
        kinds = self._book.kinds_of(own)
        self._recut(self._book.admit(kinds))
        for rule in own:
            if rule.remote_prefix is not None and rule.remote_prefix.prefixlen:
                self._seats.know(str(rule.remote_prefix))
        self._name_classes()
        wanted = self._book.read(own)
        for direction in Direction:
            self._rewrite(group, wanted, direction)
        self._recut(self._book.retire(group, kinds))

    def _rewrite(self, group: GroupId, wanted: Clauses, direction: Direction) -> None:
        """Set what a group's rules of one direction allow."""
        before = self._book.clauses.get(group, {})
        own = {key: mask for key, mask in wanted.items() if key[0] == direction}
        rest = {key: mask for key, mask in before.items() if key[0] != direction}
        keys = (before.keys() - rest.keys()) | own.keys()
        peers = {key[1] for key in keys if before.get(key) != own.get(key)}
        if not peers:
            return
        natures = self._natures
        members = [c for c in self._seats.members["group", group] if natures.is_judged(c)]
        others = None
        if not peers & natures.large:
            others = set[int]().union(*map(self._seats.of_peer, peers))
        old = self._as_now(members, natures.listed(members, direction, others))
        self._book.write(group, {**rest, **own})
        turned = {number: natures.number_of(number) for number in members}
        self._make_room()
        new = _Allowing(turned, natures.listed(members, direction, others))
        self._values += self._turned(old, new, direction)
        self._rename(turned)

    def _recut(self, old: list[int] | None) -> None:
        """Follow the services: each has the numbers of the one that it was part of."""
        if old is not None:
            self._values = self._values[old]
            self._natures.forget_services()

    def _count(self, port: Sequence[Seated], sign: int) -> None:
        """Add to, or with -1 take from, what is kept by nature and port."""
        for seated in port:
            nature = self._natures.nature[seated.number]
            self._everybody[nature] += sign
            if seated.gateway:
                domain = self._seats.classes[seated.number].place.domain
                self._gated_of(domain)[nature] += sign
        self._ends += sign * len(port)
        self._within_ports += sign * len(port) ** 2
        port_id = port[0].end.seat.port.id
        if sign > 0:
            self._ports[port_id] = tuple([seated.end for seated in port])
        else:
            del self._ports[port_id]

    # --- natures --------------------------------------------------------------------------------

    def _name_classes(self) -> None:
        self._natures.name_classes()
        self._make_room()

    def _make_room(self) -> None:
        """Have a place for every nature in what is kept by nature."""
        if self._natures.count > self._everybody.size:
            more = (0, self._natures.count)
            self._everybody = np.pad(self._everybody, more)
            self._gated = {d: np.pad(row, more) for d, row in self._gated.items()}

    def _gated_of(self, domain: DomainId) -> Numbers:
        """Return by nature how many ends with a gateway a routing domain has."""
        if domain not in self._gated:
            self._gated[domain] = np.zeros_like(self._everybody)
        return self._gated[domain]

    def _rename(self, turned: Mapping[int, int]) -> None:
        """Let classes be of other natures."""
        seats = self._seats
        for number, nature in turned.items():
            gated = self._gated_of(seats.classes[number].place.domain)
            for sign, at in ((-1, self._natures.nature[number]), (1, nature)):
                self._everybody[at] += sign * seats.size[number]
                gated[at] += sign * seats.gateways[number]
            self._natures.nature[number] = nature

    # --- weighing -------------------------------------------------------------------------------

    def _share(self, port: Iterable[Seated]) -> Numbers:
        """Return what the ends of a port that is not counted add."""
        total = np.zeros_like(self._values)
        for seated in port:
            crowd = self._seats.crowd(seated)
            partners = self._partners(crowd)
            nature = int(self._natures.nature[seated.number])
            for direction in Direction:
                total += self._alike(nature, partners, direction)
                listed = self._natures.listed([seated.number], direction)
                weights = self._weights(list(listed), direction, crowd)
                total += self._more(listed, direction, weights)
        return total

    def _gain(self, found: Mapping[int, int], subnet: SubnetId) -> Numbers:
        """Return what a route to a subnet adds for ends of these classes, or its absence takes."""
        seats, nature = self._seats, self._natures.nature
        seekers, counts = list(found), list(found.values())
        targets = [c for c in seats.of_subnet[seats.number_of(subnet)] if seats.size[c]]
        total = np.zeros_like(self._values)
        if not seekers or not targets:
            return total
        routed = np.outer(counts, seats.size[targets])
        back = seats.ways[seats.subnet[seekers][:, None], targets]
        answered = back * np.array(counts)[:, None]
        there, froms = np.unique(nature[seekers], return_inverse=True)
        here, tos = np.unique(nature[targets], return_inverse=True)
        one, other = np.eye(len(there))[froms].T, np.eye(len(here))[tos]
        alike = [(one @ numbers @ other).ravel() for numbers in (routed, answered)]
        at = {seeker: n for n, seeker in enumerate(seekers)}, {t: n for n, t in enumerate(targets)}
        for direction in Direction:
            masks = [self._natures.masks(a, b, direction) for a in there for b in here]
            total += self._sum(masks, _gained(direction, *alike))
            listed = self._natures.listed(targets, OTHER[direction], at[0])
            rows, columns = [at[0][s] for _, s in listed], [at[1][t] for t, _ in listed]
            weights = _gained(direction, routed[rows, columns], answered[rows, columns])
            total += self._more(listed, OTHER[direction], weights)
        return total

    def _turned(self, old: _Allowing, new: _Allowing, direction: Direction) -> Numbers:
        """Return what is gained when classes allow others something else in one direction."""
        total = np.zeros_like(self._values)
        turned = [n for n, nature in old.nature.items() if nature != new.nature[n]]
        alike: dict[tuple[object, int, int], list[int]] = defaultdict(list)
        for number in turned:
            if self._seats.size[number]:
                place = self._seats.classes[number].place
                alike[place, old.nature[number], new.nature[number]].append(number)
        for (_, before, after), numbers in alike.items():
            partners = self._partners(self._seats.together(numbers))
            total += self._alike(after, partners, direction)
            total -= self._alike(before, partners, direction)
        own = {(one, other) for one in turned for other in (one, *self._seats.twins.get(one, ()))}
        pairs = list(old.listed.keys() | new.listed.keys() | own)
        weights = self._weights(pairs, direction)
        same = np.array([self._same_port(*pair) for pair in pairs])
        others = weights - same.reshape(-1, 1)
        for sign, allowing in ((1, new), (-1, old)):
            base, full = self._masks(pairs, direction, allowing)
            total += sign * (self._sum(full, others) - self._sum(base, weights))
        return total

    def _same_port(self, own: int, other: int) -> float:
        """Return how many pairs of ends of one port two classes have."""
        twins = self._seats.twins[own][other] if own in self._seats.twins else 0
        return twins + (float(self._seats.size[own]) if own == other else 0.0)

    def _as_now(self, classes: Iterable[int], listed: Listed) -> _Allowing:
        return _Allowing({number: int(self._natures.nature[number]) for number in classes}, listed)

    def _more(self, listed: Listed, direction: Direction, weights: Numbers) -> Numbers:
        """Return what is to be added since small sets of peers are allowed more."""
        pairs = list(listed)
        allowing = self._as_now({own for own, _ in pairs}, listed)
        base, full = self._masks(pairs, direction, allowing)
        return self._sum(full, weights) - self._sum(base, weights)

    def _masks(
        self, pairs: Iterable[Pair], direction: Direction, allowing: _Allowing
    ) -> tuple[list[Masks], list[Masks]]:
        """Return what large sets of peers, and what all sets allow pairs of classes."""
        base = []
        full = []
        for own, other in pairs:
            nature = int(self._natures.nature[other])
            out, into = self._natures.masks(allowing.nature[own], nature, direction)
            base.append((out, into))
            mine, its = allowing.listed.get((own, other), (0, 0))
            more = (mine, its) if direction == Direction.EGRESS else (its, mine)
            full.append((out | more[0], into | more[1]))
        return base, full

    def _weights(
        self, pairs: Sequence[Pair], direction: Direction, crowd: Crowd | None = None
    ) -> Numbers:
        """Return how far pairs of classes come if all groups allow everything: pair x stage.

        Args:
            pairs: The classes asked about, and others.
            direction: Whether the first ones send.
            crowd: Stands for the first ones.
        """
        if not pairs:
            return np.zeros((0, len(STAGES)))
        seats = self._seats
        own, other = np.array(pairs).T
        size = seats.size[own] if crowd is None else crowd.size
        gateways = seats.gateways[own] if crowd is None else crowd.gateways
        subnet = seats.subnet[other]
        finds = seats.ways[subnet, own] if crowd is None else crowd.finds[subnet]
        found = seats.ways[seats.subnet[own], other]
        others = seats.size[other]
        routed = finds * others if direction == Direction.EGRESS else found * size
        together, to, back = np.array([seats.relation(*pair) for pair in pairs]).T
        may = np.where(to, size, gateways) * np.where(back, others, seats.gateways[other])
        return np.stack([size * others, routed, routed, finds * found * 1.0, together * may], 1)

    def _alike(self, nature: int, partners: Numbers, direction: Direction) -> Numbers:
        """Return what passes between a nature and its partners, small sets of peers aside."""
        everybody, found, finding, both, possible = partners
        table = self._natures.table(nature, direction)
        routed = found if direction == Direction.EGRESS else finding
        early = table.out @ np.stack([everybody, routed], 1)
        return np.hstack([early, table.both @ np.stack([routed, both, possible], 1)])

    def _partners(self, crowd: Crowd) -> Numbers:
        """Return how many pairs a crowd makes with the ends of each nature.

        Returns:
            5 x nature: all; those that the crowd finds; that find it; both; could do both.
        """
        seats, count, width = self._seats, len(self._seats.classes), self._natures.count
        natures = self._natures.nature[:count]
        finds = crowd.finds[seats.subnet[:count]]
        found = seats.ways[crowd.place.subnet, :count]
        return np.array(
            [
                crowd.size * self._everybody[:width],
                np.bincount(natures, finds * seats.size[:count], width),
                crowd.size * np.bincount(natures, found, width),
                np.bincount(natures, finds * found, width),
                self._possible(crowd),
            ]
        )

    def _possible(self, crowd: Crowd) -> Numbers:
        """Return by nature the pairs that would find each other if hosts had all bridges."""
        seats, width = self._seats, self._natures.count
        found = crowd.gateways * self._gated_of(crowd.place.domain)[:width]
        for place, numbers in seats.of_network[crowd.place.network].items():
            to = crowd.size if place.subnet in crowd.place.on_link else crowd.gateways
            near = crowd.place.subnet in place.on_link
            back = (seats.size if near else seats.gateways)[numbers]
            more = to * back - crowd.gateways * seats.gateways[numbers]
            if more.any():
                found += np.bincount(self._natures.nature[numbers], more, width)
        return found

    def _sum(self, masks: Sequence[Masks], weights: Numbers) -> Numbers:
        """Return service x stage, given what is let out and in, and weights of pairs of each."""
        total = np.zeros_like(self._values)
        if masks:
            rows: dict[Masks, int] = {}
            at = [rows.setdefault(mask, len(rows)) for mask in masks]
            sums = np.zeros((len(rows), len(STAGES)))
            np.add.at(sums, at, weights)
            out = np.array([self._book.columns(out) for out, _ in rows]).T
            both = out * np.array([self._book.columns(into) for _, into in rows]).T
            total[:, :2], total[:, 2:] = out @ sums[:, :2], both @ sums[:, 2:]
        return total


def _gained(direction: Direction, routed: Numbers, answered: Numbers) -> Numbers:
    """Return the weights of pairs whose sender (egress), or receiver, has found a way."""
    nothing = np.zeros_like(routed)
    if direction == Direction.EGRESS:
        return np.stack([nothing, routed, routed, answered, nothing], 1)
    return np.stack([nothing, nothing, nothing, answered, nothing], 1)


def ports_of(cloud: Cloud, version: int) -> dict[str, list[End]]:
    """Return the ends of one IP version that are plugged in, by port."""
    found: dict[str, list[End]] = defaultdict(list)
    for end in cloud.ends:
        if end.seat.up and end.address.version == version:
            found[end.seat.port.id].append(end)
    return found
