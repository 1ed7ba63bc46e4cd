"""What is lost on the way is sent again where that is safe, and only there."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

import hothouse
from hothouse import AsyncClient

from ..faults import AsyncAnswering, AsyncBreaking, AsyncLosingAnswers, is_to, late
from ..server import Server

QUICK = 4
"""Retries, so that a test that gives up does so soon."""


async def test_a_run_whose_answer_is_lost_runs_once(server: Server) -> None:
    transport = AsyncLosingAnswers(is_to("POST", "/exec"), times=2)
    async with AsyncClient(server.url, transport=transport) as client, await client.create() as sandbox:
        result = await sandbox.run("echo x >> /tmp/count; cat /tmp/count")
        assert (result.stdout, result.replayed) == ("x\n", True)
        assert len(transport.seen) == 3


async def test_a_run_that_takes_longer_than_the_timeout_is_looked_up(server: Server) -> None:
    transport = AsyncLosingAnswers(is_to("POST", "/exec"), fault=late)
    async with AsyncClient(server.url, transport=transport) as client, await client.create() as sandbox:
        result = await sandbox.run("echo x >> /tmp/count; cat /tmp/count")
        assert result.stdout == "x\n"
        assert len(transport.seen) == 1


async def test_a_run_whose_request_never_arrived_is_sent_again(server: Server) -> None:
    transport = AsyncAnswering(is_to("POST", "/exec"), 2, late)
    async with AsyncClient(server.url, transport=transport) as client, await client.create() as sandbox:
        assert (await sandbox.run("echo there")).stdout == "there\n"
        assert len(transport.seen) == 3


async def test_a_real_timeout_does_not_end_a_run(server: Server) -> None:
    async with AsyncClient(server.url, timeout=0.3) as client, await client.create() as sandbox:
        assert (await sandbox.run("sleep 0.8; echo done")).stdout == "done\n"


async def test_a_create_whose_answer_is_lost_makes_one_sandbox(server: Server) -> None:
    transport = AsyncLosingAnswers(is_to("POST", "/v1/sandboxes"))
    async with AsyncClient(server.url, transport=transport) as client:
        async with await client.create(labels={"run": "lost"}) as sandbox:
            found = [info.id async for info in client.sandboxes(labels={"run": "lost"})]
            assert found == [sandbox.id]
        first, second = transport.seen
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


async def test_a_sandbox_with_an_id_of_the_users_is_found_again_unless_it_is_another_ones(server: Server) -> None:
    transport = AsyncLosingAnswers(is_to("POST", "/v1/sandboxes"))
    async with AsyncClient(server.url, transport=transport) as client, await client.create(id="mine") as sandbox:
        assert sandbox.id == "mine"
        with pytest.raises(hothouse.SandboxExists):
            await client.create(id="mine")
        assert len(transport.seen) == 3


async def test_a_claim_whose_answer_is_lost_takes_no_second_sandbox(server: Server) -> None:
    transport = AsyncLosingAnswers(is_to("POST", "/claim"))
    async with AsyncClient(server.url, transport=transport) as client:
        await client.templates.put("lost")
        pool = await client.pools.create("lost", template="lost", min=0, max=1)
        async with await pool.claim(labels={"run": "claim"}) as sandbox:
            assert [info.id async for info in client.sandboxes(labels={"run": "claim"})] == [sandbox.id]
        first, second = transport.seen
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
        await pool.drain()
        await pool.delete()
        await client.templates.delete("lost")


async def test_what_is_deleted_although_the_answer_is_lost_is_deleted(server: Server) -> None:
    transport = AsyncLosingAnswers(lambda request: request.method == "DELETE", times=1)
    async with AsyncClient(server.url, transport=transport) as client:
        sandbox = await client.create()
        await sandbox.files.write_text("/tmp/x", "x")
        await sandbox.files.remove("/tmp/x")
        transport.left = 1
        await sandbox.delete()
        with pytest.raises(hothouse.SandboxEnded):
            await client.sandbox(sandbox.id)


async def test_input_whose_answer_is_lost_is_not_fed_twice(server: Server) -> None:
    transport = AsyncLosingAnswers(is_to("POST", "/stdin"))
    async with AsyncClient(server.url, transport=transport) as client, await client.create() as sandbox:
        cat = await sandbox.spawn(["cat"], stdin_open=True)
        with pytest.raises(hothouse.ConnectionFailed):
            await cat.write_stdin("once")
        await cat.close_stdin()
        assert (await cat.wait(30)).stdout == "once"


async def test_shells_and_pools_are_found_again_after_a_lost_answer(server: Server) -> None:
    transport = AsyncLosingAnswers(is_to("POST", "/shells"))
    async with AsyncClient(server.url, transport=transport) as client, await client.create() as sandbox:
        async with await sandbox.shell() as shell:
            assert (await shell.run("echo one")).stdout == "one\n"
            assert len(await sandbox.shells()) == 1
    transport = AsyncLosingAnswers(is_to("POST", "/v1/pools"))
    async with AsyncClient(server.url, transport=transport) as client:
        await client.templates.put("again")
        pool = await client.pools.create("again", template="again", min=0, max=1)
        assert len(transport.seen) == 2
        await pool.delete()
        await client.templates.delete("again")


async def test_a_refusal_for_now_is_waited_for_as_long_as_it_says(server: Server) -> None:
    full = {"code": "limit_exceeded", "status": 429, "detail": "full", "title": "", "type": ""}

    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(429, json=full, headers={"retry-after": "0"}, request=request)

    transport = AsyncAnswering(is_to("POST", "/v1/sandboxes"), 2, refuse)
    async with AsyncClient(server.url, transport=transport, retries=QUICK) as client:
        async with await client.create():
            assert len(transport.seen) == 3
        transport.left = 100
        with pytest.raises(hothouse.LimitExceeded):
            await client.create()
        assert len(transport.seen) == 3 + 1 + QUICK


async def test_an_upload_is_made_anew_when_it_is_sent_again(server: Server, tmp_path: Path) -> None:
    transport = AsyncLosingAnswers(is_to("PUT", "/archive"))
    async with AsyncClient(server.url, transport=transport) as client, await client.create() as sandbox:
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "file").write_text("content")
        await sandbox.upload(tree, "/w")
        assert await sandbox.files.read_text("/w/file") == "content"
        assert len(transport.seen) == 2


async def test_a_download_that_breaks_off_begins_anew(server: Server, tmp_path: Path) -> None:
    broken = httpx.RemoteProtocolError("the test cut the answer off")

    def cut(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=AsyncBreaking(b"x" * 700, broken), request=request)

    transport = AsyncAnswering(is_to("GET", "/archive"), 2, cut)
    async with AsyncClient(server.url, transport=transport) as client, await client.create() as sandbox:
        await sandbox.files.write_text("/w/file", "content")
        await sandbox.download("/w", tmp_path / "w")
        assert (tmp_path / "w" / "file").read_text() == "content"
        assert len(transport.seen) == 3


async def test_nobody_there_is_said_soon() -> None:
    async with AsyncClient("http://127.0.0.1:9", retries=1) as client:
        with pytest.raises(hothouse.ConnectionFailed) as failed:
            await client.health()
        assert not failed.value.maybe_received
        assert failed.value.status is None


async def test_an_answer_of_something_in_between_is_an_error_with_its_status(server: Server) -> None:
    for status, error in ((502, hothouse.ServerError), (302, hothouse.HothouseError), (200, hothouse.ServerError)):

        def page(request: httpx.Request, status: int = status) -> httpx.Response:
            return httpx.Response(status, text="<h1>some page</h1>", request=request)

        transport = AsyncAnswering(is_to("GET", "/healthz"), 1, page)
        async with AsyncClient(server.url, transport=transport) as client:
            with pytest.raises(error, match="some page") as failed:
                await client.health()
            assert (failed.value.status, failed.value.code) == (status, None)
            assert len(transport.seen) == 1
