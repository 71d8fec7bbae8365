"""What a host does when it begins or ends to act for a router: a program that keepalived runs.

    python3 -I takeover.py acts|rests FILE

FILE says it as JSON (``kernel.keepalived``). Needs no agent and nothing but Python itself, so that
it is done in some hundredths of a second: the ways to the router's space are opened, the host gets
its routes and answers for floating IPs, and neighbours are told, several times, as the first word
may come too early.
"""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000  # sched.h
ETH_P_ARP, ETHERNET, IPV4, REQUEST = 0x0806, 1, 0x0800, 1
AGAIN_S = (0.0, 0.1, 0.3, 0.6)  # a port that was just opened may not forward yet
PROTOCOL = 116  # ownership.ROUTE_PROTOCOL


def main(verb: str, file: str) -> int:
    """Do what is due; whatever is so already stays.

    A router whose file is gone is on this host alone now, or not at all: the agent's to deal with.
    """
    if not Path(file).exists():
        return 0
    told = json.loads(Path(file).read_text())
    acts = verb == "acts"
    ways = ", ".join(f'"{way}"' for way in told["ways"])
    if ways:
        adding = f"add element bridge trunkline resting {{ {ways} }}\n"
        deleting = f"delete element bridge trunkline resting {{ {ways} }}\n"
        _run(["nft", "-f", "-"], adding + (deleting if acts else ""))
    lines = [_route(route, acts=acts) for route in told["routes"]]
    lines += [_proxy(link, address, acts=acts) for link, address in told["outside"]]
    _run(["ip", "-force", "-batch", "-"], "".join(lines))
    if acts:
        _announce(told)
    return 0


def _route(route: dict[str, str], *, acts: bool) -> str:
    where = f"{route['destination']} via {route['via']} dev {route['link']} proto {PROTOCOL}"
    return f"route {'replace' if acts else 'del'} {where}\n"


def _proxy(link: str, address: str, *, acts: bool) -> str:
    verb = "replace" if acts else "del"
    return f"neigh {verb} proxy {address} dev {link} protocol {PROTOCOL}\n"


def _run(argv: list[str], words: str) -> None:
    subprocess.run(argv, input=words, encoding="utf-8", check=False, timeout=5)


def _announce(told: dict[str, Any]) -> None:
    """Tell the neighbours of the uplink, and those inside the space, where addresses are now."""
    frames = [_frame(link, address) for link, address in told["outside"]]
    with Path("/run/netns", told["space"]).open() as space:
        ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET)
    frames += [_frame(link, address) for link, address in told["inside"]]
    for pause_s in AGAIN_S:
        time.sleep(pause_s)
        for sock, frame in frames:
            sock.send(frame)


def _frame(link: str, address: str) -> tuple[socket.socket, bytes]:
    """Return an ARP request whose sender and target are the address, and a socket to send it by."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((link, ETH_P_ARP))
    mac, packed = sock.getsockname()[4], socket.inet_aton(address)
    header = struct.pack(">HHHBBH", ETH_P_ARP, ETHERNET, IPV4, 6, 4, REQUEST)
    return sock, b"\xff" * 6 + mac + header + mac + packed + bytes(6) + packed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
