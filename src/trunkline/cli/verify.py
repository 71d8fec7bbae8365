"""``trunkline verify``: who can reach whom in the whole cloud, and what a plan would change.

From intent, and where the hosts' kernels, as their agents last read them, are not what is meant.

Exit codes: 0 all well (with ``--diff``: the plan changes nothing), 1 findings; see ``main`` for
the others.
"""

from __future__ import annotations

import gc
import json
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trunkline.cli import access
from trunkline.errors import Invalid, ServerUnavailable


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
    parser.add_argument("--json", action="store_true", help="as data")
    access.add(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Ask the server for the cloud, and say what there is to say."""
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
