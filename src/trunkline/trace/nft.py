"""Interprets nftables rules: exactly the grammar in which ``core`` writes our two tables.

A rule is matches and one statement. What a packet shows is a table, ``FIELDS``; a new kind of
match is a line there. A rule with anything else in it raises ``Unknown`` with its text, so that
a walk can say what it does not know. Source: nft(8).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from trunkline.hoststate import Chain, NftSet, Table
from trunkline.model import IpAddress
from trunkline.trace.packets import ICMP, ICMPV6, PROTOCOLS, Arp, Frame, Packet

Value = str | int | IpAddress | frozenset[str]
V4, V6 = 4, 6

ACCEPT, DROP, REJECT, DNAT, SNAT, NONE = "accept", "drop", "reject", "dnat", "snat", "none"
REDIRECT, LIMIT = "redirect", "limit"
SET = "set"


class Raw(int):
    """Bytes of which nft knows no type: it prints them in hex."""

    def __str__(self) -> str:
        return hex(self)


class Unknown(Exception):
    """A rule, or a part of a host, that the tracer does not understand."""


@dataclass(frozen=True, slots=True)
class Context:
    """A packet at a hook.

    Attributes:
        iif, oif: In the bridge family, ports; else devices. None where the hook has none.
        state: Of its connection: ``new``, ``established``, ``related`` or ``invalid``.
        status: nft's words for what its connection has been through, such as ``dnat``.
        asked: Where the connection's first packet was sent to.
    """

    frame: Frame
    iif: str | None = None
    oif: str | None = None
    state: str = ""
    status: frozenset[str] = frozenset()
    asked: IpAddress | None = None

    @property
    def ip(self) -> Packet | None:
        """Return the packet, if it is one."""
        return self.frame.payload if isinstance(self.frame.payload, Packet) else None

    @property
    def arp(self) -> Arp | None:
        """Return the ARP message, if it is one."""
        return self.frame.payload if isinstance(self.frame.payload, Arp) else None


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A rule that did not decide, and the match that it failed at."""

    chain: str
    rule: str
    failed: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a base chain said.

    Attributes:
        kind: ``accept``, ``drop``, ``reject``, ``dnat``, ``snat``; ``none`` if no rule decided
            and the chain's policy, which is accept, holds.
        at: Where: ``bridge``, ``filter`` or ``nat``, and the hook.
        chains: From the base chain to the one that decided.
        rule: The deciding rule.
        argument: The address to translate to, with `` . `` and a port if that changes too, or the
            ICMP type of a rejection.
        passed_over: Rules that were asked before, in order.
        frame: As the rules left it.
    """

    kind: str
    at: tuple[str, str]
    chains: tuple[str, ...]
    rule: str = ""
    argument: str = ""
    passed_over: tuple[PassedOver, ...] = ()
    frame: Frame | None = None


def _port(which: str, protocol: str) -> Callable[[Context], int | None]:
    def read(context: Context) -> int | None:
        ip = context.ip
        if ip is None or ip.protocol != PROTOCOLS[protocol]:
            return None
        return ip.destination_port if which == "dport" else ip.source_port

    return read


def _service(context: Context) -> int | None:
    """Return what stands where TCP and UDP have their destination port."""
    return context.ip.destination_port if context.ip else None


def _icmp(index: int, protocol: int) -> Callable[[Context], int | None]:
    def read(context: Context) -> int | None:
        ip = context.ip
        return ip.icmp[index] if ip and ip.icmp and ip.protocol == protocol else None

    return read


def _address(which: str, version: int) -> Callable[[Context], IpAddress | None]:
    def read(context: Context) -> IpAddress | None:
        ip = context.ip
        if ip is None or ip.version != version:
            return None
        return ip.source if which == "saddr" else ip.destination

    return read


def _target(context: Context) -> Raw | None:
    """Return what neighbour discovery is about."""
    ip = context.ip
    return Raw(int(ip.target)) if ip and ip.target is not None else None


def _ether_type(context: Context) -> str:
    if context.ip is None:
        return "arp"
    return "ip" if context.ip.version == V4 else "ip6"


FIELDS: dict[tuple[str, ...], Callable[[Context], Value | None]] = {
    ("iifname",): lambda c: c.iif,
    ("oifname",): lambda c: c.oif,
    ("ether", "saddr"): lambda c: c.frame.source_mac,
    ("ether", "daddr"): lambda c: c.frame.destination_mac,
    ("ether", "type"): _ether_type,
    ("arp", "saddr", "ether"): lambda c: c.arp.sender_mac if c.arp else None,
    ("arp", "saddr", "ip"): lambda c: c.arp.sender if c.arp else None,
    ("arp", "daddr", "ip"): lambda c: c.arp.target if c.arp else None,
    ("arp", "operation"): lambda c: ("reply" if c.arp.is_reply else "request") if c.arp else None,
    ("ip", "saddr"): _address("saddr", V4),
    ("ip", "daddr"): _address("daddr", V4),
    ("ip6", "saddr"): _address("saddr", V6),
    ("ip6", "daddr"): _address("daddr", V6),
    ("ip", "protocol"): lambda c: c.ip.protocol if c.ip and c.ip.version == V4 else None,
    ("th", "dport"): _service,
    ("meta", "l4proto"): lambda c: c.ip.protocol if c.ip else None,
    ("meta", "nfproto"): lambda c: f"ipv{c.ip.version}" if c.ip else None,
    ("icmp", "type"): _icmp(0, ICMP),
    ("icmp", "code"): _icmp(1, ICMP),
    ("icmpv6", "type"): _icmp(0, ICMPV6),
    ("icmpv6", "code"): _icmp(1, ICMPV6),
    ("@th,64,128",): _target,
    ("ct", "state"): lambda c: frozenset({c.state}),
    ("ct", "status"): lambda c: c.status,
    ("ct", "original", "ip", "daddr"): lambda c: c.asked,
    **{
        (protocol, which): _port(which, protocol)
        for protocol in ("tcp", "udp", "dccp", "sctp", "udplite")
        for which in ("sport", "dport")
    },
}
"""What a packet shows, by the words that name it; None where it has no such thing."""


def _arp_change(frame: Frame, **changes: Any) -> Frame:
    assert isinstance(frame.payload, Arp), "a rule about ARP holds for ARP only"
    return replace(frame, payload=replace(frame.payload, **changes))


CHANGES: dict[tuple[str, ...], Callable[[Frame, str], Frame]] = {
    ("ether", "saddr"): lambda frame, value: replace(frame, source_mac=value),
    ("ether", "daddr"): lambda frame, value: replace(frame, destination_mac=value),
    ("arp", "saddr", "ether"): lambda frame, value: _arp_change(frame, sender_mac=value),
    ("arp", "saddr", "ip"): lambda frame, value: _arp_change(frame, sender=IPv4Address(value)),
    # To whom it is addressed, which a walk reads off the MAC.
    ("meta", "pkttype"): lambda frame, _: frame,
    ("ct", "zone"): lambda frame, value: replace(frame, zone=int(value)),
}
"""What a rule may change of a frame."""

Key = tuple[tuple[str, ...], ...]
"""A concatenation of fields."""


@dataclass(frozen=True, slots=True)
class Match:
    """A condition: a key, and what it is compared with: values or the name of a set."""

    key: Key
    negated: bool
    values: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What a rule does; ``argument`` is a chain, an address or an ICMP type.

    Attributes:
        key: What a verdict map or an address map is asked with.
        map: Its name.
    """

    verb: str
    argument: str = ""
    key: Key = ()
    map: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What a rule sets a field to: a value, or what a map has for a key."""

    field: tuple[str, ...]
    value: str = ""
    key: Key = ()
    map: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule taken apart; one that only changes the frame has the statement ``set``."""

    matches: tuple[Match, ...]
    statement: Statement
    changes: tuple[Change, ...] = ()


@lru_cache(maxsize=65536)
def parse(text: str) -> Rule:
    """Return a rule taken apart.

    Raises:
        Unknown: It has something in it that this interpreter does not know.
    """
    words = re.findall(r'"[^"]*"|\S+', text)
    try:
        return _Parser(words).rule()
    except (IndexError, KeyError) as error:
        raise Unknown(f"rule {text!r}") from error


class _Parser:
    """Reads a rule word by word; KeyError and IndexError mean that it is not understood."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._at = 0

    def rule(self) -> Rule:
        matches: list[Match] = []
        while self._peek() not in _STATEMENTS:
            if self._changed() is not None:
                changes = tuple(self._changes())
                return Rule(tuple(matches), self._end(Statement(SET)), changes)
            start = self._at
            key = self._key()
            if self._peek() == "vmap":
                self._at += 1
                return Rule(tuple(matches), self._end(Statement("vmap", "", key, self._set())))
            matches.append(self._match(key, start))
        verb = self._next()
        return Rule(tuple(matches), self._end(_STATEMENTS[verb](self, verb)))

    def _changed(self) -> tuple[str, ...] | None:
        """Return the field that is set next, if the next thing is such a statement."""
        for length in (3, 2):
            words = tuple(self._words[self._at : self._at + length + 1])
            if words[:-1] in CHANGES and words[-1] == SET:
                return words[:-1]
        return None

    def _changes(self) -> Iterator[Change]:
        while (field := self._changed()) is not None:
            self._at += len(field) + 1
            if (self._peek(),) not in FIELDS:
                yield Change(field, self._next())
                continue
            key = self._key()
            self._expect("map")
            yield Change(field, "", key, self._set())

    def _match(self, key: Key, start: int) -> Match:
        negated = self._peek() == "!="
        self._at += negated
        values = self._values()
        return Match(key, negated, values, " ".join(self._words[start : self._at]))

    def _values(self) -> tuple[str, ...]:
        word = self._next()
        if word != "{":
            return (word,)
        values = []
        while (word := self._next()) != "}":
            values.append(word.rstrip(","))
        return tuple(values)

    def _key(self) -> Key:
        fields = [self._field()]
        while self._peek() == ".":
            self._at += 1
            fields.append(self._field())
        return tuple(fields)

    def _field(self) -> tuple[str, ...]:
        for length in (4, 3, 2, 1):
            words = tuple(self._words[self._at : self._at + length])
            if words in FIELDS:
                self._at += length
                return words
        raise KeyError(self._peek())

    def _set(self) -> str:
        name = self._next()
        if not name.startswith("@"):
            raise KeyError(name)
        return name[1:]

    def plain(self, verb: str) -> Statement:
        return Statement(verb)

    def to_chain(self, verb: str) -> Statement:
        return Statement(verb, self._next())

    def rejection(self, verb: str) -> Statement:
        if self._peek() != "with":
            return Statement(verb, "port-unreachable")
        self._expect("with")
        if self._next() not in ("icmp", "icmpv6"):
            raise KeyError(verb)
        self._expect("type")
        return Statement(verb, self._next())

    def redirection(self, verb: str) -> Statement:
        self._expect("to")
        return Statement(verb, self._next())

    def limit(self, verb: str) -> Statement:
        self._expect("name")
        key = self._key()
        self._expect("map")
        statement = Statement(verb, "", key, self._set())
        self._expect(DROP)
        return statement

    def translation(self, verb: str) -> Statement:
        self._expect("ip", "to")
        if _is_address(self._peek()):
            return Statement(verb, self._next())
        key = self._key()
        self._expect("map")
        return Statement(verb, "", key, self._set())

    def _end(self, statement: Statement) -> Statement:
        if self._peek() == "comment":
            self._at += 2
        if self._peek():
            raise KeyError(self._peek())
        return statement

    def _expect(self, *words: str) -> None:
        for word in words:
            if self._next() != word:
                raise KeyError(word)

    def _peek(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _next(self) -> str:
        word = self._words[self._at]
        self._at += 1
        return word


def _is_address(word: str) -> bool:
    try:
        ip_address(word)
    except ValueError:
        return False
    return True


_STATEMENTS: dict[str, Callable[[_Parser, str], Statement]] = {
    "accept": _Parser.plain,
    "drop": _Parser.plain,
    "return": _Parser.plain,
    "goto": _Parser.to_chain,
    "jump": _Parser.to_chain,
    "reject": _Parser.rejection,
    REDIRECT: _Parser.redirection,
    LIMIT: _Parser.limit,
    "dnat": _Parser.translation,
    "snat": _Parser.translation,
}


def base_chains(tables: Iterable[Table], family: str, hook: str) -> list[tuple[Table, Chain]]:
    """Return the chains of a family that are attached to a hook, in the kernel's order."""
    found = [
        (table, chain)
        for table in tables
        if table.family == family
        for chain in table.chains.values()
        if chain.hook is not None and chain.hook.hook == hook
    ]
    return sorted(found, key=lambda one: one[1].hook.priority if one[1].hook else 0)


def evaluate(table: Table, chain: Chain, context: Context) -> Verdict:
    """Return what a base chain says to a packet.

    Raises:
        Unknown: A rule on the packet's way is not understood.
    """
    assert chain.hook is not None, "only a base chain has a verdict"
    at = ("bridge" if table.family == "bridge" else chain.hook.kind, chain.hook.hook)
    run = _Run(table, context, at)
    found = run.chain((chain.name,))
    if found is None or found.kind == "return":
        policy = chain.hook.policy
        kind = NONE if policy == ACCEPT else DROP
        found = Verdict(kind, at, (chain.name,), f"policy {policy}")
    return replace(found, frame=run.frame)


class _Run:
    """One packet's way through one table."""

    def __init__(self, table: Table, context: Context, at: tuple[str, str]) -> None:
        self._at = at
        self._table = table
        self._context = context
        self._passed_over: list[PassedOver] = []

    @property
    def frame(self) -> Frame:
        return self._context.frame

    def chain(self, chains: tuple[str, ...]) -> Verdict | None:
        """Return the verdict of the last of these chains; None if it ends without one."""
        chain = self._table.chains.get(chains[-1])
        if chain is None:
            raise Unknown(f"chain {chains[-1]}, which does not exist")
        for text in chain.rules:
            rule = parse(text)
            try:
                failed = next((m for m in rule.matches if not self._holds(m)), None)
            except ValueError as error:  # a value in words, where only numbers are known
                raise Unknown(f"rule {text!r}") from error
            if failed is not None:
                self._passed_over.append(PassedOver(chains[-1], text, failed.text))
                continue
            if rule.changes:
                self._change(chains[-1], text, rule.changes)
                continue
            verdict = self._perform(chains, text, rule.statement)
            if verdict is not None:
                return None if verdict.kind == "return" else verdict
        return None

    def _perform(self, chains: tuple[str, ...], text: str, what: Statement) -> Verdict | None:
        verb, argument = what.verb, what.argument
        if verb == REDIRECT:
            raise Unknown(f"{text}: what answers on that port of the host is not a matter of rules")
        if verb == LIMIT:
            return None  # a walk's few packets exceed no rate
        if what.map:
            found = self._look_up(what)
            if found is None:
                self._passed_over.append(PassedOver(chains[-1], text, f"no element in {what.map}"))
                return None
            words = found.split()
            verb, argument = (words[0], words[-1]) if verb == "vmap" else (verb, found)
        if verb in ("goto", "jump"):
            inner = self.chain((*chains, argument))
            ended = Verdict("return", self._at, chains) if verb == "goto" else None
            return inner or ended
        return Verdict(verb, self._at, chains, text, argument, tuple(self._passed_over))

    def _change(self, chain: str, text: str, changes: tuple[Change, ...]) -> None:
        """Change the frame; the first thing that cannot be found ends the rule."""
        for change in changes:
            value = self._look_up(change) if change.map else change.value
            if value is None:
                failed = f"no element in {change.map}"
                self._passed_over.append(PassedOver(chain, text, failed))
                return
            frame = CHANGES[change.field](self._context.frame, value)
            self._context = replace(self._context, frame=frame)

    def _look_up(self, what: Statement | Change) -> str | None:
        values = self._read(what.key)
        return None if values is None else element(self._set(what.map), values)

    def _holds(self, match: Match) -> bool:
        values = self._read(match.key)
        if values is None:
            return False  # nft adds the condition that the packet has such a thing at all
        if match.values[0].startswith("@"):
            found = element(self._set(match.values[0][1:]), values) is not None
        else:
            found = any(equals(values[0], text) for text in match.values)
        return found is not match.negated

    def _read(self, key: Key) -> tuple[Value, ...] | None:
        values = tuple(FIELDS[field](self._context) for field in key)
        return None if any(value is None for value in values) else values  # type: ignore[return-value]

    def _set(self, name: str) -> NftSet:
        found = self._table.sets.get(name)
        if found is None:
            raise Unknown(f"set {name}, which does not exist")
        return found


def element(nft_set: NftSet, values: tuple[Value, ...]) -> str | None:
    """Return what a set has for these values: a map's value, or an empty string; else None."""
    found = nft_set.elements.get(" . ".join(_spelled(value) for value in values))
    if found is None and nft_set.interval:
        return _interval(nft_set.elements, values)
    return found


def _interval(elements: Mapping[str, str], values: tuple[Value, ...]) -> str | None:
    for text, found in elements.items():
        parts = text.split(" . ")
        if all(equals(value, part) for value, part in zip(values, parts, strict=True)):
            return found
    return None


def _spelled(value: Any) -> str:
    """Return a value as nft prints it in an element: names in quotes, MACs and others not."""
    is_name = isinstance(value, str) and value.count(":") != 5  # noqa: PLR2004 - colons of a MAC
    return f'"{value}"' if is_name else str(value)


def equals(value: Value, text: str) -> bool:
    """Return whether a value is what a rule's text says: a value, a range, a prefix, a list."""
    if isinstance(value, frozenset):
        return not value.isdisjoint(text.split(","))
    if isinstance(value, int):
        first, _, last = text.partition("-")
        if first in PROTOCOLS:
            return value == PROTOCOLS[first]
        return int(first, 0) <= value <= int(last or first, 0)
    if isinstance(value, str):
        name = text.strip('"')
        return value.startswith(name[:-1]) if name.endswith("*") else value == name
    first, _, last = text.partition("-")
    if last:
        return int(ip_address(first)) <= int(value) <= int(ip_address(last))
    return value in ip_network(first)
