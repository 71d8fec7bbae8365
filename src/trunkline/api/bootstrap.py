"""Makes the first administrator of a standalone identity, before or while the server runs."""

from __future__ import annotations

from secrets import token_hex

from trunkline.api.config import ServerConfig
from trunkline.api.identity.directory import checked_password
from trunkline.api.serve import open_database
from trunkline.errors import Conflict
from trunkline.service.identity import passwords
from trunkline.service.identity.bootstrap import bootstrap


def first_administrator(config: ServerConfig, password: str | None) -> str | None:
    """Make what is missing; return the administrator's password, if it was set now.

    Args:
        config: The server's configuration.
        password: What to set; None: make one, unless there is one.

    Raises:
        Invalid: The password is none, or the database does not open.
        Conflict: The identity of this cloud is a Keystone.
    """
    if config.identity.keystone is not None:
        raise Conflict(
            "identity.keystone is set in the server's configuration: users and projects are made in"
            f" the Keystone at {config.identity.keystone.auth_url}."
        )
    kept = None if password is None else passwords.hashed(checked_password(password))
    database = open_database(config)
    try:
        if database.write(lambda tx: bootstrap(tx, kept)):
            return password
        fresh = token_hex(24)
        kept = passwords.hashed(fresh)
        database.write(lambda tx: bootstrap(tx, kept))
        return fresh
    finally:
        database.close()
