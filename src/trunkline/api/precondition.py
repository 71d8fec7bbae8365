"""Reads the header ``If-Match: revision_number=N``: change the object only as it was read."""

from __future__ import annotations

import re

from starlette.requests import Request

from trunkline.errors import Invalid

_REVISION = re.compile(r"revision_number=([0-9]{1,9})")


def expected_revision(request: Request) -> int | None:
    """Return the revision that the caller insists on; None if on none.

    Raises:
        Invalid: The header holds anything else: to ignore a condition would be to break it.
    """
    header = request.headers.get("if-match", "*").strip().strip('"')
    if header == "*":
        return None
    found = _REVISION.fullmatch(header)
    if found is None:
        raise Invalid(
            f"If-Match {header[:80]!a}: Revision number etag must be in the format of"
            " revision_number=<int>, once.",
            "BadRequest",
        )
    return int(found.group(1))
