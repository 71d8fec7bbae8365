"""The real kernel door: Linux, in the network namespace of the calling process.

What routes for a domain of its own is in a namespace of its own, and has such a door for itself.

Composes the readers and writers beside it. Reading answers from memory that the kernel's own
notifications and generation numbers keep true, so an unchanged host costs next to nothing.
"""

from __future__ import annotations

import errno
import re
import select
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from trunkline.errors import Rejected
from trunkline.hoststate import (
    Address,
    Bridge,
    Cable,
    Connection,
    HostConfig,
    HostFacts,
    HostState,
    Plug,
    Route,
    Vlan,
    VlanMaking,
)
from trunkline.joined import fan
from trunkline.kernel import (
    conntrack,
    features,
    keepalived,
    netlink,
    netns,
    routes,
    sysctl,
    vlan_bpf,
)
from trunkline.kernel.announce import announce, announce_mac, sender
from trunkline.kernel.dnsmasq import Daemons, Dnsmasq
from trunkline.kernel.interface import NOTHING
from trunkline.kernel.links import Link, Links
from trunkline.kernel.nft import Nft
from trunkline.kernel.spaces import Spaces
from trunkline.operations import (
    AddAddress,
    AddProxy,
    AddRoute,
    AnnounceAddress,
    AnnouncePort,
    ChangeDhcpFiles,
    ChangeLink,
    CreateBridge,
    CreateCable,
    CreateSpace,
    CreateVlan,
    CutConnections,
    DeleteLink,
    DeleteSpace,
    HoldElections,
    InSpace,
    Operation,
    PlugTrunk,
    RemoveAddress,
    RemoveProxy,
    RemoveRoute,
    RunNft,
    SetSysctl,
    StartDhcp,
    StopDhcp,
)
from trunkline.ownership import ADDRESS_PROTOCOL, LINK_GROUP, TAP_ID, elected, plugged_trunk

VLAN_NAME = re.compile(r"vlan\d+(-\d+)?")
WAY_NAME = re.compile(r"gw(\d+|-.{1,12})|tr.{11}")
TAP_NAME = re.compile(r"tap.{11}")
IFA_F_NODAD = 0x02  # if_addr.h
NTF_MASTER, NUD_REACHABLE = 0x04, 0x02  # neighbour.h; on a bridge the latter is a learned MAC
CHANGES = {"mtu": "mtu", "address": "address", "alias": "ifalias", "state": "state"}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What links and addresses made up when last looked at.

    Attributes:
        basis: What it depends on beside the links; another one makes it void.
        state: Bridges, VLAN devices, plugs and addresses.
    """

    basis: tuple[HostConfig, int, int]
    state: HostState
    facts: HostFacts


@dataclass(frozen=True, slots=True)
class _Ways:
    """The ways to the spaces, when last looked at; void when a space has changed since."""

    version: int
    cables: Mapping[str, Cable]
    routes: frozenset[Route]
    proxies: frozenset[Address]


class LinuxKernel:
    """This machine. See ``interface.Kernel`` for what each method promises."""

    def __init__(
        self, found: features.Features | None = None, daemons: Daemons | None = None
    ) -> None:
        self._features = found or features.find()
        self._daemons = daemons or Daemons()
        self._is_inner = daemons is not None
        self.place = netns.here()
        self._spaces = Spaces(lambda: LinuxKernel(self._features, self._daemons))
        self._ways: _Ways | None = None
        self._requests: IPRoute | None = None
        self._links = Links()
        self._nft = Nft()
        self._dnsmasq = Dnsmasq(self._daemons)
        self._sysctls: dict[str, str] = {}
        self._seen: _Seen | None = None
        self._frames: socket.socket | None = None

    def close(self) -> None:
        """Give the sockets back."""
        self._spaces.close()
        if self._frames is not None:
            self._frames.close()
        self._links.close()
        self._nft.close()
        self._dnsmasq.forget()
        if not self._is_inner:
            self._daemons.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Give back the socket for requests, of which a host with many spaces would have many."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    @property
    def _rtnl(self) -> IPRoute:
        if self._requests is None:
            self._requests = IPRoute(ext_ack=True)
        return self._requests

    def facts(self, config: HostConfig) -> HostFacts:
        """See ``Kernel.facts``."""
        return self._look(config).facts

    def forget(self) -> None:
        """See ``Kernel.forget``."""
        self._links.forget()
        self._nft.forget()
        self._dnsmasq.forget()
        self._sysctls.clear()
        self._seen = self._ways = None
        self._spaces.forget()

    def read(
        self,
        config: HostConfig,
        sysctls: Collection[str],
        inner: Mapping[str, Collection[str]] = NOTHING,
    ) -> HostState:
        """See ``Kernel.read``."""
        seen = self._look(config).state
        spaces = self._spaces.read(config, inner)
        ways = self._find_ways()
        return replace(
            seen,
            sysctls=dict(self._values(sysctls)),
            tables=self._nft.read(),
            dhcp=self._dnsmasq.read(config.state_dir),
            cables=ways.cables,
            routes=ways.routes,
            proxies=ways.proxies,
            spaces=spaces,
            elections=keepalived.read(config.state_dir),
        )

    def connections(
        self, spaces: Collection[str] | None = None
    ) -> dict[str, tuple[Connection, ...]]:
        """See ``Kernel.connections``."""
        found = {"": tuple(conntrack.read())}
        for name in self._spaces.doors.keys() if spaces is None else spaces:
            with suppress(Rejected), netns.enter(name):
                found[name] = tuple(conntrack.read())
        return found

    def filenos(self) -> tuple[int, int]:
        """Return the descriptors that become readable when something changes here."""
        return self._links.fileno(), self._nft.fileno()

    def is_quiet(self) -> bool:
        """Return whether nothing has happened in this namespace since the last reading."""
        return self._dnsmasq.is_quiet() and not _readable(self.filenos(), 0)

    def is_marked(self, mark: str) -> bool:
        """Return whether this namespace's loopback says that it is ours."""
        self._links.refresh()
        loopback = self._links.by_name.get("lo")
        return loopback is not None and _is_ours(loopback) and loopback.alias == mark

    def wait(self, timeout_s: float, wake_fd: int | None = None) -> None:
        """See ``Kernel.wait``."""
        watched = [*self.filenos(), *self._spaces.filenos(), self._daemons.fileno()]
        watched += [] if wake_fd is None else [wake_fd]
        _readable(watched, timeout_s)

    def run(self, config: HostConfig, operation: Operation) -> None:
        """See ``Kernel.run``."""
        with _refusals(operation):
            self._run(config, operation)

    def _look(self, config: HostConfig) -> _Seen:
        """Return what links and addresses make up, from memory as far as it is still true.

        An instance's interface that comes, goes or changes is the everyday case, and costs the
        same on a host with a thousand of them.
        """
        self._links.refresh()
        changed, self._links.changed = self._links.changed, set()
        taps = {name for name in changed if TAP_NAME.fullmatch(name)}
        basis = config, self._links.addresses_version, self._links.tc_version
        if self._seen is None or self._seen.basis != basis or changed != taps:
            self._ways = None
            self._seen = _Seen(basis, self._read_links(config), self._find_facts(config))
        elif taps:
            found = self._plugs(self._links.by_name[n] for n in taps if n in self._links.by_name)
            changes = {name: found.get(name) for name in taps}
            plugs = fan(self._seen.state.plugs, TAP_ID).replaced(changes, TAP_ID)
            self._seen = replace(self._seen, state=replace(self._seen.state, plugs=plugs))
        return self._seen

    def _find_facts(self, config: HostConfig) -> HostFacts:
        by_index = self._links.by_index
        every = [
            (by_index[index], interface)
            for (index, interface), protocol in self._links.addresses.items()
            if protocol != ADDRESS_PROTOCOL and index in by_index and not _is_ours(by_index[index])
        ]
        foreign = [(link, i) for link, i in every if isinstance(i, IPv4Interface)]
        foreign6 = [(link, i) for link, i in every if isinstance(i, IPv6Interface)]
        marks = {i: elected(i.ip) for link, i in foreign if link.name == "lo"}
        return HostFacts(
            vlan_making=self._features.vlan_making,
            links=frozenset(filter(self._is_foreign, self._links.by_name)),
            uplink_address=next((i.ip for link, i in foreign if link.name == config.uplink), None),
            foreign_prefixes=tuple(
                (interface.network, link.name)
                for link, interface in foreign
                if marks.get(interface) is None
            ),
            acting=frozenset(number for number in marks.values() if number is not None),
            trunk_mtus={
                nic: self._links.by_name[nic].mtu
                for nic in config.trunks.values()
                if nic in self._links.by_name
            },
            missing=self._features.missing,
            foreign_masters=tuple(sorted(self._foreign_masters())),
            transits=tuple(sorted(self._transits(), key=str)),
            foreign_prefixes6=tuple((i.network, link.name) for link, i in foreign6),
            ipv6_forwarding=_ipv6_forwarding(),
            has_ipv6=sysctl.read("net.ipv6.conf.all.forwarding") is not None,
        )

    def _transits(self) -> Iterator[tuple[str, IPv4Interface]]:
        for index, interface in self._links.addresses:
            link = self._links.by_index.get(index)
            if link is not None and _is_transit(link) and isinstance(interface, IPv4Interface):
                yield link.name, interface

    def _foreign_masters(self) -> Iterator[tuple[str, str]]:
        for link in self._links.by_index.values():
            master = self._links.by_index.get(link.master)
            if master and self._is_foreign(link.name) and not _is_ours(master):
                yield link.name, master.name

    def _is_foreign(self, name: str) -> bool:
        """Return whether a link is neither ours nor an instance's."""
        return not (_is_ours(self._links.by_name[name]) or TAP_NAME.fullmatch(name))

    def _read_links(self, config: HostConfig) -> HostState:
        links = self._links.by_index.values()
        bridges = {b.name: b for b in map(_bridge, filter(_is_our_bridge, links))}
        return HostState(
            bridges=bridges,
            vlans={v.name: v for v in self._vlans(config)},
            plugs=fan(self._plugs(k for k in links if TAP_NAME.fullmatch(k.name)), TAP_ID),
            untagged=dict(self._untagged(config)),
            addresses=frozenset(self._addresses(config)),
        )

    def _untagged(self, config: HostConfig) -> Iterator[tuple[str, str]]:
        """Yield the NICs in bridges of ours: configured trunks, and what a bridge says is its."""
        for link in self._links.by_index.values():
            master = self._links.by_index.get(link.master)
            if master is None or _is_ours(link) or not _is_our_bridge(master):
                continue
            if link.name in (plugged_trunk(master.alias), *config.trunks.values()):
                yield link.name, master.name

    def _vlans(self, config: HostConfig) -> Iterator[Vlan]:
        ours = [k for k in self._links.by_index.values() if _is_ours(k)]
        for link in ours:
            if link.kind == "vlan" and VLAN_NAME.fullmatch(link.name):
                trunk = self._name(link.lower) or ""
                yield self._vlan(link, link.vlan_id, trunk, VlanMaking.KERNEL)
        pairs = [k for k in ours if k.kind == "veth" and VLAN_NAME.fullmatch(k.name)]
        if not pairs and self._features.vlan_making is not VlanMaking.BPF:
            return
        found = vlan_bpf.read(self._links, pairs, config.trunks.values())
        for name, (vlan_id, trunk) in found.items():
            present = self._links.by_name.get(name)
            if present is not None and present in pairs:
                yield self._vlan(present, vlan_id, trunk, VlanMaking.BPF)
            elif present is None:  # an entry on the trunk whose device is gone
                yield Vlan(name, "", 0, 0, None, "", VlanMaking.BPF, up=False)

    def _vlan(self, link: Link, vlan_id: int, trunk: str, making: VlanMaking) -> Vlan:
        mate = self._links.by_name.get(vlan_bpf.mate_name(link.name))
        ends = [link] if making is VlanMaking.KERNEL or mate is None else [link, mate]
        return Vlan(
            name=link.name,
            trunk=trunk,
            vlan_id=vlan_id,
            mtu=min(end.mtu for end in ends),
            bridge=self._name(link.master),
            alias=link.alias,
            making=making,
            up=all(end.up for end in ends),
        )

    def _plugs(self, taps: Iterable[Link]) -> dict[str, Plug]:
        return {
            tap.name: Plug(tap.name, self._name(tap.master), tap.mtu, tap.up, tap.hairpin)
            for tap in taps
            if not _is_ours(tap)
        }

    def _name(self, index: int) -> str | None:
        link = self._links.by_index.get(index)
        return link.name if link else None

    def _addresses(self, config: HostConfig) -> Iterator[Address]:
        for (index, interface), protocol in self._links.addresses.items():
            link = self._links.by_index.get(index)
            if link is None:
                continue
            floating = link.name == config.uplink and protocol == ADDRESS_PROTOCOL
            if floating or _is_our_bridge(link) or _is_cable(link):
                yield Address(link.name, interface)

    def _find_ways(self) -> _Ways:
        """Return the ways to spaces, from memory while neither links nor spaces have changed."""
        if self._ways is None or self._ways.version != self._spaces.version:
            links = self._links
            self._ways = _Ways(
                version=self._spaces.version,
                cables={k.name: self._cable(k) for k in links.by_index.values() if _is_way(k)},
                routes=frozenset(routes.read_routes(links)),
                proxies=frozenset(routes.read_proxies(links)),
            )
        return self._ways

    def _cable(self, link: Link) -> Cable:
        space, peer = self._far_end(link)
        return Cable(
            name=link.name,
            space=space,
            peer=peer.name if peer else "",
            mac=peer.mac if peer else "",
            mtu=min(link.mtu, peer.mtu) if peer else link.mtu,
            bridge=self._name(link.master),
            alias=link.alias,
            up=link.up and peer is not None and peer.up,
        )

    def _far_end(self, link: Link) -> tuple[str, Link | None]:
        """Return the space that a cable leads to, and its end there; no name if to none of ours."""
        for name, door in self._spaces.doors.items():
            peer = door.kernel.link(link.abroad)
            if peer and peer.abroad == link.index and _is_cable(peer):
                return name, peer
        return "", None

    def link(self, index: int) -> Link | None:
        """Return a link of this namespace, as last seen."""
        return self._links.by_index.get(index)

    def _values(self, keys: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield sysctls of links that exist, from memory unless the kernel said they changed."""
        self._drop_stale_sysctls()
        for key in keys:
            link = sysctl.link_of(key)
            if link is not None and link not in self._links.by_name:
                continue
            value = self._sysctls.get(key)
            if value is None:
                value = sysctl.read(key)
            if value is not None:
                self._sysctls[key] = value
                yield key, value

    def _drop_stale_sysctls(self) -> None:
        stale = self._links.stale_sysctls
        if not stale:
            return
        if min(stale) < 0:
            self._sysctls.clear()
        names = {self._name(index) for index in stale}
        gone = [k for k in self._sysctls if sysctl.link_of(k) in names]
        for key in gone:
            del self._sysctls[key]
        stale.clear()

    def _run(self, config: HostConfig, operation: Operation) -> None:  # noqa: C901, PLR0912 - a table of operations
        match operation:
            case CreateBridge(bridge):
                self._create_bridge(bridge)
            case CreateVlan(vlan):
                self._create_vlan(vlan)
            case ChangeLink(name, changes):
                self._change_link(name, dict(changes))
            case PlugTrunk(trunk, bridge):
                self._plug_trunk(trunk, bridge)
            case DeleteLink(name):
                self._delete_link(name, config)
            case AddAddress(address):
                self._address("add", address)
            case RemoveAddress(address):
                self._address("del", address)
            case AnnounceAddress(address):
                announce(address)
            case AnnouncePort():
                self._announce_port(operation)
            case SetSysctl(key, value):
                self._sysctls.pop(key, None)
                sysctl.write(key, value)
            case RunNft():
                self._nft.run(operation)
            case StartDhcp():
                self._dnsmasq.start(config.state_dir, operation)
            case StopDhcp():
                self._dnsmasq.stop(config.state_dir, operation)
            case ChangeDhcpFiles():
                self._dnsmasq.change_files(config.state_dir, operation)
            case CutConnections(connections):
                conntrack.cut(connections)
            case HoldElections(elections):
                keepalived.hold(config.state_dir, elections)
            case _:
                self._run_routing(config, operation)

    def _run_routing(self, config: HostConfig, operation: Operation) -> None:
        """Carry out an operation on spaces and the ways to them."""
        self._ways = None
        match operation:
            case CreateSpace(name):
                self._spaces.create(config, name)
            case DeleteSpace(name):
                self._spaces.delete(config, name)
            case CreateCable(cable):
                self._create_cable(cable)
            case InSpace(space, inner):
                with self._spaces.inside(space, config) as (kernel, own):
                    kernel.run(own, inner)
            case AddRoute(route) | RemoveRoute(route):
                index = None if route.link is None else self._index(route.link)
                verb = "add" if isinstance(operation, AddRoute) else "del"
                routes.change_route(self._rtnl, verb, route, index)
            case AddProxy(address) | RemoveProxy(address):
                verb = "add" if isinstance(operation, AddProxy) else "del"
                routes.change_proxy(self._rtnl, verb, address, self._index(address.link))

    def _create_cable(self, cable: Cable) -> None:
        """Make a cable; the groups, which make it ours, come in the message that creates it."""
        more = {} if cable.bridge is None else {"master": self._ours(cable.bridge).index}
        with netns.opened(cable.space) as fd:
            far = {"ifname": cable.peer, "address": cable.mac, "net_ns_fd": fd}
            self._rtnl.link(
                "add",
                ifname=cable.name,
                kind="veth",
                mtu=cable.mtu,
                group=LINK_GROUP,
                peer=far | {"mtu": cable.mtu, "group": LINK_GROUP},
            )
        netns.up(cable.space, cable.peer)
        self._finish(cable.name, cable.alias, more)

    def _change_cable(self, link: Link, changes: dict[str, str]) -> None:
        """Change a cable: its MAC is the far end's, its MTU and state are both ends'."""
        space, peer = self._far_end(link)
        plain = self._attributes(changes)
        far = {k: v for k, v in plain.items() if k in ("address", "mtu", "state")}
        near = {k: v for k, v in plain.items() if k != "address"}
        if far and peer is not None:
            with netns.enter(space), IPRoute(ext_ack=True) as rtnl:
                rtnl.link("set", index=peer.index, **far)
        if near:
            self._rtnl.link("set", index=link.index, **near)
        self._read_back(link.index)

    def _announce_port(self, operation: AnnouncePort) -> None:
        """Move the MAC to its port on the bridge, which no frame of our own would do.

        A port without a carrier learns nothing (EPERM, net/bridge/br_fdb.c), and nobody is there
        to be reached; the instance's first frame will do it.
        """
        try:
            self._rtnl.fdb(
                "replace",
                ifindex=self._index(operation.tap),
                lladdr=operation.mac,
                flags=NTF_MASTER,
                state=NUD_REACHABLE,
            )
        except NetlinkError as error:
            if error.code != errno.EPERM:
                raise
        self._frames = self._frames or sender()
        announce_mac(operation.vlan, operation.mac, self._frames)

    def _create_bridge(self, bridge: Bridge) -> None:
        """Make a bridge; its group, which makes it ours, comes in the message that creates it."""
        self._rtnl.link(
            "add",
            ifname=bridge.name,
            kind="bridge",
            address=bridge.mac,
            mtu=bridge.mtu,
            group=LINK_GROUP,
            br_forward_delay=0,
            br_stp_state=0,
            br_mcast_snooping=0,
            br_nf_call_iptables=1,
            br_nf_call_ip6tables=int(bridge.nf_call_ip6tables),
        )
        self._finish(bridge.name, bridge.alias, {})

    def _create_vlan(self, vlan: Vlan) -> None:
        master = self._ours(vlan.bridge or "").index
        trunk = self._index(vlan.trunk)
        if vlan.making is VlanMaking.KERNEL:
            self._rtnl.link(
                "add",
                ifname=vlan.name,
                kind="vlan",
                link=trunk,
                vlan_id=vlan.vlan_id,
                mtu=vlan.mtu,
                group=LINK_GROUP,
            )
        else:
            vlan_bpf.create(self._rtnl, self._links, vlan)
            self._up(vlan_bpf.mate_name(vlan.name))
        self._finish(vlan.name, vlan.alias, {"master": master})

    def _finish(self, name: str, alias: str, more: Mapping[str, object]) -> None:
        """Give a new link its alias and master, and bring it up."""
        self._links.refresh()
        _no_ipv6(name)
        self._rtnl.link("set", index=self._index(name), ifalias=alias, state="up", **more)

    def _up(self, name: str) -> None:
        self._links.refresh()
        _no_ipv6(name)
        self._rtnl.link("set", index=self._index(name), state="up")

    def _change_link(self, name: str, changes: dict[str, str]) -> None:
        index = self._index(name)
        if _is_cable(self._links.by_index[index]):
            self._change_cable(self._ours(name), changes)
            return
        index = index if TAP_NAME.fullmatch(name) else self._ours(name).index
        plain = self._attributes(changes)
        if plain.get("master"):
            _no_ipv6(name)
        if plain:
            self._rtnl.link("set", index=index, **plain)
        self._change_bridge(index, {k: v for k, v in changes.items() if k.startswith("nf_call_")})
        if changes.get("nf_call_ip6tables") == "0":
            _no_ipv6(name)
            self._sysctls.pop(f"net.ipv6.conf.{name}.disable_ipv6", None)
        if "hairpin" in changes:
            mode = int(changes["hairpin"] == "on")
            self._rtnl.link("set", index=index, kind="bridge_slave", mode=mode)
        mate = self._links.by_name.get(vlan_bpf.mate_name(name))
        if mate is not None and _is_ours(mate):
            self._rtnl.link("set", index=mate.index, **_shared(plain))
        self._read_back(index)

    def _change_bridge(self, index: int, changes: Mapping[str, str]) -> None:
        calls = {f"br_{key}": int(value) for key, value in changes.items()}
        if calls:
            self._rtnl.link("set", index=index, kind="bridge", **calls)

    def _plug_trunk(self, trunk: str, bridge: str | None) -> None:
        link = self._links.by_index[self._index(trunk)]
        place = self._links.by_index.get(link.master)
        if place is not None and not _is_our_bridge(place):
            raise Rejected(f"{trunk} is plugged into {place.name}, which is not Trunkline's")
        target = self._ours(bridge) if bridge else None
        if target and target.mtu > link.mtu:
            raise Rejected(f"mtu {target.mtu} is more than trunk {trunk} carries: {link.mtu}")
        self._rtnl.link("set", index=link.index, master=target.index if target else 0)
        self._read_back(link.index)

    def _attributes(self, changes: Mapping[str, str]) -> dict[str, object]:
        """Return the changes that any link can have, in pyroute2's words."""
        plain: dict[str, object] = {CHANGES[k]: v for k, v in changes.items() if k in CHANGES}
        if "mtu" in changes:
            plain["mtu"] = int(changes["mtu"])
        if "master" in changes:
            plain["master"] = self._ours(changes["master"]).index if changes["master"] else 0
        return plain

    def _read_back(self, index: int) -> None:
        """Take in what has become of a link; not all is notified about one that is down."""
        self._links.refresh()
        link = self._links.by_index.get(index)
        if link is not None and not link.up:
            self._links.reread(index)

    def _delete_link(self, name: str, config: HostConfig) -> None:
        self._links.refresh()
        gone = name not in self._links.by_name  # a tc-BPF device may have left its entry behind
        if VLAN_NAME.fullmatch(name) and (gone or self._ours(name).kind == "veth"):
            vlan_bpf.delete(self._rtnl, self._links, name, config.trunks.values())
        else:
            self._rtnl.link("del", index=self._ours(name).index)

    def _address(self, verb: str, address: Address) -> None:
        interface = address.address
        more: dict[str, object] = {}
        if isinstance(interface, IPv6Interface):
            more["flags"] = IFA_F_NODAD  # the server hands it out once; nobody need wait for it
        elif interface.network.prefixlen < interface.max_prefixlen - 1:
            more["broadcast"] = str(interface.network.broadcast_address)
        index = self._index(address.link)
        self._rtnl.addr(
            verb,
            index=index,
            address=str(interface.ip),
            prefixlen=interface.network.prefixlen,
            proto=ADDRESS_PROTOCOL,
            **more,
        )
        if verb == "add" and isinstance(interface, IPv6Interface):
            self._links.reread_address(index, interface)

    def _ours(self, name: str) -> Link:
        """Return a link, unless it is not ours: between plan and deed it may have changed hands."""
        link = self._links.by_index[self._index(name)]
        if not _is_ours(link):
            raise Rejected(f"link {name} is not Trunkline's (group {LINK_GROUP}); it stays")
        return link

    def _index(self, name: str) -> int:
        self._links.refresh()
        link = self._links.by_name.get(name)
        if link is None:
            raise Rejected(f"there is no link {name!r}")
        return link.index


def _readable(filenos: Iterable[int], timeout_s: float) -> bool:
    """Wait until one of many descriptors is readable; return whether one is."""
    watched = select.poll()
    for fileno in filenos:
        watched.register(fileno, select.POLLIN)
    return bool(watched.poll(timeout_s * 1000))


@contextmanager
def _refusals(operation: Operation) -> Iterator[None]:
    """Have every refusal carry the command that was refused."""
    command = operation.command().splitlines()[0]
    with netlink.refusals(command):
        try:
            yield
        except Rejected as error:
            raise Rejected(f"{command}: {error}") from error


def _no_ipv6(link: str) -> None:
    """Keep the kernel from having a link-local address of its own on a tenant's segment."""
    key = f"net.ipv6.conf.{link}.disable_ipv6"
    if sysctl.read(key) == "0":
        sysctl.write(key, "1")


def _ipv6_forwarding() -> str | None:
    """Return the sysctl by which a link routes IPv6; see ``HostFacts.ipv6_forwarding``."""
    if sysctl.read("net.ipv6.conf.default.force_forwarding") is not None:
        return "force_forwarding"
    return "forwarding" if sysctl.read("net.ipv6.conf.all.forwarding") == "1" else None


def _shared(changes: Mapping[str, object]) -> dict[str, object]:
    """Return the changes that hold for both ends of a tc-BPF VLAN device."""
    return {k: v for k, v in changes.items() if k in ("mtu", "state")}


def _is_ours(link: Link) -> bool:
    return link.group == LINK_GROUP


def _is_our_bridge(link: Link) -> bool:
    return _is_ours(link) and link.kind == "bridge"


def _is_cable(link: Link) -> bool:
    """Return whether a link is an end of a cable between a host and a space, either end."""
    return _is_ours(link) and link.kind == "veth" and link.abroad != 0


def _is_way(link: Link) -> bool:
    """Return whether a link is the host's end of a cable."""
    return _is_ours(link) and link.kind == "veth" and bool(WAY_NAME.fullmatch(link.name))


def _is_transit(link: Link) -> bool:
    return _is_way(link) and link.name.startswith("tr")


def _bridge(link: Link) -> Bridge:
    calls = link.nf_call_iptables, link.nf_call_ip6tables
    return Bridge(link.name, link.mac, link.mtu, link.alias, link.up, *calls)
