"""What a probe says of the switches: which tag they carry between which hosts, up to which size.

Judges what agents heard. Whether a path matters depends on who serves the network: a VLAN that
the switch does not carry to a host without that network harms nobody yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from trunkline.probe import Heard, Lane


class Carriage(StrEnum):
    """How the switches treat a VLAN from one host to another."""

    CARRIED = "carried"
    TOO_SMALL = "too small"  # short frames pass, those of the network's MTU do not
    NOT_CARRIED = "not carried"
    UNKNOWN = "unknown"  # one of the two did not take part


@dataclass(frozen=True, slots=True)
class Rank:
    """A host that takes part, and what it heard.

    Attributes:
        trunks: NIC by physical network.
        serves: Numbers of the lanes whose network the host serves.
        heard: None: its agent did not answer in time, or lost frames.
    """

    name: str
    trunks: Mapping[str, str]
    serves: frozenset[int]
    heard: tuple[Heard, ...] | None


@dataclass(frozen=True, slots=True)
class WirePath:
    """A segment from one host to another.

    Attributes:
        vlan_id: None: frames without a tag.
        largest: The largest payload that arrived, in bytes; 0 is none.
        wanted: The network's MTU.
        needed: Whether both hosts serve the network, the sender on this segment of it.
        other: The receiver's physical network, if it is on another segment of the network.
    """

    physical_network: str
    vlan_id: int | None
    source: str
    destination: str
    carriage: Carriage
    largest: int
    wanted: int
    needed: bool
    other: str = ""

    @property
    def text(self) -> str:
        """Return the path as a sentence."""
        what = _lane(self.vlan_id)
        way = f"{what[0].upper()}{what[1:]} on {self.physical_network}"
        way += f", {self.source} to {self.destination}"
        match self.carriage:
            case Carriage.CARRIED:
                return f"{way}: carried, frames of {self.wanted} bytes"
            case Carriage.TOO_SMALL:
                return f"{way}: carried up to {self.largest} bytes, {self.wanted} are needed"
            case Carriage.NOT_CARRIED if self.other:
                joint = f"the network's segments on {self.physical_network} and {self.other}"
                return f"{way}: not carried; {joint} are to be joined by what is between them"
            case Carriage.NOT_CARRIED:
                lacking = "the VLAN" if self.vlan_id is not None else "a native VLAN, the same one,"
                return f"{way}: not carried; allow {lacking} on both switch ports"
        return f"{way}: unknown, an agent did not answer"


@dataclass(frozen=True, slots=True)
class Stray:
    """Frames that arrived where they should not."""

    physical_network: str
    vlan_id: int | None
    source: str
    destination: str
    nic: str
    tag: int | None

    @property
    def text(self) -> str:
        """Return the finding as a sentence."""
        sent = f"frames that {self.source} sent on {_lane(self.vlan_id)} of {self.physical_network}"
        if self.source == self.destination:
            return f"{sent} come back to it by {self.nic}: there is a loop"
        how = "untagged" if self.tag is None else f"with tag {self.tag}"
        return f"{sent} reach {self.destination} by {self.nic} {how}"


@dataclass(frozen=True, slots=True)
class WireReport:
    """All that a probe found.

    Attributes:
        silent: Hosts whose agents did not answer in time.
    """

    paths: tuple[WirePath, ...]
    strays: tuple[Stray, ...]
    silent: tuple[str, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """Return, as sentences, what is wrong now: nothing here is no fault."""
        bad = [p.text for p in self.paths if p.needed and p.carriage is not Carriage.CARRIED]
        lost = [f"host {name}: its agent did not answer in time" for name in self.silent]
        return (*bad, *(stray.text for stray in self.strays), *lost)


def _lane(vlan_id: int | None) -> str:
    return "the untagged segment" if vlan_id is None else f"VLAN {vlan_id}"


def judge(lanes: tuple[Lane, ...], ranks: tuple[Rank, ...]) -> WireReport:
    """Return what the hosts' hearing amounts to; a rank's place is its number as a sender."""
    arrived: dict[tuple[int, int, int], int] = {}
    strays: set[Stray] = set()
    joined = _joined(lanes)
    for receiver, rank in enumerate(ranks):
        for one in rank.heard or ():
            sender, lane = one.frame.sender, one.frame.lane
            if sender >= len(ranks) or lane >= len(lanes):
                continue
            there = next((n for n in joined[lane] if _is_on(one, lanes[n], rank)), None)
            if there is None or (sender == receiver and there == lane):
                strays.add(_stray(one, lanes[lane], ranks[sender], rank))
            elif sender != receiver:
                key = sender, receiver, lane
                arrived[key] = max(arrived.get(key, 0), one.frame.size)
    paths = tuple(_paths(lanes, joined, ranks, arrived))
    silent = tuple(rank.name for rank in ranks if rank.heard is None)
    return WireReport(paths, tuple(sorted(strays, key=lambda stray: stray.text)), silent)


def _is_on(heard: Heard, lane: Lane, receiver: Rank) -> bool:
    trunk = receiver.trunks.get(lane.physical_network)
    return heard.tag == lane.vlan_id and heard.nic == trunk


def _joined(lanes: Sequence[Lane]) -> list[tuple[int, ...]]:
    """Return, for each lane, its own number and those of its network's other segments."""
    networks: dict[str, list[int]] = {}
    for number, lane in enumerate(lanes):
        networks.setdefault(lane.network, []).append(number)
    return [
        (number, *(n for n in networks[lane.network] if n != number and lane.network))
        for number, lane in enumerate(lanes)
    ]


def _stray(heard: Heard, lane: Lane, sender: Rank, receiver: Rank) -> Stray:
    return Stray(
        lane.physical_network, lane.vlan_id, sender.name, receiver.name, heard.nic, heard.tag
    )


def _paths(
    lanes: Sequence[Lane],
    joined: Sequence[tuple[int, ...]],
    ranks: tuple[Rank, ...],
    arrived: Mapping[tuple[int, int, int], int],
) -> Iterable[WirePath]:
    for number, lane in enumerate(lanes):
        there = [i for i, rank in enumerate(ranks) if lane.physical_network in rank.trunks]
        beyond = {
            i: lanes[other].physical_network
            for other in joined[number][1:]
            for i, rank in enumerate(ranks)
            if other in rank.serves
        }
        for a in there:
            for b in (*there, *(beyond.keys() - there)):
                if a != b:
                    served = number in ranks[a].serves and bool(ranks[b].serves & {*joined[number]})
                    path = _path(lane, ranks[a], ranks[b], arrived.get((a, b, number), 0))
                    yield replace(path, needed=served, other=beyond.get(b, ""))


def _path(lane: Lane, source: Rank, destination: Rank, largest: int) -> WirePath:
    """Return what is known of a path; whether it is needed is not said yet."""
    wanted = lane.sizes[-1]
    if source.heard is None or destination.heard is None:
        carriage = Carriage.UNKNOWN
    elif not largest:
        carriage = Carriage.NOT_CARRIED
    else:
        carriage = Carriage.CARRIED if largest >= wanted else Carriage.TOO_SMALL
    return WirePath(
        lane.physical_network,
        lane.vlan_id,
        source.name,
        destination.name,
        carriage,
        largest,
        wanted,
        needed=False,
    )


def pruned(paths: Iterable[WirePath]) -> dict[str, frozenset[int | None]]:
    """Return the tags that no other host could exchange with a host, either way, by host.

    None stands for frames without one.
    Between two hosts that is both of them: which port prunes cannot be told from outside.
    """
    lost: dict[str, set[int | None]] = {}
    kept: dict[str, set[int | None]] = {}
    for path in paths:
        found = lost if path.carriage is Carriage.NOT_CARRIED else kept
        for host in (path.source, path.destination):
            found.setdefault(host, set()).add(path.vlan_id)
    return {
        host: frozenset(tags - kept.get(host, set()))
        for host, tags in lost.items()
        if tags - kept.get(host, set())
    }
