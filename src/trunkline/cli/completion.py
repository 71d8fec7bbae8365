"""``trunkline completion SHELL``: prints what a shell needs to complete commands and options."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _SubParsersAction
from functools import partial

SHELLS = ("bash", "zsh", "tcsh")


def add(commands: _SubParsersAction[ArgumentParser], whole: ArgumentParser) -> None:
    """Register the command; ``whole`` is the parser of all that is to be completed."""
    text = "print a script that completes commands and options"
    epilog = 'bash: eval "$(trunkline completion bash)" in ~/.bashrc'
    parser = commands.add_parser("completion", help=text, description=text, epilog=epilog)
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=partial(_run, whole))


def _run(whole: ArgumentParser, args: Namespace) -> int:
    import shtab  # noqa: PLC0415  other commands start faster without

    print(shtab.complete(whole, args.shell))
    return 0
