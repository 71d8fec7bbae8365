"""What an agent's configuration may say of a host's trunks."""

from __future__ import annotations

import pytest

from trunkline.agent.config import parse
from trunkline.errors import Invalid

AGENT = {"host": "compute1", "server": "http://192.0.2.1:9696", "token": "t"}


def test_several_trunks() -> None:
    """Each physical network has a NIC of its own."""
    trunks = {"physnet1": "eth0", "physnet2": "eth2"}

    assert parse({**AGENT, "trunks": trunks}).host.trunks == trunks


@pytest.mark.parametrize(
    ("trunks", "words"),
    [
        ({"physnet1": 5}, "trunks.physnet1 must name a NIC"),
        ({"physnet1": ""}, "trunks.physnet1 must name a NIC"),
        ({"a": "eth0", "b": "eth0"}, "trunks.b: eth0 is the trunk of a, whose VLANs are others"),
    ],
)
def test_a_wrong_trunk_is_refused_by_name(trunks: dict[str, object], words: str) -> None:
    """Two physical networks on one NIC would be one: VLAN 100 of both is the same."""
    with pytest.raises(Invalid, match=words):
        parse({**AGENT, "trunks": trunks})
