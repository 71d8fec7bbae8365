"""What of a trace a project may see: its own objects, and of others allowed or denied."""

from __future__ import annotations

from dataclasses import replace

import article
import clouds
import pytest
from article import ping

from trunkline.trace.narrow import narrow
from trunkline.trace.steps import Disposition, Trace

TENANT = clouds.TENANT1  # of the groups and ports of ``clouds``
DENIED = ping(article.cloud(), "VM_1", "91.208.23.16")
GUARDED = ping(article.cloud(*article.snapshots(without=["VM_3"])), "VM_1", "VM_6")
OPEN = ping(article.cloud(), "VM_1", "VM_6")


def seen(found: Trace, *, sender: bool = True, receiver: bool = False, of: str = TENANT) -> Trace:
    """Return what a project sees, given whose the ends are."""
    return narrow(found, of, "VM_1 to there", own_sender=sender, own_receiver=receiver)


@pytest.mark.parametrize("found", [DENIED, GUARDED, OPEN])
def test_no_host_and_no_wire(found: Trace) -> None:
    """Steps, hosts and their revisions are the operator's, whoever the ends belong to."""
    for receiver in (True, False):
        told = seen(found, receiver=receiver)

        assert (told.steps, told.revisions, told.assumptions) == ((), {}, ())
        assert "compute" not in repr(told)


def test_allowed_or_denied() -> None:
    """Of another's instance: that it is reached, or that it is not."""
    assert seen(OPEN).disposition is Disposition.DELIVERED
    for found in (DENIED, GUARDED):
        told = seen(found)
        assert told.disposition is Disposition.DENIED
        assert told.sentence == "VM_1 to there: denied."
        assert told.reasons == ()


def test_own_receivers_rules() -> None:
    """Whoever sends: why its own instance lets nobody in, a project is told."""
    told = seen(DENIED, sender=False, receiver=True)

    assert told.disposition is Disposition.DENIED_INGRESS
    assert {o.kind for d in told.reasons for o in d.objects} == {"security group", "port"}
    assert [d.kernel for d in told.reasons] == [""]


def test_reasons_that_are_not_all_ones_own() -> None:
    """A decision in which another project's object has a part is not shown."""
    first = DENIED.reasons[0]
    alien = replace(first.objects[0], project_id="other")
    mixed = replace(DENIED, reasons=(replace(first, objects=(alien, *first.objects[1:])),))

    assert seen(mixed, receiver=True).reasons == ()
    assert seen(DENIED, receiver=True, of="third").reasons == ()
