"""What it costs the server to tell many hosts of one more port on a network that they share.

Beside it, in the same run: the same answers, read for each host alone. And how fast ports are
created while all these hosts ask. Real server, real HTTP; the agents only listen.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import Array, Process
from multiprocessing.synchronize import Event
from statistics import median

from stage import Stage, stage, until

from trunkline.api.agents import changed_sections
from trunkline.client import AgentClient
from trunkline.core.allocate import Limits
from trunkline.db.engine import Database, Transaction
from trunkline.model import HostName

HOSTS, PORTS_PER_HOST = 200, 5
ROUNDS = 5
BURST = 100
NOTHING: Mapping[str, str] = {}
Counts = MutableSequence[int]


def main() -> int:
    """Run the bench and print its table."""
    hosts = [HostName(f"host{number}") for number in range(HOSTS)]
    with stage() as scene:
        network = scene.api().create("networks", {"name": "shared"})["id"]
        subnet = {"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/16"}
        scene.api().create("subnets", subnet)
        for _ in range(PORTS_PER_HOST):
            create(scene, network, hosts)
        print(f"\n{HOSTS} hosts with {PORTS_PER_HOST} ports each on one network, all in one group")
        one_by_one(scene, network, hosts)
        with listening(scene, hosts) as known:
            one_more(scene, network, hosts, known)
            burst(scene, network, hosts, known)
    return 0


def create(scene: Stage, network: str, hosts: Sequence[HostName]) -> None:
    """Create a port on each of these hosts."""
    for host in hosts:
        scene.api().create("ports", {"network_id": network, "binding:host_id": host})


def one_by_one(scene: Stage, network: str, hosts: Sequence[HostName]) -> None:
    """Time the reading of all hosts' answers, together and each for itself."""
    database = Database(f"sqlite:///{scene.directory}/trunkline.db", Limits())
    ours, alone = [], []
    for _ in range(ROUNDS):
        create(scene, network, hosts[:1])
        ours.append(read_all(database, hosts, alone=False))
        alone.append(read_all(database, hosts, alone=True))
    database.close()
    mine, theirs = median(ours) * 1000 / HOSTS, median(alone) * 1000 / HOSTS
    print(f"  one more port: to read a host's answer, cpu, ms {mine:8.2f}")
    times = f"{theirs / mine:.1f} times"
    print(f"  likewise, by hosts that share nothing           {theirs:8.2f}  {times}")


def read_all(database: Database, hosts: Sequence[HostName], *, alone: bool) -> float:
    """Return the CPU seconds that the answers of all hosts take."""
    start = time.process_time()
    for host in hosts:
        with database.read() as tx:
            own = Transaction(tx.connection, tx.limits, tx.now) if alone else tx
            changed_sections(own, host, NOTHING)
    return time.process_time() - start


@contextmanager
def listening(scene: Stage, hosts: Sequence[HostName]) -> Iterator[Counts]:
    """Have an agent of each host ask all the time; lend how many names each knows of.

    In a process of their own: what they do must not slow those who create ports.
    """
    known, stop = Array("i", len(hosts), lock=False), multiprocessing.Event()
    agents = Process(target=listen_all, args=(scene, hosts, known, stop))
    agents.start()
    try:
        yield known
    finally:
        stop.set()
        agents.join()


def listen_all(scene: Stage, hosts: Sequence[HostName], known: Counts, stop: Event) -> None:
    """Be the agents of all hosts."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        for number, host in enumerate(hosts):
            pool.submit(listen, scene, host, known, number, stop)


def listen(scene: Stage, host: HostName, known: Counts, number: int, stop: Event) -> None:
    """Be a host's agent, as far as its server can see, until told to stop."""
    agent = AgentClient(scene.server, "agent", host)
    revision = None
    while not stop.is_set():
        snapshot = agent.snapshot(revision, 1)
        if snapshot is not None:
            revision, known[number] = snapshot.revision, len(snapshot.names)
    agent.close()


def one_more(scene: Stage, network: str, hosts: Sequence[HostName], known: Counts) -> None:
    """Time a port until all hosts know of it."""
    walls = []
    for _ in range(ROUNDS):
        wait_for_all(scene, known)
        start = time.monotonic()
        create(scene, network, hosts[:1])
        wait_for_all(scene, known)
        walls.append(time.monotonic() - start)
    print(f"  one more port, until all of them know, ms       {median(walls) * 1000:8.0f}")


def burst(
    scene: Stage, network: str, hosts: Sequence[HostName], known: dict[HostName, int]
) -> None:
    """Time the creation of many ports while all hosts ask for what is new."""
    start = time.monotonic()
    create(scene, network, hosts[:BURST])
    rate = BURST / (time.monotonic() - start)
    wait_for_all(scene, known)
    print(f"  port creations per second meanwhile             {rate:8.0f}")


def wait_for_all(scene: Stage, known: Counts) -> None:
    """Wait until every host knows of every instance's port."""
    wanted = len(scene.api().list("ports", device_owner=""))
    until("all hosts know of all ports", lambda: min(known) == wanted)


if __name__ == "__main__":
    sys.exit(main())
