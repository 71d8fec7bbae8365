"""Address translation: routing source for instances that leave, floating IPs both ways.

Rules are static; addresses are elements of two maps, so one more floating IP is two elements. A
single port of a floating IP that is forwarded is an element of a third: only the way in is
translated by it, and what its instance begins looks as without it.
An instance that speaks to a floating IP always shows its own public face, its floating IP or
the host's routing source, also when the two live on one host: what a security group sees does
not depend on placement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from trunkline.hoststate import Address, Chain, Hook, HostConfig, HostFacts, NftSet, Problem
from trunkline.model import IpNetwork, RouterId
from trunkline.ownership import METADATA_PORT
from trunkline.snapshot import FloatingView

METADATA_ADDRESS, METADATA_SERVICE = IPv4Address("169.254.169.254"), (6, 80)
FORWARDABLE = {6: "tcp", 17: "udp"}
METADATA = f"ip daddr {METADATA_ADDRESS} tcp dport 80"
DSTNAT, SRCNAT = -100, 100  # nft(8), standard priority names
TRANSITS = IPv4Network("169.254.192.0/18")
"""Ends of the ways between a host and its spaces; link-local (RFC 3927), so never routed."""


@dataclass(frozen=True, slots=True)
class Source:
    """What instances without a floating IP are translated to.

    Attributes:
        leaving: Their source on the way out.
        face: What they show to a floating IP that is found before the way out: the same, once
            all translations are over, as if it lived elsewhere.
    """

    leaving: IPv4Address
    face: IPv4Address


def routing_source(
    config: HostConfig, facts: HostFacts, router: RouterId | None = None
) -> IPv4Address | None:
    """Return the source of instances that leave without a floating IP, None without uplink.

    Args:
        config: The host's.
        facts: The same.
        router: That of the instances; None has no source of its own.
    """
    if config.uplink is None:
        return None
    own = config.routing_sources.get(router) if router else None
    return own or config.routing_source or facts.uplink_address


def compile_floating(
    floating: Iterable[FloatingView], config: HostConfig
) -> tuple[frozenset[Address], tuple[Problem, ...]]:
    """Return the floating IPs that the uplink must carry, as /32 addresses.

    Fails closed: on a host without uplink none of them works, and each is a problem.
    """
    if config.uplink is None:
        text = "this host has no uplink to answer on; name one in the agent's configuration"
        return frozenset(), tuple(Problem(f"floating IP {f.address}", text) for f in floating)
    return frozenset(Address(config.uplink, IPv4Interface(f.address)) for f in floating), ()


def unreached(floating: Iterable[FloatingView]) -> tuple[Problem, ...]:
    """Return the forwardings that lead to other hosts than their floating IP is on, as problems."""
    text = (
        "is on another host, and a floating IP leads to one host only: it is not forwarded; give"
        " it another floating IP, or have its instance on this host"
    )
    return tuple(
        Problem(
            f"floating IP {f.address}",
            f"{FORWARDABLE[one.protocol]} {one.port} leads to port {one.port_id}, which {text}",
        )
        for f in floating
        for one in f.forwardings
        if not one.reached
    )


def compile_nat_sets(floating: Iterable[FloatingView], config: HostConfig) -> list[NftSet]:
    """Return the maps between floating and fixed addresses, and the exempt destinations."""
    every = tuple(floating)
    to_fixed = {str(f.address): str(f.fixed_address) for f in every if f.fixed_address}
    forwarded = {
        f"{f.address} . {one.protocol} . {one.port}": f"{one.fixed_address} . {one.fixed_port}"
        for f in every
        for one in f.forwarded
    }
    return [
        NftSet(
            "forwarded",
            "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
            is_map=True,
            elements=forwarded,
        ),
        NftSet("fixed_by_floating", "type ipv4_addr : ipv4_addr", is_map=True, elements=to_fixed),
        NftSet(
            "floating_by_fixed",
            "type ipv4_addr : ipv4_addr",
            is_map=True,
            elements={fixed: floating for floating, fixed in to_fixed.items()},
        ),
        NftSet(
            "snat_exempt",
            "type ipv4_addr",
            interval=True,
            elements=dict.fromkeys(map(nft_prefix, config.snat_exempt), ""),
        ),
    ]


def floating_set(floating: Iterable[FloatingView]) -> NftSet:
    """Return the floating IPs that the host carries for its instances, and never for itself."""
    elements = {str(f.address): "" for f in floating}
    return NftSet("floating_ips", "type ipv4_addr", elements=elements)


def compile_nat_chains(uplink: str | None, source: Source | None) -> list[Chain]:
    """Return the translation chains; without an uplink there is nothing to translate.

    Source: article, scenarios 2 and 7; nft(8), NAT STATEMENTS. Only the first packet of a
    connection passes here; the rest, and all answers, follow connection tracking.
    """
    if uplink is None:
        return []
    to_fixed = (
        "dnat ip to ip daddr . ip protocol . th dport map @forwarded",
        "dnat ip to ip daddr map @fixed_by_floating",
    )
    leaving = f'oifname "{uplink}"'
    # Same host: the packet never leaves, so what it shows to the peer is decided here.
    hairpin = "oifname @bridges ct status dnat ip saddr @tenant_prefixes"
    rules = [
        f"{leaving} ip saddr @tenant_prefixes ip daddr @snat_exempt accept",
        f"{leaving} snat ip to ip saddr map @floating_by_fixed",
        f"{hairpin} snat ip to ip saddr map @floating_by_fixed",
    ]
    if source is not None:
        rules.insert(2, f"{leaving} ip saddr @tenant_prefixes snat ip to {source.leaving}")
        rules.append(f"{hairpin} snat ip to {source.face}")
    return [
        Chain("nat-prerouting", to_fixed, Hook("nat", "prerouting", DSTNAT)),
        Chain("nat-output", to_fixed, Hook("nat", "output", DSTNAT)),
        Chain("nat-postrouting", tuple(rules), Hook("nat", "postrouting", SRCNAT)),
    ]


def face_set(faces: Mapping[IPv4Address, IPv4Address]) -> NftSet:
    """Return the sources of the spaces whose router has one of its own, by transit address."""
    elements = {str(transit): str(face) for transit, face in faces.items()}
    return NftSet("faces", "type ipv4_addr : ipv4_addr", is_map=True, elements=elements)


def with_spaces(
    chains: Iterable[Chain], uplink: str | None, face: IPv4Address | None
) -> list[Chain]:
    """Return a host's translation chains with what its spaces need.

    What comes from a space by its transit's address is given the router's face, wherever it goes;
    what goes into one shows a public face too. Bridged packets of spaces are none of these
    chains' business: they are translated, if at all, in there.
    """
    more: tuple[str, ...] = ()
    if face is not None:
        entering = "oifname @transits ip saddr @tenant_prefixes"
        more = (
            f'oifname "{uplink}" snat ip to ip saddr map @faces',
            f'oifname "{uplink}" ip saddr {TRANSITS} snat ip to {face}',
            "oifname @bridges ct status dnat snat ip to ip saddr map @faces",
            f"oifname @bridges ct status dnat ip saddr {TRANSITS} snat ip to {face}",
            f"{entering} snat ip to ip saddr map @floating_by_fixed",
            f"{entering} snat ip to {face}",
            "oifname @transits snat ip to ip saddr map @faces",
            f"oifname @transits ip saddr {TRANSITS} snat ip to {face}",
        )
    first = {"nat-prerouting": ("iifname @segments accept",)}
    last = {"nat-postrouting": more}
    return [
        Chain(c.name, (*first.get(c.name, ()), *c.rules, *last.get(c.name, ())), c.hook)
        for c in chains
    ]


def compile_metadata_chains(*, metadata: bool) -> list[Chain]:
    """Return the chain that turns questions for metadata to this host's proxy, if it has one."""
    if not metadata:
        return []
    rule = f"iifname @bridges {METADATA} redirect to :{METADATA_PORT}"
    return [Chain("nat-metadata", (rule,), Hook("nat", "prerouting", DSTNAT))]


def nft_prefix(prefix: IpNetwork) -> str:
    """Return a prefix as nft prints it: a single address has no length."""
    single = prefix.prefixlen == prefix.max_prefixlen
    return str(prefix.network_address) if single else str(prefix)
