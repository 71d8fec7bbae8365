"""``trunkline probe``: what the switches between the hosts carry, seen by frames of the agents'.

Exit codes: 0 all that is needed is carried, 1 something is not, 3 not all could be seen.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Iterator, Mapping
from typing import Any

from trunkline.cli import access
from trunkline.errors import ServerUnavailable

LOOK_EVERY_S = 0.2
LIMIT_S = 180.0  # the server's own limits are shorter


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Register the command."""
    text = (
        "see what the switches carry: each VLAN, and untagged frames where a network is flat,"
        " between each two hosts, both ways"
    )
    parser = commands.add_parser("probe", help=text, description=text)
    parser.add_argument("--host", action="append", dest="hosts", help="only these; repeat it")
    parser.add_argument(
        "--vlan", action="append", dest="vlan_ids", type=int, help="only these; repeat it"
    )
    parser.add_argument("--json", action="store_true", help="as data")
    access.add(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Ask for a probe, wait for its end and show what it found."""
    wish = {key: getattr(args, key) for key in ("hosts", "vlan_ids") if getattr(args, key)}
    with access.connected(args) as client:
        found = client.create("probes", wish)
        end = time.monotonic() + LIMIT_S
        while found["status"] != "DONE":
            if time.monotonic() > end:
                raise ServerUnavailable(f"probe {found['id']} has no end; ask for it again")
            time.sleep(LOOK_EVERY_S)
            found = client.show("probes", found["id"])
    print(json.dumps(found, indent=2) if args.json else "\n".join(_lines(found)))
    return _code(found)


def _code(found: Mapping[str, Any]) -> int:
    if found["silent_hosts"]:
        return 3
    return 1 if found["faults"] else 0


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a row per VLAN and pair of hosts, then what is wrong."""
    yield f"{'VLAN':<16}{'from':<16}{'to':<16}carried"
    for path in found["paths"]:
        number = "untagged" if path["vlan_id"] is None else path["vlan_id"]
        vlan = f"{path['physical_network']}:{number}"
        yield f"{vlan:<16}{path['source']:<16}{path['destination']:<16}{_carried(path)}"
    for problem in found["problems"]:
        yield f"problem: {problem}"
    for fault in found["faults"]:
        yield f"fault: {fault}"
    if not found["faults"]:
        yield "the switches carry all that is needed"


def _carried(path: Mapping[str, Any]) -> str:
    aside = "" if path["needed"] else " (not needed: one of the two does not serve the network)"
    if path["carriage"] in ("carried", "too small"):
        return f"{path['largest']} of {path['wanted']} bytes{aside}"
    return f"{path['carriage']}{aside}"
