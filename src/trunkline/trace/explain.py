"""Why: names the API object behind what a rule, a route or an entry decided.

Reads the snapshot; decides nothing about the packet. ``disposition`` maps a chain's no to the
fixed list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from trunkline.snapshot import PortView
from trunkline.trace import nft
from trunkline.trace.cloud import (
    EVERYWHERE,
    ApiObject,
    Cloud,
    TracedHost,
    network_object,
    port_object,
)
from trunkline.trace.packets import Packet
from trunkline.trace.passage import Fate, Passage
from trunkline.trace.steps import Decision, Disposition, Stage

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
    cloud: Cloud, host: TracedHost, verdict: nft.Verdict, device: str, passage: Passage
) -> Decision:
    """Return a filter chain's verdict as a decision."""
    stage = STAGES[verdict.at]
    objects = _objects(cloud, host, stage, verdict, passage)
    passed_over = tuple(p for p in verdict.passed_over if p.chain.startswith("group-"))
    text = _text(cloud, verdict, objects, passage)
    kernel = f"{' > '.join(verdict.chains)}: {verdict.rule}"
    return Decision(stage, device, text, kernel, objects, passed_over or verdict.passed_over)


def _objects(
    cloud: Cloud, host: TracedHost, stage: Stage, verdict: nft.Verdict, passage: Passage
) -> tuple[ApiObject, ...]:
    """Return what is behind a verdict: the rule it names, or the groups that have none."""
    named = re.search(r'comment "rule=([^"]*)"', verdict.rule)
    if named:
        found = host.rules.get(named[1])
        return (found,) if found else ()
    if stage is Stage.ANTI_SPOOFING:
        port = host.ports.get(passage.path[0].device)
        return (port_object(port, cloud.name(port.id)),) if port else ()
    if stage not in (Stage.EGRESS, Stage.INGRESS) or len(verdict.chains) == 1:
        return ()
    packet = passage.packet
    address = packet.source if stage is Stage.EGRESS else packet.destination
    port = _port_at(host, address)
    return (*host.groups_of(port), port_object(port, cloud.name(port.id))) if port else ()


def _port_at(host: TracedHost, address: IPv4Address) -> PortView | None:
    """Return the port that may use an address: as a fixed one, else as one of its pairs."""
    ports = host.snapshot.ports
    fixed = (port for port in ports if address in {f.address for f in port.fixed_ips})
    paired = (port for port in ports if any(address in pair.prefix for pair in port.pairs))
    return next(fixed, None) or next(paired, None)


def _text(
    cloud: Cloud, verdict: nft.Verdict, objects: tuple[ApiObject, ...], passage: Passage
) -> str:
    if verdict.rule.startswith("ct state established"):
        return f"the connection is known: {passage.tracked.state}"
    if "ct state invalid" in verdict.rule:
        return "it belongs to no connection that this host has seen the beginning of"
    if verdict.kind == nft.REJECT:
        network = cloud.network_at(passage.packet.destination)
        whose = f"network {network.name}" if network else "that tenant prefix"
        return f"there is no bridge for {whose}, and the guard answers '{verdict.argument}'"
    return _plain_text(STAGES[verdict.at], objects, passed=verdict.kind == nft.ACCEPT)


def _plain_text(stage: Stage, objects: tuple[ApiObject, ...], *, passed: bool) -> str:
    if stage is Stage.ANTI_SPOOFING:
        return "MAC and address are the port's" if passed else "MAC or address are not the port's"
    if stage in (Stage.EGRESS, Stage.INGRESS) and objects:
        way = "out" if stage is Stage.EGRESS else "in"
        names = ", ".join(o.text for o in objects if o.kind != "port")
        return f"{names} lets it {way}" if passed else _denied(way, objects)
    if stage is Stage.INPUT:
        return f"{'lets' if passed else 'does not let'} it to the host itself"
    return "passes" if passed else "the host does not let it pass"


def _denied(way: str, objects: tuple[ApiObject, ...]) -> str:
    groups = [o.text for o in objects if o.kind == "security group"]
    ports = [o.text for o in objects if o.kind == "port"]
    whose = f"no rule of {' or '.join(groups)}" if groups else f"{ports[0]} is in no group that"
    return f"{whose} lets it {way}"


def disposition(
    cloud: Cloud, decision: Decision, verdict: nft.Verdict, passage: Passage
) -> Disposition:
    """Return what a chain's no means for the flow."""
    if "ct state invalid" in verdict.rule:
        return Disposition.INVALID
    if verdict.kind == nft.REJECT and cloud.is_tenant(passage.packet.destination):
        return Disposition.NO_BRIDGE
    if decision.stage is Stage.EGRESS and len(verdict.chains) == 1:
        return Disposition.SPOOFED  # a private source that came by the uplink
    return DISPOSITIONS[decision.stage]


def route(host: TracedHost, chosen: tuple[IPv4Network, str], destination: IPv4Address) -> Decision:
    """Return a routing decision, with the routes that also match and are less specific."""
    prefix, link = chosen
    lost = tuple(
        nft.PassedOver("routes", _route_text(r), f"less specific than {prefix}")
        for r in host.routes
        if destination in r[0] and r != chosen
    )
    network = host.network_of(link)
    objects = (network_object(network),) if network else ()
    how = "its default route" if prefix == EVERYWHERE else f"{prefix} is connected"
    text = f"{destination}: {how}, by {link}"
    return Decision(Stage.ROUTE, link, text, _route_text(chosen), objects, lost)


def _route_text(route: tuple[IPv4Network, str]) -> str:
    prefix, link = route
    return f"default dev {link}" if prefix == EVERYWHERE else f"{prefix} dev {link}"


def translation(cloud: Cloud, verdict: nft.Verdict, context: nft.Context) -> Decision | None:
    """Return what a first packet's translation rests on; None if it is not translated."""
    if verdict.kind not in (nft.DNAT, nft.SNAT) or context.ip is None:
        return None
    to = IPv4Address(verdict.argument)
    stage = STAGES[verdict.at]
    floating = context.ip.destination if verdict.kind == nft.DNAT else to
    found = cloud.floating.get(floating)
    side = "destination" if verdict.kind == nft.DNAT else "source"
    why = found.text if found else "the host's routing source"
    text = f"{side} becomes {to}: {why}"
    kernel = f"{' > '.join(verdict.chains)}: {verdict.rule}"
    objects = (found,) if found else ()
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
