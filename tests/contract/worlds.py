"""Hosts that the contract suite runs against: Linux in a namespace of its own, and the fake."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Protocol

from trunkline.hoststate import HostConfig, HostState
from trunkline.kernel import netns
from trunkline.kernel.fake import FakeKernel
from trunkline.kernel.interface import Kernel
from trunkline.kernel.linux import LinuxKernel
from trunkline.lab.build import route_ipv6
from trunkline.operations import DeleteSpace, StopDhcp

UPLINK_ADDRESS = IPv4Interface("91.207.15.105/24")
HOST, WIRE = (
    f"contract{os.getpid()}-host",
    f"contract{os.getpid()}-wire",
)  # runs may be side by side


class World(Protocol):
    """A host and what happens on it without us."""

    kernel: Kernel
    config: HostConfig

    def plug_in(self, tap: str) -> None:
        """Let a hypervisor make an instance's interface."""

    def plug_out(self, tap: str) -> None:
        """Let it vanish."""

    def add_foreign_link(self, name: str) -> None:
        """Let somebody else make a link."""


def config(state_dir: str) -> HostConfig:
    """Return how the worlds' hosts are cabled."""
    return HostConfig(
        host=HOST,
        trunks={"physnet1": "eth0"},
        uplink="eth1",
        routing_source=None,
        snat_exempt=(),
        state_dir=state_dir,
    )


def read(world: World, *sysctls: str) -> HostState:
    """Read a host, once from memory and once in full: both must say the same."""
    return read_for(world, HostState(sysctls=dict.fromkeys(sysctls, "")))


def read_for(world: World, desired: HostState) -> HostState:
    """Read a host with the sysctls that a state has; see ``read``."""
    inner = {name: space.sysctls for name, space in desired.spaces.items()}
    remembered = world.kernel.read(world.config, desired.sysctls, inner)
    world.kernel.forget()
    found = world.kernel.read(world.config, desired.sysctls, inner)
    assert remembered == found
    return found


@dataclass
class FakeWorld:
    """The host in memory."""

    kernel: FakeKernel
    config: HostConfig

    def plug_in(self, tap: str) -> None:
        """See ``World``."""
        self.kernel.plug_in(tap)

    def plug_out(self, tap: str) -> None:
        """See ``World``."""
        self.kernel.plug_out(tap)

    def add_foreign_link(self, name: str) -> None:
        """See ``World``."""
        self.kernel.foreign_links.add(name)


@dataclass
class LinuxWorld:
    """A namespace with a trunk and an uplink whose other ends are in a second one."""

    kernel: LinuxKernel
    config: HostConfig

    def plug_in(self, tap: str) -> None:
        """See ``World``."""
        netns.veth(HOST, tap, None, WIRE, tap)

    def plug_out(self, tap: str) -> None:
        """See ``World``."""
        netns.delete_link(HOST, tap)

    def add_foreign_link(self, name: str) -> None:
        """See ``World``."""
        netns.bridge(HOST, name)


@contextmanager
def fake_world() -> Iterator[World]:
    """Give a host in memory."""
    yield FakeWorld(FakeKernel(uplink_address=UPLINK_ADDRESS.ip), config("/nowhere"))


@contextmanager
def linux_world() -> Iterator[World]:
    """Give this kernel, the calling thread inside a fresh namespace meanwhile."""
    state_dir = tempfile.mkdtemp(prefix="trunkline-contract-")
    Path(state_dir).chmod(0o755)  # dnsmasq gives root up
    try:
        for name in (HOST, WIRE):
            netns.create(name)
        for link in ("eth0", "eth1"):
            netns.veth(HOST, link, None, WIRE, link)
            netns.up(HOST, link)
            netns.up(WIRE, link)
        netns.address(HOST, "eth1", UPLINK_ADDRESS)
        route_ipv6(HOST)
        with netns.enter(HOST):
            kernel = LinuxKernel()
            world = LinuxWorld(kernel, config(state_dir))
            try:
                yield world
            finally:
                _clear(world)
                kernel.close()
    finally:
        for name in (HOST, WIRE):
            netns.delete(name)
        shutil.rmtree(state_dir)


def _clear(world: LinuxWorld) -> None:
    """End what would outlive the host's namespace: DHCP servers, and spaces with theirs."""
    left = world.kernel.read(world.config, ())
    for bridge in left.dhcp:
        world.kernel.run(world.config, StopDhcp(bridge))
    for space in left.spaces:
        world.kernel.run(world.config, DeleteSpace(space))


def packet_socket(link: str) -> socket.socket:
    """Return a socket on a link at the other end of the cables."""
    sock = netns.socket(WIRE, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind((link, 3))
    return sock
