"""Combinations of gateway mode, router layout, IP version and provisioning.

A few, in which each value of every axis that can be combined is at least once; ``trunkline lab
matrix`` tries all of them, which takes minutes.
"""

from __future__ import annotations

import json
from itertools import product

import pytest
from leftovers import PREFIX

from trunkline.cli.main import main
from trunkline.lab.matrix import AXES, cells, refused

pytestmark = [pytest.mark.scenario, pytest.mark.usefixtures("machine")]

PLAYED = (
    ("per_host", "own", "ipv4", "router"),
    ("anycast", "default", "ipv4", "everywhere"),
    ("per_host", "default", "ipv6", "on_demand"),
    ("per_host", "own", "ipv6", "router"),
    ("per_host", "placed", "ipv6", "everywhere"),
)
REFUSED = (
    ("anycast", "placed", "ipv4", "on_demand"),
    ("per_host", "redundant", "ipv6", "on_demand"),
)


def outcomes(values: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Try one combination and return exit code, what became of it, and the words to that."""
    only = [f"--only={axis}={value}" for axis, value in zip(AXES, values, strict=True)]
    code = main(["lab", "matrix", "--name", f"{PREFIX}matrix", "--json", *only])
    (found,) = json.loads(capsys.readouterr().out)
    return code, [found["outcome"], found["text"]]


@pytest.mark.parametrize("values", PLAYED, ids="-".join)
def test_a_combination_is_played(
    values: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """All classes of flows are as counted, and provisioning decides about scenario 6b."""
    code, (what, text) = outcomes(values, capsys)

    assert (code, what) == (0, "played"), text
    fate = "VM_1 does not reach VM_6" if values[-1] == "on_demand" else "VM_1 reaches VM_6"
    assert text.endswith(fate)


@pytest.mark.parametrize("values", REFUSED, ids="-".join)
def test_a_combination_is_refused(
    values: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """The API says why, by the names of what cannot go together."""
    code, (what, text) = outcomes(values, capsys)

    assert (code, what) == (0, "refused")
    assert ("anycast" if values[0] == "anycast" else "IPv6") in text


def test_every_combination_is_there() -> None:
    """None is left out, and an axis or value that there is not is refused by name."""
    assert len(cells({})) == len(list(product(*AXES.values())))
    assert not any(map(refused, cells({"gateway": "per_host", "family": "ipv4"})))
    assert main(["lab", "matrix", "--only", "router=none"]) == 2
