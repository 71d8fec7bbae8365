"""Port forwardings of floating IPs over the API, and what hosts are told of them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from running import Cloud
from test_placed_routers import report, router_on
from test_routers import add, snapshot

from trunkline.errors import Conflict, Forbidden, Invalid, NotFound
from trunkline.snapshot import FloatingView, ForwardingView

NUMBERS = itertools.count(1)
TCP, UDP = 6, 17


@pytest.fixture
def pair(cloud: Cloud) -> tuple[str, str]:
    """Return two hosts that no other test has."""
    number = next(NUMBERS)
    hosts = (f"near-{number}", f"far-{number}")
    report(cloud, *hosts)
    return hosts


@pytest.fixture
def floating(cloud: Cloud) -> dict[str, Any]:
    """Reserve a floating IP of a network of its own."""
    return cloud.alice.create("floatingips", {"floating_network_id": cloud.external()["id"]})


def wish(port: dict[str, Any], external: int = 8080, **attributes: Any) -> dict[str, Any]:
    """Return the body that forwards a port to an instance's port 80."""
    address = port["fixed_ips"][0]["ip_address"] if port["fixed_ips"] else "10.0.0.3"
    usual = {
        "internal_port_id": port["id"],
        "internal_ip_address": address,
        "internal_port": 80,
        "external_port": external,
        "protocol": "tcp",
    }
    return {"port_forwarding": {**usual, **attributes}}


def path(floating: dict[str, Any], forwarding: dict[str, Any] | None = None) -> str:
    """Return where the forwardings of a floating IP are, or one of them."""
    all_ = f"/v2.0/floatingips/{floating['id']}/port_forwardings"
    return f"{all_}/{forwarding['id']}" if forwarding else all_


def forward(
    cloud: Cloud, floating: dict[str, Any], port: dict[str, Any], *args: Any, **attributes: Any
) -> dict[str, Any]:
    """Forward a port as alice."""
    answer = cloud.alice.request("POST", path(floating), wish(port, *args, **attributes))
    made: dict[str, Any] = answer["port_forwarding"]
    return made


def change(
    cloud: Cloud, floating: dict[str, Any], forwarding: dict[str, Any], **attributes: Any
) -> dict[str, Any]:
    """Change a forwarding as alice."""
    body = {"port_forwarding": attributes}
    answer = cloud.alice.request("PUT", path(floating, forwarding), body)
    changed: dict[str, Any] = answer["port_forwarding"]
    return changed


def shown(cloud: Cloud, floating: dict[str, Any]) -> dict[str, Any]:
    """Return a floating IP as it is now."""
    return cloud.alice.show("floatingips", floating["id"])


def on(cloud: Cloud, host: str) -> tuple[FloatingView, ...]:
    """Return the floating IPs that a host is told of."""
    return tuple(snapshot(cloud, host).floating_ips)


def ports_on(cloud: Cloud, *hosts: str) -> list[dict[str, Any]]:
    """Make ports of one network, each bound to one of these hosts; empty: to none."""
    network = cloud.network()
    return [cloud.instance(network, host) for host in hosts]


def test_a_forwardings_whole_life(cloud: Cloud, floating: dict[str, Any]) -> None:
    """Made, shown, listed, changed and ended; the floating IP shows it, and lives by it."""
    (port,) = ports_on(cloud, "")
    made = forward(cloud, floating, port, description="web", project_id="p1")
    address = port["fixed_ips"][0]["ip_address"]

    assert {k: v for k, v in made.items() if k != "id"} == {
        "external_port": 8080,
        "protocol": "tcp",
        "internal_port_id": port["id"],
        "internal_ip_address": address,
        "internal_port": 80,
        "description": "web",
    }
    assert cloud.alice.request("GET", path(floating, made)) == {"port_forwarding": made}
    now = shown(cloud, floating)
    detail = {k: v for k, v in made.items() if k != "description"}
    assert (now["port_forwardings"], now["status"]) == ([detail], "ACTIVE")
    assert (now["port_id"], now["fixed_ip_address"]) == (None, None)
    assert now["router_id"] is not None
    assert [f["id"] for f in cloud.alice.list("floatingips", router_id=now["router_id"])].count(
        floating["id"]
    )

    second = forward(cloud, floating, port, 53, internal_port=53, protocol="udp")
    found = cloud.alice.request("GET", f"{path(floating)}?protocol=udp&fields=id")
    assert found == {"port_forwardings": [{"id": second["id"]}]}
    by_port = cloud.alice.request("GET", f"{path(floating)}?sort_key=external_port&limit=1")
    assert by_port["port_forwardings"] == [second]
    assert by_port["port_forwardings_links"][0]["rel"] == "next"

    assert change(cloud, floating, made, external_port=81, description="")["external_port"] == 81
    for one in (made, second):
        cloud.alice.request("DELETE", path(floating, one))
    assert (shown(cloud, floating)["port_forwardings"], shown(cloud, floating)["status"]) == (
        [],
        "DOWN",
    )
    with pytest.raises(NotFound) as refusal:
        cloud.alice.request("GET", path(floating, made))
    assert refusal.value.kind == "PortForwardingNotFound"


def test_several_at_once_are_all_or_none(cloud: Cloud, floating: dict[str, Any]) -> None:
    """A list in one request is made whole, or not at all."""
    (port,) = ports_on(cloud, "")
    several = [wish(port, n, internal_port=n)["port_forwarding"] for n in (22, 80, 443)]

    bad = {"port_forwardings": [*several, several[0]]}
    with pytest.raises(Invalid):
        cloud.alice.request("POST", path(floating), bad)
    assert shown(cloud, floating)["port_forwardings"] == []
    made = cloud.alice.request("POST", path(floating), {"port_forwardings": several})
    assert [one["external_port"] for one in made["port_forwardings"]] == [22, 80, 443]


@pytest.mark.parametrize(
    "wrong",
    [
        {"external_port": 0},
        {"internal_port": 65536},
        {"external_port": "x"},
        {"protocol": "icmp"},
        {"internal_ip_address": "x"},
        {"internal_ip_address": "10.255.255.1"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_what_does_not_fit(cloud: Cloud, floating: dict[str, Any], wrong: dict[str, Any]) -> None:
    """Bad input is a 400 that names the attribute."""
    (port,) = ports_on(cloud, "")

    with pytest.raises(Invalid, match=next(iter(wrong))):
        forward(cloud, floating, port, **wrong)


def test_either_end_is_used_once(cloud: Cloud, floating: dict[str, Any]) -> None:
    """A port of a floating IP leads to one place, and to a place one port of all leads (400)."""
    one, other = ports_on(cloud, "", "")
    made = forward(cloud, floating, one)
    elsewhere = cloud.alice.create("floatingips", {"floating_network_id": cloud.external()["id"]})

    for refused in (
        lambda: forward(cloud, floating, other),
        lambda: forward(cloud, floating, one, 8081),
        lambda: forward(cloud, elsewhere, one, 8081),
    ):
        with pytest.raises(Invalid, match=made["id"]) as refusal:
            refused()
        assert refusal.value.kind == "BadRequest"
    same = forward(cloud, floating, one, protocol="udp")
    with pytest.raises(Invalid, match=made["id"]):
        change(cloud, floating, same, protocol="tcp")
    assert change(cloud, floating, same, external_port=8081)["external_port"] == 8081


def test_a_floating_ip_leads_as_a_whole_or_by_ports(cloud: Cloud, floating: dict[str, Any]) -> None:
    """Never both: neither of one floating IP, nor to one port; nor is one in use given back."""
    one, other = ports_on(cloud, "", "")
    external = floating["floating_network_id"]
    whole = cloud.alice.create(
        "floatingips", {"floating_network_id": external, "port_id": other["id"]}
    )
    made = forward(cloud, floating, one)

    refused = [
        (
            lambda: forward(cloud, whole, one, 81, internal_port=81),
            "FloatingIPPortAlreadyAssociated",
        ),
        (lambda: forward(cloud, floating, other, 81), "PortHasBindingFloatingIP"),
        (
            lambda: cloud.alice.update("floatingips", floating["id"], {"port_id": one["id"]}),
            "FipInUseByPortForwarding",
        ),
        (lambda: cloud.alice.delete("floatingips", floating["id"]), "FipInUseByPortForwarding"),
    ]
    for attempt, kind in refused:
        with pytest.raises(Conflict) as refusal:
            attempt()
        assert refusal.value.kind == kind
    freed = cloud.alice.update("floatingips", floating["id"], {"port_id": None})
    assert (freed["status"], len(freed["port_forwardings"])) == ("ACTIVE", 1)
    cloud.alice.request("DELETE", path(floating, made))
    cloud.alice.delete("floatingips", floating["id"])


def test_forwardings_go_with_their_port_and_its_address(
    cloud: Cloud, floating: dict[str, Any]
) -> None:
    """What leads to a port ends with it, and what leads to an address when the port loses it."""
    subnet = cloud.network()["subnet"]
    fixed = [{"subnet_id": subnet["id"]}] * 2
    port = cloud.alice.create("ports", {"network_id": subnet["network_id"], "fixed_ips": fixed})
    first, second = (one["ip_address"] for one in port["fixed_ips"])
    forward(cloud, floating, port, 1, internal_ip_address=first)
    forward(cloud, floating, port, 2, internal_ip_address=second)

    cloud.alice.update("ports", port["id"], {"fixed_ips": [{"ip_address": second}]})
    left = shown(cloud, floating)["port_forwardings"]
    assert [one["internal_ip_address"] for one in left] == [second]
    cloud.alice.delete("ports", port["id"])
    now = shown(cloud, floating)
    assert (now["port_forwardings"], now["status"], now["router_id"]) == ([], "DOWN", None)


def test_a_port_that_moves_without_an_address_means_its_first(
    cloud: Cloud, floating: dict[str, Any]
) -> None:
    """So it is in Neutron."""
    one, other = ports_on(cloud, "", "")
    made = forward(cloud, floating, one)

    changed = change(cloud, floating, made, internal_port_id=other["id"])

    assert changed["internal_ip_address"] == other["fixed_ips"][0]["ip_address"]
    with pytest.raises(Invalid, match="internal_ip_address"):
        change(cloud, floating, made, internal_ip_address=one["fixed_ips"][0]["ip_address"])


def test_a_router_with_a_gateway_is_needed_and_stays(cloud: Cloud) -> None:
    """No way from outside, no forwarding; and none is cut off: gateway and interface stay."""
    outside = cloud.external()
    mine = cloud.alice.create("floatingips", {"floating_network_id": outside["id"]})
    network = cloud.network()
    router = cloud.alice.create("routers", {"name": "r"})
    add(cloud, router, network)
    port = cloud.alice.create("ports", {"network_id": network["id"]})
    with pytest.raises(Invalid, match="not reachable") as refusal:
        forward(cloud, mine, port)
    assert refusal.value.kind == "BadRequest"

    way = {"external_gateway_info": {"network_id": outside["id"]}}
    cloud.alice.update("routers", router["id"], way)
    forward(cloud, mine, port)
    (elsewhere,) = ports_on(cloud, "")
    with pytest.raises(Invalid, match="on router"):
        forward(cloud, mine, elsewhere, 9)
    with pytest.raises(Conflict) as refused:
        cloud.alice.update("routers", router["id"], {"external_gateway_info": None})
    assert refused.value.kind == "RouterExternalGatewayInUseByFloatingIp"
    interface = {"subnet_id": network["subnet"]["id"]}
    with pytest.raises(Conflict) as refused:
        cloud.alice.request(
            "PUT", f"/v2.0/routers/{router['id']}/remove_router_interface", interface
        )
    assert refused.value.kind == "RouterInterfaceInUseByFloatingIP"


def test_networks_behind_one_floating_ip_stay_together(
    cloud: Cloud, floating: dict[str, Any]
) -> None:
    """A network goes to another router with its forwardings; one of two behind one may not."""
    way = {"external_gateway_info": {"network_id": floating["floating_network_id"]}}
    router = cloud.alice.create("routers", way)
    networks = [cloud.network(), cloud.network()]
    ports = [cloud.instance(network, "") for network in networks]
    led = [forward(cloud, floating, port, number) for number, port in enumerate(ports, 1)]

    with pytest.raises(Conflict, match="forwards ports to both") as refusal:
        add(cloud, router, networks[0])
    assert refusal.value.kind == "RouterInterfaceInUseByFloatingIP"
    cloud.alice.request("DELETE", path(floating, led[1]))
    add(cloud, router, networks[0])
    assert shown(cloud, floating)["router_id"] == router["id"]


def test_others_know_of_none(cloud: Cloud, floating: dict[str, Any]) -> None:
    """Another project's are not there; nor may a floating IP lead to another project's port."""
    (port,) = ports_on(cloud, "")
    made = forward(cloud, floating, port)
    theirs = cloud.bob.create("floatingips", {"floating_network_id": cloud.external()["id"]})
    foreign = cloud.instance(cloud.network("bob"), "", "p2")

    for method, where in (
        ("GET", path(floating)),
        ("GET", path(floating, made)),
        ("DELETE", path(floating, made)),
        ("GET", path(theirs, made)),
    ):
        with pytest.raises(NotFound):
            cloud.bob.request(method, where)
    with pytest.raises(NotFound) as refusal:
        forward(cloud, floating, foreign, 9)
    assert refusal.value.kind == "PortNotFound"
    with pytest.raises(Forbidden, match="create_floatingip_port_forwarding"):
        cloud.user("eve").request("POST", path(floating), wish(port, 9))


def test_the_audit_tells_of_the_floating_ip(cloud: Cloud, floating: dict[str, Any]) -> None:
    """A forwarding is an attribute of its floating IP; so a change of it is one of that."""
    (port,) = ports_on(cloud, "")
    made = forward(cloud, floating, port)

    found = cloud.admin.list("audit-events", resource_id=floating["id"], action="update")
    ((before, after),) = [
        (one["changes"]["port_forwardings"]["before"], one["changes"]["port_forwardings"]["after"])
        for one in found
    ]
    assert before == []
    assert [one["id"] for one in after] == [made["id"]]


def test_the_host_of_the_port_translates(
    cloud: Cloud, floating: dict[str, Any], pair: tuple[str, str]
) -> None:
    """A forwarding is in the snapshot of its port's host alone, and comes and goes with it."""
    near, far = pair
    one, other = ports_on(cloud, near, far)
    made = forward(cloud, floating, one)
    before = snapshot(cloud, near).revision

    (view,) = on(cloud, near)
    assert str(view.address) == floating["floating_ip_address"]
    assert (view.fixed_address, view.port_id) == (None, None)
    (led,) = view.forwardings
    assert (led.protocol, led.port, led.fixed_port, led.reached) == (TCP, 8080, 80, True)
    assert str(led.fixed_address) == one["fixed_ips"][0]["ip_address"]
    assert on(cloud, far) == ()

    change(cloud, floating, made, internal_port_id=other["id"])
    assert snapshot(cloud, near).revision > before
    assert on(cloud, near) == ()
    assert [f.forwardings[0].port_id for f in on(cloud, far)] == [other["id"]]
    cloud.alice.request("DELETE", path(floating, made))
    assert on(cloud, far) == ()


def test_a_port_on_another_host_is_refused(
    cloud: Cloud, floating: dict[str, Any], pair: tuple[str, str]
) -> None:
    """A floating IP is on one host; a refusal names the port, and the hosts to who may know."""
    near, far = pair
    one, other = ports_on(cloud, near, far)
    forward(cloud, floating, one)

    with pytest.raises(Conflict, match=other["id"]) as refusal:
        forward(cloud, floating, other, 9)
    assert refusal.value.kind == "PortForwardingOnOtherHost"
    assert near not in str(refusal.value)
    with pytest.raises(Conflict, match=f"host {near}.*host {far}"):
        cloud.admin.request("POST", path(floating), wish(other, 9))


def test_ports_that_are_bound_nowhere_are_led_to_when_they_are(
    cloud: Cloud, floating: dict[str, Any], pair: tuple[str, str]
) -> None:
    """A port without a host is no hindrance; the host that it comes to translates."""
    near, _ = pair
    one, other = ports_on(cloud, near, "")
    forward(cloud, floating, one)
    forward(cloud, floating, other, 9)
    assert [len(f.forwardings) for f in on(cloud, near)] == [1]

    cloud.admin.update("ports", other["id"], {"binding:host_id": near})

    (view,) = on(cloud, near)
    assert [led.port for led in view.forwarded] == [9, 8080]
    assert shown(cloud, floating)["status"] == "ACTIVE"


def test_a_port_that_moves_away_is_led_to_no_more(
    cloud: Cloud, floating: dict[str, Any], pair: tuple[str, str]
) -> None:
    """Nobody keeps an instance from moving: its forwarding ends, is reported, and comes back."""
    near, far = pair
    one, other = ports_on(cloud, near, near)
    led = [forward(cloud, floating, one)]
    led += [forward(cloud, floating, other, 9 + n, internal_port=9 + n) for n in range(5)]

    cloud.admin.update("ports", other["id"], {"binding:host_id": far})
    (view,) = on(cloud, near)  # where the oldest leads, of some that were made within a second
    assert {led.port_id for led in view.forwardings} == {one["id"], other["id"]}
    assert [led.port for led in view.forwarded] == [8080]
    assert shown(cloud, floating)["status"] == "DOWN"
    for made in led:
        assert change(cloud, floating, made, description="still there")["id"] == made["id"]

    cloud.admin.update("ports", one["id"], {"binding:host_id": far})
    (view,) = on(cloud, far)
    assert len(view.forwarded) == 6
    assert on(cloud, near) == ()
    assert shown(cloud, floating)["status"] == "ACTIVE"


def test_a_forwarding_follows_a_live_migration(
    cloud: Cloud, floating: dict[str, Any], pair: tuple[str, str]
) -> None:
    """It is where the port is active: a second binding has no part in it until then."""
    near, far = pair
    (port,) = ports_on(cloud, near)
    forward(cloud, floating, port)
    bindings = f"/v2.0/ports/{port['id']}/bindings"

    cloud.admin.request("POST", bindings, {"binding": {"host": far}})
    assert (len(on(cloud, near)), on(cloud, far)) == (1, ())
    cloud.admin.request("PUT", f"{bindings}/{far}/activate")
    assert (on(cloud, near), len(on(cloud, far))) == ((), 1)


def test_an_activated_binding_parts_forwardings(
    cloud: Cloud, floating: dict[str, Any], pair: tuple[str, str]
) -> None:
    """As a port that is bound elsewhere does."""
    near, far = pair
    one, other = ports_on(cloud, near, near)
    forward(cloud, floating, one)
    forward(cloud, floating, other, 9)
    bindings = f"/v2.0/ports/{other['id']}/bindings"
    cloud.admin.request("POST", bindings, {"binding": {"host": far}})
    assert shown(cloud, floating)["status"] == "ACTIVE"

    cloud.admin.request("PUT", f"{bindings}/{far}/activate")

    assert shown(cloud, floating)["status"] == "DOWN"


def test_a_placed_router_forwards_to_any_host(cloud: Cloud, pair: tuple[str, str]) -> None:
    """Its floating IPs are on its host, and so lead to instances anywhere."""
    near, far = pair
    gate = f"gate-of-{near}"
    report(cloud, gate)
    router = router_on(cloud, gate)
    network = cloud.network()
    add(cloud, router, network)
    mine = cloud.alice.create("floatingips", {"floating_network_id": router["outside"]["id"]})
    for number, host in enumerate((near, far), 1):
        forward(cloud, mine, cloud.instance(network, host), number)

    (view,) = on(cloud, gate)
    assert [(led.port, led.reached) for led in view.forwardings] == [(1, True), (2, True)]
    assert (on(cloud, near), on(cloud, far)) == ((), ())
    assert shown(cloud, mine)["status"] == "ACTIVE"
    assert isinstance(view.forwardings[0], ForwardingView)
