"""Which cloud a person means and how to log in: ``clouds.yaml``, or variables named ``OS_…``.

The part of what the OpenStack clients understand that concerns log-in by password, application
credential or token, and a fixed token. Knows nothing of Trunkline's own variables, and asks
nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trunkline.client import Trust
from trunkline.errors import Invalid

AUTH_KEYS = (
    "auth_url", "username", "user_id", "password", "token", "endpoint",
    "project_name", "project_id", "user_domain_name", "user_domain_id",
    "project_domain_name", "project_domain_id",
    "application_credential_id", "application_credential_name", "application_credential_secret",
)  # fmt: skip
CLOUD_KEYS = ("auth_type", "region_name", "interface", "cacert")
DOMAIN = "default"
SUPPORTED = "password, v3applicationcredential, token and admin_token"


@dataclass(frozen=True, slots=True)
class Cloud:
    """Where a cloud's identity is, and what to tell it.

    Attributes:
        auth: As under ``auth`` in a clouds.yaml.
        auth_type: A log-in plug-in's name, as keystoneauth has them.
        region: Of the endpoint to use; None: any.
        interface: Of the endpoint to use: public, internal or admin.
    """

    auth: Mapping[str, str]
    auth_type: str = "password"
    region: str | None = None
    interface: str = "public"
    trust: Trust = field(default_factory=Trust)

    @property
    def fixed(self) -> tuple[str, str] | None:
        """Return endpoint and token, if there is no log-in."""
        if self.auth_type != "admin_token":
            return None
        return self._need("endpoint"), self._need("token")

    @property
    def auth_url(self) -> str:
        """Return where the identity is."""
        return self._need("auth_url")

    def request(self) -> dict[str, Any]:
        """Return the value of ``auth`` in the body of ``POST /v3/auth/tokens``.

        Raises:
            Invalid: Something is missing, or the way to log in is none of ours.
        """
        kind = self.auth_type.removeprefix("v3")
        if kind == "applicationcredential":
            identity = {"application_credential": self._credential()}
            return {"identity": {"methods": ["application_credential"], **identity}}
        if kind == "token":
            method: dict[str, Any] = {"token": {"id": self._need("token")}}
        elif kind == "password":
            password = {**self._user(), "password": self._need("password")}
            method = {"password": {"user": password}}
        else:
            raise Invalid(
                f"auth_type {self.auth_type}: this command logs in by {SUPPORTED}; get a token by"
                " another client and set TRUNKLINE_SERVER and TRUNKLINE_TOKEN."
            )
        return {"identity": {"methods": list(method), **method}, **self._scope()}

    def endpoint(self, catalog: Any) -> str:
        """Return the Networking API's URL in a catalog, without ``/v2.0``."""
        endpoints = [
            endpoint
            for service in catalog or ()
            if service.get("type") == "network"
            for endpoint in service.get("endpoints", ())
        ]
        for endpoint in endpoints:
            if endpoint.get("interface") == self.interface and self.region in (
                None,
                endpoint.get("region_id"),
                endpoint.get("region"),
            ):
                return bare(str(endpoint["url"]))
        where = f" in region {self.region}" if self.region else ""
        raise Invalid(
            f"{self.auth_url} names no {self.interface} endpoint of a network service{where};"
            " see region_name and interface, or set TRUNKLINE_SERVER."
        )

    def _user(self) -> dict[str, Any]:
        if "user_id" in self.auth:
            return {"id": self.auth["user_id"]}
        return {"name": self._need("username"), "domain": self._domain("user")}

    def _scope(self) -> dict[str, Any]:
        if "project_id" in self.auth:
            return {"scope": {"project": {"id": self.auth["project_id"]}}}
        project = {"name": self._need("project_name"), "domain": self._domain("project")}
        return {"scope": {"project": project}}

    def _domain(self, of: str) -> dict[str, str]:
        if f"{of}_domain_name" in self.auth:
            return {"name": self.auth[f"{of}_domain_name"]}
        return {"id": self.auth.get(f"{of}_domain_id", DOMAIN)}

    def _credential(self) -> dict[str, Any]:
        secret = {"secret": self._need("application_credential_secret")}
        if "application_credential_id" in self.auth:
            return {"id": self.auth["application_credential_id"], **secret}
        name = self._need("application_credential_name")
        return {"name": name, "user": self._user(), **secret}

    def _need(self, key: str) -> str:
        if not self.auth.get(key):
            raise Invalid(
                f"log-in: {key} is missing; set it in the clouds.yaml, or OS_{key.upper()}."
            )
        return self.auth[key]


def bare(url: str) -> str:
    """Return a Networking API's URL without the version at its end."""
    return url.rstrip("/").removesuffix("/v2.0")


def of_environment(environment: Mapping[str, str]) -> Cloud:
    """Return the cloud that variables such as ``OS_AUTH_URL`` describe."""
    given = {key: environment.get(f"OS_{key.upper()}") for key in (*AUTH_KEYS, *CLOUD_KEYS)}
    auth = {key: given[key] for key in AUTH_KEYS if given[key]}
    return _cloud({"auth": auth, **{key: given[key] for key in CLOUD_KEYS if given[key]}})


def of_file(name: str, environment: Mapping[str, str]) -> Cloud:
    """Return a cloud by its name in the first clouds.yaml that there is.

    Raises:
        Invalid: There is no such file or cloud, or it is malformed.
    """
    path = _path(environment)
    clouds = _read(path)
    if name not in clouds:
        known = ", ".join(sorted(clouds)) or "none at all"
        raise Invalid(f"{path} has no cloud {name!r}; it has {known}.")
    found = _merged(clouds[name], _read(path.with_name("secure.yaml")).get(name))
    if environment.get("OS_PASSWORD"):
        found["auth"] = {"password": environment["OS_PASSWORD"], **found["auth"]}
    return _cloud(found)


def _path(environment: Mapping[str, str]) -> Path:
    """Return where the clouds.yaml is, in the order in which the OpenStack clients look."""
    named = environment.get("OS_CLIENT_CONFIG_FILE")
    user = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = [Path(), user / "openstack", Path("/etc/openstack")]
    looked = [Path(named)] if named else [place / "clouds.yaml" for place in places]
    for path in looked:
        if path.is_file():
            return path
    raise Invalid(
        f"there is no {' or '.join(map(str, looked))}; on the server, `trunkline bootstrap` prints"
        " one."
    )


def _read(path: Path) -> dict[str, Any]:
    """Return the clouds of a file; none if there is no such file."""
    import yaml  # noqa: PLC0415  other commands start faster without

    if not path.is_file():
        return {}
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return dict(document["clouds"])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise Invalid(f"{path} is no clouds.yaml: {error!r}") from error


def _merged(cloud: Any, secret: Any) -> dict[str, Any]:
    """Return a cloud's entry with what the secure.yaml adds to it."""
    parts = [part for part in (cloud, secret) if isinstance(part, dict)]
    auth = [part["auth"] for part in parts if isinstance(part.get("auth"), dict)]
    merged: dict[str, Any] = {key: value for part in parts for key, value in part.items()}
    merged["auth"] = {key: value for part in auth for key, value in part.items()}
    return merged


def _cloud(found: Mapping[str, Any]) -> Cloud:
    auth = {str(key): str(value) for key, value in found["auth"].items() if value is not None}
    guessed = "password"
    if "application_credential_secret" in auth:
        guessed = "v3applicationcredential"
    elif "token" in auth:
        guessed = "token" if "auth_url" in auth else "admin_token"
    authorities = found.get("cacert")
    return Cloud(
        auth=auth,
        auth_type=str(found.get("auth_type") or guessed),
        region=found.get("region_name"),
        interface=str(found.get("interface") or "public").removesuffix("URL"),
        trust=Trust(authorities and str(authorities), found.get("verify") is not False),
    )
