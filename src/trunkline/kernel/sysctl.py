"""Reads and writes sysctls of the calling thread's network namespace, by /proc/sys.

Keys are dotted as sysctl(8) has them, except that a link's name stands as it is, dots and all:
``net.ipv4.conf.eth0.7.forwarding`` is the ``forwarding`` of link ``eth0.7``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

ROOT = Path("/proc/sys")
PER_LINK = ("net.ipv4.conf.", "net.ipv6.conf.", "net.ipv4.neigh.", "net.ipv6.neigh.")


@lru_cache(65536)
def link_of(key: str) -> str | None:
    """Return the link that a sysctl belongs to; None if to no link (``all``, ``default``)."""
    for prefix in PER_LINK:
        if key.startswith(prefix):
            link = key.removeprefix(prefix).rpartition(".")[0]
            return None if link in ("all", "default") else link
    return None


def read(key: str) -> str | None:
    """Return a sysctl's value; None if there is no such sysctl, or its link is gone."""
    try:
        return _path(key).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(key: str, value: str) -> None:
    """Set a sysctl.

    Raises:
        OSError: There is no such sysctl, or the kernel refuses the value.
    """
    _path(key).write_text(value)


def _path(key: str) -> Path:
    for prefix in PER_LINK:
        if key.startswith(prefix):
            link, _, leaf = key.removeprefix(prefix).rpartition(".")
            return ROOT / prefix.replace(".", "/") / link / leaf
    return ROOT / key.replace(".", "/")
