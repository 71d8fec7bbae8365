"""What Nova is to be told of instances' ports: kept with the change itself until it is delivered.

Events are those of Nova's ``os-server-external-events``. Nothing is kept unless a Nova is
configured, and nothing of ports that are no server's of Nova's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, select

from trunkline.db.engine import Transaction, format_time
from trunkline.db.tables import nova_events, ports
from trunkline.service.audit import event_id

PLUGGED = "network-vif-plugged"
UNPLUGGED = "network-vif-unplugged"
DELETED = "network-vif-deleted"
CHANGED = "network-changed"

COMPUTE = "compute:"
UUID_LENGTH = 36
AT_ONCE = 100  # events in one request to Nova
KEPT_S = 900  # three times as long as Nova waits for one (vif_plugging_timeout)


def tell(tx: Transaction, name: str, port: Mapping[str, Any]) -> None:
    """Keep an event of a port, if it is a server's of Nova's.

    Args:
        tx: The transaction of the change.
        name: The event.
        port: Has ``id``, ``device_id`` and ``device_owner``.
    """
    if tx.limits.tells_nova and _is_servers(port):
        row = {
            "id": event_id(),
            "created_at": tx.now,
            "name": name,
            "server_id": port["device_id"],
            "port_id": port["id"],
        }
        tx.connection.execute(insert(nova_events), row)


def tell_of(tx: Transaction, name: str, port_ids: Iterable[str | None]) -> None:
    """Keep an event of each of these ports; None is none."""
    wanted = {port_id for port_id in port_ids if port_id is not None}
    if tx.limits.tells_nova and wanted:
        columns = (ports.c.id, ports.c.device_id, ports.c.device_owner)
        found = select(*columns).where(ports.c.id.in_(sorted(wanted)))
        for port in tx.connection.execute(found).mappings().all():
            tell(tx, name, dict(port))


def pending(tx: Transaction) -> list[dict[str, Any]]:
    """Return the oldest events that were not delivered, some of them."""
    found = select(nova_events).order_by(nova_events.c.id).limit(AT_ONCE)
    return [dict(row) for row in tx.connection.execute(found).mappings()]


def forget(tx: Transaction, ids: Sequence[str]) -> None:
    """Let go of events that were delivered."""
    tx.connection.execute(delete(nova_events).where(nova_events.c.id.in_(ids)))


def forget_old(tx: Transaction) -> int:
    """Let go of events that nobody waits for any more; return how many there were."""
    oldest = format_time(datetime.fromisoformat(tx.now) - timedelta(seconds=KEPT_S))
    gone = tx.connection.execute(delete(nova_events).where(nova_events.c.created_at < oldest))
    return gone.rowcount


def _is_servers(port: Mapping[str, Any]) -> bool:
    """Return whether a port is plugged into what may be a server of Nova's."""
    if not port["device_owner"].startswith(COMPUTE):
        return False
    device_id = port["device_id"]
    try:
        UUID(device_id)
    except ValueError:
        return False
    return len(device_id) <= UUID_LENGTH
