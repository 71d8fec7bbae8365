"""The metadata proxy: whom it vouches for, and what it passes on."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from trunkline.agent.config import MetadataConfig, parse
from trunkline.agent.metadata import BODY_MAX, Instance, application, find, proof
from trunkline.errors import Invalid
from trunkline.lab.metadata import Handler

SECRET = "shared"
AGENT = {"host": "h", "server": "unix:/s", "token": "t"}


@pytest.fixture
def service() -> Iterator[str]:
    """Run a metadata service that believes who proves it, as Nova's does."""
    Handler.secret = SECRET.encode()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def write(state_dir: Path, bridge: str, address: str, device_id: str) -> None:
    """Write down who has an address, as the agent does."""
    path = state_dir / "dhcp" / bridge / "instances" / address
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"device_id": device_id, "project_id": "p1"}))


def ask(
    config: MetadataConfig, state_dir: Path, source: str, body: bytes = b"", **headers: str
) -> tuple[int, str]:
    """Send the proxy a request as an ASGI server does; return status and body."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/latest",
        "raw_path": b"/latest",
        "query_string": b"a=b",
        "headers": raw,
        "client": (source, 9),
        "scheme": "http",
    }
    asyncio.run(application(config, state_dir)(scope, receive, send))  # type: ignore[arg-type]
    content = b"".join(m.get("body", b"") for m in sent[1:])
    return sent[0]["status"], content.decode()


def test_the_service_is_told_who_asks_and_nothing_that_the_instance_claims(
    tmp_path: Path, service: str
) -> None:
    """Ids come from the address; headers of the same names that the instance sent are gone."""
    write(tmp_path, "br100", "10.0.0.3", "vm-1")
    config = MetadataConfig(service, SECRET)
    lies = {"x_instance_id": "vm-2", "x_tenant_id": "p2", "x_forwarded_for": "10.0.0.4"}

    status, body = ask(config, tmp_path, "10.0.0.3", **lies)

    assert status == 200
    said = {"instance": "vm-1", "tenant": "p1", "address": "10.0.0.3", "path": "/latest?a=b"}
    assert json.loads(body) == said


def test_a_wrong_secret_proves_nothing(tmp_path: Path, service: str) -> None:
    """What the service refuses, the instance is refused."""
    write(tmp_path, "br100", "10.0.0.3", "vm-1")

    assert ask(MetadataConfig(service, "other"), tmp_path, "10.0.0.3")[0] == 403


def test_an_address_of_nobody_or_of_two_gets_nothing(tmp_path: Path, service: str) -> None:
    """Rather no answer than somebody else's."""
    write(tmp_path, "br100", "10.0.0.3", "vm-1")
    write(tmp_path, "br102", "10.0.0.3", "vm-9")
    config = MetadataConfig(service, SECRET)

    assert find(tmp_path, IPv4Address("10.0.0.3")) is None
    assert [ask(config, tmp_path, a)[0] for a in ("10.0.0.3", "10.0.0.4")] == [404, 404]


def test_a_service_that_is_away_and_a_body_that_is_too_long_are_said(tmp_path: Path) -> None:
    """Neither ends the proxy."""
    write(tmp_path, "br100", "10.0.0.3", "vm-1")
    config = MetadataConfig(f"unix:{tmp_path}/nobody", SECRET)

    assert ask(config, tmp_path, "10.0.0.3")[0] == 502
    assert ask(config, tmp_path, "10.0.0.3", bytes(BODY_MAX + 1))[0] == 413


def test_the_signature_is_novas() -> None:
    """HMAC-SHA256 of the instance's id by the shared secret, in hexadecimal digits."""
    headers = proof("s", Instance("i", "p"), IPv4Address("10.0.0.3"))

    assert headers["X-Instance-ID-Signature"] == hmac.new(b"s", b"i", "sha256").hexdigest()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "service is missing"),
        ({"service": "http://192.0.2.1:8775"}, "secret is missing"),
        ({"service": "ftp://x", "secret": "s"}, "neither http"),
        ({"service": "unix:relative", "secret": "s"}, "neither http"),
        ({"service": "unix:/x", "secret": "s", "more": 1}, "metadata.more"),
        ("yes", "must be a dict"),
    ],
)
def test_a_wrong_configuration_names_the_key(given: object, words: str) -> None:
    """A proxy that cannot ask, or cannot prove, is none."""
    with pytest.raises(Invalid, match=words):
        parse({**AGENT, "metadata": given})


def test_without_the_table_nothing_leads_to_a_proxy() -> None:
    """The rules follow the configuration."""
    assert not parse(dict(AGENT)).host.metadata
    assert parse({**AGENT, "metadata": {"service": "unix:/x", "secret": "s"}}).host.metadata
