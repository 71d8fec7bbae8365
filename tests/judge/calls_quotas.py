"""Random calls that set, show and end quotas, and that make what quotas count."""

from __future__ import annotations

from both import ADMIN, ALICE, PROJECTS, Call
from calls import Author, Choice, Vocabulary, pools, routers

LIMITS: Choice = ([-1, 0, 1, 2, 3, "2"], [-2, "x", None, 2**31, 1.5])
COUNTED = (
    *("network", "subnet", "port", "router", "security_group", "security_group_rule"),
    *("floatingip", "subnetpool", "rbac_policy"),
)
OWNERS = [PROJECTS["p1"], PROJECTS["p1"], PROJECTS["p2"]]


def limits(author: Author) -> Call:
    """Return the setting of some quotas."""
    wish = author.some({**dict.fromkeys(COUNTED, LIMITS), "colour": ([], [1])})
    wish |= author.some({"force": ([True, False], []), "check_limit": ([True, False], [])})
    who = author.pick([ADMIN, ADMIN, ADMIN, ALICE])
    return Call(who, "PUT", f"/v2.0/quotas/{author.pick(OWNERS)}", {"quota": wish})


def shown(author: Author) -> Call:
    """Return a call that shows quotas, or ends them."""
    whose = author.pick([*OWNERS, "project", "tenant"])
    view = author.pick(["", "", "/default", "/details", "/colour"])
    path = author.pick(
        [f"/v2.0/quotas/{whose}{view}", f"/v2.0/quotas/{whose}{view}", "/v2.0/quotas"]
    )
    if author.pick([True, False, False, False]):
        return Call(author.who(), "DELETE", f"/v2.0/quotas/{author.pick(OWNERS)}")
    return Call(author.who(), "GET", path)


def networks(author: Author) -> Call:
    """Return a call of a network, or the making of several at once."""
    if author.pick([True, False, False]):
        count = author.pick([1, 2, 3])
        return Call(ALICE, "POST", "/v2.0/networks", {"networks": [{"name": "n"}] * count})
    return author.crud("networks", "network", {}, {"name": "n"})


def subnets(author: Author) -> Call:
    """Return a call of a subnet."""
    if author.lacks("networks"):
        return networks(author)
    cidr = author.pick(["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"])
    made = {"network_id": author.one("networks"), "ip_version": 4, "cidr": cidr}
    return author.crud("subnets", "subnet", made, {"name": "s"})


def ports(author: Author) -> Call:
    """Return a call of a port."""
    if author.lacks("networks"):
        return networks(author)
    return author.crud("ports", "port", {"network_id": author.one("networks")}, {"name": "p"})


def groups(author: Author) -> Call:
    """Return a call of a security group."""
    return author.crud("security-groups", "security_group", {}, {"name": "g"})


def rules(author: Author) -> Call:
    """Return the making of a rule."""
    if author.lacks("security-groups"):
        return groups(author)
    wish = {
        "security_group_id": author.one("security-groups"),
        "direction": "ingress",
        "protocol": author.pick(["tcp", "udp", "icmp"]),
    }
    path = "/v2.0/security-group-rules"
    return Call(author.who(), "POST", path, {"security_group_rule": wish})


QUOTAS = Vocabulary(
    [
        *(limits, limits, limits, shown, shown, networks, networks, subnets, ports, ports),
        *(groups, rules, routers, pools),
    ],
    people=[ALICE, ALICE, ALICE, ADMIN],
)
