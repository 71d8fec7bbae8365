"""What the identity shows: tokens, the catalog, credentials, assignments, in Keystone's shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.service.identity.tokens import Named, Token

REGION = "RegionOne"
INTERFACES = ("public", "internal", "admin")


def catalog(root: str) -> list[dict[str, Any]]:
    """Return the services at a server's root URL."""
    return [
        _service("network", "neutron", root),
        _service("compute", "nova", f"{root}/compute/v2.1"),
        _service("identity", "keystone", f"{root}/identity/v3"),
    ]


def token(found: Token, root: str, *, with_catalog: bool) -> dict[str, Any]:
    """Return a token's body, without the token itself."""
    body: dict[str, Any] = {
        "methods": list(found.methods),
        "user": {**named(found.user), "password_expires_at": None},
        "audit_ids": list(found.audit_ids),
        "issued_at": moment(found.issued_at),
        "expires_at": moment(found.expires_at),
    }
    if found.project is not None:
        body |= {
            "project": named(found.project),
            "is_domain": False,
            "roles": roles(found.roles),
        }
        if with_catalog:
            body["catalog"] = catalog(root)
    if found.credential is not None:
        body["application_credential"] = {
            "id": found.credential.id,
            "name": found.credential.name,
            "restricted": not found.credential.unrestricted,
        }
    return {"token": body}


def credential(record: Mapping[str, Any], base: str) -> dict[str, Any]:
    """Return an application credential, without its secret."""
    shown = ("id", "name", "description", "project_id", "user_id", "unrestricted")
    return {
        **{key: record[key] for key in shown},
        "roles": roles(record["roles"]),
        "expires_at": record["expires_at"] and moment(record["expires_at"]),
        "links": {"self": f"{base}/{record['id']}"},
    }


def assignment(row: Mapping[str, Any], root: str, *, names: bool) -> dict[str, Any]:
    """Return a role assignment."""
    body: dict[str, Any] = {}
    for kind in ("role", "user", "project"):
        body[kind] = {"id": row[f"{kind}_id"]}
        if names:
            body[kind]["name"] = row[f"{kind}_name"]
        if names and kind != "role":
            domain = {"id": row[f"{kind}_domain_id"], "name": row[f"{kind}_domain_name"]}
            body[kind]["domain"] = domain
    path = f"projects/{row['project_id']}/users/{row['user_id']}/roles/{row['role_id']}"
    body["scope"] = {"project": body.pop("project")}
    return {**body, "links": {"assignment": f"{root}/identity/v3/{path}"}}


def collection(plural: str, records: Sequence[Any], url: str) -> dict[str, Any]:
    """Return a list's body."""
    return {plural: records, "links": {"self": url, "next": None, "previous": None}}


def named(thing: Named) -> dict[str, Any]:
    """Return a user or project with its domain."""
    domain = {"id": thing.domain_id, "name": thing.domain_name}
    return {"id": thing.id, "name": thing.name, "domain": domain}


def roles(pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Return roles by id and name."""
    return [{"id": role_id, "name": name} for role_id, name in pairs]


def moment(kept: str) -> str:
    """Return a time with the microseconds that Keystone's clients are used to."""
    return kept.removesuffix("Z") + ".000000Z"


def _service(kind: str, name: str, url: str) -> dict[str, Any]:
    endpoints = [
        {
            "id": f"{name}-{interface}",
            "interface": interface,
            "region": REGION,
            "region_id": REGION,
            "url": url,
        }
        for interface in INTERFACES
    ]
    return {"id": name, "type": kind, "name": name, "endpoints": endpoints}
