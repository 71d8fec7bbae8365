"""The contract between server and agent, as sections."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from trunkline.model import (
    AddressMode,
    AddressPair,
    Direction,
    DomainId,
    FixedIp,
    FloatingIpId,
    GatewayMode,
    GroupId,
    HostName,
    HostRoute,
    NetworkId,
    PortId,
    ProjectId,
    RouterId,
    Rule,
    RuleId,
    SubnetId,
    by_family,
)
from trunkline.snapshot import (
    FloatingView,
    ForwardingView,
    GroupView,
    HostSnapshot,
    NameView,
    NetworkView,
    PortView,
    RouterView,
    SubnetView,
    decode,
    digest,
    encode,
)

PROJECT = ProjectId("p1")
MEMBERS_KEY = (GroupId("g"), DomainId("r"))
addresses = st.integers(0x0A000001, 0x0A0000FE).map(IPv4Address)
prefixes = st.integers(0, 255).map(lambda n: IPv4Network((0x0A000000 + n * 256, 24)))
new_addresses = st.integers(1, 2**64 - 1).map(lambda n: IPv6Address((0xFD << 120) + n))
new_prefixes = st.integers(0, 255).map(lambda n: IPv6Network(((0xFD << 120) + (n << 64), 64)))
any_addresses, any_prefixes = addresses | new_addresses, prefixes | new_prefixes
ids = st.integers(0, 2**128 - 1).map(lambda n: str(UUID(int=n)))
texts = st.text(max_size=8)

rules = st.builds(
    Rule,
    id=ids.map(RuleId),
    direction=st.sampled_from(Direction),
    ethertype=st.sampled_from([4, 6]),
    protocol=st.none() | st.integers(0, 255),
    port_min=st.none() | st.integers(1, 65535),
    port_max=st.none() | st.integers(1, 65535),
    remote_prefix=st.none() | any_prefixes,
    remote_group_id=st.none() | ids.map(GroupId),
)
groups = st.builds(
    GroupView,
    id=ids.map(GroupId),
    project_id=st.just(PROJECT),
    name=texts,
    rules=st.lists(rules, max_size=3).map(tuple),
)
subnets = st.builds(
    SubnetView,
    id=ids.map(SubnetId),
    cidr=any_prefixes,
    gateway=st.none() | any_addresses,
    enable_dhcp=st.booleans(),
    dns_servers=st.lists(any_addresses, max_size=2).map(tuple),
    host_routes=st.lists(st.builds(HostRoute, prefixes, addresses), max_size=2).map(tuple),
    upstream=st.none() | addresses,
    address_mode=st.none() | st.sampled_from(AddressMode),
)
networks = st.builds(
    NetworkView,
    id=ids.map(NetworkId),
    project_id=st.just(PROJECT),
    name=texts,
    physical_network=st.just("physnet1"),
    vlan_id=st.integers(1, 4094),
    mtu=st.integers(68, 65535),
    subnets=st.lists(subnets, max_size=2).map(tuple),
    router_id=st.none() | ids.map(RouterId),
    gateway_mode=st.sampled_from(GatewayMode),
)
routers = st.builds(
    RouterView,
    id=ids.map(RouterId),
    project_id=st.just(PROJECT),
    name=texts,
    is_default=st.booleans(),
    has_gateway=st.booleans(),
    enable_snat=st.booleans(),
    admin_up=st.booleans(),
    routes=st.lists(st.builds(HostRoute, prefixes, addresses), max_size=2).map(tuple),
)
ports = st.builds(
    PortView,
    id=ids.map(PortId),
    network_id=ids.map(NetworkId),
    project_id=st.just(PROJECT),
    mac=st.just("fa:16:3e:00:00:01"),
    fixed_ips=st.lists(st.builds(FixedIp, ids.map(SubnetId), any_addresses), max_size=2).map(tuple),
    hostname=texts,
    group_ids=st.lists(ids.map(GroupId), max_size=2).map(tuple),
    port_security=st.booleans(),
    admin_up=st.booleans(),
    pairs=st.lists(
        st.builds(AddressPair, st.just("fa:16:3e:00:00:02"), any_prefixes), max_size=2
    ).map(tuple),
)
names = st.builds(
    NameView,
    id=ids.map(PortId),
    network_id=ids.map(NetworkId),
    records=st.lists(st.tuples(texts, any_addresses), max_size=2).map(tuple),
)
forwardings = st.builds(
    ForwardingView,
    protocol=st.sampled_from([6, 17]),
    port=st.integers(1, 65535),
    fixed_address=addresses,
    fixed_port=st.integers(1, 65535),
    port_id=ids.map(PortId),
)
floatings = st.builds(
    FloatingView,
    id=ids.map(FloatingIpId),
    project_id=st.just(PROJECT),
    address=addresses,
    fixed_address=st.none() | addresses,
    port_id=st.none() | ids.map(PortId),
    domain=ids.map(DomainId),
    forwardings=st.lists(forwardings, max_size=2).map(tuple),
)


def by_id(values: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    """Return tuples of values with distinct ids, in their order."""
    many = st.lists(values, max_size=6, unique_by=lambda value: value.id)
    return many.map(lambda found: tuple(sorted(found, key=lambda value: value.id)))


snapshots = st.builds(
    HostSnapshot,
    host=st.just(HostName("compute1")),
    revision=st.integers(0, 2**40),
    networks=by_id(networks),
    routers=by_id(routers),
    ports=by_id(ports),
    names=by_id(names),
    groups=by_id(groups),
    members=st.dictionaries(
        st.tuples(ids.map(GroupId), ids.map(DomainId)),
        st.sets(any_addresses, max_size=40).map(lambda s: tuple(sorted(s, key=by_family))),
    ),
    floating_ips=by_id(floatings),
    tenant_prefixes=st.sets(any_prefixes).map(lambda s: tuple(sorted(s, key=by_family))),
)


@given(snapshots)
def test_decode_is_the_inverse_of_encode(snapshot: HostSnapshot) -> None:
    """What travels in sections arrives as it was, groups without members included."""
    assert decode(snapshot.host, snapshot.revision, encode(snapshot)) == snapshot


@given(snapshots)
def test_equal_snapshots_are_equal_bytes(snapshot: HostSnapshot) -> None:
    """Decoding and encoding again changes no byte, so digests name contents."""
    sections = encode(snapshot)

    again = encode(decode(snapshot.host, snapshot.revision + 1, sections))

    assert again == sections


def a_port(number: int) -> PortView:
    """Return a port in a group, with an address of its own."""
    return PortView(
        id=PortId(str(UUID(int=number * 2**96 + number))),
        network_id=NetworkId("n"),
        project_id=PROJECT,
        mac=f"fa:16:3e:00:00:{number % 256:02x}",
        fixed_ips=(FixedIp(SubnetId("s"), IPv4Address(0x0A000000 + number)),),
        hostname=f"host-{number}",
    )


def a_full_host(count: int) -> HostSnapshot:
    """Return a snapshot with many ports, all members of one group."""
    views = [a_port(number * 7919) for number in range(1, count + 1)]
    return HostSnapshot(
        host=HostName("compute1"),
        revision=1,
        ports=tuple(sorted(views, key=lambda view: view.id)),
        members={MEMBERS_KEY: tuple(sorted(view.fixed_ips[0].address for view in views))},
    )


def test_one_more_port_changes_two_sections() -> None:
    """On a full host, one port costs its bucket and its group's bucket, and nothing else."""
    before = a_full_host(1000)
    new = a_port(5)
    after = replace(
        before,
        revision=2,
        ports=tuple(sorted((*before.ports, new), key=lambda view: view.id)),
        members={
            MEMBERS_KEY: tuple(sorted((*before.members[MEMBERS_KEY], IPv4Address("10.0.0.5"))))
        },
    )

    old, fresh = encode(before), encode(after)

    changed = {name for name, text in fresh.items() if digest(old.get(name, "")) != digest(text)}
    assert changed == {f"ports/{int(new.id[:2], 16) >> 2}", "members/g/r/5"}


def test_a_group_without_members_is_known_to_be_empty() -> None:
    """An agent must tell an empty group from one it knows nothing of."""
    snapshot = replace(a_full_host(0), members={MEMBERS_KEY: ()})

    assert decode(snapshot.host, 1, encode(snapshot)).members == {MEMBERS_KEY: ()}
