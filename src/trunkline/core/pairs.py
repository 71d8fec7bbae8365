"""Allowed address pairs in the rules: what a port may send from besides its own, and who judges it.

Going out, a port with pairs is judged by its MACs, which the anti-spoofing binds to it. Coming in,
an address is all there is to go by, so one that several ports of a host may use is open to what
the groups that they have in common allow; a port's own address is judged by its groups alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from ipaddress import IPv4Network, collapse_addresses

from trunkline import ownership
from trunkline.core.gather import gather, union
from trunkline.core.kept import kept
from trunkline.core.links import Served, bridge_of, by_network, scopes_by_bridge
from trunkline.hoststate import NftSet
from trunkline.model import GroupId
from trunkline.snapshot import PortView

Groups = tuple[GroupId, ...]
Combination = tuple[str, Groups]
"""Groups that judge together, and the scope in which they do (``Served.scope``)."""
SINGLE = 32  # the length of a prefix that is one address


def paired_ports(ports: tuple[PortView, ...]) -> list[PortView]:
    """Return the ports that have address pairs, and port security for them to matter."""
    return [*gather(union, _paired, ports).values()]


@kept()
def _paired(ports: tuple[PortView, ...]) -> dict[str, PortView]:
    return {port.id: port for port in ports if port.pairs and port.port_security}


def pair_combinations(served: tuple[Served, ...], ports: tuple[PortView, ...]) -> set[Combination]:
    """Return the combinations of groups that judge for address pairs."""
    paired = paired_ports(ports)
    scopes = scopes_by_bridge(served)
    claims = (
        judge(served, paired) for judge in (groups_by_mac, groups_by_address, groups_by_prefix)
    )
    return {(scopes[bridge_of(key)], groups) for found in claims for key, groups in found.items()}


def groups_by_mac(served: tuple[Served, ...], paired: Iterable[PortView]) -> dict[str, Groups]:
    """Return which groups judge what comes in, by bridge and MAC as an element's text."""
    claims = (
        (f'"{bridge}" . {mac}', port.group_ids)
        for bridge, port in _placed(served, paired)
        for mac in sorted({port.mac, *(pair.mac for pair in port.pairs)})
    )
    return _in_common(claims)


def groups_by_address(served: tuple[Served, ...], paired: Iterable[PortView]) -> dict[str, Groups]:
    """Return which groups judge what goes to single addresses of pairs, by bridge and address."""
    claims = (
        (f'"{bridge}" . {pair.prefix.network_address}', port.group_ids)
        for bridge, port in _placed(served, paired)
        for pair in port.pairs
        if pair.prefix.prefixlen == SINGLE
    )
    return _in_common(claims)


def groups_by_prefix(served: tuple[Served, ...], paired: Iterable[PortView]) -> dict[str, Groups]:
    """Return the same for wider prefixes, none of which overlaps another on its bridge."""
    claims: dict[str, list[tuple[IPv4Network, Groups]]] = {}
    for bridge, port in _placed(served, paired):
        wide = [pair.prefix for pair in port.pairs if pair.prefix.prefixlen < SINGLE]
        claims.setdefault(bridge, []).extend(
            (p, port.group_ids) for p in wide if isinstance(p, IPv4Network)
        )
    return {
        f'"{bridge}" . {prefix}': groups
        for bridge, mine in claims.items()
        for prefix, groups in disjoint(mine).items()
    }


def _placed(
    served: tuple[Served, ...], paired: Iterable[PortView]
) -> Iterator[tuple[str, PortView]]:
    places = by_network(served)
    for port in paired:
        if port.network_id in places:
            yield places[port.network_id].bridge, port


def _in_common(claims: Iterable[tuple[str, Groups]]) -> dict[str, Groups]:
    found: dict[str, Groups] = {}
    for key, groups in claims:
        found[key] = shared(found[key], groups) if key in found else groups
    return found


def shared(first: Groups, second: Groups) -> Groups:
    """Return the groups that two ports have in common, sorted."""
    return tuple(sorted(set(first) & set(second)))


def disjoint(claims: Iterable[tuple[IPv4Network, Groups]]) -> dict[IPv4Network, Groups]:
    """Return prefixes that cover what is claimed and overlap nowhere, with their groups.

    nftables refuses overlapping intervals. Of two prefixes that overlap, one holds the other:
    the inner one gets the groups that all who claim it have in common.
    """
    claimed: dict[IPv4Network, Groups] = {}
    for prefix, groups in claims:
        claimed[prefix] = shared(claimed[prefix], groups) if prefix in claimed else groups
    result: dict[IPv4Network, Groups] = {}
    for prefix in claimed:
        inner = [p for p in claimed if p != prefix and p.subnet_of(prefix)]
        judges = reduce(shared, (g for p, g in claimed.items() if prefix.subnet_of(p)))
        result |= dict.fromkeys(_without(prefix, inner), judges)
    return result


def _without(prefix: IPv4Network, inner: Iterable[IPv4Network]) -> list[IPv4Network]:
    pieces = [prefix]
    for taken in inner:
        pieces = [piece for whole in pieces for piece in _split(whole, taken)]
    return pieces


def _split(whole: IPv4Network, taken: IPv4Network) -> Iterable[IPv4Network]:
    if not whole.overlaps(taken):
        return [whole]
    return [] if whole.subnet_of(taken) else whole.address_exclude(taken)


def compile_pair_spoof_sets(
    served: tuple[Served, ...], paired: Iterable[PortView]
) -> tuple[dict[str, str], dict[str, str], NftSet]:
    """Return more elements of ``macs`` and ``addresses``, and the set of wider prefixes."""
    macs: dict[str, str] = {}
    addresses: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    for _, port in _placed(served, paired):
        tap = f'"{ownership.tap_name(port.id)}"'
        for mac in sorted({pair.mac for pair in port.pairs}):
            macs[f"{tap} . {mac}"] = ""
            mine = [pair.prefix for pair in port.pairs if pair.mac == mac]
            for prefix in collapse_addresses(p for p in mine if isinstance(p, IPv4Network)):
                single = prefix.prefixlen == SINGLE
                text = prefix.network_address if single else prefix
                (addresses if single else prefixes)[f"{tap} . {mac} . {text}"] = ""
    key = "typeof iifname . ether saddr . ip saddr"
    return macs, addresses, NftSet("prefixes", key, interval=True, elements=prefixes)
