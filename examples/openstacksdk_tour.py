#!/usr/bin/env python3
"""A project's own network by openstacksdk: the network proxy, then the cloud layer.

    pip install openstacksdk
    export OS_CLOUD=…            # a cloud of your clouds.yaml; any member of a project will do
    examples/openstacksdk_tour.py [EXTERNAL_NETWORK]

Each step is checked; at the end, all that it made is gone again.
"""

import sys

import openstack
from openstack.connection import Connection
from openstack.exceptions import ConflictException, PreconditionFailedException


def main() -> None:
    """Walk through both layers of the SDK."""
    external = sys.argv[1] if len(sys.argv) > 1 else "public"
    with openstack.connect() as cloud:
        network_proxy(cloud, external)
        cloud_layer(cloud, external)
    print("openstacksdk: a project's network made, used and removed, by both layers")


def network_proxy(cloud: Connection, external: str) -> None:
    """Use what has a method per resource of the Networking API."""
    net = cloud.network
    network = net.create_network(name="green", mtu=1400)
    subnet = net.create_subnet(
        network_id=network.id, name="green-v4", ip_version=4, cidr="10.32.0.0/24"
    )
    group = net.create_security_group(name="ssh")
    rule = net.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp",
        port_range_min=22, port_range_max=22, remote_ip_prefix="10.1.0.0/24",
    )  # fmt: skip
    one, two = net.create_ports(
        [
            {"network_id": network.id, "name": name, "security_groups": [group.id]}
            for name in ("one", "two")
        ]
    )
    assert {port.name for port in net.ports(network_id=network.id, fields=["name"])} >= {
        "one",
        "two",
    }
    assert [len(list(net.ports(network_id=network.id, limit=1)))] == [2], "pages are followed"
    changed = net.update_port(one, allowed_address_pairs=[{"ip_address": "10.32.0.200"}])
    assert changed.allowed_address_pairs[0]["mac_address"] == one.mac_address
    net.set_tags(one, ["first"])
    assert [port.id for port in net.ports(tags="first")] == [one.id]
    outdated = net.get_port(two.id)
    net.update_port(two, description="changed meanwhile")
    try:
        net.update_port(outdated, if_revision=outdated.revision_number, description="too late")
    except PreconditionFailedException:
        pass
    else:
        raise AssertionError("the change of an outdated object was taken")

    router = net.create_router(
        name="green", external_gateway_info={"network_id": net.find_network(external).id}
    )
    net.add_interface_to_router(router, subnet_id=subnet.id)
    address = net.create_ip(floating_network_id=net.find_network(external).id, port_id=one.id)
    assert address.fixed_ip_address == one.fixed_ips[0]["ip_address"]
    try:
        net.delete_router(router)
    except ConflictException:
        pass
    else:
        raise AssertionError("a router that is in use was deleted")

    net.delete_ip(address)

    address = net.create_ip(floating_network_id=net.find_network(external).id)
    forwarding = net.create_port_forwarding(
        floatingip_id=address.id,
        internal_port_id=one.id,
        internal_ip_address=one.fixed_ips[0]["ip_address"],
        internal_port=80,
        external_port=8080,
        protocol="tcp",
    )
    net.update_port_forwarding(forwarding, address, external_port=8081)
    (found,) = net.port_forwardings(address, protocol="tcp")
    assert found.external_port == 8081
    net.delete_port_forwarding(forwarding, address)
    net.delete_ip(address)
    net.remove_interface_from_router(router, subnet_id=subnet.id)
    for port in (one, two):
        net.delete_port(port)
    net.delete_router(router)
    net.delete_security_group_rule(rule)
    net.delete_security_group(group)
    net.delete_network(network)
    assert net.find_network("green") is None


def cloud_layer(cloud: Connection, external: str) -> None:
    """Use what finds things by name and knows what belongs together."""
    network = cloud.create_network("amber")
    subnet = cloud.create_subnet("amber", cidr="10.33.0.0/24", subnet_name="amber-v4")
    router = cloud.create_router("amber", ext_gateway_net_id=cloud.get_network(external).id)
    cloud.add_router_interface(router, subnet_id=subnet.id)
    assert len(cloud.list_router_interfaces(router, "internal")) == 1
    assert external in {one.name for one in cloud.get_external_ipv4_floating_networks()}
    cloud.create_security_group("http", "web servers")
    cloud.create_security_group_rule("http", 80, 80, "tcp", "0.0.0.0/0")
    assert len(cloud.get_security_group("http").security_group_rules) == 3  # two let all out
    port = cloud.create_port(network.id, name="vm", device_id="of-the-instance")
    cloud.update_port("vm", name="vm1")
    cloud.add_auto_ip(cloud.get_server("vm1"))
    (address,) = cloud.search_floating_ips(filters={"port_id": port.id})
    assert cloud.get_server("vm1").public_v4 == address.floating_ip_address

    cloud.delete_floating_ip(address.id)
    cloud.delete_port("vm1")
    cloud.remove_router_interface(router, subnet_id=subnet.id)
    cloud.delete_router("amber")
    cloud.delete_security_group("http")
    assert cloud.delete_subnet("amber-v4")
    assert cloud.delete_network("amber")
    assert cloud.get_network("amber") is None


if __name__ == "__main__":
    main()
