"""QoS policies: limits of bandwidth, for ports, networks and floating IPs that name one.

A port has its own policy, or else its network's. Only what a host can keep is accepted: a limit
each way; a guaranteed minimum is not.
"""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import bindparam, delete, exists, insert, or_, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import (
    floating_ips,
    networks,
    port_forwardings,
    ports,
    qos_bandwidth_limit_rules,
    qos_policies,
)
from trunkline.errors import Conflict, NotFound
from trunkline.model import HostName
from trunkline.service.caller import Caller
from trunkline.service.collections import (
    OWN_PROJECT,
    Collection,
    Record,
    fetch,
    fetch_own,
    missing,
    new_record,
    touched,
)
from trunkline.service.provisioning import placed
from trunkline.service.sharing import add_borrowers, follow_columns, lent_to_caller, shared_filter

RULE_TYPE = "bandwidth_limit"
_VISIBLE = or_(qos_policies.c.project_id == OWN_PROJECT, lent_to_caller(qos_policies))
_RULES = select(qos_bandwidth_limit_rules).where(
    qos_bandwidth_limit_rules.c.qos_policy_id.in_(bindparam("policy_ids", expanding=True))
)
_USERS = (networks, ports, floating_ips)


def _complete(tx: Transaction, records: list[Record]) -> None:
    """Add each policy's rules, as the API has them."""
    found: dict[str, list[Record]] = defaultdict(list)
    ids = {"policy_ids": [record["id"] for record in records]}
    for row in tx.connection.execute(_RULES, ids).mappings() if records else ():
        found[row["qos_policy_id"]].append({**row, "type": RULE_TYPE})
    for record in records:
        record["rules"] = sorted(found[record["id"]], key=lambda rule: str(rule["direction"]))
    add_borrowers(tx, records)


POLICIES = Collection(
    "QoS policy",
    "QosPolicy",
    qos_policies,
    _VISIBLE,
    _complete,
    {"shared": shared_filter(qos_policies)},
)
RULES = Collection(
    "QoS bandwidth limit rule",
    "QosRule",
    qos_bandwidth_limit_rules,
    qos_bandwidth_limit_rules.c.qos_policy_id.in_(select(qos_policies.c.id).where(_VISIBLE)),
    lambda _tx, _records: None,
)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a policy without rules.

    Raises:
        Conflict: It would be the second default of its project.
    """
    del caller  # who may is the policy's business
    record = new_record(tx, {**values, "tags": []})
    _require_one_default(tx, record)
    tx.connection.execute(insert(qos_policies), record)
    follow_columns(tx, "qos_policy", {}, record)
    return {**record, "rules": [], "borrowers": []}


def update_(tx: Transaction, caller: Caller, policy_id: str, values: Record) -> Record:
    """Change a policy's name and the like.

    Raises:
        Conflict: As in ``create``.
    """
    record = fetch_own(tx, caller, POLICIES, policy_id)
    after = {**record, **values, **touched(tx, record)}
    _require_one_default(tx, after)
    changed = {**values, **touched(tx, record)}
    tx.connection.execute(update(qos_policies).where(qos_policies.c.id == policy_id), changed)
    follow_columns(tx, "qos_policy", record, after)
    return after


def delete_(tx: Transaction, caller: Caller, policy_id: str) -> None:
    """Delete a policy with its rules.

    Raises:
        Conflict: Something has it.
    """
    fetch_own(tx, caller, POLICIES, policy_id)
    for table in _USERS:
        user = tx.connection.scalar(select(table.c.id).where(table.c.qos_policy_id == policy_id))
        if user is not None:
            raise Conflict(
                f"QoS Policy {policy_id} is used by {table.name.removesuffix('s')} {user}; give"
                " that another one, or none, first.",
                "QosPolicyInUse",
            )
    tx.connection.execute(delete(qos_policies).where(qos_policies.c.id == policy_id))


def create_rule(tx: Transaction, caller: Caller, policy_id: str, values: Record) -> Record:
    """Add a limit to a policy.

    Raises:
        Conflict: There is one in this direction.
    """
    policy = fetch_own(tx, caller, POLICIES, policy_id)
    if any(rule["direction"] == values["direction"] for rule in policy["rules"]):
        raise Conflict(
            f"QoS policy {policy_id} has a bandwidth_limit_rule for {values['direction']} already;"
            " change that one.",
            "QoSRulesConflict",
        )
    rule = {**values, "qos_policy_id": policy_id}
    record = {"id": new_record(tx, {})["id"], **rule}
    tx.connection.execute(insert(qos_bandwidth_limit_rules), record)
    _changed(tx, policy)
    return record


def fetch_rule(tx: Transaction, caller: Caller, policy_id: str, rule_id: str) -> Record:
    """Return a rule of a policy.

    Raises:
        NotFound: No such policy, or none that the caller may see, or no such rule of it.
    """
    fetch(tx, caller, POLICIES, policy_id)
    record = fetch(tx, caller, RULES, rule_id)
    if record["qos_policy_id"] != policy_id:
        raise missing(RULES, rule_id)
    return record


def update_rule(
    tx: Transaction, caller: Caller, policy_id: str, rule_id: str, values: Record
) -> Record:
    """Change a limit; its direction stays."""
    policy = fetch_own(tx, caller, POLICIES, policy_id)
    record = fetch_rule(tx, caller, policy_id, rule_id)
    of_rule = qos_bandwidth_limit_rules.c.id == rule_id
    if values:
        tx.connection.execute(update(qos_bandwidth_limit_rules).where(of_rule), values)
    _changed(tx, policy)
    return {**record, **values}


def delete_rule(tx: Transaction, caller: Caller, policy_id: str, rule_id: str) -> None:
    """Take a limit away."""
    policy = fetch_own(tx, caller, POLICIES, policy_id)
    fetch_rule(tx, caller, policy_id, rule_id)
    of_rule = qos_bandwidth_limit_rules.c.id == rule_id
    tx.connection.execute(delete(qos_bandwidth_limit_rules).where(of_rule))
    _changed(tx, policy)


def require_usable(tx: Transaction, caller: Caller, before: str | None, after: str | None) -> None:
    """Check that an object may go from one policy to another; None is none.

    Raises:
        NotFound: The caller does not see the new one.
        Conflict: The old one is not the caller's to take away: an administrator's limit.
    """
    if before == after:
        return
    if after is not None:
        fetch(tx, caller, POLICIES, after)
    if before is not None:
        try:
            fetch(tx, caller, POLICIES, before)
        except NotFound:
            raise Conflict(
                f"qos_policy_id: policy {before} is an administrator's, who alone takes it away.",
                "PolicyRemoveAuthorizationError",
            ) from None


def default_of(tx: Transaction, project_id: str) -> str | None:
    """Return the policy that a project's new networks get."""
    found = select(qos_policies.c.id).where(
        qos_policies.c.project_id == project_id, qos_policies.c.is_default
    )
    return tx.connection.scalar(found)


def _require_one_default(tx: Transaction, record: Record) -> None:
    other = default_of(tx, record["project_id"]) if record["is_default"] else None
    if other not in (None, record["id"]):
        raise Conflict(
            f"Project {record['project_id']} has a default QoS policy already: {other}"
            " (is_default).",
            "QoSPolicyDefaultAlreadyExists",
        )


_ON_PORT = (
    select(ports.c.host, ports.c.network_id)
    .join(networks, networks.c.id == ports.c.network_id)
    .where(
        ports.c.host != "",
        or_(
            ports.c.qos_policy_id == bindparam("of_policy"),
            networks.c.qos_policy_id == bindparam("of_policy"),
            exists().where(
                floating_ips.c.port_id == ports.c.id,
                floating_ips.c.qos_policy_id == bindparam("of_policy"),
            ),
            exists().where(
                port_forwardings.c.internal_port_id == ports.c.id,
                floating_ips.c.id == port_forwardings.c.floatingip_id,
                floating_ips.c.qos_policy_id == bindparam("of_policy"),
            ),
        ),
    )
    .distinct()
)


def _changed(tx: Transaction, policy: Record) -> None:
    """Move a policy's revision, and the hosts that keep it."""
    tx.connection.execute(
        update(qos_policies).where(qos_policies.c.id == policy["id"]), touched(tx, policy)
    )
    for host, network_id in tx.connection.execute(_ON_PORT, {"of_policy": policy["id"]}).all():
        tx.moved |= {HostName(host), *placed(tx, network_id)}
