"""Address pairs in the rules of a host: who may send as what, and whose groups judge."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import clouds

from trunkline.core.compile import compile_host
from trunkline.core.filter import groups_chain
from trunkline.core.pairs import disjoint
from trunkline.hoststate import Table
from trunkline.model import AddressPair, Direction, GroupId

VMAC = "00:00:5e:00:01:07"  # of VRRP, RFC 5798
VIP = AddressPair(VMAC, IPv4Network("10.0.0.99/32"))
WIDE = AddressPair(clouds.VM1.mac, IPv4Network("10.244.0.0/16"))
A, B = GroupId("a"), GroupId("b")


def tables(*ports: object) -> tuple[Table, Table]:
    """Return the inet and the bridge table of a host with these ports."""
    snapshot = replace(clouds.ARTICLE, ports=ports)
    state, _ = compile_host(snapshot, clouds.CONFIG, clouds.FACTS)  # type: ignore[arg-type]
    return state.tables["inet", "trunkline"], state.tables["bridge", "trunkline"]


def test_a_pair_widens_the_wall_for_its_own_port_only() -> None:
    """The interface gets the MAC and the address, and no other interface does."""
    _, bridge = tables(replace(clouds.VM1, pairs=(VIP, WIDE)), clouds.VM2)

    assert f'"tap00000001-aa" . {VMAC}' in bridge.sets["macs"].elements
    assert f'"tap00000001-aa" . {VMAC} . 10.0.0.99' in bridge.sets["addresses"].elements
    assert list(bridge.sets["prefixes"].elements) == [
        f'"tap00000001-aa" . {clouds.VM1.mac} . 10.244.0.0/16'
    ]
    assert not any(
        "tap00000002" in e and "10.0.0.99" in e for e in bridge.sets["addresses"].elements
    )


def test_the_ports_groups_judge_for_its_pairs() -> None:
    """Going out by MAC, coming in by address, the port's own combination decides."""
    inet, _ = tables(replace(clouds.VM1, pairs=(VIP, WIDE)), clouds.VM2)
    into = f"goto {groups_chain(Direction.INGRESS, clouds.VM1.group_ids)}"

    assert inet.sets["ingress"].elements['"br100" . 10.0.0.99'] == into
    assert inet.sets["ingress_prefixes"].elements == {'"br100" . 10.244.0.0/16': into}
    assert set(inet.sets["egress_macs"].elements) == {
        f'"br100" . {VMAC}',
        f'"br100" . {clouds.VM1.mac}',
    }


def test_an_address_of_two_ports_is_judged_by_what_their_groups_have_in_common() -> None:
    """Neither port opens an address for the other; one's own address stays one's own."""
    one = replace(clouds.VM1, group_ids=(A, B), pairs=(VIP,))
    claim = AddressPair(VMAC, clouds.NET100.subnets[0].cidr)
    own = AddressPair(VMAC, IPv4Network("10.0.0.3/32"))
    two = replace(clouds.VM2, group_ids=(B,), pairs=(own, VIP, claim))

    inet, _ = tables(one, two)

    ingress = inet.sets["ingress"].elements
    assert ingress['"br100" . 10.0.0.99'] == f"goto {groups_chain(Direction.INGRESS, (B,))}"
    assert ingress['"br100" . 10.0.0.3'] == f"goto {groups_chain(Direction.INGRESS, (A, B))}"
    for table_set in ("ingress", "ingress_prefixes", "egress_macs"):
        verdicts = inet.sets[table_set].elements.values()
        assert {v.removeprefix("goto ") for v in verdicts} <= set(inet.chains)


def test_prefixes_that_overlap_are_taken_apart() -> None:
    """Nftables refuses overlapping intervals, so the inner prefix is cut out of the outer one."""
    outer, inner = IPv4Network("10.0.0.0/24"), IPv4Network("10.0.0.0/26")

    found = disjoint([(outer, (A, B)), (inner, (B,)), (outer, (A,))])

    assert found == {
        inner: (),
        IPv4Network("10.0.0.64/26"): (A,),
        IPv4Network("10.0.0.128/25"): (A,),
    }


def test_a_port_without_port_security_has_no_use_for_pairs() -> None:
    """Where nothing is filtered nothing is allowed in particular."""
    inet, bridge = tables(replace(clouds.VM1, port_security=False, group_ids=(), pairs=(VIP,)))

    assert inet.sets["egress_macs"].elements == {}
    assert bridge.sets["macs"].elements == {}
