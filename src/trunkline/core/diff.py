"""From what a host has to what it must have: ordered operations, none when in sync.

The order is written down once, in ``diff_host``. It fails closed: an instance is unplugged
before the rules that bound it go, and plugged in after the rules that bind it are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain

from trunkline.core.nftdiff import diff_tables
from trunkline.hoststate import Address, Bridge, Cable, DhcpServer, HostState, Plug, Vlan
from trunkline.joined import fan
from trunkline.kept import kept
from trunkline.operations import (
    AddAddress,
    AddProxy,
    AddRoute,
    AnnounceAddress,
    ChangeDhcpFiles,
    ChangeLink,
    CreateBridge,
    CreateCable,
    CreateSpace,
    CreateVlan,
    DeleteLink,
    DeleteSpace,
    HoldElections,
    InSpace,
    Operation,
    PlugTrunk,
    RemoveAddress,
    RemoveProxy,
    RemoveRoute,
    RunNft,
    SetSysctl,
    StartDhcp,
    StopDhcp,
)
from trunkline.ownership import TAP_ID

Link = Bridge | Vlan | Cable

CHANGES = {
    "mtu": "mtu",
    "mac": "address",
    "alias": "alias",
    "bridge": "master",
    "up": "state",
    "nf_call_iptables": "nf_call_iptables",
    "nf_call_ip6tables": "nf_call_ip6tables",
}
"""Word in an operation by attribute of a link; what a link has not does not differ."""

TEXTS = {"state": "up"}
"""What this is always changed to: a wanted link is up."""


def diff_host(desired: HostState, actual: HostState) -> tuple[Operation, ...]:
    """Return the operations that turn ``actual`` into ``desired``, in the order to run them."""
    misplaced = misplaced_plugs(desired.plugs, actual.plugs)
    kept, cut = _cables(desired, actual)
    sides = _sides(desired, _without(actual, cut))
    return tuple(
        chain(
            _unplug(actual, misplaced),
            _release_trunks(desired, actual),
            _everywhere(_stop_dhcp, sides),
            _make_spaces(desired, actual),
            _everywhere(_withdraw_floating, sides),
            _everywhere(_change_rules, sides),
            _everywhere(_remove_routes, sides),
            _everywhere(_remove_addresses, sides),
            map(DeleteLink, cut),
            _delete_links(desired, actual),
            _delete_spaces(desired, actual),
            _make_bridges(desired, actual),
            _make_vlans(desired, actual),
            _plug_trunks(desired, actual),
            _make_cables(desired, kept),
            _everywhere(_set_sysctls, sides),
            _everywhere(_add_addresses, sides),
            _everywhere(_add_routes, sides),
            _everywhere(_serve_dhcp, sides),
            _hold_elections(desired, actual),
            _announce_gateways(desired, actual),
            _plug(misplaced),
        )
    )


def _sides(desired: HostState, actual: HostState) -> list[tuple[str, HostState, HostState]]:
    """Return name, desired and actual state of the host (no name) and of each space.

    One that goes is left to lose its DHCP servers; the rest ends with it.
    """
    nothing = HostState()
    going = [
        (name, replace(there, dhcp={}), there)
        for name, there in actual.spaces.items()
        if name not in desired.spaces
    ]
    staying = [
        (name, wanted, actual.spaces.get(name, nothing)) for name, wanted in desired.spaces.items()
    ]
    return [("", desired, actual), *going, *staying]


def _everywhere(
    step: Callable[[HostState, HostState], Iterator[Operation]],
    sides: Iterable[tuple[str, HostState, HostState]],
) -> Iterator[Operation]:
    """Yield what a step has to do on the host and in its spaces."""
    for name, desired, actual in sides:
        for operation in step(desired, actual):
            yield InSpace(name, operation) if name else operation


def _cables(desired: HostState, actual: HostState) -> tuple[dict[str, Cable], tuple[str, ...]]:
    """Return the cables that stay, maybe changed, and those that must go or be made anew."""
    kept = {
        name: present
        for name, present in actual.cables.items()
        if _ends(desired.cables.get(name)) == _ends(present)
    }
    return kept, tuple(sorted(actual.cables.keys() - kept.keys()))


def _ends(cable: Cable | None) -> tuple[str, str] | None:
    return None if cable is None else (cable.space, cable.peer)


def _without(actual: HostState, cut: Iterable[str]) -> HostState:
    """Return a state without what goes with the cables that are cut."""
    cables = [actual.cables[name] for name in cut]
    if not cables:
        return actual
    far: dict[str, set[str]] = {}
    for cable in cables:
        far.setdefault(cable.space, set()).add(cable.peer)
    spaces = {name: _unlinked(s, far.get(name, set())) for name, s in actual.spaces.items()}
    return replace(_unlinked(actual, {c.name for c in cables}), spaces=spaces)


def _unlinked(state: HostState, links: set[str]) -> HostState:
    """Return a state without the addresses, routes and sysctls of links."""
    return replace(
        state,
        addresses=frozenset(a for a in state.addresses if a.link not in links),
        routes=frozenset(r for r in state.routes if r.link not in links),
        sysctls={k: v for k, v in state.sysctls.items() if not links.intersection(k.split("."))},
    )


def _make_spaces(desired: HostState, actual: HostState) -> Iterator[Operation]:
    return map(CreateSpace, sorted(desired.spaces.keys() - actual.spaces.keys()))


def _delete_spaces(desired: HostState, actual: HostState) -> Iterator[Operation]:
    return map(DeleteSpace, sorted(actual.spaces.keys() - desired.spaces.keys()))


@kept(4)
def misplaced_plugs(
    desired: Mapping[str, Plug], actual: Mapping[str, Plug]
) -> tuple[tuple[Plug, Plug | None], ...]:
    """Return the interfaces that are there and not as they must be, and how they must be.

    Nearly all of a host's are right: only the pieces that have changed are looked at.
    """
    sides = (fan(plugs, TAP_ID).pieces for plugs in (desired, actual))
    return tuple(chain.from_iterable(map(misplaced, *sides)))


@kept(256)
def misplaced(
    desired: Mapping[str, Plug], actual: Mapping[str, Plug]
) -> tuple[tuple[Plug, Plug | None], ...]:
    """Return the same of one piece."""
    wanted = desired.get
    return tuple((plug, wanted(tap)) for tap, plug in actual.items() if wanted(tap) != plug)


def _unplug(
    actual: HostState, misplaced: Iterable[tuple[Plug, Plug | None]]
) -> Iterator[Operation]:
    """Unplug interfaces from bridges of ours that they should not be in."""
    for present, wanted in misplaced:
        if present.bridge in actual.bridges and (wanted is None or wanted.bridge != present.bridge):
            yield ChangeLink(present.tap, (("master", ""),))


def _remove_routes(desired: HostState, actual: HostState) -> Iterator[Operation]:
    yield from map(RemoveProxy, sorted(actual.proxies - desired.proxies, key=str))
    yield from map(RemoveRoute, sorted(actual.routes - desired.routes, key=str))


def _release_trunks(desired: HostState, actual: HostState) -> Iterator[Operation]:
    for trunk, bridge in actual.untagged.items():
        if desired.untagged.get(trunk) != bridge:
            yield PlugTrunk(trunk, None)


def _plug_trunks(desired: HostState, actual: HostState) -> Iterator[Operation]:
    for trunk, bridge in desired.untagged.items():
        if actual.untagged.get(trunk) != bridge:
            yield PlugTrunk(trunk, bridge)


def _stop_dhcp(desired: HostState, actual: HostState) -> Iterator[Operation]:
    for bridge in sorted(actual.dhcp.keys() - desired.dhcp.keys()):
        yield StopDhcp(bridge)


def _change_rules(desired: HostState, actual: HostState) -> Iterator[Operation]:
    script = diff_tables(desired.tables, actual.tables)
    if script:
        yield RunNft(script, desired.tables)


def _withdraw_floating(desired: HostState, actual: HostState) -> Iterator[Operation]:
    """Take floating IPs off before their translation goes.

    In between, the host's own stack would answer for them: an instance that has moved would have
    its connections reset by the host that it has left.
    """
    gone = filter(_is_floating, actual.addresses - desired.addresses)
    yield from map(RemoveAddress, sorted(gone, key=str))


def _remove_addresses(desired: HostState, actual: HostState) -> Iterator[Operation]:
    for address in sorted(actual.addresses - desired.addresses, key=str):
        stays = address.link not in actual.bridges or address.link in desired.bridges
        if stays and not _is_floating(address):  # with its bridge, an address goes by itself
            yield RemoveAddress(address)


def _must_recreate(wanted: Vlan, present: Vlan) -> bool:
    """Return whether a VLAN device has properties that cannot change in place."""
    return (wanted.trunk, wanted.vlan_id, wanted.making) != (
        present.trunk,
        present.vlan_id,
        present.making,
    )


def _delete_links(desired: HostState, actual: HostState) -> Iterator[Operation]:
    for name, present in actual.vlans.items():
        wanted = desired.vlans.get(name)
        if wanted is None or _must_recreate(wanted, present):
            yield DeleteLink(name)
    for name in sorted(actual.bridges.keys() - desired.bridges.keys()):
        yield DeleteLink(name)


def _make_bridges(desired: HostState, actual: HostState) -> Iterator[Operation]:
    for name, wanted in desired.bridges.items():
        present = actual.bridges.get(name)
        if present is None:
            yield CreateBridge(wanted)
        elif present != wanted:
            yield ChangeLink(name, _link_changes(wanted, present))


def _link_changes(wanted: Link, present: Link) -> tuple[tuple[str, str], ...]:
    """Return what differs of a link, in ip-link(8)'s words."""
    found = []
    for attribute, word in CHANGES.items():
        value = getattr(wanted, attribute, None)
        if value != getattr(present, attribute, None):
            text = str(int(value)) if isinstance(value, bool) else str(value or "")
            found.append((word, TEXTS.get(word) or text))
    return tuple(found)


def _make_vlans(desired: HostState, actual: HostState) -> Iterator[Operation]:
    for name, wanted in desired.vlans.items():
        present = actual.vlans.get(name)
        if present is None or _must_recreate(wanted, present):
            yield CreateVlan(wanted)
        elif present != wanted:
            yield ChangeLink(name, _link_changes(wanted, present))


def _make_cables(desired: HostState, kept: Mapping[str, Cable]) -> Iterator[Operation]:
    for name, wanted in desired.cables.items():
        present = kept.get(name)
        if present is None:
            yield CreateCable(wanted)
        elif present != wanted:
            yield ChangeLink(name, _link_changes(wanted, present))


def _set_sysctls(desired: HostState, actual: HostState) -> Iterator[Operation]:
    if desired.sysctls != actual.sysctls:
        for key, value in desired.sysctls.items():
            if actual.sysctls.get(key) != value:
                yield SetSysctl(key, value)


def _add_addresses(desired: HostState, actual: HostState) -> Iterator[Operation]:
    """Add what is missing; an address of its own length is a floating IP and is announced."""
    for address in sorted(desired.addresses - actual.addresses, key=str):
        yield AddAddress(address)
        if _is_floating(address):
            yield AnnounceAddress(address)


def _is_floating(address: Address) -> bool:
    return address.address.network.num_addresses == 1


def _add_routes(desired: HostState, actual: HostState) -> Iterator[Operation]:
    """Add what is missing: first the ways, then the answers that draw packets to them."""
    yield from map(AddRoute, sorted(desired.routes - actual.routes, key=str))
    for address in sorted(desired.proxies - actual.proxies, key=str):
        yield AddProxy(address)
        yield AnnounceAddress(address)


def _serve_dhcp(desired: HostState, actual: HostState) -> Iterator[Operation]:
    for bridge, wanted in desired.dhcp.items():
        present = actual.dhcp.get(bridge)
        if present is None or present.config != wanted.config:
            yield StartDhcp(wanted)
        elif not _equal(present.files, wanted.files):
            yield _file_changes(wanted, present.files)


@kept(1024)
def _equal(present: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Return whether files are as they must be; those of most networks have not changed."""
    return present == wanted


def _announce_gateways(desired: HostState, actual: HostState) -> Iterator[Operation]:
    """Tell instances of gateways in spaces that have come here, maybe from another host.

    Or that this host has for itself now, where several had to settle who acts.
    """
    nothing = HostState()
    settled = [e for number, e in actual.elections.items() if number not in desired.elections]
    for name, wanted in desired.spaces.items():
        come = wanted.addresses - actual.spaces.get(name, nothing).addresses
        alone = (a for e in settled if e.space == name for a in e.inside)
        for address in sorted({*filter(_is_gateway, come), *alone}, key=str):
            yield InSpace(name, AnnounceAddress(address))


def _is_gateway(address: Address) -> bool:
    """Return whether an address in a space is a network's; IPv6 announces by itself."""
    return address.address.version == 4 and address.address.network.num_addresses > 2  # noqa: PLR2004 - a transit has two


def _hold_elections(desired: HostState, actual: HostState) -> Iterator[Operation]:
    if desired.elections != actual.elections:
        yield HoldElections(desired.elections)


def _file_changes(wanted: DhcpServer, present: Mapping[str, str]) -> ChangeDhcpFiles:
    written = dict(wanted.files.items() - present.items())
    removed = present.keys() - wanted.files.keys()
    forgotten = removed | (written.keys() & present.keys())
    return ChangeDhcpFiles(
        wanted.bridge,
        write=tuple(sorted(written.items())),
        remove=tuple(sorted(removed)),
        reload=any(name.startswith(("hosts/", "options/")) for name in forgotten),
    )


def _plug(misplaced: Iterable[tuple[Plug, Plug | None]]) -> Iterator[Operation]:
    """Plug in the interfaces that are there; the others wait for their hypervisor."""
    for present, wanted in misplaced:
        if wanted is not None:
            yield ChangeLink(present.tap, tuple(_plug_changes(wanted, present)))


def _plug_changes(wanted: Plug, present: Plug) -> Iterator[tuple[str, str]]:
    if wanted.mtu != present.mtu:
        yield "mtu", str(wanted.mtu)
    if wanted.bridge != present.bridge:
        yield "master", wanted.bridge or ""
    hairpin = present.hairpin and wanted.bridge == present.bridge  # replugging resets it
    if wanted.hairpin != hairpin:
        yield "hairpin", "on" if wanted.hairpin else "off"
    if wanted.up != present.up:
        yield "state", "up"
