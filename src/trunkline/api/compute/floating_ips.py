"""``/os-floating-ips``, their pools, and ranges of addresses that an administrator adds.

A pool is an external network with addresses, under its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from trunkline.api import convert as c
from trunkline.api.attributes import Attribute, Default, Table
from trunkline.api.body import unwrap
from trunkline.api.compute.call import Call, only
from trunkline.core.allocate import usable
from trunkline.errors import Invalid, NotFound
from trunkline.service.collections import Record
from trunkline.service.networks import default_external

DEFAULT_POOL = "nova"
"""The pool that is made for a range of which none is named: Nova's default_floating_pool."""

TOLD_MAX = 65_536  # addresses in one answer
PREFIX_MAX = 30  # as in Nova: fewer than four addresses are no range

RANGE = Table(
    "floating_ips_bulk_create",
    (
        Attribute("ip_range", c.ipv4_prefix_text, Default.REQUIRED),
        Attribute("pool", c.or_null(c.name), None),
        Attribute("interface", c.or_null(c.name), None),
    ),
)
RANGE_GONE = Table(
    "floating_ips_bulk_delete", (Attribute("ip_range", c.ipv4_prefix_text, Default.REQUIRED),)
)


def listed(call: Call) -> Any:
    """Answer the project's floating IPs."""
    found = sorted(call.own("floatingips"), key=lambda one: IPv4Address(one["ip_address"]))
    pools = _pools(call)
    return {"floating_ips": [_view(call, one, pools) for one in found]}


def shown(call: Call) -> Any:
    """Answer one floating IP."""
    found = call.fetch("floatingips", call.path("id"))
    return {"floating_ip": _view(call, found, _pools(call))}


def create(call: Call) -> Any:
    """Take a floating IP from a pool: the named one, the default one, or the only one."""
    body = call.body if call.body is not None else {}
    if not isinstance(body, dict) or body.keys() - {"pool"}:
        raise Invalid("The body must be an object with at most the field pool.")
    pools = _pools(call)
    made = call.create("floatingips", {"floating_network_id": _pool_id(call, body.get("pool"))})
    return {"floating_ip": _view(call, made, pools)}


def delete(call: Call) -> Any:
    """Give a floating IP back."""
    call.delete("floatingips", call.path("id"))


def pools(call: Call) -> Any:
    """Answer the pools that have addresses."""
    return {"floating_ip_pools": [{"name": name} for name in sorted(_pools(call).values())]}


def ranges(call: Call) -> Any:
    """Answer every address of every pool, and who has it."""
    call.caller.require("get_network_ip_availability")
    names = _pools(call)
    taken = {one["ip_address"]: one for one in call.all("floatingips")}
    told: list[Record] = []
    for subnet in call.all("subnets", ip_version=4):
        if subnet["network_id"] not in names:
            continue
        for address in _addresses(subnet):
            if len(told) == TOLD_MAX:
                raise Invalid(
                    f"There are more than {TOLD_MAX} addresses; GET /v2.0/floatingips tells those"
                    " in use."
                )
            told.append(_told(call, address, names[subnet["network_id"]], taken.get(address)))
    return {"floating_ip_info": told}


def add_range(call: Call) -> Any:
    """Add a range of addresses to a pool, which is made if it does not exist."""
    given = unwrap(call.body, RANGE.singular)
    wish = RANGE.accept(given, call.caller, update=False)
    if wish["interface"] is not None:
        raise Invalid(
            "interface cannot be chosen: each host's agent.toml names its external NIC (uplink);"
            " leave it out."
        )
    cidr, pool = IPv4Network(wish["ip_range"]), wish["pool"] or DEFAULT_POOL
    if cidr.prefixlen > PREFIX_MAX:
        raise Invalid(f"ip_range: {cidr} has fewer than four addresses.")
    found = [n["id"] for n in call.all("networks", external=True, name=pool)]
    first, last = usable(cidr)
    network_id = found[0] if found else _make(call, pool)
    subnet = {
        "network_id": network_id,
        "name": f"{pool} {cidr}",
        "ip_version": 4,
        "cidr": str(cidr),
        "enable_dhcp": False,
        "gateway_ip": None,
        "allocation_pools": [{"start": str(first), "end": str(last)}],
    }
    call.create("subnets", subnet)
    return {RANGE.singular: {"ip_range": str(cidr), "pool": pool, "interface": None}}


def remove_range(call: Call) -> Any:
    """Take a range of addresses out of its pool, which goes with its last one."""
    cidr = RANGE_GONE.accept(call.body, call.caller, update=False)["ip_range"]
    pools = {network["id"]: network for network in call.all("networks", external=True)}
    found = call.all("subnets", cidr=cidr)
    subnet = only([s for s in found if s["network_id"] in pools], f"ip_range {cidr}")
    call.delete("subnets", subnet["id"])
    if pools[subnet["network_id"]]["subnets"] == [subnet["id"]]:
        call.delete("networks", subnet["network_id"])
    return {RANGE_GONE.singular: cidr}


def _make(call: Call, pool: str) -> str:
    made = call.create("networks", {"name": pool, "router:external": True})
    return str(made["id"])


def _pools(call: Call) -> dict[str, str]:
    """Return the names of the pools that the caller may take from, by network id."""
    external = call.all("networks", external=True)
    return {network["id"]: network["name"] for network in external if network["subnets"]}


def _pool_id(call: Call, wanted: Any) -> str:
    """Return the id of the network that a pool is.

    Raises:
        NotFound: There is no such pool, or none at all.
        Invalid: Several have the name, or there are several and none is the default.
    """
    known = _pools(call)
    if wanted is None:
        default = default_external(call.tx)
        if default is not None:
            return default
        rows, what = list(known), "A pool of floating IPs"
    else:
        rows, what = [i for i, n in known.items() if wanted in (i, n)], f"Pool {wanted!s:.80}"
    return str(only([{"id": network_id} for network_id in rows], what)["id"])


def _view(call: Call, found: Record, pools: dict[str, str]) -> Record:
    return {
        "id": found["id"],
        "ip": found["ip_address"],
        "pool": pools.get(found["network_id"]),
        "fixed_ip": found["fixed_ip_address"],
        "instance_id": _instance(call, found),
    }


def _instance(call: Call, found: Record) -> str | None:
    if found["port_id"] is None:
        return None
    try:
        return call.fetch("ports", found["port_id"])["device_id"] or None
    except NotFound:  # an administrator gave it a port of another project
        return None


def _told(call: Call, address: str, pool: str, holder: Record | None) -> Record:
    return {
        "address": address,
        "pool": pool,
        "project_id": holder and holder["project_id"],
        "fixed_ip": holder and holder["fixed_ip_address"],
        "instance_uuid": holder and _instance(call, holder),
        "interface": None,
    }


def _addresses(subnet: Record) -> Iterator[str]:
    for pool in subnet["allocation_pools"]:
        first, last = IPv4Address(pool["start"]), IPv4Address(pool["end"])
        yield from (str(IPv4Address(number)) for number in range(int(first), int(last) + 1))
