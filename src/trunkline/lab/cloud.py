"""A lab's cloud, made and changed through the API alone, as its tenants and as its admin.

Keeps no memory of the cloud: names are looked up in the API whenever they are needed, so a
later command finds what an earlier one made.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from weakref import finalize

import yaml

from trunkline.client import ApiClient
from trunkline.errors import NotFound
from trunkline.lab.state import Lab, write_secret
from trunkline.lab.topology import (
    PHYSICAL_NETWORK,
    UNTAGGED,
    FloatingIp,
    GroupRule,
    Instance,
    Network,
    Router,
    Trunk,
)
from trunkline.lab.waiting import until
from trunkline.model import (
    GATEWAY_OWNER,
    ROUTER_INTERFACE_OWNER,
    AddressMode,
    GatewayMode,
    HostName,
    NetworkId,
    PortId,
    Provisioning,
    link_local,
)
from trunkline.ownership import anycast_mac, gateway_mac, tap_name, vlan_name

ADMIN = "admin"
EXTERNAL = "public"


@dataclass(frozen=True, slots=True)
class Seat:
    """An instance's place in the cloud, as the API tells it."""

    instance: str
    project: str
    host: str
    network: str
    port_id: PortId
    mac: str
    address: IPv4Address
    address6: IPv6Address | None = None

    @property
    def tap(self) -> str:
        """Return the name of its link on its host."""
        return tap_name(self.port_id)


@dataclass(frozen=True, slots=True)
class Segment:
    """A tenant network: its VLAN, and the address of each host that serves it.

    Attributes:
        bridge: The name of its bridge on every host.
        trunk: The NIC that its frames leave a host by.
        number: Its VLAN id, or another one where several trunks have that.
        gateways: By host; where its router is placed, those of the router alone.
        anycast: The one address of all hosts, where they have no own ones.
        placed: Its router is on some hosts alone.
    """

    network: str
    project: str
    network_id: NetworkId
    vlan_id: int | None
    bridge: str
    trunk: str
    number: int
    gateways: Mapping[str, IPv4Address]
    anycast: IPv4Address | None = None
    placed: bool = False

    @property
    def wire(self) -> str:
        """Return the port of its bridge towards the switch on every host."""
        return self.trunk if self.vlan_id is None else vlan_name(self.bridge)

    def gateway(self, host: str) -> IPv4Address:
        """Return what instances on a host have as their gateway: its own, or the router's."""
        usual = next(iter(self.gateways.values()), None)
        found = self.anycast or self.gateways.get(host, usual)
        assert found is not None, "a network without a gateway has no instance that asks"
        return found

    def gateway_mac(self, host: str) -> str:
        """Return the MAC of its bridge on a host, as its instances see it."""
        return self.own_mac(host) if self.anycast is None else anycast_mac(self.network_id)

    def router6(self, host: str) -> IPv6Address:
        """Return what instances on a host have as their router in IPv6."""
        return link_local(anycast_mac(self.network_id) if self.placed else self.gateway_mac(host))

    def own_mac(self, host: str) -> str:
        """Return the MAC by which a host routes to it over the trunk."""
        return gateway_mac(HostName(host), self.network_id)


class Cloud:
    """A lab's API, as each of its users sees it. Its connections end with it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._clients = {who: ApiClient(lab.api, token) for who, token in lab.tokens().items()}
        self._projects = lab.project_ids()
        finalize(self, _close, tuple(self._clients.values()))

    @property
    def admin(self) -> ApiClient:
        """Return the API as the administrator sees it."""
        return self._clients[ADMIN]

    def as_project(self, project: str) -> ApiClient:
        """Return the API as a member of a project sees it."""
        return self._clients[project]

    def create(self) -> None:
        """Make all that the topology says, instances' ports included."""
        topology = self._lab.topology
        self._create_external()
        for router in topology.routers.values():
            self._create_router(router)
        for network in topology.networks.values():
            self._create_network(network)
            self._attach(network)
        for router in topology.routers.values():
            self._set_routes(router)
        chosen = [i for i in topology.instances.values() if i.address is not None]
        others = [i for i in topology.instances.values() if i.address is None]
        for instance in (*chosen, *others):  # what is asked for by address must not be given away
            self.create_port(instance)
        for rule in topology.rules:
            self.allow(rule)
        for floating in topology.floating_ips:
            self.create_floating(floating)

    def _create_external(self) -> None:
        topology = self._lab.topology
        first, last = topology.floating_pool
        router = next(r for r in topology.internet.routers if r.network == topology.floating_cidr)
        network = self.admin.create("networks", {"name": EXTERNAL, "router:external": True})
        self.admin.create(
            "subnets",
            {
                "name": EXTERNAL,
                "network_id": network["id"],
                "ip_version": 4,
                "cidr": str(topology.floating_cidr),
                "gateway_ip": str(router.ip),
                "enable_dhcp": False,
                "allocation_pools": [{"start": str(first), "end": str(last)}],
            },
        )

    def _create_network(self, network: Network) -> None:
        """Make a network as the admin who chooses its VLAN, its subnet as the tenant."""
        body: dict[str, Any] = {
            "name": network.name,
            "project_id": self._projects[network.project],
            "trunkline:gateway": network.gateway.value,
            "trunkline:provisioning": network.provisioning.value,
            "shared": network.shared,
        }
        if network.flat:
            body["provider:network_type"] = "flat"
        if network.further:
            body["segments"] = _segments(network)
        else:
            body |= _provider(network)
        made = self.admin.create("networks", body)
        subnet = {
            "name": network.name,
            "network_id": made["id"],
            "ip_version": 4,
            "cidr": str(network.cidr),
        }
        if not network.routed:
            subnet["gateway_ip"] = None
        self.as_project(network.project).create("subnets", subnet)
        if network.ipv6:
            self._create_ipv6(network, made["id"])
        for host in network.gateways:
            self.create_gateway(network.name, host)

    def _create_ipv6(self, network: Network, network_id: str) -> None:
        mode = network.ipv6_mode.value
        subnet = {
            "name": _ipv6_name(network),
            "network_id": network_id,
            "ip_version": 6,
            "cidr": str(network.ipv6),
            "ipv6_ra_mode": mode,
            "ipv6_address_mode": mode,
        }
        self.as_project(network.project).create("subnets", subnet)

    def _create_router(self, router: Router) -> None:
        """Make a router, as the admin, who may put any project's networks on it."""
        body: dict[str, Any] = {"name": router.name, "project_id": self._projects[router.project]}
        if router.gateway:
            outside = self.one("networks", EXTERNAL)["id"]
            body["external_gateway_info"] = {"network_id": outside, "enable_snat": router.snat}
        if router.hosts:
            until(f"the agents of router {router.name}'s hosts report", lambda: self._know(router))
            body["trunkline:hosts"] = list(router.hosts)
        self.admin.create("routers", body)

    def _know(self, router: Router) -> bool:
        return set(router.hosts) <= {agent["host"] for agent in self.admin.list("agents")}

    def place(self, router: str, *hosts: str) -> None:
        """Put a router on these hosts alone, as the admin."""
        router_id = self.one("routers", router)["id"]
        self.admin.update("routers", router_id, {"trunkline:hosts": list(hosts)})

    def _attach(self, network: Network) -> None:
        """Put a network on its router, before the next one, which may have the same addresses."""
        for router in self._lab.topology.routers.values():
            if network.name in router.networks:
                self._interface("add", network.name, self.one("routers", router.name)["id"])

    def give_router(self, network: str) -> str:
        """Put a network on a new router of its project, as the admin; return the router's id."""
        found = self._lab.topology.networks[network]
        router = Router(f"{network}-router", found.project, (network,), gateway=True, snat=True)
        self._create_router(router)
        router_id = str(self.one("routers", router.name)["id"])
        self._interface("add", network, router_id)
        return router_id

    def take_router(self, network: str, router_id: str) -> None:
        """Take a network off its router and delete that, as the admin."""
        self._interface("remove", network, router_id)
        self.admin.delete("routers", router_id)

    def _interface(self, verb: str, network: str, router_id: str) -> None:
        subnet = {"subnet_id": self.one("networks", network)["subnets"][0]}
        path = f"/v2.0/routers/{router_id}/{verb}_router_interface"
        self.admin.request("PUT", path, subnet)

    def _set_routes(self, router: Router) -> None:
        routes = [
            {"destination": str(route.destination), "nexthop": str(route.nexthop)}
            for route in router.routes
        ]
        if routes:
            self.admin.update("routers", self.one("routers", router.name)["id"], {"routes": routes})

    def provision(self, network: str, provisioning: Provisioning) -> None:
        """Say on which hosts a network is, as the admin."""
        network_id = self.one("networks", network)["id"]
        self.admin.update("networks", network_id, {"trunkline:provisioning": provisioning.value})

    def create_gateway(self, network: str, host: str) -> None:
        """Reserve a host's own address on a network, where the topology chooses one.

        One that a router's interface holds needs no reservation: a host that comes carries it.
        """
        address = self._lab.topology.networks[network].gateways.get(host)
        if address is None:
            return
        network_id = self.one("networks", network)["id"]
        interfaces = self.admin.list(
            "ports",
            network_id=network_id,
            device_owner=ROUTER_INTERFACE_OWNER,
            fixed_ips=f"ip_address={address}",
        )
        if interfaces:
            return
        gateway = {
            "network_id": network_id,
            "device_owner": GATEWAY_OWNER,
            "binding:host_id": host,
            "fixed_ips": [{"ip_address": str(address)}],
        }
        self.admin.create("ports", gateway)

    def create_port(self, instance: Instance) -> None:
        """Make an instance's port as its tenant, and bind it to its host as the admin."""
        tenant = self.as_project(instance.project)
        body: dict[str, Any] = {
            "name": instance.name,
            "network_id": self.one("networks", instance.network)["id"],
            "dns_name": instance.name.lower().replace("_", "-"),
        }
        if instance.address is not None:
            body["fixed_ips"] = [{"ip_address": str(instance.address)}, *self._given(instance)]
        port = tenant.create("ports", body)
        binding = {
            "binding:host_id": instance.host,
            "device_id": instance.name,
            "device_owner": "compute:nova",
        }
        self.admin.update("ports", port["id"], binding)

    def _given(self, instance: Instance) -> list[dict[str, str]]:
        """Return the wish for an IPv6 address, where one is not made of the MAC in any case."""
        network = self._lab.topology.networks[instance.network]
        if network.ipv6 is None or network.ipv6_mode is not AddressMode.STATEFUL:
            return []
        if instance.address6 is not None:
            return [{"ip_address": str(instance.address6)}]
        return [{"subnet_id": self.one("subnets", _ipv6_name(network))["id"]}]

    def bind(self, port_id: str, host: str) -> None:
        """Bind a port to a second host, as the hypervisor does that will move an instance."""
        body = {"binding": {"host": host}}
        self.admin.request("POST", f"/v2.0/ports/{port_id}/bindings", body)

    def activate(self, port_id: str, host: str) -> None:
        """Make a port's second host the one where it is active."""
        self.admin.request("PUT", f"/v2.0/ports/{port_id}/bindings/{host}/activate")

    def unbind(self, port_id: str, host: str) -> None:
        """End a port's binding to a host where it is not active."""
        self.admin.request("DELETE", f"/v2.0/ports/{port_id}/bindings/{host}")

    def delete_port(self, instance: Instance) -> None:
        """Delete an instance's port, as its tenant."""
        port = self.one("ports", instance.name)
        self.as_project(instance.project).delete("ports", port["id"])

    def allow(self, rule: GroupRule) -> str:
        """Add a rule to a project's default group, as the tenant; return its id."""
        tenant = self.as_project(rule.project)
        body: dict[str, Any] = {
            "security_group_id": tenant.list("security-groups", name="default")[0]["id"],
            "direction": "ingress",
            "ethertype": f"IPv{rule.source.version}",
            "protocol": rule.protocol,
            "remote_ip_prefix": str(rule.source),
        }
        if rule.ports is not None:
            body |= {"port_range_min": rule.ports[0], "port_range_max": rule.ports[1]}
        return str(tenant.create("security-group-rules", body)["id"])

    def forbid(self, project: str, rule_id: str) -> None:
        """Take a rule out of a project's group, as the tenant."""
        self.as_project(project).delete("security-group-rules", rule_id)

    def rules(self, project: str) -> dict[str, Mapping[str, Any]]:
        """Return the ingress rules by prefix of a project's default group, by id."""
        found = self.as_project(project).list("security-group-rules", direction="ingress")
        return {r["id"]: r for r in found if r["remote_ip_prefix"]}

    def create_floating(self, floating: FloatingIp) -> None:
        """Reserve the address as the admin, who may choose it; associate it as the tenant."""
        body = {
            "floating_network_id": self.one("networks", EXTERNAL)["id"],
            "floating_ip_address": str(floating.address),
            "project_id": self._projects[floating.project],
        }
        self.admin.create("floatingips", body)
        if floating.instance:
            self.associate(floating, floating.instance)

    def release(self, floating: FloatingIp) -> None:
        """Give a floating IP back, as the tenant."""
        tenant = self.as_project(floating.project)
        for one in tenant.list("floatingips", floating_ip_address=str(floating.address)):
            for forwarding in one["port_forwardings"]:
                self.unforward(floating, forwarding["id"])
            tenant.delete("floatingips", one["id"])

    def forward(
        self, floating: FloatingIp, instance: str, protocol: str, ports: tuple[int, int]
    ) -> str:
        """Forward a port of a floating IP to an instance, as the tenant; return the id.

        Args:
            floating: Which; it leads to no instance as a whole.
            instance: Whither.
            protocol: ``tcp`` or ``udp``.
            ports: The floating IP's, and the instance's.
        """
        port = self.one("ports", instance)
        wish = {
            "internal_port_id": port["id"],
            "internal_ip_address": port["fixed_ips"][0]["ip_address"],
            "protocol": protocol,
            "external_port": ports[0],
            "internal_port": ports[1],
        }
        tenant, where = self.as_project(floating.project), self._forwardings(floating)
        made = tenant.request("POST", where, {"port_forwarding": wish})
        return str(made["port_forwarding"]["id"])

    def unforward(self, floating: FloatingIp, forwarding_id: str) -> None:
        """End a forwarding, as the tenant."""
        tenant, where = self.as_project(floating.project), self._forwardings(floating)
        tenant.request("DELETE", f"{where}/{forwarding_id}")

    def forwardings(self, floating: FloatingIp) -> Sequence[Mapping[str, Any]]:
        """Return the forwardings of a floating IP, as the API shows them."""
        tenant, where = self.as_project(floating.project), self._forwardings(floating)
        found: Sequence[Mapping[str, Any]] = tenant.request("GET", where)["port_forwardings"]
        return found

    def _forwardings(self, floating: FloatingIp) -> str:
        found = self.admin.list("floatingips", floating_ip_address=str(floating.address))
        return f"/v2.0/floatingips/{found[0]['id']}/port_forwardings"

    def associate(self, floating: FloatingIp, instance: str | None) -> None:
        """Give a floating IP to an instance, or take it away, as the tenant."""
        tenant = self.as_project(floating.project)
        found = tenant.list("floatingips", floating_ip_address=str(floating.address))
        port = None if instance is None else self.one("ports", instance)["id"]
        tenant.update("floatingips", found[0]["id"], {"port_id": port})

    def one(self, collection: str, name: str) -> Mapping[str, Any]:
        """Return the one object of a name.

        Raises:
            NotFound: There is none.
        """
        found = self.admin.list(collection, name=name)
        if not found:
            raise NotFound(f"{collection} {name}: the API has none of this name")
        return found[0]

    def seats(self) -> dict[str, Seat]:
        """Return where each instance that has a port sits, in the topology's order."""
        ports = {port["name"]: port for port in self.admin.list("ports") if port["name"]}
        instances = self._lab.topology.instances.values()
        return {i.name: _seat(i, ports[i.name]) for i in instances if i.name in ports}

    def segments(self) -> dict[str, Segment]:
        """Return each tenant network with the addresses of the hosts that serve it."""
        owners = [GATEWAY_OWNER, ROUTER_INTERFACE_OWNER]
        gateways = self.admin.list("ports", device_owner=owners)
        placed = {r["id"]: r["trunkline:hosts"] for r in self.admin.list("routers")}
        routers = {
            port["network_id"]: placed[port["device_id"]]
            for port in gateways
            if port["device_owner"] == ROUTER_INTERFACE_OWNER
        }
        found = {n.name: self.one("networks", n.name) for n in self._lab.topology.networks.values()}
        return {
            network.name: _segment(
                network,
                self._lab.topology.trunks[network.physical_network],
                found[network.name],
                gateways,
                routers.get(found[network.name]["id"], ()),
            )
            for network in self._lab.topology.networks.values()
        }


def _provider(network: Network) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if network.vlan_id is not None:
        body["provider:segmentation_id"] = network.vlan_id
    if not network.flat or network.physical_network != PHYSICAL_NETWORK:
        body["provider:physical_network"] = network.physical_network
    return body


def _segments(network: Network) -> list[dict[str, Any]]:
    vlans = {network.physical_network: network.vlan_id, **network.further}
    keys = ("provider:physical_network", "provider:segmentation_id")
    return [dict(zip(keys, one, strict=True)) for one in vlans.items()]


def _ipv6_name(network: Network) -> str:
    return f"{network.name}-ipv6"


def _close(clients: Iterable[ApiClient]) -> None:
    for client in clients:
        client.close()


def _seat(instance: Instance, port: Mapping[str, Any]) -> Seat:
    held = [ip_address(fixed["ip_address"]) for fixed in port["fixed_ips"]]
    return Seat(
        instance=instance.name,
        project=instance.project,
        host=port["binding:host_id"] or instance.host,
        network=instance.network,
        port_id=PortId(port["id"]),
        mac=port["mac_address"],
        address=next(a for a in held if isinstance(a, IPv4Address)),
        address6=next((a for a in held if isinstance(a, IPv6Address)), None),
    )


def _segment(
    network: Network,
    trunk: Trunk,
    found: Mapping[str, Any],
    gateways: Iterable[Mapping[str, Any]],
    placed: Collection[str],
) -> Segment:
    anycast = found["trunkline:gateway"] == GatewayMode.ANYCAST
    addresses = {
        host: address
        for port in gateways
        if port["network_id"] == found["id"]
        for address in (ip_address(fixed["ip_address"]) for fixed in port["fixed_ips"])
        for host in placed or [port["binding:host_id"]]
        if (host or anycast) and isinstance(address, IPv4Address)
    }
    return Segment(
        network=network.name,
        project=network.project,
        network_id=NetworkId(found["id"]),
        vlan_id=found["provider:segmentation_id"],
        bridge=found["trunkline:bridge"],
        trunk=trunk.nic,
        number=trunk.base + (found["provider:segmentation_id"] or UNTAGGED),
        anycast=addresses.pop("", None),
        gateways=dict(sorted(addresses.items())),
        placed=bool(placed),
    )


def write_users(lab: Lab) -> None:
    """Write the server's users file, and the tokens for the lab's own use."""
    projects = (ADMIN, *lab.topology.projects)
    ids = {project: secrets.token_hex(16) for project in projects}
    tokens = {who: secrets.token_hex(24) for who in (*projects, *lab.topology.hosts)}
    users = [_user(p, tokens[p], ids[p], ADMIN if p == ADMIN else "member") for p in projects]
    users += [_user(h, tokens[h], ids[ADMIN], "agent") for h in lab.topology.hosts]
    document = {"projects": [{"id": ids[p], "name": p} for p in projects], "users": users}
    write_secret(lab.directory / "users.yaml", yaml.safe_dump(document, sort_keys=False))
    lab.write_identity(tokens, ids)


def _user(name: str, token: str, project: str, role: str) -> dict[str, Any]:
    return {"name": name, "tokens": [{"token": token, "project": project, "roles": [role]}]}
