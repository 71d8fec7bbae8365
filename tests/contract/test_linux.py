"""What only a real host has: rules as nft prints them, wires with tags, crashes, daemons."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from itertools import product
from pathlib import Path

import pytest
from worlds import HOST, WIRE, World, packet_socket, read, read_for

from trunkline.core.compile import compile_host
from trunkline.core.diff import diff_host
from trunkline.core.filter import rule_text
from trunkline.errors import Rejected
from trunkline.hoststate import Address, Bridge, Connection, HostState, Vlan, VlanMaking
from trunkline.kernel import exec as programs
from trunkline.kernel import netlink, netns
from trunkline.kernel.linux import LinuxKernel
from trunkline.lab.waiting import until
from trunkline.model import Direction, Rule, RuleId
from trunkline.operations import (
    AnnounceAddress,
    AnnouncePort,
    ChangeDhcpFiles,
    CreateBridge,
    CreateVlan,
    CutConnections,
    DeleteLink,
    PlugTrunk,
    RunNft,
    StopDhcp,
)
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
    yield from rules6()


def rules6() -> Iterator[Rule]:
    """Yield a rule of every form that there is for IPv6 only."""
    prefixes = (None, *map(IPv6Network, ("::/0", "2001:db8::/32", "2001:db8:1::/64", "fd00::7")))
    services: list[tuple[int | None, int | None, int | None]] = [(None, None, None)]
    services += [(58, None, None), (6, 22, 22), (17, 1, 65535), (43, None, None)]
    services += [(58, kind, None) for kind in range(256)]
    services += [(58, kind, code) for kind in (1, 128, 3) for code in (*range(8), 255)]
    for number, (prefix, one) in enumerate(product(prefixes, services)):
        yield Rule(RuleId(f"rule6-{number}"), Direction.INGRESS, 6, *one, prefix)


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

    assert diff_host(desired, read_for(linux, desired)) == ()


def built(world: World) -> HostState:
    """Build the article's left host and return what it must be."""
    facts = world.kernel.facts(world.config)
    desired, _ = compile_host(clouds.ARTICLE, world.config, facts)
    for operation in diff_host(desired, world.kernel.read(world.config, desired.sysctls)):
        world.kernel.run(world.config, operation)
    return desired


def due(world: World, desired: HostState) -> int:
    """Return how many operations are due on a host."""
    return len(diff_host(desired, read_for(world, desired)))


def frame_to(destination: str) -> bytes:
    """Return a frame with a payload that nobody else sends."""
    head = bytes.fromhex(destination.replace(":", "")) + b"\x02\x00\x00\x00\x00\x07"
    return (
        head + b"\x88\xb6" + b"trunkline-contract".ljust(46, b".")
    )  # IEEE local experimental 2: 1 is our probes'


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

        inside_saw = []
        while select.select([inside], [], [], 0)[0]:
            inside_saw.append(inside.recv(2048))
        assert not any(frame[12:] in seen for seen in inside_saw)


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
        ["nft", "add", "rule", "inet", "trunkline", "forward", "accept"],
        ["sysctl", "-qw", "net.ipv4.conf.br100.forwarding=0"],
        ["ip", "link", "set", "br100", "type", "bridge", "nf_call_iptables", "0"],
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


def servers(world: World) -> list[int]:
    """Return the processes that were started with a configuration of this host's."""
    mark = f"--conf-file={world.config.state_dir}/".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def test_a_pid_file_is_no_proof(linux: World) -> None:
    """A server is known by its command line; who has a pid of ours by chance is left alone."""
    desired = built(linux)
    other = netns.spawn(HOST, ["sleep", "60"], os.devnull)
    (Path(linux.config.state_dir) / "dhcp/br100/pid").write_text(str(other.pid))
    assert due(linux, desired) == 0

    for bridge in desired.dhcp:
        linux.kernel.run(linux.config, StopDhcp(bridge))
    assert servers(linux) == []
    assert other.alive()
    other.stop()


def test_a_server_without_files_is_replaced(linux: World) -> None:
    """Somebody removed the files under a running server: one new server, and no old one."""
    desired = built(linux)
    shutil.rmtree(Path(linux.config.state_dir) / "dhcp/br100")
    assert due(linux, desired) == 1

    built(linux)
    assert due(linux, desired) == 0
    assert len(servers(linux)) == len(desired.dhcp)


def test_an_address_is_leased_to_its_new_port(linux: World) -> None:
    """What dnsmasq has leased to a port that is gone is another's as soon as it is configured."""
    built(linux)
    leases = Path(linux.config.state_dir) / "dhcp/br100/leases"
    leases.write_text(
        "1999999999 fa:16:3e:00:00:99 10.0.0.9 old *\n1999999999 fa:16:3e:00:00:01 10.0.0.3 vm *\n"
    )
    written = (("hosts/new", "fa:16:3e:00:00:09,10.0.0.9,new"),)

    linux.kernel.run(linux.config, ChangeDhcpFiles("br100", written, (), reload=False))

    def holders() -> list[str]:
        return [line.split()[1] for line in leases.read_text().splitlines()]

    until("dnsmasq has its leases anew", lambda: holders() == ["fa:16:3e:00:00:01"])
    assert read(linux).dhcp["br100"].files["hosts/new"] == written[0][1]


def test_a_foreign_dhcp_server_stays(linux: World) -> None:
    """Somebody else's dnsmasq in the same namespace outlives all of ours."""
    desired = built(linux)
    netns.bridge(HOST, "lab0")
    netns.address(HOST, "lab0", IPv4Interface("192.168.9.1/24"))
    pid_file = Path(linux.config.state_dir) / "foreign.pid"
    done = netns.run(
        HOST,
        [
            *("dnsmasq", "--conf-file=/dev/null", "--port=0", "--interface=lab0"),
            *("--bind-interfaces", "--dhcp-range=192.168.9.9,192.168.9.9", "--leasefile-ro"),
            f"--pid-file={pid_file}",
        ],
    )
    assert done.returncode == 0, done.stderr
    foreign = programs.process(int(pid_file.read_text()))
    assert foreign is not None
    assert set(read(linux).dhcp) == set(desired.dhcp)

    for bridge in desired.dhcp:
        linux.kernel.run(linux.config, StopDhcp(bridge))

    assert foreign.alive()
    foreign.stop()


def test_a_place_that_dnsmasq_cannot_read_is_refused(linux: World) -> None:
    """It would start all the same, and leave every instance without a lease."""
    Path(linux.config.state_dir).chmod(0o700)

    with pytest.raises(Rejected, match=r"chmod o\+x"):
        built(linux)
    assert servers(linux) == []


def test_foreign_rules_stay(linux: World) -> None:
    """Another table, also one with a chain at our hooks, is neither read nor changed."""
    rules = (
        "table inet other { chain trunkline { type filter hook forward priority -150;"
        " counter accept; }; set s { type ipv4_addr; elements = { 10.0.0.3 }; }; }"
    )
    assert netns.run(HOST, ["nft", rules]).returncode == 0
    before = netns.run(HOST, ["nft", "list", "table", "inet", "other"]).stdout
    desired = built(linux)
    assert read(linux).tables.keys() == desired.tables.keys()

    for operation in diff_host(HostState(), linux.kernel.read(linux.config, ())):
        linux.kernel.run(linux.config, operation)

    assert netns.run(HOST, ["nft", "list", "table", "inet", "other"]).stdout == before
    assert read(linux) == HostState()


def test_a_door_without_memory_sees_the_same_and_can_take_it_apart(linux: World) -> None:
    """What a dead agent made is found by the next one, and leaves no trace on the trunk."""
    qdiscs = ["tc", "qdisc", "show", "dev", "eth0"]
    before = netns.run(HOST, qdiscs).stdout, link_flags("eth0")
    desired = built(linux)
    second = LinuxKernel()
    found = second.read(linux.config, desired.sysctls)
    assert found == linux.kernel.read(linux.config, desired.sysctls)

    for operation in diff_host(HostState(), found):
        second.run(linux.config, operation)
    second.close()

    assert read(linux) == HostState()
    assert (netns.run(HOST, qdiscs).stdout, link_flags("eth0")) == before


def link_flags(link: str) -> int:
    """Return the flags that an administrator can set on a link (IFF_*)."""
    with netns.socket(HOST, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", link.encode(), 0)
        answer = fcntl.ioctl(sock, 0x8913, request)  # SIOCGIFFLAGS
        return int(struct.unpack_from("H", answer, 16)[0])


def arp_request(sender: str, target: str) -> bytes:
    """Return a broadcast that asks who has an address."""
    mac = b"\x02\x00\x00\x00\x00\x07"
    head = b"\xff" * 6 + mac + bytes.fromhex("0806 0001 0800 06 04 0001")
    return head + mac + IPv4Address(sender).packed + bytes(6) + IPv4Address(target).packed


@pytest.mark.parametrize("tag", [b"", b"\x81\x00\xe0\x00"], ids=["untagged", "priority-tagged"])
def test_the_trunk_still_serves_the_host_itself(linux: World, tag: bytes) -> None:
    """A question to the trunk NIC's own address is answered, also with a tag that names no VLAN."""
    built(linux)
    netns.address(HOST, "eth0", IPv4Interface("192.168.7.1/24"))
    with packet_socket("eth0") as wire:
        question = arp_request("192.168.7.2", "192.168.7.1")
        wire.send(question[:12] + tag + question[12:])
        while select.select([wire], [], [], 2)[0]:
            data = wire.recv(2048)
            if data[12:14] == b"\x08\x06" and data[20:22] == b"\x00\x02":
                return
    pytest.fail("no ARP answer came back")


@pytest.mark.parametrize(
    "damage",
    [
        ["tc", "qdisc", "del", "dev", "eth0", "clsact"],
        ["tc", "qdisc", "del", "dev", "vlan100t", "clsact"],
        ["ip", "link", "set", "vlan100t", "down"],
        ["ip", "link", "set", "vlan100t", "mtu", "1300"],
        ["ip", "link", "set", "eth0", "promisc", "off"],
    ],
)
def test_a_spoilt_tc_bpf_device_is_noticed_and_repaired(linux: World, damage: list[str]) -> None:
    """A part of the second making that somebody takes away is missed at the next reading."""
    if linux.kernel.facts(linux.config).vlan_making is not VlanMaking.BPF:
        pytest.skip("this kernel has 8021q: its VLAN devices have no such parts")
    desired = built(linux)
    assert netns.run(HOST, damage).returncode == 0
    assert due(linux, desired) > 0

    built(linux)
    assert due(linux, desired) == 0


def test_lost_notifications_are_made_up_for(linux: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More happens at once than the kernel keeps for us: all is read anew, nothing is missed."""
    monkeypatch.setattr(netlink, "RECEIVE_BUFFER", 1)  # the kernel makes it its minimum
    kernel = LinuxKernel()
    assert kernel.read(linux.config, ()).plugs == {}
    taps = {f"tap{number:08}-aa" for number in range(100)}

    for tap in taps:
        linux.plug_in(tap)

    assert kernel.read(linux.config, ()).plugs.keys() == taps
    kernel.close()


def test_tracked_connections_are_read_and_cut(linux: World) -> None:
    """A UDP flow and a ping are in the table with addresses, ports and type, until they are cut."""
    built(linux)
    netns.address(WIRE, "eth1", IPv4Interface("91.207.15.1/24"))
    assert netns.run(HOST, ["ping", "-c", "1", "-e", "77", "91.207.15.1"]).returncode == 0
    with netns.socket(HOST, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("91.207.15.105", 4000))
        sock.sendto(b"", ("91.207.15.1", 53))

    found = {c.protocol: c for c in linux.kernel.connections()[""]}
    here, there = IPv4Address("91.207.15.105"), IPv4Address("91.207.15.1")
    assert found[17] == Connection(17, here, there, 4000, 53, there, here, 53, 4000)
    assert found[1] == Connection(1, here, there, 77, 8, there, here, 77, 0)

    linux.kernel.run(linux.config, CutConnections(tuple(found.values())))
    assert linux.kernel.connections() == {"": ()}


def test_tracked_connections_of_ipv6_are_read_and_cut(linux: World) -> None:
    """The same in IPv6, where ICMP is another protocol with other types."""
    built(linux)
    here, there = IPv6Interface("fd00::105/64"), IPv6Interface("fd00::1/64")
    for namespace, own in ((HOST, here), (WIRE, there)):
        words = ["ip", "addr", "add", str(own), "dev", "eth1", "nodad"]
        assert netns.run(namespace, words).returncode == 0
    assert netns.run(HOST, ["ping", "-c", "1", "-e", "77", str(there.ip)]).returncode == 0

    (echo,) = [c for c in linux.kernel.connections()[""] if c.protocol == 58]
    assert (echo.source, echo.destination) == (here.ip, there.ip)
    assert (echo.reply_source, echo.reply_destination) == (there.ip, here.ip)
    assert (echo.source_port, echo.destination_port) == (77, 128)

    linux.kernel.run(linux.config, CutConnections((echo, echo)))
    assert echo not in linux.kernel.connections()[""]


def test_an_address_is_announced_on_the_wire(linux: World) -> None:
    """Neighbours hear three times that sender and target are the address, in request form."""
    address = Address("eth1", IPv4Interface("91.208.23.11/32"))
    with packet_socket("eth1") as wire:
        linux.kernel.run(linux.config, AnnounceAddress(address))
        heard = []
        while len(heard) < 3 and select.select([wire], [], [], 2)[0]:
            data = wire.recv(2048)
            if data[12:14] == b"\x08\x06":
                heard.append((data[:6], data[20:22], data[28:32], data[38:42]))

    ip = address.address.ip.packed
    assert heard == [(b"\xff" * 6, b"\x00\x01", ip, ip)] * 3


def test_an_instance_is_announced_by_its_mac(linux: World) -> None:
    """Its MAC moves to its port on the bridge, and switches hear from it on the trunk, tagged."""
    tap, mac = tap_name(clouds.VM1.id), clouds.VM1.mac
    linux.plug_in(tap)
    netns.up(WIRE, tap)
    built(linux)
    with packet_socket("eth0") as wire:
        # As a switch would send it while the instance is still elsewhere; lost until ports forward.
        head = b"\xff" * 6 + _bytes(mac) + b"\x81\x00" + struct.pack(">H", 100)
        elsewhere = head + b"\x88\xb6" * 30
        until("it is elsewhere", lambda: wire.send(elsewhere) and _is_learned(mac, "vlan100"), 5)
        until("its port forwards", lambda: _forwards(tap), 5)  # before, the bridge refuses entries
        linux.kernel.run(linux.config, AnnouncePort(tap, mac, "vlan100"))
        heard = []
        while len(heard) < 3 and select.select([wire], [], [], 2)[0]:
            data = wire.recv(2048)
            if data[6:12] == _bytes(mac) and b"\x80\x35\x00\x01" in data[12:20]:
                heard.append(data[:6])

    assert heard == [b"\xff" * 6] * 3
    assert _is_learned(mac, tap)
    netns.down(WIRE, tap)
    linux.kernel.run(linux.config, AnnouncePort(tap, mac, "vlan100"))  # learns nothing now


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _forwards(port: str) -> bool:
    return "state forwarding" in programs.run(("bridge", "link", "show", "dev", port)).stdout


def _is_learned(mac: str, port: str) -> bool:
    return f"{mac} dev {port} master br100" in programs.run(("bridge", "fdb")).stdout


def test_an_mtu_beyond_the_trunks_is_refused_by_name(linux: World) -> None:
    """Both makings refuse what the trunk cannot carry, as the kernel's own devices do."""
    built(linux)
    facts = linux.kernel.facts(linux.config)
    assert facts.vlan_making is not None
    wide = Vlan("vlan7", "eth0", 7, 9000, "br100", "", facts.vlan_making)

    with pytest.raises(Exception, match="vlan7"):
        linux.kernel.run(linux.config, CreateVlan(wide))
    assert "vlan7" not in read(linux).vlans


FLAT = Bridge("br-physnet1", "0a:00:00:00:00:01", 1500, "trunkline trunk=eth0 network=one")


def test_a_trunk_in_somebody_elses_bridge_stays_there(linux: World) -> None:
    """The facts name that bridge, and to move the NIC is refused by its name."""
    netns.bridge(HOST, "virbr0", ("eth0",))
    linux.kernel.run(linux.config, CreateBridge(FLAT))

    assert linux.kernel.facts(linux.config).foreign_masters == (("eth0", "virbr0"),)
    with pytest.raises(Rejected, match="virbr0"):
        linux.kernel.run(linux.config, PlugTrunk("eth0", FLAT.name))
    assert read(linux).untagged == {}


def test_a_trunk_of_an_earlier_configuration_is_found(linux: World) -> None:
    """The bridge says whose NIC it has, so one that is configured no more is taken out."""
    linux.kernel.run(linux.config, CreateBridge(FLAT))
    linux.kernel.run(linux.config, PlugTrunk("eth0", FLAT.name))
    other = replace(linux.config, trunks={"physnet1": "eth1"})

    assert linux.kernel.read(other, ()).untagged == {"eth0": FLAT.name}
    assert PlugTrunk("eth0", None) in diff_host(HostState(), linux.kernel.read(other, ()))
    linux.kernel.run(other, PlugTrunk("eth0", None))
    assert read(linux).untagged == {}


def test_a_flat_bridge_carries_no_more_than_its_nic(linux: World) -> None:
    """An MTU beyond the NIC's is refused by name, as it is for a VLAN device."""
    linux.kernel.run(linux.config, CreateBridge(replace(FLAT, mtu=9000)))

    with pytest.raises(Rejected, match="mtu 9000"):
        linux.kernel.run(linux.config, PlugTrunk("eth0", FLAT.name))
