# Generated from ../_async by generate_sync.py: edit that, then run it.
"""What is lost on the way is sent again where that is safe, and only there."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

import hothouse
from hothouse import Client

from ..faults import Answering, Breaking, LosingAnswers, is_to, late
from ..server import Server

QUICK = 4
"""Retries, so that a test that gives up does so soon."""


def test_a_run_whose_answer_is_lost_runs_once(server: Server) -> None:
    transport = LosingAnswers(is_to("POST", "/exec"), times=2)
    with Client(server.url, transport=transport) as client, client.create() as sandbox:
        result = sandbox.run("echo x >> /tmp/count; cat /tmp/count")
        assert (result.stdout, result.replayed) == ("x\n", True)
        assert len(transport.seen) == 3


def test_a_run_that_takes_longer_than_the_timeout_is_looked_up(server: Server) -> None:
    transport = LosingAnswers(is_to("POST", "/exec"), fault=late)
    with Client(server.url, transport=transport) as client, client.create() as sandbox:
        result = sandbox.run("echo x >> /tmp/count; cat /tmp/count")
        assert result.stdout == "x\n"
        assert len(transport.seen) == 1


def test_a_run_whose_request_never_arrived_is_sent_again(server: Server) -> None:
    transport = Answering(is_to("POST", "/exec"), 2, late)
    with Client(server.url, transport=transport) as client, client.create() as sandbox:
        assert (sandbox.run("echo there")).stdout == "there\n"
        assert len(transport.seen) == 3


def test_a_real_timeout_does_not_end_a_run(server: Server) -> None:
    with Client(server.url, timeout=0.3) as client, client.create() as sandbox:
        assert (sandbox.run("sleep 0.8; echo done")).stdout == "done\n"


def test_a_create_whose_answer_is_lost_makes_one_sandbox(server: Server) -> None:
    transport = LosingAnswers(is_to("POST", "/v1/sandboxes"))
    with Client(server.url, transport=transport) as client:
        with client.create(labels={"run": "lost"}) as sandbox:
            found = [info.id for info in client.sandboxes(labels={"run": "lost"})]
            assert found == [sandbox.id]
        first, second = transport.seen
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_a_sandbox_with_an_id_of_the_users_is_found_again_unless_it_is_another_ones(server: Server) -> None:
    transport = LosingAnswers(is_to("POST", "/v1/sandboxes"))
    with Client(server.url, transport=transport) as client, client.create(id="mine") as sandbox:
        assert sandbox.id == "mine"
        with pytest.raises(hothouse.SandboxExists):
            client.create(id="mine")
        assert len(transport.seen) == 3


def test_a_claim_whose_answer_is_lost_takes_no_second_sandbox(server: Server) -> None:
    transport = LosingAnswers(is_to("POST", "/claim"))
    with Client(server.url, transport=transport) as client:
        client.templates.put("lost")
        pool = client.pools.create("lost", template="lost", min=0, max=1)
        with pool.claim(labels={"run": "claim"}) as sandbox:
            assert [info.id for info in client.sandboxes(labels={"run": "claim"})] == [sandbox.id]
        first, second = transport.seen
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
        pool.drain()
        pool.delete()
        client.templates.delete("lost")


def test_what_is_deleted_although_the_answer_is_lost_is_deleted(server: Server) -> None:
    transport = LosingAnswers(lambda request: request.method == "DELETE", times=1)
    with Client(server.url, transport=transport) as client:
        sandbox = client.create()
        sandbox.files.write_text("/tmp/x", "x")
        sandbox.files.remove("/tmp/x")
        transport.left = 1
        sandbox.delete()
        with pytest.raises(hothouse.SandboxEnded):
            client.sandbox(sandbox.id)


def test_input_whose_answer_is_lost_is_not_fed_twice(server: Server) -> None:
    transport = LosingAnswers(is_to("POST", "/stdin"))
    with Client(server.url, transport=transport) as client, client.create() as sandbox:
        cat = sandbox.spawn(["cat"], stdin_open=True)
        with pytest.raises(hothouse.ConnectionFailed):
            cat.write_stdin("once")
        cat.close_stdin()
        assert (cat.wait(30)).stdout == "once"


def test_shells_and_pools_are_found_again_after_a_lost_answer(server: Server) -> None:
    transport = LosingAnswers(is_to("POST", "/shells"))
    with Client(server.url, transport=transport) as client, client.create() as sandbox:
        with sandbox.shell() as shell:
            assert (shell.run("echo one")).stdout == "one\n"
            assert len(sandbox.shells()) == 1
    transport = LosingAnswers(is_to("POST", "/v1/pools"))
    with Client(server.url, transport=transport) as client:
        client.templates.put("again")
        pool = client.pools.create("again", template="again", min=0, max=1)
        assert len(transport.seen) == 2
        pool.delete()
        client.templates.delete("again")


def test_a_refusal_for_now_is_waited_for_as_long_as_it_says(server: Server) -> None:
    full = {"code": "limit_exceeded", "status": 429, "detail": "full", "title": "", "type": ""}

    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(429, json=full, headers={"retry-after": "0"}, request=request)

    transport = Answering(is_to("POST", "/v1/sandboxes"), 2, refuse)
    with Client(server.url, transport=transport, retries=QUICK) as client:
        with client.create():
            assert len(transport.seen) == 3
        transport.left = 100
        with pytest.raises(hothouse.LimitExceeded):
            client.create()
        assert len(transport.seen) == 3 + 1 + QUICK


def test_an_upload_is_made_anew_when_it_is_sent_again(server: Server, tmp_path: Path) -> None:
    transport = LosingAnswers(is_to("PUT", "/archive"))
    with Client(server.url, transport=transport) as client, client.create() as sandbox:
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "file").write_text("content")
        sandbox.upload(tree, "/w")
        assert sandbox.files.read_text("/w/file") == "content"
        assert len(transport.seen) == 2


def test_a_download_that_breaks_off_begins_anew(server: Server, tmp_path: Path) -> None:
    broken = httpx.RemoteProtocolError("the test cut the answer off")

    def cut(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Breaking(b"x" * 700, broken), request=request)

    transport = Answering(is_to("GET", "/archive"), 2, cut)
    with Client(server.url, transport=transport) as client, client.create() as sandbox:
        sandbox.files.write_text("/w/file", "content")
        sandbox.download("/w", tmp_path / "w")
        assert (tmp_path / "w" / "file").read_text() == "content"
        assert len(transport.seen) == 3


def test_nobody_there_is_said_soon() -> None:
    with Client("http://127.0.0.1:9", retries=1) as client:
        with pytest.raises(hothouse.ConnectionFailed) as failed:
            client.health()
        assert not failed.value.maybe_received
        assert failed.value.status is None


def test_an_answer_of_something_in_between_is_an_error_with_its_status(server: Server) -> None:
    for status, error in ((502, hothouse.ServerError), (302, hothouse.HothouseError), (200, hothouse.ServerError)):

        def page(request: httpx.Request, status: int = status) -> httpx.Response:
            return httpx.Response(status, text="<h1>some page</h1>", request=request)

        transport = Answering(is_to("GET", "/healthz"), 1, page)
        with Client(server.url, transport=transport) as client:
            with pytest.raises(error, match="some page") as failed:
                client.health()
            assert (failed.value.status, failed.value.code) == (status, None)
            assert len(transport.seen) == 1
