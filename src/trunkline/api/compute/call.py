"""A request of the compute API within its transaction, and what it may do to objects.

They are the Networking API's objects: its attributes, policy, quotas and audit hold here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from trunkline.api.audit import Audited
from trunkline.api.convert import boolean, integer
from trunkline.api.query import LIMIT_MAX
from trunkline.api.resources import RESOURCES, Resource
from trunkline.db.engine import Transaction
from trunkline.errors import Invalid, NotFound
from trunkline.service.caller import Caller
from trunkline.service.collections import Query, Record, fetch, listed
from trunkline.service.quotas import charge

Result = TypeVar("Result")


@dataclass(frozen=True)
class Call:
    """Who asks for what.

    Attributes:
        body: The request's JSON; None: it has none.
    """

    request: Request
    caller: Caller
    tx: Transaction
    body: Any

    def path(self, name: str) -> str:
        """Return a part of the request's path."""
        return str(self.request.path_params[name])

    def all(self, collection: str, **filters: Any) -> list[Record]:
        """Return the records that the caller sees and that have one value in each field."""
        self._require(collection, "get")
        query = Query({key: [value] for key, value in filters.items()})
        return listed(self.tx, self.caller, RESOURCES[collection].collection, query)

    def own(self, collection: str, **filters: Any) -> list[Record]:
        """Return those of the caller's project; ``all_tenants`` is for who sees all."""
        if self.caller.is_admin and self._flag("all_tenants"):
            return self.all(collection, **filters)
        return self.all(collection, project_id=self.caller.project_id, **filters)

    def fetch(self, collection: str, object_id: str) -> Record:
        """Return one record.

        Raises:
            NotFound: There is none that the caller sees.
        """
        self._require(collection, "get")
        return fetch(self.tx, self.caller, RESOURCES[collection].collection, object_id)

    def create(self, collection: str, body: Mapping[str, Any], **beyond: Any) -> Record:
        """Make an object, as a POST to the Networking API does.

        Args:
            collection: Its path there.
            body: Its attributes there.
            beyond: Values by field, which no body may have.
        """
        resource = self._require(collection, "create")
        assert resource.create is not None
        values = resource.table.accept(body, self.caller, update=False)
        record = resource.create(self.tx, self.caller, {**values, **beyond})
        charge(self.tx, resource.table.singular, [record])
        self._audited(resource).made(self.tx, record)
        return record

    def update(self, collection: str, object_id: str, body: Mapping[str, Any]) -> Record:
        """Change an object, as a PUT does."""
        resource = self._require(collection, "update")
        change = resource.update
        assert change is not None
        values = resource.table.accept(body, self.caller, update=True)
        return self.changed(
            collection, object_id, lambda: change(self.tx, self.caller, object_id, values)
        )

    def changed(self, collection: str, object_id: str, change: Callable[[], Result]) -> Result:
        """Change an object in a way that a PUT cannot, and return what ``change`` returns."""
        resource = self._require(collection, "update")
        return self._audited(resource).changed(self.tx, object_id, change)

    def delete(self, collection: str, object_id: str) -> None:
        """Delete an object."""
        resource = self._require(collection, "delete")
        remove = resource.delete
        assert remove is not None
        self._audited(resource).deleted(
            self.tx, object_id, lambda: remove(self.tx, self.caller, object_id)
        )

    def page(self, items: list[Any]) -> list[Any]:
        """Return the part of a list that ``limit``, ``offset`` and ``marker`` name.

        Raises:
            Invalid: One of them is malformed, or the marker is no item's id.
        """
        start = self._number("offset", 0)
        marker = self.request.query_params.get("marker")
        if marker:
            ids = [item["id"] for item in items]
            if marker not in ids:
                raise Invalid(f"marker: nothing here has the id {marker[:80]!a}.")
            start = ids.index(marker) + 1
        return items[start : start + self._number("limit", LIMIT_MAX)]

    def _flag(self, name: str) -> bool:
        given = self.request.query_params.get(name, "0")
        try:
            return boolean(given) if given else True  # ``?all_tenants`` alone says yes, too
        except ValueError as error:
            raise Invalid(f"{name}: {error}.") from None

    def _number(self, name: str, default: int) -> int:
        given = self.request.query_params.get(name, default)
        try:
            return int(integer(0, LIMIT_MAX)(given))
        except ValueError as error:
            raise Invalid(f"{name}: {error}.") from None

    def _require(self, collection: str, verb: str) -> Resource:
        resource = RESOURCES[collection]
        self.caller.require(f"{verb}_{resource.table.singular}")
        return resource

    def _audited(self, resource: Resource) -> Audited:
        return Audited(self.request, self.caller, resource)


def only(found: list[Record], what: str) -> Record:
    """Return the one record that was found.

    Raises:
        NotFound: There is none.
        Invalid: There are several.
    """
    if not found:
        raise NotFound(f"{what} could not be found.")
    if len(found) > 1:
        raise Invalid(f"{what} is not the only one; use an id.")
    return found[0]
