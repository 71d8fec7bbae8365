"""Who asks, and what that caller may do. How a token became a caller is the API's business."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Rights:
    """What the policy (``api/policy.toml``) says of a set of roles, for each of its lines."""

    allowed: frozenset[str]
    denied: frozenset[str]


@dataclass(frozen=True, slots=True)
class Caller:
    """A user in a project, with roles there.

    Attributes:
        user: A name, for logs and messages.
        project_id: Empty in a token without a project.
        roles: As the identity has them.
        rights: What these roles may do.
        user_id: Empty for a user of the users file.
    """

    user: str
    project_id: str
    roles: frozenset[str]
    rights: Rights
    user_id: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether the caller sees and changes every project's objects."""
        return self.may("all_projects")

    def may(self, action: str) -> bool:
        """Return whether the policy lets the caller do this; no, if it has no such line."""
        return action in self.rights.allowed

    def may_attribute(self, action: str) -> bool:
        """Return whether the policy lets the caller do this; yes, if it has no such line."""
        return action not in self.rights.denied

    def require(self, action: str) -> None:
        """Raise Forbidden unless the policy lets the caller do this."""
        if not self.may(action):
            raise Forbidden(
                f"User {self.user} may not {action}: by the policy, none of the roles"
                f" {', '.join(sorted(self.roles)) or '(none)'} in project"
                f" {self.project_id or '(none)'} allows it.",
                "PolicyNotAuthorized",
            )
