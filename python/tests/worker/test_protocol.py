"""What a worker answers, frame by frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from hothouse.worker.frames import Asked, Said

from ..patience import until
from .peer import ENVIRONMENTS, Peer, Worker

Start = Callable[..., Worker]
PeerOf = Callable[[str], Peer]


def test_the_greeting_says_what_is_served(start: Start) -> None:
    _, hello = start(f"{ENVIRONMENTS}:app").connect()
    assert (hello.request, hello.kind, hello.value["protocol"]) == (0, Said.HELLO, 1)
    environment = hello.value["environment"]
    schemas = environment.pop("schema")
    assert environment == {
        "name": "echo_env",
        "class": "Echo",
        "version": "1.0.0",
        "description": "Echo environment",
        "readme": None,
        "mcp": False,
        "tasks": False,
        "checkpoints": True,
        "max_sessions": 8,
    }
    assert set(schemas) == {"action", "observation", "state", "reset_observation"}
    assert schemas["action"]["title"] == "Say"
    assert schemas["state"]["properties"]["step_count"]["minimum"] == 0
    assert schemas["reset_observation"] == schemas["observation"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Echo", {"name": "Echo", "class": "Echo", "max_sessions": None, "mcp": False, "tasks": False}),
        ("made_by_a_function", {"class": "Echo", "max_sessions": None}),
        ("hidden", {"class": "Echo", "max_sessions": None}),
        ("shared", {"class": "Echo", "max_sessions": 1, "checkpoints": False}),
        ("Counted", {"class": "Counted", "max_sessions": 1}),
        ("Tools", {"mcp": True}),
        ("Tasked", {"tasks": True}),
        ("Kept", {"checkpoints": True}),
    ],
)
def test_targets_are_of_many_kinds(start: Start, name: str, said: dict[str, Any]) -> None:
    _, hello = start(f"{ENVIRONMENTS}:{name}").connect()
    environment = hello.value["environment"]
    assert {key: environment[key] for key in said} == said


def test_an_episode(peer_of: PeerOf) -> None:
    peer = peer_of("app")
    peer.opened(3)
    assert peer.ask(3, Asked.RESET).seen == {
        "message": "ready",
        "extra": None,
        "reward": 0.0,
        "done": False,
        "metadata": {},
    }
    said = peer.ask(3, Asked.RESET, {"seed": 5, "episode_id": "ep", "unknown": 1}).payload
    assert said == b'{"message":"ready","extra":5}\n0.0\nfalse\n{}'
    assert peer.ask(3, Asked.STEP, {"message": "é", "times": "2"}).seen["message"] == "éé"
    assert peer.ask(3, Asked.STATE).value == {"episode_id": "ep", "step_count": 1}
    assert peer.ask(3, Asked.STEP_WITH, {"action": {"message": "x"}, "kwargs": {"timeout_s": 1}}).seen["message"] == "x"
    assert peer.ask(3, Asked.CLOSE).payload == b""
    assert peer.ask(3, Asked.STEP, {}).value["type"] == "SessionUnknown"
    peer.opened(3)
    assert peer.ask(3, Asked.STATE).value["step_count"] == 0


def test_sessions_are_apart(peer_of: PeerOf) -> None:
    peer = peer_of("Echo")
    peer.opened(*range(10))
    for session in range(10):
        for _ in range(session):
            peer.send(session, Asked.STEP, {"message": "x"})
    counts = [peer.ask(session, Asked.STATE).value["step_count"] for session in range(10)]
    assert counts == list(range(10))


def test_answers_come_in_order_whatever_comes_at_once(peer_of: PeerOf) -> None:
    peer = peer_of("Echo")
    peer.opened(1)
    frames = [peer.framed(1, Asked.STEP, {"message": str(number)}) for number in range(500)]
    peer.sock.sendall(b"".join(frame for _, frame in frames))
    answers = [peer.next() for _ in frames]
    assert [answer.request for answer in answers] == [number for number, _ in frames]
    assert [answer.seen["message"] for answer in answers] == [str(number) for number in range(500)]


def test_frames_may_come_in_pieces_and_be_large(peer_of: PeerOf) -> None:
    peer = peer_of("Echo")
    peer.opened(1)
    number, frame = peer.framed(1, Asked.STEP, {"message": "piece"})
    for byte in frame:
        peer.sock.sendall(bytes([byte]))
    assert peer.answer(number).seen["message"] == "piece"
    long = "x" * (3 << 20)
    small = [peer.framed(1, Asked.STEP, {"message": f"{place}"}) for place in ("before", "after")]
    number, frame = peer.framed(1, Asked.STEP, {"message": long})
    peer.sock.sendall(small[0][1] + frame + small[1][1])
    assert peer.answer(small[0][0]).seen["message"] == "before"
    assert peer.answer(number).seen["message"] == long
    assert peer.answer(small[1][0]).seen["message"] == "after"


def test_what_does_not_fit_is_told_by_field(peer_of: PeerOf) -> None:
    peer = peer_of("Echo")
    peer.opened(1)
    answer = peer.ask(1, Asked.STEP, {"message": 5, "what": 1})
    assert answer.kind is Said.INVALID
    assert answer.value == [
        {"type": "string_type", "loc": ["message"], "msg": "Input should be a valid string", "input": 5},
        {"type": "extra_forbidden", "loc": ["what"], "msg": "Extra inputs are not permitted", "input": 1},
    ]
    for kind, payload in [
        (Asked.STEP, b"{oops"),
        (Asked.STEP, b"[1]"),
        (Asked.RESET, b"[1]"),
        (Asked.STEP_WITH, b"{}"),
    ]:
        assert peer.ask(1, kind, payload).kind is Said.INVALID, payload
    assert peer.ask(1, Asked.STATE).value["step_count"] == 0


@pytest.mark.parametrize(
    ("message", "type_", "said"),
    [
        ("raise", "ValueError", "step boom"),
        ("exit", "SystemExit", "7"),
        ("none", "TypeError", "the environment gave None"),
        ("unsayable", "Unsayable", "observation.extra.inner[0] cannot be said as JSON"),
        ("strange", "AttributeError", "_strange"),
    ],
)
def test_an_error_is_told_and_the_session_lives_on(peer_of: PeerOf, message: str, type_: str, said: str) -> None:
    peer = peer_of("Trouble")
    peer.opened(1)
    answer = peer.ask(1, Asked.STEP, {"message": message})
    assert (answer.kind, answer.value["type"]) == (Said.FAILED, type_)
    assert said in answer.value["message"]
    assert "Traceback (most recent call last)" in answer.value["traceback"]
    assert peer.ask(1, Asked.RESET, {"a": 1}).seen["extra"] == {"a": 1}


def test_other_failures_are_told_as_well(peer_of: PeerOf) -> None:
    peer = peer_of("Trouble")
    peer.opened(1)
    assert peer.ask(1, Asked.STATE).value["message"] == "no state today"
    assert peer.ask(1, Asked.OPEN).value["message"] == "session 1 is open already"
    assert peer.ask(2, Asked.STATE).value["message"] == "session 2 is not open"
    number, frame = peer.framed(1, 99, b"")
    peer.sock.sendall(frame)
    assert peer.answer(number).value["message"] == "this worker knows no request of kind 99"
    assert peer.ask(1, Asked.CLOSE).value["message"] == "it will not close"
    assert peer.ask(1, Asked.CLOSE).value["message"] == "session 1 is not open", "it is closed all the same"


def test_numbers_of_numpy_and_stray_halves_of_characters_are_said(peer_of: PeerOf) -> None:
    peer = peer_of("Trouble")
    peer.opened(1)
    seen = peer.ask(1, Asked.STEP, {"message": "numpy"}).payload
    assert seen == b'{"array":[0,1,2],"number":1.5,"nan":null}\n2.5\nfalse\nnull'
    assert peer.ask(1, Asked.STEP, {"message": "surrogate"}).seen["message"] == "a\ufffd"


def test_what_authors_print_goes_to_stderr(start: Start) -> None:
    worker = start(f"{ENVIRONMENTS}:Trouble")
    peer = worker.peer()
    peer.opened(1)
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert peer.ask(1, Asked.STEP, {"message": "print"}).kind is Said.DONE
    until("what was printed", lambda: "asked: ''" in worker.said())
    assert "said to stdout" in worker.said()
    assert "written to descriptor 1" in worker.said()


def test_tools_are_called_with_a_session_and_without(peer_of: PeerOf) -> None:
    peer = peer_of("Tools")
    listed = peer.ask(7, Asked.MCP, {"method": "tools/list"})
    assert [each["name"] for each in listed.value["tools"]] == ["add"]
    call = {"method": "tools/call", "params": {"name": "add", "arguments": {"number": 2}}}
    assert [peer.ask(7, Asked.MCP, call).value["data"] for _ in range(2)] == [2, 2], "each by an instance for this once"
    peer.opened(1)
    assert [peer.ask(1, Asked.MCP, call).value["data"] for _ in range(2)] == [2, 4]
    assert (
        peer.ask(1, Asked.STEP, {"type": "call_tool", "tool_name": "add", "arguments": {"number": 1}}).seen["result"][
            "data"
        ]
        == 5
    )
    failed = peer.ask(1, Asked.MCP, {"method": "tools/call", "params": {"name": "zz"}})
    assert (failed.kind, failed.value["message"], failed.value["code"]) == (Said.FAILED, "Unknown tool: 'zz'", -32603)


def test_tasks_are_listed(peer_of: PeerOf) -> None:
    peer = peer_of("Tasked")
    assert peer.ask(0, Asked.TASKS, {"method": "list_splits"}).value == [{"name": "train", "type": "train"}]
    task = {"method": "get_task", "arguments": {"split": "train", "index": 1}}
    assert peer.ask(0, Asked.TASKS, task).value == {"split": "train", "value": 2}
    task["arguments"] = {"split": "train", "index": 9}
    assert peer.ask(0, Asked.TASKS, task).value["type"] == "IndexError"
    for method in ("num_tasks", "close", "__init__"):
        failed = peer.ask(0, Asked.TASKS, {"method": method})
        assert (failed.kind, failed.value["message"]) == (
            Said.FAILED,
            f"{method} is not supported for this environment",
        )


def test_one_instance_for_all_keeps_its_state(peer_of: PeerOf) -> None:
    peer = peer_of("shared")
    peer.opened(1)
    peer.ask(1, Asked.STEP, {"message": "x"})
    peer.ask(1, Asked.CLOSE)
    peer.opened(2)
    assert peer.ask(2, Asked.STATE).value["step_count"] == 1
    assert "give create_app its class" in peer.ask(2, Asked.CHECKPOINT).value["message"]


def test_the_end_of_a_connection_closes_its_sessions(start: Start, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    worker = start(f"{ENVIRONMENTS}:Guarded", CLOSED=str(closed))
    peer = worker.peer()
    peer.opened(1, 2, 3)
    peer.ask(2, Asked.STEP, {"message": "x"})
    peer.ask(3, Asked.CLOSE)
    assert closed.read_text() == "0\n"
    peer.close()
    until("two more ends", lambda: closed.read_text().count("\n") == 3)
    assert sorted(closed.read_text().split()) == ["0", "0", "1"]


def test_a_large_answer_is_whole(peer_of: PeerOf) -> None:
    peer = peer_of("Echo")
    peer.opened(1)
    answer = peer.ask(1, Asked.STEP, {"message": "0123456789", "times": 1 << 20})
    assert len(answer.payload) > 10 << 20
    assert json.loads(answer.payload.split(b"\n")[0])["message"].endswith("0123456789")
