"""Trees of files as tar archives, made and unpacked piece by piece. Nothing here knows where the bytes go."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Literal, Optional

from .errors import ArchiveRefused

Progress = Callable[[int, Optional[int]], None]
"""Called with the bytes of content done so far, and with all there are where that is known."""

OutsideLinks = Literal["refuse", "keep"]

PIECE = 256 << 10


def packed(root: Path, progress: Progress | None) -> Iterator[bytes]:
    """A tar archive of what is in a directory, names relative to it, links as links, owners left out.

    Raises `OSError` for what cannot be read or changes meanwhile, `ValueError` for what is no file, directory or link.
    """
    entries = list(_entries(root))
    total = sum(status.st_size for _, status in entries if stat.S_ISREG(status.st_mode))
    done = 0
    if progress is not None:
        progress(0, total)
    for path, status in entries:
        yield _header(path, path.relative_to(root).as_posix(), status)
        if not stat.S_ISREG(status.st_mode):
            continue
        left = status.st_size
        with path.open("rb") as file:
            while left:
                piece = file.read(min(PIECE, left))
                if not piece:
                    raise OSError(f"{path} became shorter while it was read")
                left -= len(piece)
                done += len(piece)
                yield piece
                if progress is not None:
                    progress(done, total)
        yield bytes(-status.st_size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _entries(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        path = Path(entry.path)
        yield path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(path)


def _header(path: Path, name: str, status: os.stat_result) -> bytes:
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(status.st_mode)
    info.mtime = int(status.st_mtime)
    if stat.S_ISREG(status.st_mode):
        info.size = status.st_size
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        info.type = tarfile.SYMTYPE
        info.linkname = str(path.readlink())
    else:
        raise ValueError(f"{path} is neither a file nor a directory nor a link; it cannot go into an archive")
    # The GNU format carries names of any length and bytes that are no text.
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def content(path: Path, progress: Progress | None) -> Iterator[bytes]:
    """The bytes of a file, piece by piece."""
    done = 0
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        if progress is not None:
            progress(0, total)
        while piece := file.read(PIECE):
            done += len(piece)
            yield piece
            if progress is not None:
                progress(done, total)


class _Pieces:
    """What `tarfile` reads from: pieces as they come."""

    def __init__(self, next_piece: Callable[[], bytes]) -> None:
        self._next_piece = next_piece
        self._rest = b""

    def read(self, size: int) -> bytes:
        gathered = [self._rest]
        length = len(self._rest)
        while length < size and (piece := self._next_piece()):
            gathered.append(piece)
            length += len(piece)
        whole = b"".join(gathered)
        self._rest = whole[size:]
        return whole[:size]


def unpack(
    next_piece: Callable[[], bytes], directory: Path, outside_links: OutsideLinks, progress: Progress | None
) -> None:
    """Unpacks a tar archive, whose next bytes `next_piece` gives (none at the end), into a directory.

    Who made the archive is not trusted: links are made after everything else, so that nothing is written through
    one; what is there already is replaced, never followed; devices and the like are refused with `ArchiveRefused`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    links: list[tuple[Path, str]] = []
    modes: list[tuple[Path, int]] = []
    done = 0
    with tarfile.open(fileobj=_as_file(_Pieces(next_piece)), mode="r|", errorlevel=2) as archive:
        for entry in archive:
            path = _inside(directory, entry.name)
            if entry.isdir():
                _make_directory(directory, path)
                modes.append((path, entry.mode))
            elif entry.issym():
                _make_directory(directory, path.parent)
                links.append((path, entry.linkname))
            elif entry.isreg():
                _make_directory(directory, path.parent)
                source = archive.extractfile(entry)
                assert source is not None
                for size in _written(source, path, entry.mode):
                    done += size
                    if progress is not None:
                        progress(done, None)
            else:
                raise ArchiveRefused(f"{entry.name!r} is neither a file nor a directory nor a link")
    while next_piece():
        # What follows the archive's end is padding; an answer that is read to its end is known to be whole.
        continue
    _make_links(directory, links, outside_links)
    # Last and deepest first, since a directory may not be writable once it has its mode.
    for path, mode in reversed(modes):
        path.chmod(stat.S_IMODE(mode) & 0o777)


def _as_file(pieces: _Pieces) -> IO[bytes]:
    # tarfile asks a stream for read() alone.
    return pieces  # type: ignore[return-value]


def _inside(directory: Path, name: str) -> Path:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ArchiveRefused(f"{name!r} would be outside the directory")
    return directory.joinpath(*parts)


def _make_links(directory: Path, links: list[tuple[Path, str]], outside_links: OutsideLinks) -> None:
    for path, to in links:
        _clear(path)
        path.symlink_to(to)
    if outside_links == "keep":
        return
    # Where a link leads depends on the others, so all are there before any is followed.
    root = os.path.realpath(directory)
    for path, to in links:
        if not (os.path.realpath(path) + "/").startswith(root + "/"):
            for made, _ in links:
                made.unlink()
            raise ArchiveRefused(
                f"the link {str(path)!r} leads outside, to {to!r}; outside_links='keep' takes such links as they are"
            )


def _make_directory(root: Path, path: Path) -> None:
    if path == root:
        return
    _make_directory(root, path.parent)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    path.mkdir(exist_ok=True)


def _written(source: IO[bytes], path: Path, mode: int) -> Iterator[int]:
    _clear(path)
    # What is there was removed just now, so that nothing is followed; with O_EXCL nothing can come in between.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        while piece := source.read(PIECE):
            file.write(piece)
            yield len(piece)
        # Not set-user-id and the like: what runs as somebody in there is nobody's program here.
        os.fchmod(file.fileno(), stat.S_IMODE(mode) & 0o777)


def _clear(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    elif path.is_dir():
        raise ArchiveRefused(f"{str(path)!r} is a directory already")
