"""From what a person types to an object: an id, or a name that fits one object only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from trunkline.cli.kinds import KINDS, Kind
from trunkline.errors import Invalid, NotFound

if TYPE_CHECKING:
    from trunkline.client import ApiClient

KIND_OF = {kind.collection: kind for kind in KINDS}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def find(client: ApiClient, kind: Kind, word: str) -> dict[str, Any]:
    """Return the one object that a word means.

    Raises:
        NotFound: It means none that the caller sees.
        Invalid: It means several.
    """
    found = client.list(kind.collection, id=word) if _UUID.fullmatch(word) else []
    found = found or client.list(kind.collection, **{kind.named_by: word})
    if len(found) > 1 and "project_id" in found[0]:
        mine = own_project(client)
        found = [one for one in found if one["project_id"] == mine] or found
    if not found:
        raise NotFound(
            f"there is no {kind.noun} {word!r} that you may see; `trunkline {kind.command} list`"
            " shows those there are"
        )
    if len(found) > 1:
        ids = ", ".join(one["id"] for one in found)
        raise Invalid(f"{len(found)} {kind.noun}s are called {word!r}; use an id: {ids}")
    return found[0]


def find_id(client: ApiClient, collection: str, word: str) -> str:
    """Return the id of the one object of a collection that a word means; see ``find``."""
    return str(find(client, KIND_OF[collection], word)["id"])


def own_project(client: ApiClient) -> str:
    """Return the id of the project that the caller is logged in to."""
    return str(client.request("GET", "/v2.0/quotas/project")["project"]["project_id"])
