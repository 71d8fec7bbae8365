"""The users file: static tokens for agents and small set-ups, read again whenever it changes.

Tokens live in memory as digests only, so what lists or compares them can give none away.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import yaml

from trunkline.api.policy import Policy
from trunkline.errors import Invalid
from trunkline.service.caller import Caller

log = logging.getLogger("trunkline.server")

HASHED = re.compile(r"sha256:[0-9a-f]{64}")


class Users:
    """The users file.

    Raises:
        Invalid: At the first reading, if the file is missing or wrong. Later, a wrong file is
            logged and the last right one stays in force.
    """

    def __init__(self, path: Path, policy: Policy) -> None:
        self._path = path
        self._policy = policy
        self._lock = Lock()
        self._stamp = self._read_stamp()
        self._callers = load(path, policy)

    def caller(self, token: str) -> Caller | None:
        """Return whom a token stands for; None: the file does not have it."""
        if self._read_stamp() != self._stamp:
            self.reload()
        return self._callers.get(digest(token))

    def reload(self) -> None:
        """Read the file again."""
        with self._lock:
            self._stamp = self._read_stamp()
            try:
                self._callers = load(self._path, self._policy)
            except Invalid as error:
                log.error("%s; the users read before stay in force", error)  # noqa: TRY400  the sentence says all
            else:
                log.info("users file %s read, %d tokens", self._path, len(self._callers))

    def _read_stamp(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def load(path: Path, policy: Policy) -> dict[str, Caller]:
    """Return the callers of a users file by the digest of their tokens.

    Raises:
        Invalid: The file is missing, no YAML, or an entry is wrong; the message names it.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Invalid(f"users file {path}: {error}") from error
    try:
        return parse(document, policy)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Invalid(f"users file {path}: {_reason(error)}") from error


def parse(document: Any, policy: Policy) -> dict[str, Caller]:
    """Return the callers of a parsed users file by the digest of their tokens."""
    projects = {}
    for project in _entries(document, "projects"):
        projects[str(project.get("name", project["id"]))] = str(project["id"])
    projects |= {project_id: project_id for project_id in projects.values()}
    callers: dict[str, Caller] = {}
    for user in _entries(document, "users"):
        for token in _entries(user, "tokens"):
            stored = _stored_digest(str(token["token"]))
            if stored in callers:
                raise ValueError(f"user {user['name']}: a token of another user, too")
            callers[stored] = _caller(str(user["name"]), token, projects, policy)
    return callers


def _caller(
    user: str, token: Mapping[str, Any], projects: Mapping[str, str], policy: Policy
) -> Caller:
    roles = frozenset(token["roles"])
    if not roles or roles - policy.roles:
        raise ValueError(
            f"user {user}: roles must be of {', '.join(sorted(policy.roles))}, not {sorted(roles)}"
        )
    rights = policy.rights(roles)
    project = token.get("project")
    if project is None:
        if roles != {"agent"}:
            raise ValueError(f"user {user}: a token needs a project; only agents have none")
        return Caller(user, "", roles, rights)
    if str(project) not in projects:
        raise ValueError(f"user {user}: project {project} is not in the list of projects")
    return Caller(user, projects[str(project)], roles, rights)


def _entries(mapping: Any, key: str) -> list[Mapping[str, Any]]:
    if not isinstance(mapping, dict):
        raise TypeError(f"an object with the key {key} is needed, not {mapping!r}")
    entries = mapping.get(key) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TypeError(f"{key} must be a list of objects")
    return entries


def digest(token: str) -> str:
    """Return what of a token is kept. Tokens are random and long, so it needs no salt."""
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _stored_digest(token: str) -> str:
    """Return the digest of a token that the file has as it is, or as ``sha256:`` and hex."""
    if token.startswith("sha256:"):
        if not HASHED.fullmatch(token):
            raise ValueError("a token that begins with sha256: needs 64 hex digits behind it")
        return token.removeprefix("sha256:")
    if not token:
        raise ValueError("a token is empty")
    return digest(token)


def _reason(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
