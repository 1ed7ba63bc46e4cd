"""A client of one server."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..bodies import encoded, new_id, segment, spec_body, target
from ..errors import SandboxExists
from ..shapes.sandbox import Capabilities, Health, SandboxInfo, capabilities_of, info_of
from .connection import LOCAL, SERVER_VARIABLE, Connection
from .pools import AsyncPools
from .sandbox import AsyncSandbox
from .seam import Flow, Transport
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
        cpus: float | None = None,
        memory_bytes: int | None = None,
        pids: int | None = None,
        disk_bytes: int | None = None,
        disk_inodes: int | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> AsyncSandbox:
        """Makes a sandbox.

        What is None is the server's default: 1 core, 512 MiB of memory, 256 processes, 256 MiB of disk. `image` is
        `host` or `dir:/absolute/path`; `env` is for every command; `workdir` is where they run (`/workspace`);
        `labels` are for finding it again. Raises `InvalidRequest` naming the field, `SandboxExists` for an `id` that
        is in use, `LimitExceeded` when the server is full, `CreateFailed`.

        A create whose answer was lost is sent again; with an `id` of your own that can raise `SandboxExists` for
        a sandbox that this call made (the error's `resent` is True then).
        """
        own_id = id or new_id("sb")
        body = spec_body(
            image=image,
            cpus=cpus,
            memory_bytes=memory_bytes,
            pids=pids,
            disk_bytes=disk_bytes,
            disk_inodes=disk_inodes,
            env=env,
            workdir=workdir,
            labels=labels,
        )
        body["id"] = own_id
        headers = {"idempotency-key": new_id("create")}
        try:
            reply = await self._connection.send("POST", "/v1/sandboxes", encoded(body), headers=headers)
        except SandboxExists as error:
            # Made by an attempt whose answer was lost: nobody else knows an id that was made here.
            if id is not None or not error.resent:
                raise
            return await self.adopt(own_id, None)
        return AsyncSandbox(self._connection, info_of(reply.json()), None)

    async def sandbox(self, id: str) -> AsyncSandbox:
        """Finds a sandbox by its id. Raises `SandboxNotFound`."""
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

    async def capabilities(self) -> Capabilities:
        """What the server's machine enforces, limit by limit."""
        return capabilities_of((await self._connection.send("GET", "/v1/capabilities")).json())

    async def health(self) -> Health:
        """That the server lives, and its version."""
        body = (await self._connection.send("GET", "/healthz")).json()
        return Health(body["status"], body["version"])
