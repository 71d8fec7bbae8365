"""The compute API that Nova's network commands need: the same objects, policy and quotas."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import Cloud

from trunkline.api.compute.routes import TABLE
from trunkline.api.errors import COMPUTE_KINDS
from trunkline.client import ERRORS
from trunkline.errors import Conflict, Forbidden, Invalid, NotFound, RequestError

FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


def ask(cloud: Cloud, who: str, method: str, path: str, body: Any = None) -> Any:
    """Send a request as a user and return the answer's JSON; raise what a refusal says."""
    data = None if body is None else json.dumps(body).encode()
    status, answer = cloud.raw(method, f"/compute/v2.1{path}", data, **{"X-Auth-Token": who})
    assert status < 500, answer
    if status < 400:
        return answer
    ((kind, fault),) = answer.items()
    assert (kind, fault["code"]) == (COMPUTE_KINDS[status], status)
    assert 5 < len(fault["message"]) < 1000
    raise ERRORS.get(status, Invalid)(fault["message"])


def default_group(cloud: Cloud, who: str) -> dict[str, Any]:
    """Return the default group of a user's project, as Nova shows it."""
    groups = ask(cloud, who, "GET", "/os-security-groups")["security_groups"]
    (found,) = [group for group in groups if group["name"] == "default"]
    assert isinstance(found, dict)
    return found


def add_rule(cloud: Cloud, who: str, parent_id: str, *rule: Any, **more: Any) -> dict[str, Any]:
    """Add a rule: protocol, first and last port, prefix."""
    names = ("ip_protocol", "from_port", "to_port", "cidr")
    wish = {"parent_group_id": parent_id, **dict(zip(names, rule, strict=False)), **more}
    answer = ask(cloud, who, "POST", "/os-security-group-rules", {"security_group_rule": wish})
    made: dict[str, Any] = answer["security_group_rule"]
    return made


def test_the_articles_rule(cloud: Cloud) -> None:
    """What ``nova secgroup-add-rule default tcp 1 65535 10.1.0.0/24`` makes, seen by both APIs."""
    group = default_group(cloud, "alice")

    made = add_rule(cloud, "alice", group["id"], "tcp", 1, 65535, "10.1.0.0/24")

    assert made["ip_range"] == {"cidr": "10.1.0.0/24"}
    assert made in default_group(cloud, "alice")["rules"]
    (rule,) = cloud.alice.list("security-group-rules", id=made["id"])
    wanted = ("ingress", "IPv4", "tcp", 1, 65535, "10.1.0.0/24", group["id"])
    keys = ("direction", "ethertype", "protocol", "port_range_min", "port_range_max",
            "remote_ip_prefix", "security_group_id")  # fmt: skip
    assert tuple(rule[key] for key in keys) == wanted
    with pytest.raises(Conflict, match="already exists"):
        add_rule(cloud, "alice", group["id"], "TCP", 1, 65535, "10.1.0.0/24")
    ask(cloud, "alice", "DELETE", f"/os-security-group-rules/{made['id']}")
    assert made not in default_group(cloud, "alice")["rules"]


@pytest.mark.parametrize(
    ("given_", "shown"),
    [
        (("icmp", -1, -1, "0.0.0.0/0"), ("icmp", -1, -1, {"cidr": "0.0.0.0/0"})),
        (("icmp", 8, -1, None), ("icmp", 8, -1, {"cidr": "0.0.0.0/0"})),
        (("udp", -1, -1, "10.2.0.0/16"), ("udp", 1, 65535, {"cidr": "10.2.0.0/16"})),
        (("tcp", 22, 22, "2001:db8::/32"), ("tcp", 22, 22, {"cidr": "2001:db8::/32"})),
        (("tcp", 23, 23, "::/0"), ("tcp", 23, 23, {"cidr": "::/0"})),
    ],
)
def test_what_a_rule_leaves_open(cloud: Cloud, given_: Any, shown: Any) -> None:
    """-1 is any port or type, no prefix is everybody; a rule is shown as it would be typed."""
    group = default_group(cloud, "alice")

    made = add_rule(cloud, "alice", group["id"], *given_)

    assert (made["ip_protocol"], made["from_port"], made["to_port"], made["ip_range"]) == shown
    ask(cloud, "alice", "DELETE", f"/os-security-group-rules/{made['id']}")


def test_a_rule_by_group(cloud: Cloud) -> None:
    """A rule may name a group instead of a prefix, and shows its name and project."""
    group = default_group(cloud, "alice")

    made = add_rule(cloud, "alice", group["id"], "tcp", 80, 80, group_id=group["id"])

    assert made["group"] == {"name": "default", "tenant_id": "p1"}
    assert made["ip_range"] == {}
    ask(cloud, "alice", "DELETE", f"/os-security-group-rules/{made['id']}")


def test_what_is_anothers(cloud: Cloud) -> None:
    """A project sees and changes its own only, an administrator others' if asked for."""
    group = default_group(cloud, "bob")

    with pytest.raises(NotFound, match="could not be found"):
        ask(cloud, "alice", "GET", f"/os-security-groups/{group['id']}")
    with pytest.raises(NotFound):
        add_rule(cloud, "alice", group["id"], "tcp", 1, 2, "10.0.0.0/8")
    with pytest.raises(Forbidden, match="create_security_group_rule"):
        add_rule(cloud, "eve", default_group(cloud, "eve")["id"], "tcp", 1, 2, "10.0.0.0/8")
    every = ask(cloud, "admin", "GET", "/os-security-groups?all_tenants=1")["security_groups"]
    own = ask(cloud, "admin", "GET", "/os-security-groups")["security_groups"]
    assert {"p2", "padmin"} <= {group["tenant_id"] for group in every}
    assert {group["tenant_id"] for group in own} == {"padmin"}
    alices = ask(cloud, "alice", "GET", "/os-security-groups?all_tenants=1")["security_groups"]
    assert {group["tenant_id"] for group in alices} == {"p1"}


def test_groups_of_a_server(cloud: Cloud) -> None:
    """A server is the ports with its id; a group comes onto all of them, and off."""
    network = cloud.network()
    ports = [
        cloud.alice.create(
            "ports", {"network_id": network["id"], "device_id": "vm-1", "name": name}
        )
        for name in ("one", "two")
    ]
    body = {"security_group": {"name": "web", "description": "for the web"}}
    web = ask(cloud, "alice", "POST", "/os-security-groups", body)["security_group"]

    ask(cloud, "alice", "POST", "/servers/vm-1/action", {"addSecurityGroup": {"name": "web"}})

    for port in ports:
        assert web["id"] in cloud.alice.show("ports", port["id"])["security_groups"]
    found = ask(cloud, "alice", "GET", "/servers/vm-1/os-security-groups")["security_groups"]
    assert {group["name"] for group in found} == {"default", "web"}
    (server,) = ask(cloud, "alice", "GET", "/servers/detail?name=one")["servers"]
    assert server["name"] == "one"
    assert len(server["addresses"]["net"]) == 2
    with pytest.raises(Conflict, match="in use"):
        ask(cloud, "alice", "DELETE", f"/os-security-groups/{web['id']}")
    ask(cloud, "alice", "POST", "/servers/vm-1/action", {"removeSecurityGroup": {"name": "web"}})
    ask(cloud, "alice", "DELETE", f"/os-security-groups/{web['id']}")
    with pytest.raises(NotFound, match="no port has it as device_id"):
        ask(cloud, "bob", "GET", "/servers/vm-1")


def test_a_network_waits_for_a_project(cloud: Cloud) -> None:
    """An administrator's network is nobody's until a project is associated, and again after."""
    wish = {"label": "waiting", "cidr": "172.20.0.0/24", "vlan": 777, "gateway": "172.20.0.5",
            "fixed_cidr": "172.20.0.0/28", "dns1": "192.0.2.53", "share_address": True}  # fmt: skip

    made = ask(cloud, "admin", "POST", "/os-networks", {"network": wish})["network"]

    assert (made["vlan"], made["bridge"], made["project_id"]) == (777, "br777", None)
    (subnet,) = cloud.admin.list("subnets", network_id=made["id"])
    pools = [(pool["start"], pool["end"]) for pool in subnet["allocation_pools"]]
    assert pools == [("172.20.0.1", "172.20.0.4"), ("172.20.0.6", "172.20.0.15")]
    assert cloud.admin.show("networks", made["id"])["trunkline:gateway"] == "anycast"
    ask(cloud, "admin", "POST", "/os-networks/add", {"id": made["id"]})
    assert cloud.admin.show("networks", made["id"])["project_id"] == "padmin"
    action = f"/os-networks/{made['id']}/action"
    ask(cloud, "admin", "POST", action, {"disassociate": None})
    assert cloud.admin.show("networks", made["id"])["project_id"] == ""
    ask(cloud, "bob", "POST", "/os-networks/add", {"id": None})
    (bobs,) = ask(cloud, "bob", "GET", "/os-networks")["networks"]
    assert bobs["cidr"] == "172.20.0.0/24"
    assert "vlan" not in bobs
    with pytest.raises(Forbidden, match="create_network_range"):
        ask(cloud, "bob", "POST", action, {"disassociate_project": None})
    port = cloud.bob.create("ports", {"network_id": made["id"]})
    with pytest.raises(Conflict, match="still in use"):
        ask(cloud, "admin", "POST", action, {"disassociate_project": None})
    cloud.bob.delete("ports", port["id"])
    ask(cloud, "admin", "DELETE", f"/os-networks/{made['id']}")
    with pytest.raises(NotFound):
        ask(cloud, "admin", "GET", f"/os-networks/{made['id']}")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"multi_host": False}, "every host is the gateway"),
        ({"bridge": "br0"}, "called by its VLAN id"),
        ({"cidr": None, "cidr_v6": "2001:db8::/64"}, "IPv4 prefix"),
        ({"cidr": "2001:db8::/64"}, "IPv6"),
        ({"gateway": "2001:db8::1"}, "IPv6"),
        ({"vlan": 4095}, "vlan"),
        ({"allowed_start": "10.200.0.9", "allowed_end": "10.200.0.3"}, "starts behind its end"),
        ({"colour": "teal"}, "colour"),
    ],
)
def test_a_network_that_cannot_be(cloud: Cloud, more: dict[str, Any], said: str) -> None:
    """What a network cannot have is refused by name, and nothing is made."""
    wish = {"label": "never", "cidr": "10.200.0.0/24", **more}

    with pytest.raises(Invalid, match=said):
        ask(cloud, "admin", "POST", "/os-networks", {"network": wish})

    assert cloud.admin.list("networks", name="never") == []


def test_a_pool_of_floating_ips(cloud: Cloud) -> None:
    """A range makes a pool, addresses of it are taken and associated, and it goes with its last."""
    wish = {"ip_range": "203.0.113.0/29", "pool": "spare"}
    ask(cloud, "admin", "POST", "/os-floating-ips-bulk", {"floating_ips_bulk_create": wish})
    network = cloud.network()
    port = cloud.alice.create("ports", {"network_id": network["id"], "device_id": "vm-2"})

    floating = ask(cloud, "alice", "POST", "/os-floating-ips", {"pool": "spare"})["floating_ip"]

    act = {"addFloatingIp": {"address": floating["ip"]}}
    ask(cloud, "alice", "POST", "/servers/vm-2/action", act)
    (shown,) = ask(cloud, "alice", "GET", "/os-floating-ips")["floating_ips"]
    assert shown["instance_id"] == "vm-2"
    assert shown["fixed_ip"] == port["fixed_ips"][0]["ip_address"]
    told = ask(cloud, "admin", "GET", "/os-floating-ips-bulk")["floating_ip_info"]
    assert len(told) == 6
    assert [t["project_id"] for t in told if t["address"] == floating["ip"]] == ["p1"]
    gone = {"ip_range": "203.0.113.0/29"}
    with pytest.raises(Conflict):
        ask(cloud, "admin", "PUT", "/os-floating-ips-bulk/delete", gone)
    with pytest.raises(NotFound, match="Pool other could not be found"):
        ask(cloud, "alice", "POST", "/os-floating-ips", {"pool": "other"})
    act = {"removeFloatingIp": {"address": floating["ip"]}}
    ask(cloud, "alice", "POST", "/servers/vm-2/action", act)
    ask(cloud, "alice", "DELETE", f"/os-floating-ips/{floating['id']}")
    with pytest.raises(Forbidden):
        ask(cloud, "alice", "PUT", "/os-floating-ips-bulk/delete", gone)
    ask(cloud, "admin", "PUT", "/os-floating-ips-bulk/delete", gone)
    assert ask(cloud, "alice", "GET", "/os-floating-ip-pools") == {"floating_ip_pools": []}


def test_quotas_in_novas_names(cloud: Cloud) -> None:
    """Quotas are those of the Networking API; what is beyond one is 403, as in Nova."""
    body = {"quota_set": {"security_groups": 1, "tenant_id": "p3"}}

    ask(cloud, "admin", "PUT", "/os-quota-sets/p3", body)

    assert cloud.admin.request("GET", "/v2.0/quotas/p3")["quota"]["security_group"] == 1
    detail = ask(cloud, "carol", "GET", "/os-quota-sets/p3/detail")["quota_set"]
    assert detail["security_groups"]["limit"] == 1
    wish = {"security_group": {"name": "second", "description": ""}}
    with pytest.raises(Forbidden, match="Quota exceeded"):
        ask(cloud, "carol", "POST", "/os-security-groups", wish)
    ask(cloud, "admin", "DELETE", "/os-quota-sets/p3")
    assert ask(cloud, "carol", "GET", "/os-quota-sets/p3")["quota_set"]["security_groups"] == -1


def test_changes_are_audited(cloud: Cloud) -> None:
    """What is changed this way is in the audit like any change."""
    body = {"security_group": {"name": "audited", "description": ""}}
    made = ask(cloud, "alice", "POST", "/os-security-groups", body)["security_group"]

    ask(cloud, "alice", "DELETE", f"/os-security-groups/{made['id']}")

    events = cloud.admin.list("audit-events", resource_id=made["id"])
    assert [event["action"] for event in events] == ["create", "delete"]


NAMES = ["security_group", "security_group_rule", "network", "floating_ips_bulk_create", "id",
         "quota_set", "addFloatingIp", "addSecurityGroup", "removeFloatingIp", "disassociate",
         "pool", "ip_range", "name", "description", "label", "cidr", "vlan", "address",
         "parent_group_id", "group_id", "ip_protocol", "from_port", "to_port", "fixed_address",
         "allowed_start", "gateway", "security_groups", "force"]  # fmt: skip
scalars = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=9)
    | st.sampled_from(["10.0.0.0/24", "255.255.255.255/32", "0.0.0.0/0", "::/0", "tcp", "\ud800",
                       "default", "vm-9", "x" * 300, "00000000-0000-4000-8000-000000000000"])
)  # fmt: skip
WRAPPERS = [*NAMES[:4], *NAMES[5:9]]
wrapped = st.dictionaries(st.sampled_from(NAMES), scalars, min_size=2, max_size=6)
bodies = st.dictionaries(st.sampled_from(WRAPPERS), wrapped, min_size=1, max_size=1) | st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=10,
)


def test_anything_is_answered(cloud: Cloud) -> None:
    """Any JSON by any method to any path: taken, or refused in Nova's shape with a reason."""
    network = cloud.network("admin")
    cloud.instance(network, "h1", "padmin", device_id="vm-9")

    @FEW
    @given(st.sampled_from(TABLE), bodies, st.sampled_from(["vm-9", network["id"], "\x00é/", "x"]))
    def run(row: Any, body: Any, word: str) -> None:
        path = row[1].format(id=quote(word, safe=""))
        with suppress(RequestError):  # whose shape ``ask`` asserts
            ask(cloud, "admin", row[0], path, body)

    run()
    assert "Traceback" not in cloud.log
