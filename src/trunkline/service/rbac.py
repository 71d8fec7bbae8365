"""RBAC policies: an object lent to one project or to everybody, as an object of its own.

For everybody, policy and object say the same: the columns of objects (``shared``, of networks also
``external``) follow the policies, and the other way round (``service.sharing``).
"""

from __future__ import annotations

from sqlalchemy import delete, exists, insert, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import networks, rbac_policies
from trunkline.errors import Conflict, Invalid
from trunkline.service import address_scopes, gateways, qos, security_groups, sharing, subnetpools
from trunkline.service.caller import Caller
from trunkline.service.collections import Collection, Record, fetch, fetch_own, own, touched
from trunkline.service.networks import COLLECTION as NETWORKS
from trunkline.service.networks import require_empty

LENDABLE = {
    "network": NETWORKS,
    "security_group": security_groups.GROUPS,
    "qos_policy": qos.POLICIES,
    "subnetpool": subnetpools.COLLECTION,
    "address_scope": address_scopes.COLLECTION,
}
"""What can be lent, by ``object_type``."""


def _complete(_tx: Transaction, records: list[Record]) -> None:
    for record in records:
        for kind in LENDABLE:
            del record[f"{kind}_id"]


COLLECTION = Collection("RBAC policy", "RbacPolicy", rbac_policies, own(rbac_policies), _complete)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Lend an object of the caller's.

    Raises:
        NotFound, Forbidden: The object is none of the caller's.
        Invalid: Only networks are lent as external.
        Conflict: There is such a policy, or a network would become external while in use.
    """
    object_type, action = values["object_type"], values["action"]
    lent = fetch_own(tx, caller, LENDABLE[object_type], values["object_id"])
    if action == sharing.EXTERNAL and object_type != "network":
        raise Invalid(
            f"Invalid action '{action}' for object type '{object_type}'. Valid actions:"
            f" {sharing.SHARED}.",
            "InvalidActionForType",
        )
    _require_permitted(caller, "create", values)
    _require_new(tx, values)
    if action == sharing.EXTERNAL and not lent["external"]:
        require_empty(tx, lent)
    record = sharing.new_policy(object_type, lent["id"], values)
    tx.connection.execute(insert(rbac_policies), record)
    _follow(tx, object_type, lent)
    return record


def update_(tx: Transaction, caller: Caller, policy_id: str, values: Record) -> Record:
    """Lend the object to another project instead.

    Raises:
        Conflict: The project that it was lent to uses it, or there is such a policy.
    """
    record = fetch_own(tx, caller, COLLECTION, policy_id)
    after = {**record, **values}
    if after == record:
        return record
    _require_permitted(caller, "update", after)
    _require_new(tx, after)
    lent = _require_unused(tx, caller, record)
    where = rbac_policies.c.id == policy_id
    tx.connection.execute(update(rbac_policies).where(where), values)
    _follow(tx, record["object_type"], lent)
    return after


def delete_(tx: Transaction, caller: Caller, policy_id: str) -> None:
    """Lend the object no longer.

    Raises:
        Conflict: The project that it is lent to uses it.
    """
    record = fetch_own(tx, caller, COLLECTION, policy_id)
    lent = _require_unused(tx, caller, record)
    tx.connection.execute(delete(rbac_policies).where(rbac_policies.c.id == policy_id))
    if record["action"] == sharing.EXTERNAL and not _is_lent(tx, lent, sharing.EXTERNAL):
        require_empty(tx, lent)
    _follow(tx, record["object_type"], lent)


def _require_permitted(caller: Caller, verb: str, values: Record) -> None:
    """Raise Forbidden for what the policy has lines of its own for."""
    if values["target_project"] == sharing.EVERYBODY:
        caller.require(f"{verb}_rbac_policy:for_everybody")
    if values["action"] == sharing.EXTERNAL:
        caller.require(f"{verb}_rbac_policy:as_external")


def _require_new(tx: Transaction, values: Record) -> None:
    keys = ("object_id", "action", "target_project")
    same = exists().where(*(rbac_policies.c[key] == values[key] for key in keys))
    if tx.connection.scalar(select(same)):
        raise Conflict(
            f"An RBAC policy already exists with those values: {values['object_type']}"
            f" {values['object_id']},"
            f" {values['action']}, target_tenant {values['target_project']}.",
            "DuplicateRbacPolicy",
        )


def _require_unused(tx: Transaction, caller: Caller, record: Record) -> Record:
    """Return the policy's object; raise Conflict if somebody relies on the policy alone."""
    object_type = record["object_type"]
    lent = fetch(tx, caller, LENDABLE[object_type], record["object_id"])
    users = sharing.strangers(tx, object_type, lent, record["action"], record["target_project"])
    if users:
        raise Conflict(
            f"RBAC policy on object {lent['id']} cannot be removed because other objects depend"
            f" on it. Details: projects {', '.join(users)} have objects that use the"
            f" {object_type.replace('_', ' ')}; delete or change these first.",
            "RbacPolicyInUse",
        )
    return lent


def _follow(tx: Transaction, object_type: str, lent: Record) -> None:
    """Make the object's columns say what its policies say."""
    if object_type == "network":
        _follow_as_network(tx, lent)
        return
    if "shared" not in sharing.COLUMNS[object_type]:
        return
    shared = _is_lent(tx, lent, sharing.SHARED, sharing.EVERYBODY)
    if shared != lent["shared"]:
        table = LENDABLE[object_type].table
        tx.connection.execute(update(table).where(table.c.id == lent["id"]).values(shared=shared))


def _follow_as_network(tx: Transaction, network: Record) -> None:
    changed = {
        "shared": _is_lent(tx, network, sharing.SHARED, sharing.EVERYBODY),
        "external": _is_lent(tx, network, sharing.EXTERNAL),
    }
    changed["is_default"] = network["is_default"] and changed["external"]
    if any(network[column] != value for column, value in changed.items()):
        where = networks.c.id == network["id"]
        with gateways.resettled(tx, network["id"]):
            after = {**changed, **touched(tx, network)}
            tx.connection.execute(update(networks).where(where), after)


def _is_lent(tx: Transaction, lent: Record, action: str, target: str | None = None) -> bool:
    conditions = [rbac_policies.c.object_id == lent["id"], rbac_policies.c.action == action]
    if target is not None:
        conditions.append(rbac_policies.c.target_project == target)
    return bool(tx.connection.scalar(select(exists().where(*conditions))))
