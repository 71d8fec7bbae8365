"""What this kernel and machine can do, found out by trying; modules are loaded where one can."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from trunkline.errors import MissingFeature
from trunkline.hoststate import VlanMaking
from trunkline.kernel import bpf
from trunkline.kernel import exec as programs

PROGRAMS = {"nft": "nftables", "dnsmasq": "dnsmasq-base"}
BRIDGE_NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def load_modules() -> None:
    """Load what a modular kernel may not have loaded yet; one without modules has it or not."""
    if Path("/proc/modules").exists() and shutil.which("modprobe"):
        for module in ("8021q", "br_netfilter", "nf_conntrack_netlink"):
            programs.run(("modprobe", "-q", module))


def vlan_making(rtnl: IPRoute) -> VlanMaking | None:
    """Return how VLAN devices are made here: by the kernel's own type wherever it has it."""
    if _has_8021q(rtnl):
        return VlanMaking.KERNEL
    try:
        for descriptor in (bpf.load_push(1, 1), bpf.new_map()):
            os.close(descriptor)
    except (MissingFeature, OSError):
        return None
    return VlanMaking.BPF


def _has_8021q(rtnl: IPRoute) -> bool:
    """Ask for a VLAN device without a trunk: refused for that, or for an unknown type."""
    try:
        rtnl.link("add", ifname="trunkline-probe", kind="vlan", vlan_id=1)
    except NetlinkError as error:
        return error.code not in (errno.EOPNOTSUPP, errno.EPERM)
    return True  # never: the kernel wants a trunk (net/8021q/vlan_netlink.c)


def missing(making: VlanMaking | None) -> Iterator[str]:
    """Yield a sentence for each thing that is needed and not there."""
    if os.geteuid() != 0:
        yield "root: links, rules and sysctls need it; run as root"
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            yield f"program {program}; install it: apt install {package}"
    if not BRIDGE_NETFILTER.exists():
        yield "br_netfilter, without which bridged packets pass unfiltered; modprobe br_netfilter"
    if making is None:
        yield "VLAN devices: neither 8021q (modprobe 8021q) nor tc-BPF (cls_bpf)"
