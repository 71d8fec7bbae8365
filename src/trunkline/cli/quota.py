"""``trunkline quota``: how much a project may have, and what it has of it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _SubParsersAction
from typing import Any

from trunkline.cli import access
from trunkline.cli.lookup import own_project
from trunkline.cli.tables import as_json, table
from trunkline.errors import Invalid

COLUMNS = {"resource": "resource", "used": "used", "limit": "limit"}


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Register the commands."""
    parser = commands.add_parser("quota", help="quotas: show, set, reset")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    show = verbs.add_parser("show", help="what a project may have, and has")
    show.add_argument("project", nargs="?", metavar="PROJECT", help="an id; default: one's own")
    show.add_argument("--json", action="store_true", help="as data")
    show.set_defaults(run=_show)
    change = verbs.add_parser("set", help="set some quotas of a project")
    change.add_argument("project", metavar="PROJECT", help="an id")
    change.add_argument("limits", nargs="+", metavar="RESOURCE=LIMIT", help="-1 is no limit")
    change.add_argument("--force", action="store_true", help="even below what is used")
    change.set_defaults(run=_set)
    reset = verbs.add_parser("reset", help="give a project the default quotas again")
    reset.add_argument("project", metavar="PROJECT", help="an id")
    reset.set_defaults(run=_reset)
    for verb in (show, change, reset):
        access.add(verb)


def _show(args: Namespace) -> int:
    with access.connected(args) as client:
        project = args.project or own_project(client)
        found = client.request("GET", f"/v2.0/quotas/{project}/details")["quota"]
    if args.json:
        print(as_json(found))
        return 0
    rows = [{"resource": name, **use} for name, use in sorted(found.items())]
    print(table([{**row, "limit": _limit(row["limit"])} for row in rows], COLUMNS))
    return 0


def _limit(limit: int) -> str:
    return "unlimited" if limit < 0 else str(limit)


def _set(args: Namespace) -> int:
    wish: dict[str, Any] = {"force": args.force} if args.force else {}
    for word in args.limits:
        name, equals, limit = word.partition("=")
        if not equals:
            raise Invalid(f"{word!r} is no quota such as network=20")
        wish[name] = limit
    with access.connected(args) as client:
        client.request("PUT", f"/v2.0/quotas/{args.project}", {"quota": wish})
    return 0


def _reset(args: Namespace) -> int:
    with access.connected(args) as client:
        client.request("DELETE", f"/v2.0/quotas/{args.project}")
    return 0
