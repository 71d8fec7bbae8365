"""The tables. What may never be true twice or dangle is a constraint here, not a check elsewhere.

Columns carry the names of the Networking API's attributes, without their extension prefix, and
hold addresses as text: a person with a SQL prompt reads what a client reads. Nothing here is
understood by one database only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    func,
    text,
    true,
    type_coerce,
)

from trunkline.model import GATEWAY_OWNER, GatewayMode, Provisioning

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = String(36)
TIME = String(20)  # RFC 3339 in UTC, such as 2026-01-31T12:00:00Z: sorts as text everywhere
ADDRESS = String(39)  # the longest IPv6 address
NAME = String(255)


class TagSet(TypeDecorator[list[str]]):
    """An object's tags: each on a line of its own, sorted, with a line's end before and behind.

    So one tag is found by ``holding`` in any database, and needs no row and no join of its own.
    """

    impl = Text
    cache_ok = True

    @property
    def python_type(self) -> type[list[str]]:
        """Return what the value is in Python."""
        return list

    def process_bind_param(self, value: Iterable[str] | None, dialect: Any) -> str:
        """Return the stored text."""
        del dialect
        return "".join(f"\n{tag}\n" for tag in sorted(set(value or ())))

    def process_result_value(self, value: str | None, dialect: Any) -> list[str]:
        """Return the tags."""
        del dialect
        return (value or "").strip("\n").split("\n\n") if value else []

    @staticmethod
    def holding(column: ColumnElement[Any], tag: str) -> ColumnElement[bool]:
        """Return the condition that a tag is among a column's, in its very spelling.

        ``replace`` because LIKE ignores case in SQLite and minds it in PostgreSQL.
        """
        text = type_coerce(column, Text)
        return func.replace(text, f"\n{tag}\n", "") != text


def _standard() -> list[Column[Any]]:
    """Return the columns that every resource of the API has."""
    return [
        Column("id", ID, primary_key=True),
        Column("project_id", NAME, nullable=False, index=True),
        Column("description", NAME, nullable=False),
        Column("revision_number", Integer, nullable=False),
        Column("created_at", TIME, nullable=False),
        Column("updated_at", TIME, nullable=False),
    ]


def _policed() -> Column[Any]:
    """Return the column by which something has a QoS policy."""
    return Column("qos_policy_id", ID, ForeignKey("qos_policies.id"), nullable=True, index=True)


def _taggable() -> list[Column[Any]]:
    """Return the columns of a resource that users may put tags on."""
    return [*_standard(), Column("tags", TagSet, nullable=False, server_default="")]


hosts = Table(
    "hosts",
    metadata,
    Column("host", NAME, primary_key=True),
    Column("id", ID, nullable=False, unique=True),
    Column("revision", BigInteger, nullable=False),  # moves with whatever its snapshot shows
    Column("created_at", TIME, nullable=False),
    Column("heartbeat_at", TIME, nullable=True),  # null: known as a binding, never heard of
    Column("applied_revision", BigInteger, nullable=True),
    Column("problems", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("admin_state_up", Boolean, nullable=False, server_default=true()),  # takes new ports
    Column("description", NAME, nullable=False, server_default=""),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""``prefixes`` counts their changes. Whoever is about to change the set moves it first,
and thereby waits for others: that two prefixes overlap is no constraint SQL can express."""

routers = Table(
    "routers",
    metadata,
    *_taggable(),
    Column("name", NAME, nullable=False),
    Column("admin_state_up", Boolean, nullable=False),
    Column("is_default", Boolean, nullable=False),  # of one row, which the migration makes
    Column("external_network_id", ID, ForeignKey("networks.id"), nullable=True, index=True),
    Column("enable_snat", Boolean, nullable=False),
    Column("routes", JSON, nullable=False),
    Column("number", Integer, nullable=True),  # where several hosts have it
    Index("uq_routers_number", "number", unique=True),
)

router_hosts = Table(
    "router_hosts",
    metadata,
    Column("router_id", ID, ForeignKey("routers.id", ondelete="CASCADE"), primary_key=True),
    Column("host", NAME, primary_key=True, index=True),
    Column("place", Integer, nullable=False),  # the first of a router's hosts has 0
)
"""The hosts that a placed router is on; one without any is on every host."""

networks = Table(
    "networks",
    metadata,
    *_taggable(),
    Column("name", NAME, nullable=False),
    Column("admin_state_up", Boolean, nullable=False),
    Column("mtu", Integer, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("external", Boolean, nullable=False),
    Column("network_type", String(32), nullable=False),
    Column("physical_network", String(64), nullable=False),
    Column("segmentation_id", Integer, nullable=True),
    Column("namesake", Integer, nullable=False, server_default="0"),
    Column("is_default", Boolean, nullable=False, server_default=false()),  # external network
    Column("router_id", ID, ForeignKey("routers.id", use_alter=True), nullable=True, index=True),
    Column(
        "provisioning",
        String(16),
        nullable=False,
        index=True,
        server_default=Provisioning.ON_DEMAND,
    ),
    Column("gateway", String(16), nullable=False, server_default=GatewayMode.PER_HOST),
    Column("dns_domain", NAME, nullable=False, server_default=""),
    Column("port_security_enabled", Boolean, nullable=False, server_default=true()),  # of new ports
    _policed(),
    UniqueConstraint("physical_network", "segmentation_id"),
)

Index(
    "uq_networks_default",
    networks.c.is_default,
    unique=True,
    sqlite_where=networks.c.is_default,
    postgresql_where=networks.c.is_default,
)

network_segments = Table(
    "network_segments",
    metadata,
    Column("network_id", ID, ForeignKey("networks.id", ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True),  # a network's row has the first, 0
    Column("physical_network", String(64), nullable=False),
    Column("segmentation_id", Integer, nullable=False),
    UniqueConstraint("physical_network", "segmentation_id"),
)
"""The further segments of networks that are on several physical networks."""

_INSIDE = text("NOT external")
Index(
    "uq_networks_namesake",
    networks.c.segmentation_id,
    networks.c.namesake,
    unique=True,
    sqlite_where=_INSIDE,
    postgresql_where=_INSIDE,
)
"""Links are called by VLAN id, and two physical networks may have the same one on a host."""

_FLAT = text("network_type = 'flat' AND NOT external")
Index(
    "uq_networks_flat",
    networks.c.physical_network,
    unique=True,
    sqlite_where=_FLAT,
    postgresql_where=_FLAT,
)
"""One tenant network on a physical network is without a tag; external ones are on no trunk."""

qos_policies = Table(
    "qos_policies",
    metadata,
    *_taggable(),
    Column("name", NAME, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("is_default", Boolean, nullable=False),
)

qos_bandwidth_limit_rules = Table(
    "qos_bandwidth_limit_rules",
    metadata,
    Column("id", ID, primary_key=True),
    Column("qos_policy_id", ID, ForeignKey("qos_policies.id", ondelete="CASCADE"), nullable=False),
    Column("direction", String(8), nullable=False),
    Column("max_kbps", Integer, nullable=False),
    Column("max_burst_kbps", Integer, nullable=False),
    UniqueConstraint("qos_policy_id", "direction"),
)

quotas = Table(
    "quotas",
    metadata,
    Column("project_id", NAME, primary_key=True),
    Column("resource", String(64), primary_key=True),
    Column("hard_limit", Integer, nullable=True),  # null: the server's default
)
"""A row for each resource that a project has ever made one of: who counts them locks it."""

rbac_policies = Table(
    "rbac_policies",
    metadata,
    Column("id", ID, primary_key=True),
    Column("project_id", NAME, nullable=False, index=True),
    Column("object_type", String(32), nullable=False),
    Column("object_id", ID, nullable=False),
    Column("action", String(32), nullable=False),
    Column("target_project", NAME, nullable=False, index=True),  # or *, which is everybody
    *(
        Column(f"{kind}_id", ID, ForeignKey(f"{kinds}.id", ondelete="CASCADE"), nullable=True)
        for kind, kinds in (
            ("network", "networks"),
            ("security_group", "security_groups"),
            ("qos_policy", "qos_policies"),
            ("subnetpool", "subnetpools"),
            ("address_scope", "address_scopes"),
        )
    ),
    UniqueConstraint("object_id", "action", "target_project"),
)
"""Whom an object is lent to: ``object_id`` is also in the one column that refers to its table.
The ``shared`` and ``external`` of objects repeat what is here for everybody."""

auto_allocated_topologies = Table(
    "auto_allocated_topologies",
    metadata,
    Column("project_id", NAME, primary_key=True),
    Column(
        "network_id",
        ID,
        ForeignKey("networks.id", ondelete="CASCADE"),
        nullable=False,
        unique=True,
    ),
    Column("was_unowned", Boolean, nullable=False),  # and will be again
)
"""The network that each project was given when it first needed one."""

address_scopes = Table(
    "address_scopes",
    metadata,
    Column("id", ID, primary_key=True),
    Column("project_id", NAME, nullable=False, index=True),
    Column("name", NAME, nullable=False),
    Column("ip_version", Integer, nullable=False),
    Column("shared", Boolean, nullable=False),
)
"""Within one, no prefixes of pools overlap."""

subnetpools = Table(
    "subnetpools",
    metadata,
    *_taggable(),
    Column("name", NAME, nullable=False),
    Column("prefixes", JSON, nullable=False),
    Column("ip_version", Integer, nullable=False),
    Column("default_prefixlen", Integer, nullable=False),
    Column("min_prefixlen", Integer, nullable=False),
    Column("max_prefixlen", Integer, nullable=False),
    Column("default_quota", BigInteger, nullable=True),  # addresses that one project may take
    Column("is_default", Boolean, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("address_scope_id", ID, ForeignKey("address_scopes.id"), nullable=True, index=True),
)

Index(
    "uq_subnetpools_default",
    subnetpools.c.ip_version,
    unique=True,
    sqlite_where=subnetpools.c.is_default,
    postgresql_where=subnetpools.c.is_default,
)

subnets = Table(
    "subnets",
    metadata,
    *_taggable(),
    Column("network_id", ID, ForeignKey("networks.id"), nullable=False, index=True),
    Column("name", NAME, nullable=False),
    Column("ip_version", Integer, nullable=False),
    Column("cidr", String(43), nullable=False),
    Column("gateway_ip", ADDRESS, nullable=True),
    Column("enable_dhcp", Boolean, nullable=False),
    Column("allocation_pools", JSON, nullable=False),
    Column("dns_nameservers", JSON, nullable=False),
    Column("host_routes", JSON, nullable=False),
    Column("cursor", ADDRESS, nullable=True),  # the address chosen last
    Column("subnetpool_id", ID, ForeignKey("subnetpools.id"), nullable=True, index=True),
    Column("service_types", JSON, nullable=False, server_default="[]"),
    Column("ipv6_ra_mode", String(16), nullable=True),
    Column("ipv6_address_mode", String(16), nullable=True),
)

ports = Table(
    "ports",
    metadata,
    *_taggable(),
    Column("network_id", ID, ForeignKey("networks.id"), nullable=False),
    Column("name", NAME, nullable=False),
    Column("mac_address", String(17), nullable=False, index=True),
    Column("admin_state_up", Boolean, nullable=False),
    Column("status", String(16), nullable=False),
    Column("device_id", NAME, nullable=False, index=True),
    Column("device_owner", NAME, nullable=False),
    Column("dns_name", String(63), nullable=False),
    Column("port_security_enabled", Boolean, nullable=False),
    Column("host", NAME, nullable=False, index=True),  # empty: not bound
    Column("vnic_type", String(64), nullable=False),
    Column("profile", JSON, nullable=False),
    Column("extra_dhcp_opts", JSON, nullable=False, server_default="[]"),
    _policed(),
    UniqueConstraint("network_id", "mac_address"),
    UniqueConstraint("id", "host"),
    Index("ix_ports_network_id_host_device_owner", "network_id", "host", "device_owner"),
)

_is_gateway = ports.c.device_owner == GATEWAY_OWNER
Index(
    "uq_ports_gateway",
    ports.c.network_id,
    ports.c.host,
    unique=True,
    sqlite_where=_is_gateway,
    postgresql_where=_is_gateway,
)

port_bindings = Table(
    "port_bindings",
    metadata,
    Column("port_id", ID, ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    Column("host", NAME, primary_key=True, index=True),
    Column("vnic_type", String(64), nullable=False),
    Column("profile", JSON, nullable=False),
)
"""Where a port is bound and not active: its instance is about to come there, or has just left."""

fixed_ips = Table(
    "fixed_ips",
    metadata,
    Column("subnet_id", ID, ForeignKey("subnets.id"), primary_key=True),
    Column("ip_address", ADDRESS, primary_key=True),
    Column("port_id", ID, ForeignKey("ports.id", ondelete="CASCADE"), nullable=False, index=True),
)

reserved_addresses = Table(
    "reserved_addresses",
    metadata,
    *_standard(),
    Column("subnet_id", ID, ForeignKey("subnets.id", ondelete="CASCADE"), nullable=False),
    Column("ip_address", ADDRESS, nullable=False),
    UniqueConstraint("subnet_id", "ip_address"),
)
"""Addresses that nobody is given. One may be a port's from before, until that port gives it up."""

address_pairs = Table(
    "address_pairs",
    metadata,
    Column("port_id", ID, ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    Column("mac_address", String(17), primary_key=True),
    Column("ip_address", String(43), primary_key=True),  # an address or a prefix
)
"""What a port may use besides its own MAC and addresses."""

security_groups = Table(
    "security_groups",
    metadata,
    *_taggable(),
    Column("name", NAME, nullable=False),
    Column("default_of", NAME, nullable=True, unique=True),  # the project whose default it is
)

security_group_rules = Table(
    "security_group_rules",
    metadata,
    *_standard(),
    Column(
        "security_group_id",
        ID,
        ForeignKey("security_groups.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("direction", String(8), nullable=False),
    Column("ethertype", String(4), nullable=False),
    Column("protocol", String(16), nullable=True),
    Column("port_range_min", Integer, nullable=True),
    Column("port_range_max", Integer, nullable=True),
    Column("remote_ip_prefix", String(43), nullable=True),
    Column(
        "remote_group_id",
        ID,
        ForeignKey("security_groups.id", ondelete="CASCADE"),
        nullable=True,
        index=True,
    ),
    Column("meaning", Text, nullable=False),  # what it matches, spelled in one way only
    UniqueConstraint("security_group_id", "meaning"),
)

port_groups = Table(
    "port_groups",
    metadata,
    Column("port_id", ID, primary_key=True),
    Column("security_group_id", ID, ForeignKey("security_groups.id"), primary_key=True),
    Column("host", NAME, nullable=False, index=True),  # the port's: which hosts, by an index
    ForeignKeyConstraint(
        ["port_id", "host"], ["ports.id", "ports.host"], ondelete="CASCADE", onupdate="CASCADE"
    ),
    Index("ix_port_groups_security_group_id_host", "security_group_id", "host"),
)

floating_ips = Table(
    "floating_ips",
    metadata,
    *_taggable(),
    Column("network_id", ID, ForeignKey("networks.id"), nullable=False, index=True),
    Column("ip_address", ADDRESS, nullable=False),
    Column("reserving_port_id", ID, ForeignKey("ports.id"), nullable=False, unique=True),
    Column("port_id", ID, ForeignKey("ports.id"), nullable=True),
    Column("fixed_ip_address", ADDRESS, nullable=True),
    Column("auto_assigned", Boolean, nullable=False, server_default=false()),
    _policed(),
    Column("status", String(16), nullable=False),
    UniqueConstraint("network_id", "ip_address"),
    UniqueConstraint("port_id", "fixed_ip_address"),
)

port_forwardings = Table(
    "port_forwardings",
    metadata,
    *_standard(),
    Column("floatingip_id", ID, ForeignKey("floating_ips.id", ondelete="CASCADE"), nullable=False),
    Column("protocol", String(8), nullable=False),
    Column("external_port", Integer, nullable=False),
    Column("internal_port_id", ID, ForeignKey("ports.id", ondelete="CASCADE"), nullable=False),
    Column("internal_ip_address", ADDRESS, nullable=False),
    Column("internal_port", Integer, nullable=False),
    Column("place", Integer, nullable=False),  # the oldest of a floating IP's has the lowest
    UniqueConstraint("floatingip_id", "protocol", "external_port"),
    UniqueConstraint(
        "internal_port_id",
        "internal_ip_address",
        "protocol",
        "internal_port",
        name="uq_port_forwardings_internal",
    ),
)
"""Single ports of floating IPs that lead to no port as a whole."""

nova_events = Table(
    "nova_events",
    metadata,
    Column("id", ID, primary_key=True),  # UUIDv7: sorts by time
    Column("created_at", TIME, nullable=False),
    Column("name", String(32), nullable=False),
    Column("server_id", ID, nullable=False),
    Column("port_id", ID, nullable=False),
)
"""What Nova was not told yet."""

traces = Table(
    "traces",
    metadata,
    *_standard(),
    Column("source", NAME, nullable=False),  # as asked
    Column("destination", NAME, nullable=False),
    Column("protocol", String(16), nullable=False),
    Column("port", Integer, nullable=True),
    Column("source_address", ADDRESS, nullable=True),
    Column("size", Integer, nullable=False),
    Column("answer", JSON, nullable=False),  # trunkline.trace.data, as its project may see it
    Column("live", JSON(none_as_null=True), nullable=True),  # what to hold its packets against
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("id", ID, primary_key=True),  # UUIDv7: sorts by time
    Column("created_at", TIME, nullable=False),
    Column("request_id", String(40), nullable=False),
    Column("user_id", NAME, nullable=False),
    Column("user_name", NAME, nullable=False),
    Column("project_id", NAME, nullable=False),  # the user's
    Column("action", String(8), nullable=False),
    Column("resource_type", String(64), nullable=False),
    Column("resource_id", NAME, nullable=False, index=True),
    Column("resource_project_id", NAME, nullable=False),
    Column("changes", JSON, nullable=False),
)
"""Rows are added and, when old, deleted; never changed."""

probes = Table(
    "probes",
    metadata,
    *_standard(),
    Column("kind", String(8), nullable=False, server_default="wire"),  # or trace: a live one
    Column("serial", Integer, nullable=False, unique=True),  # in the order of their making
    Column("nonce", String(32), nullable=False),
    Column("lanes", JSON, nullable=False),  # physical network, VLAN id, sizes, network's id
    Column("ready_by", TIME, nullable=False),  # then those that are there send
    Column("sent_by", TIME, nullable=False),  # then everybody tells
    Column("over_at", TIME, nullable=False),  # then who has not told is silent
)

probe_hosts = Table(
    "probe_hosts",
    metadata,
    Column("probe_id", ID, ForeignKey("probes.id", ondelete="CASCADE"), primary_key=True),
    Column("host", NAME, primary_key=True),
    Column("number", Integer, nullable=False),  # its own in this probe's frames
    Column("order", JSON(none_as_null=True), nullable=True),  # of a live trace
    Column("trunks", JSON, nullable=False),  # NIC by physical network
    Column("serves", JSON, nullable=False),  # numbers of lanes
    Column("stage", String(8), nullable=False),  # asked, ready, sent, done
    Column("report", JSON, nullable=True),
    Index("ix_probe_hosts_host", "host"),
)
"""How far each host is in a probe, and what it heard."""
