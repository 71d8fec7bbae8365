"""A router of one's own: what holds for a tenant that leaves the router which all share.

Its instances go on running meanwhile. The acts are those of scenarios 2, 4, 5 and 7.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

from trunkline.lab import build, probe
from trunkline.lab.evidence import heard, nothing, tags_on_trunk
from trunkline.lab.packets import HOST_UNREACHABLE, UNREACHABLE
from trunkline.lab.probe import Answer
from trunkline.lab.scenarios.acts import ECHO, LEFT, witnessed
from trunkline.lab.stage import PROBE_S, Stage
from trunkline.lab.topology import GroupRule
from trunkline.lab.verdict import Act, Check, Seen, on_wire
from trunkline.lab.waiting import limit_s
from trunkline.lab.walk import carrying

GOOGLE = IPv4Address("8.8.8.8")


def play_routers(stage: Stage) -> tuple[Act, ...]:
    """Put tenant2's network on a router of its own, and take it off again."""
    pool = stage.topology.floating_cidr
    icmp = [GroupRule(p, "icmp", None, pool) for p in ("tenant1", "tenant2")]
    with stage.rules(*stage.topology.rules, *icmp), stage.own_router("net2"):
        return (
            _apart_act(stage),
            _together_act(stage),
            _outside_act(stage),
            _floating_act(stage, "VM_1", "VM_6"),
            _floating_act(stage, "VM_6", "VM_1"),
            _same_host_act(stage),
        )


def _ping(stage: Stage, sender: str, to: IPv4Address) -> Callable[[], Answer]:
    return lambda: probe.ping(stage.lab.namespace(sender), to, limit_s(PROBE_S))


def _apart_act(stage: Stage) -> Act:
    """Ping across tenants on one host, which scenario 5 shows to work on a common router."""
    answer, seen = stage.witness(_ping(stage, "VM_1", stage.seats["VM_3"].address))
    carried = carrying(answer.nonce)
    unreachable = (UNREACHABLE, HOST_UNREACHABLE)
    checks = [
        Check("the sender gets 'host unreachable'", answer.icmp == unreachable, answer.kind),
        nothing("VM_3 sees nothing of it", seen.of(carried).on("VM_3")),
        nothing("nothing of it leaves", on_wire(seen.of(carried), stage.ground, stage.cast)),
    ]
    title = "VM_1 pings VM_3, whose groups allow it, and whose router is another one"
    return witnessed(stage, title, seen, carried, checks)


def _together_act(stage: Stage) -> Act:
    """Ping within the network: its wire is the same as before."""
    to = stage.seats["VM_6"].address
    answer, seen = stage.witness(_ping(stage, "VM_3", to))
    carried = carrying(answer.nonce)
    vlan_id = stage.segment("VM_3").vlan_id
    checks = [_replied(answer, to), tags_on_trunk(stage, seen.of(carried), vlan_id, "it crosses")]
    return witnessed(stage, "VM_3 pings VM_6, its neighbour", seen, carried, checks)


def _outside_act(stage: Stage) -> Act:
    """Leave without a floating IP: translated twice on the host, and seen outside as ever."""
    answer, seen = stage.witness(_ping(stage, "VM_3", GOOGLE))
    carried = carrying(answer.nonce)
    leaving = seen.of(carried, ECHO).on(LEFT, build.UPLINK, "out")
    public = stage.topology.hosts[LEFT].external.ip
    sources = {f.ip.source for f in leaving if f.ip}
    checks = [
        _replied(answer, GOOGLE),
        Check(f"it leaves with source {public}", sources == {public}, leaving.places()),
    ]
    return witnessed(stage, "VM_3 reaches the Internet by its router", seen, carried, checks)


def _floating_act(stage: Stage, sender: str, receiver: str) -> Act:
    """Ping a floating IP across routers and hosts, as in scenario 7."""
    a, b = stage.seats[sender], stage.seats[receiver]
    target = stage.floating(receiver).address
    answer, seen = stage.witness(_ping(stage, sender, target))
    carried = carrying(answer.nonce)
    request = seen.of(carried, ECHO)
    checks = [
        _replied(answer, target),
        heard(f"it leaves {a.host}", request, a.host, build.UPLINK, "out"),
        heard(f"it reaches {b.host}", request, b.host, build.UPLINK, "in"),
        _shows(request.on(receiver), stage.floating(sender).address, b.address),
    ]
    title = f"{sender} pings {receiver} by its floating IP {target}, from router to router"
    return witnessed(stage, title, seen, carried, checks)


def _same_host_act(stage: Stage) -> Act:
    """Ping a floating IP on the same host: from router to router without leaving."""
    with stage.extra_floating("VM_3") as target:
        answer, seen = stage.witness(_ping(stage, "VM_1", target))
    carried = carrying(answer.nonce)
    request = seen.of(carried, ECHO).on("VM_3")
    checks = [
        _replied(answer, target),
        _shows(request, stage.floating("VM_1").address, stage.seats["VM_3"].address),
        nothing("nothing of it leaves", on_wire(seen.of(carried), stage.ground, stage.cast)),
    ]
    title = f"VM_1 pings VM_3 by a floating IP, {target}, on their common host"
    return witnessed(stage, title, seen, carried, checks)


def _replied(answer: Answer, by: IPv4Address) -> Check:
    return Check(f"ping is answered by {by}", answer.kind == "reply" and answer.by == by)


def _shows(frames: Seen, source: IPv4Address, destination: IPv4Address) -> Check:
    found = {(f.ip.source, f.ip.destination) for f in frames if f.ip}
    text = f"the receiver sees {source} > {destination}"
    return Check(text, found == {(source, destination)}, frames.places())
