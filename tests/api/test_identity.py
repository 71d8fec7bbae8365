"""Who may do what, and how the users file is read."""

from __future__ import annotations

import os
import signal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from running import Cloud, users_document

from trunkline.api import policy
from trunkline.api.users import Users, load, parse
from trunkline.errors import Forbidden, Invalid, NotFound, Unauthorized
from trunkline.lab.waiting import until

READABLE = ("networks", "subnets", "ports", "security-groups", "security-group-rules")


def test_nothing_is_open_without_a_token(cloud: Cloud) -> None:
    """No token and a wrong token are both 401; only the version documents need none."""
    for path in ("/v2.0/networks", "/v2.0/ports/x", "/agent/v1/hosts/h/snapshot"):
        method = "POST" if path.startswith("/agent") else "GET"
        for token in ("", "nobody", "x" * 100_000):
            with pytest.raises(Unauthorized):
                cloud.user(token).request(method, path, {} if method == "POST" else None)
    for path in ("/", "/v2.0", "/v2.0/", "/v2.0/extensions"):
        assert cloud.user("nobody").request("GET", path)


def test_a_project_sees_its_own(cloud: Cloud) -> None:
    """Another project's objects are unknown, whatever is asked of them."""
    network = cloud.network()
    port = cloud.alice.create("ports", {"network_id": network["id"]})
    own = {
        "networks": network["id"],
        "subnets": network["subnet"]["id"],
        "ports": port["id"],
        "security-groups": port["security_groups"][0],
    }

    for collection, object_id in own.items():
        assert object_id in [found["id"] for found in cloud.alice.list(collection)]
        assert object_id in [found["id"] for found in cloud.admin.list(collection)]
        assert cloud.user("eve").show(collection, object_id)["id"] == object_id
        assert object_id not in [found["id"] for found in cloud.bob.list(collection)]
        for act in (
            lambda c=collection, i=object_id: cloud.bob.show(c, i),
            lambda c=collection, i=object_id: cloud.bob.update(c, i, {"name": "mine"}),
            lambda c=collection, i=object_id: cloud.bob.delete(c, i),
        ):
            with pytest.raises(NotFound):
                act()


def test_a_reader_reads(cloud: Cloud) -> None:
    """The role reader sees its project and changes nothing."""
    network = cloud.network()

    for collection in READABLE:
        assert isinstance(cloud.user("eve").list(collection), list)
    for act in (
        lambda: cloud.user("eve").create("networks", {}),
        lambda: cloud.user("eve").update("networks", network["id"], {"name": "x"}),
        lambda: cloud.user("eve").delete("networks", network["id"]),
    ):
        with pytest.raises(Forbidden):
            act()


def test_members_act_for_their_project_only(cloud: Cloud) -> None:
    """An administrator makes objects for a project; a member only for the own one."""
    made = cloud.admin.create("networks", {"tenant_id": "p2"})

    assert cloud.bob.show("networks", made["id"])["project_id"] == "p2"
    with pytest.raises(Forbidden, match="p2"):
        cloud.alice.create("networks", {"project_id": "p2"})
    assert cloud.alice.create("networks", {"project_id": "p1"})["project_id"] == "p1"
    with pytest.raises(Invalid):
        cloud.admin.create("networks", {"project_id": "p1", "tenant_id": "p2"})


def test_shared_and_external_networks_are_readable_by_all(cloud: Cloud) -> None:
    """What is shared is seen, used and not changed by others."""
    shared = cloud.network("admin", shared=True)
    external = cloud.external()

    for network in (shared, external):
        assert cloud.bob.show("networks", network["id"])["id"] == network["id"]
        assert cloud.bob.show("subnets", network["subnet"]["id"])
        with pytest.raises(Forbidden):
            cloud.bob.update("networks", network["id"], {"name": "mine"})
        with pytest.raises(Forbidden):
            cloud.subnet(network, "bob")
    port = cloud.bob.create("ports", {"network_id": shared["id"]})
    assert port["project_id"] == "p2"
    assert cloud.alice.list("ports", network_id=shared["id"]) == []


def test_provider_attributes_are_no_filters_for_members(cloud: Cloud) -> None:
    """What a member does not see, a member cannot find out by filtering."""
    for query in ("provider:segmentation_id=100", "provider:physical_network=physnet1"):
        with pytest.raises(Invalid):
            cloud.alice.request("GET", f"/v2.0/networks?{query}")
    with pytest.raises(Invalid):
        cloud.alice.request("GET", "/v2.0/ports?sort_key=binding:host_id")


def test_ports_are_filtered_by_host_among_ones_own(cloud: Cloud) -> None:
    """Nova asks so with its user's token, and learns nothing of other projects' ports."""
    network = cloud.network("alice")
    cloud.subnet(network, "alice")
    mine = cloud.admin.create(
        "ports",
        {"network_id": network["id"], "project_id": "p1", "binding:host_id": "h1"},
    )

    found = cloud.alice.list("ports", **{"binding:host_id": "h1"})

    assert [port["id"] for port in found] == [mine["id"]]
    assert cloud.bob.list("ports", **{"binding:host_id": "h1"}) == []


def test_agents_are_for_administrators(cloud: Cloud) -> None:
    """Members do not see hosts."""
    with pytest.raises(Forbidden):
        cloud.alice.list("agents")


def test_the_role_agent_is_for_agents_only(cloud: Cloud) -> None:
    """An agent's token opens nothing of the Networking API, and no other token its own."""
    with pytest.raises(Forbidden):
        cloud.user("agent").list("networks")
    for user in ("alice", "admin", "eve"):
        with pytest.raises(Forbidden):
            cloud.user(user).request("POST", "/agent/v1/hosts/h1/snapshot", {})
        with pytest.raises(Forbidden):
            cloud.user(user).request("POST", "/agent/v1/hosts/h1/report", {})


def with_token(**entry: Any) -> dict[str, Any]:
    """Return the users with one more, who has this token."""
    document = users_document()
    user = {"token": "fresh", "project": "p1", "roles": ["member"], **entry}
    document["users"].append({"name": "dave", "tokens": [user]})
    return document


def test_a_changed_users_file_is_in_force_at_once(own_cloud: Cloud) -> None:
    """New tokens work and withdrawn ones do not, without a restart."""
    with pytest.raises(Unauthorized):
        own_cloud.user("fresh").list("networks")

    own_cloud.write_users(with_token())

    assert own_cloud.user("fresh").list("networks") == []
    own_cloud.write_users(users_document())
    with pytest.raises(Unauthorized):
        own_cloud.user("fresh").list("networks")


def test_a_broken_users_file_changes_nothing(own_cloud: Cloud) -> None:
    """The users read before stay in force, and the log says what is wrong."""
    (own_cloud.directory / "users.yaml").write_text("users: [{name: x, tokens: {")

    assert own_cloud.alice.list("networks") == []
    assert "users.yaml" in own_cloud.log


def test_sighup_reads_the_users_file(own_cloud: Cloud) -> None:
    """A file that changed without changing its stamp is read on SIGHUP."""
    path = own_cloud.directory / "users.yaml"
    stamp = path.stat()
    own_cloud.alice.list("networks")
    text = path.read_text().replace("token: bob", "token: bab")
    path.write_text(text)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert own_cloud.process is not None

    own_cloud.process.send_signal(signal.SIGHUP)

    until("the server has read the users", lambda: "users file" in own_cloud.log)
    assert own_cloud.user("bab").list("networks") == []


def test_tokens_may_be_stored_as_digests(tmp_path: Path) -> None:
    """A file that holds sha256 digests gives its tokens away to nobody."""
    digest = sha256(b"secret").hexdigest()
    path = tmp_path / "users.yaml"
    path.write_text(
        "projects: [{id: p1, name: blue}]\n"
        "users: [{name: dave, tokens:"
        f" [{{token: 'sha256:{digest}', project: blue, roles: [reader]}}]}}]\n"
    )
    users = Users(path, policy.load())

    caller = users.caller("secret")
    assert caller is not None
    assert (caller.project_id, caller.user) == ("p1", "dave")
    assert users.caller(digest) is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"project": "p9"}, "p9"),
        ({"project": None}, "project"),
        ({"roles": ["king"]}, "king"),
        ({"roles": []}, "roles"),
        ({"token": "sha256:abc"}, "sha256"),
        ({"token": ""}, "empty"),
        ({"token": "alice"}, "dave"),
    ],
)
def test_a_wrong_users_file_names_what_is_wrong(entry: dict[str, Any], message: str) -> None:
    """An unknown project or role, a malformed or double token is refused by name."""
    with pytest.raises(ValueError, match=message):
        parse(with_token(**entry), policy.load())


def test_a_missing_users_file_is_named(tmp_path: Path) -> None:
    """The server does not start on a file that is not there."""
    with pytest.raises(Invalid, match=r"users\.yaml"):
        load(tmp_path / "users.yaml", policy.load())


@pytest.mark.parametrize("text", ["", "[]", "users: 5", "users: [{name: x, tokens: [{}]}]"])
def test_a_users_file_of_the_wrong_shape_is_refused(tmp_path: Path, text: str) -> None:
    """YAML that is no users file is refused with the file's name."""
    path = tmp_path / "users.yaml"
    path.write_text(text)

    with pytest.raises(Invalid, match=r"users\.yaml"):
        load(path, policy.load())
