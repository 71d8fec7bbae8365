"""Tags, and changes that insist on a revision."""

from __future__ import annotations

from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Forbidden, Invalid, NotFound

TAGGABLE = ["networks", "subnets", "ports", "security-groups", "floatingips"]


@pytest.fixture(scope="module")
def objects(cloud: Cloud) -> dict[str, dict[str, Any]]:
    """Make one object of each kind that takes tags, as alice."""
    network = cloud.network()
    return {
        "networks": network,
        "subnets": network["subnet"],
        "ports": cloud.alice.create("ports", {"network_id": network["id"]}),
        "security-groups": cloud.alice.create("security-groups", {"name": "tagged"}),
        "floatingips": cloud.alice.create(
            "floatingips", {"floating_network_id": cloud.external()["id"]}
        ),
    }


@pytest.mark.parametrize("collection", TAGGABLE)
def test_tags_of_an_object(
    cloud: Cloud, objects: dict[str, dict[str, Any]], collection: str
) -> None:
    """They are replaced, added, asked for and taken off; each change is a revision."""
    one = f"/v2.0/{collection}/{objects[collection]['id']}"
    before = cloud.alice.show(collection, objects[collection]["id"])
    ask = cloud.alice.request

    assert ask("PUT", f"{one}/tags", {"tags": ["red", "blue"]}) == {"tags": ["blue", "red"]}
    assert ask("PUT", f"{one}/tags/gr%C3%BCn") is None
    assert ask("POST", f"{one}/tags", {"tags": ["red", "x y"]})["tags"][-1] == "x y"
    assert ask("GET", f"{one}/tags") == {"tags": ["blue", "grün", "red", "x y"]}
    assert ask("GET", f"{one}/tags/red") is None
    ask("DELETE", f"{one}/tags/red")
    after = cloud.alice.show(collection, objects[collection]["id"])
    assert after["tags"] == ["blue", "grün", "x y"]
    assert after["revision_number"] == before["revision_number"] + 4
    for method in ("GET", "DELETE"):
        with pytest.raises(NotFound, match="Tag red"):
            ask(method, f"{one}/tags/red")
    ask("DELETE", f"{one}/tags")
    assert cloud.alice.show(collection, objects[collection]["id"])["tags"] == []


def test_filters_by_tags(cloud: Cloud) -> None:
    """All of the list, one of it, not all of it, none of it; in their very spelling."""
    for tags in (["a"], ["a", "b"], ["B"], []):
        made = cloud.alice.create("networks", {"name": "".join(tags), "description": "filtered"})
        cloud.alice.request("PUT", f"/v2.0/networks/{made['id']}/tags", {"tags": tags})

    def found(query: str) -> list[str]:
        answer = cloud.alice.request("GET", f"/v2.0/networks?description=filtered&{query}")
        return sorted(network["name"] for network in answer["networks"])

    assert found("tags=a") == ["a", "ab"]
    assert found("tags=a,b") == ["ab"]
    assert found("tags-any=b,B") == ["B", "ab"]
    assert found("not-tags=a,b") == ["", "B", "a"]
    assert found("not-tags-any=a,b") == ["", "B"]
    assert found("tags=a&not-tags=b") == ["a"]
    with pytest.raises(Invalid, match="tags"):
        found("tags=")


def test_who_may_tag(cloud: Cloud, objects: dict[str, dict[str, Any]]) -> None:
    """A reader reads, a stranger finds nothing, a shared network is not everybody's to tag."""
    path = f"/v2.0/ports/{objects['ports']['id']}/tags"
    shared = cloud.network("admin", shared=True)

    assert cloud.user("eve").request("GET", path) == {"tags": []}
    with pytest.raises(Forbidden):
        cloud.user("eve").request("PUT", path, {"tags": ["x"]})
    with pytest.raises(NotFound, match="Port"):
        cloud.bob.request("GET", path)
    with pytest.raises(Forbidden):
        cloud.alice.request("PUT", f"/v2.0/networks/{shared['id']}/tags", {"tags": ["x"]})
    assert cloud.alice.request("GET", f"/v2.0/networks/{shared['id']}/tags") == {"tags": []}


@pytest.mark.parametrize(
    "tags",
    ["x", None, [1], [""], ["a,b"], ["x" * 256], ["\n"], ["a", "a"], [f"t{n}" for n in range(51)]],
)
def test_wrong_tags_are_refused(
    cloud: Cloud, objects: dict[str, dict[str, Any]], tags: object
) -> None:
    """What is no list of few short different words is refused by name."""
    path = f"/v2.0/networks/{objects['networks']['id']}/tags"

    with pytest.raises(Invalid, match="tags"):
        cloud.alice.request("PUT", path, {"tags": tags})
    assert cloud.alice.request("GET", path) == {"tags": []}


def test_added_tags_are_answered_alone(cloud: Cloud) -> None:
    """What was added, and not what there was before; as Neutron does."""
    network = cloud.alice.create("networks", {})
    path = f"/v2.0/networks/{network['id']}/tags"
    cloud.alice.request("PUT", path, {"tags": ["a"]})

    status, answer = cloud.raw("POST", path, b'{"tags": ["c", "b"]}')

    assert (status, answer) == (200, {"tags": ["b", "c"]})
    assert cloud.alice.request("GET", path) == {"tags": ["a", "b", "c"]}


def test_tags_of_a_qos_policy(cloud: Cloud) -> None:
    """Its path has one part more than others'."""
    policy = cloud.admin.create("qos/policies", {"name": "tagged"})
    path = f"/v2.0/qos/policies/{policy['id']}/tags"

    cloud.admin.request("PUT", f"{path}/red")

    assert cloud.admin.request("GET", path) == {"tags": ["red"]}
    found = cloud.admin.request("GET", "/v2.0/qos/policies?tags=red")["policies"]
    assert [one["id"] for one in found] == [policy["id"]]
    cloud.admin.request("DELETE", f"{path}/red")
    with pytest.raises(NotFound, match="Tag red"):
        cloud.admin.request("GET", f"{path}/red")


def test_no_more_tags_than_allowed_one_by_one(cloud: Cloud) -> None:
    """The limit holds for what is added as well."""
    network = cloud.alice.create("networks", {})
    path = f"/v2.0/networks/{network['id']}/tags"
    cloud.alice.request("PUT", path, {"tags": [f"t{n}" for n in range(50)]})

    with pytest.raises(Invalid, match="limit of 50") as refusal:
        cloud.alice.request("PUT", f"{path}/one-more")
    assert refusal.value.kind == "BadRequest"
    with pytest.raises(Invalid, match="limit of 50") as refusal:
        cloud.alice.request("PUT", path, {"tags": [f"t{n}" for n in range(51)]})
    assert refusal.value.kind == "BadRequest"
    cloud.alice.request("PUT", f"{path}/t7")


def test_ports_are_made_with_tags(cloud: Cloud, objects: dict[str, dict[str, Any]]) -> None:
    """Clients tag ports as they make them; other objects afterwards."""
    wish = {"network_id": objects["networks"]["id"], "tags": ["b", "a"]}

    assert cloud.alice.create("ports", wish)["tags"] == ["a", "b"]
    with pytest.raises(Invalid, match="tags"):
        cloud.alice.create("networks", {"tags": ["a"]})


def test_what_has_no_tags_says_so(cloud: Cloud) -> None:
    """Rules and agents have none."""
    with pytest.raises(NotFound, match="no tags"):
        cloud.admin.request("GET", "/v2.0/security-group-rules/x/tags")


def if_match(cloud: Cloud, method: str, path: str, value: str, body: bytes | None = None) -> Any:
    """Return the status and the error type that a conditional request gets."""
    status, answer = cloud.raw(method, path, body, **{"If-Match": value})
    return status, answer.get("NeutronError", {}).get("type") if answer else None


def test_if_match(cloud: Cloud) -> None:
    """A change or deletion of another revision than the named one is refused."""
    network = cloud.alice.create("networks", {"name": "old"})
    path = f"/v2.0/networks/{network['id']}"
    body = b'{"network": {"name": "new"}}'

    assert if_match(cloud, "PUT", path, "revision_number=7", body) == (
        412,
        "RevisionNumberConstraintFailed",
    )
    assert cloud.alice.show("networks", network["id"]) == network
    assert if_match(cloud, "PUT", path, "revision_number=0", body) == (200, None)
    assert if_match(cloud, "DELETE", path, '"revision_number=0"')[0] == 412
    assert if_match(cloud, "PUT", path, "*", body) == (200, None)
    assert if_match(cloud, "DELETE", path, '"revision_number=2"') == (204, None)


@pytest.mark.parametrize(
    "value", ["revision_number=x", "revision_number=1, revision_number=2", "etag", "", "1"]
)
def test_a_condition_that_is_not_understood_is_not_ignored(cloud: Cloud, value: str) -> None:
    """The request is refused instead."""
    network = cloud.alice.create("networks", {})

    status, kind = if_match(cloud, "DELETE", f"/v2.0/networks/{network['id']}", value)

    assert (status, kind) == (400, "BadRequest")
    assert cloud.alice.show("networks", network["id"]) == network
