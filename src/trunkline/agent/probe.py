"""An agent's part in a probe: hear, wait for the others, send, wait for the others, tell.

Runs in a thread of its own beside the cycles, changes nothing on the host, and ends in bounded
time whatever the server does. What it heard is judged by the server.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from threading import Thread
from typing import Any

from trunkline.agent import live
from trunkline.client import AgentClient
from trunkline.errors import KernelError, Rejected, RequestError, ServerUnavailable
from trunkline.hoststate import HostConfig
from trunkline.kernel.wire import Wire, WireFrame
from trunkline.probe import (
    COPIES,
    ETHERTYPE,
    Heard,
    ProbeFrame,
    ProbeOrder,
    decode_frame,
    encode_frame,
    heard_out,
    order_in,
)

log = logging.getLogger("trunkline.agent")

LINGER_S = 0.3  # frames under way when the last host has sent
FRAMES_PER_S_MAX = 500.0  # whatever the server says


class Probes:
    """Takes part in the probes that the server asks for, each once."""

    def __init__(self, connect: Callable[[], AgentClient], config: HostConfig) -> None:
        self._connect = connect
        self._config = config
        self._begun: set[str] = set()

    def begin(self, orders: Mapping[str, Any]) -> None:
        """Start on what is new among the orders, given by the probe's id; return at once."""
        for probe_id in orders.keys() - self._begun:
            self._begun.add(probe_id)
            work = (probe_id, orders[probe_id])
            Thread(target=self._take_part, args=work, name="probe", daemon=True).start()

    def _take_part(self, probe_id: str, data: Mapping[str, Any]) -> None:
        client = self._connect()
        try:
            client.deliver(probe_id, self._report(data, client, probe_id))
        except (KernelError, RequestError, ServerUnavailable) as error:
            log.warning("probe %s: given up: %s", probe_id, error)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("probe %s: the server's order is none: %r", probe_id, error)
        finally:
            client.close()

    def _report(
        self, data: Mapping[str, Any], client: AgentClient, probe_id: str
    ) -> dict[str, Any]:
        def meet(stage: str) -> None:
            client.meet(probe_id, stage)

        if data.get("kind") == "trace":
            return live.take_part(data, client, self._config, meet)
        return probe(order_in(data), self._config.trunks, meet)


def probe(
    order: ProbeOrder, trunks: Mapping[str, str], meet: Callable[[str], None]
) -> dict[str, Any]:
    """Take part in a probe and return the report: ``heard``, and ``problems`` as sentences.

    Args:
        order: What to send.
        trunks: NIC by physical network.
        meet: Waits until every host has come as far as ``ready``, then as far as ``sent``.

    Raises:
        Interrupted: More came than could be read, so silence would mean nothing.
        Rejected: A trunk cannot be listened on.
    """
    times: Counter[tuple[str, int | None, ProbeFrame]] = Counter()
    with Wire(trunks.values(), ETHERTYPE) as wire:

        def listen(seconds: float) -> None:
            times.update(_recognised(order, wire.hear(seconds)))

        meet("ready")
        problems = _send(order, trunks, wire, listen)
        meet("sent")
        listen(LINGER_S)
        wire.require_complete()
    heard = [Heard(nic, tag, frame, n) for (nic, tag, frame), n in times.items()]
    return {"heard": [heard_out(one) for one in heard], "problems": sorted(problems)}


def _recognised(
    order: ProbeOrder, frames: Iterator[WireFrame]
) -> Iterator[tuple[str, int | None, ProbeFrame]]:
    for one in frames:
        frame = decode_frame(order.nonce, one.payload)
        if frame is not None:
            yield one.nic, one.tag, frame


def _send(
    order: ProbeOrder, trunks: Mapping[str, str], wire: Wire, listen: Callable[[float], None]
) -> set[str]:
    """Send all frames at the order's rate, listening between them; return what went wrong."""
    pause = 1 / min(order.frames_per_s, FRAMES_PER_S_MAX)
    problems = set()
    due = time.monotonic()
    for lane, size in (pair for _ in range(COPIES) for pair in _frames(order)):
        nic = trunks.get(order.lanes[lane].physical_network)
        if nic is None:
            continue
        try:
            wire.send(nic, encode_frame(order, lane, size, wire.mac(nic)))
        except Rejected as error:
            problems.add(str(error))
        due += pause
        listen(max(0.0, due - time.monotonic()))
    return problems


def _frames(order: ProbeOrder) -> Iterator[tuple[int, int]]:
    for number, lane in enumerate(order.lanes):
        for size in lane.sizes:
            yield number, size
