"""Images of a server's store."""

from __future__ import annotations

import builtins
from pathlib import Path

from ..bodies import encoded, given, segment, target
from ..shapes.image import ImageInfo, Pruned, image_of, pruned_of
from .connection import Connection
from .seam import blocking

PATIENCE_S = 3600.0
"""Seconds that fetching an image may rightly take."""


class AsyncImages:
    """The images of a server: `client.create(image="debian:12")` makes a sandbox of one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def pull(self, image: str, *, name: str | None = None, plain_http: bool = False) -> ImageInfo:
        """Fetches an image into the store: `docker://HOST/NAME:TAG`, `docker-daemon:NAME`, or a file of the server.

        `name` is what it is called beside its own names. Raises `ImageUnavailable` when it cannot be fetched,
        `ImageInvalid` when it cannot be used, and `ImageNotFound`.
        """
        body = given(image=image, name=name)
        if plain_http:
            body["plain_http"] = True
        reply = await self._connection.send("POST", "/v1/images/pull", encoded(body), wait_s=PATIENCE_S)
        return image_of(reply.json())

    async def load(self, archive: str | Path, *, name: str | None = None) -> ImageInfo:
        """Uploads an archive of this machine: what `docker save` writes, an OCI layout or a root file system as tar.

        Raises `ImageInvalid` when it is none.
        """
        at = target("/v1/images/import", name=name)
        content = await blocking(Path(archive).read_bytes)
        reply = await self._connection.send("POST", at, content, media_type="application/x-tar", wait_s=PATIENCE_S)
        return image_of(reply.json())

    async def get(self, image: str) -> ImageInfo:
        """Looks at one by name or id. Raises `ImageNotFound`."""
        return image_of((await self._connection.send("GET", f"/v1/images/{segment(image)}")).json())

    async def list(self) -> builtins.list[ImageInfo]:
        """All of them."""
        reply = await self._connection.send("GET", "/v1/images")
        return [image_of(item) for item in reply.json()["items"]]

    async def save(self, image: str, archive: str | Path) -> None:
        """Writes it to a file of this machine, as an OCI layout in a tar archive. Raises `ImageNotFound`."""
        reply = await self._connection.send("GET", f"/v1/images/{segment(image)}/archive", wait_s=PATIENCE_S)
        await blocking(Path(archive).write_bytes, reply.content)

    async def delete(self, image: str) -> Pruned:
        """Deletes a name, and with its last name the image. Raises `ImageInUse` and `ImageNotFound`."""
        return pruned_of((await self._connection.send("DELETE", f"/v1/images/{segment(image)}")).json())

    async def prune(self, *, all: bool = False, unused_for_s: int = 0) -> Pruned:
        """Deletes what no sandbox is made of: images without a name, with `all` those with names too."""
        body = {"all": all, "unused_for_s": unused_for_s}
        return pruned_of((await self._connection.send("POST", "/v1/images/prune", encoded(body))).json())
