"""A router of one's own: what holds for a tenant that leaves the router which all share.

Its instances go on running meanwhile. The acts are those of scenarios 2, 4, 5 and 7.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from trunkline.lab import build
from trunkline.lab.evidence import answered, heard, met, nothing, tags_on_trunk
from trunkline.lab.packets import HOST_UNREACHABLE, UNREACHABLE
from trunkline.lab.scenarios.acts import ECHO, LEFT, act
from trunkline.lab.scenarios.services import metadata_act
from trunkline.lab.stage import Stage
from trunkline.lab.topology import GroupRule
from trunkline.lab.verdict import Act, Check, Seen, on_wire
from trunkline.lab.walk import carrying

GOOGLE = IPv4Address("8.8.8.8")
OWN_SOURCE = 206  # of the external prefix, which no host has


def play_routers(stage: Stage) -> tuple[Act, ...]:
    """Put tenant2's network on a router of its own, and take it off again."""
    pool = stage.topology.floating_cidr
    icmp = [GroupRule(p, "icmp", None, pool) for p in ("tenant1", "tenant2")]
    with stage.rules(*stage.topology.rules, *icmp), stage.own_router("net2") as router:
        return (
            _apart_act(stage),
            _together_act(stage),
            _outside_act(stage),
            _floating_act(stage, "VM_1", "VM_6"),
            _floating_act(stage, "VM_6", "VM_1"),
            _same_host_act(stage),
            *_metadata_acts(stage),
            *_own_source_acts(stage, router),
        )


def _apart_act(stage: Stage) -> Act:
    """Ping across tenants on one host, which scenario 5 shows to work on a common router."""
    shot = stage.ping("VM_1", stage.seats["VM_3"].address)
    seen, carried = shot.seen, carrying(shot.answer.nonce)
    unreachable = (UNREACHABLE, HOST_UNREACHABLE)
    checks = [
        Check("the sender gets 'host unreachable'", shot.answer.icmp == unreachable, met(shot)),
        nothing("VM_3 sees nothing of it", seen.of(carried).on("VM_3")),
        nothing("nothing of it leaves", on_wire(seen.of(carried), stage.ground, stage.cast)),
    ]
    title = "VM_1 pings VM_3, whose groups allow it, and whose router is another one"
    return act(stage, title, [shot], carried, checks)


def _together_act(stage: Stage) -> Act:
    """Ping within the network: its wire is the same as before."""
    to = stage.seats["VM_6"].address
    shot = stage.ping("VM_3", to)
    seen, carried = shot.seen, carrying(shot.answer.nonce)
    vlan_id = stage.segment("VM_3").vlan_id
    checks = [answered(shot, to), tags_on_trunk(stage, seen.of(carried), vlan_id, "it crosses")]
    return act(stage, "VM_3 pings VM_6, its neighbour", [shot], carried, checks)


def _outside_act(stage: Stage) -> Act:
    """Leave without a floating IP: translated twice on the host, and seen outside as ever."""
    public = stage.topology.hosts[LEFT].external.ip
    return _left_with(stage, "VM_3", public, "VM_3 reaches the Internet by its router")


def _floating_act(stage: Stage, sender: str, receiver: str) -> Act:
    """Ping a floating IP across routers and hosts, as in scenario 7."""
    a, b = stage.seats[sender], stage.seats[receiver]
    target = stage.floating(receiver).address
    shot = stage.ping(sender, target)
    seen, carried = shot.seen, carrying(shot.answer.nonce)
    request = seen.of(carried, ECHO)
    checks = [
        answered(shot, target),
        heard(f"it leaves {a.host}", request, a.host, build.UPLINK, "out"),
        heard(f"it reaches {b.host}", request, b.host, build.UPLINK, "in"),
        _shows(request.on(receiver), stage.floating(sender).address, b.address),
    ]
    title = f"{sender} pings {receiver} by its floating IP {target}, from router to router"
    return act(stage, title, [shot], carried, checks)


def _same_host_act(stage: Stage) -> Act:
    """Ping a floating IP on the same host: from router to router without leaving."""
    with stage.extra_floating("VM_3") as target:
        shot = stage.ping("VM_1", target)
    seen, carried = shot.seen, carrying(shot.answer.nonce)
    request = seen.of(carried, ECHO).on("VM_3")
    checks = [
        answered(shot, target),
        _shows(request, stage.floating("VM_1").address, stage.seats["VM_3"].address),
        nothing("nothing of it leaves", on_wire(seen.of(carried), stage.ground, stage.cast)),
    ]
    title = f"VM_1 pings VM_3 by a floating IP, {target}, on their common host"
    return act(stage, title, [shot], carried, checks)


def _own_source_acts(stage: Stage, router: str) -> tuple[Act, ...]:
    """Give that router a source of its own on its host; the router that all share has another."""
    common = stage.topology.hosts[LEFT].external
    own = common.network[OWN_SOURCE]
    with stage.routing(LEFT, own, router=router):
        return (
            _left_with(stage, "VM_3", own, "its router gets a source of its own on this host"),
            _left_with(stage, "VM_2", common.ip, "the router that all share keeps the host's"),
        )


def _left_with(stage: Stage, sender: str, source: IPv4Address, title: str) -> Act:
    shot = stage.ping(sender, GOOGLE)
    seen, carried = shot.seen, carrying(shot.answer.nonce)
    leaving = seen.of(carried, ECHO).on(LEFT, build.UPLINK, "out")
    sources = {f.ip.source for f in leaving if f.ip}
    checks = [
        answered(shot, GOOGLE),
        Check(f"it leaves with source {source}", sources == {source}, leaving.places()),
    ]
    return act(stage, title, [shot], carried, checks)


def _metadata_acts(stage: Stage) -> tuple[Act, ...]:
    with stage.metadata():
        return tuple(metadata_act(stage, instance) for instance in ("VM_3", "VM_6"))


def _shows(frames: Seen, source: IPv4Address, destination: IPv4Address) -> Check:
    found = {(f.ip.source, f.ip.destination) for f in frames if f.ip}
    text = f"the receiver sees {source} > {destination}"
    return Check(text, found == {(source, destination)}, frames.places())
