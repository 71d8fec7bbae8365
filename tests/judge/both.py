"""Sends each call to Trunkline and to a real Neutron, and says in what the answers differ.

Calls name objects as ``@3``: the third that both made. What two servers cannot have in common
(ids, times, what either chose by itself) is taken out of the answers before they are compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from real_neutron import RealNeutron
from running import Cloud

from trunkline.core.allocate import eui64

Who = tuple[str, str]
"""A project and a role."""

PROJECTS = {name: f"{number:032x}" for number, name in enumerate(("padmin", "p1", "p2"), 1)}
"""Ids by name: a Neutron of today accepts no others as an RBAC policy's target."""

ADMIN, NOVA, ALICE, BOB = (
    (PROJECTS["padmin"], "admin"),
    (PROJECTS["padmin"], "service"),
    (PROJECTS["p1"], "member"),
    (PROJECTS["p2"], "member"),
)
TOKENS = {ADMIN: "admin", NOVA: "nova", ALICE: "alice", BOB: "bob"}

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
VOLATILE = {"created_at", "updated_at", "revision_number", "standard_attr_id"}
UNORDERED = {"belongs_to_default_sg", "normalized_cidr", "tags", "project_id", "tenant_id", "id"}
MADE_OF_MAC = "made of the MAC"
CHOSEN = {"ip_address", "floating_ip_address", "provider:segmentation_id"}
"""What a server chooses if the request does not say."""


@dataclass(frozen=True)
class Call:
    """One request, with objects as ``@N``."""

    who: Who
    method: str
    path: str
    body: Any = None

    @property
    def where(self) -> str:
        """Return the kind of request, such as ``PUT routers add_router_interface``."""
        parts = self.path.partition("?")[0].removeprefix("/v2.0/").split("/")
        return " ".join([self.method, *(part for part in parts if part[:1] not in "@0")])

    @property
    def query(self) -> list[tuple[str, str]]:
        """Return the names and values of its query string."""
        return parse_qsl(urlsplit(self.path).query)


@dataclass(frozen=True)
class Difference:
    """One thing in which the answers to a call differ.

    Attributes:
        what: ``STATUS TYPE | STATUS TYPE``, ours first, or ``attribute NAME``.
    """

    call: Call
    what: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        """Return it for a person."""
        return (
            f"{self.call.where}: {self.what}\n  {self.call}"
            f"\n  ours:   {json.dumps(self.ours)[:600]}"
            f"\n  theirs: {json.dumps(self.theirs)[:600]}"
        )

    @property
    def says(self) -> str:
        """Return the sentence with which ours refuses, or else theirs, or their attribute."""
        return _message(self.ours) or _message(self.theirs) or json.dumps(self.theirs)

    def is_listed(self, known: Sequence[Mapping[str, str]]) -> bool:
        """Return whether the list has it: its patterns ``where``, ``what`` and ``says`` fit."""
        return any(
            fnmatchcase(self.call.where, entry["where"])
            and fnmatchcase(self.what, entry["what"])
            and fnmatchcase(self.says, entry.get("says", "*"))
            for entry in known
        )


@dataclass
class Both:
    """The two servers, and the objects that both made: (collection, id of ours, id of theirs)."""

    ours: Cloud
    theirs: RealNeutron
    objects: list[tuple[str, str, str]] = field(default_factory=list)
    limited: set[str] = field(default_factory=set)  # paths of quotas that were set
    diverged: bool = False

    def greet(self) -> None:
        """Have both servers see everybody, and so make the projects' default groups."""
        for who in (ADMIN, ALICE, BOB):
            self.send(Call(who, "GET", "/v2.0/security-groups"))

    def made(self, collection: str) -> list[str]:
        """Return the names of the objects that there are of a collection."""
        return [f"@{i}" for i, (kind, _, _) in enumerate(self.objects) if kind == collection]

    def send(self, call: Call) -> list[Difference]:
        """Send a call to both and return the differences."""
        ours, theirs = self._ours(call), self._theirs(call)
        found = list(self._compare(call, ours, theirs))
        self._note(call, ours, theirs)
        return found

    def _ours(self, call: Call) -> tuple[int, Any]:
        path, body = self._addressed(call, 1)
        data = None if body is None else json.dumps(body).encode()
        return self.ours.raw(call.method, path, data, **{"X-Auth-Token": TOKENS[call.who]})

    def _theirs(self, call: Call) -> tuple[int, Any]:
        path, body = self._addressed(call, 2)
        return self.theirs.call(call.who, call.method, path, body)

    def _addressed(self, call: Call, side: int) -> tuple[str, Any]:
        text = re.sub(
            r"@(\d+)",
            lambda found: self.objects[int(found[1])][side],
            json.dumps([call.path, call.body]),
        )
        path, body = json.loads(text)
        return path, body

    def _note(self, call: Call, ours: tuple[int, Any], theirs: tuple[int, Any]) -> None:
        """Remember what both made; what one made alone goes again."""
        good = [ours[0] < 400, theirs[0] < 400]
        self.diverged = self.diverged or (good[0] != good[1] and call.method != "POST")
        if call.method == "PUT" and call.path.startswith("/v2.0/quotas/"):
            self.limited.add(call.path)
        if call.method != "POST":
            return
        collection = call.path.removeprefix("/v2.0/")
        mine, other = (
            _ids_of(answer) if is_good else []
            for is_good, (_, answer) in zip(good, (ours, theirs), strict=True)
        )
        if all(good):
            self.objects += [(collection, *ids) for ids in zip(mine, other, strict=True)]
            return
        for one in mine:
            self.ours.raw("DELETE", f"{call.path}/{one}", None)
        for one in other:
            self.theirs.call(ADMIN, "DELETE", f"{call.path}/{one}")

    def _compare(
        self, call: Call, ours: tuple[int, Any], theirs: tuple[int, Any]
    ) -> Iterator[Difference]:
        heads = [_head(*ours), _head(*theirs)]
        if heads[0] != heads[1]:
            yield Difference(call, " | ".join(heads), ours[1], theirs[1])
        elif ours[0] < 400:
            mine = self._normal(call, ours[1], 1)
            yield from _attributes(call, mine, self._normal(call, theirs[1], 2))
            yield from _order_of(call, ours[1], theirs[1])

    def _normal(self, call: Call, answer: Any, side: int) -> Any:
        text = json.dumps(answer)
        for i, one in enumerate(self.objects):
            text = text.replace(one[side], f"@{i}")
        text = json.dumps(_with_made_addresses(json.loads(text)))
        text = MAC.sub("MAC", UUID.sub("UUID", text))
        return _without_chance(json.loads(text), json.dumps(call.body))

    def clear(self) -> None:
        """Delete all that was made, on both sides."""
        for path in self.limited:
            self.ours.raw("DELETE", path, None)
            self.theirs.call(ADMIN, "DELETE", path)
        for router in self.made("routers"):
            self._delete_interfaces(router)
        for _ in range(3):
            for collection, ours, theirs in reversed(self.objects):
                self.ours.raw("DELETE", f"/v2.0/{collection}/{ours}", None)
                self.theirs.call(ADMIN, "DELETE", f"/v2.0/{collection}/{theirs}")
        self.objects, self.limited, self.diverged = [], set(), False

    def _delete_interfaces(self, router: str) -> None:
        rest = {"router": {"routes": [], "external_gateway_info": {}}}
        calls = [Call(ADMIN, "PUT", f"/v2.0/routers/{router}", rest)]
        calls += [
            Call(
                ADMIN, "PUT", f"/v2.0/routers/{router}/remove_router_interface", {"subnet_id": one}
            )
            for one in self.made("subnets")
        ]
        for floating in self.made("floatingips"):
            calls.insert(0, Call(ADMIN, "DELETE", f"/v2.0/floatingips/{floating}"))
        for call in calls:
            self._ours(call)
            self._theirs(call)


def _ids_of(answer: Any) -> list[str]:
    """Return the ids of what was made, of one object or of several at once."""
    inner = next(iter(answer.values())) if isinstance(answer, dict) else None
    made = inner if isinstance(inner, list) else [inner]
    return [one["id"] for one in made if isinstance(one, dict) and "id" in one]


def _fault(answer: Any) -> Any:
    return answer.get("NeutronError") if isinstance(answer, dict) else None


def _head(status: int, answer: Any) -> str:
    fault = _fault(answer)
    return f"{status} {fault['type']}" if isinstance(fault, dict) else str(status)


def _message(answer: Any) -> str:
    fault = _fault(answer)
    return str(fault["message"]) if isinstance(fault, dict) else ""


def _with_made_addresses(value: Any) -> Any:
    """Return an answer in which addresses that ports made of their MACs say so."""
    if isinstance(value, list):
        return [_with_made_addresses(one) for one in value]
    if not isinstance(value, dict):
        return value
    value = {key: _with_made_addresses(inner) for key, inner in value.items()}
    if value.get("mac_address") and isinstance(value.get("fixed_ips"), list):
        for row in value["fixed_ips"]:
            row["ip_address"] = _made_of(value["mac_address"], row["ip_address"])
    return value


def _made_of(mac: str, text: str) -> str:
    address = ip_address(text)
    made = isinstance(address, IPv6Address) and address == eui64(
        IPv6Network((address, 64), strict=False), mac
    )
    return MADE_OF_MAC if made else text


def _without_chance(value: Any, asked: str) -> Any:
    if isinstance(value, list):
        return sorted((_without_chance(one, asked) for one in value), key=_order)
    if not isinstance(value, dict):
        return value
    return {
        key: urlencode(sorted(parse_qsl(urlsplit(inner).query)))
        if key == "href"
        else ""
        if key == "description" and inner is None
        else "CHOSEN"
        if key in ("hostname", "fqdn") and str(inner).startswith("host-")
        else "CHOSEN"
        if key in CHOSEN and inner not in (None, MADE_OF_MAC) and json.dumps(inner) not in asked
        else _without_chance(inner, asked)
        for key, inner in value.items()
        if key not in VOLATILE
    }


def _order(value: Any) -> str:
    """Return by what a list is put in order: what both servers show alike, if they do at all."""
    if not isinstance(value, dict):
        return json.dumps(value)
    alike = {key: value[key] for key in sorted(value.keys() - UNORDERED)}
    return json.dumps([alike, value.get("id")])


def _attributes(call: Call, ours: Any, theirs: Any) -> Iterator[Difference]:
    """Compare two answers attribute by attribute, object by object."""
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        if ours != theirs:
            yield Difference(call, "body", ours, theirs)
        return
    for key in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(key, "ABSENT"), theirs.get(key, "ABSENT")
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _attributes(call, one, other)
        elif _are_objects(one) and _are_objects(other) and len(one) == len(other):
            for left, right in zip(one, other, strict=True):
                yield from _attributes(call, left, right)
        else:
            yield Difference(call, f"attribute {key}", one, other)


def _order_of(call: Call, ours: Any, theirs: Any) -> Iterator[Difference]:
    """Compare what lists are in order of."""
    key = next((value for name, value in call.query if name == "sort_key"), "id")
    if key in ("id", "mac_address"):
        return  # which servers choose
    orders = [
        [one.get(key) for rows in answer.values() for one in rows if "rel" not in one]
        for answer in (ours, theirs)
    ]
    if orders[0] != orders[1]:
        yield Difference(call, f"order by {key}", *orders)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)
