"""The answer for a whole cloud, as data with a versioned schema and as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trunkline.trace.reach import Reach, Tally, reach
from trunkline.trace.reach_public import Public, reach_public
from trunkline.trace.verify_cloud import Cloud
from trunkline.trace.verify_diff import Difference, describe
from trunkline.trace.verify_findings import (
    PairFinding,
    RuleFinding,
    Witness,
    not_covered,
    pair_findings,
    rule_findings,
)
from trunkline.trace.verify_kernel import KernelFinding, KernelTold, kernel_findings, unread
from trunkline.trace.verify_watch import Shift

SCHEMA = 1


@dataclass(frozen=True)
class Report:
    """All that is to be said of a cloud.

    Attributes:
        reach: By IP version.
        kernels: Where kernels differ, or differed, from what they must be.
        not_covered: What the answer does not cover, as sentences.
    """

    cloud: Cloud
    reach: tuple[Reach, Reach]
    public: Public
    pairs: list[PairFinding]
    rules: list[RuleFinding]
    kernels: list[KernelFinding]
    not_covered: list[str]

    @property
    def is_well(self) -> bool:
        """Return whether there is nothing to find."""
        return not self.findings

    @property
    def findings(self) -> int:
        """Return how many findings there are; a drift that was repaired is none."""
        return len(self.pairs) + len(self.rules) + sum(f.lasts for f in self.kernels)


def verify(cloud: Cloud, kernels: Sequence[KernelTold] = ()) -> Report:
    """Return who reaches whom in a cloud, and what deserves a second look.

    Args:
        cloud: What is intended.
        kernels: What is known of its hosts' kernels.
    """
    four, six = reach(cloud), reach(cloud, 6)
    return Report(
        cloud,
        (four, six),
        reach_public(four),
        pair_findings(four) + pair_findings(six),
        rule_findings(cloud),
        kernel_findings(kernels),
        not_covered(cloud) + unread(kernels),
    )


# --- data -------------------------------------------------------------------------------------


def report_out(report: Report) -> dict[str, Any]:
    """Return a report as plain data."""
    four = report.reach[0].services
    return {
        "schema": SCHEMA,
        "revisions": dict(report.cloud.revisions),
        "ports": {f"ipv{r.version}": _tallies(r.services, r.tallies) for r in report.reach},
        "to_floating_ips": _tallies(four, report.public.to_floating),
        "to_internet": _tallies(four, report.public.to_internet),
        "from_internet": _tallies(four, report.public.from_internet),
        "internet_parts": [str(address) for address in report.public.outside],
        "open_to_all": [
            {"floating_ip": address, "services": names} for address, names in _open(report)
        ],
        "pairs": [_pair_out(finding) for finding in report.pairs],
        "rules": [
            {"group_id": f.group.id, "rule_id": f.rule.id, "reason": f.reason} for f in report.rules
        ],
        "kernels": [asdict(finding) for finding in report.kernels],
        "not_covered": report.not_covered,
    }


def _tallies(services: Iterable[object], tallies: Iterable[Tally]) -> list[dict[str, Any]]:
    return [
        {"service": str(service), **asdict(tally)}
        for service, tally in zip(services, tallies, strict=True)
    ]


def _pair_out(finding: PairFinding) -> dict[str, Any]:
    witness = finding.witness
    return {
        "kind": finding.kind,
        "from": finding.source,
        "to": finding.target,
        "flows": finding.flows,
        "witness": None if witness is None else _witness_out(witness),
    }


def _witness_out(witness: Witness) -> dict[str, Any]:
    ruling = witness.ruling
    return {
        "source": {"port_id": witness.source.seat.port.id, "address": str(witness.source.address)},
        "target": {"port_id": witness.target.seat.port.id, "address": str(witness.target.address)},
        "protocol": witness.service.protocol,
        "port": witness.service.port,
        "verdict": ruling.verdict.value,
        "out_by": ruling.out_by.id if ruling.out_by else None,
        "in_by": ruling.in_by.id if ruling.in_by else None,
    }


def difference_out(difference: Difference) -> dict[str, Any]:
    """Return a flow that a plan opens or closes as plain data."""
    return {
        "change": "opened" if difference.opened else "closed",
        "from": difference.source,
        "to": difference.target,
        "service": str(difference.service),
    }


def shift_out(shift: Shift) -> dict[str, Any]:
    """Return how the count of a service's pairs changed as plain data."""
    return {
        "ip_version": shift.version,
        "service": str(shift.service),
        "before": asdict(shift.before),
        "after": asdict(shift.after),
    }


# --- text -------------------------------------------------------------------------------------


def tell(report: Report) -> Iterator[str]:
    """Yield a report's lines for people."""
    hosts = len(report.cloud.hosts)
    yield f"{len(report.cloud.ends)} addresses of ports on {hosts} hosts"
    for found in report.reach:
        yield from _tell_tallies(
            f"between ports, IPv{found.version}", found.services, found.tallies
        )
    services, public = report.reach[0].services, report.public
    yield from _tell_tallies("to floating IPs", services, public.to_floating)
    yield from _tell_tallies("to the Internet", services, public.to_internet)
    yield from _tell_tallies("from the Internet", services, public.from_internet)
    for address, names in _open(report):
        yield f"open to the whole Internet: {address}: {'; '.join(names)}"
    for finding in report.pairs:
        yield from _tell_pair(finding)
    for rule in report.rules:
        yield f"rule {rule.rule.id} of group {rule.group.name} has no effect: {rule.reason}"
    yield from map(str, report.kernels)
    for sentence in report.not_covered:
        yield f"not covered: {sentence}"
    yield "all well" if report.is_well else f"{report.findings} findings"


def _tell_tallies(
    title: str, services: Iterable[object], tallies: Iterable[Tally]
) -> Iterator[str]:
    rows = [(str(s), t) for s, t in zip(services, tallies, strict=True) if t.pairs]
    if rows:
        yield f"{title}: {rows[0][1].pairs} pairs; of these let out, delivered, answered:"
    for service, tally in rows:
        yield f"  {tally.let_out:>12} {tally.delivered:>12} {tally.answered:>12}  {service}"


def _open(report: Report) -> list[tuple[str, list[str]]]:
    floating = [f for f in report.cloud.floating if f.end.seat.up]
    services = report.reach[0].services
    found = [
        (str(f.address), [str(s) for n, s in enumerate(services) if bits >> n & 1])
        for f, bits in zip(floating, report.public.open_to_all, strict=True)
    ]
    return [(address, names) for address, names in found if names]


def _tell_pair(finding: PairFinding) -> Iterator[str]:
    yield f"{finding.kind}: {finding.source} to {finding.target}: {finding.flows} flows"
    witness = finding.witness
    if witness is not None:
        yield (
            f"  such as {witness.service} from {describe(witness.source)}"
            f" to {describe(witness.target)}: {witness.ruling.verdict}"
        )
        rules = (("out", witness.ruling.out_by), ("in", witness.ruling.in_by))
        named = [f"{way} by rule {r.id or 'none: no port security'}" for way, r in rules if r]
        if named:
            yield f"  let {', '.join(named)}"


def tell_difference(difference: Difference) -> str:
    """Return a flow that a plan opens or closes as a line."""
    change = "opens" if difference.opened else "closes"
    return f"{change} {difference.service}: {difference.source} to {difference.target}"
