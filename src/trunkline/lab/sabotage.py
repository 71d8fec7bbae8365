"""Plants a fault in a lab that is up, and heals it again.

The agents of the hosts concerned are stopped (SIGSTOP) for as long as the fault stands: they would
repair most of the catalogue within a second. What is planted is written down before it is, so that
a later command heals also what a killed one has left.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from trunkline.errors import Conflict, Rejected
from trunkline.kernel import netns
from trunkline.kernel.linux import LinuxKernel
from trunkline.lab import build, life
from trunkline.lab.diagnose import HostsReadBack, unsound
from trunkline.lab.faults import Deed, Fault, Scene, find
from trunkline.lab.state import Lab
from trunkline.lab.waiting import limit_s, until


def plant(scene: Scene, fault: Fault) -> None:
    """Plant a fault.

    Raises:
        Conflict: Another one stands: each is planted in a sound lab.
        KernelError: The machine refused; what was done of it stands, and can be healed.
    """
    lab = scene.stage.lab
    if lab.fault:
        raise Conflict(
            f"lab {lab.topology.name}: fault {lab.fault} stands;"
            f" 'trunkline lab fault --heal --name {lab.topology.name}' heals it"
        )
    deeds = fault.plant(scene)
    lab.set_fault(fault.name)
    for host in _hosts(scene, deeds):
        _signal_agent(lab, host, signal.SIGSTOP)
    for deed in deeds:
        _do(scene, deed)


def heal(scene: Scene, hosts: HostsReadBack) -> str:
    """Heal the fault that stands, whole or in part; return its name, '' if there is none.

    Raises:
        Interrupted: The agents did not repair the rest in time.
    """
    stage, lab = scene.stage, scene.stage.lab
    name = lab.fault
    if not name:
        return ""
    fault = find(name)
    for deed in fault.undo(scene):
        _do(scene, deed)
    for host in stage.topology.hosts:
        _wake_agent(lab, host)
    until("the hosts are as they must be", lambda: not unsound(stage.traced(), hosts))
    life.wait_until_forwarding(lab)
    for node in stage.topology.hosts:
        netns.run(lab.namespace(node), ("ip", "neigh", "flush", "all"), limit_s(10))
    lab.set_fault("")
    return name


@contextmanager
def planted(scene: Scene, fault: Fault, hosts: HostsReadBack) -> Iterator[None]:
    """Have a fault stand meanwhile."""
    try:
        plant(scene, fault)
        yield
    finally:
        heal(scene, hosts)


def _hosts(scene: Scene, deeds: Iterable[Deed]) -> list[str]:
    return list(dict.fromkeys(d.node for d in deeds if d.node in scene.stage.topology.hosts))


def _signal_agent(lab: Lab, host: str, number: int) -> None:
    agent = lab.process(f"agent-{host}")
    if agent is not None:
        agent.signal(number)


def _wake_agent(lab: Lab, host: str) -> None:
    """Let an agent go on, and begin with an empty memory, as it does each minute anyway."""
    if lab.process(f"agent-{host}") is None:
        build.start_agent(lab, host)
    _signal_agent(lab, host, signal.SIGHUP)
    _signal_agent(lab, host, signal.SIGCONT)


def _do(scene: Scene, deed: Deed) -> None:
    lab = scene.stage.lab
    namespace = lab.namespace(deed.node)
    if isinstance(deed.what, tuple):
        done = netns.run(namespace, deed.what, limit_s(10))
        if done.returncode:
            raise Rejected(f"{' '.join(deed.what)} on {deed.node}: {done.stderr.strip()}")
        return
    with netns.enter(namespace):
        kernel, config = LinuxKernel(), lab.agent_config(scene.cloud.host[deed.node].config)
        try:
            kernel.read(config, ())  # it acts on what it has read last
            kernel.run(config, deed.what)
        finally:
            kernel.close()
