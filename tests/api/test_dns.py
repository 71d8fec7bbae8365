"""Names of instances and DHCP options of ports: what is accepted, and which hosts are told."""

from __future__ import annotations

import pytest
from running import Cloud

from trunkline.errors import Invalid
from trunkline.model import DhcpOption


def names_on(cloud: Cloud, host: str, network_id: str) -> dict[str, set[str]]:
    """Return what a host is told of a network: labels, with their addresses."""
    with cloud.agent(host) as agent:
        snapshot = agent.snapshot(None, 0)
    assert snapshot is not None
    found: dict[str, set[str]] = {}
    for view in snapshot.names:
        if view.network_id == network_id:
            for label, address in view.records:
                found.setdefault(label, set()).add(str(address))
    return found


def test_every_host_of_a_network_knows_its_names_and_no_others(cloud: Cloud) -> None:
    """A name reaches the hosts of its network, as the instance lives, and leaves with it."""
    network, other = cloud.network(), cloud.network()
    web = cloud.instance(network, "h-dns-1", dns_name="web")
    plain = cloud.instance(network, "h-dns-2")
    cloud.instance(other, "h-dns-3", dns_name="secret")
    address = {p["id"]: p["fixed_ips"][0]["ip_address"] for p in (web, plain)}
    unnamed = f"host-{address[plain['id']].replace('.', '-')}"
    wanted = {"web": {address[web["id"]]}, unnamed: {address[plain["id"]]}}

    assert names_on(cloud, "h-dns-1", network["id"]) == wanted
    assert names_on(cloud, "h-dns-2", network["id"]) == wanted
    assert names_on(cloud, "h-dns-3", network["id"]) == {}

    with cloud.agent("h-dns-2") as agent:
        before = agent.snapshot(None, 0)
        assert before is not None
        cloud.alice.update("ports", web["id"], {"dns_name": "db"})
        renamed = agent.snapshot(before.revision, 5)
        assert renamed is not None
        cloud.alice.delete("ports", web["id"])
        gone = agent.snapshot(renamed.revision, 5)
        assert gone is not None
    labels = [{label for v in s.names for label, _ in v.records} for s in (renamed, gone)]
    assert labels == [{"db", unnamed}, {unnamed}]


def test_a_port_shows_its_names_in_its_networks_domain(cloud: Cloud) -> None:
    """``dns_assignment`` has the domain of the network, or the usual one."""
    network = cloud.network(dns_domain="Corp.Example.")
    port = cloud.instance(network, "h-domain", dns_name="web")
    address = port["fixed_ips"][0]["ip_address"]

    assert port["dns_assignment"] == [
        {"hostname": "web", "ip_address": address, "fqdn": "web.corp.example."}
    ]
    cloud.alice.update("networks", network["id"], {"dns_domain": ""})
    (found,) = cloud.alice.show("ports", port["id"])["dns_assignment"]
    assert found["fqdn"] == "web.internal."


@pytest.mark.parametrize("domain", ["-corp", "corp..example", "corp example", "corp/x", "a" * 64])
def test_a_malformed_domain_is_refused(cloud: Cloud, domain: str) -> None:
    """What would be no line of a DNS server's configuration is no domain."""
    with pytest.raises(Invalid, match="dns_domain"):
        cloud.alice.create("networks", {"name": "n", "dns_domain": domain})


def test_dhcp_options_reach_the_ports_host(cloud: Cloud) -> None:
    """Options are shown with their version; one set to null goes."""
    port = cloud.instance(cloud.network(), "h-options")
    options = [
        {"opt_name": "bootfile-name", "opt_value": "pxelinux.0"},
        {"opt_name": "150", "opt_value": "10.0.0.9"},
        {"opt_name": "mtu", "opt_value": None},
    ]
    changed = cloud.alice.update("ports", port["id"], {"extra_dhcp_opts": options})

    assert changed["extra_dhcp_opts"] == [{**o, "ip_version": 4} for o in options[:2]]
    with cloud.agent("h-options") as agent:
        snapshot = agent.snapshot(None, 0)
    assert snapshot is not None
    (view,) = snapshot.ports
    assert view.dhcp_options == (
        DhcpOption("bootfile-name", "pxelinux.0"),
        DhcpOption("150", "10.0.0.9"),
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([{"opt_name": "no-such", "opt_value": "1"}], "is no DHCP option"),
        ([{"opt_name": "0", "opt_value": "1"}], "is no DHCP option"),
        ([{"opt_name": "255", "opt_value": "1"}], "is no DHCP option"),
        ([{"opt_name": "mtu\ndhcp-script=/x", "opt_value": "1"}], "holds the character"),
        ([{"opt_name": "mtu", "opt_value": "1\n2"}], "holds the character"),
        ([{"opt_name": "mtu", "opt_value": ""}], "is empty"),
        ([{"opt_name": "mtu"}], "is not a string"),
        ([{"opt_name": "mtu", "opt_value": "1"}] * 2, "is there twice"),
        ([{"opt_name": "mtu", "opt_value": "1", "ip_version": 6}], "ip_version"),
        ("mtu", "is not a list"),
    ],
)
def test_malformed_options_are_refused(cloud: Cloud, options: object, words: str) -> None:
    """A value that could be a line of its own, or no option at all, goes nowhere."""
    port = cloud.instance(cloud.network(), "h-no-options")

    with pytest.raises(Invalid, match=words):
        cloud.alice.update("ports", port["id"], {"extra_dhcp_opts": options})
    assert cloud.alice.show("ports", port["id"])["extra_dhcp_opts"] == []
