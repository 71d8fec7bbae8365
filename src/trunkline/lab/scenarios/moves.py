"""An instance that moves to another host while it runs, and a host that dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from trunkline.lab import build, life
from trunkline.lab.cloud import Seat
from trunkline.lab.moving import Hypervisor, Loss, Pinging, Talk, talk
from trunkline.lab.scenarios.acts import LEFT, RIGHT, act, told
from trunkline.lab.stage import Stage
from trunkline.lab.topology import INTERNET, GroupRule
from trunkline.lab.verdict import Act, Check, Seen, laws
from trunkline.lab.waiting import until

INSTANCE = "VM_1"
LOST_MAX = 5
EVERYBODY = IPv4Network("0.0.0.0/0")
OPEN = (
    GroupRule("tenant1", "icmp", None, EVERYBODY),
    GroupRule("tenant1", "tcp", (1, 65535), EVERYBODY),
)


@dataclass(frozen=True, slots=True)
class Load:
    """What goes on while an instance moves."""

    pinging: Pinging
    talks: tuple[Talk, ...]

    def pass_a_moment(self) -> None:
        """Let packets meet a half-done move: a ping that is lost, and a word on each connection."""
        for one in self.talks:
            one.ends[0].sendall(b"?")
        self.pinging.wait_for_loss()


Switch = Callable[[Hypervisor, Load, str], None]


def play_move(stage: Stage) -> tuple[Act, ...]:
    """Move VM_1 to the other host and back, activated before and after it runs there.

    The second time the hypervisor does not announce it, so the agent alone has to.
    """

    def activated_first(hypervisor: Hypervisor, load: Load, host: str) -> None:
        stage.cloud.activate(hypervisor.seat.port_id, host)
        load.pass_a_moment()
        hypervisor.run_on(host)
        hypervisor.announce(host)

    def running_first(hypervisor: Hypervisor, load: Load, host: str) -> None:
        hypervisor.run_on(host)
        load.pass_a_moment()
        stage.cloud.activate(hypervisor.seat.port_id, host)

    with stage.rules(*stage.topology.rules, *OPEN), movable(stage, INSTANCE) as hypervisor:
        there = _move_act(stage, hypervisor, (LEFT, RIGHT), activated_first)
        back = _move_act(stage, hypervisor, (RIGHT, LEFT), running_first)
    return there, back


@contextmanager
def movable(stage: Stage, instance: str) -> Iterator[Hypervisor]:
    """Have an instance run under a hypervisor that can move it meanwhile."""
    seat = stage.seats[instance]
    _end(stage, seat, lambda: build.unplug_instance(stage.lab, instance))
    hypervisor = Hypervisor(stage.lab, seat)
    hypervisor.power_on()
    _boot(stage, instance)
    try:
        yield hypervisor
    finally:
        stage.cloud.admin.update("ports", seat.port_id, {"binding:host_id": seat.host})
        _end(stage, seat, hypervisor.power_off)
        build.plug_instance(stage.lab, instance, seat.mac, seat.tap)
        _boot(stage, instance)
        stage.settle()
        stage.look()


def _end(stage: Stage, seat: Seat, end: Callable[[], None]) -> None:
    end()
    until(
        f"the port of {seat.instance} is DOWN",
        lambda: stage.cloud.admin.show("ports", seat.port_id)["status"] == "DOWN",
    )


def _boot(stage: Stage, instance: str) -> None:
    life.wait_active(stage.lab, stage.cloud, [instance])
    build.boot_instance(stage.lab, instance)
    build.wait_for_lease(stage.lab, instance)


def _move_act(stage: Stage, hypervisor: Hypervisor, ends: tuple[str, str], switch: Switch) -> Act:
    """Move an instance between two hosts under load, and look at what it noticed."""
    here, there = ends
    seat, floating = hypervisor.seat, stage.floating(INSTANCE).address
    gateway = stage.gateway(INSTANCE)
    with ExitStack() as stack:
        talks = tuple(stack.enter_context(one) for one in _talks(stage, floating))
        pinging = Pinging(stage.lab, INTERNET, floating)
        capture = stack.enter_context(stage.capture())
        pinging.wait_for(10)
        before = _neighbour(stage, gateway)
        prepared = _prepare(stage, hypervisor, there, floating)
        switch(hypervisor, Load(pinging, talks), there)
        pinging.wait_for(15)
        loss = pinging.end()
        alive = [Check(f"{one.name} lives on", one.goes_on()) for one in talks]
        seen = Seen(capture.frames())
    stage.cloud.unbind(seat.port_id, here)
    hypervisor.remove_tap(here)
    stage.settle()
    stage.look()
    checks = [
        *prepared,
        Check(
            f"a ping from the Internet loses at most {LOST_MAX} packets at 10 a second",
            loss.lost <= LOST_MAX,
            f"{loss.lost} of {loss.sent} lost",
        ),
        *alive,
        Check(
            f"{INSTANCE} still has its gateway's MAC, and has not asked for it",
            bool(before) and _neighbour(stage, gateway) == before,
            before,
        ),
        *_placed(stage, floating, here, there),
        *laws(seen, stage.ground, stage.cast),
    ]
    shot = stage.ping(INSTANCE, stage.topology.internet.answers[0])
    title = f"{INSTANCE} moves from {here} to {there} while it runs"
    return act(stage, title, [shot], told(shot, gateway), checks, _REMARK)


_REMARK = (
    "Connections through the floating IP live on: the new host's connection tracking picks them up"
    " in the middle, and its rules translate them to the same address."
)


def _talks(stage: Stage, floating: IPv4Address) -> Iterator[AbstractContextManager[Talk]]:
    """Return a connection from the Internet to the instance, and one the other way."""
    instance, internet = stage.lab.namespace(INSTANCE), stage.lab.namespace(INTERNET)
    outside = stage.topology.internet.answers[0]
    yield talk("a connection to the floating IP", internet, instance, floating)
    yield talk("a connection from behind the floating IP", instance, internet, outside)


def _prepare(
    stage: Stage, hypervisor: Hypervisor, there: str, floating: IPv4Address
) -> list[Check]:
    """Bind the port to the second host as well, and look at what is ready there."""
    stage.cloud.bind(hypervisor.seat.port_id, there)
    hypervisor.add_tap(there)
    until(f"the tap on {there} is wired", lambda: hypervisor.is_wired(there))
    stage.settle()
    return [
        Check(
            f"bound to {there} too, the floating IP is not there yet",
            str(floating) not in stage.output(there, "ip", "-brief", "addr"),
        ),
    ]


def _neighbour(stage: Stage, address: IPv4Address) -> str:
    """Return the MAC that the instance has for an address."""
    words = stage.output(INSTANCE, "ip", "neigh", "show", str(address)).split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else ""


def _placed(stage: Stage, floating: IPv4Address, here: str, there: str) -> list[Check]:
    uplinks = {
        host: stage.output(host, "ip", "-brief", "addr", "show", build.UPLINK)
        for host in (here, there)
    }
    return [
        Check(f"the floating IP is on {there}", str(floating) in uplinks[there]),
        Check(f"and no more on {here}", str(floating) not in uplinks[here]),
    ]


def play_host(stage: Stage) -> tuple[Act, ...]:
    """Let a host die, start its instance elsewhere at once, and let the host come back."""
    seat, floating = stage.seats[INSTANCE], stage.floating(INSTANCE).address
    others = [s for s in stage.seats.values() if s.host == LEFT and s.instance != INSTANCE]
    with stage.rules(*stage.topology.rules, *OPEN):
        elsewhere = _die(stage, seat, others, floating)
        seen, loss = _come_back(stage, others, floating)
        stage.look()
        checks = [
            elsewhere,
            *_silent(seen, seat, floating),
            Check(
                f"a ping from the Internet loses nothing when {LEFT} comes back",
                loss.lost == 0,
                f"{loss.lost} of {loss.sent} lost",
            ),
            *_placed(stage, floating, LEFT, RIGHT),
            *laws(seen, stage.ground, stage.cast),
        ]
        shot = stage.ping(INSTANCE, stage.topology.internet.answers[0])
        title = f"{LEFT} dies; {INSTANCE} is started on {RIGHT} with its addresses"
        story = told(shot, stage.gateway(INSTANCE))
        done = act(stage, title, [shot], story, checks)
        _return_home(stage, seat)
    return (done,)


def _die(stage: Stage, seat: Seat, others: list[Seat], floating: IPv4Address) -> Check:
    """Cut a host's power; start an instance elsewhere, and see whether it is reached there."""
    pinging = Pinging(stage.lab, INTERNET, floating)
    pinging.wait_for(5)
    for one in (seat, *others):
        build.unplug_instance(stage.lab, one.instance)
    build.cut_power(stage.lab, LEFT)
    pinging.wait_for_loss()
    _bind(stage, seat, RIGHT)
    pinging.wait_for(5)
    loss = pinging.end()
    text = f"while {LEFT} is dead, the floating IP answers on {RIGHT}"
    return Check(text, loss.received >= 10, f"{loss.lost} of {loss.sent} lost")  # noqa: PLR2004 - five on either host


def _come_back(stage: Stage, others: list[Seat], floating: IPv4Address) -> tuple[Seen, Loss]:
    """Boot the host, and start its other instances there again."""
    build.boot_host(stage.lab, LEFT)
    with stage.capture() as capture:
        pinging = Pinging(stage.lab, INTERNET, floating)
        pinging.wait_for(3)
        build.start_agent(stage.lab, LEFT)
        for one in others:
            build.plug_instance(stage.lab, one.instance, one.mac, one.tap)
        for one in others:
            _boot(stage, one.instance)
        stage.settle()
        pinging.wait_for(3)
        loss = pinging.end()
        return Seen(capture.frames()), loss


def _bind(stage: Stage, seat: Seat, host: str) -> None:
    """Bind a port to a host in one step, and start its instance there anew."""
    stage.cloud.admin.update("ports", seat.port_id, {"binding:host_id": host})
    build.plug_instance(stage.lab, seat.instance, seat.mac, seat.tap, host)
    _boot(stage, seat.instance)


def _return_home(stage: Stage, seat: Seat) -> None:
    build.unplug_instance(stage.lab, seat.instance)
    _bind(stage, seat, seat.host)
    stage.settle()
    stage.look()


def _silent(seen: Seen, seat: Seat, floating: IPv4Address) -> list[Check]:
    """Return whether the host that came back left what is elsewhere now to the other."""
    out = seen.on(LEFT, direction="out")
    own = {floating, seat.address}
    claims = out.where(lambda f: f.arp is not None and f.arp.sender in own)
    answers = {"OFFER", "ACK", "NAK"}
    leases = out.where(
        lambda f: f.dhcp is not None and f.dhcp.client_mac == seat.mac and f.dhcp.message in answers
    )
    return [
        Check(
            f"{LEFT} comes back and speaks for neither {floating} nor {seat.address}", not claims
        ),
        Check(f"nor does its DHCP server for {seat.instance}", not leases),
        Check("it does speak for its own again", bool(out), f"{len(out)} frames"),
    ]
