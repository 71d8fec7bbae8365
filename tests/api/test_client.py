"""The typed client by itself: certificates, and paths in front of the API."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from trunkline.client import ApiClient, Trust
from trunkline.errors import Invalid, ServerUnavailable


class Proxied(BaseHTTPRequestHandler):
    """What is behind a proxy that ends TLS and serves the API below a path."""

    def do_GET(self) -> None:
        """Answer one network below ``/networking``."""
        is_there = self.path == "/networking/v2.0/networks"
        self.send_response(200 if is_there else 404)
        self.end_headers()
        self.wfile.write(b'{"networks": [{"id": "n"}]}' if is_there else b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def write_certificate(path: Path) -> None:
    """Write a key and a certificate for 127.0.0.1 that nobody else has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "proxy")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1))
    builder = builder.not_valid_after(now + timedelta(days=1)).add_extension(names, critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[str]:
    """Lend an HTTPS server's URL; its certificate is in ``proxy.pem``."""
    write_certificate(tmp_path / "proxy.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "proxy.pem")
    server = HTTPServer(("127.0.0.1", 0), Proxied)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/networking"
    server.shutdown()
    thread.join()
    server.server_close()


def test_https(proxy: str, tmp_path: Path) -> None:
    """A certificate counts if its authority is named; looking away has to be asked for."""
    for trust in (Trust(str(tmp_path / "proxy.pem")), Trust(verify=False)):
        client = ApiClient(proxy, "x", trust)
        assert client.list("networks") == [{"id": "n"}]
        client.close()
    stranger = ApiClient(proxy, "x")
    with pytest.raises(ServerUnavailable, match="certificate"):
        stranger.list("networks")
    with pytest.raises(Invalid, match="no-such-file"):
        ApiClient(proxy, "x", Trust("/no-such-file"))
