from __future__ import annotations

from collections.abc import Callable

import pytest

import hothouse
from hothouse import AsyncClient, ClaimFile, GroupSummary

from ..server import Server


async def test_a_group_is_made_used_and_deleted_together(client: AsyncClient) -> None:
    async with await client.group(11, id="g", env={"A": "1"}, labels={"x": "y"}) as group:
        assert len(group) == 11
        assert [sandbox.id for sandbox in group] == [f"g-{at}" for at in range(11)]
        assert group[10].info.group == "g"
        assert (await group[10].run("echo $A")).stdout == "1\n"
        assert await client.groups.list() == [GroupSummary("g", 11)]
        with pytest.raises(hothouse.GroupExists):
            await client.group(1, id="g")
        third = group[2]
        await third.delete()
        info = await group.refresh()
        assert [(member.id, member.ending.cause) for member in info.ended] == [("g-2", "deleted")]
        assert (len(group), group[2].id) == (10, "g-3")
        found = await client.groups.get("g")
        assert [sandbox.id for sandbox in found] == [sandbox.id for sandbox in group]
    with pytest.raises(hothouse.SandboxEnded) as ended:
        await group[0].refresh()
    assert ended.value.ending is not None
    assert ended.value.ending.cause == "group"
    # Nothing is left to do.
    assert await group.delete() == hothouse.EndedMany(0, [])
    with pytest.raises(hothouse.GroupNotFound):
        await client.groups.get("never")


async def test_a_group_is_claimed_from_a_pool(client: AsyncClient) -> None:
    await client.templates.put("many", env={"WHO": "template"})
    pool = await client.pools.create("many", template="many", min=1, max=1)
    files = [ClaimFile("/w/job", "7")]
    async with await client.group(2, pool="many", env={"WHO": "group"}, files=files, pids=32) as group:
        assert [(await sandbox.run("echo $WHO; cat /w/job")).stdout for sandbox in group] == ["group\n7"] * 2
        assert [sandbox.info.spec.resources.pids for sandbox in group] == [32, 32]
    await pool.drain()
    await pool.delete()
    await client.templates.delete("many")


async def test_a_group_is_whole_or_not_there_or_says_what_failed(start: Callable[..., Server]) -> None:
    server = start("--max-sandboxes", "2")
    async with AsyncClient(server.url) as client:
        async with await client.create():
            with pytest.raises(hothouse.CapacityExceeded):
                await client.group(2)
            await client.templates.put("few")
            await client.pools.create("few", template="few", min=0, max=1)
            with pytest.raises(hothouse.CapacityExceeded):
                await client.group(2, pool="few", labels={"run": "undo"})
            assert [info.id async for info in client.sandboxes(labels={"run": "undo"})] == []
            async with await client.group(3, pool="few", on_failure="keep") as group:
                assert len(group) == 1
                assert sorted(failed.index for failed in group.failures if failed.index is not None) != []
                assert len(group.failures) == 2
                assert {type(failed.error) for failed in group.failures} == {hothouse.CapacityExceeded}
                assert (await group[0].run("echo there")).stdout == "there\n"


async def test_what_cannot_be_asked_of_a_group_is_said(client: AsyncClient) -> None:
    with pytest.raises(ValueError, match="image, workdir"):
        await client.group(1, pool="p", image="host", workdir="/")
    with pytest.raises(ValueError, match="files"):
        await client.group(1, files=[ClaimFile("/x", "")])
    with pytest.raises(hothouse.PoolNotFound):
        await client.group(1, pool="nope")
    with pytest.raises(hothouse.InvalidRequest) as wrong:
        await client.group(0)
    assert wrong.value.field == "count"
