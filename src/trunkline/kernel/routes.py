"""Our routes in the main table, and the addresses that we answer ARP for: read and changed.

Known by their protocol number. They are read when links or addresses have changed, and not at
each packet's pace of neighbour and route notifications, of which a host may have many.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network

from pyroute2 import IPRoute

from trunkline.hoststate import Address, Route
from trunkline.kernel import netlink
from trunkline.kernel.links import Links
from trunkline.kernel.netlink import number
from trunkline.ownership import ROUTE_PROTOCOL

GETROUTE, GETNEIGH = 26, 30  # rtnetlink.h: RTM_*
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
NDA_DST, NDA_PROTOCOL = 1, 12  # neighbour.h
NTF_PROXY = 0x08
RTN_UNICAST, RTN_UNREACHABLE = 1, 7
RT_TABLE_MAIN = 254

_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_NEIGHBOUR = struct.Struct("=BBHiHBB")  # struct ndmsg


def read_routes(links: Links) -> Iterator[Route]:
    """Yield our routes in the main table of the calling thread's namespace."""
    for family in (socket.AF_INET, socket.AF_INET6):
        # The kernel leaves out other protocols' where the socket asks for strict checking.
        request = _ROUTE.pack(family, 0, 0, 0, 0, ROUTE_PROTOCOL, 0, 0, 0)
        for body in netlink.dump(netlink.ROUTE, GETROUTE, request, strict=True):
            of, length, _, _, table, protocol, _, _, _ = _ROUTE.unpack_from(body)
            # One without IPv6 is asked for it, and answers with what it has.
            if (of, protocol, table) == (family, ROUTE_PROTOCOL, RT_TABLE_MAIN):
                yield _route(netlink.attributes(body, _ROUTE.size), length, links, family)


def _route(found: netlink.Attributes, length: int, links: Links, family: int) -> Route:
    link = links.by_index.get(number(found.get(RTA_OIF)))
    name, via = link.name if link else None, found.get(RTA_GATEWAY)
    if family == socket.AF_INET6:
        destination = IPv6Network((found.get(RTA_DST, bytes(16)), length))
        return Route(destination, IPv6Address(via) if via else None, name)
    return Route(
        IPv4Network((found.get(RTA_DST, bytes(4)), length)), IPv4Address(via) if via else None, name
    )


def read_proxies(links: Links) -> Iterator[Address]:
    """Yield the addresses that links of the calling thread's namespace answer for, if ours."""
    request = _NEIGHBOUR.pack(socket.AF_INET, 0, 0, 0, 0, NTF_PROXY, 0)
    for body in netlink.dump(netlink.ROUTE, GETNEIGH, request):
        _, _, _, index, _, flags, _ = _NEIGHBOUR.unpack_from(body)
        found = netlink.attributes(body, _NEIGHBOUR.size)
        link = links.by_index.get(index)
        ours = flags & NTF_PROXY and number(found.get(NDA_PROTOCOL)) == ROUTE_PROTOCOL
        if ours and link is not None and NDA_DST in found:
            yield Address(link.name, IPv4Interface(found[NDA_DST]))


def change_route(rtnl: IPRoute, verb: str, route: Route, index: int | None) -> None:
    """Add or delete (``add``, ``del``) a route; the index is that of its link."""
    target: dict[str, object] = {"type": RTN_UNREACHABLE if index is None else RTN_UNICAST}
    if route.via is not None:
        target["gateway"] = str(route.via)
    if index is not None:
        target["oif"] = index
    rtnl.route(verb, dst=str(route.destination), proto=ROUTE_PROTOCOL, **target)


def change_proxy(rtnl: IPRoute, verb: str, address: Address, index: int) -> None:
    """Begin or cease (``add``, ``del``) to answer ARP for an address on a link."""
    ip = str(address.address.ip)
    rtnl.neigh(verb, dst=ip, ifindex=index, flags=NTF_PROXY, protocol=ROUTE_PROTOCOL)
