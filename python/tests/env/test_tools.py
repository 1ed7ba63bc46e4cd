"""Tools: methods of an environment that are called by name."""

from __future__ import annotations

import json
from typing import Any, Optional

import pytest

from hothouse.env import (
    Action,
    CallToolAction,
    CallToolObservation,
    Environment,
    ListToolsAction,
    ListToolsObservation,
    MCPEnvironment,
    Observation,
    State,
    create_app,
    tool,
)
from hothouse.env.codec import Invalid
from hothouse.env.tools import ToolFailed, answered


class Wait(Action):
    seconds: int


class Calculator(MCPEnvironment):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

        @self.tool()
        def doubled(x: float) -> float:
            return x * 2

    def reset(self, seed: Optional[int] = None) -> Observation:  # type: ignore[override]
        self.calls = 0
        return Observation(reward=0.0)

    def _step_impl(self, action: Any, timeout_s: Optional[float] = None, **kwargs: Any) -> Observation:
        return Observation(metadata={"waited": action.seconds, "timeout_s": timeout_s})

    @property
    def state(self) -> State:
        return State(step_count=self.calls)

    @tool
    def add(self, a: int, b: int = 2) -> int:
        """Adds two numbers.

        Args:
            a: the first,
                which is needed
            b (int): the second
        """
        self.calls += 1
        return a + b

    @tool(name="who", description="Says who.", mode="simulation")
    def say_who(self, names: list[str], loud: bool = False) -> dict[str, Any]:
        return {"names": names, "loud": loud}

    @tool(mode="production")
    def secret(self) -> None: ...

    @tool
    def nothing(self) -> None:
        pass

    @tool
    async def later(self, text: str) -> str:
        return text

    @tool
    def broken(self) -> int:
        raise ValueError("no such luck")


APP = create_app(Calculator, CallToolAction, CallToolObservation, env_name="calculator")


def stepped(action: dict[str, Any]) -> dict[str, Any]:
    session = APP.session()
    fields, reward, done, _ = session.step(json.dumps(action).encode()).split(b"\n")
    assert (reward, done) == (b"null", b"false")
    seen: dict[str, Any] = json.loads(fields)
    return seen


def test_the_schema_comes_from_the_signature() -> None:
    told = {each["name"]: each for each in answered(Calculator(), "tools/list", {})["tools"]}
    assert set(told) == {"add", "who", "nothing", "later", "broken", "doubled"}
    assert told["add"] == {
        "name": "add",
        "title": None,
        "description": "Adds two numbers.",
        "inputSchema": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "a": {"type": "integer", "description": "the first, which is needed"},
                "b": {"type": "integer", "description": "the second", "default": 2},
            },
            "required": ["a"],
        },
        "outputSchema": {
            "type": "object",
            "properties": {"result": {"type": "integer"}},
            "required": ["result"],
            "x-fastmcp-wrap-result": True,
        },
        "icons": None,
        "annotations": None,
        "meta": {"fastmcp": {"tags": []}},
        "execution": None,
    }
    assert told["who"]["description"] == "Says who."
    assert told["who"]["outputSchema"] == {"type": "object", "additionalProperties": True}
    assert told["nothing"]["outputSchema"] is None


def test_in_production_there_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENENV_MODE", "production")
    names = {each["name"] for each in answered(Calculator(), "tools/list", {})["tools"]}
    assert "secret" in names
    assert "who" not in names


@pytest.mark.parametrize(
    ("name", "arguments", "text", "structured", "data"),
    [
        ("add", {"a": "1"}, "3", {"result": 3}, 3),
        ("doubled", {"x": 1}, "2.0", {"result": 2.0}, 2.0),
        ("who", {"names": ["é"]}, '{"names":["é"],"loud":false}', {"names": ["é"], "loud": False}, None),
        ("later", {"text": "x"}, "x", {"result": "x"}, "x"),
    ],
)
def test_a_call_has_a_result(name: str, arguments: dict[str, Any], text: str, structured: Any, data: Any) -> None:
    result = answered(Calculator(), "tools/call", {"name": name, "arguments": arguments})
    wraps = "result" in structured
    assert result == {
        "content": [{"type": "text", "text": text, "annotations": None, "meta": None}],
        "structured_content": structured,
        "meta": {"fastmcp": {"wrap_result": True}} if wraps else None,
        "data": data if wraps else structured,
        "is_error": False,
    }


def test_nothing_is_a_result_too() -> None:
    result = answered(Calculator(), "tools/call", {"name": "nothing"})
    assert (result["content"], result["structured_content"], result["data"]) == ([], None, None)


@pytest.mark.parametrize(
    ("method", "params", "code", "message"),
    [
        ("tools/call", {"name": "zz"}, -32603, "Unknown tool: 'zz'"),
        ("tools/call", {"name": ["add"]}, -32603, "Unknown tool: ['add']"),
        ("tools/call", {}, -32602, "Missing required parameter: name"),
        ("tools/call", {"name": "add", "arguments": {"b": "x", "c": 1}}, -32603, "add: "),
        ("tools/call", {"name": "add", "arguments": [1]}, -32603, "add: : Input should be a valid dictionary"),
        ("tools/call", {"name": "broken"}, -32603, "Error calling tool 'broken': no such luck"),
        ("prompts/list", {}, -32601, "Method not found: prompts/list"),
    ],
)
def test_a_call_may_fail(method: str, params: dict[str, Any], code: int, message: str) -> None:
    with pytest.raises(ToolFailed) as caught:
        answered(Calculator(), method, params)
    assert str(caught.value).startswith(message)
    assert caught.value.code == code


def test_an_environment_without_tools_has_none() -> None:
    class Bare(Environment[Any, Any, Any]):
        pass

    with pytest.raises(ToolFailed, match="does not support MCP"):
        answered(Bare(), "tools/list", {})


def test_calls_are_actions() -> None:
    seen = stepped({"type": "call_tool", "tool_name": "add", "arguments": {"a": 1}})
    assert (seen["tool_name"], seen["result"]["data"], seen["error"]) == ("add", 3, None)
    # The type may be left out where the environment takes calls only.
    assert stepped({"tool_name": "add", "arguments": {"a": 1}}) == seen
    listed = stepped({"type": "list_tools"})["tools"]
    assert {"name", "description", "input_schema"} == set(listed[0])
    for name, kind in [("zz", "tool_not_found"), ("add", "invalid_args"), ("broken", "execution_error")]:
        seen = stepped({"tool_name": name, "arguments": {}})
        assert (seen["result"], seen["error"]["error_type"]) == (None, kind)
    with pytest.raises(Invalid):
        stepped({"message": "hi"})


def test_a_call_by_mcp_is_no_step() -> None:
    session = APP.session()
    session.mcp(b'{"method": "tools/call", "params": {"name": "add", "arguments": {"a": 1}}}')
    session.step(b'{"tool_name": "add", "arguments": {"a": 1}}')
    assert json.loads(session.state())["step_count"] == 2, "this environment counts calls itself"


def test_other_actions_are_the_environments_own() -> None:
    session = create_app(Calculator, Wait, Observation).session()
    assert session.step(b'{"seconds": 3}') == b'{}\nnull\nfalse\n{"waited":3,"timeout_s":null}'
    answer = session.step_with(b'{"action": {"seconds": 3}, "kwargs": {"timeout_s": 1.5}}')
    assert b'"timeout_s":1.5' in answer
    assert b"add" in session.step(b'{"type": "list_tools"}')
    assert isinstance(session.env.step(ListToolsAction()), ListToolsObservation)


def test_code_may_call_the_tools_itself() -> None:
    env = Calculator()
    assert env.get_callables()["add"](1, b=4) == 5


def test_some_names_are_taken() -> None:
    with pytest.raises(ValueError, match="no tool may be called 'reset'"):

        class Bad(MCPEnvironment):
            @tool
            def reset(self) -> None: ...  # type: ignore[override]

    with pytest.raises(ValueError, match="mode is 'simulation', 'production' or None"):
        tool(mode="both")


def test_each_argument_has_a_name() -> None:
    def many(*numbers: int) -> None: ...

    add = MCPEnvironment().tool()
    with pytest.raises(TypeError, match="each argument of a tool has a name of its own"):
        add(many)
