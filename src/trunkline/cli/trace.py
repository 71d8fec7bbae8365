"""``trunkline trace``: what path a packet takes, and which object decided each step.

Exit codes: 0 delivered, 1 not, 3 unknown; see ``main`` for the others.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path
from typing import Any

from trunkline.cli import access
from trunkline.errors import Invalid, ServerUnavailable
from trunkline.trace.data import trace_in, trace_out
from trunkline.trace.draw import mermaid, svg
from trunkline.trace.steps import Disposition, Trace
from trunkline.trace.tell import story, terse


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Register the command."""
    text = "say what path a packet takes, and why"
    parser = commands.add_parser("trace", help=text, description=text)
    parser.add_argument("source", nargs="?", help="a port's name, id or address")
    parser.add_argument("destination", help="the same, or an address outside, or 'internet'")
    parser.add_argument(
        "--from-internet", action="store_true", help="somebody outside asks; give no SOURCE"
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
    return show(_read(made["answer"]), args)


def _wish(args: Namespace, source: str) -> dict[str, Any]:
    return {
        "source": source,
        "destination": args.destination,
        "protocol": args.proto,
        "port": args.port,
        "size": args.size,
        "source_address": args.source_address,
        "advise": args.advise,
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
    if trace.disposition is Disposition.UNKNOWN:
        return 3
    return 0 if trace.disposition is Disposition.DELIVERED else 1
