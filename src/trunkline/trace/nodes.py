"""What instances, the switch and the Internet do with a frame.

An instance is configured by its lease, read off the DHCP server that knows it, of its own host or
of its router's; without one, where the network has no DHCP, as its port says. It answers what it
is asked: whether something listens is not the network's to know. The switch carries every tag,
except those it is known to prune.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Interface, IPv6Address

from trunkline.model import LINK_LOCAL, IpAddress, IpNetwork, link_local
from trunkline.ownership import TABLE, bridge_name, tap_name, vlan_name
from trunkline.snapshot import NetworkView, PortView, SubnetView
from trunkline.trace.cloud import EVERYWHERE, EVERYWHERE6, PRIVATE, Internet, TracedHost
from trunkline.trace.dhcp import advertises, is_router, offer
from trunkline.trace.explain import has_address
from trunkline.trace.nft import V4, V6
from trunkline.trace.packets import (
    ADVERTISE,
    BROADCAST,
    HOST_UNREACHABLE,
    Arp,
    Frame,
    Packet,
    advertisement,
    answer,
    confirmation,
    error,
    solicitation,
)
from trunkline.trace.passage import Fate, Passage
from trunkline.trace.steps import INSTANCE, INTERNET, SWITCH, Decision, Disposition, Stage
from trunkline.trace.wiring import Wiring

Routes = tuple[tuple[IpNetwork, IpAddress | None], ...]
"""Destinations with their next hops, the longest prefix first; None is on the link."""


def reached(passage: Passage, text: str) -> Fate:
    """Return the fate of a packet that is where it was meant to go."""
    decision = Decision(Stage.INSTANCE, passage.path[0].device, text)
    return Fate(passage.packet.role, passage.node, Disposition.DELIVERED, decision, passage.packet)


def following(packet: Packet) -> Packet | None:
    """Return what the receiver of a packet sends because of it."""
    if packet.role == "request":
        return answer(packet)
    if packet.role == "reply" and packet.flags == "SA":
        return confirmation(packet)
    return None


@dataclass(frozen=True, slots=True)
class Setup:
    """How an instance is configured in one version of IP: its addresses and routes."""

    addresses: tuple[IpAddress, ...]
    routes: Routes
    mtu: int


Given = list[tuple[IpNetwork, IpAddress | None]]
"""Routes as they are found, in no order."""


def setup(
    host: TracedHost, port: PortView, hosts: Iterable[TracedHost], version: int = V4
) -> Setup | None:
    """Return how an instance is configured; None if it waits for a lease that nobody gives.

    Args:
        host: Its own.
        port: Its port.
        hosts: All whose servers may know it, if they are heard.
        version: Of IP.
    """
    network = next((n for n in host.snapshot.networks if n.id == port.network_id), None)
    if network is None:
        return None
    subnets = {s.id: s for s in network.subnets if s.cidr.version == version}
    own = [fixed for fixed in port.fixed_ips if fixed.subnet_id in subnets]
    routes = _by_hand(network, [subnets[fixed.subnet_id] for fixed in own])
    if any(_is_told(subnet) for subnet in subnets.values()):
        heard = hosts if version != V6 or _is_open(host, network) else (host,)
        given = (_advertised if version == V6 else _leased)(network, port, heard)
        if given is None or tap_name(port.id) not in host.state.plugs:
            return None
        routes += given
    addresses = [fixed.address for fixed in own]
    if version == V6 and own:
        addresses.append(link_local(port.mac))
        routes.append((LINK_LOCAL, None))
    ordered = tuple(sorted(dict(routes).items(), key=lambda one: -one[0].prefixlen))
    return Setup(tuple(addresses), ordered, network.mtu)


def _is_told(subnet: SubnetView) -> bool:
    """Return whether a server tells instances of their subnet."""
    return subnet.enable_dhcp if subnet.cidr.version == V4 else subnet.address_mode is not None


def _by_hand(network: NetworkView, subnets: Iterable[SubnetView]) -> Given:
    """Return the routes to an instance's subnets, and by routers that no server tells of."""
    routes: Given = []
    for subnet in subnets:
        routes.append((subnet.cidr, None))
        router = network.router_of(subnet)
        if router is not None and not _is_told(subnet):
            routes.append((EVERYWHERE if router.version == V4 else EVERYWHERE6, router))
    return routes


def _leased(network: NetworkView, port: PortView, hosts: Iterable[TracedHost]) -> Given | None:
    """Return the routes of a port's lease, of whichever host's server on its network knows it."""
    bridge = bridge_name(network.vlan_id, network.physical_network, network.namesake)
    for host in hosts:
        server = host.dhcp.get(bridge)
        here = server and any(n.id == network.id for n in host.snapshot.networks)
        found = offer(server, port.mac) if server and here else None
        if found is not None:
            return list(found.routes)
    return None


def _is_open(host: TracedHost, network: NetworkView) -> bool:
    """Return whether a host's instances hear routers across the trunk."""
    bridge = bridge_name(network.vlan_id, network.physical_network, network.namesake)
    flat = network.vlan_id is None
    wire = host.config.trunks.get(network.physical_network) if flat else vlan_name(bridge)
    table = host.state.tables.get(("bridge", TABLE))
    closed = table.sets.get("trunks6") if table else None
    return closed is None or f'"{wire}"' not in closed.elements


def _advertised(network: NetworkView, port: PortView, hosts: Iterable[TracedHost]) -> Given | None:
    """Return the route that advertisements give an instance (RFC 4861, 6.3.4).

    None if nobody advertises, or if the address is DHCPv6's to give, and it does not.
    """
    name = bridge_name(network.vlan_id, network.physical_network, network.namesake)
    for host in hosts:
        here = any(n.id == network.id for n in host.snapshot.networks)
        server, router = host.dhcp.get(name), host.advertiser(name)
        if here and server and router and advertises(server, port.mac):
            return [(EVERYWHERE6, router)] if is_router(server) else []
    return None


class InstanceNode:
    """An instance, behind one port."""

    def __init__(self, name: str, host: TracedHost, port: PortView, wiring: Wiring) -> None:
        self.name = name
        self.port = port
        self._host = host
        self._wiring = wiring

    @cached_property
    def setup(self) -> Setup | None:
        """Return how it is configured; None if it waits for a lease that nobody gives."""
        return setup(self._host, self.port, self._wiring.cloud.hosts)

    @cached_property
    def _upstream(self) -> frozenset[IpAddress]:
        """Return the routers on its network that are not ours."""
        networks = self._host.snapshot.networks
        subnets = (s for n in networks if n.id == self.port.network_id for s in n.subnets)
        return frozenset(s.upstream for s in subnets if s.upstream is not None)

    @cached_property
    def _setup6(self) -> Setup | None:
        return setup(self._host, self.port, self._wiring.cloud.hosts, V6)

    def setup_for(self, address: IpAddress) -> Setup | None:
        """Return how it is configured in an address's version of IP."""
        return self.setup if address.version != V6 else self._setup6

    def _has(self, address: IpAddress) -> bool:
        """Return whether an address is the port's, and the instance has got it."""
        mine = self.setup_for(address)
        return mine is not None and has_address(self.port, address)

    def receive(self, device: str, frame: Frame) -> Passage:
        """Return what an instance does with a frame."""
        passage = Passage(self.name, INSTANCE, frame, frame)
        passage.saw(device, "in")
        payload = frame.payload
        if frame.destination_mac != self.port.mac and not frame.is_for_many:
            return passage
        if isinstance(payload, Arp):
            self._arp_in(passage, payload)
        elif payload.target is not None:
            self._discovered(passage, payload, payload.target)
        elif self._has(payload.destination):
            passage.fates.append(reached(passage, f"{self.name} has {payload.destination}"))
            reply = following(payload)
            if reply is not None:
                passage.then.append(lambda: self.send(reply))
        return passage

    def _arp_in(self, passage: Passage, arp: Arp) -> None:
        if not self._has(arp.target):
            return
        self._wiring.learn(self.name, "eth0", arp.sender, arp.sender_mac)
        if not arp.is_reply:
            decision = Decision(Stage.ARP, "eth0", f"{self.name} has {arp.target} and answers")
            passage.decisions.append(decision)
            reply = Arp(True, self.port.mac, arp.target, arp.sender)  # noqa: FBT003 - a reply
            frame = Frame(self.port.mac, arp.sender_mac, reply)
            passage.then.append(lambda: self._wiring.launch(self._emit(frame)))

    def _discovered(self, passage: Passage, packet: Packet, target: IpAddress) -> None:
        """Take neighbour discovery in, and answer for one's own."""
        frame = passage.frame
        if packet.icmp == (ADVERTISE, 0):
            self._wiring.learn(self.name, "eth0", target, frame.source_mac)
        elif self._has(target):
            self._wiring.learn(self.name, "eth0", packet.source, frame.source_mac)
            decision = Decision(Stage.ND, "eth0", f"{self.name} has {target} and answers")
            passage.decisions.append(decision)
            reply = advertisement(self.port.mac, frame.source_mac, target, packet.source)
            passage.then.append(lambda: self._wiring.launch(self._emit(reply)))

    def send(self, packet: Packet) -> None:
        """Send a packet: to a neighbour, or by way of the router that the lease names."""
        passage = self._begin(Frame(self.port.mac, "", packet))
        if self._has(packet.destination):
            self._speak_to_oneself(packet)
            return
        refusal = self._cannot(packet)
        if refusal is not None:
            passage.end(*refusal)
            self._wiring.launch(passage)
            return
        hop = self._hop(packet)
        if hop in self._upstream:
            text = f"{hop} is an upstream router; what becomes of it there is not Trunkline's"
            passage.end(Disposition.UNKNOWN, Decision(Stage.ROUTE, "eth0", text))
            self._wiring.launch(passage)
            return
        mac = self._wiring.neighbour(self.name, "eth0", hop, lambda: self._ask(hop, packet))
        if mac is None:
            text = f"nobody answers for {hop}"
            stage = Stage.ARP if packet.version == V4 else Stage.ND
            passage.end(Disposition.NOBODY, Decision(stage, "eth0", text))
            self._wiring.launch(passage)
            return
        self._wiring.launch(self._emit(Frame(self.port.mac, mac, packet)))

    def _speak_to_oneself(self, packet: Packet) -> None:
        """Send a packet to an own address: it never leaves the instance."""
        frame = Frame(self.port.mac, self.port.mac, packet)
        passage = Passage(self.name, INSTANCE, frame, frame)
        passage.saw("lo", "out")
        passage.fates.append(reached(passage, f"{packet.destination} is {self.name}'s own"))
        reply = following(packet)
        if reply is not None:
            passage.then.append(lambda: self.send(reply))
        self._wiring.launch(passage)

    def _cannot(self, packet: Packet) -> tuple[Disposition, Decision] | None:
        """Return why the instance itself cannot send a packet."""
        mine = self.setup_for(packet.destination)
        if mine is None or not mine.addresses:
            text = f"{self.name} has no address: no DHCP server has an entry for it"
            if packet.version == V6:
                text = f"{self.name} has no IPv6 address: no router of its host's tells it one"
            return Disposition.NO_LEASE, Decision(Stage.DHCP, "eth0", text)
        if not any(packet.destination in prefix for prefix, _ in mine.routes):
            text = f"{self.name} has no route to {packet.destination}"
            return Disposition.NO_ROUTE, Decision(Stage.INSTANCE, "eth0", text)
        if packet.size > mine.mtu:
            text = f"{packet.size} bytes do not fit into the network's MTU of {mine.mtu}"
            return Disposition.MTU, Decision(Stage.INSTANCE, "eth0", text)
        return None

    def _hop(self, packet: Packet) -> IpAddress:
        mine = self.setup_for(packet.destination)
        assert mine is not None
        hops = (hop for prefix, hop in mine.routes if packet.destination in prefix)
        return next(hops) or packet.destination

    def _ask(self, address: IpAddress, packet: Packet) -> Passage:
        """Ask who has an address: in IPv6 with the waiting packet's source, if it is own."""
        mine = self.setup_for(address)
        assert mine is not None
        if isinstance(address, IPv6Address):
            source = packet.source if packet.source in mine.addresses else mine.addresses[0]
            return self._emit(solicitation(self.port.mac, source, address))
        question = Arp(False, self.port.mac, mine.addresses[0], address)  # noqa: FBT003 - a request
        return self._emit(Frame(self.port.mac, BROADCAST, question))

    def _begin(self, frame: Frame) -> Passage:
        passage = Passage(self.name, INSTANCE, frame, frame)
        passage.saw("eth0", "out")
        return passage

    def _emit(self, frame: Frame) -> Passage:
        passage = self._begin(frame)
        tap = tap_name(self.port.id)
        passage.outs += self._wiring.to_host(self._host.name, tap, frame)
        return passage

    def broadcast(self, packet: Packet) -> None:
        """Send a packet to everybody on the segment."""
        self._wiring.launch(self._emit(Frame(self.port.mac, BROADCAST, packet)))


Joints = Mapping[int | None, tuple[tuple[str, int | None], ...]]
"""By a tag, the switches that its segment is joined with, and the tag that it has there."""


class SwitchNode:
    """The wire between trunks: one port per host, tagged frames as they are.

    And one per other switch that has a segment of the same network, joined with this one's: a
    frame gets the tag that it has there. Each is joined with each, so none is handed on twice.
    """

    def __init__(
        self, name: str, trunks: Mapping[str, str], joints: Joints, wiring: Wiring
    ) -> None:
        self.name = name
        self._trunks = trunks
        self._joints = joints
        self._wiring = wiring
        self._learned: dict[str, str] = {}

    def receive(self, port: str, frame: Frame) -> Passage:
        """Return what the switch does with a frame; its ports go by hosts' or switches' names."""
        passage = Passage(self.name, SWITCH, frame, frame)
        passage.saw(port, "in")
        if self._prunes(passage, port):
            return passage
        self._learned[frame.source_mac] = port
        known = self._learned.get(frame.destination_mac)
        joined = {} if port not in self._trunks else dict(self._joints.get(frame.tag, ()))
        for target in [known] if known else [*self._trunks, *joined]:
            mine = target in self._trunks or target in joined
            if target == port or not mine or self._prunes(passage, target):
                continue
            passage.saw(target, "out")
            if target in joined:
                there = replace(frame, tag=joined[target])
                passage.outs += self._wiring.across(self.name, target, there)
            else:
                passage.outs += self._wiring.to_host(target, self._trunks[target], frame)
        return passage

    def _prunes(self, passage: Passage, port: str) -> bool:
        tag = passage.frame.tag
        if tag not in self._wiring.cloud.pruned.get(port, ()):
            return False
        what = "frames without a tag" if tag is None else f"tag {tag}"
        text = f"the switch does not carry {what} on {port}'s port"
        if self._learned.get(passage.frame.destination_mac, port) == port:
            passage.end(Disposition.NO_VLAN, Decision(Stage.TAG, port, text))
        return True


class InternetNode:
    """The wire behind the uplinks, the provider's router on it, and all that it leads to."""

    def __init__(self, internet: Internet, hosts: dict[str, TracedHost], wiring: Wiring) -> None:
        self.name = internet.name
        self._internet = internet
        self._hosts = hosts
        self._wiring = wiring

    def receive(self, port: str, frame: Frame) -> Passage:
        """Return what becomes of a frame on the wire; its ports go by their hosts' names."""
        passage = Passage(self.name, INTERNET, frame, frame)
        passage.saw(port, "in")
        payload = frame.payload
        if frame.destination_mac in (BROADCAST, self._wiring.internet_mac()):
            passage.saw(self._internet.device, "in")
            if isinstance(payload, Arp):
                self._arp_in(passage, payload)
            else:
                self._ip_in(passage, payload)
        if frame.destination_mac != self._wiring.internet_mac():
            passage.saw(self._internet.device, "in")  # the wire is a bridge, and shows all
            self._across(passage, port)
        return passage

    def _across(self, passage: Passage, port: str | None) -> None:
        """Carry a frame to the host whose uplink it is for, or to all but its sender."""
        frame = passage.frame
        for name in self._hosts:
            mine = frame.destination_mac in (BROADCAST, self._wiring.uplink_mac(name))
            if name != port and mine and self._hosts[name].uplink:
                passage.saw(name, "out")
                passage.outs += self._wiring.to_host(name, self._hosts[name].uplink or "", frame)

    def _arp_in(self, passage: Passage, arp: Arp) -> None:
        if arp.target not in self._internet.own:
            return
        self._wiring.learn(self.name, self._internet.device, arp.sender, arp.sender_mac)
        if not arp.is_reply:
            mac = self._wiring.internet_mac()
            text = f"the provider's router has {arp.target} and answers"
            passage.decisions.append(Decision(Stage.ARP, self._internet.device, text))
            reply = Frame(mac, arp.sender_mac, Arp(True, mac, arp.target, arp.sender))  # noqa: FBT003 - a reply
            passage.then.append(lambda: self._wiring.launch(self._emit(reply)))

    def _ip_in(self, passage: Passage, packet: Packet) -> None:
        """Route a packet: to a host, to somebody outside, or back as an error."""
        if self._is_beyond(packet):
            text = f"{packet.destination} is beyond the uplink, in a prefix of the operator's own"
            decision = Decision(Stage.OUTSIDE, self._internet.device, text)
            passage.end(Disposition.UNKNOWN, decision)
        elif self._internet.has(packet.destination) and not self._owner(packet.destination):
            passage.fates.append(reached(passage, f"the Internet has {packet.destination}"))
            reply = following(packet)
            if reply is not None:
                passage.then.append(lambda: self.send(reply))
        elif any(packet.destination in prefix for prefix in PRIVATE):
            text = f"the provider's router has no way to the private {packet.destination}"
            passage.end(Disposition.NO_ROUTE, Decision(Stage.OUTSIDE, self._internet.device, text))
            if packet.role != "error":
                passage.then.append(lambda: self._refuse(packet))
        else:
            passage.change(replace(packet, ttl=packet.ttl - 1))
            self._forward(passage)

    def _is_beyond(self, packet: Packet) -> bool:
        """Return whether it depends on the operator's own routes what becomes of a packet.

        Instances keep their own source towards such destinations (snat_exempt), and the Internet
        would have no way back to it.
        """
        destination = packet.destination
        prefixes = (p for host in self._hosts.values() for p in host.config.snat_exempt)
        if not any(destination in prefix for prefix in prefixes):
            return False
        if self._near(destination) or self._owner(destination):
            return False
        is_untranslated = self._wiring.cloud.is_tenant(packet.source)
        return is_untranslated or not self._internet.has(destination)

    def _refuse(self, packet: Packet) -> None:
        """Tell a sender, if the router has an address where that is, to tell it from."""
        near = self._near(packet.source)
        if near is not None:
            self.send(error(packet, near.ip, HOST_UNREACHABLE))

    def _forward(self, passage: Passage) -> None:
        destination = passage.packet.destination
        mac = self._neighbour(passage.packet.source, destination)
        if mac is None:
            text = f"nobody outside answers for {destination}"
            decision = Decision(Stage.OUTSIDE, self._internet.device, text)
            passage.end(Disposition.NOBODY, decision)
            return
        passage.frame = Frame(self._wiring.internet_mac(), mac, passage.packet)
        passage.saw(self._internet.device, "out")
        self._across(passage, None)

    def send(self, packet: Packet) -> None:
        """Send a packet from somewhere on the Internet to a host's uplink."""
        frame = Frame(self._wiring.internet_mac(), "", packet)
        passage = Passage(self.name, INTERNET, frame, frame)
        passage.saw(self._internet.device, "out")
        self._forward(passage)
        passage.first = passage.frame
        self._wiring.launch(passage)

    def _owner(self, destination: IpAddress) -> str | None:
        """Return the host that answers for an address on the wire, if any does."""
        found = (name for name, host in self._hosts.items() if host.answers_for(destination))
        return next(found, None)

    def _neighbour(self, source: IpAddress, destination: IpAddress) -> str | None:
        """Return the uplink that has an address; asked for by ARP where the router is known.

        It asks with the packet's source where that is its own.
        """
        near = self._near(destination)
        if near is None:
            owner = self._owner(destination)
            return None if owner is None else self._wiring.uplink_mac(owner)
        mac = self._wiring.internet_mac()

        def ask() -> Passage:
            own = source if source in self._internet.own else near.ip
            question = Arp(False, mac, own, destination)  # noqa: FBT003 - a request
            return self._emit(Frame(mac, BROADCAST, question))

        return self._wiring.neighbour(self.name, self._internet.device, destination, ask)

    def _near(self, address: IpAddress) -> IPv4Interface | None:
        return next((r for r in self._internet.routers if address in r.network), None)

    def _emit(self, frame: Frame) -> Passage:
        passage = Passage(self.name, INTERNET, frame, frame)
        passage.saw(self._internet.device, "out")
        self._across(passage, None)
        return passage
