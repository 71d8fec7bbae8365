"""A host in memory: the same operations, the same refusals, no root.

Ships beside the real kernel door because agents, plans and replays are tested with it. What it
refuses is what Linux refuses; the contract suite holds it to that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

from trunkline.errors import Rejected
from trunkline.hoststate import (
    Address,
    Bridge,
    Cable,
    Connection,
    DhcpServer,
    Election,
    HostConfig,
    HostFacts,
    HostState,
    Plug,
    Route,
    Table,
    Vlan,
    VlanMaking,
)
from trunkline.kernel.interface import NOTHING
from trunkline.kernel.nft_text import RefusedScriptError, run_script
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

DEFAULT_SYSCTLS = {
    "forwarding": "0",
    "rp_filter": "0",
    "arp_ignore": "0",
    "arp_announce": "0",
    "proxy_delay": "80",
    "disable_ipv6": "1",
    "accept_ra": "1",
    "accept_dad": "1",
    "addr_gen_mode": "0",
    "force_forwarding": "0",
}


class FakeKernel:
    """A kernel in memory.

    Attributes:
        foreign_links: Links that are not ours; the trunk and the uplink are among them.
        operations: Everything that was run and took effect, in order.
        tracked: The connection tracking table.
        spaces: Its network namespaces, each a kernel in memory.
        foreign_namespaces: Names of namespaces that are somebody else's.
        acting: The routers' numbers for which it acts, if it stands for them.
    """

    def __init__(
        self,
        links: Collection[str] = ("lo", "eth0", "eth1"),
        making: VlanMaking | None = VlanMaking.KERNEL,
        uplink_address: IPv4Address | None = None,
        ipv6_forwarding: str | None = "force_forwarding",
    ) -> None:
        self.foreign_links = set(links)
        self.making = making
        self.uplink_address = uplink_address
        self.ipv6_forwarding = ipv6_forwarding
        self.bridges: dict[str, Bridge] = {}
        self.vlans: dict[str, Vlan] = {}
        self.taps: dict[str, Plug] = {}
        self.untagged: dict[str, str] = {}
        self.addresses: set[Address] = set()
        self.sysctls: dict[str, str] = {}
        self.tables: dict[tuple[str, str], Table] = {}
        self.dhcp: dict[str, DhcpServer] = {}
        self.tracked: set[Connection] = set()
        self.cables: dict[str, Cable] = {}
        self.routes: set[Route] = set()
        self.proxies: set[Address] = set()
        self.spaces: dict[str, FakeKernel] = {}
        self.foreign_namespaces: set[str] = set()
        self.elections: Mapping[int, Election] = {}
        self.acting: set[int] = set()
        self.operations: list[Operation] = []
        self._countdown: int | None = None
        self._fails_after_effect = False

    def plug_in(self, tap: str, mtu: int = 1500) -> None:
        """Let an instance's interface appear, as a hypervisor makes it."""
        self.taps[tap] = Plug(tap, None, mtu, up=False)

    def plug_out(self, tap: str) -> None:
        """Let an instance's interface vanish."""
        del self.taps[tap]

    def fail_at(self, number: int, *, after_effect: bool = False) -> None:
        """Let the operation ``number`` from now (0 is the next) be refused, once.

        Args:
            number: How many operations succeed before.
            after_effect: Refuse it although it took effect, as when an answer is lost.
        """
        self._countdown, self._fails_after_effect = number, after_effect

    def facts(self, config: HostConfig) -> HostFacts:
        """See ``Kernel.facts``."""
        del config
        return HostFacts(
            vlan_making=self.making,
            links=frozenset(self.foreign_links),
            uplink_address=self.uplink_address,
            acting=frozenset(self.acting & self.elections.keys()),
            transits=tuple(
                (a.link, a.address)
                for a in sorted(self.addresses, key=str)
                if a.link in self.cables and isinstance(a.address, IPv4Interface)
            ),
            ipv6_forwarding=self.ipv6_forwarding,
        )

    def read(
        self,
        config: HostConfig,
        sysctls: Collection[str],
        inner: Mapping[str, Collection[str]] = NOTHING,
    ) -> HostState:
        """See ``Kernel.read``."""
        return HostState(
            bridges=dict(self.bridges),
            vlans=dict(self.vlans),
            plugs=dict(self.taps),
            untagged=dict(self.untagged),
            addresses=frozenset(self.addresses),
            sysctls={k: self._sysctl(k) for k in sysctls if self._has_sysctl(k)},
            tables=dict(self.tables),
            dhcp=dict(self.dhcp),
            cables=dict(self.cables),
            routes=frozenset(self.routes),
            proxies=frozenset(self.proxies),
            spaces={n: s.read(config, inner.get(n, ())) for n, s in self.spaces.items()},
            elections=self.elections,
        )

    def forget(self) -> None:
        """See ``Kernel.forget``; there is no memory beside the state itself."""

    def connections(
        self, spaces: Collection[str] | None = None
    ) -> dict[str, tuple[Connection, ...]]:
        """See ``Kernel.connections``."""
        wanted = self.spaces.keys() if spaces is None else self.spaces.keys() & set(spaces)
        inside = {name: tuple(self.spaces[name].tracked) for name in wanted}
        return {"": tuple(self.tracked), **inside}

    def wait(self, timeout_s: float, wake_fd: int | None = None) -> None:
        """See ``Kernel.wait``; something has always just happened."""

    def run(self, config: HostConfig, operation: Operation) -> None:
        """See ``Kernel.run``."""
        del config
        fails = self._countdown == 0
        if self._countdown is not None:
            self._countdown = None if fails else self._countdown - 1
        if not fails or self._fails_after_effect:
            self._run(operation)
            self.operations.append(operation)
        if fails:
            raise Rejected(f"{operation.command()}: refused, as the test asked")

    def _run(self, operation: Operation) -> None:  # noqa: C901, PLR0912 - a table of operations
        match operation:
            case CreateBridge(bridge):
                self._must_be_free(bridge.name)
                self.bridges[bridge.name] = bridge
            case CreateVlan(vlan):
                self._create_vlan(vlan)
            case ChangeLink(name, changes):
                self._change(name, dict(changes))
            case PlugTrunk(trunk, bridge):
                self._plug_trunk(trunk, bridge)
            case DeleteLink(name):
                self._delete_link(name)
            case AddAddress(address):
                self._add_address(address)
            case RemoveAddress(address):
                _refuse(address not in self.addresses, f"{address} is not there")
                self.addresses.remove(address)
            case AnnounceAddress(address):
                _refuse(address.link not in self._links(), f"no link {address.link}")
            case AnnouncePort(tap, _, vlan):
                plugged = tap in self.taps and self.taps[tap].bridge is not None
                _refuse(not plugged, f"{tap} is no bridge port")
                _refuse(vlan not in self.vlans, f"no link {vlan}")
            case SetSysctl(key, value):
                self._set_sysctl(key, value)
            case RunNft(script):
                self._run_nft(script)
            case StartDhcp(server):
                self._start_dhcp(server)
            case StopDhcp(bridge):
                _refuse(bridge not in self.dhcp, f"no DHCP server on {bridge}")
                del self.dhcp[bridge]
            case ChangeDhcpFiles():
                self._change_dhcp(operation)
            case CutConnections(connections):
                self.tracked -= set(connections)
            case HoldElections(elections):
                self.elections = elections
            case _:
                self._run_routing(operation)

    def _run_routing(self, operation: Operation) -> None:  # noqa: C901 - a table of operations
        """Run an operation on spaces and the ways to them."""
        match operation:
            case CreateSpace(name):
                taken = name in self.spaces or name in self.foreign_namespaces
                _refuse(taken, f"namespace {name} exists")
                self.spaces[name] = FakeKernel(("lo",))
            case DeleteSpace(name):
                self._delete_space(name)
            case CreateCable(cable):
                self._create_cable(cable)
            case InSpace(space, inner):
                _refuse(space not in self.spaces, f"no namespace {space}")
                self.spaces[space]._run(inner)  # noqa: SLF001 - a kernel of the same make
            case AddRoute(route):
                self._add_route(route)
            case RemoveRoute(route):
                _refuse(route not in self.routes, f"{route} is not there")
                self.routes.remove(route)
            case AddProxy(address):
                _refuse(address.link not in self._links(), f"no link {address.link}")
                self.proxies.add(address)
            case RemoveProxy(address):
                _refuse(address not in self.proxies, f"{address} is not there")
                self.proxies.remove(address)

    def _set_sysctl(self, key: str, value: str) -> None:
        link = self._link_of(key)
        _refuse(not self._has_sysctl(key), f"no sysctl {key}")
        self.sysctls[key] = value
        if key.endswith(".disable_ipv6") and value == "1":
            self.addresses = {a for a in self.addresses if a.link != link or not _is_ipv6(a)}

    def _run_nft(self, script: tuple[str, ...]) -> None:
        try:
            self.tables = run_script(self.tables, script)
        except RefusedScriptError as error:
            raise Rejected(f"nft: {error}") from error

    def _links(self) -> set[str]:
        ours = self.bridges.keys() | self.vlans.keys() | self.cables.keys()
        return self.foreign_links | ours | self.taps.keys()

    def _must_be_free(self, name: str) -> None:
        _refuse(name in self._links(), f"{name} exists")

    def _must_be_bridge(self, name: str) -> None:
        _refuse(bool(name) and name not in self.bridges, f"no bridge {name}")

    def _create_vlan(self, vlan: Vlan) -> None:
        self._must_be_free(vlan.name)
        _refuse(vlan.trunk not in self.foreign_links, f"no trunk {vlan.trunk}")
        self._must_be_bridge(vlan.bridge or "")
        self.vlans[vlan.name] = vlan

    def _create_cable(self, cable: Cable) -> None:
        self._must_be_free(cable.name)
        _refuse(cable.space not in self.spaces, f"no namespace {cable.space}")
        space = self.spaces[cable.space]
        space._must_be_free(cable.peer)  # noqa: SLF001 - a kernel of the same make
        if cable.bridge is not None:
            self._must_be_bridge(cable.bridge)
        self.cables[cable.name] = cable
        space.foreign_links.add(cable.peer)

    def _delete_space(self, name: str) -> None:
        _refuse(name not in self.spaces, f"no namespace {name}")
        del self.spaces[name]
        for cable in [c for c in self.cables.values() if c.space == name]:
            self._drop_link(cable.name)
            del self.cables[cable.name]

    def _add_route(self, route: Route) -> None:
        taken = any(r.destination == route.destination for r in self.routes)
        _refuse(taken, f"a route to {route.destination} exists")
        _refuse(route.link is not None and route.link not in self._links(), f"no link {route.link}")
        near = [a.address.network for a in self.addresses if a.link == route.link]
        lost = route.via is not None and not any(route.via in network for network in near)
        _refuse(lost, f"next hop {route.via} is not on {route.link}")
        self.routes.add(route)

    def _change(self, name: str, changes: dict[str, str]) -> None:
        self._must_be_bridge(changes.get("master", ""))
        if name in self.bridges:
            self.bridges[name] = _changed_bridge(self.bridges[name], changes)
            if changes.get("nf_call_ip6tables") == "0":
                self._set_sysctl(f"net.ipv6.conf.{name}.disable_ipv6", "1")
        elif name in self.vlans:
            self.vlans[name] = _changed_vlan(self.vlans[name], changes)
        elif name in self.cables:
            self.cables[name] = _changed_cable(self.cables[name], changes)
        else:
            _refuse(name not in self.taps, f"no link {name}")
            self.taps[name] = _changed_plug(self.taps[name], changes)

    def _plug_trunk(self, trunk: str, bridge: str | None) -> None:
        _refuse(trunk not in self.foreign_links, f"no link {trunk}")
        self._must_be_bridge(bridge or "")
        self.untagged.pop(trunk, None)
        if bridge:
            self.untagged[trunk] = bridge

    def _delete_link(self, name: str) -> None:
        ours = self.bridges.keys() | self.vlans.keys() | self.cables.keys()
        _refuse(name not in ours, f"no link {name}")
        self.bridges.pop(name, None)
        self.vlans.pop(name, None)
        cable = self.cables.pop(name, None)
        if cable is not None and cable.space in self.spaces:
            self.spaces[cable.space].foreign_links.discard(cable.peer)
            self.spaces[cable.space]._drop_link(cable.peer)  # noqa: SLF001 - of the same make
        self._drop_link(name)

    def _drop_link(self, name: str) -> None:
        """Forget what goes with a link."""
        self.vlans = {
            n: replace(v, bridge=None) if v.bridge == name else v for n, v in self.vlans.items()
        }
        self.cables = {
            n: replace(c, bridge=None) if c.bridge == name else c for n, c in self.cables.items()
        }
        self.taps = {
            n: t._replace(bridge=None, hairpin=False) if t.bridge == name else t
            for n, t in self.taps.items()
        }
        self.untagged = {t: b for t, b in self.untagged.items() if b != name}
        self.addresses = {a for a in self.addresses if a.link != name}
        self.routes = {r for r in self.routes if r.link != name}
        self.sysctls = {k: v for k, v in self.sysctls.items() if self._link_of(k) != name}
        # dnsmasq outlives its bridge, and is then found without one

    def _add_address(self, address: Address) -> None:
        _refuse(address.link not in self._links(), f"no link {address.link}")
        _refuse(address in self.addresses, f"{address} exists")
        silent = self._sysctl(f"net.ipv6.conf.{address.link}.disable_ipv6") == "1"
        _refuse(_is_ipv6(address) and silent, f"IPv6 is disabled on {address.link}")
        self.addresses.add(address)

    def _start_dhcp(self, server: DhcpServer) -> None:
        _refuse(server.bridge not in self._links(), f"dnsmasq: unknown interface {server.bridge}")
        self.dhcp[server.bridge] = server

    def _change_dhcp(self, operation: ChangeDhcpFiles) -> None:
        _refuse(operation.bridge not in self.dhcp, f"no DHCP server on {operation.bridge}")
        server = self.dhcp[operation.bridge]
        files = {k: v for k, v in server.files.items() if k not in operation.remove}
        self.dhcp[operation.bridge] = replace(server, files=files | dict(operation.write))

    def _link_of(self, key: str) -> str:
        return key.split(".", 3)[3].rpartition(".")[0]

    def _has_sysctl(self, key: str) -> bool:
        return self._link_of(key) in {"all", *self._links()}

    def _sysctl(self, key: str) -> str:
        return self.sysctls.get(key, DEFAULT_SYSCTLS[key.rpartition(".")[2]])


def _refuse(condition: bool, words: str) -> None:  # noqa: FBT001 - reads as a sentence
    if condition:
        raise Rejected(words)


def _is_ipv6(address: Address) -> bool:
    return isinstance(address.address, IPv6Interface)


def _changed_bridge(bridge: Bridge, changes: dict[str, str]) -> Bridge:
    return replace(
        bridge,
        mtu=int(changes.get("mtu", bridge.mtu)),
        mac=changes.get("address", bridge.mac),
        alias=changes.get("alias", bridge.alias),
        up=_up(changes, up=bridge.up),
        nf_call_iptables=_flag(changes, "nf_call_iptables", now=bridge.nf_call_iptables),
        nf_call_ip6tables=_flag(changes, "nf_call_ip6tables", now=bridge.nf_call_ip6tables),
    )


def _changed_vlan(vlan: Vlan, changes: dict[str, str]) -> Vlan:
    return replace(
        vlan,
        mtu=int(changes.get("mtu", vlan.mtu)),
        alias=changes.get("alias", vlan.alias),
        up=_up(changes, up=vlan.up),
        bridge=_master(changes, vlan.bridge),
    )


def _changed_cable(cable: Cable, changes: dict[str, str]) -> Cable:
    return replace(
        cable,
        mtu=int(changes.get("mtu", cable.mtu)),
        mac=changes.get("address", cable.mac),
        alias=changes.get("alias", cable.alias),
        up=_up(changes, up=cable.up),
        bridge=_master(changes, cable.bridge),
    )


def _changed_plug(plug: Plug, changes: dict[str, str]) -> Plug:
    bridge = _master(changes, plug.bridge)
    hairpin = changes.get("hairpin", "on" if plug.hairpin else "off") == "on"
    _refuse("hairpin" in changes and bridge is None, f"{plug.tap} is no bridge port")
    return plug._replace(
        mtu=int(changes.get("mtu", plug.mtu)),
        up=_up(changes, up=plug.up),
        bridge=bridge,
        hairpin=hairpin and bridge is not None,
    )


def _up(changes: dict[str, str], *, up: bool) -> bool:
    return changes["state"] == "up" if "state" in changes else up


def _flag(changes: dict[str, str], key: str, *, now: bool) -> bool:
    return changes.get(key, str(int(now))) == "1"


def _master(changes: dict[str, str], bridge: str | None) -> str | None:
    return (changes["master"] or None) if "master" in changes else bridge
