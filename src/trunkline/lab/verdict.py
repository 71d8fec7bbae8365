"""What was captured against what should have been: checks, and the laws that always hold.

Pure. A check that examined nothing says so in its evidence; a law is about every frame of a
capture, also those that nobody looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_network
from typing import Any

from trunkline.lab.packets import Frame
from trunkline.lab.predict import Prediction
from trunkline.lab.topology import UNTAGGED
from trunkline.lab.walk import Cast, Select
from trunkline.model import IpAddress
from trunkline.trace.data import outline
from trunkline.trace.steps import HOST, INSTANCE, INTERNET, Step
from trunkline.trace.tell import prose

PRIVATE = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)  # RFC 1918, RFC 4193


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation and what became of it."""

    text: str
    passed: bool
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Act:
    """A part of a scenario: something was done, this was seen, and this it means.

    Attributes:
        predictions: What the tracer said of each probe beforehand, held against the frames.
        remarks: What a reader of the article should know beside it.
        frames: All that was captured meanwhile.
    """

    title: str
    steps: tuple[Step, ...]
    checks: tuple[Check, ...]
    frames: tuple[Frame, ...]
    predictions: tuple[Prediction, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A scenario as it was played."""

    key: str
    title: str
    acts: tuple[Act, ...]

    @property
    def passed(self) -> bool:
        """Return whether every check of every act passed, and there was one."""
        checks = [check for act in self.acts for check in act.checks]
        return bool(checks) and all(check.passed for check in checks)

    def data(self) -> dict[str, Any]:
        """Return the report as plain data; frames are left to ``--pcap``."""
        return {
            "scenario": self.key,
            "title": self.title,
            "passed": self.passed,
            "acts": [_act_data(act) for act in self.acts],
        }


def _act_data(act: Act) -> dict[str, Any]:
    return {
        "title": act.title,
        "remarks": list(act.remarks),
        "steps": [outline(step) for step in act.steps],
        "walk": [prose(step) for step in act.steps],
        "predicted": [_prediction_data(one) for one in act.predictions],
        "checks": [
            {"text": c.text, "passed": c.passed, "evidence": c.evidence} for c in act.checks
        ],
    }


def _prediction_data(prediction: Prediction) -> dict[str, Any]:
    return {
        "disposition": prediction.trace.disposition.value,
        "sentence": prediction.trace.sentence,
        "steps": [outline(step) for step in prediction.trace.steps],
        "deviations": [one.text for one in prediction.deviations],
    }


@dataclass(frozen=True, slots=True)
class Seen:
    """Frames to ask questions of; each question narrows them down."""

    frames: tuple[Frame, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def of(self, select: Select, packet: str = "") -> Seen:
        """Return the sightings of packets that ``select`` names, and whose names begin so."""
        return self.where(lambda f: (select(f) or "").startswith(packet) and bool(select(f)))

    def on(self, node: str, device: str = "", direction: str = "") -> Seen:
        """Return the frames on a node, a device of it, and in one direction."""
        return self.where(
            lambda f: f.node == node and device in ("", f.device) and direction in ("", f.direction)
        )

    def where(self, condition: Callable[[Frame], bool]) -> Seen:
        """Return the frames for which something is true."""
        return Seen(tuple(f for f in self.frames if condition(f)))

    def nodes(self) -> set[str]:
        """Return the nodes on which any of them was seen."""
        return {f.node for f in self.frames}

    def tags(self) -> set[int | None]:
        """Return their tags; None stands for frames without one."""
        return {f.vlan_id for f in self.frames}

    def places(self) -> str:
        """Return where they were seen, as evidence."""
        places = dict.fromkeys(f"{f.node}:{f.device}" for f in self.frames)
        return f"seen on {', '.join(places)}" if places else "not seen anywhere"


@dataclass(frozen=True, slots=True)
class Ground:
    """What belongs to which segment, for the laws.

    Attributes:
        vlan_by_device: By (node, device): inside a segment's bridge.
        vlan_by_mac: Whose frames belong to which segment.
        trunks: By (node, device), hosts' NICs and switches' ports: what is added to a tag there,
            so that the segments of two trunks differ.
        uplink: The name of the hosts' external NIC.
        anycast: MAC and address of each gateway that is the same on every host.
        flat: Whether there is a segment without a tag, whose number is ``UNTAGGED``.
        joined: Numbers of networks by those of their further segments.
    """

    vlan_by_device: Mapping[tuple[str, str], int]
    vlan_by_mac: Mapping[str, int]
    trunks: Mapping[tuple[str, str], int]
    uplink: str
    anycast: frozenset[tuple[str, IPv4Address]] = frozenset()
    flat: bool = False
    joined: Mapping[int, int] = field(default_factory=dict)

    def vlan_of(self, frame: Frame) -> int | None:
        """Return the segment that a frame was seen on; None outside of all."""
        return self.vlan_by_device.get((frame.node, frame.device))


def on_trunk(frames: Seen, ground: Ground) -> Seen:
    """Return the frames on hosts' trunk NICs and on the switches' ports."""
    return frames.where(lambda f: (f.node, f.device) in ground.trunks)


def on_wire(frames: Seen, ground: Ground, cast: Cast) -> Seen:
    """Return the frames on hosts' external NICs and on the provider's ports."""
    return frames.where(
        lambda f: (
            (cast.roles[f.node] == HOST and f.device == ground.uplink)
            or (cast.roles[f.node] == INTERNET and f.device != "lo")
        )
    )


def inside(frames: Seen, ground: Ground, cast: Cast) -> Seen:
    """Return the frames on devices of segments: bridges, VLAN devices, taps, instances."""
    return frames.where(lambda f: ground.vlan_of(f) is not None or cast.roles[f.node] == INSTANCE)


def laws(frames: Seen, ground: Ground, cast: Cast, *, leak: bool = False) -> tuple[Check, ...]:
    """Judge what must never appear, over all frames of a capture.

    Args:
        frames: The whole capture.
        ground: What belongs where.
        cast: Who is who.
        leak: Whether a private destination on the external wire is what is to be shown.
    """
    within = inside(frames, ground, cast)
    trunk = on_trunk(frames, ground)
    checks = [
        _never("no tag inside a bridge", within, lambda f: f.vlan_id is not None),
        _never(
            "no frame of one tenant on another's segment",
            Seen((*within, *trunk)),
            lambda f: _is_astray(f, ground),
        ),
    ]
    if not ground.flat:
        text = "no frame without a tag on the trunk"
        checks.append(_never(text, trunk, lambda f: f.vlan_id is None))
    if ground.anycast:
        text = "no anycast gateway is a source on the trunk, nor asked for there"
        checks.append(_never(text, trunk, lambda f: _shows_anycast(f, ground)))
    if not leak:
        wire = on_wire(frames, ground, cast)
        checks.append(_never("no private address on the external wire", wire, _shows_private))
    return tuple(checks)


def _never(text: str, examined: Seen, wrong: Callable[[Frame], bool]) -> Check:
    found = examined.where(wrong)
    evidence = f"{len(found)} of {len(examined)} frames"
    if found:
        evidence += f", {found.places()}"
    return Check(text, not found, evidence)


def _is_astray(frame: Frame, ground: Ground) -> bool:
    """Return whether a frame is on a segment that its sender does not belong to."""
    segment = ground.vlan_of(frame)
    trunk = ground.trunks.get((frame.node, frame.device))
    if trunk is not None and (frame.vlan_id is not None or ground.flat):
        number = trunk + (frame.vlan_id or UNTAGGED)
        segment = ground.joined.get(number, number)
    return segment is not None and ground.vlan_by_mac.get(frame.source_mac) != segment


def _shows_anycast(frame: Frame, ground: Ground) -> bool:
    """Return whether a frame has a gateway's MAC or address where others learn from it.

    A switch learns a frame's source MAC; hosts learn an ARP message's sender, and answer its
    target.
    """
    macs = {mac for mac, _ in ground.anycast}
    shown = {address for _, address in ground.anycast}
    if frame.source_mac in macs:
        return True
    if frame.arp:
        return frame.arp.sender_mac in macs or bool({frame.arp.sender, frame.arp.target} & shown)
    return frame.ip is not None and frame.ip.source in shown


def _shows_private(frame: Frame) -> bool:
    return any(is_private(a) for a in addresses(frame))


def addresses(frame: Frame) -> tuple[IpAddress, ...]:
    """Return the addresses that a frame shows: of IP, ARP, and what an ICMP error quotes."""
    if frame.arp:
        return frame.arp.sender, frame.arp.target
    if frame.ip:
        return frame.ip.source, frame.ip.destination, *(frame.ip.quoted or ())
    return ()


def is_private(address: IpAddress) -> bool:
    """Return whether an address is of no use outside (RFC 1918, RFC 4193)."""
    return any(address in prefix for prefix in PRIVATE)


def reversed_path(there: Iterable[Step], back: Iterable[Step]) -> bool:
    """Return whether two walks pass the same nodes in opposite order."""
    return [s.node for s in there] == [s.node for s in back][::-1]
