"""Why the kernel drops a packet, told of those that carry a number and of no others."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from trunkline.errors import MissingFeature
from trunkline.kernel import bpf, btf, netns
from trunkline.kernel.drops import Drop, Drops
from trunkline.lab.waiting import until

pytestmark = pytest.mark.netns

NAME, NUMBER, NOBODY_PORT = "tl-drops-test", 0x1A2B3C4D, 9
RULES = "table inet t {\nchain c {\ntype filter hook input priority 0\nudp dport 10 drop\n}\n}\n"


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace with a loopback that is up, and a rule that drops what is for port 10."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    netns.create(NAME, lambda: None)
    try:
        for argv, text in ((["ip", "link", "set", "lo", "up"], ""), (["nft", "-f", "-"], RULES)):
            done = netns.run(NAME, argv, stdin=text)
            assert done.returncode == 0, done.stderr
        yield NAME
    finally:
        netns.delete(NAME)


def send(namespace: str, number: int, port: int) -> None:
    """Send a datagram that carries a number to the namespace's own loopback."""
    with netns.socket(namespace, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(struct.pack(">I", number) + bytes(12), ("127.0.0.1", port))


def here(drops: Drops) -> set[tuple[str, bool]]:
    """Return reason, and whether the device was known, of the drops in the namespace."""
    inode = netns.inode(NAME)
    return {(d.reason, d.device > 0) for d in drops.take() if d.namespace == inode}


def test_reasons_are_told_of_the_probe_alone(namespace: str) -> None:
    """No socket, and a rule: each packet's own reason; another packet's is not told."""
    with Drops(NUMBER) as drops:
        send(namespace, NUMBER + 7, 10)
        assert here(drops) == set()
        send(namespace, NUMBER, NOBODY_PORT)
        assert here(drops) == {("NO_SOCKET", True)}
        send(namespace, NUMBER, 10)
        found: tuple[Drop, ...] = drops.take()
    assert {d.reason for d in found} == {"NETFILTER_DROP"}
    assert {d.location for d in found} <= {"nft_do_chain", "nf_hook_slow"}  # since 6.5, before


def test_nothing_is_left_of_a_killed_process() -> None:
    """The program goes with the process that loaded it: after SIGKILL the kernel has it no more."""
    if os.geteuid() != 0:
        pytest.skip("needs root: bpf()")
    script = (
        "import time\nfrom pathlib import Path\nfrom trunkline.kernel.drops import Drops\n"
        f"drops = Drops({NUMBER})\n"
        "texts = [f.read_text() for f in Path('/proc/self/fdinfo').iterdir() if f.exists()]\n"
        "print([t.split('prog_id:')[1].split()[0] for t in texts if 'prog_id:' in t][0])\n"
        "print(flush=True)\ntime.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child, child.stdout as out:
        assert select.select([out], [], [], 30)[0]
        program = int(out.readline())
        assert is_loaded(program)
        child.kill()
    until("the program is gone", lambda: not is_loaded(program))


def is_loaded(program: int) -> bool:
    """Return whether the kernel has a program of this id."""
    try:
        os.close(bpf.call(bpf.PROG_GET_FD_BY_ID, "=I", program))
    except FileNotFoundError:
        return False
    return True


def test_a_kernel_that_does_not_say_where_things_are() -> None:
    """What is no type information, or lacks a structure, is a feature that is missing."""
    with pytest.raises(MissingFeature):
        btf.Types(b"")
    empty = struct.pack("=HBBIIIII", btf.MAGIC, 1, 0, 24, 0, 0, 0, 1) + b"\0"
    with pytest.raises(MissingFeature, match="has no sk_buff"):
        btf.Types(empty).offset("sk_buff", "head")
