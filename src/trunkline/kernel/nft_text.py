"""nft's language, as far as our tables use it: what ``nft list`` prints, and our scripts.

Pure. ``parse_tables`` turns a listing into tables; ``run_script`` says what a script makes of
tables, or why nftables refuses it. Both give rules in one canonical form, the one in which
``core`` writes them; ``canonical`` is the only place that knows how nft's printing differs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import pairwise
from sys import intern

from trunkline.hoststate import Chain, Hook, NftSet, Table

TableKey = tuple[str, str]


class RefusedScriptError(ValueError):
    """A line that nftables refuses; the message says which and why."""


# What nft prints with -s -y -p, and what rules say. Source: nft's symbol tables (src/proto.c,
# src/datatype.c of nftables 1.0.6). Protocols have names here where core writes names, the
# ones that nft's grammar knows by itself, so that /etc/protocols is not needed.
PROTOCOLS = {
    "1": "icmp",
    "6": "tcp",
    "17": "udp",
    "33": "dccp",
    "132": "sctp",
    "136": "udplite",
}
ICMP_TYPES = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "source-quench": 4,
    "redirect": 5,
    "echo-request": 8,
    "router-advertisement": 9,
    "router-solicitation": 10,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
    "info-request": 15,
    "info-reply": 16,
    "address-mask-request": 17,
    "address-mask-reply": 18,
}
ICMPV6_TYPES = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "mld-listener-reduction": 132,
    "nd-router-solicit": 133,
    "nd-router-advert": 134,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
    "nd-redirect": 137,
    "router-renumbering": 138,
    "ind-neighbor-solicit": 141,
    "ind-neighbor-advert": 142,
    "mld2-listener-report": 143,
}
ICMPV6_CODES = {
    "no-route": 0,
    "admin-prohibited": 1,
    "addr-unreachable": 3,
    "port-unreachable": 4,
    "policy-fail": 5,
    "reject-route": 6,
}
ICMP_CODES = {
    "net-unreachable": 0,
    "host-unreachable": 1,
    "prot-unreachable": 2,
    "port-unreachable": 3,
    "frag-needed": 4,
    "net-prohibited": 9,
    "host-prohibited": 10,
    "admin-prohibited": 13,
}

_COMMENT = re.compile(r' comment "[^"]*"$')
_QUOTED = re.compile(r'"[^"]*"')
_PROTOCOL = re.compile(r"(?<=meta l4proto )\d+\b|(?<=ip protocol )\d+\b")
_ICMP_TYPE = re.compile(r"(?<=icmp type )[a-z-]+")
_ICMP_CODE = re.compile(r"(?<=icmp code )[a-z-]+")
_ICMPV6_TYPE = re.compile(r"(?<=icmpv6 type )[a-z][a-z0-9-]+")
_ICMPV6_CODE = re.compile(r"(?<=icmpv6 code )[a-z-]+")
_REJECT = re.compile(r"(?<=reject with icmp )(?!type )|(?<=reject with icmpv6 )(?!type )")
_REFERRED_CHAIN = re.compile(r"\b(?:jump|goto) ([\w-]+)")
_REFERRED_SET = re.compile(r"@([\w-]+)(?![\w,-])")  # @th,64,128 is bytes of a header
_BASE_CHAIN = re.compile(r"type (\w+) hook (\w+) priority (-?\d+); policy (\w+);")
_OPENING = re.compile(r"(table|set|map|chain|limit) (?:(\w+) )?([\w-]+) \{")


def canonical(rule: str) -> str:
    """Return a rule as ``core`` writes it, from either ``core`` or nft's listing."""
    comment = _COMMENT.search(rule)
    body = rule[: comment.start()] if comment else rule
    body = _PROTOCOL.sub(lambda m: PROTOCOLS.get(m[0], m[0]), body)
    if "icmp" in body:
        body = _ICMP_TYPE.sub(lambda m: str(ICMP_TYPES.get(m[0], m[0])), body)
        body = _ICMP_CODE.sub(lambda m: str(ICMP_CODES.get(m[0], m[0])), body)
        body = _ICMPV6_TYPE.sub(lambda m: str(ICMPV6_TYPES.get(m[0], m[0])), body)
        body = _ICMPV6_CODE.sub(lambda m: str(ICMPV6_CODES.get(m[0], m[0])), body)
        body = _REJECT.sub("type ", body)
    return body + (comment[0] if comment else "")


def parse_tables(listing: str) -> dict[TableKey, Table]:
    """Return the tables that ``nft -s -y -p list table …`` has printed."""
    tables: dict[TableKey, _Table] = {}
    table = _Table("", "")
    block: _Chain | _Set | _Limit | None = None
    lines = iter(listing.splitlines())
    for line in map(str.strip, lines):
        opening = _OPENING.fullmatch(line)
        if opening and opening[1] == "table":
            table = tables.setdefault((opening[2], opening[3]), _Table(opening[2], opening[3]))
        elif opening:
            block = table.open(opening[1], opening[3])
        elif line == "}":
            block = None
        elif isinstance(block, _Chain):
            block.read_line(line)
        elif isinstance(block, _Limit):
            table.limits[block.name] = line
        elif isinstance(block, _Set):
            block.read_line(line, lines)
    return {key: table.frozen() for key, table in tables.items()}


def run_script(tables: Mapping[TableKey, Table], script: Iterable[str]) -> dict[TableKey, Table]:
    """Return what the lines of one transaction make of these tables.

    Raises:
        RefusedScriptError: nftables would refuse a line, and with it the transaction.
    """
    drafts = {key: _Table.thawed(table) for key, table in tables.items()}
    for line in script:
        try:
            _run_line(drafts, line)
        except RefusedScriptError as error:
            raise RefusedScriptError(f"{line}: {error}") from None
    return {key: draft.frozen() for key, draft in drafts.items()}


def _run_line(drafts: dict[TableKey, _Table], line: str) -> None:
    verb, kind, family, name, *rest = line.split(" ", 5)
    key = (family, name)
    if kind == "table":
        if verb == "add":
            drafts.setdefault(key, _Table(family, name))
        elif drafts.pop(key, None) is None:
            raise RefusedScriptError("no such table")
        return
    if key not in drafts:
        raise RefusedScriptError("no such table")
    statement = _STATEMENTS.get((verb, kind))
    if statement is None:
        raise RefusedScriptError("not a statement of ours")
    statement(drafts[key], rest[0], rest[1] if len(rest) > 1 else "")


@dataclass(slots=True)
class _Chain:
    """A chain in the making."""

    name: str
    rules: list[str] = field(default_factory=list)
    hook: Hook | None = None

    def read_line(self, line: str) -> None:
        """Take in one line of a listing."""
        base = _BASE_CHAIN.fullmatch(line)
        if base:
            self.hook = _hook(base)
        elif line:
            self.rules.append(canonical(line))


@dataclass(slots=True)
class _Set:
    """A set or map in the making."""

    name: str
    is_map: bool
    key: str = ""
    interval: bool = False
    elements: dict[str, str] = field(default_factory=dict)

    def read_line(self, line: str, following: Iterator[str]) -> None:
        """Take in one line of a listing, and the lines that a long list of elements goes on."""
        if line.startswith(("type ", "typeof ")):
            self.key = line
        elif line.startswith("flags "):
            self.interval = "interval" in line
        elif line.startswith("elements = {"):
            parts = [line.removeprefix("elements = {")]
            while not parts[-1].endswith("}"):
                parts.append(next(following))
            self.elements = dict(_elements("".join(parts).removesuffix("}")))

    def check(self, element: str, value: str) -> None:
        """Refuse an element that does not fit the set's type."""
        if bool(value) != self.is_map:
            raise RefusedScriptError(f"{element} must{'' if self.is_map else ' not'} have a value")
        if element.count(" . ") != self.key.partition(" : ")[0].count(" . "):
            raise RefusedScriptError(f"{element} does not have the fields of {self.key}")

    def check_intervals(self) -> None:
        """Refuse prefixes that overlap without being equal, what stands before them being so."""
        split = (element.rpartition(" . ") for element in self.elements)
        ordered = sorted((fields, _interval(text)) for fields, _, text in split)
        for (fields, (_, end)), (others, (start, _)) in pairwise(ordered):
            if fields == others and start <= end:
                raise RefusedScriptError(f"two intervals overlap at {start:#x}")


@dataclass(slots=True)
class _Limit:
    """A limit, whose one line is being waited for."""

    name: str


@dataclass(slots=True)
class _Table:
    """A table in the making; its methods are nft's statements.

    Attributes:
        uses: How often each chain (by name) and set (by @name) is referred to; None when that
            must be counted anew.
    """

    family: str
    name: str
    sets: dict[str, _Set] = field(default_factory=dict)
    chains: dict[str, _Chain] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    uses: Counter[str] | None = None

    @classmethod
    def thawed(cls, table: Table) -> _Table:
        """Return a copy that can be changed."""
        sets = {
            s.name: _Set(s.name, s.is_map, s.key, s.interval, dict(s.elements))
            for s in table.sets.values()
        }
        chains = {c.name: _Chain(c.name, list(c.rules), c.hook) for c in table.chains.values()}
        return cls(table.family, table.name, sets, chains, dict(table.limits))

    def frozen(self) -> Table:
        """Return it as a value."""
        sets = {
            s.name: NftSet(s.name, s.key, s.is_map, s.interval, s.elements)
            for s in self.sets.values()
        }
        chains = {c.name: Chain(c.name, tuple(c.rules), c.hook) for c in self.chains.values()}
        return Table(self.family, self.name, sets, chains, dict(self.limits))

    def open(self, kind: str, name: str) -> _Chain | _Set | _Limit:
        """Add an object that a listing describes."""
        if kind == "limit":
            return _Limit(name)
        if kind == "chain":
            return self.chains.setdefault(name, _Chain(name))
        return self.sets.setdefault(name, _Set(name, kind == "map"))

    def add_chain(self, name: str, definition: str) -> None:
        """Add a chain; one that is there already is left alone, unless its hook differs."""
        base = _BASE_CHAIN.search(definition)
        hook = _hook(base) if base else None
        chain = self.chains.setdefault(name, _Chain(name, hook=hook))
        if hook is not None and chain.hook != hook:
            raise RefusedScriptError("chain exists with another hook")

    def flush_chain(self, name: str, _: str) -> None:
        """Remove a chain's rules."""
        self._chain(name).rules.clear()
        self.uses = None

    def delete_chain(self, name: str, _: str) -> None:
        """Remove a chain and its rules."""
        chain = self._chain(name)
        if self._count_uses()[name]:
            raise RefusedScriptError("chain is in use")
        self._count_uses().subtract(_references(chain.rules))
        del self.chains[name]

    def add_rule(self, name: str, rule: str) -> None:
        """Append a rule; what it refers to must be there."""
        chain = self._chain(name)
        for reference in _references([rule]):
            self._must_exist(reference)
        chain.rules.append(canonical(rule))
        self.uses = None

    def add_set(self, name: str, definition: str) -> None:
        """Add a set; one that is there already must be alike."""
        self._declare(name, definition, is_map=False)

    def add_map(self, name: str, definition: str) -> None:
        """Add a map; one that is there already must be alike."""
        self._declare(name, definition, is_map=True)

    def _declare(self, name: str, definition: str, *, is_map: bool) -> None:
        key, *flags = (part.strip() for part in definition.strip("{} ").split(";"))
        wanted = _Set(name, is_map, key, "flags interval" in flags)
        present = self.sets.setdefault(name, wanted)
        if (present.is_map, present.key, present.interval) != (is_map, key, wanted.interval):
            raise RefusedScriptError("exists with another type")

    def delete_set(self, name: str, _: str) -> None:
        """Remove a set or map with its elements."""
        old = self._set(name)
        if self._count_uses()[f"@{name}"]:
            raise RefusedScriptError("set is in use")
        self._count_uses().subtract(_references(old.elements.values()))
        del self.sets[name]

    def flush_set(self, name: str, _: str) -> None:
        """Remove a set's elements; a map is another kind of object to nft's flush."""
        self._flush(name, is_map=False)

    def flush_map(self, name: str, _: str) -> None:
        """Remove a map's elements."""
        self._flush(name, is_map=True)

    def _flush(self, name: str, *, is_map: bool) -> None:
        target = self._set(name)
        if target.is_map != is_map:
            raise RefusedScriptError(f"no such {'map' if is_map else 'set'}: {name}")
        target.elements.clear()
        self.uses = None

    def add_limit(self, name: str, definition: str) -> None:
        """Add a limit; one that is there already must be alike."""
        wanted = definition.strip("{} ")
        if self.limits.setdefault(name, wanted) != wanted:
            raise RefusedScriptError("exists with another rate")

    def delete_limit(self, name: str, _: str) -> None:
        """Remove a limit that no element refers to."""
        if any(f'"{name}"' in s.elements.values() for s in self.sets.values() if s.is_map):
            raise RefusedScriptError("limit is in use")
        if self.limits.pop(name, None) is None:
            raise RefusedScriptError("no such limit")

    def add_element(self, name: str, text: str) -> None:
        """Add elements; a map's must not be there with another value."""
        target = self._set(name)
        for element, value in _elements(text.strip("{} ")):
            target.check(element, value)
            for reference in _references([value] if value else []):
                self._must_exist(reference)
            if target.elements.setdefault(element, value) != value:
                raise RefusedScriptError(f"{element} exists with another value")
        if target.interval:
            target.check_intervals()
        self.uses = None

    def delete_element(self, name: str, text: str) -> None:
        """Remove elements that are there."""
        target = self._set(name)
        for element, _ in _elements(text.strip("{} ")):
            if target.elements.pop(element, None) is None:
                raise RefusedScriptError(f"no element {element}")
        self.uses = None

    def _chain(self, name: str) -> _Chain:
        self._must_exist(name)
        return self.chains[name]

    def _set(self, name: str) -> _Set:
        self._must_exist(f"@{name}")
        return self.sets[name]

    def _must_exist(self, reference: str) -> None:
        if reference.startswith("@"):
            if reference[1:] not in self.sets:
                raise RefusedScriptError(f"no such set: {reference[1:]}")
        elif reference not in self.chains:
            raise RefusedScriptError(f"no such chain: {reference}")

    def _count_uses(self) -> Counter[str]:
        if self.uses is None:
            self.uses = Counter()
            for chain in self.chains.values():
                self.uses.update(_references(chain.rules))
            for nft_set in self.sets.values():
                if nft_set.key.endswith(" : verdict"):
                    self.uses.update(_references(nft_set.elements.values()))
        return self.uses


_STATEMENTS = {
    ("add", "chain"): _Table.add_chain,
    ("flush", "chain"): _Table.flush_chain,
    ("delete", "chain"): _Table.delete_chain,
    ("add", "rule"): _Table.add_rule,
    ("add", "set"): _Table.add_set,
    ("add", "map"): _Table.add_map,
    ("delete", "set"): _Table.delete_set,
    ("delete", "map"): _Table.delete_set,
    ("flush", "set"): _Table.flush_set,
    ("flush", "map"): _Table.flush_map,
    ("add", "limit"): _Table.add_limit,
    ("delete", "limit"): _Table.delete_limit,
    ("add", "element"): _Table.add_element,
    ("delete", "element"): _Table.delete_element,
}


def _references(texts: Iterable[str]) -> list[str]:
    """Return the chains and @sets that rules or verdicts refer to."""
    found: list[str] = []
    for text in texts:
        bare = _QUOTED.sub("", text)
        found += _REFERRED_CHAIN.findall(bare)
        found += (f"@{name}" for name in _REFERRED_SET.findall(bare))
    return found


def _elements(text: str) -> Iterator[tuple[str, str]]:
    """Yield element and value of a comma-separated list; a set's value is empty.

    Interned, as ``core`` has them, so that a set of thousands is compared by identity.
    """
    for part in text.split(","):
        element, _, value = part.strip().partition(" : ")
        if element:
            yield intern(_single(element)), intern(value)


def _single(element: str) -> str:
    """Return an element as nft prints it: an IPv4 prefix that is one address has no length."""
    if element.endswith("/32") and ":" not in element.rpartition(" . ")[2]:
        return element.removesuffix("/32")
    return element


def _interval(text: str) -> tuple[int, int]:
    """Return first and last of an interval's field: a prefix, an address, or numbers in hex."""
    if text.startswith("0x"):
        first, _, last = text.partition("-")
        return int(first, 16), int(last or first, 16)
    prefix = ip_network(text)
    return int(prefix.network_address), int(prefix.broadcast_address)


def _hook(base: re.Match[str]) -> Hook:
    return Hook(base[1], base[2], int(base[3]), base[4])
