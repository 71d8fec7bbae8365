"""The catalogue of faults that can be planted in the article's lab: what is done, where it is.

Each is a few deeds on nodes: operations as the agent has them, that nobody ordered, or commands
as somebody would type them. Beside them stands the flow that shows the fault, and the place that
a live trace must name. The tracer knows nothing of this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface

from trunkline.errors import Invalid, NotFound
from trunkline.hoststate import Address, HostState
from trunkline.lab.build import TRUNK, UPLINK
from trunkline.lab.question import LEASE, Question
from trunkline.lab.stage import Stage
from trunkline.lab.topology import SWITCH
from trunkline.operations import (
    AddAddress,
    ChangeDhcpFiles,
    ChangeLink,
    CreateVlan,
    CutConnections,
    DeleteLink,
    Operation,
    RemoveAddress,
    RunNft,
    SetSysctl,
    StopDhcp,
)
from trunkline.ownership import TABLE
from trunkline.snapshot import PortView
from trunkline.trace.cloud import Cloud
from trunkline.trace.layers import Place

LEFT, RIGHT = "compute1", "compute2"
CAST = ("VM_1", "VM_2", "VM_3", "VM_5", "VM_6")
VLAN, BRIDGE, VLAN_2, BRIDGE_2 = "vlan100", "br100", "vlan102", "br102"
PORT = 5201
STRANGER = "02:00:00:00:00:99"
ICMP_TIMEOUT = "net.netfilter.nf_conntrack_icmp_timeout"
ICMP_TIMEOUT_S = "30"  # the kernel's default
SMALL, BIG = "1000", 1400  # an MTU, and a packet that does not fit it

PING_FAR = Question("VM_1", "VM_5")
PING_NEAR = Question("VM_1", "VM_2")
PING_OUT = Question("VM_2", "8.8.8.8")
PING_ROUTED = Question("VM_1", "VM_3")
PING_CROSSED = Question("VM_1", "VM_6")
PING_FLOATING = Question("VM_1", "91.208.23.16")
TCP_ROUTED = Question("VM_1", "VM_3", "tcp", PORT)
UDP_ROUTED = Question("VM_1", "VM_3", "udp", PORT)
TCP_CROSSED = Question("VM_1", "VM_6", "tcp", PORT)
BIG_FAR = Question("VM_1", "VM_5", size=BIG)
FLOATING = IPv4Address("91.208.23.16")


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing done to a node: an operation on a host, or a command."""

    node: str
    what: Operation | tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """A sound lab of the article's, to plant in.

    Attributes:
        cloud: As the server wants it, which is as it is.
    """

    stage: Stage
    cloud: Cloud

    def state(self, host: str) -> HostState:
        """Return what a host is."""
        return self.cloud.host[host].state

    def tap(self, instance: str) -> str:
        """Return the name of an instance's interface on its host."""
        return self.stage.seats[instance].tap

    def address(self, instance: str) -> IPv4Address:
        """Return an instance's fixed address."""
        return self.stage.seats[instance].address

    def port(self, instance: str) -> PortView:
        """Return an instance's port."""
        return self.cloud.seats[self.stage.seats[instance].port_id][1]

    def group(self, instance: str) -> str:
        """Return the id of an instance's security group."""
        return self.port(instance).group_ids[0]

    def router(self, host: str) -> IPv4Address:
        """Return a host's default gateway."""
        own = self.stage.topology.hosts[host].external
        return next(r.ip for r in self.stage.topology.internet.routers if own in r.network)


Deeds = Callable[[Scene], tuple[Deed, ...]]


def _nothing(_: Scene) -> tuple[Deed, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that can be planted.

    Attributes:
        text: What is wrong, as an operator would put it.
        asked: A flow that shows it.
        place: What a live trace of that flow must name; an instance in braces is its tap.
        undo: What an agent does not repair by itself, as it is not its own.
    """

    name: str
    text: str
    asked: Question
    place: Place
    plant: Deeds
    undo: Deeds = _nothing

    def spot(self, scene: Scene) -> Place:
        """Return the place with the names of this lab."""
        names = {name: scene.tap(name) for name in CAST}
        names |= {f"{name}_group": scene.group(name) for name in CAST}
        names |= {f"{name}_address": str(scene.address(name)) for name in CAST}
        return Place(self.place.node, self.place.object.format(**names))


def scene(stage: Stage) -> Scene:
    """Return a lab's scene.

    Raises:
        Invalid: It is not built like the article's, which the catalogue speaks of.
    """
    cloud = stage.traced()
    missing = {LEFT, RIGHT} - set(cloud.host) | set(CAST) - set(stage.seats)
    floating = {f.address for f in stage.topology.floating_ips}
    links = {BRIDGE, BRIDGE_2} - set(cloud.host[LEFT].state.bridges) if not missing else set()
    if missing or links or FLOATING not in floating:
        name = stage.topology.name
        raise Invalid(f"lab {name}: faults are planted in the article's topology only")
    return Scene(stage, cloud)


def find(name: str) -> Fault:
    """Return a fault of the catalogue.

    Raises:
        NotFound: There is none of this name.
    """
    if name not in CATALOGUE:
        raise NotFound(f"fault {name}: there is none; 'trunkline lab fault --list' has them all")
    return CATALOGUE[name]


# --- ways to plant -------------------------------------------------------------------------------


def _on(node: str, *what: Operation | tuple[str, ...]) -> Deeds:
    """Return deeds that need to know nothing of the lab."""
    return lambda _: tuple(Deed(node, one) for one in what)


def _link(name: str, key: str, value: str) -> ChangeLink:
    return ChangeLink(name, ((key, value),))


def _tap(instance: str, key: str, value: str) -> Deeds:
    host = LEFT if instance in ("VM_1", "VM_2", "VM_3") else RIGHT
    return lambda scene: (Deed(host, _link(scene.tap(instance), key, value)),)


def _ip(*words: str) -> tuple[str, ...]:
    return "ip", *words


def _nft(*lines: str) -> RunNft:
    return RunNft(lines)


def _foreign_table(family: str, name: str, hook: str, rule: str) -> tuple[str, ...]:
    chain = f"chain drops {{\ntype filter hook {hook} priority -5\n{rule}\n}}"
    return "nft", f"table {family} {name} {{\n{chain}\n}}"


def _no_foreign_table(family: str, name: str) -> tuple[str, ...]:
    return "nft", f"add table {family} {name}; delete table {family} {name}"


def _wrong_tag(scene: Scene) -> tuple[Deed, ...]:
    wrong = replace(scene.state(LEFT).vlans[VLAN], vlan_id=199)
    return Deed(LEFT, DeleteLink(VLAN)), Deed(LEFT, CreateVlan(wrong))


def _rewritten(chain: str, rules: list[str]) -> tuple[Deed, ...]:
    where = f"inet {TABLE} {chain}"
    lines = [f"flush chain {where}", *(f"add rule {where} {rule}" for rule in rules)]
    return (Deed(LEFT, RunNft(tuple(lines))),)


def _rules(scene: Scene, chain: str) -> list[str]:
    return list(scene.state(LEFT).tables["inet", TABLE].chains[chain].rules)


def _without_tcp(scene: Scene) -> tuple[Deed, ...]:
    chain = f"group-{scene.group('VM_3')}-ingress"
    return _rewritten(chain, [r for r in _rules(scene, chain) if "tcp" not in r])


def _wide_open(scene: Scene) -> tuple[Deed, ...]:
    chain = f"group-{scene.group('VM_3')}-ingress"
    return (Deed(LEFT, _nft(f"add rule inet {TABLE} {chain} accept")),)


def _last_rule_first(scene: Scene) -> tuple[Deed, ...]:
    rules = _rules(scene, "forward")
    return _rewritten("forward", [rules[-1], *rules[:-1]])


def _no_member(scene: Scene) -> tuple[Deed, ...]:
    element = f"members-{scene.group('VM_1')} {{ {scene.address('VM_1')} }}"
    return (Deed(LEFT, _nft(f"delete element inet {TABLE} {element}")),)


def _no_mac(scene: Scene) -> tuple[Deed, ...]:
    element = f'"{scene.tap("VM_1")}" . {scene.port("VM_1").mac}'
    return (Deed(LEFT, _nft(f"delete element bridge {TABLE} macs {{ {element} }}")),)


def _stale_arp(scene: Scene) -> tuple[Deed, ...]:
    address = str(scene.address("VM_3"))
    entry = (address, "lladdr", STRANGER, "dev", BRIDGE_2, "nud", "permanent")
    return (Deed(LEFT, _ip("neigh", "replace", *entry)),)


def _no_stale_arp(scene: Scene) -> tuple[Deed, ...]:
    entry = ("to", str(scene.address("VM_3")), "dev", BRIDGE_2, "nud", "permanent")
    return (Deed(LEFT, _ip("neigh", "flush", *entry)),)


def _two_servers(scene: Scene) -> tuple[Deed, ...]:
    name = f"hosts/{scene.port('VM_1').id}"
    line = scene.state(LEFT).dhcp[BRIDGE].files[name]
    change = ChangeDhcpFiles(BRIDGE, write=((name, line),), remove=(), reload=False)
    return (Deed(RIGHT, change),)


def _forgetful(scene: Scene) -> tuple[Deed, ...]:
    flush = CutConnections(scene.stage.connections(LEFT))
    return Deed(LEFT, SetSysctl(ICMP_TIMEOUT, "0")), Deed(LEFT, flush)


def _default_route(scene: Scene) -> tuple[Deed, ...]:
    return (Deed(LEFT, _ip("route", "replace", "default", "via", str(scene.router(LEFT)))),)


def _uplink_again(scene: Scene) -> tuple[Deed, ...]:
    return Deed(LEFT, _ip("link", "set", UPLINK, "up")), *_default_route(scene)


def _gateway(host: str) -> Deeds:
    """Return deeds that give VM_1 a host's address on its network as default gateway."""

    def deeds(scene: Scene) -> tuple[Deed, ...]:
        gateway = scene.stage.segments[scene.stage.seats["VM_1"].network].gateway(host)
        return (Deed("VM_1", _ip("route", "replace", "default", "via", str(gateway))),)

    return deeds


def _mac_again(scene: Scene) -> tuple[Deed, ...]:
    mac = scene.port("VM_2").mac
    return (Deed("VM_2", _ip("link", "set", "eth0", "address", mac)), *_routes_again(scene))


def _routes_again(scene: Scene) -> tuple[Deed, ...]:
    gateway = scene.stage.gateway("VM_2")
    return (Deed("VM_2", _ip("route", "replace", "default", "via", str(gateway))),)


# --- the catalogue -------------------------------------------------------------------------------

_NAT = f"inet {TABLE} nat-postrouting"
_GATEWAY = Address(BRIDGE, IPv4Interface("10.0.0.1/24"))
_PUBLIC = Address(UPLINK, IPv4Interface((FLOATING, 32)))
_FIREWALL, _PRUNED = ("inet", "firewall"), ("bridge", "pruned")

FAULTS = (
    # the segment
    Fault(
        "wrong-tag",
        "a VLAN device has another tag than its network",
        PING_FAR,
        Place(LEFT, VLAN),
        _wrong_tag,
    ),
    Fault(
        "missing-tag",
        "the trunk itself is in the bridge, instead of a VLAN device: frames have no tag",
        PING_FAR,
        Place(LEFT, VLAN),
        _on(LEFT, DeleteLink(VLAN), _ip("link", "set", TRUNK, "master", BRIDGE)),
        _on(LEFT, _ip("link", "set", TRUNK, "nomaster")),
    ),
    Fault(
        "swapped-tags",
        "two VLAN devices are in each other's bridge",
        PING_FAR,
        Place(LEFT, VLAN),
        _on(LEFT, _link(VLAN, "master", BRIDGE_2), _link(VLAN_2, "master", BRIDGE)),
    ),
    Fault(
        "vlan-down",
        "a VLAN device is down",
        PING_FAR,
        Place(LEFT, VLAN),
        _on(LEFT, _link(VLAN, "state", "down")),
    ),
    Fault(
        "mtu-small",
        "a VLAN device has a smaller MTU than its network",
        BIG_FAR,
        Place(LEFT, VLAN),
        _on(LEFT, _link(VLAN, "mtu", SMALL)),
    ),
    Fault(
        "bridge-absent",
        "a network's bridge is gone from a host",
        PING_CROSSED,
        Place(LEFT, BRIDGE_2),
        _on(LEFT, DeleteLink(BRIDGE_2)),
    ),
    Fault(
        "tap-unplugged",
        "an instance's interface is in no bridge",
        PING_NEAR,
        Place(LEFT, "{VM_2}"),
        _tap("VM_2", "master", ""),
    ),
    Fault(
        "tap-down",
        "an instance's interface is down on its host",
        PING_NEAR,
        Place(LEFT, "{VM_2}"),
        _tap("VM_2", "state", "down"),
    ),
    Fault(
        "hairpin-off",
        "a bridge sends nothing back to the port it came from: one's own floating IP is dead",
        Question("VM_1", "91.208.23.11"),
        Place(LEFT, "{VM_1}"),
        _tap("VM_1", "hairpin", "off"),
    ),
    # the wire between
    Fault(
        "vlan-pruned",
        "the switch does not carry a VLAN on one of its ports",
        PING_FAR,
        Place(SWITCH, RIGHT),
        _on(SWITCH, _foreign_table(*_PRUNED, "forward", f'iifname "{LEFT}" vlan id 100 drop')),
        _on(SWITCH, _no_foreign_table(*_PRUNED)),
    ),
    Fault(
        "switch-mtu",
        "a port of the switch takes smaller frames than the others",
        BIG_FAR,
        Place(SWITCH, RIGHT),
        _on(SWITCH, _ip("link", "set", RIGHT, "mtu", SMALL)),
        _on(SWITCH, _ip("link", "set", RIGHT, "mtu", "1500")),
    ),
    Fault(
        "cable-pulled",
        "a host's trunk has no carrier",
        PING_FAR,
        Place(SWITCH, RIGHT),
        _on(SWITCH, _ip("link", "set", RIGHT, "down")),
        _on(SWITCH, _ip("link", "set", RIGHT, "up")),
    ),
    # routing
    Fault(
        "forwarding-off",
        "a host does not route what comes from a bridge",
        PING_ROUTED,
        Place(LEFT, f"net.ipv4.conf.{BRIDGE}.forwarding"),
        _on(LEFT, SetSysctl(f"net.ipv4.conf.{BRIDGE}.forwarding", "0")),
    ),
    Fault(
        "rp-filter-strict",
        "a host drops packets whose sender it would reach by another way",
        PING_OUT,
        Place(LEFT, f"net.ipv4.conf.{UPLINK}.rp_filter"),
        _on(LEFT, SetSysctl(f"net.ipv4.conf.{UPLINK}.rp_filter", "1")),
    ),
    Fault(
        "gateway-absent",
        "a bridge has lost its address: instances find no gateway",
        PING_ROUTED,
        Place(LEFT, f"{_GATEWAY.address} on {BRIDGE}"),
        _on(LEFT, RemoveAddress(_GATEWAY)),
    ),
    Fault(
        "gateway-duplicate",
        "another host has the gateway's address, too",
        PING_ROUTED,
        Place(RIGHT, f"{_GATEWAY.address} on {BRIDGE}"),
        _on(RIGHT, AddAddress(_GATEWAY)),
    ),
    Fault(
        "default-route-absent",
        "a host has no default route",
        PING_OUT,
        Place(LEFT, UPLINK),
        _on(LEFT, _ip("route", "del", "default")),
        _default_route,
    ),
    Fault(
        "uplink-down",
        "a host's external NIC is down",
        PING_OUT,
        Place(LEFT, UPLINK),
        _on(LEFT, _ip("link", "set", UPLINK, "down")),
        _uplink_again,
    ),
    Fault(
        "arp-stale",
        "a host has the MAC of an instance that is no more in its ARP table",
        PING_ROUTED,
        Place(LEFT, f"neighbour {{VM_3_address}} on {BRIDGE_2}"),
        _stale_arp,
        _no_stale_arp,
    ),
    # translation and connection tracking
    Fault(
        "snat-absent",
        "the rules that give packets a public source are gone",
        PING_OUT,
        Place(LEFT, _NAT),
        _on(LEFT, _nft(f"flush chain {_NAT}")),
    ),
    Fault(
        "dnat-absent",
        "a floating IP is not translated to its instance",
        PING_FLOATING,
        Place(RIGHT, f"inet {TABLE} fixed_by_floating"),
        _on(RIGHT, _nft(f"delete element inet {TABLE} fixed_by_floating {{ {FLOATING} }}")),
    ),
    Fault(
        "floating-absent",
        "a floating IP is on no host's uplink",
        PING_FLOATING,
        Place(RIGHT, f"{_PUBLIC.address} on {UPLINK}"),
        _on(RIGHT, RemoveAddress(_PUBLIC)),
    ),
    Fault(
        "bridge-unfiltered",
        "br_netfilter is off for a bridge: connection tracking sees only half of its packets",
        TCP_CROSSED,
        Place(LEFT, BRIDGE),
        _on(LEFT, _link(BRIDGE, "nf_call_iptables", "0")),
    ),
    Fault(
        "connections-flushed",
        "the connection tracking table is empty before the answer comes",
        PING_OUT,
        Place(LEFT, "connection tracking"),
        _forgetful,
        _on(LEFT, SetSysctl(ICMP_TIMEOUT, ICMP_TIMEOUT_S)),
    ),
    # rules
    Fault(
        "rule-dropped",
        "a security group's rule is not in the kernel",
        TCP_ROUTED,
        Place(LEFT, f"inet {TABLE} group-{{VM_3_group}}-ingress"),
        _without_tcp,
    ),
    Fault(
        "rule-widened",
        "a security group lets in everything",
        UDP_ROUTED,
        Place(LEFT, f"inet {TABLE} group-{{VM_3_group}}-ingress"),
        _wide_open,
    ),
    Fault(
        "rule-reordered",
        "a chain's last rule, which drops the rest, is its first",
        PING_ROUTED,
        Place(LEFT, f"inet {TABLE} forward"),
        _last_rule_first,
    ),
    Fault(
        "member-absent",
        "a security group's set of members lacks an instance",
        PING_NEAR,
        Place(LEFT, f"inet {TABLE} members-{{VM_1_group}}"),
        _no_member,
    ),
    Fault(
        "mac-absent",
        "the anti-spoofing set lacks an instance's MAC: it is mute",
        PING_NEAR,
        Place(LEFT, f"bridge {TABLE} macs"),
        _no_mac,
    ),
    Fault(
        "foreign-firewall",
        "another program's nftables table drops what is routed",
        PING_ROUTED,
        Place(LEFT, BRIDGE_2),
        _on(LEFT, _foreign_table(*_FIREWALL, "forward", f'iifname "{BRIDGE}" drop')),
        _on(LEFT, _no_foreign_table(*_FIREWALL)),
    ),
    # leases and instances
    Fault(
        "dhcp-absent",
        "a network's DHCP server does not run",
        Question("VM_1", LEASE),
        Place(LEFT, f"DHCP server on {BRIDGE}"),
        _on(LEFT, StopDhcp(BRIDGE)),
    ),
    Fault(
        "dhcp-second",
        "another host's DHCP server answers, too, and names another gateway",
        Question("VM_1", LEASE),
        Place(RIGHT, f"DHCP server on {BRIDGE}"),
        _two_servers,
    ),
    Fault(
        "instance-gateway",
        "an instance has another host's address as its default gateway",
        PING_ROUTED,
        Place("VM_1", "eth0"),
        _gateway(RIGHT),
        _gateway(LEFT),
    ),
    Fault(
        "instance-mac",
        "an instance has given itself another MAC",
        Question("VM_2", "VM_1"),
        Place("VM_2", "eth0"),
        _on("VM_2", _ip("link", "set", "eth0", "address", STRANGER)),
        _mac_again,
    ),
)

CATALOGUE = {fault.name: fault for fault in FAULTS}
