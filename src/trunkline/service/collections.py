"""Reading a collection of resources: who sees what, filters, order, pages.

Records are dicts keyed by column name plus what a collection's ``complete`` adds. They are not
the API's bodies: which attributes a caller sees of a record is decided in ``api.attributes``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    Table,
    and_,
    bindparam,
    case,
    false,
    func,
    not_,
    or_,
    select,
    true,
)

from trunkline.db.engine import Transaction
from trunkline.db.tables import TagSet
from trunkline.errors import Forbidden, Invalid, NotFound, Outdated
from trunkline.service.caller import Caller

Record = dict[str, Any]
Condition = ColumnElement[bool]

CHANGED_SINCE = "changed_since"
"""Filter: changed or made at this time or later."""

TAG_FILTERS = ("tags", "tags-any", "not-tags", "not-tags-any")
"""Filters by tags: has all of the list, has one, lacks one, has none."""

OWN_PROJECT: BindParameter[str] = bindparam("own_project")
"""Stands for the caller's project in the condition of what a caller sees."""

OWN_USER: BindParameter[str] = bindparam("own_user")
"""Stands for the caller's own id there."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a list request asks for.

    Attributes:
        filters: Accepted values by field; a record matches if each field has one of its values.
        sort: (field, descending) pairs; the id decides what they leave open.
        limit: Most records to return.
        marker: Id of the record that ended the previous page.
        reverse: Return the page before the marker instead.
    """

    filters: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    sort: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    marker: str | None = None
    reverse: bool = False


@dataclass(frozen=True)
class Collection:
    """How records of one resource are found.

    Statements are built once: to build one costs more than to run it.

    Attributes:
        noun: What messages call one, such as ``security group``.
        kind: What error types call one, such as ``SecurityGroup``.
        visible: The condition under which a caller who is no administrator sees a record; has
            ``OWN_PROJECT`` in it.
        complete: Adds to records what other tables know of them, in place.
        special: Conditions for filters that are not columns, by field.
        exists: The condition under which a row counts at all.
    """

    noun: str
    kind: str
    table: Table
    visible: Condition
    complete: Callable[[Transaction, list[Record]], None]
    special: Mapping[str, Callable[[Sequence[Any]], Condition]] = field(default_factory=dict)
    exists: Condition = field(default_factory=true)

    @cached_property
    def _all(self) -> dict[bool, Select[Any]]:
        everything = select(self.table).where(self.exists)
        return {True: everything, False: everything.where(self.visible)}

    @cached_property
    def _one(self) -> dict[bool, Select[Any]]:
        wanted = self.table.c.id == bindparam("object_id")
        return {admin: statement.where(wanted) for admin, statement in self._all.items()}

    def all_seen_by(self, caller: Caller) -> Select[Any]:
        """Return the statement of all records that a caller sees."""
        return self._all[caller.is_admin]

    def one_seen_by(self, caller: Caller) -> Select[Any]:
        """Return the statement of the record ``object_id``, if the caller sees it."""
        return self._one[caller.is_admin]


def own(table: Table) -> Condition:
    """Return the usual visibility: a project sees its own."""
    return table.c.project_id == OWN_PROJECT


def new_record(tx: Transaction, values: Record) -> Record:
    """Return values with the columns that every new resource gets; an ``id`` of theirs stays."""
    return {
        "id": str(uuid4()),
        **values,
        "revision_number": 0,
        "created_at": tx.now,
        "updated_at": tx.now,
    }


def touched(tx: Transaction, record: Record) -> Record:
    """Return the columns that every change of a resource moves."""
    return {"revision_number": record["revision_number"] + 1, "updated_at": tx.now}


def fetch(tx: Transaction, caller: Caller, collection: Collection, object_id: str) -> Record:
    """Return one record.

    Raises:
        NotFound: No such object, or none that the caller may see.
    """
    parameters = {"object_id": object_id, **_stand_ins(caller)}
    row = tx.connection.execute(collection.one_seen_by(caller), parameters).mappings().first()
    if row is None:
        raise missing(collection, object_id)
    record = dict(row)
    collection.complete(tx, [record])
    return record


def is_visible(tx: Transaction, caller: Caller, collection: Collection, object_id: str) -> bool:
    """Return whether there is an object that the caller may see."""
    parameters = {"object_id": object_id, **_stand_ins(caller)}
    return tx.connection.execute(collection.one_seen_by(caller), parameters).first() is not None


def fetch_own(tx: Transaction, caller: Caller, collection: Collection, object_id: str) -> Record:
    """Return one record that the caller may change.

    Raises:
        NotFound: No such object, or none that the caller may see.
        Forbidden: The caller sees it, but it belongs to another project.
    """
    record = fetch(tx, caller, collection, object_id)
    if not caller.is_admin and record["project_id"] != caller.project_id:
        raise Forbidden(
            f"The {collection.noun} {object_id} belongs to another project; only that project or"
            " an administrator may change it.",
            "PolicyNotAuthorized",
        )
    return record


def require_revision(
    tx: Transaction, caller: Caller, collection: Collection, object_id: str, expected: int
) -> None:
    """Raise Outdated unless an object is at the revision that the caller read.

    Within a write transaction this decides: no one else changes it before the commit.

    Raises:
        NotFound: No such object, or none that the caller may see.
    """
    current = fetch(tx, caller, collection, object_id)["revision_number"]
    if current != expected:
        raise Outdated(
            f"Constrained to revision_number {expected}, but the current revision of"
            f" {collection.noun} {object_id} is {current}; read it again.",
            "RevisionNumberConstraintFailed",
        )


def _stand_ins(caller: Caller) -> dict[str, str]:
    return {"own_project": caller.project_id, "own_user": caller.user_id}


def missing(collection: Collection, object_id: str) -> NotFound:
    """Return the error for an id that nothing visible has."""
    noun = collection.noun[0].upper() + collection.noun[1:]
    return NotFound(f"{noun} {object_id} could not be found.", f"{collection.kind}NotFound")


def listed(tx: Transaction, caller: Caller, collection: Collection, query: Query) -> list[Record]:
    """Return the records that the caller sees and the query wants, completed.

    Raises:
        Invalid: The query sorts or filters by what is no column.
        NotFound: The caller sees no object that is the marker.
    """
    statement = collection.all_seen_by(caller)
    for name, values in query.filters.items():
        statement = statement.where(_filter(collection, name, values))
    statement = _page(tx, caller, collection, statement, query)
    rows = tx.connection.execute(statement, _stand_ins(caller)).mappings()
    records = [dict(row) for row in rows]
    if query.reverse:
        records.reverse()
    collection.complete(tx, records)
    return records


def _filter(collection: Collection, name: str, values: Sequence[Any]) -> Condition:
    if not values:
        return false()
    if name in collection.special:
        return collection.special[name](values)
    if name == CHANGED_SINCE:
        columns = collection.table.c
        when = columns.updated_at if "updated_at" in columns else columns.created_at
        changed: Condition = when >= min(values)
        return changed
    if name in TAG_FILTERS:
        return or_(false(), *(_tagged(collection, name, tags) for tags in values))
    if name not in collection.table.c:
        raise Invalid(f"{name} cannot be filtered by.", "HTTPBadRequest")
    return collection.table.c[name].in_(values)


def _tagged(collection: Collection, name: str, tags: Sequence[str]) -> Condition:
    """Return the condition for one value of a filter by tags."""
    each = [TagSet.holding(collection.table.c.tags, tag) for tag in tags]
    found = or_(*each) if name.endswith("-any") else and_(*each)
    return not_(found) if name.startswith("not-") else found


def _page(
    tx: Transaction,
    caller: Caller,
    collection: Collection,
    statement: Select[Any],
    query: Query,
) -> Select[Any]:
    keys = [(name, down != query.reverse) for name, down in query.sort]
    keys.append(("id", query.reverse))
    if query.marker is not None:
        if not is_visible(tx, caller, collection, query.marker):
            raise missing(collection, query.marker)
        statement = statement.where(_behind(tx, collection, keys, query.marker))
    for name, down in keys:
        column = _sortable(collection, name)
        statement = statement.order_by(column.desc() if down else column.asc())
    return statement if query.limit is None else statement.limit(query.limit)


def _behind(
    tx: Transaction, collection: Collection, keys: list[tuple[str, bool]], marker: str
) -> Condition:
    """Return the condition for records that the order puts behind the marker."""
    columns = [_sortable(collection, name) for name, _ in keys]
    found = select(*columns).where(collection.table.c.id == marker)
    row = tx.connection.execute(found).one()
    choices = []
    for i, (_, down) in enumerate(keys):
        equal = [columns[j] == row[j] for j in range(i)]
        choices.append(and_(*equal, columns[i] < row[i] if down else columns[i] > row[i]))
    return or_(*choices)


def _sortable(collection: Collection, name: str) -> ColumnElement[Any]:
    """Return a column as something that every database orders the same way, null included."""
    if name not in collection.table.c or collection.table.c[name].type.python_type in (dict, list):
        raise Invalid(f"sort_key: {collection.noun}s have no order by {name}.", "HTTPBadRequest")
    column = collection.table.c[name]
    if column.type.python_type is bool:
        return case((column, 1), else_=0)
    if not column.nullable:
        return column
    return func.coalesce(column, -1 if column.type.python_type is int else "")
