# Generated from ../_async by generate_sync.py: edit that, then run it.
"""Files and trees into a sandbox and out of it, piece by piece."""

from __future__ import annotations

import os
import stat
import tempfile
from functools import partial
from pathlib import Path
from typing import Callable, Optional, Union

from ..archives import OutsideLinks, Progress, content, packed, unpack
from ..bodies import octal, target
from ..errors import ConnectionFailed, LimitExceeded, ShuttingDown
from .connection import Connection
from .files import Files
from .seam import blocking, fed

LocalPath = Union[str, "os.PathLike[str]"]


def upload(
    connection: Connection, sandbox_path: str, local: LocalPath, path: str, progress: Optional[Progress]
) -> None:
    """See `Sandbox.upload`."""
    source = Path(local)
    mode = (blocking(source.stat)).st_mode
    if stat.S_ISDIR(mode):
        at = target(f"{sandbox_path}/archive", path=path)
        pieces = partial(packed, source, progress)
        connection.send("PUT", at, pieces, media_type="application/x-tar", wait_s=UNPACK_S)
    elif stat.S_ISREG(mode):
        at = target(f"{sandbox_path}/files", path=path, mode=octal(stat.S_IMODE(mode) & 0o777))
        pieces = partial(content, source, progress)
        connection.send("PUT", at, pieces, media_type="application/octet-stream", wait_s=UNPACK_S)
    else:
        raise ValueError(f"{source} is neither a file nor a directory")


UNPACK_S = 60.0
"""How long the server may take with what it got, on top of the client's timeout."""


def download(
    connection: Connection,
    sandbox_path: str,
    path: str,
    local: LocalPath,
    outside_links: OutsideLinks,
    progress: Optional[Progress],
) -> None:
    """See `Sandbox.download`."""
    attempt = 0
    while True:
        try:
            return _download(connection, sandbox_path, path, Path(local), outside_links, progress)
        except (ConnectionFailed, LimitExceeded, ShuttingDown) as error:
            # It only reads there and replaces here, so it may begin anew.
            if not connection.backoff(attempt, error):
                raise
            attempt += 1


def _download(
    connection: Connection,
    sandbox_path: str,
    path: str,
    destination: Path,
    outside_links: OutsideLinks,
    progress: Optional[Progress],
) -> None:
    info = Files(connection, sandbox_path).stat(path)
    if info.kind == "directory":
        at = target(f"{sandbox_path}/archive", path=path)
        fed(connection.open("GET", at), partial(_unpack, destination, outside_links, progress))
        return
    answer = connection.open("GET", target(f"{sandbox_path}/files", path=path))
    size, mode = int(answer.headers["hothouse-size"]), int(answer.headers["hothouse-mode"], 8)
    fed(answer, partial(_write, destination, size, mode, progress))


def _unpack(
    destination: Path, outside_links: OutsideLinks, progress: Progress | None, next_piece: Callable[[], bytes]
) -> None:
    unpack(next_piece, destination, outside_links, progress)


def _write(destination: Path, size: int, mode: int, progress: Progress | None, next_piece: Callable[[], bytes]) -> None:
    done = 0
    if progress is not None:
        progress(0, size)
    # Beside the destination, so that it appears there whole or not at all.
    handle, temporary = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            while piece := next_piece():
                file.write(piece)
                done += len(piece)
                if progress is not None:
                    progress(done, size)
            # Not set-user-id and the like: who runs it here is not who owned it there.
            os.fchmod(file.fileno(), mode & 0o777)
        Path(temporary).replace(destination)
    except BaseException:
        Path(temporary).unlink()
        raise
