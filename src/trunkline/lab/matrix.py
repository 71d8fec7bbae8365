"""Every combination of gateway mode, router layout, IP version and provisioning, tried for real.

Each is played, by one flow of each class of equal behaviour and by the flow whose fate provisioning
decides (scenario 6b), or refused by the API, whose words are shown. Knows what is to be refused;
anything else that is refused, or is not as counted, is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from trunkline.errors import Invalid, RequestError
from trunkline.lab import life, probe, state, verify
from trunkline.lab.stage import PROBE_S, SILENCE_S, Stage
from trunkline.lab.state import Lab
from trunkline.lab.topology import load, read
from trunkline.lab.waiting import limit_s
from trunkline.model import Provisioning

Say = Callable[[str], None]

AXES: Mapping[str, tuple[str, ...]] = {
    "gateway": ("per_host", "anycast", "upstream"),
    "router": ("default", "own", "placed", "redundant"),
    "family": ("ipv4", "ipv6"),
    "provisioning": tuple(Provisioning),
}
PLACES: Mapping[str, list[str]] = {"placed": ["network1"], "redundant": ["network1", "network2"]}
NOT_WITH: Mapping[str, tuple[str, ...]] = {
    "per_host": (),
    "anycast": ("placed", "redundant"),  # an address that every host has, and a router on one
    "upstream": ("own", "placed", "redundant"),  # the router is not ours
}
NETWORK_HOSTS = {"network1": "91.207.15.107/24", "network2": "91.207.15.108/24"}
PREFIXES6 = {"net1": "fd00:0:0:100::/64", "net2": "fd00:0:0:102::/64"}
MODES6 = {"net1": "slaac", "net2": "dhcpv6-stateful"}
NEAR, FAR = "VM_1", "VM_6"
"""Of two tenants on two hosts; on the first one's host the other's network has no instance."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination; ``provisioning`` changes on a lab that is up, the rest is a lab's own."""

    gateway: str
    router: str
    family: str
    provisioning: str

    def __str__(self) -> str:
        """Return it as a line of the table begins."""
        return f"{self.gateway:9} {self.router:10} {self.family:5} {self.provisioning:11}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a combination.

    Attributes:
        what: ``played``, ``refused`` or ``wrong``.
        text: Flows and verdicts, the API's reason, or what was wrong.
    """

    cell: Cell
    what: str
    text: str

    def data(self) -> dict[str, str]:
        """Return it as JSON can have it."""
        axes = {axis: getattr(self.cell, axis) for axis in AXES}
        return {**axes, "outcome": self.what, "text": self.text}


def cells(wanted: Mapping[str, str]) -> list[Cell]:
    """Return the combinations that have these values; those of one lab follow each other.

    Raises:
        Invalid: There is no such axis, or it has no such value.
    """
    for axis, value in wanted.items():
        if value not in AXES.get(axis, ()):
            known = "; ".join(f"{name}: {', '.join(values)}" for name, values in AXES.items())
            raise Invalid(f"--only {axis}={value}: there is {known}")
    every = [
        Cell(gateway, router, family, provisioning)
        for gateway in AXES["gateway"]
        for router in AXES["router"]
        for family in AXES["family"]
        for provisioning in AXES["provisioning"]
    ]
    return [c for c in every if all(getattr(c, axis) == v for axis, v in wanted.items())]


def refused(cell: Cell) -> bool:
    """Return whether the API must refuse a combination; it says why."""
    if cell.family == "ipv6" and (cell.gateway != "per_host" or cell.router == "redundant"):
        return True
    if (cell.gateway, cell.provisioning) == ("upstream", "router"):
        return True  # where the router is, is not known
    return cell.router in NOT_WITH[cell.gateway]


def run(wanted: Mapping[str, str], name: str, say: Say) -> list[Outcome]:
    """Try all combinations with these values, each lab in turn, and say what becomes of each."""
    outcomes = []
    some = cells(wanted)
    for key in dict.fromkeys((c.gateway, c.router, c.family) for c in some):
        group = [c for c in some if (c.gateway, c.router, c.family) == key]
        for outcome in _try(group, name):
            outcomes.append(outcome)
            say(f"{outcome.cell} {outcome.what:8} {outcome.text}")
    counts = Counter(outcome.what for outcome in outcomes)
    parts = ", ".join(f"{counts[what]} {what}" for what in ("played", "refused", "wrong"))
    say(f"\n{len(outcomes)} combinations: {parts}")
    return outcomes


def _try(group: list[Cell], name: str) -> Iterator[Outcome]:
    """Yield what becomes of combinations that share a lab, which is up meanwhile."""
    text = yaml.safe_dump(topology(group[0]))
    lab = Lab(load(text, name))
    with state.locked(name):
        try:
            life.ensure_up(lab, text, temporary=True)
            yield from (_play(Stage(lab), cell) for cell in group)
        except RequestError as error:
            yield from (_refused(cell, error) for cell in group)
        finally:
            state.remove(name)


def _refused(cell: Cell, error: RequestError) -> Outcome:
    return Outcome(cell, "refused" if refused(cell) else "wrong", str(error))


def topology(cell: Cell) -> dict[str, Any]:
    """Return the article's cloud in a combination, as a topology file has it.

    Without an instance of the second tenant on the first host.
    """
    data: dict[str, Any] = yaml.safe_load(read("article"))
    networks = {n: net for t in data["tenants"].values() for n, net in t["networks"].items()}
    for name, network in networks.items():
        network["gateway"] = cell.gateway
        del network["gateways"]
        if cell.family == "ipv6":
            network |= {"ipv6": PREFIXES6[name], "ipv6_mode": MODES6[name]}
    data["tenants"]["tenant2"]["instances"]["VM_3"]["host"] = "compute2"
    if cell.router != "default":
        main = {"project": "tenant1", "networks": list(networks)}
        data["routers"] = {"main": main | {"hosts": PLACES.get(cell.router, [])}}
        data["hosts"] |= {h: {"external": NETWORK_HOSTS[h]} for h in PLACES.get(cell.router, [])}
    if cell.gateway == "upstream":
        for tenant in data["tenants"].values():
            del tenant["floating_ips"]
    if cell.family == "ipv6":
        _open_ipv6(data["tenants"])
    return data


def _open_ipv6(tenants: dict[str, Any]) -> None:
    """Let tenants in from each other by IPv6 as they do by IPv4."""
    for tenant, peer in (("tenant1", "net2"), ("tenant2", "net1")):
        tenants[tenant]["rules"] += [
            {"protocol": "tcp", "ports": [1, 65535], "from": PREFIXES6[peer]},
            {"protocol": "ipv6-icmp", "from": PREFIXES6[peer]},
        ]


def _play(stage: Stage, cell: Cell) -> Outcome:
    network = stage.topology.instances[FAR].network
    try:
        with stage.provisioned(network, Provisioning(cell.provisioning)):
            found = verify.verify(stage, lambda _: None)
            reaches = _reaches(stage, cell)
    except RequestError as error:
        return _refused(cell, error)
    fate = f"{NEAR} {'reaches' if reaches else 'does not reach'} {FAR}"
    if refused(cell):
        return Outcome(cell, "wrong", "must be refused, and is not")
    if found.wrong:
        return Outcome(cell, "wrong", str(found.wrong[0]))
    if reaches != _must_reach(cell):
        return Outcome(cell, "wrong", fate)
    return Outcome(cell, "played", f"{len(found.flows)} flows as counted; {fate}")


def _reaches(stage: Stage, cell: Cell) -> bool:
    """Return whether a ping crosses to the tenant whose network the sender's host need not have."""
    seat = stage.seats[FAR]
    target = seat.address6 if cell.family == "ipv6" and seat.address6 else seat.address
    patience_s = limit_s(PROBE_S if _must_reach(cell) else SILENCE_S)
    return probe.ping(stage.lab.namespace(NEAR), target, patience_s).kind == "reply"


def _must_reach(cell: Cell) -> bool:
    """Return whether it does: on demand, only by a router that has all networks somewhere."""
    is_everywhere_routed = cell.router in PLACES or cell.gateway == "upstream"
    return is_everywhere_routed or cell.provisioning != Provisioning.ON_DEMAND
