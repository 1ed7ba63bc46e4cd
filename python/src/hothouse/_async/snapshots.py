"""Snapshots of a server."""

from __future__ import annotations

import builtins

from ..bodies import segment
from ..errors import SnapshotNotFound
from ..shapes.snapshot import SnapshotInfo, snapshot_of
from .connection import Connection


class AsyncSnapshots:
    """The snapshots of a server; `AsyncSandbox.snapshot()` takes one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, id: str) -> SnapshotInfo:
        """Looks at one. Raises `SnapshotNotFound`."""
        return snapshot_of((await self._connection.send("GET", f"/v1/snapshots/{segment(id)}")).json())

    async def list(self) -> builtins.list[SnapshotInfo]:
        """All of them, sorted by id."""
        reply = await self._connection.send("GET", "/v1/snapshots")
        return [snapshot_of(item) for item in reply.json()["items"]]

    async def layer(self, id: str) -> bytes:
        """What it changes, as a layer of an OCI image: a tar archive. Raises `SnapshotNotFound`."""
        return (await self._connection.send("GET", f"/v1/snapshots/{segment(id)}/layer")).content

    async def delete(self, id: str) -> None:
        """Deletes one. Raises `SnapshotInUse` while sandboxes are made of it, and `SnapshotNotFound`."""
        try:
            await self._connection.send("DELETE", f"/v1/snapshots/{segment(id)}")
        except SnapshotNotFound as error:
            # An attempt whose answer was lost deleted it.
            if not error.resent:
                raise
