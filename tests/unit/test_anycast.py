"""A gateway that is the same on every host, and what of it a frame may show on the trunk."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import clouds
import pytest

from trunkline.core.compile import compile_host
from trunkline.hoststate import HostState
from trunkline.ownership import anycast_mac, gateway_mac
from trunkline.trace import nft
from trunkline.trace.packets import BROADCAST, NOBODY, Arp, Frame, Packet

GATEWAY = IPv4Address("10.0.0.1")
SHARED = anycast_mac(clouds.NET100.id)
OWN = gateway_mac(clouds.ANYCAST.host, clouds.NET100.id)
VM, PEER = clouds.VM1, IPv4Address("10.0.0.6")
PEER_MAC = "fa:16:3e:00:00:04"


def compiled(host: str = "compute1") -> HostState:
    """Return what a host must be."""
    state, problems = compile_host(clouds.ANYCAST, replace(clouds.CONFIG, host=host), clouds.FACTS)
    assert problems == ()
    return state


def through(frame: Frame, *, to_trunk: bool) -> Frame | None:
    """Return a frame as it is behind vlan100, on its way there or from there; None if dropped."""
    table = compiled().tables["bridge", "trunkline"]
    chain = table.chains["to-trunk" if to_trunk else "from-trunk"]
    port = {"oif" if to_trunk else "iif": "vlan100"}
    verdict = nft.evaluate(table, chain, nft.Context(frame, **port))  # type: ignore[arg-type]
    return None if verdict.kind == nft.DROP else verdict.frame


def ask(sender_mac: str, sender: IPv4Address, target: IPv4Address) -> Frame:
    """Return an ARP request."""
    return Frame(sender_mac, BROADCAST, Arp(False, sender_mac, sender, target))  # noqa: FBT003 - a request


def answer(sender_mac: str, sender: IPv4Address, to_mac: str, target: IPv4Address) -> Frame:
    """Return an ARP reply."""
    return Frame(sender_mac, to_mac, Arp(True, sender_mac, sender, target))  # noqa: FBT003 - a reply


def packet(source_mac: str, to_mac: str, source: IPv4Address) -> Frame:
    """Return a packet to the peer."""
    return Frame(source_mac, to_mac, Packet("x", "request", 17, source, PEER))


def test_bridges_are_the_same_on_every_host() -> None:
    """MAC and address of a bridge do not depend on the host; the MAC on the trunk does."""
    left, right = compiled("compute1"), compiled("compute2")

    assert left.bridges == right.bridges
    assert left.addresses == right.addresses
    assert left.bridges["br100"].mac != left.bridges["br102"].mac
    maps = [s.tables["bridge", "trunkline"].sets["anycast_to_own"].elements for s in (left, right)]
    assert not set(maps[0].values()) & set(maps[1].values())


@pytest.mark.parametrize(
    ("frame", "leaves"),
    [
        (packet(SHARED, PEER_MAC, VM.fixed_ips[0].address), "as the host"),
        (ask(SHARED, GATEWAY, PEER), "as the host, from nobody"),
        (packet(VM.mac, PEER_MAC, VM.fixed_ips[0].address), "as it is"),
        (ask(VM.mac, VM.fixed_ips[0].address, PEER), "as it is"),
        (ask(VM.mac, VM.fixed_ips[0].address, GATEWAY), "not"),
        (answer(SHARED, GATEWAY, PEER_MAC, PEER), "not"),
        (answer(VM.mac, GATEWAY, PEER_MAC, PEER), "not"),
        (ask(VM.mac, GATEWAY, GATEWAY), "not"),
        (packet(SHARED, PEER_MAC, GATEWAY), "not"),
    ],
)
def test_to_the_trunk(frame: Frame, leaves: str) -> None:
    """What a host says itself leaves by its own MAC and without the address; no claim leaves."""
    found = through(frame, to_trunk=True)

    if leaves == "not":
        assert found is None
    elif leaves == "as it is":
        assert found == frame
    elif leaves == "as the host":
        assert found == replace(frame, source_mac=OWN)
    else:
        assert found == ask(OWN, NOBODY, PEER)


@pytest.mark.parametrize(
    ("frame", "comes"),
    [
        (answer(PEER_MAC, PEER, OWN, NOBODY), "for the bridge"),
        (packet(PEER_MAC, OWN, PEER), "as it is"),
        (ask(PEER_MAC, PEER, VM.fixed_ips[0].address), "as it is"),
        (ask(PEER_MAC, PEER, GATEWAY), "not"),
        (answer(PEER_MAC, GATEWAY, VM.mac, VM.fixed_ips[0].address), "not"),
        (packet(SHARED, VM.mac, PEER), "not"),
        (packet(PEER_MAC, VM.mac, GATEWAY), "not"),
    ],
)
def test_from_the_trunk(frame: Frame, comes: str) -> None:
    """An answer to the host's question reaches its bridge; whoever claims the gateway is cut."""
    found = through(frame, to_trunk=False)

    if comes == "not":
        assert found is None
    elif comes == "as it is":
        assert found == frame
    else:
        assert found == replace(frame, destination_mac=SHARED)


def test_a_network_with_own_addresses_is_left_alone() -> None:
    """The same host may serve networks of both modes; the rules are about the anycast ones."""
    mixed = replace(clouds.ANYCAST, networks=(clouds.NET100, clouds.ANYCAST.networks[1]))
    state, _ = compile_host(mixed, clouds.CONFIG, clouds.FACTS)
    sets = state.tables["bridge", "trunkline"].sets

    assert set(sets["anycast_trunks"].elements) == {'"vlan102"'}
    assert state.bridges["br100"].mac == OWN
