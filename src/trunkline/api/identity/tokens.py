"""``/v3/auth``: tokens are got, looked at and ended; the catalog, and what one has access to."""

from __future__ import annotations

from secrets import token_hex, token_urlsafe

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trunkline.api.address import root
from trunkline.api.auth import Auth
from trunkline.api.body import read_json
from trunkline.api.identity import bodies
from trunkline.api.identity.directory import view
from trunkline.api.identity.hashing import Hashing
from trunkline.api.identity.login import Login, parse
from trunkline.api.identity.resources import RESOURCES
from trunkline.api.identity.throttle import Throttle
from trunkline.api.policy import Policy
from trunkline.api.routes import Store
from trunkline.api.users import digest
from trunkline.db.engine import Transaction
from trunkline.errors import Forbidden, NotFound, Unauthorized
from trunkline.service.caller import Caller
from trunkline.service.collections import Record
from trunkline.service.identity import assignments, credentials, tokens
from trunkline.service.identity.tokens import REFUSED, Proof, Ref, Token


class Issued:
    """The tokens that this identity has issued, as ``api.auth`` asks for them."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self._store = store
        self._policy = policy

    async def caller(self, token: str) -> Caller | None:
        """Return whom a token stands for; None: it is no valid one."""
        found = await self._store.read(lambda tx: tokens.read(tx, digest(token)))
        if found is None:
            return None
        roles = frozenset(name for _, name in found.roles)
        project = "" if found.project is None else found.project.id
        return Caller(found.user.name, project, roles, self._policy.rights(roles), found.user.id)


class Prover:
    """Finds out whom a log-in comes from."""

    def __init__(self, store: Store, hashing: Hashing) -> None:
        self._store = store
        self._hashing = hashing
        self._by_user = Throttle()
        self._by_address = Throttle(failures=100, every_s=1.0)

    async def prove(self, login: Login, client: str) -> tuple[Proof, Ref | None]:
        """Return the proof, and the project that a token is for if the log-in names none.

        Raises:
            Unauthorized: It proves nothing; why stays a secret.
            TooManyRequests: Too many log-ins have failed, or are in line.
        """
        if login.method == "token":
            return await self._by_token(login.secret)
        key = (client, login.user, login.credential)
        self._by_address.charge(client)
        self._by_user.charge(key)
        by = self._by_password if login.method == "password" else self._by_credential
        proven = await by(login)
        self._by_address.succeeded(client)
        self._by_user.succeeded(key)
        return proven

    async def _by_password(self, login: Login) -> tuple[Proof, Ref | None]:
        user = login.user
        assert user is not None

        def look(tx: Transaction) -> tuple[Record | None, str | None]:
            row = tokens.find_user(tx, user)
            return (None, None) if row is None else (dict(row), tokens.usual_project(tx, row))

        row, usual = await self._store.read(look)
        kept = None if row is None else row["password_hash"]
        if not await self._hashing.verify(kept, login.secret) or row is None:
            raise Unauthorized(REFUSED)
        proof = Proof(row["id"], ("password",), password_hash=kept)
        return proof, None if usual is None else Ref(usual)

    async def _by_credential(self, login: Login) -> tuple[Proof, Ref | None]:
        credential = login.credential
        assert credential is not None
        row = await self._store.read(lambda tx: credentials.find(tx, credential, login.user))
        kept = None if row is None else row["secret_hash"]
        if not await self._hashing.verify(kept, login.secret) or row is None:
            raise Unauthorized(REFUSED)
        methods = ("application_credential",)
        proof = Proof(
            row["user_id"], methods, credential_id=row["id"], expires_at=row["expires_at"]
        )
        return proof, Ref(row["project_id"])

    async def _by_token(self, token: str) -> tuple[Proof, Ref | None]:
        parent = await self._store.read(lambda tx: tokens.read(tx, digest(token)))
        if parent is None:
            raise Unauthorized(REFUSED)
        proof = Proof(
            parent.user.id,
            tuple(dict.fromkeys((*parent.methods, "token"))),
            credential_id=None if parent.credential is None else parent.credential.id,
            token_digest=digest(token),
            audit_ids=parent.audit_ids,
            expires_at=parent.expires_at,
        )
        return proof, None if parent.project is None else Ref(parent.project.id)


class TokensApi:
    """What ``/v3/auth/…`` does."""

    def __init__(self, store: Store, auth: Auth, prover: Prover, token_s: int) -> None:
        self._store = store
        self._auth = auth
        self._prover = prover
        self._token_s = token_s

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v3/auth/tokens", self.log_in, methods=["POST"]),
            Route("/v3/auth/tokens", self.show, methods=["GET"]),
            Route("/v3/auth/tokens", self.revoke, methods=["DELETE"]),
            Route("/v3/auth/catalog", self.catalog, methods=["GET"]),
            Route("/v3/auth/projects", self.projects, methods=["GET"]),
            Route("/v3/auth/domains", self.domains, methods=["GET"]),
        ]

    async def log_in(self, request: Request) -> Response:
        """Issue a token."""
        login = parse(await read_json(request))
        proof, usual = await self._prover.prove(login, client(request))
        project = login.project or (None if login.unscoped else usual)
        if proof.credential_id is not None and not await self._same(project, usual):
            raise Unauthorized(REFUSED)  # a credential opens its own project only
        # Hexadecimal: one that began with a dash would be taken for an option by command lines.
        text, audit_id = token_hex(32), token_urlsafe(16)
        made = await self._store.write(
            lambda tx: tokens.issue(tx, digest(text), audit_id, proof, project, self._token_s)
        )
        request.scope["trunkline.user"] = made.user.name
        return self._answer(request, made, text, 201)

    async def _same(self, project: Ref | None, usual: Ref | None) -> bool:
        if project is None or usual is None:
            return False
        return await self._store.read(lambda tx: tokens.find_project(tx, project)) == usual.id

    async def show(self, request: Request) -> Response:
        """Answer what a token stands for: one's own, or somebody's who asks to let them in."""
        subject, found = await self._subject(request, "validate_token")
        return self._answer(request, found, subject, 200)

    async def revoke(self, request: Request) -> Response:
        """End a token."""
        subject, _ = await self._subject(request, "revoke_token")
        await self._store.write(lambda tx: tokens.revoke(tx, digest(subject)))
        self._auth.forget()
        return Response(status_code=204)

    async def catalog(self, request: Request) -> Response:
        """Answer the services."""
        caller = await self._auth.caller(request)
        if not caller.project_id:
            raise Forbidden("The catalog is for a project; get a token for one first.")
        where = f"{root(request)}/identity/v3/auth/catalog"
        return JSONResponse(bodies.collection("catalog", bodies.catalog(root(request)), where))

    async def projects(self, request: Request) -> Response:
        """Answer the projects that the caller can get a token for."""
        caller = await self._auth.caller(request)
        found = await self._store.read(lambda tx: assignments.projects_of(tx, caller.user_id))
        views = [view(request, RESOURCES["projects"], record, caller) for record in found]
        where = f"{root(request)}/identity/v3/auth/projects"
        return JSONResponse(bodies.collection("projects", views, where))

    async def domains(self, request: Request) -> Response:
        """Answer the domains that the caller can get a token for: none, tokens are for projects."""
        await self._auth.caller(request)
        where = f"{root(request)}/identity/v3/auth/domains"
        return JSONResponse(bodies.collection("domains", [], where))

    async def _subject(self, request: Request, action: str) -> tuple[str, Token]:
        """Return the token of X-Subject-Token, and what it stands for."""
        caller = await self._auth.caller(request)
        subject = request.headers.get("x-subject-token", "")
        if subject != request.headers["x-auth-token"]:
            caller.require(action)
        found = await self._store.read(lambda tx: tokens.read(tx, digest(subject)))
        if found is None:
            raise NotFound("The token in X-Subject-Token could not be found; it may have expired.")
        return subject, found

    def _answer(self, request: Request, found: Token, text: str, status: int) -> Response:
        plain = "nocatalog" in request.query_params
        body = bodies.token(found, root(request), with_catalog=not plain)
        headers = {"X-Subject-Token": text, "Vary": "X-Auth-Token"}
        return JSONResponse(body, status, headers)


def client(request: Request) -> str:
    """Return the address that a request came from; empty on a Unix socket."""
    return "" if request.client is None else request.client.host
