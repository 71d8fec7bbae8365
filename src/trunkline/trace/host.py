"""What a host's kernel does with a frame, read off its desired state.

The order of things is the kernel's: bridge prerouting; there, for IPv4 on a bridge with
nf_call_iptables, the inet hooks; the bridging decision; routing with its hooks; neighbours; out
by a bridge's ports or the uplink. Source: net/bridge/br_input.c, br_netfilter_hooks.c,
net/ipv4/ip_input.c, ip_forward.c, ip_output.c. Decides nothing of its own about policy: every
verdict is a rule's, a route's or an entry's of the state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from trunkline.hoststate import Bridge, Cable, Chain, Table
from trunkline.trace import explain, nft
from trunkline.trace.cloud import TracedHost
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
    BROADCAST,
    DHCP_SERVER,
    EVERYBODY,
    FRAGMENTATION_NEEDED,
    HOST_UNREACHABLE,
    REJECTIONS,
    Arp,
    Frame,
    Packet,
    error,
)
from trunkline.trace.passage import Passage
from trunkline.trace.steps import HOST, Decision, Disposition, Stage
from trunkline.trace.wiring import Wiring

SPACE = "a router of its own, in a network namespace of its own, which no walk enters yet"
"""What ends a walk as unknown: of such a router it is not said what it does."""


class HostNode:
    """One host, with what a walk makes it remember: connections, neighbours, MACs."""

    def __init__(self, host: TracedHost, wiring: Wiring) -> None:
        self.host = host
        self.name = host.name
        self._state = host.state
        self._wiring = wiring
        self._connections = Connections()
        self._learned: dict[tuple[str, str], str] = {}
        self._chains: dict[tuple[str, str], list[tuple[Table, Chain]]] = {}

    # --- coming in ----------------------------------------------------------------------------

    def receive(self, port: str, frame: Frame) -> Passage:
        """Return what becomes of a frame that came in by a NIC or a tap."""
        passage = Passage(self.name, HOST, frame, frame)
        passage.saw(port, "in", self._owner(port))
        if frame.tag is not None:
            self._from_trunk(passage, port)
        elif port == self.host.uplink:
            self._from_uplink(passage)
        elif port in self._state.untagged:
            self._into_bridge(passage, self._state.untagged[port], port)
        else:
            self._from_tap(passage, port)
        return passage

    def _from_trunk(self, passage: Passage, trunk: str) -> None:
        tag = passage.frame.tag
        for vlan in self._state.vlans.values():
            if (vlan.trunk, vlan.vlan_id) == (trunk, tag) and vlan.up:
                passage.frame = replace(passage.frame, tag=None)
                passage.saw(vlan.name, "in")
                self._into_bridge(passage, vlan.bridge, vlan.name)
                return
        text = f"has no VLAN device for tag {tag} on {trunk}"
        passage.end(Disposition.NO_VLAN, Decision(Stage.TAG, trunk, text))

    def _from_tap(self, passage: Passage, tap: str) -> None:
        plug = self._state.plugs.get(tap)
        if plug is None or plug.bridge is None:
            text = f"{tap} is plugged into no bridge"
            passage.end(Disposition.UNPLUGGED, Decision(Stage.BRIDGE, tap, text))
            return
        self._into_bridge(passage, plug.bridge, tap)

    def _from_uplink(self, passage: Passage) -> None:
        assert self.host.uplink is not None
        payload = passage.frame.payload
        if isinstance(payload, Arp):
            self._arp_in(passage, self.host.uplink, payload)
        elif passage.frame.destination_mac == self._wiring.uplink_mac(self.name):
            self._ip_in(passage, self.host.uplink)

    def _into_bridge(self, passage: Passage, name: str | None, port: str) -> None:
        bridge = self._state.bridges.get(name or "")
        if bridge is None or not bridge.up:
            text = f"{port} is in no bridge that is up"
            passage.end(Disposition.NO_BRIDGE, Decision(Stage.BRIDGE, port, text))
            return
        if not self._bridge_hook(passage, "prerouting", port, None):
            return
        meant = passage.frame.payload
        if self._is_filtered(passage, bridge) and not self._prerouting(passage, bridge.name):
            return
        passage.saw(bridge.name, "in")
        self._learned[bridge.name, passage.frame.source_mac] = port
        if passage.seen_by_ip and _redirected(meant, passage.packet):
            self._turn(passage, bridge)
        self._bridge(passage, bridge, port)

    def _is_filtered(self, passage: Passage, bridge: Bridge) -> bool:
        return bridge.nf_call_iptables and isinstance(passage.frame.payload, Packet)

    def _turn(self, passage: Passage, bridge: Bridge) -> None:
        """Give a frame whose destination was translated the MAC that it now needs.

        A new destination on the same bridge is reached by bridging ("bridged DNAT"), any other
        by routing.
        """
        route = self._route(passage.packet.destination)
        if route is not None and route[1] == bridge.name:
            mac = self._neighbour(bridge.name, passage.packet.destination)
            passage.frame = replace(passage.frame, destination_mac=mac or bridge.mac)
            passage.saw(bridge.name, "out")
        else:
            passage.frame = replace(passage.frame, destination_mac=bridge.mac)

    # --- bridging -----------------------------------------------------------------------------

    def _bridge(self, passage: Passage, bridge: Bridge, port: str | None) -> None:
        """Forward a frame between a bridge's ports, take it in, or both.

        Args:
            passage: The frame's passage.
            bridge: The bridge.
            port: Where it came in; None if this host sent it.
        """
        frame = passage.frame
        if self._is_for_space(bridge.name, frame):
            raise nft.Unknown(SPACE)
        if frame.destination_mac == bridge.mac and port is not None:
            self._take_in(passage, bridge)
            return
        known = self._learned.get((bridge.name, frame.destination_mac))
        targets = [known] if known else self._ports(bridge.name)
        if port is not None and frame.destination_mac == BROADCAST:
            self._take_in(passage, bridge)
            passage.frame = frame
        for target in targets:
            if target != port or self._hairpin(target):
                self._forward_frame(passage, bridge, port, target)
            elif known:
                text = f"{bridge.name} sends nothing back out of {port}, where it came in"
                passage.end(Disposition.NOT_FORWARDED, Decision(Stage.BRIDGE, port, text))

    def _is_for_space(self, bridge: str, frame: Frame) -> bool:
        """Return whether a frame is for a gateway in a space, or for a DHCP server there."""
        payload = frame.payload
        asks = isinstance(payload, Packet) and payload.destination_port == DHCP_SERVER
        served = asks and bridge not in self._state.dhcp and bridge in self.host.dhcp
        gate = self.host.gates.get(bridge)
        return served or (gate is not None and gate.mac == frame.destination_mac)

    def _ports(self, bridge: str) -> list[str]:
        taps = [p.tap for p in self._state.plugs.values() if p.bridge == bridge and p.up]
        present = [tap for tap in taps if self._wiring.is_told(self.name, tap)]
        wires = [v.name for v in self._state.vlans.values() if v.bridge == bridge]
        wires += [trunk for trunk, own in self._state.untagged.items() if own == bridge]
        gates = [c.name for c in self._state.cables.values() if c.bridge == bridge]
        return present + gates + wires

    def _hairpin(self, port: str) -> bool:
        plug = self._state.plugs.get(port)
        return plug is not None and plug.hairpin

    def _forward_frame(
        self, passage: Passage, bridge: Bridge, port: str | None, target: str
    ) -> None:
        frame = passage.frame
        if port is None or self._may_pass(passage, bridge, port, target):
            self._out_of(passage, target)
        if passage.is_flood:
            passage.frame = frame

    def _may_pass(self, passage: Passage, bridge: Bridge, port: str, target: str) -> bool:
        if not self._bridge_hook(passage, "forward", port, target):
            return False
        if not self._is_filtered(passage, bridge):
            return True
        name = bridge.name
        return self._filter(passage, "forward", name, name) and self._postrouting(passage, name)

    def _out_of(self, passage: Passage, port: str) -> None:
        """Send a frame out of a bridge's port: to an instance, or to the trunk."""
        meant = passage.frame.payload
        if not self._bridge_hook(passage, "postrouting", None, port):
            return
        if port in self._state.cables:
            passage.saw(port, "out")
        elif port not in self._state.vlans and port not in self._state.untagged:
            passage.saw(port, "out", self._owner(port))
            passage.outs += self._wiring.to_instance(self.name, port, passage.frame)
        elif passage.frame.payload == meant:
            self._to_trunk(passage, port)
        else:  # another question than the one on the bridge, and told as one of its own
            other = Passage(self.name, HOST, passage.frame, passage.frame)
            self._to_trunk(other, port)
            passage.then.append(lambda: self._wiring.launch(other))

    def _to_trunk(self, passage: Passage, port: str) -> None:
        """Send a frame out of a VLAN device, which tags it, or of the trunk as it is."""
        frame, trunk = passage.frame, port
        passage.saw(port, "out")
        vlan = self._state.vlans.get(port)
        if vlan is not None:
            trunk = vlan.trunk
            passage.frame = replace(frame, tag=vlan.vlan_id)
            passage.saw(trunk, "out")
        passage.outs += self._wiring.to_switch(self.name, trunk, passage.frame)
        passage.frame = frame

    def _take_in(self, passage: Passage, bridge: Bridge) -> None:
        payload = passage.frame.payload
        if isinstance(payload, Arp):
            self._arp_in(passage, bridge.name, payload)
        else:
            self._ip_in(passage, bridge.name)

    def _owner(self, tap: str) -> str:
        return self._wiring.tap_owner(self.name, tap)

    # --- neighbours ---------------------------------------------------------------------------

    def _arp_in(self, passage: Passage, device: str, arp: Arp) -> None:
        """Take an ARP message in; a bridge answers for its own address only (arp_ignore)."""
        if arp.is_reply:
            # Whoever it names as the one who asked: arp_process in net/ipv4/arp.c.
            if passage.frame.destination_mac == self._mac(device):
                self._wiring.learn(self.name, device, arp.sender, arp.sender_mac)
            return
        if (device, arp.target) in self.host.in_spaces:
            self._answer(passage, device, arp)
            return
        own = self.host.own.get(arp.target)
        if own is None or device not in (own, self.host.uplink):
            return
        self._wiring.learn(self.name, device, arp.sender, arp.sender_mac)
        self._answer(passage, device, arp)

    def _answer(self, passage: Passage, device: str, arp: Arp) -> None:
        gate = self.host.gates.get(device)
        mac = gate.mac if gate else self._mac(device)
        text = f"{device} has {arp.target} and answers"
        link = self.host.own.get(arp.target, device)
        passage.decisions.append(Decision(Stage.ARP, device, text, f"{arp.target} dev {link}"))
        reply = Frame(mac, arp.sender_mac, Arp(True, mac, arp.target, arp.sender))  # noqa: FBT003 - a reply

        def send() -> None:
            own = self._from_gate(gate, reply) if gate else self._emit(device, reply)
            self._wiring.launch(own)

        passage.then.append(send)

    def _from_gate(self, gate: Cable, frame: Frame) -> Passage:
        """Return the passage of a frame that a gateway in a space sends."""
        passage = Passage(self.name, HOST, frame, frame)
        passage.saw(gate.name, "in")
        self._into_bridge(passage, gate.bridge, gate.name)
        return passage

    def _mac(self, device: str) -> str:
        bridge = self._state.bridges.get(device)
        return bridge.mac if bridge else self._wiring.uplink_mac(self.name)

    def _emit(self, device: str, frame: Frame) -> Passage:
        """Return the passage of a frame that this host itself sends by a device."""
        passage = Passage(self.name, HOST, frame, frame)
        self._transmit(passage, device)
        return passage

    def _transmit(self, passage: Passage, device: str) -> None:
        passage.saw(device, "out")
        bridge = self._state.bridges.get(device)
        if bridge is not None:
            self._bridge(passage, bridge, None)
        else:
            passage.outs += self._wiring.to_internet(self.name, passage.frame)

    def _neighbour(
        self, device: str, address: IPv4Address, hint: IPv4Address | None = None
    ) -> str | None:
        """Return the MAC of a neighbour, asked for by ARP if it is not known.

        A bridge asks with its own address (arp_announce), the uplink with the packet's source
        where that is the host's own, ``hint``.
        """
        mac = self._mac(device)
        usual = next((a for a, link in self.host.own.items() if link == device), None)
        source = hint if self.host.own.get(hint or address) == device else usual

        def ask() -> Passage | None:
            if source is None:
                return None
            question = Arp(False, mac, source, address)  # noqa: FBT003 - a request
            return self._emit(device, Frame(mac, BROADCAST, question))

        return self._wiring.neighbour(self.name, device, address, ask)

    # --- IP -----------------------------------------------------------------------------------

    def _ip_in(self, passage: Passage, iif: str) -> None:
        if not passage.seen_by_ip and not self._prerouting(passage, iif):
            return
        packet = passage.packet
        if packet.destination == EVERYBODY or packet.destination in self.host.own:
            self._input(passage, iif)
        else:
            self._forward(passage, iif)

    def _input(self, passage: Passage, iif: str) -> None:
        if not self._filter(passage, "input", iif, None):
            return
        packet = passage.packet
        if packet.destination_port == DHCP_SERVER:
            self._serve_lease(passage, iif)
            return
        floating = self._wiring.cloud.floating.get(packet.destination)
        if floating is not None:
            text = f"{floating.text} is not translated"
            decision = Decision(Stage.DNAT, iif, text, "", (floating,))
            passage.end(Disposition.NOT_TRANSLATED, decision)
            return
        text = f"{packet.destination} is the host's own; what answers there is not Trunkline's"
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
        if self._state.sysctls.get(f"net.ipv4.conf.{iif}.forwarding") != "1":
            text = f"forwarding is off on {iif}"
            passage.end(Disposition.NO_ROUTE, Decision(Stage.ROUTE, iif, text))
            return
        route = self._route(packet.destination)
        if route is None:
            text = f"there is no route to {packet.destination}"
            self._refuse(passage, Disposition.NO_ROUTE, Decision(Stage.ROUTE, iif, text), (3, 0))
            return
        oif = route[1]
        passage.decisions.append(explain.route(self.host, route, packet.destination))
        if packet.ttl <= 1:
            decision = Decision(Stage.ROUTE, iif, "its time to live is over")
            self._refuse(passage, Disposition.TTL, decision, (11, 0))
            return
        passage.change(replace(packet, ttl=packet.ttl - 1))
        if not self._fits(passage, oif) or not self._filter(passage, "forward", iif, oif):
            return
        if self._postrouting(passage, oif):
            self._leave(passage, oif)

    def _fits(self, passage: Passage, oif: str) -> bool:
        bridge = self._state.bridges.get(oif)
        if bridge is None or passage.packet.size <= bridge.mtu:
            return True
        text = f"{passage.packet.size} bytes do not fit into {oif}'s MTU of {bridge.mtu}"
        decision = Decision(Stage.ROUTE, oif, text, f"{oif} mtu {bridge.mtu}")
        self._refuse(passage, Disposition.MTU, decision, FRAGMENTATION_NEEDED)
        return False

    def _leave(self, passage: Passage, oif: str) -> None:
        """Send a routed packet to its next hop."""
        if oif in self._state.cables:
            raise nft.Unknown(SPACE)
        if oif == self.host.uplink:
            passage.fates += explain.exposure(self._wiring.cloud, self.host, passage)
        elif oif not in self._state.bridges:
            text = f"leaves by {oif}, which Trunkline knows nothing of"
            passage.end(Disposition.UNKNOWN, Decision(Stage.ROUTE, oif, text))
            return
        mac = self._next_hop(oif, passage.packet)
        if mac is None:
            text = f"nobody on {oif} answers for {passage.packet.destination}"
            decision = Decision(Stage.ARP, oif, text)
            self._refuse(passage, Disposition.NOBODY, decision, HOST_UNREACHABLE)
            return
        passage.frame = Frame(self._mac(oif), mac, passage.packet)
        self._transmit(passage, oif)

    def _next_hop(self, oif: str, packet: Packet) -> str | None:
        destination = packet.destination
        if oif != self.host.uplink:
            return self._neighbour(oif, destination)
        own = self.host.uplink_interface
        on_link = own is not None and destination in own.network
        hop = destination if on_link else self._wiring.router_of(self.host)
        return (
            self._wiring.internet_mac() if hop is None else self._neighbour(oif, hop, packet.source)
        )

    def _route(self, destination: IPv4Address) -> tuple[IPv4Network, str] | None:
        return next((r for r in self.host.routes if destination in r[0]), None)

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

    def _source_towards(self, destination: IPv4Address) -> IPv4Address | None:
        route = self._route(destination)
        link = route[1] if route else ""
        return next((a for a, own in self.host.own.items() if own == link), None)

    def _send(self, packet: Packet, tracked: Tracked) -> None:
        """Send a packet of the host's own."""
        route = self._route(packet.destination)
        if route is None:
            return
        oif = route[1]
        frame = Frame(self._mac(oif), "", packet)
        passage = Passage(self.name, HOST, frame, frame, tracked=tracked)
        if self._filter(passage, "output", None, oif) and self._postrouting(passage, oif):
            mac = self._next_hop(oif, passage.packet)
            passage.frame = replace(passage.frame, destination_mac=mac or "")
            passage.first = passage.frame
            self._transmit(passage, oif)
            self._wiring.launch(passage)

    # --- hooks --------------------------------------------------------------------------------

    def _prerouting(self, passage: Passage, iif: str) -> bool:
        passage.seen_by_ip = True
        passage.tracked = self._connections.track(passage.packet)
        return self._filter(passage, "prerouting", iif, None)

    def _postrouting(self, passage: Passage, oif: str) -> bool:
        passed = self._filter(passage, "postrouting", None, oif)
        if passed:
            self._connections.confirm(passage.tracked)
        return passed

    def _bridge_hook(
        self, passage: Passage, hook: str, port: str | None, target: str | None
    ) -> bool:
        for table, chain in self._at("bridge", hook):
            verdict = nft.evaluate(table, chain, nft.Context(passage.frame, port, target))
            if not self._heed(passage, verdict, target or port or ""):
                return False
            passage.frame = verdict.frame or passage.frame
        return True

    def _filter(self, passage: Passage, hook: str, iif: str | None, oif: str | None) -> bool:
        """Ask the IP hooks' chains in turn; translate where it is their turn."""
        for table, chain in self._at("inet", hook):
            tracked = passage.tracked
            context = nft.Context(passage.frame, iif, oif, tracked.state, tracked.status)
            if chain.hook is not None and chain.hook.kind == "nat":
                self._translate(passage, table, chain, context)
                continue
            verdict = nft.evaluate(table, chain, context)
            if not self._heed(passage, verdict, oif or iif or ""):
                return False
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
                tracked.entry.dnat(IPv4Address(verdict.argument))
            elif verdict.kind == nft.SNAT:
                tracked.entry.snat(IPv4Address(verdict.argument))
            decision = explain.translation(self._wiring.cloud, verdict, context)
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
                passage.decisions.append(
                    explain.filtered(self._wiring.cloud, self.host, verdict, device, passage)
                )
            return True
        if passage.is_flood:
            return False
        decision = explain.filtered(self._wiring.cloud, self.host, verdict, device, passage)
        disposition = explain.disposition(self._wiring.cloud, decision, verdict, passage)
        if verdict.kind == nft.REJECT and verdict.argument in REJECTIONS:
            self._refuse(passage, disposition, decision, REJECTIONS[verdict.argument])
        elif verdict.kind in (nft.DROP, nft.REJECT):
            passage.end(disposition, decision)
        else:
            raise nft.Unknown(f"{verdict.kind} in a filter chain: {verdict.rule!r}")
        return False


def _redirected(meant: Packet | Arp, packet: Packet) -> bool:
    return isinstance(meant, Packet) and meant.destination != packet.destination
