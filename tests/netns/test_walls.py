"""What an instance may not put on the wire, and what it may not reach, seen by capture."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv4Network

import dpkt
import pytest

from trunkline.kernel import netns
from trunkline.lab.packets import Frame
from trunkline.lab.probe import checksum, ping
from trunkline.lab.stage import Stage
from trunkline.lab.topology import INTERNET, GroupRule
from trunkline.lab.waiting import limit_s

pytestmark = pytest.mark.netns

BROADCAST = b"\xff" * 6
MARK = b"trunkline-forged"


def mac(text: str) -> bytes:
    """Return a MAC's six bytes."""
    return bytes.fromhex(text.replace(":", ""))


def arp(source: str, sender_mac: str, sender: str, target: str, *, request: bool = False) -> bytes:
    """Return an ARP reply to everybody, or a request: ``sender`` is at ``sender_mac``."""
    return (
        BROADCAST
        + mac(source)
        + struct.pack(">HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1 if request else 2)
        + mac(sender_mac)
        + IPv4Address(sender).packed
        + BROADCAST
        + IPv4Address(target).packed
    )


def udp(frame: tuple[str, str], ip: tuple[str, str], ports: tuple[int, int]) -> bytes:
    """Return a UDP packet with our mark; arguments are (source, destination) pairs."""
    body = struct.pack(">HHHH", *ports, 8 + len(MARK), 0) + MARK
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0)
    addresses = IPv4Address(ip[0]).packed + IPv4Address(ip[1]).packed
    summed = struct.pack(">H", checksum(head + addresses))
    return mac(frame[1]) + mac(frame[0]) + b"\x08\x00" + head[:10] + summed + addresses + body


def sent(stage: Stage, instance: str, data: bytes, control: bytes) -> tuple[Frame, ...]:
    """Send a frame from an instance as its root might, then one that is allowed.

    The second arriving proves that the first, had it passed, would have arrived before it.
    """
    namespace = stage.lab.namespace(instance)
    with (
        netns.socket(namespace, socket.AF_PACKET, socket.SOCK_RAW) as sock,
        stage.capture() as capture,
    ):
        sock.bind(("eth0", 0))
        sock.send(data)
        sock.send(control)
        frames: tuple[Frame, ...] = ()
        while not any(f.node == "VM_5" and control[14:] in f.data for f in frames):
            assert capture.wait(5), "the control frame did not arrive"
            frames = capture.frames()
        return frames


FORGERIES = {
    "another MAC": lambda me, other, _gw: udp(
        ("fa:16:3e:99:99:99", other.mac), (str(me.address), str(other.address)), (9, 9)
    ),
    "another source address": lambda me, other, _gw: udp(
        (me.mac, other.mac), ("10.0.0.77", str(other.address)), (9, 9)
    ),
    "an ARP claim on the gateway": lambda me, other, gw: arp(
        me.mac, me.mac, str(gw), str(other.address)
    ),
    "an ARP claim with another MAC": lambda me, other, _gw: arp(
        me.mac, "fa:16:3e:99:99:99", str(me.address), str(other.address)
    ),
    "an honest ARP claim in a frame with another MAC": lambda me, other, _gw: arp(
        "fa:16:3e:99:99:99", me.mac, str(me.address), str(other.address)
    ),
    "a DHCP answer": lambda me, other, _gw: udp(
        (me.mac, other.mac), (str(me.address), str(other.address)), (67, 68)
    ),
    "IPv6": lambda me, other, _gw: mac(other.mac) + mac(me.mac) + b"\x86\xdd" + b"\x60" + MARK * 3,
    "a tagged frame": lambda me, other, _gw: (
        mac(other.mac) + mac(me.mac) + b"\x81\x00\x00\x66\x08\x00" + MARK * 2
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_frame_does_not_leave_its_port(stage: Stage, name: str) -> None:
    """Nothing with another's MAC or address, no DHCP answer, no tag, leaves a port."""
    me, other = stage.seats["VM_1"], stage.seats["VM_5"]
    forged = FORGERIES[name](me, other, stage.gateway("VM_1"))
    honest = arp(me.mac, me.mac, str(me.address), str(other.address))

    frames = sent(stage, "VM_1", forged, honest)

    def is_forged(frame: Frame) -> bool:
        return forged[12:] in frame.tagged and frame.tagged[6:12] == forged[6:12]

    seen = {(f.node, f.device) for f in frames if is_forged(f) and f.node != "VM_1"}
    assert seen == {("compute1", me.tap)}


def test_without_anti_spoofing_the_forgery_would_arrive(stage: Stage) -> None:
    """The same frame from a port without port security does arrive: the wall is the rule."""
    me, other = stage.seats["VM_1"], stage.seats["VM_5"]
    tenant = stage.cloud.as_project(me.project)
    groups = stage.cloud.admin.show("ports", me.port_id)["security_groups"]
    tenant.update("ports", me.port_id, {"port_security_enabled": False, "security_groups": []})
    stage.settle()
    try:
        forged = udp((me.mac, other.mac), ("10.0.0.77", str(other.address)), (9, 9))
        honest = arp(me.mac, me.mac, str(me.address), str(other.address))
        frames = sent(stage, "VM_1", forged, honest)
    finally:
        tenant.update(
            "ports", me.port_id, {"port_security_enabled": True, "security_groups": groups}
        )
        stage.settle()

    assert any(f.node == "switch" and MARK in f.data for f in frames)


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("91.207.15.105", "the host's external address"),
        ("10.0.0.1", "the host's address on the network"),
        ("10.0.0.5", "the other host's address on the network"),
        ("192.0.2.1", "the server on the management network"),
    ],
)
def test_the_host_itself_is_out_of_reach(stage: Stage, target: str, what: str) -> None:
    """An instance reaches nothing of its host, and nothing behind the host's other NICs."""
    answer = stage.ping("VM_2", IPv4Address(target), hope=False).answer

    assert answer.kind != "reply", what


def test_nothing_is_routed_to_the_hosts_other_nics(stage: Stage) -> None:
    """A packet to the management network dies on the host: its NIC there shows none of it."""
    shot = stage.ping("VM_2", IPv4Address("192.0.2.1"), hope=False)

    seen = [f for f in shot.seen.frames if f.node == "compute1" and shot.answer.nonce in f.data]
    assert {f.device for f in seen} == {stage.seats["VM_2"].tap, "br100"}


def test_a_bridge_answers_arp_for_its_own_address_only(stage: Stage) -> None:
    """The host has more addresses; on this segment it has one."""
    me = stage.seats["VM_1"]
    with (
        netns.socket(stage.lab.namespace("VM_1"), socket.AF_PACKET, socket.SOCK_RAW) as sock,
        stage.capture() as capture,
    ):
        sock.bind(("eth0", 0))
        for target in ("10.1.0.1", "91.207.15.105", str(stage.gateway("VM_1"))):
            sock.send(arp(me.mac, me.mac, str(me.address), target, request=True))
        answered: set[IPv4Address] = set()
        while stage.gateway("VM_1") not in answered:
            assert capture.wait(5), "the gateway did not answer"
            replies = [f.arp for f in capture.frames() if f.node == "VM_1" and f.arp]
            answered = {a.sender for a in replies if a.is_reply}

    assert answered == {stage.gateway("VM_1")}


def test_a_packet_from_outside_to_a_fixed_address_is_dropped(stage: Stage) -> None:
    """Whoever on the external wire routes to a tenant prefix reaches no instance."""
    inet = stage.lab.namespace("inet")
    address = stage.seats["VM_2"].address
    everybody = GroupRule("tenant1", "udp", None, IPv4Network("0.0.0.0/0"))
    with (
        stage.rules(*stage.topology.rules, everybody),
        netns.socket(inet, socket.AF_INET, socket.SOCK_DGRAM) as sock,
        stage.capture() as capture,
    ):
        netns.run(inet, ["ip", "route", "add", f"{address}/32", "via", "91.207.15.105"])
        try:
            sock.sendto(MARK, (str(address), 9))
            while not any(
                f.node == "compute1" and f.device == "eth1" and MARK in f.data
                for f in capture.frames()
            ):
                assert capture.wait(5), "the packet did not reach the host"
            assert stage.ping("VM_1", IPv4Address("8.8.8.8")).answer.kind == "reply"
            frames = capture.frames()
        finally:
            netns.run(inet, ["ip", "route", "del", f"{address}/32"])

    assert not any(f.node == "VM_2" and MARK in f.data for f in frames)


STRAYS = {  # what connection tracking calls invalid: answers to nothing, and a mangled segment
    "SYN-ACK": dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK,
    "SYN-FIN": dpkt.tcp.TH_SYN | dpkt.tcp.TH_FIN,
}


@pytest.mark.parametrize("flags", STRAYS.values(), ids=STRAYS)
def test_a_host_does_not_answer_for_a_floating_ip(stage: Stage, flags: int) -> None:
    """What belongs to no connection is not translated, and meets no stack that would reset it."""
    floating, host = stage.floating("VM_1").address, IPv4Address("91.207.15.105")
    internet = stage.lab.namespace(INTERNET)
    stray = dpkt.tcp.TCP(sport=4000, dport=4001, flags=flags, win=1024)
    with (
        netns.socket(internet, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as sock,
        stage.capture() as capture,
    ):
        sock.connect((str(floating), 0))
        ends = IPv4Address(sock.getsockname()[0]).packed + floating.packed
        stray.sum = checksum(ends + struct.pack(">HH", 6, len(bytes(stray))) + bytes(stray))
        sock.send(bytes(stray))
        # The host answers in order: what it had to say of the stray has come before this.
        assert ping(internet, host, limit_s(5)).kind == "reply"
        frames = [f for f in capture.frames() if f.ip and f.ip.protocol == socket.IPPROTO_TCP]

    seen = [(f.node, f.device, f.direction, f.ip.destination) for f in frames if f.ip]
    assert ("compute1", "eth1", "in", floating) in seen
    assert [f for f in frames if f.ip and f.ip.source == floating] == []
    assert [place for place in seen if place[0] == "VM_1"] == []
