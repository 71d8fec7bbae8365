"""Scenarios 1 to 4: an instance gets its address, reaches the Internet, and its own tenant."""

from __future__ import annotations

from trunkline.lab import build
from trunkline.lab.evidence import (
    answered,
    has_route,
    heard,
    nothing,
    tags_on_trunk,
    tracked,
    untouched,
)
from trunkline.lab.packets import BROADCAST
from trunkline.lab.predict import held_against
from trunkline.lab.scenarios.acts import ECHO, LEFT, REPLY, RIGHT, act, told
from trunkline.lab.stage import Stage, Take
from trunkline.lab.verdict import Act, Check, Seen, on_trunk, on_wire, reversed_path
from trunkline.lab.walk import asking_for, carrying, discovering, leasing, walk
from trunkline.trace.steps import Trace
from trunkline.trace.walk import trace_lease


def play_1(stage: Stage) -> tuple[Act, ...]:
    """VM_1 and VM_4 boot; a renewal on every host afterwards proves that all servers are done.

    A dnsmasq answers in the order of arrival: once it has served the renewal, it has also
    decided about the DISCOVER, so its silence is final.
    """
    network = stage.topology.instances["VM_1"].network
    for instance in ("VM_1", "VM_4"):
        stage.reborn(instance)
    stage.settle()
    told = {
        "VM_1": trace_lease(stage.traced(dark=["VM_4"]), stage.seats["VM_1"].port_id),
        "VM_4": trace_lease(stage.traced(), stage.seats["VM_4"].port_id),
    }
    with stage.capture() as capture:
        for instance in ("VM_1", "VM_4"):
            build.boot_instance(stage.lab, instance)
            build.wait_for_lease(stage.lab, instance)
        for instance in _one_per_host(stage, network):
            stage.renew(instance)
        seen = Seen(capture.frames())
    return tuple(_boot_act(stage, instance, seen, one) for instance, one in told.items())


def _one_per_host(stage: Stage, network: str) -> list[str]:
    """Return one instance of a network on each host that serves it."""
    seats = [seat for seat in stage.seats.values() if seat.network == network]
    return list({seat.host: seat.instance for seat in seats}.values())


def _boot_act(stage: Stage, instance: str, seen: Seen, predicted: Trace) -> Act:
    seat, segment = stage.seats[instance], stage.segment(instance)
    gateway, client = stage.gateway(instance), leasing(seat.mac)
    serving = {s.host: s for s in stage.seats.values() if s.network == seat.network}
    others = [host for host in serving if host != seat.host]
    discover, offer = seen.of(client, "DHCPDISCOVER"), seen.of(client, "DHCPOFFER")
    answers = seen.of(client, "DHCPOFFER").frames + seen.of(client, "DHCPACK").frames
    answers += seen.of(client, "DHCPNAK").frames
    asked = discover.on(seat.host, segment.bridge, "in")
    wrong = Seen(answers).where(lambda f: not f.ip or f.ip.source != gateway)
    offered = {(f.dhcp.offered, f.dhcp.router, f.dhcp.server) for f in offer if f.dhcp}
    checks = [
        Check(
            f"DISCOVER is broadcast on {segment.bridge} of {seat.host}",
            bool(asked) and all(f.destination_mac == BROADCAST for f in asked),
            asked.places(),
        ),
        tags_on_trunk(stage, discover, segment.vlan_id, "DISCOVER is on the trunk"),
        *(
            heard(f"{host}'s server hears it", discover, host, segment.bridge, "in")
            for host in others
        ),
        Check(f"only {gateway} answers", bool(answers) and not wrong, Seen(answers).places()),
        nothing("no answer crosses the trunk", on_trunk(Seen(answers), stage.ground)),
        Check(
            f"the offer is {seat.address} with router {gateway}",
            offered == {(seat.address, gateway, gateway)},
            str([tuple(map(str, one)) for one in offered]),
        ),
        has_route(stage, instance, f"default via {gateway} dev eth0"),
    ]
    remark = (
        f"The DISCOVER floods the segment, so it reaches the DHCP server of every host"
        f" on it, {', '.join(others)} included; a server knows its own host's instances only."
    )
    story = discovering(seat.mac)
    title = f"{instance} boots on {seat.host}"
    prediction = held_against(predicted, walk(seen, story, stage.cast))
    return act(stage, title, [Take(seen, prediction)], story, checks, remark)


def play_2(stage: Stage) -> tuple[Act, ...]:
    """Ping the Internet with a fixed IP only."""
    target = stage.topology.internet.answers[0]
    source = stage.topology.hosts[LEFT].external.ip
    gateway = stage.gateway("VM_1")
    with stage.fixed_only("VM_1"):
        shot = stage.ping("VM_1", target)
        conntrack = tracked(stage, LEFT, stage.seats["VM_1"].address, target, source)
    probe = shot.seen.of(carrying(shot.answer.nonce))
    leaving = probe.of(carrying(shot.answer.nonce), ECHO).on(LEFT, build.UPLINK, "out")
    router = {stage.cast.owner(f.destination_mac) for f in leaving}
    checks = [
        answered(shot, target),
        Check(
            f"VM_1 sends it to its gateway's MAC, {LEFT}'s bridge",
            {f.destination_mac for f in probe.on("VM_1", "eth0", "out")}
            == {stage.segment("VM_1").gateway_mac(LEFT)},
            f"gateway {gateway}",
        ),
        Check(
            f"it leaves by {build.UPLINK} with source {source}",
            {f.ip.source for f in leaving if f.ip} == {source},
            leaving.places(),
        ),
        conntrack,
        nothing("nothing of it on the trunk", on_trunk(probe, stage.ground)),
        nothing(f"nothing of it on {RIGHT}", probe.on(RIGHT)),
    ]
    remark = (
        f"The article gives {source} two roles: {build.UPLINK}'s own address and the host's"
        f" default gateway. It is the source address; the frame left to {', '.join(router)}."
    )
    title = f"VM_1, with a fixed IP only, pings {target}"
    return (
        act(
            stage,
            title,
            [shot],
            told(shot, gateway),
            checks,
            remark,
        ),
    )


def play_3(stage: Stage) -> tuple[Act, ...]:
    """Ping the same tenant on the same host."""
    target, segment = stage.seats["VM_2"], stage.segment("VM_1")
    shot = stage.ping("VM_1", target.address)
    probe = shot.seen.of(carrying(shot.answer.nonce))
    request = shot.seen.of(asking_for([target.address]), "ARP request")
    reply = shot.seen.of(asking_for([target.address]), "ARP reply")
    others = [s for s in stage.seats.values() if s.network == segment.network]
    strangers = [s for s in stage.seats.values() if s.network != segment.network]
    checks = [
        answered(shot, target.address),
        *(
            heard(f"{s.instance} on {s.host} hears the ARP broadcast", request, s.instance, "eth0")
            for s in others
            if s.instance != "VM_1"
        ),
        *(nothing(f"{s.instance} does not", request.on(s.instance)) for s in strangers),
        Check(
            "only VM_2 answers it",
            {f.arp.sender_mac for f in reply if f.arp} == {target.mac},
            reply.places(),
        ),
        heard(f"the echo passes {segment.bridge}", probe, LEFT, segment.bridge),
        nothing("the echo is not on the trunk", on_trunk(probe, stage.ground)),
        nothing(
            "nobody else receives it",
            probe.where(lambda f: f.node not in ("VM_1", "VM_2", LEFT)),
        ),
    ]
    title = "VM_1 pings VM_2: same tenant, same host"
    return (
        act(
            stage,
            title,
            [shot],
            told(shot, target.address),
            checks,
        ),
    )


def play_4(stage: Stage) -> tuple[Act, ...]:
    """Ping the same tenant on the other host."""
    target, segment = stage.seats["VM_5"], stage.segment("VM_1")
    shot = stage.ping("VM_1", target.address)
    carried = carrying(shot.answer.nonce)
    probe = shot.seen.of(carried)
    arp = shot.seen.of(asking_for([target.address]))
    there = walk(probe.of(carried, ECHO), carried, stage.cast)
    back = walk(probe.of(carried, REPLY), carried, stage.cast)
    checks = [
        answered(shot, target.address),
        tags_on_trunk(stage, arp, segment.vlan_id, "ARP crosses the trunk"),
        tags_on_trunk(stage, probe.of(carried, ECHO), segment.vlan_id, "the request crosses it"),
        tags_on_trunk(stage, probe.of(carried, REPLY), segment.vlan_id, "the reply crosses it"),
        untouched("it is bridged all the way, not routed", probe.of(carried, ECHO)),
        Check(
            "the reply takes the same path in reverse",
            reversed_path(there, back),
            " > ".join(step.node for step in back),
        ),
        nothing("nothing of it on the external wire", on_wire(probe, stage.ground, stage.cast)),
    ]
    remark = "The article's last step says 'VM_1 and VM_2'; it means VM_1 and VM_5."
    title = "VM_1 pings VM_5: same tenant, other host"
    return (
        act(
            stage,
            title,
            [shot],
            told(shot, target.address),
            checks,
            remark,
        ),
    )
