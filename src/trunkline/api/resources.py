"""The resources of the Networking API: their attributes, and the functions that serve them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from trunkline.api import convert as c
from trunkline.api.attributes import Attribute, Default, Table
from trunkline.core.allocate import BITS
from trunkline.db.engine import Transaction
from trunkline.model import (
    DNS_DOMAIN,
    MTU_MAX,
    MTU_MIN,
    VLAN_ID_MAX,
    VLAN_ID_MIN,
    AddressMode,
    GatewayMode,
    Provisioning,
    host_label,
)
from trunkline.service import (
    address_scopes,
    audit,
    automatic,
    availability,
    floating_ips,
    hosts,
    networks,
    ports,
    probes,
    qos,
    rbac,
    reservations,
    routers,
    security_groups,
    sharing,
    subnetpools,
    subnets,
    traces,
)
from trunkline.service.caller import Caller
from trunkline.service.collections import Collection, Record

PORT_NUMBER_MAX = 65535
MTU_DEFAULT = 1500
ZONE = "nova"  # the one availability zone, under Neutron's name for it
IP_HEADER_BYTES = 20
TRACE_SIZE = 84  # of a usual ping

Create = Callable[[Transaction, Caller, Record], Record]
Update = Callable[[Transaction, Caller, str, Record], Record]
Delete = Callable[[Transaction, Caller, str], None]
Prepare = Callable[[Transaction, Caller], None]
Finish = Callable[[Record, Caller], Record]


def _as_it_is(record: Record, _caller: Caller) -> Record:
    return record


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource: where it lives and who serves it; None where the API has no such method.

    Attributes:
        plural: The key that wraps a list in a body.
        table: Its attributes.
        collection: How its records are found.
        prepare: Writes that a reading needs first, such as making the default group.
        finish: Adds to a record what follows from it, before it is shown.
        audited: Whether the audit tells of it; no, where an object is a question.
    """

    plural: str
    table: Table
    collection: Collection
    create: Create | None = None
    update: Update | None = None
    delete: Delete | None = None
    prepare: Prepare | None = None
    finish: Finish = _as_it_is
    audited: bool = True

    def view(self, record: Record, caller: Caller, fields: Iterable[str] = ()) -> Record:
        """Return a record as the API shows it to a caller."""
        return self.table.view(self.finish(record, caller), caller, fields)


def _standard() -> tuple[Attribute, ...]:
    """Return the attributes that every resource of a project has."""
    return (
        Attribute("id"),
        Attribute("project_id", c.project_id, Default.OWN_PROJECT),
        Attribute("tenant_id", c.project_id, Default.OWN_PROJECT, field="project_id"),
        Attribute("description", c.text_or_null(255), "", put=True),
        Attribute("revision_number", filter=c.filter_number),
        Attribute("created_at"),
        Attribute("updated_at"),
    )


_TAGS = Attribute("tags", default=(), filter=c.filter_tags)  # set through api.tags

NETWORK = Table(
    "network",
    (
        *_standard(),
        Attribute("name", c.name, "", put=True),
        Attribute("admin_state_up", c.boolean, default=True, put=True, filter=c.boolean),
        Attribute(
            "mtu", c.integer(MTU_MIN, MTU_MAX), MTU_DEFAULT, put=True, filter=c.filter_number
        ),
        Attribute("shared", c.boolean, default=False, put=True, filter=c.boolean),
        Attribute(
            "router:external",
            c.boolean,
            default=False,
            field="external",
            put=True,
            filter=c.boolean,
        ),
        Attribute(
            "provider:network_type",
            c.or_null(c.one_of("vlan", "flat")),
            field="network_type",
        ),
        Attribute("provider:physical_network", c.or_null(c.host), field="physical_network"),
        Attribute(
            "provider:segmentation_id",
            c.or_null(c.integer(VLAN_ID_MIN, VLAN_ID_MAX)),
            field="segmentation_id",
            filter=c.filter_number,
        ),
        Attribute("segments", c.list_of(c.segment), filter=None),
        Attribute(
            "trunkline:provisioning", c.one_of(*Provisioning), field="provisioning", put=True
        ),
        Attribute("trunkline:gateway", c.one_of(*GatewayMode), field="gateway", put=True),
        Attribute("trunkline:bridge", field="bridge", filter=None),
        Attribute("is_default", c.boolean, default=False, put=True, filter=c.boolean),
        Attribute("dns_domain", c.dns_domain, "", put=True),
        Attribute("port_security_enabled", c.boolean, default=True, put=True, filter=c.boolean),
        Attribute("qos_policy_id", c.or_null(c.uuid), put=True),
        Attribute("status"),
        Attribute("subnets"),
        Attribute("availability_zone_hints", always=[], filter=None),
        Attribute("availability_zones", always=[], filter=None),
        Attribute("ipv4_address_scope", filter=None),
        Attribute("ipv6_address_scope", filter=None),
        _TAGS,
    ),
)

_PREFIXLEN = c.integer(0, BITS[6])
_ADDRESS_MODE = c.or_null(c.one_of(*AddressMode))

SUBNET = Table(
    "subnet",
    (
        *_standard(),
        Attribute("network_id", c.uuid, Default.REQUIRED),
        Attribute("name", c.name, "", put=True),
        Attribute("ip_version", c.ip_version, Default.REQUIRED, filter=c.filter_number),
        Attribute("cidr", c.or_null(c.tenant_prefix), filter=c.prefix_text),
        Attribute("prefixlen", c.or_null(_PREFIXLEN), shown=False, filter=None),
        Attribute("subnetpool_id", c.or_null(c.uuid), None),
        Attribute("use_default_subnetpool", c.boolean, default=False, shown=False, filter=None),
        Attribute("gateway_ip", c.or_null(c.address), put=True),
        Attribute("allocation_pools", c.list_of(c.pool), put=True, filter=None),
        Attribute("enable_dhcp", c.boolean, default=True, put=True, filter=c.boolean),
        Attribute(
            "dns_nameservers", c.or_empty(c.unique(c.address_text)), (), put=True, filter=None
        ),
        Attribute("host_routes", c.or_empty(c.unique(c.host_route)), (), put=True, filter=None),
        Attribute("ipv6_ra_mode", _ADDRESS_MODE, None),
        Attribute("ipv6_address_mode", _ADDRESS_MODE, None),
        Attribute("service_types", c.list_of(c.service_type), (), put=True, filter=None),
        _TAGS,
    ),
)

RESERVED_ADDRESS = Table(
    "reserved_address",
    (
        *_standard(),
        Attribute("subnet_id", c.uuid, Default.REQUIRED),
        Attribute("ip_address", c.address_text, Default.REQUIRED),
    ),
)

SUBNETPOOL = Table(
    "subnetpool",
    (
        *_standard(),
        Attribute("name", c.text_of_some(255), Default.REQUIRED, put=True),
        Attribute("prefixes", c.list_of(c.tenant_prefix), Default.REQUIRED, put=True, filter=None),
        Attribute("ip_version", filter=c.filter_number),
        Attribute("default_prefixlen", _PREFIXLEN, put=True, filter=c.filter_number),
        Attribute("min_prefixlen", _PREFIXLEN, put=True, filter=c.filter_number),
        Attribute("max_prefixlen", _PREFIXLEN, put=True, filter=c.filter_number),
        Attribute(
            "default_quota",
            c.or_null(c.integer(0, 2 ** BITS[4])),
            None,
            put=True,
            filter=c.filter_number,
        ),
        Attribute("is_default", c.boolean, default=False, put=True, filter=c.boolean),
        Attribute("shared", c.boolean, default=False, filter=c.boolean),
        Attribute("address_scope_id", c.or_null(c.uuid), None, put=True),
        _TAGS,
    ),
)

ADDRESS_SCOPE = Table(
    "address_scope",
    (
        Attribute("id"),
        Attribute("project_id", c.project_id, Default.OWN_PROJECT),
        Attribute("tenant_id", c.project_id, Default.OWN_PROJECT, field="project_id"),
        Attribute("name", c.name, Default.REQUIRED, put=True),
        Attribute("ip_version", c.scope_version, Default.REQUIRED, filter=c.filter_number),
        Attribute("shared", c.boolean, default=False, put=True, filter=c.boolean),
    ),
)

PORT = Table(
    "port",
    (
        *_standard(),
        Attribute("network_id", c.uuid, Default.REQUIRED),
        Attribute("name", c.name, "", put=True),
        Attribute("mac_address", c.mac, put=True),
        Attribute("fixed_ips", c.fixed_ips, put=True),
        Attribute("security_groups", c.unique(c.uuid), put=True),
        Attribute("admin_state_up", c.boolean, default=True, put=True, filter=c.boolean),
        Attribute("port_security_enabled", c.boolean, put=True, filter=c.boolean),
        Attribute("status"),
        Attribute("device_id", c.text_or_null(255), "", put=True),
        Attribute("device_owner", c.text_or_null(255), "", put=True),
        Attribute("dns_name", c.dns_label, "", put=True),
        Attribute("dns_assignment", filter=None),
        Attribute("qos_policy_id", c.or_null(c.uuid), None, put=True),
        Attribute(  # with a user's token Nova asks for the ports on a host, at a resize's end
            "binding:host_id", c.host, "", field="host", put=True, filter_unseen=True
        ),
        Attribute(
            "binding:vnic_type",
            c.one_of("normal"),
            "normal",
            field="vnic_type",
            put=True,
        ),
        Attribute(
            "binding:profile",
            c.profile,
            default={},
            field="profile",
            put=True,
            filter=None,
        ),
        Attribute("binding:vif_type", field="vif_type", filter=None),
        Attribute("binding:vif_details", field="vif_details", filter=None),
        Attribute("allowed_address_pairs", c.address_pairs, (), put=True, filter=None),
        Attribute("extra_dhcp_opts", c.dhcp_options, (), put=True, filter=None),
        Attribute("tags", c.tags, default=(), filter=c.filter_tags),
    ),
)

QOS_POLICY = Table(
    "policy",
    (
        *_standard(),
        Attribute("name", c.name, Default.REQUIRED, put=True),
        Attribute("shared", c.boolean, default=False, put=True, filter=c.boolean),
        Attribute("is_default", c.boolean, default=False, put=True, filter=c.boolean),
        Attribute("rules", filter=None),
        _TAGS,
    ),
)

GROUP = Table(
    "security_group",
    (
        *_standard(),
        Attribute("name", c.name, "", put=True),
        Attribute("security_group_rules", field="rules", filter=None),
        Attribute("stateful", c.stateful, always=True, put=True, filter=c.boolean),
        Attribute("shared", filter=c.boolean),
        _TAGS,
    ),
)

_PORT_NUMBER = c.or_null(c.integer(0, PORT_NUMBER_MAX))

RULE = Table(
    "security_group_rule",
    (
        *_standard(),
        Attribute("security_group_id", c.uuid, Default.REQUIRED),
        Attribute("direction", c.one_of("ingress", "egress"), Default.REQUIRED),
        Attribute("ethertype", c.one_of("IPv4", "IPv6"), "IPv4"),
        Attribute("protocol", c.protocol, None),
        Attribute("port_range_min", _PORT_NUMBER, None, filter=c.filter_number),
        Attribute("port_range_max", _PORT_NUMBER, None, filter=c.filter_number),
        Attribute("remote_ip_prefix", c.or_null(c.any_prefix), None),
        Attribute("remote_group_id", c.or_null(c.uuid), None),
        Attribute("remote_address_group_id", always=None, filter=None),
    ),
)

ROUTER = Table(
    "router",
    (
        *_standard(),
        Attribute("name", c.name, "", put=True),
        Attribute("admin_state_up", c.boolean, default=True, put=True, filter=c.boolean),
        Attribute("status"),
        Attribute("external_gateway_info", c.gateway_info, put=True, filter=None),
        Attribute("routes", c.or_empty(c.list_of(c.host_route)), (), put=True, filter=None),
        Attribute("trunkline:hosts", c.hosts, (), field="hosts", put=True, filter=None),
        Attribute("distributed", c.never, put=True, always=False, filter=c.boolean),
        Attribute("ha", c.never, put=True, always=False, filter=c.boolean),
        Attribute("flavor_id", always=None),
        Attribute("availability_zone_hints", c.nothing, always=[], filter=None),
        Attribute("availability_zones", always=[], filter=None),
        _TAGS,
    ),
)

FLOATING_IP = Table(
    "floatingip",
    (
        *_standard(),
        Attribute("floating_network_id", c.or_null(c.uuid), None, field="network_id"),
        Attribute("floating_ip_address", c.or_null(c.ipv4_text), field="ip_address"),
        Attribute("subnet_id", c.or_null(c.uuid), None, shown=False, filter=None),
        Attribute("port_id", c.or_null(c.uuid), None, put=True),
        Attribute("fixed_ip_address", c.or_null(c.ipv4_text), None, put=True),
        Attribute("qos_policy_id", c.or_null(c.uuid), None, put=True),
        Attribute("dns_name", c.no_text, always="", filter=None),
        Attribute("dns_domain", c.no_text, always="", filter=None),
        Attribute(
            "trunkline:auto_assigned", default=False, field="auto_assigned", filter=c.boolean
        ),
        Attribute("router_id"),
        Attribute("status"),
        Attribute("port_forwardings", filter=None),
        _TAGS,
    ),
)

IP_AVAILABILITY = Table(
    "network_ip_availability",
    (
        Attribute("network_id", field="id"),
        Attribute("network_name", field="name"),
        Attribute("project_id"),
        Attribute("tenant_id", field="project_id"),
        Attribute("ip_version", filter=c.filter_number, shown=False),
        Attribute("total_ips", filter=None),
        Attribute("used_ips", filter=None),
        Attribute("subnet_ip_availability", filter=None),
    ),
)

AUDIT_EVENT = Table(
    "audit_event",
    (
        Attribute("id"),
        Attribute("created_at"),
        Attribute("request_id"),
        Attribute("user_id"),
        Attribute("user_name"),
        Attribute("project_id"),
        Attribute("action"),
        Attribute("resource_type"),
        Attribute("resource_id"),
        Attribute("resource_project_id"),
        Attribute("changes", filter=None),
    ),
)

AGENT = Table(
    "agent",
    (
        Attribute("id"),
        Attribute("host"),
        Attribute("binary", always="trunkline-agent"),
        Attribute("agent_type", always="Trunkline agent"),
        Attribute("topic", always="N/A"),
        Attribute("availability_zone", always=ZONE),
        Attribute("admin_state_up", c.boolean, put=True, filter=c.boolean),
        Attribute("alive", filter=c.boolean),
        Attribute("created_at"),
        Attribute("started_at", field="created_at"),
        Attribute("heartbeat_timestamp", field="heartbeat_at"),
        Attribute("description", c.text_or_null(255), put=True),
        Attribute("configurations", filter=None),
    ),
)


RBAC_POLICY = Table(
    "rbac_policy",
    (
        Attribute("id"),
        Attribute("project_id", c.project_id, Default.OWN_PROJECT),
        Attribute("tenant_id", c.project_id, Default.OWN_PROJECT, field="project_id"),
        Attribute("object_type", c.one_of(*rbac.LENDABLE), Default.REQUIRED),
        Attribute("object_id", c.uuid, Default.REQUIRED),
        Attribute("action", c.one_of(sharing.SHARED, sharing.EXTERNAL), Default.REQUIRED),
        Attribute(
            "target_tenant", c.project_id, Default.REQUIRED, field="target_project", put=True
        ),
    ),
)

TRACE = Table(
    "trace",
    (
        *_standard(),
        Attribute("source", c.name, Default.REQUIRED),
        Attribute("destination", c.name, Default.REQUIRED),
        Attribute("protocol", c.protocol, "icmp"),
        Attribute("port", c.or_null(c.integer(1, PORT_NUMBER_MAX)), None, filter=c.filter_number),
        Attribute("source_address", c.or_null(c.address_text), None),
        Attribute("size", c.integer(IP_HEADER_BYTES, MTU_MAX), TRACE_SIZE, filter=c.filter_number),
        Attribute("advise", c.boolean, default=False, shown=False, filter=None),
        Attribute("live", c.boolean, default=False, shown=False, filter=None),
        Attribute("observed", filter=None),
        Attribute("disposition", filter=None),
        Attribute("answer", filter=None),
    ),
)


PROBE = Table(
    "probe",
    (
        *_standard(),
        Attribute("hosts", c.or_null(c.list_of(c.host)), None, filter=None),
        Attribute(
            "vlan_ids",
            c.or_null(c.list_of(c.integer(VLAN_ID_MIN, VLAN_ID_MAX))),
            None,
            shown=False,
            filter=None,
        ),
        Attribute("status", filter=None),
        Attribute("paths", filter=None),
        Attribute("strays", filter=None),
        Attribute("silent_hosts", filter=None),
        Attribute("faults", filter=None),
        Attribute("problems", filter=None),
    ),
)


def _as_seen(record: Record, caller: Caller) -> Record:
    """Return a record, shared if it is lent to the caller's project or to everybody."""
    borrowers = {sharing.EVERYBODY, caller.project_id}.intersection(record["borrowers"])
    return {**record, "shared": record["shared"] or bool(borrowers)}


def _with_rules(record: Record, caller: Caller) -> Record:
    """Return a security group with its rules as the API shows them."""
    return {
        **_as_seen(record, caller),
        "rules": [RULE.view(rule, caller) for rule in record["rules"]],
    }


def _with_binding(record: Record, _caller: Caller) -> Record:
    """Return a port with what follows from its binding."""
    plugged = ports.vif(record) if record["host"] else ports.UNBOUND
    return {
        **record,
        **plugged,
        "dns_assignment": [
            _dns_assignment(record, row["ip_address"]) for row in record["fixed_ips"]
        ],
    }


def _dns_assignment(record: Record, address: str) -> dict[str, str]:
    """Return what DNS says of one address of a port, as long as it lives on a host."""
    label = host_label(record["dns_name"], ip_address(address))
    domain = record["network_dns_domain"].rstrip(".") or DNS_DOMAIN
    return {"hostname": label, "ip_address": address, "fqdn": f"{label}.{domain}."}


RESOURCES = {
    "networks": Resource(
        "networks", NETWORK, networks.COLLECTION, networks.create, networks.update_,
        networks.delete_, finish=_as_seen,
    ),
    "subnets": Resource(
        "subnets", SUBNET, subnets.COLLECTION, subnets.create, subnets.update_, subnets.delete_
    ),
    "subnetpools": Resource(
        "subnetpools", SUBNETPOOL, subnetpools.COLLECTION, subnetpools.create,
        subnetpools.update_, subnetpools.delete_, finish=_as_seen,
    ),
    "address-scopes": Resource(
        "address_scopes", ADDRESS_SCOPE, address_scopes.COLLECTION, address_scopes.create,
        address_scopes.update_, address_scopes.delete_, finish=_as_seen,
    ),
    "ports": Resource(
        "ports", PORT, ports.COLLECTION, automatic.create_port, ports.update_,
        automatic.delete_port,
        finish=_with_binding,
    ),
    "security-groups": Resource(
        "security_groups", GROUP, security_groups.GROUPS, security_groups.create,
        security_groups.update_, security_groups.delete_,
        prepare=security_groups.ensure_default, finish=_with_rules,
    ),
    "security-group-rules": Resource(
        "security_group_rules", RULE, security_groups.RULES, security_groups.create_rule,
        delete=security_groups.delete_rule, prepare=security_groups.ensure_default,
    ),
    "routers": Resource(
        "routers", ROUTER, routers.COLLECTION, routers.create, routers.update_, routers.delete_
    ),
    "floatingips": Resource(
        "floatingips", FLOATING_IP, floating_ips.COLLECTION, floating_ips.create,
        automatic.update_floating_ip, floating_ips.delete_,
    ),
    "reserved-addresses": Resource(
        "reserved_addresses", RESERVED_ADDRESS, reservations.COLLECTION, reservations.create,
        reservations.update_, reservations.delete_,
    ),
    "qos/policies": Resource(
        "policies", QOS_POLICY, qos.POLICIES, qos.create, qos.update_, qos.delete_,
        finish=_as_seen,
    ),
    "rbac-policies": Resource(
        "rbac_policies", RBAC_POLICY, rbac.COLLECTION, rbac.create, rbac.update_, rbac.delete_
    ),
    "network-ip-availabilities": Resource(
        "network_ip_availabilities", IP_AVAILABILITY, availability.COLLECTION
    ),
    "audit-events": Resource("audit_events", AUDIT_EVENT, audit.COLLECTION),
    "agents": Resource(
        "agents", AGENT, hosts.COLLECTION, update=hosts.update_, delete=hosts.delete_
    ),
    "probes": Resource(
        "probes", PROBE, probes.COLLECTION, probes.create, delete=probes.delete_, audited=False
    ),
    "traces": Resource(
        "traces", TRACE, traces.COLLECTION, traces.create, delete=traces.delete_, audited=False
    ),
}  # fmt: skip
"""By the path under ``/v2.0/``."""
