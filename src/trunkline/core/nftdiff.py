"""From the nftables tables that are there to those that must be: one transaction.

Nothing that is right is written. Order within the transaction: what is referred to is made
first and removed last, as nftables checks each line against the ones before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from trunkline.hoststate import Chain, NftSet, Table
from trunkline.joined import changed
from trunkline.kept import kept

TableKey = tuple[str, str]


@kept(4)
def diff_tables(
    desired: Mapping[TableKey, Table], actual: Mapping[TableKey, Table]
) -> tuple[str, ...]:
    """Return the lines of the transaction, none where the tables are equal."""
    lines = [f"delete table {f} {name}" for f, name in sorted(actual.keys() - desired.keys())]
    for key, table in desired.items():
        present = actual.get(key)
        if present is table:
            continue
        if present is not None and _must_rebuild(table, present):
            lines.append(f"delete table {key[0]} {key[1]}")
            present = None
        if present is None:
            lines.append(f"add table {key[0]} {key[1]}")
            present = Table(table.family, table.name, {}, {})
        lines += _change(table, present)
    return tuple(lines)


def _must_rebuild(desired: Table, actual: Table) -> bool:
    """Return whether an object needs another type or hook, which nft cannot change in place."""
    sets = desired.sets.keys() & actual.sets.keys()
    chains = desired.chains.keys() & actual.chains.keys()
    limits = desired.limits.keys() & actual.limits.keys()
    return (
        any(_shape(desired.sets[s]) != _shape(actual.sets[s]) for s in sets)
        or any(desired.chains[c].hook != actual.chains[c].hook for c in chains)
        or any(desired.limits[name] != actual.limits[name] for name in limits)
    )


def _shape(nft_set: NftSet) -> tuple[str, bool, bool]:
    return nft_set.key, nft_set.is_map, nft_set.interval


def _change(desired: Table, actual: Table) -> Iterator[str]:
    """Yield the lines that turn one table into another of the same name."""
    where = f"{desired.family} {desired.name}"
    for name in sorted(desired.limits.keys() - actual.limits.keys()):
        yield f"add limit {where} {name} {{ {desired.limits[name]} }}"
    for name in sorted(desired.sets.keys() - actual.sets.keys()):
        yield _declare_set(where, desired.sets[name])
    for name in sorted(desired.chains.keys() - actual.chains.keys()):
        yield f"add chain {where} {name}{_hook_text(desired.chains[name])}"
    elements = {name: _element_diff(desired, actual, name) for name in desired.sets}
    for name, (_, gone) in elements.items():
        yield from _element_lines("delete", where, name, gone)
    for name, chain in desired.chains.items():
        present = actual.chains.get(name)
        rules = present.rules if present else ()
        if chain.rules != rules:
            yield from _rule_lines(where, chain, rules)
    for name, (new, _) in elements.items():
        yield from _element_lines("add", where, name, new)
    yield from _removals(where, desired, actual)


def _removals(where: str, desired: Table, actual: Table) -> Iterator[str]:
    """Yield lines that remove chains and sets nobody wants; rules first, they hold the rest."""
    old_chains = sorted(actual.chains.keys() - desired.chains.keys())
    old_sets = sorted(actual.sets.keys() - desired.sets.keys())
    for name in old_chains:
        yield f"flush chain {where} {name}"
    for name in old_sets:
        if actual.sets[name].elements:
            yield f"flush {_kind(actual.sets[name])} {where} {name}"
    for name in old_chains:
        yield f"delete chain {where} {name}"
    for name in old_sets:
        yield f"delete {_kind(actual.sets[name])} {where} {name}"
    for name in sorted(actual.limits.keys() - desired.limits.keys()):
        yield f"delete limit {where} {name}"


def _kind(nft_set: NftSet) -> str:
    return "map" if nft_set.is_map else "set"


def _declare_set(where: str, nft_set: NftSet) -> str:
    flags = " flags interval;" if nft_set.interval else ""
    return f"add {_kind(nft_set)} {where} {nft_set.name} {{ {nft_set.key};{flags} }}"


def _hook_text(chain: Chain) -> str:
    if chain.hook is None:
        return ""
    hook = chain.hook
    return (
        f" {{ type {hook.kind} hook {hook.hook} priority {hook.priority}; policy {hook.policy}; }}"
    )


def _rule_lines(where: str, chain: Chain, present: tuple[str, ...]) -> Iterator[str]:
    """Yield lines that replace a chain's rules, or append to them where that is enough."""
    kept = len(present)
    if present != chain.rules[:kept]:
        yield f"flush chain {where} {chain.name}"
        kept = 0
    for rule in islice(chain.rules, kept, None):
        yield f"add rule {where} {chain.name} {rule}"


def _element_diff(
    desired: Table, actual: Table, name: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Return (elements to add, elements to delete); a changed value is both."""
    present = actual.sets[name].elements if name in actual.sets else {}
    return changed(desired.sets[name].elements, present)


def _element_lines(verb: str, where: str, name: str, elements: dict[str, str]) -> Iterator[str]:
    if not elements:
        return
    if verb == "delete":
        texts = sorted(elements)
    else:
        texts = sorted(f"{key} : {value}" if value else key for key, value in elements.items())
    yield f"{verb} element {where} {name} {{ {', '.join(texts)} }}"
