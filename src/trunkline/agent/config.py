"""The agent's configuration file: TOML, checked once, refused by key.

host = "compute1"                  # as in binding:host_id
server = "http://192.0.2.1:9696"   # or unix:/run/trunkline/api.sock
token = "…"                        # a token with the role 'agent'
uplink = "eth1"                    # omit on a host without an external side
routing_source = "91.207.15.105"   # omit: the uplink's own first address
snat_exempt = ["172.16.0.0/12"]    # destinations that see instances' own addresses
state_dir = "/var/lib/trunkline"
guard_absent_prefixes = true       # false: scenario 6b as the article has it
route_ipv6 = false                 # true: tenants' IPv6 leaves by the uplink, and comes in there
[routing_sources]                  # of single routers, in place of routing_source
c9a4…-id-of-a-router = "91.207.15.110"
[trunks]
physnet1 = "eth0"                  # physical network = NIC
[metadata]                         # omit: instances find nothing at 169.254.169.254
service = "http://192.0.2.1:8775"  # or unix:/path; what `trunkline metadata` asks
secret = "…"                       # Nova's metadata_proxy_shared_secret
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from trunkline.errors import Invalid
from trunkline.hoststate import HostConfig
from trunkline.model import RouterId

T = TypeVar("T")

KEYS = {
    "host",
    "server",
    "token",
    "uplink",
    "routing_source",
    "routing_sources",
    "snat_exempt",
    "state_dir",
    "guard_absent_prefixes",
    "route_ipv6",
    "trunks",
    "metadata",
}


@dataclass(frozen=True, slots=True)
class MetadataConfig:
    """The metadata service, as ``http://ADDRESS:PORT`` or ``unix:/PATH``, and what proves us."""

    service: str
    secret: str


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What the file says: how to reach the server, and how this host is cabled."""

    server: str
    token: str
    host: HostConfig
    metadata: MetadataConfig | None = None


def load(path: Path) -> AgentConfig:
    """Read and check a configuration file.

    Raises:
        Invalid: The file is missing, no TOML, or a key is unknown, missing or malformed; the
            message names file and key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"agent configuration {path}: {error}") from error
    try:
        return parse(values)
    except (ValueError, Invalid) as error:
        raise Invalid(f"agent configuration {path}: {error}") from error


def parse(values: dict[str, Any]) -> AgentConfig:
    """Check the file's values; see ``load``."""
    for key in sorted(values.keys() - KEYS):
        raise Invalid(f"unknown key {key!r}; known are {', '.join(sorted(KEYS))}")
    routing_source = _optional(values, "routing_source")
    given = _of_type(values, "metadata", dict, {})
    metadata = _metadata(given) if "metadata" in values else None
    host = HostConfig(
        host=_required(values, "host"),
        trunks=_trunks(_of_type(values, "trunks", dict, {})),
        uplink=_optional(values, "uplink"),
        routing_source=IPv4Address(routing_source) if routing_source else None,
        snat_exempt=tuple(map(IPv4Network, _of_type(values, "snat_exempt", list, []))),
        state_dir=_state_dir(_of_type(values, "state_dir", str, "/var/lib/trunkline")),
        guard_absent_prefixes=_of_type(values, "guard_absent_prefixes", bool, True),  # noqa: FBT003 - a value of the file, not an argument
        metadata=metadata is not None,
        route_ipv6=_of_type(values, "route_ipv6", bool, False),  # noqa: FBT003 - as above
        routing_sources=_sources(_of_type(values, "routing_sources", dict, {})),
    )
    return AgentConfig(_required(values, "server"), _required(values, "token"), host, metadata)


def _sources(values: dict[str, Any]) -> dict[RouterId, IPv4Address]:
    found = {}
    for router, address in values.items():
        try:
            found[RouterId(str(UUID(router)))] = IPv4Address(address)
        except ValueError as error:
            raise Invalid(
                f"routing_sources: {router!r} = {address!r}: not a router's id and an address"
            ) from error
    return found


def _metadata(values: dict[str, Any]) -> MetadataConfig:
    for key in sorted(values.keys() - {"service", "secret"}):
        raise Invalid(f"unknown key metadata.{key}; known are secret, service")
    service = _required(values, "service")
    parts = urlsplit(service)
    if not service.startswith("unix:/") and (parts.scheme != "http" or not parts.hostname):
        raise Invalid(
            f"metadata.service: {service!r} is neither http://ADDRESS:PORT nor unix:/PATH"
        )
    return MetadataConfig(service, _required(values, "secret"))


def _of_type(values: dict[str, Any], key: str, kind: type[T], default: T) -> T:
    value = values.get(key, default)
    if not isinstance(value, kind):
        raise Invalid(f"{key} must be a {kind.__name__}, not {value!r}")
    return value


def _required(values: dict[str, Any], key: str) -> str:
    value = _of_type(values, key, str, "")
    if not value:
        raise Invalid(f"{key} is missing")
    return value


def _optional(values: dict[str, Any], key: str) -> str | None:
    return _required(values, key) if key in values else None


def _trunks(values: dict[str, Any]) -> dict[str, str]:
    whose: dict[str, str] = {}
    for name, nic in values.items():
        if not isinstance(nic, str) or not nic:
            raise Invalid(f"trunks.{name} must name a NIC, not {nic!r}")
        if nic in whose:
            raise Invalid(
                f"trunks.{name}: {nic} is the trunk of {whose[nic]}, whose VLANs are others; name"
                " another NIC, or one physical network only"
            )
        whose[nic] = name
    return values


def _state_dir(path: str) -> str:
    if not path.startswith("/"):
        raise Invalid(f"state_dir must be an absolute path, not {path!r}")
    return path
