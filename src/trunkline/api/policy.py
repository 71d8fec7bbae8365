"""The policy: which roles may do which action. The table is ``policy.toml``, beside this file.

Decides nothing about objects: whose they are, and who may know of them, is the service's matter.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from trunkline.errors import Invalid
from trunkline.service.caller import Rights

IMPLIED = {"admin": "member", "member": "reader", "service": "reader"}
"""Who has the left role has the right one, too. Real Keystone lists implied roles by itself."""


class Policy:
    """The rights of roles.

    Attributes:
        rules: The roles that may do it, by action.
    """

    def __init__(self, rules: Mapping[str, frozenset[str]]) -> None:
        self.rules = rules
        self.roles = frozenset(IMPLIED).union(*rules.values())
        self._rights: dict[frozenset[str], Rights] = {}

    def rights(self, roles: frozenset[str]) -> Rights:
        """Return what somebody with these roles may do."""
        known = roles & self.roles
        if known not in self._rights:
            held = with_implied(known)
            allowed = frozenset(action for action, who in self.rules.items() if who & held)
            self._rights[known] = Rights(allowed, frozenset(self.rules) - allowed)
        return self._rights[known]


def load(override: Path | None = None) -> Policy:
    """Return the policy: Trunkline's table, with an operator's lines in place of its own.

    Raises:
        Invalid: The operator's file is missing or malformed, or names an unknown action.
    """
    text = (files("trunkline.api") / "policy.toml").read_text(encoding="utf-8")
    rules = _parse(tomllib.loads(text))
    if override is None:
        return Policy(rules)
    try:
        changed = _parse(tomllib.loads(override.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise Invalid(f"policy {override}: {error}") from error
    for action in sorted(changed.keys() - rules.keys()):
        raise Invalid(
            f"policy {override}: there is no action {action!r}; api/policy.toml of the"
            " installation has them all"
        )
    return Policy({**rules, **changed})


def with_implied(roles: frozenset[str]) -> frozenset[str]:
    """Return roles with those that they include."""
    held = set(roles)
    for role in roles:
        name: str | None = role
        while name := IMPLIED.get(str(name)):
            held.add(name)
    return frozenset(held)


def _parse(document: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    for action, roles in document.items():
        if not isinstance(roles, str):
            raise ValueError(  # noqa: TRY004  to whoever wrote the file it is a wrong value
                f"{action}: {roles!r} is no string of role names with spaces between them"
            )
    return {action: frozenset(roles.split()) for action, roles in document.items()}
