"""The ``trunkline`` command: finds the area a command belongs to and hands over.

Exit codes: 0 done, 1 the answer is no (drift, a failed scenario), 2 the command was wrong,
3 something needed is missing or unreachable. 141 as with any program whose reader has gone.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module

from trunkline.cli import completion
from trunkline.errors import RequestError, ServerUnavailable, TrunklineError

AREAS = (
    "server", "bootstrap", "agent", "doctor", "metadata", "lab", "trace", "verify", "probe",
    "objects", "quota", "import_neutron",
)  # fmt: skip
"""Modules of this package; each has ``add(commands)``, which registers its commands and their
``run`` function. Heavy imports belong inside ``run``: start-up time is every user's."""

READER_GONE = 141  # 128 + SIGPIPE, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = ArgumentParser(prog="trunkline", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for area in AREAS:
        import_module(f"trunkline.cli.{area}").add(commands)
    completion.add(commands, parser)
    args = parser.parse_args(argv)
    try:
        code = int(args.run(args) or 0)
        sys.stdout.flush()
        return code  # noqa: TRY300 - what is printed is part of it
    except BrokenPipeError:  # the reader has gone, as with ``| head``: nobody is left to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except RequestError as error:
        print(f"trunkline: {error}", file=sys.stderr)
        return 2
    except (TrunklineError, ServerUnavailable, OSError) as error:
        print(f"trunkline: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
