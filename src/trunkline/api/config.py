"""The server's configuration file: TOML, checked once, refused by key.

listen = ["http://192.0.2.1:9696", "unix:/run/trunkline/api.sock"]
database = "sqlite:////var/lib/trunkline/trunkline.db"
users = "/etc/trunkline/users.yaml"    # optional: static tokens, for agents and small set-ups
public_url = "https://cloud.example:9696"  # optional: where clients reach us; else as they said
policy = "/etc/trunkline/policy.toml"  # optional: lines that replace lines of api/policy.toml
reserved_prefixes = ["192.0.2.0/24"]   # the hosts' own networks: no tenant may use them
default_router = true                  # false: networks reach nothing until they get a router
audit_retention_days = 365             # how long it is known who changed what
auto_assign_floating_ip = false        # true: instances' ports get one of the default network
quotas = {port = 2000, network = -1}   # for projects without quotas of their own; -1: any number
provisioning = "on_demand"             # or "router", "everywhere": of networks that do not say so
gateway = "per_host"                   # or "anycast": likewise
vif_type = "tap"                       # or "bridge": for Nova up to 33, which plugs taps in itself
[vlan_ranges]
physnet1 = [100, 199]                  # or [[100, 149], [300, 399]]
[identity]                             # optional: see api/identity/config.py
[nova]                                 # optional: see api/nova.py
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from trunkline.api import nova
from trunkline.api.identity import config as identity
from trunkline.api.identity.config import IdentityConfig
from trunkline.api.nova import NovaConfig
from trunkline.core.allocate import QUOTAS, Limits
from trunkline.errors import Invalid
from trunkline.model import VLAN_ID_MAX, VLAN_ID_MIN, GatewayMode, Provisioning, VifType

DAYS_MAX = 36_500

KEYS = {
    "listen",
    "database",
    "users",
    "public_url",
    "identity",
    "policy",
    "reserved_prefixes",
    "audit_retention_days",
    "auto_assign_floating_ip",
    "default_router",
    "quotas",
    "provisioning",
    "gateway",
    "vif_type",
    "vlan_ranges",
    "nova",
}


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What the file says.

    Attributes:
        listen: (host, port) of each TCP address, or a path of each Unix socket.
        database: SQLAlchemy's URL.
        users: A file of static tokens.
        public_url: What clients are told the server's address is; None: what they said it was.
        policy: Lines that replace the policy's own.
        nova: Whom to tell of what becomes of servers' ports; None: nobody.
        audit_retention_days: How old an audit event gets.
    """

    listen: tuple[tuple[str, int] | Path, ...]
    database: str
    users: Path | None
    public_url: str | None
    identity: IdentityConfig
    policy: Path | None
    audit_retention_days: int
    limits: Limits
    nova: NovaConfig | None


def load(path: Path) -> ServerConfig:
    """Read and check a configuration file.

    Raises:
        Invalid: The file is missing, no TOML, or a key is unknown, missing or malformed; the
            message names file and key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return parse(values)
    except (OSError, ValueError, Invalid) as error:
        raise Invalid(f"server configuration {path}: {error}") from error


def parse(values: dict[str, Any]) -> ServerConfig:
    """Check the file's values; see ``load``."""
    for key in sorted(values.keys() - KEYS):
        raise Invalid(f"unknown key {key!r}; known are {', '.join(sorted(KEYS))}")
    for key in ("listen", "database"):
        if not values.get(key):
            raise Invalid(f"{key} is missing")
    prefixes = _strings(values.get("reserved_prefixes", []), "reserved_prefixes")
    ranges = values.get("vlan_ranges", {})
    if not isinstance(ranges, dict):
        raise Invalid(f"vlan_ranges must be a table of ranges, not {ranges!r}")
    return ServerConfig(
        listen=tuple(_address(url) for url in _strings(values["listen"], "listen")),
        database=str(values["database"]),
        users=_path(values, "users"),
        public_url=_url(values.get("public_url")),
        identity=identity.parse(values.get("identity", {})),
        policy=_path(values, "policy"),
        audit_retention_days=_days(values.get("audit_retention_days", 365)),
        limits=Limits(
            vlan_ranges={name: _ranges(name, given) for name, given in ranges.items()},
            reserved_prefixes=tuple(ip_network(prefix) for prefix in prefixes),
            default_router=_boolean(values.get("default_router", True), "default_router"),
            auto_assign_floating_ip=_boolean(
                values.get("auto_assign_floating_ip", False), "auto_assign_floating_ip"
            ),
            quotas=_quotas(values.get("quotas", {})),
            provisioning=_choice(values, "provisioning", Provisioning.ON_DEMAND),
            gateway=_choice(values, "gateway", GatewayMode.PER_HOST),
            vif=_choice(values, "vif_type", VifType.TAP),
            tells_nova="nova" in values,
        ),
        nova=nova.parse(values["nova"]) if "nova" in values else None,
    )


def _path(values: dict[str, Any], key: str) -> Path | None:
    found = values.get(key)
    if found is None:
        return None
    if not isinstance(found, str) or not found:
        raise Invalid(f"{key} must be a file's path, not {found!r}")
    return Path(found)


def _url(given: Any) -> str | None:
    if given is None:
        return None
    parts = urlsplit(given) if isinstance(given, str) else urlsplit("")
    if parts.scheme not in ("http", "https") or parts.hostname is None or parts.query:
        raise Invalid(f"public_url: {given!r} is no http:// or https:// URL of this server")
    return str(given).rstrip("/")


def _days(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= DAYS_MAX:
        raise Invalid(f"audit_retention_days: {given!r} is no number of days, 1 to {DAYS_MAX}")
    return given


def _quotas(given: Any) -> Mapping[str, int]:
    if not isinstance(given, dict):
        raise Invalid(f"quotas must be a table of numbers, not {given!r}")
    for name, limit in given.items():
        if name not in QUOTAS:
            raise Invalid(f"quotas.{name}: there are quotas for {', '.join(QUOTAS)}")
        if not isinstance(limit, int) or isinstance(limit, bool) or not -1 <= limit < 2**31:
            raise Invalid(f"quotas.{name}: {limit!r} is no number; -1 is any number")
    return {**QUOTAS, **given}


Choice = TypeVar("Choice", bound=StrEnum)


def _choice(values: dict[str, Any], key: str, usual: Choice) -> Choice:
    given = values.get(key, usual.value)
    choices = list(type(usual))
    if given not in choices:
        raise Invalid(f"{key} must be one of {', '.join(choices)}, not {given!r}")
    return type(usual)(given)


def _boolean(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise Invalid(f"{key} must be true or false, not {value!r}")
    return value


def _strings(value: Any, key: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Invalid(f"{key} must be a list of strings, not {value!r}")
    return value


def _address(url: str) -> tuple[str, int] | Path:
    if url.startswith("unix:/"):
        return Path(url.removeprefix("unix:"))
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None or parts.path.strip("/"):
        raise Invalid(f"listen: {url} is neither http://ADDRESS:PORT nor unix:/PATH")
    return parts.hostname, 9696 if parts.port is None else parts.port


def _ranges(name: str, given: Any) -> list[tuple[int, int]]:
    """Return VLAN ranges from one pair, or a list of pairs; an empty one: flat networks only."""
    several = isinstance(given, list) and all(isinstance(pair, list) for pair in given)
    pairs = given if several else [given]
    ranges = []
    for pair in pairs:
        match pair:
            case [int(first), int(last)] if VLAN_ID_MIN <= first <= last <= VLAN_ID_MAX:
                ranges.append((first, last))
            case _:
                raise Invalid(
                    f"vlan_ranges.{name}: {pair!r} is no [first, last] with"
                    f" {VLAN_ID_MIN} <= first <= last <= {VLAN_ID_MAX}"
                )
    return ranges
