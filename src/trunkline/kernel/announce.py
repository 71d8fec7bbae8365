"""Gratuitous ARP: tells a segment where an address now lives (RFC 5227, section 3)."""

from __future__ import annotations

import socket
import struct

from trunkline.errors import Rejected
from trunkline.hoststate import Address

ETH_P_ARP = 0x0806
ETHERNET, IPV4, REQUEST = 1, 0x0800, 1
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


def _frame(mac: bytes, address: bytes) -> bytes:
    """Return an ARP request whose sender and target are the address itself."""
    header = struct.pack(">HHHBBH", ETH_P_ARP, ETHERNET, IPV4, 6, 4, REQUEST)
    return BROADCAST + mac + header + mac + address + b"\0" * 6 + address
