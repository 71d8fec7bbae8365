"""Security groups, anti-spoofing and the walls round the host, as two nftables tables.

Every packet of an instance passes this host's IP hooks, bridged or routed (the bridges have
nf_call_iptables on). Egress is judged as it comes in, before floating IPs are translated, by
bridge and source; ingress as it goes out, after all translation, by bridge and destination. So
both see the addresses that the peer sees, whichever host routes and wherever the peer lives.

Chains are static: per group one chain each way, per combination of groups in use one more.
Ports are elements: one more port adds elements, and no rule unless its combination is new.

Groups are judged on the bridge, also where the gateway is in a space behind a port of it. There
each bridge has a connection tracking zone of its own: addresses of two such domains may overlap,
and everything of a port passes its own bridge, both ways.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from sys import intern

from trunkline import ownership
from trunkline.core.family import V4, V6, Family
from trunkline.core.gather import gather, pieces
from trunkline.core.links import Served, bridge_mac, bridge_of, by_network, scopes_by_bridge
from trunkline.core.nat import METADATA, nft_prefix
from trunkline.core.pairs import (
    Combination,
    Groups,
    groups_by_address,
    groups_by_mac,
    groups_by_prefix,
    pair_macs,
    pair_prefixes,
    paired_ports,
)
from trunkline.hoststate import Chain, Hook, NftSet
from trunkline.joined import Joined
from trunkline.kept import kept
from trunkline.model import VLAN_ID_MAX, Direction, GroupId, IpAddress, IpNetwork, Rule, link_local
from trunkline.ownership import METADATA_PORT
from trunkline.snapshot import FloatingView, GroupDomain, GroupView, PortView

PROTOCOLS_WITH_PORTS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
ICMP_NAMES = {V4.icmp: "icmp"}  # what nft's grammar has a name for by itself
ZONES = 2**16  # nf_conntrack_zones_common.h: a zone is 16 bits

# Egress after conntrack (-200) and before DNAT (-100); ingress after SNAT (100).
EGRESS_PRIORITY, FORWARD_PRIORITY, INGRESS_PRIORITY = -150, 0, 110
ZONE_PRIORITY = -450  # before fragments are put together (-400), which is done by zone too
FROM_INSTANCE = "iifname @ports goto from-instance"
WAYS = ("iifname", "oifname")
BRIDGE_PREROUTING_PRIORITY, BRIDGE_FORWARD_PRIORITY = -300, -200


def groups_chain(
    direction: Direction, group_ids: tuple[GroupId, ...], scope: str = "", family: Family = V4
) -> str:
    """Return the name of the chain of ports of a scope that are in exactly these groups."""
    digest = sha256(",".join((*group_ids, scope) if scope else group_ids).encode()).hexdigest()[:16]
    return f"{direction}{family.suffix}-{digest}"


def compile_group_chains(
    groups: Iterable[GroupView],
    served: tuple[Served, ...],
    ports: tuple[PortView, ...],
    more: Collection[Combination] = (),
    family: Family = V4,
) -> list[Chain]:
    """Return a chain per group and per combination of groups in use, each way and by scope.

    Args:
        groups: The groups.
        served: The networks that are here.
        ports: The ports whose combinations are needed.
        more: Combinations that are needed besides.
        family: Of the packets that they judge.
    """
    known = {group.id: group for group in groups}
    combinations = {*more, *gather(_all_of, _combinations, ports, served, family)}
    used = sorted({(g, scope) for scope, some in combinations for g in some if g in known})
    chains = [_group_chain(known[g], d, scope, family) for g, scope in used for d in Direction]
    for scope, combination in sorted(combinations):
        present = tuple(g for g in combination if g in known)
        for direction in Direction:
            jumps = tuple(f"jump {_group_name(g, direction, scope, family)}" for g in present)
            name = groups_chain(direction, combination, scope, family)
            chains.append(Chain(name, ("ct state invalid drop", *jumps, "drop")))
    return chains


@kept()
def _combinations(
    served: tuple[Served, ...], family: Family, ports: tuple[PortView, ...]
) -> set[Combination]:
    """Return the combinations that ports with addresses of a family are in."""
    places = by_network(served)
    bound = (
        p for p in ports if p.port_security and p.network_id in places and own_addresses(p, family)
    )
    return {(places[p.network_id].scope, p.group_ids) for p in bound}


def _all_of(parts: Iterable[set[Combination]]) -> set[Combination]:
    return set[Combination]().union(*parts)


def own_addresses(port: PortView, family: Family) -> list[IpAddress]:
    """Return what a port may send from and is reached at, but for its pairs.

    In IPv6, who has an address has the link-local one of its MAC, too.
    """
    mine = [f.address for f in port.fixed_ips if f.address.version == family.version]
    return [*mine, link_local(port.mac)] if mine and family is V6 else mine


def _group_name(group_id: GroupId, direction: Direction, scope: str, family: Family) -> str:
    return f"group{family.suffix}-{_scoped(group_id, scope)}-{direction}"


def _scoped(group_id: GroupId, scope: str) -> str:
    return f"{group_id}-in-{scope}" if scope else group_id


@kept()
def _group_chain(group: GroupView, direction: Direction, scope: str, family: Family) -> Chain:
    rules = tuple(
        rule_text(rule, scope)
        for rule in group.rules
        if rule.direction == direction and rule.ethertype == family.version
    )
    return Chain(_group_name(group.id, direction, scope, family), rules)


def rule_text(rule: Rule, scope: str = "") -> str:
    """Return a security group rule as an nft rule; its comment names the API object."""
    family = V6 if rule.ethertype == V6.version else V4
    side = "saddr" if rule.direction == Direction.INGRESS else "daddr"
    peer = f"{family.ip} {side}"
    words = []
    if rule.remote_group_id is not None:
        words.append(f"{peer} @{_members_name(rule.remote_group_id, scope, family)}")
    elif rule.remote_prefix is not None and rule.remote_prefix.prefixlen > 0:
        words.append(f"{peer} {nft_prefix(rule.remote_prefix)}")
    words += _service_words(rule, family)
    return " ".join([*words, f'accept comment "rule={rule.id}"'])


def _members_name(group_id: GroupId, scope: str, family: Family) -> str:
    return f"members{family.suffix}-{_scoped(group_id, scope)}"


def _service_words(rule: Rule, family: Family) -> list[str]:
    """Return the matches on protocol and ports, or on ICMP type and code."""
    if rule.protocol is None:
        return []
    name = PROTOCOLS_WITH_PORTS.get(rule.protocol)
    if name and rule.port_min is not None:
        last = rule.port_min if rule.port_max is None else rule.port_max
        ports = f"{rule.port_min}" if last == rule.port_min else f"{rule.port_min}-{last}"
        return [f"{name} dport {ports}"]
    if rule.protocol == family.icmp and rule.port_min is not None:
        word = family.icmp_word
        code = [] if rule.port_max is None else [f"{word} code {rule.port_max}"]
        return [f"{word} type {rule.port_min}", *code]
    return [f"meta l4proto {name or ICMP_NAMES.get(rule.protocol, rule.protocol)}"]


def prefix_set(name: str, prefixes: Iterable[IpNetwork], family: Family = V4) -> NftSet:
    """Return a set of those of some prefixes that are of a family."""
    mine = (prefix for prefix in prefixes if prefix.version == family.version)
    elements = dict.fromkeys(map(nft_prefix, mine), "")
    name += family.suffix
    return NftSet(name, f"type {family.address_type}", interval=True, elements=elements)


def name_set(name: str, links: Iterable[str]) -> NftSet:
    """Return a set of links."""
    return NftSet(name, "type ifname", elements=_names(links))


def _names(links: Iterable[str]) -> dict[str, str]:
    return {f'"{link}"': "" for link in links}


def gateway_set(served: Iterable[Served]) -> NftSet:
    """Return the gateway addresses that each bridge has."""
    gateways = {
        f'"{s.bridge}" . {subnet.gateway}': ""
        for s in served
        for subnet in s.network.subnets
        if subnet.gateway is not None and subnet.gateway.version == V4.version
    }
    return NftSet("gateways", "typeof iifname . ip saddr", elements=gateways)


def compile_port_sets(
    served: tuple[Served, ...], ports: tuple[PortView, ...], family: Family = V4
) -> list[NftSet]:
    """Return the maps from a port's bridge and address to its groups."""
    egress, ingress = pieces(_group_elements, ports, served, family)
    claims = groups_by_address(served, paired_ports(ports), family)
    judged = Joined((_verdicts(served, Direction.INGRESS, claims, family), *ingress))
    out = f"typeof iifname . {family.ip} saddr : verdict"
    into = f"typeof oifname . {family.ip} daddr : verdict"
    return [
        *_pair_sets(served, ports, family),
        NftSet(f"egress{family.suffix}", out, is_map=True, elements=Joined(egress)),
        NftSet(f"ingress{family.suffix}", into, is_map=True, elements=judged),
    ]


def _pair_sets(
    served: tuple[Served, ...], ports: tuple[PortView, ...], family: Family
) -> list[NftSet]:
    """Return who judges for address pairs, besides the single addresses in ``ingress``."""
    paired = paired_ports(ports)
    macs = groups_by_mac(served, paired, family)
    prefixes = groups_by_prefix(served, paired, family)
    return [
        NftSet(
            f"egress_macs{family.suffix}",
            "typeof iifname . ether saddr : verdict",
            is_map=True,
            elements=_verdicts(served, Direction.EGRESS, macs, family),
        ),
        NftSet(
            f"ingress_prefixes{family.suffix}",
            f"typeof oifname . {family.ip} daddr : verdict",
            is_map=True,
            interval=True,
            elements=_verdicts(served, Direction.INGRESS, prefixes, family),
        ),
    ]


def _verdicts(
    served: tuple[Served, ...], direction: Direction, judges: Mapping[str, Groups], family: Family
) -> dict[str, str]:
    scopes = scopes_by_bridge(served)
    chains = {
        key: groups_chain(direction, groups, scopes[bridge_of(key)], family)
        for key, groups in judges.items()
    }
    return {intern(key): intern(f"goto {chain}") for key, chain in chains.items()}


def compile_member_sets(
    members: Mapping[GroupDomain, tuple[IpAddress, ...]],
    served: tuple[Served, ...],
    family: Family = V4,
) -> list[NftSet]:
    """Return each named group's addresses as a set, one per domain that is here."""
    scopes = {s.network.domain: s.scope for s in served}
    sets = []
    for (group_id, domain), who in members.items():
        if domain in scopes:
            (elements,) = pieces(_texts, who, family)
            name = _members_name(group_id, scopes[domain], family)
            sets.append(NftSet(name, f"type {family.address_type}", elements=Joined(elements)))
    return sets


def compile_segment_sets(served: tuple[Served, ...], transits: Iterable[str]) -> list[NftSet]:
    """Return the bridges that only switch, each with its zone, and the ways to spaces."""
    segments = [s for s in served if s.switched]
    zones = {f'"{s.bridge}"': str(_zone(s)) for s in segments}
    return [
        name_set("segments", [s.bridge for s in segments]),
        name_set("transits", transits),
        NftSet("zones", "typeof iifname : ct zone", is_map=True, elements=zones),
    ]


def _zone(served: Served) -> int:
    """Return a bridge's zone: the VLAN id that it is called by, or a number that no VLAN has."""
    network = served.network
    if network.vlan_id is not None and not network.namesake:
        return network.vlan_id
    digest = sha256(served.bridge.encode()).digest()
    return VLAN_ID_MAX + 2 + int.from_bytes(digest[:2]) % (ZONES - VLAN_ID_MAX - 2)


@kept()
def _texts(family: Family, addresses: tuple[IpAddress, ...]) -> tuple[dict[str, str]]:
    return (_interned(str(a) for a in addresses if a.version == family.version),)


@kept()
def _group_elements(
    served: tuple[Served, ...], family: Family, ports: tuple[PortView, ...]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return egress and ingress verdicts by bridge and address."""
    places = by_network(served)
    egress: dict[str, str] = {}
    ingress: dict[str, str] = {}
    for port in ports:
        if port.network_id in places and port.port_security:
            bridge, scope = places[port.network_id].bridge, places[port.network_id].scope
            out = groups_chain(Direction.EGRESS, port.group_ids, scope, family)
            into = groups_chain(Direction.INGRESS, port.group_ids, scope, family)
            keys = _interned(f'"{bridge}" . {a}' for a in own_addresses(port, family))
            egress |= dict.fromkeys(keys, intern(f"goto {out}"))
            ingress |= dict.fromkeys(keys, intern(f"goto {into}"))
    return egress, ingress


def _interned(elements: Iterable[str]) -> dict[str, str]:
    """Return elements of a set.

    Interned, as those read back are: equal ones are identical, so that to compare two sets of
    thousands costs no look at a letter.
    """
    return dict.fromkeys(map(intern, elements), "")


def compile_filter_chains(uplink: str | None, metadata: Iterable[str] = ()) -> list[Chain]:
    """Return the static chains that judge groups, on whichever bridge.

    Args:
        uplink: The external NIC, if there is one.
        metadata: The sets of bridges from which, whatever groups say, instances may ask this
            host's metadata proxy.
    """
    egress = _egress_rules(uplink, metadata)
    return [
        Chain("egress", egress, Hook("filter", "prerouting", EGRESS_PRIORITY)),
        Chain(
            "ingress",
            (
                # A packet to a floating IP of one's own network turns round on its bridge;
                # the kernel would tell the sender of a shorter way that is none.
                "oifname @bridges icmp type 5 drop",
                "ct state established,related accept",
                "oifname . ip saddr @gateways udp sport 67 udp dport 68 accept",
                "oifname . ip daddr vmap @ingress",
                "oifname . ip daddr vmap @ingress_prefixes",
            ),
            Hook("filter", "postrouting", INGRESS_PRIORITY),
        ),
    ]


def input_chains(
    way: str = "", closed: str = "", *, metadata: bool = False, floating: bool = False
) -> list[Chain]:
    """Return the chains on what bridges let through to the namespace itself: DHCP and DNS.

    Args:
        way: Match on a further way in, by which nothing comes but answers.
        closed: Match on one by which nothing comes at all.
        metadata: Let questions through that were turned to the metadata proxy, and keep
            everybody else from it.
        floating: Floating IPs are on a link of the namespace's own.
    """
    rules = ["iifname @bridges goto to-host"]
    # What connection tracking calls invalid is not translated; the host would answer with a reset.
    rules += ["ip daddr @floating_ips drop"] if floating else []
    rules += [f"tcp dport {METADATA_PORT} drop"] if metadata else []
    asked = f"iifname . ip daddr @gateways ct status dnat tcp dport {METADATA_PORT} accept"
    rules += [f"{closed} drop"] if closed else []
    rules += [f"{way} ct state established,related accept", f"{way} drop"] if way else []
    return [
        Chain("input", tuple(rules), Hook("filter", "input", 0)),
        Chain(
            "to-host",
            (
                "ct state established,related accept",
                "udp sport 68 udp dport 67 accept",
                "iifname . ip daddr @gateways udp dport 53 accept",
                "iifname . ip daddr @gateways tcp dport 53 accept",
                *((asked,) if metadata else ()),
                "drop",
            ),
        ),
    ]


def leaving_chain(gate: str | None) -> Chain:
    """Return the chain that keeps tenants' addresses inside, whatever translation did or did not.

    Args:
        gate: The way out, if there is one.
    """
    rules = ["oifname @bridges icmp type 5 drop"]  # nobody is told of a shorter way, as on ingress
    if gate:
        rules += [
            f'oifname "{gate}" ip saddr @tenant_prefixes ip daddr != @snat_exempt drop',
            "oifname @bridges ct status dnat ip saddr @tenant_prefixes drop",
        ]
    return Chain("leaving", tuple(rules), Hook("filter", "postrouting", INGRESS_PRIORITY))


def zone_chain() -> Chain:
    """Return the chain that gives each bridge of a space its connection tracking zone."""
    hook = Hook("filter", "prerouting", ZONE_PRIORITY)
    return Chain("zones", ("ct zone set iifname map @zones",), hook)


def _egress_rules(uplink: str | None, metadata: Iterable[str]) -> tuple[str, ...]:
    rules = []
    if uplink:
        rules.append(f'iifname "{uplink}" ip saddr @tenant_prefixes drop')
    return (
        *rules,
        "ct state established,related accept",
        # Groups may forbid all egress; an instance still gets its lease and its names.
        "udp sport 68 udp dport 67 accept",
        "iifname . ip daddr @gateways udp dport 53 accept",
        "iifname . ip daddr @gateways tcp dport 53 accept",
        *(f"iifname @{bridges} {METADATA} accept" for bridges in metadata),
        "iifname . ether saddr vmap @egress_macs",
        "iifname . ip saddr vmap @egress",
    )


def forward_chain(uplink: str | None, *, guard: bool, spaces: str | None = None) -> Chain:
    """Return the chain on what may pass between bridges, uplink and the host's other NICs.

    Args:
        uplink: The way out for networks that may go there, if there is one.
        guard: Answer for tenant prefixes that this host does not serve (scenario 6b).
        spaces: The host's external NIC, where there are spaces; an empty one is none.
    """
    rules = ["iifname @bridges oifname @bridges accept"]
    if guard:
        rules.append(
            "iifname @bridges ip daddr @tenant_prefixes reject with icmp type host-unreachable"
        )
    if uplink:
        rules += [
            f'iifname @bridges oifname "{uplink}" accept',
            f'iifname "{uplink}" oifname @bridges ct state established,related accept',
            f'iifname "{uplink}" oifname @bridges ct status dnat accept',
        ]
    rules += [] if spaces is None else _space_rules(spaces)
    rules += ["iifname @bridges drop", "oifname @bridges drop"]
    return Chain("forward", tuple(rules), Hook("filter", "forward", FORWARD_PRIORITY))


def _space_rules(uplink: str) -> list[str]:
    """Return the rules on what may pass to and from spaces, which have walls of their own.

    Between the default router's networks and a space it is floating IPs only, either way.
    """
    rules = [
        "iifname @segments oifname @segments accept",  # bridged: these bridges do not route
        "iifname @transits oifname @bridges ct state established,related accept",
        "iifname @transits oifname @bridges ct status dnat accept",
        "iifname @bridges oifname @transits accept",
        "iifname @transits oifname @transits accept",
    ]
    if uplink:
        rules += [
            f'iifname @transits oifname "{uplink}" accept',
            f'iifname "{uplink}" oifname @transits accept',
        ]
    rules += [f"{way} {ends} drop" for ends in ("@segments", "@transits") for way in WAYS]
    return rules


def compile_spoof_sets(
    served: tuple[Served, ...], ports: tuple[PortView, ...], host: str
) -> list[NftSet]:
    """Return which interface may send with which MAC and IPv4 address.

    And the bridges' other members, which nothing binds: towards the switch or a space, and of
    ports without port security; with the MACs of the bridges themselves.
    """
    taps, macs, addresses = pieces(_spoof_elements, ports, served, V4)
    (free,) = pieces(_free_taps, ports, served)
    wires = _names([link for s in served for link in (s.wire, ownership.cable_name(s.bridge))])
    paired = paired_ports(ports)
    more_macs = pair_macs(served, paired)
    more, prefixes = pair_addresses(served, paired, V4)
    own = "typeof iifname . ether saddr . ip saddr"
    return [
        NftSet("prefixes", own, interval=True, elements=prefixes),
        NftSet("ports", "type ifname", elements=Joined(taps)),
        NftSet("macs", "typeof iifname . ether saddr", elements=Joined((*macs, more_macs))),
        NftSet("addresses", own, elements=Joined((*addresses, more))),
        NftSet("members", "type ifname", elements=Joined((*free, wires))),
        NftSet(
            "own_macs", "typeof ether daddr", elements={bridge_mac(s, host): "" for s in served}
        ),
    ]


def pair_addresses(
    served: tuple[Served, ...], paired: Iterable[PortView], family: Family
) -> tuple[dict[str, str], dict[str, str]]:
    """Return what ports may send from by their pairs: single addresses, and prefixes."""
    single: dict[str, str] = {}
    wide: dict[str, str] = {}
    for sender, prefix in pair_prefixes(served, paired, family):
        elements = single if prefix.prefixlen == family.single else wide
        elements[f"{sender} . {nft_prefix(prefix)}"] = ""
    return single, wide


@kept()
def _free_taps(served: tuple[Served, ...], ports: tuple[PortView, ...]) -> tuple[dict[str, str]]:
    """Return the interfaces of ports without port security."""
    places = by_network(served)
    free = (p for p in ports if p.network_id in places and not p.port_security)
    return (_names(ownership.tap_name(p.id) for p in free),)


@kept()
def _spoof_elements(
    served: tuple[Served, ...], family: Family, ports: tuple[PortView, ...]
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return interfaces, interfaces with their MAC, and both with each address of a family."""
    places = by_network(served)
    bound = [p for p in ports if p.network_id in places and p.port_security]
    taps = {p.id: f'"{ownership.tap_name(p.id)}"' for p in bound}
    pairs = (f"{taps[p.id]} . {p.mac} . {a}" for p in bound for a in own_addresses(p, family))
    return (
        _interned(taps.values()),
        _interned(f"{taps[p.id]} . {p.mac}" for p in bound),
        _interned(pairs),
    )


def compile_hairpin_sets(
    ports: Iterable[PortView], floating: Iterable[FloatingView]
) -> list[NftSet]:
    """Return which interfaces get frames back, and with which destination MAC.

    A hairpin port gets its own broadcasts back too, which breaks duplicate address detection
    (LP#1011134); so only what is addressed to the port itself may turn round.
    """
    taps = {port_id for f in floating for port_id in f.port_ids}
    ends = [(f'"{ownership.tap_name(p.id)}"', p.mac) for p in ports if taps and p.id in taps]
    return [
        NftSet(
            "hairpins",
            "typeof iifname . oifname",
            elements={f"{tap} . {tap}": "" for tap, _ in ends},
        ),
        NftSet(
            "hairpin_macs",
            "typeof oifname . ether daddr",
            elements={f"{tap} . {mac}": "" for tap, mac in ends},
        ),
    ]


def compile_spoof_chains() -> list[Chain]:
    """Return the bridge table's chains: what an instance may put on the wire at all.

    ARP and IPv4 with its own MAC and addresses, and the DHCP requests of a client without an
    address. All else is dropped: other sources, DHCP answers, IPv6, tagged frames. What somebody
    else plugged into a bridge, as os-vif does, reaches nothing there before it has its rules.
    """
    return [
        Chain(
            "prerouting",
            (
                # Probe frames (trunkline.probe) are for the trunk's NIC alone: no instance may
                # see one, and none may forge one, with port security or without.
                "ether type 0x88b5 drop",
                "iifname . ether daddr @standby drop",
                FROM_INSTANCE,
                "ether daddr @own_macs iifname != @members drop",
            ),
            Hook("filter", "prerouting", BRIDGE_PREROUTING_PRIORITY),
        ),
        Chain(
            "forward",
            (
                "iifname . oifname @hairpins oifname . ether daddr != @hairpin_macs drop",
                "oifname @ports iifname != @ports iifname != @members drop",
                "oifname @members iifname != @ports iifname != @members drop",
            ),
            Hook("filter", "forward", BRIDGE_FORWARD_PRIORITY),
        ),
        Chain(
            "from-instance",
            (
                "iifname . ether saddr != @macs drop",
                # RARP, by which a hypervisor tells switches that an instance has come.
                "ether type 0x8035 accept",
                "iifname . arp saddr ether . arp saddr ip @addresses accept",
                "iifname . arp saddr ether . arp saddr ip @prefixes accept",
                # RFC 5227: an address probe has no sender address yet.
                "iifname . arp saddr ether @macs arp saddr ip 0.0.0.0 accept",
                "ether type arp drop",
                "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept",
                "udp sport 67 drop",
                "iifname . ether saddr . ip saddr @addresses accept",
                "iifname . ether saddr . ip saddr @prefixes accept",
                "drop",
            ),
        ),
    ]
