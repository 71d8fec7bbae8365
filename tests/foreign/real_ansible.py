"""Ansible's openstack.cloud collection: taken from PyPI once, kept in .cache.

The collection is in the ``ansible`` package, beside a hundred others, which are left out.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import packages

ANSIBLE = "ansible==12.3.0"
PACKAGES = ("ansible-core>=2.19,<2.20", "openstacksdk<4.15")  # openstack.cloud 2.5 wants the latter
COLLECTION = "ansible_collections/openstack/cloud"


def environment() -> dict[str, str]:
    """Return the variables with which ``ansible-playbook`` finds it; skip if PyPI is away."""
    venv = _install()
    return {
        "PATH": f"{venv / 'bin'}:/usr/bin:/bin",
        "HOME": str(venv),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(venv),
        "ANSIBLE_PYTHON_INTERPRETER": str(venv / "bin" / "python"),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_NOCOLOR": "true",
    }


def _install() -> Path:
    """Return the environment, with the collection beside it."""
    venv = packages.environment("ansible-core-2.19", *PACKAGES)
    if (venv / COLLECTION).exists():
        return venv
    words = ("--no-deps", "--only-binary", ":all:", "--dest", str(venv), ANSIBLE)
    packages.pip(venv, "download", *words)
    (wheel,) = venv.glob("ansible-*.whl")
    with ZipFile(wheel) as archive, TemporaryDirectory(dir=venv) as half:
        names = [name for name in archive.namelist() if name.startswith(f"{COLLECTION}/")]
        archive.extractall(half, names)
        (venv / COLLECTION).parent.mkdir(parents=True, exist_ok=True)
        (Path(half) / COLLECTION).rename(venv / COLLECTION)
    wheel.unlink()
    return venv
