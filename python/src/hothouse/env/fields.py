"""What fields a class of an author has: of a dataclass, or of the annotations of any class."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

MISSING = dataclasses.MISSING
BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")
"""What a field may ask of its value: metadata of `dataclasses.field`, or attributes of what `Annotated` holds."""
WORDS = ("title", "description", "examples")
"""What a field may say of itself, in the same places."""


class ModelInvalid(TypeError):
    """A class that cannot be read as a model."""


@dataclass
class Field:
    """One field: its type without `Annotated`, its default, and what it asks and says."""

    name: str
    type: Any
    default: Any = MISSING
    factory: Optional[Callable[[], Any]] = None
    bounds: dict[str, Any] = field(default_factory=dict)
    words: dict[str, Any] = field(default_factory=dict)

    @property
    def required(self) -> bool:
        """True when there is nothing that stands in for it."""
        return self.default is MISSING and self.factory is None


def annotations_of(cls: type) -> dict[str, Any]:
    """The class's own annotations as they were written, which may be texts."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return dict(cls.__dict__.get("__annotations__", {}))  # noqa: RUF063


def types_of(cls: type) -> dict[str, Any]:
    """The types of all annotations, those of its bases first."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise ModelInvalid(
            f"the types of {cls.__module__}.{cls.__qualname__} cannot be told ({error}): "
            "what its annotations name has to be known in its module"
        ) from error


def fields_of(cls: type) -> list[Field]:
    """The fields of a dataclass or of an annotated class."""
    complete = getattr(cls, "__complete__", None)
    if complete is not None:
        # One of ours, which becomes a dataclass when it is first looked at.
        complete()
    types = types_of(cls)
    if dataclasses.is_dataclass(cls):
        return [_of_dataclass(each, types[each.name]) for each in dataclasses.fields(cls) if each.init]
    names = [name for name, kind in types.items() if not name.startswith("_") and not _is_of_class(kind)]
    return [_of_annotation(name, types[name], getattr(cls, name, MISSING)) for name in names]


def taken_apart(kind: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A type without its `Annotated`, and what that asked and said."""
    bounds: dict[str, Any] = {}
    words: dict[str, Any] = {}
    while hasattr(kind, "__metadata__"):
        for note in (each for outer in kind.__metadata__ for each in (outer, *_within(outer))):
            bounds.update(_said_by(note, BOUNDS))
            words.update(_said_by(note, WORDS))
        kind = kind.__origin__
    return kind, bounds, words


def _within(note: Any) -> list[Any]:
    """What a field of pydantic holds of such notes itself."""
    inner = getattr(note, "metadata", None)
    return inner if isinstance(inner, list) else []


def _is_of_class(kind: Any) -> bool:
    return kind is typing.ClassVar or typing.get_origin(kind) is typing.ClassVar


def _of_annotation(name: str, kind: Any, default: Any) -> Field:
    if isinstance(default, dataclasses.Field):
        factory = None if default.default_factory is MISSING else default.default_factory
        return _made(name, kind, default.default, factory, default.metadata)
    return _made(name, kind, default, None, {})


def _of_dataclass(each: dataclasses.Field[Any], kind: Any) -> Field:
    factory = None if each.default_factory is MISSING else each.default_factory
    return _made(each.name, kind, each.default, factory, each.metadata)


def _made(
    name: str, kind: Any, default: Any, factory: Optional[Callable[[], Any]], metadata: Mapping[Any, Any]
) -> Field:
    plain, bounds, words = taken_apart(kind)
    bounds.update({key: metadata[key] for key in BOUNDS if key in metadata})
    words.update({key: metadata[key] for key in WORDS if key in metadata})
    return Field(name, plain, default, factory, bounds, words)


def _said_by(note: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(note, (str, type)):
        return {}
    found = {name: getattr(note, name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}
