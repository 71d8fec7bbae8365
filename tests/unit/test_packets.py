"""Frames taken apart: what a capture gives is what the walk speaks of."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from pathlib import Path

import dpkt
from frames import MACS, arp, at, dhcp, echo, tcp, unreachable
from hypothesis import given
from hypothesis import strategies as st

from trunkline.lab.capture import write_pcap

NONCE = bytes(range(16))


def test_tag_in_the_frame() -> None:
    """A tag that the kernel left in the bytes is found, and taken out of them."""
    data = echo("10.0.0.3", "10.0.0.4", NONCE)
    tagged = data[:12] + struct.pack(">HH", 0x8100, 0x2064) + data[12:]

    seen = at("switch:compute1:in", tagged, 1)

    assert seen.vlan_id == 100
    assert seen.data == data


def test_tag_beside_the_frame() -> None:
    """A tag that the kernel kept beside the frame is the same, and back in the wire's bytes."""
    data = echo("10.0.0.3", "10.0.0.4", NONCE)

    seen = at("switch:compute1:in", data, 1, tag=0x2064)

    assert seen.vlan_id == 100
    assert seen.tagged == data[:12] + struct.pack(">HH", 0x8100, 100) + data[12:]


def test_echo() -> None:
    """An echo request shows addresses, TTL, type, and its nonce."""
    ip = at("VM_1:eth0:out", echo("10.0.0.3", "10.0.0.4", NONCE, ttl=63), 1).ip

    assert ip is not None
    assert (ip.source, ip.destination) == (IPv4Address("10.0.0.3"), IPv4Address("10.0.0.4"))
    assert (ip.ttl, ip.icmp) == (63, (8, 0))
    assert NONCE in ip.payload


def test_error_quotes() -> None:
    """An ICMP error shows whose packet it is about, and carries that packet's nonce."""
    about = echo("91.207.15.105", "10.1.0.4", NONCE)
    data = unreachable("91.207.15.1", "91.207.15.105", about, ("left br100", "VM_1"))

    ip = at("inet:br-ext:out", data, 1).ip

    assert ip is not None
    assert ip.icmp == (3, 1)
    assert ip.quoted == (IPv4Address("91.207.15.105"), IPv4Address("10.1.0.4"))
    assert NONCE in ip.payload


def test_tcp_flags() -> None:
    """A SYN and a SYN-ACK are told apart."""
    flags = [
        at("VM_1:eth0:out", tcp("10.0.0.3", "10.1.0.4", f), 1).ip
        for f in (dpkt.tcp.TH_SYN, dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK)
    ]

    assert [ip and ip.flags for ip in flags] == ["S", "SA"]


def test_dhcp_offer() -> None:
    """An offer shows whom it is for, the address, the router and the server."""
    offer = at("compute1:br100:out", dhcp(2, "VM_1", "10.0.0.3", "10.0.0.1"), 1).dhcp

    assert offer is not None
    assert (offer.message, offer.client_mac) == ("OFFER", MACS["VM_1"])
    assert offer.offered == IPv4Address("10.0.0.3")
    assert offer.router == offer.server == IPv4Address("10.0.0.1")


def test_arp() -> None:
    """An ARP reply shows who says what."""
    reply = at("VM_1:eth0:in", arp("10.0.0.4", "10.0.0.3", "VM_5", reply=True), 1).arp

    assert reply is not None
    assert reply.is_reply
    assert (reply.sender, reply.sender_mac) == (IPv4Address("10.0.0.4"), MACS["VM_5"])


@given(
    st.binary(max_size=200), st.sampled_from([b"\x08\x00", b"\x08\x06", b"\x81\x00", b"\x86\xdd"])
)
def test_anything_off_a_wire(data: bytes, kind: bytes) -> None:
    """Whatever bytes come off a wire, taking them apart does not fail."""
    seen = at("VM_1:eth0:in", bytes(12) + kind + data, 1)

    assert seen.arp is None or seen.ip is None
    assert seen.dhcp is None or seen.ip is not None


def test_pcap_is_per_device_and_tagged(tmp_path: Path) -> None:
    """Evidence is a file per device, with the tags back in and the kernel's nanoseconds."""
    data = echo("10.0.0.3", "10.0.0.4", NONCE)
    seen = [
        at("compute1:eth0:out", data, 1_700_000_000_123_456_789, tag=100),
        at("VM_1:eth0:out", data, 1_700_000_000_123_456_000),
    ]

    write_pcap(tmp_path, seen)

    assert sorted(p.name for p in tmp_path.iterdir()) == ["VM_1-eth0.pcap", "compute1-eth0.pcap"]
    with (tmp_path / "compute1-eth0.pcap").open("rb") as file:
        ((when, wire),) = list(dpkt.pcap.Reader(file))
    assert wire == seen[0].tagged
    assert str(when).endswith(".123456789")
