"""A client of one server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from ..bodies import claim_body, given, segment, spec_body, target
from ..shapes.group import EndedMany, OnFailure, ended_many_of, group_of
from ..shapes.lease import Lease
from ..shapes.pool import ClaimFile
from ..shapes.sandbox import Capabilities, Health, SandboxInfo, capabilities_of, info_of
from ..shapes.stats import NodeStats, node_stats_of
from .connection import LOCAL, SERVER_VARIABLE, Connection
from .events import EventStream
from .groups import AsyncGroup, AsyncGroups, undone
from .images import AsyncImages
from .orders import ordered
from .pools import AsyncPools
from .sandbox import AsyncSandbox
from .seam import Flow, Transport
from .snapshots import AsyncSnapshots
from .templates import AsyncTemplates

TIMEOUT_S = 30.0
RETRIES = 6
PAGE = 200


class AsyncClient:
    """A client of one server; make one and keep it, since it holds connections open. A context manager closes it.

    `base_url` is e.g. `http://127.0.0.1:8700`; by default that of `HOTHOUSE_SERVER`, else a private server, which this
    process starts when it is first needed (as with `local`). `api_key` (by default of `HOTHOUSE_API_KEY`) goes along
    as a bearer token. `timeout` is how long the server may be silent where it should not be, in seconds; a command may
    take as long as it likes. What is safe to send again is, at most `retries` times, with growing pauses. `transport`
    replaces what carries the requests, for proxies, sockets and certificates of your own; proxies are not taken from
    the environment.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT_S,
        retries: int = RETRIES,
        transport: Transport | None = None,
    ) -> None:
        self._connection = Connection(
            base_url or os.environ.get(SERVER_VARIABLE) or LOCAL,
            api_key=api_key,
            timeout=timeout,
            retries=retries,
            transport=transport,
        )
        self.templates = AsyncTemplates(self._connection)
        """Templates, which pools make their sandboxes from."""
        self.pools = AsyncPools(self._connection)
        """Pools, which keep sandboxes ready."""
        self.groups = AsyncGroups(self._connection)
        """Groups that are there; `group()` makes one."""
        self.snapshots = AsyncSnapshots(self._connection)
        """Snapshots, of which sandboxes are made; `AsyncSandbox.snapshot()` takes one."""
        self.images = AsyncImages(self._connection)
        """Images of the server's store."""

    @classmethod
    def local(cls, *, timeout: float = TIMEOUT_S, retries: int = RETRIES) -> AsyncClient:
        """A client of the private server, whatever the environment says."""
        return cls(LOCAL, timeout=timeout, retries=retries)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes its connections; sandboxes live on."""
        await self._connection.close()

    @property
    def base_url(self) -> str | None:
        """The server's address; None while it is a private server that nothing was asked of yet."""
        return self._connection.base_url

    async def create(
        self,
        *,
        id: str | None = None,
        image: str | None = None,
        layers: Iterable[str] = (),
        cpus: float | None = None,
        memory_bytes: int | None = None,
        pids: int | None = None,
        disk_bytes: int | None = None,
        disk_inodes: int | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        labels: Mapping[str, str] | None = None,
        lease: Lease | None = None,
        secrets: Mapping[str, str] | None = None,
        needs: Mapping[str, float] | None = None,
        wait_s: float | None = None,
        priority: int | None = None,
    ) -> AsyncSandbox:
        """Makes a sandbox.

        What is None is the server's default: 1 core, 512 MiB of memory, 256 processes, 256 MiB of disk. `image` is
        `host`, a name of the server's store, `docker://HOST/NAME:TAG`, `snapshot:ID` or `dir:/absolute/path`; `layers`
        are directories of the server's machine (`dir:/absolute/path`) that lie over it, the last one uppermost; `env`
        is for every command; `workdir` is where they run (`/workspace`);
        `labels` are for finding it again; `lease` says when it ends without being deleted; `secrets` are values for
        commands that ask for them by name; `needs` is what it takes of the node beside its resources, e.g.
        `{"gpus": 1}`. `wait_s` is how long to wait for room, in seconds (at most 600; 0 when None), before requests
        of a lower `priority` (-100 to 100).

        A create whose answer was lost is sent again and makes no second sandbox. Raises `InvalidRequest` naming the
        field, `SandboxExists` for an `id` that is in use, `CapacityExceeded` and `QuotaExceeded` where there was no
        room in that time, `CreateFailed`.
        """
        body = spec_body(
            image=image,
            layers=layers,
            cpus=cpus,
            memory_bytes=memory_bytes,
            pids=pids,
            disk_bytes=disk_bytes,
            disk_inodes=disk_inodes,
            env=env,
            workdir=workdir,
            labels=labels,
            lease=lease,
            needs=needs,
            secrets=secrets,
        )
        if id is not None:
            body["id"] = id
        info = await ordered(self._connection, "/v1/sandboxes", body, wait_s=wait_s, priority=priority)
        return AsyncSandbox(self._connection, info_of(info), None)

    async def group(
        self,
        count: int,
        *,
        id: str | None = None,
        pool: str | None = None,
        fork_of: str | None = None,
        on_failure: OnFailure = "undo",
        image: str | None = None,
        layers: Iterable[str] = (),
        cpus: float | None = None,
        memory_bytes: int | None = None,
        pids: int | None = None,
        disk_bytes: int | None = None,
        disk_inodes: int | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        labels: Mapping[str, str] | None = None,
        files: Iterable[ClaimFile] = (),
        lease: Lease | None = None,
        secrets: Mapping[str, str] | None = None,
        needs: Mapping[str, float] | None = None,
        wait_s: float | None = None,
        priority: int | None = None,
    ) -> AsyncGroup:
        """Makes `count` sandboxes (1 to 1,024) that are all alike, or claims them from a pool: all of them or none.

        With `fork_of` they are forks of that sandbox: they begin with the files that it has now and with what it was
        made with, over which `cpus`, `memory_bytes`, `pids`, `env`, `labels`, `lease` and `secrets` count.

        The other arguments are those of `create`; with `pool` those of `AsyncPool.claim`, and one that a claim has
        not, or `files` without a pool, raises `ValueError`. With `on_failure="keep"` what could be had is kept, and
        the group's `failures` say what could not; where that is all of them, `GroupNotFound` may be raised. Members
        of a group that is not claimed are called after its `id`: `ID-0`, `ID-1`, …

        Sent again after a lost answer it makes no second group, but then nobody says any more what failed. Raises
        what `create` and `claim` raise, and `GroupExists` for an `id` that is in use.
        """
        body = given(id=id, count=count, on_failure=on_failure, fork_of=fork_of)
        if pool is None and fork_of is None:
            if files:
                raise ValueError("files go with a claim from a pool; upload them into sandboxes that are made")
            body["sandbox"] = spec_body(
                image=image,
                layers=layers,
                cpus=cpus,
                memory_bytes=memory_bytes,
                pids=pids,
                disk_bytes=disk_bytes,
                disk_inodes=disk_inodes,
                env=env,
                workdir=workdir,
                labels=labels,
                lease=lease,
                needs=needs,
                secrets=secrets,
            )
        else:
            wrong = given(
                image=image,
                layers=list(layers) or None,
                disk_bytes=disk_bytes,
                disk_inodes=disk_inodes,
                workdir=workdir,
                needs=needs or None,
            )
            if wrong:
                raise ValueError(f"a claim does not set {', '.join(wrong)}; the pool's template does")
            if pool is None and files:
                raise ValueError("files go with a claim from a pool; upload them into forks that are made")
            if pool is not None:
                body["pool"] = pool
            body["claim"] = claim_body(
                cpus=cpus,
                memory_bytes=memory_bytes,
                pids=pids,
                env=env,
                labels=labels,
                files=files,
                lease=lease,
                secrets=secrets,
            )
        info = await ordered(self._connection, "/v1/groups", body, wait_s=wait_s, priority=priority, undone=undone)
        return AsyncGroup(self._connection, group_of(info))

    async def sandbox(self, id: str) -> AsyncSandbox:
        """Finds a sandbox by its id. Raises `SandboxNotFound`, and `SandboxEnded` for one that is no more."""
        return await self.adopt(id, None)

    async def adopt(self, id: str, own: AsyncClient | None) -> AsyncSandbox:
        """As `sandbox()`; the sandbox closes the client `own` at its end."""
        reply = await self._connection.send("GET", f"/v1/sandboxes/{segment(id)}")
        return AsyncSandbox(self._connection, info_of(reply.json()), own)

    async def sandboxes(self, *, labels: Mapping[str, str] | None = None) -> Flow[SandboxInfo]:
        """All sandboxes, sorted by id, or those that carry all these labels. More are fetched as they are needed."""
        wanted = [f"{name}={value}" for name, value in (labels or {}).items()]
        after = None
        while True:
            path = target("/v1/sandboxes", limit=PAGE, after=after, label=wanted or None)
            page = (await self._connection.send("GET", path)).json()
            for item in page["items"]:
                yield info_of(item)
            after = page.get("next")
            if after is None:
                return

    async def delete_all(self, *, labels: Mapping[str, str]) -> EndedMany:
        """Deletes all sandboxes that carry all these labels, of which there is one at least.

        Returns when nothing of them is left, with those where that failed. Sent again after a lost answer, it counts
        only those that were left then.
        """
        path = target("/v1/sandboxes", label=[f"{name}={value}" for name, value in labels.items()])
        return ended_many_of((await self._connection.send("DELETE", path)).json())

    async def renew(self, owner: str) -> int:
        """Lets word of an owner be heard: the leases of all its sandboxes begin anew. How many those are.

        Raises `NotFound` when the owner has none, or none any more.
        """
        return int((await self._connection.send("POST", f"/v1/owners/{segment(owner)}/renew")).json()["sandboxes"])

    def events(
        self,
        *,
        after: str | None = None,
        sandbox_id: str | None = None,
        pool: str | None = None,
        group: str | None = None,
    ) -> EventStream:
        """Follows what happens to sandboxes: of all, or of one, of a pool, of a group. See `EventStream`.

        It begins with what happens once the iteration has begun, or behind the event with the id `after`; `"0"` is
        before the oldest that the server keeps.
        """
        path = target("/v1/events", sandbox_id=sandbox_id, pool=pool, group=group)
        return EventStream(self._connection, path, after or "")

    async def stats(self, *, limit: int = 100) -> NodeStats:
        """What the node and its sandboxes use now; of the sandboxes those with the most memory, 1 to 1,000 of them."""
        return node_stats_of((await self._connection.send("GET", f"/v1/stats?limit={limit}")).json())

    async def capabilities(self) -> Capabilities:
        """What the server's machine enforces, limit by limit."""
        return capabilities_of((await self._connection.send("GET", "/v1/capabilities")).json())

    async def health(self) -> Health:
        """That the server lives, and its version."""
        body = (await self._connection.send("GET", "/healthz")).json()
        return Health(body["status"], body["version"])
