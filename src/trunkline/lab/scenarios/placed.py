"""A router that is placed on a network host: what it does for all others, and what dies with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address

from trunkline.errors import Invalid
from trunkline.lab import build
from trunkline.lab.evidence import answered, heard, nothing
from trunkline.lab.probe import Answer, ping
from trunkline.lab.scenarios.acts import ECHO, LEFT, REPLY, RIGHT, absent, act, told, witnessed
from trunkline.lab.stage import PROBE_S, SILENCE_S, Stage
from trunkline.lab.topology import INTERNET
from trunkline.lab.verdict import Act, Check, Seen, on_wire
from trunkline.lab.waiting import limit_s, until
from trunkline.lab.walk import carrying, leasing

ROUTER = "main"


def play_single(stage: Stage) -> tuple[Act, ...]:
    """Have one host be gateway, DHCP and NAT for all; then stop it, and see what dies.

    Raises:
        Invalid: No router of the topology is placed on one host.
    """
    router = stage.topology.routers.get(ROUTER)
    if router is None or len(router.hosts) != 1:
        raise Invalid(
            f"scenario single needs a router {ROUTER} placed on one host; topology"
            f" {stage.topology.name} has none; 'trunkline lab run --file placed' has"
        )
    (host,) = router.hosts
    with stage.without("tenant2", LEFT):
        acts = [
            _lease_act(stage, host),
            _between_act(stage, host),
            _outside_act(stage, host),
            _floating_act(stage, host),
        ]
    return (*acts, _dead_act(stage, host))


def _lease_act(stage: Stage, host: str) -> Act:
    """Ask for a lease: the question crosses the trunk, and one host answers."""
    seat, segment = stage.seats["VM_1"], stage.segment("VM_1")
    with stage.capture() as capture:
        stage.output("VM_1", *build.ASK_FOR_LEASE)
        seen = Seen(capture.frames())
    offers = seen.of(leasing(seat.mac), "DHCPOFFER")
    checks = [
        heard(f"the offer comes from {host}", offers, host, segment.wire, "out"),
        heard("VM_1 gets it", offers, "VM_1", "eth0", "in"),
        *(
            nothing(f"{other} offers nothing itself", offers.on(other, segment.bridge, "out"))
            for other in (LEFT, RIGHT)
        ),
        Check(
            f"{LEFT} has no address on {segment.bridge}",
            str(segment.gateway(LEFT)) not in stage.output(LEFT, "ip", "-brief", "address"),
        ),
    ]
    return witnessed(stage, f"VM_1 asks for its lease on {LEFT}", seen, leasing(seat.mac), checks)


def _between_act(stage: Stage, host: str) -> Act:
    """Ping another tenant whose network is not here: 6b, and 6 by way of the router's host."""
    here, there, target = stage.segment("VM_1"), stage.segment("VM_6"), stage.seats["VM_6"]
    shot = stage.ping("VM_1", target.address)
    carried, seen = carrying(shot.answer.nonce), shot.seen
    request, reply = seen.of(carried, ECHO), seen.of(carried, REPLY)
    checks = [
        absent(stage),
        answered(shot, target.address),
        heard(f"the request reaches {host} with its tag", request, host, here.wire, "in"),
        heard(f"{host} sends it on with the other", request, host, there.wire, "out"),
        heard("the reply reaches it with that tag", reply, host, there.wire, "in"),
        heard("and goes back with the first", reply, host, here.wire, "out"),
        nothing(
            "nothing on the external wire", on_wire(seen.of(carried), stage.ground, stage.cast)
        ),
    ]
    title = f"VM_1 pings VM_6: the way between tenants is by {host}"
    return act(stage, title, [shot], told(shot, here.gateway(LEFT), target.address), checks)


def _outside_act(stage: Stage, host: str) -> Act:
    """Leave without a floating IP: as the router's host, and by its uplink alone."""
    outside = stage.topology.internet.answers[0]
    shot = stage.ping("VM_2", outside)
    request = shot.seen.of(carrying(shot.answer.nonce), ECHO)
    leaving = request.on(host, build.UPLINK, "out")
    public = stage.topology.hosts[host].external.ip
    sources = {f.ip.source for f in leaving if f.ip}
    checks = [
        answered(shot, outside),
        Check(f"it leaves {host} with source {public}", sources == {public}, leaving.places()),
        nothing(f"nothing leaves {LEFT} by its uplink", request.on(LEFT, build.UPLINK)),
    ]
    title = f"VM_2 reaches the Internet by {host}"
    return act(stage, title, [shot], told(shot, stage.gateway("VM_2")), checks)


def _floating_act(stage: Stage, host: str) -> Act:
    """Ping a floating IP from outside: it is on the router's host, not on its instance's."""
    floating, seat = stage.floating("VM_1").address, stage.seats["VM_1"]
    answer, seen = stage.witness(lambda: _ping(stage, INTERNET, floating))
    carried = carrying(answer.nonce)
    request = seen.of(carried, ECHO)
    shown = {f.ip.destination for f in request.on("VM_1") if f.ip}
    checks = [
        _replied(answer, floating),
        heard(f"it comes in at {host}", request, host, build.UPLINK, "in"),
        nothing(f"and not at {LEFT}", request.on(LEFT, build.UPLINK)),
        Check(f"VM_1 sees its own address, {seat.address}", shown == {seat.address}),
    ]
    title = f"the Internet pings VM_1 by {floating}, on {host}"
    return witnessed(stage, title, seen, carried, checks)


def _dead_act(stage: Stage, host: str) -> Act:
    """Stop the router's host: its networks are islands, and those of the default router go on."""
    outside, floating = stage.topology.internet.answers[0], stage.floating("VM_1").address
    lost = {
        "VM_2 reaches the Internet": ("VM_2", outside),
        "VM_1 reaches VM_3, the other tenant on its own host": (
            "VM_1",
            stage.seats["VM_3"].address,
        ),
        "the Internet reaches VM_1 by its floating IP": (INTERNET, floating),
    }
    kept = {
        "VM_1 reaches VM_4 of its network on the other host": ("VM_1", stage.seats["VM_4"].address),
        "VM_7, whose router is every host, reaches the Internet": ("VM_7", outside),
    }
    wanted = lost | kept
    before = _reached(stage, wanted, PROBE_S)
    with _dead(stage, host), stage.capture() as capture:
        after = _reached(stage, wanted, SILENCE_S)
        stage.output("VM_5", *build.ASK_FOR_LEASE)
        seen = Seen(capture.frames())
    again = _reached(stage, wanted, PROBE_S)
    leased = leasing(stage.seats["VM_5"].mac)
    checks = [
        *(Check(f"before, {text}", before[text]) for text in wanted),
        *(Check(f"with {host} dead, no more: {text}", not after[text]) for text in lost),
        heard("VM_5 asks for a lease", seen.of(leased, "DHCPDISCOVER"), "VM_5", "eth0", "out"),
        nothing("and is offered none", seen.of(leased, "DHCPOFFER")),
        *(Check(f"with {host} dead, {text}", after[text]) for text in kept),
        *(Check(f"with {host} back, {text}", again[text]) for text in wanted),
    ]
    return witnessed(stage, f"{host} dies", seen, leased, checks)


def _reached(
    stage: Stage, wanted: Mapping[str, tuple[str, IPv4Address]], patience_s: float
) -> dict[str, bool]:
    """Return which pings are answered, by their names; each is a node and an address."""
    return {
        text: ping(stage.lab.namespace(node), to, limit_s(patience_s)).kind == "reply"
        for text, (node, to) in wanted.items()
    }


@contextmanager
def _dead(stage: Stage, host: str) -> Iterator[None]:
    """Cut a host's power meanwhile; it boots with nothing but its disk."""
    build.cut_power(stage.lab, host)
    try:
        yield
    finally:
        build.boot_host(stage.lab, host)
        build.start_agent(stage.lab, host)
        outside = stage.topology.internet.answers[0]
        until(f"{host} serves again", lambda: _ping(stage, "VM_2", outside).kind == "reply")
        stage.settle()
        stage.look()


def _ping(stage: Stage, node: str, to: IPv4Address) -> Answer:
    return ping(stage.lab.namespace(node), to, limit_s(PROBE_S))


def _replied(answer: Answer, by: IPv4Address) -> Check:
    return Check(f"ping is answered by {by}", answer.kind == "reply" and answer.by == by)
