"""One node's passage of one packet, while it happens; it becomes a step when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from trunkline.trace.conntrack import UNTRACKED, Tracked
from trunkline.trace.packets import Arp, Frame, Packet, is_for_many
from trunkline.trace.steps import Decision, Disposition, Header, Sighting, Step


@dataclass(frozen=True, slots=True)
class Delivery:
    """A frame that is on its way to a node, and the port of the node where it will come in."""

    node: str
    port: str
    frame: Frame


@dataclass(frozen=True, slots=True)
class Fate:
    """Where a packet of the flow came to its end, and why."""

    part: str
    node: str
    disposition: Disposition
    decision: Decision
    packet: Packet


@dataclass
class Passage:
    """What has happened so far.

    Attributes:
        first: The frame as it came, or as it was when its sender began.
        frame: As it is now.
        shown: As it was on the device that it passed last: what a capture could tell.
        outs: Where it goes next.
        then: What the node sends because of it, once the packet's walk is over.
        tracked: What the host's connection tracking says of it.
        seen_by_ip: Whether it has been through the prerouting hook, which is done once.
        verbose: Whether its decisions are of interest; copies of a flood have none.
    """

    node: str
    role: str
    first: Frame
    frame: Frame
    shown: Frame | None = None
    path: list[Sighting] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    outs: list[Delivery] = field(default_factory=list)
    then: list[Callable[[], None]] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)
    tracked: Tracked = UNTRACKED
    seen_by_ip: bool = False

    @property
    def packet(self) -> Packet:
        """Return the packet as it is now."""
        assert isinstance(self.frame.payload, Packet)
        return self.frame.payload

    @property
    def is_flood(self) -> bool:
        """Return whether it is a broadcast, whose copies decide nothing about the flow."""
        return self.frame.is_for_many

    def saw(self, device: str, direction: str, owner: str = "") -> None:
        """Note that the packet passes a device."""
        self.shown = self.frame
        sighting = Sighting(device, direction, self.frame.tag, owner)
        if sighting not in self.path:
            self.path.append(sighting)

    def change(self, payload: Packet) -> None:
        """Have the packet be another one from here on."""
        self.frame = replace(self.frame, payload=payload)

    def end(self, disposition: Disposition, decision: Decision) -> None:
        """Note that the packet goes no further here."""
        self.decisions.append(decision)
        if isinstance(self.frame.payload, Packet) and not self.is_flood:
            packet = self.frame.payload
            self.fates.append(Fate(packet.role, self.node, disposition, decision, packet))

    def step(self, owners: Mapping[str, str]) -> Step:
        """Return the step that it has become; ``owners`` says whose a MAC is."""
        start, end = self.first, self.shown or self.frame
        payload = start.payload
        return Step(
            packet=payload.name,
            part="arp" if isinstance(payload, Arp) else payload.role,
            node=self.node,
            node_role=self.role,
            path=tuple(sorted(self.path, key=kernel_order)),
            sender=_owner(start.source_mac, owners),
            sender_mac=start.source_mac,
            receiver=_owner(end.destination_mac, owners),
            receiver_mac=end.destination_mac,
            before=_header(start),
            after=_header(end),
            decisions=tuple(self.decisions),
        )


def _owner(mac: str, owners: Mapping[str, str]) -> str:
    return "everybody" if is_for_many(mac) else owners.get(mac, mac)


def _header(frame: Frame) -> Header:
    payload = frame.payload
    if isinstance(payload, Arp):
        return Header(payload.sender, payload.target)
    return Header(payload.source, payload.destination, payload.ttl)


def kernel_order(sighting: Sighting) -> tuple[int, str]:
    """Return where on its way through a host a packet passes a device, to sort by.

    NIC, VLAN device or tap, bridge, and out again: bridge, VLAN device or tap, NIC.
    """
    depth = 2 if sighting.device.startswith("br") else 1
    if sighting.device.startswith("eth"):
        depth = 0
    return (depth if sighting.direction == "in" else 5 - depth, sighting.label)
