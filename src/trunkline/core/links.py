"""Links, addresses and sysctls that a host needs for the networks it serves.

Decides which networks can be served at all; everything else in the core is given only those.
A network that cannot be served has no bridge, so its ports stay unplugged: it fails closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_interface
from sys import intern

from trunkline import ownership
from trunkline.core.family import V4, V6
from trunkline.core.gather import pieces
from trunkline.hoststate import Address, Bridge, HostConfig, HostFacts, Plug, Problem, Vlan
from trunkline.joined import Fanned
from trunkline.kept import kept
from trunkline.model import GatewayMode, HostName, NetworkId, link_local
from trunkline.snapshot import FloatingView, HostSnapshot, NetworkView, PortView, RouterView

BRIDGE_SYSCTLS = {
    # Per device, not ip_forward: a host becomes no router between NICs that are not ours.
    "forwarding": "1",
    # Loose, which also wins over a strict net.ipv4.conf.all (the kernel takes the larger).
    "rp_filter": "2",
    # A bridge answers ARP for its own address only, and asks with it: with the default the
    # hosts of a segment answer for each other's networks.
    "arp_ignore": "1",
    "arp_announce": "2",
}
UPLINK_SYSCTLS = {"forwarding": "1", "rp_filter": "2"}
IPV6_SYSCTLS = {
    # Nobody tells this host where to send its own packets; its address is of its MAC, and at
    # once: MAC and address are chosen by us.
    "accept_ra": "0",
    "accept_dad": "0",
    "addr_gen_mode": "0",
}

NO_ADDRESS = "1"  # of a MAC: if_link.h, IN6_ADDR_GEN_MODE_NONE
ROUTES_NO_IPV6 = (
    "this kernel cannot route IPv6 between single links (Linux 6.17 can); set"
    " net.ipv6.conf.all.forwarding=1, and accept_ra=2 on NICs that learn routes by it"
)


@dataclass(frozen=True, slots=True)
class Served:
    """A network that this host can serve, and on what.

    Attributes:
        vlan_id: The tag of its frames on the trunk; None: they have none.
        space: The network namespace that has its gateway; empty: the host itself, which is the
            default router.
        placed: Its router is on some hosts alone, which serve the instances of all.
        elsewhere: These are others; here is a bridge.
    """

    network: NetworkView
    bridge: str
    trunk: str
    vlan_id: int | None
    space: str = ""
    placed: bool = False
    elsewhere: bool = False

    @property
    def switched(self) -> bool:
        """Return whether its bridge only switches: the gateway is behind one of the ports."""
        return bool(self.space) or self.elsewhere

    @property
    def scope(self) -> str:
        """Return what tells its groups' chains and members from another domain's."""
        return intern(self.network.domain) if self.switched else ""

    @property
    def wire(self) -> str:
        """Return the bridge's port towards the switch: a VLAN device, or the NIC itself."""
        flat = self.vlan_id is None
        return self.trunk if flat else ownership.vlan_name(self.bridge)

    @property
    def has_ipv6(self) -> bool:
        """Return whether the network has an IPv6 subnet."""
        return any(subnet.cidr.version == V6.version for subnet in self.network.subnets)


def choose_served(
    snapshot: HostSnapshot, config: HostConfig, facts: HostFacts
) -> tuple[tuple[Served, ...], tuple[Problem, ...]]:
    """Return the networks that can be served, and why the others cannot."""
    return _choose(snapshot.networks, snapshot.routers, config, facts)


@kept(4)
def _choose(
    networks: tuple[NetworkView, ...],
    routers: tuple[RouterView, ...],
    config: HostConfig,
    facts: HostFacts,
) -> tuple[tuple[Served, ...], tuple[Problem, ...]]:
    served: dict[str, Served] = {}
    problems = []
    by_id = {router.id: router for router in routers}
    for network in networks:
        bridge = ownership.bridge_name(network.vlan_id, network.physical_network, network.namesake)
        trunk, vlan_id = _segment(network, config)
        router = by_id.get(network.router_id) if network.router_id else None
        here = router is not None and router.is_default and not router.hosts
        elsewhere = bool(router and router.hosts and config.host not in router.hosts)
        within = ownership.space_name(network.domain, HostName(config.host))
        placed = router is not None and bool(router.hosts)
        space = "" if here or elsewhere else within
        place = Served(network, bridge, trunk, vlan_id, space, placed, elsewhere)
        hindrance = _hindrance(place, config, facts) or (here and _overlap(network, facts))
        if not hindrance and bridge in served:
            hindrance = f"{bridge} already serves network {served[bridge].network.id}"
        if hindrance:
            problems.append(Problem(f"network {network.id}", hindrance))
        else:
            fitting, shortfall = _fitted(network, trunk, facts)
            problems += shortfall
            fitting_place = replace(place, network=fitting)
            served[bridge], shortfall = _without_ipv6(fitting_place, router, facts)
            problems += shortfall
    return same(tuple(served.values())), tuple(problems)


def _segment(network: NetworkView, config: HostConfig) -> tuple[str, int | None]:
    """Return trunk and tag of the first of a network's segments that this host is on.

    The first segment's, with no trunk, if it is on none.
    """
    places = [(network.physical_network, network.vlan_id)]
    places += ((one.physical_network, one.vlan_id) for one in network.further)
    here = ((config.trunks[name], vlan_id) for name, vlan_id in places if name in config.trunks)
    return next(here, ("", network.vlan_id))


@lru_cache(maxsize=64)
def same(served: tuple[Served, ...]) -> tuple[Served, ...]:
    """Return the one object that stands for these, so that what is made of it can be kept."""
    return served


def _hindrance(served: Served, config: HostConfig, facts: HostFacts) -> str:
    """Return why a network cannot be served here, or the empty string."""
    network, trunk = served.network, served.trunk
    if not trunk:
        places = [network.physical_network, *(one.physical_network for one in network.further)]
        return (
            f"no trunk for physical network {' or '.join(map(repr, places))}; "
            "name one under [trunks] in the agent's configuration"
        )
    if trunk not in facts.links:
        return f"trunk {trunk} does not exist on this host; create it or correct [trunks]"
    if served.vlan_id is not None and facts.vlan_making is None:
        return "this kernel can make no VLAN devices; see 'trunkline doctor'"
    if not facts.bridge_netfilter:
        return "br_netfilter is not loaded, so no group would hold; modprobe br_netfilter"
    return _name_taken(served, facts) or _nic_taken(served, config, facts)


def _name_taken(served: Served, facts: HostFacts) -> str:
    flat = served.vlan_id is None
    names = {served.bridge, ownership.cable_name(served.bridge)}
    for name in sorted(names if flat else names | {served.wire}):
        if name in facts.links:
            other = "physical network" if flat else f"VLAN id than {served.network.vlan_id}"
            return (
                f"a link {name} exists that is not Trunkline's; "
                f"rename or remove it, or choose another {other}"
            )
    return ""


def _nic_taken(served: Served, config: HostConfig, facts: HostFacts) -> str:
    """Return why a flat network's NIC cannot be a port of its bridge: somebody else needs it."""
    trunk = served.trunk
    if served.vlan_id is not None:
        return ""
    if trunk == config.uplink:
        return f"trunk {trunk} is the uplink too; a flat network needs a NIC of its own"
    for prefix, link in facts.foreign_prefixes:
        if link == trunk:
            return (
                f"trunk {trunk} carries an address in {prefix}, which would stop working in a"
                " bridge; move it to a VLAN device or another NIC, or give the network a VLAN id"
            )
    master = dict(facts.foreign_masters).get(trunk)
    if master is not None:
        return (
            f"trunk {trunk} is plugged into {master}, which is not Trunkline's; take it out there,"
            " or give the network a VLAN id"
        )
    return ""


def _fitted(
    network: NetworkView, trunk: str, facts: HostFacts
) -> tuple[NetworkView, tuple[Problem, ...]]:
    """Return a network with an MTU that its trunk takes: one too large works, and is reported.

    To take it apart would cut its instances off because somebody lowered the trunk's.
    """
    limit = facts.trunk_mtus.get(trunk, network.mtu)
    if network.mtu <= limit:
        return network, ()
    text = (
        f"its MTU of {network.mtu} does not fit {trunk}'s {limit}, so it has {limit} here; raise"
        f" that of {trunk}, or lower the network's"
    )
    return replace(network, mtu=limit), (Problem(f"network {network.id}", text),)


def _without_ipv6(
    served: Served, router: RouterView | None, facts: HostFacts
) -> tuple[Served, tuple[Problem, ...]]:
    """Return a network without its IPv6 subnets, and why, where they cannot be served here."""
    hindrance = _ipv6_hindrance(served, router, facts) if served.has_ipv6 else ""
    if not hindrance:
        return served, ()
    network = served.network
    left = tuple(s for s in network.subnets if s.cidr.version == V4.version)
    text = f"its IPv6 subnets are not served here: {hindrance}"
    problem = Problem(f"network {network.id}", text)
    return replace(served, network=replace(network, subnets=left)), (problem,)


def _ipv6_hindrance(served: Served, router: RouterView | None, facts: HostFacts) -> str:
    network = served.network
    if router is not None and len(router.hosts) > 1:
        return "its router is placed on several hosts; IPv6 needs one, or every host"
    if network.gateway_mode is not GatewayMode.PER_HOST:
        return f"its gateway is {network.gateway_mode}; IPv6 needs {GatewayMode.PER_HOST}"
    if not facts.has_ipv6:
        return "this kernel speaks no IPv6; boot it without ipv6.disable"
    return "" if served.switched else _host_ipv6_hindrance(network, facts)


def _host_ipv6_hindrance(network: NetworkView, facts: HostFacts) -> str:
    """Return why the host itself cannot route a network's IPv6."""
    if facts.ipv6_forwarding is None:
        return ROUTES_NO_IPV6
    for subnet in network.subnets:
        for prefix, link in facts.foreign_prefixes6:
            if subnet.cidr.overlaps(prefix):
                return (
                    f"subnet {subnet.cidr} overlaps {prefix} on {link} of this host; list such"
                    " prefixes as reserved_prefixes"
                )
    return ""


def _overlap(network: NetworkView, facts: HostFacts) -> str:
    for subnet in network.subnets:
        for prefix, link in facts.foreign_prefixes:
            if subnet.cidr.overlaps(prefix):
                return (
                    f"subnet {subnet.cidr} overlaps {prefix} on {link} of this host; serving it "
                    "would cut the host off; list such prefixes as reserved_prefixes"
                )
    return ""


def gateway_mac(network: NetworkView, host: str) -> str:
    """Return the MAC of a network's gateway on this host."""
    if network.gateway_mode is GatewayMode.ANYCAST:
        return ownership.anycast_mac(network.id)
    return ownership.gateway_mac(HostName(host), network.id)


def advertiser(network: NetworkView, host: str, *, placed: bool) -> IPv6Address:
    """Return what a network's instances on this host have as their router in IPv6.

    That of a router that is placed is the same wherever it is: none notices when it moves.
    """
    return link_local(ownership.anycast_mac(network.id) if placed else gateway_mac(network, host))


def bridge_mac(served: Served, host: str) -> str:
    """Return a bridge's MAC: the gateway's, unless that is behind a port of the bridge."""
    if served.switched:
        return ownership.segment_mac(HostName(host), served.network.id)
    return gateway_mac(served.network, host)


@kept(64)
def compile_bridges(served: Iterable[Served], host: str) -> dict[str, Bridge]:
    """Return a bridge per served network, by name."""
    return {
        s.bridge: Bridge(
            name=s.bridge,
            mac=bridge_mac(s, host),
            mtu=s.network.mtu,
            alias=ownership.alias(s.network.id, s.trunk if s.vlan_id is None else ""),
            nf_call_ip6tables=s.has_ipv6,
        )
        for s in served
    }


@kept(64)
def compile_vlans(served: Iterable[Served], facts: HostFacts) -> dict[str, Vlan]:
    """Return the 802.1Q device of each served network, by name."""
    if facts.vlan_making is None:
        return {}
    vlans = (
        Vlan(
            name=s.wire,
            trunk=s.trunk,
            vlan_id=s.vlan_id,
            mtu=s.network.mtu,
            bridge=s.bridge,
            alias=ownership.alias(s.network.id),
            making=facts.vlan_making,
        )
        for s in served
        if s.vlan_id is not None
    )
    return {vlan.name: vlan for vlan in vlans}


def compile_untagged(served: Iterable[Served]) -> dict[str, str]:
    """Return the bridge of each flat network by its NIC."""
    return {s.trunk: s.bridge for s in served if s.vlan_id is None}


def compile_plugs(
    served: tuple[Served, ...], ports: tuple[PortView, ...], floating: Iterable[FloatingView]
) -> Fanned[str, Plug]:
    """Return where each port's interface belongs, by interface, present yet or not.

    A port with a floating IP may get its own frames back: a packet to one's own floating IP, or
    to a port of one that is forwarded here, is
    translated while it is bridged, and leaves by the interface that it came from
    (net/bridge/br_netfilter_hooks.c, "bridged DNAT").
    """
    (found,) = pieces(_plugs, ports, served)
    plugs = Fanned(found)
    taps = (ownership.tap_name(port_id) for f in floating for port_id in sorted(f.port_ids))
    hairpins = {tap: plugs[tap]._replace(hairpin=True) for tap in taps if tap in plugs}
    return plugs.replaced(hairpins, ownership.TAP_ID)


@kept()
def _plugs(served: tuple[Served, ...], ports: tuple[PortView, ...]) -> tuple[dict[str, Plug]]:
    places = by_network(served)
    wanted = ((p, places[p.network_id]) for p in ports if p.network_id in places and p.admin_up)
    plugs = (Plug(intern(ownership.tap_name(p.id)), s.bridge, s.network.mtu) for p, s in wanted)
    return ({plug.tap: plug for plug in plugs},)


@kept()
def by_network(served: tuple[Served, ...]) -> dict[NetworkId, Served]:
    """Return what is served by network id."""
    return {s.network.id: s for s in served}


@kept()
def scopes_by_bridge(served: tuple[Served, ...]) -> dict[str, str]:
    """Return the scope of each bridge's groups, by the bridge as an element has it, in quotes."""
    return {f'"{s.bridge}"': s.scope for s in served}


def bridge_of(element: str) -> str:
    """Return the bridge that an element of a set begins with, in quotes."""
    return element.partition(" . ")[0]


@kept(64)
def compile_gateways(served: Iterable[Served]) -> frozenset[Address]:
    """Return the host's own address on each subnet that it serves."""
    return frozenset(
        Address(s.bridge, ip_interface((subnet.gateway, subnet.cidr.prefixlen)))
        for s in served
        for subnet in s.network.subnets
        if subnet.gateway is not None
    )


def bridge_sysctls(served: Iterable[Served], *, routed: bool) -> dict[str, str]:
    """Return the sysctls of gateways; where nothing is routed they serve DHCP all the same."""
    values = {**BRIDGE_SYSCTLS, "forwarding": "1" if routed else "0"}
    return {
        f"net.ipv4.conf.{s.bridge}.{key}": value for s in served for key, value in values.items()
    }


def compile_sysctls(
    served: Iterable[Served], uplink: str | None, *, routed: bool
) -> dict[str, str]:
    """Return the sysctls that routing between bridges and uplink depends on."""
    wanted = bridge_sysctls(served, routed=routed)
    if uplink and wanted:
        wanted |= {f"net.ipv4.conf.{uplink}.{key}": v for key, v in UPLINK_SYSCTLS.items()}
    return wanted


def bridge_ipv6_sysctls(served: Iterable[Served], switches: Mapping[str, str]) -> dict[str, str]:
    """Return the sysctls of gateways that speak IPv6, which is switched on last.

    Args:
        served: The networks with IPv6.
        switches: What else there is to say, as whether they route, by the sysctl's last word.
    """
    values = {**IPV6_SYSCTLS, **switches, "disable_ipv6": "0"}
    return {
        f"net.ipv6.conf.{s.bridge}.{key}": value for s in served for key, value in values.items()
    }


def transit_ipv6_sysctls(link: str, switch: str) -> dict[str, str]:
    """Return those of an end of a way between a host and a space, whose address we choose."""
    values = {**IPV6_SYSCTLS, "addr_gen_mode": NO_ADDRESS, switch: "1", "disable_ipv6": "0"}
    return {f"net.ipv6.conf.{link}.{key}": value for key, value in values.items()}


def compile_ipv6_sysctls(
    served: Iterable[Served], uplink: str | None, facts: HostFacts, *, routed: bool
) -> dict[str, str]:
    """Return the sysctls by which the host itself routes IPv6.

    Args:
        served: The networks with IPv6 of which it is the router.
        uplink: The external NIC, if tenants' IPv6 may leave by it.
        facts: What this kernel routes by.
        routed: Whether the default router routes.
    """
    routes = "1" if routed else "0"
    switches = {"forwarding", facts.ipv6_forwarding or "forwarding"}
    wanted = bridge_ipv6_sysctls(served, dict.fromkeys(sorted(switches), routes))
    if uplink and wanted and facts.ipv6_forwarding == "force_forwarding":
        wanted[f"net.ipv6.conf.{uplink}.force_forwarding"] = routes
    return wanted
