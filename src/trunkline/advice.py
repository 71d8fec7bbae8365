"""What to do about a flow that fails: the smallest change that opens it, and what else it opens.

Pure. A change is made to the snapshots, the hosts are compiled anew, and the tracer has the last
word: what it does not confirm is not advised. Two kinds of change are known: a security group
rule, and a network on one more host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network

from trunkline.core.compile import compile_host
from trunkline.model import Direction, GroupId, IpAddress, Rule, RuleId
from trunkline.snapshot import GroupView, HostSnapshot, NetworkView, PortView
from trunkline.trace.cloud import ApiObject, Cloud, TracedHost, network_object
from trunkline.trace.nft import V4, Unknown
from trunkline.trace.packets import ICMP, ICMPV6, PROTOCOLS
from trunkline.trace.passage import Fate
from trunkline.trace.steps import Advice, Disposition
from trunkline.trace.walk import Flow, refusal

CHANGES_MAX = 4
"""Of one advice: egress and ingress, each way; more is another plan, not a change."""

EXAMINED_MAX = 50
"""Flows that are walked to find out what else a change opens."""

ECHOED = (ICMP, ICMPV6)
LOOKED_THROUGH = 2**16  # addresses of a subnet: enough for more hosts than there can be
DENIALS = {
    Disposition.DENIED_EGRESS: Direction.EGRESS,
    Disposition.DENIED_INGRESS: Direction.INGRESS,
}


@dataclass(frozen=True, slots=True)
class Change:
    """A change that may help.

    Attributes:
        apply: Makes it to a host's snapshot.
        others: Flows that it may open too.
    """

    text: str
    command: str
    object: ApiObject
    apply: Callable[[HostSnapshot], HostSnapshot]
    others: tuple[Flow, ...]


def advise(cloud: Cloud, flow: Flow) -> tuple[Advice, ...]:
    """Return the changes that together open a flow; none if it is open, or nothing known helps."""
    now = cloud
    advice: list[Advice] = []
    try:
        for _ in range(CHANGES_MAX):
            fate = refusal(now, flow)
            if fate is None:
                return tuple(advice)
            found = _best(now, flow, fate)
            if found is None:
                return ()
            now, one = found
            advice.append(one)
    except Unknown:
        pass
    return ()


def _best(cloud: Cloud, flow: Flow, fate: Fate) -> tuple[Cloud, Advice] | None:
    """Return the cloud after the change that opens least beside, and the advice."""
    tried = []
    for change in _changes(cloud, flow, fate):
        after = changed(cloud, change.apply)
        further = refusal(after, flow)
        if further is None or further.decision != fate.decision:
            tried.append((after, _advice(cloud, after, change)))
    return min(tried, key=lambda one: len(one[1].opens), default=None)


def changed(cloud: Cloud, apply: Callable[[HostSnapshot], HostSnapshot]) -> Cloud:
    """Return a cloud whose hosts are what they would be after a change."""
    hosts = tuple(_recompiled(host, apply(host.snapshot)) for host in cloud.hosts)
    return replace(cloud, hosts=hosts)


def _recompiled(host: TracedHost, snapshot: HostSnapshot) -> TracedHost:
    if snapshot == host.snapshot:
        return host
    state, _ = compile_host(snapshot, host.config, host.facts)
    return TracedHost(snapshot, host.config, host.facts, state)


def _advice(before: Cloud, after: Cloud, change: Change) -> Advice:
    examined = change.others[:EXAMINED_MAX]
    opens = tuple(
        _sentence(before, flow)
        for flow in examined
        if refusal(before, flow) is not None and refusal(after, flow) is None
    )
    unexamined = len(change.others) - len(examined)
    return Advice(change.text, change.command, change.object, opens, unexamined)


def _sentence(cloud: Cloud, flow: Flow) -> str:
    source = "the Internet" if flow.source is None else cloud.name(flow.source)
    return f"{source} to {flow.destination}."


def _changes(cloud: Cloud, flow: Flow, fate: Fate) -> Iterator[Change]:
    """Yield the changes that may help where a packet failed."""
    direction = DENIALS.get(fate.disposition)
    if direction is not None:
        for found in fate.decision.objects:
            if found.kind == "security group":
                yield _rule_change(cloud, flow, fate, direction, found)
    elif fate.disposition in (Disposition.NO_BRIDGE, Disposition.LEAKED):
        network = cloud.network_at(fate.packet.destination, cloud.domain_of(flow.source))
        if network is not None:
            host = fate.node.partition("/")[0]  # where the router is one in a namespace
            yield _network_change(cloud, flow, host, network)


# --- a rule ---------------------------------------------------------------------------------------


def _rule_change(
    cloud: Cloud, flow: Flow, fate: Fate, direction: Direction, group: ApiObject
) -> Change:
    rule = _rule(fate, direction)
    command = (
        f"openstack security group rule create --{direction} {_service(rule)}"
        f" --remote-ip {rule.remote_prefix} {group.id}"
    )
    text = f"add to {group.text} an {direction} rule for {_words(rule)} {rule.remote_prefix}"
    members = [p for _, p in cloud.seats.values() if group.id in p.group_ids]
    others = _other_flows(cloud, flow, direction, members)
    return Change(text, command, group, lambda s: _with_rule(s, GroupId(group.id), rule), others)


def _rule(fate: Fate, direction: Direction) -> Rule:
    """Return the narrowest rule that lets a packet through where it was refused."""
    packet = fate.packet
    peer = packet.source if direction is Direction.INGRESS else packet.destination
    port = packet.icmp[0] if packet.icmp else packet.destination_port
    return Rule(
        RuleId("proposed"),
        direction,
        protocol=packet.protocol,
        port_min=port,
        port_max=None if packet.icmp else port,
        ethertype=packet.version,
        remote_prefix=ip_network(peer),
    )


def _service(rule: Rule) -> str:
    names = {number: name for name, number in PROTOCOLS.items()}
    words = f"--protocol {names.get(rule.protocol or 0, rule.protocol)}"
    words = words if rule.ethertype == V4 else f"--ethertype IPv6 {words}"
    if rule.port_min is None:
        return words
    return f"{words} {'--icmp-type' if rule.protocol in ECHOED else '--dst-port'} {rule.port_min}"


def _words(rule: Rule) -> str:
    names = {number: name for name, number in PROTOCOLS.items()}
    port = "" if rule.port_min is None else f" {rule.port_min}"
    kind = " type" if rule.protocol in ECHOED else ""
    to = "from" if rule.direction is Direction.INGRESS else "to"
    return f"{names.get(rule.protocol or 0, rule.protocol)}{kind}{port} {to}"


def _with_rule(snapshot: HostSnapshot, group_id: GroupId, rule: Rule) -> HostSnapshot:
    groups = tuple(_added(g, rule) if g.id == group_id else g for g in snapshot.groups)
    return replace(snapshot, groups=groups)


def _added(group: GroupView, rule: Rule) -> GroupView:
    return replace(group, rules=(*group.rules, rule))


def _other_flows(
    cloud: Cloud, flow: Flow, direction: Direction, members: Iterable[PortView]
) -> tuple[Flow, ...]:
    """Return the flows of the same service that the same rule is about, with other members."""
    if direction is Direction.EGRESS:
        found = [replace(flow, source=port.id, source_address=None) for port in members]
    else:
        found = [
            replace(flow, destination=address)
            for port in members
            for address in _addresses(cloud, port)
            if address.version == flow.destination.version
        ]
    return tuple(one for one in found if one != flow)


def _addresses(cloud: Cloud, port: PortView) -> Iterator[IpAddress]:
    """Yield the addresses that stand for a port, fixed and floating."""
    yield from (fixed.address for fixed in port.fixed_ips)
    for host in cloud.hosts:
        yield from (f.address for f in host.snapshot.floating_ips if port.id in f.port_ids)


# --- a network on one more host -------------------------------------------------------------------


def _network_change(cloud: Cloud, flow: Flow, host: str, network: NetworkView) -> Change:
    text = (
        f"have network {network.name} on {host} too, by the provisioning 'router'; or reach it by a"
        " floating IP"
    )
    command = (
        f'PUT /v2.0/networks/{network.id} {{"network": {{"trunkline:provisioning": "router"}}}}'
    )
    there = [port for h, port in cloud.seats.values() if h.name == host]
    others = tuple(
        replace(flow, source=port.id, destination=fixed.address)
        for port in there
        for _, peer in cloud.seats.values()
        if peer.network_id == network.id
        for fixed in peer.fixed_ips
        if fixed.address.version == flow.destination.version
    )
    served = _served_anew(cloud, network)
    return Change(
        text,
        command,
        network_object(network),
        lambda s: _with_network(s, served) if s.host == host else s,
        tuple(one for one in others if one != flow),
    )


def _served_anew(cloud: Cloud, network: NetworkView) -> NetworkView:
    """Return a network as one more host would serve it, its gateway an address that is free."""
    used = {fixed.address for _, port in cloud.seats.values() for fixed in port.fixed_ips}
    used |= set().union(*(host.own for host in cloud.hosts))
    subnets = []
    for subnet in network.subnets:
        nearby = range(2, min(subnet.cidr.num_addresses, LOOKED_THROUGH))
        free = (subnet.cidr[-number] for number in nearby)
        subnets.append(replace(subnet, gateway=next((a for a in free if a not in used), None)))
    return replace(network, subnets=tuple(subnets))


def _with_network(snapshot: HostSnapshot, network: NetworkView) -> HostSnapshot:
    if any(one.id == network.id for one in snapshot.networks):
        return snapshot
    networks = sorted((*snapshot.networks, network), key=lambda one: one.id)
    return replace(snapshot, networks=tuple(networks))
