"""What differs on a host that nothing was asked of: drift, noticed by comparing cycles.

A cycle finds differences for three reasons: the server wants something else, an interface came,
or somebody changed what was right. Only the last is drift. So this remembers what the cycle
before was asked and whether it left the host as it must be; it decides nothing about the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trunkline.agent.reconcile import Outcome
from trunkline.hoststate import HostFacts
from trunkline.joined import pieces_of
from trunkline.kept import kept
from trunkline.model import PortId, PortStatus
from trunkline.ownership import tap_name
from trunkline.report import COMMAND_LENGTH_MAX, COMMANDS_MAX, Drift, Reading
from trunkline.snapshot import HostSnapshot


@dataclass
class Readings:
    """What cycles have read, for reports.

    Attributes:
        read_at: When the host was last read in full; the empty string is never.
        drift: The last that was found.
        left: What the last cycle was asked, if the host is as it must be since.
        ports: How that cycle left them.
    """

    read_at: str = ""
    drift: Drift | None = None
    left: tuple[HostSnapshot, HostFacts] | None = None
    ports: Mapping[PortId, PortStatus] = field(default_factory=dict)

    def note(self, snapshot: HostSnapshot, outcome: Outcome, now: str, *, full: bool) -> None:
        """Note what a cycle found.

        Args:
            snapshot: What it was asked.
            outcome: What came of it.
            now: ISO 8601 in UTC.
            full: Whether it asked the kernel for everything.
        """
        if full:
            self.read_at = now
        is_left = not outcome.failures and not outcome.more
        commands = self._unasked(snapshot, outcome)
        if commands:
            shown = tuple(command[:COMMAND_LENGTH_MAX] for command in commands[:COMMANDS_MAX])
            self.drift = Drift(now, len(commands), shown, is_left)
        elif is_left and self.drift is not None:
            self.drift = replace(self.drift, repaired=True)
        self.left = (snapshot, outcome.facts) if is_left else None
        self.ports = outcome.ports

    def reading(self) -> Reading | None:
        """Return what there is to report."""
        return Reading(self.read_at, self.drift) if self.read_at else None

    def _unasked(self, snapshot: HostSnapshot, outcome: Outcome) -> list[str]:
        """Return the repairs, as commands, that neither the server nor a new interface needs."""
        if not outcome.operations or self.left is None or self.left[0] is not snapshot:
            return []
        if self.left[1] != outcome.facts:
            return []
        come = {tap for piece in pieces_of(self.ports) for tap in _absent(piece)}
        commands = [operation.command() for operation in outcome.operations]
        return [command for command in commands if not any(tap in command for tap in come)]


@kept(64)
def _absent(states: Mapping[PortId, PortStatus]) -> set[str]:
    """Return the interfaces of ports that are not plugged in."""
    return {tap_name(port_id) for port_id, state in states.items() if state is PortStatus.DOWN}
