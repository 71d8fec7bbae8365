"""``trunkline lab``: the article's cloud on one machine, from network namespaces."""

from __future__ import annotations

import json
import os
import signal
import sys
from argparse import REMAINDER, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable
from pathlib import Path
from shutil import which

from trunkline.cli import lab_fault
from trunkline.cli.trace import add_flow, add_forms, show
from trunkline.errors import Conflict


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Register the command and its verbs."""
    lab = commands.add_parser("lab", help="a whole cloud on this machine, and the scenarios")
    verbs = lab.add_subparsers(required=True, metavar="VERB")
    up = _verb(verbs, "up", _up, "bring a lab up")
    shipped = "topology file, or a shipped one's name, such as 'article'"
    up.add_argument("file", nargs="?", default="article", help=shipped)
    down = _verb(verbs, "down", _down, "take a lab down; nothing of it stays")
    down.add_argument("--all", action="store_true", help="every lab, also what dead ones left")
    inspect = _verb(verbs, "inspect", _inspect, "show a lab's nodes and instances")
    inspect.add_argument("--json", action="store_true", help="as data")
    execute = _verb(verbs, "exec", _exec, "run a command on a node: exec NODE -- CMD")
    execute.add_argument("node")
    execute.add_argument("argv", nargs=REMAINDER, metavar="CMD")
    shell = _verb(verbs, "shell", _shell, "open a shell on a node")
    shell.add_argument("node")
    capture = _verb(verbs, "capture", _capture, "show frames as they pass, until interrupted")
    capture.add_argument("places", nargs="+", metavar="NODE[:IF]")
    _verb(verbs, "pingall", _pingall, "ping from every instance to every other")
    trace = _verb(verbs, "trace", _trace, "say what path a packet takes, and show it")
    trace.add_argument("source", help="an instance, or 'internet'")
    trace.add_argument("destination", help="an instance, an address, or 'dhcp'")
    trace.add_argument("--live", action="store_true", help="send it, and compare what was seen")
    add_flow(trace)
    add_forms(trace)
    lab_fault.add(verbs)
    text = "send one flow of each class of equal behaviour, and compare with what 'verify' counts"
    verify = _verb(verbs, "verify", _verify, text)
    verify.add_argument("--json", action="store_true", help="as data")
    verify.add_argument(
        "--file", help="topology, 'article' by default; of a lab that is up, its own"
    )
    _add_matrix(verbs)
    run = _verb(verbs, "run", _run, "play the article's scenarios")
    run.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help="such as 1 to 7, 6b, routers, forward; none is all of the topology",
    )
    run.add_argument("--json", action="store_true", help="the walks and verdicts as data")
    run.add_argument("--pcap", type=Path, metavar="DIR", help="write the captured frames there")
    run.add_argument("--file", help="topology, 'article' by default; of a lab that is up, its own")


def _add_matrix(verbs: _SubParsersAction[ArgumentParser]) -> None:
    text = "try every combination of gateway, router, IP version and provisioning; minutes"
    matrix = verbs.add_parser("matrix", help=text, description=text)
    matrix.add_argument("--name", default="matrix", help="the lab's name; default: %(default)s")
    matrix.add_argument("--only", action="append", default=[], metavar="AXIS=VALUE", type=_pair)
    matrix.add_argument("--json", action="store_true", help="as data")
    matrix.set_defaults(run=_matrix)


def _pair(text: str) -> tuple[str, str]:
    axis, sign, value = text.partition("=")
    if not sign:
        raise ValueError(text)
    return axis, value


def _verb(
    verbs: _SubParsersAction[ArgumentParser],
    name: str,
    run: Callable[[Namespace], int],
    text: str,
) -> ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text)
    named_by_file = name in ("up", "run", "verify")
    parser.add_argument(
        "--name",
        default=None if named_by_file else "article",
        help="the lab's name; without it the topology's" if named_by_file else "default: article",
    )
    parser.set_defaults(run=run)
    return parser


def _up(args: Namespace) -> int:
    from trunkline.lab import life, show, topology  # noqa: PLC0415 - other commands start faster

    _need_root()
    lab, built = life.up(topology.read(args.file), args.name)
    name = lab.topology.name
    print(f"lab {name} is up" if built else f"lab {name} was up already")
    print(show.inventory(lab))
    return 0


def _down(args: Namespace) -> int:
    from trunkline.lab import life, state  # noqa: PLC0415 - likewise

    _need_root()
    names = state.living() if args.all else (args.name,)
    for name in names:
        was_there = life.down(name)
        print(f"lab {name} is down" if was_there else f"there is no lab {name}")
    return 0


def _inspect(args: Namespace) -> int:
    from trunkline.lab import show, state  # noqa: PLC0415 - likewise

    _need_root()
    lab = state.find(args.name)
    print(json.dumps(show.facts(lab), indent=2) if args.json else show.inventory(lab))
    return 0


def _exec(args: Namespace) -> int:
    argv = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    return _become(args, argv)


def _shell(args: Namespace) -> int:
    return _become(args, [os.environ.get("SHELL", "/bin/sh")])


def _become(args: Namespace, argv: list[str]) -> int:
    """Become a command on a node, with the node's own /etc/resolv.conf (ip-netns(8))."""
    from trunkline.errors import Invalid  # noqa: PLC0415 - likewise
    from trunkline.lab import state  # noqa: PLC0415 - likewise

    _need_root()
    if not argv:
        raise Invalid("lab exec: no command given; write it after '--'")
    lab = state.find_complete(args.name)
    namespace = state.node_namespace(lab, args.node)
    if which(argv[0]):  # nodes share this machine's file system
        os.execvp("ip", ["ip", "netns", "exec", namespace, *argv])  # noqa: S606, S607 - as asked
    print(f"trunkline: lab exec: there is no program {argv[0]}", file=sys.stderr)
    return 127  # as a shell says it


def _capture(args: Namespace) -> int:
    from trunkline.lab import show, state  # noqa: PLC0415 - likewise

    _need_root()
    show.follow(state.find_complete(args.name), args.places, _say)
    return 0


def _pingall(args: Namespace) -> int:
    from trunkline.lab import show, state  # noqa: PLC0415 - likewise

    _need_root()
    print(show.pingall(state.find_complete(args.name)))
    return 0


def _trace(args: Namespace) -> int:
    from trunkline.lab import question, state  # noqa: PLC0415 - likewise
    from trunkline.lab.diagnose import HostsReadBack  # noqa: PLC0415 - likewise
    from trunkline.lab.stage import Stage  # noqa: PLC0415 - likewise

    _need_root()
    lab = state.find_complete(args.name)
    flow = question.Question(
        args.source, args.destination, args.proto, args.port, args.source_address, args.size
    )
    if not args.live:
        return show(question.predict(lab, flow, with_advice=args.advise), args)
    with state.locked(args.name), HostsReadBack(lab) as hosts:
        found = question.shoot(Stage(lab), hosts, flow)
    code = show(found.prediction.trace, args)
    if not args.json:
        print(question.tell(found))
    return 1 if found.diagnosis.faults else code


def _run(args: Namespace) -> int:
    from trunkline.lab import run, topology  # noqa: PLC0415 - likewise

    _need_root()
    # Whoever ends a run by SIGTERM wants its lab taken down too, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say = _nothing if args.json else _say
    text = topology.read(args.file) if args.file else None
    reports = run.run(text, args.name, run.chosen(args.scenarios), pcap=args.pcap, say=say)
    if args.json:
        print(json.dumps([report.data() for report in reports], indent=2))
    return 0 if all(report.passed for report in reports) else 1


def _verify(args: Namespace) -> int:
    from trunkline.lab import run, topology, verify  # noqa: PLC0415 - likewise
    from trunkline.lab.stage import Stage  # noqa: PLC0415 - likewise

    _need_root()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say = _nothing if args.json else _say
    with run.living(topology.read(args.file) if args.file else None, args.name, say) as lab:
        found = verify.verify(Stage(lab), say)
    if args.json:
        print(json.dumps(found.data(), indent=2))
    return 1 if found.wrong else 0


def _matrix(args: Namespace) -> int:
    from trunkline.lab import matrix, state  # noqa: PLC0415 - likewise

    _need_root()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if args.name in state.living():
        raise Conflict(f"lab {args.name} is up; take it down, or choose another --name")
    say = _nothing if args.json else _say
    outcomes = matrix.run(dict(args.only), args.name, say)
    if args.json:
        print(json.dumps([outcome.data() for outcome in outcomes], indent=2))
    return 1 if any(outcome.what == "wrong" for outcome in outcomes) else 0


def _say(line: str) -> None:
    """Say a line at once, also into a pipe."""
    print(line, flush=True)


def _nothing(*_: object) -> None:
    """Say nothing: the answer comes as data, at the end."""


def _need_root() -> None:
    """Refuse at once what needs the kernel's network namespaces.

    Raises:
        PermissionError: This process is not root.
    """
    if os.geteuid() != 0:
        command = " ".join(["sudo", *sys.argv])
        raise PermissionError(f"a lab is made of network namespaces, which needs root: {command}")
