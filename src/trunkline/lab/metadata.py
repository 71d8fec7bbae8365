"""A stand-in for Nova's metadata service: believes who proves it, and says whom it believes.

Run as ``python -m trunkline.lab.metadata ADDRESS PORT FILE``, the shared secret in the file.
"""

from __future__ import annotations

import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Answers what it was asked, if the signature is right."""

    secret = b""

    def do_GET(self) -> None:
        """Answer one question."""
        instance = self.headers.get("X-Instance-ID", "")
        wanted = hmac.new(self.secret, instance.encode(), "sha256").hexdigest()
        proven = hmac.compare_digest(wanted, self.headers.get("X-Instance-ID-Signature", ""))
        said = {
            "instance": instance,
            "tenant": self.headers.get("X-Tenant-ID"),
            "address": self.headers.get("X-Forwarded-For"),
            "path": self.path,
        }
        body = json.dumps(said if proven else {"error": "the signature is wrong"}).encode()
        self.send_response(200 if proven else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(address: str, port: str, secret: str) -> None:
    """Serve until ended."""
    Handler.secret = Path(secret).read_bytes()
    ThreadingHTTPServer((address, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
