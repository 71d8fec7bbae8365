"""Security groups and rules over the API."""

from __future__ import annotations

from typing import Any

import pytest
from running import Cloud

from trunkline.errors import Conflict, Forbidden, Invalid, NotFound


def group(cloud: Cloud, who: str = "alice") -> dict[str, Any]:
    """Make a group."""
    return cloud.user(who).create("security-groups", {"name": "web", "description": "d"})


def rule(cloud: Cloud, of: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    """Add an ingress rule to a group."""
    wish = {"security_group_id": of["id"], "direction": "ingress", **attributes}
    return cloud.alice.create("security-group-rules", wish)


def test_each_project_has_a_default_group(cloud: Cloud) -> None:
    """It is there when first asked for: out to anywhere, in from its own members."""
    (found,) = cloud.user("carol").list("security-groups", name="default")

    rules = {
        (r["direction"], r["ethertype"], r["remote_group_id"])
        for r in found["security_group_rules"]
    }
    assert rules == {
        ("egress", "IPv4", None),
        ("egress", "IPv6", None),
        ("ingress", "IPv4", found["id"]),
        ("ingress", "IPv6", found["id"]),
    }
    assert found["project_id"] == "p3"


def test_the_default_group_stays(cloud: Cloud) -> None:
    """It is neither deleted, renamed, nor made a second time; its description is free."""
    (default,) = cloud.alice.list("security-groups", name="default")

    for act, kind in (
        (lambda: cloud.alice.delete("security-groups", default["id"]), "RemoveDefault"),
        (
            lambda: cloud.alice.update("security-groups", default["id"], {"name": "x"}),
            "UpdateDefault",
        ),
        (
            lambda: cloud.alice.create("security-groups", {"name": "default"}),
            "DefaultAlreadyExists",
        ),
    ):
        with pytest.raises(Conflict) as refusal:
            act()
        assert kind in refusal.value.kind
    described = cloud.alice.update("security-groups", default["id"], {"description": "d"})
    assert (described["name"], described["description"]) == ("default", "d")


def test_a_new_group_lets_everything_out_and_nothing_in(cloud: Cloud) -> None:
    """A group begins with its two egress rules."""
    made = group(cloud)

    assert {r["direction"] for r in made["security_group_rules"]} == {"egress"}
    assert {r["ethertype"] for r in made["security_group_rules"]} == {"IPv4", "IPv6"}
    assert cloud.alice.show("security-groups", made["id"]) == made


def test_the_articles_rule(cloud: Cloud) -> None:
    """The rule of the article, as the openstack command sends it."""
    made = rule(
        cloud,
        group(cloud),
        protocol="tcp",
        port_range_min="1",
        port_range_max=65535,
        remote_ip_prefix="10.1.0.0/24",
        ethertype="ipv4",
    )

    assert (made["protocol"], made["port_range_min"], made["port_range_max"]) == ("tcp", 1, 65535)
    assert (made["remote_ip_prefix"], made["remote_group_id"]) == ("10.1.0.0/24", None)
    assert made["ethertype"] == "IPv4"
    assert cloud.alice.show("security-group-rules", made["id"]) == made


@pytest.mark.parametrize(
    ("attributes", "stored"),
    [
        ({"protocol": "any"}, None),
        ({"protocol": None}, None),
        ({"protocol": 6}, "6"),
        ({"protocol": "UDP"}, "udp"),
        ({"protocol": "vrrp"}, "vrrp"),
        ({"protocol": "0112"}, None),
        ({"protocol": "icmp", "port_range_min": 8, "port_range_max": 0}, "icmp"),
        ({"protocol": "icmp", "port_range_min": 8}, "icmp"),
        ({"protocol": "ipv6-icmp", "ethertype": "IPv6"}, "ipv6-icmp"),
    ],
)
def test_protocols_by_name_and_number(
    cloud: Cloud, attributes: dict[str, Any], stored: str | None
) -> None:
    """Protocols come by name or number; ICMP uses the ports for type and code."""
    of = group(cloud)
    if attributes["protocol"] == "0112":
        with pytest.raises(Invalid, match="protocol"):
            rule(cloud, of, **attributes)
        return

    assert rule(cloud, of, **attributes)["protocol"] == stored


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        (
            {"protocol": "tcp", "port_range_min": 9, "port_range_max": 8},
            "SecurityGroupInvalidPortRange",
        ),
        ({"protocol": "tcp", "port_range_min": 9}, "SecurityGroupInvalidPortRange"),
        (
            {"protocol": "tcp", "port_range_min": 0, "port_range_max": 8},
            "SecurityGroupInvalidPortValue",
        ),
        ({"port_range_min": 1, "port_range_max": 8}, "SecurityGroupProtocolRequiredWithPorts"),
        (
            {"protocol": "gre", "port_range_min": 1, "port_range_max": 8},
            "SecurityGroupInvalidProtocolForPort",
        ),
        ({"protocol": "icmp", "port_range_max": 8}, "SecurityGroupMissingIcmpType"),
        ({"protocol": "icmp", "port_range_min": 256}, "SecurityGroupInvalidIcmpValue"),
        ({"protocol": "icmpv6"}, "SecurityGroupEthertypeConflictWithProtocol"),
        ({"remote_ip_prefix": "2001:db8::/32"}, "SecurityGroupRuleParameterConflict"),
        ({"protocol": "tcp", "port_range_min": 1, "port_range_max": 65536}, "HTTPBadRequest"),
        ({"protocol": "256"}, "HTTPBadRequest"),
        ({"protocol": "nonsense"}, "HTTPBadRequest"),
        ({"protocol": True}, "HTTPBadRequest"),
        ({"remote_ip_prefix": "10.0.0.0/40"}, "HTTPBadRequest"),
        ({"direction": "sideways"}, "HTTPBadRequest"),
        ({"ethertype": "IPv5"}, "HTTPBadRequest"),
    ],
)
def test_a_senseless_rule_is_refused(cloud: Cloud, attributes: dict[str, Any], kind: str) -> None:
    """A rule whose parts contradict each other is refused by Neutron's own type."""
    of = group(cloud)

    with pytest.raises(Invalid) as refusal:
        rule(cloud, of, **attributes)
    assert refusal.value.kind == kind
    assert len(cloud.alice.show("security-groups", of["id"])["security_group_rules"]) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"protocol": "tcp"}, {"protocol": "6"}),
        ({}, {"remote_ip_prefix": "0.0.0.0/0"}),
        ({"remote_ip_prefix": "10.9.0.1"}, {"remote_ip_prefix": "10.9.0.1/32"}),
        ({"remote_ip_prefix": "10.9.0.0/16"}, {"remote_ip_prefix": "10.9.3.0/16"}),
    ],
)
def test_a_rule_that_says_the_same_is_refused(
    cloud: Cloud, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Two spellings of one rule are one rule."""
    of = group(cloud)
    made = rule(cloud, of, **first)

    with pytest.raises(Conflict, match=made["id"]) as refusal:
        rule(cloud, of, **second)
    assert refusal.value.kind == "SecurityGroupRuleExists"


def test_rules_by_group(cloud: Cloud) -> None:
    """A rule names another group of the project; it goes when that group goes."""
    of, peer = group(cloud), group(cloud)
    theirs = group(cloud, "bob")
    made = rule(cloud, of, remote_group_id=peer["id"])

    with pytest.raises(NotFound):
        rule(cloud, of, remote_group_id=theirs["id"])
    with pytest.raises(Invalid):
        rule(cloud, of, remote_group_id=peer["id"], remote_ip_prefix="10.0.0.0/8")
    cloud.alice.delete("security-groups", peer["id"])
    with pytest.raises(NotFound):
        cloud.alice.show("security-group-rules", made["id"])


def test_a_group_in_use_stays(cloud: Cloud) -> None:
    """A group is deleted when no port is in it any more."""
    of, network = group(cloud), cloud.network()
    port = cloud.alice.create("ports", {"network_id": network["id"], "security_groups": [of["id"]]})

    with pytest.raises(Conflict) as refusal:
        cloud.alice.delete("security-groups", of["id"])
    assert refusal.value.kind == "SecurityGroupInUse"
    cloud.alice.delete("ports", port["id"])
    cloud.alice.delete("security-groups", of["id"])
    assert cloud.alice.list("security-group-rules", security_group_id=of["id"]) == []


def test_rules_are_made_in_the_own_groups_only(cloud: Cloud) -> None:
    """Another project's group is unknown, and a rule belongs to its group's project."""
    theirs = group(cloud, "bob")

    with pytest.raises(NotFound):
        rule(cloud, theirs)
    made = cloud.admin.create(
        "security-group-rules", {"security_group_id": theirs["id"], "direction": "ingress"}
    )
    assert made["project_id"] == "p2"
    with pytest.raises(NotFound):
        cloud.alice.delete("security-group-rules", made["id"])
    cloud.bob.delete("security-group-rules", made["id"])


def test_a_reader_does_not_make_rules(cloud: Cloud) -> None:
    """Reading is all that the role reader does."""
    (default,) = cloud.user("eve").list("security-groups", name="default")

    with pytest.raises(Forbidden):
        cloud.user("eve").create(
            "security-group-rules", {"security_group_id": default["id"], "direction": "ingress"}
        )


def test_no_group_is_stateless(cloud: Cloud) -> None:
    """Hosts track every connection, so a group without that is refused by name, and not made."""
    with pytest.raises(Invalid, match="stateful"):
        cloud.alice.create("security-groups", {"name": "loose", "stateful": False})
    group = cloud.alice.create("security-groups", {"name": "tight", "stateful": True})
    with pytest.raises(Invalid, match="stateful"):
        cloud.alice.update("security-groups", group["id"], {"stateful": False})
    assert cloud.alice.list("security-groups", name="loose") == []
    assert cloud.alice.show("security-groups", group["id"])["stateful"] is True
