"""A flow that somebody asks about in a lab: predicted, and with a real probe compared.

Decides who is meant. A probe is sent by the instance itself, from its namespace.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from ipaddress import ip_address

from trunkline.advice import advise
from trunkline.errors import Invalid
from trunkline.lab.cloud import Seat
from trunkline.lab.diagnose import Diagnosis, HostsReadBack, diagnose
from trunkline.lab.drops import hearing_drops
from trunkline.lab.evidence import met
from trunkline.lab.predict import Prediction
from trunkline.lab.probe import NONCE_BYTES, PING_SIZE
from trunkline.lab.stage import Shot, Stage
from trunkline.lab.state import Lab
from trunkline.model import IpAddress
from trunkline.trace.packets import ICMP, ICMPV6, PROTOCOLS, TCP, UDP
from trunkline.trace.steps import Disposition, Trace
from trunkline.trace.walk import Flow, trace, trace_lease

INTERNET, LEASE = "internet", "dhcp"
PING_BYTES = 84  # as ping(8) sends
MTU = 1500  # of an instance's interface, unless its lease says less


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, in words.

    Attributes:
        source: An instance's name, or ``internet``.
        destination: An instance's name, or an address; ``dhcp`` asks for the source's lease. A
            name is its IPv6 address where the protocol is ICMPv6.
        protocol: A name or a number.
        size: Of the packet with its IP header, in bytes.
    """

    source: str
    destination: str
    protocol: str = "icmp"
    port: int | None = None
    source_address: str | None = None
    size: int = PING_BYTES

    @property
    def command(self) -> str:
        """Return what asks it live, as somebody would type it."""
        words = [self.source, self.destination]
        words += [] if self.protocol == "icmp" else ["--proto", self.protocol]
        words += [] if self.port is None else ["--port", str(self.port)]
        words += [] if self.size == PING_BYTES else ["--size", str(self.size)]
        return f"trunkline lab trace {' '.join(words)} --live"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a live trace found.

    Attributes:
        met: What the probe met, for people.
        drops: What the kernel said of packets of the probe that it dropped, as sentences.
    """

    prediction: Prediction
    met: str
    diagnosis: Diagnosis
    drops: tuple[str, ...] = ()


def predict(lab: Lab, asked: Question, *, with_advice: bool) -> Trace:
    """Return what the tracer says, on request with what to do about it.

    Raises:
        Invalid: The question names nobody, or contradicts itself.
    """
    stage = Stage(lab)
    cloud = stage.traced()
    if asked.destination == LEASE:
        return trace_lease(cloud, _seat(stage, asked).port_id)
    flow = _flow(stage, asked)
    found = trace(cloud, flow)
    return replace(found, advice=advise(cloud, flow)) if with_advice else found


def _flow(stage: Stage, asked: Question) -> Flow:
    source = None if asked.source == INTERNET else _seat(stage, asked)
    protocol = _protocol(asked)
    return Flow(
        source=None if source is None else source.port_id,
        destination=_address(stage, asked.destination, protocol),
        protocol=protocol,
        port=asked.port,
        source_address=None if asked.source_address is None else _parse(asked.source_address),
        size=asked.size,
    )


def _protocol(asked: Question) -> int:
    name = asked.protocol.lower()
    number = int(name) if name.isdecimal() else PROTOCOLS.get(name)
    if number is None or number > 255:  # noqa: PLR2004 - eight bits of the IP header
        raise Invalid(f"--proto {asked.protocol}: give a number or one of {', '.join(PROTOCOLS)}")
    if (number in (TCP, UDP)) != (asked.port is not None):
        need = "needs" if asked.port is None else "has no"
        raise Invalid(f"--proto {asked.protocol} {need} --port")
    return number


def _seat(stage: Stage, asked: Question) -> Seat:
    if asked.source not in stage.seats:
        raise Invalid(f"instance {asked.source}: the lab has {', '.join(stage.seats)}")
    return stage.seats[asked.source]


def _address(stage: Stage, text: str, protocol: int) -> IpAddress:
    if text not in stage.seats:
        return _parse(text)
    seat = stage.seats[text]
    if protocol != ICMPV6:
        return seat.address
    if seat.address6 is None:
        raise Invalid(f"instance {text} has no IPv6 address; ask by another protocol")
    return seat.address6


def _parse(text: str) -> IpAddress:
    try:
        return ip_address(text)
    except ValueError:
        raise Invalid(f"{text}: neither an instance of the lab nor an address") from None


def shoot(stage: Stage, hosts: HostsReadBack, asked: Question) -> Finding:
    """Predict, send a real probe, and say where what was seen is not as it must be.

    Raises:
        Invalid: The question names nobody, contradicts itself, or is none that a probe can ask.
    """
    if asked.destination == LEASE:
        port_id = _seat(stage, asked).port_id
        take = stage.lease(asked.source)
        heard = [step.packet for step in take.prediction.observed]
        found = diagnose(stage, hosts, take.prediction, lambda c: trace_lease(c, port_id))
        return Finding(take.prediction, heard[-1] if heard else "silence", found)
    flow = _flow(stage, asked)
    if flow.source is None or flow.source_address is not None:
        raise Invalid("--live: a probe is what an instance sends by itself: from no other source")
    nonce = secrets.token_bytes(NONCE_BYTES)
    try:
        with hearing_drops(stage, nonce) as drops:
            shot = _probe(stage, asked, flow, nonce)
    except OSError as error:  # its own kernel refuses: it has no route, or no address
        raise Invalid(f"--live: {asked.source} cannot send that: {error.strerror}") from error
    found = diagnose(stage, hosts, shot.prediction, lambda cloud: trace(cloud, flow))
    return Finding(shot.prediction, met(shot), found, tuple(drops))


def _probe(stage: Stage, asked: Question, flow: Flow, nonce: bytes) -> Shot:
    destination, own = flow.destination, stage.seats[asked.source]
    if destination in (own.address, own.address6):
        raise Invalid(f"--live: {asked.source} has {destination}: nothing leaves it")
    predicted = trace(stage.traced(), flow)
    answers = (step.part == "error" for step in predicted.steps)
    hope = predicted.disposition is Disposition.DELIVERED or any(answers)
    if flow.protocol in (ICMP, ICMPV6):
        size = _ping_size(asked)
        return stage.ping(asked.source, destination, size=size, hope=hope, nonce=nonce)
    if flow.protocol not in (TCP, UDP) or flow.port is None:
        raise Invalid("--live: probes are icmp, tcp and udp")
    ends = asked.source, _listener(stage, destination), destination
    if flow.protocol == UDP:
        return stage.udp(*ends, port=flow.port, hope=hope, nonce=nonce)
    return stage.tcp(*ends, port=flow.port, hope=hope)


def _ping_size(asked: Question) -> int:
    if not PING_SIZE <= asked.size <= MTU:
        text = f"a probe has {PING_SIZE} to {MTU} bytes, as an instance's interface sends it"
        raise Invalid(f"--size {asked.size}: {text}")
    return asked.size // 2 * 2  # the checksum is of pairs


def _listener(stage: Stage, address: IpAddress) -> str:
    """Return the instance that an address stands for: it has to listen."""
    floating: dict[IpAddress, str] = {f.address: f.instance for f in stage.topology.floating_ips}
    seats = stage.seats.values()
    fixed = {own: seat.instance for seat in seats for own in (seat.address, seat.address6) if own}
    peer = fixed.get(address) or floating.get(address)
    if peer is None:
        raise Invalid(f"--live: nobody in the lab listens at {address}; try --proto icmp")
    return peer


def tell(found: Finding) -> str:
    """Return what a probe showed, held against the prediction, and where to look."""
    prediction = found.prediction
    lines = ["", f"A real probe met {found.met}."]
    lines += [f"deviates: {one.text}" for one in prediction.deviations]
    if not prediction.deviations:
        lines.append(f"All {len(prediction.comparison)} steps were seen as predicted.")
    lines += found.drops
    return "\n".join([*lines, *found.diagnosis.lines()])
