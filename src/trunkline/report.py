"""What an agent tells of its host: how it is cabled, what the machine offers, what it read there.

``encode`` and ``decode`` are each other's inverse, but for the state directory, which is the
host's own business. An agent may be older than the server: what it does not tell is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network
from typing import Any

from trunkline.hoststate import HostConfig, HostFacts, VlanMaking
from trunkline.model import RouterId

COMMANDS_MAX, COMMAND_LENGTH_MAX = 20, 300
"""How much of a drift is told; ``operations`` counts all of it."""


@dataclass(frozen=True, slots=True)
class HostReport:
    """What a host's desired state depends on beside its snapshot."""

    config: HostConfig
    facts: HostFacts


@dataclass(frozen=True, slots=True)
class Drift:
    """How a host was found to differ from what its agent had left it as.

    Attributes:
        at: When, by the host's clock; ISO 8601 in UTC.
        operations: How many repairs it took.
        commands: The first of them.
        repaired: Whether the host has since been read to be as it must.
    """

    at: str
    operations: int
    commands: tuple[str, ...]
    repaired: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What an agent read back from its host.

    Attributes:
        at: When it last read all of it, by the host's clock; ISO 8601 in UTC.
        drift: The last that it found since it started.
    """

    at: str
    drift: Drift | None = None


def encode(config: HostConfig, facts: HostFacts, reading: Reading | None = None) -> dict[str, Any]:
    """Return configuration, facts, and what was read as plain data."""
    told = {} if reading is None else {"reading": asdict(reading)}
    return told | {
        "vlan_making": None if facts.vlan_making is None else facts.vlan_making.value,
        "links": sorted(facts.links),
        "uplink_address": _text(facts.uplink_address),
        "foreign_prefixes": [[str(prefix), link] for prefix, link in facts.foreign_prefixes],
        "bridge_netfilter": facts.bridge_netfilter,
        "foreign_masters": [list(pair) for pair in facts.foreign_masters],
        "trunk_mtus": dict(facts.trunk_mtus),
        "missing": list(facts.missing),
        "transits": [[link, str(address)] for link, address in facts.transits],
        "foreign_prefixes6": [[str(prefix), link] for prefix, link in facts.foreign_prefixes6],
        "ipv6_forwarding": facts.ipv6_forwarding,
        "has_ipv6": facts.has_ipv6,
        "acting": sorted(facts.acting),
        "cabling": {
            "trunks": dict(config.trunks),
            "uplink": config.uplink,
            "routing_source": _text(config.routing_source),
            "routing_sources": {k: str(v) for k, v in sorted(config.routing_sources.items())},
            "snat_exempt": [str(prefix) for prefix in config.snat_exempt],
            "guard_absent_prefixes": config.guard_absent_prefixes,
            "metadata": config.metadata,
            "route_ipv6": config.route_ipv6,
        },
    }


def decode(host: str, data: Mapping[str, Any]) -> HostReport | None:
    """Return what ``encode`` made this of; None if the agent told less, or something odd."""
    try:
        return HostReport(_config(host, data["cabling"]), _facts(data))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def decode_reading(data: Mapping[str, Any]) -> Reading | None:
    """Return the reading in what ``encode`` made; None if the agent told none, or something odd."""
    try:
        reading = data["reading"]
        drift = reading["drift"]
        return Reading(str(reading["at"]), None if drift is None else _drift(drift))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _drift(data: Mapping[str, Any]) -> Drift:
    commands = tuple(map(str, data["commands"]))
    return Drift(str(data["at"]), int(data["operations"]), commands, bool(data["repaired"]))


def _config(host: str, data: Mapping[str, Any]) -> HostConfig:
    return HostConfig(
        host=host,
        trunks={str(name): str(nic) for name, nic in data["trunks"].items()},
        uplink=None if data["uplink"] is None else str(data["uplink"]),
        routing_source=_address(data["routing_source"]),
        snat_exempt=tuple(IPv4Network(str(prefix)) for prefix in data["snat_exempt"]),
        state_dir="",
        guard_absent_prefixes=bool(data["guard_absent_prefixes"]),
        metadata=bool(data.get("metadata", False)),
        route_ipv6=bool(data.get("route_ipv6", False)),
        routing_sources={
            RouterId(str(router)): IPv4Address(str(address))
            for router, address in data.get("routing_sources", {}).items()
        },
    )


def _facts(data: Mapping[str, Any]) -> HostFacts:
    making = data["vlan_making"]
    return HostFacts(
        vlan_making=None if making is None else VlanMaking(making),
        links=frozenset(map(str, data["links"])),
        uplink_address=_address(data["uplink_address"]),
        foreign_prefixes=tuple(
            (IPv4Network(str(prefix)), str(link)) for prefix, link in data["foreign_prefixes"]
        ),
        bridge_netfilter=bool(data["bridge_netfilter"]),
        foreign_masters=tuple(
            (str(link), str(master)) for link, master in data.get("foreign_masters", ())
        ),
        trunk_mtus={str(nic): int(mtu) for nic, mtu in data.get("trunk_mtus", {}).items()},
        missing=tuple(map(str, data["missing"])),
        transits=tuple(
            (str(link), IPv4Interface(str(address))) for link, address in data.get("transits", ())
        ),
        foreign_prefixes6=tuple(
            (IPv6Network(str(prefix)), str(link))
            for prefix, link in data.get("foreign_prefixes6", ())
        ),
        ipv6_forwarding=data.get("ipv6_forwarding"),
        has_ipv6=bool(data.get("has_ipv6", True)),
        acting=frozenset(map(int, data.get("acting", ()))),
    )


def _text(address: IPv4Address | None) -> str | None:
    return None if address is None else str(address)


def _address(text: Any) -> IPv4Address | None:
    return None if text is None else IPv4Address(str(text))
