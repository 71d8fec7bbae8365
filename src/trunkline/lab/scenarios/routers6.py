"""IPv6 on routers of their own: the same addresses twice on a host, and no way between them."""

from __future__ import annotations

from trunkline.lab.evidence import answered, has_route, met, nothing
from trunkline.lab.packets import NO_ROUTE, UNREACHABLE6
from trunkline.lab.scenarios.acts import act
from trunkline.lab.scenarios.ipv6 import own_ipv6
from trunkline.lab.scenarios.services import metadata_act
from trunkline.lab.stage import Stage
from trunkline.lab.verdict import Act, Check, on_trunk, on_wire
from trunkline.lab.walk import carrying


def play_routers6(stage: Stage) -> tuple[Act, ...]:
    """Play what routers of their own add to scenario ``ipv6``."""
    return (
        _same_address_act(stage, "VM_1", "VM_3", "BLUE_2"),
        _same_address_act(stage, "BLUE_1", "BLUE_2", "VM_3"),
        _apart_act(stage, "VM_1", "BLUE_1"),
        _apart_act(stage, "BLUE_2", "VM_2"),
        _alone_act(stage),
        *_metadata_acts(stage),
    )


def _same_address_act(stage: Stage, sender: str, meant: str, twin: str) -> Act:
    """Ping an address that two instances of the sender's host have, each on its router."""
    target = own_ipv6(stage, meant)
    shot = stage.ping(sender, target)
    probe = shot.seen.of(carrying(shot.answer.nonce))
    checks = [
        Check(f"{twin} has {target} too", own_ipv6(stage, twin) == target),
        answered(shot, target),
        nothing(f"{twin} sees nothing of it", probe.on(twin)),
        nothing("nothing of it is on the trunk", on_trunk(probe, stage.ground)),
    ]
    title = f"{sender} pings {meant}, whose address {twin} has on another router"
    return act(stage, title, [shot], carrying(shot.answer.nonce), checks)


def _apart_act(stage: Stage, sender: str, other: str) -> Act:
    """Ping across routers, which groups would allow."""
    shot = stage.ping(sender, own_ipv6(stage, other), hope=False)
    probe = shot.seen.of(carrying(shot.answer.nonce))
    refused = shot.answer.icmp == (UNREACHABLE6, NO_ROUTE)
    checks = [
        Check("the sender gets 'no route'", refused, met(shot)),
        nothing(f"{other} sees nothing of it", probe.on(other)),
        nothing("nothing of it leaves", on_wire(probe, stage.ground, stage.cast)),
        nothing("nothing of it is on the trunk", on_trunk(probe, stage.ground)),
    ]
    title = f"{sender} pings {other}, whose groups allow it, and whose router is another one"
    return act(stage, title, [shot], carrying(shot.answer.nonce), checks)


def _alone_act(stage: Stage) -> Act:
    """Ping within a network on no router, which is told its prefix and of no router."""
    target = own_ipv6(stage, "ALONE_2")
    prefix = stage.topology.networks["alone"].ipv6
    shot = stage.ping("ALONE_1", target)
    routes = stage.routes("ALONE_1", version=6)
    checks = [
        answered(shot, target),
        has_route(stage, "ALONE_1", f"{prefix} dev eth0", version=6),
        Check(
            "ALONE_1 knows no router",
            not any(route.startswith("default") for route in routes),
            "; ".join(routes),
        ),
    ]
    title = "ALONE_1 pings ALONE_2: their network is on no router"
    return act(stage, title, [shot], carrying(shot.answer.nonce), checks)


def _metadata_acts(stage: Stage) -> tuple[Act, ...]:
    """Ask for metadata, by IPv4, where IPv6 is beside it."""
    with stage.metadata():
        return tuple(metadata_act(stage, instance) for instance in ("VM_3", "BLUE_2"))
