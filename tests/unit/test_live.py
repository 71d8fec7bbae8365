"""A flow sent for real: the frame, how its packets are known again, what is made of sightings."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import article
import dpkt
import pytest
from article import LEFT, RIGHT

from trunkline.ownership import tap_name
from trunkline.trace.compare import Finding, deviations
from trunkline.trace.live import (
    Labels,
    Seen,
    Shot,
    first_step,
    frame_of,
    held_against,
    recognise,
    seen_in,
    seen_out,
    shot_in,
    shot_out,
)
from trunkline.trace.packets import ICMP, TCP, UDP
from trunkline.trace.steps import HOST, Header, Trace
from trunkline.trace.walk import Flow, trace

NONCE = bytes(range(1, 17))
SHOTS = {
    ICMP: Shot(NONCE, ICMP, None),
    TCP: Shot(NONCE, TCP, 80),
    UDP: Shot(NONCE, UDP, 53),
}


def predicted(destination: str = "10.1.0.4") -> Trace:
    """Return a ping of VM_1's."""
    cloud = article.cloud()
    source = next(p for p, name in cloud.names.items() if name == "VM_1")
    return trace(cloud, Flow(source, IPv4Address(destination)))


def packet(shot: Shot, size: int = 84) -> bytes:
    """Return the frame of a shot along VM_1's ping."""
    step = first_step(predicted())
    assert step is not None
    return frame_of(shot, step, size)


def answered(shot: Shot) -> bytes:
    """Return what a destination would answer a shot with."""
    frame = dpkt.ethernet.Ethernet(packet(shot))
    ip = frame.data
    ip.src, ip.dst = ip.dst, ip.src
    if shot.protocol == ICMP:
        ip.data.type = 0
    else:
        ip.data.sport, ip.data.dport = ip.data.dport, ip.data.sport
    if shot.protocol == TCP:
        ip.data.flags, ip.data.ack, ip.data.seq = 0x12, shot.number + 1, 7
    return bytes(frame)


def refused(shot: Shot) -> bytes:
    """Return the ICMP error that a router would answer a shot with."""
    frame = dpkt.ethernet.Ethernet(packet(shot))
    quoted = bytes(frame.data)
    error = dpkt.icmp.ICMP(type=3, code=1, data=dpkt.icmp.ICMP.Unreach(data=b""))
    body = bytes(error)[:8] + quoted
    frame.data = dpkt.ip.IP(src=b"\x0a\0\0\1", dst=frame.data.src, p=1, ttl=64, data=body)
    frame.data.len = 20 + len(body)
    return bytes(frame)


@pytest.mark.parametrize("shot", SHOTS.values(), ids=["icmp", "tcp", "udp"])
def test_the_frame_is_what_an_instance_would_send(shot: Shot) -> None:
    """MACs, addresses and ports are those of the prediction, and every checksum is right."""
    raw = packet(shot)
    frame = dpkt.ethernet.Ethernet(raw)
    step = first_step(predicted())
    assert step is not None

    assert frame.src.hex(":") == step.sender_mac
    assert frame.dst.hex(":") == step.receiver_mac
    ip = frame.data
    assert (IPv4Address(ip.src), IPv4Address(ip.dst)) == (
        IPv4Address("10.0.0.3"),
        IPv4Address("10.1.0.4"),
    )
    if shot.port is not None:
        assert ip.data.dport == shot.port
        assert ip.data.sport >= 61000
    head, body = ip.sum, ip.data.sum
    ip.sum = ip.data.sum = 0  # dpkt fills them in anew
    again = dpkt.ethernet.Ethernet(bytes(frame))
    assert (again.data.sum, again.data.data.sum) == (head, body)


def test_the_size_is_that_of_the_packet() -> None:
    """A ping of 1,500 bytes is one."""
    assert len(packet(SHOTS[ICMP], 1500)) == 14 + 1500


@pytest.mark.parametrize("shot", SHOTS.values(), ids=["icmp", "tcp", "udp"])
def test_packets_are_known_again(shot: Shot) -> None:
    """Request, answer and ICMP error are told apart, with the tag in the bytes or beside them."""
    request = packet(shot)
    tagged = request[:12] + bytes.fromhex("81000066") + request[12:]

    found = recognise(shot, "eth0", "out", 102, request)
    assert found == Seen(
        "request",
        "eth0",
        "out",
        102,
        Header(IPv4Address("10.0.0.3"), IPv4Address("10.1.0.4"), 64),
    )
    assert recognise(shot, "eth0", "out", None, tagged) == found
    answer = recognise(shot, "eth0", "in", None, answered(shot))
    error = recognise(shot, "br100", "out", None, refused(shot))
    assert answer is not None
    assert error is not None
    assert (answer.part, error.part) == ("reply", "error")


@pytest.mark.parametrize("shot", SHOTS.values(), ids=["icmp", "tcp", "udp"])
def test_other_packets_are_not(shot: Shot) -> None:
    """Packets of another shot, cut off ones and other protocols' are none of this one."""
    other = replace(shot, nonce=bytes(16))

    assert recognise(other, "eth0", "in", None, packet(shot)) is None
    assert recognise(other, "eth0", "in", None, refused(shot)) is None
    for length in (0, 13, 20, 34, 37):
        assert recognise(shot, "eth0", "in", None, packet(shot)[:length]) is None


def test_shots_and_sightings_travel_as_data() -> None:
    """What goes over HTTP comes out as it went in."""
    seen = recognise(SHOTS[TCP], "eth0", "out", 102, packet(SHOTS[TCP]))
    assert seen is not None

    assert seen_in(seen_out(seen)) == seen
    assert shot_in(shot_out(SHOTS[ICMP])) == SHOTS[ICMP]


def sightings(found: Trace) -> dict[str, list[Seen]]:
    """Return what hosts see when all is as predicted."""
    names = {name: tap_name(port_id) for port_id, name in article.cloud().names.items()}
    seen: dict[str, list[Seen]] = {LEFT: [], RIGHT: []}
    for step in found.steps:
        if step.node_role == HOST and step.part in ("request", "reply"):
            assert step.before is not None
            assert step.after is not None
            for place in step.path:
                device = names[place.owner] if place.owner else place.device
                header = step.before if place.direction == "in" else step.after
                seen[step.node].append(Seen(step.part, device, place.direction, place.tag, header))
    return seen


LABELS = Labels({tap_name(port_id): name for port_id, name in article.cloud().names.items()})
PARTS = ("request", "reply", "error")


def test_what_was_seen_as_predicted_agrees() -> None:
    """Each host's passage of request and reply agrees, in whatever order it was captured."""
    found = predicted()
    seen = {host: list(reversed(all_)) for host, all_ in sightings(found).items()}

    compared = held_against(found, seen, LABELS, PARTS)

    assert [one.finding for one in compared] == [Finding.AGREE] * 4
    assert deviations(compared) == ()


def test_where_a_packet_was_lost_is_the_first_deviation() -> None:
    """A packet that does not leave a host deviates there, and is missing from there on."""
    found = predicted()
    seen = sightings(found)
    kept = [s for s in seen[LEFT] if s.part == "request" and s.direction == "in"]

    first, *others = deviations(held_against(found, {LEFT: kept, RIGHT: []}, LABELS, PARTS))

    assert (first.node, first.field) == (LEFT, "path")
    assert "br102:out" not in first.observed
    assert {one.finding for one in others} == {Finding.MISSING}


def test_a_wrong_tag_and_a_missing_translation_differ() -> None:
    """Tag and addresses are compared, not only devices."""
    found = predicted()
    seen = sightings(found)
    wrong = [replace(s, tag=s.tag and 200) for s in seen[LEFT]]
    first = deviations(held_against(found, {**seen, LEFT: wrong}, LABELS, PARTS))[0]
    assert "eth0:out#200" in first.observed

    outside = predicted("8.8.8.8")
    plain = Header(IPv4Address("10.0.0.3"), IPv4Address("8.8.8.8"), 63)
    seen = sightings(outside)
    bare = [replace(s, header=plain) if s.direction == "out" else s for s in seen[LEFT]]
    found_fields = {d.field for d in deviations(held_against(outside, {LEFT: bare}, LABELS, PARTS))}
    assert found_fields & {"addresses", "changes"}


def test_a_host_that_did_not_tell_is_not_compared() -> None:
    """Of a host without a report nothing is said."""
    found = predicted()

    compared = held_against(found, {LEFT: sightings(found)[LEFT]}, LABELS, PARTS)

    assert {one.node for one in compared} == {LEFT}
