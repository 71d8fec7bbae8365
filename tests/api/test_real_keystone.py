"""In an OpenStack cloud: tokens of a real Keystone, validated by keystonemiddleware."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from keystone import Keystone
from real_keystone import PASSWORD, RealKeystone, real_keystone
from running import Cloud

from trunkline.cli.main import main
from trunkline.client import ApiClient
from trunkline.lab.waiting import limit_s, until

SECTION = """
[identity.keystone]
auth_url = "{url}"
username = "admin"
password = "{password}"
project_name = "admin"
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKeystone]:
    """Lend a Keystone."""
    with real_keystone(tmp_path_factory.mktemp("real")) as keystone:
        yield keystone


@pytest.fixture(scope="module")
def trusting(real: RealKeystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Lend a cloud that trusts it."""
    cloud = Cloud(tmp_path_factory.mktemp("trusting"))
    cloud.write_files()
    with (cloud.directory / "server.toml").open("a") as config:
        config.write(SECTION.format(url=real.url, password=PASSWORD))
    cloud.start()
    yield cloud
    cloud.end()


@pytest.mark.timeout(600)
def test_keystones_tokens_are_trusted(real: RealKeystone, trusting: Cloud) -> None:
    """Project and roles are Keystone's; a project sees its own, a reader only reads."""
    http = Keystone(trusting)
    member, reader = real.person("mia", "blue", "member"), real.person("rob", "blue", "reader")
    other = real.person("otto", "red", "member")
    client = ApiClient(trusting.url, member)
    network = client.create("networks", {"name": "n"})
    client.close()
    path = f"/v2.0/networks/{network['id']}"

    assert network["project_id"] == real.ids["blue"]
    for token, status in ((member, 200), (reader, 200), (other, 404), (real.token, 200)):
        assert http.call("GET", path, token=token).status == status
    assert http.call("POST", "/v2.0/networks", {"network": {}}, reader).status == 403
    assert http.call("GET", path, token=real.log_in("mia", "mia", None)).status == 403
    assert http.call("GET", path, token="nonsense").status == 401
    assert trusting.alice.list("networks") == []  # the users file's tokens are good, too
    assert "user=mia" in trusting.log


def test_what_keystone_ends_is_refused(real: RealKeystone, trusting: Cloud) -> None:
    """A revoked token is refused within seconds."""
    http = Keystone(trusting)
    token = real.person("rita", "blue", "member")
    assert http.check(token) == 200

    real.call("DELETE", "auth/tokens", X_Subject_Token=token)

    until("it is refused", lambda: http.check(token) == 401)


def test_the_own_identity_is_not_there(
    real: RealKeystone, trusting: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is one identity: no log-in here, and no bootstrap."""
    config = str(trusting.directory / "server.toml")

    assert Keystone(trusting).call("GET", "/identity/v3").status == 404
    assert main(["bootstrap", "--config", config, "--public-url", "http://x"]) == 2
    assert real.url in capsys.readouterr().err


def test_a_silent_keystone_is_no_open_door(own_cloud: Cloud) -> None:
    """Nobody answers: 503, which says where to look; static tokens go on."""
    own_cloud.end()
    with (own_cloud.directory / "server.toml").open("a") as config:
        config.write(SECTION.format(url="http://127.0.0.1:1/v3", password="x"))
    own_cloud.start()

    answer = Keystone(own_cloud).call("GET", "/v2.0/networks", token="unknown")

    assert answer.status == 503
    assert "http://127.0.0.1:1/v3" in answer.body["NeutronError"]["message"]
    assert own_cloud.alice.list("networks") == []


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[identity]\ncolour = 1", "identity: unknown key 'colour'"),
        ("[identity]\ntoken_seconds = 0", "identity.token_seconds"),
        ("[identity]\nkeystone = 5", "identity.keystone must be a table"),
        ("[identity.keystone]\nauth_url = 'x'", "identity.keystone.username is missing"),
        (f"{SECTION}region = 'x'", "identity.keystone: unknown key 'region'"),
        (f"{SECTION}cafile = 5", "identity.keystone.cafile"),
        (f"{SECTION}interface = 'x'", "identity.keystone.interface"),
    ],
)
def test_a_wrong_section_is_refused_by_name(own_cloud: Cloud, section: str, message: str) -> None:
    """The server does not start, and names the key."""
    own_cloud.end()
    with Path(own_cloud.directory / "server.toml").open("a") as config:
        config.write(section)

    assert own_cloud.spawn().wait(limit_s(20)) == 2
    assert message in own_cloud.log
