"""What a change of the cloud does to who reaches whom, told right after it.

Holds every host as it was last told, and a running count for each IP version; only hosts that
changed are looked at. Floating IPs and the Internet are not counted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from trunkline.model import GroupId, HostName
from trunkline.trace.reach import Tally
from trunkline.trace.reach_follow import follow
from trunkline.trace.reach_standing import Standing
from trunkline.trace.verify_cloud import Cloud, gather
from trunkline.trace.verify_data import Told
from trunkline.trace.verify_services import Service


@dataclass(frozen=True, slots=True)
class Shift:
    """How the count of one service's pairs between ports has changed."""

    version: int
    service: Service
    before: Tally
    after: Tally

    def __str__(self) -> str:
        """Return it as a line for people."""
        names = [f.name for f in fields(Tally) if f.name != "possible"]
        pairs = [(n, getattr(self.before, n), getattr(self.after, n)) for n in names]
        told = ", ".join(f"{n.replace('_', ' ')} {a} -> {b}" for n, a, b in pairs if a != b)
        return f"IPv{self.version} {self.service}: {told or 'only where hosts lack bridges'}"


class Watch:
    """Counts of a cloud that changes."""

    def __init__(self, told: Iterable[Told]) -> None:
        self._told = {snapshot.host: (snapshot, settings) for snapshot, settings in told}
        cloud = _cloud(self._told.values())
        self._counts = [Standing(cloud, version) for version in (4, 6)]

    @property
    def counts(self) -> Sequence[Standing]:
        """Return the running counts, IPv4 and IPv6."""
        return self._counts

    def update(self, told: Iterable[Told], gone: Iterable[HostName] = ()) -> list[Shift]:
        """Take hosts that changed or are gone, and return what that has changed."""
        news = {snapshot.host: (snapshot, settings) for snapshot, settings in told}
        olds = {h: self._told.pop(h) for h in {*news, *gone} if h in self._told}
        elsewhere = self._groups()
        self._told |= news
        before, after = _cloud(olds.values()), _cloud(news.values())
        found: list[Shift] = []
        for count in self._counts:
            services, tallies = count.services, count.tallies()
            follow(count, before, after, elsewhere)
            now = count.services, count.tallies()
            found += _shifts(count.version, (services, tallies), now)
        return found

    def _groups(self) -> frozenset[GroupId]:
        return frozenset(g.id for snapshot, _ in self._told.values() for g in snapshot.groups)


Counted = tuple[Sequence[Service], Sequence[Tally]]


def _shifts(version: int, before: Counted, after: Counted) -> Iterator[Shift]:
    """Yield the services whose pairs are others, each cut as finely as before or after."""
    seen = set()
    for service in (*after[0], *before[0]):
        old, new = _part(before[0], service), _part(after[0], service)
        if (old, new) not in seen and before[1][old] != after[1][new]:
            yield Shift(version, service, before[1][old], after[1][new])
        seen.add((old, new))


def _part(services: Sequence[Service], wanted: Service) -> int:
    """Return the service that another one's packets are of."""
    rest = 0
    for number, service in enumerate(services):
        for span in service.spans:
            if span.protocol == wanted.protocol and span.first <= wanted.port <= span.last:
                return number
            if span.protocol is None:
                rest = number
    return rest


def _cloud(told: Iterable[Told]) -> Cloud:
    known: Mapping[HostName, Told] = {snapshot.host: (snapshot, s) for snapshot, s in told}
    settings = {host: settings for host, (_, settings) in known.items()}
    return gather([snapshot for snapshot, _ in known.values()], settings)
