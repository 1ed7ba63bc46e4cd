"""Files of a sandbox. Every path is an absolute path in the sandbox."""

from __future__ import annotations

import builtins

from ..bodies import encoded, given, octal, target
from ..errors import FileNotFound
from ..retry import Repeat
from ..shapes.file import FileInfo, FileWritten, file_of, written_of
from .connection import Connection


class AsyncFiles:
    """The files of one sandbox.

    All raise `FileNotFound` for what is not there, `FileRefused` for what is of the wrong kind, and `NoSpace` when the
    sandbox's disk limit is reached.
    """

    def __init__(self, connection: Connection, sandbox_path: str) -> None:
        self._connection = connection
        self._path = f"{sandbox_path}/files"

    async def read_bytes(self, path: str, *, offset: int | None = None, length: int | None = None) -> bytes:
        """Reads a regular file, or `length` bytes of it from `offset` on."""
        at = target(self._path, path=path, offset=offset, length=length)
        return (await self._connection.send("GET", at)).content

    async def read_text(self, path: str, encoding: str = "utf-8") -> str:
        """Reads a regular file as text. Raises `UnicodeDecodeError` when it is none."""
        return (await self.read_bytes(path)).decode(encoding)

    async def write_bytes(self, path: str, content: bytes, *, mode: int | None = None) -> FileWritten:
        """Writes a file: atomically, missing directories are made.

        `mode` is the permission bits, e.g. `0o755`; those of the file that is replaced, or `0o644`, when None.
        """
        at = target(self._path, path=path, mode=octal(mode))
        reply = await self._connection.send("PUT", at, content, media_type="application/octet-stream")
        return written_of(reply.json())

    async def write_text(
        self, path: str, content: str, encoding: str = "utf-8", *, mode: int | None = None
    ) -> FileWritten:
        """Writes text to a file, as `write_bytes` does."""
        return await self.write_bytes(path, content.encode(encoding), mode=mode)

    async def stat(self, path: str) -> FileInfo:
        """What is at a path; a link at its end is not followed."""
        return file_of((await self._connection.send("GET", target(f"{self._path}/stat", path=path))).json())

    async def exists(self, path: str) -> bool:
        """True when something is at this path; a link counts, wherever it leads."""
        try:
            await self.stat(path)
        except FileNotFound:
            return False
        return True

    async def list(self, path: str) -> builtins.list[FileInfo]:
        """The entries of a directory, sorted by name."""
        reply = await self._connection.send("GET", target(f"{self._path}/list", path=path))
        return [file_of(item) for item in reply.json()["items"]]

    async def mkdir(self, path: str, *, mode: int | None = None) -> None:
        """Makes a directory and missing parents; one that exists is fine. `mode` is `0o755` when None."""
        body = encoded(given(path=path, mode=octal(mode)))
        await self._connection.send("POST", f"{self._path}/mkdir", body)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Removes a file or an empty directory; with `recursive` a directory with all that is in it."""
        at = target(self._path, path=path, recursive=recursive or None)
        try:
            await self._connection.send("DELETE", at)
        except FileNotFound as error:
            # An attempt whose answer was lost removed it.
            if not error.resent:
                raise

    async def rename(self, path: str, to: str) -> None:
        """Renames a file or directory; a file that is at `to` is replaced."""
        body = encoded({"from": path, "to": to})
        await self._connection.send("POST", f"{self._path}/rename", body, repeat=Repeat.UNSEEN)
