"""Instances that come to this host: what waits until they are here, and who is told.

While an instance moves, its port is bound to two hosts and active on one. The other has links,
rules and groups ready. What belongs to one host alone is the way out by the gateway: floating
IPs are translated where the port is active, so elsewhere a packet to the gateway would leave with
a wrong source, and is dropped instead; its sender tries again. The set of those who wait is
also what tells, after the fact, who has become active.
"""

from __future__ import annotations

from collections.abc import Iterator

from trunkline.core.diff import misplaced_plugs
from trunkline.core.gather import gather, pieces, union
from trunkline.core.links import Served, by_network, gateway_mac
from trunkline.hoststate import HostState, NftSet
from trunkline.joined import Joined
from trunkline.kept import kept
from trunkline.operations import AnnouncePort
from trunkline.ownership import TABLE, tap_name
from trunkline.snapshot import HostSnapshot, PortView

STANDBY = "standby"


def compile_standby_set(
    served: tuple[Served, ...], ports: tuple[PortView, ...], host: str
) -> NftSet:
    """Return which interfaces may not send to their gateway's MAC yet, or no more."""
    places = by_network(served)
    inactive = gather(union, _inactive, ports).values()
    waiting = (port for port in inactive if port.network_id in places)
    elements = {
        f'"{tap_name(p.id)}" . {gateway_mac(places[p.network_id].network, host)}': ""
        for p in waiting
    }
    return NftSet(STANDBY, "typeof iifname . ether daddr", elements=elements)


@kept()
def _inactive(ports: tuple[PortView, ...]) -> dict[str, PortView]:
    return {port.id: port for port in ports if not port.active}


def arrivals(
    snapshot: HostSnapshot, desired: HostState, actual: HostState
) -> Iterator[AnnouncePort]:
    """Yield an announcement for each active port that is new on its bridge or was waiting.

    One that is lost, because the agent ended just then, costs until the instance's next frame.
    """
    come = _plugged_in(desired, actual) | (_waiting(actual) - _waiting(desired))
    present = sorted(tap for tap in come if tap in desired.plugs and tap in actual.plugs)
    if not present:
        return
    (found,) = pieces(_active_macs, snapshot.ports)
    macs = Joined(found)
    vlans = {vlan.bridge: vlan.name for vlan in desired.vlans.values()}
    for tap in present:
        wire = vlans.get(desired.plugs[tap].bridge)  # none: untagged, and the hypervisor's to tell
        if tap in macs and wire:
            yield AnnouncePort(tap, macs[tap], wire)


@kept()
def _active_macs(ports: tuple[PortView, ...]) -> tuple[dict[str, str]]:
    return ({tap_name(port.id): port.mac for port in ports if port.active},)


def _plugged_in(desired: HostState, actual: HostState) -> set[str]:
    return {
        present.tap
        for present, wanted in misplaced_plugs(desired.plugs, actual.plugs)
        if wanted is not None and wanted.bridge != present.bridge
    }


def _waiting(state: HostState) -> set[str]:
    table = state.tables.get(("bridge", TABLE))
    found = table.sets.get(STANDBY) if table else None
    return {key.split('"')[1] for key in found.elements} if found else set()
