"""``trunkline lab fault`` and ``faults``: plant faults in a lab, and score who finds them."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction

from trunkline.errors import Invalid


def add(verbs: _SubParsersAction[ArgumentParser]) -> None:
    """Register the two verbs."""
    text = "plant a fault in a lab that is up, or heal it"
    fault = verbs.add_parser("fault", help=text, description=text)
    what = fault.add_mutually_exclusive_group(required=True)
    what.add_argument("fault", nargs="?", metavar="NAME", help="which; --list says what there is")
    what.add_argument("--heal", action="store_true", help="end the fault that stands")
    what.add_argument("--list", action="store_true", help="say what can be planted")
    fault.add_argument("--name", default="article", help="the lab's name; default: article")
    fault.set_defaults(run=_fault)
    text = "plant one fault after the other, trace each live, and print the score"
    score = verbs.add_parser("faults", help=text, description=text)
    score.add_argument("faults", nargs="*", metavar="NAME", help="none is the whole catalogue")
    score.add_argument(
        "--sound", type=int, metavar="N", help="instead: trace N random flows, plant nothing"
    )
    score.add_argument("--seed", type=int, default=1, help="of these flows; default: %(default)s")
    score.add_argument("--name", help="the lab's name; default: article")
    score.set_defaults(run=_faults)


def _fault(args: Namespace) -> int:
    from trunkline.lab import faults, sabotage, state  # noqa: PLC0415 - other commands start faster
    from trunkline.lab.diagnose import HostsReadBack  # noqa: PLC0415 - likewise
    from trunkline.lab.stage import Stage  # noqa: PLC0415 - likewise

    if args.list:
        for fault in faults.FAULTS:
            print(f"{fault.name:22} {fault.text}")
        return 0
    _need_root()
    wanted = None if args.heal else faults.find(args.fault)
    lab = state.find_complete(args.name)
    with state.locked(args.name), HostsReadBack(lab) as hosts:
        scene = faults.scene(Stage(lab))
        if wanted is None:
            healed = sabotage.heal(scene, hosts)
            print(f"fault {healed} is healed" if healed else f"no fault stands in lab {args.name}")
            return 0
        sabotage.plant(scene, wanted)
    named = "" if args.name == "article" else f" --name {args.name}"
    print(f"planted: {wanted.text}; the agent of a host concerned is stopped")
    print(f"see it:  {wanted.asked.command}{named}")
    print(f"end it:  trunkline lab fault --heal{named}")
    return 0


def _faults(args: Namespace) -> int:
    from trunkline.lab import run, score  # noqa: PLC0415 - likewise
    from trunkline.lab.stage import Stage  # noqa: PLC0415 - likewise

    _need_root()
    # Whoever ends it by SIGTERM wants the lab sound again, too, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if args.sound is not None and args.faults:
        raise Invalid("--sound plants nothing; give no fault's NAME beside it")
    if args.sound is not None and args.sound < 1:
        raise Invalid(f"--sound {args.sound}: give how many flows, 1 or more")
    wanted = score.chosen(args.faults)
    with run.living(None, args.name, _say) as lab, lab.disturbed():
        if args.sound is not None:
            alarms = score.sound(Stage(lab), args.sound, args.seed, _say)
            return 1 if alarms.false or alarms.unknown else 0
        results = score.run(Stage(lab), wanted, _say)
    return 0 if all(result.located for result in results) else 1


def _say(line: str) -> None:
    """Say a line at once, also into a pipe."""
    print(line, flush=True)


def _need_root() -> None:
    """Refuse at once what needs the kernel's network namespaces.

    Raises:
        PermissionError: This process is not root.
    """
    if os.geteuid() != 0:
        command = " ".join(["sudo", *sys.argv])
        raise PermissionError(f"a lab is made of network namespaces, which needs root: {command}")
