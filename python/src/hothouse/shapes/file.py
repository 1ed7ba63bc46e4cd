"""Files of a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional

from .slots import SLOTS


@dataclass(**SLOTS)
class FileInfo:
    """One file, directory or link: `size` in bytes, `mode` the permission bits, `mtime` in seconds since 1970."""

    path: str
    kind: Literal["file", "directory", "symlink", "other"]
    size: int
    mode: int
    uid: int
    gid: int
    mtime: float
    target: Optional[str]


@dataclass(**SLOTS)
class FileWritten:
    """What a write made: the path, how many bytes, and their SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(**SLOTS)
class FilesChanged:
    """What an archive or a patch changed: at most the first 1,000 paths, how many there were, and bytes written."""

    paths: list[str]
    count: int
    bytes: int


def file_of(body: Mapping[str, Any]) -> FileInfo:
    """Reads a `FileInfo`."""
    return FileInfo(
        body["path"],
        body["kind"],
        body["size"],
        body["mode"],
        body["uid"],
        body["gid"],
        body["mtime"],
        body.get("target"),
    )


def written_of(body: Mapping[str, Any]) -> FileWritten:
    """Reads a `FileWritten`."""
    return FileWritten(body["path"], body["size"], body["sha256"])


def changed_of(body: Mapping[str, Any]) -> FilesChanged:
    """Reads `FilesChanged`."""
    return FilesChanged(body["paths"], body["count"], body["bytes"])
