"""Passwords and their hashes: Argon2id, with the parameters of RFC 9106 for little memory.

Costs tens of milliseconds by design: call it in a thread that no request waits for in vain.
"""

from __future__ import annotations

from functools import cache
from secrets import token_urlsafe

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher()


def hashed(password: str) -> str:
    """Return what is kept of a password."""
    return _hasher.hash(password)


def verify(kept: str | None, password: str) -> bool:
    """Return whether a password is the one of which this was kept.

    With nothing kept (there is no such user) it costs as much and is False.
    """
    try:
        _hasher.verify(kept or _nobodys(), password)
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None


@cache
def _nobodys() -> str:
    return hashed(token_urlsafe())
