"""Gateways that are the same on every host: what keeps them to their own host.

Decides what passes a VLAN device of a network whose bridge has one address and one MAC on all
hosts. On the trunk that pair must never be anybody's source: switches and instances elsewhere
would take one host's gateway for another's. Yet a host routes packets to instances on other hosts,
and must find their MACs. So it appears on the trunk by a MAC of its own, and asks as RFC 5227
has it, with a sender address of zero, from which nobody learns.

Rules are static; networks are elements. Knows nothing of which network has which gateway mode
beyond what the snapshot says.
"""

from __future__ import annotations

from collections.abc import Iterable

from trunkline import ownership
from trunkline.core.links import Served
from trunkline.hoststate import Chain, Hook, NftSet
from trunkline.model import GatewayMode, HostName

# Into the bridge before anti-spoofing and before the kernel looks for the frame's destination;
# out of it after all else in the bridge family has been said.
FROM_TRUNK_PRIORITY, TO_TRUNK_PRIORITY = -310, 0
TO_BRIDGE = "ether daddr set iifname . ether daddr map @own_to_anycast"


def compile_anycast_sets(served: Iterable[Served], host: str) -> list[NftSet]:
    """Return what is anycast on this host: VLAN devices, gateway MACs and gateway addresses."""
    places = [s for s in served if s.network.gateway_mode is GatewayMode.ANYCAST]
    networks = [s.network for s in places]
    trunks = [f'"{s.wire}"' for s in places]
    shared = [ownership.anycast_mac(n.id) for n in networks]
    own = [ownership.gateway_mac(HostName(host), n.id) for n in networks]
    addresses = {
        f'"{s.wire}" . {subnet.gateway}': ""
        for s in places
        for subnet in s.network.subnets
        if subnet.gateway is not None
    }
    inward, outward = zip(trunks, own, shared, strict=True), zip(trunks, shared, own, strict=True)
    return [
        NftSet("anycast_trunks", "type ifname", elements=dict.fromkeys(trunks, "")),
        NftSet("anycast_addresses", "typeof iifname . ip saddr", elements=addresses),
        NftSet(
            "anycast_macs",
            "typeof iifname . ether saddr",
            elements={f"{t} . {mac}": "" for t, mac in zip(trunks, shared, strict=True)},
        ),
        NftSet(
            "anycast_to_own",
            "typeof oifname . ether saddr : ether saddr",
            is_map=True,
            elements={f"{t} . {key}": value for t, key, value in outward},
        ),
        NftSet(
            "own_to_anycast",
            "typeof iifname . ether daddr : ether daddr",
            is_map=True,
            elements={f"{t} . {key}": value for t, key, value in inward},
        ),
    ]


def compile_anycast_chains() -> list[Chain]:
    """Return the bridge table's chains about frames that come from the trunk or go there."""
    return [
        Chain(
            "from-trunk",
            ("iifname @anycast_trunks goto into-anycast",),
            Hook("filter", "prerouting", FROM_TRUNK_PRIORITY),
        ),
        Chain(
            "into-anycast",
            (
                "iifname . ether saddr @anycast_macs drop",
                "iifname . ip saddr @anycast_addresses drop",
                "iifname . arp saddr ip @anycast_addresses drop",
                "iifname . arp daddr ip @anycast_addresses drop",
                # What answers to this host's own MAC is for its bridge. The packet type was set
                # by the VLAN device, for which the frame was somebody else's.
                f"arp operation reply {TO_BRIDGE} meta pkttype set host",
            ),
        ),
        Chain(
            "to-trunk",
            ("oifname @anycast_trunks goto out-of-anycast",),
            Hook("filter", "postrouting", TO_TRUNK_PRIORITY),
        ),
        Chain(
            "out-of-anycast",
            (
                # An instance asks for its gateway, and its gateway is here.
                "oifname . arp daddr ip @anycast_addresses drop",
                "oifname . ip saddr @anycast_addresses drop",
                "oifname . arp saddr ip @anycast_addresses arp operation != request drop",
                "oifname . arp saddr ip @anycast_addresses arp saddr ip set 0.0.0.0",
                "arp saddr ether set oifname . arp saddr ether map @anycast_to_own",
                "ether saddr set oifname . ether saddr map @anycast_to_own",
            ),
        ),
    ]
