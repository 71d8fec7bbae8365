"""Commands on a host: run the agent, show what it would change, check for drift, diagnose."""

from __future__ import annotations

import fcntl
import gc
import logging
import platform
import shutil
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import IO, TYPE_CHECKING, Any

from trunkline.errors import Conflict, RequestError, ServerUnavailable
from trunkline.hoststate import HostConfig, VlanMaking

if TYPE_CHECKING:
    from trunkline.agent.config import AgentConfig
    from trunkline.agent.loop import Inbox
    from trunkline.agent.reconcile import Plan
    from trunkline.hoststate import HostFacts

DEFAULT_CONFIG = Path("/etc/trunkline/agent.toml")
NO_HOST = HostConfig("", {}, uplink=None, routing_source=None, snat_exempt=(), state_dir="")

MAKINGS = {
    VlanMaking.KERNEL: "8021q: this kernel has its own type",
    VlanMaking.BPF: "tc-bpf: this kernel has no 8021q, and tags by a program on a veth pair",
    None: "none works",
}


def add(commands: Any) -> None:
    """Register ``agent``, ``plan``, ``check`` and ``doctor``."""
    _command(commands, "agent", run_agent, "run this host's agent").add_argument(
        "--debug", action="store_true", help="log every operation as the command it stands for"
    )
    _command(commands, "plan", run_plan, "print, as commands, what the agent would change")
    _command(commands, "check", run_check, "exit with 1 if the host is not what it must be")
    _command(commands, "doctor", run_doctor, "say what this kernel and machine offer")


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


def run_doctor(args: Namespace) -> int:
    """Say what this machine offers, what is chosen because of it, and what is missing."""
    from trunkline.agent.config import load  # noqa: PLC0415
    from trunkline.kernel import drops  # noqa: PLC0415
    from trunkline.kernel.linux import LinuxKernel  # noqa: PLC0415

    unconfigured = args.config == DEFAULT_CONFIG and not DEFAULT_CONFIG.exists()
    config = None if unconfigured else load(args.config)
    facts = LinuxKernel().facts(config.host if config else NO_HOST)
    findings = list(facts.missing)
    print(f"kernel            Linux {platform.release()}")
    print(f"VLAN devices      {MAKINGS[facts.vlan_making]}")
    filtered = "on our bridges only" if facts.bridge_netfilter else "impossible: no br_netfilter"
    print(f"bridged packets   filtered {filtered}")
    here = shutil.which("keepalived")
    print(f"keepalived        {'is there' if here else 'only for routers on several hosts: none'}")
    silent = drops.missing()
    print(f"drop reasons      {f'not told by live traces: {silent}' if silent else 'told'}")
    if config is None:
        print(f"configuration     none at {DEFAULT_CONFIG}: NICs and server are not looked at")
    else:
        findings += _show_cabling(config, facts)
    if not facts.missing:
        print("nftables          has every kind of rule that is needed")
        print("programs          nft and dnsmasq are there")
    faults = _show_wire(config) if config else []
    for finding in findings:
        print(f"missing: {finding}")
    for fault in faults:
        print(f"fault: {fault}")
    return 1 if findings or faults else 0


def _show_cabling(config: AgentConfig, facts: HostFacts) -> list[str]:
    """Print how the host is cabled; return what of it is missing."""
    findings = []
    for physical_network, nic in config.host.trunks.items():
        findings += _show_link(f"trunk {physical_network}", nic, facts.links)
        if any(link == nic for _, link in facts.foreign_prefixes):
            print(f"{'':<18}carries addresses, so it can have VLANs and no flat network")
    if config.host.uplink:
        findings += _show_link("uplink", config.host.uplink, facts.links)
        source = config.host.routing_source or facts.uplink_address
        print(f"routing source    {source or 'none: the uplink has no address'}")
        for router, address in sorted(config.host.routing_sources.items()):
            print(f"{'':<18}{address} for router {router}")
    print(f"server            {config.server}: {_server_state(config)}")
    return findings


def _show_link(role: str, nic: str, links: frozenset[str]) -> list[str]:
    print(f"{role:<18}{nic}")
    return [] if nic in links else [f"{role} {nic} does not exist on this host"]


def _show_wire(config: AgentConfig) -> list[str]:
    """Print when the wire was last probed; return what was wrong with it then."""
    from trunkline.client import AgentClient  # noqa: PLC0415

    try:
        at, faults = AgentClient(config.server, config.token, config.host.host).wire()
    except (ServerUnavailable, RequestError):
        return []  # what the server's line says already
    print(f"wire              {f'probed at {at}' if at else 'never probed; see trunkline probe'}")
    return faults


def _server_state(config: AgentConfig) -> str:
    from trunkline.client import AgentClient  # noqa: PLC0415

    try:
        snapshot = AgentClient(config.server, config.token, config.host.host).snapshot(None, 0)
    except (ServerUnavailable, RequestError) as error:
        return str(error)
    return f"answers, revision {snapshot.revision}" if snapshot else "answers"
