"""Snapshots, and what sandboxes have changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional

from .slots import SLOTS

Difference = Literal["added", "modified", "deleted"]


@dataclass(**SLOTS)
class SnapshotInfo:
    """A snapshot: `snapshot:ID` is the image that it is.

    `image` is what it changes, by `bytes` and `entries`, with directories of the node above it (`image_layers`);
    `holds` is what it holds: `files`. `template` is the template whose setup has left it. `sandboxes` is how many are
    made of it: it cannot be deleted while there are any. `created_at` is RFC 3339 in UTC.
    """

    id: str
    created_at: str
    sandbox_id: str
    image: str
    holds: str
    bytes: int
    entries: int
    labels: dict[str, str]
    tenant: Optional[str]
    template: Optional[str]
    sandboxes: int
    image_layers: list[str]


@dataclass(**SLOTS)
class Change:
    """A path that differs from the image, how, and how many bytes it has now (0 where it is no regular file)."""

    path: str
    change: Difference
    size: int


@dataclass(**SLOTS)
class Diff:
    """What a sandbox has changed since its image: at most 10,000 changes, sorted by path, of `count`."""

    changes: list[Change]
    count: int


def snapshot_of(body: Mapping[str, Any]) -> SnapshotInfo:
    """Reads a `SnapshotInfo`."""
    return SnapshotInfo(
        body["id"],
        body["created_at"],
        body["sandbox_id"],
        body["image"],
        body["holds"],
        body["bytes"],
        body["entries"],
        body.get("labels", {}),
        body.get("tenant"),
        body.get("template"),
        body.get("sandboxes", 0),
        body.get("image_layers", []),
    )


def diff_of(body: Mapping[str, Any]) -> Diff:
    """Reads a `Diff`."""
    return Diff([Change(item["path"], item["change"], item["size"]) for item in body["changes"]], body["count"])
