"""Pools: sandboxes that are kept ready, and claims of them."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping

from ..bodies import claim_body, encoded, segment
from ..errors import PoolExists, PoolNotFound
from ..shapes.lease import Lease
from ..shapes.pool import ClaimFile, PoolInfo, pool_of
from ..shapes.sandbox import info_of
from .connection import Connection
from .orders import ordered
from .sandbox import AsyncSandbox


class AsyncPool:
    """A pool of a server. Leaving it alone leaves it there: a pool is deleted by `delete()` only."""

    def __init__(self, connection: Connection, info: PoolInfo) -> None:
        self._connection = connection
        self._path = f"/v1/pools/{segment(info.name)}"
        self.name = info.name
        self.info = info
        """What the server said last; `refresh()` asks again."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    async def refresh(self) -> PoolInfo:
        """Asks the server how it is. Raises `PoolNotFound`."""
        self.info = pool_of((await self._connection.send("GET", self._path)).json())
        return self.info

    async def claim(
        self,
        *,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        files: Iterable[ClaimFile] = (),
        lease: Lease | None = None,
        secrets: Mapping[str, str] | None = None,
        cpus: float | None = None,
        memory_bytes: int | None = None,
        pids: int | None = None,
        wait_s: float | None = None,
        priority: int | None = None,
    ) -> AsyncSandbox:
        """Claims a sandbox: one that is ready, or else one that is made now.

        Variables, labels and what the lease says go over those of the template, and so do the limits `cpus`,
        `memory_bytes` and `pids`; files are there when this returns. `secrets` are values for commands that ask for
        them by name. `wait_s` is how long to wait for room, in seconds (at most 600; 0 when None), before claims of
        a lower `priority` (-100 to 100). A claim whose answer was lost is sent again and takes no second sandbox.

        Raises `PoolDraining`, `InvalidRequest` naming the field, `CapacityExceeded` and `QuotaExceeded` where there
        was no room in that time, `SetupFailed`.
        """
        body = claim_body(
            cpus=cpus,
            memory_bytes=memory_bytes,
            pids=pids,
            env=env,
            labels=labels,
            files=files,
            lease=lease,
            secrets=secrets,
        )
        info = await ordered(self._connection, f"{self._path}/claim", body, wait_s=wait_s, priority=priority)
        return AsyncSandbox(self._connection, info_of(info), None)

    async def scale(self, *, min: int, max: int) -> PoolInfo:
        """Keeps another number of sandboxes ready."""
        reply = await self._connection.send("PUT", f"{self._path}/size", encoded({"min": min, "max": max}))
        self.info = pool_of(reply.json())
        return self.info

    async def drain(self) -> PoolInfo:
        """Has it make and give nothing any more; sandboxes that were claimed live on."""
        self.info = pool_of((await self._connection.send("POST", f"{self._path}/drain")).json())
        return self.info

    async def delete(self) -> None:
        """Deletes it with what it has ready. Raises `PoolInUse` when sandboxes are claimed: drain it first."""
        try:
            await self._connection.send("DELETE", self._path)
        except PoolNotFound as error:
            # An attempt whose answer was lost deleted it.
            if not error.resent:
                raise


class AsyncPools:
    """The pools of a server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(self, name: str, *, template: str, min: int, max: int) -> AsyncPool:
        """Makes a pool, which fills in the background.

        It keeps `min` sandboxes ready when nobody claims any, and at most `max`. Raises `TemplateNotFound`,
        `PoolExists`.
        """
        body = encoded({"name": name, "template": template, "min": min, "max": max})
        try:
            reply = await self._connection.send("POST", "/v1/pools", body)
        except PoolExists as error:
            if not error.resent:
                raise
            # Perhaps made by an attempt whose answer was lost; then it is just what was asked for.
            pool = await self.get(name)
            info = pool.info
            if (info.template, info.min, info.max) != (template, min, max):
                raise
            return pool
        return AsyncPool(self._connection, pool_of(reply.json()))

    async def get(self, name: str) -> AsyncPool:
        """Finds one by its name. Raises `PoolNotFound`."""
        reply = await self._connection.send("GET", f"/v1/pools/{segment(name)}")
        return AsyncPool(self._connection, pool_of(reply.json()))

    async def list(self) -> builtins.list[PoolInfo]:
        """All of them, sorted by name."""
        return [pool_of(item) for item in (await self._connection.send("GET", "/v1/pools")).json()["items"]]
