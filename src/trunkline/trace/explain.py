"""Why: names the API object behind what a rule, a route or an entry decided.

Reads the snapshot; decides nothing about the packet. ``disposition`` maps a chain's no to the
fixed list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address

from trunkline.model import IpAddress, link_local
from trunkline.snapshot import PortView
from trunkline.trace import nft
from trunkline.trace.cloud import (
    ApiObject,
    Cloud,
    Place,
    TracedHost,
    TracedSpace,
    Way,
    network_object,
    port_object,
)
from trunkline.trace.packets import PROTOCOLS, Packet
from trunkline.trace.passage import Fate, Passage
from trunkline.trace.steps import Decision, Disposition, Stage

NAMES = {number: name for name, number in PROTOCOLS.items()}
STAGES = {
    ("bridge", "prerouting"): Stage.ANTI_SPOOFING,
    ("bridge", "forward"): Stage.BRIDGE,
    ("bridge", "postrouting"): Stage.BRIDGE,
    ("filter", "prerouting"): Stage.EGRESS,
    ("filter", "input"): Stage.INPUT,
    ("filter", "output"): Stage.INPUT,
    ("filter", "forward"): Stage.FORWARD,
    ("filter", "postrouting"): Stage.INGRESS,
    ("nat", "prerouting"): Stage.DNAT,
    ("nat", "output"): Stage.DNAT,
    ("nat", "input"): Stage.SNAT,
    ("nat", "postrouting"): Stage.SNAT,
}

DISPOSITIONS = {
    Stage.ANTI_SPOOFING: Disposition.SPOOFED,
    Stage.BRIDGE: Disposition.NOT_FORWARDED,
    Stage.EGRESS: Disposition.DENIED_EGRESS,
    Stage.INPUT: Disposition.CLOSED_HOST,
    Stage.FORWARD: Disposition.NOT_FORWARDED,
    Stage.INGRESS: Disposition.DENIED_INGRESS,
}
"""What a no at a stage means, unless its rule says something more special."""


def filtered(
    cloud: Cloud, place: Place, verdict: nft.Verdict, device: str, passage: Passage
) -> Decision:
    """Return a filter chain's verdict as a decision."""
    stage = STAGES[verdict.at]
    if isinstance(place, TracedHost):
        objects = _objects(cloud, place, stage, verdict, device, passage)
    else:
        objects = owner(place)
    passed_over = tuple(p for p in verdict.passed_over if p.chain.startswith("group-"))
    text = _text(cloud, place, verdict, objects, passage)
    kernel = f"{' > '.join(verdict.chains)}: {verdict.rule}"
    return Decision(stage, device, text, kernel, objects, passed_over or verdict.passed_over)


def owner(place: Place) -> tuple[ApiObject, ...]:
    """Return the router that a namespace is for."""
    return (place.owner,) if isinstance(place, TracedSpace) and place.owner else ()


def _objects(
    cloud: Cloud,
    host: TracedHost,
    stage: Stage,
    verdict: nft.Verdict,
    device: str,
    passage: Passage,
) -> tuple[ApiObject, ...]:
    """Return what is behind a verdict: the rule it names, or the groups that have none."""
    named = re.search(r'comment "rule=([^"]*)"', verdict.rule)
    if named:
        found = host.rules.get(named[1])
        return (found,) if found else ()
    if stage is Stage.ANTI_SPOOFING:
        port = host.ports.get(passage.path[0].device)
        return (port_object(port, cloud.name(port.id)),) if port else ()
    if not _is_of_groups(verdict):
        return ()
    packet = passage.packet
    address = packet.source if stage is Stage.EGRESS else packet.destination
    port = _port_at(host, device, address)
    return (*host.groups_of(port), port_object(port, cloud.name(port.id))) if port else ()


def _is_of_groups(verdict: nft.Verdict) -> bool:
    """Return whether the chain that decided is one of a combination of groups."""
    return re.fullmatch("(egress|ingress)6?-.*|group6?-.*", verdict.chains[-1]) is not None


def has_address(port: PortView, address: IpAddress) -> bool:
    """Return whether a port has an address: a fixed one or, with one of IPv6, that of its MAC."""
    fixed = {f.address for f in port.fixed_ips}
    own = address.is_link_local and address == link_local(port.mac)
    return address in fixed or (own and any(a.version == address.version for a in fixed))


def _port_at(host: TracedHost, bridge: str, address: IpAddress) -> PortView | None:
    """Return a bridge's port that may use an address: as a fixed one, else as one of its pairs."""
    network = host.network_of(bridge)
    ports = [p for p in host.snapshot.ports if network is None or p.network_id == network.id]
    fixed = (port for port in ports if has_address(port, address))
    paired = (port for port in ports if any(address in pair.prefix for pair in port.pairs))
    return next(fixed, None) or next(paired, None)


def _text(
    cloud: Cloud,
    place: Place,
    verdict: nft.Verdict,
    objects: tuple[ApiObject, ...],
    passage: Passage,
) -> str:
    if verdict.rule.startswith("ct state established"):
        return f"the connection is known: {passage.tracked.state}"
    if "ct state invalid" in verdict.rule:
        return "it belongs to no connection that this host has seen the beginning of"
    if verdict.kind == nft.REJECT:
        lacking = _lacking(cloud, place, passage.packet.destination)
        return f"{lacking}, and the guard answers '{verdict.argument}'"
    if _turns_round(cloud, place, verdict, passage):
        return f"{cloud.floating[passage.packet.destination].text} is not translated"
    if verdict.chains[0] == "leaving":
        return f"its source is still a tenant's {passage.packet.source}, and none goes out so"
    return _plain_text(STAGES[verdict.at], objects, passed=verdict.kind == nft.ACCEPT)


def _turns_round(cloud: Cloud, place: Place, verdict: nft.Verdict, passage: Passage) -> bool:
    """Return whether a space got what is for a floating IP, and knows no instance for it."""
    return (
        isinstance(place, TracedSpace)
        and verdict.chains[0] == "forward"
        and passage.packet.destination in cloud.floating
    )


def _lacking(cloud: Cloud, place: Place, destination: IpAddress) -> str:
    """Return why a tenant's address is out of reach: no bridge here, or another router's."""
    network = cloud.network_at(destination, place.domain)
    if network is not None:
        return f"there is no bridge for network {network.name}"
    if cloud.network_at(destination, None) is not None:
        return f"{destination} is on another router"
    return "there is no bridge for that tenant prefix"


def _plain_text(stage: Stage, objects: tuple[ApiObject, ...], *, passed: bool) -> str:
    if stage is Stage.ANTI_SPOOFING:
        return "MAC and address are the port's" if passed else "MAC or address are not the port's"
    if stage in (Stage.EGRESS, Stage.INGRESS) and objects:
        way = "out" if stage is Stage.EGRESS else "in"
        names = ", ".join(o.text for o in objects if o.kind != "port")
        return f"{names} lets it {way}" if passed else _denied(way, objects)
    if stage is Stage.INPUT:
        return f"{'a rule lets' if passed else 'nothing lets'} it to the host itself"
    return "passes" if passed else "the host does not let it pass"


def _denied(way: str, objects: tuple[ApiObject, ...]) -> str:
    groups = [o.text for o in objects if o.kind == "security group"]
    ports = [o.text for o in objects if o.kind == "port"]
    whose = f"no rule of {' or '.join(groups)}" if groups else f"{ports[0]} is in no group that"
    return f"{whose} lets it {way}"


def disposition(
    cloud: Cloud, place: Place, decision: Decision, verdict: nft.Verdict, passage: Passage
) -> Disposition:
    """Return what a chain's no means for the flow."""
    if "ct state invalid" in verdict.rule:
        return Disposition.INVALID
    destination = passage.packet.destination
    if verdict.kind == nft.REJECT and cloud.is_tenant(destination):
        here = cloud.network_at(destination, place.domain) or not cloud.network_at(
            destination, None
        )
        return Disposition.NO_BRIDGE if here else Disposition.NO_ROUTE
    if verdict.chains[0] == "leaving" or _turns_round(cloud, place, verdict, passage):
        return Disposition.NOT_TRANSLATED
    if decision.stage is Stage.EGRESS and not _is_of_groups(verdict):
        return Disposition.SPOOFED  # a private source that came by the uplink
    return DISPOSITIONS[decision.stage]


def route(place: Place, chosen: Way, destination: IpAddress) -> Decision:
    """Return a routing decision, with the routes that also match and are less specific."""
    prefix, link, via = chosen
    lost = tuple(
        nft.PassedOver("routes", _route_text(way), f"less specific than {prefix}")
        for way in place.routes
        if destination in way.prefix and way != chosen
    )
    host = place.host if isinstance(place, TracedSpace) else place
    network = host.network_of(link or "")
    objects = (network_object(network),) if network else ()
    how = f"{prefix} is connected" if via is None else f"{prefix} is behind {via}"
    how = "its default route" if prefix.prefixlen == 0 else how
    text = f"{destination}: {how}, by {link}"
    return Decision(
        Stage.ROUTE, link or "", text, _route_text(chosen), (*objects, *owner(place)), lost
    )


def no_route(place: Place, way: Way | None, destination: IpAddress, device: str) -> Decision:
    """Return why a packet has nowhere to go: no route, or one that says so."""
    if way is None:
        text, kernel = f"there is no route to {destination}", ""
    else:
        text = f"{way.prefix} is unreachable: its next hop's network is not on this host"
        kernel = f"unreachable {way.prefix}"
    return Decision(Stage.ROUTE, device, text, kernel, owner(place))


def _route_text(way: Way) -> str:
    via = f" via {way.via}" if way.via else ""
    to = "default" if way.prefix.prefixlen == 0 else f"{way.prefix}"
    return f"{to}{via} dev {way.link}"


def target(verdict: nft.Verdict) -> tuple[IPv4Address, int | None]:
    """Return the address that a packet is translated to, and the port if that changes too."""
    address, _, port = verdict.argument.partition(" . ")
    return IPv4Address(address), int(port) if port else None


def translation(
    cloud: Cloud, place: Place, verdict: nft.Verdict, context: nft.Context
) -> Decision | None:
    """Return what a first packet's translation rests on; None if it is not translated."""
    if verdict.kind not in (nft.DNAT, nft.SNAT) or context.ip is None:
        return None
    to, port = target(verdict)
    stage = STAGES[verdict.at]
    floating = context.ip.destination if verdict.kind == nft.DNAT else to
    found = cloud.floating.get(floating)
    side = "destination" if verdict.kind == nft.DNAT else "source"
    usual = "the way out of its router" if to.is_link_local else "the host's routing source"
    why = found.text if found else usual
    text = f"{side} becomes {to}: {why}"
    if port is not None:
        service = f"{NAMES[context.ip.protocol]} {context.ip.destination_port}"
        text = f"{side} becomes {to} port {port}: {why} forwards {service}"
    kernel = f"{' > '.join(verdict.chains)}: {verdict.rule}"
    objects = (found,) if found else owner(place)
    return Decision(stage, context.oif or context.iif or "", text, kernel, objects)


def back(hook: str, before: Packet, after: Packet) -> Decision:
    """Return a translation that follows from a connection's entry alone."""
    moved = "destination" if before.destination != after.destination else "source"
    to = after.destination if moved == "destination" else after.source
    text = f"connection tracking makes the {moved} {to}"
    return Decision(STAGES["nat", hook], "", text, "conntrack entry")


def exposure(cloud: Cloud, host: TracedHost, passage: Passage) -> Iterator[Fate]:
    """Yield what is wrong with a packet that leaves by the uplink: a leak, a private source."""
    packet = passage.packet
    if any(packet.destination in prefix for prefix in host.config.snat_exempt):
        return
    device = host.uplink or ""
    if cloud.is_tenant(packet.destination):
        text = f"{packet.destination} is a tenant's, and leaves by {device} to the provider"
        yield _exposed(passage, Disposition.LEAKED, device, text)
    elif cloud.is_tenant(packet.source):
        text = f"leaves by {device} with the private source {packet.source}"
        yield _exposed(passage, Disposition.NOT_TRANSLATED, device, text)


def _exposed(passage: Passage, disposition: Disposition, device: str, text: str) -> Fate:
    decision = Decision(Stage.SNAT, device, text)
    passage.decisions.append(decision)
    return Fate(passage.packet.role, passage.node, disposition, decision, passage.packet)
