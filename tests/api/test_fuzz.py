"""Random JSON at every POST and PUT: never a fault, and a refusal changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from declared import Declared
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from running import Cloud

from trunkline.api.resources import RESOURCES

EXAMPLES = int(os.environ.get("TRUNKLINE_FUZZ", "60"))
UNKNOWN = "6f2f2d0e-0000-4000-8000-000000000000"
COLLECTIONS = [name for name, resource in RESOURCES.items() if resource.create is not None]

words = st.sampled_from(
    ["", "x", "default", "10.0.0.0/8", "10.77.0.0/24", "10.77.0.1", "10.77.0.9", "::1", "fe80::/64",
     "tcp", "icmp", "IPv4", "IPv6", "ingress", "egress", "true", "1", "-1", "4095", "vlan", "flat",
     "physnet1", "fa:16:3e:00:00:01", "compute:nova", "trunkline:gateway", "network:floatingip",
     "h1", "a/b", "p1", "access_as_shared", "access_as_external", "network", "*", "internet",
     UNKNOWN]
)  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 70000)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
    | st.text(max_size=20)
)


class Known:
    """Ids of objects that exist, so that random bodies get past the first look-up."""

    def __init__(self, cloud: Cloud) -> None:
        network = cloud.network("admin")
        external = cloud.external()
        port = cloud.admin.create("ports", {"network_id": network["id"]})
        bound = cloud.instance(network, "h1", project="padmin")
        group = cloud.admin.create("security-groups", {"name": "fuzz"})
        floating = cloud.admin.create("floatingips", {"floating_network_id": external["id"]})
        self.by_collection = {
            "networks": [network["id"], external["id"]],
            "subnets": [network["subnet"]["id"], external["subnet"]["id"]],
            "ports": [port["id"], bound["id"], cloud.admin.list("ports", device_id=floating["id"])
                      [0]["id"]],
            "security-groups": [group["id"]],
            "floatingips": [floating["id"]],
            "routers": [
                cloud.admin.create("routers", {"name": "fuzz"})["id"],
                cloud.admin.list("routers", name="default")[0]["id"],
            ],
            "security-group-rules": [UNKNOWN],
            "reserved-addresses": [UNKNOWN],
            "subnetpools": [
                cloud.admin.create("subnetpools", {"name": "f", "prefixes": ["10.99.0.0/16"]})["id"]
            ],
            "address-scopes": [
                cloud.admin.create("address-scopes", {"name": "f", "ip_version": 4})["id"]
            ],
            "rbac-policies": [cloud.admin.list("rbac-policies", object_id=external["id"])[0]["id"]],
            "qos/policies": [cloud.admin.create("qos/policies", {"name": "fuzz"})["id"]],
            "probes": [UNKNOWN],
            "traces": [UNKNOWN],
        }  # fmt: skip
        self.declared = Declared(cloud)
        self.ids = [object_id for found in self.by_collection.values() for object_id in found]


@pytest.fixture(scope="module")
def known(cloud: Cloud) -> Iterator[Known]:
    """Make one object of each kind."""
    yield Known(cloud)
    assert "Traceback" not in cloud.log


def bodies(collection: str, known: Known) -> st.SearchStrategy[Any]:
    """Return bodies for a collection: nearly right ones, and any JSON."""
    table = RESOURCES[collection].table
    leaves = scalars | st.sampled_from(known.ids)
    inner = st.dictionaries(
        st.sampled_from(["start", "end", "subnet_id", "ip_address", "destination", "nexthop", "x"]),
        leaves,
        max_size=3,
    )
    values = leaves | st.lists(leaves | inner, max_size=3) | inner
    names = st.sampled_from([attribute.name for attribute in table.attributes] + ["colour"])
    objects = st.dictionaries(names, values, max_size=6)
    wrapped = objects.map(lambda one: {table.singular: one})
    bulk = st.lists(objects, max_size=3).map(lambda many: {RESOURCES[collection].plural: many})
    anything = st.recursive(
        scalars,
        lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text(max_size=5), child),
        max_leaves=8,
    )
    return wrapped | wrapped | wrapped | bulk | anything


def everything(cloud: Cloud) -> dict[str, Any]:
    """Return all that the administrator sees."""
    return {name: cloud.admin.list(name) for name in (*COLLECTIONS, "agents")}


def assert_handled(cloud: Cloud, known: Known, method: str, path: str, body: Any) -> None:
    """Send a body; assert that it is taken, or refused with a reason, and as declared."""
    before = everything(cloud)
    status, answer = cloud.raw(method, path, json.dumps(body).encode())
    assert status < 500, answer
    known.declared.judge(method, path, status, answer)
    if status >= 400:
        fault = answer["NeutronError"]
        assert fault["type"] != "RetryRequest", "a constraint that no check foresaw"
        assert len(fault["message"]) > 5
        assert len(fault["message"]) < 1000
        assert everything(cloud) == before


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_posts(cloud: Cloud, known: Known, collection: str) -> None:
    """Whatever is posted, the server takes it or says what is wrong with it."""

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(bodies(collection, known))
    @example({RESOURCES[collection].table.singular: {}})
    def run(body: Any) -> None:
        assert_handled(cloud, known, "POST", f"/v2.0/{collection}", body)

    run()


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_puts(cloud: Cloud, known: Known, collection: str) -> None:
    """Whatever is put, the server takes it or says what is wrong with it."""
    targets = [*known.by_collection[collection], UNKNOWN]

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.sampled_from(targets), bodies(collection, known))
    def run(target: str, body: Any) -> None:
        assert_handled(cloud, known, "PUT", f"/v2.0/{collection}/{target}", body)

    run()


@pytest.mark.parametrize(
    "action", ["add_router_interface", "remove_router_interface", "add_extraroutes"]
)
def test_router_actions(cloud: Cloud, known: Known, action: str) -> None:
    """What a router is asked to do is looked at as closely."""
    targets = [*known.by_collection["routers"], known.ids[0], UNKNOWN]
    keys = st.sampled_from(["subnet_id", "port_id", "router", "routes", "colour"])
    leaves = scalars | st.sampled_from(known.ids)
    wishes = st.dictionaries(keys, leaves | st.dictionaries(keys, leaves), max_size=3)

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.sampled_from(targets), wishes | leaves)
    def run(target: str, body: Any) -> None:
        assert_handled(cloud, known, "PUT", f"/v2.0/routers/{target}/{action}", body)

    run()


@pytest.mark.parametrize("path", ["snapshot", "report"])
def test_agents_posts(cloud: Cloud, known: Known, path: str) -> None:
    """An agent's bodies are looked at as closely."""
    keys = st.sampled_from(
        ["revision", "wait", "have", "full", "ports", "problems", "facts", "colour"]
    )
    small = st.dictionaries(words | st.sampled_from(known.ids), scalars, max_size=3)
    values = (scalars | small | st.lists(small, max_size=2)).filter(lambda v: v != "1")

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.dictionaries(keys, values, max_size=5))
    def run(body: dict[str, Any]) -> None:
        if isinstance(body.get("wait"), int | float):
            body["wait"] = 0
        status, answer = cloud.raw(
            "POST",
            f"/agent/v1/hosts/h1/{path}",
            json.dumps(body).encode(),
            **{"X-Auth-Token": "agent"},
        )
        assert status < 500, answer

    run()
