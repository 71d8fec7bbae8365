"""Random calls of the Networking API, of objects that there are, with one fault at most.

At most one by itself, that is: what a call meets on the servers may be another one. With two,
the answers would differ by which of them a server happens to see first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from both import ADMIN, ALICE, BOB, PROJECTS, Both, Call, Who

Subject = Callable[["Author"], Call]
Choice = tuple[Sequence[Any], Sequence[Any]]
"""Values that are good, and those that are not."""

UNKNOWN = "00000000-0000-4000-8000-000000000000"
NAMES: Choice = (["a", "b", "ü", "x" * 255], ["x" * 256, 7, ["a"]])
FLAGS: Choice = ([True, False, "true"], ["x", None, 2])
CIDRS: Choice = (
    ["10.0.0.0/24", "10.0.0.0/24", "10.0.0.0/25", "10.0.1.0/24", "10.2.0.0/16"],
    ["10.0.0.5/24", "x", "10.0.0.0/33"],
)
ADDRESSES: Choice = (["10.0.0.2", "10.0.0.9", "10.0.0.9", "10.0.1.9"], ["x", "10.0.0.256", 7])
LENGTHS: Choice = ([16, 24, 26, 28], ["x", -1])
PORT_NUMBERS: Choice = ([None, 22, 80, 65535], [0, 65536, "x"])
OPTIONAL: Choice = (["a.org.", ""], ["-", "a..b."])
DHCP_SERVER = "network:dhcp"


@dataclass(frozen=True)
class Vocabulary:
    """What random calls are of.

    Attributes:
        people: Who calls, as often as they are there.
        default_router: Whether ours has one. Neutron knows none, but only there is IPv6 carried.
    """

    subjects: Sequence[Subject]
    people: Sequence[Who] = (ALICE, ALICE, ALICE, ADMIN, ADMIN, BOB)
    default_router: bool = False


class Author:
    """Writes the next call."""

    def __init__(self, chance: Random, both: Both, words: Vocabulary) -> None:
        self._chance = chance
        self.both = both
        self._words = words
        self._may_spoil = self.pick([True, False])

    def pick(self, values: Sequence[Any]) -> Any:
        """Return one of some values."""
        return self._chance.choice(values)

    def value(self, choice: Choice) -> Any:
        """Return a value, which may be this call's fault."""
        good, bad = choice
        if bad and self._may_spoil and self.pick([True, *[False] * 5]):
            self._may_spoil = False
            return self.pick(bad)
        return self.pick(good) if good else None

    def one(self, collection: str) -> Any:
        """Return an object that there is; an unknown one is a fault."""
        made = self.both.made(collection)
        return self.value((made, [UNKNOWN, "x"])) if made else UNKNOWN

    def some(self, choices: dict[str, Choice]) -> dict[str, Any]:
        """Return some of these attributes."""
        return {
            name: self.value(choice)
            for name, choice in choices.items()
            if choice[0] and self.pick([True, False, False])
        }

    def ref(self, collection: str, *others: Any) -> Choice:
        """Return the choice among the objects that there are."""
        return [*self.both.made(collection), *others], [UNKNOWN, "x", 7]

    def few(self, choice: Choice) -> Choice:
        """Return the choice of lists of up to two different values."""
        one, other = self.value(choice), self.value(choice)
        return [[], [one], [one, other] if one != other else [one]], [[one, one], "x"]

    def call(self) -> Call:
        """Return a call."""
        call: Call = self.pick(self._words.subjects)(self)
        return call

    def who(self) -> tuple[str, str]:
        """Return a caller."""
        return self.pick(self._words.people)

    def lacks(self, collection: str) -> bool:
        """Return whether there is nothing that an object of another kind would need."""
        return not self.both.made(collection)

    def crud(self, path: str, key: str, made: dict[str, Any], changed: dict[str, Any]) -> Call:
        """Return a call that makes, changes, shows, lists or deletes."""
        verb = self.pick(["POST"] * 5 + ["PUT"] * 4 + ["GET", "LIST", "DELETE"])
        if verb == "LIST":
            return Call(self.who(), "GET", f"/v2.0/{path}")
        if verb == "POST" or not self.both.made(path):
            return Call(self.who(), "POST", f"/v2.0/{path}", {key: {**made, **changed}})
        body = {key: changed} if verb == "PUT" else None
        return Call(self.who(), verb, f"/v2.0/{path}/{self.one(path)}", body)


def networks(author: Author) -> Call:
    """Return a call of a network."""
    changed = author.some(
        {
            "name": NAMES, "admin_state_up": FLAGS, "description": NAMES, "dns_domain": OPTIONAL,
            "port_security_enabled": FLAGS, "shared": FLAGS,
        }
    )  # fmt: skip
    made = author.some({"colour": ([], ["a"]), "router:external": ([False], ["x"])})
    return author.crud("networks", "network", {"name": "n", **made}, changed)


def provided(author: Author) -> Call:
    """Return the making of a network on a VLAN of one's choice."""
    wish = {
        "provider:network_type": author.value((["vlan"], ["x"])),
        "provider:physical_network": author.value((["physnet1"], ["x"])),
        "provider:segmentation_id": author.value(([50, 51], [0, 4095, "x"])),
    }
    return Call(author.pick([ADMIN, ADMIN, ALICE]), "POST", "/v2.0/networks", {"network": wish})


def outside(author: Author) -> Call:
    """Return the making of an external network, then of its subnet."""
    made = author.both.made("networks")
    if not made:
        wish = {"router:external": True, "provider:network_type": "flat"}
        wish["provider:physical_network"] = "out"
        return Call(ADMIN, "POST", "/v2.0/networks", {"network": wish})
    wish = {"network_id": made[0], "ip_version": 4, "cidr": "203.0.113.0/24"}
    return Call(ADMIN, "POST", "/v2.0/subnets", {"subnet": wish})


def subnets(author: Author) -> Call:
    """Return a call of a subnet."""
    if author.lacks("networks"):
        return networks(author)
    pool = {"start": author.value(ADDRESSES), "end": author.value(ADDRESSES)}
    route = {"destination": author.value(CIDRS), "nexthop": author.value(ADDRESSES)}
    changed = author.some(
        {
            "name": NAMES, "gateway_ip": ([None, *ADDRESSES[0]], ADDRESSES[1]),
            "enable_dhcp": FLAGS, "dns_nameservers": author.few(ADDRESSES),
            "host_routes": ([[], [route]], ["x"]), "allocation_pools": ([[pool]], ["x"]),
        }
    )  # fmt: skip
    made = {"network_id": author.one("networks"), "ip_version": 4}
    sized = {"subnetpool_id": author.one("subnetpools"), **author.some({"prefixlen": LENGTHS})}
    made |= author.pick([{"cidr": author.value(CIDRS)}, {"cidr": author.value(CIDRS)}, sized])
    return author.crud("subnets", "subnet", made, changed)


def ports(author: Author) -> Call:
    """Return a call of a port."""
    if author.lacks("networks"):
        return networks(author)
    address = {"ip_address": author.value(ADDRESSES)}
    fixed = author.pick([address, {"subnet_id": author.one("subnets"), **address}])
    changed = author.some(
        {
            "name": NAMES, "admin_state_up": FLAGS, "fixed_ips": ([[fixed], []], ["x", [{}]]),
            "security_groups": author.few(author.ref("security-groups")),
            "port_security_enabled": FLAGS, "device_id": NAMES,
            "allowed_address_pairs": ([[], [address]], ["x", [{}]]),
            "device_owner": (["", "compute:nova", DHCP_SERVER], [7]),
            "dns_name": (["vm", ""], ["-x", "a" * 64]),
        }
    )  # fmt: skip
    made = author.some({"mac_address": (["fa:16:3e:00:00:09"], ["x", "00:00:00:00:00:00"])})
    return author.crud("ports", "port", {"network_id": author.one("networks"), **made}, changed)


def groups(author: Author) -> Call:
    """Return a call of a security group."""
    changed = author.some({"name": (["a", "b", "default"], [7]), "description": NAMES})
    return author.crud("security-groups", "security_group", {"name": "g"}, changed)


def rules(author: Author) -> Call:
    """Return a call of a security group's rule."""
    if author.lacks("security-groups"):
        return groups(author)
    made = author.some(
        {
            "ethertype": (["IPv4", "IPv4", "IPv6"], ["x"]),
            "protocol": (["tcp", "udp", "icmp", "6", "icmpv6", "any", None, 6, "TCP"], ["x", 256]),
            "port_range_min": PORT_NUMBERS, "port_range_max": PORT_NUMBERS,
            "remote_ip_prefix": CIDRS, "remote_group_id": author.ref("security-groups"),
        }
    )  # fmt: skip
    wish = {
        "security_group_id": author.one("security-groups"),
        "direction": author.value((["ingress", "egress"], ["x"])),
    }
    call = author.crud("security-group-rules", "security_group_rule", {**wish, **made}, {})
    return call if call.method != "PUT" else groups(author)


def routers(author: Author) -> Call:
    """Return a call of a router."""
    gateway = {"network_id": author.one("networks"), **author.some({"enable_snat": FLAGS})}
    changed = author.some(
        {
            "name": NAMES, "admin_state_up": FLAGS,
            "external_gateway_info": ([gateway, gateway, {}, None], ["x", 7]),
        }
    )  # fmt: skip
    return author.crud("routers", "router", {"name": "r"}, changed)


def routes(author: Author) -> Call:
    """Return a call that gives a router extra routes."""
    if not author.both.made("routers"):
        return routers(author)
    route = {"destination": author.value(CIDRS), "nexthop": author.value(ADDRESSES)}
    path = f"/v2.0/routers/{author.one('routers')}"
    path += author.pick(["", "/add_extraroutes", "/remove_extraroutes"])
    return Call(author.who(), "PUT", path, {"router": {"routes": author.pick([[], [route]])}})


def interfaces(author: Author) -> Call:
    """Return a call that puts a subnet on a router, or takes it off."""
    if not author.both.made("routers"):
        return routers(author)
    verb = author.pick(["add", "add", "remove"])
    subnet = {"subnet_id": author.one("subnets")}
    wish = author.pick([subnet, subnet, {"port_id": author.one("ports")}])
    path = f"/v2.0/routers/{author.one('routers')}/{verb}_router_interface"
    return Call(author.who(), "PUT", path, wish)


def floating(author: Author) -> Call:
    """Return a call of a floating IP."""
    if author.lacks("networks"):
        return outside(author)
    fixed = author.some({"fixed_ip_address": ADDRESSES})
    port = author.some({"port_id": author.ref("ports", None)})
    changed = {**port, **(fixed if port.get("port_id") else {})}
    changed |= author.some({"description": NAMES})
    made = {"floating_network_id": author.one("networks")}
    return author.crud("floatingips", "floatingip", made, changed)


def pools(author: Author) -> Call:
    """Return a call of a subnet pool."""
    changed = author.some(
        {
            "name": NAMES, "default_prefixlen": LENGTHS, "min_prefixlen": LENGTHS,
            "max_prefixlen": LENGTHS, "default_quota": ([0, 256], [-1, "x"]), "is_default": FLAGS,
            "address_scope_id": author.ref("address-scopes", None),
            "prefixes": ([["10.64.0.0/16"], ["10.64.0.0/16", "10.65.0.0/16"]], ["x", []]),
        }
    )  # fmt: skip
    prefixes = author.pick([["10.64.0.0/16"], ["10.64.0.0/16"], ["10.66.0.0/16"], ["fd00:64::/48"]])
    made = {"name": "p", "prefixes": prefixes, **author.some({"shared": FLAGS})}
    return author.crud("subnetpools", "subnetpool", made, changed)


def scopes(author: Author) -> Call:
    """Return a call of an address scope."""
    changed = author.some({"name": NAMES, "shared": FLAGS})
    made = {"name": "s", "ip_version": author.value(([4, 4, 6], ["x", 5]))}
    return author.crud("address-scopes", "address_scope", made, changed)


LENT = {
    "network": "networks",
    "security_group": "security-groups",
    "qos_policy": "qos/policies",
    "address_scope": "address-scopes",
    "subnetpool": "subnetpools",
}


def rbac(author: Author) -> Call:
    """Return a call of an RBAC policy."""
    kind = author.value(([*LENT, "network"], ["x"]))
    made = {
        "object_type": kind,
        "object_id": author.one(LENT.get(kind, "networks")),
        "action": author.value((["access_as_shared", "access_as_shared"], ["x"])),
    }
    targets: Choice = ([PROJECTS["p1"], PROJECTS["p2"], PROJECTS["p2"], "*"], ["", "x"])
    return author.crud(
        "rbac-policies", "rbac_policy", made, {"target_tenant": author.value(targets)}
    )


def policies(author: Author) -> Call:
    """Return a call of a QoS policy."""
    changed = author.some({"name": NAMES, "shared": FLAGS, "is_default": FLAGS})
    return author.crud("qos/policies", "policy", {"name": "q"}, changed)


def limits(author: Author) -> Call:
    """Return the making of a QoS policy's rule."""
    if not author.both.made("qos/policies"):
        return policies(author)
    wish = {"max_kbps": author.value(([1000, 2000], [-1, "x"]))}
    wish |= author.some({"direction": (["ingress", "egress"], ["x"])})
    path = f"/v2.0/qos/policies/{author.one('qos/policies')}/bandwidth_limit_rules"
    return Call(author.pick([ADMIN, ALICE]), "POST", path, {"bandwidth_limit_rule": wish})


TAGGED = [
    *("networks", "subnets", "ports", "routers", "security-groups", "floatingips"),
    *("subnetpools", "qos/policies"),
]


def tags(author: Author) -> Call:
    """Return a call of something's tags."""
    kind = author.pick([kind for kind in TAGGED if not author.lacks(kind)] or TAGGED[:1])
    path = f"/v2.0/{kind}/{author.one(kind)}/tags"
    verb = author.pick(["GET", "PUT", "PUT", "POST", "DELETE"])
    if author.pick([True, False]):
        one = f"{path}/{author.value((['red', 'blue'], ['x' * 256]))}"
        return Call(author.who(), verb if verb != "POST" else "PUT", one)
    many = (["red"], ["blue", "red"], [])
    few = author.value((many, ["x", [7], ["red", "red"], [str(i) for i in range(51)]]))
    return Call(author.who(), verb, path, {"tags": few} if verb in ("PUT", "POST") else None)


OBJECTS = Vocabulary([
    networks, networks, provided, outside, subnets, subnets, subnets, ports, ports, ports, groups,
    rules, rules, routers, routes, interfaces, interfaces, floating, floating, pools, scopes, rbac,
    policies, limits, tags, tags, tags,
])  # fmt: skip

SCOPES = Vocabulary([pools, pools, pools, scopes, scopes, networks, subnets, subnets, rbac])
