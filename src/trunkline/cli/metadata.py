"""``trunkline metadata``: a host's metadata proxy, beside its agent."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from trunkline.cli.agent import DEFAULT_CONFIG


def add(commands: Any) -> None:
    """Register the command."""
    text = "pass this host's instances' questions for metadata on, with proof of who asks"
    parser = commands.add_parser("metadata", help=text, description=text)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="%(default)s")
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Serve until told to stop."""
    from trunkline.agent.config import load  # noqa: PLC0415 - other commands start faster without
    from trunkline.agent.metadata import serve  # noqa: PLC0415 - likewise

    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    serve(load(args.config))
    return 0
