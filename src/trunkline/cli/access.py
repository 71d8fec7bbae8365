"""How a command reaches the server: by a token at hand, or by a log-in; in one order for all.

Flags come before variables; a token comes before a log-in.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from getpass import getpass
from threading import Event, Thread
from typing import TYPE_CHECKING

from trunkline.errors import Invalid

if TYPE_CHECKING:
    from trunkline.cli.clouds import Cloud
    from trunkline.client import ApiClient

SERVER = "http://127.0.0.1:9696"
QUIET_S = 1.0  # nobody needs to be told of a shorter wait


def add(parser: ArgumentParser) -> None:
    """Register what says where the server is and who asks."""
    group = parser.add_argument_group("server and log-in")
    group.add_argument(
        "--server",
        help="http://ADDRESS:PORT, https://NAME or unix:/PATH; default: $TRUNKLINE_SERVER, or what"
        f" the log-in says, or {SERVER}",
    )
    group.add_argument("--token", help="default: $TRUNKLINE_TOKEN, or else a log-in")
    group.add_argument(
        "--os-cloud",
        metavar="NAME",
        help="log in to a cloud of clouds.yaml; default: $OS_CLOUD, or by $OS_AUTH_URL,"
        " $OS_USERNAME and so on",
    )


@contextmanager
def connected(args: Namespace) -> Iterator[ApiClient]:
    """Lend a client of the server that the arguments and the environment mean.

    Raises:
        Invalid: They mean none.
        Unauthorized: The identity does not let this user in.
    """
    cloud = None if _token(args) else _with_password(_cloud(args))
    with _patience():
        client = _client(args, cloud)
        try:
            yield client
        finally:
            client.close()


def _token(args: Namespace) -> str | None:
    """Return the token at hand, if a log-in is not asked for by name."""
    return args.token or (None if args.os_cloud else os.environ.get("TRUNKLINE_TOKEN"))


def _client(args: Namespace, cloud: Cloud | None) -> ApiClient:
    from trunkline.cli.clouds import bare  # noqa: PLC0415  other commands start faster
    from trunkline.client import ApiClient, log_in  # noqa: PLC0415  likewise

    server = args.server or os.environ.get("TRUNKLINE_SERVER")
    if cloud is None:
        return ApiClient(server or SERVER, _token(args) or "")
    if cloud.fixed is not None:
        endpoint, token = cloud.fixed
        return ApiClient(server or bare(endpoint), token, cloud.trust)
    token, body = log_in(cloud.auth_url, cloud.request(), cloud.trust)
    return ApiClient(server or cloud.endpoint(body.get("catalog")), token, cloud.trust)


def _cloud(args: Namespace) -> Cloud:
    from trunkline.cli.clouds import of_environment, of_file  # noqa: PLC0415  likewise

    name = args.os_cloud or os.environ.get("OS_CLOUD")
    if name:
        return of_file(name, os.environ)
    if os.environ.get("OS_AUTH_URL") or os.environ.get("OS_ENDPOINT"):
        return of_environment(os.environ)
    raise Invalid(
        "who asks? Set OS_CLOUD to a cloud of your clouds.yaml (`trunkline bootstrap` prints one),"
        " or OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME, or TRUNKLINE_SERVER and"
        " TRUNKLINE_TOKEN."
    )


def _with_password(cloud: Cloud) -> Cloud:
    """Return a cloud with the password that is missing, if somebody is there to be asked."""
    by_password = cloud.auth_type.removeprefix("v3") == "password"
    if not by_password or "password" in cloud.auth or not sys.stdin.isatty():
        return cloud
    who = cloud.auth.get("username") or cloud.auth.get("user_id", "")
    return replace(cloud, auth={**cloud.auth, "password": getpass(f"Password of {who}: ")})


@contextmanager
def _patience() -> Iterator[None]:
    """Tell somebody at a terminal how long it takes, from the second second on."""
    if not sys.stderr.isatty():
        yield
        return
    done = Event()
    teller = Thread(target=_tell, args=(done,), daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _tell(done: Event) -> None:
    waited = 0
    while not done.wait(QUIET_S):
        waited += 1
        print(f"\rwaiting for the server: {waited} s ", end="", file=sys.stderr, flush=True)
    if waited:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
