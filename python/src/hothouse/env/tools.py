"""Tools: functions that an agent may call by MCP, with a JSON Schema that comes from their signatures."""

from __future__ import annotations

import asyncio
import enum
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional, TypeVar, Union, cast, overload

from .arguments import Arguments
from .codec import Invalid
from .texts import sayable, text

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
RESERVED_TOOL_NAMES = frozenset({"reset", "step", "state", "close"})
TOOL_TIMEOUT_S = 30.0
"""How long an asynchronous tool may take. One that blocks is ended by the server's own limit of a step."""
MARK = "__hothouse_tool__"
MODES = ("simulation", "production")
INVALID_PARAMS = -32602
METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603


class ToolErrorType(str, enum.Enum):
    """What went wrong with a call."""

    EXECUTION_ERROR = "execution_error"
    INVALID_ARGS = "invalid_args"
    TRANSPORT_ERROR = "transport_error"
    TOOL_NOT_FOUND = "tool_not_found"
    TIMEOUT = "timeout"


class ToolFailed(Exception):
    """A call that came to nothing; `code` is that of JSON-RPC."""

    def __init__(self, error_type: ToolErrorType, message: str, code: int = INTERNAL_ERROR) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.code = code


@dataclass(frozen=True)
class ToolMark:
    """What the decorator says of a function."""

    name: Optional[str]
    description: Optional[str]
    mode: Optional[str]


@dataclass(frozen=True)
class FunctionTool:
    """A function that may be called by name."""

    name: str
    description: str
    function: Callable[..., Any]
    arguments: Arguments

    def told(self) -> dict[str, Any]:
        """The tool as `tools/list` tells it."""
        return {
            "name": self.name,
            "title": None,
            "description": self.description or None,
            "inputSchema": self.arguments.schema,
            "outputSchema": self.arguments.output_schema,
            "icons": None,
            "annotations": None,
            "meta": {"fastmcp": {"tags": []}},
            "execution": None,
        }

    def called(self, given: Any) -> dict[str, Any]:
        """Calls it; the result as `tools/call` tells it. Raises `ToolFailed`."""
        try:
            arguments = self.arguments.checked(given)
        except Invalid as error:
            raise ToolFailed(ToolErrorType.INVALID_ARGS, f"{self.name}: {error}") from error
        try:
            result = self.function(**arguments)
            if inspect.isawaitable(result):
                result = asyncio.run(asyncio.wait_for(_coroutine(result), TOOL_TIMEOUT_S))
        except asyncio.TimeoutError as error:
            message = f"Tool '{self.name}' took longer than {TOOL_TIMEOUT_S} s"
            raise ToolFailed(ToolErrorType.TIMEOUT, message) from error
        except Exception as error:
            message = f"Error calling tool '{self.name}': {error}"
            raise ToolFailed(ToolErrorType.EXECUTION_ERROR, message) from error
        return self._result(sayable(result, f"the result of {self.name}"))

    def _result(self, value: Any) -> dict[str, Any]:
        said = [] if value is None else [value if isinstance(value, str) else text(value).decode()]
        structured: Any = None
        if self.arguments.wraps:
            structured = {"result": value}
        elif isinstance(value, dict):
            structured = value
        return {
            "content": [{"type": "text", "text": each, "annotations": None, "meta": None} for each in said],
            "structured_content": structured,
            "meta": {"fastmcp": {"wrap_result": True}} if self.arguments.wraps else None,
            "data": value if structured is not None else None,
            "is_error": False,
        }


async def _coroutine(waiting: Any) -> Any:
    return await waiting


@overload
def tool(function: FunctionT) -> FunctionT: ...
@overload
def tool(
    function: None = None,
    *,
    name: Optional[str] = None,
    description: Optional[str] = None,
    mode: Optional[str] = None,
) -> Callable[[FunctionT], FunctionT]: ...
def tool(
    function: Optional[FunctionT] = None,
    *,
    name: Optional[str] = None,
    description: Optional[str] = None,
    mode: Optional[str] = None,
) -> Union[FunctionT, Callable[[FunctionT], FunctionT]]:
    """Makes a method of an environment a tool, as `@tool` or `@tool(name=…, description=…, mode=…)`.

    Its arguments are checked against its annotations. `mode` shows it in `"simulation"` or in `"production"` only.
    """
    checked_mode(mode)

    def marked(method: FunctionT) -> FunctionT:
        checked_name(name or method.__name__)
        setattr(method, MARK, ToolMark(name, description, mode))
        return method

    return marked(function) if function is not None else marked


def checked_mode(mode: Optional[str]) -> None:
    """Raises ValueError for a mode that there is not."""
    if mode is not None and mode not in MODES:
        raise ValueError(f"a tool's mode is 'simulation', 'production' or None, not {mode!r}")


def checked_name(name: str) -> str:
    """Raises ValueError for a name that a tool cannot have."""
    if name in RESERVED_TOOL_NAMES:
        raise ValueError(f"no tool may be called {name!r}: that is a word of the environment itself")
    return name


_known: dict[Any, Arguments] = {}


def made(function: Callable[..., Any], mark: ToolMark) -> FunctionTool:
    """The tool of a function or of a bound method. What it takes is looked at once for each piece of code."""
    name = mark.name or function.__name__
    key = (getattr(function, "__code__", function), name)
    arguments = _known.get(key)
    if arguments is None:
        arguments = _known[key] = Arguments(function, name)
    return FunctionTool(name, mark.description or arguments.description, function, arguments)


def marked_names(cls: type) -> dict[str, ToolMark]:
    """The attributes of a class that are tools."""
    found = {}
    for base in reversed(cls.__mro__):
        for attribute, value in base.__dict__.items():
            mark = getattr(value, MARK, None)
            if isinstance(mark, ToolMark):
                found[attribute] = mark
            else:
                # Overridden by what is none.
                found.pop(attribute, None)
    return found


class Toolbox:
    """The tools of one environment."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._marks = marked_names(type(environment))
        self._added: dict[str, tuple[FunctionTool, Optional[str]]] = {}

    def add(self, function: Callable[..., Any], mark: ToolMark) -> None:
        """Takes a function of this instance alone."""
        checked_mode(mark.mode)
        checked_name(mark.name or function.__name__)
        added = made(function, mark)
        self._added[added.name] = (added, mark.mode)

    def tools(self) -> dict[str, FunctionTool]:
        """The tools there are in this mode, by name."""
        mode = os.environ.get("OPENENV_MODE", MODES[0]).lower()
        found = {}
        for attribute, mark in self._marks.items():
            if mark.mode in (None, mode):
                each = made(getattr(self._environment, attribute), mark)
                found[each.name] = each
        found.update({name: each for name, (each, wanted) in self._added.items() if wanted in (None, mode)})
        return found

    def call(self, name: Any, arguments: Any) -> dict[str, Any]:
        """Calls a tool. Raises `ToolFailed`."""
        found = self.tools().get(name) if isinstance(name, str) else None
        if found is None:
            raise ToolFailed(ToolErrorType.TOOL_NOT_FOUND, f"Unknown tool: {name!r}")
        return found.called({} if arguments is None else arguments)


def toolbox_of(environment: Any) -> Optional[Toolbox]:
    """The tools of an environment, if it can have any."""
    own = getattr(environment, "__hothouse_toolbox__", None)
    if own is not None:
        return cast(Toolbox, own)
    return Toolbox(environment) if marked_names(type(environment)) else None


def can_have_tools(cls: type) -> bool:
    """True for a class with tools, or one whose instances may get some."""
    return bool(getattr(cls, "HAS_TOOLS", False)) or bool(marked_names(cls))


def answered(environment: Any, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """What `tools/list` and `tools/call` come to. Raises `ToolFailed` with a code of JSON-RPC."""
    box = toolbox_of(environment)
    if box is None:
        raise ToolFailed(ToolErrorType.TRANSPORT_ERROR, "Environment does not support MCP")
    if method == "tools/list":
        return {"tools": [each.told() for each in box.tools().values()]}
    if method == "tools/call":
        if "name" not in params:
            message = "Missing required parameter: name"
            raise ToolFailed(ToolErrorType.INVALID_ARGS, message, INVALID_PARAMS)
        return box.call(params["name"], params.get("arguments"))
    raise ToolFailed(ToolErrorType.TRANSPORT_ERROR, f"Method not found: {method}", METHOD_NOT_FOUND)
