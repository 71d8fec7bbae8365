"""``trunkline trace``: what path a packet takes, and which object decided each step.

Exit codes: 0 delivered, 1 not, or with ``--live`` not as predicted, 3 unknown, or not all hosts
could say what they saw; see ``main`` for the others.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.cli import access
from trunkline.errors import Invalid, ServerUnavailable
from trunkline.trace.data import trace_in, trace_out
from trunkline.trace.draw import mermaid, svg
from trunkline.trace.steps import Disposition, Trace
from trunkline.trace.tell import story, terse

if TYPE_CHECKING:
    from trunkline.client import ApiClient

LOOK_EVERY_S = 0.2
LIVE_LIMIT_S = 60.0  # the server's own limits are shorter


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Register the command."""
    text = "say what path a packet takes, and why"
    parser = commands.add_parser("trace", help=text, description=text)
    parser.add_argument("source", nargs="?", help="a port's name, id or address")
    parser.add_argument("destination", help="the same, or an address outside, or 'internet'")
    parser.add_argument(
        "--from-internet", action="store_true", help="somebody outside asks; give no SOURCE"
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="have the hosts send it as from the port, and compare what they see",
    )
    add_flow(parser)
    add_forms(parser)
    access.add(parser)
    parser.set_defaults(run=run)


def add_flow(parser: ArgumentParser) -> None:
    """Register what says which flow is meant."""
    parser.add_argument("--proto", default="icmp", help="a name or number; default: %(default)s")
    parser.add_argument("--port", type=int, help="destination port, with tcp and udp")
    parser.add_argument("--size", type=int, default=84, help="of the packet, in bytes")
    parser.add_argument(
        "--source-address", metavar="ADDRESS", help="that the packet claims to come from"
    )


def add_forms(parser: ArgumentParser) -> None:
    """Register the forms in which a trace can be shown."""
    parser.add_argument(
        "--advise", action="store_true", help="of a flow that fails, what would open it"
    )
    parser.add_argument("--why", action="store_true", help="what decided each step, what lost")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--terse", action="store_true", help="a line per hop")
    forms.add_argument("--json", action="store_true", help="as data")
    forms.add_argument("--mermaid", action="store_true", help="as a Mermaid diagram")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw it into a file, too")


def run(args: Namespace) -> int:
    """Ask the server and show its answer."""
    source = args.source
    if args.from_internet:
        if source is not None:
            raise Invalid("--from-internet: the Internet is the source; give DESTINATION only")
        source = "internet"
    if source is None:
        raise Invalid("trace: give SOURCE and DESTINATION, or --from-internet and DESTINATION")
    with access.connected(args) as client:
        made = client.create("traces", _wish(args, source))
        if args.live:
            made = _observed(client, made)
    trace = _read(made["answer"])
    if not args.live:
        return show(trace, args)
    if args.json:
        print(json.dumps({**made["answer"], "observed": made["observed"]}, indent=2))
        return _code_observed(made["observed"], _code(trace))
    code = show(trace, args)
    print("\n".join(_lines_observed(made["observed"])))
    return _code_observed(made["observed"], code)


def _observed(client: ApiClient, made: dict[str, Any]) -> dict[str, Any]:
    """Return a live trace once it is over."""
    end = time.monotonic() + LIVE_LIMIT_S
    while made["observed"]["status"] == "RUNNING":
        if time.monotonic() > end:
            raise ServerUnavailable(f"trace {made['id']} has no end; ask for it again")
        time.sleep(LOOK_EVERY_S)
        made = client.show("traces", made["id"])
    return made


def _lines_observed(observed: dict[str, Any]) -> Iterator[str]:
    """Yield what the hosts saw against what was predicted of them."""
    yield "\nSeen by the hosts, against what was predicted:"
    for line in (*observed["comparison"], *_unsure(observed)):
        yield f"  {line}"
    yield from (f"  {line}" for line in observed["drops"])
    found = observed["deviation"]
    yield f"First deviation: {found}" if found else "Nothing that was seen deviates."


def _unsure(observed: dict[str, Any]) -> list[str]:
    """Return, as sentences, why what was seen may not be all there was to see."""
    found = [f"host {name}: its agent did not answer in time" for name in observed["silent_hosts"]]
    found += [f"host {name}: changed while it was traced" for name in observed["changed"]]
    if observed["status"] == "GONE":
        found.append("the server has forgotten what was seen")
    return [*found, *observed["problems"]]


def _code_observed(observed: dict[str, Any], predicted: int) -> int:
    if _unsure(observed):
        return 3
    return 1 if observed["deviation"] else predicted


def _wish(args: Namespace, source: str) -> dict[str, Any]:
    return {
        "source": source,
        "destination": args.destination,
        "protocol": args.proto,
        "port": args.port,
        "size": args.size,
        "source_address": args.source_address,
        "advise": args.advise,
        "live": args.live,
    }


def _read(answer: dict[str, Any]) -> Trace:
    try:
        return trace_in(answer)
    except (KeyError, TypeError, ValueError) as error:
        raise ServerUnavailable(
            f"the server's answer is no trace ({error}); it may be of another version"
        ) from error


def show(trace: Trace, args: Namespace) -> int:
    """Print a trace in the form asked for and return the exit code."""
    if args.svg is not None:
        try:
            args.svg.write_text(svg(trace), encoding="utf-8")
        except OSError as error:
            raise Invalid(f"--svg {args.svg}: {error.strerror or error}") from error
    if args.json:
        print(json.dumps(trace_out(trace), indent=2))
    elif args.terse:
        print(terse(trace))
    else:
        print(mermaid(trace) if args.mermaid else story(trace, why=args.why))
    return _code(trace)


def _code(trace: Trace) -> int:
    if trace.disposition is Disposition.UNKNOWN:
        return 3
    return 0 if trace.disposition is Disposition.DELIVERED else 1
