"""Walks told from frames that were made by hand, and the laws over them."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from frames import MACS, arp, at, echo

from trunkline.lab.packets import Frame
from trunkline.lab.verdict import Ground, Seen, laws
from trunkline.lab.walk import Cast, asking_for, carrying, first_of, walk
from trunkline.trace.data import outline
from trunkline.trace.steps import HOST, INSTANCE, INTERNET, SWITCH
from trunkline.trace.tell import prose

NONCE = bytes(range(16))
CAST = Cast(
    roles={
        "switch": SWITCH,
        "inet": INTERNET,
        "left": HOST,
        "right": HOST,
        "VM_1": INSTANCE,
        "VM_5": INSTANCE,
        "VM_6": INSTANCE,
    },
    cables={
        "VM_1": ("left",),
        "VM_5": ("right",),
        "VM_6": ("right",),
        "left": ("VM_1", "switch", "inet"),
        "right": ("VM_5", "VM_6", "switch", "inet"),
        "switch": ("left", "right"),
        "inet": ("left", "right"),
    },
    macs={mac: name for name, mac in MACS.items() if name != "all"},
    taps={"tap1": "VM_1", "tap5": "VM_5", "tap6": "VM_6"},
)
GROUND = Ground(
    vlan_by_device={
        ("left", "br100"): 100,
        ("left", "vlan100"): 100,
        ("left", "tap1"): 100,
        ("left", "br102"): 102,
        ("left", "vlan102"): 102,
        ("right", "tap6"): 102,
        ("VM_1", "eth0"): 100,
        ("VM_6", "eth0"): 102,
    },
    vlan_by_mac={
        MACS["VM_1"]: 100,
        MACS["VM_5"]: 100,
        MACS["VM_6"]: 102,
        MACS["left br100"]: 100,
        MACS["left br102"]: 102,
    },
    trunks=dict.fromkeys(
        (("left", "eth0"), ("right", "eth0"), ("switch", "left"), ("switch", "right")), 0
    ),
    uplink="eth1",
)


def _bridged() -> list[Frame]:
    """Return scenario 4's request: bridged, tagged 100 on the trunk."""
    data = echo("10.0.0.3", "10.0.0.4", NONCE)
    places = (
        ("VM_1:eth0:out", None),
        ("left:tap1:in", None),
        ("left:vlan100:out", None),
        ("left:eth0:out", 100),
        ("left:br100:in", None),  # a bridge shows it only after it has forwarded it
        ("switch:left:in", 100),
        ("switch:br-trunk:in", 100),
        ("switch:right:out", 100),
        ("right:eth0:in", 100),
        ("right:vlan100t:out", None),
        ("right:vlan100:in", None),
        ("right:br100:in", None),
        ("right:tap5:out", None),
        ("VM_5:eth0:in", None),
    )
    return [at(place, data, at_ns, tag) for at_ns, (place, tag) in enumerate(places)]


def test_path_is_in_the_kernels_order() -> None:
    """A host's devices come in the order in which its kernel passes them, tags with them."""
    steps = walk(_bridged(), carrying(NONCE), CAST)

    assert [step.node for step in steps] == ["VM_1", "left", "switch", "right", "VM_5"]
    path = [(p["device"], p["tag"]) for p in outline(steps[1])["path"]]
    assert path == [("tap(VM_1)", None), ("br100", None), ("vlan100", None), ("eth0", 100)]


def test_both_makings_of_a_vlan_device_give_the_same_steps() -> None:
    """What only tc-BPF's VLAN device has is not told, so the steps equal the kernel's own."""
    frames = _bridged()
    kernels = [f for f in frames if f.device != "vlan100t"]

    told = [outline(step) for step in walk(frames, carrying(NONCE), CAST)]

    assert told == [outline(step) for step in walk(kernels, carrying(NONCE), CAST)]


def test_sentence_names_devices_macs_and_tag() -> None:
    """A step reads as a sentence with what the frames had: devices, owners, MACs, tag."""
    steps = walk(_bridged(), carrying(NONCE), CAST)

    assert prose(steps[0]) == (
        "VM_1 sends ICMP echo request 10.0.0.3 > 10.0.0.4 to VM_5 (fa:16:3e:00:00:05), out of eth0."
    )
    assert prose(steps[1]) == (
        "left takes the ICMP echo request in by tap1 (VM_1), br100;"
        " sends it out by vlan100, eth0 with tag 100."
    )


def test_translation_is_told() -> None:
    """Routing and source translation are read off the first and the last sighting."""
    frames = [
        at("left:tap1:in", echo("10.0.0.3", "8.8.8.8", NONCE), 1),
        at("left:eth1:out", echo("91.207.15.105", "8.8.8.8", NONCE, ttl=63), 2),
    ]

    (step,) = walk(frames, carrying(NONCE), CAST)

    assert step.changes == ("TTL 64 -> 63", "source 10.0.0.3 -> 91.207.15.105")
    assert "translates: source 10.0.0.3 -> 91.207.15.105" in prose(step)


def test_waiting_in_vain_is_told_after_the_question() -> None:
    """A host that drops a packet as nobody answers for its next hop is told to ask first.

    A question that is answered, or somebody else's, is no reason to wait.
    """
    packet = [
        at("VM_1:eth0:out", echo("10.0.0.3", "10.1.0.9", NONCE), 1),
        at("left:tap1:in", echo("10.0.0.3", "10.1.0.9", NONCE), 2),
    ]
    question = at("left:br102:out", arp("10.1.0.1", "10.1.0.9", "left br102"), 3)
    answer = at("left:br102:in", arp("10.1.0.9", "10.1.0.1", "VM_6", reply=True), 4)
    foreign = at("right:tap6:in", arp("10.1.0.4", "10.1.0.9", "VM_6"), 3)
    story = first_of(carrying(NONCE), asking_for([IPv4Address("10.1.0.9")]))

    def told(*frames: Frame) -> list[str]:
        steps = walk([*packet, *frames], story, CAST)
        return [step.packet.split(":")[0] for step in steps if step.node != "VM_1"]

    assert told(question) == ["ARP request", "ICMP echo request"]
    assert told(question, answer)[0] == "ICMP echo request"
    assert told(foreign) == ["ICMP echo request", "ARP request"]


def test_translation_back_is_connection_trackings() -> None:
    """In a reply the same is told as what it is: connection tracking's doing."""
    frames = [
        at("left:eth1:in", echo("8.8.8.8", "91.207.15.105", NONCE, reply=True), 1),
        at("left:tap1:out", echo("8.8.8.8", "10.0.0.3", NONCE, ttl=63, reply=True), 2),
    ]

    (step,) = walk(frames, carrying(NONCE), CAST)

    assert "connection tracking translates it back: destination 91.207.15.105 -> 10.0.0.3" in (
        prose(step)
    )


def test_flood_is_told_by_distance() -> None:
    """However the branches of a broadcast race, they are told in the same order."""
    data = arp("10.0.0.3", "10.0.0.4")
    places = ("VM_1:eth0:out", "left:tap1:in", "VM_5:eth0:in", "right:eth0:in", "switch:left:in")
    frames = [at(place, data, at_ns) for at_ns, place in enumerate(places)]
    select = first_of(carrying(NONCE), asking_for([IPv4Address("10.0.0.4")]))

    nodes = [step.node for step in walk(frames, select, CAST)]

    assert nodes == ["VM_1", "left", "switch", "right", "VM_5"]


def test_packet_to_oneself() -> None:
    """An instance that pings its own floating IP sends first and receives last."""
    frames = [
        at("VM_1:eth0:out", echo("10.0.0.3", "91.208.23.11", NONCE), 1),
        at("left:tap1:in", echo("10.0.0.3", "91.208.23.11", NONCE), 2),
        at("left:tap1:out", echo("91.208.23.11", "10.0.0.3", NONCE), 3),
        at("VM_1:eth0:in", echo("91.208.23.11", "10.0.0.3", NONCE), 4),
    ]

    steps = walk(frames, carrying(NONCE), CAST)

    assert [(s.node, s.path[0].direction) for s in steps] == [
        ("VM_1", "out"),
        ("left", "in"),
        ("VM_1", "in"),
    ]


def test_asking_comes_before_passing_on() -> None:
    """A router that holds a packet while it asks for a MAC is told to ask first."""
    data = echo("10.0.0.3", "10.1.0.4", NONCE)
    ask = arp("10.1.0.1", "10.1.0.4", "left br102")
    reply = arp("10.1.0.4", "10.1.0.1", "VM_6", reply=True)
    frames = [
        at("VM_1:eth0:out", data, 1),
        at("left:br100:in", data, 2),
        at("left:br102:out", ask, 3),
        at("VM_6:eth0:in", ask, 4),
        at("VM_6:eth0:out", reply, 5),
        at("left:br102:in", reply, 6),
        at("left:br102:out", data, 7),
        at("VM_6:eth0:in", data, 8),
    ]
    select = first_of(carrying(NONCE), asking_for([IPv4Address("10.1.0.4")]))

    told = [(step.packet.split(":")[0], step.node) for step in walk(frames, select, CAST)]

    assert told == [
        ("ICMP echo request", "VM_1"),
        ("ARP request", "left"),
        ("ARP request", "VM_6"),
        ("ARP reply to 10.1.0.1", "VM_6"),
        ("ARP reply to 10.1.0.1", "left"),
        ("ICMP echo request", "left"),
        ("ICMP echo request", "VM_6"),
    ]


def _failed(frames: list[Frame], *, leak: bool = False) -> list[str]:
    return [c.text for c in laws(Seen(tuple(frames)), GROUND, CAST, leak=leak) if not c.passed]


def test_laws_hold_for_what_is_right() -> None:
    """A bridged packet with its tag on the trunk alone breaks no law."""
    assert _failed(_bridged()) == []


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        (
            at("left:br100:in", echo("10.0.0.3", "10.0.0.4", NONCE), 1, 100),
            "no tag inside a bridge",
        ),
        (
            at("left:eth0:out", echo("10.0.0.3", "10.0.0.4", NONCE), 1),
            "no frame without a tag on the trunk",
        ),
        (
            at("VM_6:eth0:in", echo("10.0.0.3", "10.1.0.4", NONCE), 1),
            "no frame of one tenant on another's segment",
        ),
        (
            at("switch:left:in", echo("10.0.0.3", "10.0.0.4", NONCE), 1, 102),
            "no frame of one tenant on another's segment",
        ),
        (
            at("left:eth1:out", echo("10.0.0.3", "8.8.8.8", NONCE), 1),
            "no private address on the external wire",
        ),
        (
            at("inet:left:in", echo("91.207.15.105", "10.1.0.4", NONCE), 1),
            "no private address on the external wire",
        ),
        (
            at("left:eth1:out", arp("10.0.0.1", "91.207.15.1"), 1),
            "no private address on the external wire",
        ),
    ],
)
def test_laws_find_what_is_wrong(wrong: Frame, law: str) -> None:
    """One wrong frame among many right ones breaks exactly its law."""
    assert _failed([*_bridged(), wrong]) == [law]


def test_leak_is_allowed_where_it_is_the_show() -> None:
    """Where the article lets a private destination leave, that law alone is lifted."""
    wrong = at("inet:left:in", echo("91.207.15.105", "10.1.0.4", NONCE), 1)

    assert _failed([wrong], leak=True) == []


def test_checks_without_frames_say_so() -> None:
    """A law that examined nothing shows that in its evidence."""
    evidence = {check.evidence for check in laws(Seen(()), GROUND, CAST)}

    assert evidence == {"0 of 0 frames"}
