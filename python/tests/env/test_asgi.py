"""An app under uvicorn, as many images start one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.connection import Connection

from ..patience import until

PYTHON_DIR = Path(__file__).resolve().parents[2]


class Served:
    """uvicorn with an app, on a port of its own."""

    def __init__(self, app: str, log: Path) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]  # noqa: UP031
        descriptor = self._listener.fileno()
        command = [sys.executable, "-m", "uvicorn", app, "--fd", str(descriptor), "--log-level", "warning"]
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, pass_fds=[descriptor], cwd=PYTHON_DIR, stdout=output, stderr=output
            )
        self.http = httpx.Client(base_url=f"http://{self.address}", timeout=40)
        until("its health", self._healthy)

    def _healthy(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        return self.http.get("/health").status_code == 200

    def session(self) -> ClientConnection:
        return connect(f"ws://{self.address}/ws", max_size=None)

    def end(self) -> None:
        self.http.close()
        self.process.terminate()
        self.process.wait(40)
        self._listener.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    running = Served("tests.env.served:app", tmp_path_factory.mktemp("served") / "log")
    yield running
    running.end()


def told(session: Connection, message: Any) -> Any:
    session.send(message if isinstance(message, str) else json.dumps(message))
    return json.loads(session.recv(40))


def test_a_websocket_is_a_session(served: Served) -> None:
    with served.session() as session:
        said = told(session, {"type": "reset", "data": {"seed": 5, "foo": 1}})
        assert said == {
            "type": "observation",
            "data": {
                "observation": {"metadata": {"kw": {"foo": 1}}, "val": 5.0},
                "reward": None,
                "done": False,
                "metadata": {"kw": {"foo": 1}},
            },
        }
        said = told(session, {"type": "step", "data": {"cmd": "ok", "n": "7"}})
        assert said["data"] == {"observation": {"metadata": {}, "val": 1.5}, "reward": 0.5, "done": False}
        assert told(session, {"type": "state"})["data"] == {"episode_id": "E", "step_count": 1, "last": "ok"}
        said = told(session, {"type": "step", "data": {"cmd": "bool"}})["data"]
        assert (said["reward"], said["done"]) == (True, True)
        assert told(session, {"type": "step", "data": {"cmd": "nan"}})["data"]["observation"]["val"] is None
        with served.session() as other:
            told(other, {"type": "reset"})
            assert told(other, {"type": "state"})["data"]["step_count"] == 0
        session.send('{"type": "close"}')
        with pytest.raises(Exception, match="1000"):
            session.recv(40)


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        ("{oops", "INVALID_JSON", "Invalid JSON: Expecting property name enclosed in double quotes: line 1 column 2"),
        ({"type": "bogus"}, "UNKNOWN_TYPE", "Unknown message type: bogus"),
        ({"type": "step", "data": {"cmd": 5}}, "VALIDATION_ERROR", "Invalid message"),
        ({"type": "step", "data": []}, "VALIDATION_ERROR", "Invalid message"),
        ({"type": "step", "data": {"cmd": "boom"}}, "EXECUTION_ERROR", "step boom"),
    ],
)
def test_what_goes_wrong_has_a_code(served: Served, message: Any, code: str, said: str) -> None:
    with served.session() as session:
        told(session, {"type": "reset"})
        answer = told(session, message)
        assert (answer["type"], answer["data"]["code"]) == ("error", code)
        assert answer["data"]["message"].startswith(said)
        assert told(session, {"type": "state"})["type"] == "state", "it lives on"


def test_there_is_room_for_so_many(served: Served) -> None:
    with served.session() as first, served.session() as second, served.session() as third:
        for session in (first, second, third):
            told(session, {"type": "reset"})
        with served.session() as late:
            answer = json.loads(late.recv(40))["data"]
        assert (answer["code"], answer["active_sessions"], answer["max_sessions"]) == ("CAPACITY_REACHED", 3, 3)

    def fits() -> bool:
        try:
            with served.session() as again:
                return bool(told(again, {"type": "reset"})["type"] == "observation")
        except ConnectionClosed:
            # Refused before it could ask: those before are not quite gone.
            return False

    until("room", fits)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        (
            "POST",
            "/reset",
            "",
            200,
            '{"observation":{"metadata":{},"val":0.0},"reward":null,"done":false,"metadata":null}',
        ),
        (
            "POST",
            "/reset",
            '{"seed":-1}',
            422,
            '{"detail":[{"type":"greater_than_equal","loc":["body","seed"],"msg":"Input should be greater than or '
            'equal to 0","input":-1,"ctx":{"ge":0}}]}',
        ),
        (
            "POST",
            "/step",
            '{"action":{"cmd":"int"}}',
            200,
            '{"observation":{"metadata":{},"val":0.0},"reward":1.0,"done":false,"metadata":null}',
        ),
        (
            "POST",
            "/step",
            "{}",
            422,
            '{"detail":[{"type":"missing","loc":["body","action"],"msg":"Field required","input":{}}]}',
        ),
        (
            "POST",
            "/step",
            "{oops",
            422,
            '{"detail":[{"type":"json_invalid","loc":["body",1],"msg":"JSON decode error","input":{},"ctx":{"error":'
            '"Expecting property name enclosed in double quotes"}}]}',
        ),
        ("POST", "/step", '{"action":{"cmd":"boom"}}', 500, "Internal Server Error"),
        ("GET", "/health", "", 200, '{"status":"healthy"}'),
        ("GET", "/nope", "", 404, '{"detail":"Not Found"}'),
        ("POST", "/health", "", 405, '{"detail":"Method Not Allowed"}'),
        (
            "POST",
            "/mcp",
            '{"jsonrpc":"2.0","method":"tools/list","id":5}',
            200,
            '{"jsonrpc":"2.0","id":5,"error":{"code":-32603,"message":"Environment does not support MCP","data":null}}',
        ),
        (
            "POST",
            "/mcp",
            '{"jsonrpc":"2.0","method":"initialize","id":5}',
            200,
            '{"jsonrpc":"2.0","id":5,"error":{"code":-32601,"message":"Method not found: initialize","data":null}}',
        ),
    ],
)
def test_http_says_what_it_has_always_said(
    served: Served, method: str, path: str, body: str, status: int, said: str
) -> None:
    headers = {"content-type": "application/json"}
    answer = served.http.request(method, path, content=body, headers=headers)
    assert (answer.status_code, answer.text) == (status, said)


def test_http_tells_of_the_environment(served: Served) -> None:
    assert set(served.http.get("/schema").json()) == {"action", "observation", "state", "reset_observation"}
    assert served.http.get("/metadata").json()["name"] == "Commanded"
    assert served.http.get("/openapi.json").json()["info"]["version"] == "1.0.0"


def test_one_instance_for_all_is_stateful_over_http(tmp_path: Path) -> None:
    served = Served("tests.worker.environments:shared", tmp_path / "log")
    try:
        served.http.post("/reset", json={"episode_id": "ep"})
        for length in (1, 13):
            said = served.http.post("/step", json={"action": {"message": "x" * length}, "timeout_s": 15}).json()
            assert (said["observation"]["message"], said["reward"]) == ("x" * length, length * 0.1)
        assert served.http.get("/state").json() == {"episode_id": "ep", "step_count": 2}
    finally:
        served.end()
