"""Checks of what came as JSON against an author's types, without pydantic: the same values, the same errors.

A check takes a value and a list of errors. It gives the value as the type wants it, or `WRONG`, having put at least one
error on the list. An error's `loc` is filled in from within outwards, so that what is right costs nothing for it.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
from collections.abc import Sequence
from typing import Any, Callable, Optional, Union

from .fields import Field, fields_of, taken_apart
from .scalars import (
    WRONG,
    Check,
    Error,
    Errors,
    bounded,
    check_bool,
    check_bytes,
    check_float,
    check_int,
    check_none,
    check_str,
    is_small,
    too_large,
)
from .scalars import wrong as _wrong

__all__ = ["WRONG", "Check", "Error", "Errors", "Extra", "check_of", "checked_fields", "model_check"]

NONE = type(None)
UNIONS = (Union, getattr(types, "UnionType", Union))
LISTS = (list, Sequence, collections.abc.MutableSequence, collections.abc.Iterable, collections.abc.Collection)
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)


class Extra(enum.Enum):
    """What becomes of fields that a class does not have."""

    FORBID = "forbid"
    ALLOW = "allow"
    IGNORE = "ignore"


def _any(value: Any, errors: Errors) -> Any:
    return value


def check_of(kind: Any, extra: Extra = Extra.IGNORE) -> Check:
    """The check of a type. What JSON cannot hold anyway, such as an array, is taken as it comes.

    `extra` is for dataclasses in it, which hold with that as what they are in does.
    """
    kind, bounds, _ = taken_apart(kind)
    check = _unbounded(kind, extra)
    return bounded(check, bounds) if bounds else check


def _unbounded(kind: Any, extra: Extra) -> Check:
    simple: dict[Any, Check] = {
        Any: _any, object: _any, NONE: check_none, None: check_none, bool: check_bool,
        int: check_int, float: check_float, str: check_str, bytes: check_bytes,
    }  # fmt: skip
    try:
        found = simple.get(kind)
    except TypeError:
        # A type that cannot be a key is none of these.
        found = None
    if found is not None:
        return found
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return _literal(arguments)
    if origin in UNIONS:
        return _union(arguments, extra)
    return _of_many(origin or kind, arguments, extra) or _of_class(kind, extra)


def _of_many(origin: Any, arguments: tuple[Any, ...], extra: Extra) -> Optional[Check]:
    parts = [check_of(argument, extra) for argument in arguments if argument is not Ellipsis]
    if origin in LISTS:
        return _many("list", parts[0] if parts else None, list)
    if origin in SETS:
        made = frozenset if origin is frozenset else set
        kind = "frozen_set" if origin is frozenset else "set"
        return _many(kind, parts[0] if parts else None, made)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _many("tuple", parts[0], tuple)
        return _fixed(parts) if parts else _many("tuple", None, tuple)
    if origin in MAPPINGS:
        return _dict(parts[0], parts[1]) if parts else _dict(None, None)
    return None


def _of_class(kind: Any, extra: Extra) -> Check:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _enum(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        own = getattr(kind, "__extra__", None)
        if own is None:
            return model_check(kind, extra, "dataclass_type")
        return model_check(kind, own, "model_type")
    return _any


def expected(values: Sequence[Any]) -> str:
    """How errors list what would have been right."""
    said = [f"'{value}'" if isinstance(value, str) else str(value) for value in values]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} or {said[-1]}"


def _literal(values: tuple[Any, ...]) -> Check:
    plain = [value.value if isinstance(value, enum.Enum) else value for value in values]
    words = expected(plain)
    numbers = any(type(known) is int for known in plain)

    def check(value: Any, errors: Errors) -> Any:
        if numbers and type(value) is int and not is_small(value):
            return too_large(value, errors)
        for known, given in zip(plain, values):
            if value == known:
                return given
        return _wrong(errors, "literal_error", f"Input should be {words}", value, expected=words)

    return check


def _enum(kind: type[enum.Enum]) -> Check:
    words = expected([member.value for member in kind])
    base = next((check for basic, check in ((int, check_int), (float, check_float)) if issubclass(kind, basic)), None)

    def check(value: Any, errors: Errors) -> Any:
        if isinstance(value, kind):
            return value
        if base is not None and type(value) is int and not is_small(value):
            return too_large(value, errors)
        for candidate in (value,) if base is None else (value, base(value, [])):
            try:
                return kind(candidate)
            except ValueError:
                continue
        return _wrong(errors, "enum", f"Input should be {words}", value, expected=words)

    return check


def placed(check: Check, value: Any, errors: Errors, *place: Any) -> Any:
    """Checks a part, and says of its errors where it lies."""
    before = len(errors)
    result = check(value, errors)
    if result is WRONG:
        for error in errors[before:]:
            error["loc"][:0] = place
    return result


KINDS = {
    "list": ("list_type", "Input should be a valid list", (list, tuple)),
    "tuple": ("tuple_type", "Input should be a valid tuple", (list, tuple)),
    "set": ("set_type", "Input should be a valid set", (list, tuple, set, frozenset)),
    "frozen_set": ("frozen_set_type", "Input should be a valid frozenset", (list, tuple, set, frozenset)),
}


def _many(kind: str, item: Optional[Check], made: Callable[[Any], Any]) -> Check:
    name, message, accepted = KINDS[kind]

    def check(value: Any, errors: Errors) -> Any:
        if not isinstance(value, accepted):
            return _wrong(errors, name, message, value)
        if item is None:
            items = list(value)
        else:
            items = [placed(item, each, errors, index) for index, each in enumerate(value)]
            if any(each is WRONG for each in items):
                return WRONG
        try:
            return made(items)
        except TypeError:
            return _wrong(errors, "set_item_not_hashable", "Set items should be hashable", value)

    return check


def _fixed(checks: list[Check]) -> Check:
    name, message, accepted = KINDS["tuple"]

    def check(value: Any, errors: Errors) -> Any:
        if not isinstance(value, accepted):
            return _wrong(errors, name, message, value)
        before = len(errors)
        if len(value) <= len(checks):
            items = [placed(item, each, errors, index) for index, (item, each) in enumerate(zip(checks, value))]
        for index in range(len(value), len(checks)):
            _wrong(errors, "missing", "Field required", value)
            errors[-1]["loc"].insert(0, index)
        if len(value) > len(checks):
            most, items_word = len(checks), "item" if len(checks) == 1 else "items"
            message_long = f"Tuple should have at most {most} {items_word} after validation, not {len(value)}"
            context = {"field_type": "Tuple", "max_length": most, "actual_length": len(value)}
            _wrong(errors, "too_long", message_long, value, **context)
        return WRONG if len(errors) > before else tuple(items)

    return check


def _dict(key_check: Optional[Check], value_check: Optional[Check]) -> Check:
    def check(value: Any, errors: Errors) -> Any:
        if not isinstance(value, collections.abc.Mapping):
            return _wrong(errors, "dict_type", "Input should be a valid dictionary", value)
        if key_check is None or value_check is None:
            return dict(value)
        result, good = {}, True
        for key, item in value.items():
            new_key = placed(key_check, key, errors, key, "[key]")
            new_item = placed(value_check, item, errors, key)
            if new_key is WRONG or new_item is WRONG:
                good = False
            else:
                result[new_key] = new_item
        return result if good else WRONG

    return check


def _union(choices: tuple[Any, ...], extra: Extra) -> Check:
    rest = [choice for choice in choices if choice is not NONE]
    if len(rest) == 1:
        return _optional(check_of(rest[0], extra))
    checks = [(label(choice), check_of(choice, extra), taken_apart(choice)[0]) for choice in rest]
    none_allowed = len(rest) < len(choices)

    def check(value: Any, errors: Errors) -> Any:
        if value is None and none_allowed:
            return None
        failed: Errors = []
        best, best_rank = WRONG, -1
        for name, each, kind in checks:
            result = placed(each, value, failed, name)
            rank = -1 if result is WRONG else _rank(kind, value)
            if rank > best_rank:
                best, best_rank = result, rank
        if best is WRONG:
            errors.extend(failed)
        return best

    return check


def _optional(inner: Check) -> Check:
    def check(value: Any, errors: Errors) -> Any:
        return None if value is None else inner(value, errors)

    return check


def _rank(kind: Any, value: Any) -> int:
    """How well the value fits a type that took it: as it is, nearly, or only by being changed."""
    origin = typing.get_origin(kind) or kind
    if origin is float:
        return 2 if isinstance(value, float) else 1 if type(value) is int else 0
    if origin in (int, bool, str):
        return 2 if type(value) is origin else 0
    if isinstance(origin, type) and (issubclass(origin, enum.Enum) or origin in (bytes, tuple, set, frozenset)):
        return 1
    return 2


def label(kind: Any) -> str:
    """What errors call one choice of a union."""
    kind, bounds, _ = taken_apart(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return f"literal[{','.join(repr(argument) for argument in arguments)}]"
    inner = ",".join("..." if argument is Ellipsis else label(argument) for argument in arguments)
    if origin in UNIONS:
        rest = [argument for argument in arguments if argument is not NONE]
        return f"nullable[{label(rest[0])}]" if len(rest) == 1 else f"union[{inner}]"
    if origin in LISTS or kind in LISTS:
        return f"list[{inner or 'any'}]"
    if origin in MAPPINGS or kind in MAPPINGS:
        return f"dict[{inner or 'any,any'}]"
    if origin in SETS or kind in SETS:
        return f"{'frozenset' if frozenset in (origin, kind) else 'set'}[{inner or 'any'}]"
    if origin is tuple or kind is tuple:
        return f"tuple[{inner or 'any, ...'}]"
    if kind is Any:
        return "any"
    if kind is NONE or kind is None:
        return "none"
    name: str = getattr(kind, "__name__", str(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "enum"
    return f"constrained-{name}" if bounds and kind in (int, float, str) else name


def checked_fields(cls: type, extra: Extra) -> list[tuple[Field, Check]]:
    """The fields of a class, each with its check."""
    found = []
    for field in fields_of(cls):
        check = check_of(field.type, extra)
        found.append((field, bounded(check, field.bounds) if field.bounds else check))
    return found


MODEL_MESSAGES = {
    "model_type": "Input should be a valid dictionary or instance of {name}",
    "dataclass_type": "Input should be a dictionary or an instance of {name}",
}


STRANGE = {
    "model_type": ("extra_forbidden", "Extra inputs are not permitted"),
    "dataclass_type": ("unexpected_keyword_argument", "Unexpected keyword argument"),
}


def model_check(cls: type, extra: Extra, kind: str) -> Check:
    """The check of a class with fields, which makes an instance. `kind` is the error for what is no object at all."""
    message = MODEL_MESSAGES[kind].format(name=cls.__name__)
    # Looked at when it is first used, so that a class may contain itself.
    fields: list[tuple[Field, Check]] = []
    names: set[str] = set()

    def check(value: Any, errors: Errors) -> Any:
        if not fields and not names:
            fields.extend(checked_fields(cls, extra))
            names.update(field.name for field, _ in fields)
        if not isinstance(value, dict):
            if isinstance(value, cls):
                return value
            return _wrong(errors, kind, message, value, class_name=cls.__name__)
        before = len(errors)
        values = _values(fields, value, errors)
        unknown = () if extra is Extra.IGNORE else [key for key in value if key not in names]
        if extra is Extra.FORBID:
            for key in unknown:
                _wrong(errors, *STRANGE[kind], value[key])
                errors[-1]["loc"].insert(0, key)
        if len(errors) > before:
            return WRONG
        made = instance(cls, values)
        for key in unknown:
            setattr(made, key, value[key])
        return made

    return check


def _values(fields: list[tuple[Field, Check]], given: dict[str, Any], errors: Errors) -> dict[str, Any]:
    values = {}
    for field, check in fields:
        if field.name in given:
            item = given[field.name]
            before = len(errors)
            result = check(item, errors)
            if result is WRONG:
                for error in errors[before:]:
                    error["loc"].insert(0, field.name)
            values[field.name] = result
        elif field.required:
            _wrong(errors, "missing", "Field required", given)
            errors[-1]["loc"].insert(0, field.name)
    return values


def instance(cls: type, values: dict[str, Any]) -> Any:
    """An instance with these values: by its own initializer, or, where it has none, by setting them."""
    if cls.__init__ is not object.__init__:  # type: ignore[misc]
        return cls(**values)
    made = cls()
    for name, value in values.items():
        setattr(made, name, value)
    return made
