"""Why the kernel drops a lab's probes: one kernel for all nodes, told node by node.

A probe is known by its nonce. That of TCP is sent once it is connected, so of what keeps a
connection from being made nothing is told here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from trunkline.errors import MissingFeature
from trunkline.kernel import netns
from trunkline.kernel.drops import Drop, Drops
from trunkline.lab.stage import Stage

OF_WATCHING = "OTHERHOST"  # of a bridge: the copies that it takes in because the capture asks it to


@contextmanager
def hearing_drops(stage: Stage, nonce: bytes) -> Iterator[list[str]]:
    """Give a list that has, once left, what the kernel said of the probe's packets it dropped."""
    told: list[str] = []
    try:
        drops = Drops(int.from_bytes(nonce[:4], "big"))
    except MissingFeature as error:
        told.append(f"Why the kernel drops packets is not known: {error}.")
        yield told
        return
    with drops:
        yield told
        places = _places(stage)
        told += dict.fromkeys(s for d in drops.take() for s in _sentences(places, d))


def _places(stage: Stage) -> Mapping[int, tuple[str, str]]:
    """Return host, or router on one, and namespace by the number of the namespace.

    What an instance's own kernel drops is its own business: of a ping whose answer has come, too.
    """
    nodes = {host: stage.lab.namespace(host) for host in stage.topology.hosts}
    nodes |= {router.name: router.namespace for router in stage.inside}
    return {netns.inode(namespace): (node, namespace) for node, namespace in nodes.items()}


def _sentences(places: Mapping[int, tuple[str, str]], drop: Drop) -> Iterator[str]:
    if drop.namespace not in places:
        return
    node, namespace = places[drop.namespace]
    with netns.enter(namespace):
        names = dict(socket.if_nameindex())
    device = names.get(drop.device, f"device {drop.device}")
    if not (drop.reason == OF_WATCHING and device.startswith("br")):
        yield (
            f"{node}: the kernel dropped a packet of it on {device}: {drop.reason},"
            f" in {drop.location}"
        )
