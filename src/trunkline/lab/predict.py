"""What the tracer says will happen, from the server's state, and how it compares with what did.

The cloud is the server's: snapshots as agents get them, and what the agents report of their
hosts. Only the wires are the lab's own to know: its switch and its Internet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from trunkline.client import AgentClient
from trunkline.core.compile import compile_host
from trunkline.errors import Interrupted
from trunkline.lab.build import WIRE
from trunkline.lab.cloud import Cloud as LabCloud
from trunkline.lab.cloud import Seat
from trunkline.lab.state import Lab
from trunkline.lab.topology import INTERNET
from trunkline.report import decode
from trunkline.snapshot import HostSnapshot
from trunkline.trace.cloud import Cloud, Internet, TracedHost
from trunkline.trace.compare import Comparison, compare, deviations
from trunkline.trace.steps import Step, Trace

UNTOLD = "TCP ACK"
"""What is predicted and not looked for: a connection has many of them."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A trace, and how what was captured compares with it."""

    trace: Trace
    comparison: tuple[Comparison, ...]
    observed: tuple[Step, ...]

    @property
    def deviations(self) -> tuple[Comparison, ...]:
        """Return what was not as predicted, in order."""
        return deviations(self.comparison)


def held_against(trace: Trace, observed: Iterable[Step]) -> Prediction:
    """Return a trace with its comparison.

    A packet whose next hop has no MAC is told and cannot be seen: it never leaves its sender.
    """
    told = (step for step in trace.steps if step.packet != UNTOLD and step.receiver_mac)
    seen = tuple(observed)
    return Prediction(trace, compare(told, seen), seen)


def traced_cloud(
    lab: Lab, cloud: LabCloud, seats: Collection[Seat], *, dark: Collection[str] = ()
) -> Cloud:
    """Return the lab's cloud as the tracer wants it.

    Args:
        lab: The lab.
        cloud: Its API.
        seats: Where its instances sit, in the order in which stories take them.
        dark: Instances that are plugged in and switched off.
    """
    facts = {a["host"]: a["configurations"]["facts"] for a in cloud.admin.list("agents")}
    hosts = tuple(_host(lab, host, facts.get(host, {})) for host in lab.topology.hosts)
    internet = lab.topology.internet
    return Cloud(
        hosts=hosts,
        internet=Internet(INTERNET, WIRE, internet.routers, frozenset(internet.answers)),
        names={seat.port_id: seat.instance for seat in seats},
        unplugged=frozenset(seat.port_id for seat in seats if seat.instance in dark),
        switches={trunk.name: trunk.switch for trunk in lab.topology.trunks.values()},
        pruned=_pruned(lab, hosts),
    )


def _host(lab: Lab, host: str, facts: dict[str, object]) -> TracedHost:
    told = decode(host, facts)
    snapshot = _snapshot(lab, host)
    if told is None or snapshot is None:
        raise Interrupted(f"host {host}: its agent has not reported yet; try again")
    state, problems = compile_host(snapshot, told.config, told.facts)
    return TracedHost(snapshot, told.config, told.facts, state, problems)


def _snapshot(lab: Lab, host: str) -> HostSnapshot | None:
    client = AgentClient(lab.api, lab.tokens()[host], host)
    try:
        return client.snapshot(None, 0)
    finally:
        client.close()


def _pruned(lab: Lab, hosts: Iterable[TracedHost]) -> dict[str, frozenset[int]]:
    """Return which tags of the cloud the switch's ports do not let pass."""
    tags = {n.vlan_id for host in hosts for n in host.snapshot.networks if n.vlan_id is not None}
    allowed = {host.name: host.trunk_vlans for host in lab.topology.hosts.values()}
    return {
        name: frozenset(tags - set(vlans)) for name, vlans in allowed.items() if vlans is not None
    }
