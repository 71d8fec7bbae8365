"""What an attribute of a resource is, and how a request's body and a record's view follow.

One table per resource (``api.resources``) drives everything: what a caller may set, what it
becomes, what can be filtered by. Who sees and who sets it says the policy, where it has a line
such as ``create_network:shared``. Nothing here knows a particular resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from trunkline.api.convert import Converter, filter_text, quoted
from trunkline.errors import Forbidden, Invalid
from trunkline.service.caller import Caller, Rights


class Default(Enum):
    """What becomes of an attribute that a POST leaves out, if not a plain value."""

    REQUIRED = "the request is refused"
    ABSENT = "the service decides"
    OWN_PROJECT = "the caller's project"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One row of a resource's table.

    Attributes:
        name: As in the Networking API.
        convert: Makes a value of what the body has; None: no one may set it.
        default: For a POST without it.
        field: Key in records; the name if empty.
        put: Whether it may be changed later.
        filter: Makes a value of a filter's text; None: no filter.
        always: What it is in every record, if it is no field at all.
        shown: Whether records have it; else it is a wish in a POST only, or a filter.
        filter_unseen: Whether those who do not see it may filter by it all the same.
    """

    name: str
    convert: Converter | None = None
    default: Any = Default.ABSENT
    field: str = ""
    put: bool = False
    filter: Converter | None = filter_text
    always: Any = Default.ABSENT
    shown: bool = True
    filter_unseen: bool = False

    @property
    def key(self) -> str:
        """Return the key in records."""
        return self.field or self.name


@dataclass(frozen=True)
class Table:
    """A resource's attributes.

    Attributes:
        singular: The key that wraps one object in a body.
    """

    singular: str
    attributes: tuple[Attribute, ...]

    @cached_property
    def by_name(self) -> dict[str, Attribute]:
        """Return the attributes by their names."""
        return {attribute.name: attribute for attribute in self.attributes}

    @cached_property
    def _seen(self) -> dict[Rights, tuple[Attribute, ...]]:
        return {}

    def seen_by(self, caller: Caller) -> tuple[Attribute, ...]:
        """Return the attributes that a caller sees."""
        if caller.rights not in self._seen:
            self._seen[caller.rights] = tuple(
                attribute
                for attribute in self.attributes
                if caller.may_attribute(f"get_{self.singular}:{attribute.name}")
            )
        return self._seen[caller.rights]

    def view(
        self, record: Mapping[str, Any], caller: Caller, fields: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Return a record as the API shows it to a caller; ``fields`` narrows it down."""
        wanted = set(fields)
        return {
            a.name: record[a.key] if a.always is Default.ABSENT else a.always
            for a in self.seen_by(caller)
            if a.shown and (not wanted or a.name in wanted)
        }

    def whole(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record as the API shows it to somebody who sees all of it."""
        return {a.name: record[a.key] for a in self._own}

    @cached_property
    def _own(self) -> tuple[Attribute, ...]:
        return tuple(a for a in self.attributes if a.shown and a.always is Default.ABSENT)

    def accept(self, body: Any, caller: Caller, *, update: bool) -> dict[str, Any]:
        """Return the values that a request's object sets, by field, converted and complete.

        Raises:
            Invalid: The object or one of its attributes is unknown, missing or malformed.
            Forbidden: The caller may not set one of them.
        """
        if not isinstance(body, dict):
            raise Invalid(f"{self.singular} must be an object, not {quoted(body)}.", "BadRequest")
        values: dict[str, Any] = {}
        for name, given in body.items():
            attribute = self._settable(name, update=update)
            value = _converted(attribute, given)
            if attribute.always is not Default.ABSENT:
                continue  # it may be sent, and is what it is
            if values.get(attribute.key, value) != value:
                raise Invalid(f"Attributes {name} and {attribute.key} differ.", "BadRequest")
            values[attribute.key] = value
        for attribute in (self.by_name[name] for name in body):
            if attribute.key in values:
                self._require_allowed(attribute, values[attribute.key], caller, update=update)
        if not update:
            self._complete(values, caller)
        return values

    def _settable(self, name: str, *, update: bool) -> Attribute:
        attribute = self.by_name.get(name)
        if attribute is None:
            raise Invalid(
                f"Unrecognized attribute(s) {quoted(name)} in {self.singular}.", "HTTPBadRequest"
            )
        if attribute.convert is None or (update and not attribute.put):
            verb = "PUT" if update else "POST"
            raise Invalid(
                f"Attribute {name} not allowed in {verb} of a {self.singular}.", "HTTPBadRequest"
            )
        return attribute

    def _require_allowed(
        self, attribute: Attribute, value: Any, caller: Caller, *, update: bool
    ) -> None:
        if attribute.default is Default.OWN_PROJECT:
            if value != caller.project_id and not caller.is_admin:
                raise Forbidden(
                    f"{attribute.name} {quoted(value)} is not the project of user {caller.user};"
                    " only an administrator acts for another.",
                    "PolicyNotAuthorized",
                )
            return
        action = f"{'update' if update else 'create'}_{self.singular}:{attribute.name}"
        if not caller.may_attribute(action) and (update or value != attribute.default):
            raise Forbidden(
                f"{attribute.name}: the policy does not let user {caller.user} set it ({action}).",
                "PolicyNotAuthorized",
            )

    def _complete(self, values: dict[str, Any], caller: Caller) -> None:
        for attribute in self.attributes:
            if attribute.key in values:
                continue
            if attribute.default is Default.REQUIRED:
                raise Invalid(
                    f"Failed to parse request. Required attribute {attribute.name} of"
                    f" {self.singular} not specified.",
                    "HTTPBadRequest",
                )
            if attribute.default is Default.OWN_PROJECT:
                values[attribute.key] = caller.project_id
            elif attribute.default is not Default.ABSENT:
                values[attribute.key] = attribute.default


def _converted(attribute: Attribute, given: Any) -> Any:
    assert attribute.convert is not None
    try:
        return attribute.convert(given)
    except ValueError as error:
        raise Invalid(
            f"Invalid input for {attribute.name}. Reason: {error}.", "HTTPBadRequest"
        ) from None
