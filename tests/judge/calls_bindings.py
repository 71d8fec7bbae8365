"""Random calls that bind ports to hosts, to one or, while an instance moves, to a second one."""

from __future__ import annotations

from both import ALICE, NOVA, PROJECTS, Call
from calls import Author, Choice, Vocabulary

HOSTS: Choice = (["h1", "h2"], ["h3"])
BINDING: dict[str, Choice] = {
    "vnic_type": (["normal"], ["x", 7]),
    "profile": ([{}, {"a": "b"}, None], ["x"]),
}


def networks(author: Author) -> Call:
    """Return the making of a network, with a subnet once there is one."""
    if author.lacks("networks"):
        return Call(ALICE, "POST", "/v2.0/networks", {"network": {"name": "n"}})
    wish = {"network_id": author.one("networks"), "ip_version": 4, "cidr": "10.0.0.0/24"}
    return Call(ALICE, "POST", "/v2.0/subnets", {"subnet": wish})


def ports(author: Author) -> Call:
    """Return a call of a port that may say where it is bound."""
    if author.lacks("networks"):
        return networks(author)
    prefixed = {f"binding:{name}": choice for name, choice in BINDING.items()}
    changed = author.some(
        {
            "binding:host_id": (["h1", "h2", "", None], [7]), **prefixed,
            "binding:vif_type": ([], ["ovs"]), "binding:vif_details": ([], [{}]),
            "device_id": (["vm"], []),
        }
    )  # fmt: skip
    made = {"network_id": author.one("networks"), "project_id": PROJECTS["p1"]}
    made["device_owner"] = author.value((["compute:nova"], ["", "network:dhcp"]))
    return author.crud("ports", "port", made, changed)


def bindings(author: Author) -> Call:
    """Return a call of a port's bindings."""
    if author.lacks("ports"):
        return ports(author)
    every = f"/v2.0/ports/{author.one('ports')}/bindings"
    one = f"{every}/{author.value(HOSTS)}"
    some = author.some(BINDING)
    verb = author.pick(
        ["POST", "POST", "POST", "LIST", "GET", "PUT", "DELETE", "ACTIVATE", "ACTIVATE"]
    )
    if verb == "POST":
        host = author.value(([{"host": author.pick(HOSTS[0])}], [{}, {"host": ""}, {"host": 7}]))
        return Call(author.who(), "POST", every, {"binding": {**host, **some}})
    if verb == "LIST":
        return Call(author.who(), "GET", every)
    if verb == "ACTIVATE":
        return Call(author.who(), "PUT", f"{one}/activate")
    return Call(author.who(), verb, one, {"binding": some} if verb == "PUT" else None)


BINDINGS = Vocabulary(
    [networks, ports, ports, bindings, bindings, bindings, bindings],
    people=[NOVA, NOVA, NOVA, NOVA, NOVA, ALICE],
)
