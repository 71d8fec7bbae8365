"""RBAC policies: a network lent to one project or to everybody, as an object of its own.

For everybody, policy and network say the same: ``shared`` and ``router:external`` of the network
follow its policies, and the other way round (``service.sharing``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    delete,
    exists,
    false,
    insert,
    select,
    true,
    update,
)

from trunkline.db.engine import Transaction
from trunkline.db.tables import networks, rbac_policies
from trunkline.errors import Conflict
from trunkline.service import gateways, sharing
from trunkline.service.caller import Caller
from trunkline.service.collections import Collection, Record, fetch, fetch_own, own, touched
from trunkline.service.networks import COLLECTION as NETWORKS
from trunkline.service.networks import require_empty

OBJECT_TYPE = "network"


def _complete(_tx: Transaction, records: list[Record]) -> None:
    for record in records:
        record["object_type"] = OBJECT_TYPE


def _with_type(values: Sequence[Any]) -> ColumnElement[bool]:
    return true() if OBJECT_TYPE in values else false()


COLLECTION = Collection(
    "RBAC policy",
    "RbacPolicy",
    rbac_policies,
    own(rbac_policies),
    _complete,
    {"object_type": _with_type},
)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Lend a network of the caller's.

    Raises:
        NotFound, Forbidden: The network is none of the caller's.
        Conflict: There is such a policy, or the network would become external while in use.
    """
    network = fetch_own(tx, caller, NETWORKS, values["object_id"])
    _require_permitted(caller, "create", values)
    _require_new(tx, values)
    if values["action"] == sharing.EXTERNAL and not network["external"]:
        require_empty(tx, network)
    record = {**values, "id": str(uuid4())}
    del record["object_type"]
    tx.connection.execute(insert(rbac_policies), record)
    _follow(tx, network)
    return {**record, "object_type": OBJECT_TYPE}


def update_(tx: Transaction, caller: Caller, policy_id: str, values: Record) -> Record:
    """Lend the network to another project instead.

    Raises:
        Conflict: The project that it was lent to uses it, or there is such a policy.
    """
    record = fetch_own(tx, caller, COLLECTION, policy_id)
    after = {**record, **values}
    if after == record:
        return record
    _require_permitted(caller, "update", after)
    _require_new(tx, after)
    network = _require_unused(tx, caller, record)
    where = rbac_policies.c.id == policy_id
    tx.connection.execute(update(rbac_policies).where(where), values)
    _follow(tx, network)
    return after


def delete_(tx: Transaction, caller: Caller, policy_id: str) -> None:
    """Lend the network no longer.

    Raises:
        Conflict: The project that it is lent to uses it.
    """
    record = fetch_own(tx, caller, COLLECTION, policy_id)
    network = _require_unused(tx, caller, record)
    tx.connection.execute(delete(rbac_policies).where(rbac_policies.c.id == policy_id))
    if record["action"] == sharing.EXTERNAL and not _lent(tx, network, sharing.EXTERNAL):
        require_empty(tx, network)
    _follow(tx, network)


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
            f"An RBAC policy already exists with those values: network {values['object_id']},"
            f" {values['action']}, target_tenant {values['target_project']}.",
            "DuplicateRbacPolicy",
        )


def _require_unused(tx: Transaction, caller: Caller, record: Record) -> Record:
    """Return the policy's network; raise Conflict if somebody relies on the policy alone."""
    network = fetch(tx, caller, NETWORKS, record["object_id"])
    users = sharing.strangers(tx, network, record["action"], record["target_project"])
    if users:
        raise Conflict(
            f"RBAC policy on object {network['id']} cannot be removed because other objects depend"
            f" on it. Details: projects {', '.join(users)} have ports or floating IPs on the"
            " network; delete these first.",
            "RbacPolicyInUse",
        )
    return network


def _follow(tx: Transaction, network: Record) -> None:
    """Make the network's columns say what its policies say."""
    changed = {
        "shared": _lent(tx, network, sharing.SHARED, sharing.EVERYBODY),
        "external": _lent(tx, network, sharing.EXTERNAL),
    }
    changed["is_default"] = network["is_default"] and changed["external"]
    if any(network[column] != value for column, value in changed.items()):
        where = networks.c.id == network["id"]
        with gateways.resettled(tx, network["id"]):
            after = {**changed, **touched(tx, network)}
            tx.connection.execute(update(networks).where(where), after)


def _lent(tx: Transaction, network: Record, action: str, target: str | None = None) -> bool:
    conditions = [rbac_policies.c.object_id == network["id"], rbac_policies.c.action == action]
    if target is not None:
        conditions.append(rbac_policies.c.target_project == target)
    return bool(tx.connection.scalar(select(exists().where(*conditions))))
