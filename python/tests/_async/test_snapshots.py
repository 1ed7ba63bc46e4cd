from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

import hothouse
from hothouse import AsyncClient


def names_of(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return opened.getnames()


async def test_a_sandbox_is_frozen_into_a_snapshot_and_others_are_made_of_it(client: AsyncClient) -> None:
    async with await client.create() as sandbox:
        await sandbox.run("mkdir /workspace/d; echo one > /workspace/d/f", check=True)
        info = await sandbox.snapshot(id="s", labels={"step": "1"})
        assert (info.id, info.sandbox_id, info.image, info.holds) == ("s", sandbox.id, "host", "files")
        assert [found.labels for found in await client.snapshots.list()] == [{"step": "1"}]
        with pytest.raises(hothouse.SnapshotExists):
            await sandbox.snapshot(id="s")
        await sandbox.run("echo two > /workspace/d/f; rm /etc/hostname")
        assert [(c.change, c.path) for c in (await sandbox.diff("/etc")).changes] == [("deleted", "/etc/hostname")]
        assert "+two\n" in await sandbox.diff_patch("/workspace")
        names = names_of(await sandbox.diff_layer())
        assert "etc/.wh.hostname" in names
        await sandbox.restore("s")
        assert (await sandbox.run("cat /workspace/d/f /etc/hostname")).stdout.startswith("one\n")
        with pytest.raises(hothouse.SnapshotInUse):
            await client.snapshots.delete("s")
    assert (await client.snapshots.get("s")).sandboxes == 0
    assert names_of(await client.snapshots.layer("s"))
    await client.snapshots.delete("s")
    with pytest.raises(hothouse.SnapshotNotFound):
        await client.snapshots.get("s")


async def test_forks_begin_as_their_origin_is(client: AsyncClient) -> None:
    async with await client.create(env={"A": "1"}) as origin:
        await origin.run("echo state > /workspace/f", check=True)
        async with await origin.fork(id="fork", env={"B": "2"}) as fork:
            assert (await fork.run("cat /workspace/f; echo $A$B")).stdout == "state\n12\n"
        async with await client.group(3, fork_of=origin.id, labels={"try": "1"}) as group:
            for member in group:
                assert (await member.run("cat /workspace/f")).stdout == "state\n"
        with pytest.raises(ValueError, match="image"):
            await client.group(3, fork_of=origin.id, image="host")


async def test_an_image_goes_into_the_store_and_out_again(client: AsyncClient, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "root.tar", "w") as archive:
        entry = tarfile.TarInfo("note")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"hello"))
    image = await client.images.load(tmp_path / "root.tar", name="note:1")
    assert [found.id for found in await client.images.list()] == [image.id]
    assert (await client.images.get(image.id)).id == image.id
    await client.images.save(image.id, tmp_path / "out.tar")
    assert "index.json" in names_of((tmp_path / "out.tar").read_bytes())
    with pytest.raises(hothouse.ImageUnavailable):
        await client.images.pull("docker://127.0.0.1:1/none:1")
    assert (await client.images.delete(image.id)).images == [image.id]
    assert (await client.images.prune(all=True)).images == []
    with pytest.raises(hothouse.ImageNotFound):
        await client.images.get(image.id)
