"""An instance that can move while it runs: its NIC stays, the tap behind it changes hosts.

    VM_1 eth0 --- guest | wire | compute1 --- tap… on compute1
                        |      | compute2 --- tap… on compute2

The hypervisor is a namespace with a bridge. It may have a tap on two hosts, as while memory is
copied; the instance runs where the tap is on the bridge. Its own NIC never loses the carrier, so
nothing in it learns of the move. Decides nothing about when, nor about what ought to be seen.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

from trunkline.errors import Rejected
from trunkline.kernel import netns
from trunkline.kernel.announce import announce_mac
from trunkline.lab import build
from trunkline.lab.cloud import Seat
from trunkline.lab.state import Lab
from trunkline.lab.waiting import limit_s, until

WIRE, GUEST = "wire", "guest"
INTERVAL_S = 0.1
LABEL = "moving-ping"  # its record and its log
SIGINT = 2
TALK_S = 5.0  # TCP tries again after 0.2 s, 0.6 s, 1.4 s and 3 s
ANSWERED, UNANSWERED = "bytes from", "no answer yet"  # as iputils' ping says it
SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received")


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """What an instance runs under, and where its taps are."""

    lab: Lab
    seat: Seat

    @property
    def namespace(self) -> str:
        """Return the name of its namespace."""
        return self.lab.namespace(f"{self.seat.instance}-vmm")

    def power_on(self) -> None:
        """Make the instance, with its tap on the host of its seat; it is not booted."""
        self.lab.claim(f"{self.seat.instance}-vmm")
        instance = self.lab.namespace(self.seat.instance)
        for namespace in (self.namespace, instance):
            netns.create(namespace)
        build.be_quiet(self.namespace)
        netns.veth(instance, "eth0", self.seat.mac, self.namespace, GUEST)
        netns.bridge(self.namespace, WIRE, [GUEST])
        self.add_tap(self.seat.host)
        self.run_on(self.seat.host)

    def add_tap(self, host: str) -> None:
        """Plug a tap in on a host; the instance runs elsewhere."""
        netns.veth(self.namespace, host, None, self.lab.namespace(host), self.seat.tap)
        netns.up(self.namespace, host)

    def remove_tap(self, host: str) -> None:
        """Take a host's tap away."""
        netns.delete_link(self.namespace, host)

    def run_on(self, host: str) -> None:
        """Let the instance run on a host, and on no other."""
        for link in json.loads(self._ip("-j", "link")):
            if link.get("master") == WIRE and link["ifname"] not in (GUEST, host):
                self._ip("link", "set", link["ifname"], "nomaster")
        self._ip("link", "set", host, "master", WIRE)

    def announce(self, host: str) -> None:
        """Tell a host's switch that the instance runs there, as QEMU does after a migration."""
        with netns.enter(self.namespace):
            announce_mac(host, self.seat.mac)

    def is_wired(self, host: str) -> bool:
        """Return whether a host's agent has plugged the tap into a bridge that forwards."""
        done = netns.run(self.lab.namespace(host), ["bridge", "-j", "link"], limit_s(10))
        ports = {port["ifname"]: port for port in json.loads(done.stdout or "[]")}
        return bool(ports.get(self.seat.tap, {}).get("state") == "forwarding")

    def power_off(self) -> None:
        """End the instance and all its taps."""
        for host in self.lab.topology.hosts:
            with suppress(Rejected):
                self.remove_tap(host)
        build.unplug_instance(self.lab, self.seat.instance)
        netns.delete(self.namespace)

    def _ip(self, *words: str) -> str:
        done = netns.run(self.namespace, ["ip", *words], limit_s(10))
        if done.returncode:
            raise Rejected(f"ip {' '.join(words)} in {self.namespace}: {done.stderr.strip()}")
        return done.stdout


@dataclass(frozen=True, slots=True)
class Loss:
    """How a ping went."""

    sent: int
    received: int

    @property
    def lost(self) -> int:
        """Return how many were not answered."""
        return self.sent - self.received


class Pinging:
    """A ping under way, ten packets a second."""

    def __init__(self, lab: Lab, node: str, address: IPv4Address) -> None:
        self._lab = lab
        self._log = lab.directory / "logs" / f"{LABEL}.log"
        self._log.unlink(missing_ok=True)
        argv = ["ping", "-n", "-O", "-i", str(INTERVAL_S), str(address)]
        self._process = lab.spawn(LABEL, node, argv)

    def wait_for(self, answers: int) -> None:
        """Wait until so many more packets have been answered."""
        goal = self._count(ANSWERED) + answers
        until(f"{answers} more pings are answered", lambda: self._count(ANSWERED) >= goal)

    def wait_for_loss(self) -> None:
        """Wait until one more packet has not been answered in time for the next."""
        goal = self._count(UNANSWERED) + 1
        until("a ping is not answered", lambda: self._count(UNANSWERED) >= goal)

    def end(self) -> Loss:
        """Stop, and return how it went."""
        self._process.signal(SIGINT)
        found = until("ping says how it went", lambda: SUMMARY.search(self._log.read_text()))
        self._lab.retire(LABEL)
        sent, received = found.groups() if found else ("0", "0")
        return Loss(int(sent), int(received))

    def _count(self, words: str) -> int:
        return self._log.read_text().count(words) if self._log.exists() else 0


@dataclass(frozen=True, slots=True)
class Talk:
    """An established TCP connection, both ends of it."""

    name: str
    ends: tuple[socket.socket, socket.socket]

    def goes_on(self) -> bool:
        """Return whether what either end says now is heard by the other."""
        for speaker, listener in (self.ends, self.ends[::-1]):
            try:
                speaker.sendall(b"?")
                listener.settimeout(limit_s(TALK_S))
                if listener.recv(1) != b"?":
                    return False
            except OSError:
                return False
        return True

    def abandon(self) -> None:
        """Have both ends forget the connection when they close, instead of repeating their say."""
        for end in self.ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def talk(
    name: str,
    client: str,
    server: str,
    address: IPv4Address,
    ports: tuple[int, int] | None = None,
) -> Iterator[Talk]:
    """Have a TCP connection from one namespace to a listener in another.

    Args:
        name: What stories call it.
        client: Whence.
        server: Where somebody listens.
        address: Whither.
        ports: There, and where the listener is, if the way there changes it; None: any.

    Raises:
        OSError: There is no way to connect.
    """
    with (
        netns.socket(server, socket.AF_INET, socket.SOCK_STREAM) as listener,
        netns.socket(client, socket.AF_INET, socket.SOCK_STREAM) as speaker,
    ):
        asked, listening = ports or (0, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", listening))  # noqa: S104 - the node's every address
        listener.listen()
        for end in (listener, speaker):
            end.settimeout(limit_s(TALK_S))
        speaker.connect((str(address), asked or listener.getsockname()[1]))
        accepted, _ = listener.accept()
        with accepted:
            yield Talk(name, (speaker, accepted))
