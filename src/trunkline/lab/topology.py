"""What a lab consists of, as values, read from a YAML file. Pure but for reading that file.

Decides what a topology file may say, and names the field that says something else. Knows
nothing of namespaces, of the API, or of what the scenarios do with all this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from pathlib import Path
from typing import Any, TypeVar

import yaml

from trunkline.errors import Invalid
from trunkline.model import (
    VLAN_ID_MAX,
    VLAN_ID_MIN,
    AddressMode,
    GatewayMode,
    HostRoute,
    IpNetwork,
    Provisioning,
)
from trunkline.ownership import LINK_NAME_MAX

T = TypeVar("T")

HERE = Path(__file__).parent
DEFAULT = "article"
MANAGEMENT = IPv4Network("192.0.2.0/24")  # RFC 5737: the hosts' way to the server, nothing else's
CONTROLLER, SWITCH, INTERNET = "controller", "switch", "inet"
JOINT = "joint"  # joins the segments of one network, from switch to switch
ROUTER = "router"
PHYSICAL_NETWORK = "physnet1"
UNTAGGED = 0  # stands for the segment without a tag; IEEE 802.1Q: no VLAN has this number
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Internet:
    """The external wire and what is behind it.

    Attributes:
        routers: The provider's addresses on the wire, one per prefix that lives there.
        answers: Addresses behind the routers that answer, such as 8.8.8.8.
    """

    routers: tuple[IPv4Interface, ...]
    answers: tuple[IPv4Address, ...]


@dataclass(frozen=True, slots=True)
class Trunk:
    """A physical network: a switch of its own, and on each host that has it a NIC.

    Attributes:
        name: The physical network's.
        vlans: First and last VLAN id that its networks are given.
        number: 1 is the article's one.
    """

    name: str
    vlans: tuple[int, int]
    number: int

    @property
    def nic(self) -> str:
        """Return the NIC on hosts: ``eth0``; ``eth1`` is the external one."""
        return "eth0" if self.number == 1 else f"eth{self.number}"

    @property
    def base(self) -> int:
        """Return what tells its VLANs' numbers from those of the other trunks."""
        return (self.number - 1) * (VLAN_ID_MAX + 1)

    @property
    def switch(self) -> str:
        """Return the name of its switch."""
        return SWITCH if self.number == 1 else f"{SWITCH}{self.number}"


@dataclass(frozen=True, slots=True)
class Host:
    """A compute host.

    Attributes:
        external: Its own address on the external wire.
        management: Its address on the way to the server.
        trunks: The physical networks that it is on.
        trunk_vlans: What its switch port lets pass; None is every VLAN.
    """

    name: str
    external: IPv4Interface
    management: IPv4Interface
    trunks: tuple[str, ...]
    trunk_vlans: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A tenant's network with its IPv4 subnet, and maybe one of IPv6.

    Attributes:
        physical_network: Which trunk it is on.
        vlan_id: None lets the server choose.
        further: Its VLAN ids on further trunks, where it has several segments.
        flat: It has no VLAN: its frames go without a tag.
        shared: All projects may have instances on it.
        ipv6: Its IPv6 prefix; ``ipv6_mode`` is how instances get addresses of it.
        gateways: Hosts' own addresses by host, where they are not left to the server.
        gateway: Which address instances have as their gateway.
        provisioning: On which hosts it is, besides those of its instances.
        routed: Whether its subnet has a gateway; without one it is on no router.
    """

    name: str
    project: str
    cidr: IPv4Network
    physical_network: str
    vlan_id: int | None
    gateways: Mapping[str, IPv4Address]
    gateway: GatewayMode = GatewayMode.PER_HOST
    provisioning: Provisioning = Provisioning.ON_DEMAND
    routed: bool = True
    flat: bool = False
    shared: bool = False
    ipv6: IPv6Network | None = None
    ipv6_mode: AddressMode = AddressMode.SLAAC
    further: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Router:
    """A router of a project's own; networks that are on none are on the default router.

    Attributes:
        project: Whose it is; networks may be others', as the administrator adds them.
        gateway: Whether it leads to the Internet, and floating IPs to its networks.
        snat: Whether it does so from any address, or by floating IPs only.
        hosts: Those that it is placed on; none: every host.
    """

    name: str
    project: str
    networks: tuple[str, ...]
    gateway: bool
    snat: bool
    routes: tuple[HostRoute, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupRule:
    """An ingress rule of the project's ``default`` security group.

    Attributes:
        ports: First and last; None with a protocol that has none, or for all.
    """

    project: str
    protocol: str
    ports: tuple[int, int] | None
    source: IpNetwork


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance with one port; without ``address`` the server chooses.

    Attributes:
        address6: Its IPv6 address likewise, where it has an ``address`` and makes itself none.
    """

    name: str
    project: str
    network: str
    host: str
    address: IPv4Address | None
    address6: IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class FloatingIp:
    """A floating IP and the instance that it belongs to; empty: ports of it lead to some."""

    address: IPv4Address
    project: str
    instance: str


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole lab. Mappings are keyed by name, in the file's order.

    Attributes:
        default_router: Whether networks are on a router that all share until they get their own.
        scenarios: Those that are played on it by default; none: the article's.
    """

    name: str
    internet: Internet
    hosts: Mapping[str, Host]
    trunks: Mapping[str, Trunk]
    floating_cidr: IPv4Network
    floating_pool: tuple[IPv4Address, IPv4Address]
    projects: tuple[str, ...]
    default_router: bool
    networks: Mapping[str, Network]
    routers: Mapping[str, Router]
    rules: tuple[GroupRule, ...]
    instances: Mapping[str, Instance]
    floating_ips: tuple[FloatingIp, ...]
    scenarios: tuple[str, ...] = ()

    def nodes(self) -> tuple[str, ...]:
        """Return every node's name: what has a namespace of its own."""
        return (
            CONTROLLER,
            *self.switches(),
            *self.joints(),
            INTERNET,
            *self.routers_upstream(),
            *self.hosts,
            *self.instances,
        )

    def switches(self) -> tuple[str, ...]:
        """Return the switches, one for each trunk."""
        return tuple(trunk.switch for trunk in self.trunks.values())

    def trunks_of(self, node: str) -> tuple[Trunk, ...]:
        """Return those that a host has a NIC on; an upstream router has one on the first."""
        names = self.hosts[node].trunks if node in self.hosts else (PHYSICAL_NETWORK,)
        return tuple(trunk for name, trunk in self.trunks.items() if name in names)

    def joints(self) -> tuple[str, ...]:
        """Return what joins the switches' VLANs, where a network has several segments."""
        return (JOINT,) if any(n.further for n in self.networks.values()) else ()

    def routers_upstream(self) -> tuple[str, ...]:
        """Return the router on the switch's trunk, where a network has its gateway there."""
        upstream = (n.gateway is GatewayMode.UPSTREAM for n in self.networks.values())
        return (ROUTER,) if any(upstream) else ()


def read(source: str) -> str:
    """Return the text of a topology: a file's path, or a shipped one's name (``article``).

    Raises:
        Invalid: There is no such file.
    """
    shipped = HERE / f"{source}.yaml"
    path = shipped if NAME.fullmatch(source) and shipped.exists() else Path(source)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(p.stem for p in HERE.glob("*.yaml")))
        raise Invalid(f"topology {source}: {error}; name a YAML file, or {known}") from error


def load(text: str, name: str | None = None) -> Topology:
    """Return the topology that a YAML text describes.

    Args:
        text: YAML.
        name: Another name for the lab than the file's, so that two can run at once.

    Raises:
        Invalid: It is no YAML, or says something that a lab cannot be.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Invalid(f"topology: no YAML: {error}") from error
    return parse(data | {"name": name} if name and isinstance(data, dict) else data)


def parse(data: Any) -> Topology:
    """Return the topology that a YAML document describes.

    Raises:
        Invalid: Names the field and what was expected there.
    """
    top = _Fields("topology", data)
    tenants = {name: _Fields(f"tenants.{name}", t) for name, t in top.mapping("tenants").items()}
    pool = _Fields("floating_pool", top.take("floating_pool", _any))
    trunks = _keyed(_trunks(top))
    topology = Topology(
        name=top.take("name", _name),
        internet=_internet(_Fields("internet", top.take("internet", _any))),
        hosts=_keyed(_hosts(top.mapping("hosts"), trunks)),
        trunks=trunks,
        floating_cidr=pool.take("cidr", IPv4Network),
        floating_pool=pool.take("pool", _pair_of(IPv4Address)),
        projects=tuple(tenants),
        default_router=top.flag("default_router", usual=True),
        networks=_keyed(n for project, t in tenants.items() for n in _networks(project, t)),
        routers=_keyed(_routers(top.mapping("routers"))),
        rules=tuple(r for project, t in tenants.items() for r in _rules(project, t)),
        instances=_keyed(i for project, t in tenants.items() for i in _instances(project, t)),
        floating_ips=tuple(f for project, t in tenants.items() for f in _floating(project, t)),
        scenarios=tuple(map(str, top.take("scenarios", _list_of(_any), ()))),
    )
    for fields in (top, pool, *tenants.values()):
        fields.done()
    _check(topology)
    return topology


def _internet(fields: _Fields) -> Internet:
    internet = Internet(
        routers=fields.take("routers", _list_of(IPv4Interface)),
        answers=fields.take("answers", _list_of(IPv4Address)),
    )
    fields.done()
    return internet


def _trunks(top: _Fields) -> Iterator[Trunk]:
    """Return the article's trunk, and those of ``further_trunks``: VLAN ids by name."""
    yield Trunk(PHYSICAL_NETWORK, top.take("vlans", _pair_of(_vlan)), 1)
    for number, (name, vlans) in enumerate(top.mapping("further_trunks").items(), start=2):
        yield Trunk(_name(name), top.convert("further_trunks", _pair_of(_vlan), vlans), number)


def _hosts(data: Mapping[str, Any], trunks: Iterable[str]) -> Iterator[Host]:
    for number, (name, value) in enumerate(data.items(), start=11):
        fields = _Fields(f"hosts.{name}", value)
        yield Host(
            name=_link_name(name),
            external=fields.take("external", IPv4Interface),
            management=IPv4Interface((MANAGEMENT[number], MANAGEMENT.prefixlen)),
            trunks=fields.take("trunks", _list_of(str), tuple(trunks)),
            trunk_vlans=fields.take("trunk_vlans", _list_of(_vlan), None),
        )
        fields.done()


def _networks(project: str, tenant: _Fields) -> Iterator[Network]:
    for name, value in tenant.mapping("networks").items():
        fields = _Fields(f"{tenant.where}.networks.{name}", value)
        gateways, further = fields.mapping("gateways"), fields.mapping("further")
        yield Network(
            name=_name(name),
            project=_name(project),
            cidr=fields.take("cidr", IPv4Network),
            physical_network=fields.take("trunk", str, PHYSICAL_NETWORK),
            vlan_id=fields.take("vlan", _vlan, None),
            further={trunk: fields.convert("further", _vlan, v) for trunk, v in further.items()},
            gateways={
                host: fields.convert("gateways", IPv4Address, a) for host, a in gateways.items()
            },
            gateway=fields.take("gateway", GatewayMode, GatewayMode.PER_HOST),
            provisioning=fields.take("provisioning", Provisioning, Provisioning.ON_DEMAND),
            routed=fields.flag("routed", usual=True),
            flat=fields.flag("flat", usual=False),
            shared=fields.flag("shared", usual=False),
            ipv6=fields.take("ipv6", IPv6Network, None),
            ipv6_mode=fields.take("ipv6_mode", AddressMode, AddressMode.SLAAC),
        )
        fields.done()


def _routers(data: Mapping[str, Any]) -> Iterator[Router]:
    for name, value in data.items():
        fields = _Fields(f"routers.{name}", value)
        routes = fields.mapping("routes")
        yield Router(
            name=_name(name),
            project=fields.take("project", _name),
            networks=fields.take("networks", _list_of(_name)),
            gateway=fields.flag("gateway", usual=True),
            snat=fields.flag("snat", usual=True),
            routes=tuple(
                HostRoute(
                    fields.convert("routes", IPv4Network, destination),
                    fields.convert("routes", IPv4Address, nexthop),
                )
                for destination, nexthop in routes.items()
            ),
            hosts=tuple(fields.take("hosts", _list_of(str), None) or ()),
        )
        fields.done()


def _rules(project: str, tenant: _Fields) -> Iterator[GroupRule]:
    for number, value in enumerate(tenant.take("rules", _list_of(_any), ())):
        fields = _Fields(f"{tenant.where}.rules[{number}]", value)
        yield GroupRule(
            project=project,
            protocol=fields.take("protocol", str),
            ports=fields.take("ports", _pair_of(int), None),
            source=fields.take("from", ip_network),
        )
        fields.done()


def _instances(project: str, tenant: _Fields) -> Iterator[Instance]:
    for name, value in tenant.mapping("instances").items():
        fields = _Fields(f"{tenant.where}.instances.{name}", value)
        yield Instance(
            name=_name(name),
            project=project,
            network=fields.take("network", str),
            host=fields.take("host", str),
            address=fields.take("address", IPv4Address, None),
            address6=fields.take("address6", IPv6Address, None),
        )
        fields.done()


def _floating(project: str, tenant: _Fields) -> Iterator[FloatingIp]:
    for address, instance in tenant.mapping("floating_ips").items():
        converted = tenant.convert("floating_ips", IPv4Address, address)
        yield FloatingIp(converted, project, str(instance))


def _check(topology: Topology) -> None:
    """Refuse references to what is not there, and names that two things would share."""
    names = ("admin", *topology.projects, *topology.nodes())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Invalid(f"topology {topology.name}: two things are called {twice[0]}; rename one")
    for instance in topology.instances.values():
        where = f"instance {instance.name}"
        _known(f"{where}: host", instance.host, topology.hosts)
        _known(f"{where}: network", instance.network, topology.networks)
        if instance.address6 is not None and instance.address is None:
            raise Invalid(f"{where}: address6 goes with an address; give both, or none")
    for network in topology.networks.values():
        _check_network(network, topology)
    for host in topology.hosts.values():
        _check_trunks(host, topology)
    _check_routers(topology)
    for name, of in topology.hosts.items():
        _on_wire(f"hosts.{name}.external", of.external.network, topology.internet)
    _on_wire("floating_pool.cidr", topology.floating_cidr, topology.internet)
    for floating in topology.floating_ips:
        _known(f"floating IP {floating.address}: instance", floating.instance, topology.instances)


def _check_trunks(host: Host, topology: Topology) -> None:
    for name in host.trunks:
        _known(f"hosts.{host.name}.trunks", name, topology.trunks)
    if host.trunk_vlans is not None and len(topology.trunks) > 1:
        raise Invalid(
            f"hosts.{host.name}.trunk_vlans: with several trunks it does not say whose; remove it"
        )


def _check_network(network: Network, topology: Topology) -> None:
    for host in network.gateways:
        _known(f"network {network.name}: gateways", host, topology.hosts)
    _known(f"network {network.name}: trunk", network.physical_network, topology.trunks)
    if network.gateway is GatewayMode.UPSTREAM and network.physical_network != PHYSICAL_NETWORK:
        raise Invalid(
            f"network {network.name}: the upstream router is on {PHYSICAL_NETWORK}; remove its"
            " trunk, or choose another gateway"
        )
    for trunk in network.further:
        _known(f"network {network.name}: further", trunk, topology.trunks)
    if network.further and (network.vlan_id is None or len(topology.trunks) != 2):  # noqa: PLR2004 - the joint's two ends
        raise Invalid(
            f"network {network.name}: further needs a vlan beside it, and two trunks to join"
        )
    if network.flat and network.vlan_id is not None:
        raise Invalid(f"network {network.name}: a flat network has no vlan; remove one of them")
    if network.gateways and network.gateway is GatewayMode.ANYCAST:
        raise Invalid(
            f"network {network.name}: with 'gateway: anycast' no host has an address of its"
            " own; remove its gateways"
        )


def _check_routers(topology: Topology) -> None:
    on: dict[str, str] = {}
    for router in topology.routers.values():
        _known(f"router {router.name}: project", router.project, topology.projects)
        for host in router.hosts:
            _known(f"router {router.name}: hosts", host, topology.hosts)
        for network in router.networks:
            _known(f"router {router.name}: networks", network, topology.networks)
            if network in on:
                raise Invalid(
                    f"router {router.name}: network {network} is on router {on[network]}; a network"
                    " is on one router"
                )
            on[network] = router.name


def _on_wire(where: str, prefix: IPv4Network, internet: Internet) -> None:
    prefixes = [router.network for router in internet.routers]
    if prefix not in prefixes:
        known = ", ".join(map(str, prefixes))
        raise Invalid(f"{where}: no router of the internet is in {prefix}; there is {known}")


def _known(where: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise Invalid(f"{where} {name!r} is not in the topology; it has {', '.join(known)}")


class _Fields:
    """A mapping of the file, taken apart field by field; what nobody takes is refused."""

    def __init__(self, where: str, data: Any) -> None:
        if not isinstance(data, dict):
            raise Invalid(f"{where}: expected a mapping, found {data!r}")
        self.where = where
        self._left = dict(data)

    def take(self, key: str, convert: Callable[[Any], T], *default: T | None) -> Any:
        """Return a field's value converted; without a default it must be there."""
        if key not in self._left:
            if default:
                return default[0]
            raise Invalid(f"{self.where}.{key}: missing")
        return self.convert(key, convert, self._left.pop(key))

    def flag(self, key: str, *, usual: bool) -> bool:
        """Return a field that is true or false; ``usual`` if it is not there."""
        value = self._left.pop(key, usual)
        if not isinstance(value, bool):
            raise Invalid(f"{self.where}.{key}: expected true or false, found {value!r}")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return a field that is a mapping; one that is not there is empty."""
        value = self._left.pop(key, {})
        if not isinstance(value, dict):
            raise Invalid(f"{self.where}.{key}: expected a mapping, found {value!r}")
        return value

    def convert(self, key: str, convert: Callable[[Any], T], value: Any) -> T:
        """Return a value converted; a failure names the field."""
        try:
            return convert(value)
        except (ValueError, TypeError) as error:
            raise Invalid(f"{self.where}.{key}: {error}") from error

    def done(self) -> None:
        """Refuse what nobody took."""
        if self._left:
            raise Invalid(f"{self.where}.{next(iter(self._left))}: unknown field; remove it")


def _keyed(values: Iterable[Any]) -> dict[str, Any]:
    keyed: dict[str, Any] = {}
    for value in values:
        if value.name in keyed:
            raise Invalid(f"topology: {value.name} is there twice; rename one")
        keyed[value.name] = value
    return keyed


def _any(value: Any) -> Any:
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no name: a letter, then letters, digits and _")
    return value


def _link_name(value: str) -> str:
    """A host's name is also its switch port's."""
    if not NAME.fullmatch(value) or len(value) > LINK_NAME_MAX:
        raise Invalid(f"hosts.{value}: a name here has at most {LINK_NAME_MAX} letters and digits")
    return value


def _vlan(value: Any) -> int:
    if not isinstance(value, int) or not VLAN_ID_MIN <= value <= VLAN_ID_MAX:
        raise ValueError(f"{value!r} is no VLAN id: {VLAN_ID_MIN} to {VLAN_ID_MAX}")
    return value


def _list_of(convert: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    def each(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, found {value!r}")
        return tuple(convert(item) for item in value)

    return each


def _pair_of(convert: Callable[[Any], T]) -> Callable[[Any], tuple[T, T]]:
    def pair(value: Any) -> tuple[T, T]:
        first, last = _list_of(convert)(value)
        return first, last

    return pair
