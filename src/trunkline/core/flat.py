"""Flat networks: what keeps tagged frames out of a bridge that has a trunk NIC plugged in.

The NIC hands its bridge every frame that no VLAN device takes: those of VLANs that this host does
not serve, too, and their tags would reach instances. The other way round, a tag that an instance
without port security puts on its frames would put them into another network.

Decides nothing about which networks are flat; without one there are no such rules.
"""

from __future__ import annotations

from collections.abc import Iterable

from trunkline.core.links import Served
from trunkline.hoststate import Chain, Hook, NftSet

# Before and after all else in the bridge family.
FROM_TRUNK_PRIORITY, TO_TRUNK_PRIORITY = -320, 10
TAGGED = ("8021q", "8021ad")  # IEEE 802.1Q: customer and service tags


def compile_flat_sets(served: Iterable[Served]) -> list[NftSet]:
    """Return the NICs that are plugged into bridges; no set where there is none."""
    trunks = {f'"{s.trunk}"': "" for s in served if s.vlan_id is None}
    return [NftSet("untagged_trunks", "type ifname", elements=trunks)] if trunks else []


def compile_flat_chains(served: Iterable[Served]) -> list[Chain]:
    """Return the bridge table's chains about frames of those NICs."""
    if all(s.vlan_id is not None for s in served):
        return []
    return [
        Chain("untagged-in", _rules("iifname"), Hook("filter", "prerouting", FROM_TRUNK_PRIORITY)),
        Chain("untagged-out", _rules("oifname"), Hook("filter", "postrouting", TO_TRUNK_PRIORITY)),
    ]


def _rules(side: str) -> tuple[str, ...]:
    return tuple(f"{side} @untagged_trunks ether type {kind} drop" for kind in TAGGED)
