"""Two tools that echo, as an environment of the package openenv: the reference for our `echo_mcp`."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from fastmcp import FastMCP
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.types import Action, Observation, State


class EchoTools(MCPEnvironment):
    """Counts steps; calls by JSON-RPC go past it, and are not counted."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        server = FastMCP("echo_mcp")

        @server.tool
        def echo_message(message: str) -> str:
            """Gives the message back."""
            return message

        @server.tool
        def echo_with_length(message: str) -> dict:
            """Gives the message and its length."""
            return {"message": message, "length": len(message)}

        super().__init__(server)
        self._state = State(episode_id=str(uuid4()), step_count=0)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Observation:
        self._state = State(episode_id=episode_id or str(uuid4()), step_count=0)
        return Observation(
            done=False, reward=0.0, metadata={"status": "ready", "message": "Echo environment ready!"}
        )

    def _step_impl(self, action: Action, timeout_s: float | None = None, **_: Any) -> Observation:
        raise ValueError(f"unknown action: {type(action).__name__}")

    def step(self, action: Action, timeout_s: float | None = None, **arguments: Any) -> Observation:
        self._state.step_count += 1
        return super().step(action, timeout_s=timeout_s, **arguments)

    async def step_async(self, action: Action, timeout_s: float | None = None, **arguments: Any) -> Observation:
        self._state.step_count += 1
        return await super().step_async(action, timeout_s=timeout_s, **arguments)

    @property
    def state(self) -> State:
        return self._state
