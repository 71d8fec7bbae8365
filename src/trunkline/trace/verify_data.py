"""A cloud to verify, as plain data: what the server tells and the command line reads.

Equal sections of several hosts' snapshots are told once. ``cloud_in`` is ``cloud_out``'s inverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from trunkline.model import HostName, NetworkId, RouterId
from trunkline.snapshot import HostSnapshot, decode, digest, encode
from trunkline.trace.verify_cloud import HostSettings

Told = tuple[HostSnapshot, HostSettings]
"""What is known of one host."""


def cloud_out(hosts: Iterable[Told]) -> dict[str, Any]:
    """Return hosts as ``{"hosts": [...], "sections": {digest: text}}``."""
    texts: dict[str, str] = {}
    found = []
    for snapshot, settings in hosts:
        sections = {}
        for name, text in encode(snapshot).items():
            sections[name] = digest(text)
            texts[sections[name]] = text
        found.append(
            {
                "host": snapshot.host,
                "revision": snapshot.revision,
                "settings": _settings_out(settings),
                "sections": sections,
            }
        )
    return {"hosts": found, "sections": texts}


def cloud_in(data: Mapping[str, Any]) -> list[Told]:
    """Return the hosts that ``cloud_out`` made this of.

    Raises:
        ValueError, KeyError, TypeError: It made it of none.
    """
    texts = data["sections"]
    return [
        (
            decode(
                HostName(host["host"]),
                host["revision"],
                {name: texts[key] for name, key in host["sections"].items()},
            ),
            _settings_in(host["settings"]),
        )
        for host in data["hosts"]
    ]


def changed(hosts: Iterable[Told], planned: Iterable[Told]) -> list[Told]:
    """Return all hosts, those that a plan changes as they would be."""
    found = {snapshot.host: (snapshot, settings) for snapshot, settings in hosts}
    found |= {snapshot.host: (snapshot, settings) for snapshot, settings in planned}
    prefixes = next((s.tenant_prefixes for s, _ in planned), None)
    if prefixes is None:
        return list(found.values())
    return [(replace(s, tenant_prefixes=prefixes), settings) for s, settings in found.values()]


def _settings_out(settings: HostSettings) -> dict[str, Any]:
    return {
        "uplink": settings.uplink,
        "source": None if settings.source is None else str(settings.source),
        "sources": [[router, str(source)] for router, source in settings.sources],
        "exempt": [str(prefix) for prefix in settings.exempt],
        "guard": settings.guard,
        "unserved": sorted(settings.unserved),
        "ipv4_only": sorted(settings.ipv4_only),
        "told": settings.told,
    }


def _settings_in(data: Mapping[str, Any]) -> HostSettings:
    source = data["source"]
    return HostSettings(
        uplink=bool(data["uplink"]),
        source=None if source is None else IPv4Address(source),
        sources=tuple((RouterId(r), IPv4Address(a)) for r, a in data.get("sources", ())),
        exempt=tuple(map(IPv4Network, data["exempt"])),
        guard=bool(data["guard"]),
        unserved=frozenset(map(NetworkId, data["unserved"])),
        ipv4_only=frozenset(map(NetworkId, data["ipv4_only"])),
        told=bool(data["told"]),
    )
