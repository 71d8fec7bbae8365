"""The steps from one host state to another. Each prints as the command an operator would type.

Operations are values: ``core.diff`` orders them, ``kernel`` carries them out, ``trunkline plan``
prints them. None of them asks what is there; that was the diff's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from shlex import quote

from trunkline.hoststate import (
    Address,
    Bridge,
    Cable,
    Connection,
    DhcpServer,
    Election,
    Route,
    Table,
    Vlan,
    VlanMaking,
)
from trunkline.ownership import LINK_GROUP, ROUTE_PROTOCOL


@dataclass(frozen=True, slots=True)
class CreateBridge:
    """Make a bridge with everything it needs, and bring it up."""

    bridge: Bridge

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        b = self.bridge
        return (
            f"ip link add {b.name} address {b.mac} mtu {b.mtu} group {LINK_GROUP} type bridge"
            f" forward_delay 0 stp_state 0 mcast_snooping 0 nf_call_iptables 1"
            f" nf_call_ip6tables {int(b.nf_call_ip6tables)}"
            f" && ip link set {b.name} up alias {quote(b.alias)}"
        )


@dataclass(frozen=True, slots=True)
class CreateVlan:
    """Make an 802.1Q device on the trunk, plug it into its bridge, bring it up."""

    vlan: Vlan

    def command(self) -> str:
        """Return the equivalent ``ip`` command; for tc-BPF, what it does instead."""
        v = self.vlan
        made = f"type vlan id {v.vlan_id}"
        if v.making is VlanMaking.BPF:
            made = f"type veth peer name {v.name}t  # and tc-bpf push/pop of tag {v.vlan_id}"
        return (
            f"ip link add {v.name} link {v.trunk} mtu {v.mtu} group {LINK_GROUP} {made}"
            f" && ip link set {v.name} up master {v.bridge} alias {quote(v.alias)}"
        )


@dataclass(frozen=True, slots=True)
class CreateSpace:
    """Make a network namespace of ours, with its loopback up."""

    name: str

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        return f"ip netns add {self.name}"


@dataclass(frozen=True, slots=True)
class DeleteSpace:
    """Delete one of our network namespaces, and whatever of ours still runs in it."""

    name: str

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        return f"ip netns del {self.name}"


@dataclass(frozen=True, slots=True)
class CreateCable:
    """Make a veth pair between the host and a space, plug it in, bring both ends up."""

    cable: Cable

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        c = self.cable
        master = f" master {c.bridge}" if c.bridge else ""
        return (
            f"ip link add {c.name} mtu {c.mtu} group {LINK_GROUP} type veth peer {c.peer}"
            f" address {c.mac} mtu {c.mtu} group {LINK_GROUP} netns {c.space}"
            f" && ip -n {c.space} link set {c.peer} up"
            f" && ip link set {c.name} up{master} alias {quote(c.alias)}"
        )


@dataclass(frozen=True, slots=True)
class ChangeLink:
    """Set attributes of one of our links, or of an instance's interface.

    Attributes:
        changes: Pairs in ``ip link set`` order. Keys: ``mtu``, ``address``, ``alias``,
            ``master`` (the empty string unplugs), ``state`` (up, down), for bridges
            ``nf_call_iptables`` and ``nf_call_ip6tables``, whose 0 also ends all IPv6 that the
            bridge has itself; for bridge ports ``hairpin`` (on, off). Of a cable, ``mtu`` and
            ``state`` are for both ends, and ``address`` is for the end in the space.
    """

    name: str
    changes: tuple[tuple[str, str], ...]

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        words = []
        for key, value in self.changes:
            match key, value:
                case "master", "":
                    words.append("nomaster")
                case "state", _:
                    words.append(value)
                case "hairpin", _:
                    words.append(f"type bridge_slave hairpin {value}")
                case "nf_call_iptables" | "nf_call_ip6tables", _:
                    words.append(f"type bridge {key} {value}")
                case _:
                    words.append(f"{key} {quote(value)}")
        return f"ip link set {self.name} {' '.join(words)}"


@dataclass(frozen=True, slots=True)
class PlugTrunk:
    """Put a trunk NIC itself into a bridge of ours, or take it out; it stays as it is otherwise.

    Attributes:
        bridge: None takes it out.
    """

    trunk: str
    bridge: str | None

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        return f"ip link set {self.trunk} {f'master {self.bridge}' if self.bridge else 'nomaster'}"


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """Delete one of our bridges, VLAN devices or cables."""

    name: str

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        return f"ip link del {self.name}"


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Put an address on a link, marked as ours."""

    address: Address

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        return f"ip addr add {self.address.address} dev {self.address.link} proto trunkline"


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Take one of our addresses off a link."""

    address: Address

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        return f"ip addr del {self.address.address} dev {self.address.link}"


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Add a route to the main table, marked as ours."""

    route: Route

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        return f"ip route add {_route_words(self.route)}"


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """Take one of our routes out of the main table."""

    route: Route

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        return f"ip route del {_route_words(self.route)}"


def _route_words(route: Route) -> str:
    kind = "" if route.link else "unreachable "
    via = f" via {route.via}" if route.via else ""
    link = f" dev {route.link}" if route.link else ""
    return f"{kind}{route.destination}{via}{link} proto {ROUTE_PROTOCOL}"


@dataclass(frozen=True, slots=True)
class AddProxy:
    """Answer ARP on a link for an address that lives in a space."""

    address: Address

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        a = self.address
        return f"ip neigh add proxy {a.address.ip} dev {a.link} proto {ROUTE_PROTOCOL}"


@dataclass(frozen=True, slots=True)
class RemoveProxy:
    """Answer ARP no more on a link for an address."""

    address: Address

    def command(self) -> str:
        """Return the equivalent ``ip`` command."""
        return f"ip neigh del proxy {self.address.address.ip} dev {self.address.link}"


@dataclass(frozen=True, slots=True)
class AnnounceAddress:
    """Send gratuitous ARP for an address, so that neighbours learn its new place (RFC 5944)."""

    address: Address

    def command(self) -> str:
        """Return the equivalent ``arping`` command."""
        return f"arping -U -c 3 -I {self.address.link} {self.address.address.ip}"


@dataclass(frozen=True, slots=True)
class AnnouncePort:
    """Tell this host's bridge and the switches that an instance is here now, by its MAC."""

    tap: str
    mac: str
    vlan: str

    def command(self) -> str:
        """Return the equivalent ``bridge`` command; of the frames there is none."""
        return (
            f"bridge fdb replace {self.mac} dev {self.tap} master dynamic"
            f"  # and RARP from it out of {self.vlan}"
        )


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """Write one sysctl in the host's network namespace."""

    key: str
    value: str

    def command(self) -> str:
        """Return the equivalent ``sysctl`` command."""
        return f"sysctl -w {self.key}={self.value}"


@dataclass(frozen=True, slots=True)
class RunNft:
    """Change our nftables tables in one transaction.

    Attributes:
        script: Lines for ``nft -f -``; all of them take effect, or none.
        makes: What our tables are afterwards; None is not known.
    """

    script: tuple[str, ...]
    makes: Mapping[tuple[str, str], Table] | None = field(default=None, compare=False, repr=False)

    def command(self) -> str:
        """Return the equivalent ``nft`` command."""
        body = "\n".join(self.script)
        return f"nft -f - <<'.'\n{body}\n."


@dataclass(frozen=True, slots=True)
class StartDhcp:
    """Write a DHCP server's files and start it; one that runs with another config is replaced."""

    server: DhcpServer

    def command(self) -> str:
        """Return what is started and how much it serves."""
        return f"dnsmasq  # on {self.server.bridge}, {len(self.server.leases)} static leases"


@dataclass(frozen=True, slots=True)
class StopDhcp:
    """Stop one of our DHCP servers and remove its files."""

    bridge: str

    def command(self) -> str:
        """Return what is stopped."""
        return f"kill  # dnsmasq on {self.bridge}, and remove its files"


@dataclass(frozen=True, slots=True)
class ChangeDhcpFiles:
    """Write and remove leases, options and names of a running DHCP server; it is not restarted.

    Attributes:
        write: (file, text) pairs, as in ``DhcpServer.files``.
        remove: Files.
        reload: Whether a running server must be told by SIGHUP: dnsmasq notices new files by
            itself, but forgets changed and removed ones only then (dnsmasq(8), dhcp-hostsdir).
            Names need none (hostsdir), and what is the metadata proxy's neither.
    """

    bridge: str
    write: tuple[tuple[str, str], ...]
    remove: tuple[str, ...]
    reload: bool

    def command(self) -> str:
        """Return the files concerned, a line each."""
        lines = [f"echo {quote(line)} > dhcp/{self.bridge}/{name}" for name, line in self.write]
        lines += [f"rm dhcp/{self.bridge}/{name}" for name in self.remove]
        if self.reload:
            lines.append(f"kill -HUP  # dnsmasq on {self.bridge}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class HoldElections:
    """Have keepalived stand for exactly these routers: start it, tell it, or without any end it.

    Who acts goes on as long as its router stays.
    """

    elections: Mapping[int, Election]

    def command(self) -> str:
        """Return what is run, and for which routers."""
        numbers = ", ".join(map(str, sorted(self.elections)))
        what = f"for virtual routers {numbers}" if numbers else "ends"
        return f"keepalived --vrrp --use-file=vrrp/keepalived.conf  # {what}"


@dataclass(frozen=True, slots=True)
class CutConnections:
    """End tracked connections that are no longer allowed or no longer translated so."""

    connections: tuple[Connection, ...]

    def command(self) -> str:
        """Return the equivalent ``conntrack`` commands, a line each."""
        return "\n".join(
            f"conntrack -D -p {c.protocol} -s {c.source} -d {c.destination}"
            f" --sport {c.source_port} --dport {c.destination_port}{_zone_words(c)}"
            for c in self.connections
        )


def _zone_words(connection: Connection) -> str:
    return f" --zone {connection.zone}" if connection.zone else ""


@dataclass(frozen=True, slots=True)
class InSpace:
    """Carry out an operation in one of our network namespaces."""

    space: str
    operation: Operation

    def command(self) -> str:
        """Return the equivalent command: what the operation stands for, run in there."""
        first, *rest = self.operation.command().splitlines()
        return "\n".join([f"ip netns exec {self.space} {first}", *rest])


Operation = (
    CreateBridge
    | CreateVlan
    | CreateSpace
    | DeleteSpace
    | CreateCable
    | ChangeLink
    | PlugTrunk
    | DeleteLink
    | AddAddress
    | RemoveAddress
    | AddRoute
    | RemoveRoute
    | AddProxy
    | RemoveProxy
    | AnnounceAddress
    | AnnouncePort
    | SetSysctl
    | RunNft
    | StartDhcp
    | StopDhcp
    | HoldElections
    | ChangeDhcpFiles
    | CutConnections
    | InSpace
)
