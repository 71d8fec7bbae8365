"""nftables for the fake kernel: runs the transactions that ``core.nftdiff`` writes.

As strict as the kernel where the order of lines matters: an object that is not there, one that
is there twice, and one that something still refers to are refused, and then nothing is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from trunkline.errors import Rejected
from trunkline.hoststate import Chain, Hook, NftSet, Table

HOOK = re.compile(r"type (\w+) hook (\w+) priority (-?\d+); policy (\w+);")
JUMP = re.compile(r"\b(?:jump|goto) ([\w.-]+)")
REFERENCE = re.compile(r"@([\w.-]+)")

TableKey = tuple[str, str]
K = TypeVar("K")
V = TypeVar("V")


@dataclass
class _Draft:
    """A table that a transaction is changing."""

    sets: dict[str, NftSet] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)


def run(tables: dict[TableKey, Table], script: Iterable[str]) -> dict[TableKey, Table]:
    """Return the tables after a transaction.

    Raises:
        Rejected: A line was refused; the message carries it.
    """
    drafts = {key: _Draft(dict(t.sets), dict(t.chains)) for key, t in tables.items()}
    for line in script:
        try:
            _line(drafts, line)
        except _RefusedError as error:
            raise Rejected(f"nft: {error}: {line}") from error
    return {(f, n): Table(f, n, d.sets, d.chains) for (f, n), d in drafts.items()}


class _RefusedError(Exception):
    """One line cannot be carried out."""


def _line(drafts: dict[TableKey, _Draft], line: str) -> None:
    verb, kind, family, name, *rest = line.split(" ", 5)
    key = (family, name)
    if kind == "table":
        _table(drafts, verb, key)
        return
    if key not in drafts:
        raise _RefusedError("no such table")
    subject, body = rest[0], rest[1] if len(rest) > 1 else ""
    draft = drafts[key]
    match kind:
        case "chain":
            _chain(draft, verb, subject, body)
        case "rule":
            _rule(draft, subject, body)
        case "set" | "map":
            _set(draft, verb, kind, subject, body)
        case "element":
            _element(draft, verb, subject, body)
        case _:
            raise _RefusedError("no such kind of object")


def _table(drafts: dict[TableKey, _Draft], verb: str, key: TableKey) -> None:
    if verb == "delete":
        _take(drafts, key)
    else:
        drafts.setdefault(key, _Draft())


def _chain(draft: _Draft, verb: str, name: str, body: str) -> None:
    if verb == "add":
        _must_be_new(draft.chains, name)
        found = HOOK.search(body)
        hook = Hook(found[1], found[2], int(found[3]), found[4]) if found else None
        draft.chains[name] = Chain(name, (), hook)
        return
    chain = _get(draft.chains, name)
    if verb == "flush":
        draft.chains[name] = Chain(name, (), chain.hook)
        return
    if chain.rules or name in set(_chains_in_use(draft)):
        raise _RefusedError("chain is in use")
    del draft.chains[name]


def _rule(draft: _Draft, name: str, rule: str) -> None:
    chain = _get(draft.chains, name)
    for target in JUMP.findall(rule):
        _get(draft.chains, target)
    for referred in REFERENCE.findall(rule):
        _get(draft.sets, referred)
    draft.chains[name] = Chain(name, (*chain.rules, rule), chain.hook)


def _set(draft: _Draft, verb: str, kind: str, name: str, body: str) -> None:
    if verb == "add":
        _must_be_new(draft.sets, name)
        declared = body.removeprefix("{ ").removesuffix(" }")
        interval = "flags interval;" in declared
        draft.sets[name] = NftSet(name, declared.split(";")[0], kind == "map", interval)
        return
    present = _get(draft.sets, name)
    if verb == "flush":
        draft.sets[name] = _with_elements(present, {})
        return
    rules = [rule for chain in draft.chains.values() for rule in chain.rules]
    if any(name in REFERENCE.findall(rule) for rule in rules):
        raise _RefusedError("set is in use")
    del draft.sets[name]


def _element(draft: _Draft, verb: str, name: str, body: str) -> None:
    present = _get(draft.sets, name)
    elements = dict(present.elements)
    for text in body.removeprefix("{ ").removesuffix(" }").split(", "):
        key, _, value = text.partition(" : ")
        if verb == "delete":
            _take(elements, key)
            continue
        if elements.get(key, value) != value:
            raise _RefusedError("element exists with another value")
        for target in JUMP.findall(value):
            _get(draft.chains, target)
        elements[key] = value
    draft.sets[name] = _with_elements(present, elements)


def _with_elements(nft_set: NftSet, elements: dict[str, str]) -> NftSet:
    return NftSet(nft_set.name, nft_set.key, nft_set.is_map, nft_set.interval, elements)


def _chains_in_use(draft: _Draft) -> Iterator[str]:
    for chain in draft.chains.values():
        for rule in chain.rules:
            yield from JUMP.findall(rule)
    for nft_set in draft.sets.values():
        for value in nft_set.elements.values():
            yield from JUMP.findall(value)


def _must_be_new(objects: Mapping[str, object], name: str) -> None:
    if name in objects:
        raise _RefusedError("exists")


def _get(objects: Mapping[str, V], name: str) -> V:
    if name not in objects:
        raise _RefusedError(f"{name} does not exist")
    return objects[name]


def _take(objects: dict[K, V], key: K) -> None:
    if key not in objects:
        raise _RefusedError(f"{key} does not exist")
    del objects[key]
