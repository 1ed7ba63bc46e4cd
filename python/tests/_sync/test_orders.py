# Generated from ../_async by generate_sync.py: edit that, then run it.
"""What makes sandboxes makes them once, whatever is lost on the way, and waits for room where it is asked to."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

import hothouse
from hothouse import Client

from ..faults import Answering, LosingAnswers, is_to, late, lost
from ..server import Server


def restarted(server: Server) -> Callable[[httpx.Request], httpx.Response | None]:
    """The server is killed before its answer arrives, and another one started."""

    def fault(request: httpx.Request) -> httpx.Response | None:
        server.kill()
        server.start()
        return lost(request)

    return fault


def test_a_create_makes_one_sandbox_although_the_server_is_killed(own_server: Server) -> None:
    transport = LosingAnswers(is_to("POST", "/v1/sandboxes"), fault=restarted(own_server))
    with Client(own_server.url, transport=transport) as client, client.create() as sandbox:
        assert [info.id for info in client.sandboxes()] == [sandbox.id]
        assert len(transport.seen) == 2
        assert (sandbox.run("echo there")).stdout == "there\n"


def test_a_claim_takes_one_sandbox_although_the_server_is_killed(own_server: Server) -> None:
    transport = LosingAnswers(is_to("POST", "/claim"), times=2, fault=restarted(own_server))
    with Client(own_server.url, transport=transport) as client:
        client.templates.put("t")
        pool = client.pools.create("p", template="t", min=1, max=1)
        with pool.claim(labels={"run": "claim"}, secrets={"TOKEN": "t1"}) as sandbox:
            assert [info.id for info in client.sandboxes(labels={"run": "claim"})] == [sandbox.id]
            assert (sandbox.run("echo $TOKEN", secrets=["TOKEN"])).stdout == "t1\n"
            assert (pool.refresh()).claimed == 1
        assert len(transport.seen) == 3


def test_a_group_is_made_once_although_the_server_is_killed(own_server: Server) -> None:
    transport = LosingAnswers(is_to("POST", "/v1/groups"), fault=restarted(own_server))
    with Client(own_server.url, transport=transport) as client, client.group(3) as group:
        assert [info.id for info in client.sandboxes()] == [sandbox.id for sandbox in group]
        assert len(group) == 3


def test_an_answer_that_is_late_is_asked_for_again(server: Server) -> None:
    for transport in (
        LosingAnswers(is_to("POST", "/v1/sandboxes"), times=2, fault=late),
        Answering(is_to("POST", "/v1/sandboxes"), 2, late),
    ):
        with Client(server.url, transport=transport) as client:
            with client.create(labels={"run": "late"}) as sandbox:
                assert [info.id for info in client.sandboxes(labels={"run": "late"})] == [sandbox.id]
                assert len(transport.seen) == 3


def test_a_setup_may_take_longer_than_the_timeout(server: Server) -> None:
    with Client(server.url, timeout=0.4) as client:
        client.templates.put("slow", setup=["sleep 1", "echo $PWD > /made"], env={"A": "b"})
        pool = client.pools.create("slow", template="slow", min=0, max=1)
        assert (client.templates.get("slow")).spec.setup == ["sleep 1", "echo $PWD > /made"]
        with pool.claim(labels={"run": "slow"}) as sandbox:
            assert (sandbox.run("cat /made")).stdout == "/workspace\n"
            assert [info.id for info in client.sandboxes(labels={"run": "slow"})] == [sandbox.id]
        client.templates.put("slow", setup=["echo why >&2; exit 3"])
        with pytest.raises(hothouse.SetupFailed, match="why"):
            pool.claim()
        pool.drain()
        pool.delete()
        client.templates.delete("slow")


def test_a_sandbox_that_its_killed_server_had_not_finished_is_ordered_anew(server: Server) -> None:
    ending = {"cause": "found_dead", "by": "node", "at": "2026-01-01T00:00:00Z", "why": "it was not finished"}
    problem = {"code": "sandbox_ended", "status": 410, "detail": "gone", "ending": ending}
    answers = [httpx.ReadError("the server was killed"), problem]

    def fault(request: httpx.Request) -> httpx.Response:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(410, json=answer, request=request)

    transport = Answering(is_to("POST", "/v1/sandboxes"), 2, fault)
    with Client(server.url, transport=transport) as client, client.create():
        first, second, third = [request.headers["idempotency-key"] for request in transport.seen]
        assert first == second
        assert second != third
        # One that ended otherwise was made, and somebody ended it.
        ending["cause"] = "deleted"
        answers[:] = [httpx.ReadError("lost"), problem]
        transport.left = 2
        with pytest.raises(hothouse.SandboxEnded) as ended:
            client.create()
        assert ended.value.resent


def test_room_is_waited_for_by_the_server_and_not_by_asking_again(start: Callable[..., Server]) -> None:
    server = start("--max-sandboxes", "1", "--capacity", "gpus=2")
    transport = LosingAnswers(is_to("POST", "/v1/sandboxes"), times=0)
    with Client(server.url, transport=transport, timeout=0.5) as client:
        with client.create(needs={"gpus": 2}) as sandbox:
            assert sandbox.info.spec.needs == {"gpus": 2}
            with pytest.raises(hothouse.CapacityExceeded):
                client.create()
            with pytest.raises(hothouse.CapacityExceeded):
                client.create(wait_s=0.8, priority=3)
            assert len(transport.seen) == 3
            assert transport.seen[2].url.query == b"wait_s=0.8&priority=3"
            with pytest.raises(hothouse.InvalidRequest) as wrong:
                client.create(needs={"tpus": 1})
            assert wrong.value.field == "needs.tpus"
            with pytest.raises(hothouse.InvalidRequest) as wrong:
                client.create(wait_s=601)
            assert wrong.value.field == "wait_s"
