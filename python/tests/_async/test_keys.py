"""A server that asks who somebody is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import hothouse
from hothouse import AsyncClient

from ..faults import AsyncLosingAnswers, is_to
from ..keys import Keys
from ..server import Server


async def test_who_has_no_good_key_is_told_so(
    keys: Keys, start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, stranger = keys.create("a"), keys.create("b")
    server = start(*keys.arguments)
    for wrong in ("", "hh_wrong", key.secret[:20]):
        async with AsyncClient(server.url, api_key=wrong) as client:
            with pytest.raises(hothouse.Unauthorized) as refused:
                await client.create()
            assert refused.value.status == 401
            assert (await client.health()).status == "ok"
    monkeypatch.setenv("HOTHOUSE_API_KEY", key.secret)
    async with AsyncClient(server.url) as client, await client.create() as sandbox:
        assert sandbox.info.tenant == "a"
        with pytest.raises(hothouse.Forbidden, match="admin"):
            await client.templates.put("t")
        # Another tenant knows nothing of it.
        async with AsyncClient(server.url, api_key=stranger.secret) as other:
            assert [info.id async for info in other.sandboxes()] == []


async def test_a_quota_is_said_and_waited_for_by_the_server(keys: Keys, start: Callable[..., Server]) -> None:
    key = keys.create("a")
    keys.limit("a", "--quota", "sandboxes=1")
    server = start(*keys.arguments)
    transport = AsyncLosingAnswers(is_to("POST", "/v1/sandboxes"), times=0)
    async with AsyncClient(server.url, api_key=key.secret, transport=transport) as client:
        async with await client.create():
            with pytest.raises(hothouse.QuotaExceeded, match="tenant a may have 1 sandboxes") as exceeded:
                await client.create()
            assert len(transport.seen) == 2
            assert exceeded.value.retry_after_s >= 1
        async with await client.create():
            pass


async def test_a_rate_is_kept_by_waiting_as_long_as_the_server_says(keys: Keys, start: Callable[..., Server]) -> None:
    key = keys.create("a")
    keys.limit("a", "--requests", "1")
    server = start(*keys.arguments)
    transport = AsyncLosingAnswers(is_to("GET", "/v1/capabilities"), times=0)
    async with AsyncClient(server.url, api_key=key.secret, transport=transport) as client:
        for _ in range(3):
            await client.capabilities()
        assert len(transport.seen) > 3
        async with AsyncClient(server.url, api_key=key.secret, retries=0) as hasty:
            with pytest.raises(hothouse.RateLimited):
                assert [await hasty.capabilities() for _ in range(100)] == []


async def test_a_key_that_is_revoked_ends_what_it_follows(keys: Keys, start: Callable[..., Server]) -> None:
    key, other = keys.create("a"), keys.create("a")
    server = start(*keys.arguments)
    async with AsyncClient(server.url, api_key=key.secret) as client:
        sandbox = await client.create()
        async with sandbox.stream("while [ ! -e /go ]; do sleep 0.05; done; echo done", exec_id="long") as events:
            following = events.__aiter__()
            assert isinstance(await following.__anext__(), hothouse.Started)
            keys.revoke(key)
            with pytest.raises(hothouse.KeyRevoked):
                await following.__anext__()
        with pytest.raises(hothouse.Unauthorized):
            await sandbox.refresh()
    async with AsyncClient(server.url, api_key=other.secret) as client:
        again = await client.sandbox(sandbox.id)
        await again.files.write_text("/go", "")
        assert (await again.exec("long").wait()).stdout == "done\n"
