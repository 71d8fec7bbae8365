"""Speaks to the server: the Networking API for people and programs, the agents' side for hosts.

Thin on purpose: one connection, kept open, used by one thread at a time. What the server says is
wrong comes out as the same exception that the server raised.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from trunkline import errors
from trunkline.hoststate import HostConfig, HostFacts, Problem
from trunkline.model import HostName, PortId, PortStatus
from trunkline.report import Reading, encode
from trunkline.snapshot import HostSnapshot, Part, assemble, decode_section

TIMEOUT_S = 30.0
MEETING_S = 150.0  # hosts wait for each other as long as a probe may last

ERRORS: dict[int, type[errors.RequestError]] = {
    400: errors.Invalid,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.Outdated,
    413: errors.TooLarge,
}

SINGULAR = {
    "networks": "network",
    "subnets": "subnet",
    "ports": "port",
    "security-groups": "security_group",
    "security-group-rules": "security_group_rule",
    "routers": "router",
    "floatingips": "floatingip",
    "reserved-addresses": "reserved_address",
    "subnetpools": "subnetpool",
    "address-scopes": "address_scope",
    "rbac-policies": "rbac_policy",
    "network-ip-availabilities": "network_ip_availability",
    "audit-events": "audit_event",
    "agents": "agent",
    "qos/policies": "policy",
    "traces": "trace",
    "probes": "probe",
}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Trust:
    """Which certificates of an ``https://`` server are good.

    Attributes:
        authorities: A file of certificates, PEM; None: those that the machine trusts.
        verify: Whether to look at all.
    """

    authorities: str | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Return it for the ``ssl`` module.

        Raises:
            Invalid: The file cannot be read.
        """
        try:
            context = ssl.create_default_context(cafile=self.authorities)
        except OSError as error:
            raise errors.Invalid(f"certificates {self.authorities}: {error}") from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: http.client.HTTPMessage
    data: bytes


class _Channel:
    """One kept connection to a server at ``http://…``, ``https://…`` or ``unix:/path``."""

    def __init__(self, url: str, token: str, trust: Trust = Trust()) -> None:
        self._url = url
        self._headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
        self._prefix = "" if url.startswith("unix:") else urlsplit(url).path.rstrip("/")
        self._connection = self._new_connection(trust)

    def _new_connection(self, trust: Trust) -> http.client.HTTPConnection:
        if self._url.startswith("unix:"):
            return UnixConnection(self._url.removeprefix("unix:"))
        try:
            parts = urlsplit(self._url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if host is None or parts.scheme not in ("http", "https"):
            raise errors.Invalid(
                f"server {self._url}: give http://ADDRESS:PORT, https://NAME or unix:/PATH of the"
                " server."
            )
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, context=trust.context())
        return http.client.HTTPConnection(host, port or (80 if self._prefix else 9696))

    def exchange(self, method: str, path: str, body: Any, timeout_s: float = TIMEOUT_S) -> _Answer:
        """Return an answer, whatever it says.

        Raises:
            ServerUnavailable: There was none. Whether the request took effect is unknown.
        """
        data = None if body is None else json.dumps(body).encode()
        connection = self._connection
        try:
            if connection.sock is not None and _is_stale(connection.sock):
                connection.close()
            connection.timeout = timeout_s
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            connection.request(method, self._prefix + path, data, self._headers)
            response = connection.getresponse()
            return _Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise errors.ServerUnavailable(
                f"server {self._url}: {error or type(error).__name__}; is it running?"
            ) from error

    def json(self, method: str, path: str, body: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """Return an answer's JSON; None if it has no body.

        Raises:
            RequestError: The server refused, for the reason that the message gives.
            ServerUnavailable: It did not answer, or met a fault of its own.
        """
        return self.accepted(method, path, body, timeout_s)[0]

    def accepted(
        self, method: str, path: str, body: Any, timeout_s: float = TIMEOUT_S
    ) -> tuple[Any, http.client.HTTPMessage]:
        """Return an answer's JSON and headers; see ``json`` for what is raised."""
        answer = self.exchange(method, path, body, timeout_s)
        content = _parsed(answer.data)
        if answer.status < 400:  # noqa: PLR2004  HTTP: below are no errors
            return content, answer.headers
        fault = _fault(content)
        message = str(fault.get("message") or f"{method} {path} was answered {answer.status}.")
        if answer.status not in ERRORS:
            raise errors.ServerUnavailable(f"server {self._url}: {message}")
        raise ERRORS[answer.status](message, str(fault.get("type", "")))

    def close(self) -> None:
        """Close the connection; the next exchange opens another."""
        self._connection.close()


def _is_stale(sock: socket.socket) -> bool:
    """Return whether the server has closed a connection on which nothing is due."""
    return bool(select.select([sock], [], [], 0)[0])


def _fault(content: Any) -> dict[str, Any]:
    """Return what an answer says went wrong, in Neutron's shape or in Keystone's."""
    body = content if isinstance(content, dict) else {}
    found = body.get("NeutronError") or body.get("error")
    return found if isinstance(found, dict) else {}


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        return None


class ApiClient:
    """The Networking API, with Neutron's names for collections, such as ``networks``."""

    def __init__(self, url: str, token: str, trust: Trust = Trust()) -> None:
        self._channel = _Channel(url, token, trust)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Return an answer's JSON; see ``_Channel.json`` for what is raised."""
        return self._channel.json(method, path, body)

    def create(self, collection: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object and return it as it became."""
        key = SINGULAR[collection]
        made: dict[str, Any] = self.request("POST", f"/v2.0/{collection}", {key: attributes})[key]
        return made

    def list(self, collection: str, **filters: Any) -> list[dict[str, Any]]:
        """Return the objects that the caller sees; a filter with a list accepts each value."""
        query = f"?{urlencode(filters, doseq=True)}" if filters else ""
        answer = self.request("GET", f"/v2.0/{collection}{query}")
        found: list[dict[str, Any]] = answer[collection.rpartition("/")[2].replace("-", "_")]
        return found

    def show(self, collection: str, object_id: str) -> dict[str, Any]:
        """Return one object."""
        answer = self.request("GET", _path(collection, object_id))
        found: dict[str, Any] = answer[SINGULAR[collection]]
        return found

    def update(
        self, collection: str, object_id: str, attributes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Change an object and return it as it became."""
        key = SINGULAR[collection]
        answer = self.request("PUT", _path(collection, object_id), {key: attributes})
        changed: dict[str, Any] = answer[key]
        return changed

    def delete(self, collection: str, object_id: str) -> None:
        """Delete an object."""
        self.request("DELETE", _path(collection, object_id))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _path(collection: str, object_id: str) -> str:
    return f"/v2.0/{collection}/{quote(object_id, safe='')}"


def log_in(auth_url: str, auth: Mapping[str, Any], trust: Trust) -> tuple[str, dict[str, Any]]:
    """Return a new token and what it stands for, from an identity that speaks Keystone's API v3.

    Args:
        auth_url: With or without ``/v3`` at its end.
        auth: The value of ``auth`` in the body of ``POST /v3/auth/tokens``.
        trust: Which certificates are good.

    Raises:
        RequestError: The identity refused.
        ServerUnavailable: It did not answer, or what it answered is no token.
    """
    channel = _Channel(auth_url.rstrip("/").removesuffix("/v3"), "", trust)
    try:
        content, headers = channel.accepted("POST", "/v3/auth/tokens", {"auth": auth})
    finally:
        channel.close()
    token = content.get("token") if isinstance(content, dict) else None
    if not isinstance(token, dict) or "X-Subject-Token" not in headers:
        raise errors.ServerUnavailable(f"identity {auth_url}: what it answered is no token.")
    return headers["X-Subject-Token"], token


@dataclass(slots=True)
class _Held:
    """The sections that an agent has: digests to name them, values to build from."""

    digests: dict[str, str] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)


class AgentClient:
    """One host's agent's side of the server."""

    def __init__(self, url: str, token: str, host: str) -> None:
        self._channel = _Channel(url, token)
        self._host = HostName(host)
        self._base = f"/agent/v1/hosts/{quote(host, safe='')}"
        self._held = _Held()
        self._last: HostSnapshot | None = None
        self.orders: Mapping[str, Any] = {}
        """What came with the last snapshot: parts to take in probes, by the probe's id."""

    def snapshot(self, after_revision: int | None, wait_s: float) -> HostSnapshot | None:
        """Return the host's snapshot; None if its revision is this one all the time.

        Args:
            after_revision: The revision that is known; None returns at once.
            wait_s: How long the server may wait for another one.

        Raises:
            RequestError: The server refused.
            ServerUnavailable: It did not answer, or what it answered is no snapshot.
        """
        body = {"revision": after_revision, "wait": wait_s, "have": self._held.digests}
        path = f"{self._base}/snapshot"
        answer = self._channel.json("POST", path, body, wait_s + TIMEOUT_S)
        if answer is None:
            return None
        try:
            self._take(answer["digests"], answer["sections"])
            self.orders = dict(answer.get("orders", {}))
            self._last = assemble(
                self._host, answer["revision"], self._held.parts, before=self._last
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._held = _Held()  # ask for everything next time
            raise errors.ServerUnavailable(
                f"the server's answer is no snapshot of {self._host}: {error!r}; agent and server"
                " may be of different versions."
            ) from error
        return self._last

    def _take(self, digests: Mapping[str, str], sections: Mapping[str, Any]) -> None:
        """Decode what is new, and keep the decoded values of what is unchanged."""
        parts = {
            name: decode_section(name, sections[name])
            if name in sections
            else self._held.parts[name]
            for name in digests
        }
        self._held = _Held(dict(digests), parts)

    def report(  # noqa: PLR0913 - these are the parts of a report
        self,
        revision: int,
        ports: Mapping[PortId, PortStatus],
        problems: Collection[Problem],
        facts: HostFacts,
        *,
        config: HostConfig,
        full: bool,
        reading: Reading | None = None,
    ) -> None:
        """Tell the server what the host is like.

        Args:
            revision: What the host was brought to.
            ports: Status of ports that are bound to the host.
            problems: What could not be done as asked.
            facts: What the machine offers.
            config: How it is cabled.
            full: Whether ``ports`` has all of them: any other is DOWN.
            reading: What was read back from its kernel.

        Raises:
            RequestError: The server refused.
            ServerUnavailable: It did not answer.
        """
        body = {
            "revision": revision,
            "full": full,
            "ports": {port_id: PortStatus(status).value for port_id, status in ports.items()},
            "problems": [{"subject": p.subject, "text": p.text} for p in problems],
            "facts": encode(config, facts, reading),
        }
        self._channel.json("POST", f"{self._base}/report", body)

    def meet(self, probe_id: str, stage: str) -> None:
        """Say that this host has come as far as ``ready`` or ``sent``; return when all have.

        Or when the server has waited long enough for the others.

        Raises:
            RequestError: The probe is over, or this host has no part in it.
            ServerUnavailable: The server did not answer.
        """
        path = f"{self._base}/probes/{quote(probe_id, safe='')}"
        self._channel.json("POST", path, {"stage": stage}, MEETING_S)

    def deliver(self, probe_id: str, report: Mapping[str, Any]) -> None:
        """Report what this host heard in a probe; raises as ``meet`` does."""
        path = f"{self._base}/probes/{quote(probe_id, safe='')}"
        self._channel.json("POST", path, {"stage": "done", "report": report})

    def wire(self) -> tuple[str, list[str]]:
        """Return when the last probe was, and what is wrong that concerns this host.

        The time is empty if there was none; what is wrong comes as sentences.
        """
        found = self._channel.json("GET", f"{self._base}/wire", None)
        return found["probed_at"] or "", found["faults"]

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()
