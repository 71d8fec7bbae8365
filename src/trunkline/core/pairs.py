"""Allowed address pairs in the rules: what a port may send from besides its own, and who judges it.

Going out, a port with pairs is judged by its MACs, which the anti-spoofing binds to it. Coming in,
an address is all there is to go by, so one that several ports of a host may use is open to what
the groups that they have in common allow; a port's own address is judged by its groups alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from ipaddress import collapse_addresses
from typing import Any

from trunkline import ownership
from trunkline.core.family import V4, V6, Family
from trunkline.core.gather import gather, union
from trunkline.core.links import Served, bridge_of, by_network, scopes_by_bridge
from trunkline.kept import kept
from trunkline.model import AddressPair, GroupId, IpNetwork
from trunkline.snapshot import PortView

Groups = tuple[GroupId, ...]
Combination = tuple[str, Groups]
"""Groups that judge together, and the scope in which they do (``Served.scope``)."""


def paired_ports(ports: tuple[PortView, ...]) -> list[PortView]:
    """Return the ports that have address pairs, and port security for them to matter."""
    return [*gather(union, _paired, ports).values()]


@kept()
def _paired(ports: tuple[PortView, ...]) -> dict[str, PortView]:
    return {port.id: port for port in ports if port.pairs and port.port_security}


def pair_combinations(
    served: tuple[Served, ...], ports: tuple[PortView, ...], family: Family = V4
) -> set[Combination]:
    """Return the combinations of groups that judge for address pairs of a family."""
    paired = paired_ports(ports)
    scopes = scopes_by_bridge(served)
    claims = (
        judge(served, paired, family)
        for judge in (groups_by_mac, groups_by_address, groups_by_prefix)
    )
    return {(scopes[bridge_of(key)], groups) for found in claims for key, groups in found.items()}


def groups_by_mac(
    served: tuple[Served, ...], paired: Iterable[PortView], family: Family = V4
) -> dict[str, Groups]:
    """Return which groups judge what comes in, by bridge and MAC as an element's text."""
    claims = (
        (f'"{bridge}" . {mac}', port.group_ids)
        for bridge, port, pairs in _placed(served, paired, family)
        for mac in sorted({port.mac, *(pair.mac for pair in pairs)})
    )
    return _in_common(claims)


def groups_by_address(
    served: tuple[Served, ...], paired: Iterable[PortView], family: Family = V4
) -> dict[str, Groups]:
    """Return which groups judge what goes to single addresses of pairs, by bridge and address."""
    claims = (
        (f'"{bridge}" . {pair.prefix.network_address}', port.group_ids)
        for bridge, port, pairs in _placed(served, paired, family)
        for pair in pairs
        if pair.prefix.prefixlen == family.single
    )
    return _in_common(claims)


def groups_by_prefix(
    served: tuple[Served, ...], paired: Iterable[PortView], family: Family = V4
) -> dict[str, Groups]:
    """Return the same for wider prefixes, none of which overlaps another on its bridge."""
    claims: dict[str, list[tuple[IpNetwork, Groups]]] = {}
    for bridge, port, pairs in _placed(served, paired, family):
        wide = [pair.prefix for pair in pairs if pair.prefix.prefixlen < family.single]
        claims.setdefault(bridge, []).extend((prefix, port.group_ids) for prefix in wide)
    return {
        f'"{bridge}" . {prefix}': groups
        for bridge, mine in claims.items()
        for prefix, groups in disjoint(mine).items()
    }


def _placed(
    served: tuple[Served, ...], paired: Iterable[PortView], family: Family
) -> Iterator[tuple[str, PortView, list[AddressPair]]]:
    """Yield bridge and port of each that has pairs of a family, with these."""
    places = by_network(served)
    for port in paired:
        pairs = [pair for pair in port.pairs if pair.prefix.version == family.version]
        if pairs and port.network_id in places:
            yield places[port.network_id].bridge, port, pairs


def _in_common(claims: Iterable[tuple[str, Groups]]) -> dict[str, Groups]:
    found: dict[str, Groups] = {}
    for key, groups in claims:
        found[key] = shared(found[key], groups) if key in found else groups
    return found


def shared(first: Groups, second: Groups) -> Groups:
    """Return the groups that two ports have in common, sorted."""
    return tuple(sorted(set(first) & set(second)))


def disjoint(claims: Iterable[tuple[IpNetwork, Groups]]) -> dict[IpNetwork, Groups]:
    """Return prefixes that cover what is claimed and overlap nowhere, with their groups.

    nftables refuses overlapping intervals. Of two prefixes that overlap, one holds the other:
    the inner one gets the groups that all who claim it have in common.
    """
    claimed: dict[Any, Groups] = {}  # of one family, which their type does not say
    for prefix, groups in claims:
        claimed[prefix] = shared(claimed[prefix], groups) if prefix in claimed else groups
    result: dict[IpNetwork, Groups] = {}
    for prefix in claimed:
        inner = [p for p in claimed if p != prefix and p.subnet_of(prefix)]
        judges = reduce(shared, (g for p, g in claimed.items() if prefix.subnet_of(p)))
        result |= dict.fromkeys(_without(prefix, inner), judges)
    return result


def _without(prefix: Any, inner: Iterable[Any]) -> list[IpNetwork]:
    pieces = [prefix]
    for taken in inner:
        pieces = [piece for whole in pieces for piece in _split(whole, taken)]
    return pieces


def _split(whole: Any, taken: Any) -> Iterable[IpNetwork]:
    if not whole.overlaps(taken):
        return [whole]
    return [] if whole.subnet_of(taken) else whole.address_exclude(taken)


def pair_macs(served: tuple[Served, ...], paired: Iterable[PortView]) -> dict[str, str]:
    """Return more elements of ``macs``."""
    return {
        f'"{ownership.tap_name(port.id)}" . {pair.mac}': ""
        for family in (V4, V6)
        for _, port, pairs in _placed(served, paired, family)
        for pair in pairs
    }


def pair_prefixes(
    served: tuple[Served, ...], paired: Iterable[PortView], family: Family
) -> Iterator[tuple[str, IpNetwork]]:
    """Yield what ports may send from by their pairs: interface and MAC as text, and a prefix.

    Of one interface and MAC, no two overlap.
    """
    for _, port, pairs in _placed(served, paired, family):
        for mac in sorted({pair.mac for pair in pairs}):
            mine: list[Any] = [pair.prefix for pair in pairs if pair.mac == mac]
            for prefix in collapse_addresses(mine):
                yield f'"{ownership.tap_name(port.id)}" . {mac}', prefix
