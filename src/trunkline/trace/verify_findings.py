"""What of a cloud deserves a second look: reach between projects, one-way pairs, luck, idle rules.

Each finding of a pair has a witness: one flow that shows it, judged by itself. Finds; decides
nothing about what is wanted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

import numpy as np

from trunkline.model import Rule
from trunkline.snapshot import GroupView
from trunkline.trace.reach import Counts, Reach
from trunkline.trace.reach_policy import ANYBODY, WORD, Bools, Ints, peer_of, prefix_span
from trunkline.trace.verify_cloud import IPV4, Cloud, End
from trunkline.trace.verify_flow import Ruling, to_port
from trunkline.trace.verify_services import PORTED, QUERIES, Service, fits

LIMIT = 50
"""Findings of one kind that get a witness; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Witness:
    """One flow, and what comes of it."""

    source: End
    target: End
    service: Service
    ruling: Ruling


@dataclass(frozen=True, slots=True)
class PairFinding:
    """Something about flows from one project or network to another.

    Attributes:
        flows: How many pairs x services it is about.
    """

    kind: str
    source: str
    target: str
    flows: int
    witness: Witness | None


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """A rule that has no effect, and why."""

    group: GroupView
    rule: Rule
    reason: str


ACROSS, ONE_WAY, PLACEMENT = "across projects", "one way only", "depends on placement"


def pair_findings(reach: Reach) -> list[PairFinding]:
    """Return what is to be said about pairs, most flows first."""
    projects = [place.project for place in reach.classes.places]
    networks = [place.network for place in reach.classes.places]
    across = [(a, b, n) for a, b, n in _grouped(reach.delivered, projects) if a != b]
    one_way = _grouped(reach.delivered - reach.answered, networks)
    lost = _grouped(reach.possible - reach.answered, networks)
    return [
        *_found(ACROSS, across, _Search(reach, projects, lambda to, _back, _may: to)),
        *_found(ONE_WAY, one_way, _Search(reach, networks, lambda to, back, _may: to & ~back)),
        *_found(PLACEMENT, lost, _Search(reach, networks, _stranded)),
    ]


Wanted = Callable[[Bools, Bools, Bools], Bools]
"""Of pairs: which are meant, given whether the request finds its way, whether the reply does, and
whether both would if all hosts had all bridges."""


def _stranded(to: Bools, back: Bools, may: Bools) -> Bools:
    return may & ~(to & back)


class _Search:
    """Finds a flow between two projects, or networks, that groups allow and ways make special."""

    def __init__(self, reach: Reach, names: Sequence[str], wanted: Wanted) -> None:
        self._reach, self._wanted = reach, wanted
        place = reach.classes.place[reach.classes.of_end]
        self._ends: dict[str, list[int]] = defaultdict(list)
        for index, number in enumerate(place.tolist()):
            self._ends[names[number]].append(index)

    def find(self, source: str, target: str) -> Witness | None:
        """Return the first such flow from one name to the other."""
        receivers = np.array(self._ends[target], np.int64)
        for sender in self._ends[source]:
            found = self._from(sender, receivers)
            if found is not None:
                return found
        return None

    def _from(self, sender: int, receivers: Ints) -> Witness | None:
        reach, senders = self._reach, np.full(receivers.size, sender)
        ends, ways = reach.classes.ends, reach.ways
        to, back = ways.of_ends(senders, receivers), ways.of_ends(receivers, senders)
        may = ways.possible_of_ends(senders, receivers)
        meant = self._wanted(to, back, may & ways.possible_of_ends(receivers, senders))
        meant &= [ends[r].seat.port.id != ends[sender].seat.port.id for r in receivers.tolist()]
        if not meant.any():
            return None
        kinds = reach.classes.of_end
        for number, word in enumerate(reach.words):
            both = np.bitwise_and(*word.masks(kinds[senders], kinds[receivers]))
            hits = np.flatnonzero(meant & (both > 0))
            if hits.size:
                bit = (int(both[hits[0]]) & -int(both[hits[0]])).bit_length() - 1
                service = reach.services[WORD * number + bit]
                return witness(reach.cloud, ends[sender], ends[receivers[hits[0]]], service)
        return None


def witness(cloud: Cloud, source: End, target: End, service: Service) -> Witness:
    """Return a flow with what comes of it."""
    return Witness(source, target, service, to_port(cloud, source, target, service))


def _grouped(matrix: Counts, names: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return (from, to, flows) of the places' names with any flows, most flows first."""
    distinct, codes = np.unique(np.array(names, dtype=str), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    if not starts.size:
        return []
    rows = np.add.reduceat(matrix[order], starts, axis=0)
    total = np.add.reduceat(rows[:, order], starts, axis=1)
    found = [
        (str(distinct[a]), str(distinct[b]), int(total[a, b])) for a, b in np.argwhere(total > 0)
    ]
    return sorted(found, key=lambda one: (-one[2], one[:2]))


def _found(
    kind: str, pairs: Iterable[tuple[str, str, int]], search: _Search
) -> Iterator[PairFinding]:
    for number, (a, b, flows) in enumerate(pairs):
        yield PairFinding(kind, a, b, flows, search.find(a, b) if number < LIMIT else None)


# --- rules ------------------------------------------------------------------------------------


def rule_findings(cloud: Cloud) -> list[RuleFinding]:
    """Return the rules of the groups in use that have no effect."""
    members = {group for end in cloud.ends for group in end.seat.port.group_ids}
    addresses = {
        version: sorted(int(e.address) for e in cloud.ends if e.address.version == version)
        for version in (4, 6)
    }
    found = []
    for group in cloud.groups.values():
        for rule in group.rules:
            reason = (
                _covered(rule, group.rules)
                or _begins_nothing(rule)
                or _nobody(rule, members, addresses, cloud.tenant_prefixes)
            )
            if reason:
                found.append(RuleFinding(group, rule, reason))
    return found


def _covered(rule: Rule, rules: Sequence[Rule]) -> str:
    """Return that another rule of the group allows all that this one does."""
    seen = False
    for other in rules:
        if other is rule:
            seen = True
        elif covers(other, rule) and not (seen and covers(rule, other)):
            return f"rule {other.id} of the group allows all of it"
    return ""


def covers(wide: Rule, narrow: Rule) -> bool:
    """Return whether one rule allows all that another one does."""
    return (
        wide.direction == narrow.direction
        and wide.ethertype == narrow.ethertype
        and _covers_peer(wide, narrow)
        and _covers_service(wide, narrow)
    )


def _covers_peer(wide: Rule, narrow: Rule) -> bool:
    if peer_of(wide) in {ANYBODY, peer_of(narrow)}:
        return True
    if peer_of(wide)[0] != "prefix" or peer_of(narrow)[0] != "prefix":
        return False
    first, last = prefix_span(peer_of(wide)[1])
    inner_first, inner_last = prefix_span(peer_of(narrow)[1])
    return first <= inner_first and inner_last <= last


def _covers_service(wide: Rule, narrow: Rule) -> bool:
    if wide.protocol is None:
        return True
    if wide.protocol != narrow.protocol:
        return False
    if wide.port_min is None or (wide.protocol not in PORTED and wide.protocol not in QUERIES):
        return True
    if narrow.port_min is None:
        return False
    if wide.protocol in QUERIES:
        return wide.port_min == narrow.port_min and wide.port_max in {None, narrow.port_max}
    last, inner_last = (r.port_min if r.port_max is None else r.port_max for r in (wide, narrow))
    return wide.port_min <= narrow.port_min and (inner_last or 0) <= (last or 0)


def _begins_nothing(rule: Rule) -> str:
    """Return that no connection begins with what an ICMP rule allows."""
    if rule.protocol not in QUERIES or rule.port_min is None:
        return ""
    if any(fits(rule, rule.protocol, kind) for kind in QUERIES[rule.protocol]):
        return ""
    return "no connection begins with this ICMP type; errors pass as related to theirs"


def _nobody(
    rule: Rule,
    members: Collection[str],
    addresses: Mapping[int, Sequence[int]],
    prefixes: Sequence[IPv4Network],
) -> str:
    """Return that a rule's remote group or prefix has nobody in it."""
    if rule.remote_group_id is not None:
        return "" if rule.remote_group_id in members else "its remote group has no port"
    prefix = rule.remote_prefix
    if not isinstance(prefix, IPv4Network) or not any(prefix.subnet_of(p) for p in prefixes):
        return ""
    first, last = prefix_span(str(prefix))
    held = addresses[4]
    taken = bisect_right(held, last) - bisect_left(held, first)
    return "" if taken else f"no port has an address in {prefix}"


# --- what is not judged -----------------------------------------------------------------------


def not_covered(cloud: Cloud) -> list[str]:
    """Return what of the cloud the answer does not cover, as sentences."""
    found = [
        f"host {host.name}: its agent has not reported how it is cabled; a usual host is assumed"
        for host in cloud.hosts.values()
        if not host.settings.told
    ]
    found += [
        f"host {host.name}: whether {prefix}, where instances keep their own source, has a way"
        " back to them; it is taken to"
        for host in cloud.hosts.values()
        for prefix in host.settings.exempt
    ]
    routers = {s.router.id: s.router for s in cloud.segments.values() if s.router is not None}
    found += [
        f"router {router.id}: where its extra routes lead is not judged"
        for router in routers.values()
        if router.routes
    ]
    found += [
        f"subnet {subnet}: where the routes it hands to instances lead is not judged"
        for segment in cloud.segments.values()
        for subnet in segment.host_routes
    ]
    found += [
        f"port {port_id}: flows of its allowed address pairs are not judged"
        for port_id in {e.seat.port.id for e in cloud.ends if e.seat.port.pairs}
    ]
    found += [
        f"network {segment.id}: what its upstream router lets pass is not judged"
        for segment in cloud.segments.values()
        if segment.upstream
    ]
    found += [
        f"floating IP {address}: where its port forwardings lead is not judged"
        for address in cloud.forwarding
    ]
    if any(end.address.version != IPV4 for end in cloud.ends):
        found.append("IPv6 between instances and the outside is not judged")
    return sorted(found)
