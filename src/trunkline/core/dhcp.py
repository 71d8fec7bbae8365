"""DHCP servers: one dnsmasq per served network that has a subnet with DHCP.

Static leases only, and only for the instances that live on this host: a server must be silent
to everybody else's, because the segment reaches every host (article, scenario 1).
"""

from __future__ import annotations

from trunkline.core.kept import kept
from trunkline.core.links import Served, by_network
from trunkline.hoststate import DhcpServer
from trunkline.model import SubnetId
from trunkline.snapshot import NetworkView, PortView, SubnetView, parts_of

LEASE_TIME_S = 86400  # nova's dhcp_lease_time since Juno


def compile_dhcp(served: tuple[Served, ...], ports: tuple[PortView, ...]) -> dict[str, DhcpServer]:
    """Return the DHCP server of each bridge that needs one, by bridge."""
    hosts: dict[str, dict[str, str]] = {s.bridge: {} for s in served}
    for part in parts_of(ports):
        for bridge, lines in _hosts(served, part).items():
            hosts[bridge] |= lines
    configs = _configs(served)
    return {b: DhcpServer(b, config, hosts[b]) for b, config in configs.items()}


@kept()
def _configs(served: tuple[Served, ...]) -> dict[str, str]:
    """Return the configuration of each DHCP server by bridge."""
    return {s.bridge: _config(s) for s in served if _dhcp_subnets(s.network)}


@kept()
def _hosts(served: tuple[Served, ...], ports: tuple[PortView, ...]) -> dict[str, dict[str, str]]:
    """Return by bridge, and then by port, the lines of the ports that get an address."""
    hosts: dict[str, dict[str, str]] = {}
    places = by_network(served)
    for port in ports:
        place = places.get(port.network_id)
        line = _host_line(port, _dhcp_subnets(place.network)) if place else ""
        if place and line:
            hosts.setdefault(place.bridge, {})[port.id] = line
    return hosts


def _dhcp_subnets(network: NetworkView) -> dict[SubnetId, SubnetView]:
    return {s.id: s for s in network.subnets if s.enable_dhcp and s.gateway is not None}


def _host_line(port: PortView, subnets: dict[SubnetId, SubnetView]) -> str:
    """Return the port's ``dhcp-host`` line; dnsmasq honours one address per MAC and range."""
    for fixed in port.fixed_ips:
        if fixed.subnet_id in subnets:
            return f"{port.mac},{fixed.address},{port.hostname}"
    return ""


def _config(served: Served) -> str:
    """Return the configuration file of a network's dnsmasq, paths left to the kernel door.

    ``interface`` beside ``listen-address``: with several servers on one host that only listen
    on addresses, one of them gets all unicast renewals (LP#1554227). Unknown clients are
    ignored outright, which makes ``dhcp-authoritative`` safe: it answers a known client that
    asks for its address back after a restart, and never refuses another host's client.
    """
    subnets = _dhcp_subnets(served.network).values()
    lines = [
        f"interface={served.bridge}",
        "except-interface=lo",
        "bind-interfaces",
        "no-hosts",
        "dhcp-authoritative",
        "dhcp-ignore=tag:!known",
        f"dhcp-lease-max={sum(s.cidr.num_addresses for s in subnets)}",
        f"dhcp-option=option:mtu,{served.network.mtu}",
    ]
    for subnet in subnets:
        lines += _subnet_lines(subnet)
    return "\n".join(lines) + "\n"


def _subnet_lines(subnet: SubnetView) -> list[str]:
    tag = f"subnet-{subnet.id[:8]}"
    dns = ",".join(str(a) for a in subnet.dns_servers) or str(subnet.gateway)
    lease = f"{LEASE_TIME_S}s"
    lines = [
        f"listen-address={subnet.gateway}",
        f"dhcp-range=set:{tag},{subnet.cidr.network_address},static,{subnet.cidr.netmask},{lease}",
        f"dhcp-option=tag:{tag},option:router,{subnet.gateway}",
        f"dhcp-option=tag:{tag},option:dns-server,{dns}",
    ]
    if subnet.host_routes:
        # A client that gets option 121 ignores the router option, so the default route is
        # repeated in it (RFC 3442).
        routes = [f"{r.destination},{r.nexthop}" for r in subnet.host_routes]
        routes.append(f"0.0.0.0/0,{subnet.gateway}")
        lines.append(f"dhcp-option=tag:{tag},option:classless-static-route,{','.join(routes)}")
    return lines
