"""Who waits for whom: nobody, unless it is of the same session."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from hothouse.worker.frames import Asked, Said

from ..patience import until
from .peer import ENVIRONMENTS, Peer, Worker

PeerOf = Callable[[str], Peer]


def say(message: str) -> dict[str, str]:
    return {"message": message}


@pytest.mark.parametrize("name", ["Meeting", "LaterMeeting"])
def test_a_step_that_waits_keeps_no_other_session_waiting(peer_of: PeerOf, name: str) -> None:
    peer = peer_of(name)
    peer.opened(1, 2)
    # In one write, so that both are there before the first one waits. Without another thread it would wait for ever.
    first, waits = peer.framed(1, Asked.STEP, say("wait a"))
    second, says = peer.framed(2, Asked.STEP, say("say a"))
    peer.sock.sendall(waits + says)
    assert {peer.next().request, peer.next().request} == {first, second}
    assert {peer.ask(session, Asked.STATE).value["steps"] for session in (1, 2)} == {1}


@pytest.mark.parametrize("name", ["Meeting", "LaterMeeting"])
def test_a_chain_of_sessions_wait_for_each_other(peer_of: PeerOf, name: str) -> None:
    peer = peer_of(name)
    count = 50
    peer.opened(*range(count))
    for turn in range(3):
        waiting = [peer.send(session, Asked.STEP, say(f"wait {turn}.{session}")) for session in range(count - 1)]
        # The last one wakes the one before it, that one the next, and so on: all of them have to be in their steps.
        for session in reversed(range(1, count)):
            peer.ask(count - 1, Asked.STEP, say(f"say {turn}.{session - 1}"))
        assert all(peer.answer(number).kind is Said.DONE for number in waiting)


def test_answers_that_were_ready_do_not_wait_for_a_step_that_waits(peer_of: PeerOf) -> None:
    peer = peer_of("Meeting")
    peer.opened(1, 2)
    first, quick = peer.framed(1, Asked.STEP, say("hello"))
    second, waits = peer.framed(2, Asked.STEP, say("wait b"))
    peer.sock.sendall(quick + waits)
    assert peer.answer(first).seen["message"] == "hello"
    peer.ask(1, Asked.STEP, say("say b"))
    assert peer.answer(second).kind is Said.DONE


def test_requests_of_one_session_keep_their_order(peer_of: PeerOf) -> None:
    for name in ("Meeting", "LaterMeeting"):
        peer = peer_of(name)
        peer.opened(1, 2)
        numbers = [peer.send(1, Asked.STEP, say("wait c"))]
        for kind, payload in [(Asked.STATE, b""), (Asked.STEP, say("x")), (Asked.RESET, b""), (Asked.STATE, b"")] * 5:
            numbers.append(peer.send(1, kind, payload))
        numbers.append(peer.send(1, Asked.CLOSE))
        numbers.append(peer.send(1, Asked.OPEN))
        numbers.append(peer.send(1, Asked.STATE))
        says = peer.send(2, Asked.STEP, say("say c"))
        answers = [peer.next() for _ in [*numbers, says]]
        answers = [answer for answer in answers if answer.request != says]
        assert [answer.request for answer in answers] == numbers
        assert all(answer.kind is Said.DONE for answer in answers)
        assert answers[1].value["steps"] == 1
        assert answers[-1].value["steps"] == 0, "it was closed and opened again"


def test_threads_are_there_only_while_something_waits(peer_of: PeerOf) -> None:
    peer = peer_of("Meeting")
    peer.opened(*range(41))
    for _ in range(50):
        for session in range(40):
            peer.ask(session, Asked.STEP, say("hello"))
    # The one that leads, and the one that watches.
    assert peer.ask(0, Asked.STATE).value["threads"] == 2
    waiting = [peer.send(session, Asked.STEP, say("wait d")) for session in range(40)]
    threads = peer.ask(40, Asked.STEP, say("say d")).seen["extra"]["threads"]
    # At least those that waited then; the last ones may have been read only after the word was said.
    assert threads > 3
    assert all(peer.answer(number).kind is Said.DONE for number in waiting)
    # Those threads stay for a while, and answer again.
    again = [peer.send(session, Asked.STEP, say("wait e")) for session in range(40)]
    peer.ask(40, Asked.STEP, say("say e"))
    assert all(peer.answer(number).kind is Said.DONE for number in again)
    assert peer.ask(0, Asked.STATE).value["threads"] <= 44


def test_coroutines_run_on_one_loop(peer_of: PeerOf) -> None:
    peer = peer_of("LaterMeeting")
    peer.opened(*range(20))
    seen = [peer.ask(session, Asked.RESET, {"seed": session}).seen for session in range(20)]
    assert {each["message"] for each in seen} == {"hothouse-loop"}
    assert [each["extra"] for each in seen] == list(range(20))
    # All of them wait at the same time, in no thread.
    waiting = [peer.send(session, Asked.STEP, say("wait f")) for session in range(19)]
    peer.ask(19, Asked.STEP, say("say f"))
    assert all(peer.answer(number).kind is Said.DONE for number in waiting)
    assert peer.ask(0, Asked.STATE).value["threads"] == 3
    failed = peer.ask(3, Asked.STEP, say("raise boom"))
    assert (failed.kind, failed.value["message"]) == (Said.FAILED, "boom")
    assert peer.ask(3, Asked.STEP, {"message": 5}).kind is Said.INVALID
    assert peer.ask(3, Asked.STEP_WITH, {"action": say("x"), "kwargs": {"timeout_s": 3}}).seen["extra"] == 2


def test_some_environments_have_one_thread_only(peer_of: PeerOf) -> None:
    peer = peer_of("OneThread")
    peer.opened(1, 2, 3)
    numbers = [peer.send(session, Asked.STEP) for session in (1, 2, 3) for _ in range(3)]
    assert [peer.answer(number).kind for number in numbers] == [Said.INVALID] * 9, "an action is needed"
    numbers = [peer.send(session, Asked.STEP, say("x")) for session in (1, 2, 3) for _ in range(3)]
    assert [peer.answer(number).seen["extra"] for number in numbers] == [42] * 9


def test_some_environments_have_a_thread_for_each_session(start: Callable[..., Worker], tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    peer = start(f"{ENVIRONMENTS}:OwnThread", CLOSED=str(closed)).peer()
    peer.opened(1, 2, 3)
    for turn in range(3):
        waiting = [peer.send(session, Asked.STEP, say(f"word {turn}")) for session in (1, 2)]
        assert peer.ask(3, Asked.STEP, {"message": f"word {turn}", "times": 0}).seen["extra"][0] == 42
        assert [peer.answer(number).seen["extra"][0] for number in waiting] == [42, 42]
    # The one that leads, and one for each session.
    assert peer.ask(1, Asked.STEP, {"message": "", "times": 0}).seen["extra"][1] == 4
    numbers = [peer.send(2, kind) for kind in (Asked.CLOSE, Asked.OPEN, Asked.STATE)]
    assert [peer.answer(number).kind for number in numbers] == [Said.DONE] * 3
    assert peer.ask(9, Asked.STATE).value["type"] == "SessionUnknown"
    assert peer.ask(3, Asked.CLOSE).kind is Said.DONE
    until("the end of a thread", lambda: peer.ask(1, Asked.STEP, {"message": "", "times": 0}).seen["extra"][1] == 3)
    peer.close()
    until("the end of all sessions", lambda: closed.read_text().count("\n") == 4)


def test_thousands_of_sessions_come_and_go(peer_of: PeerOf) -> None:
    peer = peer_of("Echo")
    peer.opened(*range(1500))
    for session in range(0, 1500, 2):
        peer.ask(session, Asked.CLOSE)
    peer.opened(*range(5000, 7500))
    for session in (1, 1023, 1499, 5000, 6023, 7499):
        assert peer.ask(session, Asked.STEP, say("x")).seen["message"] == "x"
    assert peer.ask(2, Asked.STATE).value["type"] == "SessionUnknown"


def test_a_step_that_waits_does_not_keep_the_process(start: Callable[..., Worker]) -> None:
    worker = start(f"{ENVIRONMENTS}:Meeting")
    peer = worker.peer()
    peer.opened(1, 2)
    # It is the main thread that waits, and another that sees the end.
    peer.send(1, Asked.STEP, say("wait for nobody"))
    peer.ask(2, Asked.STEP, say("hello"))
    assert worker.children()
    peer.close()
    until("no child", lambda: not worker.children())
