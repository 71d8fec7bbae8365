"""One flow at a time, judged from intent, in the order in which a packet meets the decisions.

Plain on purpose: the fast engine has to agree with this for every flow, and it is what a reader
checks. What a host does is in ``core.filter`` and ``core.nat``; this says what comes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from trunkline.model import Direction, GroupId, Rule, RuleId
from trunkline.snapshot import PortView
from trunkline.trace.verify_cloud import Address, Cloud, End, Floating, Host
from trunkline.trace.verify_services import Service, fits


class Verdict(StrEnum):
    """What comes of a flow; everything but ``ANSWERED`` names the first thing in the way."""

    ANSWERED = "answered"
    ONE_WAY = "one way only"
    DENIED_EGRESS = "denied by the sender's groups"
    DENIED_INGRESS = "denied by the receiver's groups"
    DOWN = "an end is not plugged in"
    NO_GATEWAY = "the sender has no gateway"
    OTHER_ROUTER = "not on the same router"
    NO_BRIDGE = "the sender's host does not serve the receiver's network"
    LEAKED = "leaves by the uplink, since the sender's host does not serve the receiver's network"
    NO_EXTERNAL = "a router has no way to the outside"
    NO_UPLINK = "a host has no uplink"
    UNTRANSLATED = "leaves with a private source, which the receiver's host refuses"
    UNKNOWN = "not modelled: a floating IP on a host that has no routing source"


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict and the rules that let the flow out and in, as far as it came."""

    verdict: Verdict
    out_by: Rule | None = None
    in_by: Rule | None = None


ANY = Rule(id=RuleId(""), direction=Direction.EGRESS)
"""Stands for the absence of port security."""


def to_port(cloud: Cloud, source: End, target: End, service: Service) -> Ruling:
    """Return what comes of a flow from an end to another port's fixed address."""
    if not (source.seat.up and target.seat.up):
        return Ruling(Verdict.DOWN)
    sender, receiver = _as_seen(cloud, source, target)
    out_by = permitting(cloud, source, Direction.EGRESS, receiver, service)
    if out_by is None:
        return Ruling(Verdict.DENIED_EGRESS)
    hindrance = way(cloud, source, target)
    if hindrance is not None:
        return Ruling(hindrance, out_by)
    in_by = permitting(cloud, target, Direction.INGRESS, sender, service)
    if in_by is None:
        return Ruling(Verdict.DENIED_INGRESS, out_by)
    back = way(cloud, target, source)
    return Ruling(Verdict.ONE_WAY if back else Verdict.ANSWERED, out_by, in_by)


def to_floating(cloud: Cloud, source: End, target: Floating, service: Service) -> Ruling:
    """Return what comes of a flow from an end to a floating IP, its own one included."""
    if not (source.seat.up and target.end.seat.up):
        return Ruling(Verdict.DOWN)
    out_by = permitting(cloud, source, Direction.EGRESS, Peer(target.address), service)
    if out_by is None:
        return Ruling(Verdict.DENIED_EGRESS)
    hindrance = _way_to_floating(cloud, source, target)
    if hindrance is not None:
        return Ruling(hindrance, out_by)
    face = cloud.face(source)
    assert face is not None, "without a face there is a hindrance"
    return _into(cloud, face, target, service, out_by)


def to_internet(cloud: Cloud, source: End, outside: Address, service: Service) -> Ruling:
    """Return what comes of a flow from an end to an address outside the cloud.

    Destinations that see an instance's own address are taken to have a route back to its host.
    """
    if not source.seat.up:
        return Ruling(Verdict.DOWN)
    out_by = permitting(cloud, source, Direction.EGRESS, Peer(outside), service)
    if out_by is None:
        return Ruling(Verdict.DENIED_EGRESS)
    host = cloud.gate(source)
    hindrance = _way_out(cloud, source, outside)
    if hindrance is not None:
        return Ruling(hindrance, out_by)
    returns = cloud.face(source) is not None or _is_exempt(host, outside)
    return Ruling(Verdict.ANSWERED if returns else Verdict.ONE_WAY, out_by)


def from_internet(cloud: Cloud, outside: Address, target: Floating, service: Service) -> Ruling:
    """Return what comes of a flow from an address outside the cloud to a floating IP."""
    if not target.end.seat.up:
        return Ruling(Verdict.DOWN)
    hindrance = way_in(cloud, target)
    if hindrance is not None:
        return Ruling(hindrance)
    return _into(cloud, outside, target, service, None)


def _into(
    cloud: Cloud, peer: Address, target: Floating, service: Service, out_by: Rule | None
) -> Ruling:
    """Judge at the receiver of a translated packet; answers follow connection tracking."""
    in_by = permitting(cloud, target.end, Direction.INGRESS, Peer(peer), service)
    verdict = Verdict.DENIED_INGRESS if in_by is None else Verdict.ANSWERED
    return Ruling(verdict, out_by, in_by)


# --- groups -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side as a group's rules see it: its address, and whose member that is."""

    address: Address
    groups: tuple[GroupId, ...] = ()


def permitting(
    cloud: Cloud, end: End, direction: Direction, peer: Peer, service: Service
) -> Rule | None:
    """Return the first rule of an end's groups that lets a flow pass; None is refused."""
    if not end.seat.port.port_security:
        return ANY
    for rule in rules_of(cloud, end.seat.port):
        if (
            rule.direction == direction
            and rule.ethertype == peer.address.version
            and is_peer(rule, peer)
            and fits(rule, service.protocol, service.port)
        ):
            return rule
    return None


def rules_of(cloud: Cloud, port: PortView) -> Iterable[Rule]:
    """Return all rules of a port's groups."""
    return (r for g in port.group_ids if g in cloud.groups for r in cloud.groups[g].rules)


def is_peer(rule: Rule, peer: Peer) -> bool:
    """Return whether a rule's remote prefix or group has a peer in it."""
    if rule.remote_group_id is not None:
        return rule.remote_group_id in peer.groups
    return rule.remote_prefix is None or peer.address in rule.remote_prefix


def _as_seen(cloud: Cloud, a: End, b: End) -> tuple[Peer, Peer]:
    """Return both as the other sees them; groups know members of the own routing domain only."""
    if cloud.domain(a) != cloud.domain(b):
        return Peer(a.address), Peer(b.address)
    return Peer(a.address, a.seat.port.group_ids), Peer(b.address, b.seat.port.group_ids)


# --- ways -------------------------------------------------------------------------------------


def way(cloud: Cloud, source: End, target: End) -> Verdict | None:
    """Return what keeps a packet from getting from one end to another's segment, if anything."""
    if is_on_link(source, target):
        return None
    host = cloud.gate(source)
    if not has_gateway(cloud, source):
        return Verdict.NO_GATEWAY
    if cloud.domain(source) != cloud.domain(target):
        return Verdict.OTHER_ROUTER
    if target.subnet_id in host.routes:
        return None
    return Verdict.NO_BRIDGE if host.settings.guard else Verdict.LEAKED


def is_on_link(source: End, target: End) -> bool:
    """Return whether the sender's instance asks for the target's MAC, and not for a router's."""
    port = source.seat.port
    return port.network_id == target.seat.port.network_id and any(
        fixed.subnet_id == target.subnet_id for fixed in port.fixed_ips
    )


def has_gateway(cloud: Cloud, end: End) -> bool:
    """Return whether the end's host is a router for any of the port's addresses of its family."""
    routes = cloud.gate(end).routes - end.seat.unrouted
    return any(
        fixed.subnet_id in routes
        for fixed in end.seat.port.fixed_ips
        if fixed.address.version == end.address.version
    )


def _way_out(cloud: Cloud, source: End, outside: Address) -> Verdict | None:
    if not has_gateway(cloud, source):
        return Verdict.NO_GATEWAY
    if not reaches_outside(cloud, source):
        return Verdict.NO_EXTERNAL
    if outside.version != 4 or not cloud.gate(source).settings.uplink:  # noqa: PLR2004 - IP
        return Verdict.NO_UPLINK
    return None


def reaches_outside(cloud: Cloud, end: End) -> bool:
    """Return whether the end's router has a gateway to the outside."""
    router = cloud.router(end)
    return router is not None and router.has_gateway


def way_in(cloud: Cloud, target: Floating) -> Verdict | None:
    """Return what keeps a packet to a floating IP from its instance's segment, if anything."""
    host = cloud.gate(target.end)
    if not reaches_outside(cloud, target.end):
        return Verdict.NO_EXTERNAL
    if not host.settings.uplink:
        return Verdict.NO_UPLINK
    is_routed = target.end.subnet_id in host.routes and has_gateway(cloud, target.end)
    return None if is_routed else Verdict.NO_GATEWAY


def _way_to_floating(cloud: Cloud, source: End, target: Floating) -> Verdict | None:
    """Return what keeps a packet from a floating IP's instance, if anything.

    On the own host it turns round without leaving; towards another one it leaves by the uplink,
    and must not do so with its private address.
    """
    hindrance = _way_out(cloud, source, target.address) or way_in(cloud, target)
    if hindrance is not None:
        return hindrance
    is_local = cloud.gate(source) is cloud.gate(target.end)
    has_face = cloud.face(source) is not None
    if is_local:
        return None if has_face else Verdict.UNKNOWN
    exempt = _is_exempt(cloud.gate(source), target.address)
    return None if has_face and not exempt else Verdict.UNTRANSLATED


def _is_exempt(host: Host, outside: Address) -> bool:
    return any(outside in prefix for prefix in host.settings.exempt)
