"""Security groups and their rules, and the default group that every project has."""

from __future__ import annotations

from collections import defaultdict
from ipaddress import IPv4Network, IPv6Network, ip_network

from sqlalchemy import bindparam, delete, exists, insert, or_, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import port_groups, security_group_rules, security_groups
from trunkline.errors import Conflict, Invalid
from trunkline.service.caller import Caller
from trunkline.service.collections import (
    Collection,
    Record,
    fetch,
    fetch_own,
    new_record,
    own,
    touched,
)
from trunkline.service.concern import group_changed, membership_changed
from trunkline.service.quotas import charge
from trunkline.service.sharing import add_borrowers, lent_ids, lent_to_caller, shared_filter

DEFAULT = "default"

PROTOCOLS = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "hopopt": 0,
    "icmp": 1,
    "icmpv6": 58,
    "igmp": 2,
    "ip": 0,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "vrrp": 112,
}
"""Protocol numbers by the Networking API's names."""

ICMP, ICMPV6 = 1, 58
WITH_PORTS = {6, 17, 33, 132, 136}
VERSIONS = {"IPv4": 4, "IPv6": 6}
ANYBODY = {"0.0.0.0/0", "::/0"}


def protocol_number(protocol: str | None, ethertype: str) -> int | None:
    """Return a stored protocol as a number; ``icmp`` in an IPv6 rule is ICMPv6."""
    if protocol is None:
        return None
    number = int(protocol) if protocol.isdigit() else PROTOCOLS[protocol]
    return ICMPV6 if number == ICMP and ethertype == "IPv6" else number


def _complete_groups(tx: Transaction, records: list[Record]) -> None:
    by_group: dict[str, list[Record]] = defaultdict(list)
    if records:
        found = select(security_group_rules).where(
            security_group_rules.c.security_group_id.in_([record["id"] for record in records])
        )
        rules = [dict(row) for row in tx.connection.execute(found).mappings()]
        _complete_rules(tx, rules)
        for rule in sorted(rules, key=lambda rule: (rule["created_at"], rule["id"])):
            by_group[rule["security_group_id"]].append(rule)
    for record in records:
        record["rules"] = by_group[record["id"]]
        del record["default_of"]
        record["shared"] = False
    add_borrowers(tx, records)


def _complete_rules(_tx: Transaction, records: list[Record]) -> None:
    for record in records:
        del record["meaning"]


GROUPS = Collection(
    "security group",
    "SecurityGroup",
    security_groups,
    or_(own(security_groups), lent_to_caller(security_groups)),
    _complete_groups,
    {"shared": shared_filter(security_groups)},
)
RULES = Collection(
    "security group rule",
    "SecurityGroupRule",
    security_group_rules,
    or_(own(security_group_rules), security_group_rules.c.security_group_id.in_(lent_ids())),
    _complete_rules,
)


_DEFAULT_OF = select(security_groups.c.id).where(
    security_groups.c.default_of == bindparam("of_project")
)


def default_group(tx: Transaction, project_id: str) -> str:
    """Return the id of a project's default group, made on first need.

    Its rules are the usual ones: out to anywhere, in from members of the group.
    """
    found = tx.connection.scalar(_DEFAULT_OF, {"of_project": project_id})
    if found is not None:
        return str(found)
    values = {"project_id": project_id, "name": DEFAULT, "description": "Default security group"}
    record = new_record(tx, {**values, "default_of": project_id, "tags": []})
    tx.connection.execute(insert(security_groups), record)
    _add_usual_rules(tx, record, ("egress", "ingress"))
    return str(record["id"])


def ensure_default(tx: Transaction, caller: Caller) -> None:
    """Make the caller's default group if the caller has a project and no group yet."""
    if caller.project_id:
        default_group(tx, caller.project_id)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a group that lets everything out and nothing in.

    Raises:
        Conflict: It is to be called ``default``, which each project has once, or its rules are more
            than the project's quota allows.
    """
    default_group(tx, values["project_id"])
    if values["name"] == DEFAULT:
        raise Conflict(
            "Default security group already exists; choose another name.",
            "SecurityGroupDefaultAlreadyExists",
        )
    record = new_record(tx, {**values, "default_of": None})
    tx.connection.execute(insert(security_groups), record)
    _add_usual_rules(tx, record, ("egress",))
    charge(tx, "security_group_rule", [record])
    return fetch(tx, caller, GROUPS, record["id"])


def take(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a group without any rule; one called ``default`` becomes its project's default group.

    Raises:
        Conflict: The project has a default group already.
    """
    project_id = values["project_id"] if values["name"] == DEFAULT else None
    if project_id is not None:
        other = tx.connection.scalar(_DEFAULT_OF, {"of_project": project_id})
        if other is not None:
            raise Conflict(
                f"Project {project_id} has a default security group already: {other}.",
                "SecurityGroupDefaultAlreadyExists",
            )
    record = new_record(tx, {**values, "default_of": project_id})
    tx.connection.execute(insert(security_groups), record)
    return fetch(tx, caller, GROUPS, record["id"])


def update_(tx: Transaction, caller: Caller, group_id: str, values: Record) -> Record:
    """Rename or describe a group.

    Raises:
        Conflict: The default group's name stays.
    """
    record = fetch_own(tx, caller, GROUPS, group_id)
    renamed = values.get("name", record["name"]) != record["name"]
    if renamed and DEFAULT in (values["name"], record["name"]):
        raise Conflict(
            "Updating default security group not allowed: its name stays, and no other group"
            " takes it.",
            "SecurityGroupCannotUpdateDefault"
            if record["name"] == DEFAULT
            else "SecurityGroupDefaultAlreadyExists",
        )
    changed = {**values, **touched(tx, record)}
    tx.connection.execute(update(security_groups).where(security_groups.c.id == group_id), changed)
    if renamed:
        group_changed(tx, group_id)
    return {**record, **changed}


def delete_(tx: Transaction, caller: Caller, group_id: str) -> None:
    """Delete a group, its rules, and other groups' rules that name it as their peer.

    Raises:
        Conflict: A port is in it, or it is a project's default group.
    """
    record = fetch_own(tx, caller, GROUPS, group_id)
    if record["name"] == DEFAULT:
        raise Conflict(
            "Insufficient rights for removing default security group: each project keeps its own.",
            "SecurityGroupCannotRemoveDefault",
        )
    if tx.connection.scalar(select(exists().where(port_groups.c.security_group_id == group_id))):
        raise Conflict(
            f"Security Group {group_id} in use: take it off its ports first.",
            "SecurityGroupInUse",
        )
    membership_changed(tx, [group_id])
    tx.connection.execute(delete(security_groups).where(security_groups.c.id == group_id))


def create_rule(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Add a rule to a group of the caller's.

    Raises:
        Invalid: Its parts contradict each other.
        NotFound: The group, or the remote group, is none the caller knows.
        Conflict: The group has this rule already.
    """
    _require_sense(values)
    group = fetch_own(tx, caller, GROUPS, values["security_group_id"])
    if values["remote_group_id"] is not None:
        fetch(tx, caller, GROUPS, values["remote_group_id"])
    meaning = _meaning(values)
    same = select(security_group_rules.c.id).where(
        security_group_rules.c.security_group_id == group["id"],
        security_group_rules.c.meaning == meaning,
    )
    found = tx.connection.scalar(same)
    if found is not None:
        raise Conflict(
            f"Security group rule already exists. Rule id is {found}.", "SecurityGroupRuleExists"
        )
    record = new_record(tx, {**values, "project_id": group["project_id"], "meaning": meaning})
    tx.connection.execute(insert(security_group_rules), record)
    group_changed(tx, group["id"])
    del record["meaning"]
    return record


def delete_rule(tx: Transaction, caller: Caller, rule_id: str) -> None:
    """Delete a rule."""
    record = fetch_own(tx, caller, RULES, rule_id)
    tx.connection.execute(delete(security_group_rules).where(security_group_rules.c.id == rule_id))
    group_changed(tx, record["security_group_id"])


def _add_usual_rules(tx: Transaction, group: Record, directions: tuple[str, ...]) -> None:
    rules = []
    for direction in directions:
        for ethertype in VERSIONS:
            values = {
                "project_id": group["project_id"],
                "description": "",
                "security_group_id": group["id"],
                "direction": direction,
                "ethertype": ethertype,
                "protocol": None,
                "port_range_min": None,
                "port_range_max": None,
                "remote_ip_prefix": None,
                "remote_group_id": group["id"] if direction == "ingress" else None,
            }
            rules.append(new_record(tx, {**values, "meaning": _meaning(values)}))
    tx.connection.execute(insert(security_group_rules), rules)


def _meaning(values: Record) -> str:
    """Return what a rule matches, in one spelling only: ``6`` is tcp, 0.0.0.0/0 is anybody."""
    prefix = values["remote_ip_prefix"]
    parts = (
        values["direction"],
        values["ethertype"],
        protocol_number(values["protocol"], values["ethertype"]),
        values["port_range_min"],
        values["port_range_max"],
        None if prefix in ANYBODY else prefix,
        values["remote_group_id"],
    )
    return "/".join("*" if part is None else str(part).replace("/", "_") for part in parts)


def _require_sense(values: Record) -> None:
    """Raise Invalid if the parts of a rule contradict each other."""
    if values["remote_ip_prefix"] is not None:
        _require_sane_prefix(values)
    number = protocol_number(values["protocol"], values["ethertype"])
    if number == ICMPV6 and values["ethertype"] == "IPv4":
        raise Invalid(
            f"protocol {values['protocol']} does not go with ethertype IPv4; use icmp.",
            "SecurityGroupEthertypeConflictWithProtocol",
        )
    if number in (ICMP, ICMPV6):
        _require_icmp(values)
    elif (values["port_range_min"], values["port_range_max"]) != (None, None):
        _require_ports(values, number)


def _require_sane_prefix(values: Record) -> None:
    if values["remote_group_id"] is not None:
        raise Invalid(
            "Only remote_ip_prefix or remote_group_id may be provided.",
            "SecurityGroupRemoteGroupAndRemoteIpPrefix",
        )
    prefix: IPv4Network | IPv6Network = ip_network(values["remote_ip_prefix"])
    if prefix.version != VERSIONS[values["ethertype"]]:
        raise Invalid(
            f"Conflicting value ethertype {values['ethertype']} for remote_ip_prefix {prefix}.",
            "SecurityGroupRuleParameterConflict",
        )


def _require_icmp(values: Record) -> None:
    icmp_type, icmp_code = values["port_range_min"], values["port_range_max"]
    if icmp_type is None and icmp_code is not None:
        raise Invalid(
            f"ICMP code (port-range-max) {icmp_code} is provided but ICMP type (port-range-min) is"
            " missing: port_range_max needs port_range_min.",
            "SecurityGroupMissingIcmpType",
        )
    for name, value in (("port_range_min", icmp_type), ("port_range_max", icmp_code)):
        if value is not None and not 0 <= value <= 255:  # noqa: PLR2004  one octet, RFC 792
            raise Invalid(
                f"Invalid value for ICMP {name}: {value}. It must be 0 to 255.",
                "SecurityGroupInvalidIcmpValue",
            )


def _require_ports(values: Record, number: int | None) -> None:
    first, last = values["port_range_min"], values["port_range_max"]
    if number is None:
        raise Invalid(
            "port_range_min and port_range_max need a protocol that has ports, such as tcp.",
            "SecurityGroupProtocolRequiredWithPorts",
        )
    if number not in WITH_PORTS:
        raise Invalid(
            f"protocol {values['protocol']} has no ports: leave port_range_min and port_range_max"
            " out.",
            "SecurityGroupInvalidProtocolForPort",
        )
    if first is None or last is None or first > last:
        raise Invalid(
            "For TCP/UDP protocols, port_range_min must be <= port_range_max, and both be given;"
            f" not {first} and {last}.",
            "SecurityGroupInvalidPortRange",
        )
    if first == 0:
        raise Invalid(
            f"Invalid value for port_range_min: {first}. It must be 1 to 65535.",
            "SecurityGroupInvalidPortValue",
        )
