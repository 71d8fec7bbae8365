"""Networks that span groups of hosts, each behind a switch of its own, as a VLAN on each."""

from __future__ import annotations

from trunkline.errors import Invalid
from trunkline.lab.evidence import answered, heard, no_answer, nothing
from trunkline.lab.scenarios.acts import ECHO, LEFT, REPLY, RIGHT, act, told
from trunkline.lab.stage import Stage
from trunkline.lab.verdict import Act, Check, Seen, on_trunk
from trunkline.lab.walk import asking_for, carrying


def play_segments(stage: Stage) -> tuple[Act, ...]:
    """Ping from one group of hosts to the other, on one network and between two.

    Raises:
        Invalid: No network of the topology has several segments.
    """
    if not stage.topology.joints():
        raise Invalid(
            f"scenario segments needs networks with several segments; topology"
            f" {stage.topology.name} has none; 'trunkline lab run --file segments' has"
        )
    return (_within_act(stage), _across_act(stage), _closed_act(stage))


def _within_act(stage: Stage) -> Act:
    here, target = stage.segment("VM_1"), stage.seats["VM_4"]
    shot = stage.ping("VM_1", target.address)
    probe = shot.seen.of(carrying(shot.answer.nonce))
    arp = shot.seen.of(asking_for([target.address]), "ARP request")
    shown = [link for host in (LEFT, RIGHT) if (link := here.bridge) in stage.links(host)]
    checks = [
        answered(shot, target.address),
        *_tagged(stage, probe, "VM_1"),
        *_tagged(stage, arp, "VM_1"),
        Check("the bridge is called alike on both hosts", len(shown) == 2, here.bridge),  # noqa: PLR2004 - the hosts
    ]
    title = "VM_1 pings VM_4 of its network, behind the other switch"
    return act(stage, title, [shot], told(shot, target.address), checks)


def _across_act(stage: Stage) -> Act:
    here, there, target = stage.segment("VM_1"), stage.segment("VM_6"), stage.seats["VM_6"]
    shot = stage.ping("VM_1", target.address)
    carried = carrying(shot.answer.nonce)
    request, reply = shot.seen.of(carried, ECHO), shot.seen.of(carried, REPLY)
    checks = [
        answered(shot, target.address),
        heard(f"{LEFT} routes it from {here.bridge}", request, LEFT, here.bridge, "in"),
        heard(f"to {there.bridge}", request, LEFT, there.bridge, "out"),
        *_tagged(stage, request, "VM_6"),
        heard(f"{RIGHT} routes the reply to {here.bridge}", reply, RIGHT, here.bridge, "out"),
        *_tagged(stage, reply, "VM_1"),
    ]
    title = "VM_1 pings VM_6 of the other tenant, behind the other switch"
    return act(stage, title, [shot], told(shot, target.address), checks)


def _closed_act(stage: Stage) -> Act:
    target = stage.seats["VM_6"]
    with stage.rules():
        shot = stage.ping("VM_1", target.address, hope=False)
    request = shot.seen.of(carrying(shot.answer.nonce))
    checks = [no_answer("ping", shot), nothing("VM_6 never sees it", request.on("VM_6"))]
    title = "without its rule: the group holds from switch to switch"
    return act(stage, title, [shot], told(shot, target.address), checks)


def _tagged(stage: Stage, frames: Seen, instance: str) -> list[Check]:
    """Return whether frames crossed each switch with the tag of an instance's network there."""
    network = stage.topology.networks[stage.segment(instance).network]
    checks = []
    for trunk in stage.topology.trunks.values():
        tag = network.further.get(trunk.name, network.vlan_id)
        there = on_trunk(frames, stage.ground).on(trunk.switch)
        text = f"{network.name} crosses {trunk.switch} with tag {tag} and no other"
        crossed = all(there.on(trunk.switch, "", way) for way in ("in", "out"))
        checks.append(Check(text, crossed and there.tags() == {tag}, there.places()))
    return checks
