"""Single ports of a floating IP, each of which leads to an instance of its own."""

from __future__ import annotations

from ipaddress import IPv4Network

from trunkline.lab import build, probe
from trunkline.lab.evidence import answered, heard, no_answer, nothing
from trunkline.lab.moving import talk
from trunkline.lab.scenarios.acts import LEFT, act, witnessed
from trunkline.lab.stage import PROBE_S, SILENCE_S, Shot, Stage
from trunkline.lab.topology import INTERNET, FloatingIp, GroupRule
from trunkline.lab.verdict import Act, Check, Seen, on_wire
from trunkline.lab.waiting import limit_s
from trunkline.lab.walk import Select, carrying, connecting, first_of
from trunkline.trace.packets import TCP, UDP
from trunkline.trace.walk import Flow

SERVER, NEIGHBOUR = "VM_2", "VM_1"
OUTER, INNER, OTHER = 8080, 80, 8081
NAME_OUTER, NAME_INNER = 5300, 7000
EVERYBODY = IPv4Network("0.0.0.0/0")
OPEN = (
    GroupRule("tenant1", "tcp", (INNER, INNER), EVERYBODY),
    GroupRule("tenant1", "udp", (NAME_INNER, NAME_INNER), EVERYBODY),
)
WEB = (SERVER, "tcp", (OUTER, INNER))
NAMES = (SERVER, "udp", (NAME_OUTER, NAME_INNER))


def play_forward(stage: Stage) -> tuple[Act, ...]:
    """Reach an instance by ports of a floating IP that are forwarded to it, and by no other."""
    with stage.forwarded("tenant1", WEB, NAMES) as floating:
        shut = _shut_act(stage, floating)
        with stage.rules(*stage.topology.rules, *OPEN):
            return (
                shut,
                _web_act(stage, floating),
                _names_act(stage, floating),
                _other_port_act(stage, floating),
                *(_inside_act(stage, floating, sender) for sender in (NEIGHBOUR, "VM_6")),
                _oneself_act(stage, floating),
                _own_way_out_act(stage),
                _ended_act(stage, floating),
            )


def _tcp(stage: Stage, floating: FloatingIp, port: int, listening: int, *, hope: bool) -> Shot:
    """Connect from the Internet to a port of the floating IP, and listen on one of the server's."""
    ends = stage.lab.namespace(INTERNET), stage.lab.namespace(SERVER)
    patience_s = limit_s(PROBE_S) if hope else limit_s(SILENCE_S)
    to = floating.address

    def fire() -> probe.Answer:
        return probe.tcp(*ends, to, patience_s, port, listening=listening)

    return stage.shoot(_from_outside(stage, floating, TCP, port), fire, lambda _: _opening(port))


def _from_outside(stage: Stage, floating: FloatingIp, protocol: int, port: int) -> Flow:
    routers = stage.topology.internet.routers
    asking = next(r.ip for r in routers if floating.address in r.network)
    return Flow(None, floating.address, protocol, port, source_address=asking)


def _opening(port: int) -> Select:
    return first_of(connecting(None, port), connecting(None, INNER))


def _shut_act(stage: Stage, floating: FloatingIp) -> Act:
    shot = _tcp(stage, floating, OUTER, INNER, hope=False)
    story = _opening(OUTER)
    checks = [
        no_answer("the connection", shot),
        heard(f"it reaches {LEFT}", shot.seen.of(story), LEFT, build.UPLINK, "in"),
        nothing(f"{SERVER}'s group drops it", shot.seen.of(story).on(SERVER)),
    ]
    title = f"port {OUTER} of {floating.address} leads to {SERVER}, whose group lets nobody in"
    return act(stage, title, [shot], story, checks)


def _web_act(stage: Stage, floating: FloatingIp) -> Act:
    shot = _tcp(stage, floating, OUTER, INNER, hope=True)
    story, server = _opening(OUTER), stage.seats[SERVER].address
    syn, back = shot.seen.of(story, "TCP SYN"), shot.seen.of(story, "TCP SYN-ACK")
    checks = [
        answered(shot, floating.address, "the connection"),
        Check(
            f"{SERVER} sees it come to {server} port {INNER}",
            _destinations(syn.on(SERVER, "eth0", "in")) == {(server, INNER)},
            syn.places(),
        ),
        Check(
            f"the answer leaves as {floating.address} port {OUTER}",
            _sources(back.on(LEFT, build.UPLINK, "out")) == {(floating.address, OUTER)},
            back.places(),
        ),
    ]
    title = f"the Internet reaches {SERVER} by TCP port {OUTER} of {floating.address}"
    return act(stage, title, [shot], story, checks)


def _destinations(frames: Seen) -> set[tuple[object, int]]:
    return {(f.ip.destination, f.ip.ports[1]) for f in frames if f.ip and f.ip.ports}


def _sources(frames: Seen) -> set[tuple[object, int]]:
    return {(f.ip.source, f.ip.ports[0]) for f in frames if f.ip and f.ip.ports}


def _udp(stage: Stage, floating: FloatingIp, sender: str) -> Shot:
    """Send by UDP to the floating IP's port, from an instance or the Internet."""
    ends = stage.lab.namespace(sender), stage.lab.namespace(SERVER)

    def fire() -> probe.Answer:
        return probe.udp(
            *ends, floating.address, limit_s(PROBE_S), NAME_OUTER, listening=NAME_INNER
        )

    if sender == INTERNET:
        flow = _from_outside(stage, floating, UDP, NAME_OUTER)
    else:
        flow = stage.flow(sender, floating.address, UDP, NAME_OUTER)
    return stage.shoot(flow, fire, carrying)


def _names_act(stage: Stage, floating: FloatingIp) -> Act:
    shot = _udp(stage, floating, INTERNET)
    story = carrying(shot.answer.nonce)
    asked = shot.seen.of(story, "UDP").on(SERVER, "eth0", "in")
    checks = [
        answered(shot, floating.address, "UDP"),
        Check(
            f"{SERVER} sees it come to port {NAME_INNER}",
            _destinations(asked) == {(stage.seats[SERVER].address, NAME_INNER)},
            asked.places(),
        ),
    ]
    title = f"by UDP, port {NAME_OUTER} leads to another port of {SERVER}"
    return act(stage, title, [shot], story, checks)


def _other_port_act(stage: Stage, floating: FloatingIp) -> Act:
    shot = _tcp(stage, floating, OTHER, INNER, hope=False)
    story = _opening(OTHER)
    checks = [
        no_answer("the connection", shot),
        heard(f"it reaches {LEFT}", shot.seen.of(story), LEFT, build.UPLINK, "in"),
        nothing(f"{SERVER} never sees it", shot.seen.of(story).on(SERVER)),
    ]
    title = f"port {OTHER} of {floating.address} leads nowhere, and nobody answers there"
    return act(stage, title, [shot], story, checks)


def _inside_act(stage: Stage, floating: FloatingIp, sender: str) -> Act:
    """Ask from inside: on the same host nothing leaves, and the peer sees a public face."""
    shot = _udp(stage, floating, sender)
    story = carrying(shot.answer.nonce)
    asked = shot.seen.of(story, "UDP").on(SERVER, "eth0", "in")
    face = stage.floating(sender).address
    checks = [
        answered(shot, floating.address, "UDP"),
        Check(
            f"{SERVER} sees {face}",
            {f.ip.source for f in asked if f.ip} == {face},
            asked.places(),
        ),
    ]
    if stage.seats[sender].host == LEFT:
        leaving = on_wire(shot.seen.of(story), stage.ground, stage.cast)
        checks.append(nothing("nothing of it leaves", leaving))
    return act(stage, f"{sender} reaches {SERVER} by it likewise", [shot], story, checks)


def _oneself_act(stage: Stage, floating: FloatingIp) -> Act:
    shot = _udp(stage, floating, SERVER)
    story = carrying(shot.answer.nonce)
    leaving = on_wire(shot.seen.of(story), stage.ground, stage.cast)
    checks = [answered(shot, floating.address, "UDP"), nothing("nothing of it leaves", leaving)]
    return act(stage, f"{SERVER} reaches itself by it", [shot], story, checks)


def _own_way_out_act(stage: Stage) -> Act:
    """Leave as without forwardings: the floating IP is for who comes, not for who goes."""
    outside = stage.topology.internet.answers[0]
    source = stage.topology.hosts[LEFT].external.ip
    shot = stage.ping(SERVER, outside)
    story = carrying(shot.answer.nonce)
    leaving = shot.seen.of(story, "ICMP echo request").on(LEFT, build.UPLINK, "out")
    checks = [
        answered(shot, outside),
        Check(
            f"it leaves with source {source}",
            {f.ip.source for f in leaving if f.ip} == {source},
            leaving.places(),
        ),
    ]
    return act(stage, f"{SERVER} itself leaves by its host's routing source", [shot], story, checks)


def _ended_act(stage: Stage, floating: FloatingIp) -> Act:
    """End one forwarding: its connections end, and those of the other do not."""
    internet, server = stage.lab.namespace(INTERNET), stage.lab.namespace(SERVER)
    outside, to = stage.topology.internet.answers[0], floating.address
    every = stage.cloud.forwardings(floating)
    web = next(one["id"] for one in every if one["external_port"] == OUTER)
    with (
        talk("in by the forwarding", internet, server, to, (OUTER, INNER)) as cut,
        talk("out by the routing source", server, internet, outside) as kept,
    ):
        before = [Check(f"a connection {one.name} carries", one.goes_on()) for one in (cut, kept)]
        stage.cloud.unforward(floating, web)
        stage.settle()
        with stage.capture() as capture:
            ended = [
                Check(f"the one {cut.name} is cut", not cut.goes_on()),
                Check(f"the one {kept.name} goes on", kept.goes_on()),
            ]
            fresh = probe.tcp(internet, server, to, limit_s(SILENCE_S), OUTER, listening=OTHER)
            seen = Seen(capture.frames())
        cut.abandon()
    asked = seen.of(connecting(to, OUTER), "TCP SYN")
    checks = [
        *before,
        *ended,
        Check("a new one gets no answer", fresh.kind == "silence", fresh.kind),
        heard(f"it reaches {LEFT}", asked, LEFT, build.UPLINK, "in"),
    ]
    title = f"the forwarding of port {OUTER} ends, and its connections with it"
    return witnessed(stage, title, seen, connecting(to, OUTER), checks)
