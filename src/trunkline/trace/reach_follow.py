"""What has changed from one cloud to the next, brought to a running count.

The order is what ``Standing`` asks for: ports that change are unplugged first, then rules, routing
domains and routes change, then ports are plugged in again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from trunkline.model import DomainId, GroupId, HostName, IpNetwork, SubnetId
from trunkline.trace.reach_standing import Standing, ports_of
from trunkline.trace.verify_cloud import Cloud


def follow(
    standing: Standing,
    before: Cloud,
    after: Cloud,
    elsewhere: Collection[GroupId] = frozenset(),
) -> None:
    """Bring a running count from one cloud, which it holds, to the next.

    Args:
        standing: The running count.
        before: The hosts that change, as they were.
        after: The same hosts, and new ones, as they are.
        elsewhere: Groups in use on hosts that do not change.
    """
    old, new = (ports_of(cloud, standing.version) for cloud in (before, after))
    changed = [
        port_id
        for port_id in old.keys() | new.keys()
        if old.get(port_id) != new.get(port_id)
        or before.domain(old[port_id][0]) != after.domain(new[port_id][0])
    ]
    for port_id in changed:
        standing.unplug(port_id)
    for group in before.groups.keys() | after.groups.keys():
        wanted = after.groups.get(group)
        if wanted is not None:
            standing.set_rules(group, wanted.rules)
        elif group not in elsewhere:
            standing.set_rules(group, ())
    _reroute(standing, before, after)
    for port_id in changed:
        if port_id in new:
            standing.plug(new[port_id], after.domain(new[port_id][0]))


def _reroute(standing: Standing, before: Cloud, after: Cloud) -> None:
    """Learn subnets and their domains, and set the routes that are others."""
    known, wanted = _subnets(before), _subnets(after)
    moved = {subnet for subnet, where in wanted.items() if known.get(subnet) != where}
    for host in before.hosts.keys() | after.hosts.keys():
        has, must = _routes(before, host), _routes(after, host)
        for subnet in has - (must - moved):
            standing.set_route(host, subnet, served=False)
    for subnet in moved:
        standing.learn(subnet, *wanted[subnet])
    for host in after.hosts:
        has, must = _routes(before, host), _routes(after, host)
        for subnet in must - (has - moved):
            standing.set_route(host, subnet, served=True)


def _subnets(cloud: Cloud) -> Mapping[SubnetId, tuple[IpNetwork, DomainId]]:
    return {
        subnet: (cidr, segment.domain)
        for segment in cloud.segments.values()
        for subnet, cidr in segment.subnets.items()
    }


def _routes(cloud: Cloud, host: HostName) -> frozenset[SubnetId]:
    return cloud.hosts[host].routes if host in cloud.hosts else frozenset()
