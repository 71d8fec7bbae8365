"""``/os-quota-sets``: quotas of what belongs to the network, under the names that Nova had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.api.attributes import Attribute, Table
from trunkline.api.audit import actor
from trunkline.api.body import unwrap
from trunkline.api.compute.call import Call
from trunkline.api.convert import boolean
from trunkline.api.quotas import LIMIT, changed, require_own
from trunkline.service import quotas

NAMES = {
    "fixed_ips": "port",
    "floating_ips": "floatingip",
    "networks": "network",
    "security_group_rules": "security_group_rule",
    "security_groups": "security_group",
}
"""The Networking API's resources by Nova's quotas; of addresses, ports are counted."""

QUOTA_SET = Table(
    "quota_set",
    (
        *(Attribute(name, LIMIT, put=True) for name in NAMES),
        Attribute("force", boolean, default=False, put=True),
        Attribute("tenant_id", str, put=True),  # older clients repeat the path here
    ),
)


def shown(call: Call) -> Any:
    """Answer a project's quotas."""
    return _answer(call, quotas.of_project(call.tx, _readable(call)))


def defaults(call: Call) -> Any:
    """Answer the quotas of projects that have none of their own."""
    _readable(call)
    return _answer(call, call.tx.limits.quotas)


def detail(call: Call) -> Any:
    """Answer a project's quotas, and what it has of each."""
    usage = quotas.usage(call.tx, _readable(call))
    told = {
        name: {"limit": one["limit"], "in_use": one["used"], "reserved": 0}
        for name, one in usage.items()
    }
    return _answer(call, told)


def update(call: Call) -> Any:
    """Set some of a project's quotas."""
    call.caller.require("update_quota")
    wish = QUOTA_SET.accept(unwrap(call.body, "quota_set"), call.caller, update=True)
    wanted = {NAMES[name]: limit for name, limit in wish.items() if name in NAMES}
    force, project_id = wish.get("force", False), call.path("id")
    after = changed(
        call.tx,
        actor(call.request, call.caller),
        project_id,
        lambda: quotas.change(call.tx, project_id, wanted, force=force),
    )
    return _answer(call, after)


def delete(call: Call) -> Any:
    """Give a project the default quotas again."""
    call.caller.require("delete_quota")
    who, project_id = actor(call.request, call.caller), call.path("id")
    changed(call.tx, who, project_id, lambda: quotas.reset(call.tx, project_id))


def _readable(call: Call) -> str:
    project_id = call.path("id")
    call.caller.require("get_quota")
    require_own(call.caller, project_id)
    return project_id


def _answer(call: Call, found: Mapping[str, Any]) -> Any:
    shown = {name: found[resource] for name, resource in NAMES.items()}
    return {"quota_set": {"id": call.path("id"), **shown}}
