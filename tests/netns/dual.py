"""Two hosts on a trunk with instances of two tenants, in both families, and no server.

Both tenants' networks are on one router: the default one, or one of their own, which may be placed.

The hosts are as ``reconcile`` makes them from snapshots written here, on the real kernel. Knows
nothing of what the tests expect.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from trunkline.agent.reconcile import Outcome, reconcile
from trunkline.core.links import advertiser
from trunkline.hoststate import HostConfig
from trunkline.kernel import netns
from trunkline.kernel.linux import LinuxKernel
from trunkline.lab import build
from trunkline.lab.capture import Capture
from trunkline.model import (
    AddressMode,
    Direction,
    DomainId,
    FixedIp,
    GroupId,
    HostName,
    NetworkId,
    PortId,
    ProjectId,
    RouterId,
    Rule,
    RuleId,
    SubnetId,
    link_local,
)
from trunkline.operations import DeleteSpace, StopDhcp
from trunkline.ownership import space_name, tap_name
from trunkline.snapshot import (
    GroupView,
    HostSnapshot,
    NetworkView,
    PortView,
    RouterView,
    SubnetView,
)

PREFIX = f"dual{os.getpid()}-"
SWITCH, OUTSIDE = "switch", "outside"
HOSTS = ("compute1", "compute2")
TENANT = ProjectId("tenant")
GROUPS = {100: GroupId("1111aaaa-group"), 102: GroupId("2222bbbb-group")}
ROUTER = RouterView(RouterId("router"), TENANT, "default", True, True, True, True)  # noqa: FBT003 - the default router, with all it can do
OWN_ROUTER = replace(ROUTER, id=RouterId("cccccccc-33-own"), name="own", is_default=False)
PLACED_ROUTER = replace(
    OWN_ROUTER, id=RouterId("dddddddd-44-placed"), name="placed", hosts=(HostName(HOSTS[0]),)
)
ROUTERS = (ROUTER, OWN_ROUTER, PLACED_ROUTER)
PREFIXES = {100: IPv6Network("2001:db8:100::/64"), 102: IPv6Network("2001:db8:102::/64")}
MODES = {100: AddressMode.SLAAC, 102: AddressMode.STATEFUL}
ABSENT = IPv6Network("2001:db8:104::/64")
"""A tenant's, on neither host."""
BEYOND = IPv6Address("2001:db8:ffff::1")
BEYOND_ALL = IPv6Network((BEYOND - 1, 64))
"""What answers behind the hosts' uplinks, and where it is."""


@dataclass(frozen=True)
class Instance:
    """An instance's place; ``number`` makes its port, MAC and addresses."""

    name: str
    number: int
    vlan_id: int
    host: str

    @property
    def mac(self) -> str:
        """Return its MAC."""
        return f"fa:16:3e:00:00:{self.number:02x}"

    @property
    def address(self) -> IPv6Address:
        """Return its IPv6 address: made of its MAC, or given."""
        prefix = PREFIXES[self.vlan_id]
        if MODES[self.vlan_id] is AddressMode.STATEFUL:
            return prefix[0x50 + self.number]
        return prefix[int(link_local(self.mac)) & (1 << 64) - 1]

    @property
    def port(self) -> PortView:
        """Return its port."""
        fixed = FixedIp(SubnetId(f"subnet6-{self.vlan_id}"), self.address)
        own = FixedIp(SubnetId(f"subnet{self.vlan_id}"), _subnet4(self.vlan_id)[self.number])
        return PortView(
            id=PortId(f"{self.number:08x}-aa-port"),
            network_id=NetworkId(f"network{self.vlan_id}"),
            project_id=TENANT,
            mac=self.mac,
            fixed_ips=(own, fixed),
            hostname=self.name.lower().replace("_", "-"),
            group_ids=(GROUPS[self.vlan_id],),
        )

    @property
    def tap(self) -> str:
        """Return its interface on its host."""
        return tap_name(self.port.id)


INSTANCES = {
    i.name: i
    for i in (
        Instance("VM_1", 3, 100, "compute1"),
        Instance("VM_2", 4, 100, "compute1"),
        Instance("VM_3", 5, 102, "compute1"),
        Instance("VM_4", 6, 100, "compute2"),
        Instance("VM_6", 7, 102, "compute2"),
    )
}
FROM_TENANTS = IPv6Network("2001:db8:100::/40")
OPEN = (
    Rule(RuleId("out"), Direction.EGRESS),
    Rule(RuleId("out6"), Direction.EGRESS, 6),
    Rule(RuleId("ping6"), Direction.INGRESS, 6, 58, 128, 0, FROM_TENANTS),
    Rule(RuleId("tcp6"), Direction.INGRESS, 6, 6, 1, 65535, FROM_TENANTS),
)


def _subnet4(vlan_id: int) -> IPv4Network:
    return IPv4Network(f"10.{vlan_id}.0.0/24")


def network(vlan_id: int, host: str, router: RouterView = ROUTER) -> NetworkView:
    """Return a network as a host serves it, or where its router is placed, as that host does."""
    number = 1 + HOSTS.index(next(iter(router.hosts), host))
    subnet = SubnetView(SubnetId(f"subnet{vlan_id}"), _subnet4(vlan_id), _subnet4(vlan_id)[number])
    prefix = PREFIXES[vlan_id]
    subnet6 = SubnetView(
        SubnetId(f"subnet6-{vlan_id}"), prefix, prefix[number], address_mode=MODES[vlan_id]
    )
    return NetworkView(
        id=NetworkId(f"network{vlan_id}"),
        project_id=TENANT,
        name=f"net{vlan_id}",
        physical_network="physnet1",
        vlan_id=vlan_id,
        mtu=1400,
        subnets=(subnet, subnet6),
        router_id=router.id,
    )


def snapshot(host: str, rules: tuple[Rule, ...], router: RouterView) -> HostSnapshot:
    """Return what a host must know; networks are where their instances are."""
    here = [i for i in INSTANCES.values() if i.host == host]
    others = [i for i in INSTANCES.values() if i.host != host and host in router.hosts]
    domain = DomainId(router.id)
    return HostSnapshot(
        host=HostName(host),
        revision=1,
        networks=tuple(network(v, host, router) for v in sorted({i.vlan_id for i in here})),
        routers=(router,),
        ports=tuple(i.port for i in here),
        guests=tuple(i.port for i in others),
        groups=tuple(GroupView(g, TENANT, "default", rules) for g in GROUPS.values()),
        members={(group, domain): () for group in GROUPS.values()},
        tenant_prefixes=(*map(_subnet4, PREFIXES), *PREFIXES.values(), ABSENT),
    )


@dataclass
class Host:
    """A host: its namespace, and the door to its kernel, to be used in there."""

    name: str
    namespace: str
    kernel: LinuxKernel
    config: HostConfig

    def settle(self, wanted: HostSnapshot) -> Outcome:
        """Make it what a snapshot says; nothing may fail or be left to do."""
        with netns.enter(self.namespace):
            outcome = reconcile(self.kernel, self.config, wanted, judge=True)
            assert not outcome.failures, outcome.failures
            self.kernel.forget()
            again = reconcile(self.kernel, self.config, wanted, judge=False)
        assert [o.command() for o in again.operations] == []
        return outcome


@dataclass
class Cloud:
    """What there is, by name: hosts, and the namespace of everybody."""

    hosts: Mapping[str, Host]
    router: RouterView
    namespaces: Mapping[str, str] = field(default_factory=dict)

    def snapshot(self, host: str, rules: tuple[Rule, ...] = OPEN) -> HostSnapshot:
        """Return what a host must know."""
        return snapshot(host, rules, self.router)

    def gateway(self, host: str) -> str:
        """Return the namespace on a host that is its instances' router."""
        space = space_name(DomainId(self.router.id), HostName(host))
        return self.namespaces[host] if self.router.is_default else space

    def router_of(self, instance: str) -> Host:
        """Return the host that an instance has as its router."""
        own = INSTANCES[instance].host
        return self.hosts[next(iter(self.router.hosts), own)]

    def link_local(self, instance: str) -> IPv6Address:
        """Return what an instance has as its router."""
        served = network(INSTANCES[instance].vlan_id, HOSTS[0])
        host = self.router_of(instance).name
        return advertiser(served, host, placed=bool(self.router.hosts))

    def run(self, node: str, *argv: str) -> str:
        """Return what a program says on a node."""
        return netns.run(self.namespaces[node], argv, 20).stdout

    def capture(self) -> Capture:
        """Return a capture on all nodes, from now on."""
        return Capture(self.namespaces)


@contextmanager
def cloud(router: RouterView = ROUTER) -> Iterator[Cloud]:
    """Give two hosts with all instances plugged in, and down."""
    nodes = (SWITCH, OUTSIDE, *HOSTS, *INSTANCES)
    namespaces = {node: f"{PREFIX}{node}" for node in nodes}
    state = Path(tempfile.mkdtemp(prefix="trunkline-dual-"))
    state.chmod(0o755)  # dnsmasq gives root up
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, state)
        for namespace in namespaces.values():
            netns.create(namespace)
            stack.callback(netns.delete, namespace)
        _cable(namespaces)
        hosts = {name: _host(name, namespaces[name], state, stack) for name in HOSTS}
        for name, host in hosts.items():
            host.settle(snapshot(name, OPEN, router))
        yield Cloud(hosts, router, namespaces)


def _cable(namespaces: Mapping[str, str]) -> None:
    """Connect hosts to the switch and the outside, and instances to their hosts."""
    for name in (SWITCH, OUTSIDE):
        netns.sysctl(namespaces[name], "net.ipv6.conf.default.disable_ipv6", "1")
    for host in HOSTS:
        for link, peer in (("eth0", SWITCH), ("eth1", OUTSIDE)):
            netns.veth(namespaces[host], link, None, namespaces[peer], host)
            netns.up(namespaces[host], link)
        netns.sysctl(namespaces[host], "net.ipv6.conf.eth0.disable_ipv6", "1")
        for key in ("iptables", "ip6tables"):  # what a bridge of ours does not ask for, is not
            netns.sysctl(namespaces[host], f"net.bridge.bridge-nf-call-{key}", "0")
    netns.bridge(namespaces[SWITCH], "br-trunk", HOSTS)
    netns.bridge(namespaces[OUTSIDE], "br-ext", HOSTS)
    for instance in INSTANCES.values():
        build.hasten_ipv6(namespaces[instance.name])
        place = namespaces[instance.host]
        netns.veth(namespaces[instance.name], "eth0", instance.mac, place, instance.tap)


def _host(name: str, namespace: str, state: Path, stack: ExitStack) -> Host:
    config = HostConfig(
        host=name,
        trunks={"physnet1": "eth0"},
        uplink="eth1",
        routing_source=None,
        snat_exempt=(),
        state_dir=str(state / name),
    )
    number = 105 + HOSTS.index(name)
    netns.address(namespace, "eth1", IPv4Interface(f"91.207.15.{number}/24"))
    build.route_ipv6(namespace)
    with netns.enter(namespace):
        kernel = LinuxKernel()
    host = Host(name, namespace, kernel, config)
    stack.callback(_clear, host)
    return host


def _clear(host: Host) -> None:
    with netns.enter(host.namespace):
        there = host.kernel.read(host.config, ())
        for operation in (*map(StopDhcp, there.dhcp), *map(DeleteSpace, there.spaces)):
            host.kernel.run(host.config, operation)
        host.kernel.close()
