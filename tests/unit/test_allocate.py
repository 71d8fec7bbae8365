"""The pure choices: address, VLAN, MAC."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.core.allocate import (
    Pool,
    default_pools,
    eui64,
    is_usable,
    mac_address,
    next_address,
    next_prefix,
    next_vlan,
    uncovered,
    usable,
    walk,
    within,
)

NET = IPv4Network("10.0.0.0/24")
NET6 = IPv6Network("fd00::/64")


def pool(first: str, last: str) -> Pool:
    """Return a pool from texts."""
    return IPv4Address(first), IPv4Address(last)


def texts(pools: list[Pool], cursor: str | None = None, count: int = 300) -> list[str]:
    """Return the first addresses of a walk as texts."""
    start = None if cursor is None else IPv4Address(cursor)
    return [str(address) for address in islice(walk(pools, start), count)]


def test_usable_leaves_network_and_broadcast_out() -> None:
    """An interface never gets the first or the last address of a subnet."""
    assert usable(NET) == pool("10.0.0.1", "10.0.0.254")


def test_usable_of_ipv6_leaves_the_routers_anycast_address_out() -> None:
    """The first address of a subnet means every router there; the last one is like others."""
    assert usable(NET6) == (IPv6Address("fd00::1"), IPv6Address("fd00::ffff:ffff:ffff:ffff"))
    assert not is_usable(IPv6Address("fd00::"), NET6)
    assert not is_usable(IPv4Address("10.0.0.1"), NET6)


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        (None, [("10.0.0.1", "10.0.0.254")]),
        ("10.0.0.1", [("10.0.0.2", "10.0.0.254")]),
        ("10.0.0.254", [("10.0.0.1", "10.0.0.253")]),
        ("10.0.0.9", [("10.0.0.1", "10.0.0.8"), ("10.0.0.10", "10.0.0.254")]),
        ("10.9.0.1", [("10.0.0.1", "10.0.0.254")]),
    ],
)
def test_default_pools_hold_all_but_the_gateway(
    gateway: str | None, expected: list[tuple[str, str]]
) -> None:
    """Without pools of its own, a subnet gives away everything but its gateway."""
    found = default_pools(NET, None if gateway is None else IPv4Address(gateway))

    assert found == [pool(*ends) for ends in expected]


def test_default_pools_of_the_smallest_subnet() -> None:
    """A /30 has one address left beside its gateway."""
    found = default_pools(IPv4Network("10.0.0.0/30"), IPv4Address("10.0.0.1"))

    assert found == [pool("10.0.0.2", "10.0.0.2")]


def test_walk_starts_behind_the_cursor_and_wraps() -> None:
    """The address given last comes last."""
    pools = [pool("10.0.0.2", "10.0.0.4"), pool("10.0.0.8", "10.0.0.9")]

    assert texts(pools, "10.0.0.3") == ["10.0.0.4", "10.0.0.8", "10.0.0.9", "10.0.0.2", "10.0.0.3"]


def test_walk_with_a_cursor_outside_all_pools() -> None:
    """Pools that changed since leave the cursor in the gap between them."""
    pools = [pool("10.0.0.8", "10.0.0.9"), pool("10.0.0.2", "10.0.0.3")]

    assert texts(pools, "10.0.0.5") == ["10.0.0.8", "10.0.0.9", "10.0.0.2", "10.0.0.3"]


@given(
    edges=st.lists(st.integers(1, 254), min_size=2, max_size=8, unique=True),
    cursor=st.none() | st.integers(0, 255),
)
def test_walk_yields_each_address_once(edges: list[int], cursor: int | None) -> None:
    """Wherever the cursor stands, every address of the pools comes exactly once."""
    base = int(NET.network_address)
    ordered = sorted(edges[: len(edges) // 2 * 2])
    pools = [
        (IPv4Address(base + first), IPv4Address(base + last))
        for first, last in zip(ordered[::2], ordered[1::2], strict=True)
    ]

    found = list(walk(pools, None if cursor is None else IPv4Address(base + cursor)))

    assert len(found) == len(set(found)) == sum(int(b) - int(a) + 1 for a, b in pools)


def test_walk_of_a_large_pool_costs_nothing() -> None:
    """A /8 is walked lazily."""
    first = next(walk([usable(IPv4Network("10.0.0.0/8"))], IPv4Address("10.255.255.253")))

    assert first == IPv4Address("10.255.255.254")


def test_walk_of_a_64_costs_nothing() -> None:
    """Where the cursor stands in 2^64 addresses makes no difference, nor that it wraps."""
    found = walk([usable(NET6)], IPv6Address("fd00::ffff:ffff:ffff:fffe"))

    assert [str(a) for a in islice(found, 3)] == ["fd00::ffff:ffff:ffff:ffff", "fd00::1", "fd00::2"]


@pytest.mark.parametrize(
    ("mac", "expected"),
    [
        ("fa:16:3e:0a:0b:0c", "fd00::f816:3eff:fe0a:b0c"),
        ("02:00:00:00:00:01", "fd00::ff:fe00:1"),
        ("34:56:78:9a:bc:de", "fd00::3656:78ff:fe9a:bcde"),  # the example of RFC 4291, appendix A
    ],
)
def test_eui64_is_what_kernels_make_of_a_mac(mac: str, expected: str) -> None:
    """The universal bit is turned over, and ff:fe is put in the middle."""
    assert eui64(NET6, mac) == IPv6Address(expected)


def test_prefixes_of_both_families_do_not_meet() -> None:
    """Neither is within the other, and IPv4 comes first."""
    texts = ("fd00::/64", "10.0.0.0/24", "fd00::/48", "10.0.0.0/8", "::/0")

    assert list(map(str, uncovered(map(ip_network, texts)))) == ["10.0.0.0/8", "::/0"]
    assert not within(NET, IPv6Network("::/0"))
    assert within(NET6, IPv6Network("fd00::/48"))


def test_next_prefix_of_ipv6_minds_its_own_family() -> None:
    """Taken IPv4 prefixes are in nobody's way; taken IPv6 ones are passed over."""
    taken = [NET, NET6, IPv6Network("fd00:0:0:2::/96")]

    found = [next_prefix([IPv6Network("fd00::/48")], length, taken) for length in (64, 63, 62, 48)]

    assert list(map(str, found)) == [
        "fd00:0:0:1::/64",
        "fd00:0:0:4::/63",
        "fd00:0:0:4::/62",
        "None",
    ]


def test_next_address_is_the_first_free_one() -> None:
    """Taken candidates are skipped; when all are taken there is none."""
    first, last = pool("10.0.0.2", "10.0.0.3")

    assert next_address([first, last], {first}) == last
    assert next_address([first, last], {first, last}) is None


def test_next_vlan_is_the_lowest_free_one_of_all_ranges() -> None:
    """A full range leads to the next one, and full ranges to none."""
    ranges = [(100, 101), (300, 300)]

    assert next_vlan(ranges, {100}) == 101
    assert next_vlan(ranges, {100, 101}) == 300
    assert next_vlan(ranges, {100, 101, 300}) is None


@given(st.integers(0, 2**64))
def test_mac_address_is_well_formed(entropy: int) -> None:
    """Whatever the randomness, the MAC has the known prefix and six octets."""
    mac = mac_address(entropy)

    assert mac.startswith("fa:16:3e:")
    assert len(bytes.fromhex(mac.replace(":", ""))) == 6


prefixes = st.builds(
    lambda start, length: IPv4Network((0x0A000000 + start, length), strict=False),
    st.integers(0, 255),
    st.integers(24, 30),
)


@given(st.lists(prefixes, max_size=3), st.integers(24, 30), st.lists(prefixes, max_size=8))
def test_next_prefix_is_the_lowest_free_one(
    pools: list[IPv4Network], length: int, taken: list[IPv4Network]
) -> None:
    """No lower prefix of the length would have fitted, and what is found overlaps none."""
    every = sorted(p for big in pools if big.prefixlen <= length for p in big.subnets(
        new_prefix=length))  # fmt: skip
    free = [prefix for prefix in every if not any(prefix.overlaps(other) for other in taken)]

    assert next_prefix(pools, length, taken) == (free[0] if free else None)
