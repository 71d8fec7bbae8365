"""IPv6 beside IPv4: subnets, addresses of ports, and what hosts are told of both."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Invalid, RequestError
from trunkline.model import GATEWAY_OWNER, AddressMode, GroupId
from trunkline.snapshot import HostSnapshot

PREFIXES = IPv6Network("fd00:7::/48").subnets(new_prefix=64)
SLAAC, STATELESS, STATEFUL = "slaac", "dhcpv6-stateless", "dhcpv6-stateful"


def modes(mode: str | None) -> dict[str, Any]:
    """Return both modes of a subnet as one."""
    return {"ipv6_ra_mode": mode, "ipv6_address_mode": mode}


def subnet6(cloud: Cloud, network: dict[str, Any], mode: str | None, **more: Any) -> dict[str, Any]:
    """Make an IPv6 subnet with the next prefix."""
    wish = {"network_id": network["id"], "ip_version": 6, "cidr": str(next(PREFIXES))}
    return cloud.alice.create("subnets", {**wish, **modes(mode), **more})


def addresses(port: dict[str, Any], subnet: dict[str, Any]) -> list[str]:
    """Return a port's addresses on a subnet."""
    return [ip["ip_address"] for ip in port["fixed_ips"] if ip["subnet_id"] == subnet["id"]]


def port(cloud: Cloud, network: dict[str, Any], **wish: Any) -> dict[str, Any]:
    """Make a port of alice's."""
    return cloud.alice.create("ports", {"network_id": network["id"], **wish})


def add_interface(cloud: Cloud, router: dict[str, Any], subnet: dict[str, Any]) -> None:
    """Put a subnet on a router of alice's."""
    path = f"/v2.0/routers/{router['id']}/add_router_interface"
    cloud.alice.request("PUT", path, {"subnet_id": subnet["id"]})


def snapshot(cloud: Cloud, host: str) -> HostSnapshot:
    """Return what a host is told."""
    with cloud.agent(host) as agent:
        found = agent.snapshot(None, 0)
    assert isinstance(found, HostSnapshot)
    return found


@pytest.mark.parametrize("mode", [SLAAC, STATELESS])
def test_every_port_makes_itself_an_address(cloud: Cloud, mode: str) -> None:
    """It has one of IPv4 that was chosen, and one of its MAC's making that nobody asked for."""
    network = cloud.network()
    six = subnet6(cloud, network, mode)

    made = port(cloud, network, mac_address="fa:16:3e:0a:0b:0c")
    chosen = port(cloud, network, fixed_ips=[{"subnet_id": network["subnet"]["id"]}])

    cidr = IPv6Network(six["cidr"])
    assert (six["ipv6_ra_mode"], six["ipv6_address_mode"]) == (mode, mode)
    assert six["gateway_ip"] == str(cidr[1])
    assert six["allocation_pools"] == [{"start": str(cidr[2]), "end": str(cidr[-1])}]
    assert addresses(made, six) == [str(cidr[0xF816_3EFF_FE0A_0B0C])]
    assert [ip_address(ip["ip_address"]).version for ip in made["fixed_ips"]] == [4, 6]
    assert len(addresses(chosen, six)) == len(addresses(chosen, network["subnet"])) == 1
    assert cloud.alice.list("subnets", ipv6_address_mode=mode, network_id=network["id"]) == [six]


def test_a_made_address_follows_the_mac_and_nothing_else(cloud: Cloud) -> None:
    """Other addresses of the subnet are refused, and a port's own may be sent back as it was."""
    network = cloud.network()
    six = subnet6(cloud, network, SLAAC)
    made = port(cloud, network)
    other = str(IPv6Network(six["cidr"])[5])

    for wish in ({"ip_address": other}, {"ip_address": other, "subnet_id": six["id"]}):
        with pytest.raises(Invalid, match="automatic addresses") as refusal:
            port(cloud, network, fixed_ips=[wish])
        assert refusal.value.kind == "AllocationOnAutoAddressSubnet"
        with pytest.raises(Invalid, match="fixed_ips"):
            cloud.alice.update("ports", made["id"], {"fixed_ips": [wish]})
    same = cloud.alice.update("ports", made["id"], {"fixed_ips": made["fixed_ips"]})
    assert same["fixed_ips"] == made["fixed_ips"]

    bare = cloud.alice.update("ports", made["id"], {"fixed_ips": []})
    assert [ip["subnet_id"] for ip in bare["fixed_ips"]] == [six["id"]]
    moved = cloud.admin.update("ports", made["id"], {"mac_address": "02:00:00:00:00:01"})
    assert addresses(moved, six) == [str(IPv6Network(six["cidr"])[0xFF_FE00_0001])]


def test_ports_that_are_there_get_and_lose_a_made_address(cloud: Cloud) -> None:
    """A new SLAAC subnet gives every instance's port its address; deleting it takes them away."""
    network = cloud.network()
    before = cloud.instance(network, "six-a")

    six = subnet6(cloud, network, SLAAC)
    during = cloud.alice.show("ports", before["id"])
    told = snapshot(cloud, "six-a")
    cloud.alice.delete("subnets", six["id"])

    assert len(addresses(during, six)) == 1
    assert during["revision_number"] > before["revision_number"]
    view = next(view for view in told.ports if view.id == before["id"])
    assert [fixed.address.version for fixed in view.fixed_ips] == [4, 6]
    after = cloud.alice.show("ports", before["id"])
    assert after["fixed_ips"] == before["fixed_ips"]
    assert after["revision_number"] > during["revision_number"]
    with pytest.raises(Conflict, match="allocation"):
        cloud.alice.delete("subnets", network["subnet"]["id"])


@pytest.mark.parametrize("mode", [STATEFUL, None])
def test_an_address_is_chosen_or_given(cloud: Cloud, mode: str | None) -> None:
    """Of a /64 the next one that is free, or the wanted one; and it keeps the subnet."""
    network = cloud.alice.create("networks", {})
    six = subnet6(cloud, network, mode)
    cidr = IPv6Network(six["cidr"])

    first, second = port(cloud, network), port(cloud, network)
    given = port(cloud, network, fixed_ips=[{"ip_address": str(cidr[0xABCD])}])

    assert addresses(first, six) == [str(cidr[2])]
    assert addresses(second, six) == [str(cidr[3])]
    assert addresses(given, six) == [str(cidr[0xABCD])]
    spelled = f"ip_address={cidr[0xABCD].exploded.upper()}"
    assert [p["id"] for p in cloud.alice.list("ports", fixed_ips=spelled)] == [given["id"]]
    with pytest.raises(Conflict) as refusal:
        port(cloud, network, fixed_ips=[{"ip_address": str(cidr[3])}])
    assert refusal.value.kind == "IpAddressAlreadyAllocated"
    with pytest.raises(Invalid, match="fixed_ips"):
        port(cloud, network, fixed_ips=[{"ip_address": str(cidr[0])}])
    with pytest.raises(Conflict, match="allocation"):
        cloud.alice.delete("subnets", six["id"])


def test_a_full_subnet_says_so(cloud: Cloud) -> None:
    """A port needs an address of each IP version."""
    network = cloud.network()
    wish = {"network_id": network["id"], "ip_version": 6, "cidr": f"{next(PREFIXES)[0]}/126"}
    cloud.alice.create("subnets", {**wish, **modes(STATEFUL)})
    port(cloud, network)
    port(cloud, network)

    with pytest.raises(Conflict, match="/126") as refusal:
        port(cloud, network)
    assert refusal.value.kind == "IpAddressGenerationFailure"
    assert len(cloud.alice.list("ports", network_id=network["id"])) == 2


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"ip_version": 4}, "cidr"),
        ({"cidr": "10.250.0.0/24"}, "cidr"),
        ({"cidr": "fd00:8::/63", **modes(None)}, "cidr"),
        ({"cidr": "fd00:9::/65"}, "/64"),
        ({"cidr": "fd00:9::/127", **modes(None)}, "cidr"),
        ({"cidr": "fe80::/64"}, "cidr"),
        ({"cidr": "ff05::/64"}, "cidr"),
        ({"cidr": "::/64"}, "cidr"),
        ({"cidr": "::ffff:0:0/112"}, "cidr"),
        ({"cidr": "4000::/64"}, "cidr"),
        ({"ipv6_ra_mode": None}, "ipv6_ra_mode"),
        ({"ipv6_address_mode": None}, "ipv6_address_mode"),
        ({"ipv6_ra_mode": "dhcpv6-stateful"}, "ipv6_ra_mode"),
        ({"ipv6_ra_mode": "static"}, "ipv6_ra_mode"),
        ({"enable_dhcp": False}, "enable_dhcp"),
        ({"service_types": ["compute:nova"]}, "service_types"),
        ({"gateway_ip": None}, "gateway_ip"),
        ({"gateway_ip": "10.0.0.1"}, "gateway_ip"),
        ({"gateway_ip": "fe80::1"}, "gateway_ip"),
        ({"gateway_ip": "fd00:9::"}, "gateway_ip"),
        ({"dns_nameservers": ["8.8.8.8"]}, "dns_nameservers"),
        ({"host_routes": [{"destination": "10.0.0.0/8", "nexthop": "10.0.0.1"}]}, "host_routes"),
        ({"host_routes": [{"destination": "fd01::/64", "nexthop": "fd00:9::2"}]}, "host_routes"),
        ({"allocation_pools": [{"start": "10.0.0.2", "end": "10.0.0.9"}]}, "allocation_pools"),
        ({"allocation_pools": [{"start": "fd00:9::9", "end": "10.0.0.9"}]}, "allocation_pools"),
        ({"allocation_pools": [{"start": "fd00:9::9", "end": "fd00:9::8"}]}, "allocation_pools"),
        ({"allocation_pools": [{"start": "fd00:9::1", "end": "fd00:9::8"}]}, "allocation_pools"),
    ],
)
def test_a_wrong_subnet_names_the_field(
    cloud: Cloud, attributes: dict[str, Any], field: str
) -> None:
    """What contradicts itself, or is not served, is refused by name and changes nothing."""
    network = cloud.alice.create("networks", {})
    wish = {"network_id": network["id"], "ip_version": 6, "cidr": "fd00:9::/64", **modes(SLAAC)}

    with pytest.raises(RequestError, match=field) as refusal:
        cloud.alice.create("subnets", {**wish, **attributes})
    assert isinstance(refusal.value, Invalid | Conflict)
    assert cloud.alice.list("subnets", network_id=network["id"]) == []


def test_host_bits_of_a_prefix_are_left_out(cloud: Cloud) -> None:
    """As in Neutron, which is strict with IPv4 only."""
    network = cloud.alice.create("networks", {})
    wish = {"network_id": network["id"], "ip_version": 6, "cidr": "FD00:b::7/64", **modes(SLAAC)}

    assert cloud.alice.create("subnets", wish)["cidr"] == "fd00:b::/64"
    with pytest.raises(Invalid, match=r"use 10\.249\.0\.0/24"):
        cloud.alice.create("subnets", {**wish, "ip_version": 4, "cidr": "10.249.0.7/24"})


@pytest.mark.parametrize(
    ("pool", "kind"),
    [
        (("10.0.0.2", "10.0.0.9"), "InvalidAllocationPool"),
        (("fd00:a::9", "10.0.0.9"), "InvalidAllocationPool"),
        (("fd00:a::9", "fd00:a::8"), "InvalidAllocationPool"),
        (("fd00:a::9", "fd00:b::9"), "OutOfBoundsAllocationPool"),
    ],
)
def test_types_of_wrong_pools(cloud: Cloud, pool: tuple[str, str], kind: str) -> None:
    """They are Neutron's, also beside a gateway that is nowhere."""
    network = cloud.alice.create("networks", {})
    wish = {"network_id": network["id"], "ip_version": 6, "cidr": "fd00:a::/64"}
    pools = [{"start": pool[0], "end": pool[1]}]

    for gateway in ({}, {"gateway_ip": "fd00:c::1"}):
        with pytest.raises(Invalid, match="allocation_pools") as refusal:
            cloud.alice.create("subnets", {**wish, "allocation_pools": pools, **gateway})
        assert refusal.value.kind == kind


def test_what_ipv4_has_no_modes_for(cloud: Cloud) -> None:
    """The modes are IPv6's; and DHCP cannot be switched off under them."""
    network = cloud.network()
    with pytest.raises(Invalid, match="ip_version is 4"):
        cloud.subnet(network, **modes(SLAAC))
    six = subnet6(cloud, network, SLAAC)

    for change in (
        {"enable_dhcp": False},
        {"gateway_ip": None},
        {"dns_nameservers": ["1.1.1.1"]},
        {"service_types": ["compute:nova"]},
    ):
        with pytest.raises(Invalid, match=next(iter(change))):
            cloud.alice.update("subnets", six["id"], change)
    changed = cloud.alice.update("subnets", six["id"], {"dns_nameservers": ["2001:4860::8888"]})
    assert changed["dns_nameservers"] == ["2001:4860::8888"]


def test_one_network_says_one_thing(cloud: Cloud) -> None:
    """A second prefix has the mode of the first, or none; and overlaps it nowhere."""
    network = cloud.network()
    first = subnet6(cloud, network, SLAAC)

    with pytest.raises(Invalid, match=first["id"]):
        subnet6(cloud, network, STATEFUL)
    second = subnet6(cloud, network, SLAAC)
    subnet6(cloud, network, None)
    elsewhere = cloud.network("bob")
    for cidr in (first["cidr"], f"{IPv6Network(second['cidr'])[2**32]}/96"):
        wish = {"network_id": elsewhere["id"], "ip_version": 6, "cidr": cidr}
        with pytest.raises(Invalid, match="overlaps"):
            cloud.bob.create("subnets", wish)

    assert [len(addresses(port(cloud, network), six)) for six in (first, second)] == [1, 1]


def test_where_no_host_carries_ipv6(cloud: Cloud) -> None:
    """Other than from hosts' own addresses, on one or on all, it is refused by name."""
    for host in ("six-2", "six-3"):
        snapshot(cloud, host)
    external = cloud.admin.create("networks", {"router:external": True})
    anycast = cloud.admin.create("networks", {"trunkline:gateway": "anycast", "project_id": "p1"})
    routed, plain = cloud.network(), cloud.network()
    router = cloud.alice.create("routers", {})
    cloud.admin.update("routers", router["id"], {"trunkline:hosts": ["six-2", "six-3"]})
    add_interface(cloud, router, routed["subnet"])
    six = subnet6(cloud, plain, SLAAC)

    for network, word in ((external, "external"), (anycast, "anycast"), (routed, router["id"])):
        wish = {"network_id": network["id"], "ip_version": 6, "cidr": "fd00:8::/64"}
        with pytest.raises(Invalid, match=f"ip_version.*{word}"):
            cloud.admin.create("subnets", wish)
    for subnet in (plain["subnet"], six):
        with pytest.raises(Conflict, match=six["id"]):
            add_interface(cloud, router, subnet)
    with pytest.raises(Conflict, match="trunkline:gateway"):
        cloud.admin.update("networks", plain["id"], {"trunkline:gateway": "anycast"})
    assert cloud.admin.show("networks", plain["id"])["trunkline:gateway"] == "per_host"


def test_on_a_router_of_ones_own(cloud: Cloud) -> None:
    """It goes there with its network or by itself, is made there, and comes back."""
    network = cloud.network()
    six = subnet6(cloud, network, STATEFUL)
    router = cloud.alice.create("routers", {})
    made = cloud.instance(network, "six-4")
    default = snapshot(cloud, "six-4").networks[0].router_id

    add_interface(cloud, router, network["subnet"])
    more = subnet6(cloud, network, STATEFUL)
    add_interface(cloud, router, six)

    (view,) = snapshot(cloud, "six-4").networks
    assert view.router_id == router["id"]
    assert {str(s.cidr) for s in view.subnets if s.gateway} == {
        network["subnet"]["cidr"],
        six["cidr"],
        more["cidr"],
    }
    (interface,) = cloud.alice.list(
        "ports", device_id=router["id"], fixed_ips=[f"subnet_id={six['id']}"]
    )
    assert addresses(interface, six) == [six["gateway_ip"]]
    for subnet in (six, network["subnet"]):
        path = f"/v2.0/routers/{router['id']}/remove_router_interface"
        cloud.alice.request("PUT", path, {"subnet_id": subnet["id"]})
    assert snapshot(cloud, "six-4").networks[0].router_id == default
    assert addresses(cloud.alice.show("ports", made["id"]), six) == addresses(made, six)


def test_equal_prefixes_on_separate_routers(cloud: Cloud) -> None:
    """Where IPv4 may overlap IPv6 may; on one router it may not."""
    first = cloud.network()
    router = cloud.alice.create("routers", {})
    six = subnet6(cloud, first, SLAAC)
    add_interface(cloud, router, six)
    other, third = cloud.network(), cloud.network()
    twin = {"network_id": other["id"], "ip_version": 6, "cidr": six["cidr"], **modes(SLAAC)}

    assert cloud.alice.create("subnets", twin)["cidr"] == six["cidr"]
    with pytest.raises(Invalid, match="overlaps"):
        add_interface(cloud, router, other["subnet"])
    with pytest.raises(Invalid, match="overlaps"):
        cloud.alice.create("subnets", {**twin, "network_id": third["id"]})


def test_a_default_router_with_ipv6_is_on_one_host_or_on_all(own_cloud: Cloud) -> None:
    """It is not on several while it carries IPv6, and carries none while it is."""
    for host in ("six-1", "six-2"):
        snapshot(own_cloud, host)
    network = own_cloud.network()
    six = subnet6(own_cloud, network, SLAAC)
    (router,) = (r for r in own_cloud.admin.list("routers") if r["name"] == "default")
    several = {"trunkline:hosts": ["six-1", "six-2"]}

    own_cloud.admin.update("routers", router["id"], {"trunkline:hosts": ["six-1"]})
    made = own_cloud.instance(network, "six-2")
    (elsewhere,) = snapshot(own_cloud, "six-2").networks
    (here,) = snapshot(own_cloud, "six-1").networks
    assert [s.gateway for s in here.subnets] == [s.gateway for s in elsewhere.subnets]
    assert [guest.id for guest in snapshot(own_cloud, "six-1").guests] == [made["id"]]
    with pytest.raises(Conflict, match=six["id"]):
        own_cloud.admin.update("routers", router["id"], several)
    own_cloud.alice.delete("subnets", six["id"])
    own_cloud.admin.update("routers", router["id"], several)
    with pytest.raises(Invalid, match="trunkline:hosts"):
        subnet6(own_cloud, network, SLAAC)


def test_a_floating_ip_leads_to_ipv4(cloud: Cloud) -> None:
    """Of a port with both, the IPv4 address is meant; IPv6 is translated nowhere."""
    external = cloud.admin.create("networks", {"router:external": True})
    wish = {"network_id": external["id"], "ip_version": 4, "cidr": "198.51.100.0/28"}
    cloud.admin.create("subnets", wish)
    network = cloud.network()
    six = subnet6(cloud, network, SLAAC)
    both = port(cloud, network)
    floating = {"floating_network_id": external["id"], "port_id": both["id"]}

    fixed = {"fixed_ip_address": addresses(both, six)[0]}
    with pytest.raises(Invalid, match="fixed_ip_address"):
        cloud.alice.create("floatingips", {**floating, **fixed})
    made = cloud.alice.create("floatingips", floating)

    assert [made["fixed_ip_address"]] == addresses(both, network["subnet"])
    lonely = cloud.alice.create("networks", {})
    subnet6(cloud, lonely, STATEFUL)
    alone = port(cloud, lonely)["id"]
    with pytest.raises(Invalid, match="no fixed IPv4"):
        cloud.alice.create("floatingips", {**floating, "port_id": alone})


def test_hosts_are_told_of_both(cloud: Cloud) -> None:
    """Each has an address of its own per subnet, and knows modes, members, names and prefixes."""
    network = cloud.network(dns_domain="six.example.")
    six = subnet6(cloud, network, STATEFUL, dns_nameservers=["2001:4860:4860::8888"])
    ports = [cloud.instance(network, host, dns_name=host) for host in ("six-1", "six-2")]

    told = {host: snapshot(cloud, host) for host in ("six-1", "six-2")}

    cidr = IPv6Network(six["cidr"])
    views = {
        host: next(n for n in found.networks if n.id == network["id"])
        for host, found in told.items()
    }
    shown = {h: next(s for s in view.subnets if s.id == six["id"]) for h, view in views.items()}
    assert {view.address_mode for view in shown.values()} == {AddressMode.STATEFUL}
    assert shown["six-1"].cidr == cidr
    assert shown["six-1"].dns_servers == (IPv6Address("2001:4860:4860::8888"),)
    gateways = [shown[host].gateway for host in ("six-1", "six-2")]
    assert gateways[0] == cidr[1]
    assert gateways[1] in cidr
    assert len({*gateways, *(IPv6Address(addresses(one, six)[0]) for one in ports)}) == 4
    held = {ip_address(ip["ip_address"]) for one in ports for ip in one["fixed_ips"]}
    (group,) = ports[0]["security_groups"]
    members = next(m for (g, _), m in told["six-1"].members.items() if g == GroupId(group))
    assert held <= set(members)
    assert cidr in told["six-1"].tenant_prefixes
    named = {(label, a) for view in told["six-1"].names for label, a in view.records}
    assert ("six-2", IPv6Address(addresses(ports[1], six)[0])) in named


def test_a_host_that_gets_ipv6_later(cloud: Cloud) -> None:
    """One that serves the network already takes an address on the new subnet at once."""
    network = cloud.network()
    cloud.instance(network, "six-late")

    six = subnet6(cloud, network, SLAAC)

    (gateway,) = cloud.admin.list("ports", network_id=network["id"], device_owner=GATEWAY_OWNER)
    assert addresses(gateway, six) == [six["gateway_ip"]]
    assert gateway["binding:host_id"] == "six-late"


@pytest.mark.parametrize(
    ("pair", "stored"),
    [
        ("FD00:77::5", "fd00:77::5"),
        ("fd00:77::5/128", "fd00:77::5"),
        ("fd00:77::/64", "fd00:77::/64"),
        ("fe80::1", None),
        ("ff02::1", None),
        ("::ffff:10.0.0.1", None),
        ("::/96", None),
        ("fd00:77::5/64", None),
    ],
)
def test_allowed_address_pairs(cloud: Cloud, pair: str, stored: str | None) -> None:
    """What others can reach may be allowed, in one spelling; what nobody can is refused."""
    made = port(cloud, cloud.network())
    wish = {"allowed_address_pairs": [{"ip_address": pair}]}

    if stored is None:
        with pytest.raises(Invalid, match="allowed_address_pairs"):
            cloud.alice.update("ports", made["id"], wish)
        return
    changed = cloud.alice.update("ports", made["id"], wish)
    assert [one["ip_address"] for one in changed["allowed_address_pairs"]] == [stored]


def test_a_reserved_address_is_nobodys(cloud: Cloud) -> None:
    """Neither chosen, nor made of a MAC."""
    network = cloud.alice.create("networks", {})
    six = subnet6(cloud, network, SLAAC)
    taken = str(IPv6Network(six["cidr"])[0xFF_FE00_0007])
    cloud.alice.create("reserved-addresses", {"subnet_id": six["id"], "ip_address": taken})

    with pytest.raises(Conflict) as refusal:
        port(cloud, network, mac_address="02:00:00:00:00:07")
    assert refusal.value.kind == "IpAddressAlreadyAllocated"


def test_prefixes_from_a_pool(cloud: Cloud) -> None:
    """A pool of IPv6 gives /64s, counts them, and is the default beside that of IPv4."""
    wish = {"name": "six", "prefixes": ["fd00:6::/62"], "default_quota": 2, "shared": True}
    six = cloud.admin.create("subnetpools", {**wish, "is_default": True})
    four = {"name": "four", "prefixes": ["10.200.0.0/16"], "is_default": True}
    cloud.admin.create("subnetpools", four)
    network = cloud.alice.create("networks", {})
    cut = {"network_id": network["id"], "ip_version": 6, **modes(SLAAC)}

    made = cloud.alice.create("subnets", {**cut, "use_default_subnetpool": True})
    other = cloud.alice.create("subnets", {**cut, "subnetpool_id": six["id"]})

    assert (six["ip_version"], six["default_prefixlen"], six["max_prefixlen"]) == (6, 64, 128)
    assert [made["cidr"], other["cidr"]] == ["fd00:6::/64", "fd00:6:0:1::/64"]
    with pytest.raises(Conflict, match="2 of 2 /64 prefixes"):
        cloud.alice.create("subnets", {**cut, "subnetpool_id": six["id"]})
    wrong = {"network_id": network["id"], "ip_version": 4, "subnetpool_id": six["id"]}
    with pytest.raises(Invalid, match="IPv4 subnet from IPv6 subnet pool"):
        cloud.alice.create("subnets", wrong)


def test_addresses_are_counted(cloud: Cloud) -> None:
    """A /64 has as many as it has."""
    network = cloud.alice.create("networks", {})
    subnet6(cloud, network, STATEFUL)
    port(cloud, network)

    (found,) = cloud.admin.list("network-ip-availabilities", network_id=network["id"])
    assert (found["total_ips"], found["used_ips"]) == (2**64 - 2, 1)
    listed = cloud.admin.list("network-ip-availabilities", ip_version=6)
    assert network["id"] in {one["network_id"] for one in listed}


def test_names_of_both(cloud: Cloud) -> None:
    """An address without a name gets one that is a valid label."""
    network = cloud.alice.create("networks", {})
    subnet6(cloud, network, STATEFUL, cidr="fd00:5::/64")

    made = port(cloud, network, fixed_ips=[{"ip_address": "fd00:5::a:0:0:0"}])

    (assigned,) = made["dns_assignment"]
    assert assigned["hostname"] == "host-fd00-0005-0000-0000-000a-0000-0000-0000"
