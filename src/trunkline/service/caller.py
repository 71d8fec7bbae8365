"""Who asks, and what the roles allow. How a token became a caller is the API's business."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Caller:
    """A user in a project, with roles there.

    Attributes:
        roles: Of ``admin`` (everything, everywhere), ``member`` (changes the own project),
            ``reader`` (reads the own project), ``agent`` (a host's agent, nothing else).
    """

    user: str
    project_id: str
    roles: frozenset[str]

    @property
    def is_admin(self) -> bool:
        """Whether the caller sees and changes every project's objects."""
        return "admin" in self.roles

    @property
    def is_agent(self) -> bool:
        """Whether the caller may fetch hosts' snapshots and report for them."""
        return "agent" in self.roles

    @property
    def may_write(self) -> bool:
        """Whether the caller may change objects of the own project."""
        return not self.roles.isdisjoint({"admin", "member"})

    def require_reading(self) -> None:
        """Raise Forbidden unless the caller may use the Networking API at all."""
        if self.roles.isdisjoint({"admin", "member", "reader"}):
            raise Forbidden(
                f"User {self.user} has none of the roles admin, member and reader in project"
                f" {self.project_id or '(none)'}; the users file must give one.",
                "PolicyNotAuthorized",
            )

    def require_writing(self) -> None:
        """Raise Forbidden unless the caller may change objects of the own project."""
        if not self.may_write:
            raise Forbidden(
                f"User {self.user} only reads in project {self.project_id or '(none)'}; changing"
                " something needs the role member or admin.",
                "PolicyNotAuthorized",
            )
