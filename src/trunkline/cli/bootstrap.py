"""``trunkline bootstrap``: the first administrator of a cloud with an identity of its own."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trunkline.errors import Invalid

HEAD = "# ~/.config/openstack/clouds.yaml, mode 0600; then: export OS_CLOUD=trunkline"
UNCHANGED = "# password: the one that was set before; --password sets another"


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "bootstrap", help="make the first domain, project, administrator and roles"
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the server's configuration"
    )
    parser.add_argument("--public-url", metavar="URL", help="where clients reach the server")
    parser.add_argument(
        "--password",
        help="the administrator's; '-' reads it from standard input; without it, one is made"
        " unless there is one already",
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Make what is missing, and print a clouds.yaml."""
    import yaml  # noqa: PLC0415  other commands start faster without

    from trunkline.api.bootstrap import first_administrator  # noqa: PLC0415  likewise
    from trunkline.api.config import load  # noqa: PLC0415  likewise

    config = load(args.config)
    url = args.public_url or config.public_url or _url(config.listen)
    asks = args.password == "-"  # noqa: S105  the word that stands for standard input
    given = sys.stdin.readline().rstrip("\n") if asks else args.password
    password = first_administrator(config, given)
    print(HEAD)
    if password is None:
        print(UNCHANGED)
    print(yaml.safe_dump(clouds(url, password), sort_keys=False), end="")
    return 0


def clouds(url: str, password: str | None) -> dict[str, Any]:
    """Return the content of a file with which the ``openstack`` command reaches the cloud."""
    auth = {
        "auth_url": f"{url.rstrip('/')}/identity",
        "username": "admin",
        "password": password,
        "project_name": "admin",
        "user_domain_id": "default",
        "project_domain_id": "default",
    }
    if password is None:
        del auth["password"]
    cloud = {"auth": auth, "region_name": "RegionOne", "identity_api_version": 3}
    return {"clouds": {"trunkline": cloud}}


def _url(listen: Sequence[tuple[str, int] | Path]) -> str:
    """Return the first address that is good for clients, too."""
    for address in listen:
        if isinstance(address, tuple) and address[0] not in ("0.0.0.0", "::"):  # noqa: S104  it is what is left out
            host, port = address
            return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    raise Invalid(
        "the configuration does not say where clients reach the server: give --public-url, or set"
        " public_url."
    )
