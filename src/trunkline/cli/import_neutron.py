"""``trunkline import-neutron``: takes a running Neutron's networks over, and says what became.

Runs where the server's configuration is, as it writes to the database; asks Neutron over its API.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.cli import access

if TYPE_CHECKING:
    from trunkline.api.takeover import Found, Report
    from trunkline.client import ApiClient


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "import-neutron",
        help="take over what a running Neutron has, with ids, MACs, addresses and VLAN ids;"
        " without --apply, only say what would become of it",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="this server's configuration"
    )
    parser.add_argument("--apply", action="store_true", help="do it, all or nothing")
    parser.add_argument(
        "--leave-out",
        action="store_true",
        help="do it without what is refused, and without what needs that",
    )
    access.add(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Read, take over and report; return 1 if something is refused and so nothing was done."""
    from trunkline.api.config import load  # noqa: PLC0415  other commands start faster without
    from trunkline.api.serve import open_database  # noqa: PLC0415  likewise
    from trunkline.api.takeover import take_over  # noqa: PLC0415  likewise

    with access.connected(args) as client:
        found = read(client)
    database = open_database(load(args.config))
    try:
        report = take_over(database, found, apply=args.apply, leave_out=args.leave_out)
    finally:
        database.close()
    blocked = bool(report.refused) and not args.leave_out
    _show(report, applied=args.apply and not blocked)
    return int(blocked)


def read(client: ApiClient) -> Found:
    """Return all that a Neutron has to be taken over, as its administrator sees it."""
    from trunkline.api.takeover import COLLECTIONS  # noqa: PLC0415  likewise

    found = {name: client.list(name) for name in (*COLLECTIONS, "quotas")}
    for floating in found["floatingips"]:
        if floating.get("port_forwardings"):
            where = f"/v2.0/floatingips/{floating['id']}/port_forwardings"
            floating.update(client.request("GET", where))  # there with all that they have
    return found


def _show(report: Report, *, applied: bool) -> None:
    for title, lines in (("stays behind", report.skipped), ("refused", report.refused)):
        for line in lines:
            print(f"{title}: {line}")
    for name in sorted(report.taken | report.here):
        here = f", {report.here[name]} here already" if report.here[name] else ""
        print(f"{name}: {report.taken[name]} {'taken over' if applied else 'to take over'}{here}")
    if not applied:
        print(
            "Nothing was changed:"
            + (" something is refused; --leave-out goes on without it." if report.refused else "")
            + (" --apply does it." if not report.refused else "")
        )
