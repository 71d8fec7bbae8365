"""What only a real host has: rules as nft prints them, wires with tags, crashes, daemons."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from worlds import HOST, World, packet_socket, read

from trunkline.core.compile import compile_host
from trunkline.core.diff import diff_host
from trunkline.core.filter import rule_text
from trunkline.hoststate import HostState, Vlan
from trunkline.kernel import netns
from trunkline.model import Direction, Rule, RuleId
from trunkline.operations import CreateVlan, DeleteLink, RunNft
from trunkline.ownership import LINK_GROUP, tap_name

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
import clouds

SOL_PACKET, PACKET_AUXDATA = 263, 8


def rules() -> Iterator[Rule]:
    """Yield a rule of every form that the API can make."""
    prefixes = (None, IPv4Network("0.0.0.0/0"), IPv4Network("10.1.0.0/24"), IPv4Network("10.1.0.7"))
    services: list[tuple[int | None, int | None, int | None]] = [(None, None, None)]
    services += [(p, None, None) for p in (1, 2, 4, 6, 17, 33, 47, 50, 51, 58, 89, 112, 132, 136)]
    services += [(p, 1, 65535) for p in (6, 17, 33, 132, 136)]
    services += [(p, 22, 22) for p in (6, 17, 33, 132, 136)]
    services += [(1, kind, None) for kind in range(256)]
    services += [(1, kind, code) for kind in (0, 3, 5, 8, 11) for code in (0, 1, 4, 13, 255)]
    number = 0
    for direction in Direction:
        for prefix in prefixes:
            for protocol, low, high in services:
                number += 1
                yield Rule(
                    RuleId(f"rule-{number}"),
                    direction,
                    protocol=protocol,
                    port_min=low,
                    port_max=high,
                    remote_prefix=prefix,
                )


def test_every_form_of_rule_reads_back_as_it_was_written(linux: World) -> None:
    """What the compiler writes and what nft prints are one text, or each cycle would rewrite."""
    texts = [rule_text(rule) for rule in rules()]
    linux.kernel.run(
        linux.config,
        RunNft(
            (
                "add table inet trunkline",
                "add chain inet trunkline every",
                *(f"add rule inet trunkline every {text}" for text in texts),
            )
        ),
    )

    found = read(linux).tables["inet", "trunkline"].chains["every"].rules
    assert found == tuple(texts)


@pytest.mark.parametrize("name", clouds.STATES)
def test_each_named_cloud_is_in_sync_after_one_pass(linux: World, name: str) -> None:
    """All that a cloud compiles to is done in one pass and reads back as it was meant."""
    for port in (clouds.VM1, clouds.VM2, clouds.VM3):
        linux.plug_in(tap_name(port.id))
    facts = linux.kernel.facts(linux.config)
    desired, _ = compile_host(clouds.STATES[name], linux.config, facts)
    for operation in diff_host(desired, read(linux)):
        linux.kernel.run(linux.config, operation)

    assert diff_host(desired, read(linux, *desired.sysctls)) == ()


def built(world: World) -> HostState:
    """Build the article's left host and return what it must be."""
    facts = world.kernel.facts(world.config)
    desired, _ = compile_host(clouds.ARTICLE, world.config, facts)
    for operation in diff_host(desired, world.kernel.read(world.config, desired.sysctls)):
        world.kernel.run(world.config, operation)
    return desired


def due(world: World, desired: HostState) -> int:
    """Return how many operations are due on a host."""
    return len(diff_host(desired, read(world, *desired.sysctls)))


def frame_to(destination: str) -> bytes:
    """Return a frame with a payload that nobody else sends."""
    head = bytes.fromhex(destination.replace(":", "")) + b"\x02\x00\x00\x00\x00\x07"
    return head + b"\x88\xb5" + b"trunkline-contract".ljust(46, b".")  # IEEE local experimental


def received(sock: socket.socket, frame: bytes) -> int | None:
    """Wait for a frame and return its VLAN id, 0 if it has no tag, None if it does not come."""
    sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    while select.select([sock], [], [], 2)[0]:
        data, ancillary, _, _ = sock.recvmsg(2048, 256)
        if frame[12:] not in data:
            continue
        if data[12:14] == b"\x81\x00":
            return int.from_bytes(data[14:16]) & 0xFFF
        tag = int.from_bytes(ancillary[0][2][16:18], sys.byteorder)
        return tag & 0xFFF
    return None


def test_a_frame_leaves_the_bridge_with_its_tag_and_comes_in_without(linux: World) -> None:
    """Out: tag 100 on the wire. In: a frame with the tag reaches the bridge without it."""
    built(linux)
    out = frame_to("ff:ff:ff:ff:ff:ff")
    with packet_socket("eth0") as wire:
        with netns.socket(HOST, socket.AF_PACKET, socket.SOCK_RAW) as bridge:
            bridge.bind(("br100", 0))
            bridge.send(out)
        assert received(wire, out) == 100

        with netns.socket(HOST, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as inside:
            inside.bind(("br100", 3))
            wire.send(out[:12] + b"\x81\x00\x00\x64" + out[12:])
            assert received(inside, out) == 0


def test_a_tag_that_nobody_serves_and_frames_without_one_stay_outside(linux: World) -> None:
    """They reach the trunk NIC, as they would on any host, and no bridge."""
    built(linux)
    frame = frame_to("ff:ff:ff:ff:ff:ff")
    with (
        packet_socket("eth0") as wire,
        netns.socket(HOST, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as trunk,
        netns.socket(HOST, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as inside,
    ):
        trunk.bind(("eth0", 3))
        inside.bind(("br100", 3))
        wire.send(frame)
        assert received(trunk, frame) == 0
        wire.send(frame[:12] + b"\x81\x00\x00\xc7" + frame[12:])
        assert received(trunk, frame) == 199

        assert not select.select([inside], [], [], 0)[0]


def test_what_others_have_on_the_trunk_stays(linux: World) -> None:
    """A foreign qdisc and filter on the trunk outlive our VLAN devices' coming and going."""
    for argv in (
        ["tc", "qdisc", "add", "dev", "eth0", "clsact"],
        [
            *("tc", "filter", "add", "dev", "eth0", "ingress", "pref", "7", "protocol", "all"),
            *("bpf", "bytecode", "1,6 0 0 0,", "flowid", "1:1"),
        ],
    ):
        done = netns.run(HOST, argv)
        assert done.returncode == 0, done.stderr
    before = netns.run(HOST, ["tc", "filter", "show", "dev", "eth0", "ingress"]).stdout
    desired = built(linux)

    for name in desired.vlans:
        linux.kernel.run(linux.config, DeleteLink(name))

    assert netns.run(HOST, ["tc", "filter", "show", "dev", "eth0", "ingress"]).stdout == before


@pytest.mark.parametrize(
    "crash",
    [
        ["ip", "link", "set", "br100", "alias", ""],
        ["ip", "link", "set", "vlan100", "nomaster"],
        ["ip", "link", "set", "vlan100", "down"],
        ["ip", "link", "del", "vlan100"],
        ["ip", "link", "del", "br102"],
        ["ip", "addr", "flush", "dev", "br100"],
        ["nft", "delete", "table", "bridge", "trunkline"],
    ],
)
def test_what_a_crash_or_a_hand_left_behind_is_repaired(linux: World, crash: list[str]) -> None:
    """A half-made or spoilt object of ours is seen as such, and the next pass repairs it."""
    desired = built(linux)
    assert netns.run(HOST, crash).returncode == 0
    assert due(linux, desired) > 0

    for operation in diff_host(desired, linux.kernel.read(linux.config, desired.sysctls)):
        linux.kernel.run(linux.config, operation)

    assert due(linux, desired) == 0


def test_a_bridge_from_the_moment_of_its_creation_is_ours(linux: World) -> None:
    """An agent killed right after the first message leaves a bridge that the next one knows."""
    argv = ["ip", "link", "add", "br100", "group", str(LINK_GROUP), "type", "bridge"]
    assert netns.run(HOST, argv).returncode == 0

    assert set(read(linux).bridges) == {"br100"}
    built(linux)
    assert read(linux).bridges["br100"].alias == "trunkline network=network100"


def test_a_dead_dhcp_server_is_noticed_and_replaced(linux: World) -> None:
    """Its process gone, its files are no proof of life."""
    desired = built(linux)
    pid = int((Path(linux.config.state_dir) / "dhcp/br100/pid").read_text())
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        select.select([], [], [], 0.01)

    assert due(linux, desired) == 1
    built(linux)
    assert due(linux, desired) == 0


def test_a_foreign_process_with_a_pid_of_ours_is_left_alone(linux: World) -> None:
    """A pid file that points to somebody else's process does not make it ours."""
    desired = built(linux)
    place = Path(linux.config.state_dir) / "dhcp/br100"
    ours = int((place / "pid").read_text())
    (place / "pid").write_text(str(os.getpid()))

    assert due(linux, desired) == 1
    os.kill(ours, signal.SIGKILL)


def test_an_mtu_beyond_the_trunks_is_refused_by_name(linux: World) -> None:
    """Both makings refuse what the trunk cannot carry, as the kernel's own devices do."""
    built(linux)
    facts = linux.kernel.facts(linux.config)
    assert facts.vlan_making is not None
    wide = Vlan("vlan7", "eth0", 7, 9000, "br100", "", facts.vlan_making)

    with pytest.raises(Exception, match="vlan7"):
        linux.kernel.run(linux.config, CreateVlan(wide))
    assert "vlan7" not in read(linux).vlans
