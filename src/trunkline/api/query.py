"""From a request's query string to a query on a collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.datastructures import QueryParams

from trunkline.api.attributes import Attribute, Default, Table
from trunkline.api.convert import boolean, filter_time, integer
from trunkline.errors import Invalid
from trunkline.service.caller import Caller
from trunkline.service.collections import CHANGED_SINCE, TAG_FILTERS, Query

LIMIT_MAX = 1_000_000
FILTER_VALUES_MAX = 1_000
CONTROLS = {"fields", "sort_key", "sort_dir", "limit", "marker", "page_reverse"}


def parse(table: Table, caller: Caller, params: QueryParams) -> Query:
    """Return what a list request asks for.

    Raises:
        Invalid: A filter is unknown, or a value malformed.
    """
    known = {attribute.name: attribute for attribute in table.seen_by(caller)}
    filterable = {one.name: one for one in table.attributes if one.filter_unseen}
    if "created_at" in known:
        known[CHANGED_SINCE] = Attribute(CHANGED_SINCE, filter=filter_time)
    if "tags" in known:
        known |= {name: replace(known["tags"], name=name) for name in TAG_FILTERS}
    limit = _limit(params)
    return Query(
        filters=_filters({**filterable, **known}, params),
        sort=_sort(known, params),
        limit=limit,
        marker=(params.get("marker") or None) if limit else None,  # without pages there is none
        reverse=_control("page_reverse", boolean, params.get("page_reverse", "false")),
    )


def _filters(known: Mapping[str, Attribute], params: QueryParams) -> dict[str, list[Any]]:
    filters: dict[str, list[Any]] = {}
    for name in params.keys() - CONTROLS:
        attribute = known.get(name)
        if attribute is None or attribute.filter is None:
            raise Invalid(f"{name[:80]!a} cannot be filtered by.", "HTTPBadRequest")
        texts = params.getlist(name)
        if len(texts) > FILTER_VALUES_MAX:
            raise Invalid(
                f"{name} has {len(texts)} values, at most {FILTER_VALUES_MAX} are allowed.",
                "HTTPBadRequest",
            )
        convert = attribute.filter
        values = [_control(name, convert, text) for text in texts]
        if attribute.always is Default.ABSENT:
            filters[attribute.key] = values
        elif attribute.always not in values:
            filters[name] = []  # every record has the one value, so none matches
    return filters


def _sort(known: Mapping[str, Attribute], params: QueryParams) -> tuple[tuple[str, bool], ...]:
    names, directions = params.getlist("sort_key"), params.getlist("sort_dir")
    if directions and len(directions) != len(names):
        raise Invalid("sort_dir must be given once for each sort_key.", "HTTPBadRequest")
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise Invalid(f"sort_dir is asc or desc, not {direction[:80]!a}.", "HTTPBadRequest")
    for name in names:
        if name not in known or name == CHANGED_SINCE:
            raise Invalid(f"sort_key {name[:80]!a} is no attribute.", "HTTPBadRequest")
    pairs = zip(names, directions or ["asc"] * len(names), strict=True)
    return tuple((known[name].key, direction == "desc") for name, direction in pairs)


def _limit(params: QueryParams) -> int | None:
    given = params.get("limit")
    if given in (None, "0"):
        return None
    return int(_control("limit", integer(1, LIMIT_MAX), given, "BadRequest"))


def _control(name: str, convert: Any, text: Any, kind: str = "InvalidInput") -> Any:
    try:
        return convert(text)
    except ValueError as error:
        raise Invalid(f"Invalid input for {name}. Reason: {error}.", kind) from None
