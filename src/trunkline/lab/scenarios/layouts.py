"""Other layouts than the article's: each needs a topology that has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface

from trunkline.errors import Invalid
from trunkline.kernel import netns
from trunkline.lab import build
from trunkline.lab.evidence import (
    answered,
    has_route,
    heard,
    no_answer,
    nothing,
    tags_on_trunk,
    untouched,
)
from trunkline.lab.probe import ping
from trunkline.lab.scenarios.acts import ECHO, LEFT, REPLY, RIGHT, absent, act, told, witnessed
from trunkline.lab.stage import PROBE_S, SILENCE_S, Stage
from trunkline.lab.topology import ROUTER
from trunkline.lab.verdict import Act, Check, Seen, on_wire
from trunkline.lab.waiting import limit_s, until
from trunkline.lab.walk import asking_for, carrying, leasing

IDLE = "compute3"  # a host without an instance


def play_flat(stage: Stage) -> tuple[Act, ...]:
    """Ping across tenants on the one segment that all share, and a VLAN on the same NIC.

    Raises:
        Invalid: The topology's instances are on no flat network.
    """
    if stage.segment("VM_1").vlan_id is not None or IDLE not in stage.topology.hosts:
        raise Invalid(
            f"scenario flat needs a flat network, and {IDLE} with no instance;"
            f" topology {stage.topology.name} has not; 'trunkline lab run --file flat' has"
        )
    with stage.rules():
        closed = _closed_act(stage)
    shared, tagged = _shared_act(stage), tagged_act(stage)
    with _without_dhcp(stage, "VM_2"):
        return shared, closed, tagged, _handed_out_act(stage)


def play_upstream(stage: Stage) -> tuple[Act, ...]:
    """Reach another tenant by way of a router on the trunk, also where its network is not (6b).

    Raises:
        Invalid: The topology's networks have their gateways on hosts.
    """
    if not stage.topology.routers_upstream():
        raise Invalid(
            "scenario upstream needs networks whose gateway is upstream; topology"
            f" {stage.topology.name} has none; 'trunkline lab run --file upstream' has"
        )
    with stage.without("tenant2", LEFT):
        far = _by_way_of_router(stage, "VM_6", absent(stage))
    near = _by_way_of_router(stage, "VM_3")
    with stage.rules():
        return far, near, _refused_act(stage)


def _by_way_of_router(stage: Stage, to: str, *more: Check) -> Act:
    here, there, target = stage.segment("VM_1"), stage.segment(to), stage.seats[to]
    router = stage.topology.networks[here.network].cidr[1]
    namespace = stage.lab.namespace("VM_1")
    answer, seen = stage.witness(lambda: ping(namespace, target.address, limit_s(PROBE_S)))
    carried = carrying(answer.nonce)
    request, reply = seen.of(carried, ECHO), seen.of(carried, REPLY)
    checks = [
        *more,
        has_route(stage, "VM_1", f"default via {router} dev eth0"),
        Check(f"VM_1 is answered by {target.address}", answer.by == target.address, answer.kind),
        heard("the request reaches the router with its tag", request, ROUTER, here.wire, "in"),
        heard("the router sends it on with the other", request, ROUTER, there.wire, "out"),
        heard("the reply reaches it with that tag", reply, ROUTER, there.wire, "in"),
        heard("and goes back with the first", reply, ROUTER, here.wire, "out"),
        Check(
            "no host routes it: its TTL falls once, at the router",
            {f.ip.ttl for f in request.where(lambda f: f.node != ROUTER) if f.ip} == {64, 63},
        ),
        nothing(
            "nothing of it on the external wire",
            on_wire(Seen((*request, *reply)), stage.ground, stage.cast),
        ),
    ]
    title = f"VM_1 pings {to} on {target.host}: the way is by the router on the trunk"
    return witnessed(stage, title, seen, carried, checks)


def _refused_act(stage: Stage) -> Act:
    target, namespace = stage.seats["VM_6"], stage.lab.namespace("VM_1")
    answer, seen = stage.witness(lambda: ping(namespace, target.address, limit_s(SILENCE_S)))
    request = seen.of(carrying(answer.nonce), ECHO)
    checks = [
        Check("VM_1 gets no answer", answer.kind == "silence", answer.kind),
        heard(
            "the router sends the request on", request, ROUTER, stage.segment("VM_6").wire, "out"
        ),
        nothing("VM_6 never sees it", request.on("VM_6")),
    ]
    title = "without its rule: the receiver's group holds behind the router too"
    return witnessed(stage, title, seen, carrying(answer.nonce), checks)


def _shared_act(stage: Stage) -> Act:
    here, target = stage.segment("VM_1"), stage.seats["VM_6"]
    shot = stage.ping("VM_1", target.address)
    carried = carrying(shot.answer.nonce)
    probe, arp = shot.seen.of(carried), shot.seen.of(asking_for([target.address]), "ARP request")
    checks = [
        answered(shot, target.address),
        Check(
            f"{IDLE} has {here.bridge} from the start, without an instance",
            here.bridge in stage.links(IDLE),
        ),
        heard("VM_3 of the other tenant hears the ARP broadcast", arp, "VM_3", "eth0"),
        tags_on_trunk(stage, probe.of(carried, ECHO), None, "the request crosses the trunk"),
        tags_on_trunk(stage, probe.of(carried, REPLY), None, "the reply crosses the trunk"),
        heard(f"it passes {here.bridge}", probe, LEFT, here.bridge),
        heard(f"and {here.bridge} of {RIGHT}", probe, RIGHT, here.bridge),
        untouched("it is bridged all the way, not routed", probe.of(carried, ECHO)),
        nothing("nothing of it on the external wire", on_wire(probe, stage.ground, stage.cast)),
    ]
    title = "VM_1 pings VM_6: two tenants on one segment"
    return act(stage, title, [shot], told(shot, target.address), checks)


def _closed_act(stage: Stage) -> Act:
    target = stage.seats["VM_6"]
    shot = stage.ping("VM_1", target.address, hope=False)
    probe = shot.seen.of(carrying(shot.answer.nonce))
    checks = [
        no_answer("ping", shot),
        heard(f"the request reaches {RIGHT}", probe, RIGHT, stage.segment("VM_6").bridge),
        nothing("VM_6 never sees it", probe.on("VM_6")),
    ]
    title = "without its rule: the receiver's group is the wall, where the segment is none"
    return act(stage, title, [shot], told(shot, target.address), checks)


@contextmanager
def _without_dhcp(stage: Stage, instance: str) -> Iterator[None]:
    """Serve no DHCP on an instance's network meanwhile, and plug it in anew, not booted."""
    subnets = stage.cloud.one("networks", stage.segment(instance).network)["subnets"]
    stage.cloud.admin.update("subnets", subnets[0], {"enable_dhcp": False})
    stage.settle()
    stage.reborn(instance)
    try:
        yield
    finally:
        stage.cloud.admin.update("subnets", subnets[0], {"enable_dhcp": True})
        stage.settle()
        stage.reborn(instance)
        build.boot_instance(stage.lab, instance)
        build.wait_for_lease(stage.lab, instance)


def _handed_out_act(stage: Stage) -> Act:
    """FlatManager: the API hands an address out, and something else tells the instance."""
    me, target = stage.seats["VM_2"], stage.seats["VM_6"]
    namespace = stage.lab.namespace("VM_2")
    prefix = stage.topology.networks[me.network].cidr.prefixlen
    with stage.capture() as capture:
        build.boot_instance(stage.lab, "VM_2")
        until(
            f"{RIGHT} has heard VM_2 ask",
            lambda: bool(Seen(capture.frames()).of(leasing(me.mac), "DHCPDISCOVER").on(RIGHT)),
        )
        netns.address(namespace, "eth0", IPv4Interface((me.address, prefix)))
        answer = ping(namespace, target.address, limit_s(PROBE_S))
        seen = Seen(capture.frames())
    carried = carrying(answer.nonce)
    checks = [
        nothing("nobody offers VM_2 a lease", seen.of(leasing(me.mac), "DHCPOFFER")),
        Check(f"{me.address}, told by hand, works", answer.by == target.address, answer.kind),
        tags_on_trunk(stage, seen.of(carried), None, "it crosses the trunk"),
    ]
    title = "without DHCP (FlatManager): VM_2 is told its address by something else"
    return witnessed(stage, title, seen, carried, checks)


def tagged_act(stage: Stage) -> Act:
    """A VLAN on the same NIC; its broadcast reaches a host that has the flat bridge only."""
    flat, here, target = stage.segment("VM_1"), stage.segment("VM_7"), stage.seats["VM_8"]
    shot = stage.ping("VM_7", target.address)
    carried = carrying(shot.answer.nonce)
    arp = shot.seen.of(asking_for([target.address]), "ARP request")
    everything = shot.seen.where(
        lambda f: carried(f) is not None or (f.arp is not None and f.arp.target == target.address)
    )
    checks = [
        answered(shot, target.address),
        tags_on_trunk(stage, shot.seen.of(carried), here.vlan_id, "it crosses the trunk"),
        heard(f"its ARP broadcast reaches {IDLE}'s NIC", arp, IDLE, flat.trunk),
        nothing(
            f"nothing of it gets into {flat.bridge}",
            everything.where(lambda f: f.device == flat.bridge or f.node in ("VM_1", "VM_6")),
        ),
    ]
    title = "VM_7 pings VM_8: a VLAN whose tag shares the NIC with the flat network"
    return act(stage, title, [shot], told(shot, target.address), checks)
