"""How objects are shown: tables for people, JSON for programs. Knows no particular object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(records: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return records, one a line, under a head; columns that no record has are left out.

    Args:
        records: What to show.
        columns: Keys in records, by the words of the head.
    """
    shown = {
        head: key for head, key in columns.items() if not records or any(key in r for r in records)
    }
    rows = [list(shown), *([cell(r.get(key)) for key in shown.values()] for r in records)]
    return _aligned(rows)


def details(record: Mapping[str, Any]) -> str:
    """Return one record, an attribute a line; a list's further items have lines of their own."""
    rows = []
    for key in sorted(record):
        value = record[key]
        lines = [cell(item) for item in value] if isinstance(value, list) else [cell(value)]
        rows += [[key if i == 0 else "", line] for i, line in enumerate(lines or ["-"])]
    return _aligned(rows)


def as_json(value: Any) -> str:
    """Return it as JSON for programs."""
    return json.dumps(value, indent=2)


def cell(value: Any) -> str:
    """Return a value on one line."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    if isinstance(value, dict):
        return _telling(value)
    return str(value).replace("\n", "\\n")


def _telling(value: Mapping[str, Any]) -> str:
    """Return an object on one line; of a fixed IP, the address is enough."""
    if value.keys() == {"subnet_id", "ip_address"}:
        return str(value["ip_address"])
    return " ".join(f"{key}={cell(item)}" for key, item in value.items())


def _aligned(rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
