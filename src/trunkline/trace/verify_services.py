"""Services as rules tell them apart: classes of (protocol, port) that every rule treats alike.

A service is what begins a connection: the protocol, and the destination port or the ICMP query's
type. Clients are taken to use ports from 1024 up, so DHCP and DNS of the gateways, which groups
do not govern, are not among them. Errors of ICMP begin no connection (they are related to one),
and queries have code 0; so only queries are services (net/netfilter/nf_conntrack_proto_icmp.c).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from trunkline.model import Rule

PORTED = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
QUERIES = {1: (8, 13, 15, 17), 58: (128,)}
NAMES = {**PORTED, 1: "icmp", 58: "icmpv6"}
PORTS = 65536
WELL_KNOWN_LAST = 254  # 255 is reserved (IANA, assigned internet protocol numbers)


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive ports, or ICMP types, of one protocol.

    Attributes:
        protocol: None is every protocol that no rule names.
    """

    protocol: int | None
    first: int
    last: int

    def __str__(self) -> str:
        """Return it as a person writes it, such as ``tcp 80`` or ``icmp type 8``."""
        if self.protocol is None:
            return "any other protocol"
        name = NAMES.get(self.protocol, f"protocol {self.protocol}")
        if self.protocol in QUERIES:
            return f"{name} type {self.first}"
        if self.protocol not in PORTED or (self.first, self.last) == (0, PORTS - 1):
            return name
        return f"{name} {self.first}" + ("" if self.first == self.last else f"-{self.last}")


@dataclass(frozen=True, slots=True)
class Service:
    """What all rules treat alike: the spans, and a packet's protocol and port to stand for it."""

    spans: tuple[Span, ...]
    protocol: int
    port: int

    def __str__(self) -> str:
        """Return the spans as a person writes them."""
        return ", ".join(map(str, self.spans))


def fits(rule: Rule, protocol: int, port: int) -> bool:
    """Return whether a rule's protocol and ports, or ICMP type, cover a service."""
    if rule.protocol is None:
        return True
    if rule.protocol != protocol:
        return False
    if rule.port_min is None:
        return True
    if protocol in QUERIES:
        return port == rule.port_min and rule.port_max in {None, 0}
    if protocol not in PORTED:
        return True
    return rule.port_min <= port <= (rule.port_min if rule.port_max is None else rule.port_max)


def services(rules: Iterable[Rule]) -> tuple[Service, ...]:
    """Return the classes of services that these rules tell apart; none is empty."""
    kinds = {(r.protocol, r.port_min, r.port_max): r for r in rules}
    distinct = list(kinds.values())
    named = {r.protocol for r in distinct if r.protocol is not None}
    spans = [span for protocol in sorted(named) for span in _spans(protocol, distinct)]
    others = set(range(1, WELL_KNOWN_LAST + 1)) - named - {*PORTED, *QUERIES}
    stands_for_rest = max(others, default=0)
    if others:
        spans.append(Span(None, 0, 0))
    classes: dict[tuple[bool, ...], list[Span]] = defaultdict(list)
    for span in spans:
        protocol = stands_for_rest if span.protocol is None else span.protocol
        classes[tuple(fits(rule, protocol, span.first) for rule in distinct)].append(span)
    return tuple(_service(same, stands_for_rest) for same in classes.values())


def _service(spans: Sequence[Span], stands_for_rest: int) -> Service:
    first = spans[0]
    protocol = stands_for_rest if first.protocol is None else first.protocol
    return Service(tuple(spans), protocol, first.first)


def _spans(protocol: int, rules: Sequence[Rule]) -> list[Span]:
    """Return a protocol cut at every port at which some rule begins or ends."""
    if protocol in QUERIES:
        return [Span(protocol, kind, kind) for kind in QUERIES[protocol]]
    if protocol not in PORTED:
        return [Span(protocol, 0, 0)]
    cuts = {0, PORTS}
    for rule in rules:
        if rule.protocol == protocol and rule.port_min is not None:
            cuts |= {rule.port_min, (rule.port_max or rule.port_min) + 1}
    edges = sorted(cuts)
    return [Span(protocol, a, b - 1) for a, b in pairwise(edges)]
