"""Frames made by hand, as a capture would have them."""

from __future__ import annotations

from ipaddress import IPv4Address

import dpkt

from trunkline.lab.packets import Frame, frame

MACS = {
    "VM_1": "fa:16:3e:00:00:01",
    "VM_5": "fa:16:3e:00:00:05",
    "VM_6": "fa:16:3e:00:00:06",
    "left br100": "0a:00:00:00:01:00",
    "left br102": "0a:00:00:00:01:02",
    "all": "ff:ff:ff:ff:ff:ff",
}


def raw(mac: str) -> bytes:
    """Return a MAC as bytes."""
    return bytes.fromhex(MACS.get(mac, mac).replace(":", ""))


def ethernet(source: str, destination: str, payload: dpkt.Packet, kind: int) -> bytes:
    """Return an untagged frame between two of ``MACS``."""
    return bytes(
        dpkt.ethernet.Ethernet(src=raw(source), dst=raw(destination), type=kind, data=payload)
    )


def echo(
    source: str,
    destination: str,
    nonce: bytes,
    *,
    macs: tuple[str, str] = ("VM_1", "VM_5"),
    ttl: int = 64,
    reply: bool = False,
) -> bytes:
    """Return an ICMP echo that carries a nonce."""
    message = dpkt.icmp.ICMP(
        type=0 if reply else 8, data=dpkt.icmp.ICMP.Echo(id=7, seq=1, data=nonce)
    )
    return ethernet(*macs, packet(source, destination, message, dpkt.ip.IP_PROTO_ICMP, ttl), 0x0800)


def unreachable(source: str, destination: str, about: bytes, macs: tuple[str, str]) -> bytes:
    """Return an ICMP 'host unreachable' that quotes another frame's packet."""
    message = dpkt.icmp.ICMP(type=3, code=1, data=b"\0\0\0\0" + about[14:])
    return ethernet(*macs, packet(source, destination, message, dpkt.ip.IP_PROTO_ICMP), 0x0800)


def packet(
    source: str, destination: str, payload: dpkt.Packet, protocol: int, ttl: int = 64
) -> dpkt.ip.IP:
    """Return an IPv4 packet."""
    ip = dpkt.ip.IP(
        src=IPv4Address(source).packed,
        dst=IPv4Address(destination).packed,
        p=protocol,
        ttl=ttl,
        data=payload,
    )
    ip.len = len(bytes(ip))
    return ip


def tcp(source: str, destination: str, flags: int, port: int = 5201) -> bytes:
    """Return a TCP segment to a port."""
    segment = dpkt.tcp.TCP(sport=40000, dport=port, flags=flags)
    ip = packet(source, destination, segment, dpkt.ip.IP_PROTO_TCP)
    return ethernet("VM_1", "VM_5", ip, 0x0800)


def arp(sender: str, target: str, mac: str = "VM_1", *, reply: bool = False) -> bytes:
    """Return an ARP request for an address, or the reply with it."""
    message = dpkt.arp.ARP(
        op=2 if reply else 1,
        sha=raw(mac),
        spa=IPv4Address(sender).packed,
        tpa=IPv4Address(target).packed,
    )
    return ethernet(mac, "VM_1" if reply else "all", message, 0x0806)


def dhcp(kind: int, client: str, offered: str, server: str) -> bytes:
    """Return a DHCP answer with server and router option."""
    message = dpkt.dhcp.DHCP(
        op=2,
        chaddr=raw(client),
        yiaddr=int(IPv4Address(offered)),
        opts=[
            (53, bytes([kind])),
            (54, IPv4Address(server).packed),
            (3, IPv4Address(server).packed),
        ],
    )
    datagram = dpkt.udp.UDP(sport=67, dport=68, data=bytes(message))
    datagram.ulen = len(bytes(datagram))
    ip = packet(server, offered, datagram, dpkt.ip.IP_PROTO_UDP)
    return ethernet("left br100", client, ip, 0x0800)


def at(place: str, data: bytes, at_ns: int, tag: int | None = None) -> Frame:
    """Return a sighting at a place, given as ``node:device:direction``."""
    node, device, direction = place.split(":")
    return frame(at_ns, node, device, direction, tag, data)
