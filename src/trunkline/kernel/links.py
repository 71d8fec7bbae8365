"""Links and addresses of a namespace, kept current by the kernel's notifications.

A reading costs a dump once; afterwards the kernel tells what changed (rtnetlink(7)), and an
unchanged host costs one empty ``recv``. What is ours among all this is not decided here.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface

from trunkline.kernel import netlink
from trunkline.kernel.netlink import number, text

# rtnetlink.h: RTM_*
NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWQDISC, DELQDISC, NEWTFILTER, DELTFILTER = 36, 37, 44, 45
NEWNETCONF = 80
# Link, tc, IPv4 and IPv6 address, IPv4 and IPv6 netconf.
GROUPS = 0x1 | 0x8 | 0x10 | 0x100 | 1 << 23 | 1 << 24

IFF_UP, IFF_PROMISC = 0x1, 0x100  # if.h

# if_link.h, if_addr.h, netconf.h: attribute types
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, IFLA_EXT_MASK, IFLA_LINK_NETNSID = 18, 20, 27, 29, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_PROTINFO, IFLA_BRPORT_MODE = 12, 4
IFLA_VLAN_ID, IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES = 1, 36, 37
IFA_ADDRESS, IFA_LOCAL, IFA_PROTO = 1, 2, 11
OF_THE_KERNEL = 0, 3  # IFA_PROTO of link-local addresses that nobody gave: none, or KERNEL_LL
NETCONFA_IFINDEX, NETCONFA_ALL, NETCONFA_DEFAULT = 1, -1, -2

SKIP_STATISTICS = netlink.attribute(IFLA_EXT_MASK, struct.pack("=I", 8))  # RTEXT_FILTER_…

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg


IPV6 = 6
_INTERFACES: dict[int, type[IPv4Interface | IPv6Interface]] = {
    socket.AF_INET: IPv4Interface,
    socket.AF_INET6: IPv6Interface,
}


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel describes it.

    Attributes:
        kind: ``bridge``, ``vlan``, ``veth``, ``tun`` and so on; empty for hardware.
        master: Index of the bridge it is plugged into; 0 is none.
        lower: Index of a VLAN device's trunk or of a veth's mate in this namespace, or 0.
        abroad: Index of a veth's mate in another namespace, or 0.
    """

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    promiscuous: bool
    group: int
    master: int
    lower: int
    alias: str
    vlan_id: int
    nf_call_iptables: bool
    nf_call_ip6tables: bool
    hairpin: bool
    abroad: int = 0


class Links:
    """Memory of a namespace's links and addresses; ``refresh`` makes it current.

    Attributes:
        by_index, by_name: Links.
        addresses: Protocol (IFA_PROTO) by link index and address, in the kernel's order.
        changed: Names of links that came, went or differ since the caller last cleared it.
        addresses_version: Moves whenever an address came, went or differs from before.
        tc_version: Moves whenever a qdisc or filter may have changed.
        stale_sysctls: Indexes of links whose sysctls may have changed since the caller last
            cleared it; negative ones are ``all`` and ``default``.
    """

    def __init__(self) -> None:
        self.by_index: dict[int, Link] = {}
        self.by_name: dict[str, Link] = {}
        self.addresses: dict[tuple[int, IPv4Interface | IPv6Interface], int] = {}
        self.changed: set[str] = set()
        self.addresses_version = self.tc_version = 0
        self.stale_sysctls: set[int] = set()
        self._known = False
        self._events = netlink.listen(GROUPS)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something changes."""
        return self._events.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._events.close()

    def forget(self) -> None:
        """Make the next ``refresh`` read everything."""
        self._known = False

    def refresh(self) -> None:
        """Take in what has changed; read everything if that is unknown.

        Raises:
            Interrupted: Links or addresses kept changing during several readings. Retryable.
        """
        # Even when some were lost, all that waits is taken in first: an old notification
        # that is read after the dump would bring a deleted link back.
        while not self._take_notifications():
            self._known = False
        if not self._known:
            self._read_all()

    def reread(self, index: int) -> None:
        """Read one link: not every change is notified, for one an alias of a link that is down."""
        body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + SKIP_STATISTICS
        with suppress(OSError):  # gone meanwhile: a notification says so
            self._note(NEWLINK, netlink.ask(netlink.ROUTE, GETLINK, body))

    def reread_address(self, index: int, interface: IPv6Interface) -> None:
        """Read one address: the kernel tells of a new one of IPv6 later, from a queue of its own.

        Source: net/ipv6/addrconf.c, ``addrconf_dad_work``.
        """
        body = _ADDRESS.pack(socket.AF_INET6, interface.network.prefixlen, 0, 0, index)
        body += netlink.attribute(IFA_ADDRESS, interface.ip.packed)
        with suppress(OSError):  # gone meanwhile: a notification says so
            self._note(NEWADDR, netlink.ask(netlink.ROUTE, GETADDR, body))

    def _take_notifications(self) -> bool:
        """Take in what waits; return False when the kernel had to drop some before it."""
        try:
            for kind, body in netlink.notifications(self._events):
                self._note(kind, body)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return False
        return True

    def _read_all(self) -> None:
        self.stale_sysctls |= {NETCONFA_ALL, NETCONFA_DEFAULT}  # and each link, below
        self.changed |= self.by_name.keys()
        self.by_index.clear()
        self.by_name.clear()
        self.addresses.clear()
        self.addresses_version += 1
        self.tc_version += 1
        request = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + SKIP_STATISTICS
        for body in netlink.dump(netlink.ROUTE, GETLINK, request):
            self._note(NEWLINK, body)
        request = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        for body in netlink.dump(netlink.ROUTE, GETADDR, request):
            self._note(NEWADDR, body)
        self._known = True

    def _note(self, kind: int, body: bytes) -> None:
        if kind in (NEWLINK, DELLINK):
            # AF_BRIDGE messages are about a port's bridge side; its deletion is unplugging.
            if body[0] == socket.AF_UNSPEC:
                self._note_link(kind, body)
            elif kind == NEWLINK:
                self._note_port(body)
        elif kind in (NEWADDR, DELADDR):
            self._note_address(kind, body)
        elif kind in (NEWQDISC, DELQDISC, NEWTFILTER, DELTFILTER):
            self.tc_version += 1
        elif kind == NEWNETCONF:
            index = netlink.attributes(body, 4)[NETCONFA_IFINDEX]
            self.stale_sysctls.add(int.from_bytes(index, sys.byteorder, signed=True))

    def _note_link(self, kind: int, body: bytes) -> None:
        link = _decode_link(body)
        known = self.by_index.get(link.index)
        if kind == DELLINK:
            self._drop(link.index)
        elif known != link:
            if known is None:
                self.stale_sysctls.add(link.index)
            elif known.name != link.name:
                self._drop(link.index)
            self.by_index[link.index] = link
            self.by_name[link.name] = link
            self.changed.add(link.name)

    def _note_port(self, body: bytes) -> None:
        """Take in a port's mode, which ``bridge link set`` changes without another message."""
        known = self.by_index.get(_LINK.unpack_from(body)[2])
        port = netlink.attributes(body, _LINK.size).get(IFLA_PROTINFO)
        if known is None or port is None:
            return
        hairpin = bool(number(netlink.attributes(port).get(IFLA_BRPORT_MODE)))
        if hairpin != known.hairpin:
            link = replace(known, hairpin=hairpin)
            self.by_index[link.index] = self.by_name[link.name] = link
            self.changed.add(link.name)

    def _drop(self, index: int) -> None:
        known = self.by_index.pop(index, None)
        if known is not None:
            if self.by_name.get(known.name) == known:
                del self.by_name[known.name]
            self.changed.add(known.name)

    def _note_address(self, kind: int, body: bytes) -> None:
        family, length, _, _, index = _ADDRESS.unpack_from(body)
        make = _INTERFACES.get(family)
        if make is None:
            return
        found = netlink.attributes(body, _ADDRESS.size)
        raw = found.get(IFA_LOCAL, found.get(IFA_ADDRESS, b""))  # the latter: a tunnel's far end
        interface = make((raw, length))
        protocol = number(found.get(IFA_PROTO))
        if interface.version == IPV6 and interface.is_link_local and protocol in OF_THE_KERNEL:
            return
        key = (index, interface)
        if kind == DELADDR:
            self.addresses_version += self.addresses.pop(key, None) is not None
        elif self.addresses.get(key) != protocol:
            self.addresses[key] = protocol
            self.addresses_version += 1


def _decode_link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = netlink.attributes(body, _LINK.size)
    info = netlink.attributes(found.get(IFLA_LINKINFO, b""))
    kind = text(info.get(IFLA_INFO_KIND))
    data: netlink.Attributes = {}
    if kind in ("bridge", "vlan"):
        data = netlink.attributes(info.get(IFLA_INFO_DATA, b""))
    port: netlink.Attributes = {}
    if text(info.get(IFLA_INFO_SLAVE_KIND)) == "bridge":
        port = netlink.attributes(info.get(IFLA_INFO_SLAVE_DATA, b""))
    abroad = IFLA_LINK_NETNSID in found  # then IFLA_LINK counts in another namespace
    return Link(
        index=index,
        name=sys.intern(text(found.get(IFLA_IFNAME))),  # compared with core's all the time
        kind=kind,
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=number(found.get(IFLA_MTU)),
        up=bool(flags & IFF_UP),
        promiscuous=bool(flags & IFF_PROMISC),
        group=number(found.get(IFLA_GROUP)),
        master=number(found.get(IFLA_MASTER)),
        lower=0 if abroad else number(found.get(IFLA_LINK)),
        alias=text(found.get(IFLA_IFALIAS)),
        vlan_id=number(data.get(IFLA_VLAN_ID)) if kind == "vlan" else 0,
        nf_call_iptables=kind == "bridge" and bool(number(data.get(IFLA_BR_NF_CALL_IPTABLES))),
        nf_call_ip6tables=kind == "bridge" and bool(number(data.get(IFLA_BR_NF_CALL_IP6TABLES))),
        hairpin=bool(number(port.get(IFLA_BRPORT_MODE))),
        abroad=number(found.get(IFLA_LINK)) if abroad else 0,
    )
