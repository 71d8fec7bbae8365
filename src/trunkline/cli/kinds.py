"""What the object commands offer, as data: a kind of object, its options, its columns.

The API's attributes under names that are short to type. What values are good, the server says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from trunkline.errors import Invalid

NONE = "none"


class Form(Enum):
    """How an option's words become an attribute's value."""

    TEXT = "as it is; 'none' for null"
    SWITCH = "--x or --no-x"
    LIST = "one by one, all that there will be; 'none' for an empty list"
    OBJECT = "the id of an object that is named; 'none' for null"
    OBJECTS = "a list of those"


class On(Enum):
    """Which of the two commands has an option."""

    BOTH = "create and set"
    CREATE = "create"
    SET = "set"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of create and set.

    Attributes:
        flag: Its name, without dashes.
        attribute: What it sets.
        of: The collection in which an object is looked up by name.
        parts: The keys of a list's items, whose values are written with commas between.
        make: Turns what was found into the attribute's value.
        needed: Whether create insists on it.
        lists: Whether list takes it, too, as a filter.
    """

    flag: str
    attribute: str
    help: str
    form: Form = Form.TEXT
    of: str = ""
    parts: tuple[str, ...] = ()
    make: Callable[[Any], Any] = lambda value: value
    on: On = On.BOTH
    needed: bool = False
    lists: bool = False

    @property
    def key(self) -> str:
        """Return its name among the parsed arguments."""
        return self.flag.replace("-", "_")

    def item(self, text: str) -> Any:
        """Return an item of a list."""
        if not self.parts:
            return text
        values = text.split(",")
        if len(values) > len(self.parts):
            raise Invalid(f"--{self.flag} {text}: give {','.join(self.parts).upper()}")
        return dict(zip(self.parts, values, strict=False))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of objects.

    Attributes:
        command: The word after ``trunkline``.
        collection: As in the API's paths.
        noun: What messages call it.
        columns: What a list shows, by the words of its head.
        named_by: The attribute that objects are named by, besides their ids.
        options: Of create and set; without any, there are no such commands.
        implied: What the attributes of a create say of others that it sets.
        name_is: What create does with a name: ``needed``, ``optional`` or ``none``.
    """

    command: str
    collection: str
    noun: str
    columns: dict[str, str]
    named_by: str = "name"
    options: tuple[Option, ...] = ()
    implied: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: {}
    name_is: str = "needed"


_DESCRIPTION = Option("description", "description", "for people")
_PROJECT = Option("project", "project_id", "whose it is: an id; administrators only", on=On.CREATE)
_RENAME = Option("name", "name", "another name", on=On.SET)
_UP = Option("up", "admin_state_up", "whether it carries traffic", Form.SWITCH)
_COMMON = (_RENAME, _DESCRIPTION, _PROJECT)
_NET = Option(
    "net", "network_id", "the network", Form.OBJECT, "networks",
    on=On.CREATE, needed=True, lists=True,
)  # fmt: skip
_PHYSICAL = "provider:physical_network"


def _gateway(network_id: str | None) -> dict[str, str]:
    return {"network_id": network_id} if network_id else {}


NET = Kind(
    "net", "networks", "network",
    {"name": "name", "id": "id", "vlan": "provider:segmentation_id", "status": "status",
     "shared": "shared", "external": "router:external"},
    options=(
        *_COMMON,
        _UP,
        Option("mtu", "mtu", "bytes of the largest packet"),
        Option("shared", "shared", "open to all projects", Form.SWITCH),
        Option("external", "router:external", "floating IPs come from it", Form.SWITCH),
        Option("vlan", "provider:segmentation_id", "its VLAN id", on=On.CREATE),
        Option("physical-network", _PHYSICAL, "the trunk that it is on", on=On.CREATE),
        Option(
            "provisioning", "trunkline:provisioning",
            "on which hosts: on_demand, router, everywhere",
        ),
        Option("gateway", "trunkline:gateway", "whose address: per_host, anycast"),
    ),
)  # fmt: skip


def ip_version(wish: dict[str, Any]) -> dict[str, Any]:
    """Return which IP version a new subnet is of, which its prefix or its mode says.

    Where no mode is given and instances are to be told anything, they get addresses by SLAAC.
    """
    if not (wish.get("ipv6_address_mode") or ":" in str(wish.get("cidr"))):
        return {"ip_version": 4}
    usual = "slaac" if wish.get("enable_dhcp", True) else None
    mode = wish.get("ipv6_address_mode", usual)
    return {"ip_version": 6, "ipv6_ra_mode": mode, "ipv6_address_mode": mode}


SUBNET = Kind(
    "subnet", "subnets", "subnet",
    {"name": "name", "id": "id", "prefix": "cidr", "gateway": "gateway_ip",
     "dhcp": "enable_dhcp", "network": "network_id"},
    options=(
        *_COMMON,
        _NET,
        Option("prefix", "cidr", "such as 10.0.0.0/24 or fd00:0:0:1::/64", on=On.CREATE),
        Option("ipv6", "ipv6_address_mode", "of IPv6, and how instances get their addresses: slaac,"
               " dhcpv6-stateful, dhcpv6-stateless; none: by hand", on=On.CREATE),
        Option("pool", "subnetpool_id", "the pool to cut it from", Form.OBJECT, "subnetpools",
               on=On.CREATE),
        Option("length", "prefixlen", "of a prefix that a pool chooses", on=On.CREATE),
        Option("gateway", "gateway_ip", "its address; none: no gateway"),
        Option("range", "allocation_pools", "addresses to give away: FIRST,LAST", Form.LIST,
               parts=("start", "end")),
        Option("dhcp", "enable_dhcp", "whether instances are told by DHCP", Form.SWITCH),
        Option("dns", "dns_nameservers", "a name server's address", Form.LIST),
        Option("route", "host_routes", "a route for instances: PREFIX,NEXTHOP", Form.LIST,
               parts=("destination", "nexthop")),
    ),
    implied=ip_version,
)  # fmt: skip

PORT = Kind(
    "port", "ports", "port",
    {"name": "name", "id": "id", "mac": "mac_address", "addresses": "fixed_ips",
     "status": "status", "host": "binding:host_id"},
    options=(
        *_COMMON,
        _NET,
        _UP,
        Option("address", "fixed_ips", "a fixed IP", Form.LIST, parts=("ip_address",)),
        Option("mac", "mac_address", "its MAC"),
        Option("secgroup", "security_groups", "a group that judges its packets", Form.OBJECTS,
               "security-groups"),
        Option("port-security", "port_security_enabled", "whether groups and anti-spoofing hold",
               Form.SWITCH),
        Option("allowed", "allowed_address_pairs", "what else it may use: ADDRESS[,MAC]",
               Form.LIST, parts=("ip_address", "mac_address")),
        Option("host", "binding:host_id", "the hypervisor", lists=True),
        Option("device", "device_id", "the instance's id", lists=True),
        Option("owner", "device_owner", "such as compute:nova"),
    ),
    name_is="optional",
)  # fmt: skip

SECGROUP = Kind(
    "secgroup", "security-groups", "security group",
    {"name": "name", "id": "id", "project": "project_id", "description": "description"},
    options=_COMMON,
)  # fmt: skip

ROUTER = Kind(
    "router", "routers", "router",
    {"name": "name", "id": "id", "status": "status", "external": "external_gateway_info"},
    options=(
        *_COMMON,
        _UP,
        Option("external", "external_gateway_info", "the external network; none: nowhere",
               Form.OBJECT, "networks", make=_gateway),
        Option("route", "routes", "an extra route: PREFIX,NEXTHOP", Form.LIST,
               parts=("destination", "nexthop"), on=On.SET),
        Option("host", "trunkline:hosts", "a host that it is placed on, the first is preferred;"
               " none: every host", Form.LIST),
    ),
)  # fmt: skip

FLOATING_IP = Kind(
    "fip", "floatingips", "floating IP",
    {"address": "floating_ip_address", "id": "id", "fixed": "fixed_ip_address",
     "port": "port_id", "status": "status"},
    named_by="floating_ip_address",
    options=(
        _DESCRIPTION,
        _PROJECT,
        Option("net", "floating_network_id", "the external network; default: the default one",
               Form.OBJECT, "networks", on=On.CREATE, lists=True),
        Option("address", "floating_ip_address", "this one", on=On.CREATE),
        Option("port", "port_id", "the port that it leads to", Form.OBJECT, "ports", lists=True),
        Option("fixed", "fixed_ip_address", "which of the port's addresses"),
    ),
    name_is="none",
)  # fmt: skip

POOL = Kind(
    "pool", "subnetpools", "subnet pool",
    {"name": "name", "id": "id", "prefixes": "prefixes", "length": "default_prefixlen",
     "default": "is_default"},
    options=(
        *_COMMON,
        Option("prefix", "prefixes", "what subnets are cut from", Form.LIST, needed=True),
        Option("length", "default_prefixlen", "of a subnet that asks for none"),
        Option("default", "is_default", "whether it is taken where none is named", Form.SWITCH),
        Option("shared", "shared", "open to all projects", Form.SWITCH, on=On.CREATE),
    ),
)  # fmt: skip

HOST = Kind(
    "host", "agents", "host",
    {"host": "host", "id": "id", "alive": "alive", "heard of": "heartbeat_timestamp"},
    named_by="host",
    name_is="none",
)  # fmt: skip

KINDS = (NET, SUBNET, POOL, PORT, SECGROUP, ROUTER, FLOATING_IP, HOST)
