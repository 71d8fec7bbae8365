"""Ports: an interface of an instance, its addresses, its groups, and the host it is bound to.

Binding a port makes its host serve the port's network, with everything that this needs; the
last port that leaves ends it. Ports that Trunkline makes for itself (gateways, floating IPs) are
ports too, because their addresses must be nobody else's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from ipaddress import ip_address
from secrets import randbits
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, exists, insert, not_, or_, select, update

from trunkline.core.allocate import mac_address
from trunkline.db.engine import Transaction
from trunkline.db.tables import (
    fixed_ips,
    floating_ips,
    hosts,
    networks,
    port_bindings,
    port_groups,
    ports,
    subnets,
)
from trunkline.errors import Conflict, Forbidden, Invalid, NotFound
from trunkline.model import (
    FLOATING_OWNER,
    GATEWAY_OWNER,
    ROUTER_INTERFACE_OWNER,
    GatewayMode,
    HostName,
    PortStatus,
    VifType,
    by_family,
)
from trunkline.service import address_pairs, addresses, forwarding, gateways, nova, qos
from trunkline.service.caller import Caller
from trunkline.service.collections import (
    Collection,
    Record,
    fetch,
    fetch_own,
    is_visible,
    new_record,
    own,
    touched,
)
from trunkline.service.concern import differs, membership_changed, names_changed
from trunkline.service.networks import COLLECTION as NETWORKS
from trunkline.service.provisioning import (
    instance_ports,
    is_instance_owner,
    linked,
    placed,
    serving,
)
from trunkline.service.security_groups import GROUPS, default_group
from trunkline.service.segments import bridge_of

GUESSES = 4  # MACs tried per look-up; two of 2^24 rarely meet

SERVICE_PORTS = frozenset({GATEWAY_OWNER, FLOATING_OWNER, ROUTER_INTERFACE_OWNER})
"""``device_owner`` of the ports that Trunkline makes for itself."""

SHOWN = frozenset(
    {
        "mac_address",
        "admin_state_up",
        "dns_name",
        "port_security_enabled",
        "device_id",
        "device_owner",
        "extra_dhcp_opts",
        "qos_policy_id",
    }
)
"""Columns that a host's snapshot shows, besides binding, addresses and groups."""

ADDRESSES = ("fixed_ips", "allowed_address_pairs")
"""What of a port makes up its group's members, and shows in its host's snapshot."""


_NETWORKS = select(
    networks.c.id,
    networks.c.dns_domain,
    networks.c.segmentation_id,
    networks.c.physical_network,
    networks.c.namesake,
    networks.c.external,
).where(networks.c.id.in_(bindparam("network_ids", expanding=True)))


def _complete(tx: Transaction, records: list[Record]) -> None:
    """Add each port's addresses, groups and address pairs, and its network's DNS domain."""
    fixed: dict[str, list[Record]] = defaultdict(list)
    groups: dict[str, list[str]] = defaultdict(list)
    pairs: dict[str, list[Record]] = {}
    for chunk in _chunks([record["id"] for record in records]):
        found = select(fixed_ips).where(fixed_ips.c.port_id.in_(chunk))
        for subnet_id, address, port_id in tx.connection.execute(found):
            fixed[port_id].append({"subnet_id": subnet_id, "ip_address": address})
        member = select(port_groups.c.port_id, port_groups.c.security_group_id).where(
            port_groups.c.port_id.in_(chunk)
        )
        for port_id, group_id in tx.connection.execute(member):
            groups[port_id].append(group_id)
        pairs |= address_pairs.of_ports(tx, chunk)
    told = _told_of_networks(tx, {record["network_id"] for record in records})
    for record in records:
        record["fixed_ips"] = sorted(fixed[record["id"]], key=_by_address)
        record["security_groups"] = sorted(groups[record["id"]])
        record["allowed_address_pairs"] = pairs.get(record["id"], [])
        record.update(told[record["network_id"]])


def _told_of_networks(tx: Transaction, network_ids: set[str]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for chunk in _chunks(sorted(network_ids)):
        rows = tx.connection.execute(_NETWORKS, {"network_ids": chunk}).mappings()
        found |= {row["id"]: _told_of_network(tx, dict(row)) for row in rows}
    return found


def _told_of_network(tx: Transaction, network: Record) -> Record:
    """Return what its ports tell of a network: its DNS domain, and its bridge if Nova needs it."""
    bridge = bridge_of(network)
    return {
        "network_dns_domain": network["dns_domain"],
        "plugged_into": bridge if tx.limits.vif is VifType.BRIDGE else None,
    }


UNBOUND = {"vif_type": "unbound", "vif_details": {}}
"""How a port is plugged in that is on no host."""


def vif(port: Record) -> Record:
    """Return how Nova plugs a bound port in: ``vif_type`` and ``vif_details``."""
    bridge = port["plugged_into"]
    details = {"port_filter": True, "connectivity": "l2"}
    if bridge is None:
        return {"vif_type": VifType.TAP.value, "vif_details": details}
    return {"vif_type": VifType.BRIDGE.value, "vif_details": {**details, "bridge_name": bridge}}


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[i : i + addresses.CHUNK] for i in range(0, len(ids), addresses.CHUNK)]


def _by_address(row: Record) -> tuple[int, Any]:
    return by_family(ip_address(row["ip_address"]))


def _with_fixed_ip(values: Sequence[Any]) -> ColumnElement[bool]:
    """Match ``fixed_ips=ip_address=…`` and ``fixed_ips=subnet_id=…``: kinds AND, values OR.

    ``fixed_ips=ip_address_substr=…`` matches a part of the address.
    """
    wanted: dict[str, list[ColumnElement[bool]]] = defaultdict(list)
    for value in values:
        name, _, text = str(value).partition("=")
        if name == "ip_address_substr":
            condition = fixed_ips.c.ip_address.contains(text, autoescape=True)
        elif name in ("ip_address", "subnet_id"):
            condition = fixed_ips.c[name] == _spelled(text)
        else:
            raise Invalid(
                "fixed_ips: filter by ip_address=ADDRESS, ip_address_substr=PART or subnet_id=ID.",
                "HTTPBadRequest",
            )
        wanted[name].append(condition)
    conditions = [or_(*alternatives) for alternatives in wanted.values()]
    return ports.c.id.in_(select(fixed_ips.c.port_id).where(*conditions))


def _spelled(text: str) -> str:
    """Return an address as the table has it, and any other text as it is."""
    try:
        return str(ip_address(text))
    except ValueError:
        return text


def _with_group(values: Sequence[Any]) -> ColumnElement[bool]:
    member = port_groups.c.security_group_id.in_(values)
    return ports.c.id.in_(select(port_groups.c.port_id).where(member))


COLLECTION = Collection(
    "port",
    "Port",
    ports,
    own(ports),
    _complete,
    {"fixed_ips": _with_fixed_ip, "security_groups": _with_group},
)

_ADD, _ADD_GROUPS = insert(ports), insert(port_groups)
_NETWORK_OF_SUBNET = select(subnets.c.network_id).where(subnets.c.id == bindparam("subnet_id"))
_MACS = select(ports.c.mac_address).where(
    ports.c.mac_address.in_(bindparam("guesses", expanding=True))
)


def create(tx: Transaction, caller: Caller, values: Record) -> Record:
    """Make a port with addresses, a MAC and groups, given or chosen.

    ``values`` may have ``fixed_ips`` (absent: one is chosen), ``mac_address`` (absent: made) and
    ``security_groups`` (absent: the project's default group).

    Raises:
        Invalid, Conflict, NotFound, Forbidden: What it names does not fit, is taken or missing.
    """
    network = fetch(tx, caller, NETWORKS, values["network_id"])
    _require_permitted(caller, "create", network, values)
    values.setdefault("port_security_enabled", bool(network["port_security_enabled"]))
    if values["device_owner"] == ROUTER_INTERFACE_OWNER:
        raise Invalid(
            f"Invalid input for device_owner. Reason: {ROUTER_INTERFACE_OWNER} marks what"
            " add_router_interface of a router makes; leave it empty, and add the port to a router"
            " by its port_id.",
            "InvalidInput",
        )
    if values["device_owner"] == GATEWAY_OWNER:
        return _create_gateway(tx, network, values)
    require_bindable(network, values["host"])
    require_open(tx, values["host"])
    wanted = values.pop("fixed_ips", None)
    groups = _groups(tx, caller, values, values.pop("security_groups", None))
    values["mac_address"] = _mac(tx, network["id"], values.pop("mac_address", None))
    qos.require_usable(tx, caller, None, values["qos_policy_id"])
    wanted_pairs = values.pop("allowed_address_pairs", ())
    record = new_record(tx, {**values, "status": PortStatus.DOWN.value})
    available = addresses.subnets_of(tx, network["id"])
    _require_subnets(tx, caller, available, wanted or ())
    _require_not_upstream(network, available, wanted or ())
    fixed = _addresses(tx, available, values, wanted)
    pairs = address_pairs.checked(caller, network, values, wanted_pairs)
    tx.connection.execute(_ADD, record)
    addresses.store(tx, record["id"], fixed)
    _store_groups(tx, record, groups)
    address_pairs.store(tx, record["id"], pairs)
    membership_changed(tx, groups)
    names_changed(tx, record)
    arrived(tx, record)
    related = {
        "security_groups": groups,
        "allowed_address_pairs": pairs,
        **_told_of_network(tx, network),
    }
    return {**record, **related, "fixed_ips": sorted(fixed, key=_by_address)}


def _addresses(
    tx: Transaction, available: Sequence[Record], port: Record, wanted: Sequence[Record] | None
) -> list[Record]:
    """Return the addresses of a new port: wanted or chosen, and those made of its MAC."""
    if wanted is None:
        chosen = addresses.choose_any(tx, available, port["device_owner"])
    else:
        rest = addresses.without_automatic(available, wanted, port["mac_address"])
        chosen = addresses.resolve(tx, available, rest)
    return [*chosen, *addresses.automatic(tx, available, port)]


def update_(tx: Transaction, caller: Caller, port_id: str, values: Record) -> Record:
    """Change a port; binding it to another host moves it there, DOWN until that host reports.

    Raises:
        Invalid, Conflict, NotFound, Forbidden: As in ``create``.
    """
    record = fetch_own(tx, caller, COLLECTION, port_id)
    network = fetch(tx, caller, NETWORKS, record["network_id"])
    _require_permitted(caller, "update", network, values)
    available = addresses.subnets_of(tx, network["id"])
    _require_subnets(tx, caller, available, values.get("fixed_ips") or ())
    _require_not_upstream(network, available, values.get("fixed_ips") or ())
    _require_changeable(tx, record, values)
    if record["device_owner"] != GATEWAY_OWNER:
        require_bindable(network, str(values.get("host", record["host"])))
    if values.get("host", record["host"]) != record["host"]:
        require_open(tx, values["host"])
    after = dict(record)
    wanted_ips = values.pop("fixed_ips", None)
    after["fixed_ips"] = _change_addresses(tx, available, record, {**record, **values}, wanted_ips)
    after["security_groups"] = _change_groups(
        tx, caller, {**record, **values}, values.pop("security_groups", None)
    )
    had = record["qos_policy_id"]
    qos.require_usable(tx, caller, had, values.get("qos_policy_id", had))
    wanted_pairs = values.pop("allowed_address_pairs", None)
    after["allowed_address_pairs"] = _change_pairs(
        tx, caller, network, {**record, **values}, wanted_pairs
    )
    if "mac_address" in values and values["mac_address"] != record["mac_address"]:
        _mac(tx, network["id"], values["mac_address"])
    if values.get("host", record["host"]) != record["host"]:
        values["status"] = PortStatus.DOWN.value
    changed = {**values, **touched(tx, record)}
    tx.connection.execute(update(ports).where(ports.c.id == port_id), changed)
    after |= changed
    _replace_groups(tx, record, after)
    _moved(tx, record, after)
    _tell_nova(tx, record, after)
    return after


def delete_(tx: Transaction, caller: Caller, port_id: str) -> None:
    """Delete a port; floating IPs on it are disassociated, and port forwardings to it go.

    Raises:
        Conflict: It holds a floating IP's address, or a gateway address that instances use.
    """
    record = fetch_own(tx, caller, COLLECTION, port_id)
    _require_deletable(tx, record)
    tx.connection.execute(
        update(floating_ips)
        .where(floating_ips.c.port_id == port_id)
        .values(
            port_id=None,
            fixed_ip_address=None,
            status="DOWN",
            updated_at=tx.now,
            revision_number=floating_ips.c.revision_number + 1,
        )
    )
    forwarding.keep(tx, port_id, ())
    membership_changed(tx, record["security_groups"])
    nova.tell(tx, nova.DELETED, record)
    bound_to = [record["host"], *standby_hosts(tx, port_id)]
    tx.connection.execute(delete(ports).where(ports.c.id == port_id))
    names_changed(tx, record)
    for host in bound_to:
        left(tx, {**record, "host": host})


def _tell_nova(tx: Transaction, before: Record, after: Record) -> None:
    """Tell Nova of a port that was unplugged, or has other addresses now."""
    if before["status"] == PortStatus.ACTIVE and after["status"] == PortStatus.DOWN:
        nova.tell(tx, nova.UNPLUGGED, before)
    if differs(before, after, ("fixed_ips", "mac_address")):
        nova.tell(tx, nova.CHANGED, after)


def _create_gateway(tx: Transaction, network: Record, values: Record) -> Record:
    """Make a host's gateway port before its first instance comes, to choose the addresses."""
    host, network_id, mode = values["host"], network["id"], network["gateway"]
    if not host:
        raise Invalid(
            f"Invalid input for binding:host_id. Reason: a port with device_owner {GATEWAY_OWNER}"
            " holds one host's address, so the host must be given.",
            "InvalidInput",
        )
    require_bindable(network, host)
    if network["gateway"] == GatewayMode.ANYCAST:
        raise Conflict(
            f"trunkline:gateway of network {network_id} is anycast: all hosts have its subnets'"
            " gateway_ip, so no host has an address of its own there.",
            "PortInUse",
        )
    mine = exists().where(
        ports.c.network_id == network_id,
        ports.c.host == host,
        ports.c.device_owner == GATEWAY_OWNER,
    )
    if tx.connection.scalar(select(mine)):
        raise Conflict(
            f"Host {host} has a gateway port on network {network_id} already: change its fixed_ips"
            " instead.",
            "PortInUse",
        )
    every = addresses.subnets_of(tx, network_id)
    _require_not_upstream(network, every, values.get("fixed_ips") or ())
    available = [s for s in every if gateways.needed(s, mode)]
    wanted = values.get("fixed_ips")
    fixed = (
        addresses.resolve(tx, available, wanted)
        if wanted
        else [gateways.choose(tx, subnet, HostName(host), mode) for subnet in available]
    )
    named = {"name": values["name"], "description": values["description"]}
    record = new_record(tx, {**gateways.port_columns(network_id, host), **named})
    tx.connection.execute(insert(ports), record)
    addresses.store(tx, record["id"], fixed)
    related: Record = {
        "security_groups": [],
        "allowed_address_pairs": [],
        **_told_of_network(tx, network),
    }
    return {**record, **related, "fixed_ips": sorted(fixed, key=_by_address)}


def _require_permitted(caller: Caller, verb: str, network: Record, values: Record) -> None:
    """Raise Forbidden for what the policy leaves to those who run the cloud."""
    owner = values.get("device_owner", "")
    if not is_instance_owner(owner) and not caller.may(f"{verb}_port:infrastructure"):
        raise Forbidden(
            f"device_owner {owner} is for administrators: it marks ports of the network itself.",
            "PolicyNotAuthorized",
        )
    mine = caller.is_admin or network["project_id"] == caller.project_id
    if not mine and not values.get("port_security_enabled", True):
        raise Forbidden(
            f"port_security_enabled: network {network['id']} is lent to project"
            f" {caller.project_id}; only its owner or an administrator makes ports on it that may"
            " use any address.",
            "PolicyNotAuthorized",
        )
    if network["external"] and not caller.may(f"{verb}_port:on_external_network"):
        raise Forbidden(
            f"Network {network['id']} is external: instances reach it by floating IPs, only an"
            " administrator makes ports on it.",
            "PolicyNotAuthorized",
        )


def _require_subnets(
    tx: Transaction, caller: Caller, available: Sequence[Record], wanted: Sequence[Record]
) -> None:
    """Raise NotFound if a wish names a subnet that the caller does not see anywhere."""
    mine = {subnet["id"] for subnet in available}
    for subnet_id in {want["subnet_id"] for want in wanted if "subnet_id" in want} - mine:
        network_id = tx.connection.scalar(_NETWORK_OF_SUBNET, {"subnet_id": subnet_id})
        if network_id is None or not is_visible(tx, caller, NETWORKS, network_id):
            raise NotFound(f"Subnet {subnet_id} could not be found (fixed_ips).", "SubnetNotFound")


def _require_not_upstream(
    network: Record, available: Sequence[Record], wanted: Sequence[Record]
) -> None:
    """Raise Conflict if a port would take the address of a router that is not ours."""
    if network["gateway"] != GatewayMode.UPSTREAM:
        return
    routers = {subnet["gateway_ip"] for subnet in available} - {None}
    for want in wanted:
        if want.get("ip_address") in routers:
            raise Conflict(
                f"Unable to complete operation: IP address {want['ip_address']} (fixed_ips) is the"
                f" upstream router's of network {network['id']} (trunkline:gateway upstream).",
                "IpAddressAlreadyAllocated",
            )


def require_bindable(network: Record, host: str) -> None:
    """Raise Invalid if a network has no bridge on any host."""
    if host and network["external"]:
        raise Invalid(
            f"Invalid input for binding:host_id. Reason: network {network['id']} is external and"
            " has no bridge on any host; plug instances into tenant networks.",
            "InvalidInput",
        )


def require_open(tx: Transaction, host: str) -> None:
    """Raise Conflict if an administrator lets a host take no more ports."""
    closed = select(hosts.c.id).where(hosts.c.host == host, not_(hosts.c.admin_state_up))
    agent_id = tx.connection.scalar(closed)
    if agent_id is not None:
        raise Conflict(
            f"Host {host} (binding:host_id) takes no more ports: admin_state_up of its agent"
            f" {agent_id} is false. Choose another host.",
            "HostNotCompatibleWithPort",
        )


def _require_changeable(tx: Transaction, record: Record, values: Record) -> None:
    """Raise if a change would break what another object relies on."""
    owner = record["device_owner"]
    becomes = values.get("device_owner", owner)
    if owner != becomes and SERVICE_PORTS & {owner, becomes}:
        raise Invalid(
            f"Invalid input for device_owner. Reason: a port does not become or cease to be"
            f" {becomes if becomes in SERVICE_PORTS else owner}; make another port.",
            "InvalidInput",
        )
    if owner in SERVICE_PORTS:
        refused = sorted(values.keys() - {"name", "description"} - _movable(record))
        if refused:
            raise Conflict(
                f"Port {record['id']} is {owner}: its {', '.join(refused)} cannot be changed.",
                "ServicePortInUse",
            )
    if "fixed_ips" in values:
        _require_no_floating(tx, record, values["fixed_ips"])


def _movable(record: Record) -> set[str]:
    """Return ``fixed_ips`` if a service port may get other addresses than the subnet's gateway."""
    of_subnet = record["device_owner"] == ROUTER_INTERFACE_OWNER or (
        record["device_owner"] == GATEWAY_OWNER and not record["host"]
    )
    return set() if of_subnet else {"fixed_ips"}


def _require_no_floating(tx: Transaction, record: Record, wanted: Sequence[Record]) -> None:
    """Raise Conflict if an address that goes away carries or is a floating IP."""
    kept = {want.get("ip_address") for want in wanted}
    carried = select(floating_ips.c.fixed_ip_address, floating_ips.c.ip_address).where(
        (floating_ips.c.port_id == record["id"])
        | (floating_ips.c.reserving_port_id == record["id"])
    )
    for fixed, floating in tx.connection.execute(carried):
        if (fixed or floating) not in kept:
            raise Conflict(
                f"fixed_ips of port {record['id']} must keep {fixed or floating}, on which the"
                f" floating IP {floating} depends; disassociate or delete that first.",
                "PortInUse",
            )


def _require_deletable(tx: Transaction, record: Record) -> None:
    if record["device_owner"] == FLOATING_OWNER:
        raise Conflict(
            f"Port {record['id']} cannot be deleted directly via the port API: it holds the address"
            f" of floating IP {record['device_id']}; delete that.",
            "ServicePortInUse",
        )
    if record["device_owner"] == ROUTER_INTERFACE_OWNER:
        raise Conflict(
            f"Port {record['id']} cannot be deleted directly via the port API: has device owner"
            f" {ROUTER_INTERFACE_OWNER}. Remove it from router {record['device_id']}"
            " (remove_router_interface).",
            "ServicePortInUse",
        )
    if record["device_owner"] == GATEWAY_OWNER and _is_serving(tx, record):
        where = f"host {record['host']}" if record["host"] else "every host"
        raise Conflict(
            f"Port {record['id']} cannot be deleted: it is the gateway of network"
            f" {record['network_id']} on {where}, and goes when the network does.",
            "ServicePortInUse",
        )


def _is_serving(tx: Transaction, record: Record) -> bool:
    return not record["host"] or record["host"] in serving(tx, record["network_id"])


def _mac(tx: Transaction, network_id: str, given: str | None) -> str:
    """Return the given MAC if the network has it nowhere, or a made one that no port has."""
    if given is not None:
        same = exists().where(ports.c.network_id == network_id, ports.c.mac_address == given)
        if tx.connection.scalar(select(same)):
            raise Conflict(
                f"Unable to complete operation for network {network_id}. The mac address {given}"
                " (mac_address) is in use.",
                "MacAddressInUse",
            )
        return given
    while True:
        guesses = [mac_address(randbits(24)) for _ in range(GUESSES)]
        taken = set(tx.connection.execute(_MACS, {"guesses": guesses}).scalars())
        free = next((mac for mac in guesses if mac not in taken), None)
        if free is not None:
            return free


def _groups(
    tx: Transaction, caller: Caller, port: Record, wanted: Sequence[str] | None
) -> list[str]:
    """Return the ids of a port's groups, sorted: the wanted ones, or the default group."""
    if not port["port_security_enabled"]:
        if wanted:
            raise Invalid(
                "Port Security must be enabled (port_security_enabled) for a port with"
                " security_groups.",
                "PortSecurityAndIPRequiredForSecurityGroups",
            )
        return []
    if wanted is None:
        instance = is_instance_owner(port["device_owner"])
        return [default_group(tx, port["project_id"])] if instance else []
    for group_id in wanted:
        fetch(tx, caller, GROUPS, group_id)
    return sorted(set(wanted))


def _change_groups(
    tx: Transaction, caller: Caller, port: Record, wanted: Sequence[str] | None
) -> list[str]:
    held: list[str] = port["security_groups"]
    if wanted is None:
        if held and not port["port_security_enabled"]:
            raise Conflict(
                "Port has security group associated. Cannot disable port security"
                " (port_security_enabled) until security_groups are removed: send none.",
                "PortSecurityPortHasSecurityGroup",
            )
        wanted = held
    if port["port_security_enabled"] and set(wanted) == set(held):
        return held
    return _groups(tx, caller, port, wanted)


def _store_groups(tx: Transaction, port: Record, groups: Sequence[str]) -> None:
    rows = [{"port_id": port["id"], "host": port["host"], "security_group_id": g} for g in groups]
    if rows:
        tx.connection.execute(_ADD_GROUPS, rows)


def _replace_groups(tx: Transaction, before: Record, after: Record) -> None:
    held, wanted = set(before["security_groups"]), set(after["security_groups"])
    if held - wanted:
        tx.connection.execute(
            delete(port_groups).where(
                port_groups.c.port_id == after["id"],
                port_groups.c.security_group_id.in_(sorted(held - wanted)),
            )
        )
    _store_groups(tx, after, sorted(wanted - held))


def _change_addresses(
    tx: Transaction,
    available: Sequence[Record],
    before: Record,
    after: Record,
    wanted: Sequence[Record] | None,
) -> list[Record]:
    """Give a port the wanted addresses, and those that its MAC makes; None: those it has."""
    held: list[Record] = before["fixed_ips"]
    if wanted is None and before["mac_address"] == after["mac_address"]:
        return held
    fixed = held if wanted is None else wanted
    if before["device_owner"] not in SERVICE_PORTS:
        macs = after["mac_address"], before["mac_address"]
        fixed = addresses.without_automatic(available, fixed, *macs)
    fixed = addresses.resolve(tx, available, fixed, held)
    if before["device_owner"] not in SERVICE_PORTS:
        fixed += addresses.automatic(tx, available, after, held)
    addresses.replace(tx, before["id"], held, fixed)
    return sorted(fixed, key=_by_address)


def _change_pairs(
    tx: Transaction,
    caller: Caller,
    network: Record,
    port: Record,
    wanted: Sequence[Record] | None,
) -> list[Record]:
    held: list[Record] = port["allowed_address_pairs"]
    if wanted is None:
        address_pairs.require_secured(port, held)
        return held
    pairs = address_pairs.checked(caller, network, port, wanted)
    if pairs != held:
        address_pairs.replace(tx, port["id"], pairs)
    return pairs


def _moved(tx: Transaction, before: Record, after: Record) -> None:
    """Move the hosts that see a port's change, and let them begin or end to serve its network."""
    groups_before, groups_after = set(before["security_groups"]), set(after["security_groups"])
    readdressed = any(before[key] != after[key] for key in ADDRESSES)
    if readdressed:
        membership_changed(tx, groups_before | groups_after)
    else:
        membership_changed(tx, groups_before ^ groups_after)
    rebound = before["host"] != after["host"]
    if rebound or differs(before, after, ("fixed_ips", "dns_name", "device_owner")):
        names_changed(tx, before)
        names_changed(tx, after)
    shown = differs(before, after, SHOWN)
    if not (rebound or shown or readdressed or groups_before != groups_after):
        return
    if before["fixed_ips"] != after["fixed_ips"]:
        forwarding.keep(tx, after["id"], [fixed["ip_address"] for fixed in after["fixed_ips"]])
    if rebound:
        _no_standby(tx, after)
        forwarding.settle(tx, forwarding.by_port(tx, after["id"]))
    tx.moved |= standby_hosts(tx, after["id"])
    if rebound or before["device_owner"] != after["device_owner"]:
        left(tx, before)
    arrived(tx, after)


def _no_standby(tx: Transaction, record: Record) -> None:
    """End the second binding to a host that is the port's own now."""
    tx.connection.execute(
        delete(port_bindings).where(
            port_bindings.c.port_id == record["id"], port_bindings.c.host == record["host"]
        )
    )


def standby_hosts(tx: Transaction, port_id: str) -> set[HostName]:
    """Return the hosts that a port is bound to besides the one where it is active."""
    return set(tx.connection.execute(_STANDBY_HOSTS, {"of_port": port_id}).scalars())


def arrived(tx: Transaction, record: Record) -> None:
    """Let the host of a binding serve what it needs for the port, and move it."""
    if not record["host"]:
        return
    tx.moved |= {HostName(record["host"]), *placed(tx, record["network_id"])}
    if is_instance_owner(record["device_owner"]):
        network_id, host = record["network_id"], HostName(record["host"])
        if _has_instance(tx, network_id, host, besides=record["id"]):
            gateways.ensure(tx, network_id, host)
        else:
            gateways.settle(tx, host, linked(tx, network_id))


def left(tx: Transaction, record: Record) -> None:
    """Let the host of a binding that has ended give up what nothing there needs, and move it."""
    if not record["host"]:
        return
    tx.moved |= {HostName(record["host"]), *placed(tx, record["network_id"])}
    if is_instance_owner(record["device_owner"]):
        network_id, host = record["network_id"], HostName(record["host"])
        if not _has_instance(tx, network_id, host, besides=record["id"]):
            gateways.settle(tx, host, linked(tx, network_id))


_STANDBY_HOSTS = select(port_bindings.c.host).where(port_bindings.c.port_id == bindparam("of_port"))
_OTHERS = select(ports.c.id).where(
    ports.c.network_id == bindparam("of_network"), ports.c.id != bindparam("besides")
)
_INSTANCES_THERE = (
    _OTHERS.where(ports.c.host == bindparam("of_host"), instance_ports())
    .union_all(
        _OTHERS.join(port_bindings, port_bindings.c.port_id == ports.c.id).where(
            port_bindings.c.host == bindparam("of_host")
        )
    )
    .limit(1)
)


def _has_instance(tx: Transaction, network_id: str, host: HostName, *, besides: str) -> bool:
    """Return whether an instance on a host has another port of a network."""
    where = {"of_network": network_id, "of_host": host, "besides": besides}
    return tx.connection.scalar(_INSTANCES_THERE, where) is not None
