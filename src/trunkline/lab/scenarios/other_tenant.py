"""Scenarios 5, 6, 6b and its remedies: between tenants by fixed IPs, which depends on placement."""

from __future__ import annotations

from contextlib import ExitStack

from trunkline.lab import build
from trunkline.lab.evidence import (
    answered,
    came_as_error,
    has_route,
    heard,
    no_answer,
    nothing,
    only_broadcasts_on_trunk,
    routed,
    tags_on_trunk,
    untouched,
)
from trunkline.lab.probe import PORT
from trunkline.lab.scenarios.acts import (
    ECHO,
    LEFT,
    REPLY,
    RIGHT,
    absent,
    act,
    present,
    together,
    told,
)
from trunkline.lab.stage import Stage
from trunkline.lab.verdict import Act, Check, Seen, on_trunk, on_wire
from trunkline.lab.walk import carrying, connecting, first_of
from trunkline.model import Provisioning


def play_5(stage: Stage) -> tuple[Act, ...]:
    """Open the groups step by step, then ping across tenants on one host."""
    rules = stage.topology.rules
    tcp = tuple(rule for rule in rules if rule.protocol == "tcp")
    with stage.rules():
        closed = closed_act(stage)
    with stage.rules(*tcp):
        tcp_only = tcp_only_act(stage)
    return closed, tcp_only, _routed_act(stage)


def closed_act(stage: Stage) -> Act:
    """Play 5 without the groups' rules: the packet comes to the host and no further."""
    target = stage.seats["VM_3"]
    shots = (
        stage.ping("VM_1", target.address, hope=False),
        stage.tcp("VM_1", "VM_3", hope=False),
    )
    probe = shots[0].seen.of(carrying(shots[0].answer.nonce))
    checks = [
        no_answer("ping", shots[0]),
        no_answer("TCP", shots[1]),
        heard("the ping comes as far as its gateway", probe, LEFT, stage.segment("VM_1").bridge),
        nothing("and does not reach VM_3", probe.on("VM_3")),
        nothing(
            "nor does the SYN",
            shots[1].seen.of(connecting(stage.seats["VM_3"].address, PORT)).on("VM_3"),
        ),
    ]
    title = "without rules for the other tenant, nothing passes"
    story = first_of(carrying(shots[0].answer.nonce), connecting(stage.seats["VM_3"].address, PORT))
    return act(stage, title, shots, story, checks)


def tcp_only_act(stage: Stage) -> Act:
    """Play 5 with the article's two rules: TCP passes, both ways, and nothing else."""
    shots = (
        stage.tcp("VM_1", "VM_3"),
        stage.tcp("VM_3", "VM_1"),
        stage.ping("VM_1", stage.seats["VM_3"].address, hope=False),
        stage.udp("VM_1", "VM_3", hope=False),
    )
    there, back, ping, udp = shots
    seen = together(shots)
    checks = [
        answered(there, stage.seats["VM_3"].address, "TCP from VM_1 to VM_3"),
        answered(back, stage.seats["VM_1"].address, "TCP from VM_3 to VM_1"),
        no_answer("ping", ping),
        no_answer("UDP", udp),
        only_broadcasts_on_trunk(stage, seen),
    ]
    remark = (
        "The article opens TCP and then pings. These rules let TCP pass and nothing else:"
        " its ping needs an ICMP rule in each group too."
    )
    title = "with the article's two rules, tcp 1-65535, TCP passes and ping does not"
    story = connecting(stage.seats["VM_3"].address, PORT)
    return act(stage, title, shots, story, checks, remark)


def _routed_act(stage: Stage) -> Act:
    """Play 5 with ICMP allowed as well."""
    here, there = stage.segment("VM_1"), stage.segment("VM_3")
    target = stage.seats["VM_3"]
    shot = stage.ping("VM_1", target.address)
    carried = carrying(shot.answer.nonce)
    request, reply = shot.seen.of(carried, ECHO), shot.seen.of(carried, REPLY)
    cidr = stage.topology.networks[there.network].cidr
    checks = [
        answered(shot, target.address),
        heard(f"the request comes in by {here.bridge}", request, LEFT, here.bridge, "in"),
        routed(f"and goes out by {there.bridge}", request, LEFT, there),
        heard(f"the reply comes in by {there.bridge}", reply, LEFT, there.bridge, "in"),
        routed(f"and goes out by {here.bridge}", reply, LEFT, here),
        has_route(stage, LEFT, f"{cidr} dev {there.bridge} proto kernel scope link"),
        only_broadcasts_on_trunk(stage, shot.seen),
    ]
    story = told(shot, stage.gateway("VM_1"), target.address)
    title = "with ICMP allowed too, the ping is routed"
    return act(stage, title, [shot], story, checks)


def play_6(stage: Stage) -> tuple[Act, ...]:
    """Ping across tenants and hosts: each direction is routed where it starts."""
    title = "VM_1 pings VM_6: other tenant, other host, asymmetric"
    return (_asymmetric_act(stage, title),)


def play_6b_with(provisioning: Provisioning, stage: Stage) -> tuple[Act, ...]:
    """Ping a network that is on the sender's host without an instance: 6b turns into 6."""
    network = stage.topology.instances["VM_6"].network
    with stage.without("tenant2", LEFT), stage.provisioned(network, provisioning):
        title = "as if an instance of tenant2 lived on the left host"
        return (_asymmetric_act(stage, title, present(stage)),)


def _asymmetric_act(stage: Stage, title: str, *more: Check) -> Act:
    here, there = stage.segment("VM_1"), stage.segment("VM_6")
    target = stage.seats["VM_6"]
    shot = stage.ping("VM_1", target.address)
    tcp = stage.tcp("VM_1", "VM_6")
    carried = carrying(shot.answer.nonce)
    request, reply = shot.seen.of(carried, ECHO), shot.seen.of(carried, REPLY)
    checks = [
        *more,
        answered(shot, target.address),
        answered(tcp, target.address, "TCP"),
        tags_on_trunk(stage, request, there.vlan_id, "the request crosses the trunk"),
        tags_on_trunk(stage, reply, here.vlan_id, "the reply crosses the trunk"),
        routed(f"{LEFT} routes the request", request, LEFT, there),
        untouched(f"{RIGHT} only bridges it", request.on(RIGHT)),
        routed(f"{RIGHT} routes the reply", reply, RIGHT, here),
        untouched(f"{LEFT} only bridges it", reply.on(LEFT)),
        nothing(
            "nothing of it on the external wire",
            on_wire(Seen((*request, *reply)), stage.ground, stage.cast),
        ),
    ]
    story = told(shot, stage.gateway("VM_1"), target.address)
    return act(stage, title, [shot, tcp], story, checks)


def play_6b(stage: Stage) -> tuple[Act, ...]:
    """Ping a network that the sender's host does not serve, without and with the guard."""
    with ExitStack() as stack:
        stack.enter_context(stage.fixed_only("VM_1"))
        stack.enter_context(stage.without("tenant2", LEFT))
        with stage.unguarded(LEFT):
            leaked = _leak_act(stage)
        return leaked, _guarded_act(stage)


def _leak_act(stage: Stage) -> Act:
    target = stage.seats["VM_6"].address
    source = stage.topology.hosts[LEFT].external.ip
    shot = stage.ping("VM_1", target)
    carried = carrying(shot.answer.nonce)
    probe = shot.seen.of(carried)
    leaving = probe.of(carried, ECHO).on(LEFT, build.UPLINK, "out")
    checks = [
        absent(stage),
        Check(
            f"it leaves by {build.UPLINK}: source {source}, destination still {target}",
            {(f.ip.source, f.ip.destination) for f in leaving if f.ip} == {(source, target)},
            leaving.places(),
        ),
        came_as_error(shot, {r.ip for r in stage.topology.internet.routers}),
        nothing("nothing of it on the trunk", on_trunk(probe, stage.ground)),
        nothing("VM_6 never sees it", probe.on("VM_6")),
    ]
    remark = (
        "The article ends with 'host unreachable'. Worse comes first: a packet between tenants"
        f" leaves to the provider, from {source}; only the provider's router refuses it."
    )
    story = told(shot, stage.gateway("VM_1"))
    title = "as the article has it: the packet follows the default route"
    return act(stage, title, [shot], story, checks, remark, leak=True)


def _guarded_act(stage: Stage) -> Act:
    target = stage.seats["VM_6"].address
    shot = stage.ping("VM_1", target)
    probe = shot.seen.of(carrying(shot.answer.nonce))
    checks = [
        absent(stage),
        came_as_error(shot, {stage.gateway("VM_1")}),
        nothing("nothing of it leaves", on_wire(probe, stage.ground, stage.cast)),
        nothing("nothing of it on the trunk", on_trunk(probe, stage.ground)),
    ]
    story = told(shot, stage.gateway("VM_1"))
    title = "with the default guard: answered at once, nothing leaves"
    return act(stage, title, [shot], story, checks)
