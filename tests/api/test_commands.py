"""``trunkline net``, ``port`` and so on: the commands for those who have no OpenStack client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import Cloud

from trunkline.api.resources import RESOURCES
from trunkline.cli.kinds import KINDS
from trunkline.cli.main import main
from trunkline.lab.waiting import limit_s

Said = tuple[int, str, str]
Say = Callable[..., Said]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Clear what the tests' own surroundings say of clouds."""
    names = ("CLOUD", "AUTH_URL", "USERNAME", "PASSWORD", "PROJECT_NAME", "AUTH_TYPE", "ENDPOINT")
    for name in (*(f"OS_{name}" for name in names), "TRUNKLINE_SERVER", "TRUNKLINE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def say(cloud: Cloud, bare: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Return what runs a command as alice and answers exit code, output and complaints."""
    bare.setenv("TRUNKLINE_SERVER", cloud.url)
    bare.setenv("TRUNKLINE_TOKEN", "alice")

    def run(*words: str) -> Said:
        code = main(words)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def made(say: Say, *words: str) -> dict[str, Any]:
    """Run a command that has to succeed and return what it prints as JSON."""
    code, out, err = say(*words, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.command)
def test_options_and_columns_are_attributes_of_the_api(kind: Any) -> None:
    """What a command sets, shows and filters by, the API has."""
    known = RESOURCES[kind.collection].table.by_name
    options = {option.attribute for option in kind.options}

    assert options | set(kind.columns.values()) | {kind.named_by} <= known.keys() | {"prefixlen"}
    for option in kind.options:
        assert not option.lists or known[option.attribute].filter is not None
        assert option.on.value == "create" or known[option.attribute].put


def test_a_networks_life(say: Say, cloud: Cloud) -> None:
    """A network is made with its subnet, seen by name and id, changed, and deleted."""
    prefix = str(next(cloud.prefixes))
    network = made(say, "net", "create", "life", "--prefix", prefix, "--mtu", "1400")

    listed = say("net", "list", "name=life")[1].splitlines()
    assert listed[0].split() == ["name", "id", "status", "shared", "external"]  # no VLAN for her
    assert listed[1].split() == ["life", network["id"], "ACTIVE", "no", "no"]
    (subnet,) = json.loads(say("subnet", "list", "--net", "life", "--json")[1])
    assert (subnet["cidr"], subnet["name"]) == (prefix, "life")
    assert made(say, "net", "set", "life", "--name", "better", "--no-up")["admin_state_up"] is False
    assert made(say, "net", "show", network["id"])["name"] == "better"
    rows = dict(line.split(maxsplit=1) for line in say("net", "show", "better")[1].splitlines())
    assert (rows["mtu"], rows["subnets"]) == ("1400", subnet["id"])
    assert say("net", "delete", "better")[:2] == (0, "deleted network better\n")
    assert say("net", "show", "better")[0] == 2


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ((), "slaac"),
        (("--ipv6", "dhcpv6-stateful"), "dhcpv6-stateful"),
        (("--ipv6", "none"), None),
        (("--no-dhcp",), None),
    ],
)
def test_a_subnet_of_ipv6(say: Say, options: tuple[str, ...], mode: str | None) -> None:
    """A prefix with colons is enough; how instances get their addresses can be said."""
    network = made(say, "net", "create", "dual")

    words = ("--net", network["id"], "--prefix", "fd00:2::/64", *options)
    subnet = made(say, "subnet", "create", "dual", *words)
    say("net", "delete", network["id"])

    assert (subnet["ip_version"], subnet["cidr"]) == (6, "fd00:2::/64")
    assert subnet["ipv6_ra_mode"] == subnet["ipv6_address_mode"] == mode


def test_a_network_whose_subnet_is_refused_is_not_left_behind(say: Say) -> None:
    """Network and subnet are made together or not at all."""
    code, _, complaint = say("net", "create", "half", "--prefix", "192.168.7.0/24")

    assert code == 2
    assert "192.168" in complaint
    assert json.loads(say("net", "list", "name=half", "--json")[1]) == []


def test_lists_of_values(say: Say, cloud: Cloud) -> None:
    """Options for lists set all of a list, pairs are written with a comma, 'none' empties."""
    prefix = next(cloud.prefixes)
    made(say, "net", "create", "lists")
    subnet = made(
        say, "subnet", "create", "ls", "--net", "lists", "--prefix", str(prefix), "--gateway",
        "none", "--dns", "192.0.2.1", "--dns", "192.0.2.2", "--range", f"{prefix[9]},{prefix[20]}",
        "--route", f"198.51.100.0/24,{prefix[3]}", "--no-dhcp",
    )  # fmt: skip

    assert subnet["gateway_ip"] is None
    assert subnet["enable_dhcp"] is False
    assert subnet["dns_nameservers"] == ["192.0.2.1", "192.0.2.2"]
    assert subnet["allocation_pools"] == [{"start": str(prefix[9]), "end": str(prefix[20])}]
    assert subnet["host_routes"] == [{"destination": "198.51.100.0/24", "nexthop": str(prefix[3])}]
    assert made(say, "subnet", "set", "ls", "--dns", "none")["dns_nameservers"] == []
    assert say("subnet", "set", "ls", "--route", "a,b,c")[0] == 2


def test_a_port_and_its_groups(say: Say, cloud: Cloud) -> None:
    """Ports name networks and groups; the article's rule reads as it did in its time."""
    prefix = next(cloud.prefixes)
    made(say, "net", "create", "groups", "--prefix", str(prefix))
    group = made(say, "secgroup", "create", "web")
    port = made(
        say, "port", "create", "p", "--net", "groups", "--address", str(prefix[7]),
        "--secgroup", "web", "--secgroup", "default",
    )  # fmt: skip
    rule = made(say, "secgroup", "add-rule", "web", "tcp", "1:65535", "--from", "10.1.0.0/24")
    ping = made(say, "secgroup", "add-rule", "web", "icmp", "--to", "default")

    assert [ip["ip_address"] for ip in port["fixed_ips"]] == [str(prefix[7])]
    assert group["id"] in port["security_groups"]
    assert len(port["security_groups"]) == 2
    assert (rule["protocol"], rule["port_range_min"], rule["port_range_max"]) == ("tcp", 1, 65535)
    assert (rule["direction"], rule["remote_ip_prefix"]) == ("ingress", "10.1.0.0/24")
    assert (ping["direction"], ping["port_range_min"]) == ("egress", None)
    assert "ingress    tcp       1:65535  10.1.0.0/24" in say("secgroup", "show", "web")[1]
    assert say("secgroup", "remove-rule", rule["id"])[0] == 0
    assert "1:65535" not in say("secgroup", "show", "web")[1]
    assert say("port", "list", "--net", "groups", "--columns", "name,status")[1].split() == [
        "name", "status", "p", "DOWN",
    ]  # fmt: skip
    assert made(say, "port", "set", "p", "--secgroup", "none")["security_groups"] == []


def test_routers_and_floating_ips(say: Say, cloud: Cloud) -> None:
    """A router gets a gateway and an interface; a floating IP is led to a port and taken off."""
    external = cloud.network("admin", name="outside", **{"router:external": True})
    prefix = str(next(cloud.prefixes))
    made(say, "net", "create", "inside", "--prefix", prefix)
    port = made(say, "port", "create", "server", "--net", "inside")
    router = made(say, "router", "create", "r", "--external", "outside")
    assert router["external_gateway_info"]["network_id"] == external["id"]
    assert say("router", "add-interface", "r", "inside")[0] == 0
    address = made(say, "fip", "create", "--net", "outside")["floating_ip_address"]

    assert say("fip", "associate", address, "server")[0] == 0
    assert made(say, "fip", "show", address)["port_id"] == port["id"]
    (row,) = say("fip", "list", "--port", "server")[1].splitlines()[1:]
    assert address in row
    assert say("fip", "disassociate", address)[0] == 0
    assert made(say, "fip", "show", address)["port_id"] is None
    assert say("fip", "forward", address, "tcp", "8080:80", "server")[0] == 0
    (led,) = made(say, "fip", "show", address)["port_forwardings"]
    assert (led["external_port"], led["internal_port"]) == (8080, 80)
    assert led["internal_port_id"] == port["id"]
    assert say("fip", "unforward", address, "udp", "8080")[0] == 2
    assert say("fip", "unforward", address, "tcp", "8080")[0] == 0
    assert made(say, "fip", "show", address)["port_forwardings"] == []
    assert say("fip", "delete", address)[0] == 0
    assert say("router", "remove-interface", "r", "inside")[0] == 0
    assert made(say, "router", "set", "r", "--external", "none")["external_gateway_info"] is None
    assert say("router", "add-interface", "r")[0] == 2


def test_an_ambiguous_name(say: Say, cloud: Cloud) -> None:
    """Who has two objects of a name is told the ids; other projects' do not count."""
    first, second = (made(say, "net", "create", "twin")["id"] for _ in range(2))
    cloud.network("admin", name="lone", shared=True)
    mine = made(say, "net", "create", "lone")

    code, _, complaint = say("net", "delete", "twin")
    assert code == 2
    assert first in complaint
    assert second in complaint
    assert made(say, "net", "show", "lone")["id"] == mine["id"]


def test_deletes_as_far_as_it_goes(say: Say, cloud: Cloud) -> None:
    """A wrong name among several deletes none; one that is refused does not hide the others."""
    made(say, "net", "create", "one")
    made(say, "net", "create", "two", "--prefix", str(next(cloud.prefixes)))
    made(say, "port", "create", "--net", "two")

    assert say("net", "delete", "one", "none-such")[1] == ""
    code, out, complaint = say("net", "delete", "one", "two")
    assert (code, out) == (2, "deleted network one\n")
    assert "in use" in complaint


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("net", "show", "none"), "trunkline net list"),
        (("net", "set", "x"), "trunkline net set --help"),
        (("net", "list", "colour"), "status=ACTIVE"),
        (("net", "list", "colour=red"), "cannot be filtered"),
        (("net", "create", "x", "--mtu", "big"), "mtu"),
        (("port", "create", "--net", "nowhere"), "no network 'nowhere'"),
        (("quota", "set", "p1", "network"), "network=20"),
        (("quota", "set", "p1", "network=3"), "policy"),
        (("host", "list"), "policy"),
    ],
)
def test_what_is_wrong_is_said(say: Say, words: tuple[str, ...], told: str) -> None:
    """A command that cannot be done exits with 2, says why, and what to do."""
    code, out, complaint = say(*words)

    assert (code, out) == (2, "")
    assert told in complaint


def test_quotas(say: Say, bare: pytest.MonkeyPatch) -> None:
    """A project sees its own quotas; an administrator sets them, and gives the defaults back."""
    bare.setenv("TRUNKLINE_TOKEN", "admin")
    assert say("quota", "set", "p3", "router=7")[0] == 0
    bare.setenv("TRUNKLINE_TOKEN", "carol")
    assert "router               0     7\n" in say("quota", "show")[1]
    bare.setenv("TRUNKLINE_TOKEN", "admin")
    assert say("quota", "reset", "p3")[0] == 0
    assert made(say, "quota", "show", "p3")["router"] == {"limit": -1, "reserved": 0, "used": 0}


def test_hosts(say: Say, cloud: Cloud, bare: pytest.MonkeyPatch) -> None:
    """Administrators see the hosts whose agents have asked."""
    with cloud.agent("compute9") as agent:
        agent.snapshot(None, 0)
    bare.setenv("TRUNKLINE_TOKEN", "admin")

    assert "compute9" in say("host", "list")[1]
    assert made(say, "host", "show", "compute9")["alive"] is True
    assert say("host", "delete", "compute9")[0] in (0, 2)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(say: Say, tmp_path: Path) -> None:
    """What the command prints for bash completes verbs and options."""
    script = tmp_path / "completion"
    script.write_text(say("completion", "bash")[1])
    ask = (
        f"source {script}; COMP_WORDS=(trunkline port cre); COMP_CWORD=2; COMP_LINE='trunkline"
        " port cre'; COMP_POINT=18; _shtab_trunkline; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["create"]


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Lend a cloud that people log in to; its clouds.yaml is what bootstrap prints."""
    cloud = Cloud(tmp_path_factory.mktemp("standalone"))
    cloud.write_files()
    cloud.listen_on_tcp()
    cloud.start()
    yield cloud
    cloud.end()


@pytest.fixture(scope="module")
def printed(standalone: Cloud) -> dict[str, Any]:
    """Return what bootstrap printed of the cloud."""
    return standalone.bootstrap()


@pytest.fixture
def entry(standalone: Cloud, printed: dict[str, Any], bare: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the administrator's entry of a clouds.yaml, which the environment names."""
    bare.setenv("OS_CLIENT_CONFIG_FILE", str(standalone.directory / "clouds.yaml"))
    return printed


@pytest.mark.usefixtures("entry")
def test_a_log_in_by_clouds_yaml(
    bare: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cloud is meant by a variable or an option; one that is not there is named."""
    bare.setenv("OS_CLOUD", "trunkline")
    assert main(["net", "list"]) == 0
    assert main(["net", "list", "--os-cloud", "moon"]) == 2
    complaint = capsys.readouterr().err
    assert "moon" in complaint
    assert "it has trunkline" in complaint


def test_a_log_in_by_variables(
    entry: dict[str, Any], bare: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Password, token and application credential are taken; a wrong password is refused."""
    auth = entry["auth"]
    for key in ("auth_url", "username", "project_name"):
        bare.setenv(f"OS_{key.upper()}", auth[key])
    bare.setenv("OS_PASSWORD", "wrong")
    assert main(["net", "list"]) == 2
    assert "authenticat" in capsys.readouterr().err.lower()
    bare.delenv("OS_PASSWORD")
    assert main(["net", "list"]) == 2
    assert "OS_PASSWORD" in capsys.readouterr().err
    bare.setenv("OS_PASSWORD", auth["password"])
    bare.setenv("OS_AUTH_TYPE", "v3oidcpassword")
    assert main(["net", "list"]) == 2
    assert "TRUNKLINE_TOKEN" in capsys.readouterr().err
    bare.delenv("OS_AUTH_TYPE")
    assert main(["net", "list"]) == 0


@pytest.mark.usefixtures("bare")
def test_a_log_in_by_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Who has said nothing of the cloud is told all ways to do so."""
    assert main(["net", "list"]) == 2
    complaint = capsys.readouterr().err
    for way in ("OS_CLOUD", "OS_AUTH_URL", "TRUNKLINE_TOKEN", "trunkline bootstrap"):
        assert way in complaint


def test_a_reader_that_goes_early_is_no_error() -> None:
    """As with ``| head``: the code is that of a program ended by SIGPIPE, and nothing is said."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "trunkline.cli.main", "lab", "fault", "--list"]
        done = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, timeout=limit_s(60), check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
