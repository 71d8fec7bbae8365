"""The article's scenarios and remedies: what is done, what is told, what must have been seen.

Each is a function from a stage to acts. It makes its own preconditions and puts them back, so
it can be played alone, in any order, and again. Facts come from captures; the names below are
only the cast's (scenarios.md), addresses and tags come from the API.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from trunkline.errors import Invalid
from trunkline.lab.scenarios.acts import LEFT, RIGHT
from trunkline.lab.scenarios.floating import play_7
from trunkline.lab.scenarios.forward import play_forward
from trunkline.lab.scenarios.ipv6 import play_ipv6
from trunkline.lab.scenarios.layouts import play_flat, play_upstream
from trunkline.lab.scenarios.moves import play_host, play_move
from trunkline.lab.scenarios.other_tenant import play_5, play_6, play_6b, play_6b_with
from trunkline.lab.scenarios.placed import play_redundant, play_single
from trunkline.lab.scenarios.routers import play_routers
from trunkline.lab.scenarios.routers6 import play_routers6
from trunkline.lab.scenarios.same_tenant import play_1, play_2, play_3, play_4
from trunkline.lab.scenarios.segments import play_segments
from trunkline.lab.scenarios.services import (
    play_dns,
    play_metadata,
    play_mtu,
    play_options,
    play_pairs,
    play_ports,
    play_qos,
    play_source,
)
from trunkline.lab.scenarios.trunks import play_trunks
from trunkline.lab.stage import Stage
from trunkline.lab.verdict import Act, Report
from trunkline.model import Provisioning


@dataclass(frozen=True, slots=True)
class Scenario:
    """One of the article's scenarios."""

    key: str
    title: str
    play: Callable[[Stage], tuple[Act, ...]]


def play(stage: Stage, scenario: Scenario) -> Report:
    """Play a scenario.

    Raises:
        Invalid: The lab's topology lacks somebody whom the scenarios speak of.
        Interrupted: A precondition was not reached.
    """
    cast = {LEFT, RIGHT, *(f"VM_{number}" for number in range(1, 7))}
    missing = sorted(cast - set(stage.topology.nodes()))
    if missing:
        raise Invalid(
            f"scenario {scenario.key} speaks of {missing[0]}, which topology"
            f" {stage.topology.name} does not have; add it"
        )
    if scenario.play is play_move and any(s.anycast is None for s in stage.segments.values()):
        raise Invalid(
            f"scenario {scenario.key} needs networks with 'gateway: anycast', else an instance"
            " loses its gateway when it moves; use --file anycast"
        )
    acts = scenario.play(stage)
    return Report(scenario.key, scenario.title, acts)


SCENARIOS = {
    scenario.key: scenario
    for scenario in (
        Scenario("1", "instances boot and get their addresses", play_1),
        Scenario("2", "an instance with a fixed IP only reaches the Internet", play_2),
        Scenario("3", "same tenant, same host", play_3),
        Scenario("4", "same tenant, other host", play_4),
        Scenario("5", "other tenant, same host", play_5),
        Scenario("6", "other tenant, other host", play_6),
        Scenario("6b", "the other tenant's network is not on this host", play_6b),
        Scenario(
            "6b-router",
            "the same, provisioned wherever its router is",
            partial(play_6b_with, Provisioning.ROUTER),
        ),
        Scenario(
            "6b-everywhere",
            "the same, provisioned on every host",
            partial(play_6b_with, Provisioning.EVERYWHERE),
        ),
        Scenario("7", "by floating IPs", play_7),
        Scenario("forward", "single ports of a floating IP", play_forward),
        Scenario("routers", "a tenant on a router of its own", play_routers),
        Scenario("pairs", "allowed address pairs, and a port without port security", play_pairs),
        Scenario("dns", "names within a network, its resolvers and its domain", play_dns),
        Scenario("metadata", "instances ask who they are", play_metadata),
        Scenario("mtu", "a network with a smaller MTU", play_mtu),
        Scenario("ports", "instances on several networks", play_ports),
        Scenario("source", "routing source, and destinations exempt from it", play_source),
        Scenario("qos", "limits of bandwidth, of a port and of a floating IP", play_qos),
        Scenario("options", "a DHCP option for one port", play_options),
    )
}
"""The article's scenarios by key, in its order with their remedies, then what else there is."""

LAYOUTS = {
    scenario.key: scenario
    for scenario in (
        Scenario("flat", "one untagged segment for all tenants (FlatDHCPManager)", play_flat),
        Scenario("upstream", "6b by way of a router on the trunk", play_upstream),
        Scenario("ipv6", "1, 3, 4, 5, 6 and 6b in IPv6", play_ipv6),
        Scenario(
            "routers6", "IPv6 on routers of their own, with the same addresses", play_routers6
        ),
        Scenario("redundant", "a router on two hosts, of which one is lost", play_redundant),
        Scenario("segments", "networks that span two switches' VLANs", play_segments),
        Scenario("trunks", "two physical networks, and one VLAN id on both", play_trunks),
        Scenario("single", "one host is gateway, DHCP and NAT for all", play_single),
    )
}
"""Scenarios that need a topology of their own, which names them."""


MOVES = {
    scenario.key: scenario
    for scenario in (
        Scenario("move", "an instance moves while it runs", play_move),
        Scenario("host", "a host dies, and comes back", play_host),
    )
}
"""Scenarios that are played when asked for; the first needs ``gateway: anycast``."""

ALL = SCENARIOS | LAYOUTS | MOVES
