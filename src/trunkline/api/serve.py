"""Runs the API until told to stop: addresses, signals, and a clean end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from trunkline.api import policy
from trunkline.api.app import build
from trunkline.api.config import ServerConfig
from trunkline.api.users import Users
from trunkline.api.wakeups import Wakeups
from trunkline.db.engine import Database
from trunkline.db.schema import upgrade
from trunkline.errors import Conflict, Invalid

log = logging.getLogger("trunkline.server")

KEEP_ALIVE_S = 75  # longer than agents' polls are apart
END_WITHIN_S = 5
BACKLOG = 1024


def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the users file again.

    Raises:
        Invalid: The users file or the policy is wrong, or the database does not open.
        Conflict: The database is newer than this program, or an address is taken.
    """
    rules = policy.load(config.policy)
    users = None if config.users is None else Users(config.users, rules)
    database = open_database(config)
    sockets = [_listen(address) for address in config.listen]
    wakeups = Wakeups()
    server = _Server(build(database, config, rules, users, wakeups), wakeups)

    def reload(_number: int, _frame: FrameType | None) -> None:
        if users is not None:
            users.reload()

    signal.signal(signal.SIGHUP, reload)
    for number in (signal.SIGTERM, signal.SIGINT):  # Uvicorn raises what ended it once more
        signal.signal(number, server.handle_exit)
    try:
        server.run(sockets)
    finally:
        for address in config.listen:
            if isinstance(address, Path):
                address.unlink(missing_ok=True)


def open_database(config: ServerConfig) -> Database:
    """Open the database of a configuration, its schema up to date.

    Raises:
        Invalid: It does not open.
        Conflict: It is newer than this program.
    """
    try:
        database = Database(config.database, config.limits)
        upgrade(database)
    except SQLAlchemyError as error:
        reason = str(error).partition("\n")[0]
        raise Invalid(
            f"database {config.database}: {reason}. Check database in the server's configuration,"
            " and that its directory exists and may be written to."
        ) from error
    return database


class _Server(uvicorn.Server):
    """Uvicorn, told to send the long polls home before it waits for them."""

    def __init__(self, app: object, wakeups: Wakeups) -> None:
        self._wakeups = wakeups
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]  # Starlette's own type is wider than Uvicorn's
                log_config=None,
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=END_WITHIN_S,
                ws="none",
                server_header=False,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; runs in the event loop's thread, between two of its steps."""
        if not self.should_exit:
            log.info("ending on %s", signal.Signals(sig).name)
            self._wakeups.close()
        super().handle_exit(sig, frame)

    def run(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve on these sockets."""
        log.info("listening on %s", ", ".join(_spelled(s) for s in sockets or ()))
        super().run(list(sockets or ()))


def _listen(address: tuple[str, int] | Path) -> socket.socket:
    try:
        return _listen_unix(address) if isinstance(address, Path) else _listen_tcp(*address)
    except OSError as error:
        raise Conflict(
            f"cannot listen on {_name(address)}: {error.strerror}. Free the address, or change"
            " listen in the server's configuration."
        ) from error


def _listen_tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(BACKLOG)
    return listener


def _listen_unix(path: Path) -> socket.socket:
    """Listen on a path; a socket that a killed server left there is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        _require_dead(path)
        path.unlink()
    listener.bind(os.fspath(path))
    listener.listen(BACKLOG)
    return listener


def _require_dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return
    raise Invalid(f"cannot listen on {path}: another server answers there; stop it first.")


def _spelled(listener: socket.socket) -> str:
    name = listener.getsockname()
    return f"unix:{name}" if isinstance(name, str) else f"http://{name[0]}:{name[1]}"


def _name(address: tuple[str, int] | Path) -> str:
    return str(address) if isinstance(address, Path) else f"{address[0]}:{address[1]}"
