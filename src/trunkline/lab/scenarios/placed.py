"""A router that is placed on a network host: what it does for all others, and what dies with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network

from trunkline.errors import Invalid
from trunkline.lab import build
from trunkline.lab.evidence import answered, heard, nothing
from trunkline.lab.moving import Loss, Pinging
from trunkline.lab.probe import Answer, ping, udp
from trunkline.lab.scenarios.acts import ECHO, LEFT, REPLY, RIGHT, absent, act, told, witnessed
from trunkline.lab.stage import PROBE_S, SILENCE_S, Stage
from trunkline.lab.topology import INTERNET, GroupRule
from trunkline.lab.verdict import Act, Check, Seen, on_wire
from trunkline.lab.waiting import limit_s, until
from trunkline.lab.walk import carrying, leasing

ROUTER, BOTH = "main", ("network1", "network2")
LOST_MAX = 30  # packets, at 10 a second


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
            *_forwarded_acts(stage, host),
        ]
    return (*acts, _dead_act(stage, host))


def play_redundant(stage: Stage) -> tuple[Act, ...]:
    """Have two hosts for one router, and let the one that acts die, then lose its trunk.

    Raises:
        Invalid: The topology has no router for it.
    """
    if ROUTER not in stage.topology.routers or not set(BOTH) <= stage.topology.hosts.keys():
        raise Invalid(
            f"scenario redundant needs a router {ROUTER} and hosts {', '.join(BOTH)}; topology"
            f" {stage.topology.name} has not; 'trunkline lab run --file placed' has"
        )
    with _on_both(stage):
        return (
            _host_lost_act(stage),
            _trunk_lost_act(stage),
            _by_who_acts_act(stage),
            _moved_act(stage),
        )


@contextmanager
def _on_both(stage: Stage) -> Iterator[None]:
    """Place the router on both hosts meanwhile."""
    stage.cloud.place(ROUTER, *BOTH)
    stage.settle()
    _acting(stage)
    stage.look()
    try:
        yield
    finally:
        stage.cloud.place(ROUTER, *stage.topology.routers[ROUTER].hosts)
        stage.settle()
        stage.look()


def _acting(stage: Stage, *among: str) -> str:
    """Return the one host that acts for the router, once there is one."""

    def found() -> list[str]:
        marked = [h for h in among or BOTH if "169.254.128." in stage.output(h, "ip", "-4", "a")]
        return marked if len(marked) == 1 else []

    return (until("one host acts for the router", found) or [""])[0]


def _host_lost_act(stage: Stage) -> Act:
    """Cut the power of the host that acts, while nobody but keepalived lives on the other."""
    floating, lost = stage.floating("VM_1").address, _acting(stage)
    (heir,) = set(BOTH) - {lost}
    stage.lab.stop(f"agent-{heir}")
    pinging = Pinging(stage.lab, INTERNET, floating)
    pinging.wait_for(10)
    build.cut_power(stage.lab, lost)
    pinging.wait_for_loss()
    pinging.wait_for(10)
    loss = pinging.end()
    found = _acting(stage, heir)
    build.start_agent(stage.lab, heir)
    build.boot_host(stage.lab, lost)
    build.start_agent(stage.lab, lost)
    pinging = Pinging(stage.lab, INTERNET, floating)
    until(f"{lost} stands by", lambda: _stands_by(stage, lost))
    pinging.wait_for(10)
    with stage.capture() as capture:
        returned = pinging.end()
        seen = Seen(capture.frames())
    checks = [
        _quick(f"{lost} dies", loss),
        Check(f"{heir} acts, though its agent is stopped", found == heir),
        Check(
            f"{lost} comes back and leaves it to {heir}: no ping is lost",
            returned.lost == 0 and _acting(stage) == heir,
            f"{returned.lost} of {returned.sent} lost",
        ),
    ]
    return witnessed(stage, f"{lost}, which acts, dies", seen, carrying(b"none"), checks)


def _stands_by(stage: Stage, host: str) -> bool:
    """Return whether a host is ready to take over."""
    return bool(stage.output(host, "ss", "-Hnwl", "sport = :112")) and "resting" in stage.output(
        host, "nft", "list", "table", "bridge", "trunkline"
    )


def _trunk_lost_act(stage: Stage) -> Act:
    """Take the carrier of the trunk of the host that acts: it can act no more, and says so."""
    outside, lost = stage.topology.internet.answers[0], _acting(stage)
    (heir,) = set(BOTH) - {lost}
    pinging = Pinging(stage.lab, "VM_2", outside)
    pinging.wait_for(10)
    stage.output(lost, "ip", "link", "set", build.TRUNK, "down")
    _acting(stage, heir)  # it may be so quick that no ping is lost
    pinging.wait_for(10)
    loss = pinging.end()
    found = _acting(stage)
    stage.output(lost, "ip", "link", "set", build.TRUNK, "up")
    with stage.capture() as capture:
        answer = _ping(stage, "VM_1", stage.seats["VM_6"].address)
        seen = Seen(capture.frames())
    carried = carrying(answer.nonce)
    checks = [
        _quick(f"{lost} loses its trunk", loss),
        Check(f"{heir} acts", found == heir),
        heard(f"the way between tenants is by {heir}", seen.of(carried, ECHO), heir, "gw100"),
        nothing(
            f"and not by {lost}",
            seen.of(carried, ECHO).where(lambda f: f.node == lost and f.device.startswith("gw1")),
        ),
    ]
    return witnessed(stage, f"{lost}, which acts, loses its trunk", seen, carried, checks)


def _by_who_acts_act(stage: Stage) -> Act:
    """Reach the Internet by whoever acts, as the tracer says beforehand."""
    host, outside = _acting(stage), stage.topology.internet.answers[0]
    until(f"{host} has reported that it acts", lambda: _is_told(stage, host))
    stage.look()  # a host that was booted has NICs with other MACs
    shot = stage.ping("VM_2", outside)
    request = shot.seen.of(carrying(shot.answer.nonce), ECHO)
    checks = [
        answered(shot, outside),
        heard(f"it leaves {host}", request, host, build.UPLINK, "out"),
    ]
    title = f"VM_2 reaches the Internet by {host}, which acts"
    return act(stage, title, [shot], told(shot, stage.gateway("VM_2")), checks)


def _moved_act(stage: Stage) -> Act:
    """Have the other host alone be the router: what it had to settle, it has for itself."""
    outside, acts = stage.topology.internet.answers[0], _acting(stage)
    (other,) = set(BOTH) - {acts}
    pinging = Pinging(stage.lab, "VM_2", outside)
    pinging.wait_for(10)
    stage.cloud.place(ROUTER, other)
    stage.settle()
    pinging.wait_for(10)
    loss = pinging.end()
    with stage.capture() as capture:
        answer = _ping(stage, INTERNET, stage.floating("VM_1").address)
        seen = Seen(capture.frames())
    carried = carrying(answer.nonce)
    checks = [
        _quick(f"the router is {other}'s alone", loss),
        heard(f"floating IPs are on {other}", seen.of(carried, ECHO), other, build.UPLINK, "in"),
        Check(f"keepalived is no more on {other}", not _stands_by(stage, other)),
    ]
    return witnessed(stage, f"the router is taken from {acts}", seen, carried, checks)


def _is_told(stage: Stage, host: str) -> bool:
    facts = {a["host"]: a["configurations"]["facts"] for a in stage.cloud.admin.list("agents")}
    return [bool(facts[h].get("acting")) for h in BOTH] == [h == host for h in BOTH]


def _quick(what: str, loss: Loss) -> Check:
    text = f"{what}: a ping at 10 a second loses less than {LOST_MAX / 10:.0f} s of packets"
    return Check(text, loss.lost < LOST_MAX, f"{loss.lost} of {loss.sent} lost")


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


def _forwarded_acts(stage: Stage, host: str) -> tuple[Act, ...]:
    """Reach instances on two hosts by ports of one floating IP, which is on the router's host."""
    ports = {"VM_2": (5300, 7000), "VM_5": (5301, 7001)}
    wanted = ((instance, "udp", pair) for instance, pair in ports.items())
    let_in = GroupRule("tenant1", "udp", (7000, 7001), IPv4Network("0.0.0.0/0"))
    with stage.rules(*stage.topology.rules, let_in), stage.forwarded("tenant1", *wanted) as led:
        return tuple(
            _forwarded_act(stage, host, led.address, instance, pair)
            for instance, pair in ports.items()
        )


def _forwarded_act(
    stage: Stage, host: str, to: IPv4Address, instance: str, ports: tuple[int, int]
) -> Act:
    ends, seat = (
        (stage.lab.namespace(INTERNET), stage.lab.namespace(instance)),
        stage.seats[instance],
    )
    outer, inner = ports
    answer, seen = stage.witness(lambda: udp(*ends, to, limit_s(PROBE_S), outer, listening=inner))
    carried = carrying(answer.nonce)
    request = seen.of(carried, "UDP")
    shown = {f.ip.destination for f in request.on(instance, "eth0", "in") if f.ip}
    checks = [
        _replied(answer, to),
        heard(f"it comes in at {host}", request, host, build.UPLINK, "in"),
        nothing(f"and not at {seat.host}", request.on(seat.host, build.UPLINK)),
        Check(f"{instance} sees its own address, {seat.address}", shown == {seat.address}),
    ]
    title = f"the Internet reaches {instance} on {seat.host} by port {outer} of {to}, on {host}"
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
