# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Trees of a sandbox's files: copied in and out, patched, compared with its image."""

from __future__ import annotations

from ..archives import OutsideLinks, Progress
from ..bodies import target
from ..retry import Repeat
from ..shapes.file import FilesChanged, changed_of
from ..shapes.snapshot import Diff, diff_of
from .connection import Connection
from .transfer import LocalPath, download, upload


class Trees:
    """What a sandbox does with whole trees of its files."""

    def __init__(self, connection: Connection, path: str) -> None:
        """For the sandbox, whose `path` this is."""
        self._connection = connection
        self._path = path

    def upload(self, local: LocalPath, path: str, *, progress: Progress | None = None) -> None:
        """Copies a local file or directory to `path` in the sandbox, which becomes that file or directory.

        A directory is sent as a tar archive as it is read: links as links, permission bits kept, owners not; what is
        in the sandbox's directory already stays. `progress` is called with the bytes done and all there are; when the
        connection breaks the copying begins anew, and so does it. Raises `OSError` for what cannot be read,
        `ValueError` for what is no file, directory or link.
        """
        upload(self._connection, self._path, local, path, progress)

    def download(
        self,
        path: str,
        local: LocalPath,
        *,
        outside_links: OutsideLinks = "refuse",
        progress: Progress | None = None,
    ) -> None:
        """Copies a file or directory of the sandbox to `local`, which becomes that file or directory.

        A file appears whole or not at all. Nothing of a tree is written outside `local`; a link that leads outside it
        raises `ArchiveRefused` unless `outside_links="keep"` takes such links as they are. `progress` is called with
        the bytes done, and all there are for a file; when the connection breaks the copying begins anew.
        """
        download(self._connection, self._path, path, local, outside_links, progress)

    def patch(self, directory: str, diff: str | bytes, *, strip: int = 1) -> FilesChanged:
        """Applies a unified diff to the files of a directory: all of it or nothing.

        `strip` leading components are taken off the names, as `patch -p` does. Raises `PatchRejected`.
        """
        at = target(f"{self._path}/patch", path=directory, strip=strip)
        content = diff.encode() if isinstance(diff, str) else diff
        reply = self._connection.send("POST", at, content, media_type="text/x-diff", repeat=Repeat.UNSEEN)
        return changed_of(reply.json())

    def diff(self, path: str = "/") -> Diff:
        """What it has added, modified and deleted since its image, at and below a path; its processes stand still."""
        return diff_of((self._connection.send("GET", target(f"{self._path}/diff", path=path))).json())

    def diff_patch(self, path: str = "/") -> str:
        """What it has changed of text files below a directory, as a unified diff for `git apply` there."""
        return (self._connection.send("GET", target(f"{self._path}/diff/patch", path=path))).content.decode()

    def diff_layer(self, path: str = "/") -> bytes:
        """What it has changed, as a layer of an OCI image: a tar archive."""
        return (self._connection.send("GET", target(f"{self._path}/diff/layer", path=path))).content
