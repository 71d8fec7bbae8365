"""What an agent tells of its host comes out of JSON as it went in."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import clouds
import pytest

from trunkline.hoststate import HostFacts
from trunkline.model import RouterId
from trunkline.report import Drift, Reading, decode, decode_reading, encode


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        (clouds.CONFIG, clouds.FACTS),
        (replace(clouds.CONFIG, uplink=None, routing_source=None), HostFacts(vlan_making=None)),
        (
            replace(
                clouds.CONFIG,
                guard_absent_prefixes=False,
                routing_sources={RouterId("red"): IPv4Address("91.207.15.7")},
            ),
            replace(clouds.FACTS, bridge_netfilter=False, missing=("nft",)),
        ),
    ],
)
def test_there_and_back(config: Any, facts: HostFacts) -> None:
    """Encode and decode are each other's inverse, but for the state directory."""
    found = decode("compute1", json.loads(json.dumps(encode(config, facts))))

    assert found is not None
    assert found.facts == facts
    assert found.config == replace(config, state_dir="")


@pytest.mark.parametrize(
    "change",
    [{"cabling": None}, {"cabling": {}}, {"links": 7}, {"vlan_making": "x"}, {"uplink_address": 1}],
)
def test_less_than_that_is_nothing(change: dict[str, Any]) -> None:
    """An agent that is older, or says something odd, has told nothing."""
    assert decode("compute1", {**encode(clouds.CONFIG, clouds.FACTS), **change}) is None
    assert decode("compute1", {}) is None


@pytest.mark.parametrize(
    "reading", [Reading("t1"), Reading("t2", Drift("t1", 3, ("a", "b"), repaired=False)), None]
)
def test_a_reading_there_and_back(reading: Reading | None) -> None:
    """What was read back comes out as it went in; an agent that tells none has told none."""
    told = json.loads(json.dumps(encode(clouds.CONFIG, clouds.FACTS, reading)))

    assert decode_reading(told) == reading
    assert decode("compute1", told) is not None


@pytest.mark.parametrize("reading", [7, {}, {"at": "t", "drift": 7}, {"at": "t", "drift": {}}])
def test_an_odd_reading_is_none(reading: object) -> None:
    """What no agent says is nothing that is known."""
    assert decode_reading({"reading": reading}) is None
