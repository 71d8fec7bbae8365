"""Which hosts a router is on: all of them, or those that an administrator names.

A router that is placed is the gateway, the DHCP server and the translator of its networks on its
hosts alone; elsewhere they are bridges. Decides what may be placed where, and when. Which of its
hosts acts is settled between them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import delete, exists, insert, select, update

from trunkline.db.engine import Transaction
from trunkline.db.tables import hosts, networks, router_hosts, routers
from trunkline.errors import Conflict, Invalid
from trunkline.model import GatewayMode
from trunkline.service import gateways, ipv6
from trunkline.service.concern import claim_domains
from trunkline.service.provisioning import plugged, router_changed

HOSTS_MAX = 16  # nobody has more gateways for one network, and all hear each other
NUMBERS = range(255, 0, -1)
"""Virtual router ids (RFC 5798), from the end at which the routers of others are least likely."""


def hosts_of(tx: Transaction, router_ids: Collection[str]) -> dict[str, list[str]]:
    """Return the hosts that routers are placed on, by router id, in the administrator's order."""
    found = (
        select(router_hosts.c.router_id, router_hosts.c.host)
        .where(router_hosts.c.router_id.in_(sorted(router_ids)))
        .order_by(router_hosts.c.router_id, router_hosts.c.place)
    )
    placed: dict[str, list[str]] = {router_id: [] for router_id in router_ids}
    for router_id, host in tx.connection.execute(found):
        placed[router_id].append(host)
    return placed


def is_placed(tx: Transaction, router_id: str | None) -> bool:
    """Return whether a router is on some hosts only."""
    found = select(exists().where(router_hosts.c.router_id == router_id))
    return bool(tx.connection.scalar(found))


def place(tx: Transaction, router_id: str, wanted: Sequence[str]) -> None:
    """Put a router on these hosts alone, or without any on every host.

    Raises:
        Invalid: A host has no agent, or there are too many.
        Conflict: A network of the router cannot follow, or no more routers can be on several hosts.
    """
    before = hosts_of(tx, [router_id])[router_id]
    if before == list(wanted):
        return
    _require_agents(tx, wanted)
    claim_domains(tx)
    router_changed(tx, router_id)
    found = select(networks.c.id).where(networks.c.router_id == router_id)
    followers = sorted(tx.connection.execute(found).scalars())
    crossing = bool(before) != bool(wanted)
    for network_id in followers if crossing else ():
        require_changeable(tx, network_id, placed=bool(wanted))
    for network_id in followers if len(wanted) > 1 else ():
        _require_no_ipv6(tx, network_id)
    tx.connection.execute(delete(router_hosts).where(router_hosts.c.router_id == router_id))
    rows = [{"router_id": router_id, "host": h, "place": n} for n, h in enumerate(wanted)]
    if rows:
        tx.connection.execute(insert(router_hosts), rows)
    _number(tx, router_id, several=len(wanted) > 1)
    if crossing:
        for network_id in followers:
            gateways.renew(tx, network_id)
    router_changed(tx, router_id)


def _number(tx: Transaction, router_id: str, *, several: bool) -> None:
    """Give a router on several hosts the number by which they hear of each other, or take it."""
    mine = routers.c.id == router_id
    held = tx.connection.scalar(select(routers.c.number).where(mine))
    if (held is not None) == several:
        return
    number = None
    if several:
        taken = set(tx.connection.execute(select(routers.c.number)).scalars())
        number = next((n for n in NUMBERS if n not in taken), None)
        if number is None:
            raise Conflict(
                f"{len(NUMBERS)} routers are on several hosts (trunkline:hosts), which is as many"
                " as VRRP can tell apart; leave one of them on a single host.",
                "RouterPolicyViolation",
            )
    tx.connection.execute(update(routers).where(mine).values(number=number))


def require_changeable(tx: Transaction, network_id: str, *, placed: bool) -> None:
    """Raise Conflict if a network may not come on a placed router, or leave one.

    Args:
        tx: The transaction.
        network_id: The network.
        placed: Whether its router will be a placed one.
    """
    there = sorted(plugged(tx, network_id))
    if there:
        raise Conflict(
            f"Network {network_id} cannot come on a router that is placed (trunkline:hosts), or"
            f" leave one, while instances are plugged in on {len(there)} host(s), {there[0]} for"
            " one: their leases name the gateway that they have. Unbind or delete their ports"
            " first.",
            "NetworkInUse",
        )
    if placed:
        require_per_host(tx, network_id)


def require_carried(tx: Transaction, network_id: str, router_id: str | None) -> None:
    """Raise Conflict if a router is where it cannot carry a network that comes on it."""
    if router_id is not None and len(hosts_of(tx, [router_id])[router_id]) > 1:
        _require_no_ipv6(tx, network_id)


def _require_no_ipv6(tx: Transaction, network_id: str) -> None:
    cannot = f"Network {network_id} cannot be on a router on several hosts (trunkline:hosts)"
    ipv6.require_none(tx, network_id, cannot)


def require_per_host(tx: Transaction, network_id: str) -> None:
    """Raise Conflict if a network's gateway is anycast, which no placed router can be."""
    if gateways.mode(tx, network_id) == GatewayMode.ANYCAST:
        raise Conflict(
            f"Network {network_id} has trunkline:gateway anycast, an address that every host has;"
            " a router that is placed (trunkline:hosts) has it on its own hosts alone. Set"
            " trunkline:gateway to per_host, or take the network off that router.",
            "NetworkInUse",
        )


def _require_agents(tx: Transaction, wanted: Sequence[str]) -> None:
    if len(wanted) > HOSTS_MAX:
        raise Invalid(
            f"Invalid input for trunkline:hosts. Reason: {len(wanted)} hosts are named, at most"
            f" {HOSTS_MAX} can be.",
            "InvalidInput",
        )
    reported = select(hosts.c.host).where(hosts.c.heartbeat_at.is_not(None))
    unknown = sorted(set(wanted) - set(tx.connection.execute(reported).scalars()))
    if unknown:
        raise Invalid(
            f"Invalid input for trunkline:hosts. Reason: no agent has ever reported from host"
            f" {unknown[0]}; start one there, or name a host that /v2.0/agents lists.",
            "InvalidInput",
        )
