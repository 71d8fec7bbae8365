"""The audit: who changed what and when, written with the change itself or not at all.

One event for each object that a request makes, changes or deletes. What follows from it on other
objects (a deleted network takes its subnets along) is not told apart; the request is the cause.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import randbits
from typing import Any
from uuid import UUID

from sqlalchemy import delete, false, insert, select

from trunkline.db.engine import Transaction
from trunkline.db.tables import audit_events
from trunkline.service.caller import Caller
from trunkline.service.collections import Collection, Record

UNTOLD = frozenset({"id", "tenant_id", "revision_number", "created_at", "updated_at"})
"""Attributes that say nothing beyond what the event itself says."""

PRUNED_AT_ONCE = 5_000  # rows; other writers wait meanwhile

_ADD = insert(audit_events)


def _complete(_tx: Transaction, _records: list[Record]) -> None:
    pass


COLLECTION = Collection("audit event", "AuditEvent", audit_events, false(), _complete)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who made a change, and in which request."""

    caller: Caller
    request_id: str


def note(
    tx: Transaction,
    actor: Actor,
    resource_type: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    """Record that an object was made (no ``before``), deleted (no ``after``) or changed.

    Both are as the API shows them to somebody who sees everything. A change that changes nothing
    is none.
    """
    known: Mapping[str, Any] = after or before or {}
    changes = _changes(before or {}, after or {})
    if before and after and not changes:
        return
    row = {
        "id": event_id(),
        "created_at": tx.now,
        "request_id": actor.request_id,
        "user_id": actor.caller.user_id,
        "user_name": actor.caller.user,
        "project_id": actor.caller.project_id,
        "action": "create" if before is None else "delete" if after is None else "update",
        "resource_type": resource_type,
        "resource_id": known["id"],
        "resource_project_id": known.get("project_id", ""),
        "changes": changes,
    }
    tx.connection.execute(_ADD, row)


def prune(tx: Transaction, retention_days: int) -> bool:
    """Delete some events that are older than this; return whether there may be more."""
    oldest = datetime.fromisoformat(tx.now) - timedelta(days=retention_days)
    old = (
        select(audit_events.c.id)
        .where(audit_events.c.id < str(_uuid7(int(oldest.timestamp() * 1e9), 0)))
        .limit(PRUNED_AT_ONCE)
    )
    result = tx.connection.execute(delete(audit_events).where(audit_events.c.id.in_(old)))
    return result.rowcount == PRUNED_AT_ONCE


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what became of each attribute; of a new or deleted object, what it had."""
    changes: dict[str, dict[str, Any]] = {}
    for name in sorted((before.keys() | after.keys()) - UNTOLD):
        old, new = before.get(name), after.get(name)
        if not before or not after:
            if old or new or False in (old, new):
                changes[name] = {"after": new} if after else {"before": old}
        elif old != new:
            changes[name] = {"before": old, "after": new}
    return changes


def event_id() -> str:
    """Return an id that sorts behind all before."""
    return str(_uuid7(time.time_ns(), randbits(62)))


def _uuid7(moment_ns: int, entropy: int) -> UUID:
    """Return a UUID that sorts by time, to a quarter of a microsecond (RFC 9562, 6.2 method 3)."""
    milliseconds, rest = divmod(moment_ns, 1_000_000)
    fraction = rest * 4096 // 1_000_000
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | entropy)
