"""Allowed address pairs: what is accepted, who may, and where it shows."""

from __future__ import annotations

import pytest
from running import Cloud

from trunkline.errors import RequestError
from trunkline.model import AddressPair

PAIRS = "allowed_address_pairs"


def refused(cloud: Cloud, port_id: str, who: str = "alice", **body: object) -> str:
    """Return type and words of a refusal, having seen that nothing changed."""
    before = cloud.admin.show("ports", port_id)
    with pytest.raises(RequestError) as error:
        cloud.user(who).update("ports", port_id, body)
    assert cloud.admin.show("ports", port_id) == before
    return f"{error.value.kind} {error.value}"


def test_a_pair_has_the_ports_mac_unless_it_says_so(cloud: Cloud) -> None:
    """Pairs are shown complete, sorted, on create, update and show, and reach the host."""
    network = cloud.network()
    port = cloud.instance(network, "h-pairs", **{PAIRS: [{"ip_address": "10.244.0.0/16"}]})
    assert port[PAIRS] == [{"ip_address": "10.244.0.0/16", "mac_address": port["mac_address"]}]

    wanted = [{"ip_address": "10.9.9.9/32", "mac_address": "00-00-5E-00-01-07"}]
    changed = cloud.alice.update("ports", port["id"], {PAIRS: wanted})

    assert changed[PAIRS] == [{"ip_address": "10.9.9.9", "mac_address": "00:00:5e:00:01:07"}]
    assert cloud.alice.show("ports", port["id"])[PAIRS] == changed[PAIRS]
    with cloud.agent("h-pairs") as agent:
        snapshot = agent.snapshot(None, 0)
    assert snapshot is not None
    (view,) = snapshot.ports
    assert [(p.mac, str(p.prefix)) for p in view.pairs] == [("00:00:5e:00:01:07", "10.9.9.9/32")]
    assert isinstance(view.pairs[0], AddressPair)


def test_single_addresses_are_members_of_the_ports_groups(cloud: Cloud) -> None:
    """Who names the group as its peer means a port's paired addresses too, but no prefixes."""
    network = cloud.network()
    pairs = [{"ip_address": "10.9.9.10"}, {"ip_address": "0.0.0.0/0"}]
    port = cloud.instance(network, "h-members", **{PAIRS: pairs})
    with cloud.agent("h-members") as agent:
        before = agent.snapshot(None, 0)
        assert before is not None
        cloud.alice.update("ports", port["id"], {PAIRS: []})
        after = agent.snapshot(before.revision, 5)
    assert after is not None

    fixed = port["fixed_ips"][0]["ip_address"]
    members = [{str(a) for who in s.members.values() for a in who} for s in (before, after)]
    assert members[0] - members[1] == {"10.9.9.10"}
    assert fixed in members[1]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (
            [{}],
            "HTTPBadRequest Invalid input for allowed_address_pairs. Reason: {} needs ip_address",
        ),
        ([{"ip_address": "10.0.0.1/24"}], "HTTPBadRequest Invalid input for allowed_address_pairs"),
        ([{"ip_address": "10.0.0.300"}], "is not a valid IP address"),
        ([{"ip_address": "10.0.0.9", "mac_address": "x"}], "is not a valid MAC address"),
        ([{"ip_address": "10.0.0.9", "port": 1}], "'port' is unknown"),
        (
            [{"ip_address": "10.0.0.9"}] * 2,
            "DuplicateAddressPairInRequest Request contains duplicate address pair",
        ),
        ([{"ip_address": f"10.0.0.{n}"} for n in range(11)], "at most 10 are allowed"),
        ("10.0.0.9", "is not a list"),
    ],
)
def test_malformed_pairs_are_refused(cloud: Cloud, pairs: object, words: str) -> None:
    """A pair that cannot be is named, and the port stays as it is."""
    port = cloud.instance(cloud.network(), "h-bad")

    assert words in refused(cloud, port["id"], **{PAIRS: pairs})


def test_pairs_and_port_security_go_together(cloud: Cloud) -> None:
    """Pairs need port security, and port security stays while there are pairs."""
    port = cloud.instance(cloud.network(), "h-sec", **{PAIRS: [{"ip_address": "10.9.9.9"}]})
    off = {"port_security_enabled": False, "security_groups": []}

    assert "AddressPairAndPortSecurityRequired Port Security must be enabled" in refused(
        cloud, port["id"], **off
    )
    cloud.alice.update("ports", port["id"], {**off, PAIRS: []})
    wanted = {PAIRS: [{"ip_address": "10.9.9.9"}]}
    assert "AddressPairAndPortSecurityRequired Port Security must be enabled" in refused(
        cloud, port["id"], **wanted
    )


def test_only_the_networks_owner_allows_addresses_on_it(cloud: Cloud) -> None:
    """Who borrows a network could else claim the addresses of those who own it."""
    network = cloud.network("admin", shared=True)
    port = cloud.alice.create("ports", {"network_id": network["id"]})

    wanted = {PAIRS: [{"ip_address": "10.9.9.9"}]}
    assert "PolicyNotAuthorized allowed_address_pairs: network" in refused(
        cloud, port["id"], **wanted
    )
    cloud.admin.update("ports", port["id"], wanted)
    cloud.alice.update("ports", port["id"], {"name": "kept"})
    assert cloud.alice.show("ports", port["id"])[PAIRS][0]["ip_address"] == "10.9.9.9"
