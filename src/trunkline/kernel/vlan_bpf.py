"""VLAN devices for kernels without 8021q: a veth pair and two tc-BPF programs.

``vlan100`` is what the bridge sees. Frames that leave by it arrive at its mate ``vlan100t``,
where a program pushes the tag and sends them out of the trunk. On the trunk one program for all
VLANs pops the tag and sends the frame to the mate that a map names, so a frame costs the same
with one VLAN or four thousand, and one more VLAN is one more entry.

The filters' names are what is remembered: which tag and trunk a mate's program was made for,
and what had to be changed on the trunk and is to be undone with its last VLAN. Filters, qdiscs
and flags that others put on the trunk stay.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from trunkline.errors import Rejected
from trunkline.hoststate import Vlan
from trunkline.kernel import bpf, netlink
from trunkline.kernel.links import IFF_PROMISC, Link, Links
from trunkline.ownership import LINK_GROUP

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3  # pkt_sched.h: TC_H_CLSACT | TC_H_MIN_*
GETTFILTER = 46  # RTM_GETTFILTER
TCA_OPTIONS, TCA_BPF_NAME, TCA_BPF_ID = 2, 7, 11
ALL_PROTOCOLS = 0x0003  # ETH_P_ALL
PREFERENCE, HANDLE = LINK_GROUP, 1  # of our filters; others choose other preferences

PUSH, POP = "trunkline push", "trunkline pop"
MADE_QDISC, SET_PROMISCUOUS = "clsact", "promisc"

_TC = struct.Struct("=BxxxiIII")  # struct tcmsg


@dataclass(frozen=True, slots=True)
class Filter:
    """A tc filter: the name its owner gave it, and its BPF program."""

    name: str
    program_id: int


def mate_name(vlan: str) -> str:
    """Return the name of the veth end that faces the trunk."""
    return f"{vlan}t"


def create(rtnl: IPRoute, links: Links, vlan: Vlan) -> None:
    """Make the pair and its programs; both ends are down and plugged in nowhere.

    Raises:
        Rejected: The MTU is more than the trunk's; the kernel's own devices refuse that too.
        NetlinkError, OSError: The kernel's refusal.
    """
    trunk = links.by_name[vlan.trunk]
    if vlan.mtu > trunk.mtu:
        raise Rejected(f"mtu {vlan.mtu} is more than trunk {trunk.name} carries: {trunk.mtu}")
    mate = mate_name(vlan.name)
    both = {"mtu": vlan.mtu, "group": LINK_GROUP}
    rtnl.link("add", ifname=vlan.name, kind="veth", **both, peer={"ifname": mate, **both})
    links.refresh()
    index = links.by_name[mate].index
    rtnl.tc("add", "clsact", index)
    program = bpf.load_push(vlan.vlan_id, trunk.index)
    _attach(rtnl, index, program, f"{PUSH} {vlan.vlan_id} {trunk.index}")
    with _trunk_map(rtnl, trunk) as map_fd:
        bpf.put(map_fd, vlan.vlan_id, index)


def delete(rtnl: IPRoute, links: Links, name: str, trunks: Iterable[str]) -> None:
    """Undo ``create``, also a half of it, also where somebody else deleted the pair.

    The pair goes last: as long as it is there, what is left of it on the trunk is found.

    Raises:
        Rejected: There is nothing of this VLAN device.
        NetlinkError, OSError: The kernel's refusal.
    """
    link, mate = links.by_name.get(name), links.by_name.get(mate_name(name))
    places = {links.by_name[t].index for t in trunks if t in links.by_name}
    if mate is not None and (made_for := _push_target(mate.index)):
        places.add(made_for[1])
    found = [_remove_entries(rtnl, links, place, mate) for place in places & set(links.by_index)]
    if link is not None:
        rtnl.link("del", index=link.index)
    elif not any(found):
        raise Rejected("there is none of this name")


def read(links: Links, pairs: Iterable[Link], trunks: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Return VLAN id and trunk by VLAN device; ``(0, "")`` where a part is missing.

    Args:
        links: The namespace's links.
        pairs: Our ends that face the bridge.
        trunks: Names of the configured trunks. Entries on them that point to links which
            are gone are reported under the name ``vlanN`` of their tag, as having no trunk.
    """
    maps = {t: _entries(links.by_name[t]) for t in set(trunks) & links.by_name.keys()}
    found: dict[str, tuple[int, str]] = {}
    for entries in maps.values():
        for vlan_id, index in entries.items():
            if index not in links.by_index:
                found[f"vlan{vlan_id}"] = (0, "")
    for link in pairs:
        found[link.name] = (0, "")
        mate = links.by_name.get(mate_name(link.name))
        made_for = _push_target(mate.index) if mate else None
        trunk = links.by_index.get(made_for[1]) if made_for else None
        if mate and made_for and trunk and trunk.promiscuous:
            entries = maps[trunk.name] if trunk.name in maps else _entries(trunk)
            if entries.get(made_for[0]) == mate.index:
                found[link.name] = (made_for[0], trunk.name)
    return found


def _push_target(index: int) -> tuple[int, int] | None:
    """Return the VLAN id and the trunk's index that a mate's program was made for."""
    for one in _filters(index, INGRESS):
        if one.name.startswith(f"{PUSH} "):
            vlan_id, trunk = one.name.removeprefix(PUSH).split()
            return int(vlan_id), int(trunk)
    return None


def _entries(trunk: Link) -> dict[int, int]:
    """Return the content of a trunk's map; empty if it has none of ours."""
    ours = _pop_filter(trunk.index)
    if ours is None:
        return {}
    with suppress(FileNotFoundError), _closing(bpf.map_of_program(ours.program_id)) as map_fd:
        return bpf.entries(map_fd)
    return {}


@contextmanager
def _trunk_map(rtnl: IPRoute, trunk: Link) -> Iterator[int]:
    """Give the trunk's map; attach the program with a new one for the first VLAN."""
    ours = _pop_filter(trunk.index)
    if ours is not None:
        with _closing(bpf.map_of_program(ours.program_id)) as map_fd:
            _promise_all_frames(rtnl, trunk)
            yield map_fd
        return
    undo = [POP]
    if _add_clsact(rtnl, trunk.index):
        undo.append(MADE_QDISC)
    if _promise_all_frames(rtnl, trunk):
        undo.append(SET_PROMISCUOUS)
    with _closing(bpf.new_map()) as map_fd:
        _attach(rtnl, trunk.index, bpf.load_pop(map_fd), " ".join(undo))
        yield map_fd


def _promise_all_frames(rtnl: IPRoute, trunk: Link) -> bool:
    """Have the NIC hand over frames for instances' MACs; return whether it had to be told.

    A kernel VLAN device in a bridge does the same to its trunk, by a count that we cannot hold.
    """
    if trunk.promiscuous:
        return False
    rtnl.link("set", index=trunk.index, flags=IFF_PROMISC, change=IFF_PROMISC)
    return True


def _add_clsact(rtnl: IPRoute, index: int) -> bool:
    """Add the qdisc that filters hang on; return False if one is there already."""
    try:
        rtnl.tc("add", "clsact", index)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        return False
    return True


def _attach(rtnl: IPRoute, index: int, program: int, name: str) -> None:
    with _closing(program):
        rtnl.tc(
            "add-filter",
            "bpf",
            index,
            HANDLE,
            fd=program,
            name=name,
            parent=INGRESS,
            prio=PREFERENCE,
            protocol=ALL_PROTOCOLS,
            direct_action=True,
        )


def _remove_entries(rtnl: IPRoute, links: Links, trunk: int, mate: Link | None) -> bool:
    """Remove a mate's entry and those of vanished links; with the last one, our filter."""
    ours = _pop_filter(trunk)
    if ours is None:
        return False
    with _closing(bpf.map_of_program(ours.program_id)) as map_fd:
        entries = bpf.entries(map_fd)
        gone = {
            vlan_id
            for vlan_id, index in entries.items()
            if index not in links.by_index or (mate is not None and index == mate.index)
        }
        for vlan_id in gone:
            bpf.remove(map_fd, vlan_id)
    if gone == entries.keys():
        _detach(rtnl, trunk, ours)
    return bool(gone)


def _detach(rtnl: IPRoute, trunk: int, ours: Filter) -> None:
    """Take our filter off a trunk, and what we had to change there for it."""
    rtnl.tc(
        "del-filter",
        "bpf",
        trunk,
        HANDLE,
        parent=INGRESS,
        prio=PREFERENCE,
        protocol=ALL_PROTOCOLS,
    )
    undo = ours.name.removeprefix(POP).split()
    if SET_PROMISCUOUS in undo:
        rtnl.link("set", index=trunk, flags=0, change=IFF_PROMISC)
    if MADE_QDISC in undo and not (_filters(trunk, INGRESS) or _filters(trunk, EGRESS)):
        rtnl.tc("del", "clsact", trunk)


def _pop_filter(index: int) -> Filter | None:
    found = [f for f in _filters(index, INGRESS) if f.name.startswith(POP)]
    return found[0] if found else None


def _filters(index: int, parent: int) -> list[Filter]:
    """Return the filters at one place of a link; none where it has no such qdisc."""
    found = []
    try:
        bodies = netlink.dump(netlink.ROUTE, GETTFILTER, _TC.pack(0, index, 0, parent, 0))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP):
            return []
        raise
    for body in bodies:
        options = netlink.attributes(body, _TC.size).get(TCA_OPTIONS)
        if options is not None:
            inner = netlink.attributes(options)
            program_id = netlink.number(inner.get(TCA_BPF_ID))
            found.append(Filter(netlink.text(inner.get(TCA_BPF_NAME)), program_id))
    return found


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
