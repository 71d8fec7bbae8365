"""The standalone identity: who gets a token, what it opens, and what ends it."""

from __future__ import annotations

import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from keystone import AUTH, PASSWORD, Answer, Keystone, Person, bootstrapped
from running import Cloud, running

from trunkline.api.identity.throttle import Throttle
from trunkline.cli.main import main
from trunkline.client import ApiClient
from trunkline.errors import TooManyRequests, Unauthorized
from trunkline.lab.waiting import until


@pytest.fixture(scope="module")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """Lend a cloud with an identity."""
    with running(tmp_path_factory.mktemp("keystone")) as cloud:
        yield bootstrapped(cloud)


def test_bootstrap_prints_a_working_file_and_changes_nothing_twice(
    own_cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed clouds.yaml logs in; a second run keeps ids and password; a third sets one."""
    command = ["bootstrap", "--config", str(own_cloud.directory / "server.toml")]
    assert main(command) == 2
    assert "--public-url" in capsys.readouterr().err
    command += ["--public-url", "http://cloud.example:9696/"]

    assert main(command) == 0
    auth = yaml.safe_load(capsys.readouterr().out)["clouds"]["trunkline"]["auth"]
    assert main(command) == 0
    again = yaml.safe_load(capsys.readouterr().out)["clouds"]["trunkline"]["auth"]

    keystone = Keystone(own_cloud)
    assert keystone.log_in("admin", auth["password"], project="admin").status == 201
    keystone = bootstrapped(own_cloud)  # sets PASSWORD
    assert auth["auth_url"] == "http://cloud.example:9696/identity"
    assert again == {key: value for key, value in auth.items() if key != "password"}
    assert keystone.log_in("admin", auth["password"]).status == 401
    names = [role["name"] for role in keystone.do("GET", "roles")["roles"]]
    assert sorted(names) == ["admin", "agent", "member", "reader", "service"]


def test_bootstrap_reads_the_password_from_standard_input(
    own_cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that it stands in no process list; what is no password is refused."""
    config = str(own_cloud.directory / "server.toml")
    command = ["bootstrap", "--config", config, "--public-url", "http://x", "--password", "-"]
    for given, code in (("\n", 2), ("tuesday\n", 0)):
        source = own_cloud.directory / "given"
        source.write_text(given)
        with source.open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            assert main(command) == code

    assert "password: tuesday" in capsys.readouterr().out


def test_a_password_opens_the_project_it_asks_for(keystone: Keystone) -> None:
    """Scope by name and domain, by id, none, and the usual project; roles and catalog follow."""
    amy = keystone.person("amy", "member", "amys")
    body = keystone.log_in("amy", "amy", project="amys").body["token"]

    assert body["project"]["id"] == amy.project_id
    assert body["user"]["name"] == "amy"
    assert [role["name"] for role in body["roles"]] == ["member"]
    assert {service["type"] for service in body["catalog"]} == {"network", "compute", "identity"}
    by_id = keystone.log_in("amy", "amy", scope={"project": {"id": amy.project_id}})
    assert by_id.body["token"]["project"] == body["project"]
    plain = keystone.log_in("amy", "amy")
    assert not {"project", "roles", "catalog"} & plain.body["token"].keys()
    assert keystone.check(plain.token) == 403
    patch = {"user": {"default_project_id": amy.project_id}}
    keystone.do("PATCH", f"users/{amy.id}", patch)
    assert keystone.log_in("amy", "amy").body["token"]["project"]["id"] == amy.project_id
    assert "project" not in keystone.log_in("amy", "amy", scope="unscoped").body["token"]


def test_a_token_acts_for_its_project(keystone: Keystone) -> None:
    """The Networking API sees the project and roles of the token, as with a users file."""
    ben, cas = keystone.person("ben", "member"), keystone.person("cas", "reader")
    bens = ApiClient(keystone.cloud.url, keystone.log_in("ben", "ben", project="of-ben").token)
    network = bens.create("networks", {})
    bens.close()

    assert network["project_id"] == ben.project_id
    token = keystone.log_in("cas", "cas", project="of-cas").token
    assert keystone.call("GET", f"/v2.0/networks/{network['id']}", token=token).status == 404
    assert keystone.call("POST", "/v2.0/networks", {"network": {}}, token).status == 403
    keystone.grant(cas.id, ben.project_id, "reader")
    token = keystone.log_in("cas", "cas", project="of-ben").token
    assert keystone.call("GET", f"/v2.0/networks/{network['id']}", token=token).status == 200


def test_a_failed_log_in_tells_nothing(keystone: Keystone) -> None:
    """Unknown user, wrong password, no role, disabled: one answer for all, 401."""
    dan = keystone.person("dan", "member")
    keystone.project("elsewhere")
    gone = keystone.person("gone", "member")
    keystone.do("PATCH", f"users/{gone.id}", {"user": {"enabled": False}})
    answers = [
        keystone.log_in("dan", "wrong"),
        keystone.log_in("nobody", "wrong"),
        keystone.log_in("dan", "dan", project="elsewhere"),
        keystone.log_in("dan", "dan", project="nowhere"),
        keystone.log_in("gone", "gone"),
        keystone.by_token("nonsense"),
        keystone.by_credential("secret", id="nonsense"),
        keystone.by_credential("secret", name="x", user={"id": dan.id}),
    ]

    assert {answer.status for answer in answers} == {401}
    assert len({str(answer.body) for answer in answers}) == 1


@pytest.mark.parametrize(
    ("auth", "named"),
    [
        (None, "auth"),
        ([], "auth"),
        ({}, "identity"),
        ({"identity": {}}, "methods"),
        ({"identity": {"methods": "password"}}, "methods"),
        ({"identity": {"methods": ["saml2"]}}, "password, token, application_credential"),
        ({"identity": {"methods": ["password"]}}, "auth.identity.password"),
        ({"identity": {"methods": ["password"], "password": {"user": []}}}, "user"),
        ({"identity": {"methods": ["password"], "password": {"user": {"name": "x"}}}}, "domain"),
        ({"identity": {"methods": ["token"], "token": {"id": "\ud800"}}}, "token.id"),
        ({"identity": {"methods": ["token"], "token": {"id": "x" * 5000}}}, "token.id"),
        (
            {"identity": {"methods": ["token"], "token": {"id": "x"}}, "scope": {"domain": {}}},
            "auth.scope",
        ),
    ],
)
def test_a_malformed_log_in_is_told_where(keystone: Keystone, auth: Any, named: str) -> None:
    """It is 400, in Keystone's shape, and the message names the place."""
    answer = keystone.call("POST", AUTH, {"auth": auth})

    assert answer.status == 400
    assert answer.body["error"]["code"] == 400
    assert named in answer.body["error"]["message"]


def test_tokens_by_tokens_live_no_longer(keystone: Keystone) -> None:
    """A token gets another project's, with its own end; the chain's first audit id stays."""
    eva = keystone.person("eva", "member", "evas")
    second = keystone.project("evas-second")
    keystone.grant(eva.id, second, "reader")
    first = keystone.log_in("eva", "eva")

    answer = keystone.by_token(first.token, {"project": {"id": second}})

    old, new = first.body["token"], answer.body["token"]
    assert new["project"]["id"] == second
    assert new["methods"] == ["password", "token"]
    assert new["audit_ids"][1] == old["audit_ids"][0]
    end = (datetime.now(UTC) + timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    path, wish = f"users/{eva.id}/application_credentials", {"name": "short", "expires_at": end}
    made = keystone.do("POST", path, {"application_credential": wish}, answer.token)
    made = made["application_credential"]
    by_it = keystone.by_credential(made["secret"], id=made["id"])
    for bounded in (by_it, keystone.by_token(by_it.token)):
        assert bounded.body["token"]["expires_at"] == end


def test_revoked_at_once(keystone: Keystone) -> None:
    """A token that its owner ended is refused by the very next request, and is nobody's."""
    keystone.person("fay", "member", "fays")
    token = keystone.log_in("fay", "fay", project="fays").token
    assert keystone.check(token) == 200

    assert keystone.call("DELETE", AUTH, token=token, X_Subject_Token=token).status == 204

    assert keystone.check(token) == 401
    assert keystone.by_token(token).status == 401
    found = keystone.call("GET", AUTH, token=keystone.admin, X_Subject_Token=token)
    assert found.status == 404


def end_by(*path: str, method: str = "PATCH", body: Any = None) -> Callable[..., None]:
    """Return what ends a token by one request; {0.id} and the like stand for its owner's."""

    def end(keystone: Keystone, owner: Person) -> None:
        where = "/".join(path).format(owner, member=keystone.role("member"))
        keystone.do(method, where, body)

    return end


ENDS = {
    "user disabled": end_by("users/{0.id}", body={"user": {"enabled": False}}),
    "user deleted": end_by("users/{0.id}", method="DELETE"),
    "password set": end_by("users/{0.id}", body={"user": {"password": "new"}}),
    "project disabled": end_by("projects/{0.project_id}", body={"project": {"enabled": False}}),
    "project deleted": end_by("projects/{0.project_id}", method="DELETE"),
    "role taken": end_by("projects/{0.project_id}/users/{0.id}/roles/{member}", method="DELETE"),
}


@pytest.mark.parametrize("way", ENDS)
def test_what_ends_tokens(keystone: Keystone, way: str) -> None:
    """Whoever may not get the token any more cannot use one got before, from the next request."""
    owner = keystone.person(f"end-{way}", "member")
    token = keystone.log_in(owner.name, owner.name, project=f"of-{owner.name}").token
    assert keystone.check(token) == 200

    ENDS[way](keystone, owner)

    assert keystone.check(token) == 401
    assert keystone.by_token(token).status == 401


def test_a_disabled_domain_ends_its_tokens(keystone: Keystone) -> None:
    """Users of a domain are shut out with it; it goes only when it is disabled."""
    made = keystone.do("POST", "domains", {"domain": {"name": "guests"}})["domain"]
    user = {"name": "gus", "password": "gus", "domain_id": made["id"]}
    keystone.do("POST", "users", {"user": user})
    named = {"name": "gus", "domain": {"name": "guests"}, "password": "gus"}
    auth = {"identity": {"methods": ["password"], "password": {"user": named}}}
    token = keystone.call("POST", AUTH, {"auth": auth}).token
    path = f"/identity/v3/domains/{made['id']}"

    assert keystone.call("DELETE", path, token=keystone.admin).status == 403
    keystone.do("PATCH", f"domains/{made['id']}", {"domain": {"enabled": False}})

    assert keystone.check(token) == 401
    assert keystone.call("POST", AUTH, {"auth": auth}).status == 401
    assert keystone.call("DELETE", path, token=keystone.admin).status == 204
    assert keystone.do("GET", "users?name=gus")["users"] == []
    default = "/identity/v3/domains/default"
    keystone.do("PATCH", "domains/default", {"domain": {"description": "usual"}})
    assert keystone.call("DELETE", default, token=keystone.admin).status == 403


def test_ones_own_password(keystone: Keystone) -> None:
    """It takes the old one, ends the tokens got by it, and is one's own only."""
    hal, ida = keystone.person("hal", "member"), keystone.person("ida", "member")
    token = keystone.log_in("hal", "hal", project="of-hal").token
    change = {"user": {"original_password": "wrong", "password": "fresh"}}
    path = f"/identity/v3/users/{hal.id}/password"

    assert keystone.call("POST", path, change, token).status == 401
    change["user"]["original_password"] = "hal"
    others = f"/identity/v3/users/{ida.id}/password"
    assert keystone.call("POST", others, change, token).status == 404
    assert keystone.call("POST", path, change, token).status == 204

    assert keystone.check(token) == 401
    assert keystone.log_in("hal", "hal").status == 401
    assert keystone.log_in("hal", "fresh").status == 201


def test_application_credentials(keystone: Keystone) -> None:
    """A program gets its maker's roles, or some, in one project, until the credential goes."""
    jan = keystone.person("jan", "member", "jans")
    keystone.grant(jan.id, jan.project_id, "reader")
    mine = keystone.log_in("jan", "jan", project="jans").token
    path = f"users/{jan.id}/application_credentials"
    wish = {"name": "backup", "roles": [{"name": "reader"}]}
    made = keystone.do("POST", path, {"application_credential": wish}, mine)
    made = made["application_credential"]

    named = {"name": "backup", "user": {"name": "jan", "domain": {"id": "default"}}}
    for answer in (
        keystone.by_credential(made["secret"], id=made["id"]),
        keystone.by_credential(made["secret"], **named),
    ):
        body = answer.body["token"]
        assert body["project"]["id"] == jan.project_id
        assert [role["name"] for role in body["roles"]] == ["reader"]
        assert body["application_credential"]["restricted"] is True
    token = answer.token
    assert keystone.call("POST", "/v2.0/networks", {"network": {}}, token).status == 403
    refused = keystone.call(
        "POST", f"/identity/v3/{path}", {"application_credential": {"name": "x"}}, token
    )
    assert refused.status == 403
    assert keystone.by_token(token, "unscoped").status == 401
    shown = keystone.do("GET", f"{path}/{made['id']}", None, mine)["application_credential"]
    assert "secret" not in shown
    assert keystone.do("GET", f"{path}?name=nothing", None, mine)["application_credentials"] == []

    keystone.do("DELETE", f"{path}/{made['id']}", None, mine)

    assert keystone.check(token) == 401
    assert keystone.by_credential(made["secret"], id=made["id"]).status == 401


def test_a_credential_has_no_more_than_its_maker(keystone: Keystone) -> None:
    """Roles that the maker has not, or loses, and an end that has passed, open nothing."""
    kim = keystone.person("kim", "member", "kims")
    mine = keystone.log_in("kim", "kim", project="kims").token
    path = f"/identity/v3/users/{kim.id}/application_credentials"
    wrong: list[dict[str, Any]] = [
        {"name": "x", "roles": [{"name": "admin"}]},
        {"name": "x", "roles": [{"colour": "blue"}]},
        {"name": "x", "expires_at": "2020-01-01T00:00:00Z"},
        {"name": "x", "expires_at": "tomorrow"},
        {"name": "x", "access_rules": [{"path": "/"}]},
        {"name": "x", "colour": "blue"},
        {"name": ""},
        {},
    ]
    for wish in wrong:
        answer = keystone.call("POST", path, {"application_credential": wish}, mine)
        assert answer.status == 400, wish
    unscoped = keystone.log_in("kim", "kim").token
    wish = {"application_credential": {"name": "x"}}
    assert keystone.call("POST", path, wish, unscoped).status == 400

    made = keystone.call("POST", path, wish, mine).body["application_credential"]
    assert keystone.call("POST", path, wish, mine).status == 409
    taken = f"projects/{kim.project_id}/users/{kim.id}/roles/{keystone.role('member')}"
    keystone.do("DELETE", taken)
    assert keystone.by_credential(made["secret"], id=made["id"]).status == 401


def test_an_expired_credential_opens_nothing(own_cloud: Cloud) -> None:
    """Its end comes, and ends its tokens with it."""
    keystone = bootstrapped(own_cloud)
    admin = keystone.do("GET", "users?name=admin")["users"][0]["id"]
    path = f"users/{admin}/application_credentials"
    wish = {"name": "short", "expires_at": "2100-01-01T00:00:00"}
    made = keystone.do("POST", path, {"application_credential": wish})["application_credential"]
    body = keystone.by_credential(made["secret"], id=made["id"]).body["token"]
    assert body["expires_at"] < made["expires_at"]

    database = sqlite3.connect(own_cloud.directory / "trunkline.db")
    database.execute("UPDATE application_credentials SET expires_at = '2026-01-01T00:00:00Z'")
    database.commit()
    database.close()

    assert keystone.by_credential(made["secret"], id=made["id"]).status == 401


def test_validation_is_for_oneself_and_for_services(keystone: Keystone) -> None:
    """Neighbouring services learn whom a token stands for; users about their own tokens only."""
    keystone.person("lea", "member", "leas")
    keystone.person("glance", "service", "service")
    lea = keystone.log_in("lea", "lea", project="leas").token
    glance = keystone.log_in("glance", "glance", project="service").token

    for asker in (lea, glance, keystone.admin):
        answer = keystone.call("GET", AUTH, token=asker, X_Subject_Token=lea)
        assert answer.body["token"]["user"]["name"] == "lea"
        assert answer.headers["x-subject-token"] == lea
        head = keystone.call("HEAD", AUTH, token=asker, X_Subject_Token=lea)
        assert (head.status, head.body) == (200, None)
    assert keystone.call("GET", AUTH, token=lea, X_Subject_Token=glance).status == 403
    assert keystone.call("DELETE", AUTH, token=glance, X_Subject_Token=lea).status == 403
    plain = keystone.call("GET", f"{AUTH}?nocatalog", token=lea, X_Subject_Token=lea)
    assert "catalog" not in plain.body["token"]


def test_one_sees_oneself(keystone: Keystone) -> None:
    """A member finds the own user, projects and domain; of others there is nothing."""
    max_ = keystone.person("max", "member", "maxs")
    other = keystone.person("nia", "member", "nias")
    token = keystone.log_in("max", "max", project="maxs").token

    assert [u["name"] for u in keystone.do("GET", "users", None, token)["users"]] == ["max"]
    own = keystone.do("GET", "projects", None, token)["projects"]
    assert [project["name"] for project in own] == ["maxs"]
    assert keystone.do("GET", f"users/{max_.id}/projects", None, token)["projects"] == own
    for path in ("auth/projects", "projects?name=maxs"):
        found = keystone.do("GET", path, None, token)["projects"]
        assert [project["id"] for project in found] == [max_.project_id]
    for path in (f"users/{other.id}", f"projects/{other.project_id}", "projects/nias"):
        assert keystone.call("GET", f"/identity/v3/{path}", token=token).status == 404
    assert keystone.do("GET", "projects?name=nias", None, token)["projects"] == []
    others = f"/identity/v3/users/{other.id}/projects"
    assert keystone.call("GET", others, token=token).status == 404
    for path, body in (("users", {"user": {}}), ("projects", {"project": {}})):
        assert keystone.call("POST", f"/identity/v3/{path}", body, token).status == 403


def test_the_catalog_follows_the_request(keystone: Keystone) -> None:
    """Clients are sent where they came from, links too."""
    answer = keystone.call("GET", "/identity/v3", Host="cloud.example:81")
    assert answer.body["version"]["links"][0]["href"] == "http://cloud.example:81/identity/v3/"
    catalog = keystone.call(
        "GET", "/identity/v3/auth/catalog", token=keystone.admin, Host="cloud.example:81"
    )
    urls = [e["url"] for s in catalog.body["catalog"] for e in s["endpoints"]]
    ends = ("", "/identity/v3", "/compute/v2.1")
    assert set(urls) == {f"http://cloud.example:81{end}" for end in ends}
    for path in ("/identity", "/identity/"):
        versions = keystone.call("GET", path)
        assert versions.status == 300
        assert versions.body["versions"]["values"][0]["id"].startswith("v3.")


def test_a_configured_url_is_told_to_everybody(own_cloud: Cloud) -> None:
    """Behind a proxy that ends TLS, clients are told its address."""
    own_cloud.end()
    config = own_cloud.directory / "server.toml"
    config.write_text(f'public_url = "https://cloud.example/net/"\n{config.read_text()}')
    own_cloud.start()
    keystone = bootstrapped(own_cloud)

    catalog = keystone.do("GET", "auth/catalog")["catalog"]

    urls = {e["url"] for s in catalog for e in s["endpoints"]}
    ends = ("", "/identity/v3", "/compute/v2.1")
    assert urls == {f"https://cloud.example/net{end}" for end in ends}
    href = keystone.call("GET", "/v2.0/").body["version"]["links"][0]["href"]
    assert href == "https://cloud.example/net/v2.0/"


def test_tokens_outlive_a_restart_and_expire(own_cloud: Cloud) -> None:
    """A token is good until its end, whatever becomes of the server, and not longer."""
    keystone = bootstrapped(own_cloud)
    own_cloud.end(signal.SIGKILL)
    config = own_cloud.directory / "server.toml"
    config.write_text(config.read_text() + "[identity]\ntoken_seconds = 1\n")
    own_cloud.start()

    assert keystone.check(keystone.admin) == 200
    short = keystone.log_in("admin", PASSWORD, project="admin").token
    until("the token expires", lambda: keystone.check(short) == 401)
    assert keystone.check(keystone.admin) == 200


def test_other_servers_know_within_a_second(own_cloud: Cloud) -> None:
    """A second process on the same database refuses what the first one revoked."""
    keystone = bootstrapped(own_cloud)
    token = keystone.log_in("admin", PASSWORD, project="admin").token
    other = Cloud(Path(f"{own_cloud.directory}-2"))
    other.directory.mkdir()
    other.write_files()
    config = other.directory / "server.toml"
    path = f"sqlite:///{own_cloud.directory}/trunkline.db"
    config.write_text(re.sub(r"sqlite:[^\"]*", path, config.read_text()))
    other.start()
    try:
        client = ApiClient(other.url, token)
        assert client.list("networks") == []
        keystone.call("DELETE", AUTH, token=token, X_Subject_Token=token)
        assert keystone.check(token) == 401

        def refused() -> bool:
            try:
                client.list("networks")
            except Unauthorized:
                return True
            return False

        until("the other server refuses it", refused, 2)
        client.close()
    finally:
        other.end()


def test_no_secret_is_kept(own_cloud: Cloud) -> None:
    """Whoever reads the database learns no password, secret or token."""
    keystone = bootstrapped(own_cloud)
    admin = keystone.do("GET", "users?name=admin")["users"][0]["id"]
    path = f"users/{admin}/application_credentials"
    wish = {"application_credential": {"name": "x", "secret": "credential secret"}}
    keystone.do("POST", path, wish)
    own_cloud.end()

    kept = b"".join(file.read_bytes() for file in own_cloud.directory.glob("trunkline.db*"))

    assert b"$argon2id$" in kept
    for secret in (PASSWORD, "credential secret", keystone.admin):
        assert secret.encode() not in kept
        assert secret not in own_cloud.log


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("projects", {"project": {"name": ""}}),
        ("projects", {"project": {"name": "x" * 256}}),
        ("projects", {"project": {"name": "x", "is_domain": True}}),
        ("projects", {"project": {"name": "x", "colour": "blue"}}),
        ("projects", {"project": []}),
        ("projects", {}),
        ("users", {"user": {"name": "x", "password": ""}}),
        ("users", {"user": {"name": "x", "password": 5}}),
        ("users", {"user": {"name": "x", "password": "\ud800"}}),
        ("users", {"user": {"name": "x", "enabled": "perhaps"}}),
        ("users", {"user": {"name": "x\x00"}}),
        ("users", {"user": {"password": "x"}}),
    ],
)
def test_bad_input_is_refused(keystone: Keystone, path: str, body: Any) -> None:
    """It is 400 with a sentence, and nothing is made."""
    before = keystone.do("GET", path)

    answer = keystone.call("POST", f"/identity/v3/{path}", body, keystone.admin)

    assert answer.status == 400
    assert answer.body["error"]["message"]
    assert keystone.do("GET", path) == before


def test_names_are_taken_once(keystone: Keystone) -> None:
    """A name is one project's in a domain, also when it is set later."""
    keystone.project("twin")
    other = keystone.project("other")
    wish = {"project": {"name": "twin"}}

    assert keystone.call("POST", "/identity/v3/projects", wish, keystone.admin).status == 409
    path = f"/identity/v3/projects/{other}"
    assert keystone.call("PATCH", path, wish, keystone.admin).status == 409
    nowhere = {"project": {"name": "x", "domain_id": "nowhere"}}
    assert keystone.call("POST", "/identity/v3/projects", nowhere, keystone.admin).status == 404


def test_roles_are_given_and_taken(keystone: Keystone) -> None:
    """Assignments are listed by what they concern; what does not exist is 404."""
    oda = keystone.person("oda", "member")
    member = keystone.role("member")
    path = f"projects/{oda.project_id}/users/{oda.id}/roles"

    found = keystone.do("GET", f"role_assignments?user.id={oda.id}&include_names=True")
    (assignment,) = found["role_assignments"]
    assert assignment["role"] == {"id": member, "name": "member"}
    assert assignment["scope"]["project"]["name"] == "of-oda"
    assert keystone.do("GET", "role_assignments?group.id=x")["role_assignments"] == []
    keystone.do("PUT", f"{path}/{member}")  # once more changes nothing
    assert [role["name"] for role in keystone.do("GET", path)["roles"]] == ["member"]
    keystone.do("DELETE", f"{path}/{member}")
    for method, where in (
        ("GET", f"{path}/{member}"),
        ("DELETE", f"{path}/{member}"),
        ("PUT", f"{path}/nothing"),
        ("PUT", f"projects/nothing/users/{oda.id}/roles/{member}"),
        ("PUT", f"projects/{oda.project_id}/users/nothing/roles/{member}"),
    ):
        answer = keystone.call(method, f"/identity/v3/{where}", token=keystone.admin)
        assert answer.status == 404, where


def test_the_audit_tells_who_let_whom_in(keystone: Keystone) -> None:
    """Users, roles and credentials that come and go are told of, and no secret with them."""
    rex = keystone.person("rex", "member", "rexs")
    mine = keystone.log_in("rex", "rex", project="rexs").token
    path = f"users/{rex.id}/application_credentials"
    wish = {"name": "a", "secret": "hush"}
    made = keystone.do("POST", path, {"application_credential": wish}, mine)
    keystone.do("DELETE", f"{path}/{made['application_credential']['id']}", None, mine)
    keystone.do("DELETE", f"users/{rex.id}")

    answer = keystone.call("GET", "/v2.0/audit-events", token=keystone.admin)

    events = answer.body["audit_events"]
    told = [
        (event["user_name"], event["action"], event["resource_type"])
        for event in events
        if rex.id in str(event)
    ]
    assert sorted(told) == [
        ("admin", "create", "role_assignment"),
        ("admin", "create", "user"),
        ("admin", "delete", "user"),
        ("rex", "create", "application_credential"),
        ("rex", "delete", "application_credential"),
    ]
    assert "hush" not in str(events)
    assert "argon2" not in str(events)


def test_the_rest_of_keystone_says_that_it_is_not_here(keystone: Keystone) -> None:
    """Whoever takes it for a full Keystone is told what it is."""
    answer = keystone.call("GET", "/identity/v3/groups", token=keystone.admin)

    assert answer.status == 404
    assert "Trunkline's own identity" in answer.body["error"]["message"]


def test_guessing_passwords_is_slowed_down(keystone: Keystone) -> None:
    """After ten failures a user's next log-in from there waits; who knows the password, too."""
    keystone.person("pia", "member")
    started = time.monotonic()
    answers = [keystone.log_in("pia", "guess") for _ in range(10)]

    def long_wait() -> Answer | None:
        answers.append(keystone.log_in("pia", "guess"))
        return answers[-1] if int(answers[-1].headers.get("retry-after", 0)) > 3 else None

    late = until("log-ins have to wait", long_wait)
    assert late.status == 429
    assert int(late.headers["retry-after"]) <= 7
    assert keystone.log_in("pia", "pia").status == 429
    tried = sum(answer.status == 401 for answer in answers)
    assert tried <= 10 + (time.monotonic() - started) / 6
    assert keystone.log_in("admin", PASSWORD).status == 201


def test_a_throttle_forgives() -> None:
    """Failures are forgotten in time, a success does not count, and other keys are other keys."""
    now = 1000.0
    throttle = Throttle(failures=2, every_s=10.0, clock=lambda: now)
    for _ in range(2):
        throttle.charge("a")
    for _ in range(5):
        throttle.charge("b")
        throttle.succeeded("b")
    with pytest.raises(TooManyRequests, match="11 s") as refusal:
        throttle.charge("a")
    assert refusal.value.after_s == 11
    now += 10.5
    throttle.charge("a")
    with pytest.raises(TooManyRequests):
        throttle.charge("a")


def test_log_ins_hold_nobody_up(keystone: Keystone) -> None:
    """While passwords are hashed, other requests are answered."""
    for name in ("qa", "qb"):
        keystone.person(name, "member")
    with ThreadPoolExecutor(8) as pool:
        logging_in = [pool.submit(keystone.log_in, name, name) for name in ("qa", "qb") * 4]
        answered = 0
        while not all(future.done() for future in logging_in):
            assert keystone.check(keystone.admin) == 200
            answered += 1
    assert answered > len(logging_in)
    assert {future.result().status for future in logging_in} == {201}
