"""Bodies that no client should send: each gets a 4xx that says why, and changes nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from running import Cloud

from trunkline.lab.waiting import limit_s


@pytest.fixture
def unchanged(cloud: Cloud) -> Iterator[None]:
    """Assert that the test leaves the cloud's networks alone."""
    before = cloud.admin.list("networks")
    yield
    assert cloud.admin.list("networks") == before


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no JSON"),
        (b"nonsense", "no JSON"),
        (b'{"network": {', "no JSON"),
        (b'{"network": {"name": "\xff"}}', "no UTF-8"),
        (b'{"network": {"mtu": NaN}}', "no JSON"),
        (b'{"network": {"mtu": 1e999}}', "no JSON"),
        (b'{"network": {"mtu": ' + b"9" * 5000 + b"}}", "5000 digits"),
        (b'{"network": {"mtu": 1' + b"0" * 400 + b"}}", "mtu"),
        (b'{"network": {"name": "\\ud800"}}', "name"),
        (b'{"network": {"name": "\\u0000"}}', "name"),
        (b'{"network": {"\\ud800": 1}}', "ud800"),
        (b'{"network": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (b'{"network": ' + b"[" * 700 + b"]" * 700 + b"}", "nested"),
        (b'{"network": {"name": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}}", "nested"),
        (b"[]", "network"),
        (b"null", "network"),
        (b'"network"', "network"),
        (b"{}", "network"),
        (b'{"network": []}', "network"),
        (b'{"network": null}', "network"),
        (b'{"networks": {}}', "networks"),
        (b'{"networks": [1]}', "network"),
        (b'{"network": {}, "extra": {}}', "extra"),
        (b'{"network": {"name": 5}}', "name"),
        (b'{"network": {"name": null}}', "name"),
        (b'{"network": {"shared": "perhaps"}}', "shared"),
        (b'{"network": {"mtu": "1500.0"}}', "mtu"),
        (b'{"network": {"mtu": 67}}', "mtu"),
        (b'{"network": {"tags": ["x"]}}', "tags"),
        (b'{"network": {"status": "ACTIVE"}}', "status"),
        (b'{"network": {"project_id": ""}}', "project_id"),
        (b'{"network": {"provider:network_type": "vxlan"}}', "provider:network_type"),
        (
            b'{"network": {"provider:network_type": "flat", "provider:segmentation_id": 5}}',
            "provider:segmentation_id",
        ),
    ],
)
def test_a_wrong_body_is_refused_with_a_reason(cloud: Cloud, body: bytes, message: str) -> None:
    """No JSON, no object, no known attribute, no fitting value: 400, and the reason."""
    status, answer = cloud.raw("POST", "/v2.0/networks", body)

    assert status == 400
    assert message in answer["NeutronError"]["message"]
    assert answer["NeutronError"]["type"]


def answer_on(sock: socket.socket) -> bytes:
    """Return all that the server sends before it closes or resets the connection."""
    answer = b""
    with suppress(ConnectionResetError):
        while chunk := sock.recv(65536):
            answer += chunk
    return answer


@pytest.mark.usefixtures("unchanged")
def test_a_large_body_is_refused_unread(cloud: Cloud) -> None:
    """Ten announced megabytes are refused before a byte of them is sent."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(limit_s(20))
        sock.connect(f"{cloud.directory}/api.sock")
        sock.sendall(
            b"POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nX-Auth-Token: admin\r\n"
            b"Content-Length: 10000000\r\n\r\n"
        )
        answer = answer_on(sock)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"larger than" in answer


@pytest.mark.usefixtures("unchanged")
def test_a_large_body_that_is_sent_anyway(cloud: Cloud) -> None:
    """A client that sends all ten megabytes first can still read why they were refused."""
    body = b'{"network": {"name": "' + b"x" * 10_000_000 + b'"}}'

    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(limit_s(20))
        sock.connect(f"{cloud.directory}/api.sock")
        head = f"POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        sock.sendall(f"{head}X-Auth-Token: admin\r\n\r\n".encode())
        with pytest.raises(OSError, match=r"reset|pipe"):
            sock.sendall(body)
        answer = answer_on(sock)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"larger than" in answer


@pytest.mark.usefixtures("unchanged")
def test_a_large_body_in_chunks_is_refused(cloud: Cloud) -> None:
    """A body that does not say how long it is ends at the limit all the same."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(limit_s(20))
        sock.connect(f"{cloud.directory}/api.sock")
        sock.sendall(
            b"POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nX-Auth-Token: admin\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        sock.sendall(chunk)
        answer = answer_on(sock)

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_request_that_ends_in_the_middle_harms_nobody(cloud: Cloud) -> None:
    """A client that goes away leaves nothing behind, and the next one is served."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{cloud.directory}/api.sock")
        sock.sendall(
            b"POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nX-Auth-Token: admin\r\n"
            b'Content-Length: 100\r\n\r\n{"network": {"name": "half'
        )

    assert cloud.admin.list("networks", name="half") == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2.0/trunks", 404),
        ("GET", "/v3/nothing", 404),
        ("PATCH", "/v2.0/networks", 405),
        ("PUT", "/v2.0/networks", 405),
        ("POST", "/v2.0/agents", 404),
        ("PUT", "/v2.0/security-group-rules/x", 404),
        ("GET", "/v2.0/networks/%ff%00", 404),
        ("GET", "/v2.0/networks/" + "x" * 5000, 404),
        ("DELETE", "/v2.0/ports/x", 404),
        ("GET", "/v2.0/networks?name=%ff", 200),
    ],
)
def test_odd_paths(cloud: Cloud, method: str, path: str, status: int) -> None:
    """What is not there is refused in the API's own shape."""
    found, answer = cloud.raw(method, path, None)

    assert found == status
    assert found == 200 or answer["NeutronError"]["message"]


@pytest.mark.parametrize("host", ["[", "a b", "x" * 1000, "%"])
def test_odd_host_headers(cloud: Cloud, host: str) -> None:
    """A Host header that is none breaks nothing."""
    for path in ("/", "/v2.0/networks?limit=1", "/v2.0/nothing"):
        status, _ = cloud.raw("GET", path, None, Host=host)
        assert status in (200, 400, 404)


def test_no_request_of_this_module_met_a_fault(cloud: Cloud) -> None:
    """The server's log has no traceback."""
    assert "Traceback" not in cloud.log
