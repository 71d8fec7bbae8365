"""Routers of projects' own in a lab: the namespaces on a host, and what they are joined to.

Read off the kernel; the API says what they are called. Knows nothing of what is in them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trunkline.kernel import netns, spaces
from trunkline.lab.cloud import Cloud
from trunkline.lab.state import Lab
from trunkline.model import DomainId, HostName
from trunkline.ownership import cable_name, space_name, transit_name


@dataclass(frozen=True, slots=True)
class Inside:
    """A router's namespace on a host.

    Attributes:
        name: What stories call it: ``compute1/red``.
        bridges: Those of the host whose gateway it is.
        transit: The host's end of its way to the outside; empty: it has none.
    """

    name: str
    host: str
    namespace: str
    bridges: tuple[str, ...]
    transit: str

    def place(self, bridge: str) -> str:
        """Return what the part of its host that switches for it is called."""
        return f"{self.host} {bridge}"

    def segments(self) -> Iterator[tuple[tuple[str, str], str]]:
        """Yield its bridges, and their ports to it, as devices of its host."""
        for bridge in self.bridges:
            yield (self.host, bridge), bridge
            yield (self.host, cable_name(bridge)), bridge


def look_inside(lab: Lab, cloud: Cloud) -> tuple[Inside, ...]:
    """Return the routers' namespaces of a lab's hosts."""
    found: list[Inside] = []
    for host in lab.topology.hosts:
        here = spaces.found_under(lab.directory / "hosts" / host)
        domains = _domains(cloud, host) if here else {}
        found += (_inside(host, namespace, *domains[namespace]) for namespace in here)
    return tuple(found)


def _domains(cloud: Cloud, host: str) -> Mapping[str, tuple[DomainId, str]]:
    """Return the routing domain of each namespace that a host may have, and its name."""
    kinds = ("networks", "routers")
    every = [(DomainId(one["id"]), one["name"]) for k in kinds for one in cloud.admin.list(k)]
    return {space_name(domain, HostName(host)): (domain, name) for domain, name in every}


def _inside(host: str, namespace: str, domain: DomainId, name: str) -> Inside:
    with netns.enter(namespace):
        links = [link for _, link in socket.if_nameindex()]
    bridges = tuple(sorted(link for link in links if link.startswith("br")))
    transit = transit_name(domain) if "transit" in links else ""
    return Inside(f"{host}/{name}", host, namespace, bridges, transit)
