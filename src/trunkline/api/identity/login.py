"""Reads the body of ``POST /v3/auth/tokens``: how somebody proves who it is, and for what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trunkline.api.convert import quoted, text
from trunkline.errors import Invalid
from trunkline.service.identity.tokens import Ref

SECRET_MAX = 4096  # as in Keystone
METHODS = ("password", "token", "application_credential")


@dataclass(frozen=True, slots=True)
class Login:
    """A request for a token.

    Attributes:
        method: Of ``METHODS``.
        user: With a password, and with a credential that is given by its name.
        credential: The application credential.
        secret: A password, a token, or a credential's secret.
        project: What the token is to be for; None: see ``unscoped``.
        unscoped: For no project at all, instead of the user's usual one.
    """

    method: str
    user: Ref | None
    credential: Ref | None
    secret: str
    project: Ref | None
    unscoped: bool


def parse(body: Any) -> Login:
    """Return what a body asks for.

    Raises:
        Invalid: Something is missing or malformed; the message says where.
    """
    auth = _object(_object(body, "body", ("auth",))["auth"], "auth", ("identity",))
    identity = _object(auth["identity"], "auth.identity", ("methods",))
    method = _method(identity["methods"])
    where = f"auth.identity.{method}"
    given = _object(identity.get(method), where)
    user = credential = None
    if method == "password":
        given = _object(given.get("user"), f"{where}.user")
        where = f"{where}.user"
        user = _ref(given, where)
    elif method == "application_credential":
        credential = Ref(_word(given, "id", where)) if "id" in given else None
        if credential is None:
            credential = Ref(None, _word(given, "name", where))
            user = _ref(_object(given.get("user"), f"{where}.user"), f"{where}.user")
    key = {"password": "password", "token": "id", "application_credential": "secret"}[method]
    project, unscoped = _scope(auth.get("scope"))
    return Login(method, user, credential, _word(given, key, where), project, unscoped)


def _method(methods: Any) -> str:
    if not isinstance(methods, list) or len(methods) != 1 or methods[0] not in METHODS:
        raise Invalid(
            f"auth.identity.methods: {quoted(methods)} must be a list of one of"
            f" {', '.join(METHODS)}."
        )
    return str(methods[0])


def _scope(scope: Any) -> tuple[Ref | None, bool]:
    if scope is None:
        return None, False
    if scope == "unscoped" or (isinstance(scope, dict) and set(scope) == {"unscoped"}):
        return None, True
    if not isinstance(scope, dict) or set(scope) != {"project"}:
        raise Invalid(
            f"auth.scope: {quoted(scope)} is neither a project nor unscoped; this identity has no"
            " tokens for domains or the system, its administrators have the role admin in a"
            " project."
        )
    return _ref(_object(scope["project"], "auth.scope.project"), "auth.scope.project"), False


def _ref(given: Mapping[str, Any], where: str) -> Ref:
    if "id" in given:
        return Ref(_word(given, "id", where))
    name = _word(given, "name", where)
    domain = _object(given.get("domain"), f"{where}.domain")
    key = "id" if "id" in domain else "name"
    return Ref(None, name, (key, _word(domain, key, f"{where}.domain")))


def _object(value: Any, where: str, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"{where} must be an object, not {quoted(value)}.")
    for key in keys:
        if key not in value:
            raise Invalid(f"{where} has no {key}.")
    return value


def _word(given: Mapping[str, Any], key: str, where: str) -> str:
    try:
        return str(text(SECRET_MAX)(given[key]))
    except KeyError:
        raise Invalid(f"{where} has no {key}.") from None
    except ValueError:
        raise Invalid(
            f"{where}.{key} must be a string of at most {SECRET_MAX} characters, none of them a"
            " control character."
        ) from None
