"""One host's connection tracking, as far as the packets of one walk show it.

Decides what state a packet's connection is in, and remembers how it is translated. A connection
is in the table once its first packet got through (nf_conntrack_confirm). Source:
net/netfilter/nf_conntrack_core.c, nf_nat_core.c, nf_conntrack_proto_tcp.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from trunkline.model import IpAddress
from trunkline.trace.packets import (
    ECHO6_REPLY,
    ECHO6_REQUEST,
    ECHO_REPLY,
    ECHO_REQUEST,
    ICMP,
    ICMPV6,
    TCP,
    Packet,
)

NEW, ESTABLISHED, RELATED, INVALID = "new", "established", "related", "invalid"
ECHOES = {
    ECHO_REQUEST: ECHO_REPLY,
    ECHO_REPLY: ECHO_REQUEST,
    ECHO6_REQUEST: ECHO6_REPLY,
    ECHO6_REPLY: ECHO6_REQUEST,
}


class Ends(NamedTuple):
    """A connection's ends as one direction has them; of an ICMP query, its id and type."""

    protocol: int
    source: IpAddress
    destination: IpAddress
    source_port: int
    destination_port: int

    def turned(self) -> Ends:
        """Return what an answer has."""
        first, second = self.source_port, self.destination_port
        if self.protocol in (ICMP, ICMPV6):
            second = ECHOES.get(second, second)
        else:
            first, second = second, first
        return Ends(self.protocol, self.destination, self.source, first, second)


@dataclass
class Entry:
    """A connection: as its first packet was, as its answers will be, and in which zone."""

    original: Ends
    reply: Ends
    zone: int = 0
    status: set[str] = field(default_factory=set)
    answered: bool = False

    def dnat(self, to: IpAddress, port: int | None = None) -> None:
        """Have the connection go to another destination, and maybe port, than it says."""
        self.reply = self.reply._replace(source=to)
        if port is not None:
            self.reply = self.reply._replace(source_port=port)
        self.status.add("dnat")

    def snat(self, to: IpAddress) -> None:
        """Have the connection come from another source than it says."""
        self.reply = self.reply._replace(destination=to)
        self.status.add("snat")


@dataclass(frozen=True)
class Tracked:
    """What connection tracking says of one packet.

    Attributes:
        is_reply: It travels against the direction of the connection's first packet.
    """

    state: str
    entry: Entry | None = None
    is_reply: bool = False

    @property
    def status(self) -> frozenset[str]:
        """Return the connection's status, in nft's words."""
        return frozenset(self.entry.status) if self.entry else frozenset()


REPLIES = ((ECHO_REPLY, 0), (ECHO6_REPLY, 0))
UNTRACKED = Tracked(INVALID)
DISCOVERY = Tracked("untracked")
"""What neighbour discovery is (net/netfilter/nf_conntrack_proto_icmpv6.c, noct_valid_new)."""


class Connections:
    """A host's table."""

    def __init__(self) -> None:
        self._table: dict[tuple[int, Ends], tuple[Entry, bool]] = {}

    def track(self, packet: Packet, zone: int = 0) -> Tracked:
        """Return what a packet that comes in belongs to, in a zone."""
        if packet.target is not None:
            return DISCOVERY
        if packet.about is not None:
            found = self._table.get((zone, ends(packet.about).turned()))
            return Tracked(RELATED, *found) if found else UNTRACKED
        found = self._table.get((zone, ends(packet)))
        if found is None:
            return self._begin(packet, zone)
        entry, is_reply = found
        entry.answered = entry.answered or is_reply
        if packet.protocol == TCP and packet.flags == "A" and not entry.answered:
            return Tracked(INVALID)  # an ACK to a SYN-ACK that never came by here
        return Tracked(ESTABLISHED if entry.answered else NEW, entry, is_reply)

    def _begin(self, packet: Packet, zone: int) -> Tracked:
        if (packet.protocol == TCP and packet.flags != "S") or packet.icmp in REPLIES:
            return UNTRACKED
        one = ends(packet)
        return Tracked(NEW, Entry(one, one.turned(), zone))

    def confirm(self, tracked: Tracked) -> None:
        """Note a connection whose first packet got through."""
        if tracked.state == NEW and tracked.entry is not None:
            entry = tracked.entry
            self._table[entry.zone, entry.original] = (entry, False)
            self._table[entry.zone, entry.reply] = (entry, True)


def ends(packet: Packet) -> Ends:
    """Return a packet's ends."""
    ports = (packet.source_port or 0, packet.destination_port or 0)
    if packet.icmp is not None:
        ports = (packet.source_port or 0, packet.icmp[0])
    return Ends(packet.protocol, packet.source, packet.destination, *ports)


def with_destination(packet: Packet, tracked: Tracked) -> Packet:
    """Return a packet with the destination that its connection's translation gives it."""
    if tracked.entry is None:
        return packet
    one = tracked.entry
    ends = one.original if tracked.is_reply else one.reply
    about = packet.about and _from(packet.about, ends.source, ends.source_port)
    return replace(_to(packet, ends.source, ends.source_port), about=about)


def _from(packet: Packet, address: IpAddress, port: int) -> Packet:
    """Return a packet with another source, and source port if it has ports."""
    there = packet.icmp is None and packet.source_port is not None
    return replace(packet, source=address, source_port=port if there else packet.source_port)


def _to(packet: Packet, address: IpAddress, port: int) -> Packet:
    """Return a packet with another destination likewise."""
    there = packet.icmp is None and packet.destination_port is not None
    port_ = port if there else packet.destination_port
    return replace(packet, destination=address, destination_port=port_)


def with_source(packet: Packet, tracked: Tracked) -> Packet:
    """Return a packet with the source that its connection's translation gives it.

    An ICMP error has a source of its own: only what it quotes is translated, unless it comes
    from the connection's own end.
    """
    if tracked.entry is None:
        return packet
    one = tracked.entry
    before, after = (
        (one.reply.source, one.original.turned())
        if tracked.is_reply
        else (one.original.source, one.reply.turned())
    )
    if packet.about is None:
        return _from(packet, after.source, after.source_port)
    source = after.source if packet.source == before else packet.source
    about = _to(packet.about, after.source, after.source_port)
    return replace(packet, source=source, about=about)
