"""MCPToolClient: tools instead of actions. How its calls travel is another thing in each generation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from checks import Report, raised, same
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.mcp_client import MCPToolClient
from tools_schema import SCHEMA


def discovered(report: Report, client: Any) -> None:
    """What every generation sees of the tools."""
    with report.check("list_tools"):
        tools = {tool.name: tool for tool in client.list_tools()}
        same(sorted(tools), ["echo_message", "echo_with_length"])
        same([tools[name].input_schema for name in sorted(tools)], [SCHEMA, SCHEMA])
        assert all(tool.description for tool in tools.values()), tools
    with report.check("call_tool: a text"):
        same(client.call_tool("echo_message", message="h\u00e9 \U0001f642"), "h\u00e9 \U0001f642")
    with report.check("call_tool: an object"):
        same(client.call_tool("echo_with_length", message="abc"), {"message": "abc", "length": 3})


def stepping(report: Report, client: Any, call: Callable[[str, dict[str, Any]], Any]) -> None:
    """Tools as actions of the environment, with its count of steps."""
    with report.check("step"):
        client.reset()
        result = call("echo_message", {"message": "hi"})
        assert type(result.observation) is CallToolObservation, result
        same((result.observation.tool_name, result.observation.error), ("echo_message", None))
        same(
            result.observation.result,
            {
                "content": [{"type": "text", "text": "hi", "annotations": None, "meta": None}],
                "structured_content": {"result": "hi"},
                "meta": {"fastmcp": {"wrap_result": True}},
                "data": "hi",
                "is_error": False,
            },
        )
        # No reward is what an environment of tools gives by itself.
        same((result.reward, result.done, client.state().step_count), (None, False, 1))
    with report.check("step: unknown tool"):
        error = call("zz", {}).observation.error
        same((error.error_type.value, error.message), ("tool_not_found", "Unknown tool: 'zz'"))
    with report.check("step: wrong arguments"):
        error = call("echo_message", {"nope": 1}).observation.error
        same(error.error_type.value, "invalid_args")
        assert "message" in error.message, error


def by_steps(report: Report, url: str, flavour: Callable[[Any], Any]) -> None:
    """The generations up to 0.3: each call is a step over the WebSocket."""
    with flavour(MCPToolClient(base_url=url)) as client:
        with report.check("reset"):
            result = client.reset()
            same((result.reward, result.done), (0.0, False))
            same(result.observation.metadata, {"status": "ready", "message": "Echo environment ready!"})
        discovered(report, client)
        with report.check("calls are steps, the list is one as well"):
            same(client.state().step_count, 3)
        with report.check("a failed call"):
            raised(
                RuntimeError,
                "Tool 'zz' failed: Unknown tool: 'zz' (type: tool_not_found)",
                client.call_tool,
                "zz",
            )
        stepping(report, client, lambda name, arguments: client.step(CallToolAction(tool_name=name, arguments=arguments)))


def by_session(report: Report, url: str, flavour: Callable[[Any], Any]) -> None:
    """From 0.4 on: a session made over HTTP, calls by JSON-RPC past the steps, and a WebSocket attached to the session."""
    with flavour(MCPToolClient(base_url=url)) as client:
        with report.check("reset"):
            result = client.reset(episode_id="attached")
            same((result.reward, result.done), (0.0, False))
            same(result.observation.metadata, {"status": "ready", "message": "Echo environment ready!"})
        discovered(report, client)
        with report.check("calls go past the steps"):
            same((client.state().episode_id, client.state().step_count), ("attached", 0))
        with report.check("a failed call"):
            raised(RuntimeError, "Tool 'zz' failed: Unknown tool: 'zz'", client.call_tool, "zz")
        stepping(report, client, lambda name, arguments: client.step(CallToolAction(tool_name=name, arguments=arguments)))


def released(report: Report, url: str, flavour: Callable[[Any], Any]) -> None:
    """Against a server with room for two: sessions made over HTTP count, and end with their clients."""
    with report.check("closed clients leave no session"):
        for _ in range(5):
            with flavour(MCPToolClient(base_url=url)) as client:
                same(client.call_tool("echo_message", message="x"), "x")
    with report.check("one too many is refused"):
        with flavour(MCPToolClient(base_url=url)), flavour(MCPToolClient(base_url=url)):
            third = flavour(MCPToolClient(base_url=url))
            try:
                third.__enter__()
            except RuntimeError as error:
                same(
                    str(error),
                    "Failed to create MCP session: Server at capacity: 2/2 sessions active. "
                    "Cannot accept new connections.",
                )
            else:
                third.__exit__(*sys.exc_info())
                raise AssertionError("a third session where there is room for two")
