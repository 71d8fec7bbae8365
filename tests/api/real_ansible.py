"""Ansible's openstack.cloud collection: taken from PyPI once, kept in .cache.

The collection is in the ``ansible`` package, beside a hundred others, which are left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from trunkline.lab.waiting import limit_s

ANSIBLE = "ansible==12.3.0"
PACKAGES = ("ansible-core>=2.19,<2.20", "openstacksdk<4.15")  # openstack.cloud 2.5 wants the latter
COLLECTION = "ansible_collections/openstack/cloud/"
CACHE = Path(__file__).parents[2] / ".cache" / "ansible-12"
WARM = 240  # seconds for the first installation


def environment() -> dict[str, str]:
    """Return the variables with which ``ansible-playbook`` finds it; skip if PyPI is away."""
    _install()
    return {
        "PATH": f"{CACHE / 'venv' / 'bin'}:/usr/bin:/bin",
        "HOME": str(CACHE),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(CACHE),
        "ANSIBLE_PYTHON_INTERPRETER": str(CACHE / "venv" / "bin" / "python"),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_NOCOLOR": "true",
    }


def _install() -> None:
    if (CACHE / "ready").exists():
        return
    shutil.rmtree(CACHE, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", CACHE / "venv"], check=True)
    _pip("install", *PACKAGES)
    _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(CACHE), ANSIBLE)
    (wheel,) = CACHE.glob("ansible-*.whl")
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(COLLECTION)]
        archive.extractall(CACHE, names)
    wheel.unlink()
    (CACHE / "ready").touch()


def _pip(*words: str) -> None:
    pip = [CACHE / "venv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, *words], capture_output=True, text=True, timeout=limit_s(WARM), check=False
    )
    if done.returncode != 0:
        pytest.skip(f"Ansible cannot be had from PyPI: {done.stderr.strip()[-300:]}")
