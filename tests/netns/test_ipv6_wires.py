"""IPv6 on two hosts, from captured packets: who finds whom, who may say what, what stays inside."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import dual
import pytest
from dual import INSTANCES, PREFIXES, Cloud

from trunkline.kernel import netns
from trunkline.lab import dhcpv6, probe
from trunkline.lab.packets import (
    ADVERTISE,
    ADVERTISE_ROUTER,
    ICMPV6,
    NO_ROUTE,
    PROHIBITED,
    SOLICIT,
    SOLICIT_ROUTER,
    UNREACHABLE6,
    Frame,
)
from trunkline.lab.waiting import limit_s, until
from trunkline.model import AddressMode, AddressPair, Direction, Rule, RuleId, link_local

pytestmark = pytest.mark.netns

MARK = b"trunkline-forged"
DHCP_PORTS = {546, 547}
REDIRECT, UDP = 137, 17
STATELESS = AddressMode.STATELESS


@pytest.fixture(scope="module", params=dual.ROUTERS, ids=lambda r: r.name)
def booted(request: pytest.FixtureRequest) -> Iterator[tuple[Cloud, tuple[Frame, ...]]]:
    """Boot the instances, and give what was captured meanwhile on all nodes."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    with dual.cloud(request.param) as cloud:
        with cloud.capture() as capture:
            for name in INSTANCES:
                netns.up(cloud.namespaces[name], "eth0")
            for name in ("VM_3", "VM_6"):
                lease = ask(cloud, name)
                assert lease, f"{name} was given nothing"
                cloud.run(name, "ip", "addr", "add", f"{lease.address}/128", "dev", "eth0")
            until("all have their addresses", lambda: all(has_address(cloud, n) for n in INSTANCES))
            frames = capture.frames()
        yield cloud, frames


@pytest.fixture
def cloud(booted: tuple[Cloud, tuple[Frame, ...]]) -> Cloud:
    """Give two hosts whose instances have their addresses."""
    return booted[0]


def ask(cloud: Cloud, name: str) -> dhcpv6.Lease | None:
    """Have an instance ask for an address."""
    return dhcpv6.ask(cloud.namespaces[name], "eth0", INSTANCES[name].mac, limit_s(15))


def has_address(cloud: Cloud, name: str) -> bool:
    """Return whether an instance's address is there, and nobody else's."""
    told = cloud.run(name, "ip", "-6", "addr", "show", "dev", "eth0", "-tentative")
    return f"{INSTANCES[name].address}/" in told


def icmp(frame: Frame) -> int | None:
    """Return a frame's ICMPv6 type."""
    ip = frame.ip
    return ip.icmp[0] if ip and ip.icmp and ip.protocol == ICMPV6 else None


def ping(cloud: Cloud, name: str, to: IPv6Address, *, hope: bool = True) -> probe.Answer:
    """Ping from an instance."""
    return probe.ping(cloud.namespaces[name], to, limit_s(3 if hope else 0.3))


def test_addresses_come_from_the_own_host_alone(booted: tuple[Cloud, tuple[Frame, ...]]) -> None:
    """Each instance routes by its own host; what finds routers and servers is on no trunk.

    Where the router is placed it is by that host, and the trunk's to carry.
    """
    cloud, frames = booted
    for instance in INSTANCES.values():
        routers = cloud.run(instance.name, "ip", "-6", "route", "show", "default")
        own = cloud.link_local(instance.name)
        assert [line.split()[2] for line in routers.splitlines()] == [str(own)]

    told = {f.node for f in frames if icmp(f) == ADVERTISE_ROUTER} - {dual.SWITCH}
    assert told == {*dual.HOSTS, *INSTANCES}
    crossing = [f for f in frames if f.node == dual.SWITCH]
    assert any(icmp(f) == SOLICIT for f in crossing), "neighbours are found across the trunk"
    found = [f for f in crossing if icmp(f) in (SOLICIT_ROUTER, ADVERTISE_ROUTER)]
    found += [f for f in crossing if f.ip and DHCP_PORTS & set(f.ip.ports or ())]
    assert bool(found) is bool(cloud.router.hosts)


def test_a_lease_is_the_instances_own(cloud: Cloud) -> None:
    """The own host gives what the server chose; where addresses are not given, nobody answers."""
    lease = ask(cloud, "VM_6")

    host = cloud.router_of("VM_6")
    resolver = PREFIXES[102][1 + dual.HOSTS.index(host.name)]
    assert lease == dhcpv6.Lease(INSTANCES["VM_6"].address, cloud.link_local("VM_6"), (resolver,))
    vm1 = INSTANCES["VM_1"]
    assert dhcpv6.ask(cloud.namespaces["VM_1"], "eth0", vm1.mac, limit_s(0.3)) is None


def test_who_makes_its_address_itself_may_ask_for_resolvers(cloud: Cloud) -> None:
    """In a subnet that is ``dhcpv6-stateless`` the own host says who resolves names."""
    host, usual = cloud.hosts["compute1"], cloud.snapshot("compute1")
    stateless = tuple(
        replace(n, subnets=(n.subnets[0], replace(n.subnets[1], address_mode=STATELESS)))
        if n.vlan_id == 100
        else n
        for n in usual.networks
    )
    host.settle(replace(usual, networks=stateless))

    told = dhcpv6.inform(cloud.namespaces["VM_1"], "eth0", VM1.mac, limit_s(5))
    host.settle(usual)

    assert told == (PREFIXES[100][1],)


PATHS: dict[str, tuple[str, set[int]]] = {
    "same host": ("VM_2", set()),
    "other host": ("VM_4", {100}),
    "other tenant, same host": ("VM_3", set()),
    "other tenant, other host": ("VM_6", {100, 102}),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_ping_is_answered(cloud: Cloud, name: str) -> None:
    """Packets of IPv6 take the ways of the article: by the tag of the receiver's network."""
    to, tags = PATHS[name]
    if cloud.router.hosts:  # the reply comes to that host by its own tag, and stays there
        tags = tags - {100} if len(tags) > 1 else tags
    with cloud.capture() as capture:
        answer = ping(cloud, "VM_1", INSTANCES[to].address)
        frames = capture.frames()

    assert (answer.kind, answer.by) == ("reply", INSTANCES[to].address)
    crossing = [f for f in frames if f.node == dual.SWITCH and f.ip]
    assert {f.vlan_id for f in crossing if f.ip and answer.nonce in f.ip.payload} == tags


@pytest.fixture
def way_out(cloud: Cloud) -> Iterator[Cloud]:
    """Give the left host a way out by IPv6, and somebody who answers there."""
    own = dual.BEYOND + 0x10
    _outside(cloud, "0")
    cloud.run(dual.OUTSIDE, "ip", "addr", "add", f"{dual.BEYOND}/64", "dev", "br-ext", "nodad")
    cloud.run(dual.OUTSIDE, "ip", "route", "add", str(PREFIXES[100]), "via", str(own))
    cloud.run("compute1", "ip", "addr", "add", f"{own}/64", "dev", "eth1", "nodad")
    cloud.run("compute1", "ip", "route", "add", "default", "via", str(dual.BEYOND))
    yield cloud
    cloud.run("compute1", "ip", "addr", "del", f"{own}/64", "dev", "eth1")
    _outside(cloud, "1")


def _outside(cloud: Cloud, disabled: str) -> None:
    key = "net.ipv6.conf.br-ext.disable_ipv6"
    netns.sysctl(cloud.namespaces[dual.OUTSIDE], key, disabled)


@contextmanager
def routing(cloud: Cloud, host: dual.Host) -> Iterator[None]:
    """Let a host's tenants out by IPv6 meanwhile."""
    usual, wanted = host.config, cloud.snapshot(host.name)
    host.config = replace(usual, route_ipv6=True)
    host.settle(wanted)
    yield
    host.config = usual
    host.settle(wanted)


def test_nothing_leaves_by_the_uplink_unless_it_may(way_out: Cloud) -> None:
    """What is not here is refused and never leaked; with ``route_ipv6`` the world is reached.

    A tenant prefix of elsewhere stays refused.
    """
    absent = dual.ABSENT[1]
    # The host knows a way out that tenants may not take; a router of their own knows none.
    closed = PROHIBITED if way_out.router.is_default else NO_ROUTE
    with way_out.capture() as capture:
        assert ping(way_out, "VM_1", absent).icmp == (UNREACHABLE6, NO_ROUTE)
        assert ping(way_out, "VM_1", dual.BEYOND).icmp == (UNREACHABLE6, closed)
        frames = capture.frames()
    leaving = [f.ip.source for f in frames if f.device == "eth1" and f.ip]
    assert not [source for source in leaving if source in PREFIXES[100]]

    left = way_out.hosts["compute1"]
    with routing(way_out, left):
        answer = ping(way_out, "VM_1", dual.BEYOND)
        assert (answer.kind, answer.by) == ("reply", dual.BEYOND)
        assert ping(way_out, "VM_1", absent).icmp == (UNREACHABLE6, NO_ROUTE)
        outside = way_out.namespaces[dual.OUTSIDE]
        assert probe.ping(outside, VM1.address, limit_s(0.3)).kind == "silence"  # groups say so
        inward = Rule(RuleId("in6"), Direction.INGRESS, 6, ICMPV6, remote_prefix=dual.BEYOND_ALL)
        left.settle(way_out.snapshot("compute1", rules=(*dual.OPEN, inward)))
        assert probe.ping(outside, VM1.address, limit_s(3)).kind == "reply"


@contextmanager
def connected(
    cloud: Cloud, client: str, server: str
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of a TCP connection between two instances."""
    to = (str(INSTANCES[server].address), probe.PORT)
    with ExitStack() as stack:
        places = (cloud.namespaces[name] for name in (client, server))
        first, listener = (
            stack.enter_context(netns.socket(place, socket.AF_INET6, socket.SOCK_STREAM))
            for place in places
        )
        listener.bind(to)
        listener.listen()
        first.settimeout(limit_s(5))
        first.connect(to)
        yield first, stack.enter_context(listener.accept()[0])


def test_groups_govern_ipv6(cloud: Cloud) -> None:
    """Without a rule for it nothing comes in; taking the rule away ends what is established."""
    host, to = cloud.hosts["compute2"], INSTANCES["VM_4"].address
    with connected(cloud, "VM_1", "VM_4") as (client, server):
        client.sendall(b"one")
        assert server.recv(8) == b"one"
        host.settle(cloud.snapshot("compute2", rules=dual.OPEN[:2]))
        client.sendall(b"two")
        server.settimeout(limit_s(0.5))
        with pytest.raises(TimeoutError):
            server.recv(8)
        assert ping(cloud, "VM_1", to, hope=False).kind == "silence"

        host.settle(cloud.snapshot("compute2"))
        server.settimeout(limit_s(5))
        assert server.recv(8) == b"two"
    assert ping(cloud, "VM_1", to).kind == "reply"


# --- forgeries ------------------------------------------------------------------------------

Ends = tuple[IPv6Address, IPv6Address]


def packet(macs: tuple[str, str], ends: Ends, protocol: int, body: bytes) -> bytes:
    """Return an IPv6 packet in a frame; ``macs`` and ``ends`` are (source, destination)."""
    source, destination = (bytes.fromhex(mac.replace(":", "")) for mac in macs)
    header = struct.pack(">IHBB", 6 << 28, len(body), protocol, 255)
    return destination + source + b"\x86\xdd" + header + ends[0].packed + ends[1].packed + body


def message(macs: tuple[str, str], ends: Ends, kind: int, rest: bytes) -> bytes:
    """Return an ICMPv6 message, checksum included, with our mark at its end."""
    body = bytes([kind, 0, 0, 0]) + rest + MARK
    return packet(macs, ends, ICMPV6, summed(ends, ICMPV6, body, 2))


def datagram(macs: tuple[str, str], ends: Ends, ports: tuple[int, int]) -> bytes:
    """Return a UDP packet with our mark."""
    body = struct.pack(">HHHH", *ports, 8 + len(MARK), 0) + MARK
    return packet(macs, ends, UDP, summed(ends, UDP, body, 6))


def summed(ends: Ends, protocol: int, body: bytes, at: int) -> bytes:
    """Return what IPv6 carries with its checksum in its place (RFC 8200, 8.1)."""
    pseudo = ends[0].packed + ends[1].packed + struct.pack(">II", len(body), protocol)
    return body[:at] + struct.pack(">H", probe.checksum(pseudo + body)) + body[at + 2 :]


VM1, VM2 = INSTANCES["VM_1"], INSTANCES["VM_2"]
OWN, NEIGHBOUR = link_local(VM1.mac), VM2.address
ROUTER_LIFETIME = struct.pack(">BBHII", 64, 0, 1800, 0, 0)
TO_ALL = ("33:33:00:00:00:01", IPv6Address("ff02::1"))

Forge = Callable[[tuple[str, str], IPv6Address], bytes]
FORGERIES: dict[str, Forge] = {
    "a router advertisement": lambda macs, to: message(
        macs, (OWN, to), ADVERTISE_ROUTER, ROUTER_LIFETIME
    ),
    "a redirect": lambda macs, to: message(
        macs, (OWN, to), REDIRECT, bytes(4) + OWN.packed + dual.BEYOND.packed
    ),
    "an advertisement of a neighbour's address": lambda macs, to: message(
        macs, (VM1.address, to), ADVERTISE, b"\x20\0\0\0" + NEIGHBOUR.packed
    ),
    "an advertisement of the gateway's address": lambda macs, to: message(
        macs, (OWN, to), ADVERTISE, b"\xa0\0\0\0" + PREFIXES[100][1].packed
    ),
    "an address of a neighbour's found to be taken": lambda macs, _: message(
        macs, (IPv6Address("::"), TO_ALL[1]), SOLICIT, bytes(4) + NEIGHBOUR.packed
    ),
    "another source": lambda macs, to: datagram(macs, (NEIGHBOUR, to), (9, 9)),
    "a link-local source of another MAC": lambda macs, to: datagram(
        macs, (link_local(VM2.mac), to), (9, 9)
    ),
    "another MAC": lambda macs, to: datagram((VM2.mac, macs[1]), (VM1.address, to), (9, 9)),
    "a DHCPv6 answer": lambda macs, to: datagram(macs, (OWN, to), (547, 546)),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_does_not_leave_its_port(cloud: Cloud, name: str) -> None:
    """No instance is a router, a DHCP server or a neighbour, to its host's others or elsewhere."""
    macs = (VM1.mac, TO_ALL[0])
    forged = FORGERIES[name](macs, TO_ALL[1])
    honest = message(macs, (OWN, TO_ALL[1]), ADVERTISE, b"\x20\0\0\0" + VM1.address.packed)

    frames = sent(cloud, forged, honest)

    assert {(f.node, f.device) for f in frames if f.data == forged and f.node != "VM_1"} == {
        ("compute1", VM1.tap)
    }


def test_without_the_rule_the_forgeries_would_arrive(cloud: Cloud) -> None:
    """The same frames from a port without port security do arrive: the wall is the rule."""
    host = cloud.hosts["compute1"]
    usual = cloud.snapshot("compute1")
    ports = tuple(
        replace(p, port_security=False, group_ids=()) if p.mac == VM1.mac else p
        for p in usual.ports
    )
    host.settle(replace(usual, ports=ports))
    macs = (VM1.mac, TO_ALL[0])
    honest = message(macs, (OWN, TO_ALL[1]), ADVERTISE, b"\x20\0\0\0" + VM1.address.packed)
    for name in ("an advertisement of a neighbour's address", "another source"):
        forged = FORGERIES[name](macs, TO_ALL[1])
        frames = sent(cloud, forged, honest)
        assert "VM_2" in {f.node for f in frames if f.data == forged}, name
    host.settle(usual)


def sent(cloud: Cloud, forged: bytes, honest: bytes) -> tuple[Frame, ...]:
    """Send a frame from VM_1 as its root might, then one that is allowed.

    The second arriving on both hosts proves that the first, had it passed, would have come before.
    """
    with (
        netns.socket(cloud.namespaces["VM_1"], socket.AF_PACKET, socket.SOCK_RAW) as sock,
        cloud.capture() as capture,
    ):
        sock.bind(("eth0", 0))
        sock.send(forged)
        sock.send(honest)

        def arrived() -> tuple[Frame, ...]:
            frames = capture.frames()
            came = {f.node for f in frames if f.data == honest}
            return frames if {"VM_2", "VM_4"} <= came else ()

        return until("the honest frame arrived", arrived, 5)


def test_an_address_pair_is_the_ports_own(cloud: Cloud) -> None:
    """What a pair allows can be sent from, and neighbours find it; other addresses cannot."""
    host, usual = cloud.hosts["compute1"], cloud.snapshot("compute1")
    pair = AddressPair(VM1.mac, IPv6Network("2001:db8:100::a00/120"))
    ports = tuple(replace(p, pairs=(pair,)) if p.mac == VM1.mac else p for p in usual.ports)
    within, beyond = IPv6Address("2001:db8:100::a05"), IPv6Address("2001:db8:100::b05")
    for address in (within, beyond):
        cloud.run("VM_1", "ip", "addr", "add", f"{address}/64", "dev", "eth0", "nodad")
    host.settle(replace(usual, ports=ports))

    assert ping(cloud, "VM_4", within).kind == "reply"
    assert ping(cloud, "VM_4", beyond, hope=False).kind != "reply"

    host.settle(usual)
    assert ping(cloud, "VM_4", within, hope=False).kind != "reply"
    for address in (within, beyond):
        cloud.run("VM_1", "ip", "addr", "del", f"{address}/64", "dev", "eth0")


def test_a_network_that_loses_ipv6_is_silent(cloud: Cloud) -> None:
    """Without an IPv6 subnet a host has no IPv6 on the bridge, and its instances pass none."""
    host, usual = cloud.hosts["compute1"], cloud.snapshot("compute1")
    bare = tuple(
        replace(n, subnets=n.subnets[:1]) if n.vlan_id == 100 else n for n in usual.networks
    )
    host.settle(replace(usual, networks=bare))

    show = ("ip", "-6", "addr", "show", "dev", "br100")
    for place in (cloud.namespaces["compute1"], cloud.gateway("compute1")):
        assert netns.run(place, show).stdout == ""
    assert ping(cloud, "VM_1", VM2.address, hope=False).kind != "reply"

    host.settle(usual)
    until("it is back", lambda: ping(cloud, "VM_1", VM2.address).kind == "reply")
