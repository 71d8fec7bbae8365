"""Random lists: filters, fields, order and pages of objects whose names are all different."""

from __future__ import annotations

from typing import Any

from both import ADMIN, ALICE, BOB, PROJECTS, Call
from calls import FLAGS, UNKNOWN, Author, Choice, Vocabulary, tags

WORDS: Choice = (["a", "b", ""], [])
TRUTH: Choice = (["True", "false", "1", "0"], ["x", "2"])
WHOSE: Choice = ([PROJECTS["p1"], PROJECTS["p2"], "x"], [])
OF_ALL = {
    "id": ([], []),
    "description": WORDS,
    "project_id": WHOSE,
    "tenant_id": WHOSE,
    "revision_number": (["99"], ["x"]),
    "colour": ([], ["x"]),
    "created_at": ([], []),
}
"""What all kinds are filtered and sorted by, and with which values."""

KINDS: dict[str, dict[str, Choice]] = {
    "networks": {
        "admin_state_up": TRUTH,
        "status": (["ACTIVE", "DOWN"], []),
        "shared": TRUTH,
        "router:external": TRUTH,
        "mtu": (["1500", "1499"], ["x"]),
    },
    "subnets": {
        "ip_version": (["4", "6"], ["x"]),
        "cidr": (["10.0.0.0/24", "10.0.1.0/24", "x"], []),
        "gateway_ip": (["10.0.0.1", "x"], []),
        "enable_dhcp": TRUTH,
        "ipv6_ra_mode": (["slaac"], []),
    },
    "ports": {
        "admin_state_up": TRUTH,
        "status": (["ACTIVE", "DOWN"], []),
        "device_id": WORDS,
        "device_owner": (["", "compute:nova"], []),
        "mac_address": (["fa:16:3e:00:00:09", "FA:16:3E:00:00:09", "x"], []),
        "fixed_ips": (["ip_address=10.0.0.9", "ip_address_substr=0.0.9", "ip_address=x"], ["x"]),
    },
    "security-groups": {"stateful": TRUTH, "shared": TRUTH},
}
REFERENCES = {
    "network_id": "networks",
    "subnet_id": "subnets",
    "security_groups": "security-groups",
}
REFERRING = {"subnets": ["network_id"], "ports": ["network_id", "security_groups"]}


TAG_FILTERS: dict[str, Choice] = dict.fromkeys(
    ("tags", "tags-any", "not-tags", "not-tags-any"), (["red", "blue", "blue,red"], [])
)


def made(author: Author) -> Call:
    """Return the making of something, under a name of its own."""
    kind = author.pick(["networks", "subnets", "ports", "ports", "security-groups"])
    if kind in REFERRING and author.lacks("networks"):
        kind = "networks"
    wish = {"name": f"n{len(author.both.objects):02}", **author.some({"description": WORDS})}
    if kind in REFERRING:
        wish["network_id"] = author.one("networks")
    wish |= _special(author, kind)
    singular = kind.removesuffix("s").replace("-", "_")
    return Call(author.pick([ALICE, ALICE, BOB]), "POST", f"/v2.0/{kind}", {singular: wish})


def _special(author: Author, kind: str) -> dict[str, Any]:
    """Return attributes that make objects of a kind differ."""
    if kind == "subnets":
        cidr = author.pick(["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"])
        return {"ip_version": 4, "cidr": cidr, **author.some({"enable_dhcp": FLAGS})}
    if kind == "ports":
        return author.some(
            {
                "admin_state_up": FLAGS, "device_id": WORDS,
                "device_owner": (["compute:nova"], []),
                "mac_address": (["fa:16:3e:00:00:09"], []),
                "fixed_ips": ([[{"ip_address": "10.0.0.9"}]], []),
            }
        )  # fmt: skip
    return {} if kind == "security-groups" else author.some({"admin_state_up": FLAGS})


def listed(author: Author) -> Call:
    """Return a list, filtered."""
    kind = _kind(author)
    return Call(author.who(), "GET", _path(kind, [*_filters(author, kind), *_fields(author, kind)]))


def ordered(author: Author) -> Call:
    """Return a list in an order that says all."""
    kind = _kind(author)
    key = author.value((["name", "name", "id", *KINDS[kind]], ["colour"]))
    words = [("sort_key", key), ("sort_dir", author.value((["asc", "desc"], ["x"])))]
    words += _filters(author, kind)
    return Call(author.who(), "GET", _path(kind, words))


def paged(author: Author) -> Call:
    """Return a page of a list by name."""
    kind = _kind(author)
    words = [("sort_key", "name"), ("sort_dir", author.pick(["asc", "desc"]))]
    words.append(("limit", author.value((["1", "2", "3", "100"], ["x", "-1", "0"]))))
    if not author.lacks(kind) and author.pick([True, False]):
        words.append(("marker", author.value((author.both.made(kind), [UNKNOWN]))))
        words += author.some({"page_reverse": (["True", "False"], ["x"])}).items()
    return Call(author.who(), "GET", _path(kind, words))


def shown(author: Author) -> Call:
    """Return an object's showing, with some of its attributes."""
    kind = _kind(author)
    return Call(author.who(), "GET", _path(f"{kind}/{author.one(kind)}", _fields(author, kind)))


def _kind(author: Author) -> str:
    kinds = [kind for kind in KINDS if not author.lacks(kind)]
    kind: str = author.pick(kinds or list(KINDS))
    return kind


def _filters(author: Author, kind: str) -> list[tuple[str, Any]]:
    by = {**OF_ALL, **KINDS[kind], "name": (["n00", "n01", "n02", "default"], [])}
    by["id"] = author.ref(kind)
    by |= {key: author.ref(REFERENCES[key]) for key in REFERRING.get(kind, [])}
    names = [author.pick([name for name in by if name != "created_at"]) for _ in range(2)]
    count = author.pick([0, 1, 1, 2])
    by_tags = author.some(TAG_FILTERS) if author.pick([True, False, False]) else {}
    return [
        *((name, author.value(by[name])) for name in names[:count] if any(by[name])),
        *by_tags.items(),
    ]


def _fields(author: Author, kind: str) -> list[tuple[str, Any]]:
    names = author.pick([[], [], ["name"], ["id", "name"], ["colour"], list(KINDS[kind])[:2]])
    return [("fields", name) for name in names]


def _path(collection: str, words: list[tuple[str, Any]]) -> str:
    query = "&".join(f"{name}={value}" for name, value in words)
    return f"/v2.0/{collection}?{query}" if query else f"/v2.0/{collection}"


LISTS = Vocabulary(
    [made, made, made, tags, tags, listed, listed, ordered, paged, paged, shown],
    people=[ALICE, ALICE, ADMIN, BOB],
)
