"""The same kernel work by hand: pyroute2, nft and dnsmasq in a straight line, nothing else.

Runs inside the bare twin's namespace. Each line on its input is either a file of pickled
operations, which it carries out in order, or ``read``, upon which it reads what an agent that
starts has to read. It answers each with wall and CPU time in seconds, its children included.
It does not compare, check, read back or clean up; it is what an agent cannot beat by much.

Taken from Trunkline are the loading of the tc-BPF programs of a VLAN device and the frame that
announces an instance.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from socket import if_nametoindex

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from trunkline.hoststate import Bridge, DhcpServer, Vlan, VlanMaking
from trunkline.kernel import vlan_bpf
from trunkline.kernel.announce import announce_mac, sender
from trunkline.kernel.links import Links
from trunkline.kernel.linux import NTF_MASTER, NUD_REACHABLE
from trunkline.operations import (
    AddAddress,
    AnnouncePort,
    ChangeDhcpFiles,
    ChangeLink,
    CreateBridge,
    CreateVlan,
    Operation,
    RunNft,
    SetSysctl,
    StartDhcp,
)
from trunkline.ownership import LINK_GROUP

FRAMES = sender()


def main() -> None:
    """Work off the input's lines."""
    directory = Path(sys.argv[1])
    with IPRoute() as rtnl:
        for line in sys.stdin:
            work = _read if line.strip() == "read" else _work(Path(line.strip()), directory)
            print(json.dumps(_timed(rtnl, work)), flush=True)


class _Indexes(dict[str, int]):
    """Link indexes by name, each asked for when it is needed: a dump would cost more."""

    def __missing__(self, name: str) -> int:
        self[name] = if_nametoindex(name)
        return self[name]


def _timed(rtnl: IPRoute, work: Callable[[IPRoute], None]) -> dict[str, float]:
    cpu, wall = _cpu_s(), time.monotonic()
    work(rtnl)
    return {"wall": time.monotonic() - wall, "cpu": _cpu_s() - cpu}


def _cpu_s() -> float:
    uses = (getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _read(rtnl: IPRoute) -> None:
    list(rtnl.get_links())
    list(rtnl.get_addr())
    for family in ("inet", "bridge"):
        command = ["nft", "-s", "list", "table", family, "trunkline"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _work(path: Path, directory: Path) -> Callable[[IPRoute], None]:
    operations: tuple[Operation, ...] = pickle.loads(path.read_bytes())

    def work(rtnl: IPRoute) -> None:
        index = _Indexes()
        for operation in operations:
            _do(rtnl, index, directory, operation)

    return work


def _do(rtnl: IPRoute, index: dict[str, int], directory: Path, operation: Operation) -> None:
    match operation:
        case CreateBridge() | CreateVlan() | ChangeLink() | AddAddress() | AnnouncePort():
            _do_by_netlink(rtnl, index, operation)
        case SetSysctl(key, value):
            Path("/proc/sys", key.replace(".", "/")).write_text(value)
        case RunNft(script):
            subprocess.run(["nft", "-f", "-"], input="\n".join(script), text=True, check=True)
        case StartDhcp(server):
            _start_dnsmasq(directory, server)
        case ChangeDhcpFiles(bridge, write):
            for name, text in write:
                (directory / bridge / name).write_text(text + "\n")
        case _:
            raise TypeError(f"nothing is ever taken away here: {operation.command()}")


def _do_by_netlink(rtnl: IPRoute, index: dict[str, int], operation: Operation) -> None:
    match operation:
        case CreateBridge(bridge):
            _make_bridge(rtnl, index, bridge)
        case CreateVlan(vlan):
            _make_vlan(rtnl, index, vlan)
        case ChangeLink(name, changes):
            numbers = {key: int(value) for key, value in changes if key == "mtu"}
            numbers |= {key: index[value] for key, value in changes if key == "master"}
            values = dict(changes) | numbers
            if "master" in numbers:  # an instance's interface has no address of the host's
                Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
            rtnl.link("set", index=index[name], **values)
        case AddAddress(address):
            there, prefix = index[address.link], address.address
            rtnl.addr(
                "add", index=there, address=str(prefix.ip), prefixlen=prefix.network.prefixlen
            )
        case AnnouncePort(tap, mac, wire):
            there = index[tap]
            with suppress(NetlinkError):  # the bench's instances have no carrier
                rtnl.fdb(
                    "replace", ifindex=there, lladdr=mac, flags=NTF_MASTER, state=NUD_REACHABLE
                )
            announce_mac(wire, mac, FRAMES)


def _make_bridge(rtnl: IPRoute, index: dict[str, int], bridge: Bridge) -> None:
    rtnl.link(
        "add",
        ifname=bridge.name,
        kind="bridge",
        address=bridge.mac,
        mtu=bridge.mtu,
        group=LINK_GROUP,
        br_forward_delay=0,
        br_stp_state=0,
        br_mcast_snooping=0,
        br_nf_call_iptables=1,
    )
    rtnl.link("set", index=index[bridge.name], state="up", ifalias=bridge.alias)


def _make_vlan(rtnl: IPRoute, index: dict[str, int], vlan: Vlan) -> None:
    if vlan.making is VlanMaking.KERNEL:
        rtnl.link(
            "add",
            ifname=vlan.name,
            kind="vlan",
            link=index[vlan.trunk],
            vlan_id=vlan.vlan_id,
            mtu=vlan.mtu,
            group=LINK_GROUP,
        )
    else:
        links = Links()
        links.refresh()
        vlan_bpf.create(rtnl, links, vlan)
        mate = index[vlan_bpf.mate_name(vlan.name)]
        rtnl.link("set", index=mate, state="up")
        links.close()
    rtnl.link(
        "set",
        index=index[vlan.name],
        master=index[str(vlan.bridge)],
        state="up",
        ifalias=vlan.alias,
    )


def _start_dnsmasq(directory: Path, server: DhcpServer) -> None:
    home = directory / server.bridge
    for kind in ("hosts", "options", "names"):
        (home / kind).mkdir(parents=True)
    for name, text in server.files.items():
        (home / name).write_text(text + "\n")
    (home / "conf").write_text(server.config)
    subprocess.run(
        [
            "dnsmasq",
            f"--conf-file={home}/conf",
            f"--dhcp-hostsdir={home}/hosts",
            f"--dhcp-optsdir={home}/options",
            f"--hostsdir={home}/names",
            f"--dhcp-leasefile={home}/leases",
            f"--pid-file={home}/pid",
            "--user=root",
        ],
        check=True,
    )


if __name__ == "__main__":
    main()
