"""Commands on a host: run the agent, show what it would change, check for drift."""

from __future__ import annotations

import fcntl
import gc
import logging
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import IO, TYPE_CHECKING, Any

from trunkline.errors import Conflict, RequestError

if TYPE_CHECKING:
    from trunkline.agent.config import AgentConfig
    from trunkline.agent.loop import Inbox
    from trunkline.agent.reconcile import Plan

DEFAULT_CONFIG = Path("/etc/trunkline/agent.toml")


def add(commands: Any) -> None:
    """Register ``agent``, ``plan`` and ``check``."""
    _command(commands, "agent", run_agent, "run this host's agent").add_argument(
        "--debug", action="store_true", help="log every operation as the command it stands for"
    )
    _command(commands, "plan", run_plan, "print, as commands, what the agent would change")
    _command(commands, "check", run_check, "exit with 1 if the host is not what it must be")


def _command(commands: Any, name: str, run: Any, text: str) -> ArgumentParser:
    parser: ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="%(default)s")
    parser.set_defaults(run=run)
    return parser


def run_agent(args: Namespace) -> int:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
    from trunkline.agent.config import load  # noqa: PLC0415 - start-up time of other commands
    from trunkline.agent.loop import Inbox  # noqa: PLC0415

    logging.basicConfig(
        stream=sys.stderr,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
        level=logging.INFO,
    )
    if args.debug:
        logging.getLogger("trunkline").setLevel(logging.DEBUG)
    config = load(args.config)
    alone = _alone(config)
    gc.disable()  # else it would look through a large host in the middle of a change; see Loop
    while True:
        reload = Event()
        inbox = Inbox()
        with _stopping(inbox, reload) as stop:
            _run_until(config, inbox, stop)
        if not reload.is_set():
            alone.close()
            return 0
        try:
            config = load(args.config)
        except RequestError as error:
            logging.getLogger("trunkline.agent").error("kept the old configuration: %s", error)  # noqa: TRY400 - the message says it all


def _alone(config: AgentConfig) -> IO[str]:
    """Hold the host's lock: two agents would undo each other's work. It ends with the process.

    Raises:
        Conflict: Another agent has it.
    """
    path = Path(config.host.state_dir) / "agent.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("w", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise Conflict(f"host {config.host.host}: another agent runs, it holds {path}") from error
    return lock


def _run_until(config: AgentConfig, inbox: Inbox, stop: Event) -> None:
    from trunkline.agent.loop import Loop, Reporter, listening  # noqa: PLC0415
    from trunkline.agent.probe import Probes  # noqa: PLC0415
    from trunkline.client import AgentClient  # noqa: PLC0415
    from trunkline.kernel.linux import LinuxKernel  # noqa: PLC0415

    host = config.host.host
    logging.getLogger("trunkline.agent").info("host %s, server %s", host, config.server)

    def connect() -> AgentClient:
        return AgentClient(config.server, config.token, host)

    reporter = Reporter(connect(), config.host)
    with listening(connect(), inbox, stop, Probes(connect, config.host)):
        Loop(LinuxKernel(), config.host, reporter, inbox).run(stop)


@contextmanager
def _stopping(inbox: Inbox, reload: Event) -> Iterator[Event]:
    """Turn signals into events: SIGTERM and SIGINT stop, SIGHUP stops and asks to start again."""
    stop = Event()

    def end(number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            reload.set()
        stop.set()
        inbox.wake()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    yield stop


def _plan(path: Path) -> Plan:
    from trunkline.agent.config import load  # noqa: PLC0415
    from trunkline.agent.reconcile import plan  # noqa: PLC0415
    from trunkline.client import AgentClient  # noqa: PLC0415
    from trunkline.kernel.linux import LinuxKernel  # noqa: PLC0415

    config = load(path)
    snapshot = AgentClient(config.server, config.token, config.host.host).snapshot(None, 0)
    assert snapshot is not None, "a first snapshot is never 'nothing new'"
    return plan(LinuxKernel(), config.host, snapshot)


def run_plan(args: Namespace) -> int:
    """Print the operations due as commands, and the problems as comments."""
    plan = _plan(args.config)
    for problem in plan.problems:
        print(f"# {problem.subject}: {problem.text}")
    for operation in plan.operations:
        print(operation.command())
    if not plan.operations:
        print("# in sync, nothing to do")
    return 0


def run_check(args: Namespace) -> int:
    """Say whether the host is what it must be; 1 for drift or a problem."""
    plan = _plan(args.config)
    for problem in plan.problems:
        print(f"problem: {problem.subject}: {problem.text}")
    for operation in plan.operations:
        print(f"drift: {operation.command()}")
    if plan.operations or plan.problems:
        return 1
    print("in sync")
    return 0
