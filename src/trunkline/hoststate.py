"""A host in kernel terms. What it shall be and what it is are the same type, so they compare.

Everything here is plain data with the kernel's own vocabulary. ``HostState`` as *desired* comes
from ``core.compile``; as *actual* it comes from ``kernel``, holds only what is ours, and names
what is in our way. Mappings are keyed by the name the kernel knows the object by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import NamedTuple

from trunkline.model import IpAddress, RouterId


class VlanMaking(StrEnum):
    """How a VLAN device is made; the frames on the trunk are the same."""

    KERNEL = "8021q"
    BPF = "tc-bpf"


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What the host's administrator tells its agent.

    Attributes:
        trunks: Trunk NIC by physical network, such as ``{"physnet1": "eth0"}``.
        uplink: The external NIC, such as ``eth1``; None is a host without one.
        routing_source: Source address of instances that leave by the uplink and have no
            floating IP; None takes the uplink's first address of its own.
        snat_exempt: Destinations for which instances keep their own source (nova's dmz_cidr).
        state_dir: Absolute path under which the DHCP servers' files live.
        guard_absent_prefixes: Answer 'host unreachable' for a tenant prefix that this host
            does not serve. False gives the article's original behaviour (scenario 6b): the
            packet follows the default route out of the uplink.
        metadata: Whether 169.254.169.254 leads to this host's metadata proxy.
        route_ipv6: Whether tenants' IPv6, which nothing translates, leaves by the uplink and
            comes in there. False refuses it.
        routing_sources: The same as ``routing_source``, for single routers.
    """

    host: str
    trunks: Mapping[str, str]
    uplink: str | None
    routing_source: IPv4Address | None
    snat_exempt: tuple[IPv4Network, ...]
    state_dir: str
    guard_absent_prefixes: bool = True
    metadata: bool = False
    route_ipv6: bool = False
    routing_sources: Mapping[RouterId, IPv4Address] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the machine offers, found out by asking it.

    Attributes:
        vlan_making: None where neither making works.
        links: Names of the links present that are neither ours nor an instance's.
        uplink_address: First address on the uplink that is not ours.
        foreign_prefixes: Prefix and link of each address on this host that is not ours.
        bridge_netfilter: Whether the kernel shows bridged packets to the IP hooks at all. Without
            it a bridge that asks for it is not refused, and its packets pass unfiltered.
        foreign_masters: Each link that is not ours and is plugged into something that is not
            ours either, and what that is.
        trunk_mtus: MTU of each trunk NIC that exists, by its name.
        missing: Features that something here needs and the machine lacks, as sentences that
            say what to load or install.
        transits: Address of the host's end of each transit to a space that is there, by link:
            they stay while others come and go.
        foreign_prefixes6: Likewise of IPv6, but for link-local ones.
        ipv6_forwarding: The sysctl of a link that makes it route IPv6: ``force_forwarding``
            (Linux 6.17), which is of no concern to others; or ``forwarding``, where the
            administrator has made this host a router for IPv6. None: it routes none.
        has_ipv6: Whether the kernel speaks IPv6 at all; if so, a space of ours can route it.
        acting: Numbers of the routers on several hosts that this one acts for at the moment.
    """

    vlan_making: VlanMaking | None
    links: frozenset[str] = frozenset()
    uplink_address: IPv4Address | None = None
    foreign_prefixes: tuple[tuple[IPv4Network, str], ...] = ()
    bridge_netfilter: bool = True
    foreign_masters: tuple[tuple[str, str], ...] = ()
    trunk_mtus: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    transits: tuple[tuple[str, IPv4Interface], ...] = ()
    foreign_prefixes6: tuple[tuple[IPv6Network, str], ...] = ()
    ipv6_forwarding: str | None = None
    has_ipv6: bool = True
    acting: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Bridge:
    """A tenant network's bridge.

    That bridged packets are filtered is a property of each bridge, so bridges that are not ours
    are never filtered because of us.

    Attributes:
        nf_call_ip6tables: Off for a network without IPv6, on whose bridge the host itself
            speaks none either.
    """

    name: str
    mac: str
    mtu: int
    alias: str
    up: bool = True
    nf_call_iptables: bool = True
    nf_call_ip6tables: bool = False


@dataclass(frozen=True, slots=True)
class Vlan:
    """An 802.1Q device on a trunk, plugged into a bridge (its master)."""

    name: str
    trunk: str
    vlan_id: int
    mtu: int
    bridge: str | None
    alias: str
    making: VlanMaking
    up: bool = True


class Plug(NamedTuple):
    """An instance's interface and the bridge it is plugged into.

    The interface is the hypervisor's: we neither create nor delete it. In an actual state,
    ``bridge`` is None for an interface that is there and not plugged in anywhere. A tuple,
    because a host has thousands, and tuples compare ten times as fast as dataclasses.

    Attributes:
        hairpin: The bridge may send a frame back out of the interface that it came from: an
            instance that speaks to its own floating IP (``IFLA_BRPORT_MODE``).
    """

    tap: str
    bridge: str | None
    mtu: int
    up: bool = True
    hairpin: bool = False


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair between the host and one of its spaces.

    Attributes:
        name: The host's end.
        space: Where the other end is; in an actual state the empty string for one that leads
            to no space of ours.
        peer: The other end, which looks like the network's bridge from in there.
        mac: Of the other end.
        mtu, up: Of both ends, whichever is less.
        bridge: What the host's end is plugged into; None is a way to the outside.
    """

    name: str
    space: str
    peer: str
    mac: str
    mtu: int
    bridge: str | None
    alias: str
    up: bool = True


@dataclass(frozen=True, slots=True)
class Address:
    """An address of ours on a link: a gateway on a bridge, or a floating IP on the uplink."""

    link: str
    address: IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Route:
    """A route of ours in the main table; without a link it answers 'host unreachable'."""

    destination: IPv4Network | IPv6Network
    via: IPv4Address | IPv6Address | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a base chain is attached.

    Attributes:
        kind: ``filter`` or ``nat``.
        priority: As a number; nft(8), 'standard priority names' translates.
    """

    kind: str
    hook: str
    priority: int
    policy: str = "accept"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; rules are nft text in the form in which ``nft -s`` prints them back."""

    name: str
    rules: tuple[str, ...]
    hook: Hook | None = None


@dataclass(frozen=True, slots=True)
class NftSet:
    """A set, or with ``is_map`` a map, and its elements.

    Attributes:
        key: Its type, as nft text: ``type ipv4_addr`` or ``typeof iifname . ip saddr``;
            for a map with the value's type: ``typeof oifname . ip daddr : verdict``.
        elements: Element text as nft prints it (names in quotes). For a set every value is
            the empty string; for a map, the value's text: ``{'"br100" . 10.0.0.3': 'goto x'}``.
    """

    name: str
    key: str
    is_map: bool = False
    interval: bool = False
    elements: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """One of our nftables tables, complete.

    Attributes:
        limits: Named limits, as nft text: ``rate over 1250 kbytes/second burst 128 kbytes``.
    """

    family: str
    name: str
    sets: Mapping[str, NftSet]
    chains: Mapping[str, Chain]
    limits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DhcpServer:
    """A dnsmasq that serves one bridge, DHCP and DNS.

    Attributes:
        config: The whole configuration file. A running one with another text is restarted.
        files: What it reads besides, by directory and name, such as ``hosts/3f2a…``: ``hosts``
            has a ``dhcp-host`` line per port of this host, ``options`` a port's ``dhcp-option``
            lines, ``names`` a port's addresses and names in the form of hosts(5). A new file
            is picked up without a restart (dnsmasq(8), dhcp-hostsdir, dhcp-optsdir, hostsdir).
            ``instances``, by address, is not for dnsmasq but for the metadata proxy: the
            instance's and project's id as JSON.
    """

    bridge: str
    config: str
    files: Mapping[str, str]

    @property
    def leases(self) -> list[str]:
        """Return the ``dhcp-host`` lines."""
        return [line for name, line in self.files.items() if name.startswith("hosts/")]


@dataclass(frozen=True, slots=True)
class Election:
    """A router that is on several hosts, of which one acts; keepalived finds out which (VRRP).

    What a host does when it begins or ends to act is done by a program that keepalived starts,
    whether an agent lives or not. It makes no more of the host than what compiles from the fact
    that it acts.

    Attributes:
        priority: Who has more begins, if several start at once; who acts goes on.
        link: The NIC by which the hosts hear each other.
        tracked: NICs without which this host cannot act.
        ways: Links that nothing passes while it does not act (set ``resting``).
        routes: The host's that there are while it acts.
        space: Where the gateways are that are announced.
        inside: What is announced in the space.
        outside: What the host answers ARP for while it acts, and is announced.
    """

    priority: int
    link: str
    tracked: tuple[str, ...]
    ways: tuple[str, ...]
    routes: tuple[Route, ...]
    space: str
    inside: tuple[Address, ...]
    outside: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class HostState:
    """A host's networking, as far as it is ours.

    Attributes:
        plugs: By tap. Desired: every port's, whether its tap exists yet or not. Actual: every
            link whose name looks like a port's tap (``tap`` and 11 characters).
        untagged: The bridge that a trunk NIC itself is plugged into, by NIC: a flat network's. The
            NIC is not ours, and nothing else of it is changed.
        sysctls: By key in dotted form, as sysctl(8) writes it, except that a link's name
            stands as it is: ``net.ipv4.conf.br100.forwarding``.
        tables: By (family, name).
        cables: By the host's end.
        proxies: Addresses that live in a space, and for which a link answers ARP.
        spaces: The network namespaces that route for domains of their own, each a host state
            in itself, by name. A space has no bridges, taps, cables or spaces.
        elections: By the router's number.
    """

    bridges: Mapping[str, Bridge] = field(default_factory=dict)
    vlans: Mapping[str, Vlan] = field(default_factory=dict)
    plugs: Mapping[str, Plug] = field(default_factory=dict)
    untagged: Mapping[str, str] = field(default_factory=dict)
    addresses: frozenset[Address] = frozenset()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[tuple[str, str], Table] = field(default_factory=dict)
    dhcp: Mapping[str, DhcpServer] = field(default_factory=dict)
    cables: Mapping[str, Cable] = field(default_factory=dict)
    routes: frozenset[Route] = frozenset()
    proxies: frozenset[Address] = frozenset()
    spaces: Mapping[str, HostState] = field(default_factory=dict)
    elections: Mapping[int, Election] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connection:
    """One entry of the connection tracking table, all of whose addresses are of one family.

    Attributes:
        source, destination: Of the first packet, before translation.
        reply_source, reply_destination: Of the answer: what the destination and the source
            were translated to. Ports likewise; for ICMP, whose entries are queries (echo and the
            like), ``source_port`` is the id and ``destination_port`` the type.
        zone: Its connection tracking zone; packets of another zone are never its.
    """

    protocol: int
    source: IpAddress
    destination: IpAddress
    source_port: int
    destination_port: int
    reply_source: IpAddress
    reply_destination: IpAddress
    reply_source_port: int
    reply_destination_port: int
    zone: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that cannot be honoured as asked; it fails closed and is reported.

    Attributes:
        subject: The API object or kernel object concerned, such as ``port 3f2a…``.
        text: What is wrong and what to do.
    """

    subject: str
    text: str
