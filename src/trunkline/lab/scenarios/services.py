"""What else a network offers: scenarios that are not the article's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from trunkline.core.nat import METADATA_ADDRESS, METADATA_SERVICE
from trunkline.errors import Interrupted, Invalid
from trunkline.kernel import netns
from trunkline.lab import build, probe
from trunkline.lab.build import TRUNK, UPLINK
from trunkline.lab.evidence import heard, nothing
from trunkline.lab.packets import Frame
from trunkline.lab.probe import Answer
from trunkline.lab.scenarios.acts import ECHO, LEFT, RIGHT, witnessed
from trunkline.lab.stage import PROBE_S, SILENCE_S, Stage
from trunkline.lab.topology import INTERNET, SWITCH, GroupRule
from trunkline.lab.verdict import Act, Check, Seen, laws
from trunkline.lab.waiting import limit_s, until
from trunkline.lab.walk import asking_for, carrying, walk
from trunkline.model import IpAddress, PortId, PortStatus
from trunkline.ownership import tap_name
from trunkline.trace.packets import FRAGMENTATION_NEEDED

VIRTUAL = 99  # an address that nobody has
MTU, SMALL_MTU, OPTION_MTU = 1500, 1400, 1380
METADATA_PATH = "/latest/meta-data/instance-id?x=1"
OTHER_SOURCE = 205  # of the external prefix, which no host has
SECOND = "10.7.0.0/24"  # a prefix that no other network of the lab has
BURST = 1000  # kbit: little against what two seconds let pass
LIMITS = {"egress": 8000, "ingress": 4000}  # kbit/s
RANGE = 28  # length of a prefix round it


def play_pairs(stage: Stage) -> tuple[Act, ...]:
    """Have VM_2 use a second address: not allowed, allowed, by prefix, and without a wall."""
    network = stage.topology.networks["net1"].cidr
    virtual = network[VIRTUAL]
    wide = next(p for p in network.subnets(new_prefix=RANGE) if virtual in p)
    with second_address(stage, "VM_2", virtual):
        alone = _stranger_act(stage, virtual)
        with port_with(stage, "VM_2", allowed_address_pairs=[{"ip_address": str(virtual)}]):
            single = _allowed_act(stage, virtual, f"VM_2 may use {virtual} too")
        with port_with(stage, "VM_2", allowed_address_pairs=[{"ip_address": str(wide)}]):
            prefix = _allowed_act(stage, virtual, f"VM_2 may use all of {wide}")
        with port_with(stage, "VM_2", port_security_enabled=False, security_groups=[]):
            return alone, single, prefix, _unsecured_act(stage, virtual)


@contextmanager
def second_address(stage: Stage, instance: str, address: IPv4Address) -> Iterator[None]:
    """Have an instance give itself one more address meanwhile."""
    namespace = stage.lab.namespace(instance)
    words = [f"{address}/24", "dev", "eth0"]
    netns.run(namespace, ["ip", "addr", "add", *words], limit_s(10))
    try:
        yield
    finally:
        netns.run(namespace, ["ip", "addr", "del", *words], limit_s(10))


@contextmanager
def port_with(stage: Stage, instance: str, **attributes: Any) -> Iterator[None]:
    """Change an instance's port meanwhile, as its tenant."""
    seat = stage.seats[instance]
    tenant = stage.cloud.as_project(seat.project)
    before = tenant.show("ports", seat.port_id)
    tenant.update("ports", seat.port_id, attributes)
    stage.settle()
    try:
        yield
    finally:
        tenant.update("ports", seat.port_id, {name: before[name] for name in attributes})
        stage.settle()


def _ping(stage: Stage, sender: str, to: IPv4Address) -> Callable[[], Answer]:
    namespace = stage.lab.namespace(sender)
    return lambda: probe.ping(namespace, to, limit_s(PROBE_S))


def _stranger_act(stage: Stage, virtual: IPv4Address) -> Act:
    namespace = stage.lab.namespace("VM_5")
    answer, seen = stage.witness(lambda: probe.ping(namespace, virtual, limit_s(SILENCE_S)))
    arp = seen.of(asking_for([virtual]), "ARP reply")
    tap = stage.seats["VM_2"].tap
    checks = [
        Check("VM_5 gets no answer", answer.kind == "silence", answer.kind),
        heard("VM_2 claims the address", arp, LEFT, tap, "in"),
        nothing(
            "the claim does not leave its tap", arp.where(lambda f: f.device not in (tap, "eth0"))
        ),
    ]
    title = f"VM_2 gives itself {virtual}, which its port may not use"
    return witnessed(stage, title, seen, asking_for([virtual]), checks)


def _allowed_act(stage: Stage, virtual: IPv4Address, title: str) -> Act:
    answer, seen = stage.witness(_ping(stage, "VM_5", virtual))
    refused, more = _udp_from_other_tenant(stage, virtual)
    arp = seen.of(asking_for([virtual]), "ARP reply")
    checks = [
        Check(f"VM_5 is answered by {virtual}", answer.by == virtual, answer.kind),
        heard("VM_2's claim crosses the trunk", arp, SWITCH, "", "out"),
        Check("its groups still hold: no UDP from VM_6", refused.kind == "silence", refused.kind),
        nothing("VM_2 never sees that", more.on("VM_2").where(lambda f: refused.nonce in f.data)),
    ]
    return witnessed(stage, title, seen, asking_for([virtual]), checks)


def _unsecured_act(stage: Stage, virtual: IPv4Address) -> Act:
    answer, seen = stage.witness(_ping(stage, "VM_5", virtual))
    _, more = _udp_from_other_tenant(stage, virtual)
    arrived = more.on("VM_2").where(lambda f: f.ip is not None and f.ip.destination == virtual)
    checks = [
        Check(f"VM_5 is answered by {virtual}", answer.by == virtual, answer.kind),
        heard("UDP from VM_6 arrives, by no rule", arrived, "VM_2", "eth0"),
    ]
    title = "VM_2's port has no port security: any address, and no groups"
    return witnessed(stage, title, seen, asking_for([virtual]), checks)


def _udp_from_other_tenant(stage: Stage, to: IPv4Address) -> tuple[Answer, Seen]:
    a, b = stage.lab.namespace("VM_6"), stage.lab.namespace("VM_2")
    return stage.witness(lambda: probe.udp(a, b, to, limit_s(SILENCE_S)))


def play_dns(stage: Stage) -> tuple[Act, ...]:
    """Ask for names of the own network, of a renamed instance, and of another network."""
    return _names_act(stage), _renamed_act(stage), _resolvers_act(stage)


def _names_act(stage: Stage) -> Act:
    far, other = stage.seats["VM_5"], stage.seats["VM_6"]
    ask = _asker(stage, "VM_1")
    checks = [
        _answers("an instance on another host", ask("vm-5"), str(far.address)),
        _answers("with the domain", ask("vm-5.internal"), str(far.address)),
        _answers("itself", ask("vm-1"), str(stage.seats["VM_1"].address)),
        _answers("an address", ask(far.address.reverse_pointer), "vm-5.internal"),
        _answers("an instance of another network", ask("vm-6.internal")),
        _answers("its address", ask(other.address.reverse_pointer)),
    ]
    return Act("VM_1 asks its gateway for names", (), tuple(checks), ())


def _renamed_act(stage: Stage) -> Act:
    servers = stage.output(
        LEFT, "pgrep", "-f", f"conf-file={stage.lab.directory}/hosts/{LEFT}/.*br100"
    )
    ask, address = _asker(stage, "VM_1"), str(stage.seats["VM_5"].address)
    with port_with(stage, "VM_5", dns_name="db"):
        renamed = _answers("the new name", _eventually(lambda: ask("db"), [address]), address)
        gone = _answers("the old one", _eventually(lambda: ask("vm-5.internal"), []))
    back = _answers("and back", _eventually(lambda: ask("vm-5"), [address]), address)
    after = stage.output(
        LEFT, "pgrep", "-f", f"conf-file={stage.lab.directory}/hosts/{LEFT}/.*br100"
    )
    same = Check("the same server answered all along", bool(servers) and servers == after)
    return Act("VM_5 is renamed on the other host", (), (renamed, gone, back, same), ())


def _resolvers_act(stage: Stage) -> Act:
    """Give a network a search domain and its subnet resolvers, by DHCP."""
    target = str(stage.topology.internet.answers[0])
    tenant = stage.cloud.as_project("tenant1")
    network = stage.cloud.one("networks", "net1")
    subnet = network["subnets"][0]
    tenant.update("networks", network["id"], {"dns_domain": "corp.example."})
    tenant.update("subnets", subnet, {"dns_nameservers": [target]})
    stage.settle()
    try:
        stage.renew("VM_1")
        resolv = stage.resolv_conf("VM_1")
        found = _asker(stage, "VM_1")("vm-5.corp.example")
    finally:
        tenant.update("networks", network["id"], {"dns_domain": ""})
        tenant.update("subnets", subnet, {"dns_nameservers": []})
        stage.settle()
        stage.renew("VM_1")
    wanted = f"search corp.example\nnameserver {target}\n"
    checks = (
        Check(f"VM_1 is told to search corp.example and ask {target}", resolv == wanted, resolv),
        _answers("the name in its new domain", found, str(stage.seats["VM_5"].address)),
    )
    return Act("a network with resolvers and a search domain of its own", (), checks, ())


def _asker(stage: Stage, instance: str) -> Callable[[str], list[str]]:
    """Return a function that asks an instance's gateway for a name."""
    namespace, server = stage.lab.namespace(instance), stage.gateway(instance)
    return lambda name: probe.resolve(namespace, server, name, limit_s(PROBE_S))


def _answers(what: str, found: list[str], *wanted: str) -> Check:
    text = f"{what} is {', '.join(wanted)}" if wanted else f"{what} does not resolve"
    return Check(text, found == list(wanted), ", ".join(found) or "no such name")


def _eventually(ask: Callable[[], list[str]], wanted: list[str]) -> list[str]:
    """Ask until the answer is as wanted; dnsmasq takes a moment to read a new file."""
    with suppress(Interrupted):
        until("the name has changed", lambda: ask() == wanted, PROBE_S)
    return ask()


def mtu_of(stage: Stage, node: str, link: str) -> int:
    """Return a link's MTU."""
    (found,) = json.loads(stage.output(node, "ip", "-j", "link", "show", "dev", link))
    return int(found["mtu"])


def play_options(stage: Stage) -> tuple[Act, ...]:
    """Give one port a DHCP option of its own."""
    option = {"opt_name": "mtu", "opt_value": str(OPTION_MTU)}
    with port_with(stage, "VM_2", extra_dhcp_opts=[option]):
        stage.renew("VM_2")
        stage.renew("VM_1")
        own, neighbours = mtu_of(stage, "VM_2", "eth0"), mtu_of(stage, "VM_1", "eth0")
    stage.renew("VM_2")
    after = mtu_of(stage, "VM_2", "eth0")
    checks = (
        Check(f"VM_2 is told an MTU of {OPTION_MTU}", own == OPTION_MTU, str(own)),
        Check("VM_1 is told the network's", neighbours == MTU, str(neighbours)),
        Check("without the option, so is VM_2", after == MTU, str(after)),
    )
    return (Act("VM_2's port has a DHCP option of its own", (), checks, ()),)


def play_mtu(stage: Stage) -> tuple[Act, ...]:
    """Lower the MTU of tenant2's network, and send it packets that are too large for it."""
    network = stage.cloud.one("networks", "net2")
    tenant = stage.cloud.as_project("tenant2")
    tenant.update("networks", network["id"], {"mtu": SMALL_MTU})
    stage.settle()
    try:
        for instance in ("VM_3", "VM_6"):
            stage.renew(instance)
        return _devices_act(stage), _path_mtu_act(stage)
    finally:
        tenant.update("networks", network["id"], {"mtu": MTU})
        stage.settle()
        for instance in ("VM_3", "VM_6"):
            stage.renew(instance)


def _devices_act(stage: Stage) -> Act:
    segment = stage.segments["net2"]
    vlan = f"vlan{segment.vlan_id}"
    places = [(host, link) for host in (LEFT, RIGHT) for link in (segment.bridge, vlan)]
    for instance in ("VM_3", "VM_6"):
        seat = stage.seats[instance]
        places += [(seat.host, seat.tap), (instance, "eth0")]
    found = {f"{node}:{link}": mtu_of(stage, node, link) for node, link in places}
    right = set(found.values()) == {SMALL_MTU}
    refusal = _refused_mtu(stage)
    checks = (
        Check(f"every device of net2 has an MTU of {SMALL_MTU}", right, str(found)),
        Check("net1's bridge keeps its own", mtu_of(stage, LEFT, "br100") == MTU),
        Check("an MTU above the trunk's is refused", "exceeds the" in refusal, refusal),
    )
    return Act(f"net2 has an MTU of {SMALL_MTU}, told by DHCP", (), checks, ())


def _refused_mtu(stage: Stage) -> str:
    """Ask for more than the trunks take, and return what the API says."""
    above = min(mtu_of(stage, host, TRUNK) for host in stage.topology.hosts) + 1
    try:
        stage.cloud.as_project("tenant2").create("networks", {"mtu": above})
    except Invalid as error:
        return str(error)
    return "it was accepted"


def _path_mtu_act(stage: Stage) -> Act:
    target, gateway = stage.seats["VM_6"].address, stage.gateway("VM_1")
    namespace = stage.lab.namespace("VM_1")

    def ping(size: int) -> tuple[Answer, Seen]:
        return stage.witness(lambda: probe.ping(namespace, target, limit_s(PROBE_S), size))

    large, seen = ping(MTU)
    fitting, _ = ping(SMALL_MTU)
    carried = carrying(large.nonce)
    told = large.icmp == FRAGMENTATION_NEEDED and large.by == gateway
    checks = [
        Check(f"{MTU} bytes: {gateway} says that they must be split", told, str(large.icmp)),
        nothing("none of them reaches VM_6", seen.of(carried).on("VM_6")),
        Check(f"{SMALL_MTU} bytes are answered", fitting.kind == "reply", fitting.kind),
    ]
    title = "VM_1 pings VM_6 by larger packets than its network takes"
    return witnessed(stage, title, seen, carried, checks)


def play_metadata(stage: Stage) -> tuple[Act, ...]:
    """Ask 169.254.169.254 who one is: as oneself, with forged headers, as a stranger."""
    with stage.metadata():
        known = tuple(metadata_act(stage, instance) for instance in ("VM_1", "VM_6"))
        return (*known, _stranger_metadata_act(stage))


def _ask_metadata(stage: Stage, instance: str, source: IPv4Address) -> tuple[int, str]:
    """Ask as an instance that would rather be VM_2."""
    victim = {"X-Instance-ID": "VM_2", "X-Tenant-ID": "x", "X-Forwarded-For": "10.0.0.9"}
    namespace = stage.lab.namespace(instance)
    where = (METADATA_ADDRESS, METADATA_SERVICE[1])
    return probe.fetch(namespace, where, METADATA_PATH, source, victim, limit_s(PROBE_S))


def _place(frame: Frame) -> str:
    """Return the node that saw a frame, whichever of its namespaces it was in."""
    return frame.node.partition("/")[0]


def metadata_act(stage: Stage, instance: str) -> Act:
    """Have an instance ask who it is; whoever has its address elsewhere is not it."""
    seat = stage.seats[instance]
    with stage.capture() as capture:
        status, body = _ask_metadata(stage, instance, seat.address)
        seen = Seen(capture.frames())
    said = json.loads(body) if status == HTTPStatus.OK else {}
    tenant = stage.cloud.one("ports", instance)["project_id"]
    wanted = {
        "instance": instance, "tenant": tenant, "address": str(seat.address), "path": METADATA_PATH
    }  # fmt: skip
    asked = seen.where(lambda f: f.ip is not None and f.ip.destination == METADATA_ADDRESS)
    checks = [
        Check(f"the service believes that it is {instance} who asks", said == wanted, body),
        heard("the question comes to its own host", asked, seat.host, seat.tap, "in"),
        nothing("and nowhere else", asked.where(lambda f: _place(f) not in (instance, seat.host))),
    ]
    title = f"{instance} asks {METADATA_ADDRESS}, and claims to be VM_2"
    return Act(title, (), (*checks, *laws(seen, stage.ground, stage.cast)), seen.frames)


def _stranger_metadata_act(stage: Stage) -> Act:
    virtual = stage.topology.networks["net1"].cidr[VIRTUAL]
    with (
        second_address(stage, "VM_2", virtual),
        port_with(stage, "VM_2", port_security_enabled=False, security_groups=[]),
    ):
        status, body = _ask_metadata(stage, "VM_2", virtual)
    refused = Check("it is told nothing", status == HTTPStatus.NOT_FOUND, body.strip())
    return Act(f"VM_2 asks as {virtual}, which is no instance's", (), (refused,), ())


def play_ports(stage: Stage) -> tuple[Act, ...]:
    """Give VM_1 and VM_5 a second port each, on a second network of their tenant."""
    with _second_network(stage) as (near, far):
        vlan_id = _vlan_of(stage, near["network_id"])
        source, target = (IPv4Address(p["fixed_ips"][0]["ip_address"]) for p in (near, far))
        namespace = stage.lab.namespace("VM_1")
        answer, seen = stage.witness(lambda: probe.ping(namespace, target, limit_s(PROBE_S)))
        old = stage.seats["VM_5"].address
        first, also = stage.witness(lambda: probe.ping(namespace, old, limit_s(PROBE_S)))
    carried = carrying(answer.nonce)
    trunk = seen.of(carried).on(SWITCH)
    checks = (
        Check(f"{target} answers on the second network", answer.by == target, answer.kind),
        Check(f"asked by {source}", {f.ip.source for f in trunk if f.ip} == {source, target}),
        Check(f"its frames have tag {vlan_id} and no other", trunk.tags() == {vlan_id}),
        nothing(
            "and are nowhere on the first one's bridge",
            seen.of(carried).where(lambda f: f.device == stage.segment("VM_1").bridge),
        ),
        Check(f"{old} answers on the first network", first.by == old, first.kind),
        heard("by its own interface", also.of(carrying(first.nonce)), "VM_1", "eth0", "out"),
    )
    title = "VM_1 and VM_5 have a second interface each, on a second network"
    return (Act(title, walk(seen, carried, stage.cast), checks, seen.frames),)


Port = Mapping[str, Any]


@contextmanager
def _second_network(stage: Stage) -> Iterator[tuple[Port, Port]]:
    """Make a network with a port of VM_1 and one of VM_5 on it, plugged in, meanwhile."""
    tenant = stage.cloud.as_project("tenant1")
    network = tenant.create("networks", {"name": "second"})
    wish = {"network_id": network["id"], "ip_version": 4, "cidr": SECOND}
    tenant.create("subnets", wish)
    ports = []
    try:
        for instance in ("VM_1", "VM_5"):
            ports += [_second_port(stage, instance, network["id"])]
        stage.settle()
        for instance in ("VM_1", "VM_5"):
            build.lease_more(stage.lab, instance, "eth1")
        yield ports[0], ports[1]
    finally:
        for instance, port in zip(("VM_1", "VM_5"), ports, strict=False):
            netns.delete_link(stage.lab.namespace(instance), "eth1")
            tenant.delete("ports", port["id"])
        stage.settle()
        tenant.delete("networks", network["id"])
        stage.settle()


def _second_port(stage: Stage, instance: str, network_id: str) -> Port:
    host = stage.topology.instances[instance].host
    body = {"name": f"{instance}-second", "network_id": network_id}
    made = stage.cloud.as_project("tenant1").create("ports", body)
    binding = {"binding:host_id": host, "device_id": instance, "device_owner": "compute:nova"}
    port = stage.cloud.admin.update("ports", made["id"], binding)
    tap = tap_name(PortId(port["id"]))
    build.plug_more(stage.lab, instance, "eth1", port["mac_address"], tap)
    until(
        f"the second port of {instance} is ACTIVE",
        lambda: stage.cloud.admin.show("ports", port["id"])["status"] == PortStatus.ACTIVE,
    )
    return port


def _vlan_of(stage: Stage, network_id: str) -> int:
    return int(stage.cloud.admin.show("networks", network_id)["provider:segmentation_id"])


def play_source(stage: Stage) -> tuple[Act, ...]:
    """Leave a host by another source address, and towards an exempt destination by none."""
    own = stage.topology.hosts[LEFT].external
    other = own.network[OTHER_SOURCE]
    target = stage.topology.internet.answers[0]
    with stage.fixed_only("VM_1"):
        with stage.routing(LEFT, other):
            routed = _left_by(stage, target, other)
        with stage.routing(LEFT, own.ip, [IPv4Network(target)]):
            exempt = _exempt_act(stage, target)
    return routed, exempt


def _left_by(stage: Stage, target: IPv4Address, source: IPv4Address) -> Act:
    answer, seen = stage.witness(_ping(stage, "VM_1", target))
    carried = carrying(answer.nonce)
    shown = _sources(seen.of(carried, ECHO).on(LEFT, UPLINK, "out"))
    checks = [
        Check(f"VM_1 is answered by {target}", answer.by == target, answer.kind),
        Check(f"it leaves with source {source}", shown == {source}, str(shown)),
    ]
    return witnessed(stage, f"{LEFT}'s routing source is {source}", seen, carried, checks)


def _exempt_act(stage: Stage, target: IPv4Address) -> Act:
    """Ping an exempt destination: a provider has no way back, a network of one's own would."""
    source, namespace = stage.seats["VM_1"].address, stage.lab.namespace("VM_1")
    answer, seen = stage.witness(lambda: probe.ping(namespace, target, limit_s(SILENCE_S)))
    carried = carrying(answer.nonce)
    shown = _sources(seen.of(carried, ECHO).on(LEFT, UPLINK, "out"))
    text = f"it leaves with the instance's own source {source}"
    title = f"{target} is exempt from translation on {LEFT}"
    checks = [Check(text, shown == {source}, str(shown))]
    return witnessed(stage, title, seen, carried, checks, leak=True)


def _sources(frames: Seen) -> set[IpAddress]:
    return {f.ip.source for f in frames if f.ip}


def play_qos(stage: Stage) -> tuple[Act, ...]:
    """Limit a port, then floating IPs, each way; a stream of three times as much is sent."""
    with _policy(stage) as policy_id:
        return (
            _limited_port_act(stage, policy_id),
            _limited_floating_act(stage, policy_id),
            _limited_forwarding_act(stage, policy_id),
        )


@contextmanager
def _policy(stage: Stage) -> Iterator[str]:
    """Make a policy with a limit each way, which all projects see, meanwhile."""
    admin = stage.cloud.admin
    body = {"policy": {"name": "slow", "shared": True}}
    policy_id = admin.request("POST", "/v2.0/qos/policies", body)["policy"]["id"]
    for direction, kbps in LIMITS.items():
        rule = {"direction": direction, "max_kbps": kbps, "max_burst_kbps": BURST}
        path = f"/v2.0/qos/policies/{policy_id}/bandwidth_limit_rules"
        admin.request("POST", path, {"bandwidth_limit_rule": rule})
    try:
        yield policy_id
    finally:
        admin.request("DELETE", f"/v2.0/qos/policies/{policy_id}")


def _limited_port_act(stage: Stage, policy_id: str) -> Act:
    there, back = ("VM_1", "VM_4"), ("VM_4", "VM_1")
    free = _rate(stage, *there)
    with port_with(stage, "VM_1", qos_policy_id=policy_id):
        out, into = _rate(stage, *there), _rate(stage, *back)
        other = _rate(stage, "VM_2", "VM_4")
    after = _rate(stage, *there)
    checks = (
        _unlimited("VM_1 sends before", free),
        _within("VM_1 sends", out, LIMITS["egress"]),
        _within("VM_1 receives", into, LIMITS["ingress"]),
        _unlimited("VM_2, beside it, sends", other),
        _unlimited("VM_1 sends without the policy", after),
    )
    return Act("VM_1's port has a policy", (), checks, ())


def _limited_floating_act(stage: Stage, policy_id: str) -> Act:
    outside, floating = stage.topology.internet.answers[0], stage.floating("VM_1").address
    me, inet = stage.seats["VM_1"].address, stage.lab.namespace(INTERNET)
    vm = stage.lab.namespace("VM_1")
    udp = GroupRule("tenant1", "udp", None, IPv4Network("0.0.0.0/0"))
    with stage.rules(*stage.topology.rules, udp), _floating_policy(stage, floating, policy_id):
        out = probe.rate_kbps(vm, inet, (me, outside))
        into = probe.rate_kbps(inet, vm, (outside, floating))
        inside = _rate(stage, "VM_1", "VM_4")
    checks = (
        _within(f"VM_1 sends to {outside}", out, LIMITS["egress"]),
        _within(f"VM_1 receives by {floating}", into, LIMITS["ingress"]),
        _unlimited("VM_1 sends inside its network", inside),
    )
    return Act(f"VM_1's floating IP {floating} has a policy", (), checks, ())


def _limited_forwarding_act(stage: Stage, policy_id: str) -> Act:
    """Limit a floating IP whose ports are forwarded: what comes by it, and no more."""
    outside, inet = stage.topology.internet.answers[0], stage.lab.namespace(INTERNET)
    me, vm = stage.seats["VM_2"].address, stage.lab.namespace("VM_2")
    udp = GroupRule("tenant1", "udp", None, IPv4Network("0.0.0.0/0"))
    led = ("VM_2", "udp", (probe.RATE_PORT, probe.RATE_PORT))
    with (
        stage.rules(*stage.topology.rules, udp),
        stage.forwarded("tenant1", led) as floating,
        _floating_policy(stage, floating.address, policy_id),
    ):
        into = probe.rate_kbps(inet, vm, (outside, floating.address))
        out = probe.rate_kbps(vm, inet, (me, outside))
    checks = (
        _within(f"VM_2 receives by a port of {floating.address}", into, LIMITS["ingress"]),
        _unlimited(f"VM_2 sends to {outside}", out),
    )
    return Act(f"{floating.address}, with a port that leads to VM_2, has a policy", (), checks, ())


@contextmanager
def _floating_policy(stage: Stage, address: IPv4Address, policy_id: str) -> Iterator[None]:
    tenant = stage.cloud.as_project("tenant1")
    (found,) = tenant.list("floatingips", floating_ip_address=str(address))
    tenant.update("floatingips", found["id"], {"qos_policy_id": policy_id})
    stage.settle()
    try:
        yield
    finally:
        tenant.update("floatingips", found["id"], {"qos_policy_id": None})
        stage.settle()


def _rate(stage: Stage, sender: str, receiver: str) -> float:
    ends = (stage.seats[sender].address, stage.seats[receiver].address)
    return probe.rate_kbps(stage.lab.namespace(sender), stage.lab.namespace(receiver), ends)


def _within(what: str, kbps: float, limit: int) -> Check:
    """Return whether a rate is a limit's, as far as a busy machine lets one measure."""
    passed = limit * 0.75 <= kbps <= limit * 1.2
    return Check(f"{what} about {limit} kbit/s", passed, f"{kbps:.0f} kbit/s")


def _unlimited(what: str, kbps: float) -> Check:
    return Check(f"{what} more than that", kbps > 1.5 * max(LIMITS.values()), f"{kbps:.0f} kbit/s")
