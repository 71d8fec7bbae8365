"""The server as a process: configuration, schema, how it ends, what survives."""

from __future__ import annotations

import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from running import Cloud
from sqlalchemy import select

from trunkline.api.config import load
from trunkline.client import ApiClient
from trunkline.core.allocate import Limits
from trunkline.db.engine import Database, Transaction, add_host
from trunkline.db.identity import metadata
from trunkline.db.schema import upgrade
from trunkline.db.tables import networks, routers
from trunkline.errors import Conflict, Invalid, ServerUnavailable
from trunkline.lab.waiting import limit_s, until
from trunkline.model import HostName
from trunkline.service.hosts import revisions


def database(path: Path) -> Database:
    """Return a database in a file."""
    return Database(f"sqlite:///{path}", Limits())


def test_sigterm_ends_the_server_cleanly(own_cloud: Cloud) -> None:
    """It sends waiting agents home, removes its socket, and exits with 0."""
    with own_cloud.agent("h1") as agent, ThreadPoolExecutor(1) as pool:
        start = agent.snapshot(None, 0)
        assert start is not None
        waiting = pool.submit(agent.snapshot, start.revision, limit_s(60))
        until("the agent is waiting", waiting.running)

        code = own_cloud.end(signal.SIGTERM)

        assert waiting.exception(limit_s(20)) is None or isinstance(
            waiting.exception(), ServerUnavailable
        )
    assert code == 0
    assert not (own_cloud.directory / "api.sock").exists()
    assert "Traceback" not in own_cloud.log


def test_sigkill_loses_nothing_acknowledged(own_cloud: Cloud) -> None:
    """Whatever was answered before the kill is there after the restart, and works on."""
    network = own_cloud.network()
    acknowledged: list[str] = []

    def create() -> None:
        client = ApiClient(own_cloud.url, "alice")
        try:
            while True:
                port = client.create("ports", {"network_id": network["id"]})
                acknowledged.append(port["id"])
        except (ServerUnavailable, Conflict):
            client.close()

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(create) for _ in range(4)]
        until("some ports are made", lambda: len(acknowledged) > 30)
        own_cloud.end(signal.SIGKILL)
        for future in futures:
            future.result(limit_s(20))
    own_cloud.start()

    stored = {port["id"] for port in own_cloud.alice.list("ports")}
    assert set(acknowledged) <= stored
    fresh = own_cloud.alice.create("ports", {"network_id": network["id"]})
    assert fresh["id"] not in stored


def test_a_second_server_on_the_same_socket_is_refused(own_cloud: Cloud) -> None:
    """It says who is in the way, and the first one goes on."""
    second = own_cloud.spawn()

    assert second.wait(limit_s(20)) == 2
    assert "another server answers" in own_cloud.log
    assert own_cloud.alice.list("networks") == []


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/x.db", "nonsense", "oracle9://x/y", "sqlite:////proc/version"]
)
def test_a_database_that_does_not_open_is_named(own_cloud: Cloud, url: str) -> None:
    """The server does not start, and says which database and why."""
    own_cloud.end()
    config = own_cloud.directory / "server.toml"
    usual = f"sqlite:///{own_cloud.directory}/trunkline.db"
    config.write_text(config.read_text().replace(usual, url))

    assert own_cloud.spawn().wait(limit_s(20)) == 2
    assert url in own_cloud.log
    assert "Traceback" not in own_cloud.log


def test_one_line_per_request(cloud: Cloud) -> None:
    """The log says who asked for what, and how it ended."""
    cloud.alice.list("networks")

    until("the line is written", lambda: "GET /v2.0/networks 200" in cloud.log)
    assert "user=alice" in cloud.log


def test_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    """What the migrations build is what the code says; a second run changes nothing."""
    db = database(tmp_path / "x.db")
    upgrade(db)
    upgrade(db)

    with db.connection() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
    db.close()


def test_older_networks_come_on_the_default_router(tmp_path: Path) -> None:
    """A database from before there were routers means what it meant, gateway by gateway."""
    db = database(tmp_path / "x.db")
    upgrade(db, "0001")
    with db.connection() as connection:
        for number, gateway in enumerate(("'10.0.0.1'", "NULL")):
            connection.exec_driver_sql(
                "INSERT INTO networks VALUES"
                f" ('n{number}', 'p', '', 0, '', '', '', 1, 1500, 0, 0, 'vlan', 'p', {number})"
            )
            connection.exec_driver_sql(
                f"INSERT INTO subnets VALUES ('s{number}', 'p', '', 0, '', '', 'n{number}', '', 4,"
                f" '10.0.{number}.0/24', {gateway}, 1, '[]', '[]', '[]', NULL)"
            )
    upgrade(db)

    with db.connection() as connection:
        on = routers.c.id == networks.c.router_id
        found = select(networks.c.id, routers.c.is_default).join(routers, on, isouter=True)
        rows = connection.execute(found).all()
    assert sorted(map(tuple, rows)) == [("n0", True), ("n1", None)]
    db.close()


def test_older_networks_with_one_vlan_id_get_different_names(tmp_path: Path) -> None:
    """The older one keeps ``br100``, as it was served where both were to be."""
    db = database(tmp_path / "x.db")
    upgrade(db, "0001")
    with db.connection() as connection:
        for name, created in (("young", "2026"), ("old", "2025"), ("other", "2026")):
            connection.exec_driver_sql(
                "INSERT INTO networks VALUES"
                f" ('{name}', 'p', '', 0, '{created}', '', '', 1, 1500, 0, 0, 'vlan', '{name}',"
                f" {200 if name == 'other' else 100})"
            )
    upgrade(db)

    with db.connection() as connection:
        rows = connection.execute(select(networks.c.id, networks.c.namesake)).all()
    assert sorted(map(tuple, rows)) == [("old", 0), ("other", 0), ("young", 1)]
    db.close()


def test_a_newer_database_is_refused_by_name(tmp_path: Path) -> None:
    """Going back would lose data, so the message says what to start instead."""
    db = database(tmp_path / "x.db")
    upgrade(db)
    db.close()
    raw = sqlite3.connect(tmp_path / "x.db")
    raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.commit()
    raw.close()
    newer = database(tmp_path / "x.db")

    with pytest.raises(Conflict, match="9999"):
        upgrade(newer)
    newer.close()


def test_commits_are_durable_and_keys_are_checked(tmp_path: Path) -> None:
    """SQLite keeps its promises only if told to, on each connection."""
    db = database(tmp_path / "x.db")

    with db.read() as tx:
        found = {
            pragma: tx.connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()
            for pragma in ("journal_mode", "synchronous", "foreign_keys")
        }
    db.close()

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_lost_race_is_run_again(tmp_path: Path) -> None:
    """A violated constraint undoes the attempt, and the work runs again from the start."""
    db = database(tmp_path / "x.db")
    upgrade(db)
    db.write(lambda tx: add_host(tx, HostName("taken")))
    wishes = ["taken", "free"]

    def work(tx: Transaction) -> str:
        name = wishes.pop(0)
        add_host(tx, HostName(f"beside-{name}"))
        add_host(tx, HostName(name))
        return name

    assert db.write(work) == "free"
    with db.read() as tx:
        assert set(revisions(tx)) == {"taken", "free", "beside-free"}
    db.close()


def test_a_race_lost_for_ever_is_a_conflict(tmp_path: Path) -> None:
    """The attempts are bounded, and the refusal asks to send it again."""
    db = database(tmp_path / "x.db")
    upgrade(db)
    db.write(lambda tx: add_host(tx, HostName("taken")))

    with pytest.raises(Conflict, match="again") as refusal:
        db.write(lambda tx: add_host(tx, HostName("taken")))
    db.close()
    assert refusal.value.kind == "RetryRequest"


GOOD: dict[str, Any] = {
    "listen": ["http://127.0.0.1:9696"],
    "database": "sqlite:////x.db",
    "users": "/users.yaml",
}


def written(path: Path, **changes: Any) -> Path:
    """Write a configuration file with changes; None leaves a key out."""
    lines = [f"{k} = {v!r}" for k, v in {**GOOD, **changes}.items() if v is not None]
    path.write_text("\n".join(lines).replace("'", '"'))
    return path


def test_a_configuration(tmp_path: Path) -> None:
    """Addresses, ranges and prefixes come out as values."""
    path = written(
        tmp_path / "c", listen=["http://[::1]:80", "unix:/x"], reserved_prefixes=["192.0.2.0/24"]
    )
    path.write_text(
        path.read_text() + "\n[vlan_ranges]\na = [1, 2]\nb = [[3, 3], [5, 9]]\nc = []\n"
    )

    config = load(path)

    assert config.listen == (("::1", 80), Path("/x"))
    assert config.limits.vlan_ranges == {"a": [(1, 2)], "b": [(3, 3), (5, 9)], "c": []}
    assert [str(prefix) for prefix in config.limits.reserved_prefixes] == ["192.0.2.0/24"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"listen": None}, "listen"),
        ({"users": 5}, "users"),
        ({"policy": ""}, "policy"),
        ({"public_url": "cloud.example"}, "public_url"),
        ({"identity": 5}, "identity"),
        ({"database": None}, "database"),
        ({"colour": "blue"}, "colour"),
        ({"listen": "http://x:1"}, "listen"),
        ({"listen": ["https://x:1"]}, "listen"),
        ({"listen": ["http://x:99999"]}, "[Pp]ort"),
        ({"reserved_prefixes": ["x"]}, "x"),
        ({"audit_retention_days": 0}, "audit_retention_days"),
        ({"quotas": 5}, "quotas"),
        ({"vlan_ranges": 5}, "vlan_ranges"),
    ],
)
def test_a_wrong_configuration_names_file_and_key(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """What cannot be meant is refused before anything starts."""
    path = written(tmp_path / "server.toml", **changes)

    with pytest.raises(Invalid, match=message) as refusal:
        load(path)
    assert "server.toml" in str(refusal.value)


@pytest.mark.parametrize("vlans", ["[0, 9]", "[9, 1]", "[1, 4095]", "[1]", '"all"', "[[1, 2], 3]"])
def test_a_wrong_vlan_range_is_named(tmp_path: Path, vlans: str) -> None:
    """Ranges are within what 802.1Q has."""
    path = written(tmp_path / "c")
    path.write_text(path.read_text() + f"\n[vlan_ranges]\nphysnet7 = {vlans}\n")

    with pytest.raises(Invalid, match="physnet7"):
        load(path)


@pytest.mark.parametrize("quota", ["ports = 5", "port = -2", 'port = "many"', "port = true"])
def test_a_wrong_default_quota_is_named(tmp_path: Path, quota: str) -> None:
    """A resource that has none, and what is no number."""
    path = written(tmp_path / "c")
    path.write_text(path.read_text() + f"\n[quotas]\n{quota}\n")

    with pytest.raises(Invalid, match=f"quotas.{quota.partition(' ')[0]}"):
        load(path)


def test_an_unreachable_server_is_said_to_be_so(tmp_path: Path) -> None:
    """The client names the server it did not reach, and that trying again may help."""
    client = ApiClient(f"unix:{tmp_path}/nobody.sock", "x")

    with pytest.raises(ServerUnavailable, match=r"nobody\.sock") as failure:
        client.list("networks")
    assert failure.value.retryable


@pytest.mark.parametrize("url", ["ftp://x", "x", "", "http://x:port"])
def test_a_wrong_server_url_is_named(url: str) -> None:
    """The client speaks HTTP over TCP or a Unix socket."""
    with pytest.raises(Invalid, match="http://"):
        ApiClient(url, "x")


def test_a_client_outlives_a_restart_of_the_server(own_cloud: Cloud) -> None:
    """A kept connection that the server has closed is opened again."""
    client = ApiClient(own_cloud.url, "alice")
    assert client.list("networks") == []
    own_cloud.end()
    own_cloud.start()

    assert client.list("networks") == []
    client.close()
