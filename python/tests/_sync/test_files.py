# Generated from ../_async by generate_sync.py: edit that, then run it.
from __future__ import annotations

import os
from pathlib import Path

import pytest

import hothouse
from hothouse import Sandbox


def test_files_are_written_read_listed_moved_and_removed(sandbox: Sandbox) -> None:
    files = sandbox.files
    written = files.write_text("/w/a/gr€n & co?.txt", "gr€n", mode=0o640)
    assert (written.path, written.size) == ("/w/a/gr€n & co?.txt", 6)
    assert files.read_text("/w/a/gr€n & co?.txt") == "gr€n"
    files.write_bytes("/w/a/bin", b"\x00\xff" * 100_000)
    assert files.read_bytes("/w/a/bin") == b"\x00\xff" * 100_000
    assert files.read_bytes("/w/a/bin", offset=1, length=2) == b"\xff\x00"
    files.mkdir("/w/a/sub/deep", mode=0o750)
    files.mkdir("/w/a/sub/deep")
    sandbox.run("ln -s bin /w/a/link", check=True)
    listed = files.list("/w/a")
    assert [(info.path, info.kind) for info in listed] == [
        ("/w/a/bin", "file"),
        ("/w/a/gr€n & co?.txt", "file"),
        ("/w/a/link", "symlink"),
        ("/w/a/sub", "directory"),
    ]
    link = files.stat("/w/a/link")
    assert (link.kind, link.target) == ("symlink", "bin")
    info = files.stat("/w/a/gr€n & co?.txt")
    assert (info.size, info.mode & 0o777) == (6, 0o640)
    files.rename("/w/a/bin", "/w/b")
    assert files.exists("/w/b")
    assert not files.exists("/w/a/bin")
    with pytest.raises(hothouse.FileRefused):
        files.remove("/w/a")
    files.remove("/w/a", recursive=True)
    files.remove("/w/b")
    with pytest.raises(hothouse.FileNotFound):
        files.remove("/w/b")
    with pytest.raises(hothouse.FileNotFound):
        files.read_text("/w/b")
    with pytest.raises(hothouse.FileRefused):
        files.read_bytes("/w")
    with pytest.raises(hothouse.InvalidRequest) as wrong:
        files.read_bytes("relative")
    assert wrong.value.field == "path"


def test_a_patch_changes_all_or_nothing(sandbox: Sandbox) -> None:
    sandbox.files.write_text("/w/a.txt", "one\ntwo\n")
    diff = "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+TWO\n"
    changed = sandbox.patch("/w", diff)
    assert (changed.paths, changed.count) == (["/w/a.txt"], 1)
    with pytest.raises(hothouse.PatchRejected):
        sandbox.patch("/w", diff)
    assert sandbox.files.read_text("/w/a.txt") == "one\nTWO\n"


def test_a_file_goes_in_and_comes_out_with_its_mode(sandbox: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 << 20))
    source.chmod(0o750)
    seen: list[tuple[int, int | None]] = []
    sandbox.upload(source, "/deep/in/here", progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 3 << 20)
    assert seen[-1] == (3 << 20, 3 << 20)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    sandbox.download("/deep/in/here", tmp_path / "back", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3 << 20, 3 << 20)
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert (tmp_path / "back").stat().st_mode & 0o7777 == 0o750
    with pytest.raises(FileNotFoundError):
        sandbox.upload(tmp_path / "nope", "/x")
    with pytest.raises(hothouse.FileNotFound):
        sandbox.download("/nope", tmp_path / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "source"]


def snapshot(root: Path) -> dict[str, tuple[str, int, bytes | str]]:
    """All that a tree is, by name."""
    found: dict[str, tuple[str, int, bytes | str]] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        mode = path.lstat().st_mode & 0o777
        if path.is_symlink():
            found[name] = ("link", 0, str(path.readlink()))
        elif path.is_dir():
            found[name] = ("directory", mode, "")
        else:
            found[name] = ("file", mode, path.read_bytes())
    return found


def test_a_tree_goes_in_and_comes_out_unchanged(sandbox: Sandbox, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "d" / "e").mkdir(parents=True)
    (tree / "d" / "gr€n-日本.txt").write_text("text")
    (tree / "d" / ("long" * 50)).write_text("a name longer than the header has room for")
    (tree / "d" / "e" / "run").write_bytes(b"#!/bin/sh\necho it ran\n")
    (tree / "d" / "e" / "run").chmod(0o755)
    (tree / "d" / "e").chmod(0o700)
    (tree / "nothing").write_bytes(b"")
    (tree / "big").write_bytes(os.urandom(700_001))
    (tree / "link").symlink_to("d/e/run")
    (tree / "d" / "up").symlink_to("../big")
    (tree / "dangling").symlink_to("not-there")
    seen: list[tuple[int, int | None]] = []
    sandbox.upload(tree, "/w/tree", progress=lambda done, total: seen.append((done, total)))
    total = sum(len(content) for kind, _, content in snapshot(tree).values() if kind == "file")
    assert seen[-1] == (total, total)
    assert (sandbox.run("/w/tree/link", check=True)).stdout == "it ran\n"
    back: list[tuple[int, int | None]] = []
    sandbox.download("/w/tree", tmp_path / "back", progress=lambda done, total: back.append((done, total)))
    assert back[-1] == (total, None)
    assert snapshot(tmp_path / "back") == snapshot(tree)
    # Once more, over what is there.
    sandbox.run("echo new > /w/tree/nothing", check=True)
    sandbox.download("/w/tree", tmp_path / "back")
    assert (tmp_path / "back" / "nothing").read_text() == "new\n"


def test_a_link_that_leads_outside_is_refused_unless_wanted(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.run("mkdir /w && cd /w && echo hi > file && ln -s /etc/passwd absolute", check=True)
    with pytest.raises(hothouse.ArchiveRefused, match="absolute"):
        sandbox.download("/w", tmp_path / "refused")
    assert not (tmp_path / "refused" / "absolute").is_symlink()
    sandbox.download("/w", tmp_path / "kept", outside_links="keep")
    assert str((tmp_path / "kept" / "absolute").readlink()) == "/etc/passwd"


def test_a_full_disk_is_said_and_a_socket_is_no_file(sandbox: Sandbox, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "fifo")
    with pytest.raises(ValueError, match="fifo"):
        sandbox.upload(tree, "/w")
    with pytest.raises(ValueError, match="neither"):
        sandbox.upload(tree / "fifo", "/w")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(300 << 20)
    with pytest.raises(hothouse.NoSpace):
        sandbox.upload(tmp_path / "huge", "/huge")
