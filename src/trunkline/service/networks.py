"""Networks: a VLAN each, given by an administrator or taken from a physical network's range.

A flat one has no VLAN: its frames go without a tag, so a physical network has one at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
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
    not_,
    or_,
    select,
    true,
    union_all,
    update,
)

from trunkline.core.allocate import next_vlan
from trunkline.db.engine import Transaction
from trunkline.db.tables import networks, ports, rbac_policies, routers, subnetpools, subnets
from trunkline.errors import Conflict, Invalid
from trunkline.model import GATEWAY_OWNER, GatewayMode, Provisioning
from trunkline.ownership import bridge_name
from trunkline.service import domains, gateways, ipv6, placement, qos
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
EXTERNAL_NETWORK = "external"  # physical network of external networks that name none


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
    if records:
        ids = {"network_ids": [record["id"] for record in records]}
        for network_id, kind, value in tx.connection.execute(_RELATED, ids):
            found[network_id, kind].append(value)
    for record in records:
        record["subnets"] = sorted(found[record["id"], "subnet"])
        record["borrowers"] = found[record["id"], "borrower"]
        for version in (4, 6):
            scopes = found[record["id"], f"ipv{version}_scope"]
            record[f"ipv{version}_address_scope"] = scopes[0] if scopes else None
        record["status"] = STATUS
        record["bridge"] = bridge_of(record)


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
    """Make a network and give it a segment.

    Raises:
        Invalid: The provider attributes contradict each other, or it would be the default of
            external networks without being one.
        Conflict: The VLAN is taken, or all ranges are; or there is a default network already.
    """
    _require_placeable(values)
    segment = _segment(tx, values)
    segment["namesake"] = _namesake(tx, {**values, **segment})
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
    require_fitting(tx, record)
    qos.require_usable(tx, caller, usual["qos_policy_id"], record["qos_policy_id"])
    tx.connection.execute(insert(networks), record)
    follow_columns(tx, "network", {}, record)
    network_changed(tx, record["id"])
    return {**record, **_NEW, "bridge": bridge_of(record)}


def update_(tx: Transaction, caller: Caller, network_id: str, values: Record) -> Record:
    """Change a network; its segment stays, for frames of its instances are on the wire.

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
        require_fitting(tx, after)
    if after["external"] != record["external"]:
        require_empty(tx, record)
        if record["network_type"] == "flat" and not after["external"]:
            _require_flat_free(tx, record["physical_network"])
        changed["namesake"] = _namesake(tx, after)
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


def _segment(tx: Transaction, values: Record) -> Record:
    """Return the provider columns of a new network."""
    vlan_id = values.get("segmentation_id")
    network_type = values.get("network_type") or (
        "flat" if values["external"] and vlan_id is None else "vlan"
    )
    ranges = tx.limits.vlan_ranges
    physical = values.get("physical_network")
    if network_type == "flat":
        return _flat_segment(tx, values)
    _require_known(tx, physical)
    if vlan_id is not None:
        return _given_segment(tx, physical or next(iter(ranges), ""), vlan_id)
    for candidate in [physical] if physical else ranges:
        taken = taken_vlans(tx, candidate)
        vlan_id = next_vlan(ranges.get(candidate, ()), taken)
        if vlan_id is not None:
            return _vlan(candidate, vlan_id)
    raise Conflict(
        "Unable to create the network. No VLAN of the ranges for"
        f" {physical or 'any physical network'} is free; widen vlan_ranges in the server's"
        " configuration, or delete a network.",
        "NoNetworkAvailable",
    )


def _require_known(tx: Transaction, physical: str | None) -> None:
    """Raise Invalid if the configuration has physical networks, and not this one."""
    ranges = tx.limits.vlan_ranges
    if ranges and physical and physical not in ranges:
        raise Invalid(
            f"Invalid input for provider:physical_network. Reason: {physical!r} is not one of"
            f" {', '.join(ranges)}, which the server's configuration has under vlan_ranges.",
            "InvalidInput",
        )


def _require_named(physical: str) -> None:
    if not physical:
        raise Invalid(
            "Invalid input for provider:physical_network. Reason: it must be given, as the"
            " server's configuration names none in vlan_ranges.",
            "InvalidInput",
        )


def _flat_segment(tx: Transaction, values: Record) -> Record:
    vlan_id, physical = values.get("segmentation_id"), values.get("physical_network")
    if vlan_id is not None:
        raise Invalid(
            f"Invalid input for provider:segmentation_id. Reason: a flat network has no VLAN, and"
            f" {vlan_id} is one; leave it out, or use provider:network_type vlan.",
            "InvalidInput",
        )
    if values["external"]:
        physical = physical or EXTERNAL_NETWORK
    else:
        _require_known(tx, physical)
        physical = physical or next(iter(tx.limits.vlan_ranges), "")
        _require_named(physical)
        _require_flat_free(tx, physical)
    return {"network_type": "flat", "physical_network": physical, "segmentation_id": None}


def _require_flat_free(tx: Transaction, physical: str) -> None:
    """Raise Conflict if a physical network has its one network without a tag already."""
    other = tx.connection.scalar(
        select(networks.c.id).where(
            networks.c.physical_network == physical,
            networks.c.network_type == "flat",
            not_(networks.c.external),
        )
    )
    if other is not None:
        raise Conflict(
            f"Unable to create the flat network. Physical network {physical} is in use by network"
            f" {other}, whose frames have no tag either; give one of them a VLAN, or choose another"
            " provider:physical_network.",
            "FlatNetworkInUse",
        )


def _given_segment(tx: Transaction, physical: str, vlan_id: int) -> Record:
    _require_named(physical)
    if vlan_id in taken_vlans(tx, physical):
        raise Conflict(
            f"Unable to create the network. The VLAN {vlan_id} (provider:segmentation_id) on"
            f" physical network {physical} is in use.",
            "VlanIdInUse",
        )
    return _vlan(physical, vlan_id)


def _vlan(physical: str, vlan_id: int) -> Record:
    return {
        "network_type": "vlan",
        "physical_network": physical,
        "segmentation_id": vlan_id,
    }


def _namesake(tx: Transaction, network: Record) -> int:
    """Return the first number that none of the tenants' networks with this VLAN id has.

    Two physical networks may have one VLAN id each on the same host, and links go by that.
    """
    vlan_id = network["segmentation_id"]
    if vlan_id is None or network["external"]:
        return 0
    others = select(networks.c.namesake).where(
        networks.c.segmentation_id == vlan_id, not_(networks.c.external)
    )
    taken = set(tx.connection.execute(others).scalars())
    return next(number for number in count() if number not in taken)


def bridge_of(network: Record) -> str | None:
    """Return what a tenants' network's bridge is called on every host that serves it."""
    if network["external"]:
        return None
    columns = ("segmentation_id", "physical_network", "namesake")
    return bridge_name(*(network[column] for column in columns))


def taken_vlans(tx: Transaction, physical: str) -> set[int]:
    """Return the VLAN ids that networks have on a physical network."""
    found = select(networks.c.segmentation_id).where(networks.c.physical_network == physical)
    return set(tx.connection.execute(found).scalars())
