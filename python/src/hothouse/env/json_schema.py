"""JSON Schemas of an author's classes, without pydantic: those that pydantic makes of the same fields."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import typing
from typing import Any, Optional

from .fields import MISSING, Field, fields_of, taken_apart
from .texts import Unsayable, sayable
from .validation import LISTS, MAPPINGS, NONE, SETS, UNIONS, Extra

Schema = dict[str, Any]
BASIC: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bytes: {"type": "string", "format": "binary"},
    NONE: {"type": "null"},
    None: {"type": "null"},
}
BOUND_WORDS = {
    "number": {
        "gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum",
        "multiple_of": "multipleOf",
    },
    "string": {"min_length": "minLength", "max_length": "maxLength", "pattern": "pattern"},
    "array": {"min_length": "minItems", "max_length": "maxItems"},
    "object": {"min_length": "minProperties", "max_length": "maxProperties"},
}  # fmt: skip
BOUND_WORDS["integer"] = BOUND_WORDS["number"]


def schema_of(cls: type, extra: Extra) -> Schema:
    """The schema of a class with fields."""
    makes = _Makes()
    schema = makes.model(cls, extra)
    definitions = {name: made for name, made in makes.definitions.items() if made is not None}
    own = makes.names.get(cls)
    if own is not None:
        # It contains itself.
        return {"$defs": {**definitions, own: schema}, "$ref": f"#/$defs/{own}"}
    return {"$defs": definitions, **schema} if definitions else schema


def schema_of_type(kind: Any) -> Schema:
    """The schema of any type, such as that of an argument."""
    makes = _Makes()
    schema = makes.of(kind)
    definitions = {name: made for name, made in makes.definitions.items() if made is not None}
    return {"$defs": definitions, **schema} if definitions else schema


def title_of(name: str) -> str:
    """What a field is called for people."""
    return name.title().replace("_", " ").strip()


def description_of(cls: type) -> Optional[str]:
    """What the class says of itself, unless that is only what `dataclass` or a base put there."""
    said = cls.__dict__.get("__doc__")
    if not said or (dataclasses.is_dataclass(cls) and said.startswith(f"{cls.__name__}(")):
        return None
    return inspect.cleandoc(said)


class _Makes:
    """One schema being made: what it refers to is collected."""

    def __init__(self) -> None:
        self.definitions: dict[str, Optional[Schema]] = {}
        self.names: dict[Any, str] = {}
        self._open: list[type] = []
        self._extra = Extra.IGNORE

    def model(self, cls: type, extra: Extra) -> Schema:
        """The schema of a class, with its fields in it. Dataclasses in it hold with `extra` as it does."""
        self._extra = extra
        self._open.append(cls)
        fields = fields_of(cls)
        schema: Schema = {
            "title": cls.__name__,
            "type": "object",
            "properties": {field.name: self._field(field) for field in fields},
        }
        self._open.pop()
        required = [field.name for field in fields if field.required]
        if required:
            schema["required"] = required
        if extra is not Extra.IGNORE:
            schema["additionalProperties"] = extra is Extra.ALLOW
        description = description_of(cls)
        if description:
            schema["description"] = description
        return schema

    def _in_it(self, cls: type, own: Extra, outer: Extra) -> Schema:
        schema = self.model(cls, own)
        self._extra = outer
        return schema

    def _field(self, field: Field) -> Schema:
        schema = dict(_bound(self.of(field.type), field.bounds))
        if field.default is not MISSING:
            try:
                schema["default"] = sayable(field.default)
            except Unsayable:
                # Only a hint for people; validation has the real one.
                schema.pop("default", None)
        # Where another schema is referred to, its own title is the better one.
        choices = [choice for choice in schema.get("anyOf", [schema]) if choice != BASIC[NONE]]
        if len(choices) != 1 or "$ref" not in choices[0]:
            schema["title"] = title_of(field.name)
        schema.update(field.words)
        return schema

    def of(self, kind: Any) -> Schema:
        """The schema of a type. What JSON cannot describe is anything."""
        kind, bounds, words = taken_apart(kind)
        return {**_bound(self._plain(kind), bounds), **words}

    def _plain(self, kind: Any) -> Schema:
        try:
            if kind in BASIC:
                return dict(BASIC[kind])
        except TypeError:
            # A type that cannot be a key is none of these.
            return {}
        origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
        if origin is typing.Literal:
            return _of_values([value.value if isinstance(value, enum.Enum) else value for value in arguments])
        if origin in UNIONS:
            return _any_of([self.of(argument) for argument in arguments])
        if origin in LISTS or origin in SETS:
            schema: Schema = {"type": "array", "items": self.of(arguments[0]) if arguments else {}}
            return {**schema, "uniqueItems": True} if origin in SETS else schema
        if origin is tuple:
            return self._tuple(arguments)
        if origin in MAPPINGS:
            return self._mapping(arguments)
        return self._class(kind)

    def _tuple(self, arguments: tuple[Any, ...]) -> Schema:
        if not arguments:
            return {"type": "array", "items": {}}
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": self.of(arguments[0])}
        items = [self.of(argument) for argument in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}

    def _mapping(self, arguments: tuple[Any, ...]) -> Schema:
        schema: Schema = {"type": "object", "additionalProperties": True}
        if arguments:
            values = self.of(arguments[1])
            schema["additionalProperties"] = values or True
            names = {word: said for word, said in self.of(arguments[0]).items() if word not in {"type", "title"}}
            if names:
                schema["propertyNames"] = names
        return schema

    def _class(self, kind: Any) -> Schema:
        if not isinstance(kind, type):
            return {}
        if issubclass(kind, enum.Enum):
            return self._named(kind, lambda: _of_enum(kind))
        if dataclasses.is_dataclass(kind):
            extra = self._extra
            return self._named(kind, lambda: self._in_it(kind, getattr(kind, "__extra__", extra), extra))
        return {}

    def _named(self, kind: type, make: Any) -> Schema:
        name = self.names.get(kind)
        if name is None:
            name = kind.__name__
            if name in self.definitions:
                name = f"{kind.__module__}__{kind.__qualname__}".replace(".", "__")
            self.names[kind] = name
            if kind in self._open[:1]:
                # The class that the schema is of; it is put there when it is done.
                self.definitions[name] = None
            else:
                self.definitions[name] = {}
                self.definitions[name] = make()
        return {"$ref": f"#/$defs/{name}"}


def _any_of(schemas: list[Schema]) -> Schema:
    distinct: list[Schema] = []
    for schema in schemas:
        if schema not in distinct:
            distinct.append(schema)
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def _of_values(values: list[Any]) -> Schema:
    kinds = {type(value) for value in values}
    schema: Schema = {"const": values[0]} if len(values) == 1 else {"enum": values}
    if len(kinds) == 1:
        (kind,) = kinds
        schema.update(BASIC.get(kind, {}))
    return schema


def _of_enum(kind: type[enum.Enum]) -> Schema:
    schema = {"title": kind.__name__, **_of_values([member.value for member in kind])}
    said = inspect.cleandoc(kind.__dict__.get("__doc__") or "")
    # What Python itself says of an enum that says nothing.
    if said and said != "An enumeration.":
        schema["description"] = said
    return schema


def _bound(schema: Schema, bounds: dict[str, Any]) -> Schema:
    if not bounds:
        return schema
    if "anyOf" in schema:
        # What is optional is bounded when it is there.
        return {**schema, "anyOf": [_bound(choice, bounds) for choice in schema["anyOf"]]}
    words = BOUND_WORDS.get(schema.get("type", ""), {})
    return {**schema, **{words[name]: bound for name, bound in bounds.items() if name in words}}
