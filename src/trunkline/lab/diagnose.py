"""Which layer of a lab first deviates, and where: desired state, kernel as read back, packets.

Reads what it judges, and changes nothing. Of what was planted, if anything was, it knows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import chain
from types import TracebackType
from typing import Self

from trunkline.hoststate import HostState
from trunkline.kernel import netns
from trunkline.kernel.linux import LinuxKernel
from trunkline.lab.predict import Prediction, held_against
from trunkline.lab.stage import Stage
from trunkline.lab.state import Lab
from trunkline.ownership import TABLE
from trunkline.trace.cloud import Cloud, TracedHost
from trunkline.trace.layers import (
    Fault,
    Layer,
    Neighbours,
    broken,
    drift,
    strangers,
    unmet,
    untracked,
)
from trunkline.trace.steps import HOST, Trace

TOLD_MAX = 6
"""How many faults are told one by one: what one of them took with it may be many."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that is not as it must be.

    Attributes:
        faults: The first one is where to look first.
        explained: Whether a walk through what was read back is what was seen; None where
            nothing that was read back is other than it must be.
        suspects: What else is on the way and not ours, where packets break on a host.
    """

    faults: tuple[Fault, ...]
    explained: bool | None = None
    suspects: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield the diagnosis, for people."""
        if not self.faults:
            yield "Every layer is as the one above it says."
            return
        first = self.faults[0]
        yield f"The first layer that deviates: {first.layer}."
        yield f"The first place to look at: {first.place}."
        yield from (f"  {f.layer}: {f.place} {f.text}" for f in self.faults[:TOLD_MAX])
        if len(self.faults) > TOLD_MAX:
            yield f"  and {len(self.faults) - TOLD_MAX} more"
        yield from (f"  on that way and not Trunkline's: {name}" for name in self.suspects)
        if self.explained is not None:
            how = "as" if self.explained else "not as"
            yield f"The packets went {how} the kernel state that was read back lets them."


class HostsReadBack:
    """A lab's hosts as their kernels have them; remembers as an agent does, until told not to."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._kernels: dict[str, LinuxKernel] = {}
        self._closing = ExitStack()

    def read(self, host: TracedHost) -> HostState:
        """Return what a host is."""
        with netns.enter(self._lab.namespace(host.name)):
            kernel = self._kernels.get(host.name)
            if kernel is None:
                kernel = self._kernels[host.name] = LinuxKernel()
                self._closing.callback(kernel.close)
            kernel.forget()
            inner = {name: space.sysctls for name, space in host.state.spaces.items()}
            config = self._lab.agent_config(host.config)
            return kernel.read(config, host.state.sysctls, inner)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()


def diagnose(
    stage: Stage,
    hosts: HostsReadBack,
    prediction: Prediction,
    walk: Callable[[Cloud], Trace],
) -> Diagnosis:
    """Return where a lab is not as it must be, seen by one probe that was just sent.

    Args:
        stage: The lab.
        hosts: Its hosts.
        prediction: What was predicted of the probe, and seen.
        walk: Walks the probe's flow through a cloud.
    """
    cloud = stage.traced()
    parting = tuple(broken(prediction.comparison))
    order = _by_concern(cloud, prediction, parting)
    actual = {host.name: hosts.read(host) for host in order}
    kernel = [f for h in order for f in _drift(h, actual[h.name], prediction)]
    kernel += chain.from_iterable(_strange(stage, *one) for one in _neighbours(stage))
    if not kernel:
        kernel += chain.from_iterable(_forgotten(stage, prediction, one) for one in parting)
    problems = chain.from_iterable(unmet(host.name, host.problems) for host in order)
    found = (*problems, *kernel, *parting)
    if not kernel:
        return Diagnosis(found, None, tuple(_suspects(stage, cloud, parting)))
    read = replace(cloud, hosts=tuple(replace(h, state=actual[h.name]) for h in cloud.hosts))
    again = held_against(walk(read), prediction.observed)
    return Diagnosis(found, not again.deviations)


def _drift(host: TracedHost, actual: HostState, prediction: Prediction) -> list[Fault]:
    """Return where a host is not as it must be; links that the flow does not pass come last."""
    steps = (step for step in prediction.trace.steps if step.node == host.name)
    passed = {sighting.device for step in steps for sighting in step.path}
    aside = {*host.state.bridges, *host.state.vlans, *host.state.plugs} - passed
    return sorted(drift(host.name, host.state, actual), key=lambda f: f.place.object in aside)


def _by_concern(
    cloud: Cloud, prediction: Prediction, parting: Iterable[Fault]
) -> tuple[TracedHost, ...]:
    """Return the hosts: where the packet broke, then those on its way, then the others."""
    way = [fault.place.node for fault in parting]
    way += [step.node for step in prediction.trace.steps if step.node_role == HOST]
    names = dict.fromkeys([*(n for n in way if n in cloud.host), *cloud.host])
    return tuple(cloud.host[name] for name in names)


def _neighbours(stage: Stage) -> Iterator[tuple[str, Neighbours]]:
    """Yield the neighbour tables of all hosts and instances."""
    for node in (*stage.topology.hosts, *stage.seats):
        entries = json.loads(stage.output(node, "ip", "-4", "-j", "neigh") or "[]")
        yield (
            node,
            {
                (entry["dev"], IPv4Address(entry["dst"])): entry["lladdr"]
                for entry in entries
                if "lladdr" in entry
            },
        )


def _strange(stage: Stage, node: str, table: Neighbours) -> Iterator[Fault]:
    """Yield the wrong ones of a node's neighbours: instances, and for them their gateway."""
    known: dict[tuple[str, IPv4Address], str] = {}
    for seat in stage.seats.values():
        known[stage.segments[seat.network].bridge, seat.address] = seat.mac
    own = stage.seats.get(node)
    if own is not None:
        known = {("eth0", address): mac for (_, address), mac in known.items()}
        segment = stage.segments[own.network]
        known["eth0", segment.gateway(own.host)] = segment.gateway_mac(own.host)
    yield from strangers(node, known, table)


def _forgotten(stage: Stage, prediction: Prediction, parting: Fault) -> Iterator[Fault]:
    """Yield that the host at which a packet broke does not know its connection any more."""
    node = parting.place.node
    passed = (s for s in prediction.observed if (s.node, s.part) == (node, "request"))
    step = next((s for s in passed if s.path[-1].direction == "out"), None)
    if node in stage.topology.hosts and step is not None:
        yield from untracked(step, stage.connections(node))


def _suspects(stage: Stage, cloud: Cloud, parting: Iterable[Fault]) -> Iterator[str]:
    """Yield the base chains that are not ours on a host where a packet broke."""
    for fault in parting:
        if fault.layer is Layer.PACKETS and fault.place.node in cloud.host:
            listing = stage.output(fault.place.node, "nft", "-j", "list", "chains")
            chains = [one["chain"] for one in json.loads(listing)["nftables"] if "chain" in one]
            foreign = (c for c in chains if "hook" in c and c["table"] != TABLE)
            yield from (f"{c['family']} {c['table']} {c['name']}" for c in foreign)


def unsound(cloud: Cloud, hosts: HostsReadBack) -> Mapping[str, tuple[Fault, ...]]:
    """Return where hosts are not as they must be, by host; empty if all are as they must be."""
    found = {host.name: drift(host.name, host.state, hosts.read(host)) for host in cloud.hosts}
    return {host: faults for host, faults in found.items() if faults}
