"""Agents that die, hosts that drift, servers that go away, and things that are not ours."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from trunkline.kernel import netns
from trunkline.lab import build, life, probe
from trunkline.lab.packets import Arp
from trunkline.lab.stage import Shot, Stage
from trunkline.lab.waiting import limit_s, until
from trunkline.model import PortId
from trunkline.ownership import tap_name
from trunkline.trace.packets import is_for_many

pytestmark = pytest.mark.netns

TRUNKLINE = [sys.executable, "-m", "trunkline.cli.main"]
GOOGLE = IPv4Address("8.8.8.8")
ONE_PING = ("ping", "-n", "-c", "1", "-W", "1")
SIGHUP, SIGKILL, SIGSTOP, SIGCONT = 1, 9, 19, 18


def on(stage: Stage, node: str, *argv: str) -> str:
    """Run a command on a node and return what it printed."""
    done = netns.run(stage.lab.namespace(node), list(argv), limit_s(30))
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


def agent(stage: Stage, verb: str, host: str = "compute1") -> tuple[int, str]:
    """Run ``plan``, ``check`` or ``doctor`` on a host; return exit code and output."""
    config = stage.lab.directory / "hosts" / host / "agent.toml"
    argv = [*TRUNKLINE, verb, "--config", str(config)]
    done = netns.run(stage.lab.namespace(host), argv, limit_s(30))
    return done.returncode, done.stdout + done.stderr


def in_sync(stage: Stage, host: str = "compute1") -> bool:
    """Return whether a host is exactly what it must be."""
    return agent(stage, "check", host)[0] == 0


def rules_handles(stage: Stage) -> str:
    """Return our tables with handles: a rule that was written again has another handle."""
    return on(stage, "compute1", "nft", "-a", "list", "table", "inet", "trunkline")


@contextmanager
def pinging(stage: Stage, instance: str, to: IPv4Address) -> Iterator[list[float]]:
    """Ping every 20 ms meanwhile; yields the list of how many were lost, filled at the end."""
    namespace = stage.lab.namespace(instance)
    lost: list[float] = []
    argv = ["ping", "-D", "-O", "-i", "0.02", "-W", "1", str(to)]
    log = stage.lab.directory / "logs" / f"stream-{instance}"
    log.unlink(missing_ok=True)
    process = netns.spawn(namespace, argv, str(log))
    try:
        yield lost
    finally:
        process.signal(2)  # ping(8): SIGINT prints the summary
        process.wait(5)
        summary = next((x for x in log.read_text().splitlines() if "transmitted" in x), None)
        assert summary, log.read_text()
        sent, received = (int(part.split()[0]) for part in summary.split(", ")[:2])
        assert sent > 10
        lost.append(sent - received)


class Stream:
    """A TCP connection between two instances that carries one byte at a time."""

    def __init__(self, stage: Stage, client: str, server: str, to: IPv4Address, port: int) -> None:
        with netns.socket(
            stage.lab.namespace(server), socket.AF_INET, socket.SOCK_STREAM
        ) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", port))
            listener.listen()
            self.near = netns.socket(
                stage.lab.namespace(client), socket.AF_INET, socket.SOCK_STREAM
            )
            self.near.settimeout(limit_s(5))
            self.near.connect((str(to), port))
            self.far, _ = listener.accept()

    def carries(self, within_s: float) -> bool:
        """Send a byte each way and return whether both arrived."""
        for sender, receiver in ((self.near, self.far), (self.far, self.near)):
            with suppress(BrokenPipeError, ConnectionResetError):
                sender.send(b"x")
            if not select.select([receiver], [], [], within_s)[0]:
                return False
            if receiver.recv(1) != b"x":
                return False
        return True

    def close(self) -> None:
        """End both sides."""
        self.near.close()
        self.far.close()


def test_a_killed_agent_is_replaced_and_nothing_is_lost(stage: Stage) -> None:
    """SIGKILL and restart: no ping is lost, TCP goes on, nothing is written again."""
    before = rules_handles(stage)
    done = cycles(stage)
    stream = Stream(stage, "VM_1", "VM_3", stage.seats["VM_3"].address, 5301)
    with pinging(stage, "VM_1", GOOGLE) as out, pinging(stage, "VM_5", inner(stage)) as across:
        process = stage.lab.process("agent-compute1")
        assert process is not None
        process.signal(SIGKILL)
        process.wait(5)
        assert stream.carries(limit_s(5))
        build.start_agent(stage.lab, "compute1")
        until("the new agent has done its first cycle", lambda: len(cycles(stage)) > len(done))
        assert stream.carries(limit_s(5))
        until("the host is in sync", lambda: in_sync(stage))
    stream.close()

    assert out == [0]
    assert across == [0]
    assert rules_handles(stage) == before


def inner(stage: Stage) -> IPv4Address:
    """Return the fixed address of VM_1, which lives on the left host."""
    return stage.seats["VM_1"].address


def cycles(stage: Stage, host: str = "compute1") -> list[str]:
    """Return what a host's agents have logged of their cycles."""
    log = (stage.lab.directory / f"logs/agent-{host}.log").read_text()
    return [line for line in log.splitlines() if "operations=" in line]


@contextmanager
def stopped_agent(stage: Stage, host: str = "compute1") -> Iterator[None]:
    """Freeze a host's agent meanwhile."""
    process = stage.lab.process(f"agent-{host}")
    assert process is not None
    process.signal(SIGSTOP)
    try:
        yield
    finally:
        process.signal(SIGCONT)


DRIFT = {
    "a rule is gone": ("nft", "flush", "chain", "inet", "trunkline", "forward"),
    "a table is gone": ("nft", "delete", "table", "bridge", "trunkline"),
    "an element is gone": (
        *("nft", "delete", "element", "inet", "trunkline", "bridges"),
        '{ "br100" }',
    ),
    "a rule is added": ("nft", "insert", "rule", "inet", "trunkline", "ingress", "accept"),
    "an address is gone": ("ip", "addr", "del", "10.0.0.1/24", "dev", "br100"),
    "a floating IP is gone": ("ip", "addr", "del", "91.208.23.11/32", "dev", "eth1"),
    "a bridge is down": ("ip", "link", "set", "br100", "down"),
    "a bridge is gone": ("ip", "link", "del", "br102"),
    "a VLAN device is unplugged": ("ip", "link", "set", "vlan100", "nomaster"),
    "br_netfilter is off": (
        "ip",
        "link",
        "set",
        "br100",
        "type",
        "bridge",
        "nf_call_iptables",
        "0",
    ),
    "forwarding is off": ("sysctl", "-qw", "net.ipv4.conf.br100.forwarding=0"),
}


@pytest.mark.parametrize("name", DRIFT)
def test_drift_is_seen_and_repaired(stage: Stage, name: str) -> None:
    """``check`` exits with 1 while the agent is frozen; thawed, it repairs what differs."""
    with stopped_agent(stage):
        on(stage, "compute1", *DRIFT[name])
        code, words = agent(stage, "check")
        assert code == 1, words
        assert "drift:" in words
    process = stage.lab.process("agent-compute1")
    assert process is not None
    process.stop()
    build.start_agent(stage.lab, "compute1")

    until("the host is in sync again", lambda: in_sync(stage))
    assert stage.ping("VM_1", GOOGLE).answer.kind == "reply"


def test_a_changed_file_of_a_dhcp_server_is_repaired_at_once(stage: Stage) -> None:
    """A lease that somebody edits in place is what it was before the minute has passed."""
    leases = Path(stage.lab.agent_state("compute1"), "dhcp/br100/hosts")
    lease = min(leases.iterdir())
    right = lease.read_text()
    lease.write_text(right.replace("10.0.0.", "10.0.0.9"))

    until("the lease is right again", lambda: lease.read_text() == right, 5)


def test_a_change_of_a_link_is_repaired_at_once(stage: Stage) -> None:
    """The kernel's notification wakes the agent: nobody waits for the minute to pass."""
    on(stage, "compute1", "ip", "addr", "del", "10.0.0.1/24", "dev", "br100")

    until(
        "the gateway's address is back",
        lambda: "10.0.0.1/24" in on(stage, "compute1", "ip", "addr", "show", "br100"),
        5,
    )


def test_what_is_not_ours_is_untouched(stage: Stage) -> None:
    """Foreign bridge, addresses, rules and dnsmasq outlive changes and a restart of the agent."""
    state = stage.lab.directory / "foreign"
    state.mkdir(exist_ok=True)
    foreign = [
        ("ip", "link", "add", "br7", "type", "bridge"),
        ("ip", "link", "add", "vlan7", "type", "veth", "peer", "name", "vlan7x"),
        ("ip", "link", "set", "vlan7", "master", "br7"),
        ("ip", "addr", "add", "198.51.100.1/24", "dev", "br7"),
        ("ip", "link", "set", "br7", "up"),
        ("ip", "addr", "add", "91.207.15.200/32", "dev", "eth1"),
        ("nft", "add", "table", "inet", "mine"),
        ("nft", "add", "chain", "inet", "mine", "c"),
        ("nft", "add", "rule", "inet", "mine", "c", "counter"),
        (
            *(
                "dnsmasq",
                "--port=0",
                "--interface=br7",
                "--bind-interfaces",
                "--conf-file=/dev/null",
            ),
            *(
                "--except-interface=lo",
                f"--pid-file={state}/pid",
                f"--dhcp-leasefile={state}/leases",
            ),
            "--dhcp-range=198.51.100.10,198.51.100.20",
        ),
    ]
    for command in foreign:
        on(stage, "compute1", *command)
    before = foreign_things(stage)

    with stage.fixed_only("VM_1"):
        pass
    process = stage.lab.process("agent-compute1")
    assert process is not None
    process.stop()
    build.start_agent(stage.lab, "compute1")
    until("the host is in sync again", lambda: in_sync(stage))

    assert foreign_things(stage) == before
    pid = (state / "pid").read_text().strip()
    for command in (
        ("kill", pid),
        ("ip", "link", "del", "br7"),
        ("ip", "link", "del", "vlan7"),
        ("ip", "addr", "del", "91.207.15.200/32", "dev", "eth1"),
        ("nft", "delete", "table", "inet", "mine"),
    ):
        on(stage, "compute1", *command)


def foreign_things(stage: Stage) -> tuple[str, ...]:
    """Return everything foreign that the test put on the left host, as tools show it."""
    return (
        on(stage, "compute1", "ip", "link", "show", "br7"),
        on(stage, "compute1", "ip", "link", "show", "vlan7"),
        on(stage, "compute1", "ip", "addr", "show", "dev", "br7"),
        str("91.207.15.200" in on(stage, "compute1", "ip", "addr", "show", "dev", "eth1")),
        on(stage, "compute1", "nft", "-a", "list", "table", "inet", "mine"),
        (stage.lab.directory / "foreign" / "pid").read_text(),
    )


def test_a_server_that_is_away_changes_nothing(stage: Stage) -> None:
    """Traffic goes on, a tap that reappears is wired, and the agent says that it waits."""
    seat = stage.seats["VM_2"]
    stage.lab.stop("server")
    try:
        # The server predicts a probe's path; it is away, so this one is only sent.
        vm_1 = stage.lab.namespace("VM_1")
        assert probe.ping(vm_1, GOOGLE, limit_s(5)).kind == "reply"
        build.unplug_instance(stage.lab, "VM_2")
        build.plug_instance(stage.lab, "VM_2", seat.mac, seat.tap)
        build.boot_instance(stage.lab, "VM_2")
        build.wait_for_lease(stage.lab, "VM_2")
        log = (stage.lab.directory / "logs/agent-compute1.log").read_text()
        assert "keeping the host as it is" in log
    finally:
        build.start_server(stage.lab)
        until("the server answers", lambda: answers(stage))

    life.wait_active(stage.lab, stage.cloud, ["VM_2"])
    stage.settle()


def test_a_floating_ip_is_announced(stage: Stage) -> None:
    """Gratuitous ARP for the address is seen on the external wire when it is associated."""
    floating = stage.floating("VM_1")
    with ExitStack() as stack:
        with stage.fixed_only("VM_1"):
            capture = stack.enter_context(stage.capture())
        frames = capture.frames()

    announced = [
        f.arp
        for f in frames
        if f.node == "inet" and isinstance(f.arp, Arp) and f.arp.sender == floating.address
    ]
    assert announced
    assert all(a.target == floating.address for a in announced)


def test_a_revoked_rule_ends_its_connections_and_no_other(stage: Stage) -> None:
    """TCP from the other tenant ends with the rule that allowed it; its own group's lives on."""
    address = stage.seats["VM_3"].address
    cut = Stream(stage, "VM_1", "VM_3", address, 5302)
    kept = Stream(stage, "VM_2", "VM_4", stage.seats["VM_4"].address, 5303)
    assert cut.carries(limit_s(5))
    assert kept.carries(limit_s(5))

    with stage.rules():
        assert not cut.carries(1)
        assert kept.carries(limit_s(5))
    cut.close()
    kept.close()


def test_a_floating_ip_taken_away_ends_its_connections(stage: Stage) -> None:
    """What came in by the floating IP ends with it; what its instance has inside lives on."""
    floating = stage.floating("VM_6")
    group = stage.cloud.as_project("tenant2").list("security-groups", name="default")[0]["id"]
    rule = stage.cloud.as_project("tenant2").create(
        "security-group-rules",
        {"security_group_id": group, "direction": "ingress", "protocol": "tcp"},
    )
    stage.settle()
    cut = Stream(stage, "VM_1", "VM_6", floating.address, 5304)
    kept = Stream(stage, "VM_3", "VM_6", stage.seats["VM_6"].address, 5305)
    assert cut.carries(limit_s(5))

    with stage.fixed_only("VM_6"):
        assert not cut.carries(1)
        assert kept.carries(limit_s(5))
    stage.cloud.forbid("tenant2", rule["id"])
    stage.settle()
    cut.close()
    kept.close()


def test_a_forwarding_to_an_instance_that_moved_away_is_a_problem(stage: Stage) -> None:
    """Its host cannot reach it there: that ends, and is reported until both are on one again."""
    away = stage.seats["VM_2"].port_id
    ways = ("VM_1", "udp", (5300, 7000)), ("VM_2", "udp", (5301, 7001))

    def problems() -> list[str]:
        agents = stage.cloud.admin.list("agents")
        every = [p for agent in agents for p in agent["configurations"]["problems"]]
        return [p["text"] for p in every if p["subject"].startswith("floating IP")]

    def elements() -> int:
        listed = [
            stage.output(host, "nft", "list", "map", "inet", "trunkline", "forwarded")
            for host in ("compute1", "compute2")
        ]
        return sum(text.count(" : 10.0.0.") for text in listed)

    with stage.fixed_only("VM_1"), stage.forwarded("tenant1", *ways):
        assert (problems(), elements()) == ([], 2)
        stage.cloud.admin.update("ports", away, {"binding:host_id": "compute2"})
        try:
            found = until("the problem is reported", problems)
            assert found is not None
            assert elements() == 1
            assert "on another host" in found[0]
        finally:
            stage.cloud.admin.update("ports", away, {"binding:host_id": "compute1"})
        until("all is well again", lambda: not problems() and elements() == 2)
        stage.settle()


def test_a_tap_is_active_soon(stage: Stage) -> None:
    """From the tap's appearance to ACTIVE nobody polls: it takes a fraction of a second."""
    seat = stage.seats["VM_5"]
    build.unplug_instance(stage.lab, "VM_5")

    def status() -> str:
        return str(stage.cloud.admin.show("ports", seat.port_id)["status"])

    until("the port is DOWN", lambda: status() == "DOWN", 5)
    build.plug_instance(stage.lab, "VM_5", seat.mac, seat.tap)
    until("the port is ACTIVE", lambda: status() == "ACTIVE", 2)
    build.boot_instance(stage.lab, "VM_5")
    build.wait_for_lease(stage.lab, "VM_5")


def test_a_tap_that_a_hypervisor_puts_on_the_bridge(stage: Stage) -> None:
    """As os-vif does (vif_type bridge): until its rules are there, only the host hears it call.

    The agent is held up meanwhile, and knows nothing of the port; then it takes the tap as it is.
    """
    here, host = stage.segment("VM_5"), "compute2"
    api = stage.cloud.as_project("tenant1")
    instance, address = stage.lab.claim("VM_9"), IPv4Address("10.0.0.99")
    process = stage.lab.process(f"agent-{host}")
    assert process
    process.signal(SIGSTOP)
    try:
        wish = {"network_id": here.network_id, "fixed_ips": [{"ip_address": str(address)}]}
        port = api.create("ports", {**wish, "name": "VM_9"})
        stage.cloud.admin.update("ports", port["id"], {"binding:host_id": host})
        tap = tap_name(PortId(port["id"]))
        build.plug_instance(stage.lab, "VM_9", port["mac_address"], tap, host)
        netns.plug(stage.lab.namespace(host), tap, here.bridge)
        netns.address(instance, "eth0", IPv4Interface((address, 24)))
        netns.up(instance, "eth0")
        life.wait_until_forwarding(stage.lab)
        with stage.capture() as capture:
            for target in (stage.seats["VM_4"].address, here.gateway(host)):
                assert netns.run(instance, [*ONE_PING, str(target)]).returncode
            frames = [f for f in capture.frames() if f.source_mac == port["mac_address"]]
        assert {f.node for f in frames} == {host}
        assert {f.device for f in frames if not is_for_many(f.destination_mac)} == {tap}
    finally:
        process.signal(SIGCONT)

    until("it is ACTIVE", lambda: api.show("ports", port["id"])["status"] == "ACTIVE", 10)
    build.boot_instance(stage.lab, "VM_9")
    build.wait_for_lease(stage.lab, "VM_9")
    assert not netns.run(instance, [*ONE_PING, str(stage.seats["VM_4"].address)]).returncode
    build.unplug_instance(stage.lab, "VM_9")
    api.delete("ports", port["id"])
    stage.settle()


def test_doctor_says_what_is_chosen(stage: Stage) -> None:
    """``doctor`` names the making of VLAN devices, the NICs and the routing source."""
    with stage.metadata():
        code, words = agent(stage, "doctor")

    assert code == 0, words
    assert "8021q" in words or "tc-bpf" in words
    assert "91.207.15.105" in words
    assert "answers" in words
    assert "the proxy runs on this host" in words


def test_doctor_misses_a_source_that_nobody_has(stage: Stage) -> None:
    """A routing source has to be an address of the host, or answers go nowhere."""
    absent, router = IPv4Address("91.207.15.120"), "5d8cbe0a-3c1b-4b31-9ac6-26b9e0ae8d7e"
    with stage.routing("compute1", absent, router=router):
        assert "routing source 91" not in agent(stage, "doctor")[1]
        on(stage, "compute1", "ip", "addr", "del", f"{absent}/24", "dev", "eth1")
        code, words = agent(stage, "doctor")
        on(stage, "compute1", "ip", "addr", "add", f"{absent}/24", "dev", "eth1")

    assert code == 1
    assert f"missing: routing source {absent} is no address of this host" in words


def test_doctor_misses_what_metadata_needs(stage: Stage) -> None:
    """The service has to answer, and the host's proxy to run: here it is configured, no more."""
    code, words = agent(stage, "doctor")

    assert code == 1
    assert "missing: metadata service http://192.0.2.1:8775: Connection refused" in words
    assert "missing: the metadata proxy; run: trunkline metadata" in words


def test_a_lasting_link_loss_of_the_listener_is_no_busy_loop(stage: Stage) -> None:
    """With the server away the agent sleeps: it uses next to no CPU."""
    process = stage.lab.process("agent-compute2")
    assert process is not None
    stage.lab.stop("server")
    try:
        before_stop = complaints(stage)
        until("the agent has noticed", lambda: complaints(stage) > before_stop, 10)
        before = cpu_s(process.pid)
        said = complaints(stage)
        until("the agent has asked again twice", lambda: complaints(stage) >= said + 2)
        assert cpu_s(process.pid) - before < limit_s(0.5)
    finally:
        build.start_server(stage.lab)
        until("the server answers", lambda: answers(stage))
    stage.settle()


def complaints(stage: Stage) -> int:
    """Return how often the right host's agent has said that the server is away."""
    log = (stage.lab.directory / "logs/agent-compute2.log").read_text()
    return log.count("keeping the host as it is")


def answers(stage: Stage) -> bool:
    """Return whether the server is back."""
    with suppress(Exception):
        stage.cloud.admin.list("networks")
        return True
    return False


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def reconfigured(stage: Stage, old: str, new: str) -> Iterator[None]:
    """Change the left host's agent's configuration meanwhile; it reads it again on SIGHUP."""
    path = stage.lab.directory / "hosts" / "compute1" / "agent.toml"
    before = path.read_text()
    process = stage.lab.process("agent-compute1")
    assert process is not None

    def reload(text: str) -> None:
        done = cycles(stage)
        path.write_text(text)
        process.signal(SIGHUP)
        until("the agent has read it", lambda: len(cycles(stage)) > len(done))
        until("the host is in sync", lambda: in_sync(stage))

    assert old in before
    reload(before.replace(old, new))
    try:
        yield
    finally:
        reload(before)


def test_exempt_destinations_see_the_instance_itself(stage: Stage) -> None:
    """Towards an exempt prefix an instance keeps its own address; towards others it does not."""
    inside = stage.seats["VM_2"].address
    with reconfigured(stage, "snat_exempt = []", 'snat_exempt = ["8.8.8.0/24"]'):
        kept = stage.ping("VM_2", GOOGLE, hope=False)
    translated = stage.ping("VM_2", GOOGLE)

    def sources(shot: Shot) -> set[IPv4Address]:
        ips = [f.ip for f in shot.seen.frames if (f.node, f.device) == ("compute1", "eth1")]
        return {ip.source for ip in ips if ip is not None and ip.destination == GOOGLE}

    assert sources(kept) == {inside}
    assert sources(translated) == {IPv4Address("91.207.15.105")}


def test_a_bad_configuration_keeps_the_old_one(stage: Stage) -> None:
    """On SIGHUP a file with an unknown key is refused by name, and the agent goes on."""
    path = stage.lab.directory / "hosts" / "compute1" / "agent.toml"
    before = path.read_text()
    process = stage.lab.process("agent-compute1")
    assert process is not None
    log = stage.lab.directory / "logs/agent-compute1.log"

    path.write_text("uplinc = 'eth1'\n" + before)
    process.signal(SIGHUP)
    until("the agent has said so", lambda: "unknown key 'uplinc'" in log.read_text())
    path.write_text(before)

    assert process.alive()
    assert stage.ping("VM_1", GOOGLE).answer.kind == "reply"


def test_a_rule_taken_away_is_back_at_once(stage: Stage) -> None:
    """The agent is told of rules that a hand changed, and does not wait for its minute."""
    before = on(stage, "compute1", "nft", "list", "chain", "inet", "trunkline", "forward")
    on(stage, "compute1", "nft", "flush", "chain", "inet", "trunkline", "forward")

    def repaired() -> bool:
        shown = on(stage, "compute1", "nft", "list", "chain", "inet", "trunkline", "forward")
        return shown == before

    until("the rules are back", repaired, 5)


def test_a_second_agent_on_a_host_is_refused(stage: Stage) -> None:
    """Two agents would undo each other's work: the second says who is there and ends."""
    code, words = agent(stage, "agent")

    assert code == 2
    assert "another agent runs" in words
