"""Archives of somebody who means harm: nothing gets out of the directory."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hothouse import ArchiveRefused
from hothouse.archives import OutsideLinks, packed, unpack


def archive(*entries: tuple[str, dict[str, Any], bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, fields, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def link(name: str, to: str) -> tuple[str, dict[str, Any], bytes]:
    return name, {"type": tarfile.SYMTYPE, "linkname": to}, b""


def directory(name: str, mode: int = 0o755) -> tuple[str, dict[str, Any], bytes]:
    return name, {"type": tarfile.DIRTYPE, "mode": mode}, b""


def unpacked(content: bytes, to: Path, outside_links: OutsideLinks = "refuse", size: int = 100) -> None:
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    unpack(lambda: pieces.pop(0) if pieces else b"", to, outside_links, None)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a/.."])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveRefused):
        unpacked(archive((name, {}, b"x")), tmp_path / "to")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("outside_links", ["refuse", "keep"])
def test_nothing_is_written_through_a_link(tmp_path: Path, outside_links: OutsideLinks) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    content = archive(link("d", str(outside)), ("d/x", {}, b"bad"), link("f", str(outside / "y")), ("f", {}, b"bad"))
    with pytest.raises(ArchiveRefused):
        unpacked(content, tmp_path / "to", outside_links)
    assert list(outside.iterdir()) == []


def test_links_that_were_there_are_replaced_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    to = tmp_path / "to"
    to.mkdir()
    (to / "d").symlink_to(outside)
    (to / "f").symlink_to(outside / "kept")
    unpacked(archive(("d/x", {}, b"new"), ("f", {}, b"new")), to)
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == "kept"
    assert (to / "d" / "x").read_text() == (to / "f").read_text() == "new"


@pytest.mark.parametrize(
    "links",
    [
        [link("a", "/etc")],
        [link("a", "..")],
        [link("a/b", "../../x")],
        # Each is harmless by its words; one after the other they lead out.
        [directory("p"), directory("p/q"), link("p/q/root", "../.."), link("b", "p/q/root/..")],
    ],
)
def test_a_link_that_leads_out_is_refused_and_none_is_left(tmp_path: Path, links: list[Any]) -> None:
    to = tmp_path / "to"
    with pytest.raises(ArchiveRefused):
        unpacked(archive(*links), to)
    assert not any(path.is_symlink() for path in to.rglob("*"))
    unpacked(archive(*links), to, "keep")
    assert any(path.is_symlink() for path in to.rglob("*"))


def test_devices_and_hard_links_are_refused_and_modes_are_tame(tmp_path: Path) -> None:
    for kind in (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.LNKTYPE):
        with pytest.raises(ArchiveRefused):
            unpacked(archive(("x", {"type": kind, "linkname": "y"}, b"")), tmp_path)
    unpacked(archive(directory("d", 0o7555), ("d/x", {"mode": 0o6755}, b"x")), tmp_path)
    assert (tmp_path / "d" / "x").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o555


def test_an_archive_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    whole = archive(("x", {}, b"x" * 5000))
    with pytest.raises(tarfile.ReadError):
        unpacked(whole[:2000], tmp_path / "to")


def test_packing_is_read_back_by_the_standard_library(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / ("n" * 200)).write_bytes(b"x" * 513)
    (tree / "link").symlink_to("t" * 150)
    os.close(os.open(os.fsencode(tree) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY))
    content = b"".join(packed(tree, None))
    assert len(content) % tarfile.BLOCKSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(content), encoding="utf-8", errors="surrogateescape") as tar:
        names = {entry.name: entry for entry in tar}
    assert set(names) == {"d", "d/" + "n" * 200, "link", os.fsdecode(b"\xff\xfe")}
    assert names["link"].linkname == "t" * 150
    assert names["d/" + "n" * 200].size == 513


def test_a_file_that_shrinks_meanwhile_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 1000)
    pieces = packed(tmp_path, None)
    next(pieces)
    os.truncate(tmp_path / "x", 10)
    with pytest.raises(OSError, match="became shorter"):
        list(pieces)
