"""The attributes of domains, projects, users and roles, and the functions that serve them."""

from __future__ import annotations

from typing import Any

from trunkline.api import convert as c
from trunkline.api.attributes import Attribute, Default, Table
from trunkline.api.resources import Resource
from trunkline.service.identity import directory

DESCRIPTION_MAX = 255


def _name(value: Any) -> str:
    found: str = c.name(value)
    if not found.strip():
        raise ValueError("it must not be empty")
    return found


def _only(accepted: Any) -> c.Converter:
    """Return the converter of what a client may send as long as it asks for nothing."""

    def convert(value: Any) -> Any:
        if value != accepted and value is not None:
            raise ValueError(f"only {accepted!r} is supported by this identity")
        return accepted

    return convert


def _fixed(name: str, value: Any) -> Attribute:
    """Return an attribute that is always the same here."""
    return Attribute(name, _only(value), put=True, filter=None, always=value)


_DESCRIPTION = Attribute("description", c.text_or_null(DESCRIPTION_MAX), "", put=True)
_ENABLED = Attribute("enabled", c.boolean, default=True, put=True, filter=c.boolean)
_NAME = Attribute("name", _name, Default.REQUIRED, put=True)
_DOMAIN_ID = Attribute("domain_id", c.project_id, directory.DEFAULT_DOMAIN)

DOMAIN = Table(
    "domain",
    (
        Attribute("id"),
        _NAME,
        _DESCRIPTION,
        _ENABLED,
        _fixed("options", {}),
        _fixed("tags", []),
    ),
)

PROJECT = Table(
    "project",
    (
        Attribute("id"),
        _NAME,
        _DOMAIN_ID,
        _DESCRIPTION,
        _ENABLED,
        _fixed("is_domain", value=False),
        Attribute("parent_id", c.project_id, field="domain_id"),
        _fixed("options", {}),
        _fixed("tags", []),
    ),
)

USER = Table(
    "user",
    (
        Attribute("id"),
        _NAME,
        _DOMAIN_ID,
        _DESCRIPTION,
        _ENABLED,
        Attribute("email", c.or_null(c.name), None, put=True),
        Attribute("default_project_id", c.or_null(c.project_id), None, put=True),
        _fixed("options", {}),
        Attribute("password_expires_at", always=None, filter=None),
    ),
)

ROLE = Table(
    "role",
    (Attribute("id"), _NAME, _DESCRIPTION, _fixed("domain_id", None), _fixed("options", {})),
)

RESOURCES = {
    "domains": Resource(
        "domains", DOMAIN, directory.DOMAINS, directory.create_domain, directory.update_domain,
        directory.delete_domain,
    ),
    "projects": Resource(
        "projects", PROJECT, directory.PROJECTS, directory.create_project,
        directory.update_project, directory.delete_project,
    ),
    "users": Resource(
        "users", USER, directory.USERS, directory.create_user, directory.update_user,
        directory.delete_user,
    ),
    "roles": Resource(
        "roles", ROLE, directory.ROLES, directory.create_role, directory.update_role,
        directory.delete_role,
    ),
}  # fmt: skip
"""By the path under ``/identity/v3/``."""
