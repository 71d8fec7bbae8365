"""What it costs to verify a whole cloud: all pairs of ports, floating IPs, the Internet.

Each cloud is made in a process of its own, so that peak memory is its own. Timed is everything
from the joined snapshots to the counts (IPv4 and IPv6, one run after a small one that loads the
libraries); joining the snapshots is timed beside it. As baseline the straightforward way, judging
pair by pair, is timed in the same process on random pairs and scaled to all of them; the same
pairs check that both ways agree.

Then single changes are made to the cloud and brought to a running count: a port goes, comes on
another host (with the bridges that go and come with it), a group gets a rule and loses it. Shown is
the median of each kind; the baseline is counting anew, which is the column before. In the end the
cloud is as at first, and so must all counts be.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from random import Random
from statistics import median
from typing import Any

from clouds import KINDS

from trunkline.model import Direction, HostName, Rule, RuleId, SubnetId
from trunkline.trace.reach import Reach, reach
from trunkline.trace.reach_public import Public, reach_public
from trunkline.trace.reach_standing import Standing, ports_of
from trunkline.trace.verify_cloud import Cloud, End
from trunkline.trace.verify_flow import Verdict, to_port

SAMPLE = 3000
CHANGES = 100
PUBLISHED = (
    "TenantGuard (NDSS 2017, OpenStack; other hardware, other clouds): 168 million pairs in 13 s"
)


def main() -> int:
    """Run the bench and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", type=int, nargs="+", default=[12_960, 100_000])
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS], default=[*KINDS])
    args = parser.parse_args()
    print(f"for comparison, published: {PUBLISHED}")
    for ports in args.ports:
        print(f"\n{ports:,} ports, {ports * (ports - 1):,} pairs")
        print(
            f"{'cloud':<22}{'services':>9}{'classes':>9}{'join s':>8}{'verify s':>10}"
            f"{'pair by pair s':>16}{'times':>11}{'peak MB':>9}{'answered':>16}"
            f"{'a change ms':>13}"
        )
        for kind in args.kinds:
            context = multiprocessing.get_context("spawn")
            with context.Pool(1) as pool:
                print(pool.apply(measure, (kind, ports)), flush=True)
    return 0


def measure(kind: str, ports: int) -> str:
    """Return one line of the table."""
    gc.disable()  # as the command does
    verify(KINDS[kind](200).cloud())
    draft = KINDS[kind](ports)
    assert draft.made
    cloud, join_s = timed(draft.cloud)
    (found, six, _), verify_s = timed(lambda: verify(cloud))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pairwise_s = pair_by_pair(found) + pair_by_pair(six)
    spent = Changes(draft.random, cloud).spent()
    every = [ms for several in spent.values() for ms in several]
    kinds = "; ".join(f"{name} {median(several):.2f}" for name, several in spent.items())
    return (
        f"{kind:<22}{len(found.services):>9}{found.classes.count:>9,}{join_s:>8.2f}{verify_s:>10.2f}"
        f"{pairwise_s:>16,.0f}{pairwise_s / verify_s:>11,.0f}{peak:>9,.0f}"
        f"{sum(tally.answered for tally in found.tallies):>16,}"
        f"{median(every):>13.2f}\n    of these: {kinds}; slowest of {len(every)}: {max(every):.1f}"
    )


def verify(cloud: Cloud) -> tuple[Reach, Reach, Public]:
    """Count everything."""
    found = reach(cloud)
    return found, reach(cloud, 6), reach_public(found)


SERVICES = ((6, 80, 80), (6, 8081, 8081), (17, 5000, 6000), (1, 8, None))
PEERS: tuple[dict[str, Any], ...] = (
    {},
    {"remote_prefix": IPv4Network("198.51.100.0/24")},
    {"remote_prefix": IPv4Network("10.0.5.0/24")},
    {"remote_prefix": IPv4Network("10.0.6.0/25")},
)


class Changes:
    """Single changes, timed: each is undone by another one."""

    def __init__(self, random: Random, cloud: Cloud) -> None:
        self._random, self._cloud, self._count = random, cloud, Standing(cloud)
        self._ports = list(ports_of(cloud, 4).values())
        self._groups, self._hosts = list(cloud.groups.values()), list(cloud.hosts)
        self._on: Counter[tuple[HostName, SubnetId]] = Counter(
            (e.seat.host, e.subnet_id) for port in self._ports for e in port
        )

    def spent(self) -> dict[str, list[float]]:
        """Return the milliseconds of each change, by kind."""
        first = self._count.tallies()
        spent: dict[str, list[float]] = defaultdict(list)
        for _ in range(CHANGES):
            port = self._random.choice(self._ports)
            home, away = port[0].seat.host, self._random.choice(self._hosts)
            spent["port removed"].append(milliseconds(self._unplug, port, home))
            spent["port added elsewhere"].append(milliseconds(self._plug, port, away))
            spent["port moved back"].append(milliseconds(self._move, port, away, home))
            group = self._random.choice(self._groups)
            more = (*group.rules, self._rule())
            set_rules = self._count.set_rules
            spent["rule added"].append(milliseconds(set_rules, group.id, more))
            spent["rule removed"].append(milliseconds(set_rules, group.id, group.rules))
        assert self._count.tallies() == first
        return spent

    def _rule(self) -> Rule:
        protocol, first, last = self._random.choice(SERVICES)
        kind = self._random.random()
        peer = (
            {"remote_group_id": self._random.choice(self._groups).id}
            if kind < 0.3
            else self._random.choice(PEERS)
        )
        direction = Direction.INGRESS if self._random.random() < 0.8 else Direction.EGRESS
        return Rule(RuleId("new"), direction, 4, protocol, first, last, **peer)

    def _plug(self, port: list[End], host: HostName) -> None:
        """Plug a port in on a host, which has a bridge for it if it had none."""
        ends = [replace(end, seat=replace(end.seat, host=host)) for end in port]
        for end in ends:
            self._on[host, end.subnet_id] += 1
            self._count.set_route(host, end.subnet_id, served=True)
        self._count.plug(ends, self._cloud.domain(port[0]))

    def _unplug(self, port: list[End], host: HostName) -> None:
        """Take a port from a host, and the bridge that nobody else needs."""
        self._count.unplug(port[0].seat.port.id)
        for end in port:
            self._on[host, end.subnet_id] -= 1
            served = self._on[host, end.subnet_id] > 0
            self._count.set_route(host, end.subnet_id, served=served)

    def _move(self, port: list[End], old: HostName, new: HostName) -> None:
        self._unplug(port, old)
        self._plug(port, new)


def milliseconds(work: Callable[..., None], *arguments: Any) -> float:
    """Return how long a change takes."""
    return timed(lambda: work(*arguments))[1] * 1000


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what work returns, and the seconds that it took."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def pair_by_pair(found: Reach) -> float:
    """Return how long all pairs would take one by one; check that a sample agrees.

    Half of the sample are pairs of one network, which is where most flows are allowed.
    """
    ends = found.classes.ends
    if len(ends) < 2:
        return 0.0
    random = Random(1)
    anywhere = [tuple(random.sample(range(len(ends)), 2)) for _ in range(SAMPLE)]
    near = [(a, (a + 1 + random.randrange(50)) % len(ends)) for a, _ in anywhere]
    judged, seconds = timed(lambda: [judge(found, a, b) for a, b in anywhere])
    judged += [judge(found, a, b) for a, b in near]
    for (a, b), bits in zip([*anywhere, *near], judged, strict=True):
        if ends[a].seat.port.id != ends[b].seat.port.id:
            assert found.between(a, b) == bits, (ends[a], ends[b])
    return seconds / SAMPLE * len(ends) * (len(ends) - 1)


def judge(found: Reach, a: int, b: int) -> int:
    """Return the services that a pair is answered by, judged one flow at a time."""
    ends = found.classes.ends
    return sum(
        1 << n
        for n, service in enumerate(found.services)
        if to_port(found.cloud, ends[a], ends[b], service).verdict == Verdict.ANSWERED
    )


if __name__ == "__main__":
    raise SystemExit(main())
