"""The arguments of a function that is a tool: their JSON Schema, and their check."""

from __future__ import annotations

import inspect
import re
import sys
import typing
from typing import Any, Callable, Optional

from .codec import Invalid, invalid_of, object_of
from .fields import taken_apart
from .installed import pydantic
from .json_schema import schema_of_type
from .texts import sayable
from .validation import WRONG, Check, Errors, check_of

SECTION = re.compile(r"^(args|arguments|parameters|params)\s*:\s*$", re.IGNORECASE)
OTHER_SECTION = re.compile(r"^(returns|return|raises|yields|examples?|notes?|warnings?)\s*:\s*$", re.IGNORECASE)
ARGUMENT = re.compile(r"^(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")


class Arguments:
    """What a function takes. Made once for each function."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.description, said = documented(inspect.getdoc(function) or "")
        hints = _hints(function)
        self._types: dict[str, Any] = {}
        self._defaults: dict[str, Any] = {}
        for parameter in list(inspect.signature(function).parameters.values()):
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise TypeError(f"the tool {name!r} takes {parameter}: each argument of a tool has a name of its own")
            self._types[parameter.name] = hints.get(parameter.name, Any)
            if parameter.default is not parameter.empty:
                self._defaults[parameter.name] = parameter.default
        self._check, schema = self._of_pydantic(name) if pydantic is not None else self._of_ours()
        self.schema = self._finished(untitled(schema), said)
        self.output_schema, self.wraps = output_of(hints.get("return", inspect.Parameter.empty))

    def checked(self, given: Any) -> dict[str, Any]:
        """The arguments as the function wants them. Raises `Invalid`."""
        return self._check(given)

    def _of_pydantic(self, name: str) -> tuple[Callable[[Any], dict[str, Any]], dict[str, Any]]:
        from typing_extensions import NotRequired, TypedDict

        optional: Any = NotRequired
        fields = {key: optional[kind] if key in self._defaults else kind for key, kind in self._types.items()}
        typed_dict: Any = TypedDict
        kind = typed_dict(name, fields)
        kind.__pydantic_config__ = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
        adapter: Any = pydantic.TypeAdapter(kind)

        def check(given: Any) -> dict[str, Any]:
            try:
                checked: dict[str, Any] = adapter.validate_python(given)
            except pydantic.ValidationError as error:
                raise invalid_of(error) from None
            return checked

        return check, adapter.json_schema()

    def _of_ours(self) -> tuple[Callable[[Any], dict[str, Any]], dict[str, Any]]:
        checks = {name: check_of(kind) for name, kind in self._types.items()}
        schema = {"properties": {name: schema_of_type(kind) for name, kind in self._types.items()}}
        return lambda given: _checked(given, checks, self._defaults), schema

    def _finished(self, schema: dict[str, Any], said: dict[str, str]) -> dict[str, Any]:
        properties: dict[str, Any] = schema.setdefault("properties", {})
        definitions: dict[str, Any] = schema.get("$defs", {})
        for name, property_schema in properties.items():
            definitions.update(property_schema.pop("$defs", {}))
            if name in said:
                property_schema.setdefault("description", said[name])
            if name in self._defaults:
                property_schema["default"] = sayable(self._defaults[name], name)
        required = [name for name in self._types if name not in self._defaults]
        finished = {"additionalProperties": False, "properties": properties, "type": "object"}
        if required:
            finished["required"] = required
        if definitions:
            finished["$defs"] = definitions
        return finished


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    function = inspect.unwrap(getattr(function, "__func__", function))
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError:
        # Types that are known where the function is written only; they may be texts.
        frame_globals = getattr(function, "__globals__", {})
        closure = inspect.getclosurevars(function)
        known = {**frame_globals, **closure.nonlocals, **vars(sys.modules["typing"])}
        return typing.get_type_hints(function, known, include_extras=True)


def _checked(given: Any, checks: dict[str, Check], defaults: dict[str, Any]) -> dict[str, Any]:
    errors: Errors = []
    given = object_of(given)
    values = {}
    for name, check in checks.items():
        before = len(errors)
        if name in given:
            values[name] = check(given[name], errors)
        elif name not in defaults:
            errors.append({"type": "missing", "loc": [], "msg": "Field required", "input": given})
        for error in errors[before:]:
            error["loc"].insert(0, name)
    for name in given:
        if name not in checks:
            message = "Extra inputs are not permitted"
            errors.append({"type": "extra_forbidden", "loc": [name], "msg": message, "input": given[name]})
    if errors or WRONG in values.values():
        raise Invalid(errors)
    return values


def untitled(schema: Any) -> Any:
    """A schema without its titles, which are only names once more."""
    if isinstance(schema, list):
        return [untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            plain[key] = {name: untitled(item) for name, item in value.items()}
        elif key != "title" or not isinstance(value, str):
            plain[key] = value if key in ("default", "enum", "const", "examples") else untitled(value)
    return plain


def output_of(kind: Any) -> tuple[Optional[dict[str, Any]], bool]:
    """The schema of what a function returns, if it says that, and whether the value is wrapped into an object."""
    if kind in (inspect.Parameter.empty, None, type(None), Any):
        return None, False
    bare = taken_apart(kind)[0]
    if pydantic is not None:
        try:
            schema = pydantic.TypeAdapter(bare).json_schema()
        except (pydantic.PydanticUserError, pydantic.errors.PydanticInvalidForJsonSchema):
            # A type that JSON has no word for.
            return None, False
    else:
        schema = schema_of_type(bare)
    schema = untitled(schema)
    if not schema:
        return None, False
    if schema.get("type") == "object":
        return schema, False
    definitions = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
    if "$ref" in schema and definitions:
        # A model, or something else that has a name of its own.
        target = definitions["$defs"].get(schema["$ref"].rpartition("/")[2], {})
        if target.get("type") == "object":
            return {**schema, **definitions}, False
    wrapped = {"properties": {"result": schema}, "required": ["result"], "type": "object"}
    return {**wrapped, **definitions, "x-fastmcp-wrap-result": True}, True


def documented(doc: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of a function, and what it says of each argument under `Args:`."""
    head: list[str] = []
    arguments: dict[str, str] = {}
    current: Optional[str] = None
    inside = False
    for line in doc.splitlines():
        if SECTION.match(line):
            inside = True
        elif inside and (OTHER_SECTION.match(line) or (line and not line[0].isspace())):
            inside = False
            head.append(line)
        elif not inside:
            head.append(line)
        else:
            found = ARGUMENT.match(line.strip())
            if found is not None and line[:5].strip():
                current = found[1]
                arguments[current] = found[2]
            elif current is not None and line.strip():
                arguments[current] += f" {line.strip()}"
    return "\n".join(head).strip(), arguments
