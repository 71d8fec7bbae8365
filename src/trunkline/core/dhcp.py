"""DHCP servers: one dnsmasq per served network that has a subnet with DHCP.

Static leases only, and only for the instances that live on this host: a server must be silent
to everybody else's, because the segment reaches every host (article, scenario 1).
"""

from __future__ import annotations

from collections.abc import Iterable

from trunkline.core.links import Served
from trunkline.hoststate import DhcpServer
from trunkline.model import NetworkId, SubnetId
from trunkline.snapshot import NetworkView, PortView, SubnetView

LEASE_TIME_S = 86400  # nova's dhcp_lease_time since Juno


def compile_dhcp(served: Iterable[Served], ports: Iterable[PortView]) -> dict[str, DhcpServer]:
    """Return the DHCP server of each bridge that needs one, by bridge."""
    hosts: dict[NetworkId, dict[str, str]] = {}
    by_network = {s.network.id: _dhcp_subnets(s.network) for s in served}
    for port in ports:
        line = _host_line(port, by_network.get(port.network_id, {}))
        if line:
            hosts.setdefault(port.network_id, {})[port.id] = line
    return {
        s.bridge: DhcpServer(s.bridge, _config(s), hosts.get(s.network.id, {}))
        for s in served
        if by_network[s.network.id]
    }


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
