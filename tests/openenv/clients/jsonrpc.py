"""JSON-RPC of `echo_mcp` over POST /mcp, WS /mcp and WS /ws, and sessions that are made by it."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from checks import Report, same
from frames import ask, closed, error, socket
from http_exchange import exchange
from tools_schema import SCHEMA

TEXT_RESULT = {
    "content": [{"type": "text", "text": "hi", "annotations": None, "meta": None}],
    "structured_content": {"result": "hi"},
    "meta": {"fastmcp": {"wrap_result": True}},
    "data": "hi",
    "is_error": False,
}
OBJECT_RESULT = {
    "content": [{"type": "text", "text": '{"message":"hi","length":2}', "annotations": None, "meta": None}],
    "structured_content": {"message": "hi", "length": 2},
    "meta": None,
    "data": {"message": "hi", "length": 2},
    "is_error": False,
}
OUTPUT = {
    "echo_message": {
        "properties": {"result": {"type": "string"}},
        "required": ["result"],
        "type": "object",
        "x-fastmcp-wrap-result": True,
    },
    "echo_with_length": {"additionalProperties": True, "type": "object"},
}


def request(method: str, params: dict[str, Any] | None = None, number: Any = 1) -> dict[str, Any]:
    """A request."""
    return {"jsonrpc": "2.0", "method": method, "id": number, **({} if params is None else {"params": params})}


def result(value: Any, number: Any = 1) -> dict[str, Any]:
    """A success."""
    return {"jsonrpc": "2.0", "id": number, "result": value}


def failure(code: int, message: str, number: Any = 1, data: Any = None) -> dict[str, Any]:
    """A failure."""
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message, "data": data}}


def tools_are(answer: dict[str, Any]) -> None:
    """Asserts the list of tools; their descriptions are free."""
    tools = answer["result"]["tools"]
    assert all(tool.pop("description") for tool in tools), tools
    same(
        tools,
        [
            {
                "name": name,
                "title": None,
                "inputSchema": SCHEMA,
                "outputSchema": OUTPUT[name],
                "icons": None,
                "annotations": None,
                "meta": {"fastmcp": {"tags": []}},
                "execution": None,
            }
            for name in ("echo_message", "echo_with_length")
        ],
    )


def tools(report: Report, call: Any) -> None:
    """What each way to speak JSON-RPC has to give alike; `call` sends a request and gives the answer."""
    with report.check("tools/list"):
        tools_are(call(request("tools/list")))
    with report.check("tools/call: a text"):
        hi = {"name": "echo_message", "arguments": {"message": "hi"}}
        same(call(request("tools/call", hi, 2)), result(TEXT_RESULT, 2))
    with report.check("tools/call: an object"):
        hi = {"name": "echo_with_length", "arguments": {"message": "hi"}}
        same(call(request("tools/call", hi, "two")), result(OBJECT_RESULT, "two"))
    with report.check("tools/call: unknown tool"):
        unknown = {"name": "zz", "arguments": {}}
        same(call(request("tools/call", unknown)), failure(-32603, "Unknown tool: 'zz'"))
    with report.check("tools/call: no name"):
        same(call(request("tools/call", {"arguments": {}})), failure(-32602, "Missing 'name' in params"))
    with report.check("tools/call: wrong arguments"):
        answer = call(request("tools/call", {"name": "echo_message", "arguments": {"nope": 1}}))
        same((answer["id"], answer["error"]["code"]), (1, -32603))
        assert "message" in answer["error"]["message"], answer
    with report.check("unknown method"):
        same(call(request("initialize", {})), failure(-32601, "Method not found: initialize"))
    with report.check("no id"):
        answer = call({"jsonrpc": "2.0", "method": "tools/call", "params": {"arguments": {}}})
        same(answer, failure(-32602, "Missing 'name' in params", None))


def over_http(report: Report, url: str) -> None:
    """POST /mcp: always 200."""

    def call(body: Any) -> dict[str, Any]:
        answer = exchange(url, "POST", "/mcp", body)
        same(answer.status, 200)
        return answer.json()

    tools(report, call)
    for name, body in {"no JSON": b"{bad", "array": [], "batch": [request("tools/list")], "no body": b""}.items():
        with report.check(f"refused: {name}"):
            same(call(body), failure(-32700, "Parse error", None))
    for name, body in {
        "empty object": {},
        "another version": {**request("tools/list"), "jsonrpc": "1.0"},
        "more keys": {**request("tools/list"), "more": 1},
        "params that are no object": {**request("tools/list"), "params": []},
        "an id that is no integer": request("tools/list", None, 1.5),
    }.items():
        with report.check(f"refused: {name}"):
            answer = call(body)
            same((answer["id"], answer["error"]["code"], answer["error"]["data"]), (None, -32600, None))
            assert re.match(r"Invalid request: \d+ validation errors? for JsonRpcRequest\n", answer["error"]["message"]), answer
    sessions(report, url, call)


def sessions(report: Report, url: str, call: Any) -> None:
    """Sessions made over HTTP, and a WebSocket attached to one."""

    def create() -> str:
        return call(request("openenv/session/create"))["result"]["session_id"]

    def close(session: str) -> dict[str, Any]:
        return call(request("openenv/session/close", {"session_id": session}))

    def unknown(session: str) -> dict[str, Any]:
        return failure(-32602, f"Unknown session_id: {session}")

    with report.check("session: create, call, close"):
        session = create()
        same(str(uuid.UUID(session)), session)
        named = {"name": "echo_message", "arguments": {"message": "hi"}, "session_id": session}
        same(call(request("tools/call", named)), result(TEXT_RESULT))
        same(close(session), result({"session_id": session, "closed": True}))
        same(close(session), unknown(session))
        same(call(request("tools/list", {"session_id": session})), unknown(session))
    with report.check("session: close needs an id"):
        same(
            call(request("openenv/session/close", {})),
            failure(-32602, "Invalid params - 'session_id' is required"),
        )
    with report.check("session: attached, calls are no steps"):
        session = create()
        with socket(url, f"/ws?session_id={session}") as attached:
            same(ask(attached, {"type": "reset"})["data"]["reward"], 0.0)
            call(request("tools/call", {"name": "echo_message", "arguments": {"message": "q"}, "session_id": session}))
            same(ask(attached, {"type": "state"})["data"]["step_count"], 0)
            action = {"type": "call_tool", "tool_name": "echo_message", "arguments": {"message": "hi"}}
            answer = ask(attached, {"type": "step", "data": action})
            same(
                answer["data"],
                {
                    "observation": {
                        "metadata": {},
                        "tool_name": "echo_message",
                        "result": TEXT_RESULT,
                        "error": None,
                    },
                    "reward": None,
                    "done": False,
                },
            )
            same(ask(attached, {"type": "state"})["data"]["step_count"], 1)
            with report.check("session: a second WebSocket is refused"):
                with socket(url, f"/ws?session_id={session}") as second:
                    text = f"Session {session} already has an attached WebSocket"
                    same(json.loads(second.recv(timeout=30)), error("SESSION_ERROR", text))
                    same(closed(second), 1000)
            with report.check("session: closed when the WebSocket is gone"):
                same(close(session), result({"session_id": session, "closed": False, "closing": True}))
                same(ask(attached, {"type": "state"})["data"]["step_count"], 1)
                attached.send('{"type":"close"}')
                same(closed(attached), 1000)
                same(close(session), unknown(session))
    with report.check("session: survives its WebSocket"):
        session = create()
        for steps in (0, 1):
            with socket(url, f"/ws?session_id={session}") as attached:
                same(ask(attached, {"type": "state"})["data"]["step_count"], steps)
                ask(attached, {"type": "step", "data": {"tool_name": "echo_message", "arguments": {"message": "x"}}})
                attached.send('{"type":"close"}')
                same(closed(attached), 1000)
        same(close(session)["result"]["closed"], True)
    with report.check("session: unknown"):
        with socket(url, "/ws?session_id=nope") as attached:
            same(json.loads(attached.recv(timeout=30)), error("SESSION_ERROR", "Unknown session_id: nope"))
            same(closed(attached), 1000)


def over_websocket(report: Report, url: str) -> None:
    """WS /mcp: a session of its own."""
    with socket(url, "/mcp") as connection:
        tools(report, lambda body: ask(connection, body))
        with report.check("refused: no JSON"):
            answer = ask(connection, "{bad")
            same((answer["id"], answer["error"]["code"]), (None, -32700))
            assert answer["error"]["message"].startswith("Parse error: "), answer
        with report.check("refused: empty object"):
            answer = ask(connection, {})
            same((answer["id"], answer["error"]["code"]), (None, -32600))
        with report.check("the connection's own session"):
            answer = ask(connection, request("openenv/session/create"))
            session = answer["result"]["session_id"]
            same(
                ask(connection, request("openenv/session/close", {"session_id": session})),
                failure(-32600, "Cannot close active WebSocket-managed session via MCP method"),
            )


def in_messages(report: Report, url: str) -> None:
    """WS /ws: messages of the type `mcp` between the others."""
    with socket(url) as connection:

        def call(body: Any) -> dict[str, Any]:
            answer = ask(connection, {"type": "mcp", "data": body})
            same((sorted(answer), answer["type"]), (["data", "type"], "mcp"))
            return answer["data"]

        tools(report, call)
        with report.check("between steps"):
            same(ask(connection, {"type": "reset"})["data"]["reward"], 0.0)
            call(request("tools/call", {"name": "echo_message", "arguments": {"message": "x"}}))
            same(ask(connection, {"type": "state"})["data"]["step_count"], 0)
            answer = ask(connection, {"type": "step", "data": {"type": "list_tools"}})
            same(
                [(tool["name"], tool["input_schema"]) for tool in answer["data"]["observation"]["tools"]],
                [("echo_message", SCHEMA), ("echo_with_length", SCHEMA)],
            )
            same(ask(connection, {"type": "state"})["data"]["step_count"], 1)
