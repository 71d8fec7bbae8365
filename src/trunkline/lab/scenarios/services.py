"""What else a network offers: scenarios that are not the article's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Any

from trunkline.kernel import netns
from trunkline.lab import probe
from trunkline.lab.evidence import heard, nothing
from trunkline.lab.probe import Answer
from trunkline.lab.scenarios.acts import LEFT, witnessed
from trunkline.lab.stage import PROBE_S, SILENCE_S, Stage
from trunkline.lab.topology import SWITCH
from trunkline.lab.verdict import Act, Check, Seen
from trunkline.lab.waiting import limit_s
from trunkline.lab.walk import asking_for

VIRTUAL = 99  # an address that nobody has
RANGE = 28  # length of a prefix round it


def play_pairs(stage: Stage) -> tuple[Act, ...]:
    """Have VM_2 use a second address: not allowed, allowed, by prefix, and without a wall."""
    network = stage.topology.networks["net1"].cidr
    virtual = network[VIRTUAL]
    wide = next(p for p in network.subnets(new_prefix=RANGE) if virtual in p)
    with second_address(stage, "VM_2", virtual):
        alone = _stranger_act(stage, virtual)
        with port_with(stage, "VM_2", allowed_address_pairs=[{"ip_address": str(virtual)}]):
            single = _allowed_act(stage, virtual, f"VM_2 may use {virtual} too")
        with port_with(stage, "VM_2", allowed_address_pairs=[{"ip_address": str(wide)}]):
            prefix = _allowed_act(stage, virtual, f"VM_2 may use all of {wide}")
        with port_with(stage, "VM_2", port_security_enabled=False, security_groups=[]):
            return alone, single, prefix, _unsecured_act(stage, virtual)


@contextmanager
def second_address(stage: Stage, instance: str, address: IPv4Address) -> Iterator[None]:
    """Have an instance give itself one more address meanwhile."""
    namespace = stage.lab.namespace(instance)
    words = [f"{address}/24", "dev", "eth0"]
    netns.run(namespace, ["ip", "addr", "add", *words], limit_s(10))
    try:
        yield
    finally:
        netns.run(namespace, ["ip", "addr", "del", *words], limit_s(10))


@contextmanager
def port_with(stage: Stage, instance: str, **attributes: Any) -> Iterator[None]:
    """Change an instance's port meanwhile, as its tenant."""
    seat = stage.seats[instance]
    tenant = stage.cloud.as_project(seat.project)
    before = tenant.show("ports", seat.port_id)
    tenant.update("ports", seat.port_id, attributes)
    stage.settle()
    try:
        yield
    finally:
        tenant.update("ports", seat.port_id, {name: before[name] for name in attributes})
        stage.settle()


def _ping(stage: Stage, sender: str, to: IPv4Address) -> Callable[[], Answer]:
    namespace = stage.lab.namespace(sender)
    return lambda: probe.ping(namespace, to, limit_s(PROBE_S))


def _stranger_act(stage: Stage, virtual: IPv4Address) -> Act:
    namespace = stage.lab.namespace("VM_5")
    answer, seen = stage.witness(lambda: probe.ping(namespace, virtual, limit_s(SILENCE_S)))
    arp = seen.of(asking_for([virtual]), "ARP reply")
    tap = stage.seats["VM_2"].tap
    checks = [
        Check("VM_5 gets no answer", answer.kind == "silence", answer.kind),
        heard("VM_2 claims the address", arp, LEFT, tap, "in"),
        nothing(
            "the claim does not leave its tap", arp.where(lambda f: f.device not in (tap, "eth0"))
        ),
    ]
    title = f"VM_2 gives itself {virtual}, which its port may not use"
    return witnessed(stage, title, seen, asking_for([virtual]), checks)


def _allowed_act(stage: Stage, virtual: IPv4Address, title: str) -> Act:
    answer, seen = stage.witness(_ping(stage, "VM_5", virtual))
    refused, more = _udp_from_other_tenant(stage, virtual)
    arp = seen.of(asking_for([virtual]), "ARP reply")
    checks = [
        Check(f"VM_5 is answered by {virtual}", answer.by == virtual, answer.kind),
        heard("VM_2's claim crosses the trunk", arp, SWITCH, "", "out"),
        Check("its groups still hold: no UDP from VM_6", refused.kind == "silence", refused.kind),
        nothing("VM_2 never sees that", more.on("VM_2").where(lambda f: refused.nonce in f.data)),
    ]
    return witnessed(stage, title, seen, asking_for([virtual]), checks)


def _unsecured_act(stage: Stage, virtual: IPv4Address) -> Act:
    answer, seen = stage.witness(_ping(stage, "VM_5", virtual))
    _, more = _udp_from_other_tenant(stage, virtual)
    arrived = more.on("VM_2").where(lambda f: f.ip is not None and f.ip.destination == virtual)
    checks = [
        Check(f"VM_5 is answered by {virtual}", answer.by == virtual, answer.kind),
        heard("UDP from VM_6 arrives, by no rule", arrived, "VM_2", "eth0"),
    ]
    title = "VM_2's port has no port security: any address, and no groups"
    return witnessed(stage, title, seen, asking_for([virtual]), checks)


def _udp_from_other_tenant(stage: Stage, to: IPv4Address) -> tuple[Answer, Seen]:
    a, b = stage.lab.namespace("VM_6"), stage.lab.namespace("VM_2")
    return stage.witness(lambda: probe.udp(a, b, to, limit_s(SILENCE_S)))
