"""Bandwidth limits of ports and floating IPs: a token bucket each way, as an nftables limit.

What exceeds it is dropped, which TCP takes as a sign to slow down. Ports are limited where frames
enter and leave their interface, so it holds for all that they send, bridged or routed; a floating
IP where its packets pass the uplink. Static chains, and an element and a limit per direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trunkline import ownership
from trunkline.core.gather import gather, unions
from trunkline.core.links import Served, by_network
from trunkline.hoststate import Chain, Hook, NftSet
from trunkline.kept import kept
from trunkline.model import Bandwidth, Direction
from trunkline.snapshot import FloatingView, PortView

BYTES_PER_KILOBIT = 125
BURST_SHARE = 0.8  # of a second, where none is given: Neutron's, which suits TCP
BURST_MIN = 2 * 65536  # bytes: a segment that offloading has not cut up yet must fit in
BURST_MAX = 2**31  # the kernel's is a 32-bit number
UNITS = ("bytes", "kbytes", "mbytes")
AFTER_SPOOFING, AFTER_FORWARD, BRIDGE_POSTROUTING = -290, 10, 100

Limited = tuple[dict[str, str], dict[str, str], dict[str, str]]
"""Limits by name, and by key which one holds for what goes out, and for what comes in."""


def limit_text(bandwidth: Bandwidth) -> str:
    """Return a limit as nft prints it: in the largest unit that leaves a whole number."""
    rate = bandwidth.max_kbps * BYTES_PER_KILOBIT
    wanted = bandwidth.max_burst_kbps * BYTES_PER_KILOBIT or int(rate * BURST_SHARE)
    burst = min(max(wanted, BURST_MIN), BURST_MAX)
    return f"rate over {_amount(rate)}/second burst {_amount(burst)}"


def _amount(number: int) -> str:
    unit = 0
    while number % 1024 == 0 and unit < len(UNITS) - 1:
        number //= 1024
        unit += 1
    return f"{number} {UNITS[unit]}"


def port_limits(served: tuple[Served, ...], ports: tuple[PortView, ...]) -> Limited:
    """Return the limits of ports, by the name of their interface."""
    limits, out, into = gather(unions, _of_ports, ports, served)
    return limits, out, into


@kept()
def _of_ports(served: tuple[Served, ...], ports: tuple[PortView, ...]) -> Limited:
    places = by_network(served)
    limited = (p for p in ports if p.bandwidth and p.network_id in places)
    return _limited((f'"{ownership.tap_name(p.id)}"', p.id, p.bandwidth) for p in limited)


def floating_limits(here: Iterable[FloatingView], elsewhere: Iterable[FloatingView]) -> Limited:
    """Return the limits of floating IPs, by the address that they have on their way past here.

    Args:
        here: Those that the host itself translates: their fixed address; where single ports are
            forwarded, the floating one, which connection tracking remembers.
        elsewhere: Those that a router's namespace translates: the floating one.
    """
    by_fixed = ((str(f.fixed_address or f.address), f.id, f.bandwidth) for f in here)
    by_floating = ((str(f.address), f.id, f.bandwidth) for f in elsewhere)
    return _limited((*by_fixed, *by_floating))


def _limited(who: Iterable[tuple[str, str, tuple[Bandwidth, ...]]]) -> Limited:
    """Return limits; a name has what it allows in it, so that another rate is another limit."""
    limits: dict[str, str] = {}
    ways: dict[Direction, dict[str, str]] = {Direction.EGRESS: {}, Direction.INGRESS: {}}
    for key, object_id, bandwidths in who:
        for one in bandwidths:
            name = f"{one.direction}-{one.max_kbps}-{one.max_burst_kbps}-{object_id}"
            limits[name] = limit_text(one)
            ways[one.direction][key] = f'"{name}"'
    return limits, ways[Direction.EGRESS], ways[Direction.INGRESS]


def compile_port_limits(limited: Limited) -> tuple[list[NftSet], list[Chain]]:
    """Return the bridge table's maps and chains."""
    chains = [
        Chain(
            "limit-egress",
            ("limit name iifname map @egress_limits drop",),
            Hook("filter", "prerouting", AFTER_SPOOFING),
        ),
        Chain(
            "limit-ingress",
            ("limit name oifname map @ingress_limits drop",),
            Hook("filter", "postrouting", BRIDGE_POSTROUTING),
        ),
    ]
    return list(_maps("type ifname : limit", limited)), chains


def compile_floating_limits(
    limited: Limited, uplink: str | None
) -> tuple[list[NftSet], list[Chain]]:
    """Return the inet table's maps and chain; without an uplink there is nothing to limit."""
    if uplink is None:
        return [], []
    # A forwarded port's address is not the floating IP's on either side of the host; what the
    # connection was begun with is. Of other floating IPs that is no element while ``dnat`` holds.
    forwarded = "limit name ct original ip daddr map"
    rules = (
        f'oifname "{uplink}" limit name ip saddr map @egress_limits drop',
        f'iifname "{uplink}" limit name ip daddr map @ingress_limits drop',
        f'oifname "{uplink}" ct status dnat {forwarded} @egress_limits drop',
        f'iifname "{uplink}" ct status dnat {forwarded} @ingress_limits drop',
    )
    chain = Chain("limit-floating", rules, Hook("filter", "forward", AFTER_FORWARD))
    return list(_maps("type ipv4_addr : limit", limited)), [chain]


def _maps(key: str, limited: Limited) -> Iterator[NftSet]:
    for name, elements in zip(("egress_limits", "ingress_limits"), limited[1:], strict=True):
        yield NftSet(name, key, is_map=True, elements=elements)
