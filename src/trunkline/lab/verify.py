"""One flow of each class of equal behaviour, sent for real: counted, judged and met alike.

``trunkline verify`` counts all pairs by classes. Whatever two classes are counted for, this sends
between two of their ends. Decides what stands for a class; what ought to come of it is trace's.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

from trunkline.errors import Conflict
from trunkline.kernel import netns
from trunkline.lab import probe, question
from trunkline.lab.diagnose import HostsReadBack
from trunkline.lab.question import Question
from trunkline.lab.score import check_addresses
from trunkline.lab.stage import PROBE_S, SILENCE_S, Stage
from trunkline.lab.topology import INTERNET
from trunkline.lab.waiting import limit_s
from trunkline.model import IpAddress
from trunkline.trace.packets import ICMP, ICMPV6, TCP, UDP
from trunkline.trace.reach import Reach, reach
from trunkline.trace.verify_cloud import Cloud, End, gather
from trunkline.trace.verify_data import cloud_in
from trunkline.trace.verify_findings import not_covered
from trunkline.trace.verify_flow import (
    Verdict,
    from_internet,
    is_on_link,
    to_floating,
    to_internet,
    to_port,
)
from trunkline.trace.verify_services import QUERIES, Service, Span

Say = Callable[[str], None]

PROTOCOLS = {ICMP: "icmp", ICMPV6: "icmpv6", TCP: "tcp", UDP: "udp"}
"""What a probe can be of."""


PLACED_MAX = 4
"""Of how many disagreements the place is looked for: they tend to have one cause."""


@dataclass(frozen=True, slots=True)
class Representative:
    """A flow that stands for all of its classes and service.

    Attributes:
        source: A node: an instance, or the Internet; likewise ``listener``, who is to answer.
        port: None with ICMP.
        counted: Whether the fast engine counts it as answered; None where it counts no single
            flow, but sums.
    """

    source: str
    destination: IpAddress
    listener: str
    protocol: int
    port: int | None
    verdict: Verdict
    counted: bool | None = None

    @property
    def answered(self) -> bool:
        """Return whether an answer must come."""
        return self.verdict is Verdict.ANSWERED

    @property
    def question(self) -> Question:
        """Return the flow as somebody would ask about it."""
        return Question(
            self.source, str(self.destination), PROTOCOLS[self.protocol], port=self.port
        )

    def __str__(self) -> str:
        """Return it as a person says it."""
        service = PROTOCOLS[self.protocol] + ("" if self.port is None else f" {self.port}")
        return f"{self.source} to {self.destination} ({self.listener}), {service}"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A flow of which packets, or the two ways to predict it, say different things.

    Attributes:
        met: What its probe met.
        place: Where a live trace says to look first; empty if it is all as it must be there.
    """

    flow: Representative
    met: str
    place: str = ""

    def __str__(self) -> str:
        """Return it as a sentence."""
        counted = {True: "counted as answered, ", False: "counted as unanswered, ", None: ""}
        said = f"{counted[self.flow.counted]}judged '{self.flow.verdict}', met {self.met}"
        return f"{self.flow}: {said}" + (f"; look at {self.place} first" if self.place else "")


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of it.

    Attributes:
        flows: All that were sent.
        unsent: What stands for some classes and no probe can be: services, or flows of which
            the judge itself says that it does not know.
    """

    flows: tuple[Representative, ...]
    wrong: tuple[Disagreement, ...]
    unsent: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        """Return it as JSON can have it."""
        return {
            "flows": len(self.flows),
            "answered": sum(flow.answered for flow in self.flows),
            "wrong": [
                {
                    "source": one.flow.source,
                    "destination": str(one.flow.destination),
                    "listener": one.flow.listener,
                    "protocol": PROTOCOLS[one.flow.protocol],
                    "port": one.flow.port,
                    "counted": one.flow.counted,
                    "verdict": one.flow.verdict.value,
                    "met": one.met,
                    "place": one.place,
                }
                for one in self.wrong
            ],
            "unsent": list(self.unsent),
        }


def verify(stage: Stage, say: Say) -> Verified:
    """Send one flow of each class, say what came of it, and where to look if it is wrong.

    Raises:
        Invalid: Instances of the lab share addresses, so that an address says not who is meant.
        Conflict: An agent has not reported yet.
    """
    check_addresses(stage)
    flows, unsent = choose(stage, cloud_of(stage))
    wrong = tuple(_disagreements(stage, flows))
    answered = sum(flow.answered for flow in flows)
    for one in wrong:
        say(str(one))
    for text in unsent:
        say(f"not sent: {text}")
    say(
        f"{len(flows)} flows, one of each class of equal behaviour: {answered} must be answered,"
        f" {len(flows) - answered} must not; {len(wrong)} were other than predicted"
    )
    return Verified(flows, wrong, unsent)


def cloud_of(stage: Stage) -> Cloud:
    """Return the lab's cloud as ``trunkline verify`` has it.

    Raises:
        Conflict: An agent has not reported yet.
    """
    answer = stage.cloud.admin.request("POST", "/v2.0/cloud", {})
    told = cloud_in(answer["cloud"])
    if any(not settings.told for _, settings in told):
        name = stage.topology.name
        raise Conflict(f"lab {name}: an agent has not reported yet; try again")
    return gather([snapshot for snapshot, _ in told], {s.host: own for s, own in told})


def choose(stage: Stage, cloud: Cloud) -> tuple[tuple[Representative, ...], tuple[str, ...]]:
    """Return a flow for each two classes and service, and what cannot be sent, as sentences."""
    found = [one for one in (reach(cloud), reach(cloud, 6)) if one.classes.ends]
    flows = [flow for one in found for flow in _between_ports(stage, one)]
    flows += [flow for one in found if one.version == 4 for flow in _translated(stage, one)]  # noqa: PLR2004 - IPv6 is translated nowhere
    unknown = [f"{flow}: {flow.verdict}" for flow in flows if flow.verdict is Verdict.UNKNOWN]
    services = [str(s) for one in found for s in _unsendable(one.services)]
    sent = tuple(flow for flow in flows if flow.verdict is not Verdict.UNKNOWN)
    return sent, (*unknown, *dict.fromkeys(services), *not_covered(cloud))


def _between_ports(stage: Stage, found: Reach) -> Iterator[Representative]:
    names = _names(stage)
    for senders, receivers in product(_classes(stage, found), repeat=2):
        pair = _pair(found, senders, receivers)
        if pair is None:
            continue  # one port alone is in both
        source, target = (found.classes.ends[number] for number in pair)
        if not is_on_link(source, target) and not _are_ours(found.cloud, source, target):
            continue
        bits = found.between(*pair)
        for number, (service, protocol, port) in _probes(found.services):
            yield Representative(
                names[source.seat.port.id],
                target.address,
                names[target.seat.port.id],
                protocol,
                port,
                to_port(found.cloud, source, target, service).verdict,
                counted=bool(bits >> number & 1),
            )


def _are_ours(cloud: Cloud, *ends: End) -> bool:
    """Return whether ends have routers of ours; what another lets pass is not judged."""
    return not any(cloud.segments[end.seat.port.network_id].upstream for end in ends)


def _pair(found: Reach, senders: Sequence[int], receivers: Sequence[int]) -> tuple[int, int] | None:
    ports = [end.seat.port.id for end in found.classes.ends]
    pairs = ((a, b) for a, b in product(senders, receivers) if ports[a] != ports[b])
    return next(pairs, None)


def _classes(stage: Stage, found: Reach) -> list[list[int]]:
    """Return the numbers of the ends of each class: what rules and a host treat alike."""
    names = _names(stage)
    classes: dict[tuple[int, str], list[int]] = defaultdict(list)
    for number, end in enumerate(found.classes.ends):
        if end.seat.port.id in names:
            classes[int(found.classes.of_end[number]), end.seat.host].append(number)
    return list(classes.values())


def _names(stage: Stage) -> dict[str, str]:
    return {seat.port_id: seat.instance for seat in stage.seats.values()}


def _translated(stage: Stage, found: Reach) -> Iterator[Representative]:
    """Yield flows to floating IPs, and to the Internet and from there."""
    cloud, names = found.cloud, _names(stage)
    outside = stage.topology.internet.answers
    floating = [one for one in cloud.floating if one.end.seat.port.id in names]
    for _, (service, protocol, port) in _probes(found.services):
        kind = protocol, port
        for members in _classes(stage, found):
            end = found.classes.ends[members[0]]
            if not _are_ours(cloud, end):
                continue
            name = names[end.seat.port.id]
            for one in floating:
                ruling = to_floating(cloud, end, one, service)
                listener = names[one.end.seat.port.id]
                yield Representative(name, one.address, listener, *kind, ruling.verdict)
            for address in outside:
                ruling = to_internet(cloud, end, address, service)
                yield Representative(name, address, INTERNET, *kind, ruling.verdict)
        for one in floating:
            ruling = from_internet(cloud, _face(stage, one.address), one, service)
            listener = names[one.end.seat.port.id]
            yield Representative(INTERNET, one.address, listener, *kind, ruling.verdict)


def _face(stage: Stage, destination: IpAddress) -> IpAddress:
    """Return the address that the Internet asks from."""
    with netns.socket(stage.lab.namespace(INTERNET), socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((str(destination), probe.PORT))
        return type(destination)(sock.getsockname()[0])


def _probes(
    services: Sequence[Service],
) -> Iterator[tuple[int, tuple[Service, int, int | None]]]:
    """Yield the number of each service that can be sent, it, and the probe that stands for it."""
    for number, service in enumerate(services):
        sendable = _sendable(service, services)
        if sendable is not None:
            yield number, (service, *sendable)


def _unsendable(services: Sequence[Service]) -> list[Service]:
    return [one for one in services if _sendable(one, services) is None]


def _sendable(service: Service, among: Iterable[Service]) -> tuple[int, int | None] | None:
    """Return protocol and port of a probe that stands for a service, if there is one."""
    named = {span.protocol for one in among for span in one.spans}
    return next(filter(None, (_probe_of(span, named) for span in service.spans)), None)


def _probe_of(span: Span, named: Collection[int | None]) -> tuple[int, int | None] | None:
    if span.protocol is None:  # of the protocols that no rule names, these have probes
        return next(((one, probe.PORT) for one in (UDP, TCP) if one not in named), None)
    if span.protocol in (TCP, UDP):
        port = probe.PORT if span.first <= probe.PORT <= span.last else max(span.first, 1)
        return (span.protocol, port) if port <= span.last else None
    if span.protocol in (ICMP, ICMPV6) and span.first == QUERIES[span.protocol][0]:
        return span.protocol, None
    return None


# --- sending ----------------------------------------------------------------------------------


def _disagreements(stage: Stage, flows: Sequence[Representative]) -> Iterator[Disagreement]:
    """Send all flows, and once more, patiently, those that met something else than they must."""
    met = _send_all(stage, flows, SILENCE_S)
    doubtful = [flow for flow in flows if _is_otherwise(flow, met[flow])]
    met |= _send_all(stage, doubtful, PROBE_S)
    wrong = [flow for flow in flows if _is_otherwise(flow, met[flow])]
    with HostsReadBack(stage.lab) as hosts:
        for number, flow in enumerate(wrong):
            place = _place(stage, hosts, flow) if number < PLACED_MAX else ""
            yield Disagreement(flow, met[flow], place)
    for flow in flows:
        if flow not in wrong and flow.counted not in {None, flow.answered}:
            yield Disagreement(flow, met[flow])


def _is_otherwise(flow: Representative, met: str) -> bool:
    return (met == "reply") != flow.answered


def _send_all(
    stage: Stage, flows: Iterable[Representative], patience_s: float
) -> dict[Representative, str]:
    """Send flows, side by side where others listen: only one can listen on a port."""
    by_listener: dict[str, list[Representative]] = defaultdict(list)
    for flow in flows:
        by_listener[flow.listener].append(flow)

    def run(some: list[Representative]) -> dict[Representative, str]:
        return {flow: _send(stage, flow, patience_s) for flow in some}

    with ThreadPoolExecutor(len(by_listener) or 1) as pool:
        return {f: met for part in pool.map(run, by_listener.values()) for f, met in part.items()}


def _send(stage: Stage, flow: Representative, patience_s: float) -> str:
    """Return what a probe met: ``reply``, or why there was none."""
    sender, listener = map(stage.lab.namespace, (flow.source, flow.listener))
    within_s = limit_s(patience_s)
    try:
        if flow.port is None:
            return probe.ping(sender, flow.destination, within_s).kind
        if flow.protocol == TCP:
            return probe.tcp(sender, listener, flow.destination, within_s, flow.port).kind
        at = flow.destination if flow.listener == INTERNET else None
        return probe.udp(sender, listener, flow.destination, within_s, flow.port, at=at).kind
    except OSError as error:  # its own kernel refuses: it has no route
        return error.strerror or str(error)


def _place(stage: Stage, hosts: HostsReadBack, flow: Representative) -> str:
    """Return where a live trace of the flow says to look first; instances can be asked for one."""
    if flow.source == INTERNET:
        return ""
    asked = flow.question
    if flow.listener == INTERNET:  # nobody listens there for a trace
        asked = Question(flow.source, str(flow.destination))
    found = question.shoot(stage, hosts, asked)
    return next((f"{f.layer}, {f.place}" for f in found.diagnosis.faults), "")
