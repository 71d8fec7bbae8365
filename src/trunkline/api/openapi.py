"""``/openapi.json``: what the Networking API takes and answers, as OpenAPI 3.1.

Made from the tables that serve the requests, so it cannot say something else than they do.
What a table does not know of a value, the document leaves open. Left out: the agents' side,
which is no interface for others, and the identity, whose description is Keystone's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api.attributes import Attribute, Default, Table
from trunkline.api.bindings import BINDING
from trunkline.api.convert import Typed
from trunkline.api.port_forwardings import PORT_FORWARDING
from trunkline.api.qos import RULE
from trunkline.api.ranges import RANGE
from trunkline.api.resources import RESOURCES, Resource
from trunkline.service.collections import CHANGED_SINCE, TAG_FILTERS

Schema = dict[str, Any]

REFUSALS = {
    400: "malformed, unknown, or in contradiction to something else",
    401: "no token, or one that stands for nobody",
    403: "the policy does not allow it",
    404: "no such object, or none that the caller may know of",
    409: "in use, taken, exhausted, or beyond the quota",
    412: "not of the revision that If-Match demands",
    413: "the body is too large",
    503: "the database did not answer in time",
}
READING = (400, 401, 403, 404, 503)
WRITING = (400, 401, 403, 404, 409, 412, 413, 503)
ROUTER_ACTIONS = {
    "add_router_interface": "interface",
    "remove_router_interface": "interface",
    "add_extraroutes": "routes",
    "remove_extraroutes": "routes",
}
SHOWN: Mapping[str, Schema] = {
    "id": {"type": "string"},
    "status": {"type": "string"},
    "created_at": {"type": "string"},
    "updated_at": {"type": "string"},
    "revision_number": {"type": "integer"},
}
"""What attributes are that nobody sets."""

CONTROLS: Sequence[tuple[str, Schema]] = (
    ("fields", {"type": "array", "items": {"type": "string"}}),
    ("sort_key", {"type": "array", "items": {"type": "string"}}),
    ("sort_dir", {"type": "array", "items": {"enum": ["asc", "desc"]}}),
    ("limit", {"type": "integer", "minimum": 0}),
    ("marker", {"type": "string"}),
    ("page_reverse", {"type": "boolean"}),
)


def routes() -> list[Route]:
    """Return the route, which is open to everybody."""
    return [Route("/openapi.json", _show)]


async def _show(_request: Request) -> Response:
    return JSONResponse(document())


@cache
def document() -> Schema:
    """Return the document."""
    paths: Schema = {}
    for path, resource in RESOURCES.items():
        paths |= _paths_of(path, resource)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Trunkline: the OpenStack Networking API v2.0",
            "version": "v2.0",
            "description": "A token in X-Auth-Token stands for a user and a project. Which"
            " attributes and methods are open to whom is the policy's matter.",
        },
        "security": [{"token": []}],
        "paths": {**paths, **_router_paths(), **_other_paths()},
        "components": {
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}
            },
            "responses": {str(code): _refusal(text) for code, text in REFUSALS.items()},
            "schemas": {"Error": _ERROR, **_schemas()},
        },
    }


_ERROR: Schema = {
    "type": "object",
    "required": ["NeutronError"],
    "properties": {
        "NeutronError": {
            "type": "object",
            "required": ["type", "message", "detail"],
            "properties": {key: {"type": "string"} for key in ("type", "message", "detail")},
        }
    },
}


def _schemas() -> Schema:
    tables = [resource.table for resource in RESOURCES.values()]
    return {table.singular: _shown(table) for table in tables}


def _refusal(text: str) -> Schema:
    return {"description": text, **_json(_ref("Error"))}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


def _object(properties: Schema, *, needed: Sequence[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(needed),
        "additionalProperties": False,
    }


def _shown(table: Table) -> Schema:
    """Return what an object looks like; who may not see an attribute is answered without it."""
    return _object({a.name: _shown_value(a) for a in table.attributes if a.shown})


def _shown_value(attribute: Attribute) -> Schema:
    if attribute.always is not Default.ABSENT:
        return {"const": attribute.always}
    if attribute.convert is None:
        return SHOWN.get(attribute.name, {})
    return dict(_typed(attribute).shown)


def _typed(attribute: Attribute) -> Typed:
    if isinstance(attribute.convert, Typed):
        return attribute.convert
    assert attribute.convert is not None
    return Typed(attribute.convert, {}, {})


def _wish(table: Table, *, update: bool) -> Schema:
    """Return what a body may set."""
    settable = [a for a in table.attributes if a.convert is not None and (a.put or not update)]
    needed = [a.name for a in settable if not update and a.default is Default.REQUIRED]
    return _object({a.name: _typed(a).taken for a in settable}, needed=needed)


def _paths_of(path: str, resource: Resource) -> Schema:
    """Return the paths of a collection, of its objects, and of their tags."""
    table, several = resource.table, f"/v2.0/{path}"
    one = _object({table.singular: _ref(table.singular)}, needed=[table.singular])
    wish = _object({table.singular: _wish(table, update=False)}, needed=[table.singular])
    bulk = {"type": "array", "items": _wish(table, update=False)}
    wishes = {"anyOf": [wish, _object({resource.plural: bulk}, needed=[resource.plural])]}
    made = {"anyOf": [one, _list(resource)]}
    change = _object({table.singular: _wish(table, update=True)}, needed=[table.singular])
    of_all = {"get": _operation("list", path, 200, _list(resource), query=_query(table))}
    of_one = {"get": _operation("show", path, 200, one, query=[_parameter(*CONTROLS[0])])}
    if resource.create is not None:
        of_all["post"] = _operation("create", path, 201, made, body=wishes)
    if resource.update is not None:
        of_one["put"] = _operation("update", path, 200, one, body=change)
    if resource.delete is not None:
        of_one["delete"] = _operation("delete", path, 204, None, writes=True)
    found = {several: of_all, f"{several}/{{id}}": {**_id(), **of_one}}
    if "tags" in table.by_name:
        found |= _tag_paths(path)
    return found


def _list(resource: Resource) -> Schema:
    key, links = resource.plural, f"{resource.plural}_links"
    items = {"type": "array", "items": _ref(resource.table.singular)}
    return _object({key: items, links: {"type": "array"}}, needed=[key])


def _query(table: Table) -> list[Schema]:
    filters = [a.name for a in table.attributes if a.filter is not None]
    filters += [CHANGED_SINCE] if "created_at" in table.by_name else []
    filters += list(TAG_FILTERS) if "tags" in table.by_name else []
    texts: Schema = {"type": "array", "items": {"type": "string"}}
    return [_parameter(name, texts) for name in filters] + [_parameter(*c) for c in CONTROLS]


def _parameter(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "schema": schema}


def _id(name: str = "id") -> Schema:
    found = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    return {"parameters": [found]}


def _operation(  # noqa: PLR0913  an operation has these parts
    verb: str,
    of: str,
    status: int,
    answer: Schema | None,
    *,
    body: Schema | None = None,
    query: Sequence[Schema] = (),
    writes: bool = False,
) -> Schema:
    refusals = WRITING if writes or body is not None else READING
    found: Schema = {
        "operationId": f"{verb}_{of}",
        "tags": [of],
        "parameters": list(query),
        "responses": {
            str(status): {"description": "done", **({} if answer is None else _json(answer))},
            **{str(code): {"$ref": f"#/components/responses/{code}"} for code in refusals},
        },
    }
    if body is not None:
        found["requestBody"] = {"required": True, **_json(body)}
    return found


def _tag_paths(path: str) -> Schema:
    base, of = f"/v2.0/{path}/{{id}}/tags", f"{path}_tags"
    tags = _object({"tags": {"type": "array", "items": {"type": "string"}}}, needed=["tags"])
    one = _id()["parameters"] + _id("tag")["parameters"]
    return {
        base: {
            **_id(),
            "get": _operation("list", of, 200, tags),
            "put": _operation("replace", of, 200, tags, body=tags),
            "post": _operation("add", of, 200, tags, body=tags),
            "delete": _operation("clear", of, 204, None, writes=True),
        },
        f"{base}/{{tag}}": {
            "parameters": one,
            "get": _operation("check", of, 204, None),
            "put": _operation("add_one", of, 201, None, writes=True),
            "delete": _operation("remove", of, 204, None, writes=True),
        },
    }


def _router_paths() -> Schema:
    text: Schema = {"type": "string"}
    interface = _object({"subnet_id": text, "port_id": text})
    routes_ = {"routes": _wish(RESOURCES["routers"].table, update=True)["properties"]["routes"]}
    router = _object({"router": _ref("router")}, needed=["router"])
    bodies = {
        "interface": (interface, {"type": "object"}),
        "routes": (_object({"router": _object(routes_, needed=["routes"])}), router),
    }
    return {
        f"/v2.0/routers/{{id}}/{action}": {
            **_id(),
            "put": _operation(action, "routers", 200, bodies[kind][1], body=bodies[kind][0]),
        }
        for action, kind in ROUTER_ACTIONS.items()
    }


def _rule_paths() -> Schema:
    """Return the paths of QoS policies' rules."""
    base = "/v2.0/qos/policies/{id}/bandwidth_limit_rules"
    shown = _object({RULE.singular: _shown(RULE)}, needed=[RULE.singular])
    several = _object({f"{RULE.singular}s": {"type": "array", "items": _shown(RULE)}})
    wish = _object({RULE.singular: _wish(RULE, update=False)}, needed=[RULE.singular])
    change = _object({RULE.singular: _wish(RULE, update=True)}, needed=[RULE.singular])
    of = "qos/bandwidth_limit_rules"
    return {
        "/v2.0/qos/rule-types": {"get": _operation("types", of, 200, {"type": "object"})},
        "/v2.0/qos/rule-types/{type}": {
            **_id("type"),
            "get": _operation("type", of, 200, {"type": "object"}),
        },
        base: {
            **_id(),
            "get": _operation("list", of, 200, several),
            "post": _operation("create", of, 201, shown, body=wish),
        },
        f"{base}/{{rule_id}}": {
            "parameters": _id()["parameters"] + _id("rule_id")["parameters"],
            "get": _operation("show", of, 200, shown),
            "put": _operation("update", of, 200, shown, body=change),
            "delete": _operation("delete", of, 204, None, writes=True),
        },
    }


def _binding_paths() -> Schema:
    """Return the paths of ports' bindings."""
    base, of = "/v2.0/ports/{id}/bindings", "bindings"
    shown = _object({"binding": _shown(BINDING)}, needed=["binding"])
    several = _object({"bindings": {"type": "array", "items": _shown(BINDING)}})
    wish = _object({"binding": _wish(BINDING, update=False)}, needed=["binding"])
    change = _object({"binding": _wish(BINDING, update=True)}, needed=["binding"])
    one = {"parameters": _id()["parameters"] + _id("host")["parameters"]}
    return {
        base: {
            **_id(),
            "get": _operation("list", of, 200, several),
            "post": _operation("create", of, 201, shown, body=wish),
        },
        f"{base}/{{host}}": {
            **one,
            "get": _operation("show", of, 200, shown),
            "put": _operation("update", of, 200, shown, body=change),
            "delete": _operation("delete", of, 204, None, writes=True),
        },
        f"{base}/{{host}}/activate": {
            **one,
            "put": _operation("activate", of, 200, _shown(BINDING), writes=True),
        },
    }


def _forwarding_paths() -> Schema:
    """Return the paths of floating IPs' port forwardings."""
    base, of = "/v2.0/floatingips/{id}/port_forwardings", "port_forwardings"
    table, key = PORT_FORWARDING, PORT_FORWARDING.singular
    shown = _object({key: _shown(table)}, needed=[key])
    items = {"type": "array", "items": _shown(table)}
    several = _object({of: items, f"{of}_links": {"type": "array"}}, needed=[of])
    wish = _object({key: _wish(table, update=False)}, needed=[key])
    bulk = {"type": "array", "items": _wish(table, update=False)}
    change = _object({key: _wish(table, update=True)}, needed=[key])
    wishes = {"anyOf": [wish, _object({of: bulk}, needed=[of])]}
    fields = [_parameter(*CONTROLS[0])]
    return {
        base: {
            **_id(),
            "get": _operation("list", of, 200, several, query=_query(table)),
            "post": _operation("create", of, 201, {"anyOf": [shown, several]}, body=wishes),
        },
        f"{base}/{{forwarding_id}}": {
            "parameters": _id()["parameters"] + _id("forwarding_id")["parameters"],
            "get": _operation("show", of, 200, shown, query=fields),
            "put": _operation("update", of, 200, shown, body=change),
            "delete": _operation("delete", of, 204, None, writes=True),
        },
    }


def _other_paths() -> Schema:
    limits = _object({"quota": {"type": "object"}}, needed=["quota"])
    project = _id("project_id")
    networks = _object({"network_range": _wish(RANGE, update=False)}, needed=["network_range"])
    topology = _object({"auto_allocated_topology": {"type": "object"}})
    quotas, allocated = "/v2.0/quotas", "/v2.0/auto-allocated-topology/{project_id}"
    return {
        quotas: {"get": _operation("list", "quotas", 200, {"type": "object"})},
        f"{quotas}/{{project_id}}": {
            **project,
            "get": _operation("show", "quotas", 200, {"type": "object"}),
            "put": _operation("update", "quotas", 200, limits, body=limits),
            "delete": _operation("reset", "quotas", 204, None, writes=True),
        },
        f"{quotas}/{{project_id}}/details": {
            **project, "get": _operation("details", "quotas", 200, limits),
        },
        f"{quotas}/{{project_id}}/default": {
            **project, "get": _operation("default", "quotas", 200, limits),
        },
        **_rule_paths(),
        **_binding_paths(),
        **_forwarding_paths(),
        "/v2.0/availability_zones": {
            "get": _operation("list", "availability_zones", 200, {"type": "object"})
        },
        "/v2.0/cloud": {
            "post": _operation(
                "snapshot", "cloud", 200, {"type": "object"}, body={"type": "object"}
            )
        },
        "/v2.0/network-ranges": {
            "post": _operation("create", "network_ranges", 201, {"type": "object"}, body=networks)
        },
        allocated: {
            **project,
            "get": _operation("get", "topology", 200, topology, writes=True),
            "delete": _operation("release", "topology", 204, None, writes=True),
        },
        "/v2.0/extensions": {"get": _operation("list", "extensions", 200, {"type": "object"})},
        "/v2.0/extensions/{alias}": {
            **_id("alias"), "get": _operation("show", "extensions", 200, {"type": "object"}),
        },
    }  # fmt: skip
