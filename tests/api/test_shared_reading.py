"""What hosts are told alike is read once for all of them, and never told when it is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from running import Cloud

from trunkline.core.allocate import Limits
from trunkline.db.engine import Database
from trunkline.model import HostName
from trunkline.service import snapshots
from trunkline.snapshot import HostSnapshot

HOSTS = ("left", "right")


def served(cloud: Cloud, host: str) -> HostSnapshot:
    """Return a host's snapshot from the server, which has read for others before."""
    with cloud.agent(host) as agent:
        found = agent.snapshot(None, 0)
        assert found is not None
        return found


def read_anew(cloud: Cloud, host: str) -> HostSnapshot:
    """Return the same from the database, by somebody without a memory."""
    database = Database(cloud.database or f"sqlite:///{cloud.directory}/trunkline.db", Limits({}))
    try:
        with database.read() as tx:
            return snapshots.read(tx, HostName(host))
    finally:
        database.close()


def test_every_change_is_told(own_cloud: Cloud) -> None:
    """After each change of a name, a member, a group, a prefix or a router, nothing told is old."""
    cloud = own_cloud
    api = cloud.alice
    blue, red = cloud.network(), cloud.network()
    group = api.create("security-groups", {"name": "web"})
    rule = {"security_group_id": group["id"], "direction": "ingress"}
    here, there = (cloud.instance(blue, host) for host in HOSTS)
    loose = api.create("ports", {"network_id": red["id"]})
    router = api.create("routers", {"name": "own"})
    address = blue["subnet"]["cidr"].removesuffix("0/24") + "200"

    def port(change: dict[str, Any], of: dict[str, Any] = here) -> Callable[[], object]:
        return lambda: api.update("ports", of["id"], change)

    changes: list[Callable[[], object]] = [
        port({"dns_name": "web-1"}),
        port({"dns_name": "web-2"}, there),
        lambda: cloud.instance(blue, "right", dns_name="third"),
        lambda: api.create(
            "security-group-rules", {**rule, "remote_group_id": here["security_groups"][0]}
        ),
        port({"security_groups": [group["id"]]}, there),
        port({"security_groups": [group["id"]]}, loose),
        lambda: api.create("security-group-rules", {**rule, "remote_group_id": group["id"]}),
        port({"allowed_address_pairs": [{"ip_address": address}]}),
        port({"allowed_address_pairs": [{"ip_address": address}]}, there),
        port({"allowed_address_pairs": []}, there),
        lambda: cloud.admin.update("ports", loose["id"], {"binding:host_id": "left"}),
        port({"dns_name": "moves"}, loose),
        lambda: cloud.admin.update("ports", loose["id"], {"binding:host_id": "right"}),
        lambda: api.request(
            "PUT",
            f"/v2.0/routers/{router['id']}/add_router_interface",
            {"subnet_id": red["subnet"]["id"]},
        ),
        lambda: api.create("networks", {"name": "green"}),
        cloud.network,
        lambda: api.request(
            "PUT",
            f"/v2.0/routers/{router['id']}/remove_router_interface",
            {"subnet_id": red["subnet"]["id"]},
        ),
        lambda: api.update("security-groups", group["id"], {"name": "www"}),
        lambda: api.delete("ports", loose["id"]),
        lambda: api.delete("ports", there["id"]),
    ]
    for number, change in enumerate(changes):
        change()
        told = {host: served(cloud, host) for host in HOSTS}
        assert told == {host: read_anew(cloud, host) for host in HOSTS}, f"change {number}"
