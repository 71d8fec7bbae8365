"""An agent's part in a live trace: capture, send as from the instance if it lives here, tell.

Also tells what the host would have to change to be as it must be: drift shows before packets do.
Changes nothing on the host; all that it opens ends with the process.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from trunkline.agent.reconcile import plan
from trunkline.client import AgentClient
from trunkline.errors import KernelError, ServerUnavailable
from trunkline.hoststate import HostConfig
from trunkline.kernel import inject, netns, spaces
from trunkline.kernel.capture import Capture
from trunkline.kernel.drops import Drop, Drops
from trunkline.kernel.linux import LinuxKernel
from trunkline.ownership import space_mark
from trunkline.snapshot import HostSnapshot
from trunkline.trace.live import Seen, Shot, recognise, seen_out, shot_in

BRIDGE = re.compile(r"br.+")
VLAN_MATE = re.compile(r"vlan[\d-]+t")  # the trunk's end of a tc-BPF device, which no walk tells of
ANSWER_S = 1.0  # for the packet's way there and back
LATE_S = 0.1
DRIFT_MAX = 50
OF_WATCHING = "OTHERHOST"  # of a bridge: the copies that it takes in because the capture asks it to


def take_part(
    order: Mapping[str, Any], client: AgentClient, config: HostConfig, meet: Callable[[str], None]
) -> dict[str, Any]:
    """Take part in a live trace and return the report.

    Returns:
        ``seen`` (sightings), ``spaces`` (those that were watched too), ``drops`` (reason,
        function, device and space each, or a sentence: why it is not known), ``drift``
        (commands, the host against its snapshot), ``revisions`` (of the snapshot, before and
        after), ``problems`` (sentences).

    Raises:
        KernelError: This host cannot capture or be read.
        KeyError, TypeError, ValueError: The order is none.
    """
    shot = shot_in(order["shot"])
    before = _snapshot(client)
    drift = _drift(config, before)
    with ExitStack() as open_ones:
        heard = _hear_drops(shot, open_ones)
        captures = {"": open_ones.enter_context(_capture(shot))}
        for space in spaces.marked(space_mark(config.state_dir)):
            with netns.enter(space):
                captures[space] = open_ones.enter_context(_capture(shot))
        meet("ready")
        problems = _send(order)
        seen = _seen(shot, captures, ANSWER_S if order["frame"] else 0)
        meet("sent")
        seen |= _seen(shot, captures, LATE_S)
        drops = heard if isinstance(heard, str) else _told(heard.take(), captures)
    return {
        "seen": [seen_out(one) for one in seen],
        "spaces": [space for space in captures if space],
        "drops": drops,
        "drift": drift,
        "revisions": [before.revision, _snapshot(client).revision],
        "problems": problems,
    }


def _capture(shot: Shot) -> Capture:
    """Return a capture on all devices of the namespace that this thread is in."""
    bridges = [name for _, name in socket.if_nameindex() if BRIDGE.fullmatch(name)]
    return Capture(shot.number, bridges)


def _hear_drops(shot: Shot, open_ones: ExitStack) -> Drops | str:
    """Return what hears why the kernel drops the shot's packets, or why it cannot."""
    try:
        return open_ones.enter_context(Drops(shot.number))
    except KernelError as error:
        return f"why the kernel drops packets is not known: {error}"


def _told(drops: Iterable[Drop], captures: Iterable[str]) -> list[list[str]]:
    """Return drops on this host and in its spaces, as plain data, equal ones once."""
    homes = {netns.inode(space) if space else netns.here(): space for space in captures}
    found: dict[tuple[str, str, str, str], None] = {}
    for drop in drops:
        if drop.namespace in homes:
            space = homes[drop.namespace]
            device = _device(space, drop.device)
            if not (drop.reason == OF_WATCHING and BRIDGE.fullmatch(device)):
                found[drop.reason, drop.location, device, space] = None
    return [list(one) for one in found]


def _device(space: str, index: int) -> str:
    """Return the name of a device; of one that went meanwhile, its index."""
    with ExitStack() as inside, suppress(OSError):
        if space:
            inside.enter_context(netns.enter(space))
        return socket.if_indextoname(index)
    return f"device {index}"


def _snapshot(client: AgentClient) -> HostSnapshot:
    found = client.snapshot(None, 0)
    if found is None:
        raise ServerUnavailable("the server gave no snapshot")
    return found


def _drift(config: HostConfig, snapshot: HostSnapshot) -> list[str]:
    """Return the commands that would make the host what the snapshot says, and its problems.

    Without those of networks: one that is not served here as asked carries nothing of a flow,
    which whoever predicts it knows.
    """
    kernel = LinuxKernel()
    try:
        way = plan(kernel, config, snapshot)
    finally:
        kernel.close()
    problems = (p for p in way.problems if not p.subject.startswith("network "))
    lines = [f"{p.subject}: {p.text}" for p in problems]
    lines += [operation.command() for operation in way.operations]
    return lines[:DRIFT_MAX]


def _send(order: Mapping[str, Any]) -> list[str]:
    if not order["frame"]:
        return []
    try:
        inject.receive(order["tap"], bytes.fromhex(order["frame"]))
    except KernelError as error:
        return [f"nothing was sent: {error}"]
    return []


def _seen(shot: Shot, captures: Mapping[str, Capture], seconds: float) -> dict[Seen, None]:
    """Return the shot's packets as they were seen, each place once, in their order.

    Args:
        shot: What was sent.
        captures: By space; the empty string is the host itself. Only its own is waited for, as
            what passes a space passes the host.
        seconds: How long.
    """
    found: dict[Seen, None] = {}
    for space, capture in captures.items():
        for one in capture.frames(0 if space else seconds):
            seen = recognise(shot, one.device, one.direction, one.tag, one.frame)
            if seen is not None and not VLAN_MATE.fullmatch(one.device):
                found[replace(seen, space=space)] = None
    return found
