"""IPv6 beside IPv4: what networks with an IPv6 subnet add to the tables, and nothing else does.

In the IP hooks, packets of IPv6 branch off into chains of their own at the top of each hook's
chain, on the host and in the spaces of other routers alike. On the bridges, an instance may speak
IPv6 from its own addresses and the link-local one of its MAC, and in neighbour discovery for these
alone; it is never a router or a DHCP server. What finds routers and DHCP servers stays on the
host: an instance has its own host's only, or a placed router, which is found across the trunk.

Nothing is translated. What is not for tenants leaves by the uplink where the host's administrator
says so, and is refused otherwise. Decides nothing about who has which addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trunkline.core.family import V6
from trunkline.core.filter import (
    FROM_INSTANCE,
    WAYS,
    compile_member_sets,
    compile_port_sets,
    name_set,
    own_addresses,
    pair_addresses,
    prefix_set,
)
from trunkline.core.gather import pieces
from trunkline.core.links import Served, advertiser, by_network
from trunkline.core.nat import nft_prefix
from trunkline.core.pairs import pair_prefixes, paired_ports
from trunkline.hoststate import Chain, Hook, NftSet, Route
from trunkline.joined import Joined
from trunkline.kept import kept
from trunkline.model import IpAddress, IpNetwork
from trunkline.ownership import tap_name
from trunkline.snapshot import GroupDomain, PortView

# Around all else in the bridge family, but for what keeps tagged frames out.
FROM_TRUNK_PRIORITY, TO_TRUNK_PRIORITY = -315, 5

TARGET = "iifname . ether saddr . @th,64,128"
"""Who sends, and what a neighbour solicitation or advertisement is about (RFC 4861, 4.3 and 4.4).

nft has a word for it from 1.0.7 on; before, it is bytes 8 to 23 of the ICMPv6 message."""

# Finding neighbours and routers, and saying which groups one listens to: no group governs it.
DISCOVERY = ("icmpv6 type 130-136 accept", "icmpv6 type 143 accept")
ASKING, ANSWERING = "udp sport 546 udp dport 547 accept", "udp sport 547 udp dport 546 accept"


def compile_ipv6_sets(
    served: tuple[Served, ...],
    ports: tuple[PortView, ...],
    members: Mapping[GroupDomain, tuple[IpAddress, ...]],
    prefixes: Iterable[IpNetwork],
    host: str,
) -> list[NftSet]:
    """Return the host's inet table's sets; ``served`` are the networks with IPv6."""
    return [
        name_set("bridges6", [s.bridge for s in served]),
        *compile_space_ipv6_sets(served, prefixes, host),
        *compile_port_sets(served, ports, V6),
        *compile_member_sets(members, served, V6),
    ]


def compile_space_ipv6_sets(
    served: Iterable[Served], prefixes: Iterable[IpNetwork], host: str
) -> list[NftSet]:
    """Return the sets of a namespace that routes and judges nobody's groups."""
    gateways = {f'"{s.bridge}" . {address}': "" for s in served for address in _gateways(s, host)}
    return [
        NftSet("gateways6", "typeof iifname . ip6 saddr", elements=gateways),
        prefix_set("tenant_prefixes", prefixes, V6),
    ]


def _gateways(served: Served, host: str) -> list[IpAddress]:
    """Return a bridge's own addresses: the link-local one is what instances are told of."""
    subnets = served.network.subnets
    mine = [s.gateway for s in subnets if s.gateway and s.gateway.version == V6.version]
    return [advertiser(served.network, host, placed=served.placed), *mine]


def straight_set(served: Iterable[Served]) -> NftSet:
    """Return what is bridged and not routed: the way of a packet through one bridge."""
    ways = {f'"{s.bridge}" . "{s.bridge}"': "" for s in served}
    return NftSet("straight6", "typeof iifname . oifname", elements=ways)


def with_ipv6(chains: Iterable[Chain], more: Iterable[Chain], way: str = "") -> list[Chain]:
    """Return a namespace's filter chains with those of IPv6, to which they give way.

    Args:
        chains: Those of IPv4.
        more: ``host_chains`` or ``space_chains``.
        way: Match on ways between a host and its spaces that IPv6 takes, whose ends have to find
            each other.
    """
    finding = (f"{way} icmpv6 type 135-136 accept",) if way else ()
    first = {
        "arriving": ("meta nfproto ipv6 goto arriving6",) if way else (),
        "egress": ("meta nfproto ipv6 goto egress6",),
        "ingress": ("meta nfproto ipv6 goto ingress6",),
        "input": ("iifname @bridges meta nfproto ipv6 goto to-host6", *finding),
        "forward": ("meta nfproto ipv6 goto forward6",),
    }
    given = [Chain(c.name, (*first.get(c.name, ()), *c.rules), c.hook) for c in chains]
    return [*given, *more]


def host_chains(uplink: str | None, forward: Chain) -> list[Chain]:
    """Return a host's chains of IPv6, of which ``forward`` is ``forward6_chain``."""
    return [_egress_chain(uplink), _ingress_chain(), *space_chains(forward)]


def space_chains(forward: Chain, gate: str | None = None) -> list[Chain]:
    """Return those of a space; the groups of its ports are judged on the host's bridges.

    Args:
        forward: ``forward6_chain``.
        gate: The way out, if IPv6 takes it.
    """
    arriving = (f'iifname "{gate}" ip6 saddr @tenant_prefixes6 drop',)
    return [*([Chain("arriving6", arriving)] if gate else []), _to_host_chain(), forward]


def _egress_chain(uplink: str | None) -> Chain:
    spoofed = [f'iifname "{uplink}" ip6 saddr @tenant_prefixes6 drop'] if uplink else []
    rules = (
        *spoofed,
        "ct state established,related accept",
        *DISCOVERY,
        ASKING,
        "iifname . ip6 daddr @gateways6 udp dport 53 accept",
        "iifname . ip6 daddr @gateways6 tcp dport 53 accept",
        "iifname . ether saddr vmap @egress_macs6",
        "iifname . ip6 saddr vmap @egress6",
    )
    return Chain("egress6", rules)


def _ingress_chain() -> Chain:
    rules = (
        "oifname @bridges6 icmpv6 type 137 drop",  # nobody is told of a shorter way, as in IPv4
        "ct state established,related accept",
        # Nobody else is a router, also not by fragments, which are put together by now.
        "oifname . ip6 saddr @gateways6 icmpv6 type 134 accept",
        "oifname @bridges6 icmpv6 type 134 drop",
        *DISCOVERY,
        f"oifname . ip6 saddr @gateways6 {ANSWERING}",
        "oifname . ip6 daddr vmap @ingress6",
        "oifname . ip6 daddr vmap @ingress_prefixes6",
    )
    return Chain("ingress6", rules)


def _to_host_chain() -> Chain:
    """Return what an instance may say to the host: find it, DHCP and DNS."""
    rules = (
        "ct state established,related accept",
        "icmpv6 type 133 accept",
        "icmpv6 type 135-136 accept",
        ASKING,
        "iifname . ip6 daddr @gateways6 udp dport 53 accept",
        "iifname . ip6 daddr @gateways6 tcp dport 53 accept",
        "drop",
    )
    return Chain("to-host6", rules)


def outward_set(ways: Iterable[Route]) -> NftSet:
    """Return the prefixes that leave spaces, and are reached there, by the way's end here."""
    elements = {f'"{way.link}" . {nft_prefix(way.destination)}': "" for way in ways}
    own = "typeof iifname . ip6 saddr"
    return NftSet("outward6", own, interval=True, elements=elements)


def forward6_chain(
    gate: str | None, *, guard: bool, routed: bool, spaces: bool, outside: str | None = None
) -> Chain:
    """Return the chain on what of IPv6 may pass between bridges, uplink and the host's other NICs.

    Args:
        gate: The uplink, if tenants' IPv6 may leave by it: to there and from there, as nothing
            is translated, and groups see to the rest.
        guard: Answer for tenant prefixes that this host does not serve.
        routed: Whether the default router routes. A kernel before Linux 6.17 has no switch for
            that on each link.
        spaces: Whether there are bridges that lead to spaces, which are only bridged here.
        outside: The uplink, if spaces' IPv6 may leave by it.
    """
    rules = ["iifname @segments oifname @segments accept"] if spaces else []
    rules += [] if routed else ["iifname @bridges iifname . oifname != @straight6 drop"]
    rules.append("iifname @bridges oifname @bridges accept")
    if guard:
        rules.append(
            "iifname @bridges ip6 daddr @tenant_prefixes6 reject with icmpv6 type no-route"
        )
    if gate:
        rules += [f'iifname @bridges oifname "{gate}" accept']
        rules += [f'iifname "{gate}" oifname @bridges accept']
    if outside:  # by their own addresses only: the host's own way to an address is another tenant's
        rules += [f'oifname "{outside}" iifname . ip6 saddr @outward6 accept']
        rules += [f'iifname "{outside}" oifname . ip6 daddr @outward6 accept']
    rules += ["iifname @bridges reject with icmpv6 type admin-prohibited", "oifname @bridges drop"]
    closed = ("@segments", "@transits") if spaces else ()
    rules += [f"{way} {ends} drop" for ends in closed for way in WAYS]
    return Chain("forward6", tuple(rules))


def compile_ipv6_spoof_sets(
    served: tuple[Served, ...], ports: tuple[PortView, ...]
) -> list[NftSet]:
    """Return which interface may send with which MAC and IPv6 address, and about which."""
    taps, addresses, targets = pieces(_spoof_elements, ports, served)
    paired = paired_ports(ports)
    single, wide = pair_addresses(served, paired, V6)
    about = list(pair_prefixes(served, paired, V6))
    one = {f"{who} . {_number(p[0])}": "" for who, p in about if p.prefixlen == V6.single}
    some = {f"{who} . {_range(p)}": "" for who, p in about if p.prefixlen < V6.single}
    own = "typeof iifname . ether saddr . ip6 saddr"
    return [
        NftSet("ports6", "type ifname", elements=Joined(taps)),
        NftSet("addresses6", own, elements=Joined((*addresses, single))),
        NftSet("prefixes6", own, interval=True, elements=wide),
        NftSet("targets6", f"typeof {TARGET}", elements=Joined((*targets, one))),
        NftSet("target_prefixes6", f"typeof {TARGET}", interval=True, elements=some),
        # A placed router is found across the trunk, where it is the only one.
        NftSet(
            "trunks6", "type ifname", elements={f'"{s.wire}"': "" for s in served if not s.placed}
        ),
    ]


@kept()
def _spoof_elements(
    served: tuple[Served, ...], ports: tuple[PortView, ...]
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return interfaces that may speak IPv6, and each with its MAC and addresses, in two forms."""
    places = by_network(served)
    taps: dict[str, str] = {}
    addresses: dict[str, str] = {}
    targets: dict[str, str] = {}
    for port in ports:
        mine = own_addresses(port, V6)
        if mine and port.network_id in places and port.port_security:
            tap = f'"{tap_name(port.id)}"'
            taps[tap] = ""
            addresses |= {f"{tap} . {port.mac} . {address}": "" for address in mine}
            targets |= {f"{tap} . {port.mac} . {_number(address)}": "" for address in mine}
    return taps, addresses, targets


def _number(address: IpAddress) -> str:
    """Return an address as nft prints bytes of which it knows no type."""
    return hex(int(address))


def _range(prefix: IpNetwork) -> str:
    return f"{_number(prefix[0])}-{_number(prefix[-1])}"


def with_ipv6_spoofing(chains: Iterable[Chain]) -> list[Chain]:
    """Return the bridge table's chains with those on what instances may send in IPv6."""
    way = "iifname @ports6 ether type ip6 goto from-instance6"
    given = []
    for chain in chains:
        rules = list(chain.rules)
        if FROM_INSTANCE in rules:
            rules.insert(rules.index(FROM_INSTANCE), way)
        given.append(Chain(chain.name, tuple(rules), chain.hook))
    return [*given, *_SPOOF_CHAINS, *_TRUNK_CHAINS]


_SPOOF_CHAINS = (
    Chain(
        "from-instance6",
        (
            "iifname . ether saddr != @macs drop",
            # From no address yet: is mine taken (RFC 4862), who routes, what I listen to.
            f"ip6 saddr :: icmpv6 type 135 {TARGET} @targets6 accept",
            f"ip6 saddr :: icmpv6 type 135 {TARGET} @target_prefixes6 accept",
            "ip6 saddr :: icmpv6 type 133 accept",
            "ip6 saddr :: icmpv6 type 143 accept",
            f"icmpv6 type 136 {TARGET} @targets6 goto from-own6",
            f"icmpv6 type 136 {TARGET} @target_prefixes6 goto from-own6",
            "icmpv6 type 136 drop",
            "icmpv6 type 134 drop",
            "icmpv6 type 137 drop",
            "udp sport 547 drop",
            "goto from-own6",
        ),
    ),
    Chain(
        "from-own6",
        (
            "iifname . ether saddr . ip6 saddr @addresses6 accept",
            "iifname . ether saddr . ip6 saddr @prefixes6 accept",
            "drop",
        ),
    ),
)

_TRUNK_CHAINS = (
    Chain(
        "from-trunk6",
        ("iifname @trunks6 ether type ip6 goto at-trunk6",),
        Hook("filter", "prerouting", FROM_TRUNK_PRIORITY),
    ),
    Chain(
        "to-trunk6",
        ("oifname @trunks6 ether type ip6 goto at-trunk6",),
        Hook("filter", "postrouting", TO_TRUNK_PRIORITY),
    ),
    Chain(
        "at-trunk6",
        (
            "icmpv6 type 133-134 drop",
            "icmpv6 type 137 drop",
            "udp sport 546-547 udp dport 546-547 drop",
        ),
    ),
)
