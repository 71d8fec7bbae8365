"""A network on several physical networks: each host is on one of its segments."""

from __future__ import annotations

from dataclasses import replace

import clouds
import pytest
from article import LEFT, RIGHT, cloud

from trunkline.core.compile import compile_host
from trunkline.hoststate import HostConfig
from trunkline.snapshot import HostSnapshot, PortView, SegmentView
from trunkline.trace.cloud import Cloud
from trunkline.trace.steps import Disposition, Trace
from trunkline.trace.walk import Flow, trace

SPANNING = replace(clouds.NET100, further=(SegmentView("physnet2", 210),))


def spanning(snapshot: HostSnapshot) -> HostSnapshot:
    """Return a snapshot whose network 100 has a second segment."""
    others = tuple(n for n in snapshot.networks if n.id != SPANNING.id)
    return replace(snapshot, networks=(SPANNING, *others))


def on(trunks: dict[str, str]) -> HostConfig:
    """Return a host's configuration with these trunks."""
    return replace(clouds.CONFIG, trunks=trunks)


@pytest.mark.parametrize(
    ("trunks", "expected"),
    [
        ({"physnet1": "eth0"}, ("eth0", 100)),
        ({"physnet2": "eth0"}, ("eth0", 210)),
        ({"physnet2": "eth1", "physnet1": "eth0"}, ("eth0", 100)),
    ],
    ids=["first", "further", "both"],
)
def test_a_host_is_on_the_first_segment_whose_trunk_it_has(
    trunks: dict[str, str], expected: tuple[str, int]
) -> None:
    """Trunk and tag are the segment's; bridge and device are called alike on every host."""
    state, problems = compile_host(spanning(clouds.ARTICLE), on(trunks), clouds.FACTS)

    vlan = state.vlans["vlan100"]
    assert (vlan.trunk, vlan.vlan_id) == expected
    assert vlan.bridge == "br100"
    assert not [p for p in problems if SPANNING.id in p.subject]


def test_a_host_on_no_segment_says_which_there_are() -> None:
    """Its instances are not plugged in, and the problem names both physical networks."""
    state, problems = compile_host(spanning(clouds.ARTICLE), on({"physnet3": "eth0"}), clouds.FACTS)

    assert "br100" not in state.bridges
    (text,) = [p.text for p in problems if SPANNING.id in p.subject]
    assert "no trunk for physical network 'physnet1' or 'physnet2'" in text


def behind_two_switches() -> Cloud:
    """Return the article's cloud with its second host on another switch's trunk."""
    found = cloud()
    hosts = []
    for host in found.hosts:
        trunks = {"physnet1": "eth0"} if host.name == LEFT else {"physnet2": "eth0"}
        config = replace(host.config, trunks=trunks)
        snapshot = spanning(host.snapshot)
        state, _ = compile_host(snapshot, config, host.facts)
        hosts.append(replace(host, snapshot=snapshot, config=config, state=state))
    return replace(found, hosts=tuple(hosts))


def tags(answer: Trace) -> list[tuple[str, int | None]]:
    """Return switches and tags that the requests of a trace pass."""
    return [
        (step.node, sighting.tag)
        for step in answer.steps
        if step.node.startswith("switch") and step.packet == "ICMP echo request"
        for sighting in step.path
    ]


def test_a_trace_crosses_from_segment_to_segment() -> None:
    """The request has each switch's own tag there, and the answer finds back."""
    flow = Flow(clouds.VM1.id, next(p.fixed_ips[0].address for p in _far()), 1)

    answer = trace(behind_two_switches(), flow)

    assert answer.disposition is Disposition.DELIVERED
    assert "the segments of one network are joined between the switches" in answer.assumptions
    assert tags(answer) == [
        ("switch physnet1", 100),
        ("switch physnet1", 100),
        ("switch physnet2", 210),
        ("switch physnet2", 210),
    ]


def _far() -> list[PortView]:
    found = cloud()
    return [p for p in found.host[RIGHT].snapshot.ports if p.network_id == SPANNING.id]
