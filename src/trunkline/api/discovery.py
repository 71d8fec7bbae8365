"""What clients ask first: versions, and which extensions there are. Open to everybody."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api.address import root
from trunkline.api.resources import RESOURCES
from trunkline.errors import NotFound

UPDATED = "2026-11-24T00:00:00-00:00"

EXTENSIONS = {
    "address-scope": "Address scope",
    "agent": "agent",
    "allowed-address-pairs": "Allowed Address Pairs",
    "auto-allocated-topology": "Auto Allocated Topology Services",
    "availability_zone": "Availability Zone",
    "availability_zone_filter": "Availability Zone Filter Extension",
    "binding": "Port Binding",
    "binding-extended": "Port Bindings Extended",
    "default-subnetpools": "Default Subnetpools",
    "dns-integration": "DNS Integration",
    "empty-string-filtering": "Empty String Filtering Extension",
    "ext-gw-mode": "Neutron L3 Configurable external gateway mode",
    "external-net": "Neutron external network",
    "expose-port-forwarding-in-fip": "Expose Floating IP port forwardings",
    "extraroute": "Neutron Extra Route",
    "extraroute-atomic": "Atomically add/remove extra routes",
    "extra_dhcp_opt": "Neutron Extra DHCP options",
    "filter-validation": "Filter parameters validation",
    "floating-ip-port-forwarding": "Floating IP Port Forwarding",
    "floating-ip-port-forwarding-description": "Floating IP Port Forwarding new attribute"
    " description",
    "floating-ip-port-forwarding-detail": "Floating IP port forwarding detail",
    "ip-substring-filtering": "IP address substring filtering",
    "multi-provider": "Multi Provider Network",
    "net-mtu": "Network MTU",
    "net-mtu-writable": "Network MTU (writable)",
    "network-ip-availability": "Network IP Availability",
    "pagination": "Pagination support",
    "port-security": "Port Security",
    "port-security-groups-filtering": "Port filtering on security groups",
    "project-id": "project_id field enabled",
    "provider": "Provider Network",
    "qos": "Quality of Service",
    "qos-bw-limit-direction": "Direction for QoS bandwidth limit rule",
    "qos-default": "QoS default policy",
    "qos-fip": "Floating IP QoS",
    "qos-rule-type-details": "Details of QoS rule types",
    "quota-check-limit": "Quota engine limit check",
    "quota-check-limit-default": "Quota engine limit check by default",
    "quota_details": "Quota details management support",
    "quotas": "Quota management support",
    "rbac-address-scope": "Add address_scope type to RBAC",
    "rbac-policies": "RBAC Policies",
    "rbac-security-groups": "Add security_group type to network RBAC",
    "rbac-subnetpool": "Add subnetpool type to RBAC",
    "revision-if-match": "If-Match constraints based on revision_number",
    "router": "Neutron L3 Router",
    "security-group": "security-group",
    "security-groups-shared-filtering": "Security group filtering on the shared field",
    "sorting": "Sorting support",
    "standard-attr-description": "standard-attr-description",
    "standard-attr-revisions": "Resource revision numbers",
    "standard-attr-tag": "Tag support for resources with standard attribute: "
    + ", ".join(r.table.singular for r in RESOURCES.values() if "tags" in r.table.by_name),
    "standard-attr-timestamp": "Resource timestamps",
    "subnet-service-types": "Subnet service types",
    "subnet_allocation": "Subnet Allocation",
    "tag-creation": "Tag creation extension",
    "tag-ports-during-bulk-creation": "Tag Ports During Bulk Creation",
    "trunkline": "Trunkline's own: provisioning, gateway mode, network ranges, audit",
}
"""Neutron's names by alias: what works here, and nothing else."""


def routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/", versions),
        Route("/v2.0", version),
        Route("/v2.0/", version),
        Route("/v2.0/extensions", extensions),
        Route("/v2.0/extensions.json", extensions),
        Route("/v2.0/extensions/{alias}", extension),
    ]


async def versions(request: Request) -> Response:
    """Answer the versions that this endpoint speaks."""
    return JSONResponse({"versions": [_version(request)]})


async def version(request: Request) -> Response:
    """Answer the version, and its resources."""
    resources = [
        {
            "name": resource.table.singular,
            "collection": resource.plural,
            "links": [{"rel": "self", "href": f"{root(request)}/v2.0/{path}"}],
        }
        for path, resource in RESOURCES.items()
    ]
    return JSONResponse({"version": _version(request), "resources": resources})


async def extensions(_request: Request) -> Response:
    """Answer all extensions."""
    return JSONResponse({"extensions": [_extension(alias) for alias in EXTENSIONS]})


async def extension(request: Request) -> Response:
    """Answer one extension."""
    alias = request.path_params["alias"].removesuffix(".json")
    if alias not in EXTENSIONS:
        raise NotFound(f"Extension with alias {alias} does not exist.", "ExtensionNotFound")
    return JSONResponse({"extension": _extension(alias)})


def _version(request: Request) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{root(request)}/v2.0/"}]
    return {"id": "v2.0", "status": "CURRENT", "links": links}


def _extension(alias: str) -> dict[str, Any]:
    name = EXTENSIONS[alias]
    return {
        "alias": alias,
        "name": name,
        "description": name,
        "updated": UPDATED,
        "links": [],
    }
