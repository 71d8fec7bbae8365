"""The smallest change that opens a flow, confirmed by the tracer, and what else it opens."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import article
import clouds
from article import PORTS, snapshots

from trunkline.advice import advise
from trunkline.trace.cloud import Cloud
from trunkline.trace.steps import Disposition
from trunkline.trace.walk import Flow, trace

CLOSED = ((article.SELF1,), ())


def flow(source: str, to: str, **more: object) -> Flow:
    """Return a flow from an instance to an instance's fixed IP or an address."""
    address = PORTS[to].fixed_ips[0].address if to in PORTS else IPv4Address(to)
    return Flow(PORTS[source].id, address, **more)  # type: ignore[arg-type]


def test_an_open_flow_needs_nothing() -> None:
    """Where nothing is refused nothing is advised."""
    assert advise(article.cloud(), flow("VM_1", "VM_6")) == ()


def test_a_rule_and_what_else_it_opens() -> None:
    """The narrowest rule on the receiver's group; the group's other member opens as well."""
    cloud = article.cloud(*snapshots(rules=CLOSED))

    (advice,) = advise(cloud, flow("VM_1", "VM_6", protocol=6, port=80))

    assert advice.object.id == clouds.GROUP2
    assert advice.text == "add to group default an ingress rule for tcp 80 from 10.0.0.3/32"
    assert advice.command == (
        "openstack security group rule create --ingress --protocol tcp --dst-port 80"
        f" --remote-ip 10.0.0.3/32 {clouds.GROUP2}"
    )
    assert advice.opens == ("VM_1 to 10.1.0.3.",)


def test_the_address_that_the_receiver_sees() -> None:
    """Through a floating IP the rule names the sender's floating address, and ICMP's type."""
    (advice,) = advise(article.cloud(), flow("VM_1", "91.208.23.16"))

    assert "icmp type 8 from 91.208.23.11/32" in advice.text


def test_both_ends_closed() -> None:
    """With egress and ingress closed two rules are needed, in the order in which they are met."""
    left, right = snapshots(rules=CLOSED)
    groups = tuple(replace(g, rules=()) for g in left.groups)
    cloud = article.cloud(replace(left, groups=groups), right)

    advice = advise(cloud, flow("VM_1", "VM_6"))

    assert [a.text.split(" rule")[0].split()[-1] for a in advice] == ["egress", "ingress"]
    assert [a.object.id for a in advice] == [clouds.GROUP1, clouds.GROUP2]


def test_the_group_that_opens_least() -> None:
    """Of a port's groups the one is chosen whose other members gain least."""
    own = clouds.group(clouds.GroupId("3333cccc-own"))
    left, right = snapshots(rules=CLOSED)
    both = (clouds.GROUP2, own.id)
    ports = tuple(
        replace(p, group_ids=both) if p.id == PORTS["VM_6"].id else p for p in right.ports
    )
    groups = (*right.groups, replace(own, name="own"))
    cloud = article.cloud(left, replace(right, ports=ports, groups=groups))

    (advice,) = advise(cloud, flow("VM_1", "VM_6"))

    assert (advice.object.id, advice.opens) == (own.id, ())


def test_a_network_on_one_more_host() -> None:
    """6b: the network on the sender's host too, confirmed by a walk through that host."""
    for guard in (True, False):
        cloud = article.cloud(*snapshots(without=["VM_3"]), guard=guard)

        (advice,) = advise(cloud, flow("VM_1", "VM_6"))

        assert "have network net102 on compute1 too" in advice.text
        assert '"trunkline:provisioning": "router"' in advice.command
        assert advice.opens == ("VM_2 to 10.1.0.4.",)


def test_nothing_known_helps() -> None:
    """A port that is down, a spoofed source: no change of groups or networks opens that."""
    down = replace(article.cloud(), unplugged=frozenset({PORTS["VM_1"].id}))
    spoofed = flow("VM_1", "VM_2", source_address=IPv4Address("10.0.0.9"))

    assert advise(down, flow("VM_1", "VM_2")) == ()
    assert advise(article.cloud(), spoofed) == ()


def test_advice_changes_nothing() -> None:
    """The cloud that was asked about is as before."""
    cloud: Cloud = article.cloud(*snapshots(rules=CLOSED))
    asked = flow("VM_1", "VM_6")
    advise(cloud, asked)

    assert trace(cloud, asked).disposition is Disposition.DENIED_INGRESS
