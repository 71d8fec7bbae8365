"""Random calls of one network with subnets of both IP versions, and of its ports."""

from __future__ import annotations

from typing import Any

from both import ALICE, Call
from calls import FLAGS, NAMES, Author, Choice, Vocabulary

MODES: Choice = (["slaac", "slaac", "dhcpv6-stateless", "dhcpv6-stateful", None], ["x"])
CIDRS: Choice = (
    ["fd00::/64", "fd00::/64", "fd00:0:0:1::/64", "fd00::/96", "FD00:0::/64", "fd00::7/64"],
    ["x", "fd00::/129", "10.0.0.0/24", "ff05::/64"],
)
ADDRESSES: Choice = (["fd00::9", "fd00::9", "FD00:0::9", "fd00:0:0:1::9"], ["x", "10.0.0.9", 7])
DUAL_ADDRESSES: Choice = (["fd00::9", "fd00:0:0:1::9", "10.0.0.9"], ["x"])
GATEWAYS: Choice = (["fd00::1", "fd00::5", "fd00:0:0:1::5"], ["x", "10.0.0.1"])
MACS: Choice = (["fa:16:3e:00:00:09", "FA-16-3E-00-00-0A"], ["x"])


def network(author: Author) -> Call:
    """Return a call of the network; there is one at most."""
    if author.lacks("networks"):
        return Call(author.who(), "POST", "/v2.0/networks", {"network": {"name": "n"}})
    path = f"/v2.0/networks/{author.one('networks')}"
    changed = author.some({"name": NAMES, "shared": FLAGS, "port_security_enabled": FLAGS})
    verb = author.pick(["PUT", "PUT", "PUT", "GET", "DELETE"])
    return Call(author.who(), verb, path, {"network": changed} if verb == "PUT" else None)


def subnets(author: Author) -> Call:
    """Return a call of an IPv6 subnet."""
    if author.lacks("networks"):
        return network(author)
    pool = {"start": author.value(ADDRESSES), "end": author.value(ADDRESSES)}
    changed = author.some(
        {
            "name": NAMES, "gateway_ip": GATEWAYS, "enable_dhcp": FLAGS,
            "dns_nameservers": author.few((["fd00::53", "2001:db8::53"], ["x", "8.8.8.8"])),
            "allocation_pools": ([[pool]], ["x", [{}]]),
        }
    )  # fmt: skip
    made = {"network_id": author.one("networks"), "ip_version": 6, "cidr": author.value(CIDRS)}
    return author.crud("subnets", "subnet", {**made, **_modes(author)}, changed)


def _modes(author: Author) -> dict[str, Any]:
    """Return both modes, mostly the same, as only that is served."""
    mode = author.value(MODES)
    both = {"ipv6_ra_mode": mode, "ipv6_address_mode": mode}
    return author.pick([both, both, both, {}, author.some(dict.fromkeys(both, MODES))])


def subnets4(author: Author) -> Call:
    """Return the making of the IPv4 subnet beside them, perhaps with what only IPv6 has."""
    if author.lacks("networks"):
        return network(author)
    wish = {"network_id": author.one("networks"), "ip_version": 4, "cidr": "10.0.0.0/24"}
    wish |= author.some({"ipv6_ra_mode": ([], ["slaac"]), "ipv6_address_mode": ([None], ["slaac"])})
    return Call(author.who(), "POST", "/v2.0/subnets", {"subnet": wish})


def ports(author: Author) -> Call:
    """Return a call of a port with addresses that it makes itself, or has chosen for it."""
    if author.lacks("subnets"):
        return subnets(author)
    subnet = {"subnet_id": author.one("subnets")}
    address = {"ip_address": author.value(DUAL_ADDRESSES)}
    fixed = author.pick([subnet, address, {**subnet, **address}])
    other = author.pick([subnet, address])
    changed = author.some(
        {
            "name": NAMES, "admin_state_up": FLAGS,
            "fixed_ips": ([[fixed], [fixed], [fixed, other] if fixed != other else [], []], ["x"]),
            "allowed_address_pairs": ([[], [address]], ["x"]),
            "device_owner": (["", "compute:nova"], [7]), "mac_address": MACS,
        }
    )  # fmt: skip
    return author.crud("ports", "port", {"network_id": author.one("networks")}, changed)


IPV6 = Vocabulary(
    [network, subnets, subnets, subnets, subnets4, ports, ports, ports, ports],
    people=[ALICE],  # whose a subnet on another's network is, the other vocabulary asks
    default_router=True,
)
