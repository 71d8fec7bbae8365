"""Dictionaries in pieces behave as dictionaries, and are compared right by their pieces."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import clouds
from hypothesis import given
from hypothesis import strategies as st

from trunkline.core.compile import compile_host
from trunkline.core.diff import misplaced_plugs
from trunkline.core.nftdiff import diff_tables
from trunkline.hoststate import HostState, Plug
from trunkline.joined import Fanned, Joined, changed, fan
from trunkline.kernel.fake import FakeKernel
from trunkline.kernel.nft_text import run_script
from trunkline.ownership import TAP_ID, tap_name
from trunkline.snapshot import HostSnapshot, NameView, Part, assemble, decode_section, encode

PIECES = st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2)), max_size=4)


@given(PIECES, PIECES, PIECES)
def test_changes_between_mappings_are_those_of_plain_dictionaries(
    shared: list[dict[str, int]], ours: list[dict[str, int]], theirs: list[dict[str, int]]
) -> None:
    """Whatever pieces two mappings share, in front of their own or behind them."""
    for wanted, present in (
        (Joined([*shared, *ours]), Joined([*shared, *theirs])),
        (Joined([*ours, *shared]), Joined([*theirs, *shared])),
        (Joined([*shared, *ours]), dict(Joined([*shared, *theirs]))),
        (dict(Joined(ours)), Joined(theirs)),
    ):
        new, gone = changed(wanted, present)

        assert new == {k: v for k, v in wanted.items() if present.get(k) != v}
        assert gone == {k: v for k, v in present.items() if wanted.get(k) != v}
        assert (wanted == present) == (dict(wanted) == dict(present))


@given(
    st.dictionaries(st.sampled_from(["tap0", "tapa", "tapaa", "tapz", "tap"]), st.integers(0, 2))
)
def test_a_fanned_mapping_is_replaced_as_a_dictionary(values: dict[str, int]) -> None:
    """Items are changed, added and taken away; the pieces of the others stay the same objects."""
    fanned = fan(values, TAP_ID)
    other = fanned.replaced({"tapa": 7, "tap0": None}, TAP_ID)

    assert other == {**{k: v for k, v in values.items() if k != "tap0"}, "tapa": 7}
    assert fanned == values
    assert sum(a is b for a, b in zip(fanned.pieces, other.pieces, strict=True)) >= 14


def _lives(seed: int) -> Iterator[HostSnapshot]:
    """Yield the snapshots of a host whose ports, names and members come, go and change."""
    odd = random.Random(seed)
    ids = [f"{odd.randrange(2**32):08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa" for _ in range(60)]
    first = IPv4Address("10.0.0.20")
    everything = [
        replace(clouds.port(k, 100, str(first + k), clouds.GROUP1), id=port_id)
        for k, port_id in enumerate(ids)
    ]
    network = clouds.ONE_PORT.networks[0]
    ports = dict(zip(ids[:40], everything, strict=False))
    for revision in range(25):
        for port in odd.sample(everything, 2):
            if not ports.pop(port.id, None):
                ports[port.id] = replace(port, active=odd.random() < 0.8)
        here = tuple(ports[i] for i in sorted(ports))
        addresses = tuple(sorted(p.fixed_ips[0].address for p in here))
        yield replace(
            clouds.ONE_PORT,
            revision=revision,
            ports=here,
            members={(clouds.GROUP1, network.domain): addresses},
            names=tuple(
                NameView(p.id, p.network_id, (("host", p.fixed_ips[0].address),)) for p in here
            ),
        )


def _travelled(snapshots: Iterator[HostSnapshot]) -> Iterator[tuple[HostSnapshot, HostSnapshot]]:
    """Yield each beside itself as an agent has it, by sections of which unchanged ones are kept."""
    held: dict[str, tuple[str, Part]] = {}
    last = None
    for snapshot in snapshots:
        sections = encode(snapshot)
        held = {
            name: held[name]
            if held.get(name, ("",))[0] == text
            else (text, decode_section(name, json.loads(text)))
            for name, text in sections.items()
        }
        parts = {name: part for name, (_, part) in held.items()}
        last = assemble(snapshot.host, snapshot.revision, parts, before=last)
        yield snapshot, last


def test_a_host_is_compiled_and_compared_the_same_from_sections() -> None:
    """One after the other, each state from sections is that of the whole snapshot.

    And the transaction from one to the next is right, as is what is not plugged in.
    """
    facts = FakeKernel(uplink_address=IPv4Address("91.207.15.105")).facts(clouds.CONFIG)
    before = HostState()
    for whole, parted in _travelled(_lives(7)):
        plain, _ = compile_host(whole, clouds.CONFIG, facts)
        state, _ = compile_host(parted, clouds.CONFIG, facts)
        script = diff_tables(state.tables, before.tables)
        loose = {tap_name(p.id): Plug(tap_name(p.id), None, 1500, up=False) for p in whole.ports}
        half = fan({**loose, **dict(list(state.plugs.items())[::2])}, TAP_ID)

        assert parted == whole
        assert isinstance(state.plugs, Fanned)
        assert state == plain
        assert run_script(before.tables, script) == plain.tables
        assert len(script) < 30 or not before.tables
        assert sorted(misplaced_plugs(state.plugs, half)) == sorted(
            (plug, plain.plugs.get(tap))
            for tap, plug in half.items()
            if plain.plugs.get(tap) != plug
        )
        before = state
