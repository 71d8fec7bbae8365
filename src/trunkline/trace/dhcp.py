"""What a DHCP server of ours answers, read off its dnsmasq configuration and host entries.

Decides whether a client gets a lease and what is in it. Lines that are not about that are left
alone. Source: dnsmasq(8), dhcp-host, dhcp-range, dhcp-option.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network

from trunkline.hoststate import DhcpServer
from trunkline.trace.cloud import EVERYWHERE
from trunkline.trace.packets import DHCP_CLIENT, DHCP_SERVER, UDP, Packet


@dataclass(frozen=True, slots=True)
class Lease:
    """What a client is offered.

    Attributes:
        server: Whose address the offer comes from: the one that the server listens on.
        routes: Destinations with their next hops, the default route among them.
        line: The static entry behind it.
    """

    address: IPv4Address
    prefix: IPv4Network
    server: IPv4Address
    routes: tuple[tuple[IPv4Network, IPv4Address], ...]
    line: str

    def packet(self) -> Packet:
        """Return the offer as a packet."""
        router = next((hop for prefix, hop in self.routes if prefix == EVERYWHERE), None)
        return Packet(
            name=f"DHCPOFFER: {self.address}, router {router}, server {self.server}",
            role="dhcp",
            protocol=UDP,
            source=self.server,
            destination=self.address,
            source_port=DHCP_SERVER,
            destination_port=DHCP_CLIENT,
            size=328,
        )


@dataclass(frozen=True, slots=True)
class _Range:
    tag: str
    prefix: IPv4Network
    server: IPv4Address
    routes: tuple[tuple[IPv4Network, IPv4Address], ...]


def offer(server: DhcpServer, mac: str) -> Lease | None:
    """Return what a server offers to a client; None if it stays silent."""
    line = next((line for line in server.leases if line.split(",")[0] == mac), None)
    given = (word for word in (line or "").split(",")[1:-1] if not word.startswith("["))
    found = next(given, None)
    if line is None or found is None:
        return None
    address = IPv4Address(found)
    for one in _ranges(server.config):
        if address in one.prefix:
            return Lease(address, one.prefix, one.server, one.routes, line)
    return None


def advertises(server: DhcpServer, mac: str) -> bool:
    """Return whether a client gets its IPv6 address: it makes one, or the server has one for it."""
    lines = [line.partition("=") for line in server.config.splitlines()]
    ranges = [value.split(",") for key, _, value in lines if key == "dhcp-range"]
    modes = {w[2] for w in ranges if ":" in w[1]}  # tag, start, mode, length
    if "enable-ra" not in server.config.splitlines():
        return False
    leases = (line.split(",") for line in server.leases)
    own = next((words for words in leases if words[0] == mac), None)
    given = own is not None and any(word.startswith("[") for word in own)
    return modes <= {"ra-only", "ra-stateless"} or ("static" in modes and given)


def is_router(server: DhcpServer) -> bool:
    """Return whether who advertises is a router, too: it is for longer than no time."""
    params = (line for line in server.config.splitlines() if line.startswith("ra-param="))
    return not any(line.endswith(",0") for line in params)


@lru_cache(maxsize=1024)
def _ranges(config: str) -> tuple[_Range, ...]:
    values = [line.partition("=")[::2] for line in config.splitlines()]
    listening = [value for key, value in values if key == "listen-address" and ":" not in value]
    options = [value.split(",") for key, value in values if key == "dhcp-option"]
    ranges = []
    for key, value in values:
        words = value.split(",")
        if key == "dhcp-range" and len(words) > 3 and ":" not in words[1]:  # noqa: PLR2004 - tag, start, mode, mask
            tag = words[0].removeprefix("set:")
            prefix = IPv4Network((words[1], words[3]))
            server = next((a for a in map(IPv4Address, listening) if a in prefix), None)
            if server is not None:
                ranges.append(_Range(tag, prefix, server, _routes(options, tag)))
    return tuple(ranges)


def _routes(options: list[list[str]], tag: str) -> tuple[tuple[IPv4Network, IPv4Address], ...]:
    """Return the routes of a range; with option 121 the router option is ignored (RFC 3442).

    An empty router option is one that is not sent: the network is on no router.
    """
    routers: tuple[tuple[IPv4Network, IPv4Address], ...] = ()
    for words in options:
        if words[0] != f"tag:{tag}":
            continue
        if words[1] == "option:classless-static-route":
            pairs = zip(words[2::2], words[3::2], strict=True)
            return tuple((IPv4Network(prefix), IPv4Address(hop)) for prefix, hop in pairs)
        if words[1] == "option:router":
            routers = tuple((EVERYWHERE, IPv4Address(word)) for word in words[2:])
    return routers
