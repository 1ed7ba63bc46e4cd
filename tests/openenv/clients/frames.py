"""The WebSocket /ws of `echo`, frame by frame: what no official client shows."""

from __future__ import annotations

import json
import struct
from typing import Any

from checks import Report, same
from http_exchange import exchange, less_urls
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

READY = {
    "type": "observation",
    "data": {
        "observation": {"metadata": {}, "echoed_message": "Echo environment ready!", "message_length": 0},
        "reward": 0.0,
        "done": False,
    },
}
FULL = {
    "message": "Server at capacity: 2/2 sessions active. Cannot accept new connections.",
    "code": "CAPACITY_REACHED",
    "active_sessions": 2,
    "max_sessions": 2,
}


def socket(url: str, path: str = "/ws", **how: Any) -> ClientConnection:
    """A connection, without proxies."""
    return connect(url.replace("http://", "ws://") + path, proxy=None, open_timeout=30, max_size=None, **how)


def ask(connection: ClientConnection, message: Any) -> Any:
    """Sends a message, which is JSON unless it is text or bytes, and waits for the answer."""
    connection.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
    return heard(connection)


def heard(connection: ClientConnection) -> Any:
    """The next message, which has to be text."""
    answer = connection.recv(timeout=30)
    assert isinstance(answer, str), answer
    return json.loads(answer)


def closed(connection: ClientConnection) -> int | None:
    """The status with which the server ends the connection; it may say nothing more before."""
    try:
        said = connection.recv(timeout=30)
    except ConnectionClosed as error:
        return error.rcvd.code if error.rcvd else None
    raise AssertionError(f"{said!r} instead of the end")


def error(code: str, message: str, **more: Any) -> dict[str, Any]:
    """An error as it is sent."""
    return {"type": "error", "data": {"message": message, "code": code, **more}}


def run(report: Report, url: str) -> None:
    """One session's messages, and how sessions end."""
    with socket(url) as connection:
        messages(report, connection)
        refusals(report, connection)
    with report.check("messages sent at once are answered in order"):
        with socket(url) as connection:
            for number in range(50):
                connection.send(json.dumps({"type": "step", "data": {"message": str(number)}}))
            answers = [heard(connection)["data"]["observation"]["echoed_message"] for _ in range(50)]
            same(answers, [str(number) for number in range(50)])
    with report.check("close"):
        with socket(url) as connection:
            connection.send('{"type":"close"}')
            same(closed(connection), 1000)
    for name, message, said in [
        ("array", "[]", "'list' object has no attribute 'get'"),
        ("text", '"reset"', "'str' object has no attribute 'get'"),
        ("null", "null", "'NoneType' object has no attribute 'get'"),
        ("bytes", b'{"type":"state"}', "'text'"),
    ]:
        with report.check(f"ends the session: {name}"):
            with socket(url) as connection:
                same(ask(connection, message), error("SESSION_ERROR", said))
                same(closed(connection), 1000)
    with report.check("a frame that is too large"):
        with socket(url, compression=None) as connection:
            # Only the head of a masked text frame, so that no end is missed while the rest is being sent.
            connection.socket.sendall(struct.pack(">BBQI", 0x81, 0xFF, (16 << 20) + 1, 0))
            same(closed(connection), 1009)
    with report.check("unknown path"):
        try:
            socket(url, "/nowhere").close()
        except InvalidStatus as refused:
            same(refused.response.status_code, 403)
        else:
            raise AssertionError("accepted")
    with report.check("compression may be offered"):
        # An answer without it is as good (RFC 7692, 5); the reference takes it, we do not.
        with socket(url) as connection:
            same(ask(connection, {"type": "reset"}), READY)
    with report.check("unknown subprotocols are not chosen"):
        with socket(url, subprotocols=["nobody.knows"]) as connection:
            same((connection.subprotocol, ask(connection, {"type": "reset"})), (None, READY))


def messages(report: Report, connection: ClientConnection) -> None:
    """What is taken."""
    with report.check("reset"):
        same(ask(connection, {"type": "reset"}), READY)
        same(ask(connection, {"type": "reset", "data": {}}), READY)
    with report.check("step"):
        said = {"original_message": "abc", "step": 1}
        same(
            ask(connection, {"type": "step", "data": {"message": "abc"}}),
            {
                "type": "observation",
                "data": {
                    "observation": {"metadata": said, "echoed_message": "abc", "message_length": 3},
                    "reward": 0.30000000000000004,
                    "done": False,
                    "metadata": said,
                },
            },
        )
    with report.check("floats keep their point, text is not escaped"):
        connection.send(json.dumps({"type": "step", "data": {"message": "Hello, h\u00e9\U0001f642"}}))
        answer = str(connection.recv(timeout=30))
        assert '"reward":1.0' in answer, answer
        assert '"echoed_message":"Hello, h\u00e9\U0001f642"' in answer, answer
    with report.check("state"):
        answer = ask(connection, {"type": "state"})
        same((answer["type"], sorted(answer["data"])), ("state", ["episode_id", "step_count"]))
        same(answer["data"]["step_count"], 2)
    with report.check("metadata of an action"):
        answer = ask(connection, {"type": "step", "data": {"message": "x", "metadata": {"a": 1}}})
        same(answer["data"]["observation"]["metadata"], {"original_message": "x", "step": 3})
    with report.check("JSON-RPC of an environment without tools"):
        request = {"jsonrpc": "2.0", "method": "tools/list", "id": 1}
        failure = {"code": -32603, "message": "Environment does not support MCP", "data": None}
        same(
            ask(connection, {"type": "mcp", "data": request}),
            {"type": "mcp", "data": {"jsonrpc": "2.0", "id": 1, "error": failure}},
        )


def refusals(report: Report, connection: ClientConnection) -> None:
    """What is refused; the session goes on."""
    for name, message, errors in [
        (
            "wrong fields",
            {"type": "step", "data": {"x": 1}},
            [
                {"type": "missing", "loc": ["message"], "msg": "Field required", "input": {"x": 1}},
                {"type": "extra_forbidden", "loc": ["x"], "msg": "Extra inputs are not permitted", "input": 1},
            ],
        ),
        (
            "wrong type",
            {"type": "step", "data": {"message": 5}},
            [{"type": "string_type", "loc": ["message"], "msg": "Input should be a valid string", "input": 5}],
        ),
        (
            "no data",
            {"type": "step"},
            [{"type": "missing", "loc": ["data"], "msg": "Field required", "input": {"type": "step"}}],
        ),
        (
            "more keys",
            {"type": "step", "data": {"message": "x"}, "more": "r1"},
            [{"type": "extra_forbidden", "loc": ["more"], "msg": "Extra inputs are not permitted", "input": "r1"}],
        ),
        (
            "data that is no object",
            {"type": "reset", "data": 1},
            [{"type": "dict_type", "loc": ["data"], "msg": "Input should be a valid dictionary", "input": 1}],
        ),
    ]:
        with report.check(f"refused: {name}"):
            same(less_urls(ask(connection, message)), error("VALIDATION_ERROR", "Invalid message", errors=errors))
    for name, message, code, text in [
        ("unknown type", {"type": "bogus"}, "UNKNOWN_TYPE", "Unknown message type: bogus"),
        ("no type", {"data": {}}, "UNKNOWN_TYPE", "Unknown message type: "),
        (
            "no JSON",
            "{oops",
            "INVALID_JSON",
            "Invalid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
    ]:
        with report.check(f"refused: {name}"):
            same(ask(connection, message), error(code, text))
    with report.check("a refusal is no step, and the session lives"):
        same(ask(connection, {"type": "state"})["data"]["step_count"], 3)


def capacity(report: Report, url: str) -> None:
    """Against a server with room for two."""
    with socket(url) as first, socket(url) as second:
        same([ask(one, {"type": "reset"})["type"] for one in (first, second)], ["observation"] * 2)
        with report.check("one too many is told so before it says anything"):
            with socket(url) as third:
                same(heard(third), {"type": "error", "data": FULL})
                same(closed(third), 1000)
        with report.check("sessions over HTTP count as well"):
            request = {"jsonrpc": "2.0", "method": "openenv/session/create", "id": 1}
            failure = {
                "code": -32000,
                "message": FULL["message"],
                "data": {"active_sessions": 2, "max_sessions": 2},
            }
            same(
                exchange(url, "POST", "/mcp", request).json(), {"jsonrpc": "2.0", "id": 1, "error": failure}
            )
        with report.check("single requests do not"):
            same(exchange(url, "POST", "/reset", {}).status, 200)
