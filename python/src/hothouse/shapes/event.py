"""Events: what happens to the sandboxes of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from .lease import Ending, ending_of
from .slots import SLOTS


@dataclass(**SLOTS)
class Event:
    """Something that happened to a sandbox.

    `event` is `created`, `adopted` (found by a server that started), `claimed`, `frozen` (`frozen_by` is then
    `client` or `pressure`, of memory), `thawed`, `snapshotted` (`snapshot` is its id), `restored` (to `image`), `died`
    (then `reason` says why), `ended` (then `ending` is there), or a word of a later server. `seq` counts up on one
    server; `id` is what `Client.events(after=...)` takes to go on behind this event. `at` is RFC 3339 in UTC.
    """

    event: str
    id: str
    seq: int
    at: str
    sandbox_id: str
    pool: Optional[str] = None
    group: Optional[str] = None
    tenant: Optional[str] = None
    reason: Optional[str] = None
    ending: Optional[Ending] = None
    frozen_by: Optional[str] = None
    snapshot: Optional[str] = None
    image: Optional[str] = None


@dataclass(**SLOTS)
class Missed:
    """Events were, or may have been, missed: list the sandboxes again.

    `events` is how many (of all sandboxes, whatever was asked for) where that is known; else `reason` says why nobody
    knows.
    """

    events: Optional[int] = None
    reason: Optional[str] = None


def happening_of(id: str, body: Mapping[str, Any]) -> Event:
    """Reads an `Event` that came with this id."""
    ending = body.get("ending")
    return Event(
        body["event"],
        id,
        body["seq"],
        body["at"],
        body["sandbox_id"],
        body.get("pool"),
        body.get("group"),
        body.get("tenant"),
        body.get("reason"),
        None if ending is None else ending_of(ending),
        body.get("frozen_by"),
        body.get("snapshot"),
        body.get("image"),
    )


def missed_of(body: Mapping[str, Any]) -> Missed:
    """Reads a notice `missed`."""
    return Missed(body.get("events"), body.get("reason"))
