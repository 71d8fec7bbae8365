"""The order in which things happen: one flow from its sender to its end and back.

A packet's walk goes node by node in the order of their distance; a node that must ask for a MAC
does so before its own step; what a node sends because of a packet comes when that packet's walk
is over. Pure: the same cloud and flow give the same trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from trunkline.model import HostName, IpAddress, PortId
from trunkline.ownership import anycast_mac, bridge_name, gateway_mac, tap_name
from trunkline.trace.cloud import Cloud, TracedHost
from trunkline.trace.host import HostNode
from trunkline.trace.nft import V6, Unknown
from trunkline.trace.nodes import InstanceNode, InternetNode, Joints, SwitchNode
from trunkline.trace.packets import (
    DHCP_CLIENT,
    DHCP_SERVER,
    ECHO6_REQUEST,
    ECHO_REQUEST,
    EPHEMERAL_PORT,
    EVERYBODY,
    ICMP,
    ICMPV6,
    NOBODY,
    NOBODY6,
    PROTOCOLS,
    TCP,
    UDP,
    Frame,
    Packet,
)
from trunkline.trace.passage import Delivery, Fate, Passage
from trunkline.trace.space import SpaceNode
from trunkline.trace.steps import Decision, Disposition, Stage, Step, Trace
from trunkline.trace.verdict import failing, judge, judge_lease, owners

Node = HostNode | SpaceNode | InstanceNode | SwitchNode | InternetNode

PASSAGES_MAX = 10_000
"""More than any walk takes; reached only if frames go round in circles."""

ANYBODY = IPv4Address("8.8.8.8")
"""Who asks from the Internet, if nobody in particular is named."""

OUTSIDE = "the provider's router"


@dataclass(frozen=True, slots=True)
class Flow:
    """What is asked about.

    Attributes:
        source: The sending port; None is the Internet.
        source_address: None is the port's first fixed IP, or anybody on the Internet.
        protocol: As a number; ICMP is an echo request.
        port: The destination port, where the protocol has ports.
        size: Of the packets, in bytes.
    """

    source: PortId | None
    destination: IpAddress
    protocol: int = ICMP
    port: int | None = None
    source_address: IpAddress | None = None
    size: int = 84

    def in_its_version(self) -> Flow:
        """Return the flow with its echo request of the version of IP that the destination is of."""
        is_v6 = self.destination.version == V6
        return replace(self, protocol=ICMPV6) if is_v6 and self.protocol == ICMP else self


def trace(cloud: Cloud, flow: Flow) -> Trace:
    """Return what becomes of a flow, request and reply. Total: what is not known is UNKNOWN."""
    flow, walk = flow.in_its_version(), Walk(cloud)
    unknown = None
    try:
        walk.start(flow)
    except Unknown as error:
        unknown = str(error)
    verdict = judge(cloud, flow, walk.steps, walk.fates, unknown)
    return Trace(*verdict, tuple(walk.steps), walk.assumptions(), walk.revisions())


def refusal(cloud: Cloud, flow: Flow) -> Fate | None:
    """Return where a flow fails, with the packet as it was there; None if it does not.

    Raises:
        Unknown: The walk met something that it does not understand.
    """
    walk = Walk(cloud)
    walk.start(flow.in_its_version())
    return failing(walk.fates)


def trace_lease(cloud: Cloud, port_id: PortId) -> Trace:
    """Return who hears a port's DHCPDISCOVER, and who answers it with what."""
    walk = Walk(cloud)
    unknown = None
    try:
        walk.discover(port_id)
    except Unknown as error:
        unknown = str(error)
    verdict = judge_lease(cloud, port_id, walk.steps, walk.fates, unknown)
    return Trace(*verdict, tuple(walk.steps), walk.assumptions(), walk.revisions())


class Walk:
    """A walk under way: its nodes, what they have learned, and the steps so far."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.steps: list[Step] = []
        self.fates: list[Fate] = []
        self._neighbours: dict[tuple[str, str, IpAddress], str] = {}
        self._hosts = {h.name: HostNode(h, self) for h in cloud.hosts}
        spaces = [space for host in cloud.hosts for space in host.spaces]
        self._spaces = {space.name: SpaceNode(space, self) for space in spaces}
        self._names = {(space.host.name, space.space): space.name for space in spaces}
        self._instances = {
            port_id: InstanceNode(name, *cloud.seats[port_id], self)
            for name, port_id in cloud.named()
        }
        self._internet = InternetNode(cloud.internet, cloud.host, self)
        self._switches = _switches(cloud, self)
        self._by_tap = {
            (host.name, tap_name(port_id)): self._instances[port_id]
            for port_id, (host, _) in cloud.seats.items()
        }
        self._nodes = self._named_nodes()
        self._order = {name: number for number, name in enumerate(self._nodes)}
        self._macs = _macs(cloud)
        self._passages = 0
        self._silent = cloud.left_out

    def _named_nodes(self) -> dict[str, Node]:
        """Return all nodes by name, in the order in which equally distant ones are told."""
        instances = {node.name: node for node in self._instances.values()}
        switches = {switch.name: switch for switch in self._switches.values()}
        wires: dict[str, Node] = {**switches, self._internet.name: self._internet}
        return {**wires, **self._hosts, **self._spaces, **instances}

    # --- beginnings ---------------------------------------------------------------------------

    def start(self, flow: Flow) -> None:
        """Send a flow's first packet, and all that follows from it."""
        self._silent = self.cloud.left_out - {
            flow.source,
            *owners(self.cloud, flow.source, flow.destination),
        }
        if flow.source is None and flow.destination.version == V6:
            raise Unknown("IPv6 from outside: how it comes to a host is the operator's routing")
        if flow.source is None:
            self._internet.send(_request(flow, flow.source_address or ANYBODY))
            return
        instance = self._instances[flow.source]
        if self._is_alone(instance):
            return
        mine = instance.setup_for(flow.destination)
        nobody = NOBODY if flow.destination.version != V6 else NOBODY6
        source = flow.source_address or next(iter(mine.addresses if mine else ()), nobody)
        instance.send(_request(flow, source))

    def _is_alone(self, instance: InstanceNode) -> bool:
        """Return whether an instance is not there or not connected, and note that."""
        host = self.cloud.seats[instance.port.id][0]
        tap = tap_name(instance.port.id)
        if tap in host.state.plugs and self.is_plugged(host.name, tap):
            return False
        why = "its port is DOWN" if tap in host.state.plugs else _why_unplugged(host, instance)
        decision = Decision(Stage.INSTANCE, tap, f"{instance.name} is not plugged in: {why}")
        packet = Packet("nothing", "request", ICMP, NOBODY, NOBODY)
        self.fates.append(Fate("request", instance.name, Disposition.UNPLUGGED, decision, packet))
        return True

    def discover(self, port_id: PortId) -> None:
        """Have an instance ask for its lease (RFC 2131)."""
        instance = self._instances[port_id]
        if not self._is_alone(instance):
            instance.broadcast(
                Packet(
                    name="DHCPDISCOVER",
                    role="dhcp",
                    protocol=UDP,
                    source=NOBODY,
                    destination=EVERYBODY,
                    source_port=DHCP_CLIENT,
                    destination_port=DHCP_SERVER,
                    size=328,
                )
            )

    # --- what nodes ask (wiring.Wiring) -------------------------------------------------------

    def launch(self, passage: Passage) -> None:
        """Have a packet go its whole way, and what follows from it."""
        self._record(passage)
        then, level = passage.then, passage.outs
        while level:
            further: list[Delivery] = []
            for delivery in sorted(level, key=lambda d: self._order[d.node]):
                reached = self._nodes[delivery.node].receive(delivery.port, delivery.frame)
                self._record(reached)
                further += reached.outs
                then = [*then, *reached.then]
            level = further
        for send in then:
            send()

    def _record(self, passage: Passage) -> None:
        self._passages += 1
        if self._passages > PASSAGES_MAX:
            raise Unknown("a frame that goes round in circles")
        self.steps.append(passage.step(self._macs))
        self.fates += passage.fates

    def neighbour(
        self,
        node: str,
        device: str,
        address: IpAddress,
        ask: Callable[[], Passage | None],
    ) -> str | None:
        """Return a neighbour's MAC; if it is not known, after asking."""
        if (node, device, address) not in self._neighbours:
            passage = ask()
            if passage is not None:
                self.launch(passage)
        return self._neighbours.get((node, device, address))

    def learn(self, node: str, device: str, address: IpAddress, mac: str) -> None:
        """Have a node remember a neighbour."""
        self._neighbours[node, device, address] = mac

    def to_instance(self, host: str, tap: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery by a tap's cable."""
        instance = self._by_tap.get((host, tap))
        if instance is not None:
            yield Delivery(instance.name, "eth0", frame)

    def to_switch(self, host: str, trunk: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery by a trunk's cable."""
        switch = self._switches.get(_physical_network(self.cloud.host[host], trunk))
        if switch is not None:
            yield Delivery(switch.name, host, frame)

    def across(self, switch: str, other: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery from one switch to another."""
        yield Delivery(other, switch, frame)

    def to_space(self, host: str, cable: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery by a cable into a router's namespace."""
        there = self.cloud.host[host].state.cables[cable]
        name = self._names.get((host, there.space))
        if name is not None:
            yield Delivery(name, there.peer, frame)

    def to_internet(self, host: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery by an uplink's cable."""
        yield Delivery(self._internet.name, host, frame)

    def to_host(self, host: str, port: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery to a host's NIC or tap."""
        yield Delivery(host, port, frame)

    def tap_owner(self, host: str, tap: str) -> str:
        """Return whose tap it is; the empty string for another device."""
        instance = self._by_tap.get((host, tap))
        return instance.name if instance else ""

    def is_plugged(self, host: str, tap: str) -> bool:
        """Return whether an instance is at the other end of a tap."""
        instance = self._by_tap.get((host, tap))
        return instance is not None and instance.port.id not in self.cloud.unplugged

    def is_told(self, host: str, tap: str) -> bool:
        """Return whether there is one of whom it is told that it hears broadcasts."""
        instance = self._by_tap.get((host, tap))
        told = instance is not None and instance.port.id not in self._silent
        return told and self.is_plugged(host, tap)

    def link_mac(self, host: str, link: str) -> str:
        """Return what stands for the MAC of a host's link: its name in a story."""
        return f"{host}'s {link}"

    def uplink_mac(self, host: str) -> str:
        """Return what stands for the MAC of a host's uplink."""
        return self.link_mac(host, self.cloud.host[host].uplink or "")

    def internet_mac(self) -> str:
        """Return what stands for the MAC of the provider's router: its name in a story."""
        return OUTSIDE

    def router_of(self, host: TracedHost) -> IpAddress | None:
        """Return the provider's router on a host's external prefix, if one is known."""
        own = host.uplink_interface
        routers = (r.ip for r in self.cloud.internet.routers if own and own.ip in r.network)
        return next(routers, None)

    # --- the rest of the answer ---------------------------------------------------------------

    def assumptions(self) -> tuple[str, ...]:
        """Return what the walk took for granted, as far as it came to matter."""
        nodes = {step.node for step in self.steps}
        found = []
        if nodes & self._switch_names():
            found += self._of_the_switch()
        if len(nodes & self._switch_names()) > 1:
            found.append("the segments of one network are joined between the switches")
        if self.cloud.left_out:
            others = len(self.cloud.left_out)
            found.append(f"{others} other instances hear broadcasts, and are silent")
        if self._internet.name in nodes:
            found.append("a host's default route leads by its uplink to the Internet")
        return tuple(found)

    def _switch_names(self) -> set[str]:
        return {switch.name for switch in self._switches.values()}

    def _of_the_switch(self) -> list[str]:
        if self.cloud.probed_at:
            return [f"the switch is as the probe of {self.cloud.probed_at} found it"]
        if self.cloud.pruned:
            return []
        return ["the switch carries the tag between these hosts"]

    def revisions(self) -> dict[str, int]:
        """Return the revision of each host's state."""
        return {host.name: host.snapshot.revision for host in self.cloud.hosts}


def _why_unplugged(host: TracedHost, instance: InstanceNode) -> str:
    if not instance.port.admin_up:
        return "its port or network is administratively down"
    return f"{host.name} cannot serve its network; 'trunkline check' there says why"


def _request(flow: Flow, source: IpAddress) -> Packet:
    names = {ICMP: "ICMP echo request", ICMPV6: "ICMPv6 echo request", TCP: "TCP SYN"}
    echo = {ICMP: (ECHO_REQUEST, 0), ICMPV6: (ECHO6_REQUEST, 0)}.get(flow.protocol)
    by_number = {number: name.upper() for name, number in PROTOCOLS.items()}
    return Packet(
        name=names.get(flow.protocol) or by_number.get(flow.protocol, f"protocol {flow.protocol}"),
        role="request",
        protocol=flow.protocol,
        source=source,
        destination=flow.destination,
        source_port=EPHEMERAL_PORT if flow.port is not None or echo else None,
        destination_port=flow.port,
        icmp=echo,
        flags="S" if flow.protocol == TCP else "",
        size=flow.size,
    )


def _physical_network(host: TracedHost, trunk: str) -> str:
    return next((name for name, nic in host.config.trunks.items() if nic == trunk), "")


def _switches(cloud: Cloud, walk: Walk) -> Mapping[str, SwitchNode]:
    """Return the wire of each physical network, with every host's trunk on it."""
    trunks: dict[str, dict[str, str]] = {}
    for host in cloud.hosts:
        for name, nic in host.config.trunks.items():
            trunks.setdefault(name, {})[host.name] = nic

    def usual(name: str) -> str:
        return "switch" if len(trunks) == 1 else f"switch {name}"

    names = {name: cloud.switches.get(name, usual(name)) for name in trunks}
    joints = _joints(cloud, names)
    return {
        name: SwitchNode(names[name], hosts, joints.get(name, {}), walk)
        for name, hosts in trunks.items()
    }


def _joints(cloud: Cloud, names: Mapping[str, str]) -> Mapping[str, Joints]:
    """Return how segments of one network are joined, by physical network.

    Args:
        cloud: Whose hosts know of networks with several segments.
        names: The switch of each physical network.
    """
    found: dict[str, dict[int | None, tuple[tuple[str, int | None], ...]]] = {}
    views = {n.id: n for host in cloud.hosts for n in host.snapshot.networks if n.further}
    for network in views.values():
        segments = [(network.physical_network, network.vlan_id)]
        segments += ((one.physical_network, one.vlan_id) for one in network.further)
        here = [(place, tag) for place, tag in segments if place in names]
        for place, tag in here:
            others = tuple((names[p], t) for p, t in here if p != place)
            found.setdefault(place, {})[tag] = others
    return found


def _macs(cloud: Cloud) -> dict[str, str]:
    """Return whose each MAC is, as a story calls them."""
    macs: dict[str, str] = {}
    for host in cloud.hosts:
        for network in host.snapshot.networks:
            bridge = bridge_name(network.vlan_id, network.physical_network, network.namesake)
            macs[anycast_mac(network.id)] = f"the gateway on {bridge}"
            macs[gateway_mac(HostName(host.name), network.id)] = f"{host.name}'s {bridge}"
        for space in host.spaces:
            ways = (cable for cable in space.cables.values() if cable.bridge is None)
            macs |= {way.mac: f"{space.name}'s {way.peer}" for way in ways}
    return macs | {port.mac: cloud.name(port_id) for port_id, (_, port) in cloud.seats.items()}
