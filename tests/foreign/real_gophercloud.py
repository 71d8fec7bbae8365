"""gophercloud's own acceptance tests, compiled by Debian's Go from Debian's package of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from packages import CACHE, alone

from trunkline.lab.waiting import limit_s

GOPATH = Path("/usr/share/gocode")
SUITE = "github.com/gophercloud/gophercloud/acceptance/openstack/networking/v2"
PACKAGES = ("golang-go", "golang-github-gophercloud-gophercloud-dev")
BUILD_S = 300


def program(part: str) -> Path:
    """Return the compiled tests of a part of the suite, such as ``extensions/layer3``."""
    source = GOPATH / "src" / SUITE / part
    if shutil.which("go") is None or not source.is_dir():
        pytest.skip(f"needs {' and '.join(PACKAGES)}")
    built = CACHE / "gophercloud-0.12" / part.replace("/", "-").replace(".", "itself")
    where = {
        "PATH": os.environ["PATH"],
        "HOME": str(CACHE),
        "GOPATH": str(GOPATH),
        "GO111MODULE": "off",
        "GOCACHE": str(CACHE / "go-build"),
    }
    with alone("gophercloud-0.12"):
        if not built.exists():
            subprocess.run(
                ["go", "test", "-c", "-tags", "acceptance", "-o", built, f"./{part}"],
                cwd=GOPATH / "src" / SUITE, env=where, check=True, timeout=limit_s(BUILD_S),
            )  # fmt: skip
    return built


def variables(auth: Mapping[str, str], external: str) -> dict[str, str]:
    """Return the variables of a run: how to log in, and the external network's id."""
    return {
        "OS_AUTH_URL": f"{auth['auth_url']}/v3",
        "OS_USERNAME": auth["username"],
        "OS_PASSWORD": auth["password"],
        "OS_PROJECT_NAME": auth["project_name"],
        "OS_DOMAIN_ID": auth["user_domain_id"],
        "OS_REGION_NAME": "RegionOne",
        "OS_EXTGW_ID": external,
        # Of the compute service; the suite insists on them, and what is used here does not.
        **dict.fromkeys(("OS_IMAGE_ID", "OS_FLAVOR_ID", "OS_NETWORK_NAME"), "unused"),
        "OS_FLAVOR_ID_RESIZE": "unused, too",
        "OS_POOL_NAME": "unused",
    }
