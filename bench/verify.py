"""What it costs to verify a whole cloud: all pairs of ports, floating IPs, the Internet.

Each cloud is made in a process of its own, so that peak memory is its own. Timed is everything
from the joined snapshots to the counts (IPv4 and IPv6, one run after a small one that loads the
libraries); joining the snapshots is timed beside it. As baseline the straightforward way, judging
pair by pair, is timed in the same process on random pairs and scaled to all of them; the same
pairs check that both ways agree.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import time
from collections.abc import Callable
from random import Random
from typing import Any

from clouds import KINDS

from trunkline.trace.reach import Reach, reach
from trunkline.trace.reach_public import Public, reach_public
from trunkline.trace.verify_cloud import Cloud
from trunkline.trace.verify_flow import Verdict, to_port

SAMPLE = 3000
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
    return (
        f"{kind:<22}{len(found.services):>9}{found.classes.count:>9,}{join_s:>8.2f}{verify_s:>10.2f}"
        f"{pairwise_s:>16,.0f}{pairwise_s / verify_s:>11,.0f}{peak:>9,.0f}"
        f"{sum(tally.answered for tally in found.tallies):>16,}"
    )


def verify(cloud: Cloud) -> tuple[Reach, Reach, Public]:
    """Count everything."""
    found = reach(cloud)
    return found, reach(cloud, 6), reach_public(found)


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
