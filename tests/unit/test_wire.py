"""What is made of the probe frames that hosts heard."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trunkline.probe import (
    SIZE_MIN,
    Heard,
    Lane,
    ProbeFrame,
    ProbeOrder,
    decode_frame,
    encode_frame,
    heard_in,
    heard_out,
    order_in,
    order_out,
    sizes_up_to,
)
from trunkline.trace.wire import Carriage, Rank, judge, pruned

LANES = (Lane("physnet1", 100, (46, 1496, 1500)), Lane("physnet1", 102, (46, 1496, 1500)))
ORDER = ProbeOrder(b"n" * 16, 1, LANES, 200.0)
TRUNKS = {"physnet1": "eth0"}
BOTH = frozenset({0, 1})


def heard(
    sender: int, lane: int, size: int = 1500, tag: int | None = 0, nic: str = "eth0"
) -> Heard:
    """Return two frames as they ought to come, unless a tag or NIC says otherwise."""
    right = LANES[lane].vlan_id if tag == 0 else tag
    return Heard(nic, right, ProbeFrame(sender, lane, size), 2)


def ranks(*hearing: list[Heard] | None) -> tuple[Rank, ...]:
    """Return hosts a, b, … that heard this."""
    return tuple(
        Rank(name, TRUNKS, BOTH, None if found is None else tuple(found))
        for name, found in zip("abc", hearing, strict=False)
    )


def test_a_frame_says_what_it_is() -> None:
    """Tag, ethertype and size are on the wire as ordered, and the payload reads back."""
    frame = encode_frame(ORDER, 1, 1496, b"\x02" * 6)

    assert frame[12:18] == bytes.fromhex("8100006688b5")
    assert len(frame) == 18 + 1496
    assert decode_frame(ORDER.nonce, frame[18:]) == ProbeFrame(1, 1, 1496)


def test_untagged_frames_are_a_lane_of_their_own() -> None:
    """A flat network's frames carry no tag; ones that come with a tag are astray."""
    lanes = (LANES[0], Lane("physnet1", None, (46, 1500)))
    order = replace(ORDER, lanes=lanes)
    frame = encode_frame(order, 1, 1500, b"\x02" * 6)
    assert frame[12:14] == bytes.fromhex("88b5")
    assert len(frame) == 14 + 1500
    assert order_in(order_out(order)) == order

    plain = Heard("eth0", None, ProbeFrame(0, 1, 1500), 2)
    native = Heard("eth0", 100, ProbeFrame(1, 1, 1500), 2)
    report = judge(lanes, ranks([native], [plain]))
    ways = {(p.vlan_id, p.source): p.carriage for p in report.paths}
    assert (ways[None, "a"], ways[None, "b"]) == (Carriage.CARRIED, Carriage.NOT_CARRIED)
    assert [stray.text for stray in report.strays] == [
        "frames that b sent on the untagged segment of physnet1 reach a by eth0 with tag 100"
    ]
    assert pruned([p for p in report.paths if p.source == "b"])["a"] >= {None}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x" * 60,
        encode_frame(replace(ORDER, nonce=b"m" * 16), 0, 46, b"\0" * 6)[18:],
        encode_frame(ORDER, 0, 576, b"\0" * 6)[18:-1],
    ],
    ids=["empty", "foreign", "of another probe", "cut off"],
)
def test_what_is_no_frame_of_this_probe(payload: bytes) -> None:
    """Foreign, forged and truncated frames are not taken for an answer."""
    assert decode_frame(ORDER.nonce, payload) is None


def test_orders_and_hearing_travel_as_data() -> None:
    """What goes over HTTP comes out as it went in, untagged frames included."""
    untagged = heard(0, 1, tag=None)

    assert order_in(order_out(ORDER)) == ORDER
    assert heard_in(heard_out(untagged)) == untagged


@pytest.mark.parametrize("mtu", [68, 1450, 1500, 9000])
def test_sizes_end_with_the_mtu(mtu: int) -> None:
    """The shortest frame and one of exactly the network's MTU are tried, none above."""
    sizes = sizes_up_to(mtu)

    assert sizes[0] == SIZE_MIN
    assert sizes[-1] == mtu
    assert list(sizes) == sorted(set(sizes))


def test_all_is_carried() -> None:
    """Full frames both ways on both VLANs are no fault."""
    report = judge(LANES, ranks([heard(1, 0), heard(1, 1)], [heard(0, 0), heard(0, 1)]))

    assert {path.carriage for path in report.paths} == {Carriage.CARRIED}
    assert len(report.paths) == 4
    assert report.faults == ()
    assert pruned(report.paths) == {}


def test_a_pruned_vlan_is_told_for_each_way() -> None:
    """A VLAN that passes one way only is a fault of that way, and nobody's port is to blame."""
    report = judge(LANES, ranks([heard(1, 0)], [heard(0, 0), heard(0, 1)]))

    assert report.faults == (
        "VLAN 102 on physnet1, b to a: not carried; allow the VLAN on both switch ports",
    )
    assert pruned(report.paths) == {}


def test_the_port_that_prunes_is_found_among_three() -> None:
    """A host that no other exchanges the VLAN with is the one whose port prunes it."""
    report = judge(
        LANES,
        ranks(
            [heard(1, 0), heard(2, 0), heard(1, 1)],
            [heard(0, 0), heard(2, 0), heard(0, 1)],
            [heard(0, 0), heard(1, 0)],
        ),
    )

    assert pruned(report.paths) == {"c": frozenset({102})}


def test_a_small_frame_size_is_told_in_bytes() -> None:
    """Where only shorter frames pass, the largest that did is named."""
    report = judge(LANES[:1], ranks([heard(1, 0, 1496)], [heard(0, 0)]))

    assert report.faults == (
        "VLAN 100 on physnet1, b to a: carried up to 1496 bytes, 1500 are needed",
    )


def test_a_path_that_nobody_needs_is_no_fault() -> None:
    """What the switch does not carry harms nobody while one of the two lacks the network."""
    a, b = ranks([], [])
    report = judge(LANES[:1], (a, replace(b, serves=frozenset())))

    assert {path.carriage for path in report.paths} == {Carriage.NOT_CARRIED}
    assert report.faults == ()


def test_a_silent_host_is_unknown_and_never_fine() -> None:
    """Of a host that did not answer nothing is said but that."""
    report = judge(LANES[:1], ranks([], None))

    assert {path.carriage for path in report.paths} == {Carriage.UNKNOWN}
    assert report.silent == ("b",)
    assert "host b: its agent did not answer in time" in report.faults
    assert pruned(report.paths) == {}


@pytest.mark.parametrize(
    ("stray", "text"),
    [
        (heard(1, 0, tag=102), "reach a by eth0 with tag 102"),
        (heard(1, 0, tag=None), "reach a by eth0 untagged"),
        (heard(1, 0, nic="eth2"), "reach a by eth2 with tag 100"),
        (heard(0, 0), "come back to it by eth0: there is a loop"),
    ],
)
def test_frames_where_they_should_not_be(stray: Heard, text: str) -> None:
    """Another VLAN, no tag, another wire, and one's own frames: each is named, none is carriage."""
    report = judge(LANES[:1], ranks([stray], [heard(0, 0)]))

    assert [one.text for one in report.strays if text in one.text]
    assert any(path.carriage is Carriage.NOT_CARRIED for path in report.paths)


def test_numbers_beyond_the_probe_are_passed_over() -> None:
    """A report that names hosts or lanes which are not in the probe raises nothing."""
    odd = Heard("eth0", 100, ProbeFrame(7, 9, 1500), 1)

    assert judge(LANES, ranks([odd], [])).strays == ()


def test_segments_of_one_network_are_heard_of_each_other() -> None:
    """Joined, frames cross from tag to tag and are not astray; apart, the missing joint is named.

    A host on both trunks is on the first segment; what it hears of itself by the other is no loop.
    """
    lanes = (Lane("left", 110, (46,), "net"), Lane("right", 210, (46,), "net"))
    a = Rank("a", {"left": "eth0"}, frozenset({0}), (Heard("eth0", 110, ProbeFrame(1, 1, 46), 1),))
    crossed = Heard("eth1", 210, ProbeFrame(0, 0, 46), 1)
    b = Rank("b", {"right": "eth1"}, frozenset({1}), (crossed,))

    joined = judge(lanes, (a, b))
    apart = judge(lanes, (a, replace(b, heard=())))
    both = Rank("both", {"left": "eth0", "right": "eth1"}, frozenset({0}), (crossed,))
    astray = judge(tuple(replace(lane, network="") for lane in lanes), (a, b))

    assert joined.faults == ()
    assert {(p.source, p.destination, p.carriage) for p in joined.paths} == {
        ("a", "b", Carriage.CARRIED),
        ("b", "a", Carriage.CARRIED),
    }
    (fault,) = apart.faults
    assert fault.startswith("VLAN 110 on left, a to b: not carried; the network's segments on left")
    assert fault.endswith("and right are to be joined by what is between them")
    assert judge(lanes, (both,)).faults == ()
    assert len(astray.strays) == 2
