"""``/os-networks``: a network with its one subnet, and whose it is.

A network that an administrator makes for no project waits for one, as VlanManager's did. There is
no host that it could be associated with: each host serves what its instances need.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from trunkline.api import convert as c
from trunkline.api.attributes import Attribute, Default, Table
from trunkline.api.audit import actor
from trunkline.api.body import unwrap
from trunkline.api.compute.call import Call
from trunkline.api.ranges import allocated
from trunkline.core.allocate import Pool, next_vlan, pools_without, usable
from trunkline.db.engine import Transaction
from trunkline.errors import Conflict, Invalid
from trunkline.model import MTU_MAX, MTU_MIN, VLAN_ID_MAX, VLAN_ID_MIN, GatewayMode
from trunkline.service import auto_allocation
from trunkline.service.collections import Record
from trunkline.service.network_ranges import UNOWNED
from trunkline.service.segments import taken_vlans

DNS_SERVERS = 2

_VLAN = c.integer(VLAN_ID_MIN, VLAN_ID_MAX)
NETWORK = Table(
    "network",
    (
        Attribute("label", c.name, Default.REQUIRED),
        Attribute("cidr", c.ipv4_tenant_prefix, Default.REQUIRED),
        Attribute("vlan", c.or_null(_VLAN), None),
        Attribute("vlan_start", c.or_null(_VLAN), None),
        Attribute("gateway", c.or_null(c.ipv4_text), None),
        Attribute("dns1", c.or_null(c.address_text), None),
        Attribute("dns2", c.or_null(c.address_text), None),
        Attribute("mtu", c.or_null(c.integer(MTU_MIN, MTU_MAX)), None),
        Attribute("enable_dhcp", c.boolean, default=True),
        Attribute("fixed_cidr", c.or_null(c.ipv4_tenant_prefix), None),
        Attribute("allowed_start", c.or_null(c.ipv4_text), None),
        Attribute("allowed_end", c.or_null(c.ipv4_text), None),
        Attribute("share_address", c.boolean, default=False),
        Attribute("multi_host", c.boolean, default=True),
        Attribute("project_id", c.or_null(c.project_id), None),
    ),
)

INSTEAD = {
    "bridge": "a network's bridge is called by its VLAN id, such as br100",
    "bridge_interface": "each host's agent.toml says which NIC is its trunk",
    "cidr_v6": "a network is made with an IPv4 prefix",
    "gateway_v6": "a network is made with an IPv4 prefix",
    "dhcp_server": "each host answers from its own address on the network",
    "uuid": "the server chooses a network's id",
    "priority": "instances' first port is the one they were given first",
    "vpn_start": "there are no cloudpipe instances",
    "ipam": "addresses are given out by this server",
}
"""Why what Nova once took is not taken, by attribute."""


def listed(call: Call) -> Any:
    """Answer the tenant networks that the caller sees."""
    return {"networks": [_view(call, n) for n in call.all("networks", external=False)]}


def shown(call: Call) -> Any:
    """Answer one network."""
    return {"network": _view(call, call.fetch("networks", call.path("id")))}


def create(call: Call) -> Any:
    """Make a network and its subnet."""
    given = unwrap(call.body, NETWORK.singular)
    _require_offered(given)
    wish = NETWORK.accept(given, call.caller, update=False)
    if not wish["multi_host"]:
        raise Invalid("multi_host: every host is the gateway of its own instances; leave it out.")
    network = call.create("networks", _network(call.tx, wish), **_owner(call, wish))
    call.create("subnets", _subnet(wish, network["id"]))
    return {"network": _view(call, call.fetch("networks", network["id"]))}


def delete(call: Call) -> Any:
    """Delete a network that no instance is on."""
    call.delete("networks", call.path("id"))


def add(call: Call) -> Any:
    """Give the caller's project a network that waits for one: the named one, or the next."""
    wanted = unwrap(call.body, "id")
    project_id = call.caller.project_id
    if wanted is None:
        call.caller.require("get_auto_allocated_topology")
        allocated(call.tx, actor(call.request, call.caller), project_id)
        return
    network_id = _tenant_network(call, str(wanted))
    call.changed(
        "networks", network_id, lambda: auto_allocation.give(call.tx, network_id, project_id)
    )


def act(call: Call) -> Any:
    """Take a network from its project, so that it waits for another one."""
    match call.body:
        case {"disassociate": None} | {"disassociate_project": None}:
            pass
        case {"associate_host": _} | {"disassociate_host": _}:
            raise Invalid(
                "A network is associated with no host: each host that has an instance on it serves"
                " it. Set trunkline:provisioning to have it on every host."
            )
        case _:
            raise Invalid("The action is none of disassociate, disassociate_project.")
    call.caller.require("create_network_range")  # it becomes as a range's networks are
    network_id = _tenant_network(call, call.path("id"))
    call.changed("networks", network_id, lambda: auto_allocation.take_back(call.tx, network_id))


def _tenant_network(call: Call, network_id: str) -> str:
    """Return the id of a network that a project may have for itself.

    Raises:
        NotFound: There is none that the caller sees.
        Conflict: It is external.
    """
    network = call.fetch("networks", network_id)
    if network["external"]:
        raise Conflict(f"Network {network_id} is external (router:external), and no project's.")
    return network_id


def _require_offered(given: Any) -> None:
    for name in sorted(given.keys() & INSTEAD.keys()) if isinstance(given, dict) else ():
        if given[name] is not None:
            raise Invalid(f"{name} cannot be chosen: {INSTEAD[name]}; leave it out.")


def _network(tx: Transaction, wish: Record) -> Record:
    body: Record = {"name": wish["label"]}
    if wish["mtu"] is not None:
        body["mtu"] = wish["mtu"]
    if wish["share_address"]:
        body["trunkline:gateway"] = GatewayMode.ANYCAST.value
    vlan_id = wish["vlan"] or _free_vlan(tx, wish["vlan_start"])
    if vlan_id is not None:
        body |= {"provider:network_type": "vlan", "provider:segmentation_id": vlan_id}
    if wish["project_id"] is not None:
        body["project_id"] = wish["project_id"]
    return body


def _owner(call: Call, wish: Record) -> Record:
    waits = call.caller.is_admin and wish["project_id"] is None
    return {"project_id": UNOWNED} if waits else {}


def _free_vlan(tx: Transaction, start: int | None) -> int | None:
    """Return the first VLAN id from ``start`` on that no network has."""
    if start is None:
        return None
    taken = taken_vlans(tx, next(iter(tx.limits.vlan_ranges), ""))
    found = next_vlan([(start, VLAN_ID_MAX)], taken)
    if found is None:
        raise Conflict(f"vlan_start {start}: no VLAN id up to {VLAN_ID_MAX} is free any more.")
    return found


def _subnet(wish: Record, network_id: str) -> Record:
    body = {
        "network_id": network_id,
        "name": wish["label"],
        "ip_version": 4,
        "cidr": str(wish["cidr"]),
        "enable_dhcp": wish["enable_dhcp"],
        "dns_nameservers": [wish[key] for key in ("dns1", "dns2") if wish[key] is not None],
    }
    gateway = IPv4Address(wish["gateway"] or usable(wish["cidr"])[0])
    pools = [{"start": str(a), "end": str(b)} for a, b in pools_without(_pool(wish), gateway)]
    return {**body, "gateway_ip": str(gateway), "allocation_pools": pools}


def _pool(wish: Record) -> Pool:
    """Return the first and last address that instances may have."""
    first, last = usable(wish["cidr"])
    if wish["fixed_cidr"] is not None:
        first, last = max(first, wish["fixed_cidr"][0]), min(last, wish["fixed_cidr"][-1])
    start, end = wish["allowed_start"] or first, wish["allowed_end"] or last
    return IPv4Address(start), IPv4Address(end)


def _view(call: Call, network: Record) -> Record:
    """Return a network as Nova shows it; its segment to those who see it in the other API, too."""
    subnets = call.all("subnets", network_id=network["id"], ip_version=4)
    shown = {"id": network["id"], "label": network["name"], **_addresses(subnets)}
    if not call.caller.may_attribute("get_network:provider:segmentation_id"):
        return shown
    return {
        **shown,
        "project_id": network["project_id"] or None,
        "vlan": network["segmentation_id"],
        "bridge": network["bridge"],
        "multi_host": True,
        "host": None,
        "mtu": network["mtu"],
        "enable_dhcp": any(subnet["enable_dhcp"] for subnet in subnets),
        "share_address": network["gateway"] == GatewayMode.ANYCAST,
        "created_at": network["created_at"],
        "updated_at": network["updated_at"],
    }


def _addresses(subnets: list[Record]) -> Record:
    """Return what is told of a network's first subnet, all of it null if there is none."""
    found = min(subnets, key=lambda subnet: (subnet["created_at"], subnet["id"]), default=None)
    names = ("cidr", "netmask", "broadcast", "gateway", "dns1", "dns2")
    if found is None:
        return dict.fromkeys(names)
    cidr = IPv4Network(found["cidr"])
    servers = [*found["dns_nameservers"][:DNS_SERVERS], *[None] * DNS_SERVERS]
    values = (str(cidr), str(cidr.netmask), str(cidr.broadcast_address), found["gateway_ip"])
    return dict(zip(names, (*values, *servers[:DNS_SERVERS]), strict=True))
