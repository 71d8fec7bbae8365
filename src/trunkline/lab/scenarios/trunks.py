"""Two physical networks on one host, whose networks have the same VLAN id."""

from __future__ import annotations

from trunkline.errors import Invalid
from trunkline.lab.evidence import answered, heard, no_answer, nothing, tags_on_trunk
from trunkline.lab.scenarios.acts import ECHO, LEFT, REPLY, act, told
from trunkline.lab.stage import Stage
from trunkline.lab.verdict import Act, Check
from trunkline.lab.walk import asking_for, carrying

FAR = "compute3"  # a host that is on the second trunk only


def play_trunks(stage: Stage) -> tuple[Act, ...]:
    """Ping on each trunk, from one to the other, and to a host that is on one of them.

    Raises:
        Invalid: The topology has one trunk.
    """
    if len(stage.topology.trunks) == 1 or FAR not in stage.topology.hosts:
        raise Invalid(
            f"scenario trunks needs two trunks, and {FAR} on the second alone; topology"
            f" {stage.topology.name} has not; 'trunkline lab run --file trunks' has"
        )
    return (
        _within_act(stage, "VM_1", "VM_4"),
        _within_act(stage, "VM_3", "VM_6"),
        _within_act(stage, "VM_3", "VM_7"),
        _across_act(stage),
        _closed_act(stage),
    )


def _within_act(stage: Stage, who: str, to: str) -> Act:
    here, target = stage.segment(who), stage.seats[to]
    own, *others = _switches(stage, who)
    shot = stage.ping(who, target.address)
    carried = carrying(shot.answer.nonce)
    probe = shot.seen.of(carried)
    arp = shot.seen.of(asking_for([target.address]), "ARP request")
    others_bridges = {s.bridge for s in stage.segments.values()} - {here.bridge}
    aside = shot.seen.where(lambda f: f.device in others_bridges)
    checks = [
        answered(shot, target.address),
        tags_on_trunk(stage, probe, here.vlan_id, f"it crosses {own}"),
        heard(f"it leaves {LEFT} by {here.wire} and {here.trunk}", probe, LEFT, here.trunk, "out"),
        heard(f"its ARP broadcast crosses {own}", arp, own, "", "out"),
        *(nothing(f"nothing of it on {other}", shot.seen.on(other)) for other in others),
        nothing("nothing of it in another bridge", aside),
    ]
    title = f"{who} pings {to}: VLAN {here.vlan_id} of {own}"
    return act(stage, title, [shot], told(shot, target.address), checks)


def _across_act(stage: Stage) -> Act:
    here, there, target = stage.segment("VM_1"), stage.segment("VM_6"), stage.seats["VM_6"]
    first, second = (_switches(stage, who)[0] for who in ("VM_1", "VM_6"))
    shot = stage.ping("VM_1", target.address)
    carried = carrying(shot.answer.nonce)
    request, reply = shot.seen.of(carried, ECHO), shot.seen.of(carried, REPLY)
    checks = [
        answered(shot, target.address),
        Check("the same VLAN id on both sides", here.vlan_id == there.vlan_id, f"{here.vlan_id}"),
        heard(f"{LEFT} routes it from {here.bridge}", request, LEFT, here.bridge, "in"),
        heard(f"to {there.bridge}", request, LEFT, there.bridge, "out"),
        heard(f"the request crosses {second}", request, second, "", "out"),
        nothing(f"and not {first}", request.on(first)),
        heard(f"the reply crosses {first}", reply, first, "", "out"),
        nothing(f"and not {second}", reply.on(second)),
    ]
    title = (
        "VM_1 pings VM_6 of the other tenant: from one trunk to the other, by the default router"
    )
    return act(stage, title, [shot], told(shot, target.address), checks)


def _closed_act(stage: Stage) -> Act:
    target = stage.seats["VM_6"]
    with stage.rules():
        shot = stage.ping("VM_1", target.address, hope=False)
    request = shot.seen.of(carrying(shot.answer.nonce))
    checks = [no_answer("ping", shot), nothing("VM_6 never sees it", request.on("VM_6"))]
    title = "without its rule: the group holds from trunk to trunk"
    return act(stage, title, [shot], told(shot, target.address), checks)


def _switches(stage: Stage, instance: str) -> list[str]:
    """Return the switch of an instance's trunk, then the others."""
    own = stage.topology.networks[stage.segment(instance).network].physical_network
    trunks = sorted(stage.topology.trunks.values(), key=lambda trunk: trunk.name != own)
    return [trunk.switch for trunk in trunks]
