"""Images of a server's store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from .slots import SLOTS


@dataclass(**SLOTS)
class ImageInfo:
    """An image of the store: what it is, what it is called, and how it is used.

    `id` is the digest of its configuration, `config` what that says (env, workdir, user, entrypoint, cmd, labels),
    `bytes` what its layers take on disk, `left_out` how many entries of it were left out. Times are RFC 3339 in UTC.
    """

    id: str
    names: list[str]
    digests: list[str]
    os: str
    architecture: str
    created: Optional[str]
    imported_at: str
    used_at: Optional[str]
    in_use: bool
    bytes: int
    config: dict[str, Any]
    layers: list[dict[str, Any]]
    left_out: int


@dataclass(**SLOTS)
class Pruned:
    """What is gone: ids of images, how many layers, and the bytes that were freed."""

    images: list[str]
    layers: int
    bytes: int


def image_of(body: Mapping[str, Any]) -> ImageInfo:
    """Reads an `ImageInfo`."""
    return ImageInfo(
        body["id"],
        body["names"],
        body["digests"],
        body["os"],
        body["architecture"],
        body.get("created"),
        body["imported_at"],
        body.get("used_at"),
        body["in_use"],
        body["bytes"],
        body["config"],
        body["layers"],
        body["left_out"],
    )


def pruned_of(body: Mapping[str, Any]) -> Pruned:
    """Reads a `Pruned`."""
    return Pruned(body["images"], body["layers"], body["bytes"])
