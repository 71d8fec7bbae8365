"""How well live traces find what was planted, and how often they find what is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

from trunkline.errors import Conflict, Invalid
from trunkline.lab import faults, question, sabotage
from trunkline.lab.diagnose import HostsReadBack
from trunkline.lab.faults import FAULTS, Fault, find
from trunkline.lab.question import PING_BYTES, Finding, Question
from trunkline.lab.stage import Stage
from trunkline.trace.layers import Place
from trunkline.trace.steps import Disposition

NOBODY = (IPv4Address("203.0.113.9"), IPv4Address("172.31.9.9"))  # outside, and nowhere
PORT_MAX = 32767  # above begin the ports that senders are given
SIZES = (44, PING_BYTES, 576, 1400, 1500)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What a live trace said of a planted fault.

    Attributes:
        spot: Where the fault is.
        named: Where the trace says to look first; None is that all is well.
    """

    fault: Fault
    finding: Finding
    spot: Place
    named: Place | None

    @property
    def found(self) -> bool:
        """Return whether it saw that something is wrong."""
        return self.named is not None

    @property
    def located(self) -> bool:
        """Return whether it named the very place."""
        return self.named == self.spot

    @property
    def seen(self) -> bool:
        """Return whether packets alone would have shown it."""
        return bool(self.finding.prediction.deviations)


def chosen(names: Sequence[str]) -> tuple[Fault, ...]:
    """Return the faults of these names; none is the whole catalogue.

    Raises:
        NotFound: There is none of such a name.
    """
    return tuple(map(find, names)) or FAULTS


def run(stage: Stage, wanted: Iterable[Fault], say: Say) -> tuple[Result, ...]:
    """Plant one fault after the other, trace the flow that it concerns, heal it, and say each."""
    results = []
    with HostsReadBack(stage.lab) as hosts:
        scene = faults.scene(stage)
        sabotage.heal(scene, hosts)
        for fault in wanted:
            with sabotage.planted(scene, fault, hosts):
                found = question.shoot(stage, hosts, fault.asked)
            named = next((f.place for f in found.diagnosis.faults), None)
            results.append(Result(fault, found, fault.spot(scene), named))
            say(_line(results[-1]))
    say(_score(results))
    return tuple(results)


def _line(result: Result) -> str:
    if not result.found:
        verdict = "NOT FOUND"
    else:
        verdict = "located" if result.located else f"found, not at {result.spot}"
    layer = result.finding.diagnosis.faults[0].layer if result.found else "-"
    return f"{result.fault.name:22} {verdict:10} {layer:26} {result.named or '-'}"


def _score(results: Sequence[Result]) -> str:
    found = sum(result.found for result in results)
    located, seen = sum(r.located for r in results), sum(r.seen for r in results)
    score = f"{found} of {len(results)} found, {located} of {len(results)} located exactly"
    return f"\n{score}; packets were other than predicted with {seen} of them"


@dataclass(frozen=True, slots=True)
class Alarms:
    """What live traces said of a lab in which nothing is wrong.

    Attributes:
        unknown: Flows of which the tracer said that it does not know.
        false: Flows of which it said that something is wrong, and what.
    """

    flows: int
    unknown: int
    false: tuple[tuple[Question, Finding], ...]


def sound(stage: Stage, count: int, seed: int, say: Say) -> Alarms:
    """Trace random flows live, on a lab that is as it must be.

    Raises:
        Conflict: A fault stands in it.
        Invalid: Its instances share addresses, so that an address says not who is meant.
    """
    check_addresses(stage)
    if stage.lab.fault:
        raise Conflict(f"lab {stage.topology.name}: fault {stage.lab.fault} stands; heal it first")
    random = Random(seed)  # noqa: S311 - flows to try, not secrets
    unknown, false = 0, []
    with HostsReadBack(stage.lab) as hosts:
        for number in range(1, count + 1):
            asked = _any_question(stage, random)
            found = question.shoot(stage, hosts, asked)
            unknown += found.prediction.trace.disposition is Disposition.UNKNOWN
            if found.diagnosis.faults:
                false.append((asked, found))
                say(f"false alarm: {asked.command}: {found.diagnosis.faults[0].place}")
            if number % 100 == 0:
                say(f"{number} flows")
    say(f"\n{count} random flows (seed {seed}): {len(false)} false alarms, {unknown} not predicted")
    return Alarms(count, unknown, tuple(false))


def check_addresses(stage: Stage) -> None:
    """Refuse a lab in which an address does not say who is meant.

    Raises:
        Invalid: Some of its instances share one.
    """
    addresses = [seat.address for seat in stage.seats.values()]
    if len(set(addresses)) < len(addresses):
        name = stage.topology.name
        raise Invalid(f"lab {name}: some of its instances share an address; take another topology")


def _any_question(stage: Stage, random: Random) -> Question:
    """Return a flow from any instance to anybody: by the protocol that can be probed there."""
    source = random.choice(list(stage.seats))
    instances = [s.address for s in stage.seats.values() if s.instance != source]
    instances += [floating.address for floating in stage.topology.floating_ips]
    others = [*stage.topology.internet.answers, *NOBODY, *_unused(stage)]
    destination = random.choice([*instances, *instances, *others])
    protocol = random.choice(("icmp", "tcp", "udp")) if destination in instances else "icmp"
    if protocol == "icmp":
        return Question(source, str(destination), size=random.choice(SIZES))
    return Question(source, str(destination), protocol, random.randint(1, PORT_MAX))


def _unused(stage: Stage) -> list[IPv4Address]:
    """Return an address on each network that nobody has."""
    return [network.cidr[-2] for network in stage.topology.networks.values()]
