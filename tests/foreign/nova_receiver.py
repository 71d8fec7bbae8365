"""A stand-in for Nova's API of external events: it listens, and can be told to refuse."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

PATH = "/v2.1/os-server-external-events"


class Receiver(ThreadingHTTPServer):
    """What was heard, and how the next requests are answered.

    Attributes:
        events: All that were accepted, oldest first.
        refusals: Statuses of the answers to come; when they are used up, all is accepted.
        tokens: The tokens of all requests.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events: list[dict[str, Any]] = []
        self.refusals: deque[int] = deque()
        self.tokens: list[str | None] = []

    @property
    def url(self) -> str:
        """Return where Nova's API is."""
        return f"http://127.0.0.1:{self.server_address[1]}/v2.1"

    def told(self, port_id: str) -> list[str]:
        """Return the names of the events of a port."""
        return [event["name"] for event in list(self.events) if event["tag"] == port_id]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.tokens.append(self.headers["X-Auth-Token"])
        refused = self.server.refusals.popleft() if self.server.refusals else 0
        known = self.path == PATH and not refused
        if known:
            self.server.events += body["events"]
        self.send_response(200 if known else refused or 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  likewise
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Lend a receiver that runs."""
    receiver = Receiver()
    thread = Thread(target=receiver.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        thread.join()
        receiver.server_close()
