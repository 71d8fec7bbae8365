"""What a scenario works with: its lab, the captures, and preconditions that are put back.

Every precondition is a context: what it changes through the API, on an instance or on an agent
is as before when it is left. Decides nothing about what ought to be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from itertools import chain, combinations

from trunkline.hoststate import Connection
from trunkline.kernel import conntrack, netns, spaces
from trunkline.lab import build, life, probe
from trunkline.lab.capture import Capture
from trunkline.lab.cloud import Cloud, Seat, Segment
from trunkline.lab.inside import look_inside
from trunkline.lab.predict import Prediction, held_against, traced_cloud
from trunkline.lab.probe import Answer
from trunkline.lab.state import RESOLV, Lab
from trunkline.lab.topology import (
    CONTROLLER,
    INTERNET,
    JOINT,
    SWITCH,
    FloatingIp,
    GroupRule,
    Topology,
)
from trunkline.lab.verdict import Ground, Seen
from trunkline.lab.waiting import limit_s, until
from trunkline.lab.walk import (
    Cast,
    Select,
    any_arp,
    any_discovery,
    carrying,
    connecting,
    discovering,
    first_of,
    walk,
)
from trunkline.model import IpAddress, Provisioning
from trunkline.ownership import METADATA_PORT
from trunkline.trace.cloud import Cloud as TracedCloud
from trunkline.trace.packets import ICMP, TCP, UDP
from trunkline.trace.steps import HOST, INSTANCE, ROUTER
from trunkline.trace.steps import INTERNET as THE_INTERNET
from trunkline.trace.steps import SWITCH as A_SWITCH
from trunkline.trace.walk import Flow, trace, trace_lease

PROBE_S = 3.5  # 'host unreachable' comes after three unanswered ARP requests, a second apart
SILENCE_S = 0.5  # after this long nothing will come: an answer takes a few milliseconds here
SIGUSR1 = 10
SHOW_LINK = ("ip", "-brief", "link", "show")


@dataclass(frozen=True)
class Take:
    """All frames that were captured while something happened, and what was predicted of it."""

    seen: Seen
    prediction: Prediction


@dataclass(frozen=True)
class Shot(Take):
    """A take of a probe, with its answer."""

    answer: Answer


class Stage:
    """A lab on which scenarios are played."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cloud = Cloud(lab)
        self.topology = lab.topology
        self.look()

    def look(self) -> None:
        """Ask the API again who sits where; ports come and go with preconditions."""
        self.seats: Mapping[str, Seat] = self.cloud.seats()
        self.segments: Mapping[str, Segment] = self.cloud.segments()
        self.inside = look_inside(self.lab, self.cloud)
        self.cast = _cast(self)
        self.ground = _ground(self)

    def segment(self, instance: str) -> Segment:
        """Return the segment that an instance is on."""
        return self.segments[self.topology.instances[instance].network]

    def gateway(self, instance: str) -> IPv4Address:
        """Return the address of an instance's own host on its network."""
        return self.segment(instance).gateway(self.seats[instance].host)

    def floating(self, instance: str) -> FloatingIp:
        """Return the floating IP that the topology gives to an instance."""
        return next(f for f in self.topology.floating_ips if f.instance == instance)

    @contextmanager
    def capture(self) -> Iterator[Capture]:
        """Capture on every device of every node that scenarios speak of."""
        nodes = {n: ns for n, ns in self.lab.namespaces().items() if n not in (CONTROLLER, JOINT)}
        nodes |= {router.name: router.namespace for router in self.inside}
        there = set(netns.names())
        with Capture({n: ns for n, ns in nodes.items() if ns in there}) as capture:
            yield capture

    def forget_neighbours(self) -> None:
        """Empty every ARP cache, so that who asks whom is part of what is seen."""
        there = set(netns.names())
        routers = self.topology.routers_upstream()
        nodes = (INTERNET, *routers, *self.topology.hosts, *self.topology.instances)
        inside = (router.namespace for router in self.inside)
        for namespace in (*map(self.lab.namespace, nodes), *inside):
            if namespace in there:
                netns.run(namespace, ["ip", "neigh", "flush", "all"], limit_s(10))

    def shoot(
        self, flow: Flow, fire: Callable[[], Answer], told: Callable[[bytes], Select]
    ) -> Shot:
        """Predict a flow; send its probe with empty ARP caches, and capture all that happens.

        Args:
            flow: What the probe is, for the tracer.
            fire: Sends it.
            told: Selects its packets, given its nonce.
        """
        predicted = trace(self.traced(), flow)
        self.forget_neighbours()
        with self.capture() as capture:
            answer = fire()
            seen = Seen(capture.frames())
        story = first_of(told(answer.nonce), any_arp(build.MANAGEMENT_LINK), any_discovery)
        observed = walk(seen, story, self.cast)
        return Shot(seen, held_against(predicted, observed), answer)

    def witness(self, fire: Callable[[], Answer]) -> tuple[Answer, Seen]:
        """Capture what the tracer knows nothing of, such as what an instance gives itself."""
        self.forget_neighbours()
        with self.capture() as capture:
            answer = fire()
            return answer, Seen(capture.frames())

    def traced(self, *, dark: Collection[str] = ()) -> TracedCloud:
        """Return the cloud as the tracer wants it; instances in ``dark`` are switched off."""
        return traced_cloud(self.lab, self.cloud, self.seats.values(), dark=dark)

    def flow(self, instance: str, to: IpAddress, protocol: int, port: int | None = None) -> Flow:
        """Return a flow from an instance."""
        return Flow(self.seats[instance].port_id, to, protocol, port)

    def ping(
        self,
        instance: str,
        to: IpAddress,
        *,
        size: int = probe.PING_SIZE,
        hope: bool = True,
        nonce: bytes | None = None,
    ) -> Shot:
        """Ping from an instance; without hope of an answer the wait for it is short."""
        namespace, patience_s = self.lab.namespace(instance), _patience_s(hope=hope)
        flow = replace(self.flow(instance, to, ICMP), size=size)
        return self.shoot(
            flow, lambda: probe.ping(namespace, to, patience_s, size, nonce), carrying
        )

    def lease(self, instance: str) -> Take:
        """Have another DHCP client in an instance ask for its lease; it is put to no use."""
        seat = self.seats[instance]
        predicted = trace_lease(self.traced(), seat.port_id)
        with self.capture() as capture:
            self.output(instance, *build.ASK_FOR_LEASE)
            seen = Seen(capture.frames())
        observed = walk(seen, discovering(seat.mac), self.cast)
        return Take(seen, held_against(predicted, observed))

    def tcp(
        self,
        instance: str,
        peer: str,
        to: IpAddress | None = None,
        *,
        port: int = probe.PORT,
        hope: bool = True,
    ) -> Shot:
        """Connect from an instance to a listener on another."""
        a, b = self.lab.namespace(instance), self.lab.namespace(peer)
        address = to or self.seats[peer].address
        return self.shoot(
            self.flow(instance, address, TCP, port),
            lambda: probe.tcp(a, b, address, _patience_s(hope=hope), port),
            lambda _: connecting(None, port),
        )

    def udp(
        self,
        instance: str,
        peer: str,
        to: IpAddress | None = None,
        *,
        port: int = probe.PORT,
        hope: bool = True,
        nonce: bytes | None = None,
    ) -> Shot:
        """Send by UDP from an instance to another."""
        a, b = self.lab.namespace(instance), self.lab.namespace(peer)
        address = to or self.seats[peer].address
        return self.shoot(
            self.flow(instance, address, UDP, port),
            lambda: probe.udp(a, b, address, _patience_s(hope=hope), port, nonce),
            carrying,
        )

    def settle(self) -> None:
        """Wait until every agent has applied what the server wants."""
        life.settle(self.lab, self.cloud)

    @contextmanager
    def fixed_only(self, *instances: str) -> Iterator[None]:
        """Take the floating IPs of instances away meanwhile."""
        taken = [f for f in self.topology.floating_ips if f.instance in instances]
        for floating in taken:
            self.cloud.associate(floating, None)
        self.settle()
        try:
            yield
        finally:
            for floating in taken:
                self.cloud.associate(floating, floating.instance)
            self.settle()

    @contextmanager
    def rules(self, *rules: GroupRule) -> Iterator[None]:
        """Have exactly these rules by prefix in the tenants' default groups meanwhile."""
        self._set_rules(rules)
        try:
            yield
        finally:
            self._set_rules(self.topology.rules)

    def _set_rules(self, rules: tuple[GroupRule, ...]) -> None:
        for project in self.topology.projects:
            for rule_id in self.cloud.rules(project):
                self.cloud.forbid(project, rule_id)
        for rule in rules:
            self.cloud.allow(rule)
        self.settle()

    @contextmanager
    def own_router(self, network: str) -> Iterator[str]:
        """Have a network on a router of its own, with a way out, meanwhile; yield its id."""
        router_id = self.cloud.give_router(network)
        self.settle()
        self.look()
        try:
            yield router_id
        finally:
            instances = [i.name for i in self.topology.instances.values() if i.network == network]
            with self.fixed_only(*instances):  # a floating IP holds on to its router
                self.cloud.take_router(network, router_id)
            self.look()

    @contextmanager
    def without(self, project: str, host: str) -> Iterator[None]:
        """Have no instance of a project on a host meanwhile, so that its network goes too."""
        gone = [s for s in self.seats.values() if (s.project, s.host) == (project, host)]
        segments = [self.segment(seat.instance) for seat in gone]
        for seat in gone:
            build.unplug_instance(self.lab, seat.instance)
            self.cloud.delete_port(self.topology.instances[seat.instance])
        for segment in segments:
            self._wait_until_gone(host, segment.bridge)
        self.settle()
        self.look()
        try:
            yield
        finally:
            self._bring_back(gone)

    @contextmanager
    def provisioned(self, network: str, provisioning: Provisioning) -> Iterator[None]:
        """Have a network on other hosts than the topology says meanwhile."""
        self._provision(network, provisioning)
        try:
            yield
        finally:
            self._provision(network, self.topology.networks[network].provisioning)

    def _provision(self, network: str, provisioning: Provisioning) -> None:
        self.cloud.provision(network, provisioning)
        self.settle()
        self.look()

    def _wait_until_gone(self, host: str, link: str) -> None:
        until(f"{link} is gone from {host}", lambda: link not in self.links(host))

    def _bring_back(self, gone: list[Seat]) -> None:
        """Make instances again as they were, at the same addresses."""
        for seat in gone:
            self.cloud.create_gateway(seat.network, seat.host)
            instance = self.topology.instances[seat.instance]
            self.cloud.create_port(replace(instance, address=seat.address))
            life.start_instance(self.lab, self.cloud, seat.instance)
            build.boot_instance(self.lab, seat.instance)
        for seat in gone:
            build.wait_for_lease(self.lab, seat.instance)
        self.settle()
        self.look()
        for seat in gone:
            life.wait_for_ipv6(self.lab, self.seats[seat.instance])

    @contextmanager
    def unguarded(self, host: str) -> Iterator[None]:
        """Have a host's agent leave absent prefixes to the default route meanwhile."""
        self._restart_agent(host, guard=False)
        try:
            yield
        finally:
            self._restart_agent(host, guard=True)

    def _restart_agent(self, host: str, *, guard: bool) -> None:
        self.lab.stop(f"agent-{host}")
        build.start_agent(self.lab, host, guard=guard)
        has_guard = "reject with icmp"
        until(
            f"the guard of {host} is {'up' if guard else 'down'}",
            lambda: (has_guard in self.output(host, "nft", "list", "ruleset")) is guard,
        )
        until(f"{host} has reported its guard", lambda: self._guard(host) is guard)
        self.settle()

    @contextmanager
    def routing(
        self,
        host: str,
        source: IPv4Address,
        exempt: Sequence[IPv4Network] = (),
        router: str | None = None,
    ) -> Iterator[None]:
        """Give a host another routing source and exempt destinations meanwhile.

        The source is put on the uplink beside the host's own, as an administrator does. With a
        router's id it is that router's only.
        """
        usual = self.topology.hosts[host].external
        words = (f"{source}/{usual.network.prefixlen}", "dev", build.UPLINK)
        if source != usual.ip:
            self.output(host, "ip", "addr", "add", *words)
        common, own = (usual.ip, {router: source}) if router else (source, {})
        self._reroute(host, common, exempt, own)
        try:
            yield
        finally:
            self._reroute(host, usual.ip, (), {})
            if source != usual.ip:
                self.output(host, "ip", "addr", "del", *words)

    def _reroute(
        self,
        host: str,
        source: IPv4Address,
        exempt: Sequence[IPv4Network],
        sources: Mapping[str, IPv4Address],
    ) -> None:
        self.lab.stop(f"agent-{host}")
        build.start_agent(self.lab, host, source=source, exempt=exempt, sources=sources)
        wanted = {
            "routing_source": str(source),
            "snat_exempt": [str(prefix) for prefix in exempt],
            "routing_sources": {key: str(value) for key, value in sources.items()},
        }
        until(f"{host} has reported its routing", lambda: self._routing(host) == wanted)
        self.settle()

    def _routing(self, host: str) -> dict[str, object]:
        (agent,) = self.cloud.admin.list("agents", host=host)
        cabling = agent["configurations"]["facts"]["cabling"]
        return {k: cabling[k] for k in ("routing_source", "snat_exempt", "routing_sources")}

    def _guard(self, host: str) -> bool:
        """Return what a host's agent last reported of its configuration."""
        (agent,) = self.cloud.admin.list("agents", host=host)
        return bool(agent["configurations"]["facts"]["cabling"]["guard_absent_prefixes"])

    def reborn(self, instance: str) -> None:
        """End an instance and plug in another one in its place, not booted yet."""
        build.unplug_instance(self.lab, instance)
        port_id = self.seats[instance].port_id
        until(
            f"the port of {instance} is DOWN",
            lambda: self.cloud.admin.show("ports", port_id)["status"] == "DOWN",
        )
        life.start_instance(self.lab, self.cloud, instance)

    def renew(self, instance: str) -> None:
        """Have an instance renew its lease, and wait until it has."""
        (self.lab.directory / "instances" / instance / "lease").unlink()
        client = self.lab.process(f"udhcpc-{instance}")
        if client:
            client.signal(SIGUSR1)
        build.wait_for_lease(self.lab, instance)

    @contextmanager
    def extra_floating(self, instance: str) -> Iterator[IPv4Address]:
        """Give an instance the last floating IP of the pool meanwhile."""
        project = self.topology.instances[instance].project
        floating = FloatingIp(self.topology.floating_pool[1], project, instance)
        self.cloud.create_floating(floating)
        self.settle()
        try:
            yield floating.address
        finally:
            self.cloud.release(floating)
            self.settle()

    @contextmanager
    def forwarded(
        self, project: str, *wanted: tuple[str, str, tuple[int, int]]
    ) -> Iterator[FloatingIp]:
        """Have ports of the pool's last floating IP lead to instances of a project meanwhile.

        Args:
            project: Whose.
            wanted: Instance, protocol, and the floating IP's port and the instance's.
        """
        floating = FloatingIp(self.topology.floating_pool[1], project, "")
        self.cloud.create_floating(floating)
        for instance, protocol, ports in wanted:
            self.cloud.forward(floating, instance, protocol, ports)
        self.settle()
        try:
            yield floating
        finally:
            self.cloud.release(floating)
            self.settle()

    def connections(self, host: str) -> tuple[Connection, ...]:
        """Return the connection tracking tables of a host and of its spaces, in a row."""
        found: list[Connection] = []
        for place in self._places(host):
            with netns.enter(place):
                found += conntrack.read()
        return tuple(found)

    def _places(self, host: str) -> tuple[str, ...]:
        """Return the namespaces of a host: its own, and its spaces."""
        inside = spaces.found_under(self.lab.directory / "hosts" / host)
        return (self.lab.namespace(host), *inside)

    def links(self, node: str) -> set[str]:
        """Return the names of the links on a node."""
        lines = self.output(node, "ip", "-brief", "link").splitlines()
        return {line.split()[0].partition("@")[0] for line in lines if line}

    def routes(self, node: str, version: int = 4) -> list[str]:
        """Return a node's routes as ``ip route`` prints them, those of its spaces last."""
        show = ["ip", f"-{version}", "route"]
        found = (netns.run(place, show, limit_s(10)) for place in self._places(node))
        return [line.strip() for one in found for line in one.stdout.splitlines()]

    @contextmanager
    def metadata(self) -> Iterator[None]:
        """Have a metadata service, and every host's proxy for it, meanwhile."""
        build.start_metadata(self.lab)
        try:
            until("metadata is served", lambda: all(map(self._listens, self._metadata_ends())))
            yield
        finally:
            build.stop_metadata(self.lab)

    def _metadata_ends(self) -> list[tuple[str, int]]:
        proxies = [(host, METADATA_PORT) for host in self.topology.hosts]
        return [(CONTROLLER, build.METADATA_SERVICE_PORT), *proxies]

    def _listens(self, end: tuple[str, int]) -> bool:
        """Return whether a node, and all its spaces, listen on a port."""
        node, port = end
        ask = ("ss", "-Hltn", f"sport = :{port}")
        return all(netns.run(place, ask, limit_s(10)).stdout for place in self._places(node))

    def resolv_conf(self, instance: str) -> str:
        """Return an instance's ``/etc/resolv.conf``, as its lease has made it."""
        return (RESOLV / self.lab.namespace(instance) / "resolv.conf").read_text()

    def output(self, node: str, *argv: str) -> str:
        """Return what a program says on a node."""
        return netns.run(self.lab.namespace(node), argv, limit_s(10)).stdout


def _patience_s(*, hope: bool) -> float:
    return limit_s(PROBE_S if hope else SILENCE_S)


def _cast(stage: Stage) -> Cast:
    topology = stage.topology
    macs = {seat.mac: seat.instance for seat in stage.seats.values()}
    upstream = topology.routers_upstream()
    for segment in stage.segments.values():
        macs |= {segment.own_mac(router): "the upstream router" for router in upstream}
        for host in topology.hosts:
            macs[segment.gateway_mac(host)] = f"the gateway on {segment.bridge}"
            macs[segment.own_mac(host)] = f"{host}'s {segment.bridge}"
    for host in topology.hosts:
        macs[_mac(stage, host, build.UPLINK)] = f"{host}'s {build.UPLINK}"
    macs[_mac(stage, INTERNET, build.WIRE)] = "the provider's router"
    macs |= _macs_inside(stage)
    instances = topology.instances.values()
    places = {i.name: i.host for i in instances} | {
        s.instance: s.host for s in stage.seats.values()
    }
    segments = _segments(stage)
    sides = {
        seat.instance: f"{seat.host} {segments[seat.host, seat.tap]}"
        for seat in stage.seats.values()
        if (seat.host, seat.tap) in segments
    }
    cables = list((places | sides).items())
    for host in topology.hosts:
        wires = (*(trunk.switch for trunk in topology.trunks_of(host)), INTERNET)
        cables += [(host, wire) for wire in wires]
    cables += [(router, SWITCH) for router in upstream]
    if stage.topology.joints():
        cables += combinations(stage.topology.switches(), 2)
    cables += [(router.host, router.name) for router in stage.inside if router.transit]
    for router in stage.inside:
        ends = [router.place(bridge) for bridge in router.bridges]
        switches = (trunk.switch for trunk in topology.trunks_of(router.host))
        beyond = (router.name, *switches)
        cables += [(place, end) for place in ends for end in beyond]
    roles = {**dict.fromkeys(topology.switches(), A_SWITCH), INTERNET: THE_INTERNET}
    roles |= dict.fromkeys((*upstream, *topology.hosts), HOST)
    roles |= dict.fromkeys((router.name for router in stage.inside), ROUTER)
    roles |= dict.fromkeys(topology.instances, INSTANCE)
    taps = {s.tap: s.instance for s in stage.seats.values()}
    return Cast(roles, _both_ways(cables), macs, taps, segments)


def _both_ways(cables: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the neighbours of each place."""
    found: dict[str, tuple[str, ...]] = {}
    for one, other in cables:
        found[one] = (*found.get(one, ()), other)
        found[other] = (*found.get(other, ()), one)
    return found


def _segments(stage: Stage) -> dict[tuple[str, str], str]:
    """Return the devices of hosts that belong to bridges whose gateway is in a namespace."""
    found = dict(chain.from_iterable(router.segments() for router in stage.inside))
    switching = set(found)
    for seat in stage.seats.values():
        bridge = stage.segments[seat.network].bridge
        if (seat.host, bridge) in switching:
            found[seat.host, seat.tap] = bridge
    for segment in stage.segments.values():
        tag = "" if segment.vlan_id is None else f"#{segment.vlan_id}"
        for host in stage.topology.hosts:
            if (host, segment.bridge) in switching:
                ends = (segment.wire, f"{segment.trunk}{tag}")
                found |= {(host, end): segment.bridge for end in ends}
    return found


def _macs_inside(stage: Stage) -> dict[str, str]:
    """Return whose MACs the two ends of each way into a router's namespace are."""
    macs = {}
    for router in stage.inside:
        if router.transit:
            macs[_mac(stage, router.host, router.transit)] = f"{router.host}'s {router.transit}"
            inner = netns.run(router.namespace, [*SHOW_LINK, "transit"], limit_s(10))
            macs[inner.stdout.split()[2]] = f"{router.name}'s transit"
    return macs


def _mac(stage: Stage, node: str, link: str) -> str:
    return stage.output(node, *SHOW_LINK, link).split()[2]


def _ground(stage: Stage) -> Ground:
    devices: dict[tuple[str, str], int] = {}
    macs: dict[str, int] = {}
    for segment in stage.segments.values():
        number = segment.number
        for host in (*stage.topology.routers_upstream(), *stage.topology.hosts):
            devices[host, segment.bridge] = number
            if segment.vlan_id is not None:
                devices[host, segment.wire] = number
            macs |= dict.fromkeys((segment.gateway_mac(host), segment.own_mac(host)), number)
    for seat in stage.seats.values():
        number = stage.segments[seat.network].number
        devices[seat.host, seat.tap] = devices[seat.instance, "eth0"] = number
        macs[seat.mac] = number
    anycast = frozenset(
        (segment.gateway_mac(""), segment.anycast)
        for segment in stage.segments.values()
        if segment.anycast is not None
    )
    trunks = stage.topology.trunks
    flat = any(segment.vlan_id is None for segment in stage.segments.values())
    joined = {
        trunks[name].base + vlan_id: segment.number
        for segment in stage.segments.values()
        for name, vlan_id in stage.topology.networks[segment.network].further.items()
    }
    ports = _trunks(stage.topology)
    return Ground(devices, macs, ports, build.UPLINK, anycast, flat, joined)


def _trunks(topology: Topology) -> dict[tuple[str, str], int]:
    """Return hosts' NICs on their trunks, and the switches' ports, with their trunk's number."""
    found: dict[tuple[str, str], int] = {}
    for node in (*topology.hosts, *topology.routers_upstream()):
        for trunk in topology.trunks_of(node):
            found |= dict.fromkeys(((node, trunk.nic), (trunk.switch, node)), trunk.base)
    if topology.joints():
        switches = {trunk.switch: trunk.base for trunk in topology.trunks.values()}
        found |= {(s, o): base for s, base in switches.items() for o in switches if o != s}
    return found
