"""What a walk comes to: one disposition, one sentence, and the decisions that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from trunkline.model import IpAddress, PortId
from trunkline.trace.cloud import Cloud
from trunkline.trace.packets import PROTOCOLS
from trunkline.trace.passage import Fate
from trunkline.trace.steps import SWITCH, Decision, Disposition, Stage, Step

QUESTIONS = ("ARP request", "neighbour solicitation")
"""How what asks for a MAC is called."""

Verdict = tuple[Disposition, str, tuple[Decision, ...]]


class Asked(Protocol):
    """A flow, as far as a sentence speaks of it (``walk.Flow``)."""

    @property
    def source(self) -> PortId | None:
        """Return the sending port; None is the Internet."""
        ...

    @property
    def destination(self) -> IpAddress:
        """Return the address that it goes to."""
        ...

    @property
    def protocol(self) -> int:
        """Return its protocol's number."""
        ...

    @property
    def port(self) -> int | None:
        """Return its destination port."""
        ...


def judge(
    cloud: Cloud, flow: Asked, steps: Sequence[Step], fates: Sequence[Fate], unknown: str | None
) -> Verdict:
    """Return what becomes of a flow.

    Args:
        cloud: What was walked through.
        flow: What was asked.
        steps: The walk.
        fates: Where its packets came to their ends.
        unknown: What the walk met and did not understand; nothing else is said then.
    """
    who, whom = _names(cloud, flow)
    if unknown is not None:
        return _unknown(f"whether {who} reaches {whom} is not known: the tracer met {unknown}")
    fate = failing(fates)
    if fate is not None:
        return _failed(who, whom, _explained(fate, steps))
    for part, what in (("request", "packet"), ("reply", "answer")):
        if _fate(fates, part) is None:
            return _unknown(f"{who} to {whom}: the tracer lost sight of the {what}")
    seen = _delivered(fates)
    return Disposition.DELIVERED, f"{who} reaches {whom}, and the answer comes back.", seen


def failing(fates: Sequence[Fate]) -> Fate | None:
    """Return where the flow fails: the first of its packets that does not get through."""
    found = (_fate(fates, part) for part in ("request", "reply", "confirm"))
    failed = (fate for fate in found if fate and fate.disposition is not Disposition.DELIVERED)
    return next(failed, None)


def _explained(fate: Fate, steps: Sequence[Step]) -> Fate:
    """Return a fate; where nobody answered because the switch let nobody hear, that one."""
    if fate.disposition is not Disposition.NOBODY:
        return fate
    for step in reversed(steps):
        asked = step.packet.startswith(QUESTIONS) and step.node_role == SWITCH and step.before
        if asked and fate.decision.text.endswith(
            f" {step.packet.partition('who has ')[2].partition('?')[0]}"
        ):
            lost = [d for d in step.decisions if d.stage is Stage.TAG]
            if not lost:
                return fate
            text = f"{fate.decision.text}: {lost[0].text}"
            decision = replace(lost[0], text=text)
            return replace(fate, disposition=Disposition.NO_VLAN, decision=decision)
    return fate


def _delivered(fates: Sequence[Fate]) -> tuple[Decision, ...]:
    return tuple(f.decision for f in fates if f.disposition is Disposition.DELIVERED)


def _unknown(text: str) -> Verdict:
    sentence = f"{text[0].upper()}{text[1:]}."
    return Disposition.UNKNOWN, sentence, (Decision(Stage.INSTANCE, "", text),)


def _fate(fates: Sequence[Fate], part: str) -> Fate | None:
    """Return a packet's first fate: that it was exposed outside comes before what came of it."""
    return next((fate for fate in fates if fate.part == part), None)


def _failed(who: str, whom: str, fate: Fate) -> Verdict:
    where = f"on {fate.node}, {fate.decision.text}"
    if fate.disposition is Disposition.UNKNOWN:
        text = f"whether {who} reaches {whom} is not known: {where}."
        return Disposition.UNKNOWN, f"{text[0].upper()}{text[1:]}", (fate.decision,)
    if fate.part == "request":
        return fate.disposition, f"{who} does not reach {whom}: {where}.", (fate.decision,)
    what = "the answer" if fate.part == "reply" else "what follows the answer"
    sentence = f"{who} reaches {whom}, but {what} does not get through: {where}."
    return Disposition.ONE_WAY, sentence, (fate.decision,)


def _names(cloud: Cloud, flow: Asked) -> tuple[str, str]:
    who = "The Internet" if flow.source is None else cloud.name(flow.source)
    forwarded = _forwarded(cloud, flow)
    found = owners(cloud, flow.source, flow.destination) if forwarded is None else forwarded
    owner = cloud.name(found[0]) if found else ""
    whom = f"{owner} at {flow.destination}" if owner else str(flow.destination)
    by_number = {number: name for name, number in PROTOCOLS.items()}
    service = by_number.get(flow.protocol, f"protocol {flow.protocol}")
    port = "" if flow.port is None else f" {flow.port}"
    return who, f"{whom} by {service}{port}"


def _forwarded(cloud: Cloud, flow: Asked) -> list[PortId] | None:
    """Return the port that a flow's port of a floating IP leads to, if any.

    None where the whole address leads somewhere, or nowhere.
    """
    views = (f for h in cloud.hosts for f in h.snapshot.floating_ips)
    every = [one for f in views if f.address == flow.destination for one in f.forwarded]
    service = flow.protocol, flow.port
    return [o.port_id for o in every if (o.protocol, o.port) == service] if every else None


def owners(cloud: Cloud, source: PortId | None, address: IpAddress) -> list[PortId]:
    """Return the ports that an address stands for, as a fixed or a floating IP.

    Of fixed ones those on the sender's router; others only where it is clear who is meant.
    """
    floating = [
        port_id
        for h in cloud.hosts
        for f in h.snapshot.floating_ips
        if f.address == address
        for port_id in sorted(f.port_ids)
    ]
    fixed = [
        port_id
        for port_id, (_, port) in cloud.seats.items()
        if address in {f.address for f in port.fixed_ips}
    ]
    domain = cloud.domain_of(source)
    near = [port_id for port_id in fixed if domain and cloud.domain_of(port_id) == domain]
    return floating or near or (fixed if len(fixed) == 1 else [])


def judge_lease(
    cloud: Cloud,
    port_id: PortId,
    steps: Sequence[Step],
    fates: Sequence[Fate],
    unknown: str | None,
) -> Verdict:
    """Return whether an instance gets its lease, and from whom."""
    name = cloud.name(port_id)
    if unknown is not None:
        return _unknown(f"whether {name} gets a lease is not known: the tracer met {unknown}")
    ends = [fate for fate in fates if fate.disposition is not Disposition.DELIVERED]
    if ends:
        return ends[0].disposition, f"{ends[0].decision.text}.", (ends[0].decision,)
    offers = [s for s in steps if s.packet.startswith("DHCPOFFER")]
    said = tuple(d for step in steps for d in step.decisions if d.stage is Stage.DHCP)
    if offers and offers[-1].node == name:
        what = offers[-1].packet.removeprefix("DHCPOFFER: ")
        sentence = f"{name} is offered {what}, by {offers[0].node} and nobody else."
        return Disposition.DELIVERED, sentence, said
    why = said[0].text if said else "no DHCP server hears it"
    return Disposition.NO_LEASE, f"{name} gets no lease: {why}.", said
