"""The section ``[identity]`` of the server's configuration.

[identity]
token_seconds = 3600                   # how long a token of the standalone identity lives

[identity.keystone]                    # instead of it: the OpenStack cloud's Keystone
auth_url = "https://cloud.example:5000"
username = "trunkline"                 # a service user, by whom tokens are validated
password = "…"
project_name = "service"
user_domain_name = "Default"           # optional, as is the next
project_domain_name = "Default"
cafile = "/etc/ssl/cloud.pem"          # optional: the authority that signed its certificate
interface = "internal"                 # optional: or "public", "admin": of the catalog's endpoints
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trunkline.errors import Invalid

TOKEN_S_MIN, TOKEN_S_MAX = 1, 30 * 86_400
REQUIRED = ("auth_url", "username", "password", "project_name")
DOMAIN = "Default"
INTERFACES = ("internal", "public", "admin")


@dataclass(frozen=True, slots=True)
class KeystoneConfig:
    """Where a Keystone is, and by whom tokens are validated there."""

    auth_url: str
    username: str
    password: str
    project_name: str
    user_domain_name: str = DOMAIN
    project_domain_name: str = DOMAIN
    cafile: str | None = None
    interface: str = "internal"


@dataclass(frozen=True, slots=True)
class IdentityConfig:
    """What the section says.

    Attributes:
        token_s: Seconds that a token of the standalone identity lives.
        keystone: None: the identity is the standalone one.
    """

    token_s: int = 3600
    keystone: KeystoneConfig | None = None


def parse(values: Any) -> IdentityConfig:
    """Check the section.

    Raises:
        Invalid: A key is unknown, missing or malformed; the message names it.
    """
    found = _table(values, "identity", {"token_seconds", "keystone"})
    token_s = found.get("token_seconds", 3600)
    if type(token_s) is not int or not TOKEN_S_MIN <= token_s <= TOKEN_S_MAX:
        raise Invalid(
            f"identity.token_seconds must be {TOKEN_S_MIN} to {TOKEN_S_MAX}, not {token_s!r}"
        )
    keystone = found.get("keystone")
    known = None if keystone is None else credentials(keystone, "identity.keystone")
    return IdentityConfig(token_s, known)


def credentials(values: Any, name: str) -> KeystoneConfig:
    """Check a table by which to log in at a Keystone.

    Raises:
        Invalid: A key is unknown, missing or malformed; the message names it after ``name``.
    """
    found = _table(values, name, set(KeystoneConfig.__dataclass_fields__))
    for key in REQUIRED:
        if not found.get(key):
            raise Invalid(f"{name}.{key} is missing")
    for key, value in found.items():
        if not isinstance(value, str):
            raise Invalid(f"{name}.{key} must be a string, not {value!r}")
    if found.get("interface", "internal") not in INTERFACES:
        raise Invalid(f"{name}.interface must be one of {', '.join(INTERFACES)}")
    return KeystoneConfig(**found)


def _table(values: Any, name: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(values, dict):
        raise Invalid(f"{name} must be a table, not {values!r}")
    for key in sorted(values.keys() - known):
        raise Invalid(f"{name}: unknown key {key!r}; known are {', '.join(sorted(known))}")
    return values
