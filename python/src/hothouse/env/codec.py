"""From JSON to what an author's environment takes: one codec for each class, whatever the class is made with."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Callable, Optional, Protocol

from .installed import from_json, pydantic
from .json_schema import schema_of
from .texts import text
from .validation import WRONG, Errors, Extra, model_check


class Invalid(ValueError):
    """What came does not fit. `errors` is a list of `{"type", "loc", "msg", "input", "ctx"?}`, as pydantic has it."""

    def __init__(self, errors: Errors, said: Optional[bytes] = None) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors))
        self.errors = errors
        self.text = text(errors, "the errors") if said is None else said


class Codec(Protocol):
    """Reads one class."""

    def decode(self, said: bytes) -> Any:
        """An instance of what a client sent as JSON. Raises `Invalid`."""

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of what it reads."""


def loaded(said: bytes) -> Any:
    """What a JSON text says. Raises `Invalid`."""
    if from_json is not None:
        try:
            return from_json(said)
        except ValueError:
            # Read once more by the one whose words for it are known.
            pass
    try:
        return json.loads(said)
    except ValueError as error:
        message = f"Invalid JSON: {error}"
        context = {"error": str(error)}
        problem = {"type": "json_invalid", "loc": [], "msg": message, "input": said.decode("utf-8", "replace")}
        raise Invalid([{**problem, "ctx": context}]) from error


def object_of(value: Any) -> dict[str, Any]:
    """The value, when it is an object. Raises `Invalid`."""
    if not isinstance(value, dict):
        raise Invalid([{"type": "dict_type", "loc": [], "msg": "Input should be a valid dictionary", "input": value}])
    return value


class AnyCodec:
    """Takes any object as a dict."""

    def decode(self, said: bytes) -> Any:
        """A dict."""
        return object_of(loaded(said))

    def schema(self) -> dict[str, Any]:
        """Says that it is an object."""
        return {"type": "object", "additionalProperties": True}


class PlainCodec:
    """Reads dataclasses and annotated classes, without pydantic."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        default = Extra.IGNORE if dataclasses.is_dataclass(cls) else Extra.FORBID
        self.extra: Extra = getattr(cls, "__extra__", default)
        self._check = model_check(cls, self.extra, "model_type" if hasattr(cls, "__extra__") else "dataclass_type")

    def decode(self, said: bytes) -> Any:
        """An instance."""
        errors: Errors = []
        value = self._check(loaded(said), errors)
        if value is WRONG:
            raise Invalid(errors)
        return value

    def schema(self) -> dict[str, Any]:
        """As pydantic has it."""
        return schema_of(self.cls, self.extra)


class PydanticCodec:
    """Reads models of pydantic, and what its TypeAdapter takes."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        if isinstance(cls, type) and issubclass(cls, pydantic.BaseModel):
            model: Any = cls
            if not model.__pydantic_complete__:
                # Some name in it was not known when it was made.
                model.model_rebuild()
            self._validator = model.__pydantic_validator__
            self._schema: Callable[..., dict[str, Any]] = model.model_json_schema
        else:
            adapter = pydantic.TypeAdapter(cls)
            self._validator = adapter.validator
            self._schema = adapter.json_schema
        self._validate = self._validator.validate_json

    def decode(self, said: bytes) -> Any:
        """An instance."""
        try:
            return self._validate(said)
        except pydantic.ValidationError:
            # Said once more of what Python reads: so it is what other servers of such environments answer.
            try:
                return self._validator.validate_python(loaded(said))
            except pydantic.ValidationError as error:
                raise invalid_of(error) from None

    def schema(self) -> dict[str, Any]:
        """The class's own, with anything where JSON has no word for a type."""
        return self._schema(schema_generator=_lenient())


def invalid_of(error: Any) -> Invalid:
    """What a ValidationError of pydantic says, with no address of its documentation in it."""
    return Invalid(error.errors(include_url=False), error.json(include_url=False).encode())


def _lenient() -> type:
    from pydantic.json_schema import GenerateJsonSchema

    class Lenient(GenerateJsonSchema):
        """Takes a type that JSON has no word for as anything, such as an array."""

        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Any:
            return {}

    return Lenient


def codec_of(cls: Any) -> Codec:
    """The codec of a class. What has no fields is read as a dict."""
    if cls is None or cls is Any or cls is dict or getattr(cls, "__origin__", None) is dict:
        return AnyCodec()
    if pydantic is not None:
        if isinstance(cls, type) and issubclass(cls, pydantic.BaseModel):
            return PydanticCodec(cls)
        if dataclasses.is_dataclass(cls):
            try:
                return PydanticCodec(cls)
            except pydantic.PydanticSchemaGenerationError:
                # A type that pydantic knows nothing of; ours takes it as it comes.
                pass
    return PlainCodec(cls)
