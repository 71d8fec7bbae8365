"""The step list, which is what a trace is; every form of it is made from these values.

A step is one node's passage of one packet. A walk told from captures (``lab.walk``) has the same
type, without decisions, so that the two compare field by field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from trunkline.model import IpAddress
from trunkline.trace.cloud import ApiObject
from trunkline.trace.nft import PassedOver

INSTANCE, HOST, SWITCH, INTERNET = "instance", "host", "switch", "internet"
ROUTER = "router"  # that of a project, in a network namespace of its own on a host


class Stage(StrEnum):
    """Where in a node something is decided."""

    INSTANCE = "instance"
    ANTI_SPOOFING = "anti-spoofing"
    EGRESS = "egress groups"
    DNAT = "destination translation"
    BRIDGE = "bridging"
    ROUTE = "routing"
    INPUT = "to the host"
    FORWARD = "forwarding"
    SNAT = "source translation"
    INGRESS = "ingress groups"
    TAG = "VLAN tag"
    ARP = "ARP"
    ND = "neighbour discovery"
    DHCP = "DHCP"
    OUTSIDE = "outside"


class Disposition(StrEnum):
    """What becomes of a flow. One of these, always."""

    DELIVERED = "delivered"
    ONE_WAY = "one way only"
    DENIED_EGRESS = "denied egress"
    DENIED_INGRESS = "denied ingress"
    SPOOFED = "spoofed"
    CLOSED_HOST = "host is closed"
    NOT_FORWARDED = "not forwarded"
    NO_BRIDGE = "no bridge on host"
    NO_ROUTE = "no route"
    LEAKED = "leaked"
    NO_UPLINK = "no uplink"
    NOT_TRANSLATED = "not translated"
    NOBODY = "nobody has the address"
    UNPLUGGED = "not plugged in"
    NO_VLAN = "VLAN not carried"
    NO_LEASE = "no lease"
    INVALID = "connection unknown"
    MTU = "too big"
    TTL = "TTL exceeded"
    DENIED = "denied"  # for a reason that the caller may not know (``narrow``)
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A packet on a device.

    Attributes:
        direction: ``in`` came from outside of the device into its node, ``out`` left by it.
        device: The device's name.
        owner: Whose tap it is, if it is one.
    """

    device: str
    direction: str
    tag: int | None = None
    owner: str = ""

    @property
    def label(self) -> str:
        """Return a name that is the same in every run: a tap goes by its owner."""
        return f"tap({self.owner})" if self.owner else self.device


@dataclass(frozen=True, slots=True)
class Header:
    """What a packet shows of itself: addresses, and with IP its time to live."""

    source: IpAddress
    destination: IpAddress
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that a node decided about a packet.

    Attributes:
        text: What, in words.
        kernel: The rule, route or entry that decided, as the kernel has it.
        objects: The API objects behind it.
        passed_over: Rules that were asked before and did not match.
    """

    stage: Stage
    device: str
    text: str
    kernel: str = ""
    objects: tuple[ApiObject, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One node's passage of one packet.

    Attributes:
        packet: What the packet is, the same text at every node.
        part: What it is to the flow: ``request``, ``reply``, ``confirm``, ``error``, ``arp`` or
            ``dhcp``.
        node_role: ``instance``, ``host``, ``router``, ``switch`` or ``internet``.
        path: Its sightings, in the order of the kernel's path; at least one.
        sender, sender_mac: Whom the frame came from: the owner of its source MAC, and that.
        receiver, receiver_mac: Whom it was sent on to.
        before, after: Its header as it came and as it left.
    """

    packet: str
    part: str
    node: str
    node_role: str
    path: tuple[Sighting, ...]
    sender: str
    sender_mac: str
    receiver: str
    receiver_mac: str
    before: Header | None
    after: Header | None
    decisions: tuple[Decision, ...] = ()

    @property
    def changes(self) -> tuple[str, ...]:
        """Return what the node did to the packet's header."""
        if self.before is None or self.after is None or self.part == "arp":
            return ()
        named = (
            ("TTL", self.before.ttl, self.after.ttl),
            ("source", self.before.source, self.after.source),
            ("destination", self.before.destination, self.after.destination),
        )
        return tuple(f"{name} {a} -> {b}" for name, a, b in named if a != b)

    @property
    def addresses(self) -> str:
        """Return source and destination as they were at the end of the passage."""
        return f"{self.after.source} > {self.after.destination}" if self.after else ""


@dataclass(frozen=True, slots=True)
class Advice:
    """A change that would open a flow.

    Attributes:
        text: What to change, and on which object.
        command: How, as somebody would type it.
        object: What would be changed.
        opens: What else would be open then and is not now, each as a sentence.
        unexamined: How many further flows of this kind there are that were not tried.
    """

    text: str
    command: str
    object: ApiObject
    opens: tuple[str, ...] = ()
    unexamined: int = 0


@dataclass(frozen=True, slots=True)
class Trace:
    """What becomes of a flow, and how.

    Attributes:
        sentence: The disposition in one sentence that names who and what.
        reasons: The decisions that it rests on, the deciding one first.
        steps: In the order in which they happen.
        assumptions: What was taken for granted, as sentences.
        revisions: Of each host's state, at which all this holds.
        advice: The changes that would open it, all of them together, if that was asked.
    """

    disposition: Disposition
    sentence: str
    reasons: tuple[Decision, ...]
    steps: tuple[Step, ...]
    assumptions: tuple[str, ...] = ()
    revisions: dict[str, int] = field(default_factory=dict)
    advice: tuple[Advice, ...] = ()
