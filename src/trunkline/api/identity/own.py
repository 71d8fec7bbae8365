"""``/v3/users/ID/…``: one's own password, projects and application credentials."""

from __future__ import annotations

import re
from secrets import token_hex
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api.address import root
from trunkline.api.audit import actor
from trunkline.api.auth import Auth
from trunkline.api.body import read_json, unwrap
from trunkline.api.convert import boolean, list_of, name, or_null, quoted, text_or_null
from trunkline.api.identity import bodies
from trunkline.api.identity.directory import checked_password, view
from trunkline.api.identity.hashing import Hashing
from trunkline.api.identity.login import Login
from trunkline.api.identity.resources import RESOURCES
from trunkline.api.identity.tokens import Prover, client
from trunkline.api.routes import Store
from trunkline.api.users import digest
from trunkline.db.engine import Transaction
from trunkline.errors import Forbidden, Invalid, NotFound, Unauthorized
from trunkline.service import audit
from trunkline.service.caller import Caller
from trunkline.service.collections import Record, fetch
from trunkline.service.identity import assignments, credentials, directory, tokens
from trunkline.service.identity.tokens import Ref, Token

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(?:Z|\+00:00)?")
KIND = "application_credential"
KNOWN = {"name", "description", "secret", "roles", "expires_at", "unrestricted", "access_rules"}


class OwnApi:
    """What users do for themselves."""

    def __init__(self, store: Store, auth: Auth, hashing: Hashing, prover: Prover) -> None:
        self._store = store
        self._auth = auth
        self._hashing = hashing
        self._prover = prover

    def routes(self) -> list[Route]:
        """Return the routes."""
        user = "/v3/users/{user_id}"
        all_ = f"{user}/application_credentials"
        return [
            Route(f"{user}/password", self.change_password, methods=["POST"]),
            Route(f"{user}/projects", self.projects, methods=["GET"]),
            Route(all_, self.create, methods=["POST"]),
            Route(all_, self.list, methods=["GET"]),
            Route(f"{all_}/{{credential_id}}", self.show, methods=["GET"]),
            Route(f"{all_}/{{credential_id}}", self.delete, methods=["DELETE"]),
        ]

    async def change_password(self, request: Request) -> Response:
        """Set one's own password, which ends all tokens got by the old one."""
        caller = await self._own(request)
        given = unwrap(await read_json(request), "user")
        if not isinstance(given, dict) or {"password", "original_password"} - given.keys():
            raise Invalid("user must have password and original_password.")
        fresh = checked_password(given["password"])
        old = checked_password(given["original_password"])
        login = Login("password", Ref(caller.user_id), None, old, None, unscoped=True)
        proof, _ = await self._prover.prove(login, client(request))
        kept = await self._hashing.hashed(fresh)

        def change(tx: Transaction) -> None:
            row = tokens.find_user(tx, Ref(caller.user_id))
            if row is None or row["password_hash"] != proof.password_hash:
                raise Unauthorized(tokens.REFUSED)
            directory.update_user(tx, caller, caller.user_id, {"password_hash": kept})

        await self._store.write(change)
        self._auth.forget()
        return Response(status_code=204)

    async def projects(self, request: Request) -> Response:
        """Answer the projects in which a user has a role."""
        caller = await self._auth.caller(request)
        user_id = request.path_params["user_id"]

        def look(tx: Transaction) -> list[Record]:
            fetch(tx, caller, directory.USERS, user_id)
            return assignments.projects_of(tx, user_id)

        found = await self._store.read(look)
        where = f"{root(request)}/identity/v3/users/{user_id}/projects"
        views = [view(request, RESOURCES["projects"], record, caller) for record in found]
        return JSONResponse(bodies.collection("projects", views, where))

    async def list(self, request: Request) -> Response:
        """Answer the credentials that the caller made."""
        caller = await self._own(request)
        wanted = request.query_params.get("name")
        found = await self._store.read(lambda tx: credentials.listed(tx, caller.user_id, wanted))
        views = [bodies.credential(record, _base(request)) for record in found]
        body = bodies.collection("application_credentials", views, _base(request))
        return JSONResponse(body)

    async def show(self, request: Request) -> Response:
        """Answer one credential that the caller made."""
        caller = await self._own(request)
        wanted = request.path_params["credential_id"]
        found = await self._store.read(lambda tx: credentials.fetch(tx, caller.user_id, wanted))
        return JSONResponse({"application_credential": bodies.credential(found, _base(request))})

    async def create(self, request: Request) -> Response:
        """Make a credential; its secret is shown now and never again."""
        who = actor(request, await self._own(request))
        own = await self._free_token(request)
        values, wanted, given_secret = _accepted(
            unwrap(await read_json(request), "application_credential")
        )
        secret = given_secret or token_hex(32)
        values["secret_hash"] = await self._hashing.hashed(secret)

        def make(tx: Transaction) -> Record:
            record = credentials.create(tx, own, dict(values), wanted)
            audit.note(tx, who, KIND, None, bodies.credential(record, ""))
            return record

        record = await self._store.write(make)
        view = {**bodies.credential(record, _base(request)), "secret": secret}
        return JSONResponse({"application_credential": view}, 201)

    async def delete(self, request: Request) -> Response:
        """Delete a credential, and end the tokens got by it."""
        caller = await self._own(request)
        await self._free_token(request)
        wanted = request.path_params["credential_id"]
        who = actor(request, caller)

        def remove(tx: Transaction) -> None:
            record = credentials.delete_(tx, caller.user_id, wanted)
            audit.note(tx, who, KIND, bodies.credential(record, ""), None)

        await self._store.write(remove)
        self._auth.forget()
        return Response(status_code=204)

    async def _own(self, request: Request) -> Caller:
        """Return the caller, who must be the user in the path."""
        caller = await self._auth.caller(request)
        user_id = request.path_params["user_id"]
        if not caller.user_id or caller.user_id != user_id:
            raise NotFound(f"User {quoted(user_id)} is not you, and this is for oneself only.")
        return caller

    async def _free_token(self, request: Request) -> Token:
        """Return the caller's token, which may make and delete credentials."""
        mine = digest(request.headers["x-auth-token"])
        own = await self._store.read(lambda tx: tokens.read(tx, mine))
        if own is None:
            raise Unauthorized(tokens.REFUSED)
        if own.credential is not None and not own.credential.unrestricted:
            raise Forbidden(
                f"This token comes from the application credential {own.credential.name!a}, which"
                " is restricted: it makes and deletes no others. Log in by password."
            )
        return own


def _accepted(given: Any) -> tuple[Record, list[Ref] | None, str | None]:
    """Return a credential's values, the roles wanted (None: all), and the secret, if given."""
    if not isinstance(given, dict):
        raise Invalid(f"application_credential must be an object, not {quoted(given)}.")
    for key in sorted(given.keys() - KNOWN):
        raise Invalid(f"application_credential has the unknown key {quoted(key)}.")
    if given.get("access_rules"):
        raise Invalid("access_rules are not supported by this identity; give roles instead.")
    values = {
        "name": _converted(given, "name", name),
        "description": _converted(given, "description", text_or_null(255)),
        "expires_at": _converted(given, "expires_at", or_null(_moment)),
        "unrestricted": _converted(given, "unrestricted", lambda v: boolean(v or False)),
    }
    if not values["name"]:
        raise Invalid("application_credential needs a name.")
    wanted = _converted(given, "roles", or_null(list_of(_role)))
    secret = given.get("secret")
    return values, wanted or None, None if secret is None else checked_password(secret)


def _converted(given: Record, key: str, convert: Any) -> Any:
    try:
        return convert(given.get(key))
    except ValueError as error:
        raise Invalid(f"Invalid input for {key}. Reason: {error}.") from None


def _moment(value: Any) -> str:
    found = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{quoted(value)} is no time in UTC such as 2026-01-31T12:00:00Z")
    return found.group(1) + "Z"


def _role(value: Any) -> Ref:
    if not isinstance(value, dict) or not {"id", "name"} & value.keys():
        raise ValueError(f"{quoted(value)} is no object with the id or name of a role")
    return Ref(name(value["id"])) if "id" in value else Ref(None, name(value["name"]))


def _base(request: Request) -> str:
    user_id = request.path_params["user_id"]
    return f"{root(request)}/identity/v3/users/{user_id}/application_credentials"
