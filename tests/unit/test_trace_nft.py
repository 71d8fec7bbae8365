"""The interpreter understands every rule that the compiler writes, and says no to all else."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import clouds
import pytest

from trunkline.core.compile import compile_host
from trunkline.core.filter import rule_text
from trunkline.hoststate import Chain, Hook, NftSet, Table
from trunkline.model import Direction, GroupId, Rule, RuleId
from trunkline.trace import nft
from trunkline.trace.packets import Arp, Frame, Packet

HOOK = Hook("filter", "prerouting", 0)
TCP = Packet(
    "TCP SYN",
    "request",
    6,
    IPv4Address("10.0.0.3"),
    IPv4Address("10.1.0.4"),
    source_port=40000,
    destination_port=80,
)
ECHO = replace(TCP, protocol=1, icmp=(8, 0), source_port=7, destination_port=None)
MAC = "fa:16:3e:00:00:01"
SETS = {
    "pair": NftSet("pair", "", elements={'"br100" . 10.0.0.3': ""}),
    "wide": NftSet("wide", "", interval=True, elements={"10.1.0.0/16": "", "10.3.0.1": ""}),
    "map": NftSet("map", "", is_map=True, elements={"10.1.0.4": "192.0.2.4"}),
    "jumps": NftSet("jumps", "", is_map=True, elements={'"br100" . 10.0.0.3': "goto other"}),
}


def ask(*rules: str, payload: Packet | Arp = TCP, state: str = "new") -> nft.Verdict:
    """Return what a base chain of these rules says to a packet."""
    chains = {
        "base": Chain("base", rules, HOOK),
        "other": Chain("other", ("ip saddr 10.9.9.9 accept", "drop")),
        "empty": Chain("empty", ()),
    }
    table = Table("inet", "trunkline", SETS, chains)
    context = nft.Context(Frame(MAC, MAC, payload), "br100", "eth1", state, frozenset({"dnat"}))
    return nft.evaluate(table, chains["base"], context)


@pytest.mark.parametrize("snapshot", clouds.STATES.values(), ids=clouds.STATES)
def test_all_that_the_compiler_writes(snapshot: object) -> None:
    """Every rule of every named cloud can be taken apart."""
    state, _ = compile_host(snapshot, clouds.CONFIG, clouds.FACTS)  # type: ignore[arg-type]

    for table in state.tables.values():
        for chain in table.chains.values():
            for rule in chain.rules:
                assert nft.parse(rule).statement.verb


@pytest.mark.parametrize("protocol", [None, 1, 6, 17, 33, 89, 132, 136])
@pytest.mark.parametrize("ports", [(None, None), (3, None), (3, 1), (3, 9)])
@pytest.mark.parametrize("group", [None, GroupId("g")])
def test_all_group_rules(
    protocol: int | None, ports: tuple[int | None, int | None], group: GroupId | None
) -> None:
    """Every form of a security group rule can be taken apart."""
    rule = Rule(RuleId("r"), Direction.EGRESS, 4, protocol, *ports, remote_group_id=group)

    assert nft.parse(rule_text(rule)).statement.verb == "accept"


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ('iifname "br100" accept', True),
        ('oifname "br100" accept', False),
        ("iifname . ip saddr @pair accept", True),
        ("iifname . ip daddr @pair accept", False),
        ("iifname . ip daddr != @pair accept", True),
        ("ip daddr @wide accept", True),
        ("ip saddr @wide accept", False),
        ("ip daddr 10.1.0.0/24 tcp dport 80-90 accept", True),
        ("tcp dport 81-90 accept", False),
        ("tcp dport { 22, 80 } accept", True),
        ("udp dport 80 accept", False),
        ("udp dport != 80 accept", False),
        ("meta l4proto tcp accept", True),
        ("meta l4proto 17 accept", False),
        ("icmp type 8 accept", False),
        ("ct state established,related accept", False),
        ("ct state new accept", True),
        ("ct status dnat accept", True),
        ("ether type arp accept", False),
        (f"ether saddr {MAC} accept", True),
        ("ip6 saddr ::/0 accept", False),
    ],
)
def test_matches(rule: str, holds: bool) -> None:  # noqa: FBT001 - a column of the table above
    """A match holds if the packet shows what it says; what it lacks never matches."""
    assert (ask(rule).kind == nft.ACCEPT) is holds


def test_icmp_and_arp() -> None:
    """ICMP types and ARP senders are read where they are."""
    arp = Arp(False, MAC, IPv4Address("10.0.0.3"), IPv4Address("10.0.0.1"))  # noqa: FBT003 - a request

    assert ask("icmp type 8 icmp code 0 accept", payload=ECHO).kind == nft.ACCEPT
    assert ask("arp saddr ip 10.0.0.3 accept", payload=arp).kind == nft.ACCEPT
    assert ask("ip saddr 10.0.0.3 accept", payload=arp).kind == nft.NONE


def test_statements() -> None:
    """Verdicts, maps of verdicts and addresses, and what happens when nothing decides."""
    assert ask("iifname . ip saddr vmap @jumps").kind == nft.DROP
    assert ask("iifname . ip saddr vmap @jumps").chains == ("base", "other")
    assert ask("oifname . ip daddr vmap @jumps").kind == nft.NONE
    assert ask("jump empty", "accept").kind == nft.ACCEPT
    assert ask("goto empty", "accept").kind == nft.NONE
    assert ask("reject with icmp type host-unreachable").argument == "host-unreachable"
    assert ask("dnat ip to ip daddr map @map").argument == "192.0.2.4"
    assert ask("snat ip to ip saddr map @map", "snat ip to 192.0.2.9").argument == "192.0.2.9"


def test_what_lost() -> None:
    """A verdict has the rules that were asked before it, each with the match that failed."""
    verdict = ask("tcp dport 22 accept", "ip saddr 10.0.0.3 tcp dport 81 accept", "drop")

    assert [lost.failed for lost in verdict.passed_over] == ["tcp dport 22", "tcp dport 81"]


@pytest.mark.parametrize(
    "rule",
    [
        "meta mark 1 accept",
        "ip saddr",
        "tcp dport 80 accept log",
        "queue",
        "dnat to 10.0.0.1",
        "limit rate 1/second accept",
        "ip saddr @nowhere accept",
        "tcp dport http accept",
        "jump nowhere",
    ],
)
def test_all_else_is_unknown(rule: str) -> None:
    """What is not understood is never skipped."""
    with pytest.raises(nft.Unknown):
        ask(rule)
