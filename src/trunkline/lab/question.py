"""A flow that somebody asks about in a lab: predicted, and with a real probe compared.

Decides who is meant. A probe is sent by the instance itself, from its namespace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from trunkline.advice import advise
from trunkline.errors import Invalid
from trunkline.lab.evidence import met
from trunkline.lab.predict import Prediction
from trunkline.lab.stage import Shot, Stage
from trunkline.lab.state import Lab
from trunkline.trace.packets import ICMP, PROTOCOLS, TCP, UDP
from trunkline.trace.steps import Disposition, Trace
from trunkline.trace.walk import Flow, trace

INTERNET = "internet"


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, in words.

    Attributes:
        source: An instance's name, or ``internet``.
        destination: An instance's name, or an address.
        protocol: A name or a number.
    """

    source: str
    destination: str
    protocol: str
    port: int | None
    source_address: str | None
    size: int


def predict(lab: Lab, asked: Question, *, with_advice: bool) -> Trace:
    """Return what the tracer says, on request with what to do about it.

    Raises:
        Invalid: The question names nobody, or contradicts itself.
    """
    stage = Stage(lab)
    cloud, flow = stage.traced(), _flow(stage, asked)
    found = trace(cloud, flow)
    return replace(found, advice=advise(cloud, flow)) if with_advice else found


def _flow(stage: Stage, asked: Question) -> Flow:
    source = None if asked.source == INTERNET else stage.seats[_instance(stage, asked.source)]
    protocol = _protocol(asked)
    return Flow(
        source=None if source is None else source.port_id,
        destination=_address(stage, asked.destination),
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


def _instance(stage: Stage, name: str) -> str:
    if name not in stage.seats:
        raise Invalid(f"instance {name}: the lab has {', '.join(stage.seats)}")
    return name


def _address(stage: Stage, text: str) -> IPv4Address:
    return stage.seats[text].address if text in stage.seats else _parse(text)


def _parse(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise Invalid(f"{text}: neither an instance of the lab nor an IPv4 address") from None


def shoot(lab: Lab, asked: Question) -> tuple[Prediction, str]:
    """Predict, send a real probe, and return the comparison and what the probe met.

    Raises:
        Invalid: The question names nobody, contradicts itself, or is none that a probe can ask.
    """
    stage = Stage(lab)
    flow = _flow(stage, asked)
    if flow.source is None or flow.source_address is not None:
        raise Invalid("--live: a probe is what an instance sends by itself: from no other source")
    shot = _probe(stage, asked, flow)
    return shot.prediction, met(shot)


def _probe(stage: Stage, asked: Question, flow: Flow) -> Shot:
    hope = trace(stage.traced(), flow).disposition is Disposition.DELIVERED
    if flow.protocol == ICMP:
        return stage.ping(asked.source, flow.destination, hope=hope)
    if flow.protocol not in (TCP, UDP) or flow.port is None:
        raise Invalid("--live: probes are icmp, tcp and udp")
    send = stage.tcp if flow.protocol == TCP else stage.udp
    peer = _listener(stage, flow.destination)
    return send(asked.source, peer, flow.destination, port=flow.port, hope=hope)


def _listener(stage: Stage, address: IPv4Address) -> str:
    """Return the instance that an address stands for: it has to listen."""
    floating = {f.address: f.instance for f in stage.topology.floating_ips}
    fixed = {seat.address: seat.instance for seat in stage.seats.values()}
    peer = fixed.get(address) or floating.get(address)
    if peer is None:
        raise Invalid(f"--live: nobody in the lab listens at {address}; try --proto icmp")
    return peer


def tell(prediction: Prediction, met: str) -> str:
    """Return what a probe showed, held against the prediction."""
    wrong = prediction.deviations
    lines = ["", f"A real probe met {met}."]
    lines += [f"deviates: {one.text}" for one in wrong]
    if wrong:
        lines.append(f"The first place to look at: {wrong[0].node}.")
    else:
        lines.append(f"All {len(prediction.comparison)} steps were seen as predicted.")
    return "\n".join(lines)
