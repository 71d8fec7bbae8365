"""DHCP, router advertisements and DNS: one dnsmasq per served network that needs one of them.

Static leases only, and only for the instances that live on this host: a server must be silent
to everybody else's, because the segment reaches every host (article, scenario 1). Where a router
is placed, its host serves its networks' instances wherever they live, and no other does. The same
dnsmasq resolves the names of all instances of the network, wherever they live, and of no other.

Names and texts of files are interned, as those read back are: equal ones are identical, so that
to compare thousands costs no look at a letter.
"""

from __future__ import annotations

from collections.abc import Iterable
from json import dumps
from sys import intern

from trunkline.core.family import V4
from trunkline.core.gather import gather, unions_by_key, unique
from trunkline.core.links import Served, by_network
from trunkline.hoststate import DhcpServer
from trunkline.kept import kept
from trunkline.model import AddressMode, IpAddress, SubnetId
from trunkline.snapshot import NameView, NetworkView, PortView, SubnetView

LEASE_TIME_S = 86400  # nova's dhcp_lease_time since Juno
LEASE6_TIME_S = 1800
"""Of an address that DHCPv6 gives out: dnsmasq keeps it for the client that it knows by its DUID
(RFC 8415, 11), and an instance that is made anew on the same port has another."""
LEASES_MAX = 2**24  # of a subnet: more than there can be ports, and less than dnsmasq can count
ADVERTISED_EVERY_S = 600  # RFC 4861, 6.2.1: MaxRtrAdvInterval's default
RANGE_MODES = {
    AddressMode.SLAAC: "ra-only",
    AddressMode.STATELESS: "ra-stateless",
    AddressMode.STATEFUL: "static",
}
"""dnsmasq's words for what it advertises and serves (dnsmasq(8), --dhcp-range)."""


def compile_dhcp(
    served: tuple[Served, ...],
    ports: tuple[PortView, ...],
    guests: tuple[PortView, ...],
    names: tuple[NameView, ...],
    *,
    metadata: bool = False,
) -> dict[str, DhcpServer]:
    """Return the DHCP server of each bridge that needs one, by bridge.

    Args:
        served: The networks that have their gateway here.
        ports: The ports of this host.
        guests: Those elsewhere that it serves.
        names: What DNS says of theirs and others.
        metadata: Whether a metadata proxy must know who has which address.
    """
    clients = [some for some in (ports, guests) if some]
    kinds = [gather(unions_by_key, _port_files, some, served) for some in clients]
    kinds.append(gather(unions_by_key, _name_files, names, served))
    if metadata:
        kinds += [gather(unions_by_key, _instance_files, some, served) for some in clients]
    files = unions_by_key(kinds)
    tags = _lines_by_bridge(gather(_lines_by_bridge, _tag_lines, p, served) for p in clients)
    return {
        bridge: DhcpServer(
            bridge,
            config + "".join(tags.get(bridge, ())),
            files.get(bridge, {}),
        )
        for bridge, config in _configs(served).items()
    }


def _lines_by_bridge(parts: Iterable[dict[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    joined: dict[str, tuple[str, ...]] = {}
    for part in parts:
        for bridge, lines in part.items():
            joined[bridge] = (*joined.get(bridge, ()), *lines)
    return joined


@kept()
def _configs(served: tuple[Served, ...]) -> dict[str, str]:
    """Return the configuration of each DHCP server by bridge."""
    return {s.bridge: _config(s) for s in served if _has_server(s.network)}


@kept()
def _port_files(
    served: tuple[Served, ...], ports: tuple[PortView, ...]
) -> dict[str, dict[str, str]]:
    """Return by bridge the leases and options of the ports that get an address."""
    files: dict[str, dict[str, str]] = {}
    places = by_network(served)
    for port in ports:
        place = places.get(port.network_id)
        known = place is not None and port.active  # else its other host would answer it too
        line = _host_line(port, place.network) if place and known else ""
        if place and line:
            mine = files.setdefault(place.bridge, {})
            mine[intern(f"hosts/{port.id}")] = intern(line)
            if port.dhcp_options:
                mine[intern(f"options/{port.id}")] = intern(_option_lines(port))
    return unique(files)


@kept()
def _name_files(
    served: tuple[Served, ...], names: tuple[NameView, ...]
) -> dict[str, dict[str, str]]:
    """Return by bridge what DNS says of the ports of its network, in the form of hosts(5)."""
    files: dict[str, dict[str, str]] = {}
    places = by_network(served)
    for name in names:
        place = places.get(name.network_id)
        if place and _has_server(place.network):
            lines = (f"{address} {label}" for label, address in name.records)
            mine = files.setdefault(place.bridge, {})
            mine[intern(f"names/{name.id}")] = intern("\n".join(lines))
    return unique(files)


@kept()
def _instance_files(
    served: tuple[Served, ...], ports: tuple[PortView, ...]
) -> dict[str, dict[str, str]]:
    """Return by bridge who has which address, for the metadata proxy."""
    files: dict[str, dict[str, str]] = {}
    places = by_network(served)
    for port in ports:
        place = places.get(port.network_id)
        if place and port.device_id and _dhcp_subnets(place.network):
            said = {"device_id": port.device_id, "project_id": port.project_id}
            for fixed in port.fixed_ips:
                if fixed.address.version != V4.version:
                    continue  # the proxy is reached by IPv4
                mine = files.setdefault(place.bridge, {})
                name = intern(f"instances/{fixed.address}")
                mine[name] = intern(dumps(said, sort_keys=True))
    return unique(files)


def _dhcp_subnets(network: NetworkView) -> dict[SubnetId, SubnetView]:
    """Return the IPv4 subnets that have DHCP, by id."""
    subnets = (s for s in network.subnets if s.cidr.version == V4.version)
    return {s.id: s for s in subnets if s.enable_dhcp and s.gateway is not None}


def _advertised(network: NetworkView) -> dict[SubnetId, SubnetView]:
    """Return the subnets that instances are told of by router advertisements, by id."""
    return {s.id: s for s in network.subnets if s.address_mode and s.gateway is not None}


def _has_server(network: NetworkView) -> bool:
    return bool(_dhcp_subnets(network) or _advertised(network))


def _host_line(port: PortView, network: NetworkView) -> str:
    """Return the port's ``dhcp-host`` line; dnsmasq honours one address per MAC and range.

    Of IPv6, where instances ask by DHCPv6, if only for resolvers: dnsmasq knows nobody by a line
    that has no address of the family. It takes the MAC from its host's neighbour table.
    """
    ranges, ranges6 = _dhcp_subnets(network), _advertised(network)
    given = [str(f.address) for f in port.fixed_ips if f.subnet_id in ranges][:1]
    mine6 = [f for f in port.fixed_ips if f.subnet_id in ranges6]
    given += [
        f"[{f.address}]"
        for f in mine6
        if ranges6[f.subnet_id].address_mode is not AddressMode.SLAAC
    ]
    return ",".join([port.mac, *given, port.hostname]) if given or mine6 else ""


def _option_tag(port: PortView) -> str:
    return f"port-{port.id}"


@kept()
def _tag_lines(
    served: tuple[Served, ...], ports: tuple[PortView, ...]
) -> dict[str, tuple[str, ...]]:
    """Return by bridge the lines of configuration that tag ports with options of their own.

    Not in their ``dhcp-host`` lines: dnsmasq 2.90 crashes when one with a tag changes. So the
    first option of a port, and the last one's end, restart its server; others do not.
    """
    lines: dict[str, tuple[str, ...]] = {}
    places = by_network(served)
    for port in ports:
        if port.dhcp_options and port.network_id in places:
            bridge = places[port.network_id].bridge
            line = f"dhcp-mac=set:{_option_tag(port)},{port.mac}\n"
            lines[bridge] = (*lines.get(bridge, ()), line)
    return lines


def _option_lines(port: PortView) -> str:
    """Return a port's own options; they win over its subnet's, which have the range's tag."""
    options = (
        f"{'' if o.name.isdecimal() else 'option:'}{o.name},{o.value}" for o in port.dhcp_options
    )
    return "\n".join(f"tag:{_option_tag(port)},{option}" for option in options)


def _config(served: Served) -> str:
    """Return the configuration file of a network's dnsmasq, paths left to the kernel door.

    ``interface`` beside ``listen-address``: with several servers on one host that only listen
    on addresses, one of them gets all unicast renewals (LP#1554227). Unknown clients are
    ignored outright, which makes ``dhcp-authoritative`` safe: it answers a known client that
    asks for its address back after a restart, and never refuses another host's client.
    """
    network = served.network
    subnets, subnets6 = _dhcp_subnets(network).values(), _advertised(network).values()
    leases = sum(min(s.cidr.num_addresses, LEASES_MAX) for s in (*subnets, *subnets6))
    lines = [
        f"interface={served.bridge}",
        "except-interface=lo",
        "bind-interfaces",
        "no-hosts",
        "expand-hosts",
        f"domain={network.dns_domain}",
        f"local=/{network.dns_domain}/",  # never asked of anybody else
        "bogus-priv",
        "dhcp-authoritative",
        "dhcp-ignore=tag:!known",
        f"dhcp-lease-max={leases}",
        f"dhcp-option=option:mtu,{network.mtu}",
    ]
    for subnet in subnets:
        lines += _subnet_lines(subnet, network.router_of(subnet))
    if subnets6:
        lines += ["enable-ra", _advertising(served)]
    for subnet in subnets6:
        lines += _subnet6_lines(subnet)
    return "\n".join(lines) + "\n"


def _advertising(served: Served) -> str:
    """Return the line on a network's advertisements; on no router, their sender is none."""
    line = f"ra-param={served.bridge},mtu:{served.network.mtu},{ADVERTISED_EVERY_S}"
    return line if served.network.router_id else f"{line},0"


def _subnet6_lines(subnet: SubnetView) -> list[str]:
    """Return the lines of one IPv6 subnet; without resolvers of its own, dnsmasq names itself."""
    tag = f"subnet-{subnet.id[:8]}"
    mode = RANGE_MODES[subnet.address_mode or AddressMode.SLAAC]
    first, length = subnet.cidr.network_address, subnet.cidr.prefixlen
    time_s = LEASE6_TIME_S if subnet.address_mode is AddressMode.STATEFUL else LEASE_TIME_S
    lines = [f"dhcp-range=set:{tag},{first},{mode},{length},{time_s}s"]
    if subnet.dns_servers:
        dns = ",".join(f"[{server}]" for server in subnet.dns_servers)
        lines.append(f"dhcp-option=tag:{tag},option6:dns-server,{dns}")
    return lines


def _subnet_lines(subnet: SubnetView, router: IpAddress | None) -> list[str]:
    """Return the lines of one subnet; on no router, the router option is there and empty.

    Without the option dnsmasq would offer itself (dnsmasq(8), --dhcp-option).
    """
    tag = f"subnet-{subnet.id[:8]}"
    dns = ",".join(str(a) for a in subnet.dns_servers) or str(subnet.gateway)
    lease = f"{LEASE_TIME_S}s"
    told = f"option:router,{router}" if router else "option:router"
    lines = [
        f"listen-address={subnet.gateway}",
        f"dhcp-range=set:{tag},{subnet.cidr.network_address},static,{subnet.cidr.netmask},{lease}",
        f"dhcp-option=tag:{tag},{told}",
        f"dhcp-option=tag:{tag},option:dns-server,{dns}",
    ]
    if subnet.host_routes:
        # A client that gets option 121 ignores the router option, so the default route is
        # repeated in it (RFC 3442).
        routes = [f"{r.destination},{r.nexthop}" for r in subnet.host_routes]
        routes += [f"0.0.0.0/0,{router}"] if router else []
        lines.append(f"dhcp-option=tag:{tag},option:classless-static-route,{','.join(routes)}")
    return lines
