"""Which layer first deviates, and the place: host states changed by hand, walks held together."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import article
import pytest
from article import LEFT, ping

from trunkline.hoststate import Address, Connection, HostState, Table
from trunkline.trace.cloud import Cloud
from trunkline.trace.compare import compare
from trunkline.trace.layers import Fault, Layer, Place, broken, drift, strangers, untracked
from trunkline.trace.steps import Trace

CLOUD = article.cloud()
STATE = CLOUD.host[LEFT].state
INET = "inet", "trunkline"
GATEWAY = Address("br100", IPv4Interface("10.0.0.1/24"))
TAP = next(tap for tap, plug in STATE.plugs.items() if plug.bridge == "br100")


def _with_table(table: Table) -> HostState:
    return replace(STATE, tables={**STATE.tables, INET: table})


def _with_rules(chain: str, *rules: str) -> HostState:
    table = STATE.tables[INET]
    changed = replace(table.chains[chain], rules=rules)
    return _with_table(replace(table, chains={**table.chains, chain: changed}))


def _without_elements(name: str) -> HostState:
    table = STATE.tables[INET]
    changed = replace(table.sets[name], elements={})
    return _with_table(replace(table, sets={**table.sets, name: changed}))


def _without(name: str, key: str) -> HostState:
    kept = {k: v for k, v in getattr(STATE, name).items() if k != key}
    return replace(STATE, **{name: kept})


FORWARD = STATE.tables[INET].chains["forward"].rules
VLAN = STATE.vlans["vlan100"]
DRIFTS = [
    (_without("vlans", "vlan100"), "vlan100", "is not there"),
    (
        replace(STATE, vlans={**STATE.vlans, "vlan100": replace(VLAN, vlan_id=199)}),
        "vlan100",
        "vlan_id must be 100 and is 199",
    ),
    (_without("plugs", TAP), TAP, "is not there"),
    (replace(STATE, addresses=STATE.addresses - {GATEWAY}), "10.0.0.1/24 on br100", "is not there"),
    (
        _without("sysctls", "net.ipv4.conf.br100.forwarding"),
        "net.ipv4.conf.br100.forwarding",
        "must be 1 and is not there",
    ),
    (_with_rules("forward", *FORWARD[1:]), "inet trunkline forward", f"'{FORWARD[0]}'"),
    (_with_rules("forward", "accept", *FORWARD), "inet trunkline forward", "'accept'"),
    (
        _with_rules("forward", FORWARD[-1], *FORWARD[:-1]),
        "inet trunkline forward",
        f"another order: '{FORWARD[-1]}' is where '{FORWARD[0]}' must be",
    ),
    (_without_elements("bridges"), "inet trunkline bridges", "lacks the element '\"br100\"'"),
    (_without("tables", INET), "inet trunkline", "is not there"),
    (_without("dhcp", "br100"), "DHCP server on br100", "does not run"),
]


@pytest.mark.parametrize(("actual", "place", "text"), DRIFTS, ids=[d[1] + d[2][:9] for d in DRIFTS])
def test_drift_is_named(actual: HostState, place: str, text: str) -> None:
    """Whatever differs from the desired state is named as its object, with what is wrong."""
    first = drift(LEFT, STATE, actual)[0]

    assert (first.layer, first.place) == (Layer.KERNEL, Place(LEFT, place))
    assert text in first.text


def test_no_drift() -> None:
    """A host that is as it must be has none, whatever taps of other hypervisors it has."""
    foreign = {"tap00000000-00": STATE.plugs[TAP]._replace(tap="tap00000000-00")}

    assert drift(LEFT, STATE, STATE) == ()
    assert drift(LEFT, STATE, replace(STATE, plugs={**STATE.plugs, **foreign})) == ()


def test_what_hangs_on_a_bridge_comes_after_it() -> None:
    """A bridge that is gone is the first thing named, not the VLAN device that lost it."""
    vlans = {**STATE.vlans, "vlan102": replace(STATE.vlans["vlan102"], bridge=None)}
    actual = replace(_without("bridges", "br102"), vlans=vlans)

    assert [f.place.object for f in drift(LEFT, STATE, actual)] == ["br102", "vlan102"]


def test_more_than_asked_for() -> None:
    """What nothing asks for is drift, too: a second gateway, a second lease."""
    second = Address("br100", IPv4Interface("10.0.0.9/24"))
    server = STATE.dhcp["br100"]
    files = {**server.files, "hosts/x": "fa:16:3e:00:00:01,10.0.0.77"}
    dhcp = {**STATE.dhcp, "br100": replace(server, files=files)}
    actual = replace(STATE, addresses=STATE.addresses | {second}, dhcp=dhcp)

    assert [f.place.object for f in drift(LEFT, STATE, actual)] == [
        "10.0.0.9/24 on br100",
        "DHCP server on br100",
    ]


def _broken(predicted: Trace, seen: Trace) -> list[Fault]:
    return list(broken(compare(predicted.steps, seen.steps)))


def _with_state(state: HostState) -> Cloud:
    hosts = (replace(host, state=state) if host.name == LEFT else host for host in CLOUD.hosts)
    return replace(CLOUD, hosts=tuple(hosts))


def test_a_pruned_vlan() -> None:
    """Packets that the switch takes in and does not send on break at its other port."""
    predicted = ping(CLOUD, "VM_1", "VM_5")
    seen = ping(replace(CLOUD, pruned={"compute2": frozenset({100})}), "VM_1", "VM_5")

    (fault,) = _broken(predicted, seen)
    assert (fault.layer, fault.place.node) == (Layer.PACKETS, "switch")
    assert fault.place.object == "compute2"
    assert _broken(predicted, predicted) == []


def test_a_host_that_drops() -> None:
    """Of a routed packet that is dropped, the place is where it never went out.

    That the host did not ask for its next hop either is told before it, and is not the cause.
    """
    seen = ping(_with_state(_with_rules("forward", "drop")), "VM_1", "VM_3")

    (fault,) = _broken(ping(CLOUD, "VM_1", "VM_3"), seen)
    assert fault.place == Place(LEFT, "br102")
    assert fault.text == "ICMP echo request never went out by it; last seen on br100"


def test_a_wrong_tag_on_the_wire() -> None:
    """A packet that has another tag than predicted breaks at the NIC that it leaves by."""
    vlans = {**STATE.vlans, "vlan100": replace(VLAN, vlan_id=199)}
    seen = ping(_with_state(replace(STATE, vlans=vlans)), "VM_1", "VM_5")

    (fault,) = _broken(ping(CLOUD, "VM_1", "VM_5"), seen)
    assert fault.place == Place(LEFT, "eth0")
    assert "had tag 199 there instead of 100" in fault.text


def test_neighbours() -> None:
    """A neighbour with another MAC than the cloud has for it is named; a foreign one is not."""
    known = {("br100", IPv4Address("10.0.0.3")): "fa:16:3e:00:00:01"}
    stale = {
        ("br100", IPv4Address("10.0.0.3")): "02:00:00:00:00:99",
        ("eth1", IPv4Address("91.207.15.1")): "02:00:00:00:00:98",
    }

    assert list(strangers(LEFT, known, known)) == []
    (fault,) = strangers(LEFT, known, stale)
    assert fault.place == Place(LEFT, "neighbour 10.0.0.3 on br100")


def test_a_forgotten_connection() -> None:
    """A connection that has just passed and is not tracked is named, a tracked one is not."""
    step = next(s for s in ping(CLOUD, "VM_2", "8.8.8.8").steps if s.node == LEFT and s.changes)
    assert step.before
    ends = step.before.source, step.before.destination
    entry = Connection(1, *ends, 7, 8, ends[1], IPv4Address("91.207.15.105"), 7, 0)

    assert list(untracked(step, [entry])) == []
    (fault,) = untracked(step, [])
    assert fault.place == Place(LEFT, "connection tracking")
