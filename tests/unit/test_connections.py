"""Which established connections must end."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address as Ip

import clouds
import pytest

from trunkline.core.compile import compile_host
from trunkline.core.connections import unwanted
from trunkline.hoststate import Connection
from trunkline.model import Direction, Rule, RuleId
from trunkline.snapshot import HostSnapshot

SOURCE = Ip("91.207.15.105")


def tcp(
    source: str, destination: str, port: int, *, behind: str = "", face: str = ""
) -> Connection:
    """Return a TCP connection; ``behind`` is who really answers, ``face`` the source shown."""
    return Connection(
        6,
        Ip(source),
        Ip(destination),
        40000,
        port,
        Ip(behind or destination),
        Ip(face or source),
        port,
        40000,
    )


def ping(source: str, destination: str) -> Connection:
    """Return an echo exchange: type 8 in, type 0 back, both with one id."""
    return Connection(1, Ip(source), Ip(destination), 77, 8, Ip(destination), Ip(source), 0, 77)


def ended(
    snapshot: HostSnapshot, *flows: Connection, before: HostSnapshot | None = None, space: str = ""
) -> tuple[Connection, ...]:
    """Return which connections must end in a table when a snapshot follows another."""
    now, _ = compile_host(snapshot, clouds.CONFIG, clouds.FACTS)
    then, _ = compile_host(before or snapshot, clouds.CONFIG, clouds.FACTS)
    return unwanted(snapshot, frozenset({SOURCE}), (now, then), {space: flows}).get(space, ())


ALIVE = {
    "inside a group, from a remote member": tcp("10.0.0.6", "10.0.0.3", 22),
    "allowed by prefix, both ends here": tcp("10.0.0.3", "10.1.0.3", 80),
    "out to the Internet behind the host": tcp("10.0.0.4", "8.8.8.8", 443, face=str(SOURCE)),
    "out to the Internet by floating IP": tcp("10.0.0.3", "8.8.8.8", 443, face="91.208.23.11"),
    "out before the floating IP came": tcp("10.0.0.3", "8.8.8.8", 443, face=str(SOURCE)),
    "renewal of a lease": replace(tcp("10.0.0.3", "10.0.0.1", 67), protocol=17),
    "a question for metadata": tcp("10.0.0.3", "169.254.169.254", 80, behind="10.0.0.1"),
    "somebody else's": tcp("192.0.2.1", "192.0.2.9", 22),
    "somebody else's translation": tcp("192.0.2.1", "192.0.2.9", 22, behind="172.17.0.2"),
    "remote ends that only pass": tcp("10.0.0.9", "10.1.0.9", 22),
}
CUT = {
    "peer outside the prefix": tcp("10.9.0.3", "10.1.0.3", 80),
    "a protocol that no rule has": ping("10.0.0.3", "10.1.0.3"),
    "behind a floating IP of the past": tcp(
        "8.8.8.8", "91.208.23.99", 22, behind="10.0.0.3", face="8.8.8.8"
    ),
    "metadata from an instance": tcp("10.0.0.3", "169.254.169.254", 80, behind="10.0.0.4"),
    "with a floating face of the past": tcp("10.0.0.4", "8.8.8.8", 443, face="91.208.23.11"),
    "to a floating IP without a rule": tcp("8.8.8.8", "91.208.23.11", 22, behind="10.0.0.3"),
}


@pytest.mark.parametrize("name", ALIVE)
def test_what_is_allowed_lives(name: str) -> None:
    """A connection that today's rules and floating IPs allow is not touched."""
    assert ended(clouds.ARTICLE, ALIVE[name]) == ()


@pytest.mark.parametrize("name", CUT)
def test_what_is_not_allowed_ends(name: str) -> None:
    """A connection that no rule or floating IP of today allows is cut."""
    assert ended(clouds.ARTICLE, CUT[name]) == (CUT[name],)


def test_a_revoked_rule_ends_what_it_let_in_and_nothing_else() -> None:
    """Only connections that the revoked rule carried are cut."""
    into = tcp("10.0.0.3", "10.1.0.3", 80)
    out = tcp("10.1.0.3", "8.8.8.8", 443, face=str(SOURCE))

    assert ended(clouds.CLOSED, into, out) == (into,)


def test_icmp_rules_name_type_and_code() -> None:
    """An echo lives by a rule for type 8, and not by one for another type."""
    echo = Rule(RuleId("echo"), Direction.INGRESS, protocol=1, port_min=8, port_max=0)
    other = replace(echo, port_min=13)
    out = Rule(RuleId("out"), Direction.EGRESS)
    flow = ping("10.1.0.3", "10.0.0.3")
    base = replace(clouds.ONE_PORT, ports=(clouds.VM1,))

    for rule, cut in ((echo, ()), (other, (flow,))):
        group = replace(clouds.OPEN1, rules=(out, rule))
        assert ended(replace(base, groups=(group,)), flow) == cut


def test_what_another_host_translated_ends_where_the_floating_ip_comes() -> None:
    """An entry made by bridging would keep the connection from being translated here."""
    everybody = replace(clouds.OPEN1, rules=(*clouds.OPEN1.rules, clouds.allow("all", 6)))
    come = replace(clouds.ARTICLE, groups=(everybody, clouds.OPEN2))
    not_yet = replace(come, floating_ips=())
    flow, inside = tcp("8.8.8.8", "10.0.0.3", 80), tcp("10.1.0.9", "10.0.0.3", 80)

    assert ended(not_yet, flow, inside) == ()
    assert ended(come, flow, inside) == (flow,)


def test_connections_of_an_address_that_left_end() -> None:
    """An address that a host's instance had and gave back keeps no connection."""
    flow = tcp("10.0.0.3", "10.1.0.3", 80)

    assert ended(clouds.EMPTY, flow) == ()
    assert ended(clouds.EMPTY, flow, before=clouds.ARTICLE) == (flow,)


def test_what_came_in_by_a_forwarded_port_lives_as_long_as_that_leads_there() -> None:
    """By floating IP, protocol and port, and to the very port that it leads to."""
    everybody = replace(clouds.OPEN1, rules=(*clouds.OPEN1.rules, clouds.allow("all", None)))
    base = replace(clouds.ARTICLE, groups=(everybody, clouds.OPEN2))
    led = replace(base, floating_ips=(clouds.FORWARDED,))
    flow = replace(tcp("8.8.8.8", "91.208.23.12", 8080, behind="10.0.0.4"), reply_source_port=80)
    others = (
        replace(flow, reply_source_port=81),
        replace(flow, destination_port=8081),
        replace(flow, protocol=17),
    )
    own = tcp("10.0.0.4", "8.8.8.8", 443, face=str(SOURCE))

    assert ended(led, flow, own, *others) == others
    assert ended(base, flow, own) == (flow,)


def test_what_another_host_forwarded_ends_where_the_forwarding_comes() -> None:
    """As with a floating IP as a whole; other connections of the instance go on."""
    everybody = replace(clouds.OPEN1, rules=(*clouds.OPEN1.rules, clouds.allow("all", 6)))
    come = replace(
        clouds.ARTICLE, groups=(everybody, clouds.OPEN2), floating_ips=(clouds.FORWARDED,)
    )
    flow, other = tcp("8.8.8.8", "10.0.0.4", 80), tcp("8.8.8.8", "10.0.0.4", 81)

    assert ended(come, flow, other) == (flow,)
