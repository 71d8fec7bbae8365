"""Named snapshots: small clouds as one host sees them, for golden and replay tests."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from trunkline.hoststate import HostConfig, HostFacts, VlanMaking
from trunkline.model import (
    AddressMode,
    AddressPair,
    Bandwidth,
    DhcpOption,
    Direction,
    DomainId,
    FixedIp,
    FloatingIpId,
    GatewayMode,
    GroupId,
    HostName,
    HostRoute,
    NetworkId,
    PortId,
    ProjectId,
    RouterId,
    Rule,
    RuleId,
    SubnetId,
)
from trunkline.snapshot import (
    FloatingView,
    ForwardingView,
    GroupView,
    HostSnapshot,
    NameView,
    NetworkView,
    PortView,
    RouterView,
    SubnetView,
)

CONFIG = HostConfig(
    host="compute1",
    trunks={"physnet1": "eth0"},
    uplink="eth1",
    routing_source=IPv4Address("91.207.15.105"),
    snat_exempt=(IPv4Network("172.16.0.0/12"),),
    state_dir="/var/lib/trunkline",
)
FACTS = HostFacts(
    vlan_making=VlanMaking.KERNEL,
    links=frozenset({"lo", "eth0", "eth1"}),
    uplink_address=IPv4Address("91.207.15.105"),
    foreign_prefixes=((IPv4Network("91.207.15.0/24"), "eth1"),),
    ipv6_forwarding="force_forwarding",
)
ROUTER = RouterView(
    RouterId("router"),
    ProjectId(""),
    "default",
    is_default=True,
    has_gateway=True,
    enable_snat=True,
    admin_up=True,
)
DOMAIN = DomainId(ROUTER.id)
ALL = IPv4Network("0.0.0.0/0")
TENANT1, TENANT2 = ProjectId("tenant1"), ProjectId("tenant2")
GROUP1, GROUP2 = GroupId("1111aaaa-group"), GroupId("2222bbbb-group")


def network(vlan_id: int, cidr: str, gateway: str, project: ProjectId) -> NetworkView:
    """Return a network with one subnet."""
    subnet = SubnetView(
        id=SubnetId(f"subnet{vlan_id}"),
        cidr=IPv4Network(cidr),
        gateway=IPv4Address(gateway),
    )
    return NetworkView(
        id=NetworkId(f"network{vlan_id}"),
        project_id=project,
        name=f"net{vlan_id}",
        physical_network="physnet1",
        vlan_id=vlan_id,
        mtu=1500,
        subnets=(subnet,),
        router_id=ROUTER.id,
    )


def port(number: int, vlan_id: int, address: str, group: GroupId) -> PortView:
    """Return an instance's port with one address."""
    return PortView(
        id=PortId(f"{number:08x}-aa-port"),
        network_id=NetworkId(f"network{vlan_id}"),
        project_id=TENANT1,
        mac=f"fa:16:3e:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
        fixed_ips=(FixedIp(SubnetId(f"subnet{vlan_id}"), IPv4Address(address)),),
        hostname=f"host-{address.replace('.', '-')}",
        group_ids=(group,),
    )


def group(group_id: GroupId, *rules: Rule) -> GroupView:
    """Return a group that lets everything out, and in what the rules say."""
    out = Rule(RuleId(f"{group_id}-out"), Direction.EGRESS)
    return GroupView(group_id, TENANT1, "default", (out, *rules))


def allow(name: str, protocol: int | None, prefix: str | None = None, **more: object) -> Rule:
    """Return an ingress rule."""
    return Rule(
        RuleId(name),
        Direction.INGRESS,
        protocol=protocol,
        remote_prefix=IPv4Network(prefix) if prefix else None,
        **more,  # type: ignore[arg-type]
    )


NET100 = network(100, "10.0.0.0/24", "10.0.0.1", TENANT1)
NET102 = network(102, "10.1.0.0/24", "10.1.0.1", TENANT2)
VM1 = port(1, 100, "10.0.0.3", GROUP1)
VM2 = port(2, 100, "10.0.0.4", GROUP1)
VM3 = port(3, 102, "10.1.0.3", GROUP2)
OPEN1 = group(
    GROUP1,
    allow("tcp1", 6, "10.1.0.0/24", port_min=1, port_max=65535),
    allow("self1", None, remote_group_id=GROUP1),
)
OPEN2 = group(GROUP2, allow("tcp2", 6, "10.0.0.0/24", port_min=1, port_max=65535))
PREFIXES = (IPv4Network("10.0.0.0/24"), IPv4Network("10.1.0.0/24"))
FLOAT1 = FloatingView(
    FloatingIpId("float1"),
    TENANT1,
    IPv4Address("91.208.23.11"),
    IPv4Address("10.0.0.3"),
    VM1.id,
    DOMAIN,
)
MEMBERS = {(GROUP1, DOMAIN): tuple(map(IPv4Address, ("10.0.0.3", "10.0.0.4", "10.0.0.6")))}

FORWARDED = FloatingView(
    FloatingIpId("float2"),
    TENANT1,
    IPv4Address("91.208.23.12"),
    None,
    None,
    DOMAIN,
    forwardings=(
        ForwardingView(6, 8080, IPv4Address("10.0.0.4"), 80, VM2.id),
        ForwardingView(17, 5300, IPv4Address("10.0.0.3"), 53, VM1.id),
    ),
)

EMPTY = HostSnapshot(HostName("compute1"), 1, tenant_prefixes=PREFIXES)
ONE_PORT = replace(
    EMPTY,
    revision=2,
    networks=(NET100,),
    routers=(ROUTER,),
    ports=(VM1,),
    groups=(OPEN1,),
    members=MEMBERS,
)
ARTICLE = replace(
    ONE_PORT,
    revision=3,
    networks=(NET100, NET102),
    ports=(VM1, VM2, VM3),
    groups=(OPEN1, OPEN2),
    floating_ips=(FLOAT1,),
)
CLOSED = replace(ARTICLE, revision=4, groups=(group(GROUP1), group(GROUP2)), members={})
FLOAT_MOVED = replace(
    ARTICLE, revision=5, floating_ips=(replace(FLOAT1, fixed_address=VM2.fixed_ips[0].address),)
)
REVLANNED = replace(ARTICLE, revision=6, networks=(replace(NET100, vlan_id=300, mtu=1400), NET102))
NO_SECURITY = replace(
    ARTICLE, revision=7, ports=(replace(VM1, port_security=False, group_ids=()), VM2, VM3)
)
ADMIN_DOWN = replace(ARTICLE, revision=8, ports=(replace(VM1, admin_up=False), VM2, VM3))
NO_DHCP = replace(
    ARTICLE,
    revision=9,
    networks=(
        replace(NET100, subnets=(replace(NET100.subnets[0], enable_dhcp=False),)),
        NET102,
    ),
)
ANYCAST = replace(
    ARTICLE,
    revision=10,
    networks=tuple(replace(n, gateway_mode=GatewayMode.ANYCAST) for n in ARTICLE.networks),
)
NAMED = replace(
    ARTICLE,
    revision=11,
    networks=(replace(NET100, dns_domain="corp.example"), NET102),
    ports=(
        replace(
            VM1,
            dhcp_options=(DhcpOption("mtu", "1400"),),
            pairs=(AddressPair(VM1.mac, IPv4Network("10.244.0.0/16")),),
            bandwidth=(Bandwidth(Direction.EGRESS, 8000), Bandwidth(Direction.INGRESS, 4096, 1)),
        ),
        VM2,
        VM3,
    ),
    names=(
        NameView(VM1.id, NET100.id, (("web", IPv4Address("10.0.0.3")),)),
        NameView(PortId("00000009-aa-port"), NET100.id, (("far", IPv4Address("10.0.0.9")),)),
    ),
    floating_ips=(replace(FLOAT1, bandwidth=(Bandwidth(Direction.EGRESS, 1000),)),),
)
FLAT = replace(ARTICLE, revision=16, networks=(replace(NET100, vlan_id=None), NET102))
STANDBY = replace(
    ANYCAST, revision=12, ports=(replace(VM1, active=False), VM2, VM3), floating_ips=()
)


def router(router_id: str, **more: object) -> RouterView:
    """Return a router of a project's own, with a gateway to the outside."""
    return replace(ROUTER, id=RouterId(router_id), name=router_id, is_default=False, **more)  # type: ignore[arg-type]


# Two routers with the same addresses, and a network on none, beside the article's networks.
RED, BLUE = router("aaaaaaaa-11-red"), router("bbbbbbbb-22-blue")
NET200 = replace(network(200, "10.0.0.0/24", "10.0.0.1", TENANT1), router_id=RED.id)
NET201 = replace(network(201, "10.0.0.0/24", "10.0.0.1", TENANT2), router_id=BLUE.id)
NET202 = replace(network(202, "10.2.0.0/24", "10.2.0.1", TENANT1), router_id=RED.id)
NET203 = replace(network(203, "10.0.0.0/24", "10.0.0.1", TENANT2), router_id=None)
VM_RED, VM_BLUE = port(4, 200, "10.0.0.3", GROUP1), port(5, 201, "10.0.0.3", GROUP2)
VM_RED2, VM_ALONE = port(6, 202, "10.2.0.3", GROUP1), port(7, 203, "10.0.0.3", GROUP2)
FLOAT_RED = replace(
    FLOAT1,
    id=FloatingIpId("floatred"),
    address=IPv4Address("91.208.23.21"),
    port_id=VM_RED.id,
    domain=DomainId(RED.id),
)
FLOAT_BLUE = replace(
    FLOAT_RED,
    id=FloatingIpId("floatblue"),
    address=IPv4Address("91.208.23.22"),
    port_id=VM_BLUE.id,
    domain=DomainId(BLUE.id),
)
ROUTERS = replace(
    ARTICLE,
    revision=10,
    networks=(NET100, NET102, NET200, NET201, NET202, NET203),
    routers=(ROUTER, RED, BLUE),
    ports=(VM1, VM2, VM3, VM_RED, VM_BLUE, VM_RED2, VM_ALONE),
    floating_ips=(FLOAT1, FLOAT_RED, FLOAT_BLUE),
    members={
        **MEMBERS,
        (GROUP1, DomainId(RED.id)): (IPv4Address("10.0.0.3"), IPv4Address("10.2.0.3")),
    },
)
ONE_ROUTER = replace(
    ONE_PORT,
    revision=11,
    networks=(NET200,),
    routers=(RED,),
    ports=(VM_RED,),
    floating_ips=(FLOAT_RED,),
    members={(GROUP1, DomainId(RED.id)): (IPv4Address("10.0.0.3"),)},
)
CLOSED_ROUTER = replace(
    ONE_ROUTER,
    revision=12,
    routers=(replace(RED, has_gateway=False, routes=(HostRoute(ALL, IPv4Address("10.0.0.9")),)),),
    floating_ips=(),
)
DOWN_ROUTER = replace(ROUTERS, revision=13, routers=(ROUTER, replace(RED, admin_up=False), BLUE))
ON_A_ROUTER = replace(
    ARTICLE,
    revision=14,
    networks=(replace(NET100, router_id=RED.id, mtu=1400), NET102),
    routers=(ROUTER, RED),
    floating_ips=(replace(FLOAT1, domain=DomainId(RED.id)),),
    members={(GROUP1, DomainId(RED.id)): MEMBERS[GROUP1, DOMAIN]},
)
FLAT_ON_A_ROUTER = replace(
    ONE_ROUTER, revision=15, networks=(replace(NET200, vlan_id=None, mtu=1400),)
)

# The default router is placed: on another host, and on this one, for instances of both.
ELSEWHERE = replace(
    ARTICLE,
    revision=17,
    routers=(replace(ROUTER, hosts=(HostName("network1"),)),),
    floating_ips=(),
)
PLACED_HERE = replace(
    ARTICLE,
    revision=18,
    routers=(replace(ROUTER, hosts=(HostName("compute1"),)),),
    ports=(VM1, VM3),
    guests=(VM2,),
)


# The article's networks with IPv6 beside IPv4, one by SLAAC and one by DHCPv6.
def subnet6(vlan_id: int, mode: AddressMode, **more: object) -> SubnetView:
    """Return a network's IPv6 subnet."""
    return SubnetView(
        id=SubnetId(f"subnet6-{vlan_id}"),
        cidr=IPv6Network(f"2001:db8:{vlan_id}::/64"),
        gateway=IPv6Address(f"2001:db8:{vlan_id}::1"),
        address_mode=mode,
        **more,  # type: ignore[arg-type]
    )


def dual(view: PortView, address: str) -> PortView:
    """Return a port with an IPv6 address besides."""
    fixed = FixedIp(
        SubnetId(view.fixed_ips[0].subnet_id.replace("subnet", "subnet6-")), IPv6Address(address)
    )
    return replace(view, fixed_ips=(*view.fixed_ips, fixed))


def with_ipv6(view: NetworkView, mode: AddressMode, **more: object) -> NetworkView:
    """Return a network with an IPv6 subnet besides."""
    assert view.vlan_id
    return replace(view, subnets=(*view.subnets, subnet6(view.vlan_id, mode, **more)))


SLAAC1 = "2001:db8:100:0:f816:3eff:fe00:1"
DUAL1 = dual(VM1, SLAAC1)
DUAL2 = dual(VM2, "2001:db8:100:0:f816:3eff:fe00:2")
DUAL3 = dual(VM3, "2001:db8:102::33")
PREFIXES6 = tuple(IPv6Network(f"2001:db8:{number}::/64") for number in (100, 102, 104))
RULES6 = (
    Rule(RuleId("out6"), Direction.EGRESS, 6),
    Rule(RuleId("self6"), Direction.INGRESS, 6, remote_group_id=GROUP1),
    Rule(RuleId("echo6"), Direction.INGRESS, 6, 58, 128, 0),
    Rule(RuleId("web6"), Direction.INGRESS, 6, 6, 80, 80, IPv6Network("2001:db8:102::/64")),
)
DUAL = replace(
    ARTICLE,
    revision=19,
    networks=(with_ipv6(NET100, AddressMode.SLAAC), with_ipv6(NET102, AddressMode.STATEFUL)),
    ports=(DUAL1, DUAL2, DUAL3),
    groups=(group(GROUP1, *OPEN1.rules[1:], *RULES6), group(GROUP2, *OPEN2.rules[1:], *RULES6)),
    members={(GROUP1, DOMAIN): (*MEMBERS[GROUP1, DOMAIN], IPv6Address(SLAAC1))},
    tenant_prefixes=(*PREFIXES, *PREFIXES6),
)
DUAL_PAIRS = replace(
    DUAL,
    revision=20,
    networks=(
        with_ipv6(NET100, AddressMode.STATELESS, dns_servers=(IPv6Address("2001:db8::53"),)),
        NET102,
    ),
    routers=(replace(ROUTER, admin_up=False),),
    ports=(
        replace(
            DUAL1,
            pairs=(
                AddressPair(VM1.mac, IPv4Network("10.0.0.128/25")),
                AddressPair(VM1.mac, IPv6Network("2001:db8:100::a00/120")),
                AddressPair("fa:16:3e:77:77:77", IPv6Network("2001:db8:100::99/128")),
            ),
        ),
        DUAL2,
        DUAL3,
    ),
)

# On routers of their own: the article's networks on one, another with the same addresses, on none.
DUAL_BLUE = dual(VM_BLUE, "2001:db8:102::33")
DUAL_ALONE = dual(VM_ALONE, "2001:db8:203:0:f816:3eff:fe00:7")
TWIN = replace(
    subnet6(201, AddressMode.STATEFUL),
    cidr=IPv6Network("2001:db8:102::/64"),
    gateway=IPv6Address("2001:db8:102::1"),
)
DUAL_ROUTERS = replace(
    DUAL,
    revision=21,
    networks=(
        *(replace(n, router_id=RED.id) for n in DUAL.networks),
        replace(NET201, subnets=(*NET201.subnets, TWIN)),
        with_ipv6(NET203, AddressMode.SLAAC),
    ),
    routers=(RED, BLUE),
    ports=(DUAL1, DUAL2, DUAL3, DUAL_BLUE, DUAL_ALONE),
    floating_ips=(replace(FLOAT1, domain=DomainId(RED.id)),),
    members={
        (GROUP1, DomainId(RED.id)): DUAL.members[GROUP1, DOMAIN],
        **{(GROUP1, DomainId(domain)): () for domain in (BLUE.id, NET203.id)},
    },
    tenant_prefixes=(*DUAL.tenant_prefixes, IPv6Network("2001:db8:203::/64")),
)

# The same on two hosts, of which this one may act, or not.
SEVERAL = replace(
    PLACED_HERE,
    revision=19,
    routers=(replace(ROUTER, hosts=(HostName("compute1"), HostName("network1")), number=255),),
)

FORWARDING = replace(ARTICLE, revision=21, floating_ips=(FLOAT1, FORWARDED))

INSTANCES = (VM1, VM2, VM3, VM_RED, VM_BLUE, VM_RED2, VM_ALONE)
STATES = {
    "empty": EMPTY,
    "one port": ONE_PORT,
    "article": ARTICLE,
    "closed": CLOSED,
    "float moved": FLOAT_MOVED,
    "other VLAN and MTU": REVLANNED,
    "no port security": NO_SECURITY,
    "admin down": ADMIN_DOWN,
    "no DHCP": NO_DHCP,
    "anycast": ANYCAST,
    "names, options, pairs": NAMED,
    "routers": ROUTERS,
    "one router": ONE_ROUTER,
    "closed router": CLOSED_ROUTER,
    "router down": DOWN_ROUTER,
    "article on a router": ON_A_ROUTER,
    "flat": FLAT,
    "flat, on a router": FLAT_ON_A_ROUTER,
    "standby": STANDBY,
    "router elsewhere": ELSEWHERE,
    "router placed here": PLACED_HERE,
    "both families": DUAL,
    "both families, pairs, router down": DUAL_PAIRS,
    "both families on routers": DUAL_ROUTERS,
    "router on several hosts": SEVERAL,
    "ports forwarded": FORWARDING,
}
