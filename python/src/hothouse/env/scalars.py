"""Checks of single values, lax as pydantic is: "7" is a number where a number is wanted, 7 is no text."""

from __future__ import annotations

import math
import re
from collections.abc import Sized
from typing import Any, Callable

Error = dict[str, Any]
Errors = list[Error]
Check = Callable[[Any, Errors], Any]


class _Wrong:
    def __repr__(self) -> str:
        return "WRONG"


WRONG = _Wrong()
"""What a check gives for what does not pass."""


def wrong(errors: Errors, kind: str, message: str, value: Any, **context: Any) -> _Wrong:
    """Notes an error of this value."""
    error: Error = {"type": kind, "loc": [], "msg": message, "input": value}
    if context:
        error["ctx"] = context
    errors.append(error)
    return WRONG


WHOLE = re.compile(r"[+-]?[0-9]+(?:_[0-9]+)*(?:\.0+)?")
FINITE = "Input should be a finite number"


def check_int(value: Any, errors: Errors) -> Any:
    """A whole number."""
    if type(value) is int:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return wrong(errors, "finite_number", FINITE, value)
        if value.is_integer():
            return int(value) if is_small(value) else too_large(value, errors)
        message = "Input should be a valid integer, got a number with a fractional part"
        return wrong(errors, "int_from_float", message, value)
    if isinstance(value, str):
        found = value.strip()
        if WHOLE.fullmatch(found):
            return int(found.partition(".")[0])
        message = "Input should be a valid integer, unable to parse string as an integer"
        return wrong(errors, "int_parsing", message, value)
    return wrong(errors, "int_type", "Input should be a valid integer", value)


def check_float(value: Any, errors: Errors) -> Any:
    """A number."""
    if type(value) is float:
        return value
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            message = "Input should be a valid number, unable to parse string as a number"
            return wrong(errors, "float_parsing", message, value)
    return wrong(errors, "float_type", "Input should be a valid number", value)


def is_small(value: float) -> bool:
    """True for what fits into the numbers of a machine, which is asked of some numbers only."""
    return -(2**63) <= value < 2**63


def too_large(value: Any, errors: Errors) -> _Wrong:
    """Notes a number that is too large where one is to be made of something else."""
    message = "Unable to parse input string as an integer, exceeded maximum size"
    return wrong(errors, "int_parsing_size", message, value)


TRUTHS = {
    **dict.fromkeys(("0", "off", "f", "false", "n", "no"), False),
    **dict.fromkeys(("1", "on", "t", "true", "y", "yes"), True),
}


def check_bool(value: Any, errors: Errors) -> Any:
    """True or false."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in TRUTHS:
        return TRUTHS[value.lower()]
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) or (isinstance(value, (int, float)) and is_small(value) and value == int(value)):
        return wrong(errors, "bool_parsing", "Input should be a valid boolean, unable to interpret input", value)
    return wrong(errors, "bool_type", "Input should be a valid boolean", value)


def check_str(value: Any, errors: Errors) -> Any:
    """A text."""
    if isinstance(value, str):
        return value
    return wrong(errors, "string_type", "Input should be a valid string", value)


def check_bytes(value: Any, errors: Errors) -> Any:
    """Bytes, which JSON holds as a text."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return wrong(errors, "bytes_type", "Input should be a valid bytes", value)


def check_none(value: Any, errors: Errors) -> Any:
    """Nothing."""
    return None if value is None else wrong(errors, "none_required", "Input should be None", value)


COMPARED: dict[str, tuple[str, str, Callable[[Any, Any], bool]]] = {
    "multiple_of": ("multiple_of", "Input should be a multiple of {}", lambda value, bound: value % bound == 0),
    "le": ("less_than_equal", "Input should be less than or equal to {}", lambda value, bound: value <= bound),
    "lt": ("less_than", "Input should be less than {}", lambda value, bound: value < bound),
    "ge": ("greater_than_equal", "Input should be greater than or equal to {}", lambda value, bound: value >= bound),
    "gt": ("greater_than", "Input should be greater than {}", lambda value, bound: value > bound),
}


def _as_it_is(bound: Any) -> Any:
    return bound


def bounded(check: Check, bounds: dict[str, Any]) -> Check:
    """The check, and what the field asks for beside its type. Of several broken bounds the first is told."""
    compared = [(name, *COMPARED[name], bounds[name]) for name in COMPARED if name in bounds]
    told = float if check is check_float else _as_it_is
    pattern = bounds.get("pattern")
    matcher = re.compile(pattern) if pattern is not None else None

    def checked(value: Any, errors: Errors) -> Any:
        value_in, value = value, check(value, errors)
        if value is WRONG or value is None:
            return value
        for name, kind, message, holds, bound in compared:
            if not holds(value, bound):
                whole = int(bound) if isinstance(bound, float) and bound.is_integer() else bound
                return wrong(errors, kind, message.format(whole), value_in, **{name: told(bound)})
        if isinstance(value, Sized) and _length(value, bounds, value_in, errors) is WRONG:
            return WRONG
        if matcher is not None and isinstance(value, str) and not matcher.search(value):
            message = f"String should match pattern '{pattern}'"
            return wrong(errors, "string_pattern_mismatch", message, value_in, pattern=pattern)
        return value

    return checked


NOUNS = {list: "List", tuple: "Tuple", set: "Set", frozenset: "Frozenset", dict: "Dictionary"}


def _length(value: Sized, bounds: dict[str, Any], value_in: Any, errors: Errors) -> Any:
    least, most, length = bounds.get("min_length"), bounds.get("max_length"), len(value)
    for bound, broken, most_or_least, short in (
        (most, most is not None and length > most, "most", "long"),
        (least, least is not None and length < least, "least", "short"),
    ):
        if not broken:
            continue
        name = "max_length" if short == "long" else "min_length"
        if isinstance(value, (str, bytes)):
            noun, unit = ("String", "character") if isinstance(value, str) else ("Data", "byte")
            message = f"{noun} should have at {most_or_least} {bound} {unit}{'' if bound == 1 else 's'}"
            kind = f"{'string' if isinstance(value, str) else 'bytes'}_too_{short}"
            return wrong(errors, kind, message, value_in, **{name: bound})
        noun = next((noun for kind, noun in NOUNS.items() if isinstance(value, kind)), "List")
        items = "item" if bound == 1 else "items"
        message = f"{noun} should have at {most_or_least} {bound} {items} after validation, not {length}"
        context = {"field_type": noun, name: bound, "actual_length": length}
        return wrong(errors, f"too_{short}", message, value_in, **context)
    return value
