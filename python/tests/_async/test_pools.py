from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import hothouse
from hothouse import AsyncClient, AsyncPool, ClaimFile


@pytest.fixture
async def pool(client: AsyncClient) -> AsyncIterator[AsyncPool]:
    await client.templates.put("py", env={"WHO": "template", "KEPT": "yes"}, memory_bytes=64 << 20)
    pool = await client.pools.create("warm", template="py", min=1, max=2)
    yield pool
    await pool.drain()
    await pool.delete()
    await client.templates.delete("py")


async def test_a_claim_gets_a_sandbox_and_binds_to_it(client: AsyncClient, pool: AsyncPool) -> None:
    files = [ClaimFile("/w/text", "gr€n", 0o600), ClaimFile("/w/bytes", b"\xff\x00")]
    async with await pool.claim(env={"WHO": "claim"}, labels={"job": "7"}, files=files) as sandbox:
        place = sandbox.info.pool
        assert place is not None
        assert (place.pool, place.template, place.version, place.claim) == ("warm", "py", 1, "claimed")
        assert (await sandbox.run("echo $WHO $KEPT; cat /w/text")).stdout == "claim yes\ngr€n"
        assert await sandbox.files.read_bytes("/w/bytes") == b"\xff\x00"
        assert [info.id async for info in client.sandboxes(labels={"job": "7"})] == [sandbox.id]
        info = await pool.refresh()
        assert (info.claimed, info.hits + info.misses) == (1, 1)
        with pytest.raises(hothouse.PoolInUse):
            await pool.delete()


async def test_a_pool_is_scaled_listed_drained_and_gone(client: AsyncClient) -> None:
    await client.templates.put("brief")
    pool = await client.pools.create("brief", template="brief", min=0, max=1)
    assert (await pool.scale(min=1, max=3)).max == 3
    assert [info.name for info in await client.pools.list()] == ["brief"]
    assert (await client.pools.get("brief")).info.template == "brief"
    assert (await pool.drain()).phase == "draining"
    with pytest.raises(hothouse.PoolDraining):
        await pool.claim()
    with pytest.raises(hothouse.TemplateInUse):
        await client.templates.delete("brief")
    await pool.delete()
    with pytest.raises(hothouse.PoolNotFound):
        await pool.refresh()
    with pytest.raises(hothouse.PoolNotFound):
        await pool.delete()
    await client.templates.delete("brief")


async def test_templates_have_versions(client: AsyncClient) -> None:
    first = await client.templates.put("t", env={"A": "1"}, cpus=0.5, labels={"x": "y"})
    assert (first.version, first.spec.env, first.spec.resources.cpus) == (1, {"A": "1"}, 0.5)
    assert (await client.templates.put("t", env={"A": "1"}, cpus=0.5, labels={"x": "y"})).version == 1
    assert (await client.templates.put("t", env={"A": "2"})).version == 2
    assert (await client.templates.get("t")).version == 2
    assert [template.name for template in await client.templates.list()] == ["t"]
    await client.templates.delete("t")
    with pytest.raises(hothouse.TemplateNotFound):
        await client.templates.get("t")
    with pytest.raises(hothouse.TemplateNotFound):
        await client.pools.create("p", template="t", min=0, max=1)
