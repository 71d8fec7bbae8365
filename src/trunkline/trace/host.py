"""What a host's kernel does with a frame, read off its desired state: bridges, and what is below.

The order of things is the kernel's: bridge prerouting; there, for IPv4 on a bridge with
nf_call_iptables, the inet hooks; the bridging decision; routing (``stack``); out by a bridge's
ports, a cable to a router's namespace, or the uplink. Source: net/bridge/br_input.c,
br_netfilter_hooks.c.
"""

from __future__ import annotations

from dataclasses import replace

from trunkline.hoststate import Bridge
from trunkline.model import IpAddress
from trunkline.trace import explain, nft
from trunkline.trace.cloud import TracedHost, Way, speaks_ipv6
from trunkline.trace.packets import Arp, Frame, Packet
from trunkline.trace.passage import Passage
from trunkline.trace.stack import Stack
from trunkline.trace.steps import HOST, Decision, Disposition, Stage
from trunkline.trace.wiring import Wiring


class HostNode(Stack):
    """One host, with what a walk makes it remember: besides IP's, MACs behind ports."""

    role = HOST

    def __init__(self, host: TracedHost, wiring: Wiring) -> None:
        super().__init__(host, wiring)
        self.host = host
        self._learned: dict[tuple[str, str], str] = {}

    # --- coming in ----------------------------------------------------------------------------

    def receive(self, port: str, frame: Frame) -> Passage:
        """Return what becomes of a frame that came in by a NIC or a tap."""
        frame = replace(frame, zone=0)
        passage = Passage(self.name, HOST, frame, frame)
        passage.saw(port, "in", self._owner(port))
        if frame.tag is not None:
            self._from_trunk(passage, port)
        elif port == self.host.uplink:
            self._from_wire(passage, port)
        elif port in self._state.cables:
            self._from_space(passage, port)
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

    def _from_space(self, passage: Passage, port: str) -> None:
        cable = self._state.cables[port]
        if cable.bridge is None:
            self._from_wire(passage, port)
        else:
            self._into_bridge(passage, cable.bridge, port)

    def _from_wire(self, passage: Passage, device: str) -> None:
        """Take in what comes by the uplink, or by the way from a space to the outside."""
        payload = passage.frame.payload
        if isinstance(payload, Arp):
            self._arp_in(passage, device, payload)
        elif passage.frame.destination_mac == self._mac(device) or (
            passage.frame.is_for_many and speaks_ipv6(self._state, device)
        ):
            self._ip_in(passage, device)

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
        payload = passage.frame.payload
        if not isinstance(payload, Packet):
            return False
        return bridge.nf_call_iptables if payload.version == nft.V4 else bridge.nf_call_ip6tables

    def _turn(self, passage: Passage, bridge: Bridge) -> None:
        """Give a frame whose destination was translated the MAC that it now needs.

        A new destination on the same bridge is reached by bridging ("bridged DNAT"), any other
        by routing.
        """
        packet = passage.packet
        way = self._way(packet.destination)
        if way is not None and way.link == bridge.name:
            mac = self._next_hop(way, bridge.name, packet)
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
        if frame.destination_mac == bridge.mac and port is not None:
            self._take_in(passage, bridge)
            return
        known = self._learned.get((bridge.name, frame.destination_mac))
        targets = [known] if known else self._ports(bridge.name)
        if port is not None and frame.is_for_many:
            self._take_in(passage, bridge)
            passage.frame = frame
        for target in targets:
            if target != port or self._hairpin(target):
                self._forward_frame(passage, bridge, port, target)
            elif known:
                text = f"{bridge.name} sends nothing back out of {port}, where it came in"
                passage.end(Disposition.NOT_FORWARDED, Decision(Stage.BRIDGE, port, text))

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
            passage.outs += self._wiring.to_space(self.name, port, passage.frame)
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
        elif payload.version == nft.V4 or speaks_ipv6(self._state, bridge.name):
            self._ip_in(passage, bridge.name)

    def _owner(self, tap: str) -> str:
        return self._wiring.tap_owner(self.name, tap)

    def _bridge_hook(
        self, passage: Passage, hook: str, port: str | None, target: str | None
    ) -> bool:
        for table, chain in self._at("bridge", hook):
            verdict = nft.evaluate(table, chain, nft.Context(passage.frame, port, target))
            if not self._heed(passage, verdict, target or port or ""):
                return False
            passage.frame = verdict.frame or passage.frame
        return True

    # --- what IP needs ------------------------------------------------------------------------

    def _mac(self, device: str) -> str:
        bridge = self._state.bridges.get(device)
        return bridge.mac if bridge else self._wiring.link_mac(self.name, device)

    def _mtu(self, device: str) -> int | None:
        bridge = self._state.bridges.get(device)
        return bridge.mtu if bridge else None

    def _forwards(self, device: str, version: int) -> bool:
        if version == nft.V4:
            return super()._forwards(device, version)
        key = self.host.facts.ipv6_forwarding
        value = self._state.sysctls.get(f"net.ipv6.conf.{device}.{key}")
        return value == "1" or (device == self.host.uplink and key == "forwarding")

    def _has(self, device: str, address: IpAddress) -> bool:
        return (device, address) in self.host.proxied or super()._has(device, address)

    def _transmit(self, passage: Passage, device: str) -> None:
        passage.saw(device, "out")
        bridge = self._state.bridges.get(device)
        if bridge is not None:
            self._bridge(passage, bridge, None)
        elif device in self._state.cables:
            passage.outs += self._wiring.to_space(self.name, device, passage.frame)
        else:
            passage.outs += self._wiring.to_internet(self.name, passage.frame)

    def _may_leave(self, passage: Passage, oif: str) -> bool:
        if oif == self.host.uplink and passage.packet.version == nft.V6:
            text = f"leaves by {oif} with its own source; what is beyond is the operator's routing"
            passage.end(Disposition.UNKNOWN, Decision(Stage.OUTSIDE, oif, text))
            return False
        if oif == self.host.uplink:
            passage.fates += explain.exposure(self._wiring.cloud, self.host, passage)
        elif oif not in self._state.bridges and oif not in self._state.cables:
            text = f"leaves by {oif}, which Trunkline knows nothing of"
            passage.end(Disposition.UNKNOWN, Decision(Stage.ROUTE, oif, text))
            return False
        return True

    def _next_hop(self, way: Way, oif: str, packet: Packet) -> str | None:
        if oif != self.host.uplink:
            return super()._next_hop(way, oif, packet)
        own, destination = self.host.uplink_interface, packet.destination
        on_link = own is not None and destination in own.network
        hop = destination if on_link else self._wiring.router_of(self.host)
        if hop is None:
            return self._wiring.internet_mac()
        return self._neighbour(oif, hop, packet.source)


def _redirected(meant: Packet | Arp, packet: Packet) -> bool:
    return isinstance(meant, Packet) and meant.destination != packet.destination
