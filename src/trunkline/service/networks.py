"""Networks: made with their segments, changed, and deleted with what is on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    bindparam,
    delete,
    exists,
    false,
    insert,
    literal,
    or_,
    select,
    true,
    union_all,
    update,
)

from trunkline.db.engine import Transaction
from trunkline.db.tables import networks, ports, rbac_policies, routers, subnetpools, subnets
from trunkline.errors import Conflict, Invalid
from trunkline.model import GATEWAY_OWNER, GatewayMode, Provisioning
from trunkline.service import domains, gateways, ipv6, placement, qos, segments
from trunkline.service.caller import Caller
from trunkline.service.collections import (
    OWN_PROJECT,
    Collection,
    Record,
    fetch_own,
    new_record,
    touched,
)
from trunkline.service.concern import claim_domains, claim_prefixes, differs
from trunkline.service.mtu import require_fitting
from trunkline.service.provisioning import network_changed, plugged
from trunkline.service.sharing import SHARED, follow_columns, lent_to_caller, shared_filter

STATUS = "ACTIVE"  # a network is as soon as it exists; what hosts make of it, agents report
SHOWN = {
    "name",
    "mtu",
    "admin_state_up",
    "dns_domain",
    "qos_policy_id",
}  # columns in hosts' snapshots
PLACED = {
    "external",
    "provisioning",
    "gateway",
}  # columns that decide on which hosts it is, and how

_VISIBLE = or_(networks.c.project_id == OWN_PROJECT, lent_to_caller(networks))
_NETWORK_IDS: BindParameter[Any] = bindparam("network_ids", expanding=True)
_RELATED = union_all(
    select(subnets.c.network_id, literal("subnet"), subnets.c.id).where(
        subnets.c.network_id.in_(_NETWORK_IDS)
    ),
    select(rbac_policies.c.object_id, literal("borrower"), rbac_policies.c.target_project).where(
        rbac_policies.c.object_id.in_(_NETWORK_IDS), rbac_policies.c.action == SHARED
    ),
    *(
        select(subnets.c.network_id, literal(f"ipv{version}_scope"), subnetpools.c.address_scope_id)
        .join(subnetpools, subnetpools.c.id == subnets.c.subnetpool_id)
        .where(
            subnets.c.network_id.in_(_NETWORK_IDS),
            subnetpools.c.address_scope_id.is_not(None),
            subnetpools.c.ip_version == version,
        )
        for version in (4, 6)
    ),
)


def _complete(tx: Transaction, records: list[Record]) -> None:
    """Add the ids of each network's subnets, whom it is lent to, and the status."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    ids = [record["id"] for record in records]
    if records:
        for network_id, kind, value in tx.connection.execute(_RELATED, {"network_ids": ids}):
            found[network_id, kind].append(value)
    others = segments.further(tx, ids)
    for record in records:
        record["subnets"] = sorted(found[record["id"], "subnet"])
        record["borrowers"] = found[record["id"], "borrower"]
        for version in (4, 6):
            scopes = found[record["id"], f"ipv{version}_scope"]
            record[f"ipv{version}_address_scope"] = scopes[0] if scopes else None
        record["status"] = STATUS
        record["bridge"] = segments.bridge_of(record)
        record["segments"] = segments.shown(record, others[record["id"]])


_NEW = {
    "subnets": (),
    "borrowers": (),
    "ipv4_address_scope": None,
    "ipv6_address_scope": None,
    "status": STATUS,
}
"""What ``_complete`` finds of a network that was made this moment."""


def _with_subnet(values: Sequence[Any]) -> ColumnElement[bool]:
    return networks.c.id.in_(select(subnets.c.network_id).where(subnets.c.id.in_(values)))


def _with_status(values: Sequence[Any]) -> ColumnElement[bool]:
    return true() if STATUS in values else false()


COLLECTION = Collection(
    "network",
    "Network",
    networks,
    _VISIBLE,
    _complete,
    {"subnets": _with_subnet, "status": _with_status, "shared": shared_filter(networks)},
)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a network and give it its segments.

    Raises:
        Invalid: The provider attributes contradict each other, or it would be the default of
            external networks without being one.
        Conflict: The VLAN is taken, or all ranges are; or there is a default network already.
    """
    _require_placeable(values)
    segment, others = segments.choose(tx, values)
    segment["namesake"] = segments.namesake(tx, {**values, **segment})
    usual: Record = {
        "dns_domain": "",
        "port_security_enabled": True,
        "qos_policy_id": qos.default_of(tx, values["project_id"]),
        "provisioning": tx.limits.provisioning.value,
        "gateway": tx.limits.gateway.value,
    }
    if segment["network_type"] == "flat" and not values["external"]:
        usual["provisioning"] = Provisioning.EVERYWHERE.value  # there from the start
    made = {**usual, "is_default": False, **values, **segment, "router_id": None}
    record = new_record(tx, made)
    if "provisioning" in values:
        _require_a_router(record)
    _require_one_default(tx, record)
    require_fitting(tx, record, others)
    qos.require_usable(tx, caller, usual["qos_policy_id"], record["qos_policy_id"])
    tx.connection.execute(insert(networks), record)
    follow_columns(tx, "network", {}, record)
    segments.add(tx, record["id"], others)
    network_changed(tx, record["id"])
    told = {"bridge": segments.bridge_of(record), "segments": segments.shown(record, others)}
    return {**record, **_NEW, **told}


def update_(tx: Transaction, caller: Caller, network_id: str, values: Record) -> Record:
    """Change a network; its segments stay, for frames of its instances are on the wire.

    Raises:
        Invalid: Provisioning or gateway mode of an external network, or an MTU above a trunk's.
        Conflict: It would become external or tenant's while it has subnets or ports, or no
            longer be shared while others use it, or its gateway mode would change under
            instances, or a subnet is exhausted.
    """
    record = fetch_own(tx, caller, COLLECTION, network_id)
    changed = {**values, **touched(tx, record)}
    after = {**record, **changed}
    _require_placeable({"external": after["external"], **values})
    if differs(record, after, PLACED):
        _require_a_router(after)
    _require_one_default(tx, after)
    qos.require_usable(tx, caller, record["qos_policy_id"], after["qos_policy_id"])
    if after["mtu"] != record["mtu"]:
        require_fitting(tx, after, segments.further(tx, [network_id])[network_id])
    if after["external"] != record["external"]:
        require_empty(tx, record)
        segments.require_inside(after)
        if record["network_type"] == "flat" and not after["external"]:
            segments.require_flat_free(tx, record["physical_network"])
        changed["namesake"] = segments.namesake(tx, after)
    if after["gateway"] != record["gateway"]:
        _require_unplugged(tx, record)
        _require_no_router(tx, record, after)
        ipv6.require_none(
            tx, network_id, f"trunkline:gateway of network {network_id} cannot change"
        )
        claim_domains(tx)
    follow_columns(tx, "network", record, after)
    if differs(record, after, PLACED):
        with gateways.resettled(tx, network_id):
            _store(tx, record, changed)
    else:
        _store(tx, record, changed)
    if differs(record, after, SHOWN):
        network_changed(tx, network_id)
    return after


def _store(tx: Transaction, record: Record, changed: Record) -> None:
    tx.connection.execute(update(networks).where(networks.c.id == record["id"]), changed)
    if changed.get("gateway", record["gateway"]) != record["gateway"]:
        gateways.drop_all(tx, record["id"])
        domains.settle(tx, record["id"])
        if placement.is_placed(tx, record["router_id"]):
            placement.require_per_host(tx, record["id"])
        gateways.ensure_everywhere(tx, record["id"])


def delete_(tx: Transaction, caller: Caller, network_id: str) -> None:
    """Delete a network with its subnets and whatever gateway addresses hosts hold on it.

    Raises:
        Conflict: Ports of instances, or of floating IPs, are on it.
    """
    record = fetch_own(tx, caller, COLLECTION, network_id)
    mine = ports.c.network_id == network_id
    in_use = exists().where(mine, ports.c.device_owner != GATEWAY_OWNER)
    if tx.connection.scalar(select(or_(in_use, _is_gateway(record)))):
        raise Conflict(
            f"Unable to complete operation on network {network_id}. There are one or more ports"
            " still in use on the network, or routers that have it as their gateway; delete them"
            " first.",
            "NetworkInUse",
        )
    if record["subnets"]:
        claim_prefixes(tx, record)
    with gateways.resettled(tx, network_id):
        tx.connection.execute(delete(ports).where(mine))
        tx.connection.execute(delete(subnets).where(subnets.c.network_id == network_id))
        tx.connection.execute(delete(networks).where(networks.c.id == network_id))


def _is_gateway(record: Record) -> ColumnElement[bool]:
    """Return the condition that a router has this external network as its gateway."""
    return exists().where(routers.c.external_network_id == record["id"])


def _require_placeable(values: Record) -> None:
    """Raise Invalid if an external network would get what only bridges on hosts have."""
    given = sorted(values.keys() & {"provisioning", "gateway"})
    if values["external"] and given:
        raise Invalid(
            f"Invalid input for trunkline:{given[0]}. Reason: the network is external"
            " (router:external) and has no bridge on any host; leave it out.",
            "InvalidInput",
        )


def _require_a_router(record: Record) -> None:
    """Raise Invalid if a network would be where its router is, and that is upstream."""
    if (record["provisioning"], record["gateway"]) == (Provisioning.ROUTER, GatewayMode.UPSTREAM):
        raise Invalid(
            "Invalid input for trunkline:provisioning. Reason: with trunkline:gateway upstream the"
            " network is on no router of this cloud, so no other network leads it anywhere; use"
            " on_demand or everywhere.",
            "InvalidInput",
        )


def default_external(tx: Transaction) -> str | None:
    """Return the external network that floating IPs are of if nobody says otherwise."""
    found: str | None = tx.connection.scalar(select(networks.c.id).where(networks.c.is_default))
    return found


def _require_one_default(tx: Transaction, record: Record) -> None:
    """Raise if a network is the default of external networks and may not be."""
    if not record["is_default"]:
        return
    if not record["external"]:
        raise Invalid(
            "Invalid input for is_default. Reason: only an external network (router:external) can"
            " be the default one, that floating IPs are taken from.",
            "InvalidInput",
        )
    other = default_external(tx)
    if other not in (None, record["id"]):
        raise Conflict(
            f"A default external network already exists: {other} (is_default); set it to false"
            " there first.",
            "DefaultExternalNetworkExists",
        )


def _require_unplugged(tx: Transaction, record: Record) -> None:
    hosts = sorted(plugged(tx, record["id"]))
    if hosts:
        raise Conflict(
            f"trunkline:gateway of network {record['id']} cannot change while instances are plugged"
            f" in on {len(hosts)} host(s), {hosts[0]} for one: their leases name the gateway that"
            " they have. Unbind or delete their ports first.",
            "NetworkInUse",
        )


def _require_no_router(tx: Transaction, record: Record, after: Record) -> None:
    """Raise Conflict if a network would get an upstream router beside one of this cloud."""
    router_id = domains.own_router(tx, record["id"])
    if after["gateway"] == GatewayMode.UPSTREAM and router_id is not None:
        raise Conflict(
            f"trunkline:gateway of network {record['id']} cannot be upstream: router {router_id}"
            " has an interface there; remove that first.",
            "NetworkInUse",
        )


def require_empty(tx: Transaction, record: Record) -> None:
    """Raise Conflict unless a network may become external, or cease to be."""
    on_it = exists().where(ports.c.network_id == record["id"])
    if record["subnets"] or tx.connection.scalar(select(or_(on_it, _is_gateway(record)))):
        raise Conflict(
            f"router:external of network {record['id']} cannot change while it has subnets or"
            " ports; delete them first.",
            "NetworkInUse",
        )
