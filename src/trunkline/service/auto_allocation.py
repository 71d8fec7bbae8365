"""Get me a network: the one that a project without a wish of its own is given.

The first time, a network that an administrator made for whoever needs it (``network_ranges``)
becomes the project's; if none is left, one is made from the default subnet pool. It is on the
default router, so it reaches what the project's other networks reach.
"""

from __future__ import annotations

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    bindparam,
    delete,
    exists,
    insert,
    select,
    update,
)

from trunkline.db.engine import Transaction
from trunkline.db.tables import (
    auto_allocated_topologies,
    networks,
    ports,
    reserved_addresses,
    subnetpools,
    subnets,
)
from trunkline.errors import Conflict, NotFound
from trunkline.model import GATEWAY_OWNER
from trunkline.service import networks as network_service
from trunkline.service import subnets as subnet_service
from trunkline.service.caller import Caller
from trunkline.service.network_ranges import UNOWNED
from trunkline.service.provisioning import network_changed
from trunkline.service.quotas import charge

NAME = "auto_allocated_network"

_OF_PROJECT: BindParameter[str] = bindparam("of_project")
_MINE: ColumnElement[bool] = auto_allocated_topologies.c.project_id == _OF_PROJECT


_DEFAULT_POOL = exists().where(subnetpools.c.is_default, subnetpools.c.ip_version == 4)  # noqa: PLR2004 - the IP version


def get(tx: Transaction, caller: Caller, project_id: str) -> tuple[str, bool]:
    """Return the id of a project's network, made or taken if there is none; and whether it was.

    Raises:
        Conflict: There is none to take, and nothing to make one from.
    """
    found = _allocated(tx, project_id)
    if found is not None:
        return found, False
    taken = _take(tx, project_id)
    network_id = taken or _make(tx, caller, project_id)
    row = {"project_id": project_id, "network_id": network_id, "was_unowned": taken is not None}
    tx.connection.execute(insert(auto_allocated_topologies), row)
    return network_id, True


def require_possible(tx: Transaction, project_id: str) -> None:
    """Raise Conflict unless ``get`` would find or make a network."""
    if _allocated(tx, project_id) is None and _next_unowned(tx) is None:
        _require_means(tx)


def release(tx: Transaction, caller: Caller, project_id: str) -> str:
    """Take a project's network away and return its id; one that was unowned is so again.

    Raises:
        NotFound: The project has none.
        Conflict: Ports are on it.
    """
    mine = {"of_project": project_id}
    found = select(auto_allocated_topologies).where(_MINE)
    row = tx.connection.execute(found, mine).mappings().first()
    if row is None:
        raise NotFound(
            f"Project {project_id} has no auto-allocated topology.", "AutoAllocatedTopologyNotFound"
        )
    _require_unused(tx, row["network_id"])
    tx.connection.execute(delete(auto_allocated_topologies).where(_MINE), mine)
    if row["was_unowned"]:
        give(tx, row["network_id"], UNOWNED)
    else:
        network_service.delete_(tx, caller, row["network_id"])
    return str(row["network_id"])


def take_back(tx: Transaction, network_id: str) -> None:
    """Let a network, whosever it is, wait for another project.

    Raises:
        Conflict: Ports are on it.
    """
    _require_unused(tx, network_id)
    tx.connection.execute(
        delete(auto_allocated_topologies).where(
            auto_allocated_topologies.c.network_id == network_id
        )
    )
    give(tx, network_id, UNOWNED)


def _allocated(tx: Transaction, project_id: str) -> str | None:
    found: str | None = tx.connection.scalar(
        select(auto_allocated_topologies.c.network_id).where(_MINE), {"of_project": project_id}
    )
    return found


def _next_unowned(tx: Transaction) -> str | None:
    """Return the unowned network with the lowest VLAN id."""
    found: str | None = tx.connection.scalar(
        select(networks.c.id)
        .where(
            networks.c.project_id == UNOWNED,
            networks.c.external.is_(False),
            networks.c.shared.is_(False),
            exists().where(subnets.c.network_id == networks.c.id),
        )
        .order_by(networks.c.segmentation_id, networks.c.id)
        .limit(1)
    )
    return found


def _take(tx: Transaction, project_id: str) -> str | None:
    network_id = _next_unowned(tx)
    if network_id is not None:
        give(tx, network_id, project_id)
    return network_id


def give(tx: Transaction, network_id: str, project_id: str) -> None:
    """Make a network and all that is described on it a project's."""
    network_changed(tx, network_id)
    of_network = select(subnets.c.id).where(subnets.c.network_id == network_id)
    for table, condition in (
        (networks, networks.c.id == network_id),
        (subnets, subnets.c.network_id == network_id),
        (reserved_addresses, reserved_addresses.c.subnet_id.in_(of_network)),
    ):
        tx.connection.execute(
            update(table)
            .where(condition)
            .values(
                project_id=project_id,
                updated_at=tx.now,
                revision_number=table.c.revision_number + 1,
            )
        )


def _make(tx: Transaction, caller: Caller, project_id: str) -> str:
    _require_means(tx)
    usual = {"name": NAME, "description": "", "tags": []}
    network = network_service.create(
        tx,
        caller,
        {
            **usual,
            "project_id": project_id,
            "admin_state_up": True,
            "mtu": 1500,
            "shared": False,
            "external": False,
        },
    )
    subnet = subnet_service.create(
        tx,
        caller,
        {
            **usual,
            "network_id": network["id"],
            "ip_version": 4,
            "ipv6_ra_mode": None,
            "ipv6_address_mode": None,
            "enable_dhcp": True,
            "dns_nameservers": [],
            "host_routes": [],
            "service_types": [],
            "use_default_subnetpool": True,
        },
    )
    charge(tx, "network", [network])
    charge(tx, "subnet", [subnet])
    return str(network["id"])


def _require_means(tx: Transaction) -> None:
    if not tx.limits.default_router:
        raise _failure("no router is shared by all projects: default_router is false")
    if not tx.connection.scalar(select(_DEFAULT_POOL)):
        raise _failure(
            "No default subnetpools found, and no network is left that belongs to no project; make"
            " some (POST /v2.0/network-ranges), or make a subnet pool the default"
        )


def _failure(reason: str) -> Conflict:
    return Conflict(f"Deployment error: {reason}.", "AutoAllocationFailure")


def _require_unused(tx: Transaction, network_id: str) -> None:
    used = exists().where(ports.c.network_id == network_id, ports.c.device_owner != GATEWAY_OWNER)
    if tx.connection.scalar(select(used)):
        raise Conflict(
            f"Unable to complete operation on network {network_id}. There are one or more ports"
            " still in use on the network; delete them first.",
            "NetworkInUse",
        )
