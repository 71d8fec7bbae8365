"""The last `nova` that had network commands, from PyPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packages import environment

PACKAGES = ("python-novaclient==7.1.2", "setuptools<70")  # it needs pkg_resources


def variables(auth: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables with which ``nova`` is found, and logs in as a clouds.yaml says."""
    venv = environment("novaclient-7.1.2", *PACKAGES)
    named = {f"OS_{key.upper()}": str(value) for key, value in auth.items()}
    return {**named, "PATH": f"{venv / 'bin'}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
