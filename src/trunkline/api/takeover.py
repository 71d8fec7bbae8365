"""What a running Neutron has, taken over with ids, MACs, addresses and VLAN ids as they are.

Each object goes the way of a request that makes it (the tables of attributes, the services), with
its id given, so what no request could make is refused for the same reason, by name. All of it is
one transaction. How the objects are read, and what a person is told, is others' business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from sqlalchemy.exc import IntegrityError

from trunkline.api import policy
from trunkline.api.port_forwardings import PORT_FORWARDING
from trunkline.api.resources import RESOURCES
from trunkline.core.allocate import QUOTAS
from trunkline.db.engine import Database, Transaction
from trunkline.errors import Invalid, RequestError
from trunkline.model import GATEWAY_OWNER
from trunkline.service import (
    audit,
    interfaces,
    port_forwardings,
    ports,
    quotas,
    routers,
    security_groups,
)
from trunkline.service.caller import Caller
from trunkline.service.collections import Query, Record, listed

COLLECTIONS = (
    "address-scopes", "subnetpools", "networks", "subnets", "security-groups",
    "security-group-rules", "rbac-policies", "routers", "ports", "floatingips",
)  # fmt: skip
"""What is read, in the order in which it is made."""

Found = Mapping[str, Sequence[Record]]
"""Bodies by collection, as Neutron's API shows them to an administrator; also ``quotas``."""

SKIPPED_OWNERS = {
    "network:dhcp": "each host answers DHCP on an address of its own",
    "network:router_gateway": "routers have no address outside, hosts translate to theirs",
    "network:floatingip": "made anew with its floating IP",
    "network:router_centralized_snat": "each host translates for its own instances",
    "network:floatingip_agent_gateway": "hosts have their own way outside",
    "network:router_ha_interface": "every host routes, so routers need no standby",
    GATEWAY_OWNER: "hosts get addresses of their own",
}
"""Ports of the network's own machinery that stay behind, by owner, and why."""

INTERFACES = {
    "network:router_interface",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
}
OWN_WAYS = {"availability_zone_hints", "distributed", "ha", "status", "routes", "id"}
"""Attributes of objects that are Neutron's business, or set in a later step."""

LATER = {"ports": {"binding:host_id"}}
HA_NETWORK = "HA network tenant "


class RolledBack(Exception):
    """Ends a transaction whose changes are not wanted."""


@dataclass
class Report:
    """What became of what was found, in words for a person.

    Attributes:
        taken: How many, by collection.
        here: How many were here already, by collection.
        skipped: What stays behind, as it must, and why.
        refused: What cannot be taken over, and why.
    """

    taken: Counter[str] = field(default_factory=Counter)
    here: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def take_over(database: Database, found: Found, *, apply: bool, leave_out: bool) -> Report:
    """Take everything over, or nothing.

    Args:
        database: Whose schema is up to date.
        found: What there is.
        apply: Whether to keep it; False: only to see what would become of it.
        leave_out: Whether to keep it also if something is refused, and what needs that with it.
    """
    reports: list[Report] = []

    def work(tx: Transaction) -> None:
        takeover = _Takeover(tx, found)
        takeover.run()
        reports.append(takeover.report)
        if not apply or (takeover.report.refused and not leave_out):
            raise RolledBack

    with suppress(RolledBack):
        database.write(work)
    return reports[-1]


class _Takeover:
    """One run, in one transaction."""

    def __init__(self, tx: Transaction, found: Found) -> None:
        # What was on no router in Neutron stays so.
        tx.limits = replace(tx.limits, default_router=False)
        roles = frozenset({"admin"})
        self._tx = tx
        self._found = found
        self._caller = Caller("import-neutron", "", roles, policy.load().rights(roles))
        self._new: dict[str, set[str]] = {name: set() for name in COLLECTIONS}
        self.report = Report()

    def run(self) -> None:
        """Make the objects, then what ties them together."""
        for collection in COLLECTIONS:
            here = self._here(collection)
            for body in self._found.get(collection, ()):
                if body["id"] in here:
                    self.report.here[collection] += 1
                elif self._is_wanted(collection, body):
                    self._attempt(collection, body, partial(self._make, collection, body))
            if collection == "ports":
                self._each("ports", self._plug_into_router)
                self._each("routers", self._add_routes)
        self._each("ports", self._bind)
        self._each("floatingips", self._forward)
        self._set_quotas()

    def _here(self, collection: str) -> set[str]:
        found = listed(self._tx, self._caller, RESOURCES[collection].collection, Query())
        return {record["id"] for record in found}

    def _is_wanted(self, collection: str, body: Record) -> bool:
        """Return whether an object is to be made; note why not."""
        reason = ""
        if collection == "ports":
            reason = SKIPPED_OWNERS.get(body["device_owner"], "")
        if collection == "networks" and body["name"].startswith(HA_NETWORK):
            reason = SKIPPED_OWNERS["network:router_ha_interface"]
        if collection == "routers" and body["name"] == "default" and not body["project_id"]:
            reason = "it is a default router of Trunkline, and here is one"
        if collection == "security-group-rules":
            return body["security_group_id"] in self._new["security-groups"]
        if collection == "rbac-policies":
            lent = body["object_id"] in set().union(*self._new.values())
            return lent and body["target_tenant"] != "*"  # those for all are made with the object
        if reason:
            self.report.skipped.append(f"{_named(collection, body)}: {reason}")
        return not reason

    def _attempt(self, collection: str, body: Record, step: Callable[[], object]) -> None:
        """Do a step or, if it is refused, note why and undo it alone."""
        try:
            with self._tx.connection.begin_nested():
                step()
        except RequestError as error:
            self.report.refused.append(f"{_named(collection, body)}: {error}")
        except IntegrityError as error:
            self.report.refused.append(f"{_named(collection, body)}: it clashes: {error.orig}")

    def _each(self, collection: str, step: Callable[[Record], None]) -> None:
        for body in self._found.get(collection, ()):
            if body["id"] in self._new[collection]:
                self._attempt(collection, body, partial(step, body))

    def _make(self, collection: str, body: Record) -> None:
        _require_possible(collection, body)
        resource = RESOURCES[collection]
        given = {
            name: value
            for name, value in body.items()
            if (attribute := resource.table.by_name.get(name)) is not None
            and attribute.convert is not None
            and name not in OWN_WAYS | LATER.get(collection, set())
        }
        values = resource.table.accept(_adapted(collection, given), self._caller, update=False)
        values["id"] = body["id"]
        if "tags" in resource.table.by_name:
            values["tags"] = sorted(body.get("tags", ()))
        create = _CREATE.get(collection, resource.create)
        assert create is not None
        record = create(self._tx, self._caller, values)
        view = resource.table.whole(resource.finish(record, self._caller))
        actor = audit.Actor(self._caller, "import-neutron")
        audit.note(self._tx, actor, resource.table.singular, None, view)
        self._new[collection].add(body["id"])
        self.report.taken[collection] += 1

    def _plug_into_router(self, body: Record) -> None:
        if body["device_owner"] in INTERFACES:
            wish = {"port_id": body["id"]}
            interfaces.add(self._tx, self._caller, body["device_id"], wish)

    def _add_routes(self, body: Record) -> None:
        if body.get("routes"):
            values = RESOURCES["routers"].table.accept(
                {"routes": body["routes"]}, self._caller, update=True
            )
            routers.update_(self._tx, self._caller, body["id"], values)

    def _bind(self, body: Record) -> None:
        """Bind a port to its host: last, so that no host's own address is another port's."""
        host = body.get("binding:host_id")
        if host and body["device_owner"] not in INTERFACES:
            ports.update_(self._tx, self._caller, body["id"], {"host": host})

    def _forward(self, body: Record) -> None:
        """Forward a floating IP's ports: behind binding, which says where it is."""
        for given in body.get("port_forwardings", ()):
            if given.get("external_port") is None:
                raise Invalid(
                    f"port forwarding {given['id']} is of a range (external_port_range); make one"
                    " for each of its ports there."
                )
            wish = {name: given[name] for name in PORT_FORWARDING.by_name.keys() & given.keys()}
            del wish["id"]
            values = PORT_FORWARDING.accept(wish, self._caller, update=False)
            values["id"] = given["id"]
            port_forwardings.create(self._tx, self._caller, body["id"], values)
            self.report.taken["port-forwardings"] += 1

    def _set_quotas(self) -> None:
        for body in self._found.get("quotas", ()):
            wanted = {name: body[name] for name in QUOTAS if isinstance(body.get(name), int)}
            quotas.change(self._tx, body["project_id"], wanted, force=True)
            self.report.taken["quotas"] += 1


def _named(collection: str, body: Record) -> str:
    noun = RESOURCES[collection].collection.noun
    name = body.get("name") or body.get("floating_ip_address") or ""
    owner = f" ({body['device_owner']})" if body.get("device_owner") else ""
    return f"{noun} {body['id']}{f' {name!r}' if name else ''}{owner}"


def _require_possible(collection: str, body: Record) -> None:
    """Raise Invalid for what the table of attributes would let pass, and loses its meaning."""
    if collection == "security-groups" and body.get("stateful") is False:
        raise Invalid("it is stateless (stateful false); hosts track every connection.")
    if collection == "security-group-rules" and body.get("remote_address_group_id"):
        raise Invalid("remote_address_group_id names an address group, which there are none of.")
    if body.get("qos_policy_id"):
        raise Invalid(
            f"it has the QoS policy {body['qos_policy_id']} (qos_policy_id), which is not taken"
            " over; take that off it, and give it one here afterwards."
        )


def _adapted(collection: str, given: Record) -> Record:
    """Return a body as a request has it that makes the same object here."""
    found = {name: value for name, value in given.items() if name != "qos_policy_id"}
    if collection == "networks" and not found.get("router:external"):
        found.pop("is_default", None)
    elif collection == "networks":
        found = {name: value for name, value in found.items() if "trunkline:" not in name}
    if found.get("segments"):
        found = {name: value for name, value in found.items() if "provider:" not in name}
    if collection == "routers" and found.get("external_gateway_info"):
        info = found["external_gateway_info"]
        kept = {key: info[key] for key in ("network_id", "enable_snat") if key in info}
        found["external_gateway_info"] = kept
    if collection == "ports" and found.get("device_owner") in INTERFACES:
        found |= {"device_owner": "", "device_id": "", "security_groups": []}
        found |= {"port_security_enabled": False, "allowed_address_pairs": []}
    return {name: value for name, value in found.items() if value is not None or name in NULLS}


NULLS = {"gateway_ip"}  # where null says something else than nothing

_CREATE: Mapping[str, Callable[[Transaction, Caller, Record], Record]] = {
    "ports": ports.create,
    "security-groups": security_groups.take,
}
"""Where an object is made otherwise than by a request."""
