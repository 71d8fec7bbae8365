"""Ends sorted into classes, and how many of each class find each subnet, while they change.

A class is the ends of one place that have the same groups and lie in the same ones of all
prefixes that rules name. Keeps numbers; knows nothing of services or of what passes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline.model import DomainId, HostName, IpNetwork, NetworkId, SubnetId
from trunkline.trace.reach_policy import Peer, Profile, prefix_span
from trunkline.trace.verify_cloud import Address, End, Seat

Numbers = NDArray[np.float64]
"""Counts: exact below 2**53."""


class Place(NamedTuple):
    """Where an end is: its routing domain, network and subnet, and all subnets of its port."""

    domain: DomainId
    network: NetworkId
    subnet: int
    on_link: tuple[int, ...]


class Class(NamedTuple):
    """What distinguishes an end: its place, groups, and the rules' prefixes within its subnet."""

    place: Place
    profile: Profile
    prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Ends of one place.

    Attributes:
        gateways: How many have a gateway.
        finds: How many find each subnet.
    """

    place: Place
    size: float
    gateways: float
    finds: Numbers


@dataclass(frozen=True, slots=True)
class Seated:
    """An end as it is counted."""

    end: End
    number: int
    gateway: bool


_Own = dict[tuple[str, Address], Seated]
"""Ends by port id and address."""


class Seats:
    """All ends of one IP version that are plugged in.

    Attributes:
        classes: Each kind of end there ever was, by number; some have no end now.
        subnet, size, gateways: Of each class; the ends in it, those with a gateway.
        ways: subnet x class: how many ends of the class find the subnet.
        members: The classes of each group's ports, and of each prefix within a subnet.
        of_subnet, of_network: The classes of each.
        twins: How many ports have ends in both of two classes, by class.
    """

    def __init__(self, version: int) -> None:
        self._version = version
        self._numbers: dict[Class, int] = {}
        self._subnets: dict[SubnetId, int] = {}
        self._spans: list[tuple[int, int]] = []
        self._domains: list[DomainId] = []
        self._in_domain: dict[DomainId, Numbers] = {}
        self._routes: dict[HostName, Numbers] = {}
        self._covering: list[list[Peer]] = []
        self._within: list[list[str]] = []
        self._covered: dict[str, list[int]] = {}
        self._on_subnet: dict[int, dict[HostName, _Own]] = defaultdict(lambda: defaultdict(dict))
        self.classes: list[Class] = []
        self.subnet = np.zeros(64, np.int64)
        self.size, self.gateways = np.zeros(64), np.zeros(64)
        self.ways = np.zeros((16, 64), np.int32)
        self.members: dict[Peer, set[int]] = defaultdict(set)
        self.of_subnet: dict[int, set[int]] = defaultdict(set)
        self.of_network: dict[NetworkId, dict[Place, list[int]]] = defaultdict(dict)
        self.twins: dict[int, Counter[int]] = defaultdict(Counter)
        self._gated: dict[tuple[HostName, DomainId], dict[int, int]] = defaultdict(dict)

    # --- subnets and prefixes -------------------------------------------------------------------

    def learn(self, subnet: SubnetId, cidr: IpNetwork, domain: DomainId) -> None:
        """Have a subnet counted; its domain may be another one while it has no end."""
        if subnet in self._subnets:
            self._domains[self._subnets[subnet]] = domain
        else:
            number = self._subnets[subnet] = len(self._spans)
            self._spans.append(prefix_span(str(cidr)))
            self._domains.append(domain)
            self._covering.append([])
            self._within.append([])
            for prefix in self._covered:
                self._relate(prefix, number)
            self._make_room()
        self._in_domain.clear()

    def know(self, prefix: str) -> None:
        """Have ends told apart by whether they are in a prefix."""
        if prefix in self._covered:
            return
        self._covered[prefix] = []
        for number in range(len(self._spans)):
            if self._relate(prefix, number):
                for own in self._on_subnet[number].values():
                    for seated in list(own.values()):
                        self._move(seated)

    def _move(self, seated: Seated) -> None:
        """Sort an end anew, since prefixes are told apart that were not."""
        self._pair_up(seated.end, -1)
        self._sit(seated, -1)
        place = self.classes[seated.number].place
        self._sit(self._sorted(seated.end, place, seated.gateway), 1)
        self._pair_up(seated.end, 1)

    def _relate(self, prefix: str, subnet: int) -> bool:
        """Note how a prefix and a subnet lie to each other; return whether it cuts the subnet."""
        (first, last), (low, high) = prefix_span(prefix), self._spans[subnet]
        if first <= low and high <= last:
            self._covering[subnet].append(("prefix", prefix))
            self._covered[prefix].append(subnet)
            return False
        cuts = low <= first and last <= high
        if cuts:
            self._within[subnet].append(prefix)
        return cuts

    def peers(self, number: int) -> Iterator[Peer]:
        """Yield what a class is a member of: groups and prefixes."""
        one = self.classes[number]
        yield from (("group", group) for group in one.profile.groups)
        yield from (("prefix", prefix) for prefix in one.prefixes)
        yield from self._covering[one.place.subnet]

    def of_peer(self, peer: Peer) -> Collection[int]:
        """Return the classes of a group's members, or of the ends in a prefix."""
        found = self.members.get(peer, set())
        subnets = self._covered.get(peer[1], ()) if peer[0] == "prefix" else ()
        return found.union(*(self.of_subnet[t] for t in subnets)) if subnets else found

    # --- at first -------------------------------------------------------------------------------

    def start_routes(self, host: HostName, subnets: Iterable[SubnetId]) -> None:
        """Set a host's routes before there are ends."""
        self._routes_of(host)[[self._subnets[s] for s in subnets if s in self._subnets]] = 1.0

    def start(self, ports: Iterable[Sequence[Seated]]) -> None:
        """Count all ends of all ports, before which there were none."""
        for port in ports:
            for seated in port:
                self._note(seated, 1)
            self._pair_up(port[0].end, 1)
        places = [one.place for one in self.classes]
        for (host, domain), gated in self._gated.items():
            subnets = np.flatnonzero(self._routes_of(host) * self._of_domain(domain))
            self.ways[subnets[:, None], list(gated)] += np.array(list(gated.values()), np.int32)
        for number, place in enumerate(places):
            self.ways[list(place.on_link), number] = self.size[number]

    # --- ends -----------------------------------------------------------------------------------

    def seat(self, end: End, domain: DomainId) -> Seated:
        """Return an end as it would be counted; its subnets must have been learnt."""
        fixed = [f for f in end.seat.port.fixed_ips if f.address.version == self._version]
        on_link = tuple([self._subnets[f.subnet_id] for f in fixed])
        place = Place(domain, end.seat.port.network_id, self._subnets[end.subnet_id], on_link)
        routes = self._routes_of(end.seat.gate)
        routed = [self._subnets[f.subnet_id] for f in fixed if f.subnet_id not in end.seat.unrouted]
        return self._sorted(end, place, bool(routes[routed].any()))

    def seated(self, end: End) -> Seated:
        """Return an end as it is counted."""
        own = self._on_subnet[self._subnets[end.subnet_id]][end.seat.gate]
        return own[_key(end.seat, end.address)]

    def _sorted(self, end: End, place: Place, gateway: bool) -> Seated:  # noqa: FBT001 - as data
        port, address = end.seat.port, int(end.address)
        inner = self._within[place.subnet]
        prefixes = tuple([p for p in inner if _is_in(address, p)]) if inner else ()
        one = Class(place, Profile(port.port_security, port.group_ids), prefixes)
        number = self._numbers.get(one)
        return Seated(end, self._open(one) if number is None else number, gateway)

    def _open(self, one: Class) -> int:
        """Make a class."""
        number = self._numbers[one] = len(self.classes)
        self.classes.append(one)
        self._make_room()
        self.subnet[number] = one.place.subnet
        for group in one.profile.groups:
            self.members["group", group].add(number)
        for prefix in one.prefixes:
            self.members["prefix", prefix].add(number)
        self.of_subnet[one.place.subnet].add(number)
        self.of_network[one.place.network].setdefault(one.place, []).append(number)
        return number

    def _make_room(self) -> None:
        if len(self.classes) > self.size.size:
            more = len(self.size) // 4 + 64
            self.subnet = np.pad(self.subnet, (0, more))
            self.size, self.gateways = (
                np.pad(self.size, (0, more)),
                np.pad(self.gateways, (0, more)),
            )
            self.ways = np.pad(self.ways, ((0, 0), (0, more)))
        if len(self._spans) > len(self.ways):
            more = len(self.ways) // 4 + 16
            self.ways = np.pad(self.ways, ((0, more), (0, 0)))
            self._routes = {host: np.pad(row, (0, more)) for host, row in self._routes.items()}

    def sit(self, port: Sequence[Seated], sign: int) -> None:
        """Count all ends of a port, or with -1 no longer."""
        if sign < 0:
            self._pair_up(port[0].end, sign)
        for seated in port:
            self._sit(seated, sign)
        if sign > 0:
            self._pair_up(port[0].end, sign)

    def _sit(self, seated: Seated, sign: int) -> None:
        self._note(seated, sign)
        self.ways[:, seated.number] += (sign * self._finds(seated)).astype(np.int32)

    def _note(self, seated: Seated, sign: int) -> None:
        """Count an end, but not its ways."""
        number, end = seated.number, seated.end
        own = self._on_subnet[int(self.subnet[number])][end.seat.gate]
        if sign > 0:
            own[_key(end.seat, end.address)] = seated
        else:
            del own[_key(end.seat, end.address)]
        self.size[number] += sign
        if seated.gateway:
            self.gateways[number] += sign
            gated = self._gated[end.seat.gate, self.classes[number].place.domain]
            gated[number] = gated.get(number, 0) + sign
            if not gated[number]:
                del gated[number]

    def _pair_up(self, end: End, sign: int) -> None:
        """Note that ends of one port are of some classes, or with -1 no longer."""
        port = end.seat.port
        if len(port.fixed_ips) == 1:
            return
        fixed = [f for f in port.fixed_ips if f.address.version == self._version]
        host = end.seat.gate
        seated = [self._on_subnet[self._subnets[f.subnet_id]][host] for f in fixed]
        numbers = [
            own[_key(end.seat, f.address)].number for own, f in zip(seated, fixed, strict=True)
        ]
        for index, number in enumerate(numbers):
            for other in (*numbers[:index], *numbers[index + 1 :]):
                self.twins[number][other] += sign

    def crowd(self, seated: Seated) -> Crowd:
        """Return an end by itself."""
        place = self.classes[seated.number].place
        return Crowd(place, 1.0, float(seated.gateway), self._finds(seated))

    def together(self, numbers: Sequence[int]) -> Crowd:
        """Return the ends of classes of one place."""
        at = np.array(numbers)
        finds = self.ways[:, at].sum(1, dtype=np.float64)
        place = self.classes[numbers[0]].place
        return Crowd(place, float(self.size[at].sum()), float(self.gateways[at].sum()), finds)

    # --- ways -----------------------------------------------------------------------------------

    def _routes_of(self, host: HostName) -> Numbers:
        if host not in self._routes:
            self._routes[host] = np.zeros(len(self.ways))
        return self._routes[host]

    def _finds(self, seated: Seated) -> Numbers:
        """Return 1.0 for each subnet that an end finds."""
        place = self.classes[seated.number].place
        if seated.gateway:
            finds = self._routes_of(seated.end.seat.gate) * self._of_domain(place.domain)
        else:
            finds = np.zeros(len(self.ways))
        finds[list(place.on_link)] = 1.0
        return finds

    def _of_domain(self, domain: DomainId) -> Numbers:
        """Return 1.0 for each subnet of a domain."""
        if domain not in self._in_domain:
            found = np.zeros(len(self.ways))
            found[[n for n, other in enumerate(self._domains) if other == domain]] = 1.0
            self._in_domain[domain] = found
        return self._in_domain[domain]

    def routes(self, host: HostName) -> set[SubnetId]:
        """Return the subnets that a host has a route to."""
        row = self._routes_of(host)
        return {subnet for subnet, number in self._subnets.items() if row[number]}

    def served(self, host: HostName, subnet: SubnetId) -> bool:
        """Return whether a host has a route to a subnet."""
        return bool(self._routes_of(host)[self._subnets[subnet]])

    def seekers(self, host: HostName, subnet: SubnetId) -> dict[int, int]:
        """Return how many ends on a host find a subnet by routing only, by class."""
        number = self._subnets[subnet]
        gated = self._gated.get((host, self._domains[number]), {})
        near = set(self._near(number))
        return {one: count for one, count in gated.items() if one not in near}

    def _near(self, subnet: int) -> Iterator[int]:
        """Yield the classes that a subnet is on-link for."""
        for one in list(self.of_subnet[subnet])[:1]:
            for place, numbers in self.of_network[self.classes[one].place.network].items():
                if subnet in place.on_link:
                    yield from numbers

    def route(
        self, host: HostName, subnet: SubnetId, seekers: Mapping[int, int], sign: int
    ) -> None:
        """Let a host have a route to a subnet, or with -1 no longer have one."""
        number = self._subnets[subnet]
        self._routes_of(host)[number] = float(sign > 0)
        self.ways[number, list(seekers)] += sign * np.array(list(seekers.values()), np.int32)

    def knows(self, subnet: SubnetId) -> bool:
        """Return whether a subnet has been learnt."""
        return subnet in self._subnets

    def domain(self, subnet: SubnetId) -> DomainId:
        """Return the routing domain that a subnet is in."""
        return self._domains[self._subnets[subnet]]

    def relation(self, own: int, other: int) -> tuple[bool, bool, bool]:
        """Return of two classes: in one domain; the other on-link for the first; and reverse."""
        one, two = self.classes[own].place, self.classes[other].place
        if one.network != two.network:
            return one.domain == two.domain, False, False
        return True, two.subnet in one.on_link, one.subnet in two.on_link

    def number_of(self, subnet: SubnetId) -> int:
        """Return a subnet's row in ``ways``."""
        return self._subnets[subnet]

    def ends_on(self, host: HostName, subnet: SubnetId) -> list[End]:
        """Return the ends on a subnet that are on one host."""
        return [s.end for s in self._on_subnet[self._subnets[subnet]][host].values()]


def _key(seat: Seat, address: Address) -> tuple[str, Address]:
    return seat.port.id, address


def _is_in(address: int, prefix: str) -> bool:
    first, last = prefix_span(prefix)
    return first <= address <= last
