"""Scenarios 1, 3, 4, 5, 6 and 6b once more, in IPv6.

An instance's router is the link-local address of its own host's bridge, which it hears of by an
advertisement; neighbours are found by multicast instead of ARP.
"""

from __future__ import annotations

from contextlib import ExitStack
from ipaddress import IPv6Address

from trunkline.lab import build, dhcpv6, life
from trunkline.lab.cloud import Seat
from trunkline.lab.evidence import (
    answered,
    has_route,
    heard,
    met,
    no_answer,
    nothing,
    routed,
    tags_on_trunk,
    untouched,
)
from trunkline.lab.packets import (
    ADVERTISE_ROUTER,
    ICMPV6,
    NO_ROUTE,
    SOLICIT,
    SOLICIT_ROUTER,
    UNREACHABLE6,
    Frame,
)
from trunkline.lab.scenarios.acts import LEFT, RIGHT, absent, act, witnessed
from trunkline.lab.stage import Stage
from trunkline.lab.verdict import Act, Check, Seen, on_trunk, on_wire, reversed_path
from trunkline.lab.waiting import limit_s
from trunkline.lab.walk import Select, carrying, first_of, walk

ECHO, REPLY = "ICMPv6 echo request", "ICMPv6 echo reply"
DHCP_PORTS = {546, 547}
BOOTED = ("VM_1", "VM_4")
FINDING = {SOLICIT_ROUTER: "router solicitation", ADVERTISE_ROUTER: "router advertisement"}


def play_ipv6(stage: Stage) -> tuple[Act, ...]:
    """Play all that an address family needs."""
    return (
        _boot_act(stage),
        _same_host_act(stage),
        _other_host_act(stage),
        _closed_act(stage),
        _routed_act(stage),
        _asymmetric_act(stage),
        _absent_act(stage),
    )


def own_ipv6(stage: Stage, instance: str) -> IPv6Address:
    """Return an instance's IPv6 address."""
    address = stage.seats[instance].address6
    assert address is not None, f"{instance} has no IPv6 address; use --file dual"
    return address


def finding(frame: Frame) -> str | None:
    """Select what routers and DHCP servers are found by."""
    ip = frame.ip
    if ip is None or ip.source.version != 6:  # noqa: PLR2004 - the version of IP
        return None
    if ip.icmp is not None:
        return FINDING.get(ip.icmp[0])
    return "DHCPv6" if ip.ports and DHCP_PORTS & set(ip.ports) else None


def soliciting(address: IPv6Address) -> Select:
    """Select who asks for the MAC of an address (RFC 4861, 4.3)."""

    def select(frame: Frame) -> str | None:
        ip = frame.ip
        asked = ip is not None and ip.protocol == ICMPV6 and ip.icmp == (SOLICIT, 0)
        return "neighbour solicitation" if asked and address.packed in frame.data else None

    return select


def _boot_act(stage: Stage) -> Act:
    """Play 1: instances on both hosts boot, and are told by their own host alone."""
    for instance in BOOTED:
        stage.reborn(instance)
    stage.settle()
    with stage.capture() as capture:
        for instance in BOOTED:
            build.boot_instance(stage.lab, instance)
        for instance in BOOTED:
            build.wait_for_lease(stage.lab, instance)
            life.wait_for_ipv6(stage.lab, stage.seats[instance])
        leased = [_lease_check(stage, stage.seats[name]) for name in ("VM_3", "VM_6")]
        seen = Seen(capture.frames())
    found = seen.of(finding)
    checks = [check for i in BOOTED for check in _told_checks(stage, stage.seats[i], found)]
    checks += leased
    checks.append(
        nothing(
            "what finds routers and servers is on no trunk",
            on_trunk(found, stage.ground),
        )
    )
    title = "VM_1 and VM_4 boot, VM_3 and VM_6 ask for what they have"
    return witnessed(stage, title, seen, finding, checks)


def _lease_check(stage: Stage, seat: Seat) -> Check:
    """Return whether DHCPv6 gives an instance its address, and by its own host's server."""
    namespace = stage.lab.namespace(seat.instance)
    lease = dhcpv6.ask(namespace, "eth0", seat.mac, limit_s(10))
    server = stage.segment(seat.instance).router6(seat.host)
    passed = lease is not None and (lease.address, lease.server) == (seat.address6, server)
    text = f"{seat.instance} gets {seat.address6} from {seat.host}'s server {server}"
    return Check(text, passed, str(lease))


def _told_checks(stage: Stage, seat: Seat, found: Seen) -> list[Check]:
    router = stage.segment(seat.instance).router6(seat.host)
    told = found.on(seat.instance, "eth0", "in").of(finding, "router advertisement")
    held = stage.output(seat.instance, "ip", "-6", "addr", "show", "dev", "eth0", "scope", "global")
    return [
        Check(
            f"{seat.instance} hears of {seat.host}'s bridge, {router}, and of no other router",
            {f.ip.source for f in told if f.ip} == {router},
            told.places(),
        ),
        Check(
            f"{seat.instance} has {seat.address6}, as the API says, and no other",
            held.count("inet6") == 1 and f"{seat.address6}/" in held,
            held.strip(),
        ),
        has_route(stage, seat.instance, f"default via {router} dev eth0", version=6),
    ]


def _same_host_act(stage: Stage) -> Act:
    """Play 3: found by multicast, which the whole segment hears."""
    target, segment = own_ipv6(stage, "VM_2"), stage.segment("VM_1")
    shot = stage.ping("VM_1", target)
    carried = carrying(shot.answer.nonce)
    probe, asked = shot.seen.of(carried), shot.seen.of(soliciting(target))
    checks = [
        answered(shot, target),
        *(
            heard(f"{name} hears who is asked for", asked, name, "eth0")
            for name in ("VM_2", "VM_4", "VM_5")
        ),
        *(nothing(f"{name} does not", asked.on(name)) for name in ("VM_3", "VM_6")),
        heard(f"the echo passes {segment.bridge}", probe, LEFT, segment.bridge),
        nothing("the echo is not on the trunk", on_trunk(probe, stage.ground)),
    ]
    story = first_of(carried, soliciting(target))
    return act(stage, "VM_1 pings VM_2: same tenant, same host", [shot], story, checks)


def _other_host_act(stage: Stage) -> Act:
    """Play 4: bridged over the trunk."""
    target, segment = own_ipv6(stage, "VM_5"), stage.segment("VM_1")
    shot = stage.ping("VM_1", target)
    carried = carrying(shot.answer.nonce)
    there, back = shot.seen.of(carried, ECHO), shot.seen.of(carried, REPLY)
    ways = [walk(one, carried, stage.cast) for one in (there, back)]
    checks = [
        answered(shot, target),
        tags_on_trunk(stage, shot.seen.of(soliciting(target)), segment.vlan_id, "it is asked for"),
        tags_on_trunk(stage, there, segment.vlan_id, "the request crosses the trunk"),
        tags_on_trunk(stage, back, segment.vlan_id, "the reply crosses it"),
        untouched("it is bridged all the way, not routed", there),
        Check("the reply takes the same path in reverse", reversed_path(*ways)),
    ]
    return act(stage, "VM_1 pings VM_5: same tenant, other host", [shot], carried, checks)


def _closed_act(stage: Stage) -> Act:
    """Play 5 without rules for the other tenant."""
    with stage.rules():
        ping = stage.ping("VM_1", own_ipv6(stage, "VM_3"), hope=False)
        tcp = stage.tcp("VM_1", "VM_3", own_ipv6(stage, "VM_3"), hope=False)
    carried = carrying(ping.answer.nonce)
    probe = ping.seen.of(carried)
    checks = [
        no_answer("ping", ping),
        no_answer("TCP", tcp),
        heard("the ping comes as far as its host", probe, LEFT, stage.segment("VM_1").bridge),
        nothing("and does not reach VM_3", probe.on("VM_3")),
    ]
    title = "without rules for the other tenant, nothing passes"
    return act(stage, title, [ping, tcp], carried, checks)


def _routed_act(stage: Stage) -> Act:
    """Play 5: routed between the bridges of one host."""
    target, here, there = own_ipv6(stage, "VM_3"), stage.segment("VM_1"), stage.segment("VM_3")
    shot = stage.ping("VM_1", target)
    tcp = stage.tcp("VM_1", "VM_3", target)
    carried = carrying(shot.answer.nonce)
    request, reply = shot.seen.of(carried, ECHO), shot.seen.of(carried, REPLY)
    prefix = stage.topology.networks[there.network].ipv6
    checks = [
        answered(shot, target),
        answered(tcp, target, "TCP"),
        routed(f"the request goes out by {there.bridge}", request, LEFT, there),
        routed(f"the reply goes out by {here.bridge}", reply, LEFT, here),
        has_route(stage, LEFT, f"{prefix} dev {there.bridge} proto kernel", version=6),
        nothing("nothing of it on the trunk", on_trunk(request, stage.ground)),
    ]
    title = "VM_1 pings VM_3: other tenant, same host"
    return act(stage, title, [shot, tcp], carried, checks)


def _asymmetric_act(stage: Stage) -> Act:
    """Play 6: each direction is routed where it starts."""
    target, here, there = own_ipv6(stage, "VM_6"), stage.segment("VM_1"), stage.segment("VM_6")
    shot = stage.ping("VM_1", target)
    tcp = stage.tcp("VM_1", "VM_6", target)
    carried = carrying(shot.answer.nonce)
    request, reply = shot.seen.of(carried, ECHO), shot.seen.of(carried, REPLY)
    checks = [
        answered(shot, target),
        answered(tcp, target, "TCP"),
        tags_on_trunk(stage, request, there.vlan_id, "the request crosses the trunk"),
        tags_on_trunk(stage, reply, here.vlan_id, "the reply crosses the trunk"),
        routed(f"{LEFT} routes the request", request, LEFT, there),
        untouched(f"{RIGHT} only bridges it", request.on(RIGHT)),
        routed(f"{RIGHT} routes the reply", reply, RIGHT, here),
        untouched(f"{LEFT} only bridges it", reply.on(LEFT)),
    ]
    title = "VM_1 pings VM_6: other tenant, other host, asymmetric"
    return act(stage, title, [shot, tcp], carried, checks)


def _absent_act(stage: Stage) -> Act:
    """Play 6b: refused at once by the own host, and never on the external wire."""
    with ExitStack() as stack:
        target = own_ipv6(stage, "VM_6")
        stack.enter_context(stage.without("tenant2", LEFT))
        shot = stage.ping("VM_1", target)
        carried = carrying(shot.answer.nonce)
        probe = shot.seen.of(carried)
        refused = shot.answer.icmp == (UNREACHABLE6, NO_ROUTE)
        checks = [
            absent(stage),
            Check("the sender gets 'no route'", refused, met(shot)),
            nothing("nothing of it leaves", on_wire(probe, stage.ground, stage.cast)),
            nothing("nothing of it on the trunk", on_trunk(probe, stage.ground)),
        ]
        return act(stage, "the other tenant's network is not here", [shot], carried, checks)
