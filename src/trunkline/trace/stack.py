"""What one network namespace's IP does with a packet, read off its desired state.

A host is one such namespace, and so is each router of its own on it (``space``). The order of
things is the kernel's: prerouting, routing, input or forwarding, postrouting, neighbours. Source:
net/ipv4/ip_input.c, ip_forward.c, ip_output.c, arp.c. Decides nothing of its own about policy:
every verdict is a rule's, a route's or an entry's of the state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from trunkline.hoststate import Chain, HostState, Table
from trunkline.model import IpAddress
from trunkline.trace import explain, nft
from trunkline.trace.cloud import Place, Way
from trunkline.trace.conntrack import (
    NEW,
    RELATED,
    Connections,
    Tracked,
    with_destination,
    with_source,
)
from trunkline.trace.dhcp import offer
from trunkline.trace.packets import (
    ADVERTISE,
    BROADCAST,
    DHCP_SERVER,
    EVERYBODY,
    FRAGMENTATION_NEEDED,
    HOST_UNREACHABLE,
    NET_UNREACHABLE,
    REJECTIONS,
    REJECTIONS6,
    TTL_OVER,
    Arp,
    Frame,
    Packet,
    advertisement,
    error,
    solicitation,
)
from trunkline.trace.passage import Passage
from trunkline.trace.steps import Decision, Disposition, Stage
from trunkline.trace.wiring import Wiring

CONNTRACK_PRIORITY = -200  # NF_IP_PRI_CONNTRACK; what comes before it may choose the zone


class Stack(ABC):
    """One namespace, with what a walk makes it remember: connections and neighbours."""

    role: str
    """What it is to a step."""

    def __init__(self, place: Place, wiring: Wiring) -> None:
        self.name = place.name
        self._place = place
        self._wiring = wiring
        self._connections = Connections()
        self._chains: dict[tuple[str, str], list[tuple[Table, Chain]]] = {}

    @property
    def _state(self) -> HostState:
        return self._place.state

    @abstractmethod
    def _mac(self, device: str) -> str:
        """Return the MAC of a device, or what stands for one that nothing here knows."""

    @abstractmethod
    def _mtu(self, device: str) -> int | None:
        """Return a device's MTU, if it is known."""

    @abstractmethod
    def _transmit(self, passage: Passage, device: str) -> None:
        """Send a frame out of a device."""

    @abstractmethod
    def _may_leave(self, passage: Passage, oif: str) -> bool:
        """Note what is to be said of a packet that is routed out; return whether it goes."""

    # --- neighbours ---------------------------------------------------------------------------

    def _arp_in(self, passage: Passage, device: str, arp: Arp) -> None:
        """Take an ARP message in."""
        if arp.is_reply:
            # Whoever it names as the one who asked: arp_process in net/ipv4/arp.c.
            if passage.frame.destination_mac == self._mac(device):
                self._wiring.learn(self.name, device, arp.sender, arp.sender_mac)
            return
        if self._has(device, arp.target):
            self._wiring.learn(self.name, device, arp.sender, arp.sender_mac)
            self._answer(passage, device, arp)

    def _discovered(self, passage: Passage, device: str) -> None:
        """Take neighbour discovery in: a device answers for its own addresses (ndisc.c)."""
        packet, frame = passage.packet, passage.frame
        target = packet.target
        assert target is not None, "only neighbour discovery is about an address"
        if packet.icmp == (ADVERTISE, 0):
            if frame.destination_mac == self._mac(device):
                self._wiring.learn(self.name, device, target, frame.source_mac)
        elif self._place.own.get(target) == device:
            self._wiring.learn(self.name, device, packet.source, frame.source_mac)
            text = f"{device} has {target} and answers"
            passage.decisions.append(Decision(Stage.ND, device, text, f"{target} dev {device}"))
            mac = self._mac(device)
            reply = advertisement(mac, frame.source_mac, target, packet.source)
            passage.then.append(lambda: self._wiring.launch(self._emit(device, reply)))

    def _has(self, device: str, address: IpAddress) -> bool:
        """Return whether a device answers for an address (``arp_ignore``)."""
        own = self._place.own.get(address)
        return own is not None and (own == device or self._sysctl(device, "arp_ignore") == "0")

    def _sysctl(self, device: str, key: str) -> str:
        return self._state.sysctls.get(f"net.ipv4.conf.{device}.{key}", "0")

    def _answer(self, passage: Passage, device: str, arp: Arp) -> None:
        mac = self._mac(device)
        text = f"{device} has {arp.target} and answers"
        link = self._place.own.get(arp.target, device)
        passage.decisions.append(Decision(Stage.ARP, device, text, f"{arp.target} dev {link}"))
        reply = Frame(mac, arp.sender_mac, Arp(True, mac, arp.target, arp.sender))  # noqa: FBT003 - a reply
        passage.then.append(lambda: self._wiring.launch(self._emit(device, reply)))

    def _emit(self, device: str, frame: Frame) -> Passage:
        """Return the passage of a frame that is sent from here by a device."""
        passage = Passage(self.name, self.role, frame, frame)
        self._transmit(passage, device)
        return passage

    def _neighbour(self, device: str, address: IpAddress, hint: IpAddress) -> str | None:
        """Return the MAC of a neighbour, asked for by ARP if it is not known.

        A device asks with an address of its own or, unless its ``arp_announce`` is 2, with the
        source of the packet that waits, ``hint``, where that is one from here.
        """
        mac = self._mac(device)
        if isinstance(address, IPv6Address):
            return self._neighbour6(device, address)
        source = next((a for a, link in self._place.own.items() if link == device), None)
        if hint in self._place.own and self._sysctl(device, "arp_announce") == "0":
            source = hint

        def ask() -> Passage | None:
            if source is None:
                return None
            question = Arp(False, mac, source, address)  # noqa: FBT003 - a request
            return self._emit(device, Frame(mac, BROADCAST, question))

        return self._wiring.neighbour(self.name, device, address, ask)

    def _neighbour6(self, device: str, address: IPv6Address) -> str | None:
        """Return a neighbour's MAC likewise; the device asks with its link-local address."""
        mac = self._mac(device)
        own = (a for a, link in self._place.own.items() if link == device and a.is_link_local)
        source = next((a for a in own if a.version == address.version), None)

        def ask() -> Passage | None:
            return self._emit(device, solicitation(mac, source, address)) if source else None

        return self._wiring.neighbour(self.name, device, address, ask)

    # --- IP -----------------------------------------------------------------------------------

    def _ip_in(self, passage: Passage, iif: str) -> None:
        if not passage.seen_by_ip and not self._prerouting(passage, iif):
            return
        packet = passage.packet
        if packet.target is not None:
            if self._filter(passage, "input", iif, None):
                self._discovered(passage, iif)
        elif packet.destination == EVERYBODY or packet.destination in self._place.own:
            self._input(passage, iif)
        else:
            self._forward(passage, iif)

    def _input(self, passage: Passage, iif: str) -> None:
        packet = passage.packet
        floating = self._wiring.cloud.floating.get(packet.destination)
        if floating is not None:
            text = f"{floating.text} is not translated, and not for the host itself"
            decision = Decision(Stage.DNAT, iif, text, "", (floating,))
            passage.end(Disposition.NOT_TRANSLATED, decision)
            return
        if not self._filter(passage, "input", iif, None):
            return
        if packet.destination_port == DHCP_SERVER:
            self._serve_lease(passage, iif)
            return
        text = (
            f"{packet.destination} is the {self.role}'s own; what answers there is not Trunkline's"
        )
        passage.end(Disposition.UNKNOWN, Decision(Stage.INPUT, iif, text))

    def _serve_lease(self, passage: Passage, bridge: str) -> None:
        server = self._state.dhcp.get(bridge)
        if server is None:
            text = f"no DHCP server listens on {bridge}"
            passage.decisions.append(Decision(Stage.DHCP, bridge, text))
            return
        found = offer(server, passage.first.source_mac)
        if found is None:
            text = f"the DHCP server on {bridge} does not know this MAC and stays silent"
            passage.decisions.append(Decision(Stage.DHCP, bridge, text, "dhcp-ignore=tag:!known"))
            return
        text = f"the DHCP server on {bridge} knows this MAC and offers {found.address}"
        passage.decisions.append(Decision(Stage.DHCP, bridge, text, found.line))
        packet, client = found.packet(), passage.first.source_mac

        def send() -> None:
            self._wiring.learn(self.name, bridge, packet.destination, client)
            self._send(packet, Tracked(NEW))

        passage.then.append(send)

    def _forward(self, passage: Passage, iif: str) -> None:
        packet = passage.packet
        if not self._forwards(iif, packet.version):
            text = f"forwarding is off on {iif}"
            decision = Decision(Stage.ROUTE, iif, text, "", explain.owner(self._place))
            passage.end(Disposition.NO_ROUTE, decision)
            return
        way = self._way(packet.destination)
        if way is None or way.link is None:
            code = HOST_UNREACHABLE if way else NET_UNREACHABLE
            decision = explain.no_route(self._place, way, packet.destination, iif)
            self._refuse(passage, Disposition.NO_ROUTE, decision, code)
            return
        oif = way.link
        passage.decisions.append(explain.route(self._place, way, packet.destination))
        if packet.ttl <= 1:
            decision = Decision(Stage.ROUTE, iif, "its time to live is over")
            self._refuse(passage, Disposition.TTL, decision, TTL_OVER)
            return
        passage.change(replace(packet, ttl=packet.ttl - 1))
        if not self._fits(passage, oif) or not self._filter(passage, "forward", iif, oif):
            return
        if self._postrouting(passage, oif) and self._may_leave(passage, oif):
            self._leave(passage, way, oif)

    def _forwards(self, device: str, version: int) -> bool:
        """Return whether what comes in by a device is routed."""
        assert version == nft.V4, "IPv6 is switched on elsewhere on hosts and in spaces"
        return self._sysctl(device, "forwarding") == "1"

    def _fits(self, passage: Passage, oif: str) -> bool:
        mtu = self._mtu(oif)
        if mtu is None or passage.packet.size <= mtu:
            return True
        text = f"{passage.packet.size} bytes do not fit into {oif}'s MTU of {mtu}"
        decision = Decision(Stage.ROUTE, oif, text, f"{oif} mtu {mtu}")
        self._refuse(passage, Disposition.MTU, decision, FRAGMENTATION_NEEDED)
        return False

    def _leave(self, passage: Passage, way: Way, oif: str) -> None:
        """Send a routed packet to its next hop."""
        mac = self._next_hop(way, oif, passage.packet)
        if mac is None:
            text = f"nobody on {oif} answers for {way.via or passage.packet.destination}"
            stage = Stage.ARP if passage.packet.version == nft.V4 else Stage.ND
            decision = Decision(stage, oif, text)
            self._refuse(passage, Disposition.NOBODY, decision, HOST_UNREACHABLE)
            return
        passage.frame = Frame(self._mac(oif), mac, passage.packet)
        self._transmit(passage, oif)

    def _next_hop(self, way: Way, oif: str, packet: Packet) -> str | None:
        """Return the MAC of the neighbour that a packet is sent to; None if nobody answers."""
        return self._neighbour(oif, way.via or packet.destination, packet.source)

    def _way(self, destination: IpAddress) -> Way | None:
        return next((way for way in self._place.routes if destination in way.prefix), None)

    def _refuse(
        self, passage: Passage, disposition: Disposition, decision: Decision, icmp: tuple[int, int]
    ) -> None:
        """End a packet, and tell its sender by ICMP (never about an ICMP error, RFC 1122)."""
        packet, tracked = passage.packet, passage.tracked
        passage.end(disposition, decision)
        if packet.role == "error":
            return

        def tell() -> None:
            source = self._source_towards(packet.source)
            if source is not None:
                related = Tracked(RELATED, tracked.entry, not tracked.is_reply)
                self._send(error(packet, source, icmp), related)

        passage.then.append(tell)

    def _source_towards(self, destination: IpAddress) -> IpAddress | None:
        way = self._way(destination)
        link = way.link if way else None
        own = (a for a, on in self._place.own.items() if on == link)
        return next((a for a in own if a.version == destination.version), None)

    def _send(self, packet: Packet, tracked: Tracked) -> None:
        """Send a packet of the namespace's own."""
        way = self._way(packet.destination)
        if way is None or way.link is None:
            return
        oif = way.link
        frame = Frame(self._mac(oif), "", packet)
        passage = Passage(self.name, self.role, frame, frame, tracked=tracked)
        if self._filter(passage, "output", None, oif) and self._postrouting(passage, oif):
            mac = self._next_hop(way, oif, passage.packet)
            passage.frame = replace(passage.frame, destination_mac=mac or "")
            passage.first = passage.frame
            self._transmit(passage, oif)
            self._wiring.launch(passage)

    # --- hooks --------------------------------------------------------------------------------

    def _prerouting(self, passage: Passage, iif: str) -> bool:
        passage.seen_by_ip = True
        every = self._at("inet", "prerouting")
        early = [one for one in every if _priority(one) < CONNTRACK_PRIORITY]
        if not self._run(passage, early, iif, None):
            return False
        passage.tracked = self._connections.track(passage.packet, passage.frame.zone)
        return self._run(passage, every[len(early) :], iif, None)

    def _postrouting(self, passage: Passage, oif: str) -> bool:
        passed = self._filter(passage, "postrouting", None, oif)
        if passed:
            self._connections.confirm(passage.tracked)
        return passed

    def _filter(self, passage: Passage, hook: str, iif: str | None, oif: str | None) -> bool:
        return self._run(passage, self._at("inet", hook), iif, oif)

    def _run(
        self,
        passage: Passage,
        chains: Iterable[tuple[Table, Chain]],
        iif: str | None,
        oif: str | None,
    ) -> bool:
        """Ask the IP hooks' chains in turn; translate where it is their turn."""
        for table, chain in chains:
            tracked = passage.tracked
            asked = tracked.entry.original.destination if tracked.entry else None
            context = nft.Context(passage.frame, iif, oif, tracked.state, tracked.status, asked)
            if chain.hook is not None and chain.hook.kind == "nat":
                self._translate(passage, table, chain, context)
                continue
            verdict = nft.evaluate(table, chain, context)
            if not self._heed(passage, verdict, oif or iif or ""):
                return False
            passage.frame = verdict.frame or passage.frame
        return True

    def _translate(
        self, passage: Passage, table: Table, chain: Chain, context: nft.Context
    ) -> None:
        """Translate by a connection's entry; its first packet's verdict makes the entry."""
        tracked = passage.tracked
        assert chain.hook is not None
        if tracked.state == NEW and tracked.entry is not None and not tracked.is_reply:
            verdict = nft.evaluate(table, chain, context)
            if verdict.kind == nft.DNAT:
                tracked.entry.dnat(*explain.target(verdict))
            elif verdict.kind == nft.SNAT:
                tracked.entry.snat(IPv4Address(verdict.argument))
            decision = explain.translation(self._wiring.cloud, self._place, verdict, context)
            if decision is not None:
                passage.decisions.append(decision)
        before = passage.packet
        turn = with_source if chain.hook.hook in ("postrouting", "input") else with_destination
        passage.change(turn(before, tracked))
        if tracked.state != NEW and passage.packet != before:
            passage.decisions.append(explain.back(chain.hook.hook, before, passage.packet))

    def _at(self, family: str, hook: str) -> list[tuple[Table, Chain]]:
        key = (family, hook)
        if key not in self._chains:
            tables: Iterable[Table] = self._state.tables.values()
            self._chains[key] = nft.base_chains(tables, family, hook)
        return self._chains[key]

    def _heed(self, passage: Passage, verdict: nft.Verdict, device: str) -> bool:
        """Do what a filter chain says; return whether the packet goes on."""
        if verdict.kind in (nft.ACCEPT, nft.NONE):
            if verdict.kind == nft.ACCEPT and not passage.is_flood:
                passage.decisions.append(self._explained(verdict, device, passage))
            return True
        if passage.is_flood:
            return False
        decision = self._explained(verdict, device, passage)
        disposition = explain.disposition(
            self._wiring.cloud, self._place, decision, verdict, passage
        )
        is_v6 = isinstance(passage.frame.payload, Packet) and passage.packet.version == nft.V6
        rejections = REJECTIONS6 if is_v6 else REJECTIONS
        if verdict.kind == nft.REJECT and verdict.argument in rejections:
            self._refuse(passage, disposition, decision, rejections[verdict.argument])
        elif verdict.kind in (nft.DROP, nft.REJECT):
            passage.end(disposition, decision)
        else:
            raise nft.Unknown(f"{verdict.kind} in a filter chain: {verdict.rule!r}")
        return False

    def _explained(self, verdict: nft.Verdict, device: str, passage: Passage) -> Decision:
        return explain.filtered(self._wiring.cloud, self._place, verdict, device, passage)


def _priority(one: tuple[Table, Chain]) -> int:
    hook = one[1].hook
    return hook.priority if hook else 0
