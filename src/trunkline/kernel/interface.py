"""What the agent asks of a host. ``LinuxKernel`` is one, ``FakeKernel`` the other.

One contract suite (tests/contract) runs against both: the fake may not be kinder than Linux.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Protocol

from trunkline.hoststate import Connection, HostConfig, HostFacts, HostState
from trunkline.operations import Operation

NOTHING: Mapping[str, Collection[str]] = MappingProxyType({})
"""No keys in no space."""


class Kernel(Protocol):
    """A host's networking, in the network namespace of the calling process."""

    def facts(self, config: HostConfig) -> HostFacts:
        """Return what this machine offers; cheap enough for every cycle.

        Never raises for a missing feature: it is in the facts.
        """
        ...

    def read(
        self,
        config: HostConfig,
        sysctls: Collection[str],
        inner: Mapping[str, Collection[str]] = NOTHING,
    ) -> HostState:
        """Return what is ours on this host now, and those sysctls.

        Args:
            config: How the host is cabled.
            sysctls: Keys to read on the host itself.
            inner: Keys to read in each space, by its name.

        May answer from memory where the kernel's own notifications prove that nothing has
        changed since; ``forget`` forces a full reading. Sysctls of links that do not exist
        are left out.

        Raises:
            Interrupted: The reading was torn repeatedly. Retry later.
        """
        ...

    def forget(self) -> None:
        """Drop all memory, so that the next ``read`` asks the kernel for everything."""
        ...

    def run(self, config: HostConfig, operation: Operation) -> None:
        """Carry out one operation.

        Creating what is there already or deleting what is gone is refused, as the kernel
        does; only ``CutConnections`` does not mind that an entry has ended by itself.

        Raises:
            Rejected: The kernel or a daemon said no; the message carries the command.
            MissingFeature: The machine lacks what the operation needs.
        """
        ...

    def connections(
        self, spaces: Collection[str] | None = None
    ) -> Mapping[str, tuple[Connection, ...]]:
        """Return connection tracking tables: the host's (no name) and of spaces, None: all."""
        ...

    def wait(self, timeout_s: float, wake_fd: int | None = None) -> None:
        """Return when a link, an address or a rule changed, ``wake_fd`` is readable, or in time."""
        ...
