"""Single checks, as scenarios need them: a question to the frames, answered with evidence."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address

from trunkline.hoststate import Connection
from trunkline.lab.cloud import Segment
from trunkline.lab.packets import BROADCAST, HOST_UNREACHABLE, UNREACHABLE
from trunkline.lab.predict import Prediction
from trunkline.lab.stage import Shot, Stage
from trunkline.lab.verdict import Check, Seen, on_trunk
from trunkline.model import IpAddress
from trunkline.ownership import cable_name


def answered(shot: Shot, by: IpAddress, what: str = "ping") -> Check:
    """Return whether a probe was answered, by whom it ought to be."""
    answer = shot.answer
    passed = answer.kind == "reply" and answer.by == by
    return Check(f"{what} is answered by {by}", passed, met(shot))


def no_answer(what: str, shot: Shot) -> Check:
    """Return whether a probe met nothing but silence."""
    return Check(f"{what} gets no answer", shot.answer.kind == "silence", met(shot))


def came_as_error(shot: Shot, by: Collection[IPv4Address]) -> Check:
    """Return whether a probe met 'host unreachable' from one of these."""
    answer = shot.answer
    passed = answer.icmp == (UNREACHABLE, HOST_UNREACHABLE) and answer.by in by
    who = " or ".join(map(str, sorted(by)))
    return Check(f"the sender gets 'host unreachable' from {who}", passed, met(shot))


def met(shot: Shot) -> str:
    """Return what a probe met: a reply, an error, silence, and from whom."""
    answer = shot.answer
    icmp = f" (ICMP type {answer.icmp[0]} code {answer.icmp[1]})" if answer.icmp else ""
    by = f" from {answer.by}" if answer.by else ""
    return f"{answer.kind}{icmp}{by}"


def heard(text: str, frames: Seen, node: str, device: str, direction: str = "") -> Check:
    """Return whether any of these frames was seen at a place."""
    found = frames.on(node, device, direction)
    return Check(text, bool(found), found.places() if found else frames.places())


def routed(text: str, frames: Seen, node: str, segment: Segment) -> Check:
    """Return whether a host put these frames on a segment: itself, or from a router's namespace."""
    found = frames.on(node, segment.bridge, "out") or frames.on(
        node, cable_name(segment.bridge), "in"
    )
    return Check(text, bool(found), found.places() if found else frames.places())


def nothing(text: str, frames: Seen) -> Check:
    """Return whether there is no such frame."""
    return Check(text, not frames, frames.places())


def tags_on_trunk(stage: Stage, frames: Seen, vlan_id: int | None, text: str) -> Check:
    """Return whether frames crossed the trunk with a tag and no other, or all without one."""
    trunk = on_trunk(frames, stage.ground)
    switches = [switch for switch in stage.topology.switches() if trunk.on(switch)]
    crossed = any(trunk.on(s, direction="in") and trunk.on(s, direction="out") for s in switches)
    passed = bool(crossed) and trunk.tags() == {vlan_id}
    how = "without a tag" if vlan_id is None else f"with tag {vlan_id} and no other"
    return Check(f"{text} {how}", passed, trunk.places())


def untouched(text: str, frames: Seen) -> Check:
    """Return whether IP headers were the same wherever the frames were seen."""
    headers = {(f.ip.source, f.ip.destination, f.ip.ttl) for f in frames if f.ip}
    evidence = ", ".join(f"{s} > {d} TTL {t}" for s, d, t in sorted(headers))
    return Check(text, len(headers) == 1, evidence)


def only_broadcasts_on_trunk(stage: Stage, frames: Seen) -> Check:
    """Return whether the trunk carried nothing but ARP broadcasts."""
    trunk = on_trunk(frames, stage.ground)
    other = trunk.where(lambda f: not (f.arp and f.destination_mac == BROADCAST))
    evidence = f"{len(trunk)} frames on the trunk, {len(other)} of them anything else"
    return Check("nothing on the trunk but ARP broadcast", not other, evidence)


def has_route(stage: Stage, node: str, route: str, version: int = 4) -> Check:
    """Return whether a node has a route, given as ``ip route`` prints its beginning."""
    routes = stage.routes(node, version)
    found = any(line.startswith(route) for line in routes)
    return Check(f"{node} has the route {route}", found, "; ".join(routes))


def as_predicted(prediction: Prediction) -> Check:
    """Return whether each step that was seen is as the tracer said beforehand, and none is more."""
    wrong = prediction.deviations
    if wrong:
        evidence = f"{len(wrong)} deviate, first {wrong[0].text}"
    else:
        evidence = f"{len(prediction.comparison)} steps, {prediction.trace.disposition}"
    passed = not wrong and bool(prediction.comparison)
    return Check("every step is as predicted", passed, evidence)


def tracked(
    stage: Stage,
    host: str,
    source: IPv4Address,
    destination: IPv4Address,
    reply_to: IPv4Address,
    reply_from: IPv4Address | None = None,
) -> Check:
    """Return whether a host's connection tracking has a translated connection.

    Args:
        stage: The stage.
        host: Whose table.
        source: Of the first packet, before translation.
        destination: Likewise.
        reply_to: Where the answer is addressed to.
        reply_from: Where the answer comes from; None is the untranslated destination.
    """
    back = reply_from or destination
    text = f"{source} > {destination}, reply {back} > {reply_to}"
    every = stage.connections(host)
    found = [
        c
        for c in every
        if (c.source, c.destination) == (source, destination)
        and (c.reply_source, _face(every, c)) == (back, reply_to)
    ]
    return Check(f"{host} tracks {text}", bool(found), f"{len(found)} entries")


def _face(every: Collection[Connection], first: Connection) -> IpAddress:
    """Return what a connection's source becomes, translated once or, out of a space, twice."""
    own = first.reply_destination
    again = (
        c.reply_destination for c in every if (c.source, c.destination) == (own, first.destination)
    )
    return next(again, own) if own != first.source else own
