"""What Trunkline costs, beside the same kernel work done by hand in the same run.

For each number of ports on one host: to wire all from nothing, to restart the agent with all in
place, to wire one more, and to create ports through the API. Real server, real agent, real
devices in namespaces; ours and by-hand take turns, and medians are printed. Wall time counts
until the API says ACTIVE (or, for a restart, until the server has the agent's report); CPU is
the agent's, its children included.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from load import by_hand, create_ports
from stage import (
    BARE,
    HOST,
    IDLE,
    PROJECTS,
    Stage,
    add_taps,
    agent_config,
    cpu_s,
    end,
    forget_reports,
    stage,
    start_agent,
    until,
    wipe,
)

from trunkline.agent.config import load
from trunkline.client import AgentClient
from trunkline.core.arrivals import arrivals
from trunkline.core.compile import compile_host
from trunkline.core.diff import diff_host
from trunkline.hoststate import HostState, Plug
from trunkline.kernel import netns
from trunkline.kernel.linux import LinuxKernel
from trunkline.model import PortId
from trunkline.operations import Operation
from trunkline.ownership import tap_name
from trunkline.snapshot import HostSnapshot

Process = subprocess.Popen[bytes]

PORTS_PER_NETWORK = 100
ROUNDS = 3  # of what concerns the whole host
ONE_MORE = 15
CREATIONS = 300


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall and CPU time of one thing, in seconds."""

    wall: float
    cpu: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


def main() -> int:
    """Run the bench and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", type=int, nargs="+", default=[10, 100, 1000])
    for count in parser.parse_args().ports:
        with stage() as scene:
            print(f"\n{count} ports on one host")
            print(f"  {'':53}{'ours':>10}{'by hand':>10}{'ratio':>8}")
            run(scene, count)
    return 0


def run(scene: Stage, count: int) -> None:
    """Measure and print everything for one number of ports."""
    networks = _create_networks(scene, PROJECTS[0], -(-count // PORTS_PER_NETWORK))
    create_ports(scene, PROJECTS[0], networks, HOST, count, 8)
    ports = [PortId(p["id"]) for p in scene.api().list("ports", device_owner="")]
    for host in (HOST, BARE):
        add_taps(scene, host, ports)
    with by_hand_worker(scene) as hand:
        agent = whole_host(scene, hand, ports)
        agent = restart(scene, hand, agent)
        one_more(scene, hand, agent, networks)
        end(agent)
    creations(scene)


def _create_networks(scene: Stage, user: str, count: int) -> list[str]:
    api = scene.api(user)
    made = []
    for number in range(count):
        network = api.create("networks", {"name": f"{user}-{number}"})["id"]
        cidr = f"10.{PROJECTS.index(user)}.{number * 4}.0/22"
        api.create("subnets", {"network_id": network, "ip_version": 4, "cidr": cidr})
        made.append(network)
    return made


class Hand:
    """The process that does things by hand, inside the bare twin."""

    def __init__(self, scene: Stage, process: subprocess.Popen[str]) -> None:
        self._file = scene.directory / "operations"
        self._process = process

    def work(self, operations: Iterable[Operation]) -> Cost:
        """Have operations carried out."""
        self._file.write_bytes(pickle.dumps(tuple(operations)))
        return self._ask(str(self._file))

    def read(self) -> Cost:
        """Have read what an agent that starts has to read."""
        return self._ask("read")

    def _ask(self, line: str) -> Cost:
        assert self._process.stdin
        assert self._process.stdout
        print(line, file=self._process.stdin, flush=True)
        return Cost(**json.loads(self._process.stdout.readline()))


@contextmanager
def by_hand_worker(scene: Stage) -> Iterator[Hand]:
    """Keep the by-hand process while its work is needed."""
    script = Path(__file__).with_name("hand.py")
    command = [sys.executable, str(script), str(scene.directory / BARE)]
    process = subprocess.Popen(
        ["ip", "netns", "exec", scene.namespace(BARE), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Hand(scene, process)
    finally:
        process.communicate()


def wanted(scene: Stage) -> tuple[HostSnapshot, HostState]:
    """Return what the host must be now, as its agent is told and compiles it."""
    config = load(agent_config(scene, HOST))
    snapshot = AgentClient(config.server, config.token, HOST).snapshot(None, 0)
    assert snapshot is not None
    with netns.enter(scene.namespace(HOST)):
        facts = LinuxKernel().facts(config.host)
    return snapshot, compile_host(snapshot, config.host, facts)[0]


def operations(
    snapshot: HostSnapshot, desired: HostState, actual: HostState
) -> tuple[Operation, ...]:
    """Return what has to be done, as the agent works it out."""
    return (*diff_host(desired, actual), *arrivals(snapshot, desired, actual))


def whole_host(scene: Stage, hand: Hand, ports: Sequence[PortId]) -> Process:
    """Wire all ports from nothing; leave them wired, and return the agent, which runs on."""
    snapshot, desired = wanted(scene)
    loose = {tap: Plug(tap, None, 1500, up=False) for tap in desired.plugs}
    work = operations(snapshot, desired, HostState(plugs=loose))
    ours, bare, idle = [], [], []
    for left in reversed(range(ROUNDS)):
        idler, cost = timed_start(scene, IDLE)
        end(idler)
        idle.append(cost)
        agent, cost = timed_start(scene, HOST)
        ours.append(cost)
        bare.append(hand.work(work))
        if left:
            end(agent)
            wipe(scene, HOST, ports)
            wipe(scene, BARE, ports)
    show("agent's start on an empty host", idle)
    show("wire all from nothing, start included", ours, bare)
    show("wire all from nothing, start left out", _less(ours, idle), bare)
    return agent


def _less(costs: Iterable[Cost], others: Iterable[Cost]) -> list[Cost]:
    return [cost - other for cost, other in zip(costs, others, strict=True)]


def timed_start(scene: Stage, host: str) -> tuple[Process, Cost]:
    """Start an agent; time until the server knows that all on its host is in place."""
    forget_reports(scene)
    start = time.monotonic()
    agent = start_agent(scene, host)
    until("the host is as it must be", lambda: in_sync(scene, host), 0.01)
    return agent, Cost(time.monotonic() - start, cpu_s(agent.pid))


def in_sync(scene: Stage, host: str) -> bool:
    """Return whether an agent has reported what the server wants, every port ACTIVE."""
    api = scene.api()
    said = [a["configurations"] for a in api.list("agents", host=host)]
    if not said or said[0]["applied_revision"] != said[0]["revision"]:
        return False
    down = api.list("ports", **{"status": "DOWN", "binding:host_id": host, "device_owner": ""})
    return not down


def restart(scene: Stage, hand: Hand, agent: Process) -> Process:
    """Kill and start the agent with all in place: it must change nothing."""
    ours, bare = [], []
    for _ in range(ROUNDS):
        end(agent, signal.SIGKILL)
        agent, cost = timed_start(scene, HOST)
        ours.append(cost)
        words = scene.log(HOST).read_text()
        if re.search(r"operations=[1-9]", words):
            raise RuntimeError(f"with all in place, the agent changed something: {words}")
        bare.append(hand.read())
    show("restart with all in place (zero operations)", ours, bare)
    return agent


def one_more(scene: Stage, hand: Hand, agent: Process, networks: Sequence[str]) -> None:
    """Create a port, then let its tap appear; time each until the server knows."""
    ours, latencies, cycles, bare = [], [], [], []
    _, before = wanted(scene)
    for number in range(ONE_MORE):
        log_start = _cycles(scene)
        port, cost, latency = wire_port(scene, agent, networks[number % len(networks)])
        ours.append(cost)
        latencies.append(latency)
        words = scene.log(HOST).read_text()[log_start:]
        cycles.append(sum(map(float, re.findall(r" ms=([\d.]+)", words))))
        snapshot, after = wanted(scene)
        add_taps(scene, BARE, [port])
        loose = _with_loose_tap(before, tap_name(port))
        bare.append(hand.work(operations(snapshot, after, loose)))
        before = after
    show("wire one more port, request to ACTIVE", _evened(ours), _evened(bare))
    by_hand_ms = median(cost.wall for cost in bare) * 1000
    show_ms("of it, cycles of the agent", median(cycles), by_hand_ms)
    show_ms("of it, tap appears to ACTIVE", median(latencies) * 1000)


def _evened(costs: Sequence[Cost]) -> list[Cost]:
    """Give each the mean CPU time: the kernel counts it in ticks that are longer than one port."""
    mean = sum(cost.cpu for cost in costs) / len(costs)
    return [Cost(cost.wall, mean) for cost in costs]


def _with_loose_tap(state: HostState, tap: str) -> HostState:
    return replace(state, plugs={**state.plugs, tap: Plug(tap, None, 1500, up=False)})


def wire_port(scene: Stage, agent: Process, network: str) -> tuple[PortId, Cost, float]:
    """Return a new port, what its wiring cost, and how long its tap waited.

    The server is asked once the agent's log tells of a cycle: to ask all the time would keep
    busy the cores that the agent and the server need.
    """
    api = scene.api()
    cpu, start = cpu_s(agent.pid), time.monotonic()
    logged = _cycles(scene)
    made = api.create("ports", {"network_id": network, "binding:host_id": HOST})
    port = PortId(made["id"])
    until("the agent has made the rules", lambda: _cycles(scene) > logged)
    until("the agent has applied the port", lambda: _applied(scene))
    prepared = time.monotonic() - start
    logged = _cycles(scene)
    start = time.monotonic()  # ip(8)'s own start is counted in: a bound from above
    add_taps(scene, HOST, [port])
    until("the agent has wired the port", lambda: _cycles(scene) > logged)
    until("the port is ACTIVE", lambda: api.show("ports", port)["status"] == "ACTIVE")
    latency = time.monotonic() - start
    return port, Cost(prepared + latency, cpu_s(agent.pid) - cpu), latency


def _cycles(scene: Stage) -> int:
    """Return how much the agent has logged: a line for each cycle that changed something."""
    return scene.log(HOST).stat().st_size


def _applied(scene: Stage) -> bool:
    said = scene.api().list("agents", host=HOST)[0]["configurations"]
    return bool(said["applied_revision"] == said["revision"])


def creations(scene: Stage) -> None:
    """Create ports of another project on another host, by one client and by eight."""
    networks = _create_networks(scene, PROJECTS[1], 1)
    for clients in (1, 8):
        rate = create_ports(scene, PROJECTS[1], networks, "elsewhere", CREATIONS, clients)
        bare = by_hand(scene.directory, CREATIONS)
        words = f"port creations per second, {clients} client{'s' * (clients > 1)}"
        print(f"  {words:53}{rate:10.0f}{bare:10.0f}{bare / rate:8.2f}")


def show(what: str, ours: Sequence[Cost], bare: Sequence[Cost] = ()) -> None:
    """Print the medians of one thing, wall and CPU."""
    for kind in ("wall", "cpu"):
        mine, theirs = ([getattr(cost, kind) * 1000 for cost in costs] for costs in (ours, bare))
        show_ms(f"{what}, {kind}", median(mine), median(theirs) if theirs else None)


def show_ms(what: str, ours: float, bare: float | None = None) -> None:
    """Print a line of the table."""
    line = f"  {f'{what}, ms':53}{ours:10.1f}"
    print(line if bare is None else f"{line}{bare:10.1f}{ours / bare:8.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
