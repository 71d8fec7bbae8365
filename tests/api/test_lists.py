"""Filters, fields, order and pages, and what clients ask first."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from running import Cloud

from trunkline.errors import Invalid, NotFound


@pytest.fixture(scope="module")
def network(cloud: Cloud) -> dict[str, Any]:
    """Make a network with five ports, named a to e, the last two down."""
    network = cloud.network()
    wish = [
        {"network_id": network["id"], "name": name, "admin_state_up": name < "d"}
        for name in "cadbe"
    ]
    cloud.alice.request("POST", "/v2.0/ports", {"ports": wish})
    return network


def names(cloud: Cloud, query: str) -> list[str]:
    """Return the names of the ports that a query finds, as alice."""
    found = cloud.alice.request("GET", f"/v2.0/ports?{query}")["ports"]
    return [port["name"] for port in found]


def test_repeated_filters_are_alternatives(cloud: Cloud, network: dict[str, Any]) -> None:
    """One key with two values is OR, two keys are AND."""
    assert sorted(names(cloud, "name=a&name=b&name=z")) == ["a", "b"]
    assert names(cloud, f"name=a&network_id={network['id']}&name=e&admin_state_up=False") == ["e"]


@pytest.mark.parametrize("spelling", ["False", "false", "0", "FALSE"])
def test_booleans_in_all_spellings(cloud: Cloud, network: dict[str, Any], spelling: str) -> None:
    """Clients write truth values in their own ways."""
    query = f"network_id={network['id']}&admin_state_up={spelling}"

    assert sorted(names(cloud, query)) == ["d", "e"]


def test_fixed_ips_filter(cloud: Cloud, network: dict[str, Any]) -> None:
    """Ports are found by address and by subnet."""
    base = network["subnet"]["cidr"].removesuffix("0/24")

    by_address = names(cloud, f"fixed_ips=ip_address%3D{base}2")
    by_subnet = names(cloud, f"fixed_ips=subnet_id={network['subnet']['id']}")
    both = names(
        cloud,
        f"fixed_ips=subnet_id={network['subnet']['id']}&fixed_ips=ip_address={base}3",
    )

    assert (by_address, len(by_subnet), both) == (["c"], 5, ["a"])
    assert names(cloud, f"fixed_ips=ip_address_substr={base[3:]}3") == ["a"]
    assert names(cloud, f"fixed_ips=ip_address_substr={base}%25") == []
    with pytest.raises(Invalid, match="fixed_ips"):
        names(cloud, "fixed_ips=colour=blue")


def test_changed_since(cloud: Cloud, network: dict[str, Any]) -> None:
    """What was made or changed later is found, in any zone's time."""
    query = f"network_id={network['id']}&changed_since"

    assert len(names(cloud, f"{query}={network['created_at']}")) == 5
    assert len(names(cloud, f"{query}=2026-01-01T00:00:00%2B02:00")) == 5
    assert names(cloud, f"{query}=2999-01-01T00:00:00Z") == []


def test_filters_by_what_is_the_same_everywhere(cloud: Cloud, network: dict[str, Any]) -> None:
    """An attribute with one value for all finds all or nothing, an empty one what is empty."""
    assert cloud.alice.list("security-groups", stateful=True) != []
    assert cloud.alice.list("security-groups", stateful=False) == []
    assert cloud.alice.list("security-groups", shared=False, name="default") != []
    assert names(cloud, f"device_id=&name=a&network_id={network['id']}") == ["a"]
    assert names(cloud, "device_id=x") == []


def test_group_and_project_filters(cloud: Cloud, network: dict[str, Any]) -> None:
    """Ports are found by group, and projects by both of their names."""
    (default,) = cloud.alice.list("security-groups", name="default")
    of_network = f"&network_id={network['id']}"

    assert len(names(cloud, f"security_groups={default['id']}{of_network}")) == 5
    assert len(names(cloud, f"tenant_id=p1{of_network}")) == 5
    assert len(names(cloud, f"project_id=p1{of_network}")) == 5
    assert names(cloud, "tenant_id=p2") == []


def test_network_filters(cloud: Cloud, network: dict[str, Any]) -> None:
    """Networks are found by their provider attributes, kind and subnets."""
    seen = cloud.admin.show("networks", network["id"])
    query = {"provider:segmentation_id": seen["provider:segmentation_id"]}

    assert [n["id"] for n in cloud.admin.list("networks", **query)] == [network["id"]]
    assert [n["id"] for n in cloud.alice.list("networks", subnets=network["subnet"]["id"])] == [
        network["id"]
    ]
    assert cloud.alice.list("networks", **{"router:external": "True"}) == []
    assert cloud.alice.list("networks", shared=False, status="ACTIVE") != []
    assert cloud.alice.list("networks", status="DOWN") == []


@pytest.mark.parametrize(
    "query",
    [
        "colour=blue",
        "admin_state_up=perhaps",
        "limit=x",
        "limit=-1",
        "sort_key=colour",
        "sort_key=fixed_ips",
        "sort_dir=up&sort_key=name",
        "sort_dir=asc",
        "changed_since=yesterday",
        "changed_since=0001-01-01T00:00:00%2B23:00",
        "revision_number=99999999999",
        "page_reverse=maybe",
        "binding:profile=x",
    ],
)
def test_a_wrong_query_names_the_parameter(
    cloud: Cloud, network: dict[str, Any], query: str
) -> None:
    """An unknown filter or a malformed value is refused, not ignored."""
    assert network
    with pytest.raises(Invalid, match=query.partition("=")[0]):
        names(cloud, query)


def test_fields_narrow_the_answer(cloud: Cloud, network: dict[str, Any]) -> None:
    """Only the fields asked for come back, in lists and single objects."""
    found = cloud.alice.request(
        "GET", f"/v2.0/ports?network_id={network['id']}&fields=id&fields=name"
    )["ports"]

    assert [sorted(port) for port in found] == [["id", "name"]] * 5
    one = cloud.alice.request("GET", f"/v2.0/ports/{found[0]['id']}?fields=status")
    assert one == {"port": {"status": "DOWN"}}


def test_order(cloud: Cloud, network: dict[str, Any]) -> None:
    """Several sort keys, each in its direction."""
    query = f"network_id={network['id']}"
    order = "&sort_key=admin_state_up&sort_dir=asc&sort_key=name&sort_dir=desc"

    assert names(cloud, f"{query}&sort_key=name") == list("abcde")
    assert names(cloud, f"{query}&sort_key=name&sort_dir=desc") == list("edcba")
    assert names(cloud, query + order) == list("edcba")
    mixed = order.replace("asc", "desc")
    assert names(cloud, query + mixed) == list("cbaed")


def follow(cloud: Cloud, path: str, rel: str) -> list[list[str]]:
    """Return the names on each page, following links from the first one."""
    pages = []
    while path:
        answer = cloud.alice.request("GET", path)
        pages.append([port["name"] for port in answer["ports"]])
        links = {link["rel"]: link["href"] for link in answer["ports_links"]}
        parts = urlsplit(links.get(rel, ""))
        path = f"{parts.path}?{parts.query}" if links.get(rel) else ""
        assert len(pages) < 10, "the links lead in a circle"
    return pages


@pytest.mark.parametrize("keys", ["sort_key=name", "sort_key=admin_state_up&sort_key=name"])
def test_pages_forward_and_backward(cloud: Cloud, network: dict[str, Any], keys: str) -> None:
    """Following the links shows each record once, in order; also from the end."""
    path = f"/v2.0/ports?network_id={network['id']}&limit=2&{keys}"
    everything = names(cloud, f"network_id={network['id']}&{keys}")
    last = cloud.alice.list("ports", name=everything[-1])[0]

    forward = follow(cloud, path, "next")
    backward = follow(cloud, f"{path}&marker={last['id']}&page_reverse=True", "previous")

    assert [name for page in forward for name in page] == everything
    assert [len(page) for page in forward] == [2, 2, 1]
    assert [name for page in reversed(backward) for name in page] == everything[:-1]


def test_a_marker_that_is_not_seen_is_missing(cloud: Cloud, network: dict[str, Any]) -> None:
    """An unknown one and another project's alike."""
    (port,) = cloud.alice.list("ports", name="a", network_id=network["id"])

    for who, marker in ((cloud.alice, "nobody"), (cloud.bob, port["id"])):
        with pytest.raises(NotFound, match=marker) as refusal:
            who.request("GET", f"/v2.0/ports?limit=2&marker={marker}")
        assert refusal.value.kind == "PortNotFound"


def test_without_pages_there_is_no_marker(cloud: Cloud, network: dict[str, Any]) -> None:
    """A limit of 0 is none."""
    query = f"network_id={network['id']}&sort_key=name"
    (port,) = cloud.alice.list("ports", name="c", network_id=network["id"])

    assert names(cloud, f"{query}&marker={port['id']}&limit=0") == list("abcde")


def test_links_of_pages(cloud: Cloud, network: dict[str, Any]) -> None:
    """As Neutron's: backward from every page, forward from a full one."""

    def links(more: str) -> list[str]:
        path = f"/v2.0/ports?network_id={network['id']}&sort_key=name&{more}"
        return [link["rel"] for link in cloud.alice.request("GET", path)["ports_links"]]

    (first,) = cloud.alice.list("ports", name="a", network_id=network["id"])
    assert links("limit=2") == ["next", "previous"]
    assert links("limit=9") == ["previous"]
    assert links("limit=2&name=z") == ["previous"]
    assert links(f"limit=2&page_reverse=True&marker={first['id']}") == ["next"]


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("limit=-1", "BadRequest"),
        ("limit=x", "BadRequest"),
        ("sort_key=colour&sort_dir=asc", "HTTPBadRequest"),
        ("sort_key=fixed_ips&sort_dir=asc", "HTTPBadRequest"),
    ],
)
def test_types_of_wrong_queries(cloud: Cloud, query: str, kind: str) -> None:
    """They are Neutron's."""
    with pytest.raises(Invalid) as refusal:
        names(cloud, query)
    assert refusal.value.kind == kind


def test_a_prefix_is_found_in_any_spelling(cloud: Cloud) -> None:
    """What is no prefix is refused."""
    network = cloud.alice.create("networks", {})
    wish = {"network_id": network["id"], "ip_version": 6, "cidr": "fd00:115::/64"}
    subnet = cloud.alice.create("subnets", wish)

    found = cloud.alice.request("GET", "/v2.0/subnets?cidr=FD00:115:0::/64")["subnets"]
    assert [one["id"] for one in found] == [subnet["id"]]
    with pytest.raises(Invalid, match="cidr"):
        cloud.alice.request("GET", "/v2.0/subnets?cidr=x")


def test_pages_over_null(cloud: Cloud) -> None:
    """Records without a value have their place in the order."""
    for gateway in ({}, {"gateway_ip": None}, {}):
        cloud.subnet(cloud.alice.create("networks", {}), **gateway)
    seen: list[str] = []
    marker = ""
    while True:
        answer = cloud.alice.request("GET", f"/v2.0/subnets?sort_key=gateway_ip&limit=1{marker}")[
            "subnets"
        ]
        if not answer:
            break
        seen.append(answer[0]["id"])
        marker = f"&marker={answer[0]['id']}"

    assert sorted(seen) == sorted(subnet["id"] for subnet in cloud.alice.list("subnets"))


def test_old_clients_suffix(cloud: Cloud, network: dict[str, Any]) -> None:
    """Paths with .json are the same paths."""
    listed = cloud.alice.request("GET", "/v2.0/networks.json")["networks"]
    shown = cloud.alice.request("GET", f"/v2.0/networks/{network['id']}.json")["network"]

    assert shown in listed


def test_a_name_is_no_id(cloud: Cloud, network: dict[str, Any]) -> None:
    """Clients try a name as an id first, and go on after a 404."""
    assert network
    for collection in ("networks", "ports", "security-groups", "floatingips"):
        with pytest.raises(NotFound):
            cloud.alice.show(collection, "net")


def test_version_documents(cloud: Cloud) -> None:
    """Discovery finds the version at the root and at the version itself."""
    root = cloud.alice.request("GET", "/")["versions"][0]
    version = cloud.alice.request("GET", "/v2.0")

    assert (root["id"], root["status"]) == ("v2.0", "CURRENT")
    assert root["links"][0]["href"].endswith("/v2.0/")
    assert version["version"]["id"] == "v2.0"
    assert "security_groups" in [resource["collection"] for resource in version["resources"]]


def test_extensions(cloud: Cloud) -> None:
    """What works is listed with Neutron's names, and found one by one."""
    found = cloud.alice.request("GET", "/v2.0/extensions")["extensions"]

    aliases = {extension["alias"] for extension in found}
    assert {"provider", "external-net", "router", "security-group", "binding"} <= aliases
    assert {"trunk", "dvr", "l3-ha"}.isdisjoint(aliases)
    one = cloud.alice.request("GET", "/v2.0/extensions/provider")["extension"]
    assert one["name"] == "Provider Network"
    with pytest.raises(NotFound):
        cloud.alice.request("GET", "/v2.0/extensions/Availability%20Zone")


def test_lists_are_never_null(cloud: Cloud, network: dict[str, Any]) -> None:
    """Clients iterate over these without a look."""
    port = cloud.alice.list("ports", network_id=network["id"])[0]

    assert port["allowed_address_pairs"] == port["extra_dhcp_opts"] == port["tags"] == []
    assert network["subnet"]["dns_nameservers"] == network["subnet"]["host_routes"] == []
    assert network["tags"] == network["availability_zones"] == []


def test_availability_zones(cloud: Cloud) -> None:
    """The one zone is there while an agent lives; clients find its extension by name."""

    def zones(query: str = "") -> list[dict[str, str]]:
        found: list[dict[str, str]] = cloud.alice.request(
            "GET", f"/v2.0/availability_zones{query}"
        )["availability_zones"]
        return found

    assert zones() == []
    with cloud.agent("zone-host") as agent:
        agent.snapshot(None, 0)
    assert zones("?resource=network") == [
        {"name": "nova", "resource": "network", "state": "available"}
    ]
    assert [zone["resource"] for zone in zones()] == ["network", "router"]
    assert zones("?name=elsewhere") == []
    assert cloud.admin.list("agents", availability_zone="nova")[0]["host"] == "zone-host"
    with pytest.raises(Invalid, match="colour"):
        zones("?colour=blue")
