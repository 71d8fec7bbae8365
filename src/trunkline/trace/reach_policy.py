"""Ports sorted into classes that all rules treat alike, and what the rules say of each pair.

A class is the ends of one project that share place, groups and position among all prefixes that
rules name. What a rule allows is a rectangle: classes that its group owns, times classes that are
its peers. "Anybody" is a property of one class; small rectangles are listed as pairs of classes;
the few large ones are kept as they are. Services are bits of 64-bit words, one word at a time.

Knows nothing of ways: hosts and bridges are in ``reach``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from ipaddress import ip_network
from itertools import chain
from operator import or_
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline.model import Direction, GroupId, NetworkId, ProjectId, Rule, SubnetId
from trunkline.trace.verify_cloud import Cloud, End
from trunkline.trace.verify_services import Service, fits

Ints = NDArray[np.int64]
Masks = NDArray[np.uint64]
Bools = NDArray[np.bool_]

WORD = 64
LARGE = 200_000
"""Pairs of classes from which on a rectangle is not listed: listing costs time and memory for
each pair, a large rectangle costs a pass over all classes for each service."""


class Place(NamedTuple):
    """Where on the net an end is: its project, its address's subnet, all its port's subnets."""

    project: ProjectId
    network: NetworkId
    subnet: SubnetId
    subnets: tuple[SubnetId, ...]


class Profile(NamedTuple):
    """What judges a port: its groups, or nothing at all."""

    port_security: bool
    groups: tuple[GroupId, ...]


Peer = tuple[str, str]
"""Whom a rule is about: ``any``, a ``prefix`` and its text, or a ``group`` and its id."""

ANYBODY: Peer = ("any", "")


@dataclass(frozen=True)
class Classes:
    """Ends of one IP version that are plugged in, sorted into classes.

    Attributes:
        of_end: The class of each end, as are ``host`` in ``Ways``: parallel arrays.
        place, profile, atom: Of each class; an atom is a position between prefix edges.
        edges: The addresses at which some rule's prefix begins or has just ended, sorted.
    """

    ends: tuple[End, ...]
    of_end: Ints
    places: tuple[Place, ...]
    profiles: tuple[Profile, ...]
    place: Ints
    profile: Ints
    atom: Ints
    edges: tuple[int, ...]

    @property
    def count(self) -> int:
        """Return how many classes there are."""
        return len(self.place)


def sort_into_classes(cloud: Cloud, version: int) -> Classes:
    """Return the classes of all ends of one IP version that are plugged in."""
    ends = tuple(e for e in cloud.ends if e.seat.up and e.address.version == version)
    edges = prefix_edges(rules_of_version(cloud, version))
    places: dict[tuple[object, ...], int] = {}
    profiles: dict[tuple[bool, tuple[GroupId, ...]], int] = {}
    classes: dict[tuple[int, int, int], int] = {}
    of_end = np.empty(len(ends), np.int64)
    for index, end in enumerate(ends):
        port = end.seat.port
        subnets = tuple([fixed.subnet_id for fixed in port.fixed_ips])
        place = (port.project_id, port.network_id, end.subnet_id, subnets)
        key = (
            places.setdefault(place, len(places)),
            profiles.setdefault((port.port_security, port.group_ids), len(profiles)),
            bisect_right(edges, int(end.address)),
        )
        of_end[index] = classes.setdefault(key, len(classes))
    place_of, profile_of, atom_of = np.array(list(classes), np.int64).reshape(-1, 3).T
    return Classes(
        ends,
        of_end,
        tuple(Place(*place) for place in places),  # type: ignore[arg-type]  # made just above
        tuple(Profile(*profile) for profile in profiles),
        place_of,
        profile_of,
        atom_of,
        edges,
    )


def rules_of_version(cloud: Cloud, version: int) -> list[Rule]:
    """Return all rules for one IP version."""
    return [r for g in cloud.groups.values() for r in g.rules if r.ethertype == version]


def prefix_edges(rules: Iterable[Rule]) -> tuple[int, ...]:
    """Return the addresses at which some rule's prefix begins or has just ended, sorted."""
    prefixes = {str(r.remote_prefix) for r in rules if r.remote_prefix is not None}
    spans = map(prefix_span, prefixes)
    return tuple(sorted({edge for first, last in spans for edge in (first, last + 1)}))


@cache
def prefix_span(prefix: str) -> tuple[int, int]:
    """Return a prefix's first and last address as numbers."""
    network = ip_network(prefix)
    return int(network.network_address), int(network.broadcast_address)


def peer_of(rule: Rule) -> Peer:
    """Return whom a rule is about."""
    if rule.remote_group_id is not None:
        return ("group", rule.remote_group_id)
    if rule.remote_prefix is None or rule.remote_prefix.prefixlen == 0:
        return ANYBODY
    return ("prefix", str(rule.remote_prefix))


Clauses = Mapping[tuple[Direction, Peer], int]
"""What rules allow: services as bits, by direction and peer."""


def clauses_of_groups(
    cloud: Cloud, version: int, services: Sequence[Service]
) -> dict[GroupId, Clauses]:
    """Return each group's rules of one IP version, those about the same peer made one."""
    known: dict[tuple[int | None, int | None, int | None], int] = {}

    def bits(rule: Rule) -> int:
        key = (rule.protocol, rule.port_min, rule.port_max)
        if key not in known:
            covered = (fits(rule, s.protocol, s.port) for s in services)
            known[key] = sum(1 << i for i, is_covered in enumerate(covered) if is_covered)
        return known[key]

    found: dict[GroupId, Clauses] = {}
    for group in cloud.groups.values():
        clauses: dict[tuple[Direction, Peer], int] = {}
        for rule in group.rules:
            if rule.ethertype == version:
                key = (rule.direction, peer_of(rule))
                clauses[key] = clauses.get(key, 0) | bits(rule)
        found[group.id] = clauses
    return found


def clauses_of(profile: Profile, groups: Mapping[GroupId, Clauses], every: int) -> Clauses:
    """Return what a profile allows; without port security that is everything."""
    if not profile.port_security:
        return dict.fromkeys(((d, ANYBODY) for d in Direction), every)
    own = [groups[group] for group in profile.groups if group in groups]
    if len(own) == 1:
        return own[0]
    keys = {key for clauses in own for key in clauses}
    return {key: reduce(or_, (c.get(key, 0) for c in own)) for key in keys}


@dataclass(frozen=True)
class Rectangle:
    """Owners times peers: what rules about one peer allow.

    Attributes:
        owners, masks: Classes, and the services that each one's groups allow; parallel.
        peers: The classes that are meant.
    """

    direction: Direction
    owners: list[int]
    masks: list[int]
    peers: list[int]

    @property
    def size(self) -> int:
        """Return how many pairs of classes are in it."""
        return len(self.owners) * len(self.peers)


@dataclass(frozen=True)
class Policy:
    """What the rules allow between classes, all services.

    Attributes:
        anybody: Services that each class allows with anybody, by direction.
        rectangles: All the rest.
    """

    classes: Classes
    anybody: Mapping[Direction, list[int]]
    rectangles: tuple[Rectangle, ...]


def read_policy(classes: Classes, cloud: Cloud, allowed: Sequence[Clauses]) -> Policy:
    """Return what the groups of all classes allow, given what each profile does."""
    domains = [cloud.segments[place.network].domain for place in classes.places]
    anybody = {direction: [0] * classes.count for direction in Direction}
    owned: dict[tuple[Direction, Peer, str], tuple[list[int], list[int]]] = {}
    for index, (profile, place) in enumerate(
        zip(classes.profile.tolist(), classes.place.tolist(), strict=True)
    ):
        for (direction, peer), mask in allowed[profile].items():
            if peer == ANYBODY:
                anybody[direction][index] |= mask
            else:
                domain = domains[place] if peer[0] == "group" else ""
                owners, masks = owned.setdefault((direction, peer, domain), ([], []))
                owners.append(index)
                masks.append(mask)
    peers = _Peers(classes, domains)
    rectangles = (
        Rectangle(direction, owners, masks, peers.find(peer, domain))
        for (direction, peer, domain), (owners, masks) in owned.items()
    )
    return Policy(classes, anybody, tuple(r for r in rectangles if r.peers))


class _Peers:
    """Finds the classes that a rule's peer means."""

    def __init__(self, classes: Classes, domains: Sequence[str]) -> None:
        self._edges = classes.edges
        self._order = np.argsort(classes.atom, kind="stable")
        self._atoms = classes.atom[self._order]
        members: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, (profile, place) in enumerate(
            zip(classes.profile.tolist(), classes.place.tolist(), strict=True)
        ):
            for group in classes.profiles[profile].groups:
                members[group, domains[place]].append(index)
        self._members = members

    def find(self, peer: Peer, domain: str) -> list[int]:
        """Return the classes of a prefix, or of a group's members in one routing domain."""
        kind, name = peer
        if kind == "group":
            return self._members.get((name, domain), [])
        first, last = prefix_span(name)
        low, high = bisect_right(self._edges, first), bisect_right(self._edges, last)
        start, end = np.searchsorted(self._atoms, [low, high + 1])
        found: list[int] = self._order[start:end].tolist()
        return found


@dataclass(frozen=True)
class Word:
    """A policy cut down to 64 services, in arrays.

    Attributes:
        out, into: Services that each class allows with anybody, by what it does: send, receive.
        keys: Listed pairs as ``sender * classes + receiver``, sorted.
        listed_out, listed_into: What the sender's, the receiver's rules say of each listed pair.
        large: Rectangles that are not listed.
    """

    classes: Classes
    out: Masks
    into: Masks
    keys: Ints
    listed_out: Masks
    listed_into: Masks
    large: tuple[LargeRectangle, ...]

    def masks(self, senders: Ints, receivers: Ints) -> tuple[Masks, Masks]:
        """Return the services that the sender's, and the receiver's groups allow, per pair."""
        out, into = self.unlisted(senders, receivers)
        keys = senders * self.classes.count + receivers
        at = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        if len(self.keys):
            found = self.keys[at] == keys
            out |= np.where(found, self.listed_out[at], np.uint64(0))
            into |= np.where(found, self.listed_into[at], np.uint64(0))
        return out, into

    def unlisted(self, senders: Ints, receivers: Ints) -> tuple[Masks, Masks]:
        """Return the same without the listed pairs: anybody and the large rectangles."""
        out, into = self.out[senders], self.into[receivers]
        for box in self.large:
            if box.direction == Direction.EGRESS:
                out |= np.where(box.peers[receivers], box.owners[senders], np.uint64(0))
            else:
                into |= np.where(box.peers[senders], box.owners[receivers], np.uint64(0))
        return out, into


@dataclass(frozen=True)
class LargeRectangle:
    """A rectangle as columns over all classes: services of owners, and who is a peer."""

    direction: Direction
    owners: Masks
    peers: Bools


def cut_word(policy: Policy, word: int, large: int = LARGE) -> Word:
    """Return a policy's services from ``64 * word`` on, up to 64 of them.

    Rectangles of more than ``large`` pairs of classes are not listed.
    """
    count = policy.classes.count
    boxes = [r for r in policy.rectangles if r.size > large]
    small = [r for r in policy.rectangles if r.size <= large]
    keys, out, into = _list_pairs(small, count, word)
    return Word(
        policy.classes,
        _bits(policy.anybody[Direction.EGRESS], word),
        _bits(policy.anybody[Direction.INGRESS], word),
        keys,
        out,
        into,
        tuple(_as_columns(r, count, word) for r in boxes),
    )


def _bits(masks: Iterable[int], word: int) -> Masks:
    shift, low = word * WORD, (1 << WORD) - 1
    return np.array([mask >> shift & low for mask in masks], np.uint64)


def _as_columns(rectangle: Rectangle, count: int, word: int) -> LargeRectangle:
    owners, peers = np.zeros(count, np.uint64), np.zeros(count, np.bool_)
    owners[rectangle.owners] = _bits(rectangle.masks, word)
    peers[rectangle.peers] = True
    return LargeRectangle(rectangle.direction, owners, peers)


def _list_pairs(
    rectangles: Sequence[Rectangle], count: int, word: int
) -> tuple[Ints, Masks, Masks]:
    """Return pairs, and the services that the sender's and the receiver's rules allow them."""
    senders, targets, out = _multiply(rectangles, Direction.EGRESS, word)
    receivers, sources, into = _multiply(rectangles, Direction.INGRESS, word)
    keys = np.concatenate([senders * count + targets, sources * count + receivers])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    if not starts.size:
        return keys, out, into
    out_of_all = np.concatenate([out, np.zeros_like(into)])[order]
    into_of_all = np.concatenate([np.zeros_like(out), into])[order]
    return (
        keys[starts],
        np.bitwise_or.reduceat(out_of_all, starts),
        np.bitwise_or.reduceat(into_of_all, starts),
    )


def _multiply(
    rectangles: Sequence[Rectangle], direction: Direction, word: int
) -> tuple[Ints, Ints, Masks]:
    """Return the owner, the peer and the owner's services of each pair in the rectangles."""
    boxes = [r for r in rectangles if r.direction == direction]
    if not boxes:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64)
    heights = np.array([len(r.owners) for r in boxes])
    widths = np.array([len(r.peers) for r in boxes])
    sizes = heights * widths
    box = np.repeat(np.arange(len(boxes)), sizes)
    within = np.arange(sizes.sum()) - np.repeat(_starts(sizes), sizes)
    owner = _starts(heights)[box] + within // widths[box]
    peer = _starts(widths)[box] + within % widths[box]
    masks = _bits(chain.from_iterable(r.masks for r in boxes), word)
    owners = np.fromiter(chain.from_iterable(r.owners for r in boxes), np.int64)
    peers = np.fromiter(chain.from_iterable(r.peers for r in boxes), np.int64)
    return owners[owner], peers[peer], masks[owner]


def _starts(sizes: Ints) -> Ints:
    """Return where each of consecutive runs of these sizes begins."""
    return np.cumsum(sizes) - sizes
