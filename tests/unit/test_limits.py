"""Limits of bandwidth in the rules of a host."""

from __future__ import annotations

from dataclasses import replace

import clouds
import pytest

from trunkline.core.compile import compile_host
from trunkline.core.diff import diff_host
from trunkline.core.limits import limit_text
from trunkline.hoststate import HostState
from trunkline.model import Bandwidth, Direction
from trunkline.operations import RunNft
from trunkline.snapshot import HostSnapshot

INET, BRIDGE = ("inet", "trunkline"), ("bridge", "trunkline")


def compiled(snapshot: HostSnapshot) -> HostState:
    """Return a host's state."""
    return compile_host(snapshot, clouds.CONFIG, clouds.FACTS)[0]


@pytest.mark.parametrize(
    ("kbps", "burst", "text"),
    [
        (8000, 0, "rate over 1000000 bytes/second burst 800000 bytes"),
        (8192, 8192, "rate over 1000 kbytes/second burst 1000 kbytes"),
        (1, 0, "rate over 125 bytes/second burst 128 kbytes"),
        (2**31 - 1, 0, "rate over 268435455875 bytes/second burst 2048 mbytes"),
    ],
)
def test_a_limit_is_spelled_as_nft_prints_it(kbps: int, burst: int, text: str) -> None:
    """In the largest unit that leaves a whole number; a burst holds what offloading sends."""
    assert limit_text(Bandwidth(Direction.EGRESS, kbps, burst)) == text


def test_a_ports_limits_are_elements() -> None:
    """One more limited port is a limit and an element each way; no chain changes."""
    before, after = compiled(clouds.ARTICLE), compiled(clouds.NAMED)

    table = after.tables[BRIDGE]
    assert table.chains == before.tables[BRIDGE].chains
    for name, rate in (("egress_limits", "1000000 bytes"), ("ingress_limits", "500 kbytes")):
        (element,) = table.sets[name].elements.items()
        assert element[0] == '"tap00000001-aa"'
        assert table.limits[element[1].strip('"')].startswith(f"rate over {rate}/second")


def test_a_floating_ips_limit_is_where_its_packets_pass_the_uplink() -> None:
    """By the fixed address: it has been translated on the way in, and not yet on the way out."""
    table = compiled(clouds.NAMED).tables[INET]

    assert list(table.sets["egress_limits"].elements) == ["10.0.0.3"]
    assert table.sets["ingress_limits"].elements == {}
    assert table.chains["limit-floating"].rules[0] == (
        'oifname "eth1" limit name ip saddr map @egress_limits drop'
    )


def test_the_limit_of_a_floating_ip_whose_ports_are_forwarded_is_by_its_own_address() -> None:
    """Connection tracking remembers it, whereas an instance's address has other traffic too."""
    slow = replace(clouds.FORWARDED, bandwidth=(Bandwidth(Direction.INGRESS, 1000),))
    table = compiled(replace(clouds.ARTICLE, floating_ips=(slow,))).tables[INET]

    assert list(table.sets["ingress_limits"].elements) == ["91.208.23.12"]
    assert (
        'iifname "eth1" ct status dnat limit name ct original ip daddr map @ingress_limits drop'
    ) in table.chains["limit-floating"].rules


def test_another_rate_is_another_limit_made_before_and_removed_after_its_element() -> None:
    """Nftables changes no limit in place, and removes none that an element refers to."""
    slow = replace(clouds.VM1, bandwidth=(Bandwidth(Direction.EGRESS, 100),))
    fast = replace(clouds.VM1, bandwidth=(Bandwidth(Direction.EGRESS, 200),))
    states = [compiled(replace(clouds.ONE_PORT, ports=(port,))) for port in (slow, fast)]

    (operation,) = diff_host(states[1], states[0])

    assert isinstance(operation, RunNft)
    steps = [" ".join(line.split()[:2]) for line in operation.script]
    assert steps == ["add limit", "delete element", "add element", "delete limit"]
