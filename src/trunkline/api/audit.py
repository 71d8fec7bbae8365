"""What the audit is told of a request: who sent it, and objects as the API shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.requests import Request

from trunkline.api.resources import Resource
from trunkline.db.engine import Transaction
from trunkline.service import audit
from trunkline.service.caller import Caller
from trunkline.service.collections import Record, fetch

Result = TypeVar("Result")


def actor(request: Request, caller: Caller) -> audit.Actor:
    """Return who changes something."""
    return audit.Actor(caller, request.scope["trunkline.request_id"])


class Audited:
    """Changes of one resource by one request, each told to the audit in its own transaction."""

    def __init__(self, request: Request, caller: Caller, resource: Resource) -> None:
        self._actor = actor(request, caller)
        self._resource = resource

    def made(self, tx: Transaction, record: Record) -> None:
        """Tell of a new object."""
        self._note(tx, None, self._whole(record))

    def changed(
        self,
        tx: Transaction,
        object_id: str,
        change: Callable[[], Result],
        beside: Callable[[], Record] = dict,
    ) -> Result:
        """Change an object and return what ``change`` returns.

        Args:
            tx: The transaction.
            object_id: The object's id.
            change: Makes the change.
            beside: What belongs to the object's state and is none of its attributes.
        """
        before = {**self._fetched(tx, object_id), **beside()}
        result = change()
        self._note(tx, before, {**self._fetched(tx, object_id), **beside()})
        return result

    def deleted(self, tx: Transaction, object_id: str, remove: Callable[[], None]) -> None:
        """Delete an object."""
        before = self._fetched(tx, object_id)
        remove()
        self._note(tx, before, None)

    def _fetched(self, tx: Transaction, object_id: str) -> Record:
        return self._whole(fetch(tx, self._actor.caller, self._resource.collection, object_id))

    def _whole(self, record: Record) -> dict[str, Any]:
        return self._resource.table.whole(self._resource.finish(record, self._actor.caller))

    def _note(self, tx: Transaction, before: Record | None, after: Record | None) -> None:
        if self._resource.audited:
            audit.note(tx, self._actor, self._resource.table.singular, before, after)
