"""``trunkline server``: the API server of one cloud."""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("server", help="serve the Networking API of one cloud")
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="configuration, TOML"
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Serve until told to stop."""
    from trunkline.api.config import load  # noqa: PLC0415  other commands start faster without
    from trunkline.api.serve import serve  # noqa: PLC0415  likewise

    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    serve(load(args.config))
    return 0
