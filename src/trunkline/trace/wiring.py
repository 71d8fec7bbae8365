"""What a node may ask of the walk it is in: who is at the other end of a cable, who has a MAC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from trunkline.model import IpAddress
from trunkline.trace.cloud import Cloud, TracedHost
from trunkline.trace.packets import Frame
from trunkline.trace.passage import Delivery, Passage


class Wiring(Protocol):
    """Implemented by ``walk.Walk``."""

    @property
    def cloud(self) -> Cloud:
        """Return what is walked through."""
        ...

    def launch(self, passage: Passage) -> None:
        """Have a packet that a node sends go its whole way, and what follows from it."""
        ...

    def neighbour(
        self, node: str, device: str, address: IpAddress, ask: Callable[[], Passage | None]
    ) -> str | None:
        """Return a neighbour's MAC; if it is not known, after asking."""
        ...

    def learn(self, node: str, device: str, address: IpAddress, mac: str) -> None:
        """Have a node remember a neighbour."""
        ...

    def to_instance(self, host: str, tap: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery by a tap's cable."""
        ...

    def to_switch(self, host: str, trunk: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery by a trunk's cable."""
        ...

    def across(self, switch: str, other: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery from one switch to another."""
        ...

    def to_space(self, host: str, cable: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery by a cable into a router's namespace."""
        ...

    def to_internet(self, host: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery by an uplink's cable."""
        ...

    def to_host(self, host: str, port: str, frame: Frame) -> Iterator[Delivery]:
        """Yield the delivery to a host's NIC or tap."""
        ...

    def tap_owner(self, host: str, tap: str) -> str:
        """Return whose tap it is; the empty string for another device."""
        ...

    def is_plugged(self, host: str, tap: str) -> bool:
        """Return whether an instance is at the other end of a tap."""
        ...

    def is_told(self, host: str, tap: str) -> bool:
        """Return whether there is one of whom it is told that it hears broadcasts."""
        ...

    def link_mac(self, host: str, link: str) -> str:
        """Return what stands for the MAC of a host's link, where nothing here knows it."""
        ...

    def uplink_mac(self, host: str) -> str:
        """Return what stands for the MAC of a host's uplink."""
        ...

    def internet_mac(self) -> str:
        """Return what stands for the MAC of the provider's router."""
        ...

    def router_of(self, host: TracedHost) -> IpAddress | None:
        """Return a host's default router, if that is known."""
        ...
