"""The process that imports once and forks for each connection."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Callable

import pytest

from hothouse.worker.frames import Asked, Said

from ..patience import until
from .peer import ENVIRONMENTS, Worker

Start = Callable[..., Worker]


def test_each_connection_has_a_process_with_random_numbers_of_its_own(start: Start) -> None:
    worker = start(f"{ENVIRONMENTS}:Random")
    drawn = []
    for _ in range(3):
        peer = worker.peer()
        peer.opened(0)
        drawn.append(peer.ask(0, Asked.STEP, {"message": ""}).seen["extra"])
    for place, name in enumerate(["random", "numpy.random", "process"]):
        assert len({each[place] for each in drawn}) == 3, name
    assert len({each[3] for each in drawn}) == 1, "imported once"
    assert worker.process.pid not in [each[2] for each in drawn]


def test_children_end_with_their_connections_and_are_reaped(start: Start) -> None:
    worker = start(f"{ENVIRONMENTS}:Echo")
    peers = [worker.peer() for _ in range(5)]
    assert len(worker.children()) == 5
    for peer in peers:
        peer.close()
    until("no child", lambda: not worker.children())
    worker.peer().opened(0)


def test_a_child_that_dies_takes_no_other_with_it(start: Start) -> None:
    worker = start(f"{ENVIRONMENTS}:Trouble")
    doomed, other = worker.peer(), worker.peer()
    doomed.opened(0)
    other.opened(0)
    number = doomed.send(0, Asked.STEP, {"message": "die"})
    with pytest.raises(EOFError):
        doomed.answer(number)
    assert other.ask(0, Asked.RESET).kind is Said.DONE
    until("what was said of it", lambda: "ended: status 3" in worker.said())
    worker.peer().opened(0)


def test_the_end_of_the_zygote_is_not_that_of_its_children(start: Start) -> None:
    worker = start(f"{ENVIRONMENTS}:Echo")
    peer = worker.peer()
    peer.opened(0)
    worker.process.terminate()
    assert worker.process.wait(30) == 0
    assert not worker.path.exists()
    assert peer.ask(0, Asked.STEP, {"message": "x"}).kind is Said.DONE


def test_it_may_end_with_its_standard_input(start: Start) -> None:
    worker = start(f"{ENVIRONMENTS}:Echo", "--until-stdin-ends")
    worker.peer().opened(0)
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.process.wait(30) == 0
    assert not worker.path.exists()


@pytest.mark.parametrize(
    ("target", "type_", "said"),
    [
        ("tests.worker.broken:app", "ZeroDivisionError", "division by zero"),
        ("tests.worker.leaves:app", "SystemExit", "3"),
        ("tests.worker.nowhere:app", "ModuleNotFoundError", "No module named"),
        (f"{ENVIRONMENTS}:nothing", "TargetInvalid", f"{ENVIRONMENTS} has no 'nothing'"),
        (f"{ENVIRONMENTS}:os.sep", "TargetInvalid", "is neither an app nor an environment"),
        ("gym:Nothing-v0", "NameNotFound", "Nothing"),
        ("gym:nowhere:Nothing-v0", "ModuleNotFoundError", "nowhere"),
        ("pettingzoo:classic/nothing_v1", "TargetInvalid", "there is no environment classic/nothing_v1"),
        ("pettingzoo:nothing", "TargetInvalid", "is not pettingzoo:family/name_vN"),
        ("./nowhere", "TargetInvalid", "nor a directory that exists"),
        ("tests", "TargetInvalid", "has no openenv.yaml"),
    ],
)
def test_whoever_connects_is_told_why_nothing_is_served(start: Start, target: str, type_: str, said: str) -> None:
    worker = start(target)
    for _ in range(2):
        peer, first = worker.connect()
        assert (first.request, first.kind, first.value["type"]) == (0, Said.FAILED, type_)
        assert said in first.value["message"]
        assert "Traceback" in first.value["traceback"]
        with pytest.raises(EOFError):
            peer.next()
    assert said in worker.said()


def test_who_connects_early_waits(start: Start, tmp_path: Path) -> None:
    # The socket is there before the import is done; the import waits until somebody has connected.
    waiting = socket.socket(socket.AF_UNIX)
    waiting.bind(str(tmp_path / "connected"))
    waiting.listen()
    module = tmp_path / "patient.py"
    module.write_text(
        textwrap.dedent(
            f"""
            import socket
            from tests.worker.environments import Echo as Patient
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect({str(tmp_path / "connected")!r})
                sock.recv(1)
            """
        )
    )
    worker = start("patient:Patient", PYTHONPATH=str(tmp_path))
    importing, _ = waiting.accept()
    until("the socket", worker.path.exists)
    early = socket.socket(socket.AF_UNIX)
    early.connect(str(worker.path))
    importing.close()
    waiting.close()
    early.settimeout(40)
    assert early.recv(9)[8] == Said.HELLO
    early.close()


def test_a_frame_that_is_none_ends_the_connection_alone(start: Start) -> None:
    worker = start(f"{ENVIRONMENTS}:Echo")
    bad, good = worker.peer(), worker.peer()
    good.opened(0)
    bad.sock.sendall(b"\xff" * 13)
    with pytest.raises(EOFError):
        bad.next()
    until("what was said of it", lambda: "that is none" in worker.said())
    cut = worker.peer()
    cut.sock.sendall(b"\x05\x00")
    cut.close()
    until("what was said of it", lambda: "ended within a frame" in worker.said())
    assert good.ask(0, Asked.STEP, {"message": "x"}).kind is Said.DONE


def test_it_says_what_it_takes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hothouse.worker", "--help"], capture_output=True, text=True, timeout=50, check=True
    )
    assert "--socket PATH" in done.stdout
