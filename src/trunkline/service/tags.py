"""Tags: words that users put on objects to find them again. No host ever sees one."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import update

from trunkline.db.engine import Transaction
from trunkline.errors import Invalid, NotFound
from trunkline.service.caller import Caller
from trunkline.service.collections import Collection, fetch, fetch_own, touched

TAGS_MAX = 50  # as in Neutron


def read(tx: Transaction, caller: Caller, collection: Collection, object_id: str) -> list[str]:
    """Return an object's tags."""
    found: list[str] = fetch(tx, caller, collection, object_id)["tags"]
    return found


def replace(
    tx: Transaction, caller: Caller, collection: Collection, object_id: str, tags: Iterable[str]
) -> list[str]:
    """Make these an object's tags, and return them."""
    record = fetch_own(tx, caller, collection, object_id)
    wanted = sorted(set(tags))
    if len(wanted) > TAGS_MAX:
        raise Invalid(
            f"tags of {collection.noun} {object_id}: The number of tags exceed the per-resource"
            f" limit of {TAGS_MAX}.",
            "BadRequest",
        )
    if wanted != record["tags"]:
        table = collection.table
        changed = {"tags": wanted, **touched(tx, record)}
        tx.connection.execute(update(table).where(table.c.id == object_id).values(changed))
    return wanted


def add(
    tx: Transaction, caller: Caller, collection: Collection, object_id: str, tags: Iterable[str]
) -> list[str]:
    """Put tags on an object beside those it has."""
    held = read(tx, caller, collection, object_id)
    return replace(tx, caller, collection, object_id, [*held, *tags])


def remove(
    tx: Transaction, caller: Caller, collection: Collection, object_id: str, tag: str
) -> None:
    """Take one tag off an object.

    Raises:
        NotFound: It has no such tag.
    """
    held = read(tx, caller, collection, object_id)
    require(held, tag)
    replace(tx, caller, collection, object_id, [other for other in held if other != tag])


def require(held: Iterable[str], tag: str) -> None:
    """Raise NotFound unless a tag is among these."""
    if tag not in held:
        raise NotFound(f"Tag {tag} could not be found.", "TagNotFound")
