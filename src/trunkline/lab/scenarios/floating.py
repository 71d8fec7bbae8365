"""Scenario 7: between tenants by floating IPs, which does not depend on placement."""

from __future__ import annotations

from ipaddress import IPv4Address

from trunkline.lab import build
from trunkline.lab.evidence import (
    answered,
    heard,
    no_answer,
    nothing,
    tracked,
)
from trunkline.lab.scenarios.acts import ECHO, LEFT, REPLY, RIGHT, absent, act, told
from trunkline.lab.stage import Stage
from trunkline.lab.topology import GroupRule
from trunkline.lab.verdict import Act, Check, Seen, on_trunk, on_wire
from trunkline.lab.walk import carrying


def play_7(stage: Stage) -> tuple[Act, ...]:
    """Ping by floating IPs: both ways, on the same host, and to oneself."""
    with stage.without("tenant2", LEFT):
        shut = _floating_shut_act(stage)
        with stage.rules(*_floating_rules(stage)):
            return (
                shut,
                _floating_act(stage, "VM_1", "VM_6"),
                _floating_act(stage, "VM_6", "VM_1"),
                _same_host_act(stage),
                _oneself_act(stage),
            )


def _floating_rules(stage: Stage) -> tuple[GroupRule, ...]:
    """Return the topology's rules, and ICMP from the floating pool for both tenants."""
    pool = stage.topology.floating_cidr
    icmp = (GroupRule(p, "icmp", None, pool) for p in ("tenant1", "tenant2"))
    return (*stage.topology.rules, *icmp)


def _floating_shut_act(stage: Stage) -> Act:
    target = stage.floating("VM_6").address
    shot = stage.ping("VM_1", target, hope=False)
    carried = carrying(shot.answer.nonce)
    probe = shot.seen.of(carried)
    checks = [
        no_answer("ping", shot),
        heard(f"it reaches {RIGHT}", probe, RIGHT, build.UPLINK, "in"),
        nothing("VM_6's group drops it", probe.on("VM_6")),
    ]
    remark = (
        f"VM_6 sees the sender's floating IP, {stage.floating('VM_1').address}, and not its fixed"
        " one: rules for the other tenant's prefix do not match it. The group must allow the"
        " floating address; the article does not say so."
    )
    title = "rules for fixed prefixes do not let floating IPs in"
    return act(stage, title, [shot], carried, checks, remark)


def _floating_act(stage: Stage, sender: str, receiver: str) -> Act:
    """Play 7 one way: translated once on either host, and back by connection tracking alone."""
    a, b = stage.seats[sender], stage.seats[receiver]
    source, target = stage.floating(sender).address, stage.floating(receiver).address
    shot = stage.ping(sender, target)
    carried = carrying(shot.answer.nonce)
    request, reply = shot.seen.of(carried, ECHO), shot.seen.of(carried, REPLY)
    checks = [
        answered(shot, target),
        _shows(f"SNAT on {a.host}", request.on(a.host, build.UPLINK, "out"), source, target),
        _shows(f"DNAT on {b.host}", request.on(receiver), source, b.address),
        _shows(f"back on {b.host}", reply.on(b.host, build.UPLINK, "out"), target, source),
        _shows(f"back on {a.host}", reply.on(sender), target, a.address),
        tracked(stage, a.host, a.address, target, source),
        tracked(stage, b.host, source, target, source, b.address),
        Check(
            "the first hop is an affair of MACs: IP destination as given, MAC of the gateway",
            {(f.ip.destination, f.destination_mac) for f in request.on(sender) if f.ip}
            == {(target, stage.segment(sender).gateway_mac(a.host))},
        ),
        nothing(
            "nothing of it on the trunk",
            on_trunk(Seen((*request, *reply)), stage.ground),
        ),
    ]
    if a.host == LEFT:
        checks.insert(1, absent(stage))
    remarks = (
        "In the article's step 2, 10.0.0.1 is whose MAC it goes to, not its IP destination.",
        "The article calls the reply 'related'; to connection tracking it is 'established'.",
    )
    story = told(shot, stage.gateway(sender))
    title = f"{sender} pings {receiver} by its floating IP {target}"
    return act(stage, title, [shot], story, checks, *remarks)


def _shows(what: str, frames: Seen, source: IPv4Address, target: IPv4Address) -> Check:
    found = {(f.ip.source, f.ip.destination) for f in frames if f.ip}
    text = f"{what}: {source} > {target}"
    return Check(text, found == {(source, target)}, frames.places())


def _same_host_act(stage: Stage) -> Act:
    """Ping a floating IP on the same host: it never leaves, and looks the same to the peer."""
    source = stage.floating("VM_1").address
    with stage.extra_floating("VM_2") as target:
        shot = stage.ping("VM_1", target)
    carried = carrying(shot.answer.nonce)
    probe = shot.seen.of(carried)
    receiver = stage.seats["VM_2"].address
    checks = [
        answered(shot, target),
        _shows("VM_2 sees", probe.of(carried, ECHO).on("VM_2"), source, receiver),
        nothing("nothing of it leaves", on_wire(probe, stage.ground, stage.cast)),
    ]
    title = f"VM_1 pings a floating IP on its own host, VM_2's {target}"
    return act(stage, title, [shot], carried, checks)


def _oneself_act(stage: Stage) -> Act:
    target = stage.floating("VM_1").address
    shot = stage.ping("VM_1", target)
    carried = carrying(shot.answer.nonce)
    probe = shot.seen.of(carried)
    back = probe.of(carried, ECHO).on("VM_1", "eth0", "in")
    checks = [
        answered(shot, target),
        _shows("VM_1 sees", back, target, stage.seats["VM_1"].address),
        nothing("nothing of it leaves", on_wire(probe, stage.ground, stage.cast)),
    ]
    title = f"VM_1 pings its own floating IP {target}"
    return act(stage, title, [shot], carried, checks)
