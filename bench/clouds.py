"""Clouds of any size to verify: made from a seed, so that figures can be repeated.

``usual``: projects of 100 ports on a /24 each, spread over hosts of 200 ports, bridges on demand,
one to three groups per port, rules by group, by prefix and for anybody, floating IPs on a tenth,
IPv6 on a fifth of the projects. The others are the worst cases that were thought of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from random import Random
from typing import Any

from trunkline.model import (
    Direction,
    DomainId,
    FixedIp,
    FloatingIpId,
    GroupId,
    HostName,
    NetworkId,
    PortId,
    ProjectId,
    RouterId,
    Rule,
    RuleId,
    SubnetId,
)
from trunkline.snapshot import (
    FloatingView,
    GroupView,
    HostSnapshot,
    NetworkView,
    PortView,
    RouterView,
    SubnetView,
)
from trunkline.trace.verify_cloud import Cloud, HostSettings, gather

PORTS_PER_NETWORK, PORTS_PER_HOST = 100, 200
ROUTER = RouterView(
    RouterId("default"),
    ProjectId("admin"),
    "default",
    is_default=True,
    has_gateway=True,
    enable_snat=True,
    admin_up=True,
)
DOMAIN = DomainId(ROUTER.id)
IN, OUT = Direction.INGRESS, Direction.EGRESS


@dataclass
class Draft:
    """A cloud in the making."""

    random: Random
    hosts: int
    ports: dict[int, list[PortView]] = field(default_factory=lambda: defaultdict(list))
    floating: dict[int, list[FloatingView]] = field(default_factory=lambda: defaultdict(list))
    groups: dict[GroupId, GroupView] = field(default_factory=dict)
    subnets: dict[NetworkId, list[tuple[SubnetId, Any]]] = field(default_factory=dict)
    rules: int = 0

    def rule(self, direction: Direction, protocol: int | None = None, **more: Any) -> Rule:
        """Return a rule with an id of its own."""
        self.rules += 1
        return Rule(RuleId(f"rule{self.rules}"), direction, protocol=protocol, **more)

    def group(self, name: str, *rules: Rule) -> GroupId:
        """Make a group that lets everything out."""
        group_id = GroupId(name)
        out = (self.rule(OUT), self.rule(OUT, ethertype=6))
        self.groups[group_id] = GroupView(group_id, ProjectId("p"), name, (*out, *rules))
        return group_id

    def network(self, index: int, *, six: bool) -> NetworkId:
        """Make a network with a /24, and a /64 beside it if wanted."""
        network_id = NetworkId(f"net{index}")
        cidr = IPv4Network(((10 << 24) + (index << 8), 24))
        self.subnets[network_id] = [(SubnetId(f"sub{index}"), cidr)]
        if six:
            prefix = IPv6Network(((0x20010DB8 << 96) + (index << 64), 64))
            self.subnets[network_id].append((SubnetId(f"six{index}"), prefix))
        return network_id

    def port(
        self, network: NetworkId, project: str, number: int, groups: Iterable[GroupId]
    ) -> PortView:
        """Make a port on a random host."""
        host = self.random.randrange(self.hosts)
        fixed = tuple(
            FixedIp(subnet, cidr.network_address + 2 + number)
            for subnet, cidr in self.subnets[network]
        )
        port = PortView(
            PortId(f"{network}-{number}"),
            network,
            ProjectId(project),
            "fa:16:3e:00:00:00",
            fixed,
            "h",
            tuple(sorted(groups)),
        )
        self.ports[host].append(port)
        if self.random.random() < 0.1:
            count = sum(map(len, self.floating.values()))
            address = IPv4Address((185 << 24) + (16 << 16) + count)
            view = FloatingView(
                FloatingIpId(f"f{count}"),
                port.project_id,
                address,
                fixed[0].address,
                port.id,
                DOMAIN,
            )
            self.floating[host].append(view)
        return port

    def snapshots(self) -> Iterator[HostSnapshot]:
        """Return what each host would be told, bridges on demand."""
        prefixes = tuple(c for s in self.subnets.values() for _, c in s if c.version == 4)
        for host in range(self.hosts):
            ports = tuple(self.ports[host])
            yield HostSnapshot(
                HostName(f"host{host}"),
                1,
                networks=tuple(self._view(n) for n in sorted({p.network_id for p in ports})),
                routers=(ROUTER,),
                ports=ports,
                groups=tuple(self.groups[g] for g in {g for p in ports for g in p.group_ids}),
                floating_ips=tuple(self.floating[host]),
                tenant_prefixes=prefixes,
            )

    def _view(self, network: NetworkId) -> NetworkView:
        subnets = tuple(SubnetView(s, c, c.network_address + 1) for s, c in self.subnets[network])
        return NetworkView(
            network, ProjectId("p"), network, "physnet1", 100, 1500, subnets, ROUTER.id
        )

    @cached_property
    def made(self) -> tuple[HostSnapshot, ...]:
        """Return all hosts' snapshots."""
        return tuple(self.snapshots())

    def cloud(self) -> Cloud:
        """Return the cloud of these snapshots."""
        settings = {
            HostName(f"host{h}"): HostSettings(source=IPv4Address((91 << 24) + (207 << 16) + h))
            for h in range(self.hosts)
        }
        return gather(self.made, settings)


def _draft(ports: int) -> Draft:
    return Draft(Random(ports), max(2, ports // PORTS_PER_HOST))


def usual(ports: int) -> Draft:
    """Return many projects of 100 ports each, as a public cloud has."""
    draft = _draft(ports)
    for project in range(-(-ports // PORTS_PER_NETWORK)):
        network = draft.network(project, six=project % 5 == 0)
        groups = _usual_groups(draft, project, ports // PORTS_PER_NETWORK)
        for number in range(min(PORTS_PER_NETWORK, ports - project * PORTS_PER_NETWORK)):
            chosen = {groups[0], *draft.random.sample(groups[1:], draft.random.randint(0, 2))}
            draft.port(network, f"p{project}", number, chosen)
    return draft


def _usual_groups(draft: Draft, project: int, projects: int) -> list[GroupId]:
    """Return a project's groups: default, web, database, administration, and one for guests."""
    random = draft.random
    own = f"p{project}-default"
    default = draft.group(
        own,
        draft.rule(IN, remote_group_id=GroupId(own)),
        draft.rule(IN, ethertype=6, remote_group_id=GroupId(own)),
    )
    web = draft.group(
        f"p{project}-web",
        *(draft.rule(IN, 6, port_min=p, port_max=p) for p in (80, 443)),
        draft.rule(IN, 1, port_min=8),
        draft.rule(IN, 6, ethertype=6, port_min=443, port_max=443),
    )
    database = draft.group(
        f"p{project}-db", draft.rule(IN, 6, port_min=5432, port_max=5433, remote_group_id=web)
    )
    office = IPv4Network(((203 << 24) + random.randrange(1 << 16) * 256, 24))
    admin = draft.group(
        f"p{project}-admin",
        draft.rule(IN, 6, port_min=22, port_max=22, remote_prefix=office),
        draft.rule(IN, 17, port_min=161, port_max=161, remote_prefix=IPv4Network("10.0.0.0/24")),
    )
    other = IPv4Network(((10 << 24) + (random.randrange(max(projects, 1)) << 8), 24))
    guests = draft.group(
        f"p{project}-guests",
        draft.rule(IN, 6, port_min=1, port_max=65535, remote_prefix=other),
        draft.rule(IN, 17, port_min=500, port_max=4500),
    )
    return [default, web, database, admin, guests]


def any_any(ports: int) -> Draft:
    """Return the usual projects, in which everybody lets everything in from everywhere."""
    draft = _draft(ports)
    for project in range(-(-ports // PORTS_PER_NETWORK)):
        network = draft.network(project, six=False)
        open_to_all = draft.group(f"p{project}", draft.rule(IN))
        for number in range(PORTS_PER_NETWORK):
            draft.port(network, f"p{project}", number, [open_to_all])
    return draft


def one_project(ports: int) -> Draft:
    """Return one project with all ports, which trust each other by group, in ten roles."""
    draft = _draft(ports)
    default = draft.group("default", draft.rule(IN, remote_group_id=GroupId("default")))
    roles = [
        draft.group(
            f"role{i}",
            draft.rule(IN, 6, port_min=1000 + i, port_max=1000 + i),
            draft.rule(IN, 17, remote_group_id=GroupId(f"role{(i + 1) % 10}")),
        )
        for i in range(10)
    ]
    for index in range(-(-ports // PORTS_PER_NETWORK)):
        network = draft.network(index, six=False)
        for number in range(PORTS_PER_NETWORK):
            draft.port(network, "p0", number, [default, draft.random.choice(roles)])
    return draft


def all_distinct(ports: int) -> Draft:
    """Return the usual projects, each port in a group of its own that trusts two others."""
    draft = _draft(ports)
    services = [draft.random.randint(1, 60000) for _ in range(30)]
    for project in range(-(-ports // PORTS_PER_NETWORK)):
        network = draft.network(project, six=False)
        for number in range(PORTS_PER_NETWORK):
            peers = [f"g{project}-{draft.random.randrange(PORTS_PER_NETWORK)}" for _ in range(2)]
            first = draft.random.choice(services)
            own = draft.group(
                f"g{project}-{number}",
                *(draft.rule(IN, remote_group_id=GroupId(peer)) for peer in peers),
                draft.rule(IN, 6, port_min=first, port_max=first + 100),
            )
            draft.port(network, f"p{project}", number, [own])
    return draft


KINDS: dict[str, Callable[[int], Draft]] = {
    "usual": usual,
    "any-any": any_any,
    "one project": one_project,
    "all groups distinct": all_distinct,
}
