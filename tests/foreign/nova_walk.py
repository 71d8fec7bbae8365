"""Nova's own network code, called as nova-api and nova-compute call it, against a Trunkline.

Run by the Python of an environment that has Nova, with settings as JSON: ``directory``,
``auth_url``, ``user`` and ``service`` (how to log in), ``network`` (an id), ``pool`` (a name).
The project may have two ports. Prints the instance's id. Nova's database is SQLite; nothing else
of Nova runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import nova.conf
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from nova import config as _options  # noqa: F401  registers what nova.conf takes
from nova import context, exception, objects
from nova.db.main import api as database
from nova.db.main import models
from nova.network import model, neutron, security_group_api

SOURCE, DESTINATION = "compute1", "compute2"
PATIENCE_S = 30
QUOTA = 2  # ports that the project may have
CONF = """\
[DEFAULT]
host = compute1
[database]
connection = sqlite:///{directory}/nova.db
[neutron]
auth_type = password
auth_url = {auth_url}
username = {service[username]}
password = {service[password]}
project_name = {service[project_name]}
user_domain_id = default
project_domain_id = default
region_name = RegionOne
"""


def main() -> None:
    """Boot, change, move and delete an instance."""
    settings = json.loads(sys.argv[1])
    set_up(settings)
    me, api = log_in(settings), neutron.API()
    wanted = objects.NetworkRequestList(
        objects=[objects.NetworkRequest(network_id=settings["network"])]
    )
    limits(api, me, wanted)
    instance = new_instance(me)
    boot(api, me, instance, wanted)
    security_groups(me, instance)
    floating_ips(api, me, instance, settings["pool"])
    migrate(api, me, instance)
    assert api.get_fixed_ip_by_address(me, address(instance)) == {"instance_uuid": instance.uuid}
    api.deallocate_for_instance(me, instance)
    assert api.list_ports(me, device_id=instance.uuid)["ports"] == []
    sys.stdout.write(instance.uuid)


def set_up(settings: dict[str, Any]) -> None:
    """Configure Nova, and make its database."""
    file = Path(settings["directory"]) / "nova.conf"
    file.write_text(CONF.format(**settings))
    nova.conf.CONF([], project="nova", default_config_files=[str(file)])
    objects.register_all()
    database.configure(nova.conf.CONF)
    models.BASE.metadata.create_all(database.context_manager.writer.get_engine())


def log_in(settings: dict[str, Any]) -> context.RequestContext:
    """Return a user's request as keystonemiddleware hands it to nova-api."""
    known = {key: settings["user"][key] for key in ("username", "password", "project_name")}
    domains = {"user_domain_id": "default", "project_domain_id": "default"}
    auth = v3.Password(settings["auth_url"], **known, **domains)
    access = auth.get_access(Session())
    return context.RequestContext(
        user_id=access.user_id,
        project_id=access.project_id,
        auth_token=access.auth_token,
        service_catalog=[as_middleware(s) for s in access.service_catalog.catalog],
        roles=access.role_names,
        is_admin=False,
    )


def as_middleware(service: dict[str, Any]) -> dict[str, Any]:
    """Return a service of the catalog in the older shape that Nova is handed."""
    urls = {f"{e['interface']}URL": e["url"] for e in service["endpoints"]}
    return {**service, "endpoints": [{"region": "RegionOne", **urls}]}


def new_instance(me: context.RequestContext) -> objects.Instance:
    """Return an instance that is in Nova's database."""
    flavor = objects.Flavor(
        name="f", flavorid="f", memory_mb=1, vcpus=1, root_gb=1, ephemeral_gb=0, swap=0,
        rxtx_factor=1.0, vcpu_weight=0, extra_specs={},
    )  # fmt: skip
    instance = objects.Instance(
        context=me, uuid=str(uuid4()), project_id=me.project_id, user_id=me.user_id,
        host=SOURCE, node=SOURCE, compute_id=1, availability_zone="nova", hostname="vm1",
        display_name="vm1", system_metadata={}, metadata={}, flavor=flavor, numa_topology=None,
    )  # fmt: skip
    instance.pci_requests = objects.InstancePCIRequests(requests=[], instance_uuid=instance.uuid)
    instance.create()
    instance.pci_devices = objects.PciDeviceList(objects=[])
    instance.info_cache = objects.InstanceInfoCache.new(me, instance.uuid)
    instance.info_cache.network_info = model.NetworkInfo([])
    instance.info_cache.save()
    instance.obj_reset_changes()
    return instance


def boot(
    api: neutron.API,
    me: context.RequestContext,
    instance: objects.Instance,
    wanted: objects.NetworkRequestList,
) -> None:
    """Give an instance a port, and wait until it is plugged in."""
    default = objects.SecurityGroup(uuid="default", name="default")
    (vif,) = api.allocate_for_instance(
        me, instance, wanted, objects.SecurityGroupList(objects=[default]), bind_host_id=SOURCE
    )
    assert vif["type"] == model.VIF_TYPE_TAP
    assert vif["details"]["port_filter"] is True
    assert vif["devname"] == "tap" + vif["id"][:11]
    (subnet,) = vif["network"]["subnets"]
    assert subnet["gateway"]["address"]
    assert vif["network"]["meta"]["mtu"] == 1500
    until_active(api, me, instance)


def security_groups(me: context.RequestContext, instance: objects.Instance) -> None:
    """Make a group with the article's rule, and have the instance in it for a while."""
    group = security_group_api.create_security_group(me, "web", "for the web")
    rule = security_group_api.new_cidr_ingress_rule("10.1.0.0/24", "tcp", 1, 65535)
    (made,) = security_group_api.add_rules(
        me, group["id"], "web", [{**rule, "parent_group_id": group["id"]}]
    )
    assert (made["protocol"], made["cidr"], made["to_port"]) == ("tcp", "10.1.0.0/24", 65535)
    security_group_api.add_to_instance(me, instance, "web")
    assert names_of_groups(me, instance) == ["default", "web"]
    security_group_api.remove_from_instance(me, instance, "web")
    assert names_of_groups(me, instance) == ["default"]
    security_group_api.destroy(me, group)


def names_of_groups(me: context.RequestContext, instance: objects.Instance) -> list[str]:
    """Return which groups an instance is in."""
    found = security_group_api.get_instance_security_groups(me, instance)
    return sorted(group["name"] for group in found)


def floating_ips(
    api: neutron.API, me: context.RequestContext, instance: objects.Instance, pool: str
) -> None:
    """Take a floating IP, use it, and give it back."""
    assert pool in {one["name"] for one in api.get_floating_ip_pools(me)}
    floating = api.allocate_floating_ip(me, pool)
    api.associate_floating_ip(me, instance, floating, address(instance))
    assert api.get_instance_id_by_floating_address(me, floating) == instance.uuid
    (vif,) = api.get_instance_nw_info(me, instance)
    assert [ip["address"] for ip in vif.floating_ips()] == [floating]
    assert [f["port_details"]["id"] for f in api.get_floating_ips_by_project(me)] == [vif["id"]]
    api.disassociate_floating_ip(me, instance, floating)
    api.release_floating_ip(me, floating)
    assert api.get_floating_ips_by_project(me) == []


def migrate(api: neutron.API, me: context.RequestContext, instance: objects.Instance) -> None:
    """Move an instance to another host, live: bound there, activated, the old binding gone."""
    assert api.has_port_binding_extension(me)
    (bound,) = api.bind_ports_to_host(me, instance, DESTINATION).values()
    assert (bound["status"], bound["vif_type"]) == ("INACTIVE", model.VIF_TYPE_TAP)
    api.setup_networks_on_host(me, instance, host=DESTINATION)
    move = objects.Migration(
        source_compute=SOURCE, dest_compute=DESTINATION, migration_type="live-migration"
    )
    api.migrate_instance_start(me, instance, move)
    instance.host = DESTINATION
    api.migrate_instance_finish(me, instance, move, {})
    api.cleanup_instance_network_on_host(me, instance, SOURCE)
    vif = until_active(api, me, instance)
    client = neutron.get_client(me, admin=True)
    bindings = client.list_port_bindings(vif["id"])["bindings"]
    assert [(b["host"], b["status"]) for b in bindings] == [(DESTINATION, "ACTIVE")]


def limits(
    api: neutron.API, me: context.RequestContext, wanted: objects.NetworkRequestList
) -> None:
    """Ask for more instances than the project's quota allows ports, and for an unknown network."""
    assert api.validate_networks(me, wanted, 5) == QUOTA
    nowhere = objects.NetworkRequest(network_id=str(uuid4()))
    try:
        api.validate_networks(me, objects.NetworkRequestList(objects=[nowhere]), 1)
    except exception.NetworkNotFound:
        return
    raise AssertionError("a network that does not exist was taken")


def address(instance: objects.Instance) -> str:
    """Return the fixed address of an instance's only port."""
    (vif,) = instance.get_network_info()
    return vif.fixed_ips()[0]["address"]


def until_active(
    api: neutron.API, me: context.RequestContext, instance: objects.Instance
) -> model.VIF:
    """Wait until the agent has an instance's port, and Nova's cache says so."""
    found: list[model.VIF] = []

    def look() -> bool:
        found[:] = api.get_instance_nw_info(me, instance)
        return all(vif["active"] for vif in found)

    until("the port is active", look)
    return found[0]


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {PATIENCE_S} s: {what}")


main()
