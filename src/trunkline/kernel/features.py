"""What this kernel and machine can do, found out by doing it; modules are loaded where one can.

The trial takes place in a network namespace that ends with it, so nothing of it is ever seen on
the host, and a feature counts as there only when it did what we need it for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from trunkline.errors import KernelError
from trunkline.hoststate import Vlan, VlanMaking
from trunkline.kernel import exec as programs
from trunkline.kernel import netns, vlan_bpf
from trunkline.kernel.links import Links
from trunkline.ownership import ADDRESS_PROTOCOL

FIRST_NFT_S = 120.0  # a modular, emulated kernel loads a dozen modules for the first rules
PROGRAMS = {"nft": "nftables", "dnsmasq": "dnsmasq-base"}
MODULES = ("8021q", "br_netfilter", "nf_conntrack_netlink")
BRIDGE_NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")

RULES = """\
add table inet trial
add set inet trial prefixes { type ipv4_addr; flags interval; }
add map inet trial addresses { type ipv4_addr : ipv4_addr; }
add map inet trial verdicts { typeof iifname . ip saddr : verdict; }
add chain inet trial filter { type filter hook forward priority 0; policy accept; }
add rule inet trial filter ct state established,related accept
add rule inet trial filter ip daddr @prefixes reject with icmp type host-unreachable
add rule inet trial filter iifname . ip saddr vmap @verdicts
add map inet trial zones { typeof iifname : ct zone; }
add chain inet trial zone { type filter hook prerouting priority -450; policy accept; }
add rule inet trial zone ct zone set iifname map @zones
add chain inet trial nat { type nat hook postrouting priority 100; policy accept; }
add rule inet trial nat snat ip to ip saddr map @addresses
add table bridge trial
add set bridge trial senders { typeof iifname . ether saddr . ip saddr; }
add chain bridge trial filter { type filter hook prerouting priority -300; policy accept; }
add rule bridge trial filter iifname . arp saddr ether . arp saddr ip @senders accept
add map bridge trial macs { typeof iifname . ether daddr : ether daddr; }
add rule bridge trial filter ether daddr set iifname . ether daddr map @macs meta pkttype set host
"""
"""One rule for each nftables feature that our tables are made of."""


@dataclass(frozen=True, slots=True)
class Features:
    """What was found.

    Attributes:
        vlan_making: How VLAN devices are made here: by the kernel's own type wherever it has it.
        missing: A sentence for each thing that is needed and not there.
    """

    vlan_making: VlanMaking | None
    missing: tuple[str, ...]


def find() -> Features:
    """Find out what there is; takes some 20 ms."""
    _load_modules()
    lacking = list(_missing_programs())
    if os.geteuid() != 0:
        return Features(None, ("root: links, rules and sysctls need it; run as root", *lacking))
    try:
        with netns.throwaway(), IPRoute(ext_ack=True) as rtnl, closing(Links()) as links:
            making = _vlan_making(rtnl, links)
            lacking += _missing_features(rtnl, links, making)
    except KernelError as error:
        return Features(None, (f"network namespaces: {error}", *lacking))
    return Features(making, tuple(lacking))


def _load_modules() -> None:
    """Load what a modular kernel may not have loaded yet; one without modules has it or not."""
    if Path("/proc/modules").exists() and shutil.which("modprobe"):
        for module in MODULES:
            programs.run(("modprobe", "-q", module))


def _missing_programs() -> Iterator[str]:
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            yield f"program {program}; install it: apt install {package}"


def _vlan_making(rtnl: IPRoute, links: Links) -> VlanMaking | None:
    """Make a VLAN device on a trunk, one way and the other."""
    try:
        rtnl.link("add", ifname="trunk", kind="veth", peer={"ifname": "wire"})
    except NetlinkError:
        return None
    links.refresh()
    trunk = links.by_name["trunk"]
    with suppress(NetlinkError):
        rtnl.link("add", ifname="vlan1", kind="vlan", link=trunk.index, vlan_id=1)
        return VlanMaking.KERNEL
    with suppress(NetlinkError, KernelError, OSError):
        vlan = Vlan("vlan1", trunk.name, 1, trunk.mtu, None, "", VlanMaking.BPF)
        vlan_bpf.create(rtnl, links, vlan)
        return VlanMaking.BPF
    return None


def _missing_features(rtnl: IPRoute, links: Links, making: VlanMaking | None) -> Iterator[str]:
    if making is None:
        yield "VLAN devices: neither 8021q (modprobe 8021q) nor veth and tc-BPF (cls_bpf) work"
    if not BRIDGE_NETFILTER.exists():
        yield "br_netfilter, without which bridged packets pass unfiltered; modprobe br_netfilter"
    if not _has_address_protocol(rtnl, links):
        yield "address protocols, which mark floating IPs as ours; they came with Linux 5.18"
    if shutil.which("nft"):
        done = programs.run(("nft", "-f", "-"), FIRST_NFT_S, RULES)
        if done.returncode != 0:
            words = done.stderr.strip().replace("/dev/stdin:", "line ")
            yield f"nftables: it refuses rules of a kind that is needed: {words}"


def _has_address_protocol(rtnl: IPRoute, links: Links) -> bool:
    """Put a marked address on the loopback and look at it; an old kernel ignores the mark."""
    links.refresh()
    index = links.by_name["lo"].index
    with suppress(NetlinkError):
        rtnl.addr("add", index=index, address="10.0.0.1", prefixlen=32, proto=ADDRESS_PROTOCOL)
    links.refresh()
    return ADDRESS_PROTOCOL in links.addresses.values()
