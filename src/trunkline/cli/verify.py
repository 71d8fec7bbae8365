"""``trunkline verify``: who can reach whom in the whole cloud, and what a plan would change.

From intent, and where the hosts' kernels, as their agents last read them, are not what is meant.

Exit codes: 0 all well (with ``--diff``: the plan changes nothing), 1 findings; see ``main`` for
the others. ``--watch`` ends by being interrupted.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trunkline.cli import access
from trunkline.errors import Invalid, ServerUnavailable

WATCH_S = 2.0


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:  # noqa: PLR2004 - an hour
        raise ValueError(text)
    return seconds


def add(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Register the command."""
    text = "say who can reach whom, all ports at once, and what deserves a second look"
    parser = commands.add_parser("verify", help=text, description=text)
    parser.add_argument(
        "--diff",
        type=Path,
        metavar="PLANNED",
        help="a YAML or JSON list of API requests, {method, path, body}: say what they would open"
        " and close; none is carried out",
    )
    parser.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=WATCH_S,
        metavar="SECONDS",
        help="ask again and again, and say of each change what it did to the pairs of ports that"
        " reach each other",
    )
    parser.add_argument("--json", action="store_true", help="as data")
    access.add(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Ask the server for the cloud, and say what there is to say."""
    if args.watch is not None:
        return _watch(args)
    planned = [] if args.diff is None else _planned(args.diff)
    with _uncollected():
        answer = _ask(args, planned)
        return _diff(answer, args) if args.diff is not None else _report(answer, args)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Have no garbage collected meanwhile: half of the time goes into looking for cycles.

    A cloud is millions of small values, and none of them is part of a cycle; references are
    counted all the same.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _planned(path: Path) -> list[Any]:
    import yaml  # noqa: PLC0415 - other commands start faster

    try:
        planned = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Invalid(f"--diff {path}: {error}") from error
    if not isinstance(planned, list) or not planned:
        raise Invalid(f"--diff {path}: must be a list of requests, each {{method, path, body}}")
    return planned


def _ask(args: Namespace, planned: list[Any]) -> dict[str, Any]:
    with access.connected(args) as client:
        answer: dict[str, Any] = client.request("POST", "/v2.0/cloud", {"planned": planned})
    return answer


def _report(answer: dict[str, Any], args: Namespace) -> int:
    from trunkline.trace.verify_report import report_out, tell, verify  # noqa: PLC0415

    report = verify(_cloud(_told(answer, "cloud")), _kernels(answer))
    if args.json:
        print(json.dumps(report_out(report), indent=2))
    else:
        print("\n".join(tell(report)))
    return 0 if report.is_well else 1


def _diff(answer: dict[str, Any], args: Namespace) -> int:
    from trunkline.trace.verify_data import changed  # noqa: PLC0415
    from trunkline.trace.verify_diff import differences  # noqa: PLC0415
    from trunkline.trace.verify_report import difference_out, tell_difference  # noqa: PLC0415

    told = _told(answer, "cloud")
    after = changed(told, _told(answer, "planned"))
    found = list(differences(_cloud(told), _cloud(after)))
    if args.json:
        print(json.dumps([difference_out(one) for one in found], indent=2))
    else:
        print("\n".join(map(tell_difference, found)) or "the plan opens and closes nothing")
    return 1 if found else 0


def _watch(args: Namespace) -> int:
    from trunkline.trace.verify_watch import Watch  # noqa: PLC0415 - numpy loads slowly

    if args.diff is not None:
        raise Invalid("--watch and --diff cannot be used together; leave one of them out")
    with access.connected(args) as client:
        answer = client.request("POST", "/v2.0/cloud", {})
        with _uncollected():
            watch = Watch(_told(answer, "cloud"))
        print(f"watching {len(answer['marks'])} hosts; Ctrl-C ends", file=sys.stderr, flush=True)
        while True:
            time.sleep(args.watch)
            known = answer["marks"]
            answer = client.request("POST", "/v2.0/cloud", {"known": known})
            gone = known.keys() - answer["marks"].keys()
            told = _told(answer, "cloud")
            if told or gone:
                hosts = sorted({*gone, *(snapshot.host for snapshot, _ in told)})
                _say(hosts, watch.update(told, gone), args)


def _say(hosts: list[str], shifts: list[Any], args: Namespace) -> None:
    from trunkline.trace.verify_report import shift_out  # noqa: PLC0415 - as above

    if args.json:
        found = {"hosts": hosts, "shifts": [shift_out(one) for one in shifts]}
        print(json.dumps(found), flush=True)
    else:
        lines = [f"  {one}" for one in shifts] or ["  as many pairs reach each other as before"]
        print("\n".join([f"changed: {', '.join(hosts)}", *lines]), flush=True)


def _told(answer: dict[str, Any], part: str) -> list[Any]:
    from trunkline.trace.verify_data import cloud_in  # noqa: PLC0415 - numpy loads slowly

    return _read(answer, part, cloud_in)


def _kernels(answer: dict[str, Any]) -> list[Any]:
    from trunkline.trace.verify_kernel import kernels_in  # noqa: PLC0415 - as above

    return _read(answer, "kernels", kernels_in)


def _read(answer: dict[str, Any], part: str, decode: Callable[[Any], list[Any]]) -> list[Any]:
    try:
        return decode(answer[part])
    except (KeyError, TypeError, ValueError) as error:
        raise ServerUnavailable(
            f"the server's answer is no cloud ({error!r}); it may be of another version"
        ) from error


def _cloud(told: list[Any]) -> Any:
    from trunkline.trace.verify_cloud import gather  # noqa: PLC0415 - as above

    return gather(
        [snapshot for snapshot, _ in told],
        {snapshot.host: settings for snapshot, settings in told},
    )
