"""The policy's table: every line of it is in force, and an operator's file replaces lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from keystone import AUTH, bootstrapped
from running import TOKENS, Cloud

from trunkline.api.identity.resources import RESOURCES as IDENTITY
from trunkline.api.policy import Policy, load
from trunkline.api.resources import RESOURCES
from trunkline.errors import Forbidden, Invalid, NotFound, Unauthorized
from trunkline.hoststate import HostConfig, HostFacts
from trunkline.lab.waiting import limit_s

Sample = Callable[[Cloud], dict[str, Any]]

USERS = (*TOKENS, "nobody")
NO_ATTRIBUTES = {
    "infrastructure",
    "on_external_network",
    "for_everybody",
    "as_external",
    "external_gateway_info:enable_snat",
}
"""Of lines VERB_RESOURCE:WORD, the words that stand for a condition and not for an attribute."""


def a_port(cloud: Cloud) -> dict[str, Any]:
    """Make a port of project p1."""
    return cloud.alice.create("ports", {"network_id": cloud.network()["id"]})


def a_group(cloud: Cloud) -> dict[str, Any]:
    """Make a security group of project p1."""
    return cloud.alice.create("security-groups", {"name": "policy"})


def a_rule(cloud: Cloud) -> dict[str, Any]:
    """Make a security group rule of project p1."""
    wish = {"security_group_id": a_group(cloud)["id"], "direction": "ingress", "protocol": "tcp"}
    return cloud.alice.create("security-group-rules", wish)


def a_floating_ip(cloud: Cloud) -> dict[str, Any]:
    """Make a floating IP of project p1."""
    wish = {"floating_network_id": cloud.external()["id"]}
    return cloud.alice.create("floatingips", wish)


def an_rbac_policy(cloud: Cloud) -> dict[str, Any]:
    """Lend a network of project p1 to p2."""
    network = cloud.alice.create("networks", {})
    wish = {"object_type": "network", "object_id": network["id"], "action": "access_as_shared"}
    return cloud.alice.create("rbac-policies", {**wish, "target_tenant": "p2"})


def an_ip_availability(cloud: Cloud) -> dict[str, Any]:
    """Make a network of project p1, and return it by the key that others have their id under."""
    return {"id": cloud.alice.create("networks", {})["id"]}


def an_audit_event(cloud: Cloud) -> dict[str, Any]:
    """Change something, and return the event of it."""
    network = cloud.alice.create("networks", {})
    return cloud.admin.list("audit-events", resource_id=network["id"])[0]


def a_reserved_address(cloud: Cloud) -> dict[str, Any]:
    """Reserve an address of a network of project p1."""
    subnet = cloud.network()["subnet"]
    wish = {"subnet_id": subnet["id"], "ip_address": subnet["cidr"].replace("0/24", "7")}
    return cloud.alice.create("reserved-addresses", wish)


def an_agent(cloud: Cloud) -> dict[str, Any]:
    """Let an agent report."""
    with cloud.agent("policy-host") as agent:
        agent.snapshot(None, 0)
    return cloud.admin.list("agents", host="policy-host")[0]


def a_probe(cloud: Cloud) -> dict[str, Any]:
    """Ask for a probe between two hosts; there is one at a time."""
    for probe in cloud.admin.list("probes"):
        cloud.admin.delete("probes", probe["id"])
    hosts = ["policy-left", "policy-right"]
    for host in hosts:
        config = HostConfig(host, {"physnet1": "eth0"}, None, None, (), "/x")
        with cloud.agent(host) as agent:
            agent.report(1, {}, [], HostFacts(None), config=config, full=True)
    vlan_id = cloud.admin.create("networks", {})["provider:segmentation_id"]
    return cloud.admin.create("probes", {"hosts": hosts, "vlan_ids": [vlan_id]})


SAMPLES: dict[str, Sample] = {
    "networks": lambda cloud: cloud.alice.create("networks", {}),
    "subnets": lambda cloud: cloud.network()["subnet"],
    "ports": a_port,
    "security-groups": a_group,
    "security-group-rules": a_rule,
    "floatingips": a_floating_ip,
    "routers": lambda cloud: cloud.alice.create("routers", {"name": "policy"}),
    "address-scopes": lambda cloud: cloud.alice.create(
        "address-scopes", {"name": "policy", "ip_version": 4}
    ),
    "rbac-policies": an_rbac_policy,
    "qos/policies": lambda cloud: cloud.admin.create(
        "qos/policies", {"name": "policy", "project_id": "p1"}
    ),
    "subnetpools": lambda cloud: cloud.alice.create(
        "subnetpools", {"name": "policy", "prefixes": ["10.0.0.0/8"]}
    ),
    "network-ip-availabilities": an_ip_availability,
    "reserved-addresses": a_reserved_address,
    "audit-events": an_audit_event,
    "agents": an_agent,
    "probes": a_probe,
    "traces": lambda cloud: cloud.alice.create(
        "traces", {"source": "internet", "destination": "192.0.2.77"}
    ),
}
"""How to make one object, of project p1 if it belongs to one, by the resource's path."""


CHANGES = {"rbac-policies": {"target_tenant": "p3"}, "address-scopes": {"name": "x"}}
"""What to change of an object, where it is not the description."""


def expected(user: str, verb: str, collection: str) -> type[Exception] | None:
    """Return what the table says of a user, a verb and an object of project p1."""
    if user not in TOKENS:
        return Unauthorized
    project, role = TOKENS[user]
    policy = load()
    rights = policy.rights(frozenset({role})).allowed
    if f"{verb}_{RESOURCES[collection].table.singular}" not in rights:
        return Forbidden
    return None if project == "p1" or "all_projects" in rights else NotFound


def outcome(act: Callable[[], Any]) -> type[Exception] | None:
    """Return how an act ended."""
    try:
        act()
    except (Unauthorized, Forbidden, NotFound) as error:
        return type(error)
    return None


@pytest.mark.parametrize("collection", RESOURCES)
def test_every_line_is_in_force(cloud: Cloud, collection: str) -> None:
    """Each method of each resource, by each role, within and outside of the object's project."""
    resource = RESOURCES[collection]
    change = CHANGES.get(collection, {"description": "x"})
    for user in USERS:
        client = cloud.user(user)
        sample = SAMPLES[collection](cloud)
        verdicts = {
            "get": outcome(lambda c=client, i=sample["id"]: c.show(collection, i)),
            "update": outcome(lambda c=client, i=sample["id"]: c.update(collection, i, change)),
            "delete": outcome(lambda c=client, i=sample["id"]: c.delete(collection, i)),
        }
        for verb, verdict in verdicts.items():
            if verb == "get" or getattr(resource, verb) is not None:
                assert verdict is expected(user, verb, collection), (user, verb)


@pytest.mark.parametrize("collection", RESOURCES)
def test_lists_and_creation_follow_the_table(cloud: Cloud, collection: str) -> None:
    """A list shows what the caller may know of, and nothing is made by whom the table refuses."""
    sample = SAMPLES[collection](cloud)
    for user in USERS:
        client, want = cloud.user(user), expected(user, "get", collection)
        try:
            listed = {
                record.get("id", record.get("network_id")) for record in client.list(collection)
            }
        except (Unauthorized, Forbidden) as error:
            assert type(error) is want, user  # noqa: PT017  which of the two is the question
        else:
            assert (sample["id"] in listed) is (want is None), user
        if RESOURCES[collection].create is not None:
            refused = expected(user, "create", collection) in (Unauthorized, Forbidden)
            try:
                client.create(collection, {"no such attribute": 1})
            except Invalid:
                assert not refused, user
            except (Unauthorized, Forbidden):
                assert refused, user


IDENTITY_SAMPLES = {
    "domains": {"enabled": False},
    "projects": {},
    "users": {},
    "roles": {},
}
"""What a new one needs beside a name, by path."""


@pytest.mark.parametrize("collection", IDENTITY_SAMPLES)
def test_the_identitys_lines_are_in_force(cloud: Cloud, collection: str) -> None:
    """Likewise for whom there is: without all_projects, nobody else exists."""
    keystone = bootstrapped(cloud)
    singular, path = collection.removesuffix("s"), f"/identity/v3/{collection}"
    for user in USERS:
        body = {singular: {"name": f"policy {user}", **IDENTITY_SAMPLES[collection]}}
        made = keystone.call("POST", path, body, user).status
        if made != 201:
            keystone.do("POST", collection, body)
        wanted = keystone.do("GET", f"{collection}?name=policy%20{user}")[collection][0]["id"]
        one, change = f"{path}/{wanted}", {singular: {"description": "x"}}
        answers = {
            "create": made,
            "get": keystone.call("GET", one, None, user).status,
            "update": keystone.call("PATCH", one, change, user).status,
            "delete": keystone.call("DELETE", one, None, user).status,
        }
        role = TOKENS.get(user, (None, ""))[1]
        allowed = load().rights(frozenset({role})).allowed
        for verb, status in answers.items():
            if user not in TOKENS:
                assert status == 401, verb
            elif f"{verb}_{singular}" not in allowed:
                assert status == 403, (user, verb)
            elif "all_projects" in allowed or singular == "role":
                assert status < 300, (user, verb)
            else:
                assert status == 404, (user, verb)


@pytest.mark.parametrize("user", TOKENS)
def test_assignments_and_tokens_follow_the_table(cloud: Cloud, user: str) -> None:
    """Roles are seen, given and taken, and tokens ended, by whom the table says."""
    keystone = bootstrapped(cloud)
    someone = keystone.person(f"someone {user}", "member")
    where = f"/identity/v3/projects/{someone.project_id}/users/{someone.id}/roles"
    role = f"{where}/{keystone.role('member')}"
    token = keystone.log_in(someone.name, someone.name, project=f"of-{someone.name}").token
    subject = {"X_Subject_Token": token}
    answers = {
        "get_role_assignment": keystone.call("GET", where, token=user),
        "create_role_assignment": keystone.call("PUT", role, token=user),
        "validate_token": keystone.call("GET", AUTH, token=user, **subject),
        "revoke_token": keystone.call("DELETE", AUTH, token=user, **subject),
        "delete_role_assignment": keystone.call("DELETE", role, token=user),
    }

    allowed = load().rights(frozenset({TOKENS[user][1]})).allowed
    for action, answer in answers.items():
        assert (answer.status < 300) is (action in allowed), action
        assert answer.status < 300 or answer.status == 403, action


def test_every_line_is_about_something() -> None:
    """A line for a method has its method, a line for an attribute its attribute."""
    resources = (*RESOURCES.values(), *IDENTITY.values())
    tables = {resource.table.singular: resource for resource in resources}
    for action in load().rules:
        name, _, attribute = action.partition(":")
        verb, _, singular = name.partition("_")
        if singular in tables:
            assert verb == "get" or getattr(tables[singular], verb) is not None, action
            known = {*tables[singular].table.by_name, *NO_ATTRIBUTES, ""}
            assert attribute in known, action
    for singular, resource in tables.items():
        for verb in ("create", "update", "delete"):
            if getattr(resource, verb) is not None:
                assert f"{verb}_{singular}" in load().rules


def test_the_operators_lines_are_in_force(own_cloud: Cloud) -> None:
    """A line of the operator's file replaces Trunkline's, and leaves all others."""
    with pytest.raises(Forbidden):
        own_cloud.alice.create("networks", {"shared": True})
    own_cloud.end()
    override = own_cloud.directory / "policy.toml"
    override.write_text('"create_network:shared" = "member"\ndelete_network = ""\n')
    config = own_cloud.directory / "server.toml"
    config.write_text(f'policy = "{override}"\n{config.read_text()}')
    own_cloud.start()

    network = own_cloud.alice.create("networks", {"shared": True})

    for user in (own_cloud.alice, own_cloud.admin):
        with pytest.raises(Forbidden, match="delete_network"):
            user.delete("networks", network["id"])
    with pytest.raises(Forbidden):
        own_cloud.alice.update("networks", network["id"], {"router:external": True})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('create_netwrok = "member"', "create_netwrok"),
        ('create_network:shared = "member"', "policy"),
        ("create_network = true", "create_network: True"),
        ('[create_network]\nshared = "member"', "create_network"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(own_cloud: Cloud, text: str, message: str) -> None:
    """The server does not start on an unknown action or a malformed line, and names it."""
    own_cloud.end()
    config = own_cloud.directory / "server.toml"
    config.write_text(f'policy = "{own_cloud.directory}/policy.toml"\n{config.read_text()}')
    (own_cloud.directory / "policy.toml").write_text(text)

    assert own_cloud.spawn().wait(limit_s(20)) == 2
    assert message in own_cloud.log
    assert "Traceback" not in own_cloud.log


def test_a_missing_policy_is_named(tmp_path: Path) -> None:
    """A configuration that names a policy which is not there is wrong."""
    with pytest.raises(Invalid, match=r"policy\.toml"):
        load(tmp_path / "policy.toml")


def test_roles_that_trunkline_does_not_know_change_nothing() -> None:
    """A role that no line names gives no right, and costs no memory."""
    policy = Policy({"get_network": frozenset({"reader"})})

    assert policy.rights(frozenset({"swift"})).allowed == frozenset()
    assert policy.rights(frozenset({"swift", "admin"})).allowed == {"get_network"}
