"""Which VLAN, address or MAC comes next, given what is taken.

Pure choices: the caller says what is taken, brings the randomness, and lets the database's
unique constraints settle races. Addresses are handed out in a ring: the search starts behind the
address given last, so that a freed one rests as long as possible (its old lease and its
neighbours' ARP entries die meanwhile) and the usual search ends at its first step.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from itertools import chain

from trunkline.model import (
    GatewayMode,
    IpAddress,
    IpNetwork,
    Provisioning,
    VifType,
    by_family,
)

MAC_PREFIX = "fa:16:3e"
"""First half of a made MAC: OpenStack's own, which hypervisors and people recognise."""

BITS = {4: 32, 6: 128}
"""How long an address is, by IP version."""

INTERFACE_BITS = 64
"""How long an IPv6 interface identifier is that is made of a MAC (RFC 4291, 2.5.1)."""

Pool = tuple[IpAddress, IpAddress]
"""First and last address, both included."""


QUOTAS: Mapping[str, int] = {
    "floatingip": 50,
    "network": 100,
    "port": 500,
    "rbac_policy": 10,
    "router": 10,
    "security_group": 10,
    "security_group_rule": 100,
    "subnet": 100,
    "subnetpool": -1,
}
"""How many of each a project may have, if nobody says otherwise: Neutron's numbers. -1: any."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the cloud's administrator lets be allocated.

    Attributes:
        vlan_ranges: (first, last) VLAN ids that tenants' networks are given, by physical network
            in order of preference.
        reserved_prefixes: What no tenant's subnet may overlap: the hosts' own networks.
        default_router: Whether networks are on the default router until they get one of their
            own; False: on none.
        auto_assign_floating_ip: Whether a new port of an instance gets a floating IP of the
            default external network.
        quotas: How many of each resource a project may have that has no quota of its own.
        provisioning: Where a network is that does not say so.
        gateway: The gateway mode of a network that names none.
        vif: How instances are plugged in.
        tells_nova: Whether a Nova is told of what becomes of its servers' ports.
    """

    vlan_ranges: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    reserved_prefixes: tuple[IpNetwork, ...] = ()
    default_router: bool = True
    auto_assign_floating_ip: bool = False
    quotas: Mapping[str, int] = field(default_factory=lambda: QUOTAS)
    provisioning: Provisioning = Provisioning.ON_DEMAND
    gateway: GatewayMode = GatewayMode.PER_HOST
    vif: VifType = VifType.TAP
    tells_nova: bool = False


def usable(cidr: IpNetwork) -> Pool:
    """Return the first and last address of a subnet that an interface may carry.

    The first of all means every router of an IPv6 subnet (RFC 4291, 2.6.1); none is a broadcast.
    """
    if isinstance(cidr, IPv6Network):
        return cidr.network_address + 1, cidr.broadcast_address
    return cidr.network_address + 1, cidr.broadcast_address - 1


def is_usable(address: IpAddress, cidr: IpNetwork) -> bool:
    """Return whether an interface may carry an address of a subnet, which it may not be in."""
    first, last = usable(cidr)
    return address in cidr and int(first) <= int(address) <= int(last)


def default_pools(cidr: IpNetwork, gateway: IpAddress | None) -> list[Pool]:
    """Return the pools of a subnet that names none: all usable addresses but the gateway."""
    return pools_without(usable(cidr), gateway)


def pools_without(pool: Pool, gateway: IpAddress | None) -> list[Pool]:
    """Return what is left of a pool when the gateway's address, of its family, is taken out."""
    first, last = pool
    if gateway is None or not int(first) <= int(gateway) <= int(last):
        return [(first, last)]
    halves = [(first, gateway - 1), (gateway + 1, last)]
    return [(low, high) for low, high in halves if int(low) <= int(high)]


def walk(pools: Sequence[Pool], cursor: IpAddress | None) -> Iterator[IpAddress]:
    """Yield every address of the pools once, starting behind the cursor and wrapping around.

    Lazily: the pool of a /64 costs no more than that of a /24.
    """
    behind = -1 if cursor is None else int(cursor)
    spans = sorted((int(first), int(last)) for first, last in pools)
    ahead = (range(max(first, behind + 1), last + 1) for first, last in spans)
    wrapped = (range(first, min(last, behind) + 1) for first, last in spans)
    kind = type(pools[0][0]) if pools else IPv6Address
    return map(kind, chain.from_iterable(chain(ahead, wrapped)))


def next_address(candidates: Iterable[IpAddress], taken: Container[IpAddress]) -> IpAddress | None:
    """Return the first candidate that is not taken; None if all are."""
    return next((address for address in candidates if address not in taken), None)


def next_vlan(ranges: Iterable[tuple[int, int]], taken: Container[int]) -> int | None:
    """Return the lowest VLAN id of the (first, last) ranges that is not taken."""
    ids = chain.from_iterable(range(first, last + 1) for first, last in ranges)
    return next((vlan_id for vlan_id in ids if vlan_id not in taken), None)


def uncovered(prefixes: Iterable[IpNetwork]) -> tuple[IpNetwork, ...]:
    """Return the prefixes that no other one covers, sorted: two of them never overlap."""
    kept: list[IpNetwork] = []
    for prefix in sorted(prefixes, key=by_family):
        if not kept or not within(prefix, kept[-1]):
            kept.append(prefix)
    return tuple(kept)


def within(inner: IpNetwork, outer: IpNetwork) -> bool:
    """Return whether a prefix is part of another, which may be of the other family."""
    return inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def next_prefix(
    prefixes: Iterable[IpNetwork], length: int, taken: Iterable[IpNetwork]
) -> IpNetwork | None:
    """Return the lowest prefix of a length within ``prefixes`` that overlaps none taken.

    What is taken in the other family is in nobody's way.
    """
    spans = sorted((t.version, int(t[0]), int(t[-1]) + 1) for t in taken)
    for prefix in sorted(prefixes, key=by_family):
        size = 1 << (BITS[prefix.version] - length)
        start, end = int(prefix.network_address), int(prefix.broadcast_address) + 1
        for version, low, high in spans:
            if version == prefix.version and low < start + size and high > start:
                start = -(-high // size) * size  # the first boundary behind what is taken
        if start + size <= end:
            return type(prefix)((start, length))
    return None


def eui64(cidr: IPv6Network, mac: str) -> IPv6Address:
    """Return the address that a MAC makes an interface take in a /64 (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return cidr.network_address + int.from_bytes(identifier, "big")


def mac_address(entropy: int) -> str:
    """Return a MAC made of the well-known prefix and the low 24 bits of ``entropy``."""
    tail = (entropy & 0xFFFFFF).to_bytes(3, "big")
    return f"{MAC_PREFIX}:{tail.hex(':')}"
