"""Frames that tell a segment where something now lives.

An address by gratuitous ARP (RFC 5227, section 3), which hosts learn from; an instance by RARP
(RFC 903), which only switches do, as hypervisors send it after a migration.
"""

from __future__ import annotations

import socket
import struct
from contextlib import nullcontext

from trunkline.errors import Rejected
from trunkline.hoststate import Address

ETH_P_ARP, ETH_P_RARP = 0x0806, 0x8035
ETHERNET, IPV4, REQUEST, REVERSE_REQUEST = 1, 0x0800, 1, 3
NOWHERE = b"\0" * 4
BROADCAST = b"\xff" * 6
REPEATS = 3  # nova's send_arp_for_ha_count: a lost frame must not leave a neighbour wrong


def announce(address: Address) -> None:
    """Send gratuitous ARP for an address on its link, in the calling thread's namespace.

    Raises:
        Rejected: The link is gone or down.
    """
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((address.link, ETH_P_ARP))
            frame = _frame(sock.getsockname()[4], address.address.ip.packed)
            for _ in range(REPEATS):
                sock.send(frame)
    except OSError as error:
        raise Rejected(f"arping -U -I {address.link} {address.address.ip}: {error}") from error


def sender() -> socket.socket:
    """Return a socket to send frames by, in the calling thread's namespace.

    For many announcements keep one: closing it makes the kernel wait for all packets under way
    (net/packet/af_packet.c, ``synchronize_net``), some 15 ms each time.
    """
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)


def announce_mac(link: str, mac: str, by: socket.socket | None = None) -> None:
    """Send RARP from a MAC out of a link, by a kept ``sender`` or one of its own.

    Raises:
        Rejected: The link is gone or down.
    """
    own = bytes.fromhex(mac.replace(":", ""))
    header = struct.pack(">HHHBBH", ETH_P_RARP, ETHERNET, IPV4, 6, 4, REVERSE_REQUEST)
    frame = BROADCAST + own + header + own + NOWHERE + own + NOWHERE
    try:
        with nullcontext(by) if by else sender() as sock:
            for _ in range(REPEATS):
                sock.sendto(frame, (link, 0))
    except OSError as error:
        raise Rejected(f"RARP from {mac} out of {link}: {error}") from error


def _frame(mac: bytes, address: bytes) -> bytes:
    """Return an ARP request whose sender and target are the address itself."""
    header = struct.pack(">HHHBBH", ETH_P_ARP, ETHERNET, IPV4, 6, 4, REQUEST)
    return BROADCAST + mac + header + mac + address + b"\0" * 6 + address
