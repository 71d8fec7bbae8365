"""``/v2.0/qos``: the rules of policies, and which kinds of them there are."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api import convert as c
from trunkline.api.attributes import Attribute, Default, Table
from trunkline.api.audit import Audited
from trunkline.api.auth import Auth
from trunkline.api.body import read_json, unwrap
from trunkline.api.resources import RESOURCES
from trunkline.api.routes import Store, plain
from trunkline.db.engine import Transaction
from trunkline.errors import NotFound
from trunkline.service import qos
from trunkline.service.caller import Caller
from trunkline.service.collections import Record, fetch

KBPS_MAX = 2**31 - 1

RULE = Table(
    "bandwidth_limit_rule",
    (
        Attribute("id"),
        Attribute("max_kbps", c.integer(1, KBPS_MAX), Default.REQUIRED, put=True),
        Attribute("max_burst_kbps", c.integer(0, KBPS_MAX), 0, put=True),
        Attribute("direction", c.one_of("egress", "ingress"), "egress"),
    ),
)
TYPES = [{"type": qos.RULE_TYPE}]
DRIVER = {
    "name": "trunkline",
    "supported_parameters": [
        {
            "parameter_name": name,
            "parameter_type": "range",
            "parameter_values": {"start": first, "end": KBPS_MAX},
        }
        for name, first in (("max_kbps", 1), ("max_burst_kbps", 0))
    ]
    + [
        {
            "parameter_name": "direction",
            "parameter_type": "choices",
            "parameter_values": ["egress", "ingress"],
        }
    ],
}
"""What a rule may say, in the shape of Neutron's ``qos-rule-type-details``."""


class QosApi:
    """What a policy has beyond what every resource has."""

    def __init__(self, store: Store, auth: Auth) -> None:
        self._store = store
        self._auth = auth

    def routes(self) -> list[Route]:
        """Return the routes."""
        rules = "/v2.0/qos/policies/{policy_id}/bandwidth_limit_rules"
        return [
            Route("/v2.0/qos/rule-types", self.types, methods=["GET"]),
            Route("/v2.0/qos/rule-types/{type}", self.type, methods=["GET"]),
            Route(rules, self.list, methods=["GET"]),
            Route(rules, self.create, methods=["POST"]),
            Route(rules + "/{rule_id}", self.show, methods=["GET"]),
            Route(rules + "/{rule_id}", self.update, methods=["PUT"]),
            Route(rules + "/{rule_id}", self.delete, methods=["DELETE"]),
        ]

    async def types(self, request: Request) -> Response:
        """Answer the kinds of rules."""
        (await self._auth.caller(request)).require("get_policy")
        return JSONResponse({"rule_types": TYPES})

    async def type(self, request: Request) -> Response:
        """Answer one kind of rules, and what one may say."""
        (await self._auth.caller(request)).require("get_policy")
        wanted = plain(request.path_params["type"])
        if wanted != qos.RULE_TYPE:
            raise NotFound(f"Rule type {wanted[:80]} could not be found.", "QosRuleTypeNotFound")
        return JSONResponse({"rule_type": {"type": wanted, "drivers": [DRIVER]}})

    async def list(self, request: Request) -> Response:
        """Answer the rules of a policy."""
        caller, policy_id = await self._accept(request, "get_policy")
        policy = await self._store.read(lambda tx: fetch(tx, caller, qos.POLICIES, policy_id))
        rules = [RULE.view(rule, caller) for rule in policy["rules"]]
        return JSONResponse({"bandwidth_limit_rules": rules})

    async def show(self, request: Request) -> Response:
        """Answer one rule."""
        caller, policy_id = await self._accept(request, "get_policy")
        rule_id = _rule_id(request)
        rule = await self._store.read(lambda tx: qos.fetch_rule(tx, caller, policy_id, rule_id))
        return JSONResponse({RULE.singular: RULE.view(rule, caller)})

    async def create(self, request: Request) -> Response:
        """Add a rule to a policy."""
        caller, policy_id = await self._accept(request, "update_policy")
        given = unwrap(await read_json(request), RULE.singular)
        values = RULE.accept(given, caller, update=False)
        rule = await self._change(
            request, caller, lambda tx: qos.create_rule(tx, caller, policy_id, values)
        )
        return JSONResponse({RULE.singular: RULE.view(rule, caller)}, 201)

    async def update(self, request: Request) -> Response:
        """Change a rule."""
        caller, policy_id = await self._accept(request, "update_policy")
        given = unwrap(await read_json(request), RULE.singular)
        values = RULE.accept(given, caller, update=True)
        rule_id = _rule_id(request)
        rule = await self._change(
            request, caller, lambda tx: qos.update_rule(tx, caller, policy_id, rule_id, values)
        )
        return JSONResponse({RULE.singular: RULE.view(rule, caller)})

    async def delete(self, request: Request) -> Response:
        """Take a rule away."""
        caller, policy_id = await self._accept(request, "update_policy")
        rule_id = _rule_id(request)

        def work(tx: Transaction) -> Record:
            qos.delete_rule(tx, caller, policy_id, rule_id)
            return {}

        await self._change(request, caller, work)
        return Response(status_code=204)

    async def _accept(self, request: Request, action: str) -> tuple[Caller, str]:
        caller = await self._auth.caller(request)
        caller.require(action)
        return caller, str(request.path_params["policy_id"])

    async def _change(
        self, request: Request, caller: Caller, work: Callable[[Transaction], Record]
    ) -> Record:
        """Change a policy's rules, which to the audit is a change of the policy."""
        audited = Audited(request, caller, RESOURCES["qos/policies"])
        policy_id = request.path_params["policy_id"]
        return await self._store.write(lambda tx: audited.changed(tx, policy_id, lambda: work(tx)))


def _rule_id(request: Request) -> str:
    return plain(request.path_params["rule_id"])
