"""The real kernel door: Linux, in the network namespace of the calling process.

Composes the readers and writers beside it. Reading answers from memory that the kernel's own
notifications and generation numbers keep true, so an unchanged host costs next to nothing.
"""

from __future__ import annotations

import re
import select
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pyroute2 import IPRoute

from trunkline.errors import Rejected
from trunkline.hoststate import (
    Address,
    Bridge,
    Connection,
    HostConfig,
    HostFacts,
    HostState,
    Plug,
    Vlan,
    VlanMaking,
)
from trunkline.kernel import conntrack, features, netlink, sysctl, vlan_bpf
from trunkline.kernel.announce import announce
from trunkline.kernel.dnsmasq import Dnsmasq
from trunkline.kernel.links import Link, Links
from trunkline.kernel.nft import Nft
from trunkline.operations import (
    AddAddress,
    AnnounceAddress,
    ChangeDhcpFiles,
    ChangeLink,
    CreateBridge,
    CreateVlan,
    CutConnections,
    DeleteLink,
    Operation,
    RemoveAddress,
    RunNft,
    SetSysctl,
    StartDhcp,
    StopDhcp,
)
from trunkline.ownership import ADDRESS_PROTOCOL, LINK_GROUP

VLAN_NAME = re.compile(r"vlan\d+")
TAP_NAME = re.compile(r"tap.{11}")
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


class LinuxKernel:
    """This machine. See ``interface.Kernel`` for what each method promises."""

    def __init__(self) -> None:
        self._features = features.find()
        self._rtnl = IPRoute(ext_ack=True)
        self._links = Links()
        self._nft = Nft()
        self._dnsmasq = Dnsmasq()
        self._sysctls: dict[str, str] = {}
        self._seen: _Seen | None = None

    def close(self) -> None:
        """Give the sockets back."""
        self._links.close()
        self._nft.close()
        self._rtnl.close()

    def facts(self, config: HostConfig) -> HostFacts:
        """See ``Kernel.facts``."""
        return self._look(config).facts

    def forget(self) -> None:
        """See ``Kernel.forget``."""
        self._links.forget()
        self._nft.forget()
        self._dnsmasq.forget()
        self._sysctls.clear()
        self._seen = None

    def read(self, config: HostConfig, sysctls: Collection[str]) -> HostState:
        """See ``Kernel.read``."""
        return replace(
            self._look(config).state,
            sysctls=dict(self._values(sysctls)),
            tables=self._nft.read(),
            dhcp=self._dnsmasq.read(config.state_dir),
        )

    def connections(self) -> tuple[Connection, ...]:
        """See ``Kernel.connections``."""
        return tuple(conntrack.read())

    def wait(self, timeout_s: float, wake_fd: int | None = None) -> None:
        """See ``Kernel.wait``."""
        watched = [self._links.fileno(), self._nft.fileno()]
        watched += [] if wake_fd is None else [wake_fd]
        select.select(watched, [], [], timeout_s)

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
            self._seen = _Seen(basis, self._read_links(config), self._find_facts(config))
        elif taps:
            plugs = {**self._seen.state.plugs}
            for name in taps:
                plugs.pop(name, None)
            plugs |= self._plugs(self._links.by_name[n] for n in taps if n in self._links.by_name)
            self._seen = replace(self._seen, state=replace(self._seen.state, plugs=plugs))
        return self._seen

    def _find_facts(self, config: HostConfig) -> HostFacts:
        by_index = self._links.by_index
        foreign = [
            (by_index[index], interface)
            for (index, interface), protocol in self._links.addresses.items()
            if protocol != ADDRESS_PROTOCOL and index in by_index and not _is_ours(by_index[index])
        ]
        return HostFacts(
            vlan_making=self._features.vlan_making,
            links=frozenset(filter(self._is_foreign, self._links.by_name)),
            uplink_address=next((i.ip for link, i in foreign if link.name == config.uplink), None),
            foreign_prefixes=tuple((interface.network, link.name) for link, interface in foreign),
            missing=self._features.missing,
        )

    def _is_foreign(self, name: str) -> bool:
        """Return whether a link is neither ours nor an instance's."""
        return not (_is_ours(self._links.by_name[name]) or TAP_NAME.fullmatch(name))

    def _read_links(self, config: HostConfig) -> HostState:
        links = self._links.by_index.values()
        bridges = {b.name: b for b in map(_bridge, filter(_is_our_bridge, links))}
        return HostState(
            bridges=bridges,
            vlans={v.name: v for v in self._vlans(config)},
            plugs=self._plugs(k for k in links if TAP_NAME.fullmatch(k.name)),
            addresses=frozenset(self._addresses(config)),
        )

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
            if floating or _is_our_bridge(link):
                yield Address(link.name, interface)

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
            case DeleteLink(name):
                self._delete_link(name, config)
            case AddAddress(address):
                self._address("add", address)
            case RemoveAddress(address):
                self._address("del", address)
            case AnnounceAddress(address):
                announce(address)
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
        index = self._index(name) if TAP_NAME.fullmatch(name) else self._ours(name).index
        plain = self._attributes(changes)
        if plain.get("master"):
            _no_ipv6(name)
        if plain:
            self._rtnl.link("set", index=index, **plain)
        if "nf_call_iptables" in changes:
            value = int(changes["nf_call_iptables"])
            self._rtnl.link("set", index=index, kind="bridge", br_nf_call_iptables=value)
        if "hairpin" in changes:
            mode = int(changes["hairpin"] == "on")
            self._rtnl.link("set", index=index, kind="bridge_slave", mode=mode)
        mate = self._links.by_name.get(vlan_bpf.mate_name(name))
        if mate is not None and _is_ours(mate):
            self._rtnl.link("set", index=mate.index, **_shared(plain))
        self._read_back(index)

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
        if gone or self._ours(name).kind == "veth":
            vlan_bpf.delete(self._rtnl, self._links, name, config.trunks.values())
        else:
            self._rtnl.link("del", index=self._index(name))

    def _address(self, verb: str, address: Address) -> None:
        interface = address.address
        more: dict[str, object] = {}
        if interface.network.prefixlen < interface.max_prefixlen - 1:
            more["broadcast"] = str(interface.network.broadcast_address)
        self._rtnl.addr(
            verb,
            index=self._index(address.link),
            address=str(interface.ip),
            prefixlen=interface.network.prefixlen,
            proto=ADDRESS_PROTOCOL,
            **more,
        )

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


def _shared(changes: Mapping[str, object]) -> dict[str, object]:
    """Return the changes that hold for both ends of a tc-BPF VLAN device."""
    return {k: v for k, v in changes.items() if k in ("mtu", "state")}


def _is_ours(link: Link) -> bool:
    return link.group == LINK_GROUP


def _is_our_bridge(link: Link) -> bool:
    return _is_ours(link) and link.kind == "bridge"


def _bridge(link: Link) -> Bridge:
    return Bridge(link.name, link.mac, link.mtu, link.alias, link.up, link.nf_call_iptables)
