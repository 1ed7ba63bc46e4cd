"""Leases: when a sandbox ends without being deleted, and how one has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional

from .slots import SLOTS

EndCause = Literal[
    "deleted",
    "lifetime",
    "idle",
    "owner_gone",
    "group",
    "pool",
    "abandoned",
    "memory_pressure",
    "node_ended",
    "found_dead",
]


Reclaim = Literal["never", "freeze", "end"]


@dataclass(**SLOTS)
class Lease:
    """When a sandbox ends without being deleted, in seconds (0.1 to 31,536,000); what is None never ends it.

    `lifetime_s` counts from when it was made or claimed, `idle_s` from the last request to it or the end of the last
    command in it, `owner_s` from the last word of `owner`: a request to any sandbox of that owner, or `renew()`.
    `reclaim` says what may be done to it while it is idle and the machine is short of memory: `never` anything,
    `freeze` it until the next request (so when None), or `end` it where that is not enough.
    """

    lifetime_s: Optional[float] = None
    idle_s: Optional[float] = None
    owner: Optional[str] = None
    owner_s: Optional[float] = None
    reclaim: Optional[Reclaim] = None


@dataclass(**SLOTS)
class Ending:
    """How a sandbox ended: `cause` for a program and `why` for a person.

    `by` is `client`, the tenant whose key was used, `lease`, `pressure` (of memory), `pool NAME`, `group ID` or `node`;
    `at` is RFC 3339, UTC.
    """

    cause: EndCause
    by: str
    at: str
    why: str


def lease_body(lease: Lease | None) -> dict[str, Any]:
    """A `Lease` as requests carry it: what is not None."""
    if lease is None:
        return {}
    fields = {
        "lifetime_s": lease.lifetime_s,
        "idle_s": lease.idle_s,
        "owner": lease.owner,
        "owner_s": lease.owner_s,
        "reclaim": lease.reclaim,
    }
    return {name: value for name, value in fields.items() if value is not None}


def lease_of(body: Mapping[str, Any]) -> Lease:
    """Reads a `Lease`."""
    return Lease(
        body.get("lifetime_s"), body.get("idle_s"), body.get("owner"), body.get("owner_s"), body.get("reclaim")
    )


def ending_of(body: Mapping[str, Any]) -> Ending:
    """Reads an `Ending`."""
    return Ending(body["cause"], body["by"], body["at"], body["why"])
