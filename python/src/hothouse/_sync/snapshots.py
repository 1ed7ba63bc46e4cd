# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Snapshots of a server."""

from __future__ import annotations

import builtins

from ..bodies import segment
from ..errors import SnapshotNotFound
from ..shapes.snapshot import SnapshotInfo, snapshot_of
from .connection import Connection


class Snapshots:
    """The snapshots of a server; `Sandbox.snapshot()` takes one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, id: str) -> SnapshotInfo:
        """Looks at one. Raises `SnapshotNotFound`."""
        return snapshot_of((self._connection.send("GET", f"/v1/snapshots/{segment(id)}")).json())

    def list(self) -> builtins.list[SnapshotInfo]:
        """All of them, sorted by id."""
        reply = self._connection.send("GET", "/v1/snapshots")
        return [snapshot_of(item) for item in reply.json()["items"]]

    def layer(self, id: str) -> bytes:
        """What it changes, as a layer of an OCI image: a tar archive. Raises `SnapshotNotFound`."""
        return (self._connection.send("GET", f"/v1/snapshots/{segment(id)}/layer")).content

    def delete(self, id: str) -> None:
        """Deletes one. Raises `SnapshotInUse` while sandboxes are made of it, and `SnapshotNotFound`."""
        try:
            self._connection.send("DELETE", f"/v1/snapshots/{segment(id)}")
        except SnapshotNotFound as error:
            # An attempt whose answer was lost deleted it.
            if not error.resent:
                raise
