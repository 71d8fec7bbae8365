"""What a router of its own does with a frame: IP, in a network namespace on a host.

Its links are the ends of cables: one to each bridge whose gateway it is, one to the outside.
"""

from __future__ import annotations

from dataclasses import replace

from trunkline.trace import nft
from trunkline.trace.cloud import TracedSpace, speaks_ipv6
from trunkline.trace.packets import Arp, Frame
from trunkline.trace.passage import Passage
from trunkline.trace.stack import Stack
from trunkline.trace.steps import ROUTER, Decision, Disposition, Stage
from trunkline.trace.wiring import Wiring


class SpaceNode(Stack):
    """One router's namespace on one host."""

    role = ROUTER

    def __init__(self, space: TracedSpace, wiring: Wiring) -> None:
        super().__init__(space, wiring)
        self._host = space.host.name
        self._cables = space.cables

    def receive(self, port: str, frame: Frame) -> Passage:
        """Return what becomes of a frame that came in by a cable."""
        frame = replace(frame, zone=0)
        passage = Passage(self.name, ROUTER, frame, frame)
        passage.saw(port, "in")
        if isinstance(frame.payload, Arp):
            self._arp_in(passage, port, frame.payload)
        elif self._is_heard(port, frame, frame.payload.version):
            self._ip_in(passage, port)
        return passage

    def _is_heard(self, port: str, frame: Frame, version: int) -> bool:
        meant = frame.is_for_many or frame.destination_mac == self._mac(port)
        return meant and (version == nft.V4 or speaks_ipv6(self._state, port))

    def _forwards(self, device: str, version: int) -> bool:
        if version == nft.V4:
            return super()._forwards(device, version)
        return self._state.sysctls.get("net.ipv6.conf.all.forwarding") == "1"

    def _mac(self, device: str) -> str:
        cable = self._cables.get(device)
        return cable.mac if cable else ""

    def _mtu(self, device: str) -> int | None:
        cable = self._cables.get(device)
        return cable.mtu if cable else None

    def _transmit(self, passage: Passage, device: str) -> None:
        passage.saw(device, "out")
        cable = self._cables.get(device)
        if cable is not None:
            passage.outs += self._wiring.to_host(self._host, cable.name, passage.frame)

    def _may_leave(self, passage: Passage, oif: str) -> bool:
        if oif in self._cables:
            return True
        text = f"leaves by {oif}, which leads nowhere"
        passage.end(Disposition.UNKNOWN, Decision(Stage.ROUTE, oif, text))
        return False
