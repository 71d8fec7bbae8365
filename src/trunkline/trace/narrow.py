"""A trace as a project may see it: of other projects' objects nothing but allowed or denied.

Hosts and the wires between them are the operator's, so steps are left out as a whole.
"""

from __future__ import annotations

from dataclasses import replace

from trunkline.trace.steps import Decision, Disposition, Trace

ABOUT_THE_SENDER = {
    Disposition.SPOOFED,
    Disposition.DENIED_EGRESS,
    Disposition.UNPLUGGED,
    Disposition.NO_LEASE,
}
"""What says something about the sending instance alone."""


def narrow(
    trace: Trace, project_id: str, ends: str, *, own_sender: bool, own_receiver: bool
) -> Trace:
    """Return what a project may know.

    Args:
        trace: The whole trace.
        project_id: The project that asks.
        ends: Both ends in the caller's own words, such as ``VM_1 to 10.1.0.4``.
        own_sender: Whether the sending instance is the project's.
        own_receiver: Whether the receiving one is.
    """
    disposition = trace.disposition
    known = (
        disposition in (Disposition.DELIVERED, Disposition.UNKNOWN)
        or (own_sender and disposition in ABOUT_THE_SENDER)
        or (own_sender and own_receiver)
        or (own_receiver and disposition is Disposition.DENIED_INGRESS)
    )
    own = (_own(decision, project_id) for decision in trace.reasons if known)
    reasons = tuple(decision for decision in own if decision is not None)
    mine = all(
        one.object.kind == "security group" and one.object.project_id == project_id
        for one in trace.advice
    )
    advice = trace.advice if mine and known else ()
    shown = disposition if known else Disposition.DENIED
    why = "".join(f": {decision.text}" for decision in reasons[:1])
    return replace(
        trace,
        disposition=shown,
        sentence=f"{ends}: {shown}{why}.",
        reasons=reasons,
        steps=(),
        assumptions=(),
        advice=advice,
        revisions={},
    )


def _own(decision: Decision, project_id: str) -> Decision | None:
    """Return a decision that rests on own objects alone, without the kernel's side of it."""
    if {one.project_id for one in decision.objects} != {project_id}:
        return None
    return replace(decision, device="", kernel="", passed_over=())
