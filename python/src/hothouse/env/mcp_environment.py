"""`MCPEnvironment`: an environment whose actions are calls of tools."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Callable, Literal, Optional

from .codec import Codec, codec_of, loaded
from .environment import Environment
from .models import Action, Observation
from .tools import FunctionT, Toolbox, ToolFailed, ToolMark


class ListToolsAction(Action):
    """Asks which tools there are."""

    type: Literal["list_tools"] = "list_tools"


class CallToolAction(Action):
    """Calls a tool."""

    tool_name: str
    type: Literal["call_tool"] = "call_tool"
    arguments: dict[str, Any] = field(default_factory=dict)


class ListToolsObservation(Observation):
    """Which tools there are: `name`, `description` and `input_schema` of each."""

    tools: list[dict[str, Any]]


class CallToolObservation(Observation):
    """What a call came to: a result as MCP has it, or an error `{"error_type", "message"}`."""

    tool_name: str
    result: Any = None
    error: Optional[dict[str, Any]] = None


class MCPEnvironment(Environment[Any, Any, Any]):
    """An environment with tools: methods with `@tool`, or functions with `@self.tool()`.

    `step` takes a `ListToolsAction` or a `CallToolAction`; for any other action write `_step_impl`. A call by MCP
    itself is no step: it counts nothing and has no reward.
    """

    HAS_TOOLS = True

    def __init__(self, mcp_server: None = None, transform: Any = None, rubric: Any = None) -> None:
        if mcp_server is not None:
            raise TypeError(
                f"{type(mcp_server).__name__} is not served here: give the environment methods with @tool instead"
            )
        super().__init__(transform, rubric)

    @property
    def __hothouse_toolbox__(self) -> Toolbox:
        # Not in the initializer, which an author may forget to call.
        box: Optional[Toolbox] = self.__dict__.get("_toolbox")
        if box is None:
            box = self.__dict__["_toolbox"] = Toolbox(self)
        return box

    def tool(self, mode: Optional[str] = None) -> Callable[[FunctionT], FunctionT]:
        """Makes a function a tool of this instance, as `@self.tool()`."""

        def added(function: FunctionT) -> FunctionT:
            self.__hothouse_toolbox__.add(function, ToolMark(None, None, mode))
            return function

        return added

    def get_callables(self) -> dict[str, Callable[..., Any]]:
        """The tools as functions, by name, for code that calls them itself."""
        return {name: each.function for name, each in self.__hothouse_toolbox__.tools().items()}

    def step(self, action: Any, timeout_s: Optional[float] = None, **kwargs: Any) -> Any:
        """Lists tools, calls one, or does what `_step_impl` does."""
        if isinstance(action, ListToolsAction):
            return self._listed()
        if isinstance(action, CallToolAction):
            return self._called(action)
        return self._step_impl(action, timeout_s=timeout_s, **kwargs)

    def _step_impl(self, action: Any, timeout_s: Optional[float] = None, **kwargs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} takes calls of tools only, and this is a {type(action).__name__}")

    def _listed(self) -> ListToolsObservation:
        tools = self.__hothouse_toolbox__.tools().values()
        told = [
            {"name": each.name, "description": each.description, "input_schema": each.arguments.schema}
            for each in tools
        ]
        return ListToolsObservation(tools=told)

    def _called(self, action: CallToolAction) -> CallToolObservation:
        try:
            result = self.__hothouse_toolbox__.call(action.tool_name, action.arguments)
        except ToolFailed as failed:
            error = {"error_type": failed.error_type.value, "message": str(failed)}
            return CallToolObservation(tool_name=action.tool_name, error=error)
        return CallToolObservation(tool_name=action.tool_name, result=result)


class ToolCodec:
    """Reads the actions of an `MCPEnvironment`, which are of several classes."""

    def __init__(self, action_cls: Any) -> None:
        self._own = codec_of(action_cls)
        calls = action_cls is CallToolAction
        self._kinds: dict[Any, Codec] = {
            "list_tools": codec_of(ListToolsAction),
            "call_tool": self._own if calls else codec_of(CallToolAction),
        }

    def decode(self, said: bytes) -> Any:
        """An action of the class that its `type` names, else of the environment's own."""
        if b'"type"' in said:
            value = loaded(said)
            kind = value.get("type") if isinstance(value, dict) else None
            if isinstance(kind, str) and kind in self._kinds:
                return self._kinds[kind].decode(said)
        return self._own.decode(said)

    def schema(self) -> dict[str, Any]:
        """Of the environment's own action."""
        return self._own.schema()
