"""Steps as text: the article's numbered prose, and one terse line per hop.

The same words for what was predicted and for what was captured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trunkline.trace.steps import HOST, INSTANCE, INTERNET, Decision, Sighting, Step, Trace


def prose(step: Step) -> str:
    """Return a passage as a sentence."""
    ins = [s for s in step.path if s.direction == "in"]
    outs = [s for s in step.path if s.direction == "out"]
    if step.node_role == INSTANCE:
        return _instance(step, ins)
    parts = []
    if ins:
        name = step.packet.partition(": ")[0]
        parts.append(f"takes the {name} in by {_devices(ins)}")
    parts += _changes(step)
    if outs:
        start = "sends it out by" if ins else f"sends {_packet(step, ins)}, out by"
        parts.append(f"{start} {_devices(outs)}")
    elif step.node_role == HOST:
        parts.append("it goes no further")
    elif step.node_role == INTERNET:
        parts.append("it is for the Internet itself")
    return f"{step.node} {'; '.join(parts)}."


def _instance(step: Step, ins: list[Sighting]) -> str:
    what, device = _packet(step, ins), step.path[0].device
    if ins:
        return f"{step.node} receives {what}, on {device}."
    return f"{step.node} sends {what}, out of {device}."


def _packet(step: Step, ins: list[Sighting]) -> str:
    """Return what a packet is, with its addresses here and the MAC at the cable's other end."""
    peer = f"to {_mac(step.receiver_mac, step.receiver)}"
    if ins:
        peer = f"from {_mac(step.sender_mac, step.sender)}"
    if step.part not in ("arp", "dhcp") and step.after:
        return f"{step.packet} {step.after.source} > {step.after.destination} {peer}"
    return f"{step.packet}, {peer}"


def _mac(mac: str, owner: str) -> str:
    if mac == owner:
        return f"MAC {mac}" if ":" in mac else owner or "nobody"
    return f"{owner} ({mac})"


def _changes(step: Step) -> Iterator[str]:
    ttl = [c for c in step.changes if c.startswith("TTL")]
    translated = [c for c in step.changes if not c.startswith("TTL")]
    if ttl:
        yield f"routes it ({ttl[0]}, new MACs)"
    if translated:
        back = "connection tracking translates it back"
        how = back if step.part in ("reply", "error") else "translates"
        yield f"{how}: {', '.join(translated)}"


def _devices(sightings: Iterable[Sighting]) -> str:
    """Return devices in order, each with the tag that its frames carry."""
    words = []
    for sighting in sightings:
        owner = f" ({sighting.owner})" if sighting.owner else ""
        tag = f" with tag {sighting.tag}" if sighting.tag is not None else ""
        words.append(f"{sighting.device}{owner}{tag}")
    return ", ".join(words)


def story(trace: Trace, *, why: bool) -> str:
    """Return a trace as the article tells it: a sentence first, then numbered steps.

    Args:
        trace: What to tell.
        why: Below each step what decided, and the next best that lost.
    """
    lines = [trace.sentence, ""]
    for number, step in enumerate(trace.steps, start=1):
        lines.append(f"{number:3}. {prose(step)}")
        if why:
            lines += [f"       {line}" for d in step.decisions for line in reasons(d)]
    return "\n".join((*lines, *_foot(trace)))


def terse(trace: Trace) -> str:
    """Return a trace as one line per hop; ARP is left out, as it is asked for so often."""
    lines = [f"{trace.disposition}: {trace.sentence}"]
    for step in trace.steps:
        if step.part == "arp":
            continue
        path = " ".join(
            f"{'>' if s.direction == 'in' else '<'}{s.label}{'' if s.tag is None else f'#{s.tag}'}"
            for s in step.path
        )
        changes = f"  [{', '.join(step.changes)}]" if step.changes else ""
        lines.append(f"{step.packet.partition(':')[0]:18} {step.node:10} {path}{changes}")
    return "\n".join(lines)


def reasons(decision: Decision) -> Iterator[str]:
    """Yield what decided, what of the kernel's and the API's is behind it, and what lost."""
    where = f" on {decision.device}" if decision.device else ""
    yield f"{decision.stage}{where}: {decision.text}"
    if decision.kernel:
        yield f"    because of {decision.kernel}"
    for one in decision.objects:
        yield f"    which is {one.kind} {one.id} ({one.text})"
    if decision.passed_over:
        last = decision.passed_over[-1]
        yield f"    next best: {last.rule}: failed at {last.failed}"


def _advice(trace: Trace) -> Iterator[str]:
    """Yield what would open the flow, and what else that opens."""
    for number, one in enumerate(trace.advice):
        yield f"{'What to do' if number == 0 else 'And'}: {one.text}."
        yield f"    {one.command}"
        yield from (f"    This opens also: {text}" for text in one.opens)
        if not one.opens:
            yield "    This opens nothing else that was looked at."
        if one.unexamined:
            yield f"    {one.unexamined} more flows of this kind were not looked at."
    if trace.advice:
        yield ""


def _foot(trace: Trace) -> Iterator[str]:
    yield ""
    yield from _advice(trace)
    for text in trace.assumptions:
        yield f"It is assumed that {text}."
    if trace.revisions:
        held = ", ".join(f"{host} {number}" for host, number in trace.revisions.items())
        yield f"This holds at revision: {held}."
