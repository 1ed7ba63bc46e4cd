"""The same class twice: over pydantic, and without it."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

from hothouse.env import plain_models, pydantic_models
from hothouse.env.codec import Codec, PlainCodec, PydanticCodec


def twins(name: str, fields: dict[str, Any], base: str = "Action") -> tuple[Codec, Codec]:
    """Codecs of a class with these fields: a type, or a type with its default, or with a `dataclasses.field`."""
    plain_base, pydantic_base = getattr(plain_models, base), getattr(pydantic_models, base)
    bodies: list[dict[str, Any]] = []
    for _ in range(2):
        body: dict[str, Any] = {"__annotations__": {}, "__module__": __name__}
        for field_name, given in fields.items():
            kind, *default = given if isinstance(given, tuple) else (given,)
            body["__annotations__"][field_name] = kind
            if default:
                body[field_name] = default[0]
        bodies.append(body)
    plain = types.new_class(name, (plain_base,), {}, lambda namespace: namespace.update(bodies[0]))
    model = types.new_class(name, (pydantic_base,), {}, lambda namespace: namespace.update(bodies[1]))
    return PlainCodec(plain), PydanticCodec(model)


def values_of(made: Any) -> Any:
    """The fields of an instance, whatever it was made with."""
    if hasattr(type(made), "model_fields"):
        return {name: values_of(getattr(made, name)) for name in type(made).model_fields}
    if dataclasses.is_dataclass(made) and not isinstance(made, type):
        return {field.name: values_of(getattr(made, field.name)) for field in dataclasses.fields(made)}
    if isinstance(made, (list, tuple)):
        return type(made)(values_of(item) for item in made)
    if isinstance(made, dict):
        return {key: values_of(item) for key, item in made.items()}
    return made
