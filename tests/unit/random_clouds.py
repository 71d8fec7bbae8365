"""Random small clouds, with every feature that reachability depends on, and their flows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from itertools import count, product
from random import Random

from hypothesis import strategies as st

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
    GroupDomain,
    GroupView,
    HostSnapshot,
    NetworkView,
    PortView,
    RouterView,
    SubnetView,
)
from trunkline.trace.verify_cloud import Cloud, End, HostSettings, gather
from trunkline.trace.verify_flow import Peer, has_gateway, is_on_link, permitting
from trunkline.trace.verify_services import Service

SEEDS = st.integers(0, 2**32)
PREFIXES = (
    *("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/28", "10.0.16.0/28", "10.0.0.4/30", "10.0.0.6/32"),
    *("10.1.0.0/28", "91.208.23.0/24", "91.208.23.3/32", "91.208.23.0/29", "91.207.15.0/24"),
    *("91.207.15.1/32", "8.8.8.0/24", "203.0.113.7/32", "128.0.0.0/1"),
)
PREFIXES6 = ("::/0", "2001:db8::/32", "2001:db8:0:1::/64", "2001:db8::4/126", "2001:db8:1::6/128")
SERVICES = (
    (None, None, None),
    (6, None, None),
    (6, 22, 22),
    (6, 80, 443),
    (6, 400, 500),
    (6, 0, 65535),
    (17, 53, 53),
    (17, 1, None),
    (1, None, None),
    (1, 8, None),
    (1, 8, 0),
    (1, 8, 3),
    (1, 3, 4),
    (1, 13, None),
    (58, 128, None),
    (47, None, None),
)


class Maker:
    """Makes one cloud from one source of randomness."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.numbers, self.sources = count(1), count(1)
        self.hosts = [HostName(f"host{i}") for i in range(random.randint(1, 4))]
        self.groups = [GroupId(f"group{i}") for i in range(random.randint(1, 5))]
        self.subnets = {NetworkId(f"net{i}"): self._subnets(i) for i in range(random.randint(1, 4))}

        names = [RouterId(r) for r in ("router0", "router0", "router0", "router1")]
        self.on = {n: random.choice([*names, None]) for n in self.subnets}
        self.routers = {name: self._router(name) for name in names}
        aside = Random(str(random.getstate()))  # which leaves a seed's cloud as it is otherwise
        self.unrouted = {s for s in self.subnets4() if aside.random() < 0.15}

    def subnets4(self) -> list[SubnetId]:
        """Return all subnets of IPv4."""
        return [s for subnets in self.subnets.values() for s, c in subnets if c.version == 4]

    def told(self, view: NetworkView) -> NetworkView:
        """Return a network with what is said now of which subnets have a router."""
        subnets = tuple(replace(s, routed=s.id not in self.unrouted) for s in view.subnets)
        return replace(view, subnets=subnets)

    def _subnets(self, network: int) -> list[tuple[SubnetId, IPv4Network | IPv6Network]]:
        made: list[tuple[SubnetId, IPv4Network | IPv6Network]] = [
            (SubnetId(f"sub{network}"), IPv4Network(f"10.{network}.0.0/28"))
        ]
        if self.random.random() < 0.3:
            made.append((SubnetId(f"sub{network}b"), IPv4Network(f"10.{network}.16.0/28")))
        if self.random.random() < 0.5:
            made.append((SubnetId(f"six{network}"), IPv6Network(f"2001:db8:{network}::/64")))
        return made

    def _router(self, router: str) -> RouterView:
        """Return a router; most have all that one can have."""
        odd = self.random.random
        return RouterView(
            RouterId(router),
            ProjectId("p0"),
            router,
            is_default=router == "router0",
            has_gateway=odd() < 0.9,
            enable_snat=odd() < 0.9,
            admin_up=odd() < 0.95,
            hosts=tuple(self.random.sample(self.hosts, 1)) if odd() < 0.2 else (),
        )

    def rule(self) -> Rule:
        """Return a rule, most often ingress of IPv4."""
        random = self.random
        six = random.random() < 0.25
        protocol, first, last = random.choice(SERVICES)
        kind = random.random()
        prefix = group = None
        if kind < 0.4:
            text = random.choice(PREFIXES6 if six else PREFIXES)
            prefix = IPv6Network(text) if six else IPv4Network(text)
        elif kind < 0.75:
            group = random.choice([*self.groups, GroupId("absent")])
        return Rule(
            RuleId(f"rule{next(self.numbers)}"),
            random.choice([Direction.INGRESS, Direction.INGRESS, Direction.EGRESS]),
            6 if six else 4,
            protocol,
            first,
            last,
            prefix,
            group,
        )

    def group(self, group_id: GroupId) -> GroupView:
        """Return a group; most let everything out, as by default."""
        rules = [self.rule() for _ in range(self.random.randint(0, 4))]
        if self.random.random() < 0.7:
            rules += [Rule(RuleId(f"out{v}-{group_id}"), Direction.EGRESS, v) for v in (4, 6)]
        return GroupView(group_id, ProjectId("p0"), group_id, tuple(rules))

    def ports(self) -> list[tuple[HostName, PortView]]:
        """Return ports with one to three addresses, and the hosts they are bound to."""
        free = {
            subnet: iter([cidr[i] for i in range(5, 15)])
            for subnets in self.subnets.values()
            for subnet, cidr in subnets
        }
        made = []
        for number in range(self.random.randint(1, 9)):
            network = self.random.choice(list(self.subnets))
            subnets = self.subnets[network]
            chosen = self.random.sample(subnets, self.random.randint(1, len(subnets)))
            secure = self.random.random() < 0.85
            port = PortView(
                id=PortId(f"port{number}"),
                network_id=network,
                project_id=ProjectId(f"p{self.random.randint(0, 2)}"),
                mac=f"fa:16:3e:00:00:{number:02x}",
                fixed_ips=tuple(FixedIp(s, next(free[s])) for s, _ in chosen),
                hostname=f"h{number}",
                group_ids=self._some_groups() if secure else (),
                port_security=secure,
                admin_up=self.random.random() < 0.9,
            )
            made.append((self.random.choice(self.hosts), port))
        return made

    def _some_groups(self) -> tuple[GroupId, ...]:
        most = min(3, len(self.groups))
        return tuple(sorted(self.random.sample(self.groups, self.random.randint(0, most))))

    def network(self, network_id: NetworkId, host: int) -> NetworkView:
        """Return a network as one host serves it; some subnets have no gateway there."""
        subnets = tuple(
            SubnetView(s, cidr, None if self.random.random() < 0.1 else cidr[1 + host])  # type: ignore[arg-type]  # IPv6 beside IPv4
            for s, cidr in self.subnets[network_id]
        )
        project, vlan = ProjectId("p0"), int(network_id[3:]) + 100
        router = self.on[network_id]
        return self.told(
            NetworkView(network_id, project, network_id, "physnet1", vlan, 1500, subnets, router)
        )

    def settings(self) -> HostSettings:
        """Return a host's settings; most are usual."""
        random = self.random
        odd, uplink = random.random() < 0.15, random.random() < 0.9
        return HostSettings(
            uplink=uplink,
            source=None if odd else IPv4Address(f"91.207.15.{random.randint(1, 4)}"),
            sources=tuple(
                (router, IPv4Address("91.207.15.0") + 100 + next(self.sources))
                for router in self.routers
                if uplink and not odd and random.random() < 0.2
            ),
            exempt=tuple(
                IPv4Network(p)
                for p in ("8.8.8.0/24", "91.208.23.4/30", "203.0.113.0/24")
                if random.random() < 0.15
            ),
            guard=random.random() < 0.8,
            unserved=frozenset(n for n in self.subnets if random.random() < 0.05),
        )

    def floating(
        self, ports: list[tuple[HostName, PortView]]
    ) -> list[tuple[HostName, FloatingView]]:
        """Return floating IPs of some of the IPv4 addresses."""
        made = []
        for host, port in ports:
            for fixed in port.fixed_ips:
                if fixed.address.version == 4 and self.random.random() < 0.35:
                    number = next(self.numbers)
                    address = IPv4Address(f"91.208.23.{len(made) + 1}")
                    name = FloatingIpId(f"float{number}")
                    domain = DomainId(self.on[port.network_id] or port.network_id)
                    view = FloatingView(
                        name, port.project_id, address, fixed.address, port.id, domain
                    )
                    made.append((host, view))
        return made

    def snapshots(self) -> list[HostSnapshot]:
        """Return what each host must know."""
        ports = self.ports()
        floating = self.floating(ports)
        groups = {g: self.group(g) for g in self.groups}
        prefixes = tuple(
            c for subnets in self.subnets.values() for _, c in subnets if c.version == 4
        )
        made = []
        for index, host in enumerate(self.hosts):
            own = tuple(p for h, p in ports if h == host)
            served = {p.network_id for p in own}
            served |= {n for n in self.subnets if self.random.random() < 0.15}
            placed = {r for r, router in self.routers.items() if host in router.hosts}
            served |= {n for n, router in self.on.items() if router in placed}
            routers = sorted({self.on[n] for n in served} - {None})
            made.append(
                HostSnapshot(
                    host,
                    7,
                    networks=tuple(self.network(n, index) for n in sorted(served)),
                    routers=tuple(self.routers[r] for r in routers),
                    ports=own,
                    groups=tuple(groups[g] for g in sorted({g for p in own for g in p.group_ids})),
                    members=self._members(ports),
                    floating_ips=tuple(f for h, f in floating if h == host),
                    tenant_prefixes=prefixes,  # type: ignore[arg-type]  # only IPv4 is in it
                )
            )
        return made

    def _members(
        self, ports: list[tuple[HostName, PortView]]
    ) -> dict[GroupDomain, tuple[IPv4Address, ...]]:
        """Return the IPv4 addresses of each group's ports in each domain, of absent ones none."""
        found: dict[GroupDomain, list[IPv4Address]] = {}
        for network, router in self.on.items():
            for group in (*self.groups, GroupId("absent")):
                found.setdefault((group, DomainId(router or network)), [])
        for _, port in ports:
            domain = DomainId(self.on[port.network_id] or port.network_id)
            for group in port.group_ids:
                addresses = (f.address for f in port.fixed_ips if f.address.version == 4)
                found[group, domain] += addresses
        return {key: tuple(sorted(addresses)) for key, addresses in found.items()}

    def cloud(self) -> Cloud:
        """Return the cloud as its hosts' snapshots have it."""
        snapshots = self.snapshots()
        return gather(snapshots, {host: self.settings() for host in self.hosts})


class CompilableMaker(Maker):
    """Makes clouds of what the compiler makes something of: IPv4 on the default router."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.subnets = {n: subnets[:1] for n, subnets in self.subnets.items()}
        self.on = dict.fromkeys(self.subnets, RouterId("router0"))
        everything = {"has_gateway": True, "enable_snat": True, "admin_up": True}
        router = self._router("router0")
        self.routers = {RouterId("router0"): replace(router, hosts=(), **everything)}

    def network(self, network_id: NetworkId, host: int) -> NetworkView:
        """Return a network as one host serves it: with a gateway, so that there is DHCP."""
        made = super().network(network_id, host)
        subnets = tuple(replace(s, gateway=s.cidr[1 + host]) for s in made.subnets)
        return replace(made, subnets=subnets)

    def compilable_settings(self, number: int) -> HostSettings:
        """Return a host's settings, with a routing source of its own."""
        source = IPv4Address(f"91.207.15.{number + 1}")
        return replace(self.settings(), source=source, unserved=frozenset())


def random_cloud(random: Random) -> Cloud:
    """Return a small cloud."""
    return Maker(random).cloud()


def pairs(ends: Iterable[End]) -> list[tuple[End, End]]:
    """Return all ordered pairs of ends of different ports."""
    found = product(list(ends), repeat=2)
    return [(a, b) for a, b in found if a.seat.port.id != b.seat.port.id]


def is_possible(cloud: Cloud, a: End, b: End, service: Service) -> bool:
    """Return whether only bridges can keep a flow from being answered."""
    return (
        cloud.domain(a) == cloud.domain(b)
        and is_permitted(cloud, a, b, service)
        and (is_on_link(a, b) or has_gateway(cloud, a))
        and (is_on_link(b, a) or has_gateway(cloud, b))
    )


def is_permitted(cloud: Cloud, a: End, b: End, service: Service) -> bool:
    """Return whether the groups on both sides let a flow pass."""
    sender, receiver = (Peer(e.address, e.seat.port.group_ids) for e in (a, b))
    lets_out = permitting(cloud, a, Direction.EGRESS, receiver, service)
    return bool(lets_out and permitting(cloud, b, Direction.INGRESS, sender, service))
