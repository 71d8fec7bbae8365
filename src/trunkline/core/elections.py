"""Routers on several hosts, one of which acts: what that host has, and the others have not.

The others are complete but for two things. Nothing passes the ways between their bridges and the
router's space, so neither does it answer as a gateway nor serve a lease; and the host neither has
routes to the router's floating IPs nor answers ARP for them. So little has to be done by whoever
takes over, and it is done without an agent.

Decides nothing on who acts: that is a fact here.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Interface

from trunkline import ownership
from trunkline.core.links import compile_gateways
from trunkline.core.spaces import Space, exempt_routes, floating_proxies, floating_routes
from trunkline.hoststate import Address, Chain, Election, Hook, HostConfig, NftSet, Problem
from trunkline.model import HostName

RESTING = "resting"
# Before all else in the bridge family.
FROM_SPACE_PRIORITY, TO_SPACE_PRIORITY = -330, -330
PRIORITY_MAX = 254  # RFC 5798: 255 is who owns the addresses by configuration


def compile_resting_sets(spaces: Iterable[Space]) -> list[NftSet]:
    """Return the ways that nothing passes; no set where no router is on several hosts."""
    several = [space for space in spaces if space.number is not None]
    if not several:
        return []
    ways = (way for space in several if not space.acting for way in _ways(space))
    return [NftSet(RESTING, "type ifname", elements={f'"{way}"': "" for way in ways})]


def compile_resting_chains(spaces: Iterable[Space]) -> list[Chain]:
    """Return the bridge table's chains that close those ways."""
    if all(space.number is None for space in spaces):
        return []
    return [
        Chain(
            "from-space",
            (f"iifname @{RESTING} drop",),
            Hook("filter", "prerouting", FROM_SPACE_PRIORITY),
        ),
        Chain(
            "to-space",
            (f"oifname @{RESTING} drop",),
            Hook("filter", "forward", TO_SPACE_PRIORITY),
        ),
    ]


def compile_elections(
    spaces: Iterable[Space], config: HostConfig
) -> tuple[dict[int, Election], tuple[Problem, ...]]:
    """Return how this host stands for each router that is on several, and what cannot be."""
    elections, problems = {}, []
    for space in spaces:
        router, number = space.router, space.number
        if router is None or number is None:
            continue
        if config.uplink is None:
            text = (
                "is on several hosts (trunkline:hosts), which hear each other by their uplinks, and"
                " this one has none, so it never acts; name one, or take the host off the router"
            )
            problems.append(Problem(f"router {router.id}", text))
        else:
            priority = PRIORITY_MAX - router.hosts.index(HostName(config.host))
            elections[number] = _election(space, config, config.uplink, priority)
    return elections, tuple(problems)


def _election(space: Space, config: HostConfig, uplink: str, priority: int) -> Election:
    trunks = {s.trunk for s in space.served} - {uplink}
    exempt, _ = exempt_routes([space], space.served, config)
    return Election(
        priority=priority,
        link=uplink,
        tracked=tuple(sorted(trunks)),
        ways=_ways(space),
        routes=tuple(sorted(floating_routes([space]) | exempt, key=str)),
        space=space.name,
        inside=tuple(
            sorted(
                (
                    Address(a.link, IPv4Interface(a.address.ip))
                    for a in compile_gateways(space.served)
                ),
                key=str,
            )
        ),
        outside=tuple(sorted(floating_proxies([space], uplink), key=str)),
    )


def _ways(space: Space) -> tuple[str, ...]:
    return tuple(ownership.cable_name(s.bridge) for s in space.served)
