"""Whatever is sent to the standalone identity, it answers, and never by a fault of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from keystone import Keystone, bootstrapped
from running import running

from trunkline.api.identity.own import KNOWN
from trunkline.api.identity.resources import RESOURCES

FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
WORDS = ["auth", "identity", "methods", "password", "token", "application_credential", "user",
         "id", "name", "domain", "secret", "scope", "project", "unscoped"]  # fmt: skip

scalars = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=20)
    | st.sampled_from(["default", "admin", "token", "password", "\ud800", "x" * 300, ""])
)  # fmt: skip


def objects(names: list[str]) -> st.SearchStrategy[Any]:
    """Return JSON whose objects have keys of these."""
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names), inner, max_size=5)
        ),
        max_leaves=12,
    )


@pytest.fixture(scope="module")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """Lend a cloud with an identity; the users file's administrator stays, whatever is disabled."""
    with running(tmp_path_factory.mktemp("fuzz")) as cloud:
        yield bootstrapped(cloud)
        assert "Traceback" not in cloud.log


def assert_answered(
    keystone: Keystone, method: str, path: str, body: Any = None, token: str = "admin"
) -> None:
    """Send a request; assert that it is taken, or refused in Keystone's shape with a reason."""
    answer = keystone.call(method, f"/identity/v3/{path}", body, token)
    assert answer.status < 500, answer
    if answer.status >= 400:
        assert answer.body["error"]["code"] == answer.status
        assert 5 < len(answer.body["error"]["message"]) < 1000


@pytest.mark.parametrize("collection", RESOURCES)
def test_what_there_is(keystone: Keystone, collection: str) -> None:
    """Domains, projects, users and roles, made and changed by any JSON, found by any query."""
    table = RESOURCES[collection].table
    names = [*table.by_name, "password", "colour"]
    made = keystone.do("POST", collection, {table.singular: {"name": "target"}})[table.singular]

    @FEW
    @given(objects(names) | st.dictionaries(st.sampled_from(names), scalars), st.text())
    @example({"name": "target"}, "\x00")
    def run(given_: Any, word: str) -> None:
        body = {table.singular: given_}
        assert_answered(keystone, "POST", collection, body)
        assert_answered(keystone, "PATCH", f"{collection}/{made['id']}", body)
        sent = quote(word.encode("utf-8", "surrogatepass"), safe="")
        assert_answered(keystone, "GET", f"{collection}?name={sent}&{sent}={sent}")
        assert_answered(keystone, "GET", f"{collection}/x{sent}")

    run()


def test_log_ins(keystone: Keystone) -> None:
    """Any JSON instead of a log-in."""
    nested = objects(WORDS)
    identity = st.fixed_dictionaries(
        {
            "methods": st.sampled_from([["password"], ["token"], ["application_credential"]])
            | nested
        },
        optional={"password": nested, "token": nested, "application_credential": nested},
    )

    @FEW
    @given(st.fixed_dictionaries({"identity": identity}, optional={"scope": nested}) | nested)
    def run(auth: Any) -> None:
        assert_answered(keystone, "POST", "auth/tokens", {"auth": auth}, "")

    run()


def test_what_is_ones_own(keystone: Keystone) -> None:
    """Credentials and passwords by any JSON; tokens and assignments by any word."""
    owner = keystone.person("owner", "member")
    token = keystone.log_in("owner", "owner", project="of-owner").token
    path = f"users/{owner.id}"

    @FEW
    @given(objects([*KNOWN, "id", "colour"]), st.text(st.characters(codec="latin-1")))
    def run(given_: Any, word: str) -> None:
        credential = {"application_credential": given_}
        assert_answered(keystone, "POST", f"{path}/application_credentials", credential, token)
        assert_answered(keystone, "POST", f"{path}/password", {"user": given_}, token)
        sent = quote(word, safe="")
        for other in (
            f"{path}/application_credentials/x{sent}",
            f"projects/x{sent}/users/{sent}x/roles/x",
            f"role_assignments?user.id={sent}&include_names={sent}",
        ):
            assert_answered(keystone, "GET", other, None, token)
            assert_answered(keystone, "GET", other)

    run()
