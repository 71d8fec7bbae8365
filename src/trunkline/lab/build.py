"""Makes a lab's nodes, cables and processes. What runs on them is the real thing.

    controller --- mgmt0 of each host      the server, on the management network
    switch ------- eth0 of each host       a bridge that passes tagged frames as they are
    inet --------- eth1 of each host       the external wire, the provider's router behind it
    router ------- a port of the switch    where networks have their gateway upstream; not ours
    instance eth0 - tap… of its host       plugged as a hypervisor does; configured by DHCP

Knows no API object: what the cloud consists of is ``cloud``'s business.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface
from itertools import permutations
from pathlib import Path
from shlex import quote
from textwrap import dedent

from trunkline.errors import Interrupted, MissingFeature, Rejected
from trunkline.hoststate import Address, Bridge, HostConfig, Vlan, VlanMaking
from trunkline.kernel import netns, spaces, sysctl
from trunkline.kernel.linux import LinuxKernel
from trunkline.lab import dhcpv6
from trunkline.lab.state import RESOLV, Lab, kill_inside, write_secret
from trunkline.lab.topology import (
    CONTROLLER,
    INTERNET,
    JOINT,
    MANAGEMENT,
    PHYSICAL_NETWORK,
    ROUTER,
    SWITCH,
    Host,
    Network,
    Trunk,
)
from trunkline.lab.waiting import limit_s, until
from trunkline.model import AddressMode
from trunkline.operations import AddAddress, CreateBridge, CreateVlan, SetSysctl
from trunkline.ownership import vlan_name

SERVER_PORT = 9696
METADATA_SERVICE_PORT = 8775  # Nova's
SERVER_ADDRESS = MANAGEMENT[1]
TRUNK, UPLINK, MANAGEMENT_LINK = "eth0", "eth1", "mgmt0"
MTU = 1500  # bytes: what the cables carry
SWITCH_BRIDGE, WIRE, MANAGEMENT_WIRE = "br-trunk", "br-ext", "mgmt"
ROUTER_MAC = "0a:00:00:00:00:01"  # the provider's
EVERYWHERE = IPv4Network("0.0.0.0/0")
OPTIONS = ("-O", "mtu", "-O", "staticroutes")  # what busybox does not ask for by itself
ASK_FOR_LEASE = (
    *("busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0"),
    *("-s", "/bin/true", "-t", "2", "-T", "1"),
)
PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))  # RFC 1918


def lay_cables(lab: Lab) -> None:
    """Make all nodes but the instances, and connect them."""
    hosts = lab.topology.hosts.values()
    upstream = lab.topology.routers_upstream()
    outside = (CONTROLLER, *lab.topology.switches(), *lab.topology.joints(), INTERNET)
    for node in (*outside, *upstream, *lab.topology.hosts):
        _make_node(lab, node)
    for node in outside:
        be_quiet(lab.namespace(node))
    for node in upstream:
        netns.veth(lab.namespace(node), TRUNK, None, lab.namespace(SWITCH), node)
        _set_where_there(lab.namespace(node), f"net.ipv6.conf.{TRUNK}.disable_ipv6", "1")
        netns.up(lab.namespace(node), TRUNK)
    for host in hosts:
        _make_host(lab, host)
    _make_controller(lab)
    for joint in lab.topology.joints():
        _cable_joint(lab, lab.namespace(joint))
    for trunk in lab.topology.trunks.values():
        _make_switch(lab, trunk)
    _make_internet(lab)
    for host in hosts:
        netns.route(lab.namespace(host.name), EVERYWHERE, via=_router(lab, host))


def _cable_joint(lab: Lab, namespace: str) -> None:
    """Give the joint a NIC on each switch; the port there is called by the other switch."""
    for switch, other in permutations(lab.topology.switches(), 2):
        netns.veth(namespace, switch, None, lab.namespace(switch), other)
        netns.up(namespace, switch)


def cut_power(lab: Lab, host: str) -> None:
    """End a host: nothing of it is left but its disk. Its instances are the caller's to end."""
    namespace = lab.namespace(host)
    for link, *_ in reversed(_cables(lab, host)):  # first: no process has a last word
        netns.delete_link(namespace, link)
    inside = spaces.found_under(lab.directory / "hosts" / host)
    kill_inside(*inside, namespace)
    for place in (*inside, namespace):
        netns.delete(place)


def boot_host(lab: Lab, name: str) -> None:
    """Have a host that ended start again, cabled as before; its agent is not started."""
    host = lab.topology.hosts[name]
    _make_node(lab, name)
    _make_host(lab, host)
    for _, node, bridge in _cables(lab, name):
        netns.plug(lab.namespace(node), name, bridge)
    netns.route(lab.namespace(name), EVERYWHERE, via=_router(lab, host))


def _make_node(lab: Lab, node: str) -> None:
    netns.create(lab.namespace(node))
    # No bridge is filtered but those that ask for it, by their own nf_call_iptables.
    for key in ("iptables", "ip6tables"):
        _set_where_there(lab.namespace(node), f"net.bridge.bridge-nf-call-{key}", "0")


def be_quiet(namespace: str) -> None:
    """Have nobody in a namespace speak IPv6 on the links to come."""
    _set_where_there(namespace, "net.ipv6.conf.default.disable_ipv6", "1")


def _set_where_there(namespace: str, key: str, value: str) -> None:
    """Set a sysctl that this kernel need not have: without IPv6, or br_netfilter not loaded."""
    with netns.enter(namespace):
        there = sysctl.read(key)
    if there is not None:
        netns.sysctl(namespace, key, value)


def _cables(lab: Lab, host: str) -> list[tuple[str, str, str]]:
    """Return a host's NICs, each with the node at its other end and the bridge there."""
    trunks = [(trunk.nic, trunk.switch, SWITCH_BRIDGE) for trunk in lab.topology.trunks_of(host)]
    return [*trunks, (UPLINK, INTERNET, WIRE), (MANAGEMENT_LINK, CONTROLLER, MANAGEMENT_WIRE)]


def _make_host(lab: Lab, host: Host) -> None:
    namespace = lab.namespace(host.name)
    for link, peer, _ in _cables(lab, host.name):
        netns.veth(namespace, link, None, lab.namespace(peer), host.name)
        _set_where_there(namespace, f"net.ipv6.conf.{link}.disable_ipv6", "1")
        netns.up(namespace, link)
    netns.address(namespace, UPLINK, host.external)
    netns.address(namespace, MANAGEMENT_LINK, host.management)
    if any(network.ipv6 for network in lab.topology.networks.values()):
        route_ipv6(namespace)


def route_ipv6(namespace: str) -> None:
    """Do what an administrator has to, where the kernel cannot route IPv6 on single links."""
    with netns.enter(namespace):
        by_link = sysctl.read("net.ipv6.conf.default.force_forwarding") is not None
    if not by_link:
        netns.sysctl(namespace, "net.ipv6.conf.all.forwarding", "1")


def _make_controller(lab: Lab) -> None:
    namespace = lab.namespace(CONTROLLER)
    netns.bridge(namespace, MANAGEMENT_WIRE, tuple(lab.topology.hosts))
    netns.address(namespace, MANAGEMENT_WIRE, IPv4Interface((SERVER_ADDRESS, MANAGEMENT.prefixlen)))


def _make_switch(lab: Lab, trunk: Trunk) -> None:
    """Make a trunk's switch; its ports pass the VLANs that the topology allows them."""
    namespace, topology = lab.namespace(trunk.switch), lab.topology
    nodes = (*topology.hosts, *topology.routers_upstream())
    ports = [node for node in nodes if trunk in topology.trunks_of(node)]
    if topology.joints():
        ports += (switch for switch in topology.switches() if switch != trunk.switch)
    netns.bridge(namespace, SWITCH_BRIDGE, ports)
    rules = list(_trunk_rules(lab))
    if rules:
        _run(namespace, ["nft", "-f", "-"], _port_filter(rules))


def tag_router(lab: Lab, bridge: Bridge, vlan_id: int, address: IPv4Interface) -> None:
    """Have the upstream router serve a VLAN: its agent is this, and no host's is asked."""
    config = HostConfig(ROUTER, {PHYSICAL_NETWORK: TRUNK}, None, None, (), str(lab.directory))
    with netns.enter(lab.namespace(ROUTER)):
        kernel = LinuxKernel()
        making = _vlan_making(kernel, config)
        name = vlan_name(bridge.name)
        vlan = Vlan(name, TRUNK, vlan_id, bridge.mtu, bridge.name, bridge.alias, making)
        for operation in (
            CreateBridge(bridge),
            CreateVlan(vlan),
            AddAddress(Address(bridge.name, address)),
            SetSysctl(f"net.ipv4.conf.{bridge.name}.forwarding", "1"),
        ):
            kernel.run(config, operation)
        kernel.close()


def join_segments(lab: Lab, bridge: Bridge, network: Network) -> None:
    """Have a network's VLANs on several switches be one segment, as the operator has to."""
    vlans = {network.physical_network: network.vlan_id, **network.further}
    trunks = {name: lab.topology.trunks[name].switch for name in vlans}
    config = HostConfig(JOINT, trunks, None, None, (), str(lab.directory))
    with netns.enter(lab.namespace(JOINT)):
        kernel = LinuxKernel()
        making = _vlan_making(kernel, config)
        kernel.run(config, CreateBridge(bridge))
        for name, vlan_id in vlans.items():
            assert vlan_id is not None, "the topology was checked"
            device = f"vlan{vlan_id}"
            vlan = Vlan(
                device, trunks[name], vlan_id, bridge.mtu, bridge.name, bridge.alias, making
            )
            kernel.run(config, CreateVlan(vlan))
        kernel.close()


def _vlan_making(kernel: LinuxKernel, config: HostConfig) -> VlanMaking:
    making = kernel.facts(config).vlan_making
    if making is None:
        raise MissingFeature("this kernel can make no VLAN devices; see 'trunkline doctor'")
    return making


def _trunk_rules(lab: Lab) -> Iterator[str]:
    for host in lab.topology.hosts.values():
        if host.trunk_vlans is not None:
            allowed = ", ".join(map(str, host.trunk_vlans))
            for side in ("iifname", "oifname"):
                yield f'{side} "{host.name}" vlan id != {{ {allowed} }} drop'


def _port_filter(rules: list[str]) -> str:
    head = ("table bridge ports {", "chain forward {", "type filter hook forward priority 0")
    return "\n".join((*head, *rules, "}", "}", ""))


def _make_internet(lab: Lab) -> None:
    """Make the external wire and the provider's router.

    It forwards between the prefixes on the wire (a floating IP is reached by way of it), says
    'host unreachable' for private addresses, and never sends redirects. What is for nobody else
    vanishes, as it does in the Internet.
    """
    namespace = lab.namespace(INTERNET)
    netns.bridge(namespace, WIRE, tuple(lab.topology.hosts))
    # Else it has that of a port, and another one once the host behind it has died.
    _run(namespace, ["ip", "link", "set", WIRE, "address", ROUTER_MAC], "")
    for router in lab.topology.internet.routers:
        netns.address(namespace, WIRE, router)
    for address in lab.topology.internet.answers:
        netns.address(namespace, "lo", IPv4Interface(address))
    for key, value in (
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        (f"net.ipv4.conf.{WIRE}.send_redirects", "0"),
        ("net.ipv4.icmp_ratelimit", "0"),
    ):
        netns.sysctl(namespace, key, value)
    batch = "".join(f"route add unreachable {prefix}\n" for prefix in PRIVATE)
    batch += "route add blackhole default\n"
    _run(namespace, ["ip", "-batch", "-"], batch)


def _run(namespace: str, argv: list[str], stdin: str) -> None:
    done = netns.run(namespace, argv, limit_s(10), stdin)
    if done.returncode:
        raise Rejected(f"{' '.join(argv)} in {namespace}: {done.stderr.strip()}")


def _router(lab: Lab, host: Host) -> IPv4Address:
    """Return the router that the host's external address has as its default gateway."""
    routers = lab.topology.internet.routers
    return next(r.ip for r in routers if host.external in r.network)


def start_server(lab: Lab) -> None:
    """Start the server on the controller."""
    config = lab.directory / "server.toml"
    trunks = lab.topology.trunks.values()
    ranges = "".join(f"{trunk.name} = {list(trunk.vlans)}\n" for trunk in trunks)
    outside = {host.external.network for host in lab.topology.hosts.values()}
    wires = ", ".join(f'"{prefix}"' for prefix in sorted(outside))
    config.write_text(
        dedent(f"""\
        listen = ["http://{SERVER_ADDRESS}:{SERVER_PORT}", "{lab.api}"]
        database = "sqlite:///{lab.directory / "trunkline.db"}"
        users = "{lab.directory / "users.yaml"}"
        reserved_prefixes = ["{MANAGEMENT}", {wires}]
        default_router = {str(lab.topology.default_router).lower()}
        [vlan_ranges]
        """)
        + ranges
    )
    lab.spawn("server", CONTROLLER, [*_trunkline(), "server", "--config", str(config)])


def start_agent(
    lab: Lab,
    host: str,
    *,
    guard: bool = True,
    source: IPv4Address | None = None,
    exempt: Sequence[IPv4Network] = (),
    sources: Mapping[str, IPv4Address] | None = None,
) -> None:
    """Start a host's agent.

    Args:
        lab: The lab.
        host: The host's name.
        guard: ``guard_absent_prefixes`` of its configuration.
        source: ``routing_source``; None is the host's external address.
        exempt: ``snat_exempt``.
        sources: ``routing_sources``, by router's id.
    """
    directory = lab.directory / "hosts" / host
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "agent.toml"
    write_secret(
        config,
        dedent(f"""\
        host = "{host}"
        server = "http://{SERVER_ADDRESS}:{SERVER_PORT}"
        token = "{lab.tokens()[host]}"
        uplink = "{UPLINK}"
        routing_source = "{source or lab.topology.hosts[host].external.ip}"
        snat_exempt = {json.dumps([str(prefix) for prefix in exempt])}
        state_dir = "{lab.agent_state(host)}"
        guard_absent_prefixes = {"true" if guard else "false"}
        [metadata]
        service = "http://{SERVER_ADDRESS}:{METADATA_SERVICE_PORT}"
        secret = "{_metadata_secret(lab)}"
        """)
        + _table("trunks", {trunk.name: trunk.nic for trunk in lab.topology.trunks_of(host)})
        + _table("routing_sources", sources or {}),
    )
    lab.spawn(f"agent-{host}", host, [*_trunkline(), "agent", "--config", str(config)])


def _table(name: str, values: Mapping[str, object]) -> str:
    return "".join((f"[{name}]\n", *(f'{key} = "{value}"\n' for key, value in values.items())))


def start_metadata(lab: Lab) -> None:
    """Start the metadata service's stand-in on the controller, and every host's proxy."""
    secret = lab.directory / "metadata-secret"
    write_secret(secret, _metadata_secret(lab))
    where = (str(SERVER_ADDRESS), str(METADATA_SERVICE_PORT), str(secret))
    lab.spawn("metadata", CONTROLLER, [sys.executable, "-m", "trunkline.lab.metadata", *where])
    for host in lab.topology.hosts:
        config = lab.directory / "hosts" / host / "agent.toml"
        lab.spawn(f"metadata-{host}", host, [*_trunkline(), "metadata", "--config", str(config)])


def stop_metadata(lab: Lab) -> None:
    """End what ``start_metadata`` has started."""
    for label in ("metadata", *(f"metadata-{host}" for host in lab.topology.hosts)):
        lab.retire(label)


def _metadata_secret(lab: Lab) -> str:
    """Return what service and proxies share: a digest, as it proves nothing but itself."""
    return sha256(f"metadata {lab.tokens()['admin']}".encode()).hexdigest()


def _trunkline() -> list[str]:
    return [sys.executable, "-m", "trunkline.cli.main"]


def plug_instance(lab: Lab, instance: str, mac: str, tap: str, host: str | None = None) -> None:
    """Make an instance and plug it in, as a hypervisor does; it is not started.

    ``host`` is another one than the topology's.
    """
    namespace = lab.namespace(instance)
    host = host or lab.topology.instances[instance].host
    netns.create(namespace)
    hasten_ipv6(namespace)
    netns.veth(namespace, "eth0", mac, lab.namespace(host), tap)


def hasten_ipv6(namespace: str) -> None:
    """Have an instance's kernel wait less for its neighbours: they are on the same machine.

    As it is, it finds out whether its address is taken, and who routes, in some four seconds.
    And have it not ask, once a minute at a moment of its own, whether its router lives (RFC 4191,
    3.5), which no prediction of a flow can know.
    """
    for key, value in (
        ("neigh.default.retrans_time_ms", "250"),
        ("conf.default.router_solicitation_delay", "0"),
        ("conf.default.router_solicitation_interval", "1"),
        ("conf.default.router_probe_interval", "3600"),
    ):
        _set_where_there(namespace, f"net.ipv6.{key}", value)


def boot_instance(lab: Lab, instance: str) -> None:
    """Start an instance's DHCP client, the only thing that configures it."""
    directory = lab.directory / "instances" / instance
    directory.mkdir(parents=True, exist_ok=True)
    lease, script = directory / "lease", directory / "udhcpc"
    lease.unlink(missing_ok=True)
    script.write_text(_udhcpc_script(lease, RESOLV / lab.namespace(instance)))
    script.chmod(0o755)
    client = ["busybox", "udhcpc", "-f", "-i", "eth0", "-s", str(script), "-t", "10", "-T", "1"]
    lab.spawn(
        f"udhcpc-{instance}", instance, [*client, "-A", "1", "-x", f"hostname:{instance}", *OPTIONS]
    )


def plug_more(lab: Lab, instance: str, link: str, mac: str, tap: str) -> None:
    """Plug one more interface of an instance into its host."""
    host = lab.topology.instances[instance].host
    netns.veth(lab.namespace(instance), link, mac, lab.namespace(host), tap)


def lease_more(lab: Lab, instance: str, link: str) -> None:
    """Have one more interface of an instance configured by DHCP; routes stay as they are.

    Raises:
        Rejected: It got no lease.
    """
    script = lab.directory / "instances" / instance / f"udhcpc-{link}"
    script.write_text(
        dedent("""\
        #!/bin/sh
        case "$1" in
        deconfig) busybox ip link set "$interface" up ;;
        bound) busybox ip addr replace "$ip/$mask" brd + dev "$interface" ;;
        esac
        """)
    )
    script.chmod(0o755)
    client = ["busybox", "udhcpc", "-f", "-n", "-q", "-i", link, "-s", str(script)]
    _run(lab.namespace(instance), [*client, "-t", "10", "-T", "1", "-A", "1"], "")


def has_lease(lab: Lab, instance: str) -> bool:
    """Return whether an instance has been configured by a lease since it was booted."""
    return (lab.directory / "instances" / instance / "lease").exists()


def wait_for_lease(lab: Lab, instance: str) -> None:
    """Wait until an instance has its lease.

    Raises:
        Interrupted: Nobody answered it; the message has its client's last words.
    """
    try:
        until(f"{instance} has a lease", lambda: has_lease(lab, instance))
    except Interrupted as error:
        raise Interrupted(f"{error}{lab.last_words('udhcpc-' + instance)}") from error


def wait_for_ipv6(
    lab: Lab, instance: str, mac: str, address: IPv6Address, mode: AddressMode
) -> None:
    """Wait until a booted instance has its IPv6 address, for which it may have to ask.

    Raises:
        Interrupted: It has none, or another than the API says.
    """
    namespace = lab.namespace(instance)
    if mode is AddressMode.STATEFUL:
        lease = dhcpv6.ask(namespace, "eth0", mac, limit_s(20))
        if lease is None or lease.address != address:
            raise Interrupted(f"{instance} is to have {address}, and was given {lease}")
        netns.address(namespace, "eth0", IPv6Interface(address))
    show = ("ip", "-6", "addr", "show", "dev", "eth0", "-tentative")
    until(
        f"{instance} has {address}",
        lambda: f"{address}/" in netns.run(namespace, show, limit_s(10)).stdout,
    )


def unplug_instance(lab: Lab, instance: str) -> None:
    """End an instance; its tap vanishes from the host."""
    lab.retire(f"udhcpc-{instance}")
    netns.delete_link(lab.namespace(instance), "eth0")
    netns.delete(lab.namespace(instance))


def _udhcpc_script(lease: Path, etc: Path) -> str:
    """Return the script that puts a lease into effect; udhcpc calls it at each event.

    Classless routes replace the router option (RFC 3442). The lease is written last, and by
    renaming, so that whoever sees it sees a configured instance.
    """
    return dedent(f"""\
        #!/bin/sh
        ip() {{ busybox ip "$@"; }}
        gateways() {{
            if [ -n "$staticroutes" ]; then
                set -- $staticroutes
                while [ $# -ge 2 ]; do ip route replace "$1" via "$2"; shift 2; done
            else
                for router in $router; do ip route replace default via "$router"; done
            fi
        }}
        case "$1" in
        deconfig)
            ip -4 addr flush dev "$interface"
            ip link set "$interface" up
            ;;
        bound|renew)
            ip link set "$interface" mtu "${{mtu:-1500}}"
            ip addr replace "$ip/$mask" brd + dev "$interface"
            gateways
            mkdir -p {quote(str(etc))}
            {{
                [ -z "$domain" ] || echo "search $domain"
                for server in $dns; do echo "nameserver $server"; done
            }} > {quote(str(etc))}/resolv.conf
            echo "$ip/$mask from $serverid, router $router, dns $dns, mtu $mtu, $lease s" \\
                > {quote(str(lease))}.new
            mv {quote(str(lease))}.new {quote(str(lease))}
            ;;
        esac
        """)
